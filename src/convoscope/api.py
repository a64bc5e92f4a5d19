"""`train`, `relearn`, `resume`, `test` and `compare` as the package offers them: the rooms' own functions, with
progress shown where somebody looks on.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import wraps
from pathlib import Path
from typing import Any

from . import evaluation, training
from .terminal import default_reporter
from .training import Run
from .training import relearn as _relearn
from .training import resume as _resume
from .training import train as _train


@wraps(_train)
def train(*arguments: Any, **options: Any) -> Run:
    return _train(*arguments, **{"reporter": default_reporter()} | options)


@wraps(_relearn)
def relearn(*arguments: Any, **options: Any) -> Run:
    return _relearn(*arguments, **{"reporter": default_reporter()} | options)


@wraps(_resume)
def resume(*arguments: Any, **options: Any) -> Run:
    return _resume(*arguments, **{"reporter": default_reporter()} | options)


@wraps(evaluation.compare)
def compare(runs: Sequence[Run | str | os.PathLike[str]]) -> evaluation.Comparison:
    return evaluation.compare([run if isinstance(run, training.Run) else training.Run.open(Path(run)) for run in runs])


@wraps(evaluation.test)
def test(run: Run | str | os.PathLike[str], *arguments: Any, **options: Any) -> evaluation.Scores:
    opened = run if isinstance(run, training.Run) else training.Run.open(Path(run))
    return evaluation.test(opened, *arguments, **options)
