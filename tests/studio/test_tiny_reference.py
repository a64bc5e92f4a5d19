"""The numbers against which the page Tiny is tested are what the package makes today."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.support.tools import ROOT, tool

PAGE = ROOT / "web" / "src" / "pages" / "tiny"
CASES = json.loads((PAGE / "reference.json").read_text("utf-8"))


@pytest.fixture(scope="module")
def fresh() -> list[dict[str, Any]]:
    made = tool("make_tiny_reference")
    cases: list[dict[str, Any]] = json.loads(made.text(made.content()))
    return cases


def test_the_cases_are_the_same(fresh: list[dict[str, Any]]) -> None:
    given = ("name", "shape", "text", "label", "rate", "pixels", "parameters")
    assert [[case[key] for key in given] for case in fresh] == [[case[key] for key in given] for case in CASES]


@pytest.mark.parametrize("number", range(len(CASES)), ids=lambda number: CASES[number]["name"])
def test_every_number_is_made_again(fresh: list[dict[str, Any]], number: int) -> None:
    # Another build of torch may add in another order: a few last digits of a double.
    new, old = fresh[number], CASES[number]
    for key in ("maps", "pooled", "scores", "probabilities", "loss", "gradients", "after", "lossAfter"):
        assert new[key] == pytest.approx(old[key], rel=1e-13, abs=1e-13), key
    if old["first"]:
        for key in ("map", "relu"):
            assert new["first"][key] == pytest.approx(old["first"][key], rel=1e-13, abs=1e-13), key
    assert new.keys() == old.keys()


def test_the_sets_are_what_the_studio_hands_out() -> None:
    made = tool("make_tiny_reference")
    assert (PAGE / "sets.json").read_text("utf-8") == made.text(made.sets())
