"""`find_learning_rate`: the rate at which the loss of a model on these images falls fastest."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Unpack

from torch import nn

from ...data import Dataset
from ...errors import UsageError
from ..core.reporter import Reporter
from ..fit.rate_range import LearningRates, range_test
from .keywords import TrainKeywords
from .session import session
from .train import AskedInput, plan_job

if TYPE_CHECKING:
    from ...data import Resize
    from ...models import ModuleMaker


def find_learning_rate(
    source: str | os.PathLike[str] | Dataset,
    model: str | nn.Module | ModuleMaker = "auto",
    *,
    steps: int = 100,
    seed: int = 0,
    size: int | tuple[int, int] | None = None,
    channels: int | None = None,
    resize: Resize | None = None,
    reporter: Reporter | None = None,
    **options: Unpack[TrainKeywords],
) -> LearningRates:
    """Measure how the loss falls at rising learning rates, and suggest one. Nothing is written.

    Args:
        source, model, seed, size, channels, resize, reporter: as for `train`.
        steps: how many steps to train, each at a higher rate, from 20 to 10,000.
        **options: as for `train`, whose recipe but for the rate is used.

    Returns:
        The curve and the suggestion; `.recipe` holds the options to train with.

    Raises:
        UsageError: too few or too many steps (`steps-out-of-range`), or as `train`.
        DataError: the loss falls at none of the rates (`learning-rate-not-found`), or as `train`.
    """
    if not 20 <= steps <= 10_000:
        raise UsageError(
            "steps", f"expected 20 to 10,000; received {steps}", hint="leave it out: 100", code="steps-out-of-range"
        )
    reporter = reporter or Reporter()
    with session(), tempfile.TemporaryDirectory() as nowhere:
        shape = AskedInput(size, channels, resize)
        job = plan_job(source, model, Path(nowhere), seed=seed, shape=shape, options=options, reporter=reporter)
        try:
            return range_test(job, steps, lambda done, total: reporter.progress("learning rates", done, total))
        finally:
            reporter.end()
