"""How far a training is: the counters that a checkpoint keeps."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, FailFast, Field, ValidationError, model_validator

from ...errors import ModelFileError
from ...parsing import faults_of
from ..core.recipe import MOST_THREADS
from ..core.reporter import EpochMetrics, Finite, HistoryRow


@dataclass
class Progress:
    """How far a training is. Saved with each checkpoint."""

    epoch: int = 0
    step: int = 0
    loss_sum: float = 0.0
    right_sum: float = 0.0
    images: int = 0
    seconds: float = 0.0
    threads: int = 0
    """The fewest that a step of this epoch was computed on; 0: none was made."""
    best_value: list[float] = field(default_factory=list)
    stale: int = 0
    history: list[EpochMetrics] = field(default_factory=list)
    events_bytes: int = 0


class _SavedProgress(BaseModel):
    """What a checkpoint may say of `Progress`."""

    model_config = ConfigDict(strict=True, extra="ignore")

    epoch: int = Field(ge=0, le=100_000)
    step: int = Field(ge=0, le=2**40)
    loss_sum: Finite
    right_sum: Finite
    images: int = Field(ge=0, le=2**40)
    seconds: float = Field(ge=0, le=1e10, allow_inf_nan=False)
    threads: int = Field(0, ge=0, le=MOST_THREADS)
    best_value: list[float] = Field(max_length=3)
    stale: int = Field(ge=0, le=100_000)
    history: Annotated[list[HistoryRow], FailFast()]
    events_bytes: int = Field(ge=0, le=2**53)

    @model_validator(mode="after")
    def _history_is_whole(self) -> Self:
        if [row.epoch for row in self.history] != list(range(1, self.epoch + 1)):
            raise ValueError(f"expected the figures of epochs 1 to {self.epoch}, in order")
        return self


def read_progress(state: dict[str, Any], path: Path) -> Progress:
    """How far a training is, from a checkpoint's state.

    Raises:
        ModelFileError: it holds none (`checkpoint-without-progress`), or an impossible one (`progress-unreadable`).
    """
    if "progress" not in state:
        raise ModelFileError(
            path,
            "holds weights to predict with, but not what is needed to go on",
            hint="restore it from a copy, or train again",
            code="checkpoint-without-progress",
        )
    try:
        return Progress(**_SavedProgress.model_validate(state["progress"]).model_dump())
    except ValidationError as error:
        raise ModelFileError(
            path,
            f"its progress cannot be read: {faults_of(error)}",
            hint="restore it from a copy, or train again",
            code="progress-unreadable",
        ) from None
