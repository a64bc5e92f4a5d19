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

from ..errors import DataError, printable
from ..files import kind_of
from .dataset import ImageSource, Skipped, TableRows, Task
from .formats import FOREIGN_ENDINGS, PICTURE_ENDINGS
from .split import TEST, TRAIN, VALIDATION
from .table_options import TableOptions

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
    {
        "__macosx",
        "thumbs.db",
        "ehthumbs.db",
        "desktop.ini",
        "@eadir",
        "@tmp",
        "#recycle",
        "#snapshot",
        "@recycle",
        "@recently-snapshot",
        "$recycle.bin",
        "system volume information",
        "lost+found",
        "lost.dir",
        "__pycache__",
    }
)
"""What macOS, Windows, network disks and Android leave among pictures, in lower case."""
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
    guess_told: bool = False
    """Whether the notes say already how the source was read."""
    table: TableOptions | None = None
    rows: TableRows | None = None
    groups: list[str] | None = None
    """Of each image the group whose images stay in one part; empty: it is alone."""


def is_clutter(name: str) -> bool:
    return name.startswith(".") or name.lower() in CLUTTER


def natural(name: str) -> tuple[tuple[int, int, str], ...]:
    """A sort key by which `2` comes before `10`."""
    parts = re.split(r"(\d+)", name) if name.isascii() else [name]
    # Python turns no more than 4,300 digits into a number.
    return tuple((0, int(part), "") if part.isdigit() and len(part) < 4000 else (1, 0, part) for part in parts if part)


def _looks(name: str) -> str:
    """The same for names that print alike: accents are written in one way, invisible characters left out, and white
    space at the ends is not seen, nor how much of it stands between words.
    """
    visible = "".join(
        character
        for character in unicodedata.normalize("NFC", name)
        if unicodedata.category(character) != "Cf" and not "\ufe00" <= character <= "\ufe0f"
    )
    return " ".join(visible.split())


def told_apart(names: Iterable[str], others: Iterable[str]) -> list[str]:
    """Names to print beside others: where a name prints like a different one of these, its characters are escaped."""
    alike: dict[str, set[str]] = {}
    for other in others:
        alike.setdefault(_looks(other), set()).add(other)
    return [ascii(name) if alike.get(_looks(name), set()) - {name} else printable(name) for name in names]


def check_twins(source: str | os.PathLike[str], classes: Iterable[str]) -> None:
    """Refuse classes that people take for one.

    Raises:
        DataError: `twin-classes`.
    """
    seen: dict[str, str] = {}
    for name in classes:
        plain = _looks(name).casefold()
        if plain in seen:
            one, two = ascii(seen[plain]), ascii(name)
            what = "in white space, in characters that are not seen, or in how an accent is written"
            if _looks(name) != _looks(seen[plain]):
                one, two, what = repr(seen[plain]), repr(name), "in case"
            raise DataError(
                source,
                f"the classes {one} and {two} differ only {what}",
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
