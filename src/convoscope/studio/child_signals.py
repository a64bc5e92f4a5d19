"""Signals to child processes of asyncio."""

from __future__ import annotations

import contextlib
import os
from asyncio.subprocess import Process


def signal_child(child: Process, number: int) -> None:
    """Send a signal, unless the child has ended.

    Not by `child.kill()`: that looks first whether the child has ended, and if so takes its exit code. asyncio, which
        waits for
    the same, then finds no such child, warns of it, and reports 255.
    """
    if child.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(child.pid, number)
