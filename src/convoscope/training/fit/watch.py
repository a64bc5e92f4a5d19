"""What to do when other programs keep the processor busy: go on with one thread, and come back when it is quiet.

The threads of a step wait for each other dozens of times, so that one that waits for a core holds up all. One thread
alone has nobody to wait for. Weights then differ in their last digits from those of an undisturbed training: sums are
added up in another order. So each epoch's row says on how few threads it was computed.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable

_SLOW = 3.0
"""How many times as long as measured before the training a step must take before one thread is tried."""
_STEPS = 5
_LOOK = 5.0
"""A judgement needs this many steps and seconds."""
_TRY = 2.0
"""A trial of another number of threads takes at least this many seconds."""
_BETTER = 0.85
"""One number of threads replaces the other if its steps take at most this share."""
_WAIT, _LONGEST_WAIT = 30.0, 240.0
"""Seconds between two trials: at first, and at most."""


class ProcessorWatch:
    """Decides after each step on how many threads the next one is computed.

    Args:
        threads: how many the training computes on, if nothing disturbs it.
        fixed: whether it has to stay so.
        say: tells people what was decided.

    Attributes:
        threads: of the next step.
    """

    def __init__(self, threads: int, fixed: bool, say: Callable[[str], None]) -> None:
        self.threads = threads
        self._all = threads
        self._fixed = fixed or threads == 1
        self._say = say
        self._ratios: list[float] = []
        self._seconds = 0.0
        self._trying = False
        self._before = 0.0
        self._pause = 0.0
        self._wait = _WAIT

    def step(self, took: float, measured: float) -> None:
        """A step took `took` seconds; `measured`: what it takes on a machine that does nothing else."""
        if self._fixed:
            return
        self._ratios.append(took / max(measured, 1e-9))
        self._seconds += took
        self._pause = max(0.0, self._pause - took)
        if len(self._ratios) < _STEPS or self._seconds < (_TRY if self._trying else _LOOK):
            return
        ratio = statistics.median(self._ratios)
        self._ratios, self._seconds = [], 0.0
        if self._trying:
            self._judge(ratio)
        elif not self._pause and (self.threads < self._all or ratio >= _SLOW):
            self._trying, self._before = True, ratio
            self._change()

    def _judge(self, ratio: float) -> None:
        """Stay with the number of threads that was tried, or go back to the other one."""
        self._trying = False
        if ratio <= _BETTER * self._before:
            self._pause = self._wait = _WAIT
            if self.threads < self._all:
                self._say("another program keeps the processor busy: going on with 1 thread")
            else:
                self._say(f"the processor is free again: going on with {self._all} threads")
        else:
            self._change()
            self._wait = min(2 * self._wait, _LONGEST_WAIT)
            self._pause = self._wait

    def _change(self) -> None:
        self.threads = self._all if self.threads < self._all else 1
