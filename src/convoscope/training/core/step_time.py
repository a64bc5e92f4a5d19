"""How long something takes on a machine that does nothing else, measured on one that may be busy."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

_UNDISTURBED = 0.02
"""The largest share of a step that threads may have waited for a core."""
_SETTLED = 1.05
"""A time is known once the third-least is at most this many times the least."""


class StepTimes:
    """The times of the same step, made several times.

    A time counts as it is only where no thread of ours waited for a core. Where one always did, the processor time of
    the thread that leads the step counts, which waiting does not lengthen.

    Args:
        device: where the step is computed.
    """

    def __init__(self, device: str) -> None:
        self._on_processor = device == "cpu"
        self._undisturbed: list[float] = []
        self._processor: list[float] = []
        self._wall: list[float] = []

    def __len__(self) -> int:
        return len(self._wall)

    def measure(self, step: Callable[[], object]) -> None:
        """Make the step once more."""
        waited, begin, worked = _waited(), time.perf_counter(), time.thread_time()
        step()
        worked, taken = time.thread_time() - worked, time.perf_counter() - begin
        waited = _waited() - waited
        self._wall.append(taken)
        self._processor.append(worked if self._on_processor else taken)
        if waited <= _UNDISTURBED * taken:
            self._undisturbed.append(taken)

    @property
    def seconds(self) -> float:
        """The least a step takes on a machine that does nothing else."""
        return min(self._times)

    @property
    def settled(self) -> bool:
        """Whether further steps would hardly change `seconds`."""
        return len(self._times) > 2 and sorted(self._times)[2] <= _SETTLED * self.seconds

    @property
    def total(self) -> float:
        """The seconds that all of them took, waiting included."""
        return sum(self._wall)

    @property
    def _times(self) -> list[float]:
        return self._undisturbed or self._processor


def _waited() -> float:
    """Seconds that the threads of this process have been ready to run but without a core, by Linux's account of each
    (https://docs.kernel.org/scheduler/sched-stats.html); 0 on other systems.
    """
    total = 0
    try:
        for task in os.listdir("/proc/self/task"):
            with open(f"/proc/self/task/{task}/schedstat", "rb") as file:
                total += int(file.read().split()[1])
    except (OSError, ValueError, IndexError):  # no such account, or a thread that has just ended
        return 0.0
    return total / 1e9
