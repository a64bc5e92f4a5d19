"""How many epochs fit into the time that the user has."""

from __future__ import annotations

import numbers
from collections.abc import Container
from dataclasses import replace

from ...duration import rough_duration
from ...errors import UsageError, printable
from ...free_memory import memory_for
from ..core.reporter import Reporter
from ..core.signals import StopSignals
from .job import Job
from .loop import measure_pace
from .state import Progress

_MOST = 3
"""More than this many times the usual number of epochs teaches hardly anything new."""
_LONGEST = 1_000_000
"""In minutes; this is two years."""


def check_minutes(minutes: float, named: Container[str]) -> None:
    """Refuse an impossible time, or one beside a number of epochs. `named`: the fields of the recipe that were named.

    Raises:
        UsageError: `minutes-out-of-range`, `minutes-with-epochs`.
    """
    if isinstance(minutes, bool) or not isinstance(minutes, numbers.Real) or not 0 < float(minutes) <= _LONGEST:
        raise UsageError(
            "minutes",
            f"expected a number above 0, at most {_LONGEST:,}; received {printable(str(minutes))}",
            hint="use --minutes 5",
            code="minutes-out-of-range",
        )
    if "epochs" in named:
        raise UsageError(
            "minutes",
            "chooses the number of epochs, which was given as well",
            hint="leave --minutes or --epochs out",
            code="minutes-with-epochs",
        )


def within_minutes(job: Job, minutes: float, signals: StopSignals, reporter: Reporter) -> Job:
    """The same job with as many epochs as fit into this time, by its measured steps. The run notes it."""
    with job.engine.thread_count(), memory_for(job.memory.error, job.memory.free):
        pace = measure_pace(job, Progress(), signals)
    usual = job.recipe.epochs
    fit = pace.epochs_within(job.recipe, 60 * minutes)
    recipe = job.recipe.model_copy(update={"epochs": max(1, min(fit, _MOST * usual))})
    time = rough_duration(pace.slower * pace.seconds(recipe))
    if not fit:
        note = f"one epoch takes about {time}, which is more than {minutes:g} min"
        reporter.warn(note)
    else:
        chosen = "1 epoch" if recipe.epochs == 1 else f"{recipe.epochs} epochs"
        note = f"{chosen} instead of {usual}, which take about {time}: {minutes:g} min were given"
        reporter.say(note)
    settings = job.settings.model_copy(update={"recipe": recipe, "notes": (*job.settings.notes, note)})
    return replace(job, settings=settings, pace=pace)
