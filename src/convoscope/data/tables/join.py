"""Several tables as one: train, valid and test folders with a table each, as Roboflow and Hugging Face write them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from ...errors import DataError, printable
from ..dataset import Skipped, TableRows
from ..listing import SPLIT_NAMES, Listing, check_twins, is_clutter, natural
from ..sources import FileImages
from ..tasks import TARGET_NOUNS


def split_tables(path: Path, endings: tuple[str, ...]) -> dict[str, Path]:
    """The only table of each folder that is named as a part is; empty unless each of these folders has one."""
    found: dict[str, Path] = {}
    for folder in sorted(path.iterdir()):
        if folder.name.lower() not in SPLIT_NAMES or not folder.is_dir():
            continue
        tables = [file for file in folder.iterdir() if file.suffix.lower() in endings and not is_clutter(file.name)]
        if len(tables) != 1:
            return {}
        found[folder.name] = tables[0]
    return dict(sorted(found.items(), key=lambda item: SPLIT_NAMES[item[0].lower()]))


def join(path: Path, listings: Mapping[str, Listing], *, tiff: bool) -> Listing:
    """The listings of the folders of the parts as one, whose names begin with the folder's.

    Raises:
        DataError: they hold different things (`table-parts-differ`).
    """
    (folder, first), *others = listings.items()
    for name, other in others:
        if other.task != first.task or (first.task == "regression" and other.classes != first.classes):
            raise DataError(
                path,
                f"{folder} has {TARGET_NOUNS[first.task]} and {name} {TARGET_NOUNS[other.task]}, or under other names",
                hint="say what they have: --task TASK --label-column NAME",
                code="table-parts-differ",
            )
    classes = first.classes
    if first.task != "regression":
        classes = tuple(sorted({name for each in listings.values() for name in each.classes}, key=natural))
    check_twins(path, classes)
    names = [f"{name}{os.sep}{file}" for name, each in listings.items() for file in each.names]
    given = [np.full(len(each.names), SPLIT_NAMES[name.lower()], np.int8) for name, each in listings.items()]
    rows = [(name, each.rows) for name, each in listings.items() if each.rows is not None]
    notes = [f"tables in {', '.join(map(printable, listings))}; the images of each are that part", *first.notes]
    notes += [f"{printable(name)}: {note}" for name, each in others for note in each.notes if note not in first.notes]
    return replace(
        first,
        classes=classes,
        names=names,
        targets=np.concatenate([_targets(each, classes) for each in listings.values()]),
        images=FileImages(os.path.realpath(path), names, tiff=tiff),
        given=np.concatenate(given),
        notes=notes,
        groups=_groups(listings.values()),
        skipped=[Skipped(f"{name}/{bad.path}", bad.reason) for name, each in listings.items() for bad in each.skipped],
        rows=TableRows(
            total=sum(each.total for _, each in rows),
            images=len(names),
            repeated=sum(each.repeated for _, each in rows),
            left_out=tuple((line, f"{reason} ({name})") for name, each in rows for line, reason in each.left_out),
        ),
    )


def _groups(listings: Iterable[Listing]) -> list[str] | None:
    """The groups of all, if one of them has some."""
    each = [(len(listing.names), listing.groups) for listing in listings]
    if all(groups is None for _, groups in each):
        return None
    return [name for count, groups in each for name in (groups or [""] * count)]


def _targets(listing: Listing, classes: tuple[str, ...]) -> np.ndarray:
    """The targets, counted by the classes of all."""
    if listing.task == "regression":
        return listing.targets
    places = np.array([classes.index(name) for name in listing.classes], np.int64)
    if listing.task == "classification":
        return np.asarray(places[listing.targets])
    matrix = np.zeros((len(listing.targets), len(classes)), np.uint8)
    matrix[:, places] = listing.targets
    return matrix
