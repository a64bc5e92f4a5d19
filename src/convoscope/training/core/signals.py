"""Stopping on request: Ctrl-C, SIGTERM and SIGHUP let a batch end, the state be saved, and the process leave."""

from __future__ import annotations

import os
import signal
import sys
import threading
from types import FrameType
from typing import Any

from ...errors import Interrupted
from ...posix import STOP_SIGNALS


class StopSignals:
    """While this context is open, the first signal is remembered in `number`; a second one ends the process at once,
    or, in a notebook, the training: its kernel holds everything else that somebody has made.

    Until `defer` is called there is nothing to save, and the first signal leaves the context at once, by `Interrupted`.
    On its way there it is a `KeyboardInterrupt`, which no library's `except Exception` catches.
    Outside the main thread signals cannot be caught, and nothing changes.
    """

    def __init__(self) -> None:
        self.number = 0
        self._deferred = False
        self._previous: dict[int, Any] = {}

    def defer(self) -> None:
        """From now on the first signal only sets `number`; the training loop checks it after every batch."""
        self._deferred = True

    def __enter__(self) -> StopSignals:
        if threading.current_thread() is threading.main_thread():
            self._previous = {number: signal.signal(number, self._on_signal) for number in STOP_SIGNALS}
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        if kind is KeyboardInterrupt and self.number and self._deferred:
            reason = "stopped at once; the training is saved up to its last checkpoint"
            raise Interrupted("", reason, code="interrupted-twice", signal=self.number) from None
        if kind is KeyboardInterrupt and self.number:
            raise Interrupted(
                "", "stopped before training began; nothing was changed", code="interrupted-early", signal=self.number
            ) from None

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        if self.number and "ipykernel" in sys.modules:
            raise KeyboardInterrupt
        if self.number:
            os._exit(128 + number)  # every write is atomic, so nothing can be half done
        self.number = number
        if not self._deferred:
            raise KeyboardInterrupt
