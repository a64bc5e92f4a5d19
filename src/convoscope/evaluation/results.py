"""What a scores.json may say. Anybody can write one, and a report draws from every number in it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, FailFast, Field, ValidationError, model_validator

from ..data import TARGET_NOUNS, Task
from ..parsing import faults_of

Number = Annotated[float, Field(ge=-1e39, le=1e39)]
Share = Annotated[float, Field(ge=-1e-9, le=1 + 1e-9)]
"""A mean of shares may come out a hair above 1."""
Count = Annotated[int, Field(ge=0, le=10**12)]


def _writable(text: str) -> str:
    text.encode("utf-8", "surrogateescape")
    return text


Text = Annotated[str, AfterValidator(_writable)]


class _Saved(BaseModel):
    # Keys of later versions are passed over. Nothing is converted: what is checked here is what is used.
    model_config = ConfigDict(strict=True, extra="ignore", allow_inf_nan=False)


class _Class(_Saved):
    precision: Share | None = None
    recall: Share | None = None
    f1: Share | None = None
    average_precision: Share | None = None
    mae: Number | None = None
    rmse: Number | None = None
    r2: Number | None = None
    support: Count


_KEYS = {
    "classification": {"precision", "recall", "f1"},
    "multi-label": {"precision", "recall", "f1", "average_precision"},
    "regression": {"mae", "rmse", "r2"},
}


class _Bin(_Saved):
    start: Share = Field(alias="from")
    to: Share
    images: Count
    confidence: Share | None
    accuracy: Share | None

    @model_validator(mode="after")
    def _mean_of_some(self) -> Self:
        if self.images and (self.confidence is None or self.accuracy is None):
            raise ValueError("images without their confidence and accuracy")
        return self


class _Calibration(_Saved):
    ece: Share
    bins: list[_Bin] = Field(min_length=1, max_length=1000)

    @model_validator(mode="after")
    def _of_images(self) -> Self:
        if not any(entry.images for entry in self.bins):
            raise ValueError("no bin holds an image")
        return self


class _Shift(_Saved):
    pixels: int = Field(ge=-10_000, le=10_000)
    accuracy: Number


class _Turn(_Saved):
    degrees: float = Field(ge=-1000, le=1000)
    accuracy: Number


class _Scale(_Saved):
    factor: float = Field(gt=0, le=1000)
    accuracy: Number


class _Range(_Saved):
    start: Number = Field(alias="from")
    to: Number
    open_below: bool
    open_above: bool


class _Ranges(_Saved):
    shift: _Range | None = None
    turn: _Range | None = None
    scale: _Range | None = None


class _Invariance(_Saved):
    measure: Text = "accuracy"
    shift: Annotated[list[_Shift], Field(min_length=1, max_length=10_000), FailFast()]
    turn: Annotated[list[_Turn], Field(min_length=1, max_length=10_000), FailFast()]
    scale: Annotated[list[_Scale], Field(min_length=1, max_length=10_000), FailFast()]
    ranges: _Ranges
    untouched: Number
    kept: Share
    chance: Share
    images: int = Field(ge=1, le=10**12)


class _Unknown(_Saved):
    coverage: Share
    threshold: float = Field(ge=-1, le=3)
    refused: Count
    refused_right: Count
    accuracy_accepted: Share | None
    edges: list[Number] = Field(min_length=2, max_length=10_000)
    right: list[Count] = Field(max_length=10_000)
    wrong: list[Count] = Field(max_length=10_000)

    @model_validator(mode="after")
    def _of_one_length(self) -> Self:
        if not len(self.right) == len(self.wrong) == len(self.edges) - 1:
            raise ValueError("expected one count between each two edges")
        if sorted(self.edges) != self.edges or self.edges[-1] <= 0:
            raise ValueError("edges must rise")
        return self


class _Mistake(_Saved):
    path: Text
    label: Text
    predicted: Text
    confidence: Share | None
    image: Text
    unknown: bool = False


class _Scores(_Saved):
    task: Task
    source: Text
    split: Text
    images: int = Field(ge=1, le=10**12)
    classes: Annotated[list[Text], Field(min_length=1), FailFast()]
    accuracy: Number
    loss: Number
    chance: Share
    per_class: dict[Text, _Class]
    confusion: Annotated[list[list[Count | list[Count]]], FailFast()] = []
    interval: Annotated[list[Share], Field(min_length=2, max_length=2)] | None = None
    top5: Share | None = None
    macro_f1: Share | None = None
    micro_f1: Share | None = None
    exact_match: Share | None = None
    mae: Number | None = None
    rmse: Number | None = None
    calibration: _Calibration | None = None
    gap: dict[str, Any] | None = None
    invariance: _Invariance | None = None
    unknown: _Unknown | None = None
    worst: list[_Mistake] = Field([], max_length=1000)
    pairs: (
        dict[Text, Annotated[list[Annotated[list[Number], Field(min_length=2, max_length=2)]], Field(min_length=1)]]
        | None
    ) = None
    notes: Annotated[list[Text], FailFast()] = []
    seconds: float = Field(0.0, ge=0, le=1e10)

    @model_validator(mode="after")
    def _all_goes_together(self) -> Self:
        if len(set(self.classes)) < len(self.classes) or list(self.per_class) != self.classes:
            raise ValueError("the figures of classes are not those of the classes")
        if not all(_KEYS[self.task] <= figures.model_fields_set for figures in self.per_class.values()):
            raise ValueError(f"expected {', '.join(sorted(_KEYS[self.task]))} of each of the {TARGET_NOUNS[self.task]}")
        shares = [self.accuracy, *([self.invariance.untouched] if self.invariance is not None else [])]
        if self.task != "regression" and not all(-1e-9 <= share <= 1 + 1e-9 for share in shares):
            raise ValueError("accuracy must be a share from 0 to 1")
        if self.confusion and not _suits(self.confusion, len(self.classes), self.task):
            raise ValueError(f"the confusion is not one of {len(self.classes)} {TARGET_NOUNS[self.task]}")
        if self.unknown is not None and self.unknown.refused > self.images:
            raise ValueError("more images are refused than there are")
        for mistake in self.worst:
            if self.task == "regression":
                for text in (*mistake.label.split(";"), *mistake.predicted.split(";")):
                    float(text)
            elif mistake.confidence is None:
                raise ValueError("a mistake without its confidence")
        return self


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


def check_scores(content: Any) -> None:
    """Refuse what no test writes.

    Raises:
        ValueError: with what is wrong, in one line.
    """
    try:
        _Scores.model_validate(content)
    except ValidationError as error:
        raise ValueError(faults_of(error)) from None
