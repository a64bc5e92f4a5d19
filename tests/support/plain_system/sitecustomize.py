"""Makes Python on Linux a system without POSIX, for whatever has this folder in PYTHONPATH, child processes included.

What only POSIX systems have is not there: modules, functions, signals, flags. And files that are open behave as on
Windows: neither they nor a folder around them can be renamed, replaced or removed. What libraries and the standard
library use of it on this system they get before it is taken away, as theirs is another way on Windows.
"""

import _posixsubprocess  # noqa: F401
import asyncio  # noqa: F401
import concurrent.futures  # noqa: F401
import errno
import multiprocessing.util  # noqa: F401
import os
import select
import shutil
import signal
import socket
import subprocess  # noqa: F401
import sys
import tempfile  # noqa: F401
from collections.abc import Callable
from typing import Any

import filelock

filelock.lock_descriptor  # it loads its parts when they are first asked for

MODULES = ("fcntl", "resource", "termios", "tty", "pty", "pwd", "grp", "syslog", "readline", "curses")
NAMES: dict[Any, str] = {
    os: """
        fork forkpty killpg setsid getpgid setpgid getsid geteuid getegid getgid setuid setgid setgroups getgroups
        getlogin nice setpriority getpriority PRIO_PROCESS sched_getaffinity sched_setaffinity sched_yield getloadavg sysconf
        fstatvfs pread pwrite preadv pwritev readv writev sendfile fchmod chown lchown fchown mkfifo mknod openpty
        ttyname ctermid sync fdatasync posix_fadvise posix_fallocate lockf memfd_create getxattr setxattr pipe2 chroot
        fchdir O_NONBLOCK O_CLOEXEC O_NOFOLLOW O_DIRECTORY O_PATH O_SYNC O_DSYNC O_NOCTTY
    """,
    signal: """
        SIGHUP SIGKILL SIGBUS SIGUSR1 SIGUSR2 SIGQUIT SIGALRM SIGPIPE SIGCONT SIGSTOP SIGTSTP SIGXCPU SIGXFSZ SIGWINCH
        setitimer getitimer alarm pause pthread_sigmask pthread_kill sigwait sigpending siginterrupt
    """,
    select: "poll",
    socket: "TCP_USER_TIMEOUT SCM_RIGHTS CMSG_LEN CMSG_SPACE",
    errno: "EREMOTEIO",
}


def _open_files() -> list[str]:
    found = []
    for descriptor in os.listdir("/proc/self/fd"):
        try:
            found.append(os.readlink(f"/proc/self/fd/{descriptor}"))  # noqa: PTH115 - pathlib calls what is guarded here
        except OSError:
            continue
    with open("/proc/self/maps", encoding="utf-8", errors="surrogateescape") as maps:
        found += [line.split(maxsplit=5)[5].rstrip("\n") for line in maps if len(line.split()) > 5]
    return found


def _guarded(deed: Callable[..., Any], places: int) -> Callable[..., Any]:
    def guarded(*arguments: Any, **more: Any) -> Any:
        if not more:
            for path in map(os.path.realpath, map(os.fsdecode, arguments[:places])):
                if any(name == path or name.startswith(path + os.sep) for name in _open_files()):
                    raise PermissionError(errno.EACCES, "it is open", path)
        return deed(*arguments, **more)

    return guarded


for module in MODULES:
    sys.modules[module] = None  # type: ignore[assignment]
for holder, names in NAMES.items():
    for name in names.split():
        if hasattr(holder, name):
            delattr(holder, name)
for name, places in (("rename", 2), ("replace", 2), ("unlink", 1), ("remove", 1), ("rmdir", 1)):
    setattr(os, name, _guarded(getattr(os, name), places))
shutil._use_fd_functions = False  # type: ignore[attr-defined]
shutil._USE_CP_SENDFILE = False  # type: ignore[attr-defined]
