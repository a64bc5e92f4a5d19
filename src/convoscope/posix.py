"""What operating systems do differently: locks on files, limits of a process, signals, how files are opened.

Linux, macOS and Windows. All that one of them lacks is asked for here and nowhere else, by looking for it and not by
the system's name, so that the rest of convoscope is the same everywhere. Where Windows has no counterpart, the function
says what holds there instead.
"""

from __future__ import annotations

import importlib
import mmap
import os
import select
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable
from typing import IO, Any, Final, Literal


def _module(name: str) -> Any:
    """A module of the standard library that not every system has, or None."""
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


_fcntl, _resource = _module("fcntl"), _module("resource")

OPEN_FILES_MOVE: Final = hasattr(os, "fork")
"""Whether a file that is open may be renamed, replaced and removed, as on Linux and macOS. On Windows neither it nor a
folder that it is in may be.
"""

STOP_SIGNALS: Final = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK") if hasattr(signal, name)
)
"""Ctrl-C, the polite end, a terminal that is closed, and what Windows has in the place of the polite end."""

Limit = Literal["cpu seconds", "file bytes", "core bytes", "open files", "processes", "memory bytes"]
_LIMITS: Final[dict[Limit, str]] = {
    "cpu seconds": "RLIMIT_CPU",
    "file bytes": "RLIMIT_FSIZE",
    "core bytes": "RLIMIT_CORE",
    "open files": "RLIMIT_NOFILE",
    "processes": "RLIMIT_NPROC",
    "memory bytes": "RLIMIT_AS",
}


# --- files ------------------------------------------------------------------------------------------------------------


def lock_file(file: int | IO[Any], *, shared: bool = False, wait: bool = False) -> None:
    """Lock an open file until it is closed, by whoever and however.

    On Windows the lock keeps others from reading the file's first byte, too. There a shared lock does nothing: that the
    file is open already keeps its folder in its place.

    Args:
        file: the file, or its descriptor.
        shared: let others hold it too, if they share it as well.
        wait: until it is free.

    Raises:
        BlockingIOError: somebody else holds it, and `wait` is not set.
        OSError: the file system knows no locks.
    """
    if _fcntl is not None:
        _fcntl.flock(file, (_fcntl.LOCK_SH if shared else _fcntl.LOCK_EX) | (0 if wait else _fcntl.LOCK_NB))
    elif not shared:
        import filelock

        if not filelock.lock_descriptor(file if isinstance(file, int) else file.fileno(), blocking=wait):
            raise BlockingIOError("another process holds the lock")


def open_file(path: str | os.PathLike[str], flags: int, *, mode: int = 0o666, follow: bool = True) -> int:
    """`os.open` of bytes, not inherited by child processes. A named pipe does not hang.

    Args:
        path: the file.
        flags: such as `os.O_RDONLY`.
        mode: the rights of a new file.
        follow: links; where they are not, one is refused with an OSError (on Windows it is followed).
    """
    for name in ("O_NONBLOCK", "O_CLOEXEC", "O_BINARY", "O_NOINHERIT", *(() if follow else ("O_NOFOLLOW",))):
        flags |= getattr(os, name, 0)
    return os.open(path, flags, mode)


_turn = threading.Lock()


def read_at(descriptor: int, count: int, position: int) -> bytes:
    """Up to `count` bytes from a position of an open file; any number of threads may do it at once."""
    if hasattr(os, "pread"):
        return os.pread(descriptor, count, position)
    with _turn:
        os.lseek(descriptor, position, os.SEEK_SET)
        return os.read(descriptor, count)


_PATIENCE_SECONDS: Final = 2.0


def replace_file(source: str | os.PathLike[str], target: str | os.PathLike[str]) -> None:
    """`os.replace`. Where a file that somebody reads cannot be replaced, it is tried for a while: virus scanners and
    search indexes open each new file for a moment.
    """
    _patiently(os.replace, source, target)


def rename(source: str | os.PathLike[str], target: str | os.PathLike[str]) -> None:
    """`os.rename`, with the same patience."""
    _patiently(os.rename, source, target)


def _patiently(
    move: Callable[[Any, Any], None], source: str | os.PathLike[str], target: str | os.PathLike[str]
) -> None:
    end = time.monotonic() + (0 if OPEN_FILES_MOVE else _PATIENCE_SECONDS)
    while True:
        try:
            move(source, target)
        except PermissionError:
            if time.monotonic() >= end:
                raise
            time.sleep(0.05)
        else:
            return


def sync_entries(folder: str | os.PathLike[str]) -> None:
    """Let the names in a folder last through a power cut. Windows cannot open a folder, and does this by itself.

    Raises:
        OSError: the file system cannot.
    """
    if not hasattr(os, "O_DIRECTORY"):
        return
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def is_only_ours(status: os.stat_result) -> bool:
    """Whether a folder is this user's and nobody else may write into it. Windows says nothing of that here; there a
    user's folders for temporary files are the user's own.
    """
    return not hasattr(os, "geteuid") or (status.st_uid == os.geteuid() and not status.st_mode & 0o022)


_RESERVED: Final = frozenset(
    ("con", "prn", "aux", "nul", *(f"{port}{number}" for port in ("com", "lpt") for number in range(10)))
)


def portable_stem(stem: str) -> str:
    """A file's name without its ending, changed where it would name a device of Windows, such as `aux`."""
    return f"{stem}-" if stem.partition(".")[0].lower() in _RESERVED else stem


# --- processes --------------------------------------------------------------------------------------------------------


def limit_process(kind: Limit, most: int) -> None:
    """Let this process use at most this much, for the rest of its life. A lower limit that it has already stays.

    Windows knows no such limits, and nothing changes.

    Raises:
        OSError, ValueError: the system does not know this limit.
    """
    if _resource is None:
        return
    name = getattr(_resource, _LIMITS[kind])
    _, hard = _resource.getrlimit(name)
    most = most if hard == _resource.RLIM_INFINITY else min(most, hard)
    _resource.setrlimit(name, (most, most))


def memory_limit() -> int | None:
    """Bytes of address space that this process may have (`ulimit -v`), or None."""
    if _resource is None:
        return None
    most = int(_resource.getrlimit(_resource.RLIMIT_AS)[0])
    return None if most == _resource.RLIM_INFINITY else most


def page_bytes() -> int:
    """Bytes of a page of memory."""
    return mmap.PAGESIZE


def usable_cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def is_root() -> bool:
    """Whether this process may do anything on the machine. Not asked on Windows."""
    return hasattr(os, "geteuid") and os.geteuid() == 0


def apart_and_patient(niceness: int) -> dict[str, Any]:
    """Arguments for a new process: Ctrl-C in the terminal is not for it, and on Windows others go first (elsewhere see
    `be_patient`).
    """
    group: int = getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0)
    slow: int = getattr(subprocess, "BELOW_NORMAL_PRIORITY_CLASS", 0) if niceness else 0
    return {"creationflags": group | slow} if group else {"process_group": 0}


def be_patient(process: int, niceness: int) -> None:
    """Let other processes go first.

    Raises:
        OSError: it has ended already.
    """
    if hasattr(os, "setpriority"):
        os.setpriority(getattr(os, "PRIO_PROCESS", 0), process, niceness)


def ask_to_end(process: int) -> None:
    """Let a process that was started `apart_and_patient` save and end.

    Raises:
        OSError: it has ended already.
    """
    os.kill(process, getattr(signal, "CTRL_BREAK_EVENT", signal.SIGTERM))


def end_at_once(process: int) -> None:
    """End a process by force.

    Raises:
        OSError: it has ended already.
    """
    os.kill(process, getattr(signal, "SIGKILL", signal.SIGTERM))  # on Windows SIGTERM cannot be caught either


def has_reader(file: int) -> bool:
    """Whether somebody may read what is written into this descriptor. Nobody does once a pipe's other end is closed,
    which Windows tells only when something is written.
    """
    if not hasattr(select, "poll"):
        return True
    poll = select.poll()
    poll.register(file, 0)  # an error and a hang-up are always told
    return all(not event for _, event in poll.poll(0))


# --- network ----------------------------------------------------------------------------------------------------------


def take_port_alone(listener: socket.socket) -> None:
    """Before a socket is bound: its port may be taken again at once after a restart, but not by two at a time."""
    if hasattr(socket, "SO_EXCLUSIVEADDRUSE"):  # on Windows SO_REUSEADDR would let another program share the port
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_EXCLUSIVEADDRUSE, 1)
    else:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)


def give_up_sending(connection: socket.socket, seconds: float) -> None:
    """Close a connection whose other end does not take what was sent for so long. Only Linux knows this."""
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, round(seconds * 1000))
