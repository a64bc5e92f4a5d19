"""What the curves of training and validation say."""

from typing import Any

import pytest

from convoscope.evaluation.overfitting import read_gap

Curve = list[tuple[float, float]]


def rows(train: Curve, validation: Curve) -> list[dict[str, float]]:
    """Epochs from pairs of (loss, accuracy)."""
    return [
        {"epoch": k + 1, "train_loss": t[0], "train_accuracy": t[1], "val_loss": v[0], "val_accuracy": v[1]}
        for k, (t, v) in enumerate(zip(train, validation, strict=True))
    ]


def sentence_of(curves: list[dict[str, float]], images: int | None = None, **about: Any) -> str:
    gap = read_gap(curves, 2, images, **about)
    assert gap is not None
    return gap.sentence


@pytest.mark.parametrize(
    ("train", "validation", "turned", "words"),
    [
        (
            [(1, 0.5), (0.5, 0.8), (0.1, 0.99), (0.05, 1.0)],
            [(1, 0.5), (0.6, 0.7), (0.8, 0.7), (0.9, 0.71)],
            2,
            "It overfits: at the best epoch",
        ),
        ([(1, 0.5), (0.5, 0.8), (0.4, 0.85)], [(1, 0.5), (0.6, 0.79), (0.5, 0.84)], None, "No overfitting to speak of"),
        (
            [(1, 0.5), (0.5, 0.7), (0.4, 0.75)],
            [(1, 0.5), (0.6, 0.79), (0.5, 0.84)],
            None,
            "validation is 9.0 percentage points ahead",
        ),
        ([(1, 0.5), (0.5, 0.8), (0.4, 0.9)], [(1, 0.5), (0.6, 0.79), (0.5, 0.84)], None, "It overfits a little"),
    ],
)
def test_overfitting_is_named(train: Curve, validation: Curve, turned: int | None, words: str) -> None:
    gap = read_gap(rows(train, validation), len(train))
    assert gap is not None and gap.turned == turned
    assert words in gap.sentence
    assert gap.difference == pytest.approx(train[-1][1] - validation[-1][1])
    assert ("rose from" in gap.sentence) == (turned is not None)


def test_no_gap_without_validation() -> None:
    assert read_gap([], 0) is None
    assert (
        read_gap([{"epoch": 1, "train_loss": 1.0, "train_accuracy": 0.5, "val_loss": None, "val_accuracy": None}], 1)
        is None
    )


def test_a_gap_that_chance_can_make_is_not_called_overfitting() -> None:
    curves = rows([(1, 0.5), (0.5, 0.85)], [(1, 0.5), (0.6, 0.8)])
    assert "It overfits a little" in sentence_of(curves)
    assert "It overfits a little" in sentence_of(curves, 10_000)
    sentence = sentence_of(curves, 100)
    assert "may be chance: 100 validation images measure an accuracy to within about 8 points" in sentence


def test_the_gaps_sentence_says_how_figures_came_about() -> None:
    ahead = rows([(1, 0.5), (0.5, 0.7)], [(1, 0.5), (0.6, 0.79)])
    assert sentence_of(ahead).endswith(
        "ahead of training, which is averaged over the epoch while the network is still learning."
    )
    assert sentence_of(ahead, remark=None) == "No overfitting: validation is 9.0 percentage points ahead of training."
    assert "0.090 of R² ahead" in sentence_of(ahead, numbers=True)
