"""`train`, `relearn`, `resume`, `test` and `compare` as the package offers them: the rooms' own functions, with
progress shown on a terminal or in a notebook.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import wraps
from pathlib import Path
from typing import Any, ParamSpec

from . import evaluation, training
from .errors import UsageError, printable
from .notebook import NotebookReporter, in_notebook
from .terminal import default_reporter
from .training import Reporter, Reporters, Run

Arguments = ParamSpec("Arguments")


def _with_progress(function: Callable[Arguments, Run]) -> Callable[Arguments, Run]:
    """The same function, with the display that suits the place; `reporter` names further ones, one or several."""

    @wraps(function)
    def reporting(*arguments: Arguments.args, **options: Arguments.kwargs) -> Run:
        options["reporter"] = reporter_for(options.get("reporter", ()))
        return function(*arguments, **options)

    return reporting


def reporter_for(given: object) -> Reporter:
    """The display of a notebook or a terminal, with the `given` reporters beside it; None: silence.

    Raises:
        UsageError: it is something other than reporters (`reporter-unknown`).
    """
    if given is None:
        return Reporter()
    others = [given] if isinstance(given, Reporter) else given
    if not isinstance(others, Sequence) or not all(isinstance(other, Reporter) for other in others):
        raise UsageError(
            "reporter",
            f"expected a convoscope.Reporter, or several; received {printable(repr(given))[:80]}",
            hint="for instance reporter=convoscope.trackers.MLflow()",
            code="reporter-unknown",
        )
    display = NotebookReporter() if in_notebook() else default_reporter()
    return Reporters(display, others) if others else display


train = _with_progress(training.train)
relearn = _with_progress(training.relearn)
resume = _with_progress(training.resume)


@wraps(evaluation.compare)
def compare(runs: Sequence[Run | str | os.PathLike[str]]) -> evaluation.Comparison:
    return evaluation.compare([_opened(run) for run in runs])


@wraps(evaluation.test)
def test(
    run: Run | str | os.PathLike[str],
    *arguments: Any,
    reporter: Reporter | Sequence[Reporter] | None = (),
    **options: Any,
) -> evaluation.Scores:
    listening, opened = reporter_for(reporter), _opened(run)
    options.setdefault("progress", lambda done, total: listening.progress("testing", done, total))
    try:
        scores = evaluation.test(opened, *arguments, **options)
    finally:
        listening.end()
    listening.tested(opened.folder, scores.split, scores.figures())
    return scores


def _opened(run: Run | str | os.PathLike[str]) -> Run:
    return run if isinstance(run, Run) else Run.open(Path(run))
