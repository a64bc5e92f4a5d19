"""A table with a line for each image: its path and what is to be predicted."""

from __future__ import annotations

import csv
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError, printable
from .dataset import TARGET_NOUNS, Skipped, Task
from .listing import SPLIT_NAMES, Listing, check_ordinary, check_twins, is_clutter, judge_link, natural
from .registry import TABLE_ENDINGS, Contents, ReadOptions, layout
from .sources import FileImages

# ruff: noqa: PTH118

_PATH_COLUMNS: Final = ("path", "file", "filename", "file_name", "filepath", "image", "image_path", "img")
_LABEL_COLUMNS: Final = ("label", "labels", "class", "category", "target", "tag", "tags")
_SPLIT_COLUMNS: Final = ("split", "part", "set", "subset")
_MAX_NUMERIC_CLASSES: Final = 20


@dataclass(frozen=True)
class _Table:
    """A CSV with its columns found: only the lines whose picture may be read.

    Attributes:
        path, root: the file, and its folder.
        header: names of the columns.
        lines: their cells.
        names: of each line its picture, relative to the folder.
        skipped: the other lines.
        label, split: the columns of that meaning, if there are any.
        others: columns that have no meaning yet.
        tiff: whether TIFF pictures are read as well.
    """

    path: Path
    root: str
    header: Sequence[str]
    lines: Sequence[Sequence[str]]
    names: list[str]
    skipped: list[Skipped]
    label: int | None
    split: int | None
    others: Sequence[int]
    tiff: bool


def _claims(contents: Contents) -> bool:
    return contents.tables == 1 and bool(contents.folders or contents.pictures or not contents.arrays)


@layout(
    "csv",
    about="a CSV file with a line for each image",
    looks_like="a table with a column of paths and one of classes, of several labels (`a;b`), or columns of numbers; "
    "a `split` column is heeded",
    order=30,
    claims=_claims,
    variants=tuple(TARGET_NOUNS.values()),
)
def read_csv(path: Path, options: ReadOptions) -> Listing:
    """A CSV (or TSV) with a line for each image: its path, relative to the CSV's folder, and what is to be predicted.

    Columns: one of path, file, filename, image ...; optionally split (train, val, test); and either one of label,
    labels, class ... or any number of columns with numbers. What the label column means:

    - a cell holds several values, as in `red;round`, or is empty in a column called labels or tags: labels
    - all cells are numbers, and they are not whole or have more than 20 different values: numbers
    - else: classes
    - no label column, but columns with numbers only: numbers

    The layout's variant (`classes`, `labels`, `numbers`) overrules this.

    Raises:
        DataError: not a CSV, no path column, nothing to predict, a cell that is not a number, or a line of another
            length.
    """
    table, meaning = _read_table(path, options.tiff), options.variant
    label = table.label
    if meaning == "numbers" or label is None:
        columns = _number_columns(table, meaning)
        if meaning not in ("classes", "labels"):
            return _read_number_columns(table, columns)
        label = columns[0]
    cells = [line[label].strip() for line in table.lines]
    column, notes = table.header[label], []
    if not meaning:
        meaning, why = _csv_meaning(column.strip().lower(), cells)
        notes.append(f"the column {printable(column)} is read as {meaning}: {why} (--layout csv:{meaning})")
    unused = [printable(table.header[other]) for other in table.others if other != label]
    if unused:
        notes.append(f"ignored: the columns {', '.join(unused)}")
    given = _csv_splits(table)
    targets = {"numbers": _numbers, "labels": _labels, "classes": _classes}[meaning](table, column, cells)
    return _listing(table, targets, given, notes)


def _read_table(path: Path, tiff: bool) -> _Table:
    """The table at a path, or the only one in a folder.

    Raises:
        DataError: there is none or several, or it has no column of paths.
    """
    if path.is_dir():
        tables = [file for file in path.iterdir() if file.suffix.lower() in TABLE_ENDINGS and not is_clutter(file.name)]
        if len(tables) != 1:
            raise DataError(path, f"expected one CSV file; found {len(tables)}", code="csv-missing")
        path = tables[0]
    header, lines = _csv_lines(path)
    lower = [name.strip().lower() for name in header]

    def find(names: Sequence[str]) -> int | None:
        return next((lower.index(name) for name in names if name in lower), None)

    paths, split, label = find(_PATH_COLUMNS), find(_SPLIT_COLUMNS), find(_LABEL_COLUMNS)
    if paths is None:
        raise DataError(
            path,
            f"expected a column called path; found {', '.join(map(printable, header))}",
            hint="name the columns in the first line",
            code="csv-columns",
        )
    root = os.path.realpath(path.parent)
    rows, names, skipped = _csv_files(path, root, [line[paths] for line in lines])
    others = [column for column in range(len(header)) if column not in (paths, split, label)]
    return _Table(path, root, header, [lines[row] for row in rows], names, skipped, label, split, others, tiff)


def _number_columns(table: _Table, meaning: str) -> list[int]:
    """The columns whose cells are all numbers, or the label column where it is to hold numbers.

    Raises:
        DataError: there are none, or several although one is needed.
    """
    if meaning == "numbers" and table.label is not None:
        return [table.label]
    lines = table.lines
    columns = [column for column in table.others if lines and all(_number(line[column]) is not None for line in lines)]
    if not columns:
        raise DataError(
            table.path,
            f"expected a column called label or columns of numbers; found {', '.join(map(printable, table.header))}",
            code="csv-columns",
        )
    if meaning in ("classes", "labels") and len(columns) != 1:
        raise DataError(table.path, f"expected one column called label for {meaning}", code="csv-columns")
    return columns


_Targets = tuple[Task, tuple[str, ...], NDArray[Any]]
"""The task, names of the classes, labels or numbers, and the targets as of `Dataset`."""


def _listing(table: _Table, targets: _Targets, given: NDArray[np.int8] | None, notes: list[str]) -> Listing:
    task, classes, values = targets
    images = FileImages(table.root, table.names, tiff=table.tiff)
    name = f"csv:{TARGET_NOUNS[task]}"
    return Listing(name, classes, table.names, values, images, task, given, notes, table.skipped)


def _read_number_columns(table: _Table, columns: Sequence[int]) -> Listing:
    cells = [line[column] for line in table.lines for column in columns]
    values = _csv_numbers(table.path, cells, len(columns))
    classes = tuple(table.header[column] for column in columns)
    named = ", ".join(map(printable, classes))
    notes = [f"the columns {named} are numbers to be predicted (--layout csv:numbers)"]
    return _listing(table, ("regression", classes, values), _csv_splits(table), notes)


def _numbers(table: _Table, column: str, cells: Sequence[str]) -> _Targets:
    """One number in each cell, or the same count of them, parted by `;`."""
    width = len(cells[0].split(";")) if cells else 1
    values = [part for cell in cells for part in (cell.split(";") if len(cell.split(";")) == width else [cell])]
    names = (column,) if width == 1 else tuple(f"{column} {k + 1}" for k in range(width))
    return "regression", names, _csv_numbers(table.path, values, width)


def _labels(table: _Table, column: str, cells: Sequence[str]) -> _Targets:
    """Any number of labels in each cell, parted by `;`."""
    sets = [{part.strip() for part in cell.split(";") if part.strip()} for cell in cells]
    names = tuple(sorted(set().union(*sets), key=natural))
    if not names:
        raise DataError(table.path, "no image has any label", code="csv-columns")
    check_twins(table.path, names)
    position = {name: number for number, name in enumerate(names)}
    matrix = np.zeros((len(sets), len(names)), np.uint8)
    for row, some in enumerate(sets):
        matrix[row, [position[name] for name in some]] = 1
    return "multi-label", names, matrix


def _classes(table: _Table, column: str, cells: Sequence[str]) -> _Targets:
    """One class in each cell."""
    empty = [row for row, cell in enumerate(cells) if not cell]
    if empty:
        first = printable(table.names[empty[0]])
        raise DataError(table.path, f"{len(empty)} images have no label, the first is {first}", code="csv-label")
    classes = tuple(sorted(set(cells), key=natural))
    check_twins(table.path, classes)
    position = {name: number for number, name in enumerate(classes)}
    return "classification", classes, np.array([position[cell] for cell in cells], np.int64)


def _csv_lines(path: Path) -> tuple[list[str], list[list[str]]]:
    check_ordinary(path)
    try:
        with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
            first = file.readline(100_000)
            file.seek(0)
            delimiter = max(("\t", ",", ";"), key=first.count) if path.suffix.lower() != ".tsv" else "\t"
            reader = csv.reader(file, delimiter=delimiter, strict=True)
            header = next(reader, [])
            lines = []
            for cells in reader:
                if not cells:
                    continue
                if len(cells) != len(header):
                    raise DataError(
                        path,
                        f"line {reader.line_num} has {len(cells)} cells, the first line {len(header)}",
                        code="csv-line",
                    )
                lines.append(cells)
    except csv.Error as error:
        raise DataError(path, f"line {reader.line_num} cannot be read ({error})", code="csv-line") from error
    if not lines:
        raise DataError(path, "lists no image", code="no-images")
    return header, lines


def _csv_files(path: Path, root: str, cells: Sequence[str]) -> tuple[list[int], list[str], list[Skipped]]:
    """Which lines name a picture that may be read, their paths relative to the CSV's folder, and the others with
    reasons.
    """
    rows, names, skipped = [], [], []
    seen: set[str] = set()
    for row, cell in enumerate(cells):
        full = os.path.normpath(os.path.join(root, cell))
        name = os.path.relpath(full, root) if "\0" not in cell else ""
        reason = ""
        if not cell or "\0" in cell:
            reason = "is not a path"
        elif name == ".." or name.startswith(".." + os.sep):
            reason = "is outside the folder of the CSV"
        elif name in seen:
            reason = "is listed twice; the first line counts"
        elif not os.path.lexists(full):
            reason = "is not there"
        else:
            reason = judge_link(full, root)
        if reason:
            skipped.append(Skipped(cell, reason))
        else:
            seen.add(name)
            rows.append(row)
            names.append(name)
    if len(skipped) > len(cells) / 2:
        first = "; ".join(f"{printable(bad.path)} {bad.reason}" for bad in skipped[:5])
        raise DataError(
            path,
            f"{len(skipped)} of {len(cells)} lines name no picture that can be read: {first}",
            hint="paths count from the CSV's folder",
            code="csv-paths",
        )
    return rows, names, skipped


def _number(cell: str) -> float | None:
    try:
        value = float(cell)
    except ValueError:
        return None
    return value if np.isfinite(value) and "_" not in cell else None


def _csv_numbers(path: Path, cells: Sequence[str], width: int) -> NDArray[np.float32]:
    values = [_number(cell) for cell in cells]
    if None in values:
        wrong = cells[values.index(None)]
        raise DataError(path, f"expected a number; received {printable(wrong)!r}", code="csv-number")
    return np.array(values, np.float32).reshape(-1, width)


def _csv_meaning(column: str, cells: Sequence[str]) -> tuple[str, str]:
    numbers = [[_number(part) for part in cell.split(";")] for cell in cells]
    if all(None not in some for some in numbers):
        if any(len(some) > 1 for some in numbers):
            if len({len(some) for some in numbers}) == 1 and any("." in cell for cell in cells):
                return "numbers", "every cell holds the same count of numbers"
            return "labels", "some cells hold several values"
        values = {some[0] for some in numbers}
        whole = all(value is not None and value == int(value) for value in values) and not any(
            "." in cell for cell in cells
        )
        if column in ("labels", "tags"):
            return "labels", "the column's name says so"
        if whole and len(values) <= _MAX_NUMERIC_CLASSES:
            return "classes", f"whole numbers with only {len(values)} different values"
        return "numbers", "its cells are numbers with many values" if whole else "its cells are numbers with decimals"
    if any(";" in cell for cell in cells):
        return "labels", "some cells hold several values"
    if column in ("labels", "tags") and not all(cells):
        return "labels", "some cells are empty"
    return "classes", "each cell holds one name"


def _csv_splits(table: _Table) -> NDArray[np.int8] | None:
    if table.split is None:
        return None
    splits = np.zeros(len(table.lines), np.int8)
    for row, line in enumerate(table.lines):
        part = SPLIT_NAMES.get(line[table.split].strip().lower())
        if part is None:
            raise DataError(
                table.path,
                f"expected train, val or test in the column split; received {printable(line[table.split])!r}",
                code="csv-split",
            )
        splits[row] = part
    return splits
