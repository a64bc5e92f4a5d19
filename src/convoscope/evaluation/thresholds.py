"""What can be had by choosing a threshold: ROC and precision-recall curves, and accuracy against coverage.

Arrays in, numbers out. Images with the same score are on the same side of every threshold, so a curve has one point for
each distinct score; ties are exact. N images.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .results import ClassCurves, CoveragePoint, Threshold

Floats = NDArray[np.floating[Any]]
Truth = NDArray[np.bool_]

POINTS = 120
"""The most points of a curve that are kept."""
LEVELS = (0.0, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.999)
"""Confidences at which accuracy and coverage are told, as far as they differ."""
THRESHOLDS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99)


def counts(truth: Truth, scores: Floats) -> tuple[NDArray[np.int64], NDArray[np.int64], Floats]:
    """For each distinct score, from the highest: how many with at least this score are positive, how many are negative,
    and the score itself.
    """
    order = np.argsort(-scores, kind="stable")
    ranked, positive = scores[order], truth[order].astype(np.int64)
    ends = np.append(np.flatnonzero(np.diff(ranked)), len(ranked) - 1)
    found = np.cumsum(positive)[ends]
    return found, ends + 1 - found, ranked[ends]


def roc_auc(truth: Truth, scores: Floats) -> float | None:
    """The area under the ROC curve: how often a positive image has a higher score than a negative one, equal scores
    counting half. None where all are positive or none is.
    """
    found, wrong, _ = counts(truth, scores)
    if not found[-1] or not wrong[-1]:
        return None
    rate, alarm = np.append(0.0, found / found[-1]), np.append(0.0, wrong / wrong[-1])
    return float(np.sum(np.diff(alarm) * (rate[1:] + rate[:-1]) / 2))


def average_precision(truth: Truth, scores: Floats) -> float | None:
    """The mean of precision over the steps of recall, best score first. None without a positive image."""
    if not truth.any():
        return None
    found, wrong, _ = counts(truth, scores)
    return float(np.sum(np.diff(found / found[-1], prepend=0.0) * found / (found + wrong)))


def class_curves(truth: Truth, scores: Floats) -> ClassCurves | None:
    """Both curves of one class against the rest, thinned to `POINTS`; None where all are positive or none is."""
    found, wrong, _ = counts(truth, scores)
    if not found[-1] or not wrong[-1]:
        return None
    rate, alarm, precision = found / found[-1], wrong / wrong[-1], found / (found + wrong)
    kept = _thinned(rate, alarm)
    return ClassCurves(
        roc=[(0.0, 0.0), *((float(alarm[at]), float(rate[at])) for at in kept)],
        precision_recall=[(float(rate[at]), float(precision[at])) for at in kept],
    )


def _thinned(rate: Floats, alarm: Floats) -> list[int]:
    """Positions of at most `POINTS` points, evenly along the curve."""
    if len(rate) <= POINTS:
        return list(range(len(rate)))
    length = np.cumsum(np.abs(np.diff(rate, prepend=0)) + np.abs(np.diff(alarm, prepend=0)))
    chosen = np.searchsorted(length, np.linspace(length[0], length[-1], POINTS))
    kept: list[int] = np.unique(np.clip(chosen, 0, len(rate) - 1)).tolist()
    return kept


def threshold_table(truth: Truth, scores: Floats) -> list[Threshold]:
    """What answering "yes" from each of some thresholds on gives."""
    rows = []
    positives, negatives = int(truth.sum()), int((~truth).sum())
    for threshold in THRESHOLDS:
        yes = scores >= threshold
        both = int((yes & truth).sum())
        rows.append(
            Threshold(
                threshold=threshold,
                chosen=int(yes.sum()),
                precision=both / int(yes.sum()) if yes.any() else None,
                recall=both / positives if positives else None,
                false_alarms=int((yes & ~truth).sum()) / negatives if negatives else None,
                accuracy=float((yes == truth).mean()),
            )
        )
    return rows


def coverage_table(confidence: Floats, correct: Truth) -> list[CoveragePoint]:
    """Accuracy on the images whose confidence is at least so high, and how many these are; as long as there are any."""
    rows: list[CoveragePoint] = []
    for level in LEVELS:
        kept = confidence >= level
        count = int(kept.sum())
        if not count:
            break
        point = CoveragePoint(
            confidence=level, images=count, coverage=float(kept.mean()), accuracy=float(correct[kept].mean())
        )
        if rows and rows[-1].images == count:
            rows.pop()  # the higher level says more
        rows.append(point)
    return rows
