"""`train`, `relearn`, `resume`, `test` and `compare` as the package offers them: the rooms' own functions, with
progress shown on a terminal or in a notebook.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import wraps
from pathlib import Path
from typing import Any, ParamSpec, cast

from . import evaluation, training
from .notebook import NotebookReporter, in_notebook
from .search import Search
from .search import search as _search
from .terminal import default_reporter
from .training import Listening, Reporter, Run, one_reporter

Arguments = ParamSpec("Arguments")


def _with_progress(function: Callable[Arguments, Run]) -> Callable[Arguments, Run]:
    """The same function, with the display that suits the place; `reporter` names further ones, one or several."""

    @wraps(function)
    def reporting(*arguments: Arguments.args, **options: Arguments.kwargs) -> Run:
        options["reporter"] = reporter_for(cast(Listening, options.get("reporter", ())))
        return function(*arguments, **options)

    return reporting


def reporter_for(given: Listening) -> Reporter:
    """The display of a notebook or a terminal, with the given reporters beside it; None: silence."""
    if given is None:
        return Reporter()
    one_reporter(given)
    display = NotebookReporter() if in_notebook() else default_reporter()
    return one_reporter([display, *([given] if isinstance(given, Reporter) else given)])


train = _with_progress(training.train)
relearn = _with_progress(training.relearn)
resume = _with_progress(training.resume)


@wraps(training.find_learning_rate)
def find_learning_rate(*arguments: Any, reporter: Listening = (), **options: Any) -> training.LearningRates:
    return training.find_learning_rate(*arguments, reporter=reporter_for(reporter), **options)


@wraps(_search)
def search(*arguments: Any, reporter: Listening = (), **options: Any) -> Search:
    return _search(*arguments, reporter=reporter_for(reporter), **options)


@wraps(evaluation.compare)
def compare(runs: Sequence[Run | str | os.PathLike[str]]) -> evaluation.Comparison:
    return evaluation.compare([_opened(run) for run in runs])


@wraps(evaluation.test)
def test(
    run: Run | str | os.PathLike[str],
    *arguments: Any,
    reporter: Listening = (),
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
