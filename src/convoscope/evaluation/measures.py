"""The measures of a test: arrays in, numbers out; no files, no network.

N images, K classes, labels or numbers. `probabilities` are float `(N, K)` in 0..1, `targets` as in `data.Dataset`.
Where a measure has no value (the precision of a class that was never predicted) it is `None`, not 0.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..data.dataset import Task
from .results import check_scores

Floats = NDArray[np.floating[Any]]
Integers = NDArray[np.integer[Any]]

THRESHOLD = 0.5
"""A label counts as predicted from this probability on."""

LARGEST_WRITTEN = 1000
"""So many classes' confusion stands in scores.json."""

SMALLEST_PROBABILITY = 1e-12
"""Probabilities are clipped here before the logarithm, so that one sure mistake costs at most 27.6 and never infinity.
"""


@dataclass(frozen=True, kw_only=True)
class Scores:
    """What a test found. `to_json` is what stands in `RUN/test/scores.json`.

    Attributes:
        task: `classification`, `multi-label` or `regression`.
        source: what was tested, as the user wrote it.
        split: `train`, `validation`, `test` or `all`.
        images: how many.
        classes: K class names, label names or names of number columns.
        accuracy: share of right answers; for labels the share of right yes-or-no decisions; for numbers the mean R2.
        interval: 95 % interval of the accuracy: Wilson's for classes, for labels that of a mean over images; None for
            numbers.
        chance: what the best constant answer would reach: the commonest class, each label's commoner answer; 0 for
            numbers.
        loss: mean cross-entropy in nats, without label smoothing or class weights; for numbers the mean squared error.
        per_class: class name to `precision`, `recall`, `f1`, `support` (labels: also `average_precision`);
            for numbers `mae`, `rmse`, `r2`, `support`.
        confusion: `(K, K)` counts, rows the true class, columns the predicted one; for labels K times
            `[[true negative, false positive], [false negative, true positive]]`; empty for numbers.
        top5: share of images whose class is among the five surest; None with five classes or fewer.
        macro_f1: mean F1 of the classes that occur or were predicted.
        micro_f1: F1 over all labels of all images; for classes it equals the accuracy and is left out.
        exact_match: share of images whose labels are all right; for labels only.
        mae, rmse: means over the columns of numbers, in the columns' own units.
        calibration: `ece` (expected calibration error) and its `bins`.
        gap: accuracies of training and validation at the best epoch and their difference.
        invariance: curves of accuracy against shift, turn and scale; None when not asked for.
        unknown: of a run that has an out-of-distribution detector: its `threshold`, the share it was to `accept`, how
            many of these images it would call unknown (`refused`), how many of those it has right (`refused_right`),
            the accuracy on the others, and counts of distances.
        worst: the surest mistakes, worst first: `path`, `label`, `predicted`, `confidence`, `image`.
        pairs: for numbers, up to 400 of the images for each column: name to list of `[true, predicted]`; else None.
        notes: what was decided on the way, one plain sentence each.
        seconds: how long the test took.
    """

    task: Task
    source: str
    split: str
    images: int
    classes: tuple[str, ...]
    accuracy: float
    loss: float
    chance: float
    per_class: dict[str, dict[str, float | int | None]]
    confusion: list[Any] = field(default_factory=list)
    interval: tuple[float, float] | None = None
    top5: float | None = None
    macro_f1: float | None = None
    micro_f1: float | None = None
    exact_match: float | None = None
    mae: float | None = None
    rmse: float | None = None
    calibration: dict[str, Any] | None = None
    gap: dict[str, Any] | None = None
    invariance: dict[str, Any] | None = None
    unknown: dict[str, Any] | None = None
    worst: list[dict[str, Any]] = field(default_factory=list)
    pairs: dict[str, list[list[float]]] | None = None
    notes: tuple[str, ...] = ()
    seconds: float = 0.0
    folder: Path | None = field(default=None, compare=False)

    def to_json(self) -> dict[str, Any]:
        """Plain lists, dicts and numbers; finite, ready for `json.dumps`.

        With more than 1,000 classes without the confusion, which stands in `confusion.csv`: millions of counts are slow
        to read.
        """
        left_out = {"folder", "confusion"} if len(self.confusion) > LARGEST_WRITTEN else {"folder"}
        return {
            entry.name: list(value) if isinstance(value := getattr(self, entry.name), tuple) else value
            for entry in fields(self)
            if entry.name not in left_out
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any], folder: Path | None = None) -> Scores:
        """The object back from `to_json`; keys of later versions are passed over.

        Raises:
            ValueError: no test gives this.
        """
        check_scores(content)
        known = {entry.name for entry in fields(cls)} - {"folder"}
        values = {key: value for key, value in content.items() if key in known}
        for key in ("classes", "notes", "interval"):
            if isinstance(values.get(key), list):
                values[key] = tuple(values[key])
        return cls(**values, folder=folder)

    @property
    def headline(self) -> str:
        """The result in one plain sentence."""
        images = f"{self.images:,} image{'s' if self.images != 1 else ''}"
        if self.task == "regression":
            return f"R² {self.accuracy:.3f}, mean absolute error {number_text(self.mae)} on {images}"
        between = (
            f" (95 % interval {percent(self.interval[0])} to {percent(self.interval[1])})" if self.interval else ""
        )
        chance = f"; chance is {percent(self.chance)}"
        if self.task == "multi-label":
            return f"{percent(self.accuracy)} of the labels right{between}, all labels of an image on {percent(self.exact_match)} of {images}{chance}"
        return f"right on {percent(self.accuracy)} of {images}{between}{chance}"

    def rows(self) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
        """The table of classes as text: column names, then one row a class. A dash where a measure has no value."""
        if self.task == "regression":
            header: tuple[str, ...] = ("number", "MAE", "RMSE", "R²", "images")
            keys: tuple[str, ...] = ("mae", "rmse", "r2")
            write: Callable[[float | int | None], str] = number_text
        else:
            header = ("class", "precision", "recall", "F1", "images")
            keys = ("precision", "recall", "f1")
            if self.task == "multi-label":
                header = ("label", "precision", "recall", "F1", "average precision", "images")
                keys = (*keys, "average_precision")
            write = percent
        rows = [
            (name, *(write(values[key]) for key in keys), f"{values['support']:,}")
            for name, values in self.per_class.items()
        ]
        return header, rows

    def _repr_html_(self) -> str:
        from html import escape

        header, rows = self.rows()
        head = "".join(f"<th>{escape(cell)}</th>" for cell in header)
        body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
        return f"<p><b>{escape(self.headline)}</b></p><table><tr>{head}</tr>{body}</table>"


def finite(value: float | None) -> float | None:
    """The value, or None where it is not finite, as a diverged training's may be: neither charts nor JSON know what to
    make of that.
    """
    return value if value is not None and math.isfinite(value) else None


def percent(share: float | None, digits: int = 1) -> str:
    """A share 0..1 for people: `93.1 %`; a dash for none."""
    return "–" if share is None else f"{100 * share:.{digits}f} %"


def number_text(value: float | None) -> str:
    """A number with four meaningful digits; a dash for none."""
    if value is None:
        return "–"
    value = value + 0.0  # no negative zero
    text = f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
    return text.replace("-", "−", 1) if text.startswith("-") else text


def classification(probabilities: Floats, targets: Integers, classes: Sequence[str]) -> dict[str, Any]:
    """The measures of one class for each image, as arguments of `Scores`."""
    count = len(classes)
    predicted = probabilities.argmax(axis=1)
    correct = predicted == targets
    confusion = confusion_matrix(targets, predicted, count)
    per_class, macro_f1 = precision_recall_f1(confusion)
    support = np.bincount(targets, minlength=count)
    return {
        "accuracy": float(correct.mean()),
        "interval": wilson(int(correct.sum()), len(targets)),
        "chance": float(support.max() / len(targets)),
        "loss": cross_entropy(probabilities, targets),
        "top5": top_k(probabilities, targets, 5) if count > 5 else None,
        "macro_f1": macro_f1,
        "per_class": dict(zip(classes, per_class, strict=True)),
        "confusion": confusion.tolist(),
        "calibration": calibration(probabilities.max(axis=1), correct),
    }


def labelling(probabilities: Floats, targets: Integers, classes: Sequence[str]) -> dict[str, Any]:
    """The measures of any number of labels for each image, as arguments of `Scores`."""
    predicted = (probabilities >= THRESHOLD).astype(np.int64)
    truth = targets.astype(np.int64)
    per_class: dict[str, dict[str, float | int | None]] = {}
    confusion = []
    for column, name in enumerate(classes):
        matrix = confusion_matrix(truth[:, column], predicted[:, column], 2)
        confusion.append(matrix.tolist())
        row, _ = precision_recall_f1(matrix)
        per_class[name] = {**row[1], "average_precision": average_precision(truth[:, column], probabilities[:, column])}
    present = [row["f1"] for row in per_class.values() if row["f1"] is not None]
    right = predicted == truth
    wrong = int((~right).sum())
    both = int((predicted & truth).sum())
    common = truth.mean(axis=0)
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
        "calibration": calibration(probabilities.ravel(), truth.ravel().astype(bool)),
    }


def regression(predicted: Floats, targets: Floats, classes: Sequence[str]) -> dict[str, Any]:
    """The measures of real numbers for each image, as arguments of `Scores`.

    R2 of a column whose targets are all equal is 1 when every prediction is exact, otherwise 0 (as in scikit-learn).
    """
    error = predicted.astype(np.float64) - targets.astype(np.float64)
    mae = np.abs(error).mean(axis=0)
    rmse = np.sqrt(np.square(error).mean(axis=0))
    determined = r_squared(predicted, targets)
    return {
        "accuracy": float(determined.mean()),
        "chance": 0.0,
        "loss": float(np.square(error).mean()),
        "mae": float(mae.mean()),
        "rmse": float(rmse.mean()),
        "per_class": {
            name: {"mae": float(mae[k]), "rmse": float(rmse[k]), "r2": float(determined[k]), "support": len(targets)}
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
    """The interval of a mean of one share for each image, from their spread; the labels of one image are not
    independent.

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
    """The share of images whose class is among the k surest."""
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


def average_precision(targets: Integers, scores: Floats) -> float | None:
    """Area under precision against recall, as sum of (R_n - R_(n-1)) P_n over distinct scores; None without positives."""
    positives = int(targets.sum())
    if not positives:
        return None
    order = np.argsort(-scores, kind="stable")
    found = np.cumsum(targets[order])
    ends = np.flatnonzero(np.append(np.diff(scores[order]) != 0, True))
    precision = found[ends] / (ends + 1)
    recall = found[ends] / positives
    return float(np.sum(np.diff(recall, prepend=0.0) * precision))


def r_squared(predicted: Floats, targets: Floats) -> NDArray[np.float64]:
    """1 - squared error / variance, for each column: `(K,)`."""
    truth = targets.astype(np.float64)
    error = np.square(predicted.astype(np.float64) - truth).sum(axis=0)
    spread = np.square(truth - truth.mean(axis=0)).sum(axis=0)
    flat = spread == 0
    return np.where(flat, np.where(error == 0, 1.0, 0.0), 1 - error / np.where(flat, 1.0, spread))


def calibration(confidence: Floats, correct: NDArray[np.bool_], bins: int = 15) -> dict[str, Any]:
    """How far confidence can be taken at its word: the expected calibration error and its bins.

    The bins are equally wide over 0..1, each closed above. Of each: `from`, `to`, `images`, mean `confidence`,
    `accuracy` (both None when empty). ECE is the mean of |accuracy - confidence| weighted by images.
    Source: Guo et al., On Calibration of Modern Neural Networks, https://arxiv.org/abs/1706.04599.
    """
    values = confidence.astype(np.float64)
    place = np.clip(np.ceil(values * bins).astype(np.int64) - 1, 0, bins - 1)
    count = np.bincount(place, minlength=bins)
    sure = np.bincount(place, weights=values, minlength=bins)
    right = np.bincount(place, weights=correct.astype(np.float64), minlength=bins)
    error = float(np.abs(right - sure).sum() / len(values))
    return {
        "ece": error,
        "bins": [
            {
                "from": k / bins,
                "to": (k + 1) / bins,
                "images": int(count[k]),
                "confidence": float(sure[k] / count[k]) if count[k] else None,
                "accuracy": float(right[k] / count[k]) if count[k] else None,
            }
            for k in range(bins)
        ],
    }


def read_gap(
    history: Sequence[Mapping[str, Any]],
    best_epoch: int,
    validation_images: int | None = None,
    *,
    remark: str | None = "which is a mean over the epoch, while the network learns",
    numbers: bool = False,
) -> dict[str, Any] | None:
    """What the curves of training and validation say about overfitting.

    With the number of validation images, a gap that chance can make (two standard errors of their accuracy) is not
    called one.
    `remark`: how training figures come about, where that makes them lower; None where both are measured alike, once.
        `numbers`: accuracy is R2.

    Returns `epoch`, `train_accuracy`, `validation_accuracy` and `difference` at the best epoch, `turned` (the epoch
    after which the validation loss rose for good, or None) and `sentence`, which says it in words. None when nothing
    was trained.

    The validation loss has turned when it ends at least 2 % above its minimum, two or more epochs later, while the
    training loss went on falling.
    """
    keys = ("train_loss", "train_accuracy", "val_loss", "val_accuracy")
    rows = [row for row in history if all(finite(row.get(key)) is not None for key in keys)]
    if not rows:
        return None
    best = next((row for row in rows if row["epoch"] == best_epoch), rows[-1])
    lowest = min(rows, key=lambda row: float(row["val_loss"]))
    last = rows[-1]
    rise = float(last["val_loss"]) / float(lowest["val_loss"]) - 1 if lowest["val_loss"] else 0.0
    turned = (
        int(lowest["epoch"])
        if last["epoch"] - lowest["epoch"] >= 2 and rise >= 0.02 and last["train_loss"] < lowest["train_loss"]
        else None
    )
    difference = float(best["train_accuracy"]) - float(best["val_accuracy"])
    share = min(max(float(best["val_accuracy"]), 0.0), 1.0)
    noise = 2 * math.sqrt(share * (1 - share) / validation_images) if validation_images else 0.0
    return {
        "epoch": int(best["epoch"]),
        "train_accuracy": float(best["train_accuracy"]),
        "validation_accuracy": float(best["val_accuracy"]),
        "difference": difference,
        "turned": turned,
        "sentence": _gap_sentence(difference, turned, lowest, last, noise, validation_images, remark, numbers),
    }


def _gap_sentence(
    difference: float,
    turned: int | None,
    lowest: Mapping[str, Any],
    last: Mapping[str, Any],
    noise: float,
    images: int | None,
    remark: str | None,
    numbers: bool,
) -> str:
    when = " at the best epoch" if remark is not None else ""
    points = f"{abs(difference):.3f} of R²" if numbers else f"{abs(100 * difference):.1f} percentage points"
    if 0.03 < abs(difference) <= noise:
        text = (
            f"Training and validation lie {points} apart{when}, which may be chance: "
            f"{images:,} validation images tell accuracies apart to about {100 * noise:.0f} points."
        )
    elif difference > 0.1:
        text = f"It overfits:{when} it does {points} better on the images it trained on than on the validation images."
    elif difference > 0.03:
        text = f"It overfits a little:{when} training is {points} ahead of validation."
    elif difference < -0.005:
        text = f"No overfitting: validation is {points} ahead of training{f', {remark}' if remark else ''}."
    else:
        text = f"No overfitting to speak of: training and validation lie {points} apart{when}."
    if turned is not None:
        text += (
            f" The validation loss turned after epoch {turned}: it rose from {lowest['val_loss']:.3f} to "
            f"{last['val_loss']:.3f} by epoch {last['epoch']}, while the training loss went on falling. The weights kept are from the best epoch."
        )
    return text
