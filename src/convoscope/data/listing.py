"""What all layouts share: the list a layout makes, names of parts, what is clutter, which links are followed."""

from __future__ import annotations

import os
import re
import stat
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError
from ..files import kind_of
from .dataset import ImageSource, Skipped, Task
from .formats import FOREIGN_ENDINGS, PICTURE_ENDINGS
from .split import TEST, TRAIN, VALIDATION

CLASS_FOLDERS: Final = """
    pictures/                 or    pictures/
        cat/                            train/
            one.jpg                         cat/  dog/
            two.jpg                     test/
        dog/                                cat/  dog/
            three.jpg
"""
"""Class folders, drawn for messages: without and with split folders around them."""

SPLIT_NAMES: Final = {
    **dict.fromkeys(("train", "training"), TRAIN),
    **dict.fromkeys(("val", "valid", "validation"), VALIDATION),
    **dict.fromkeys(("test", "testing"), TEST),
}
CLUTTER: Final = frozenset(
    {"__macosx", "thumbs.db", "desktop.ini", "@eadir", "$recycle.bin", "lost+found", "__pycache__"}
)
ENDINGS: Final = PICTURE_ENDINGS | FOREIGN_ENDINGS


@dataclass
class Listing:
    """What a layout found: N images with their targets, before the split is completed."""

    layout: str
    classes: tuple[str, ...]
    names: list[str]
    targets: NDArray[Any]
    images: ImageSource
    task: Task = "classification"
    given: NDArray[np.int8] | None = None
    notes: list[str] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)


def is_clutter(name: str) -> bool:
    return name.startswith(".") or name.lower() in CLUTTER


def natural(name: str) -> tuple[tuple[int, int, str], ...]:
    """A sort key by which `2` comes before `10`."""
    parts = re.split(r"(\d+)", name) if name.isascii() else [name]
    # Python turns no more than 4,300 digits into a number.
    return tuple((0, int(part), "") if part.isdigit() and len(part) < 4000 else (1, 0, part) for part in parts if part)


def check_twins(source: str | os.PathLike[str], classes: Iterable[str]) -> None:
    seen: dict[str, str] = {}
    for name in classes:
        plain = unicodedata.normalize("NFC", name).casefold()
        if plain in seen:
            one, two = ascii(seen[plain]), ascii(name)
            if unicodedata.normalize("NFC", name) != unicodedata.normalize("NFC", seen[plain]):
                one, two = repr(seen[plain]), repr(name)
            raise DataError(
                source,
                f"the classes {one} and {two} differ only in case or in how an accent is written",
                hint="merge them, or rename one",
                code="twin-classes",
            )
        seen[plain] = name


def judge_link(path: str, root: str) -> str:
    """Why a link is not followed, or nothing."""
    try:
        target = os.path.realpath(path, strict=True)
    except FileNotFoundError:
        return "is a link that leads nowhere"
    except OSError:
        return "is a link that leads to itself"
    inside = target == root or target.startswith(root.rstrip(os.sep) + os.sep)
    return "" if inside else "is a link that leads out of the data folder"


def check_ordinary(path: Path, folder: Path | None = None) -> None:
    """Refuse to read what is no ordinary file; a named pipe would wait for ever.

    Args:
        path: the file. Links are followed.
        folder: where it was found, if nobody named the file itself: then no link may lead out of there.

    Raises:
        DataError: `not-ordinary`, or `link-outside`.
    """
    reason = judge_link(str(path), os.path.realpath(folder)) if folder is not None and path.is_symlink() else ""
    if reason:
        raise DataError(path, reason, hint="name the file itself, or copy it there", code="link-outside")
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise DataError(path, f"is {kind_of(status)}, not an ordinary file", code="not-ordinary")
