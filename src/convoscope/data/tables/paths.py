"""Where the pictures of a table are, however their paths are written: with backslashes, as addresses, in another case
or another form of accents, without ending, or as absolute paths of another machine. A picture counts as found when it
is the only one that can be meant and lies in the table's root folder.
"""

# Paths of pictures are plain strings here: a table may have a million of them.
# ruff: noqa: PTH100, PTH114, PTH118, PTH119, PTH120, PTH122

from __future__ import annotations

import os
import re
import stat
import unicodedata
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

from ...errors import printable
from ...suggestions import nearest_names
from ..listing import ENDINGS, is_clutter, judge_link

_MOST_SUGGESTIONS = 20
_MOST_COMPARED = 3_000
_ADDRESS = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]+:/")
_DRIVE = re.compile(r"[a-zA-Z]:[\\/]")
_SERVED = ("/data/upload/", "/data/local-files/", "data/upload/", "data/local-files/")
"""How Label Studio writes the addresses of its own pictures."""


@dataclass(slots=True)
class Found:
    """A picture's path relative to the root, or the reason why there is none."""

    name: str = ""
    reason: str = ""
    exact: bool = True
    outside: str = ""


@dataclass(frozen=True)
class _Folder:
    """A folder with a slash at its end, and its path relative to the root; None: it is not inside."""

    path: str
    prefix: str | None

    @staticmethod
    def of(real: str, root: str) -> _Folder:
        path = real.rstrip(os.sep) + os.sep
        if not _inside(real, root):
            return _Folder(path, None)
        return _Folder(path, "" if real == root else os.path.relpath(real, root) + os.sep)


@dataclass
class Pictures:
    """The pictures below a root folder.

    Attributes:
        folder: the table's folder, with links resolved; paths in the table count from there unless a root was named.
        root: the folder in which they must lie, with links resolved.
        encoding: the table's; names of files may be written in it, too.
    """

    folder: str
    root: str
    encoding: str = "utf-8"
    _folders: dict[str, list[_Folder]] = field(default_factory=dict)
    _by_name: dict[str, list[str]] | None = None
    _by_stem: dict[str, list[str]] = field(default_factory=dict)
    _names: list[str] = field(default_factory=list)
    _suggested: int = 0

    @property
    def bases(self) -> tuple[str, ...]:
        """The folders from which relative paths count."""
        return (self.root,) if self.root == self.folder else (self.root, self.folder)

    def move(self, root: str) -> None:
        """Look below another root folder from now on."""
        self.root = root
        self._folders.clear()
        self._by_name = None
        self._names.clear()

    def at_once(self, cell: str) -> Found:
        """The picture at exactly this path. Quick: nothing is listed."""
        bare = cell.strip()
        if "\0" in cell or not bare:
            return Found(reason="is not a path")
        found = self._direct(cell)
        if found.reason == "is not there" and bare != cell:
            found = self._direct(bare)
            found.exact = False
        return found

    def find(self, cell: str) -> Found:
        """The picture that a cell means."""
        first = self.at_once(cell)
        if first.name or first.reason == "is not a path":
            return first
        text, foreign = rewritten(cell)
        if text != cell.strip():
            again = self.at_once(text)
            if again.name:
                return Found(again.name, exact=False)
            first = again if again.outside else first
        if self.encoding not in ("utf-8", "utf-8-sig"):
            raw = self._in_bytes(text)
            if raw.name:
                return raw
        near = self._near(text, foreign)
        if near.name:
            return self._judged(near)
        return near if near.reason and not first.outside and first.reason == "is not there" else first

    def nearest(self, cell: str) -> str:
        """The picture whose name is most like a path that is not there, for the first few such paths."""
        self._suggested += 1
        if self._suggested > _MOST_SUGGESTIONS:
            return ""
        self._list()
        text, _ = rewritten(cell)
        folder, base = os.path.split(text)
        here = [name for name in self._names if os.path.dirname(name) == folder] or self._names
        stems = {os.path.splitext(os.path.basename(name))[0]: name for name in here[:_MOST_COMPARED]}
        near = nearest_names(os.path.splitext(base)[0], stems)
        return stems[near[0]] if near else ""

    def _direct(self, text: str) -> Found:
        folder, _, base = text.rpartition("/")
        if base in ("", ".", ".."):
            return Found(reason="is not there")
        if text.startswith("/"):
            folder = folder or "/"
        outside = Found(reason="is not there")
        for place in self._places(folder):
            try:
                mode = os.lstat(place.path + base).st_mode
            except (OSError, ValueError):
                continue
            if stat.S_ISDIR(mode):
                continue
            if place.prefix is None:
                outside = Found(reason="is outside of the table's root folder", outside=place.path + base)
                continue
            found = Found(place.prefix + base)
            return self._judged(found) if stat.S_ISLNK(mode) else found
        return outside

    def _places(self, folder: str) -> list[_Folder]:
        """Where a folder in a path may be, links resolved: paths count from each of the bases."""
        places = self._folders.get(folder)
        if places is None:
            reals = dict.fromkeys(os.path.realpath(os.path.join(base, folder)) for base in self.bases)
            places = self._folders[folder] = [_Folder.of(real, self.root) for real in reals]
        return places

    def _judged(self, found: Found) -> Found:
        path = os.path.join(self.root, found.name)
        reason = judge_link(path, self.root) if os.path.islink(path) else ""
        outside = os.path.realpath(path) if "out of the data folder" in reason else ""
        return Found(reason=reason, outside=outside) if reason else found

    def _in_bytes(self, text: str) -> Found:
        try:
            raw = os.fsdecode(text.encode(self.encoding))
        except UnicodeError:
            return Found(reason="is not there")
        found = self.at_once(raw)
        return Found(found.name, exact=False) if found.name else found

    def _near(self, text: str, foreign: bool) -> Found:
        """The only picture of that name, but for case, accents and ending."""
        self._list()
        assert self._by_name is not None
        parts = [part for part in folded(text).split("/") if part not in ("", ".")]
        if not parts:
            return Found(reason="is not a path")
        same = self._by_name.get(parts[-1], [])
        if not same and os.path.splitext(parts[-1])[1] not in ENDINGS:
            same = self._by_stem.get(parts[-1], [])
        if not same:
            return Found(reason="is not there")
        if not foreign and len(parts) > 1:
            wanted = {self._folded_from(base, parts[:-1]) for base in self.bases}
            best = [name for name in same if folded(os.path.dirname(name)) in wanted]
        else:
            best = self._best(same, parts, foreign)
        if len(best) == 1:
            return Found(best[0], exact=False)
        shown = " or ".join(printable(name) for name in sorted(best)[:2])
        return Found(reason=f"can be {shown}" if best else "is not there")

    def _best(self, same: list[str], parts: list[str], foreign: bool) -> list[str]:
        """Of pictures of one name those whose folders agree longest with the path, from its end; of a bare name those
        beside the table.
        """
        if not foreign:
            beside = [
                name for name in same if os.path.join(self.root, os.path.dirname(name)).rstrip(os.sep) in self.bases
            ]
            return beside or same
        agreeing = [(_agreement(folded(os.path.dirname(name)).split("/"), parts[:-1]), name) for name in same]
        most = max(count for count, _ in agreeing)
        return [name for count, name in agreeing if count == most]

    def _folded_from(self, base: str, folders: list[str]) -> str:
        start = "" if base == self.root else folded(os.path.relpath(base, self.root)) + "/"
        return os.path.normpath(start + "/".join(folders)).removeprefix("./")

    def _list(self) -> None:
        """List the pictures below the root, once."""
        if self._by_name is not None:
            return
        by_name: defaultdict[str, list[str]] = defaultdict(list)
        by_stem: defaultdict[str, list[str]] = defaultdict(list)
        for folder, folders, files in os.walk(self.root):
            folders[:] = [name for name in folders if not is_clutter(name)]
            prefix = "" if folder == self.root else os.path.relpath(folder, self.root) + os.sep
            for file in files:
                if is_clutter(file) or os.path.splitext(file)[1].lower() not in ENDINGS:
                    continue
                key = folded(file)
                by_name[key].append(prefix + file)
                by_stem[os.path.splitext(key)[0]].append(prefix + file)
                self._names.append(prefix + file)
        self._by_name, self._by_stem = by_name, by_stem


def folded(text: str) -> str:
    """A path as it is compared: no difference of case, of how an accent is written, or of slashes."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", text).casefold()).replace("\\", "/")


def rewritten(cell: str) -> tuple[str, bool]:
    """A cell as a path, and whether it comes from another machine, so that only its end can say anything here."""
    text = cell.strip()
    if _ADDRESS.match(text) and not _DRIVE.match(text):
        address = urlsplit(text)
        inner = parse_qs(address.query).get("d")
        return unquote(inner[0] if inner else address.path), True
    if text.startswith(_SERVED):
        address = urlsplit(text)
        inner = parse_qs(address.query).get("d")
        return unquote(inner[0] if inner else address.path), True
    if "\\" in text:
        text = text.replace("\\", "/")
    return text, text.startswith("/") or bool(_DRIVE.match(text)) or text.startswith("~")


def _agreement(one: list[str], other: list[str]) -> int:
    count = 0
    for first, second in zip(reversed(one), reversed(other), strict=False):
        if first != second or not first:
            break
        count += 1
    return count


def _inside(path: str, root: str) -> bool:
    return path == root or path.startswith(root.rstrip(os.sep) + os.sep)


def common_folder(folder: Path, outside: list[str]) -> str:
    """The folder that holds the table and the pictures outside of it; empty where that is the whole disk."""
    common = os.path.commonpath([str(folder), *outside])
    return "" if common == os.path.abspath(os.sep) else common
