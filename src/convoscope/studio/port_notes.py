"""Notes of which studio of this user has which port, for the message that a port is in use."""

from __future__ import annotations

import contextlib
import json
import os
import stat
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import platformdirs

from ..parsing import parse_json
from ..posix import is_only_ours, lock_file, open_file


def _note(port: int) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that the folder may be a shared one: see `_is_ours`
        return Path(platformdirs.user_runtime_dir("convoscope", appauthor=False)) / f"studio-{port}.json"


@contextlib.contextmanager
def noted(port: int, runs: Path) -> Iterator[None]:
    """Inside, a file says which studio uses this port. A lock on the file ends with the process, however that ends.

    The file contains no token, and only its user may read it. If it cannot be written, the studio runs without it.
    """
    path = _note(port)
    with contextlib.ExitStack() as cleanup:
        with contextlib.suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            if _is_ours(path.parent):
                descriptor = open_file(path, os.O_RDWR | os.O_CREAT, mode=0o600, follow=False)
                file = cleanup.enter_context(open(descriptor, "w", encoding="utf-8"))
                lock_file(file)
                file.truncate(0)
                file.write(" ")  # the lock may keep others from reading the first byte
                url = f"http://127.0.0.1:{port}/"
                json.dump({"pid": os.getpid(), "runs": str(runs.absolute()), "url": url}, file)
                file.flush()
                cleanup.callback(_remove, path)
        yield


def running(port: int) -> dict[str, Any] | None:
    """The pid, folder of runs and address of this user's studio on a port; None if no studio is known there."""
    path = _note(port)
    try:
        if not _is_ours(path.parent):
            return None
        with open(open_file(path, os.O_RDONLY, follow=False), encoding="utf-8") as file:
            try:
                lock_file(file)
            except BlockingIOError:
                file.seek(1)
                note = parse_json(file.read(10_000).encode())
                return {key: note[key] for key in ("pid", "runs", "url")}
    except (OSError, ValueError, KeyError, TypeError):
        pass
    return None


def _is_ours(folder: Path) -> bool:
    """Whether nobody else can write in it: without a folder of the user's own it is in a shared one, where another user
    may have created it first.
    """
    status = folder.lstat()
    return stat.S_ISDIR(status.st_mode) and is_only_ours(status)


def _remove(path: Path) -> None:
    with contextlib.suppress(OSError):  # Windows keeps what is open; without its lock the note says nothing
        path.unlink()
