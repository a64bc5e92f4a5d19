"""Threads that decode: how much memory they take together, and how they stop when nobody waits for them any more."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Final


class Turns:
    """At most this many bytes are in use at once; whoever needs more waits. Whatever is larger gets all of it alone."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._used = 0
        self._changed = threading.Condition()

    @contextlib.contextmanager
    def take(self, count: int) -> Iterator[None]:
        """Use `count` bytes.

        Raises:
            Abandoned: while it waited its pool was given up.
        """
        with self._changed:
            while self._used and self._used + count > self._most:
                # Woken now and then to see whether anybody still wants the picture.
                self._changed.wait(0.1)
                if abandoned():
                    raise Abandoned
            self._used += count
        try:
            yield
        finally:
            with self._changed:
                self._used -= count
                self._changed.notify_all()


class Abandoned(Exception):
    """Nobody waits for this thread's work any more. It ends in the pool and is never seen outside."""


_THREAD: Final = threading.local()


def abandoned() -> bool:
    """Whether this is a thread of a pool that was given up; it looks between two pictures."""
    stop: threading.Event | None = getattr(_THREAD, "stop", None)
    return stop is not None and stop.is_set()


@contextlib.contextmanager
def decoding_threads(count: int) -> Iterator[ThreadPoolExecutor]:
    """Threads whose queued work is dropped on the way out, by an interruption too; a picture that is being decoded is
    ended.
    """
    stop = threading.Event()
    pool = ThreadPoolExecutor(count, thread_name_prefix="decode", initializer=setattr, initargs=(_THREAD, "stop", stop))
    try:
        yield pool
    finally:
        stop.set()
        pool.shutdown(wait=True, cancel_futures=True)
