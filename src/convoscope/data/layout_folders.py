"""Pictures in folders: one folder per class, or one folder with the class in each file's name."""

from __future__ import annotations

import os
import re
import stat
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError, printable
from .dataset import SPLITS, Skipped
from .formats import PICTURE_ENDINGS
from .listing import ENDINGS, SPLIT_NAMES, Listing, check_twins, is_clutter, judge_link, natural
from .registry import Contents, ReadOptions, accepted, layout
from .sources import FileImages

# Paths of pictures are plain strings here: a set may have a million of them.
# ruff: noqa: PTH112, PTH113, PTH118, PTH122

_FLAT_NAME: Final = re.compile(r"^(?P<name>.*?[^\s._\-(])(?:[\s._-]+\d+|[\s._-]*\(\d+\)|(?<=[^\W\d_])\d+)$")


@dataclass
class _Scan:
    """Pictures found in one folder, and what else is there."""

    files: list[str] = field(default_factory=list)
    folders: list[str] = field(default_factory=list)
    ignored: Counter[str] = field(default_factory=Counter)
    skipped: list[Skipped] = field(default_factory=list)


def _scan(folder: str, root: str, relative: str) -> _Scan:
    """List one folder. `relative` is the folder's path from `root`, with a slash at its end, or empty."""
    found = _Scan()
    with os.scandir(folder) as entries:
        for entry in entries:
            name = entry.name
            if is_clutter(name):
                found.ignored["hidden or system files"] += 1
                continue
            ending = os.path.splitext(name)[1].lower()
            if entry.is_file(follow_symlinks=False):
                if ending in ENDINGS:
                    found.files.append(relative + name)
                else:
                    found.ignored[f"files named {printable(ending)}" if ending else "files without an ending"] += 1
                continue
            if entry.is_symlink():
                reason = judge_link(entry.path, root)
                if reason:
                    found.skipped.append(Skipped(relative + name, reason))
                elif ending in ENDINGS and os.path.isfile(entry.path):
                    found.files.append(relative + name)
                elif os.path.isdir(entry.path):
                    found.skipped.append(Skipped(relative + name, "is a link to a folder"))
                continue
            if entry.is_dir(follow_symlinks=False):
                if ending in ENDINGS:
                    found.skipped.append(Skipped(relative + name, "is a folder, not a picture"))
                else:
                    found.folders.append(name)
                continue
            found.skipped.append(Skipped(relative + name, f"is {_special(entry)}, not a picture"))
    return found


def _special(entry: os.DirEntry[str]) -> str:
    mode = entry.stat(follow_symlinks=False).st_mode
    return "a named pipe" if stat.S_ISFIFO(mode) else "a socket" if stat.S_ISSOCK(mode) else "a device"


def _claims(contents: Contents) -> bool:
    others = contents.pictures or contents.arrays or contents.tables == 1
    return contents.folders and (not others or contents.class_folders)


@layout(
    "folders",
    about="one folder per class",
    looks_like="one folder per class; or `train`, `val`/`valid`/`Validation`, `test` folders around them; "
    "names in any script, with spaces",
    order=20,
    claims=_claims,
    folder_only=True,
)
def read_folders(path: Path, options: ReadOptions) -> Listing:
    """Class folders, with or without split folders around them.

    Raises:
        DataError: no class folders, one class, an empty class, folders within a class, split folders that disagree on
            the classes, or names that differ only in case or in how an accent is written.
    """
    root = os.path.realpath(path)
    top = _scan(root, root, "")
    if not top.folders:
        raise _no_classes(path, root, top)
    split_folders = _split_folders(root, top)
    ignored, skipped = top.ignored, top.skipped
    if top.files:
        ignored[_OUTSIDE] += len(top.files)
    scans: dict[int | None, dict[str, _Scan]] = {}
    if split_folders:
        for part, name in split_folders.items():
            inner = _scan_split_folder(path, root, name)
            ignored += inner.ignored
            skipped += inner.skipped
            if inner.files:
                ignored[_OUTSIDE] += len(inner.files)
            scans[part] = _scan_classes(path, root, f"{name}/", inner.folders)
        if options.classes is None:
            _check_same_classes(path, scans)
    else:
        scans[None] = _scan_classes(path, root, "", top.folders)
    classes = tuple(sorted({name for part in scans.values() for name in part}, key=natural))
    check_twins(path, classes)
    empty: list[str] = []
    if options.classes is not None:
        empty = [name for name in classes if not any(part[name].files for part in scans.values() if name in part)]
        classes = tuple(name for name in classes if name not in empty)
        if not classes:
            raise _empty_class(path, empty[0], None, scans[next(iter(scans))].get(empty[0]) or _Scan())
    names: list[str] = []
    targets: list[NDArray[np.int64]] = []
    parts: list[NDArray[np.int8]] = []
    for which, by_class in scans.items():
        for position, name in enumerate(classes):
            scan = by_class.get(name) or _Scan()
            ignored += scan.ignored
            skipped += scan.skipped
            if not scan.files and options.classes is None:
                raise _empty_class(path, name, which, scan)
            names += sorted(scan.files)
            targets.append(np.full(len(scan.files), position, np.int64))
            parts.append(np.full(len(scan.files), which or 0, np.int8))
    images = FileImages(root, names, tiff=options.tiff)
    given = np.concatenate(parts) if split_folders else None
    notes = _ignored_notes(ignored)
    if empty:
        notes.append(f"class folders without a picture: {', '.join(map(printable, empty))}")
    return Listing(
        "folders", classes, names, np.concatenate(targets), images, given=given, notes=notes, skipped=skipped
    )


_OUTSIDE: Final = "pictures outside of every class folder"


def _split_folders(root: str, top: _Scan) -> dict[int, str]:
    """Part to the folder of that part, training first; empty where the folders are classes.

    Raises:
        DataError: two folders mean the same part.
    """
    found = {name: SPLIT_NAMES[name.lower()] for name in top.folders if name.lower() in SPLIT_NAMES}
    if found and len(found) < len(top.folders):
        # `train` and `test` beside other folders with pictures are classes only if they hold pictures themselves.
        if not all(_scan(os.path.join(root, name), root, "").folders for name in found):
            return {}
        top.ignored["folders beside the split folders"] += len(top.folders) - len(found)
    doubled = [part for part, number in Counter(found.values()).items() if number > 1]
    if doubled:
        both = sorted(name for name, part in found.items() if part == doubled[0])
        raise DataError(
            root, f"has {' and '.join(both)}, which mean the same part", hint="keep one of them", code="split-twice"
        )
    return {part: name for name, part in sorted(found.items(), key=lambda item: item[1])}


def _scan_split_folder(path: Path, root: str, name: str) -> _Scan:
    """What is in the folder of one part.

    Raises:
        DataError: it holds split folders again, or no class folders.
    """
    inner = _scan(os.path.join(root, name), root, f"{name}/")
    again = [sub.lower() for sub in inner.folders] == [name.lower()]
    if again or (inner.folders and all(sub.lower() in SPLIT_NAMES for sub in inner.folders)):
        raise DataError(
            path,
            f"{name} holds {inner.folders[0]} again instead of class folders",
            hint=f"move what is in {name}/{inner.folders[0]} one level up",
            code="nested-split",
        )
    if not inner.folders:
        raise _no_classes(path / name, root, inner)
    return inner


def _empty_class(path: Path, name: str, part: int | None, scan: _Scan) -> DataError:
    where = "" if part is None else f" in the {SPLITS[part]} part"
    return DataError(
        path,
        f"class {printable(name)!r} holds no picture{where}{_looked_for(scan)}",
        hint="add pictures to it, or remove the folder",
        code="class-empty",
    )


def _scan_classes(path: Path, root: str, prefix: str, folders: Iterable[str]) -> dict[str, _Scan]:
    scans = {}
    for name in folders:
        scan = _scan(os.path.join(root, prefix + name), root, f"{prefix}{name}/")
        if scan.folders:
            inner = f"{prefix}{name}/{scan.folders[0]}"
            hint = "put every picture right into its class folder"
            if not scan.files:
                hint = f"is {printable(path / prefix / name)} the folder you mean?"
            raise DataError(
                path,
                f"{printable(inner)} is a folder within a class folder; expected {accepted()}",
                hint=hint,
                code="nested-folders",
            )
        scans[name] = scan
    return scans


def _check_same_classes(path: Path, scans: Mapping[int | None, Mapping[str, _Scan]]) -> None:
    (first, reference), *others = scans.items()
    for part, by_class in others:
        if set(by_class) != set(reference):
            sides = [
                f"{SPLITS[number or 0]}: {', '.join(printable(name) for name in sorted(scans[number], key=natural))}"
                for number in dict.fromkeys((first, part))
            ]
            raise DataError(
                path,
                f"the parts have different classes. {sides[0]}. {sides[1]}",
                hint="give each part the same class folders",
                code="classes-differ",
            )


def _no_classes(path: Path, root: str, found: _Scan) -> DataError:
    what = f"{len(found.files)} pictures but no class folders" if found.files else "no class folders"
    if not (found.files or found.folders or found.ignored or found.skipped):
        return DataError(path, f"the folder is empty; expected {accepted()}", code="folder-empty")
    return DataError(path, f"holds {what}{_looked_for(found)}; expected {accepted()}", code="no-class-folders")


def _looked_for(found: _Scan) -> str:
    if not found.ignored and not found.skipped:
        return ""
    parts = [f"{number} {what}" for what, number in found.ignored.most_common(3)]
    parts += [f"{printable(bad.path)} {bad.reason}" for bad in found.skipped[:3]]
    return f" (there are {', '.join(parts)}; looked for {' '.join(sorted(PICTURE_ENDINGS))})"


def _ignored_notes(ignored: Counter[str]) -> list[str]:
    return [f"ignored: {number} {what}" for what, number in ignored.most_common()]


@layout(
    "flat",
    about="one folder, the class in each file's name (cat.0.jpg)",
    looks_like="one folder, the class in the file's name: `cat.0.jpg`, `dog_12.png`, `cat (3).jpg`",
    order=40,
    claims=lambda contents: contents.pictures > 0,
    folder_only=True,
)
def read_flat(path: Path, options: ReadOptions) -> Listing:
    """One folder whose names are a class and a number: `cat.0.jpg`, `cat_0.jpg`, `cat-12.png`, `cat
    (3).jpg`.

    Raises:
        DataError: no such names, or one class only.
    """
    root = os.path.realpath(path)
    found = _scan(root, root, "")
    names: list[str] = []
    labels: list[str] = []
    skipped = found.skipped
    for name in sorted(found.files):
        match = _FLAT_NAME.match(os.path.splitext(name)[0])
        if match:
            names.append(name)
            labels.append(match["name"])
        else:
            skipped.append(Skipped(name, "has no class and number in its name, as cat.0.jpg has"))
    if not names or len(skipped) > len(names) or len(set(labels)) < 2 or len(set(labels)) * 2 > len(names):
        raise _no_classes(path, root, found)
    classes = tuple(sorted(set(labels), key=natural))
    check_twins(path, classes)
    position = {name: number for number, name in enumerate(classes)}
    if found.folders:
        found.ignored["folders beside the pictures"] += len(found.folders)
    targets = np.array([position[label] for label in labels], np.int64)
    images = FileImages(root, names, tiff=options.tiff)
    return Listing("flat", classes, names, targets, images, notes=_ignored_notes(found.ignored), skipped=skipped)
