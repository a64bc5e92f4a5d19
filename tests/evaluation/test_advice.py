"""Each rule by itself: the fact that calls for it, and one just short of it."""

from __future__ import annotations

import shlex
from typing import Any

import pytest

from convoscope.evaluation.advice import FEW, MOST, Facts, advice, swallowing_class

GOOD: dict[str, Any] = {
    "folder": "runs/a b",
    "source": "my photos",
    "training": {"cat": 300, "dog": 280},
    "validation": 80,
    "images": 400,
    "accuracy": 0.97,
    "interval": (0.95, 0.985),
    "chance": 0.5,
    "gap": 0.02,
    "epochs": 20,
    "planned": 20,
}


def test_where_nothing_stands_out() -> None:
    assert advice(Facts(**GOOD)) == [
        ("Nothing stands out. Use the network on new images:", "convoscope predict 'runs/a b' NEW-IMAGES")
    ]


@pytest.mark.parametrize(
    ("facts", "short_of_it", "words", "command"),
    [
        ({"leaked": "3 of these images"}, {"leaked": ""}, "Do not trust", "convoscope data 'my photos'"),
        ({"epochs": 14}, {"epochs": 14, "gave_up": True}, "after 14 of 20 epochs", "train --resume 'runs/a b'"),
        ({"interval": (0.5, 0.6)}, {"interval": (0.51, 0.6)}, "hardly better", "convoscope data 'my photos'"),
        ({"training": {"cat": 300, "dog": FEW - 1}}, {"training": {"cat": 300, "dog": FEW}}, "dog has 19 tr", "data"),
        ({"training": {"cat": 3, "dog": 4}}, {}, "2 classes have fewer than 20 training images, cat only 3", "data"),
        ({"training": {"cat": 3}, "photographs": True}, {"training": {"cat": 20}}, "needs far fewer", "relearn imag"),
        ({"gap": 0.2}, {"gap": 0.1}, "20.0 percentage points", "--set rotate=15"),
        ({"gap": 0.2, "photographs": True}, {"photographs": True}, "pretrained backbone", "relearn imagenet"),
        ({"gap": 0.2, "relearned": True, "solved": True}, {"gap": None}, "More training images", ""),
        ({"turned": 4}, {"turned": 16}, "rose from epoch 4 on", "--epochs 6"),
        ({"swallowing": ("cat", 0.38)}, {"swallowing": ("cat", 0.14)}, "cat is answered for 38 % of", "data"),
        (
            {"confused": ("cat", "dog", 9, 0.2), "example": "runs/a b/test/worst/01.png"},
            {"confused": ("cat", "dog", 4, 0.2)},
            "20 % of the images of cat (9) are taken for dog",
            "convoscope look 'runs/a b' 'runs/a b/test/worst/01.png' --cam",
        ),
        ({"sure_mistakes": 1}, {"sure_mistakes": 0}, "One wrong answer has", ""),
        ({"sure_mistakes": 3}, {}, "3 wrong answers have", ""),
        ({"not_known": 25, "not_known_right": 24}, {"not_known": 12, "not_known_right": 12}, "25 images", "--coverage"),
        ({"interval": (0.8, 0.97)}, {"interval": (0.85, 0.99)}, "within about 8 perc", "convoscope test 'runs/a b'"),
    ],
)
def test_a_rule(facts: dict[str, Any], short_of_it: dict[str, Any], words: str, command: str) -> None:
    steps = advice(Facts(**GOOD | facts))
    assert len(steps) == 1 and words in steps[0][0] and command in steps[0][1]
    if steps[0][1]:
        assert shlex.split(steps[0][1])[0] == "convoscope"
    assert not any(words in said for said, _ in advice(Facts(**GOOD | short_of_it)))


def test_the_most_important_come_first_and_not_too_many() -> None:
    bad = Facts(
        **GOOD
        | {"leaked": "all", "epochs": 9, "interval": (0.4, 0.7), "training": {"cat": 2}, "gap": 0.4, "turned": 2}
        | {"swallowing": ("cat", 0.5), "sure_mistakes": 2}
    )
    steps = advice(bad)
    assert len(steps) == MOST and "Do not trust" in steps[0][0]


def test_the_swallowing_class() -> None:
    confusion = [[8, 2, 0], [0, 10, 0], [1, 5, 14]]
    assert swallowing_class(confusion, ("a", "b", "c")) == ("b", 7 / 30)
    assert swallowing_class([[3, 0, 0], [0, 3, 0], [0, 0, 3]], ("a", "b", "c")) is None
    assert swallowing_class([[3, 1], [0, 3]], ("a", "b")) is None
