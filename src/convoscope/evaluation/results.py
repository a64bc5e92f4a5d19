"""What a test finds: one frozen dataclass for `RUN/test/scores.json` and one for each of its parts.

Anybody can write a scores.json, and a report draws from every number in it. `Scores.from_json` therefore checks it
against the types written here. A test that fills them itself needs no check.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass, replace
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, FailFast, Field, Strict, TypeAdapter, ValidationError, model_validator

from ..data import TARGET_NOUNS, Task
from ..parsing import faults_of
from .text import number_text, part_name, percent


def _writable(text: str) -> str:
    text.encode("utf-8", "surrogateescape")
    return text


# Strict: nothing is converted, so what is checked here is what is used.
Number = Annotated[float, Field(strict=True, ge=-1e39, le=1e39, allow_inf_nan=False)]
Share = Annotated[float, Field(strict=True, ge=-1e-9, le=1 + 1e-9, allow_inf_nan=False)]
"""A mean of shares may come out a hair above 1."""
Count = Annotated[int, Field(strict=True, ge=0, le=10**12)]
Images = Annotated[int, Field(strict=True, ge=1, le=10**12)]
Text = Annotated[str, Strict(), AfterValidator(_writable)]
Flag = Annotated[bool, Strict()]

LARGEST_WRITTEN = 1000
"""The confusion of at most this many classes is written into scores.json."""

Kind = Literal["shift", "turn", "scale"]
KINDS: tuple[Kind, ...] = ("shift", "turn", "scale")


@dataclass(frozen=True, kw_only=True)
class _Figures:
    precision: Share | None = None
    recall: Share | None = None
    f1: Share | None = None
    average_precision: Share | None = None
    roc_auc: Share | None = None
    mae: Number | None = None
    rmse: Number | None = None
    r2: Number | None = None
    support: Count


_KEYS = {
    "classification": {"precision", "recall", "f1"},
    "multi-label": {"precision", "recall", "f1", "average_precision"},
    "regression": {"mae", "rmse", "r2"},
}


def _checked(kind: Any) -> AfterValidator:
    """Check a value against `kind` and keep it as it is."""
    adapter: TypeAdapter[Any] = TypeAdapter(kind)

    def check(value: Any) -> Any:
        try:
            adapter.validate_python(value)
        except ValidationError as error:
            raise ValueError(faults_of(error)) from None
        return value

    return AfterValidator(check)


@dataclass(frozen=True, kw_only=True)
class CalibrationBin:
    """The images whose confidence is in one bin: their mean `confidence` and `accuracy`, both None when it is empty."""

    start: Annotated[Share, Field(alias="from")]
    to: Share
    images: Count
    confidence: Share | None
    accuracy: Share | None

    @model_validator(mode="after")
    def _mean_of_some(self) -> Self:
        if self.images and (self.confidence is None or self.accuracy is None):
            raise ValueError("images without their confidence and accuracy")
        return self


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """How far confidence agrees with accuracy: the expected calibration error `ece` and its bins."""

    ece: Share
    bins: Annotated[list[CalibrationBin], Field(min_length=1, max_length=1000)]

    @model_validator(mode="after")
    def _of_images(self) -> Self:
        if not self.filled():
            raise ValueError("no bin holds an image")
        return self

    def filled(self) -> list[tuple[CalibrationBin, float, float]]:
        """The bins with images in them, each with its confidence and accuracy."""
        return [
            (entry, entry.confidence, entry.accuracy)
            for entry in self.bins
            if entry.images and entry.confidence is not None and entry.accuracy is not None
        ]


@dataclass(frozen=True, kw_only=True)
class Uncalibrated:
    """What the run's temperature has changed.

    Attributes:
        temperature: what raw scores were divided by, see `fit_temperature`.
        loss, ece: as in `Scores` and `Calibration`, of the probabilities without it.
    """

    temperature: Annotated[float, Field(strict=True, gt=0, le=1000, allow_inf_nan=False)]
    loss: Number
    ece: Share | None


@dataclass(frozen=True, kw_only=True)
class ClassCurves:
    """One class against the rest, at every threshold.

    Attributes:
        roc: points of false positive rate and recall.
        precision_recall: points of recall and precision.
    """

    roc: Annotated[list[tuple[Share, Share]], Field(min_length=1, max_length=10_000), FailFast()]
    precision_recall: Annotated[list[tuple[Share, Share]], Field(min_length=1, max_length=10_000), FailFast()]


@dataclass(frozen=True, kw_only=True)
class Threshold:
    """What comes of it if the second of two classes is answered from a `threshold` of its probability on.

    Attributes:
        chosen: how many images that answer is given for.
        precision, recall, accuracy: of these answers.
        false_alarms: the share of the first class's images that get it, too.
    """

    threshold: Share
    chosen: Count
    precision: Share | None
    recall: Share | None
    false_alarms: Share | None
    accuracy: Share


@dataclass(frozen=True, kw_only=True)
class CoveragePoint:
    """The images whose confidence is at least `confidence`: how many, which share of all, and the accuracy on them."""

    confidence: Share
    images: Images
    coverage: Share
    accuracy: Share


@dataclass(frozen=True, kw_only=True)
class Gap:
    """How training and validation compare at the best epoch, see `overfitting.read_gap`.

    Attributes:
        epoch: the epoch compared.
        train_accuracy, validation_accuracy, difference: the accuracies, and training minus validation.
        turned: the epoch after which the validation loss rose for good, or None.
        sentence: what this says, in words.
        test_accuracy: beside them the accuracy on the test part, if that was tested.
    """

    epoch: Count
    train_accuracy: Number
    validation_accuracy: Number
    difference: Number
    turned: Count | None
    sentence: Text
    test_accuracy: Number | None = None


@dataclass(frozen=True, kw_only=True)
class ShiftPoint:
    """The accuracy after a shift; positive is to the right or down. `accuracy` is the mean of both directions."""

    pixels: Annotated[int, Field(strict=True, ge=-10_000, le=10_000)]
    accuracy: Number
    horizontal: Number
    vertical: Number


@dataclass(frozen=True, kw_only=True)
class TurnPoint:
    """The accuracy after a turn; positive is anticlockwise."""

    degrees: Annotated[float, Field(strict=True, ge=-1000, le=1000)]
    accuracy: Number


@dataclass(frozen=True, kw_only=True)
class ScalePoint:
    """The accuracy at another size; a factor above 1 is larger."""

    factor: Annotated[float, Field(strict=True, gt=0, le=1000)]
    accuracy: Number


@dataclass(frozen=True, kw_only=True)
class Range:
    """How far a curve stays high; `open_below` and `open_above`: it ends there without having fallen."""

    start: Annotated[Number, Field(alias="from")]
    to: Number
    open_below: Flag
    open_above: Flag


@dataclass(frozen=True, kw_only=True)
class Ranges:
    """The range of each curve; None where the network is no better than chance."""

    shift: Range | None
    turn: Range | None
    scale: Range | None

    def text(self, kind: Kind) -> str:
        """A range in words: `−2.1 to 2.4 pixels`; `≥` where the curve ends before falling."""
        found: Range | None = getattr(self, kind)
        if found is None:
            return "–"
        unit, digits = {"shift": (" pixels", 1), "turn": ("°", 0), "scale": ("×", 2)}[kind]
        if found.open_below and found.open_above:
            return f"all of {number_text(found.start)} to {number_text(found.to)}{unit}"
        low = ("≤ " if found.open_below else "") + number_text(round(found.start, digits))
        high = ("≥ " if found.open_above else "") + number_text(round(found.to, digits))
        return f"{low} to {high}{unit}"


@dataclass(frozen=True, kw_only=True)
class Invariance:
    """How the accuracy falls when images are shifted, turned and scaled.

    Attributes:
        measure: `accuracy` or, for regression, `R2`.
        shift, turn, scale: the curves.
        ranges: how far each curve stays above `kept` times the accuracy on untouched images.
        untouched: that accuracy.
        kept: the share of it that has to be kept.
        chance: what the best constant answer would reach.
        images: how many images were measured.
    """

    measure: Text = "accuracy"
    shift: Annotated[list[ShiftPoint], Field(min_length=1, max_length=10_000), FailFast()]
    turn: Annotated[list[TurnPoint], Field(min_length=1, max_length=10_000), FailFast()]
    scale: Annotated[list[ScalePoint], Field(min_length=1, max_length=10_000), FailFast()]
    ranges: Ranges
    untouched: Number
    kept: Share
    chance: Share
    images: Images

    def curve(self, kind: Kind) -> list[tuple[float, float]]:
        """The points of one curve, each its place (pixels, degrees or factor) and the accuracy there."""
        if kind == "shift":
            return [(point.pixels, point.accuracy) for point in self.shift]
        if kind == "turn":
            return [(point.degrees, point.accuracy) for point in self.turn]
        return [(point.factor, point.accuracy) for point in self.scale]


@dataclass(frozen=True, kw_only=True)
class Unknown:
    """Which images of the run's own classes are marked as not known, because they are far from the training images.

    Attributes:
        coverage: the share of new images of the classes that were to be known.
        threshold: images farther away than this are not known.
        not_known, not_known_right: how many images that are, and how many of these have the right label all the same.
        accuracy_known: the accuracy on the others; None where there are none.
        edges, right, wrong: a histogram of distances, of the images with the right and with the wrong answer.
    """

    coverage: Share
    threshold: Annotated[float, Field(strict=True, ge=-1, le=3, allow_inf_nan=False)]
    not_known: Count
    not_known_right: Count
    accuracy_known: Share | None
    edges: Annotated[list[Number], Field(min_length=2, max_length=10_000)]
    right: Annotated[list[Count], Field(max_length=10_000)]
    wrong: Annotated[list[Count], Field(max_length=10_000)]

    @model_validator(mode="after")
    def _of_one_length(self) -> Self:
        if not len(self.right) == len(self.wrong) == len(self.edges) - 1:
            raise ValueError("expected one count between each two edges")
        if sorted(self.edges) != self.edges or self.edges[-1] <= 0:
            raise ValueError("edges must rise")
        return self


@dataclass(frozen=True, kw_only=True)
class Mistake:
    """One of the worst mistakes. `image` is its picture in the test's folder; `known`: see `Prediction`."""

    path: Text
    label: Text
    predicted: Text
    confidence: Share | None
    image: Text
    known: Flag | None = None

    def caption(self, task: Task) -> tuple[str, str]:
        """Two lines under the picture: the true label, and what it was taken for and how surely."""
        if task == "regression":
            truth, answer = (
                "; ".join(number_text(float(value)) for value in text.split(";"))
                for text in (self.label, self.predicted)
            )
            return f"true {truth}", f"predicted {answer}"
        remark = ", marked as not known" if self.known is False else ""
        return (
            f"is {self.label or '(no label)'}",
            f"{self.predicted or '(no label)'}, {percent(self.confidence, 0)}{remark}",
        )


_MOST_SHOWN = 40
"""Classes in a notebook; `per_class` has all."""


@dataclass(frozen=True, kw_only=True, repr=False)
class Scores:
    """What a test found; `RUN/test/scores.json` holds the same as `to_json`.

    Attributes:
        task: `classes` (classification), `labels` (multi-label) or `numbers` (regression).
        source: what was tested, as the user wrote it.
        split: `train`, `validation`, `test` or `all`.
        images: how many.
        classes: K class names, label names or names of number columns.
        accuracy: share of right answers; for labels the share of right yes-or-no decisions; for numbers the mean R2, or
            None where their true values do not differ.
        interval: 95 % interval of the accuracy: Wilson's for classes, for labels that of a mean over images; None for
            numbers.
        chance: what the best constant answer would reach: the commonest class, each label's commoner answer; 0 for
            numbers. The headline leaves it out where all images are of one class.
        loss: mean cross-entropy in nats, without label smoothing or class weights; for numbers the mean squared error.
        per_class: class name to `precision`, `recall`, `f1`, `support`, `average_precision` and `roc_auc` (the areas
            under the precision-recall and the ROC curve); for numbers `mae`, `rmse`, `r2`, `support`. None where a
            measure has no value.
        confusion: `(K, K)` counts, rows the true class, columns the predicted one; for labels K times
            `[[true negative, false positive], [false negative, true positive]]`; empty for numbers.
        top5: share of images whose class is among the five most probable; None with five classes or fewer.
        macro_f1: mean F1 of the classes that occur or were predicted.
        micro_f1: F1 over all labels of all images; for classes it equals the accuracy and is left out.
        exact_match: share of images whose labels are all right; for labels only.
        mae, rmse: means over the columns of numbers, in the columns' own units.
        brier: the Brier score, the mean squared distance of the probabilities from the truth: for classes summed over
            them (0..2), for labels the mean over them (0..1); None for numbers.
        calibration: how far confidence agrees with accuracy; None for numbers, and with fewer than 20 images.
        uncalibrated: the same without the run's temperature; None where it has none.
        curves: ROC and precision-recall curves of up to 12 classes, those with the smallest area under the first; of
            two classes the second's.
        thresholds: of two classes, what each threshold gives.
        coverage: of classes, accuracy against coverage when only confident answers are used.
        gap: accuracies of training and validation at the best epoch and their difference.
        invariance: curves of accuracy against shift, turn and scale; None when not asked for.
        unknown: of a run with an out-of-distribution detector, how many of these images are marked as not known.
        worst: the most confident mistakes, worst first.
        pairs: for numbers, up to 400 of the images for each column: name to list of `[true, predicted]`; else None.
        metrics: the user's own by name; None where one has no finite value.
        notes: what was decided on the way, one plain sentence each.
        seconds: how long the test took.
    """

    task: Task
    source: Text
    split: Text
    images: Images
    classes: Annotated[tuple[Text, ...], Field(min_length=1), FailFast()]
    accuracy: Number | None
    loss: Number
    chance: Share
    per_class: dict[Text, Annotated[dict[str, Any], _checked(_Figures)]]
    confusion: Annotated[list[Any], _checked(Annotated[list[list[Count | list[Count]]], FailFast()])] = field(
        default_factory=list
    )
    interval: tuple[Share, Share] | None = None
    top5: Share | None = None
    macro_f1: Share | None = None
    micro_f1: Share | None = None
    exact_match: Share | None = None
    mae: Number | None = None
    rmse: Number | None = None
    brier: Annotated[float, Field(strict=True, ge=0, le=2 + 1e-9, allow_inf_nan=False)] | None = None
    calibration: Calibration | None = None
    uncalibrated: Uncalibrated | None = None
    curves: dict[Text, ClassCurves] = field(default_factory=dict)
    thresholds: Annotated[list[Threshold], Field(max_length=1000)] = field(default_factory=list)
    coverage: Annotated[list[CoveragePoint], Field(max_length=1000)] = field(default_factory=list)
    gap: Gap | None = None
    invariance: Invariance | None = None
    unknown: Unknown | None = None
    worst: Annotated[list[Mistake], Field(max_length=1000)] = field(default_factory=list)
    pairs: (
        dict[Text, Annotated[list[Annotated[list[Number], Field(min_length=2, max_length=2)]], Field(min_length=1)]]
        | None
    ) = None
    metrics: Annotated[dict[Text, Number | None], Field(max_length=100)] = field(default_factory=dict)
    notes: Annotated[tuple[Text, ...], FailFast()] = ()
    seconds: Annotated[float, Field(strict=True, ge=0, le=1e10, allow_inf_nan=False)] = 0.0
    folder: Path | None = field(default=None, compare=False)

    @model_validator(mode="after")
    def _all_goes_together(self) -> Self:
        if len(set(self.classes)) < len(self.classes) or tuple(self.per_class) != self.classes:
            raise ValueError("the figures of classes are not those of the classes")
        if not all(_KEYS[self.task] <= figures.keys() for figures in self.per_class.values()):
            raise ValueError(f"expected {', '.join(sorted(_KEYS[self.task]))} of each of the {TARGET_NOUNS[self.task]}")
        if self.accuracy is None and self.task != "regression":
            raise ValueError("expected an accuracy")
        shares = [self.accuracy or 0.0, *([self.invariance.untouched] if self.invariance is not None else [])]
        if self.task != "regression" and not all(-1e-9 <= share <= 1 + 1e-9 for share in shares):
            raise ValueError("accuracy must be a share from 0 to 1")
        if not set(self.curves) <= set(self.classes):
            raise ValueError("there are curves of classes that there are not")
        if self.confusion and not _suits(self.confusion, len(self.classes), self.task):
            raise ValueError(f"the confusion is not one of {len(self.classes)} {TARGET_NOUNS[self.task]}")
        if self.unknown is not None and self.unknown.not_known > self.images:
            raise ValueError("more images are not known than there are")
        for mistake in self.worst:
            if self.task == "regression":
                for text in (*mistake.label.split(";"), *mistake.predicted.split(";")):
                    float(text)
            elif mistake.confidence is None:
                raise ValueError("a mistake without its confidence")
        return self

    def to_json(self) -> dict[str, Any]:
        """Plain lists, dicts and numbers; finite, ready for `json.dumps`.

        With more than 1,000 classes without the confusion, which is in `confusion.csv`: millions of counts are slow to
        read.
        """
        left_out = {"folder", "confusion"} if len(self.confusion) > LARGEST_WRITTEN else {"folder"}
        return {entry.name: plain(getattr(self, entry.name)) for entry in fields(self) if entry.name not in left_out}

    @classmethod
    def from_json(cls, content: Mapping[str, Any], folder: Path | None = None) -> Scores:
        """The object back from `to_json`; keys of later versions are ignored.

        Raises:
            ValueError: no test gives this; the message says what is wrong, in one line.
        """
        if not isinstance(content, Mapping):
            raise ValueError("should be a valid dictionary")
        try:
            found = _reader().validate_python({key: content[key] for key in content if key != "folder"})
        except ValidationError as error:
            raise ValueError(faults_of(error)) from None
        return replace(found, folder=folder)

    @property
    def headline(self) -> str:
        """The result in one plain sentence."""
        images = f"{self.images:,} image{'s' if self.images != 1 else ''}"
        if self.task == "regression":
            explained = "" if self.accuracy is None else f"R² {self.accuracy:.3f}, "
            return f"{explained}mean absolute error {number_text(self.mae)} on {images}"
        interval = f" (95 % interval {self.interval_text})" if self.interval else ""
        chance = f"; chance is {percent(self.chance)}" if self.chance < 1 else ""
        if self.task == "multi-label":
            whole = f"all labels of an image on {percent(self.exact_match)} of {images}"
            return f"{percent(self.accuracy)} of the labels right{interval}, {whole}{chance}"
        return f"right on {percent(self.accuracy)} of {images}{interval}{chance}"

    def figures(self) -> dict[str, float]:
        """The figures that are one number each, by name: what trackers keep."""
        found = {
            "accuracy": self.accuracy,
            "loss": self.loss,
            "macro_f1": self.macro_f1,
            "micro_f1": self.micro_f1,
            "top5": self.top5,
            "exact_match": self.exact_match,
            "mae": self.mae,
            "rmse": self.rmse,
            "calibration_error": self.calibration.ece if self.calibration else None,
        }
        return {name: float(value) for name, value in found.items() if value is not None}

    @property
    def metrics_text(self) -> str:
        """The user's own metrics in one line: `f1 0.871, top_3 0.98`; empty if there are none."""
        return ", ".join(f"{name} {'–' if value is None else f'{value:.4g}'}" for name, value in self.metrics.items())

    @property
    def interval_text(self) -> str:
        """The 95 % interval in words: `90.1 % to 93.4 %`."""
        return f"{percent(self.interval[0])} to {percent(self.interval[1])}" if self.interval else ""

    def rows(self) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
        """The table of classes as text: column names, then one row a class. A dash where a measure has no value."""
        columns = {
            "classification": {"class": "", "precision": "precision", "recall": "recall", "F1": "f1"},
            "multi-label": {"label": "", "precision": "precision", "recall": "recall", "F1": "f1",
                       "average precision": "average_precision"},
            "regression": {"number": "", "MAE": "mae", "RMSE": "rmse", "R²": "r2"},
        }[self.task]  # fmt: skip
        write: Callable[[float | None], str] = number_text if self.task == "regression" else percent
        rows = [
            (name, *(write(figures[key]) for key in columns.values() if key), f"{figures['support']:,}")
            for name, figures in self.per_class.items()
        ]
        return (*columns, "images"), rows

    def _repr_html_(self) -> str:
        from ..render import grid, heading, notebook

        header, rows = self.rows()
        shown = rows[:_MOST_SHOWN]
        where = f"{part_name(self.split)} of {self.source}"
        return notebook(
            heading(self.headline, where, *self.notes[:6]), grid(header, shown, more=len(rows) - len(shown))
        )

    def __repr__(self) -> str:
        from ..render import shorten

        return f"<Scores {shorten(self.source, 200)}, {part_name(self.split)}: {self.headline}>"


def _suits(confusion: Sequence[Sequence[Any]], count: int, task: Task) -> bool:
    """Whether it is `(K, K)` counts, or for labels `(K, 2, 2)`."""
    if task == "multi-label":
        return len(confusion) == count and all(
            len(matrix) == 2 and all(isinstance(row, list) and len(row) == 2 for row in matrix) for matrix in confusion
        )
    return (
        task == "classification"
        and len(confusion) == count
        and all(len(row) == count and not any(isinstance(cell, list) for cell in row) for row in confusion)
    )


@cache
def _reader() -> TypeAdapter[Scores]:
    return TypeAdapter(Scores)


def plain(value: Any) -> Any:
    """A result as JSON has it. What is optional in a part is left out where it is None."""
    if is_dataclass(value):
        return {
            "from" if entry.name == "start" else entry.name: plain(held)
            for entry in fields(value)
            if (held := getattr(value, entry.name)) is not None or entry.default is not None
        }
    if isinstance(value, tuple) or (isinstance(value, list) and value and not isinstance(value[0], list)):
        return [plain(entry) for entry in value]
    if isinstance(value, dict):
        return {key: plain(entry) for key, entry in value.items()}
    return value
