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
from .terminal import default_reporter
from .training import Run

Arguments = ParamSpec("Arguments")


def _with_progress(function: Callable[Arguments, Run]) -> Callable[Arguments, Run]:
    """The same function, with the default reporter unless one is given."""

    @wraps(function)
    def reporting(*arguments: Arguments.args, **options: Arguments.kwargs) -> Run:
        options.setdefault("reporter", default_reporter())
        return function(*arguments, **options)

    return reporting


train = _with_progress(training.train)
relearn = _with_progress(training.relearn)
resume = _with_progress(training.resume)


@wraps(evaluation.compare)
def compare(runs: Sequence[Run | str | os.PathLike[str]]) -> evaluation.Comparison:
    return evaluation.compare([_opened(run) for run in runs])


@wraps(evaluation.test)
def test(run: Run | str | os.PathLike[str], *arguments: Any, **options: Any) -> evaluation.Scores:
    return evaluation.test(_opened(run), *arguments, **options)


def _opened(run: Run | str | os.PathLike[str]) -> Run:
    return run if isinstance(run, Run) else Run.open(Path(run))
