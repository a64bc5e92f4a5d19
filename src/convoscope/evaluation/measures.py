"""The measures of a test: arrays in, numbers out; no files, no network.

N images, K classes, labels or numbers. `probabilities` are float `(N, K)` in 0..1, `targets` as in `data.Dataset`.
Where a measure has no value (the precision of a class that was never predicted) it is `None`, not 0.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .results import Calibration, CalibrationBin, ClassCurves, Uncalibrated
from .thresholds import average_precision, class_curves, coverage_table, roc_auc, threshold_table

Floats = NDArray[np.floating[Any]]
Integers = NDArray[np.integer[Any]]

THRESHOLD = 0.5
"""A label counts as predicted from this probability on."""

FEWEST_CALIBRATED = 20
"""The calibration of fewer images says nothing: most of its bins would hold one, whose accuracy is 0 or 1."""

SMALLEST_PROBABILITY = 1e-12
"""Probabilities are clipped here before the logarithm, so that one sure mistake costs at most 27.6 and never infinity.
"""


MOST_CURVES = 12
"""Curves are kept of this many classes, those that are hardest to find."""


def classification(
    probabilities: Floats, targets: Integers, classes: Sequence[str], temperature: float | None = None
) -> dict[str, Any]:
    """The measures of one class for each image, as arguments of `Scores`. `temperature`: what is in the probabilities;
    None: none.
    """
    count = len(classes)
    predicted = probabilities.argmax(axis=1)
    correct = predicted == targets
    confusion = confusion_matrix(targets, predicted, count)
    per_class, macro_f1 = precision_recall_f1(confusion)
    support = np.bincount(targets, minlength=count)
    confidence, enough = probabilities.max(axis=1), len(targets) >= FEWEST_CALIBRATED
    members = np.eye(count, dtype=bool)[targets]
    per_class = [row | _areas(members[:, k], probabilities[:, k]) for k, row in enumerate(per_class)]
    raw = undo_temperature(probabilities, temperature) if temperature else None
    return {
        "accuracy": float(correct.mean()),
        "interval": wilson(int(correct.sum()), len(targets)),
        "chance": float(support.max() / len(targets)),
        "loss": cross_entropy(probabilities, targets),
        "top5": top_k(probabilities, targets, 5) if count > 5 else None,
        "macro_f1": macro_f1,
        "per_class": dict(zip(classes, per_class, strict=True)),
        "confusion": confusion.tolist(),
        "brier": float(np.square(probabilities.astype(np.float64) - members).sum(axis=1).mean()),
        "calibration": calibration(confidence, correct) if enough else None,
        "uncalibrated": None
        if raw is None or temperature is None
        else Uncalibrated(
            temperature=temperature,
            loss=cross_entropy(raw, targets),
            ece=calibration(raw.max(axis=1), correct).ece if enough else None,
        ),
        "curves": _curves(members, probabilities, classes),
        "thresholds": threshold_table(targets == 1, probabilities[:, 1]) if count == 2 and (support > 0).all() else [],
        "coverage": coverage_table(confidence, correct),
    }


def _areas(truth: NDArray[np.bool_], scores: Floats) -> dict[str, float | None]:
    """The areas under the two curves of a class or label."""
    return {"average_precision": average_precision(truth, scores), "roc_auc": roc_auc(truth, scores)}


def _curves(members: NDArray[np.bool_], probabilities: Floats, classes: Sequence[str]) -> dict[str, ClassCurves]:
    """Of two classes the second's curves, else those of the classes or labels that are hardest to find."""
    exclusive = len(classes) == 2 and bool((members.sum(axis=1) == 1).all())
    areas = {k: roc_auc(members[:, k], probabilities[:, k]) for k in ([1] if exclusive else range(len(classes)))}
    hardest = sorted((area, k) for k, area in areas.items() if area is not None)[:MOST_CURVES]
    made = {k: class_curves(members[:, k], probabilities[:, k]) for k in sorted(k for _, k in hardest)}
    return {classes[k]: curves for k, curves in made.items() if curves is not None}


def undo_temperature(probabilities: Floats, temperature: float) -> Floats:
    """The probabilities `(N, K)` of K classes without the temperature in them: softmax(z / T)^T is softmax(z) but for
    its sum.
    """
    logs = temperature * np.log(np.maximum(probabilities.astype(np.float64), 1e-45))
    powers = np.exp(logs - logs.max(axis=1, keepdims=True))
    whole: Floats = powers / powers.sum(axis=1, keepdims=True)
    return whole


def undo_label_temperature(probabilities: Floats, temperature: float) -> Floats:
    """The same of labels, each a sigmoid: its odds are raised to the temperature."""
    yes = np.clip(probabilities.astype(np.float64), 1e-45, 1 - 1e-16)
    whole: Floats = 1 / (1 + np.exp(temperature * (np.log1p(-yes) - np.log(yes))))
    return whole


def labelling(
    probabilities: Floats, targets: Integers, classes: Sequence[str], temperature: float | None = None
) -> dict[str, Any]:
    """The measures of any number of labels for each image, as arguments of `Scores`; see `classification`."""
    predicted = (probabilities >= THRESHOLD).astype(np.int64)
    truth = targets.astype(np.int64)
    per_class: dict[str, dict[str, float | int | None]] = {}
    confusion = []
    for column, name in enumerate(classes):
        matrix = confusion_matrix(truth[:, column], predicted[:, column], 2)
        confusion.append(matrix.tolist())
        row, _ = precision_recall_f1(matrix)
        per_class[name] = row[1] | _areas(truth[:, column] > 0, probabilities[:, column])
    present = [row["f1"] for row in per_class.values() if row["f1"] is not None]
    right = predicted == truth
    wrong = int((~right).sum())
    both = int((predicted & truth).sum())
    common = truth.mean(axis=0)
    enough = len(truth) >= FEWEST_CALIBRATED
    raw = undo_label_temperature(probabilities, temperature) if temperature else None
    return {
        "accuracy": float(right.mean()),
        "interval": mean_interval(right.mean(axis=1)),
        "chance": float(np.maximum(common, 1 - common).mean()),
        "exact_match": float(right.all(axis=1).mean()),
        "loss": binary_cross_entropy(probabilities, truth),
        "macro_f1": float(np.mean(present)) if present else None,
        "micro_f1": 2 * both / (2 * both + wrong) if both + wrong else None,
        "per_class": per_class,
        "confusion": confusion,
        "brier": float(np.square(probabilities.astype(np.float64) - truth).mean()),
        "calibration": calibration(probabilities.ravel(), truth.ravel() > 0) if enough else None,
        "uncalibrated": None
        if raw is None or temperature is None
        else Uncalibrated(
            temperature=temperature,
            loss=binary_cross_entropy(raw, truth),
            ece=calibration(raw.ravel(), truth.ravel() > 0).ece if enough else None,
        ),
        "curves": _curves(truth > 0, probabilities, classes),
    }


def regression(
    predicted: Floats, targets: Floats, classes: Sequence[str], temperature: float | None = None
) -> dict[str, Any]:
    """The measures of real numbers for each image, as arguments of `Scores`. Numbers have no temperature.

    A column whose targets are all equal, such as those of one image, has no R2: there is no variance to explain.
    """
    error = predicted.astype(np.float64) - targets.astype(np.float64)
    mae = np.abs(error).mean(axis=0)
    rmse = np.sqrt(np.square(error).mean(axis=0))
    r2 = [
        float(value) if differ else None
        for value, differ in zip(r_squared(predicted, targets), varied(targets), strict=True)
    ]
    some = [value for value in r2 if value is not None]
    return {
        "accuracy": float(np.mean(some)) if some else None,
        "chance": 0.0,
        "loss": float(np.square(error).mean()),
        "mae": float(mae.mean()),
        "rmse": float(rmse.mean()),
        "per_class": {
            name: {"mae": float(mae[k]), "rmse": float(rmse[k]), "r2": r2[k], "support": len(targets)}
            for k, name in enumerate(classes)
        },
    }


def confusion_matrix(targets: Integers, predicted: Integers, count: int) -> NDArray[np.int64]:
    """How often class i (row) was taken for class j (column): int64 `(count, count)`."""
    pairs = targets.astype(np.int64) * count + predicted.astype(np.int64)
    return np.bincount(pairs, minlength=count * count).reshape(count, count)


def precision_recall_f1(confusion: NDArray[np.int64]) -> tuple[list[dict[str, float | int | None]], float | None]:
    """For each class precision, recall, F1 and support, and the mean F1 of the classes that occur or were predicted."""
    result: list[dict[str, float | int | None]] = []
    scores = []
    for k in range(len(confusion)):
        both, support, named = int(confusion[k, k]), int(confusion[k].sum()), int(confusion[:, k].sum())
        f1 = 2 * both / (support + named) if support + named else None
        if f1 is not None:
            scores.append(f1)
        result.append(
            {
                "precision": both / named if named else None,
                "recall": both / support if support else None,
                "f1": f1,
                "support": support,
            }
        )
    return result, float(np.mean(scores)) if scores else None


def wilson(right: int, total: int, z: float = 1.959963984540054) -> tuple[float, float]:
    """The Wilson score interval of a share; z = 1.96 for 95 %. E. B. Wilson, JASA 22 (1927), 209-212."""
    share = right / total
    centre = share + z * z / (2 * total)
    reach = z * math.sqrt(share * (1 - share) / total + z * z / (4 * total * total))
    scale = 1 + z * z / total
    return max(0.0, (centre - reach) / scale), min(1.0, (centre + reach) / scale)


def mean_interval(shares: Floats, z: float = 1.959963984540054) -> tuple[float, float]:
    """The interval of a mean of one share for each image, from their standard deviation; the labels of one image are
    not independent.

    z^2 / 2 images with nothing right and as many with all right are added first, so that a few images that are all
    right do not look like certainty; for shares of 0 and 1 this is the interval of Agresti and Coull, The American
    Statistician 52 (1998), 119-126.
    """
    added = z * z / 2
    count = len(shares) + 2 * added
    centre = (float(shares.sum()) + added) / count
    variance = (float(np.square(shares - centre).sum()) + added * (centre**2 + (1 - centre) ** 2)) / count
    reach = z * math.sqrt(variance / count)
    return max(0.0, centre - reach), min(1.0, centre + reach)


def top_k(probabilities: Floats, targets: Integers, k: int) -> float:
    """The share of images whose class is among the k with the highest probability."""
    surest = np.argsort(-probabilities, axis=1, kind="stable")[:, :k]
    return float((surest == targets[:, None]).any(axis=1).mean())


def cross_entropy(probabilities: Floats, targets: Integers) -> float:
    """Mean of -log p(true class), in float64."""
    chosen = probabilities[np.arange(len(targets)), targets].astype(np.float64)
    return float(-np.log(np.clip(chosen, SMALLEST_PROBABILITY, 1)).mean())


def binary_cross_entropy(probabilities: Floats, targets: Integers) -> float:
    """Mean over images and labels of -log p(the true yes or no), in float64."""
    yes = probabilities.astype(np.float64)
    chosen = np.where(targets > 0, yes, 1 - yes)
    return float(-np.log(np.clip(chosen, SMALLEST_PROBABILITY, 1)).mean())


def varied(targets: Floats) -> NDArray[np.bool_]:
    """Which columns of `(N, K)` have targets that differ: `(K,)`."""
    differ: NDArray[np.bool_] = (targets != targets[:1]).any(axis=0)
    return differ


def r_squared(predicted: Floats, targets: Floats) -> NDArray[np.float64]:
    """1 - squared error / variance, for each column: `(K,)`. Of a column whose targets are all equal it is 1 when every
    prediction is exact, otherwise 0 (as in scikit-learn).
    """
    truth = targets.astype(np.float64)
    error = np.square(predicted.astype(np.float64) - truth).sum(axis=0)
    squares = np.square(truth - truth.mean(axis=0)).sum(axis=0)
    flat = squares == 0
    return np.where(flat, np.where(error == 0, 1.0, 0.0), 1 - error / np.where(flat, 1.0, squares))


def calibration(confidence: Floats, correct: NDArray[np.bool_], bins: int = 15) -> Calibration:
    """How far confidence agrees with accuracy: the expected calibration error and its bins.

    The bins are equally wide over 0..1, each closed above. ECE is the mean of |accuracy - confidence|,
    weighted by images.
    Source: Guo et al., On Calibration of Modern Neural Networks, https://arxiv.org/abs/1706.04599.
    """
    values = confidence.astype(np.float64)
    place = np.clip(np.ceil(values * bins).astype(np.int64) - 1, 0, bins - 1)
    count = np.bincount(place, minlength=bins)
    sure = np.bincount(place, weights=values, minlength=bins)
    right = np.bincount(place, weights=correct.astype(np.float64), minlength=bins)
    error = float(np.abs(right - sure).sum() / len(values))
    return Calibration(
        ece=error,
        bins=[
            CalibrationBin(
                start=k / bins,
                to=(k + 1) / bins,
                images=int(count[k]),
                confidence=float(sure[k] / count[k]) if count[k] else None,
                accuracy=float(right[k] / count[k]) if count[k] else None,
            )
            for k in range(bins)
        ],
    )
