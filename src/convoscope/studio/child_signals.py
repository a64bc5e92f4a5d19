"""Signals to child processes of asyncio."""

from __future__ import annotations

import contextlib
import os
from asyncio.subprocess import Process


def signal_child(child: Process, number: int) -> None:
    """Send a signal, unless the child has ended.

    `child.kill()` is not used: it first looks whether the child has ended, and if so takes its exit code. asyncio then
    finds no such child, warns, and reports exit code 255.
    """
    if child.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(child.pid, number)
