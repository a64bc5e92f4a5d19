"""How long a training takes: measured before it begins, and corrected by what its steps really take.

An epoch on larger images costs more, so what is left is counted epoch by epoch, each with the time of its own image
size, validation included.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..core.step_time import StepTimes

if TYPE_CHECKING:
    from ..core.recipe import Recipe

_TIMED = 3
"""How often a part is timed, after once that prepares its kernels."""
_LONGEST = 1.0
"""Seconds after which a part is timed no more."""
_MEMORY = 45.0
"""Seconds of training after which what was measured before has lost most of its weight."""


@dataclass(frozen=True)
class EpochPace:
    """Seconds on a machine that does nothing else, at one image size: of a step, and of a whole validation."""

    step: float
    validation: float


@dataclass(frozen=True)
class Pace:
    """How fast a training is.

    Attributes:
        early, late: in the epochs on small images, and in the last ones.
        steps: in an epoch.
        slower: how many times as long it takes now, as other programs are busy.
    """

    early: EpochPace
    late: EpochPace
    steps: int
    slower: float = 1.0

    def at(self, recipe: Recipe, epoch: int) -> EpochPace:
        """That of an epoch, counted from 0."""
        return self.early if epoch < early_epochs(recipe) else self.late

    def seconds(self, recipe: Recipe, epoch: int = 0, step: int = 0) -> float:
        """What is left at this point, on a machine that does nothing else."""
        left = max(0, early_epochs(recipe) - epoch)
        total = left * self._epoch(self.early) + max(0, recipe.epochs - epoch - left) * self._epoch(self.late)
        return max(0.0, total - step * self.at(recipe, epoch).step)

    def epochs_within(self, recipe: Recipe, seconds: float) -> int:
        """The most epochs that take at most this long now; 0: not even one does."""

        def fits(epochs: int) -> bool:
            return self.slower * self.seconds(recipe.model_copy(update={"epochs": epochs})) <= seconds

        low, high = 0, 100_000
        while low < high:
            middle = (low + high + 1) // 2
            low, high = (middle, high) if fits(middle) else (low, middle - 1)
        return low

    def _epoch(self, pace: EpochPace) -> float:
        return self.steps * pace.step + pace.validation


def early_epochs(recipe: Recipe) -> int:
    """How many of the first epochs train on images of `start_size`: 70 %, but not the last one."""
    return min(math.ceil(0.7 * recipe.epochs), recipe.epochs - 1)


def timed(device: str, part: Callable[[], object]) -> StepTimes:
    """Times of a part of the training, which is done a few times."""
    times = StepTimes(device)
    part()
    while len(times) < _TIMED and times.total < _LONGEST:
        times.measure(part)
    return times


class TimeLeft:
    """How long a training still takes: its pace, times how much longer its steps have lately taken than measured.

    Args:
        recipe: of the training.
        pace: as measured.
    """

    def __init__(self, recipe: Recipe, pace: Pace) -> None:
        self._recipe = recipe
        self._pace = pace
        # What was measured before the start counts like a few seconds of training.
        self._measured = 3.0
        self._took = 3.0 * pace.slower

    def note(self, took: float, measured: float) -> None:
        """Something that was measured as `measured` seconds took `took`."""
        kept = math.exp(-took / _MEMORY)
        self._measured = kept * self._measured + measured
        self._took = kept * self._took + took

    def seconds(self, epoch: int, step: int) -> float:
        """From this point on; `epoch` from 0, `step` of it are made."""
        return self._pace.seconds(self._recipe, epoch, step) * self._took / self._measured
