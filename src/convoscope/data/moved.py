"""The images of a run that lie elsewhere by now, found again by their content."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ..errors import ConvoscopeError, DataError, UsageError, printable
from .dataset import SPLITS, Dataset, ImageSource, Task
from .layouts import load
from .scan import pictures_below
from .sources import FileImages
from .split import SplitRow, label_text
from .table_options import TableOptions
from .union import JoinedImages

_ARRAYS: Final = ("idx", "arrays", "quickdraw")


@dataclass(frozen=True)
class Found:
    """What was found of a run's images.

    Attributes:
        dataset: those that were found, in the order and under the names of the run's split.csv, with its labels and
            parts.
        missing: the names of the others.
        names: the new name of each image that was found, where the new place can be read like the old one and gives
            the same labels, so that it may be written down in the old one's stead; else None.
    """

    dataset: Dataset
    missing: tuple[str, ...]
    names: tuple[str, ...] | None

    @property
    def told(self) -> str:
        """How many were found, in a sentence."""
        count, wanted = len(self.dataset), len(self.dataset) + len(self.missing)
        text = f"{count:,} of {wanted:,} images found by their content"
        if self.missing:
            text += f"; missing: {', '.join(map(printable, self.missing[:5]))}"
            text += f" and {len(self.missing) - 5:,} more" if len(self.missing) > 5 else ""
        return text

    def renamed(self) -> Dataset:
        """The images under their new names, if they have some."""
        return self.dataset if self.names is None else replace(self.dataset, names=list(self.names))


def find_moved(
    place: str | os.PathLike[str],
    rows: Sequence[SplitRow],
    *,
    source: str,
    layout: str,
    task: Task,
    classes: tuple[str, ...],
    table: TableOptions | None = None,
    added: Iterable[Dataset] = (),
) -> Found:
    """Look for a run's images in a new place, by their content.

    Args:
        place: the new place: a folder, or the file that the images are listed in or are themselves in.
        rows: the run's split.csv.
        source: the old place.
        layout: how it was read.
        task, classes: what the run predicts.
        table: how it was read, if it is a table.
        added: the datasets that were added to the run and lie where they were.

    Raises:
        UsageError: the run's images have no place that could be another (`source-fixed`).
        DataError: nothing is there, or none of the images (`moved-not-found`).
    """
    if layout not in _ARRAYS and layout not in ("folders", "flat") and not layout.startswith("csv"):
        raise UsageError(
            "--source",
            f"the run's images come from {printable(source)}, which has no place of its own",
            hint="leave --source out",
            code="source-fixed",
        )
    if not Path(place).exists():
        raise DataError(place, "there is no such file or folder", hint="name where the images are", code="data-missing")
    images, files = _images_in(place, layout, classes, table)
    further = list(added)
    names = [*files, *(name for dataset in further for name in dataset.names)]
    sources = [images, *(dataset.images for dataset in further)]
    chosen = _matched(rows, JoinedImages(sources), names)
    found = np.flatnonzero(chosen >= 0)
    if not len(found):
        raise DataError(
            place,
            f"none of the run's {len(rows):,} images is here: no file has the content of one of them",
            hint="name the folder that the images were moved to",
            code="moved-not-found",
        )
    kept = [rows[row] for row in found.tolist()]
    taken = chosen[found]
    everything: ImageSource = JoinedImages(sources).select(taken) if further else images.select(taken)
    dataset = Dataset(
        source=source,
        layout=layout,
        task=task,
        classes=classes,
        names=[row.path for row in kept],
        targets=_targets(kept, task, classes),
        splits=np.array([SPLITS.index(row.split) for row in kept], np.int8),
        images=everything,
        table=table,
    )
    missing = tuple(rows[row].path for row in np.flatnonzero(chosen < 0).tolist())
    dataset, new_names = _as_read_there(place, dataset, [names[row] for row in taken.tolist()], taken < len(files))
    result = Found(dataset, missing, new_names)
    return replace(result, dataset=replace(dataset, notes=(f"{printable(os.fspath(place))}: {result.told}",)))


def _images_in(
    place: str | os.PathLike[str], layout: str, classes: tuple[str, ...], table: TableOptions | None
) -> tuple[ImageSource, Sequence[str]]:
    """All images of the place, and their names there."""
    if layout not in _ARRAYS and Path(place).is_dir():
        found = pictures_below(place)
        return FileImages(os.path.realpath(place), found.files), found.files
    dataset = load(place, layout=layout, validation=0.0, test=0.0, classes=classes, like=table)
    return dataset.images, dataset.names


def _matched(rows: Sequence[SplitRow], images: ImageSource, names: Sequence[str]) -> NDArray[np.int64]:
    """Which image has each row's content, or -1: one of the same name first, then of the same file name, then one that
    no other row has.
    """
    wanted = {row.digest for row in rows}
    places: dict[str, list[int]] = {}
    for position in range(len(images)):
        try:
            digest = images.digest(position)
        except ConvoscopeError:
            continue  # what cannot be read is none of them
        if digest in wanted:
            places.setdefault(digest, []).append(position)
    chosen = np.full(len(rows), -1, np.int64)
    used: set[int] = set()
    for number, row in enumerate(rows):
        file_name = row.path.rpartition("/")[2]

        def likeness(position: int, row: SplitRow = row, file_name: str = file_name) -> tuple[bool, bool, bool]:
            name = names[position]
            return name != row.path, position in used, name.rpartition("/")[2] != file_name

        if row.digest in places:
            chosen[number] = min(places[row.digest], key=likeness)
            used.add(int(chosen[number]))
    return chosen


def _targets(
    rows: Sequence[SplitRow], task: Task, classes: tuple[str, ...]
) -> NDArray[np.int64] | NDArray[np.uint8] | NDArray[np.float32]:
    """The targets that the labels of a split.csv say.

    Raises:
        DataError: a label is none of the run's (`split-damaged`).
    """
    position = {name: number for number, name in enumerate(classes)}
    try:
        if task == "classification":
            return np.array([position[row.label] for row in rows], np.int64)
        if task == "regression":
            return np.array([[float(part) for part in row.label.split(";")] for row in rows], np.float32)
        matrix = np.zeros((len(rows), len(classes)), np.uint8)
        for number, row in enumerate(rows):
            matrix[number, [position[name] for name in row.label.split(";") if name]] = 1
        return matrix
    except (KeyError, ValueError) as error:
        reason = f"has a label that the run does not know ({printable(error)})"
        raise DataError("split.csv", reason, code="split-damaged") from None


def _as_read_there(
    place: str | os.PathLike[str], dataset: Dataset, files: Sequence[str], own: NDArray[np.bool_]
) -> tuple[Dataset, tuple[str, ...] | None]:
    """The dataset with the new place as its source, and the images' names there, if whoever reads that place gets these
    images with these labels.

    Args:
        place: the new place.
        dataset: the images that were found.
        files: their names in the new place.
        own: which of them are there, and not in a source that was added.
    """
    table = dataset.table
    ways = [(os.fspath(place), table)]
    if table is not None and Path(dataset.source).is_file():  # the table stays, its pictures have moved
        ways.append((dataset.source, replace(table, root=str(Path(place).absolute()))))
    names = [file if mine else name for file, mine, name in zip(files, own.tolist(), dataset.names, strict=True)]
    for source, options in ways:
        try:
            there = load(source, layout=dataset.layout, validation=0.0, test=0.0, like=options)
        except ConvoscopeError:
            continue
        if there.classes != dataset.classes and not (set(there.classes) <= set(dataset.classes) and not own.all()):
            continue
        labels = {name: label_text(there, row) for row, name in enumerate(there.names)}
        mine = np.flatnonzero(own).tolist()
        if all(labels.get(names[row]) == label_text(dataset, row) for row in mine):
            return replace(dataset, source=source, table=there.table), tuple(names)
    return dataset, None
