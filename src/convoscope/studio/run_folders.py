"""Which folders may be runs. What a request names is looked up here by name, and never made into a path.

Each folder stands for itself: whatever lies in one, or may not be read in it, hides no other.
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
"""What the studio reads of a run besides its weights."""

Stamps = tuple[tuple[int, int, int, int] | None, ...]
"""Inode, size and times of change of some files; None: there is no such file."""

Unreadable = dict[str, str]
"""Of each folder that could not be read its name, safe to print, and why not."""

_MOST_NOTES: Final = 5
"""Lines in the terminal from one look at the folders."""

T = TypeVar("T")


def read_runs(runs: Path, read: Callable[[Path], T | None]) -> tuple[list[T], Unreadable]:
    """What `read` makes of each folder in `runs` that may be a run, by name; None leaves it out.

    What holds no weights is no run, or none yet. A folder is unreadable if it, or anything that is read in it, is a
    link that leads out of `runs`, or no file, or if `read` fails with whatever it may be.
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
    """The folder of this name in `runs`, if it may be a run and can be read."""
    try:
        root, names = _names(runs)
        return _folder(root, name) if name in names else None
    except (OSError, _Unfit):
        return None


def _names(runs: Path) -> tuple[Path, list[str]]:
    root = runs.resolve(strict=True)
    return root, sorted(os.listdir(root))


class _Unfit(Exception):
    """A folder that is not to be read, with the reason."""


def _folder(root: Path, name: str) -> Path | None:
    """The folder; None if it is none.

    Raises:
        OSError: the system does not let it be read.
        _Unfit: it is not to be read.
    """
    folder = root / name
    if not folder.is_dir():
        return None
    try:
        name.encode()
    except UnicodeEncodeError:  # cannot be said in JSON
        raise _Unfit("its name is no text") from None
    if not _lies_in(folder, root):
        raise _Unfit("it is a link that leads out of the folder of runs")
    for part in (*WEIGHTS, *FIGURES):
        path = folder / part
        if not _lies_in(path, root):
            raise _Unfit(f"{part} is a link that leads out of the folder of runs")
        if not path.is_file() and path.exists():
            raise _Unfit(f"{part} is no file")
    return folder


def _has_weights(folder: Path) -> bool:
    return any((folder / part).exists() for part in WEIGHTS)


def _lies_in(path: Path, root: Path) -> bool:
    """Whether `path`, links followed, lies in the folder `root`, which is no link itself."""
    return Path(os.path.realpath(path)).is_relative_to(root)


def _reason(error: Exception) -> str:
    if isinstance(error, ConvoscopeError):
        return error.reason
    if isinstance(error, OSError):
        return f"the system says: {printable(error.strerror or type(error).__name__)}"
    return str(error) if isinstance(error, _Unfit) else f"what lies in it is damaged ({type(error).__name__})"


def stamps(folder: Path, parts: tuple[str, ...]) -> Stamps:
    """What tells whether files have changed, or who may read them."""
    found: list[tuple[int, int, int, int] | None] = []
    for part in parts:
        try:
            status = (folder / part).stat()
        except OSError:
            found.append(None)
        else:
            found.append((status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns))
    return tuple(found)


class PassedOver:
    """Says of each folder that could not be read why, once, in the terminal."""

    def __init__(self) -> None:
        self.warn: Callable[[str], object] = lambda _: None
        self._said: set[tuple[str, str]] = set()
        self._lock = threading.Lock()  # lists are made in several threads

    def __call__(self, unreadable: Unreadable) -> list[str]:
        """The names, for the page."""
        with self._lock:
            new = [item for item in unreadable.items() if item not in self._said]
            self._said.update(new)
        for name, reason in new[:_MOST_NOTES]:
            self.warn(f"{name}: passed over in the list of runs: {reason}")
        if len(new) > _MOST_NOTES:
            self.warn(f"{len(new) - _MOST_NOTES} more folders were passed over in the list of runs")
        return list(unreadable)
