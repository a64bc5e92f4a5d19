"""The learning rate range test (Smith 2017, "Cyclical learning rates", https://arxiv.org/abs/1506.01186): a few steps
at rates that rise from step to step, and the rate at which the loss falls fastest.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import DataError
from ..core.optimizer import training_mode
from .job import Job
from .learner import Learner
from .loop import train_step
from .schedule import epoch_order

LOWEST, HIGHEST = 1e-6, 1.0
_WINDOW = 0.1
"""Share of the steps on either side that a smoothed loss and its slope are taken over."""
_DIVERGED = 4.0
"""The test ends where the smoothed loss is this many times its least so far."""
_FALL = 0.98
"""The smoothed loss must fall at least to this share of its beginning."""


@dataclass(frozen=True, kw_only=True)
class LearningRates:
    """What the test measured, a number for each step, on training images only.

    Attributes:
        rates: the learning rate, rising evenly in its logarithm.
        losses, smoothed: the loss of the step's batch, and the mean of those around it.
        suggestion: the rate at which the loss falls fastest, in two digits.
        recipe: what to train with: `learning_rate`, and with muon `muon_learning_rate` in the same proportion.
    """

    rates: tuple[float, ...]
    losses: tuple[float, ...]
    smoothed: tuple[float, ...]
    suggestion: float
    recipe: dict[str, Any]

    def to_json(self) -> dict[str, Any]:
        """As plain lists and numbers."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}


def smooth(losses: Sequence[float], half: int) -> NDArray[np.float64]:
    """The mean of each loss and up to `half` of them on either side."""
    return np.array([np.mean(losses[max(0, k - half) : k + half + 1]) for k in range(len(losses))])


def steepest(losses: Sequence[float], half: int) -> int | None:
    """The step around which the loss falls fastest: that of the least slope of a line fitted to `half` steps on either
    side, before the least smoothed loss. None: it never falls.
    """
    smoothed = smooth(losses, half)
    end = int(smoothed.argmin())
    if end < half or smoothed[end] > _FALL * smoothed[0]:
        return None
    places = np.arange(-half, half + 1)
    middles = range(half, max(min(end, len(losses) - half - 1), half) + 1)
    slopes = [float(places @ np.asarray(losses[k - half : k + half + 1])) for k in middles]
    return middles[int(np.argmin(slopes))]


def range_test(job: Job, steps: int, progress: Callable[[int, int], None]) -> LearningRates:
    """Train the job's network for some steps at rising rates. Its weights are of no use afterwards.

    Raises:
        DataError: the loss falls at none of the rates (`learning-rate-not-found`).
    """
    recipe = job.recipe.model_copy(update={"mixup": 0.0, "cutmix": 0.0})  # which make the loss of a batch noisy
    job = replace(job, settings=job.settings.model_copy(update={"recipe": recipe}))
    learner = Learner.of(job)
    rates: list[float] = []
    losses: list[float] = []
    half = max(2, round(_WINDOW * steps))
    with job.engine.thread_count():
        for step in range(steps):
            epoch, place = divmod(step, job.steps_in_epoch)
            if place == 0:
                training_mode(learner.network, recipe)
                order = epoch_order(job, epoch)
            rate = LOWEST * (HIGHEST / LOWEST) ** (step / (steps - 1))
            batch = order[place * recipe.batch_size : (place + 1) * recipe.batch_size]
            factor = rate / recipe.learning_rate
            loss, _ = train_step(job, learner.network, learner.optimizer, batch, epoch, step, factor)
            if not math.isfinite(loss):
                break
            rates.append(rate)
            losses.append(loss)
            recent = np.mean(losses[-half:])
            if step > 2 * half and recent > _DIVERGED * smooth(losses, half).min():
                break
            progress(step + 1, steps)
    progress(steps, steps)
    best = steepest(losses, half) if len(losses) > 2 * half else None
    if best is None:
        raise DataError(
            job.settings.source,
            f"the loss falls at none of the rates from {LOWEST:g} to {HIGHEST:g}",
            hint="look at the images and labels: convoscope data SOURCE",
            code="learning-rate-not-found",
        )
    suggestion = float(f"{rates[best]:.2g}")
    chosen: dict[str, Any] = {"learning_rate": suggestion}
    if recipe.optimizer == "muon":
        chosen["muon_learning_rate"] = float(f"{suggestion / recipe.learning_rate * recipe.muon_learning_rate:.2g}")
    return LearningRates(
        rates=tuple(rates),
        losses=tuple(losses),
        smoothed=tuple(map(float, smooth(losses, half))),
        suggestion=suggestion,
        recipe=chosen,
    )
