"""What only POSIX systems (Linux, macOS) offer: locks on files, limits of a process, signals to stop.

Everything here has no counterpart elsewhere that is as good: a lock that the system frees when its owner dies, however
it dies, is what keeps runs and the cache whole. So on other systems the import fails, with a plain sentence.
"""

from __future__ import annotations

import os

if os.name != "posix":
    raise ImportError("convoscope runs on Linux and macOS; on Windows, use it inside WSL (aka.ms/wsl)")

import fcntl
import resource
import select
import signal
from typing import IO, Any, Final, Literal

STOP_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Ctrl-C, the polite end, and a terminal that is closed."""

Limit = Literal["cpu seconds", "file bytes", "core bytes", "open files", "processes", "memory bytes"]
_LIMITS: Final[dict[Limit, int]] = {
    "cpu seconds": resource.RLIMIT_CPU,
    "file bytes": resource.RLIMIT_FSIZE,
    "core bytes": resource.RLIMIT_CORE,
    "open files": resource.RLIMIT_NOFILE,
    "processes": resource.RLIMIT_NPROC,
    "memory bytes": resource.RLIMIT_AS,
}


def lock_file(file: int | IO[Any], *, shared: bool = False, wait: bool = False) -> None:
    """Lock an open file until it is closed, by whoever and however.

    Args:
        file: the file, or its descriptor.
        shared: let others hold it too, if they share it as well.
        wait: until it is free.

    Raises:
        BlockingIOError: somebody else holds it, and `wait` is not set.
        OSError: the file system knows no locks.
    """
    fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | (0 if wait else fcntl.LOCK_NB))


def limit_process(kind: Limit, most: int) -> None:
    """Let this process use at most this much, for the rest of its life. A lower limit that it has already stays.

    Raises:
        OSError, ValueError: the system does not know this limit.
    """
    _, hard = resource.getrlimit(_LIMITS[kind])
    most = most if hard == resource.RLIM_INFINITY else min(most, hard)
    resource.setrlimit(_LIMITS[kind], (most, most))


def memory_limit() -> int | None:
    """Bytes of address space that this process may have (`ulimit -v`), or None."""
    most = resource.getrlimit(resource.RLIMIT_AS)[0]
    return None if most == resource.RLIM_INFINITY else most


def page_bytes() -> int:
    """Bytes of a page of memory."""
    return resource.getpagesize()


def usable_cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def has_reader(file: int) -> bool:
    """Whether somebody may read what is written into this descriptor. Nobody does once a pipe's other end is closed."""
    poll = select.poll()
    poll.register(file, 0)  # an error and a hang-up are always told
    return not any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0))
