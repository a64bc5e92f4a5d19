"""Whether one run is better than another, or whether that can be chance: two runs on the same images are compared image
by image. Whether the intervals of two accuracies overlap is no test of that.

McNemar's exact test (1947, https://doi.org/10.1007/BF02295996); Newcombe's intervals for the difference of proportions,
paired and not (1998, methods 10, https://doi.org/10.1002/(SICI)1097-0258(19981130)17:22<2635::AID-SIM954>3.0.CO;2-C);
several pairs by Holm (1979).
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..data import escape_cell
from ..parsing import read_bytes
from .measures import THRESHOLD, wilson
from .results import Scores

_MOST_BYTES = 400_000_000
_SEED = 0
_RESAMPLES = 10_000
_SIGNIFICANT = 0.05


@dataclass(frozen=True, kw_only=True)
class Difference:
    """One run against another.

    Attributes:
        better, other: the runs' names, the more accurate one first.
        paired: whether both answered the same images.
        images: how many; of the smaller test where they are different.
        only_better, only_other: how many images only this one of the two answers right; None for labels and numbers,
            and where the images are different.
        difference: in accuracy (R² of numbers).
        interval: of the difference, 95 %.
        p: how often chance alone gives such a difference or a larger one, two-sided.
        holm: the same with Holm's correction for as many pairs as are compared.
        method: the test and the interval.
    """

    better: str
    other: str
    paired: bool
    images: int
    only_better: int | None
    only_other: int | None
    difference: float
    interval: tuple[float, float]
    p: float
    holm: float
    method: str

    @property
    def sentence(self) -> str:
        """In words."""
        chance = "too much for chance" if self.holm < _SIGNIFICANT else "which may be chance"
        corrected = f" ({p_text(self.holm)} with Holm's correction for several pairs)" if self.holm != self.p else ""
        low, high = (f"{100 * value:+.1f}".replace("-", "−") for value in self.interval)
        end = f"{p_text(self.p)}{corrected}, {chance}. 95 % interval of the difference {low} to {high} points."
        if self.only_better is not None and self.only_other is not None:
            right = f"{self.better} answers {_number(self.only_better)} right that {self.other} gets wrong"
            return f"{right}, {self.other} {_none(self.only_other)} that {self.better} gets wrong: {end}"
        how = "the same images" if self.paired else "different images, so they cannot be paired"
        return f"{self.better} against {self.other}, on {how}: {end}"


def p_text(p: float) -> str:
    """`p = 0.031`, or `p < 0.001`."""
    return "p < 0.001" if p < 0.001 else f"p = {p:.2g}" if p >= 0.0095 else f"p = {p:.1g}"


def _number(count: int) -> str:
    return f"{count:,} image{'' if count == 1 else 's'}"


def _none(count: int) -> str:
    return f"{count:,}" if count else "none"


def mcnemar(one: int, other: int) -> float:
    """The exact two-sided p of McNemar's test: `one` and `other` are how many images only the one and only the other
    answers right. Twice the smaller tail of the binomial distribution with p = 1/2, at most 1.
    """
    count = one + other
    term = tail = 1
    for successes in range(1, min(one, other) + 1):
        term = term * (count - successes + 1) // successes
        tail += term
    return min(1.0, float(2 * tail / (1 << count)))


def paired_interval(both: int, one: int, other: int, neither: int) -> tuple[float, float]:
    """95 % interval of the difference of two paired proportions, Newcombe's method 10.

    `both`, `one`, `other`, `neither`: how many images both answer right, only the first, only the second, none.
    """
    count = both + one + other + neither
    spread = (both + one) * (other + neither) * (both + other) * (one + neither)
    product = float(both * neither - one * other)
    product = max(product - count / 2, 0.0) if product > 0 else product
    correlation = product / math.sqrt(spread) if spread else 0.0
    return _square_and_add((both + one, count), (both + other, count), correlation)


def unpaired_interval(first: tuple[int, int], second: tuple[int, int]) -> tuple[float, float]:
    """95 % interval of the difference of two independent proportions, each `(right, images)`; Newcombe's method 10."""
    return _square_and_add(first, second, 0.0)


def _square_and_add(first: tuple[int, int], second: tuple[int, int], correlation: float) -> tuple[float, float]:
    (low, high), (lower, upper) = wilson(*first), wilson(*second)
    one, other = first[0] / first[1], second[0] / second[1]
    below, above = (one - low, upper - other), (high - one, other - lower)
    down, up = (math.sqrt(max(a * a - 2 * correlation * a * b + b * b, 0.0)) for a, b in (below, above))
    return one - other - down, one - other + up


def unpaired_p(first: tuple[int, int], second: tuple[int, int]) -> float:
    """Two-sided p of the score test that two independent proportions, each `(right, images)`, are equal."""
    (one, total), (other, whole) = first, second
    pooled = (one + other) / (total + whole)
    variance = pooled * (1 - pooled) * (1 / total + 1 / whole)
    return math.erfc(abs(one / total - other / whole) / math.sqrt(2 * variance)) if variance > 0 else 1.0


def mean_difference(differences: NDArray[np.float64]) -> tuple[float, tuple[float, float]]:
    """Two-sided p and 95 % interval of the mean of paired differences `(N,)`: 10,000 random changes of sign, and 10,000
    bootstrap samples (percentiles), with a fixed seed.
    """
    random, count = np.random.default_rng(_SEED), len(differences)
    mean = abs(float(differences.mean()))
    means, flipped = np.empty(_RESAMPLES), np.empty(_RESAMPLES)
    step = max(1, 4_000_000 // count)
    for begin in range(0, _RESAMPLES, step):
        size = min(step, _RESAMPLES - begin)
        means[begin : begin + size] = differences[random.integers(0, count, (size, count))].mean(axis=1)
        signs = random.integers(0, 2, (size, count), dtype=np.int8) * 2 - 1
        flipped[begin : begin + size] = np.abs(signs @ differences) / count
    low, high = np.percentile(means, [2.5, 97.5]).tolist()
    return (1 + int((flipped >= mean * (1 - 1e-12)).sum())) / (_RESAMPLES + 1), (low, high)


def holm(values: Sequence[float]) -> list[float]:
    """The p values with Holm's correction, in the order given."""
    adjusted, largest = [0.0] * len(values), 0.0
    for rank, place in enumerate(sorted(range(len(values)), key=values.__getitem__)):
        largest = max(largest, min(1.0, (len(values) - rank) * values[place]))
        adjusted[place] = largest
    return adjusted


def read_answers(folder: Path, scores: Scores) -> dict[str, float] | None:
    """How well a tested run answered each image: right 1 or wrong 0; of labels the share of right ones; of numbers what
    the image adds to R². None: its predictions.csv cannot be read, or names an image twice.
    """
    try:
        text = read_bytes(folder / "test" / "predictions.csv", _MOST_BYTES).decode("utf-8")
        rows = list(csv.DictReader(io.StringIO(text), strict=True))
        values = _values(rows, scores)
        answers = {row["path"]: value for row, value in zip(rows, values, strict=True)}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, csv.Error):
        return None
    return answers if len(answers) == len(rows) == scores.images else None


def _values(rows: Sequence[dict[str, str]], scores: Scores) -> list[float]:
    if scores.task == "classification":
        return [{"yes": 1.0, "no": 0.0}[row["correct"]] for row in rows]
    names = [escape_cell(name) for name in scores.classes]
    if scores.task == "multi-label":
        plain = [name.removeprefix("'") for name in names]
        wanted = [set(row["label"].removeprefix("'").split(";")) - {""} for row in rows]
        if not all(labels <= set(plain) for labels in wanted):
            raise ValueError("a label is none of the run's")
        cells = [escape_cell(f"score {name}") for name in scores.classes]
        return [
            sum((float(row[cell]) >= THRESHOLD) == (name in labels) for cell, name in zip(cells, plain, strict=True))
            / len(plain)
            for row, labels in zip(rows, wanted, strict=True)
        ]
    truth = np.array([[float(value) for value in row["label"].split(";")] for row in rows])
    cells = [escape_cell(f"predicted {name}") for name in scores.classes]
    predicted = np.array([[float(row[cell]) for cell in cells] for row in rows])
    variance = truth.var(axis=0)
    if not (variance > 0).all():
        raise ValueError("a column does not vary")
    values: list[float] = (1 - ((predicted - truth) ** 2 / variance).mean(axis=1)).tolist()
    return values


def differences(names: Sequence[str], folders: Sequence[Path], tested: Sequence[Scores]) -> list[Difference]:
    """Each pair of tested runs, the pairs with the most accurate run first; runs without an accuracy are left out."""
    order = [place for place, scores in enumerate(tested) if scores.accuracy is not None]
    order.sort(key=lambda place: -(tested[place].accuracy or 0.0))
    answers = {place: read_answers(folders[place], tested[place]) for place in order} if len(order) > 1 else {}
    found = []
    for position, one in enumerate(order):
        for other in order[position + 1 :]:
            first, second = answers[one], answers[other]
            same = (tested[one].source, tested[one].split) == (tested[other].source, tested[other].split)
            paired = None
            if same and first is not None and second is not None and first.keys() == second.keys():
                paired = np.array([first[name] for name in first]), np.array([second[name] for name in first])
            pair = _paired(*paired, tested[one].task) if paired else _unpaired(tested[one], tested[other])
            if pair is not None:
                found.append((names[one], names[other], pair))
    corrected = holm([pair["p"] for *_, pair in found])
    return [
        Difference(better=one, other=other, holm=p, **pair)
        for (one, other, pair), p in zip(found, corrected, strict=True)
    ]


def _paired(first: NDArray[np.float64], second: NDArray[np.float64], task: str) -> dict[str, Any]:
    only: int | None
    other: int | None
    if task == "classification":
        both, only, other = (int(each.sum()) for each in (first * second, first > second, second > first))
        p = mcnemar(only, other)
        interval = paired_interval(both, only, other, len(first) - both - only - other)
        method = "McNemar's exact test; Newcombe's paired interval"
    else:
        only = other = None
        p, interval = mean_difference(first - second)
        method = "10,000 random changes of sign; bootstrap of the images"
    return {
        "paired": True, "images": len(first), "only_better": only, "only_other": other,
        "difference": float((first - second).mean()), "interval": interval, "p": p, "method": method,
    }  # fmt: skip


def _unpaired(first: Scores, second: Scores) -> dict[str, Any] | None:
    """The same of runs that were tested on different images; None of labels and numbers, of which that is not known."""
    if first.task != "classification" or second.task != "classification":
        return None
    one, other = ((round((scores.accuracy or 0.0) * scores.images), scores.images) for scores in (first, second))
    return {
        "paired": False, "images": min(one[1], other[1]), "only_better": None, "only_other": None,
        "difference": one[0] / one[1] - other[0] / other[1], "interval": unpaired_interval(one, other),
        "p": unpaired_p(one, other), "method": "score test and Newcombe's interval of independent proportions",
    }  # fmt: skip
