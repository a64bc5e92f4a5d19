"""The public names, pinned: whoever changes this list changes what users may rely on."""

import inspect

import pytest

import convoscope

NAMES = [
    "ConvoscopeError",
    "Recipe",
    "Reporter",
    "Run",
    "build",
    "compare",
    "find_learning_rate",
    "load",
    "look",
    "relearn",
    "resume",
    "search",
    "test",
    "trackers",
    "train",
]


def test_the_names_are_these() -> None:
    assert sorted(convoscope.__all__) == NAMES
    assert dir(convoscope) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_each_is_there_and_documented(name: str) -> None:
    assert inspect.getdoc(getattr(convoscope, name))


def test_train_shows_its_options() -> None:
    assert {"source", "model", "output", "seed", "size"} <= set(inspect.signature(convoscope.train).parameters)


def test_an_unknown_name() -> None:
    with pytest.raises(AttributeError, match="no attribute 'tarin'"):
        convoscope.tarin
