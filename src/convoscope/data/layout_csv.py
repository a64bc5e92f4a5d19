"""A table with a line for each image: its path and what is to be predicted."""

from __future__ import annotations

import csv
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError, printable
from .dataset import Skipped
from .listing import SPLIT_NAMES, Listing, check_ordinary, check_twins, is_clutter, judge_link, natural
from .sources import FileImages

# ruff: noqa: PTH118

TABLE_ENDINGS: Final = (".csv", ".tsv")
_PATH_COLUMNS: Final = ("path", "file", "filename", "file_name", "filepath", "image", "image_path", "img")
_LABEL_COLUMNS: Final = ("label", "labels", "class", "category", "target", "tag", "tags")
_SPLIT_COLUMNS: Final = ("split", "part", "set", "subset")
_MAX_NUMERIC_CLASSES: Final = 20


def read_csv(path: Path, *, meaning: str = "", tiff: bool = False) -> Listing:
    """A CSV (or TSV) with a line for each image: its path, relative to the CSV's folder, and what is to be predicted.

    Columns: one of path, file, filename, image ...; optionally split (train, val, test); and either one of label,
        labels, class ...
    or any number of columns with numbers. What the label column means:

    - a cell holds several values, as in `red;round`, or is empty in a column called labels or tags: labels
    - all cells are numbers, and they are not whole or have more than 20 different values: numbers
    - else: classes
    - no label column, but columns with numbers only: numbers

    `meaning` (`classes`, `labels`, `numbers`) overrules this.

    Raises:
        DataError: no CSV, no path column, nothing to predict, a cell that is no number, or a line of another length.
    """
    if path.is_dir():
        tables = sorted(
            file for file in path.iterdir() if file.suffix.lower() in TABLE_ENDINGS and not is_clutter(file.name)
        )
        if len(tables) != 1:
            raise DataError(path, f"expected one CSV file; found {len(tables)}", code="csv-missing")
        path = tables[0]
    header, lines = _csv_lines(path)
    lower = [name.strip().lower() for name in header]
    path_column = next((lower.index(name) for name in _PATH_COLUMNS if name in lower), None)
    if path_column is None:
        raise DataError(
            path,
            f"expected a column called path; found {', '.join(map(printable, header))}",
            hint="name the columns in the first line",
            code="csv-columns",
        )
    split_column = next((lower.index(name) for name in _SPLIT_COLUMNS if name in lower), None)
    label_column = next((lower.index(name) for name in _LABEL_COLUMNS if name in lower), None)
    root = os.path.realpath(path.parent)
    rows, names, skipped = _csv_files(path, root, [line[path_column] for line in lines])
    lines = [lines[row] for row in rows]
    notes: list[str] = []
    others = [column for column in range(len(header)) if column not in (path_column, split_column, label_column)]
    if meaning == "numbers" or label_column is None:
        columns = [column for column in others if lines and all(_number(line[column]) is not None for line in lines)]
        if meaning == "numbers" and label_column is not None:
            columns = [label_column]
        if not columns:
            raise DataError(
                path,
                f"expected a column called label or columns of numbers; found {', '.join(map(printable, header))}",
                code="csv-columns",
            )
        if meaning in ("classes", "labels"):
            if len(columns) != 1:
                raise DataError(path, f"expected one column called label for {meaning}", code="csv-columns")
            label_column = columns[0]
        else:
            cells = [line[column] for line in lines for column in columns]
            numbers = _csv_numbers(path, cells, len(columns))
            named = [printable(header[column]) for column in columns]
            notes.append(f"the columns {', '.join(named)} are numbers to be predicted (--layout csv:numbers)")
            given = _csv_splits(path, lines, split_column)
            classes = tuple(header[column] for column in columns)
            images = FileImages(root, names, tiff=tiff)
            return Listing("csv:numbers", classes, names, numbers, images, "regression", given, notes, skipped)
    assert label_column is not None
    cells = [line[label_column].strip() for line in lines]
    if not meaning:
        meaning, why = _csv_meaning(lower[label_column], cells)
        notes.append(
            f"the column {printable(header[label_column])} is read as {meaning}: {why} (--layout csv:{meaning})"
        )
    unused = [printable(header[column]) for column in others if column != label_column]
    if unused:
        notes.append(f"ignored: the columns {', '.join(unused)}")
    given = _csv_splits(path, lines, split_column)
    images = FileImages(root, names, tiff=tiff)
    if meaning == "numbers":
        width = len(cells[0].split(";")) if cells else 1
        values = [part for cell in cells for part in (cell.split(";") if len(cell.split(";")) == width else [cell])]
        numbers = _csv_numbers(path, values, width)
        name = header[label_column]
        classes = (name,) if width == 1 else tuple(f"{name} {k + 1}" for k in range(width))
        return Listing("csv:numbers", classes, names, numbers, images, "regression", given, notes, skipped)
    if meaning == "labels":
        sets = [{part.strip() for part in cell.split(";") if part.strip()} for cell in cells]
        classes = tuple(sorted(set().union(*sets), key=natural))
        if not classes:
            raise DataError(path, "no image has any label", code="csv-columns")
        check_twins(path, classes)
        position = {name: number for number, name in enumerate(classes)}
        matrix = np.zeros((len(sets), len(classes)), np.uint8)
        for row, some in enumerate(sets):
            matrix[row, [position[name] for name in some]] = 1
        return Listing("csv:labels", classes, names, matrix, images, "multi-label", given, notes, skipped)
    empty = [row for row, cell in enumerate(cells) if not cell]
    if empty:
        raise DataError(
            path, f"{len(empty)} images have no label, the first is {printable(names[empty[0]])}", code="csv-label"
        )
    classes = tuple(sorted(set(cells), key=natural))
    check_twins(path, classes)
    position = {name: number for number, name in enumerate(classes)}
    targets = np.array([position[cell] for cell in cells], np.int64)
    return Listing("csv:classes", classes, names, targets, images, "classification", given, notes, skipped)


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
            reason = "is no path"
        elif name == ".." or name.startswith(".." + os.sep):
            reason = "lies outside the folder of the CSV"
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


def _csv_splits(path: Path, lines: Sequence[Sequence[str]], column: int | None) -> NDArray[np.int8] | None:
    if column is None:
        return None
    splits = np.zeros(len(lines), np.int8)
    for row, line in enumerate(lines):
        part = SPLIT_NAMES.get(line[column].strip().lower())
        if part is None:
            raise DataError(
                path,
                f"expected train, val or test in the column split; received {printable(line[column])!r}",
                code="csv-split",
            )
        splits[row] = part
    return splits
