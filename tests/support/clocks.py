"""An event loop that never waits for time to pass."""

import asyncio
import selectors


class _Skipping(selectors.DefaultSelector):
    """Where it would wait for a timer, it skips that time."""

    skipped = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(timeout if timeout is None else 0)
        if not ready and timeout:
            self.skipped += timeout
        return ready


class SkippingLoop(asyncio.SelectorEventLoop):
    """Its clock stands still while code runs, and jumps to the next timer when there is nothing left to run.

    With it, a test of time limits takes no time and does not depend on how busy the machine is. Not for code that
    waits for threads or processes.
    """

    def __init__(self) -> None:
        self._skipping = _Skipping()
        super().__init__(self._skipping)

    def time(self) -> float:
        """Seconds that have been skipped."""
        return self._skipping.skipped
