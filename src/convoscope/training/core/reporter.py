"""What a training reports. The terminal, a notebook and a test each listen in their own way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, NotRequired, Self, TypedDict, cast

from pydantic import BaseModel, ConfigDict, Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from .recipe import MOST_THREADS


class EpochMetrics(TypedDict):
    """One epoch's figures, as in `metrics.csv`.

    `train_` losses and accuracies are means over the epoch while the weights change, on augmented images; `val_`
    ones are measured after it on the validation part, and None where there is none. For regression the accuracy is
    R2. `seconds` is the epoch's own duration, validation included. `size` is the height of the images trained on.
    `threads` is the fewest that a step was computed on: fewer than the run's where another program kept the processor
    busy, so that the last digits may differ from those of an undisturbed training.
    `metrics` are the user's own by name, of the validation part; in `metrics.csv` each has a column `val_NAME`.
    """

    epoch: int
    train_loss: float
    train_accuracy: float
    val_loss: float | None
    val_accuracy: float | None
    seconds: float
    learning_rate: float
    size: int
    threads: NotRequired[int | None]
    metrics: NotRequired[dict[str, float | None]]


COLUMNS = (
    "epoch", "train_loss", "train_accuracy", "val_loss", "val_accuracy", "seconds", "learning_rate", "size", "threads",
)  # fmt: skip


Finite = Annotated[float, Field(ge=-1e39, le=1e39, allow_inf_nan=False)]
"""What float32 can hold."""


class HistoryRow(BaseModel):
    """A row as it may come from a file. Only a validation may have figures that are not finite."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    epoch: int = Field(ge=1, le=100_000)
    train_loss: Finite
    train_accuracy: Finite
    val_loss: float | None = None
    val_accuracy: float | None = None
    seconds: float = Field(ge=0, le=1e10, allow_inf_nan=False)
    learning_rate: Finite
    size: int = Field(ge=1, le=100_000)
    threads: int | None = Field(None, ge=1, le=MOST_THREADS)
    metrics: dict[str, Finite | None] | None = Field(None, max_length=100)

    @model_validator(mode="after")
    def _validation_is_whole(self) -> Self:
        if (self.val_loss is None) != (self.val_accuracy is None):
            raise ValueError("expected both figures of the validation, or none")
        return self

    def row(self) -> EpochMetrics:
        """The same figures as `EpochMetrics`."""
        return cast(EpochMetrics, self.model_dump())

    @model_serializer(mode="wrap")
    def _without_what_is_missing(self, written: SerializerFunctionWrapHandler) -> dict[str, Any]:
        values: dict[str, Any] = written(self)
        return {
            name: value for name, value in values.items() if value is not None or name not in ("metrics", "threads")
        }


def csv_columns(history: Sequence[EpochMetrics], metrics: Sequence[str] = ()) -> tuple[str, ...]:
    """The columns of `metrics.csv` for these epochs, and for those to come with these metrics of the user's own."""
    names = dict.fromkeys([*(name for row in history for name in row.get("metrics", {})), *metrics])
    return (*COLUMNS, *(f"val_{name}" for name in names))


def csv_values(row: EpochMetrics, columns: Sequence[str]) -> list[float | None]:
    """One epoch's figures in these columns."""
    own = {f"val_{name}": value for name, value in row.get("metrics", {}).items()}
    return [cast(float | None, row.get(column, own.get(column))) for column in columns]


def value_of_row(row: EpochMetrics) -> list[float]:
    """What epochs are compared by, more is better: the size trained on, validation accuracy, then loss. The test part
    plays no role.

    Without a validation part: the training loss.
    """
    if row["val_loss"] is None or row["val_accuracy"] is None:
        return [float(row["size"]), -row["train_loss"]]
    return [float(row["size"]), row["val_accuracy"], -row["val_loss"]]


def best_epoch(history: list[EpochMetrics]) -> int:
    """The epoch, from 1, whose weights are kept as the best; 0 if none is done. The earlier one of equals."""
    return max(history, key=lambda row: (value_of_row(row), -row["epoch"]))["epoch"] if history else 0


class Reporter:
    """Listens to a training and says nothing. Subclass it, and write the methods you want to hear of.

    The order for one run: `say`, `warn` and `progress` while it is decided what is trained; `start`; then `step` and
    `epoch`, again and again; `end`; and, if nothing went wrong, `finished`. `relearn` calls `head` in place of the
    first epoch. A test that follows calls `progress` and `tested`. Several runs, as of a repeated training, come one
    after the other. All calls come from the thread that trains. What a method raises ends the training, which is saved
    up to its last checkpoint; of several reporters only what the first raises does.
    """

    def say(self, text: str) -> None:
        """One plain sentence about what was found or decided."""

    def warn(self, text: str) -> None:
        """One plain sentence about something that should be looked at."""

    def progress(self, what: str, done: int, total: int) -> None:
        """A long job other than training: `done` of `total` so far."""

    def start(self, folder: Path, epochs: int) -> None:
        """Training begins, or goes on, in `folder`."""

    def time_left(self, seconds: float) -> None:
        """About how long the training will still take: once before its first step, and then before each `step`."""

    def step(self, epoch: int, step: int, steps: int, loss: float) -> None:
        """One batch was learned: `step` (from 1) of `steps` in `epoch` (from 1)."""

    def epoch(self, row: EpochMetrics, best: bool) -> None:
        """One epoch ended."""

    def head(self, row: EpochMetrics) -> None:
        """`relearn` has made the head: what it reaches, and the seconds it all took."""

    def end(self) -> None:
        """Training ended, in whatever way, or another long job did."""

    def finished(self, folder: Path) -> None:
        """The run in `folder` is whole: `Run.open(folder)` opens it."""

    def tested(self, folder: Path, split: str, figures: Mapping[str, float]) -> None:
        """The run in `folder` was tested on a part of its images: `accuracy`, `loss` and others, by name."""
