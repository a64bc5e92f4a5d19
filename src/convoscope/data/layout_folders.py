"""Pictures in folders: one folder per class, or one folder with the class in each file's name."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError, printable
from .dataset import SPLITS, Skipped
from .listing import ENDINGS, SPLIT_NAMES, Listing, check_twins, natural, told_apart
from .registry import Contents, ReadOptions, accepted, layout, not_a_folder
from .scan import Ignored, Scan, scan
from .sources import FileImages

# Paths of pictures are plain strings here: a set may have a million of them.
# ruff: noqa: PTH118, PTH122

_FLAT_NAME: Final = re.compile(r"^(?P<name>.*?[^\s._\-(])(?:[\s._-]+\d+|[\s._-]*\(\d+\)|(?<=[^\W\d_])\d+)$")


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
    top = scan(root, root)
    if not top.folders:
        raise _no_classes(path, top)
    split_folders = _split_folders(root, top)
    tops, scans = {"": top}, dict[int | None, dict[str, Scan]]()
    for part, name in split_folders.items():
        tops[f"{name}/"] = inner = _scan_split_folder(path, root, name)
        scans[part] = _scan_classes(path, root, f"{name}/", inner.folders)
    if not split_folders:
        scans[None] = _scan_classes(path, root, "", top.folders)
    elif options.classes is None:
        _check_same_classes(path, scans)
    classes = tuple(sorted({name for part in scans.values() for name in part}, key=natural))
    check_twins(path, classes)
    notes = _lost_folders(tops, bool(split_folders))
    if len(classes) < 2 and notes and options.classes is None:
        raise DataError(
            path,
            f"has only one class ({printable(classes[0])}), since {notes[0]}",
            hint="copy the folder itself there instead of the link",
            code="one-class",
        )
    if options.classes is not None:
        empty = [name for name in classes if not any(part[name].files for part in scans.values() if name in part)]
        classes = tuple(name for name in classes if name not in empty)
        notes += [f"class folders without a picture: {', '.join(map(printable, empty))}"] if empty else []
    for one in tops.values():
        if one.files:
            one.ignored.add(_OUTSIDE, min(one.files), len(one.files))
    return _listing(path, _Found(root, list(tops.values()), scans), classes, notes, options)


class _Found(NamedTuple):
    """What is in the folders: `scans` of each part's class folders, `tops` of the folders that hold these."""

    root: str
    tops: list[Scan]
    scans: dict[int | None, dict[str, Scan]]


def _listing(path: Path, found: _Found, classes: tuple[str, ...], notes: list[str], options: ReadOptions) -> Listing:
    """The pictures in order of part, class and name.

    Raises:
        DataError: a class holds no picture, unless a run knows it.
    """
    ignored, skipped = Ignored(), []
    for one in (*found.tops, *(one for part in found.scans.values() for one in part.values())):
        ignored.update(one.ignored)
        skipped += one.skipped
    names: list[str] = []
    targets: list[NDArray[np.int64]] = [np.zeros(0, np.int64)]
    parts: list[NDArray[np.int8]] = [np.zeros(0, np.int8)]
    for which, by_class in found.scans.items():
        for position, name in enumerate(classes):
            one = by_class.get(name, Scan())
            if not one.files and options.classes is None:
                raise _empty_class(path, name, which, one)
            names += sorted(one.files)
            targets.append(np.full(len(one.files), position, np.int64))
            parts.append(np.full(len(one.files), which or 0, np.int8))
    images = FileImages(found.root, names, tiff=options.tiff)
    given = np.concatenate(parts) if None not in found.scans else None
    notes = [*notes, *ignored.notes()]
    return Listing(
        "folders", classes, names, np.concatenate(targets), images, given=given, notes=notes, skipped=skipped
    )


_OUTSIDE: Final = "pictures outside of every class folder"


def _lost_folders(tops: Mapping[str, Scan], split: bool) -> list[str]:
    """Of each link in the place of a class folder, or of a part's: that it is left out, and why."""
    return [
        f"the {'part' if split and not prefix else 'class'} {printable(name)!r} is left out: "
        f"{printable(prefix + name)} {reason}, and only folders themselves are read"
        for prefix, top in tops.items()
        for name, reason in top.linked.items()
    ]


def _split_folders(root: str, top: Scan) -> dict[int, str]:
    """Part to the folder of that part, training first; empty where the folders are classes.

    Raises:
        DataError: two folders mean the same part.
    """
    found = {name: SPLIT_NAMES[name.lower()] for name in top.folders if name.lower() in SPLIT_NAMES}
    if found and len(found) < len(top.folders):
        # `train` and `test` beside other folders with pictures are classes only if they hold pictures themselves.
        if not all(scan(os.path.join(root, name), root).folders for name in found):
            return {}
        others = sorted(set(top.folders) - set(found))
        top.ignored.add("folders beside the split folders", others[0], len(others))
    doubled = [part for part, number in Counter(found.values()).items() if number > 1]
    if doubled:
        both = sorted(name for name, part in found.items() if part == doubled[0])
        raise DataError(
            root, f"has {' and '.join(both)}, which mean the same part", hint="keep one of them", code="split-twice"
        )
    return {part: name for name, part in sorted(found.items(), key=lambda item: item[1])}


def _scan_split_folder(path: Path, root: str, name: str) -> Scan:
    """What is in the folder of one part.

    Raises:
        DataError: it holds split folders again, or no class folders.
    """
    inner = scan(os.path.join(root, name), root, f"{name}/")
    again = [sub.lower() for sub in inner.folders] == [name.lower()]
    if again or (inner.folders and all(sub.lower() in SPLIT_NAMES for sub in inner.folders)):
        raise DataError(
            path,
            f"{name} holds {inner.folders[0]} again instead of class folders",
            hint=f"move what is in {name}/{inner.folders[0]} one level up",
            code="nested-split",
        )
    if not inner.folders:
        raise _no_classes(path / name, inner)
    return inner


def _empty_class(path: Path, name: str, part: int | None, found: Scan) -> DataError:
    where = "" if part is None else f" in the {SPLITS[part]} part"
    return DataError(
        path,
        f"class {printable(name)!r} holds no picture{where}{found.looked_for()}",
        hint="add pictures to it, or remove the folder",
        code="class-empty",
    )


def _scan_classes(path: Path, root: str, prefix: str, folders: Iterable[str]) -> dict[str, Scan]:
    scans = {}
    for name in folders:
        found = scan(os.path.join(root, prefix + name), root, f"{prefix}{name}/")
        if found.folders:
            inner = f"{prefix}{name}/{found.folders[0]}"
            hint = "put every picture right into its class folder"
            if not found.files:
                hint = f"is {printable(path / prefix / name)} the folder you mean?"
            raise DataError(
                path,
                f"{printable(inner)} is a folder within a class folder; expected {accepted()}",
                hint=hint,
                code="nested-folders",
            )
        found.skipped += [Skipped(f"{prefix}{name}/{link}", reason) for link, reason in found.linked.items()]
        scans[name] = found
    return scans


def _check_same_classes(path: Path, scans: Mapping[int | None, Mapping[str, Scan]]) -> None:
    (first, reference), *others = scans.items()
    for part, by_class in others:
        if set(by_class) != set(reference):
            here, there = (sorted(scans[number], key=natural) for number in (first, part))
            sides = [
                f"{SPLITS[number or 0]}: {', '.join(told_apart(names, others))}"
                for number, names, others in ((first, here, there), (part, there, here))
            ]
            raise DataError(
                path,
                f"the parts have different classes. {sides[0]}. {sides[1]}",
                hint="give each part the same class folders",
                code="classes-differ",
            )


def _no_classes(path: Path, found: Scan) -> DataError:
    what = f"{len(found.files)} pictures but no class folders" if found.files else "no class folders"
    if not (found.files or found.folders or found.ignored or found.skipped or found.linked):
        return DataError(path, f"the folder is empty; expected {accepted()}", code="folder-empty")
    return DataError(path, f"holds {what}{found.looked_for()}; expected {accepted()}", code="no-class-folders")


@layout(
    "flat",
    about="one folder, the class in each file's name (cat.0.jpg)",
    looks_like="one folder, the class in the file's name: `cat.0.jpg`, `dog_12.png`, `cat (3).jpg`",
    order=40,
    claims=lambda contents: contents.pictures > 0,
)
def read_flat(path: Path, options: ReadOptions) -> Listing:
    """One folder whose names are a class and a number: `cat.0.jpg`, `cat_0.jpg`, `cat-12.png`, `cat
    (3).jpg`. Of a run that knows its classes also one class folder, or one picture in it.

    Raises:
        DataError: no such names, or one class only.
    """
    known = options.classes
    if path.is_dir():
        folder, root = path, os.path.realpath(path)
        found = scan(root, root)
    else:
        folder, root = path.parent, os.path.realpath(path.parent)
        if known is None or path.suffix.lower() not in ENDINGS:
            raise not_a_folder(path)
        found = Scan(files=[path.name])
    notes, whole = list[str](), False
    matches = {name: _FLAT_NAME.match(os.path.splitext(name)[0]) for name in sorted(found.files)}
    labels = {name: match["name"] for name, match in matches.items() if match}
    if known is not None:
        labels = {name: label for name, label in labels.items() if label in known}
        whole = not labels and folder.absolute().name in known
        if whole:
            labels = dict.fromkeys(matches, folder.absolute().name)
            notes.append(f"all pictures are taken as {printable(folder.absolute().name)!r}, their folder's name")
    lacking = [name for name in matches if name not in labels]
    found.skipped += [Skipped(name, "has no class and number in its name, as cat.0.jpg has") for name in lacking]
    count = len(set(labels.values()))
    if not labels or len(lacking) > len(labels) or (known is None and (count < 2 or count * 2 > len(labels))):
        found.skipped = found.skipped[: len(found.skipped) - len(lacking)] if known is not None else found.skipped
        raise _no_classes(path, found)
    classes = tuple(sorted(set(labels.values()), key=natural))
    check_twins(path, classes)
    found.skipped += [Skipped(name, reason) for name, reason in found.linked.items()]
    if found.folders:
        found.ignored.add("folders beside the pictures", min(found.folders), len(found.folders))
    position = {name: number for number, name in enumerate(classes)}
    targets = np.array([position[label] for label in labels.values()], np.int64)
    images = FileImages(root, list(labels), tiff=options.tiff)
    notes += found.ignored.notes()
    return Listing("flat", classes, list(labels), targets, images, notes=notes, skipped=found.skipped, guess_told=whole)
