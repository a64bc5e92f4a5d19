"""What the loop does with the time of each step: the time left, and the number of threads."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

import torch

from ..core.event_log import EventLog
from ..core.reporter import Reporter
from .job import Job
from .pace import Pace, TimeLeft
from .state import Progress
from .watch import ProcessorWatch


class TrainingClock:
    """Follows one training's time.

    Args:
        job: what is trained.
        pace: how long its parts take.
        progress: how far it is; what its steps were computed on is noted there.
        log: hears of every change of the number of threads.
        reporter: hears how long it still takes.
    """

    def __init__(self, job: Job, pace: Pace, progress: Progress, log: EventLog, reporter: Reporter) -> None:
        self._job = job
        self._pace = pace
        self._progress = progress
        self._log = log
        self._reporter = reporter
        self._left = TimeLeft(job.recipe, pace)
        engine = job.engine
        fixed = engine.threads_fixed or engine.device != "cpu"
        self._watch = ProcessorWatch(engine.threads, fixed, reporter.say)

    def tell(self) -> None:
        """Tell the reporter how long it still takes."""
        self._reporter.time_left(self._left.seconds(self._progress.epoch, self._progress.step))

    def step(self, took: float) -> None:
        """A step took so many seconds and is counted."""
        progress, watch = self._progress, self._watch
        measured = self._pace.at(self._job.recipe, progress.epoch).step
        self._left.note(took, measured)
        threads = watch.threads
        progress.threads = min(progress.threads or threads, threads)
        watch.step(took, measured)
        if watch.threads != threads:
            torch.set_num_threads(watch.threads)
            self._log.event("threads", threads=watch.threads, epoch=progress.epoch + 1, step=progress.step)
        self.tell()

    @contextlib.contextmanager
    def validation(self) -> Iterator[None]:
        """While this is open, the validation part is measured."""
        begin = time.perf_counter()
        yield
        self._left.note(time.perf_counter() - begin, self._pace.at(self._job.recipe, self._progress.epoch).validation)
