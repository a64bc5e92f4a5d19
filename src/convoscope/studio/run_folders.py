"""Which folders may be runs. A name in a request is looked up among them, and never becomes part of a path.

Whatever is in one folder, or cannot be read there, never hides another folder.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeVar

from ..errors import ConvoscopeError, printable

WEIGHTS: Final = ("best.safetensors", "last.safetensors", "previous.safetensors")
FIGURES: Final = ("run.toml", "metrics.csv", "test/scores.json")
"""The files that the studio reads of a run besides its weights."""

Stamps = tuple[tuple[int, int, int, int] | None, ...]
"""Inode, size and times of change of some files; None for a file that does not exist."""

Unreadable = dict[str, str]
"""The name of each folder that could not be read, safe to print -> the reason."""

_MOST_NOTES: Final = 5
"""Lines printed in the terminal each time the folders are read."""

T = TypeVar("T")


def read_runs(runs: Path, read: Callable[[Path], T | None]) -> tuple[list[T], Unreadable]:
    """The results of `read` for all folders in `runs` that may be runs, sorted by name; None leaves a folder out.

    A folder without weights is not a run, or not yet. A folder is unreadable if it, or anything that is read in it, is
    a link that leads out of `runs` or is not a file, or if `read` fails in any way.
    """
    found: list[T] = []
    unreadable: Unreadable = {}
    try:
        root, names = _names(runs)
    except FileNotFoundError:
        return found, unreadable
    except OSError as error:
        return found, {printable(runs.name): _reason(error)}
    for name in names:
        try:
            folder = _folder(root, name)
            one = None if folder is None or not _has_weights(folder) else read(folder)
        except Exception as error:
            unreadable[printable(name)] = _reason(error)
        else:
            if one is not None:
                found.append(one)
    return found, unreadable


def find_run(runs: Path, name: str) -> Path | None:
    """The folder with this name in `runs`, if it may be a run and can be read."""
    try:
        root, names = _names(runs)
        return _folder(root, name) if name in names else None
    except (OSError, _Unreadable):
        return None


def _names(runs: Path) -> tuple[Path, list[str]]:
    root = runs.resolve(strict=True)
    return root, sorted(os.listdir(root))


class _Unreadable(Exception):
    """A folder that must not be read, with the reason."""


def _folder(root: Path, name: str) -> Path | None:
    """The folder with this name; None if it is not a folder.

    Raises:
        OSError: the system does not let it be read.
        _Unreadable: it must not be read.
    """
    folder = root / name
    if not folder.is_dir():
        return None
    try:
        name.encode()
    except UnicodeEncodeError:  # cannot be written in JSON
        raise _Unreadable("its name is not valid text") from None
    if not _lies_in(folder, root):
        raise _Unreadable("it is a link that leads out of the folder of runs")
    for part in (*WEIGHTS, *FIGURES):
        path = folder / part
        if not _lies_in(path, root):
            raise _Unreadable(f"{part} is a link that leads out of the folder of runs")
        if not path.is_file() and path.exists():
            raise _Unreadable(f"{part} is not a file")
    return folder


def _has_weights(folder: Path) -> bool:
    return any((folder / part).exists() for part in WEIGHTS)


def _lies_in(path: Path, root: Path) -> bool:
    """Whether `path`, with links followed, is inside the folder `root`, which is not a link itself."""
    return Path(os.path.realpath(path)).is_relative_to(root)


def _reason(error: Exception) -> str:
    if isinstance(error, ConvoscopeError):
        return error.reason
    if isinstance(error, OSError):
        return f"the system says: {printable(error.strerror or type(error).__name__)}"
    return str(error) if isinstance(error, _Unreadable) else f"its content is damaged ({type(error).__name__})"


def stamps(folder: Path, parts: tuple[str, ...]) -> Stamps:
    """Values that change when one of the files, or who may read it, changes."""
    found: list[tuple[int, int, int, int] | None] = []
    for part in parts:
        try:
            status = (folder / part).stat()
        except OSError:
            found.append(None)
        else:
            found.append((status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns))
    return tuple(found)


class SkippedFolders:
    """Prints in the terminal, once for each folder that could not be read, the reason."""

    def __init__(self) -> None:
        self.warn: Callable[[str], object] = lambda _: None
        self._reported: set[tuple[str, str]] = set()
        self._lock = threading.Lock()  # several threads read the folders

    def __call__(self, unreadable: Unreadable) -> list[str]:
        """The names, for the page."""
        with self._lock:
            new = [item for item in unreadable.items() if item not in self._reported]
            self._reported.update(new)
        for name, reason in new[:_MOST_NOTES]:
            self.warn(f"{name}: left out of the list of runs: {reason}")
        if len(new) > _MOST_NOTES:
            self.warn(f"{len(new) - _MOST_NOTES} more folders were left out of the list of runs")
        return list(unreadable)
