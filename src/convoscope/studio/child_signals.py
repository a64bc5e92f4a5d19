"""Ending child processes of asyncio."""

from __future__ import annotations

import contextlib
from asyncio.subprocess import Process
from collections.abc import Callable

from .. import posix


def ask_to_end(child: Process) -> None:
    """Let a child save and end, unless it has ended."""
    _send(child, posix.ask_to_end)


def end_at_once(child: Process) -> None:
    """End a child by force, unless it has ended."""
    _send(child, posix.end_at_once)


def _send(child: Process, deed: Callable[[int], None]) -> None:
    """`child.kill()` is not used: it first looks whether the child has ended, and if so takes its exit code. asyncio
    then finds no such child, warns, and reports exit code 255.
    """
    if child.returncode is None:
        with contextlib.suppress(OSError):
            deed(child.pid)
