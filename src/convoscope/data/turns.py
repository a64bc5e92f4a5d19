"""Threads that decode: how much memory they take together, and how they stop when nobody waits for them any more."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

from PIL import Image


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


_KEPT_BLOCKS: Final = 8
"""Of 16 MB, the size in which Pillow asks for a picture's memory: enough for two of 12 million pixels."""


_PILLOW: Final[Any] = Image.core  # type: ignore[attr-defined]  # its setting of memory has no other door


class _KeptBlocks:
    """While anybody decodes in threads, Pillow keeps some memory of the pictures that are done for those that come.
    Given back to the system and taken anew page by page, it is a third of the time of a 12-megapixel JPEG.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._users = self._before = 0

    def __enter__(self) -> None:
        with self._lock:
            if self._users == 0:
                self._before = _PILLOW.get_blocks_max()
                _PILLOW.set_blocks_max(max(self._before, _KEPT_BLOCKS))
            self._users += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._users -= 1
            if self._users == 0:
                _PILLOW.set_blocks_max(self._before)  # which gives back what is beyond it


_BLOCKS: Final = _KeptBlocks()


@contextlib.contextmanager
def decoding_threads(count: int) -> Iterator[ThreadPoolExecutor]:
    """Threads whose queued work is dropped on the way out, by an interruption too; a picture that is being decoded is
    ended.
    """
    stop = threading.Event()
    pool = ThreadPoolExecutor(count, thread_name_prefix="decode", initializer=setattr, initargs=(_THREAD, "stop", stop))
    with _BLOCKS:
        try:
            yield pool
        finally:
            stop.set()
            pool.shutdown(wait=True, cancel_futures=True)
