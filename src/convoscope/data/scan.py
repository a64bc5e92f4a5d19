"""Which files of a folder are pictures: the one list that training, testing and prediction go by, and what they say of
the other files.

Names decide, as nothing is opened here: files are pictures by their ending. Hidden files and what systems leave among
pictures (`CLUTTER`) do not count; links are followed to files inside the folder only.
"""

from __future__ import annotations

import os
import re
import stat
from dataclasses import dataclass, field
from typing import Final

from ..errors import printable
from .dataset import Skipped
from .formats import PICTURE_ENDINGS
from .listing import ENDINGS, is_clutter, judge_link

# Paths of pictures are plain strings here: a set may have a million of them.
# ruff: noqa: PTH112, PTH113, PTH118, PTH122

HIDDEN: Final = "hidden or system files"


class Ignored:
    """How many files are no pictures, by kind, each with the first of them."""

    def __init__(self) -> None:
        self._kinds: dict[str, tuple[int, str]] = {}

    def add(self, kind: str, example: str, count: int = 1) -> None:
        """Count files of a kind; `kind` is in the plural."""
        before, first = self._kinds.get(kind, (0, example))
        self._kinds[kind] = (before + count, first)

    def update(self, other: Ignored) -> None:
        """Count those of another list as well."""
        for kind, (count, example) in other._kinds.items():
            self.add(kind, example, count)

    def __bool__(self) -> bool:
        return bool(self._kinds)

    def __str__(self) -> str:
        """The three most common kinds."""
        return ", ".join(_counted(count, kind) for kind, (count, _) in self._sorted()[:3])

    def _sorted(self) -> list[tuple[str, tuple[int, str]]]:
        return sorted(self._kinds.items(), key=lambda item: -item[1][0])

    def notes(self) -> list[str]:
        """A line for each kind."""
        return [
            f"ignored: {_counted(count, kind)} ({'such as ' if count > 1 else ''}{printable(example)})"
            for kind, (count, example) in self._sorted()
        ]


def _counted(count: int, kind: str) -> str:
    return f"{count} {kind if count != 1 else _PLURAL.sub(_ONE, kind, count=1)}"


_PLURAL: Final = re.compile(r"\b(file|picture|folder|link)s\b")
_ONE: Final = r"\1"


@dataclass
class Scan:
    """What is in a folder.

    Attributes:
        files: the pictures' paths.
        folders: names of the folders in it.
        ignored: files that are no pictures.
        skipped: what is named as a picture and cannot be one, each with the reason.
        linked: names of links to folders, each with the reason why it is not followed.
    """

    files: list[str] = field(default_factory=list)
    folders: list[str] = field(default_factory=list)
    ignored: Ignored = field(default_factory=Ignored)
    skipped: list[Skipped] = field(default_factory=list)
    linked: dict[str, str] = field(default_factory=dict)

    def looked_for(self) -> str:
        """In brackets, for messages: what is there instead of pictures, and which endings pictures have."""
        if not (self.ignored or self.skipped or self.linked):
            return ""
        parts = [str(self.ignored)] if self.ignored else []
        parts += [f"{printable(name)} {reason}" for name, reason in list(self.linked.items())[:3]]
        parts += [f"{printable(bad.path)} {bad.reason}" for bad in self.skipped[:3]]
        return f" (there are {', '.join(parts)}; looked for {' '.join(sorted(PICTURE_ENDINGS))})"


def scan(folder: str, root: str, relative: str = "") -> Scan:
    """List one folder, not the folders in it.

    Args:
        folder: its path.
        root: the data folder, as a real path: links must not lead out of it.
        relative: the folder's path from `root` with a slash at its end, or empty.

    Raises:
        OSError: it cannot be listed.
    """
    found = Scan()
    with os.scandir(folder) as entries:
        for entry in entries:
            name = entry.name
            if is_clutter(name):
                found.ignored.add(HIDDEN, relative + name)
                continue
            ending = os.path.splitext(name)[1].lower()
            if entry.is_file(follow_symlinks=False):
                if ending in ENDINGS:
                    found.files.append(relative + name)
                else:
                    kind = f"files named {printable(ending)}" if ending else "files without an ending"
                    found.ignored.add(kind, relative + name)
            elif entry.is_symlink():
                _judge(found, entry, root, relative)
            elif entry.is_dir(follow_symlinks=False):
                if ending in ENDINGS:
                    found.skipped.append(Skipped(relative + name, "is a folder, not a picture"))
                else:
                    found.folders.append(name)
            else:
                found.skipped.append(Skipped(relative + name, f"is {_special(entry)}, not a picture"))
    return found


def _judge(found: Scan, entry: os.DirEntry[str], root: str, relative: str) -> None:
    """Take a link to a picture; of another one, note what it is."""
    name = entry.name
    reason = judge_link(entry.path, root)
    if os.path.isdir(entry.path):
        found.linked[name] = reason or "is a link to a folder"
    elif reason:
        found.skipped.append(Skipped(relative + name, reason))
    elif os.path.splitext(name)[1].lower() in ENDINGS and os.path.isfile(entry.path):
        found.files.append(relative + name)
    else:
        found.ignored.add("links to other files", relative + name)


def _special(entry: os.DirEntry[str]) -> str:
    mode = entry.stat(follow_symlinks=False).st_mode
    return "a named pipe" if stat.S_ISFIFO(mode) else "a socket" if stat.S_ISSOCK(mode) else "a device"


def pictures_below(folder: str | os.PathLike[str]) -> Scan:
    """Every picture in a folder and in the folders below it, however deep: their paths from `folder`, by folder and
    name.

    Raises:
        OSError: the folder cannot be listed. Of one below it this is a reason to skip it.
    """
    root = os.path.realpath(folder)
    total = Scan()
    waiting = [""]
    while waiting:
        relative = waiting.pop()
        try:
            found = scan(os.path.join(root, relative), root, relative)
        except OSError as error:
            if not relative:
                raise
            total.skipped.append(Skipped(relative, f"cannot be listed: {error.strerror or error}"))
            continue
        total.files += sorted(found.files)
        total.ignored.update(found.ignored)
        total.skipped += found.skipped
        total.skipped += [Skipped(relative + name, reason) for name, reason in found.linked.items()]
        waiting += [f"{relative}{name}/" for name in sorted(found.folders, reverse=True)]
    return total
