"""From cells to what is to be predicted of each picture: a class, labels or numbers. Several rows of a picture become
one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ...errors import DataError, UsageError, printable
from ..dataset import SPLITS
from ..listing import check_twins, natural
from ..table_options import TableOptions
from ..tasks import TARGET_NOUNS, Task
from .cells import is_missing, number_of, parts_of, truth_values
from .columns import PARTS, Choice, Column
from .file import UNIT, names_hint

_SEPARATOR_WORDS: Final = {" ": "a blank", "\t": "a tab"}


@dataclass(frozen=True)
class Meaning:
    """How the cells of the chosen columns are read.

    Attributes:
        task: what is to be predicted.
        between: what divides several labels or numbers in one cell, if anything.
        truth: whether the columns hold 0 and 1 and their names are the classes or labels.
        one_each: whether each row has one label, and an image as many as it has rows.
        note: what was found, with the option that says otherwise.
    """

    task: Task
    between: str | None = None
    truth: bool = False
    one_each: bool = False
    note: str = ""


@dataclass
class Targets:
    """What is to be predicted of N pictures.

    Attributes:
        task, classes, values: as of `Dataset`.
        rows: of each picture its first row.
        names: the pictures.
        repeated: how many further rows they have.
        left_out: rows without a class or number, and why.
        notes: what was found.
    """

    task: Task
    classes: tuple[str, ...]
    values: NDArray[Any]
    rows: list[int]
    names: list[str]
    repeated: int
    left_out: list[tuple[int, str]]
    notes: list[str] = field(default_factory=list)


def meaning(columns: Sequence[Column], choice: Choice, asked: TableOptions, like: TableOptions | None) -> Meaning:
    """How the cells of the columns to predict are read.

    Raises:
        UsageError: several columns of names cannot be one class (`table-option-invalid`).
    """
    task = choice.task
    chosen = [columns[position] for position in choice.labels]
    between = asked.label_separator
    if between is None and like is not None and task == like.task:
        between = like.label_separator
    if len(chosen) > 1:
        return _meaning_of_several(chosen, task, between)
    column = chosen[0]
    if asked.task is None and like is not None and task == like.task == "multi-label" and between is None:
        note = f"{column.words} is read as labels, one in each row, as in the run's own table (--label-column, --task)"
        return Meaning("classification", one_each=True, note=note)
    found, between, why = _meaning_of_one(column, between, task)
    note = f"{column.words} is read as {TARGET_NOUNS[found]}: {why} (--label-column, --task)"
    if asked.task is not None:
        note = f"{column.words} is read as {TARGET_NOUNS[found]}, as asked (--label-column)"
    return Meaning(found, between, note=note)


def _meaning_of_several(chosen: Sequence[Column], task: Task | None, between: str | None) -> Meaning:
    named = "the columns " if any(column.named for column in chosen) else ""
    names = named + names_hint([column.name for column in chosen])
    truth = all(column.kind in ("binary", "empty") for column in chosen)
    numeric = all(column.kind in ("binary", "whole", "number") for column in chosen)
    if task == "regression" or (task is None and numeric and not truth):
        note = f"{names} are numbers to be predicted (--label-column, --task)"
        return Meaning("regression", note=note)
    if truth:
        single = all(sum(_truth_of(column)[row] for column in chosen) == 1 for row in range(len(chosen[0].cells)))
        found: Task = "classification" if task == "classification" else "multi-label"
        more = "; each row has exactly one: --task classification reads them as classes" if single else ""
        note = f"{names} are {TARGET_NOUNS[found]}, 1 where an image has one (--label-column, --task)"
        return Meaning(found, truth=True, note=note + (more if found == "multi-label" else ""))
    if task == "classification":
        raise UsageError(
            "--task",
            f"one class cannot be read from {names}, which do not hold 0 and 1",
            hint="name one column: --label-column NAME, or leave out --task",
            code="table-option-invalid",
        )
    return Meaning("multi-label", between, note=f"{names} hold labels (--label-column, --task)")


def _meaning_of_one(column: Column, between: str | None, task: Task | None) -> tuple[Task, str | None, str]:
    tags = between or column.tags
    if task is not None:
        why = "as in the run's own table"
        if task == "classification":
            return task, None, why
        if task == "regression":
            return task, between or (";" if any(";" in value for value in column.values) else None), why
        return task, tags or ";", why
    if between is not None or (tags is not None and column.kind == "text"):
        assert tags is not None
        counts = {len(value.split(tags)) for value in column.values}
        numbers = [number_of(part) for value in column.values for part in parts_of(value, tags)]
        alike = between is None and tags == ";" and None not in numbers and len(counts) == 1
        if alike and any("." in value for value in column.values):
            return "regression", tags, "every cell holds the same count of numbers"
        if tags in (UNIT, "[]"):
            return "multi-label", tags, "its cells are lists"
        word = _SEPARATOR_WORDS.get(tags, printable(tags))
        return "multi-label", tags, f"some cells hold several values, divided by {word}"
    if column.kind == "binary" and not column.padded:
        return "classification", None, f"only {' and '.join(sorted(column.values))} occur"
    if column.padded:
        return "classification", None, "whole numbers that begin with zeros are names"
    if (column.kind == "whole" or column.whole_decimals) and column.repeats:
        return "classification", None, f"whole numbers with only {len(column.values)} different values"
    if column.kind in ("whole", "number"):
        words = "numbers with many values" if column.kind == "whole" else "numbers with decimals"
        return "regression", None, f"its cells are {words}"
    if column.name.strip().lower() in ("labels", "tags") and "" in column.cells:
        return "multi-label", ";", "some cells are empty"
    return "classification", None, "each cell holds one name"


def _truth_of(column: Column) -> list[int]:
    table = truth_values(column.values) or {}
    return [table.get(cell, 0) for cell in column.cells]


@dataclass
class Reader:
    """Reads the cells of the chosen columns, row by row, and puts rows of the same picture together.

    Attributes:
        path: the table, for messages.
        columns: those to predict.
        meaning: how they are read.
        names: of each row its picture.
        lines: of each row its line.
        firm: whether the task was named, so that several rows of a picture must agree.
    """

    path: Path
    columns: Sequence[Column]
    meaning: Meaning
    names: Sequence[str]
    lines: Sequence[int]
    firm: bool

    def read(self) -> Targets:
        """All rows.

        Raises:
            DataError: a cell is no number (`csv-number`), rows contradict each other (`table-contradiction`), or most
                rows have no label (`csv-label`).
        """
        values, left_out = self._values()
        task = self.meaning.task
        order: dict[str, int] = {}
        rows: list[int] = []
        merged: list[Any] = []
        repeated, several = 0, 0
        for row, (name, value) in enumerate(zip(self.names, values, strict=True)):
            if value is None:
                continue
            place = order.setdefault(name, len(rows))
            if place == len(rows):
                rows.append(row)
                merged.append(value)
                continue
            repeated += 1
            if merged[place] == value:
                continue
            if task == "regression" or (task == "classification" and self.firm):
                raise self._contradiction(rows[place], row, merged[place], value)
            before = merged[place] if isinstance(merged[place], frozenset) else frozenset([merged[place]])
            several += not isinstance(merged[place], frozenset)
            merged[place] = before | (value if isinstance(value, frozenset) else frozenset([value]))
        note = self.meaning.note
        if task == "classification" and (several or self.meaning.one_each):
            task = "multi-label"
            merged = [value if isinstance(value, frozenset) else frozenset([value]) for value in merged]
            words = self.columns[0].words
            why = f"{several} images have rows with different ones (--label-column, --task)"
            note = note if self.meaning.one_each else f"{words} is read as labels: {why}"
        notes = [note]
        if repeated:
            notes.append(f"{repeated} rows name an image that has a row already, and are taken together with it")
        self._check_left_out(left_out, len(values))
        classes, targets = self._targets(task, merged)
        names = [self.names[row] for row in rows]
        return Targets(task, classes, targets, rows, names, repeated, left_out, notes)

    def _values(self) -> tuple[list[Any], list[tuple[int, str]]]:
        """Of each row a class, a frozenset of labels or a tuple of numbers; None where the row has none."""
        task, between = self.meaning.task, self.meaning.between
        if self.meaning.truth:
            return self._truth_values()
        if task == "regression":
            return self._numbers()
        if task == "multi-label":
            known: dict[str, frozenset[str]] = {"": frozenset()}
            sets = [
                [known.get(cell) or known.setdefault(cell, self._labels_in(cell, between)) for cell in column.cells]
                for column in self.columns
            ]
            if len(sets) == 1:
                return list(sets[0]), []
            return [frozenset().union(*some) for some in zip(*sets, strict=True)], []
        column = self.columns[0]
        whole = (column.kind == "whole" and not column.padded) or column.whole_decimals
        missing = {value for value in column.values if whole and is_missing(value)} | {""}
        plain = {value: re.sub(r"\.0+$", "", value) if whole else value for value in column.values}
        values: list[Any] = [None if cell in missing else plain[cell] for cell in column.cells]
        return values, [(self.lines[row], "has no label") for row, value in enumerate(values) if value is None]

    def _labels_in(self, cell: str, between: str | None) -> frozenset[str]:
        return frozenset(parts_of(cell, between) if between is not None else [cell])

    def _truth_values(self) -> tuple[list[Any], list[tuple[int, str]]]:
        tables = [truth_values(column.values) or {} for column in self.columns]
        values: list[Any] = []
        left_out: list[tuple[int, str]] = []
        for row in range(len(self.names)):
            numbers = [table.get(column.cells[row]) for table, column in zip(tables, self.columns, strict=True)]
            filled = [number for table, number in zip(tables, numbers, strict=True) if table]
            names = [column.name for column, number in zip(self.columns, numbers, strict=True) if number]
            if None in filled:
                values.append(None)
                left_out.append((self.lines[row], "has an empty cell among its labels"))
            elif self.meaning.task == "multi-label":
                values.append(frozenset(names))
            elif len(names) == 1:
                values.append(names[0])
            else:
                raise DataError(
                    self.path,
                    f"line {self.lines[row]} has {len(names)} classes; expected a single 1 in these columns",
                    hint="read them as labels: --task multi-label",
                    code="table-contradiction",
                )
        return values, left_out

    def _numbers(self) -> tuple[list[Any], list[tuple[int, str]]]:
        between = self.meaning.between
        values: list[Any] = []
        left_out: list[tuple[int, str]] = []
        width = 0
        for row in range(len(self.names)):
            cells = [column.cells[row] for column in self.columns]
            if len(cells) == 1 and between is not None:
                cells = cells[0].split(between)
            width = width or len(cells)
            if any(is_missing(cell) for cell in cells):
                values.append(None)
                left_out.append((self.lines[row], "has no number"))
                continue
            numbers = [number_of(cell, comma=self.columns[0].comma) for cell in cells]
            if None in numbers or len(numbers) != width:
                wrong = cells[numbers.index(None)] if None in numbers else self.columns[0].cells[row]
                raise DataError(
                    self.path,
                    f"line {self.lines[row]}: expected a number; received {printable(wrong)[:80]!r}",
                    hint="correct the cell, or name the column of classes: --label-column NAME",
                    code="csv-number",
                )
            values.append(tuple(numbers))
        return values, left_out

    def _targets(self, task: Task, values: Sequence[Any]) -> tuple[tuple[str, ...], NDArray[Any]]:
        if task == "regression":
            width = len(values[0]) if values else len(self.columns)
            names = tuple(column.name for column in self.columns)
            if len(names) != width:
                names = tuple(f"{names[0]} {place + 1}" for place in range(width))
            return names, np.array(values, np.float32).reshape(-1, width)
        found: Iterable[str] = set(values) if task == "classification" else set().union(*values)
        classes = tuple(sorted(found, key=natural))
        if self.meaning.truth and task == "multi-label":
            classes = tuple(column.name for column in self.columns)
        if not classes:
            raise DataError(
                self.path, "no image has any label", hint="name another column: --label-column NAME", code="csv-columns"
            )
        check_twins(self.path, classes)
        position = {name: number for number, name in enumerate(classes)}
        if task == "classification":
            return classes, np.array([position[value] for value in values], np.int64)
        matrix = np.zeros((len(values), len(classes)), np.uint8)
        for row, some in enumerate(values):
            matrix[row, [position[name] for name in some]] = 1
        return classes, matrix

    def _check_left_out(self, left_out: list[tuple[int, str]], rows: int) -> None:
        if 2 * len(left_out) > rows or (left_out and rows < 4):
            line, reason = left_out[0]
            raise DataError(
                self.path,
                f"{len(left_out)} of {rows} rows cannot be used: line {line} {reason}",
                hint="fill them in, or name another column: --label-column NAME",
                code="csv-label",
            )

    def _contradiction(self, first: int, second: int, one: Any, other: Any) -> DataError:
        hint = "keep one row for this image"
        if self.meaning.task == "classification":
            hint += ", or read them as labels: --task multi-label"
        return DataError(
            self.path,
            f"{printable(self.names[second])} is {_shown(one)} in line {self.lines[first]} and {_shown(other)} in "
            f"line {self.lines[second]}",
            hint=hint,
            code="table-contradiction",
        )


def _shown(value: Any) -> str:
    return ", ".join(f"{number:g}" for number in value) if isinstance(value, tuple) else printable(value)


def splits_of(
    path: Path, column: Column, names: Sequence[str], lines: Sequence[int], rows: Sequence[int]
) -> NDArray[np.int8]:
    """The part of each of the pictures in `rows`.

    Raises:
        DataError: a cell names no part (`csv-split`), or rows of one picture different ones (`table-contradiction`).
    """
    parts: dict[str, tuple[int, int]] = {}
    used = {names[row] for row in rows}
    for row, cell in enumerate(column.cells):
        if names[row] not in used:
            continue
        part = PARTS.get(cell.lower())
        if part is None:
            raise DataError(
                path,
                f"line {lines[row]}: expected train, val or test in the column {printable(column.name)}; received "
                f"{printable(cell)!r}",
                hint="name the part of each image, or take the column out",
                code="csv-split",
            )
        before, line = parts.setdefault(names[row], (part, lines[row]))
        if before != part:
            raise DataError(
                path,
                f"{printable(names[row])} is in the {SPLITS[before]} part in line {line} and in the "
                f"{SPLITS[part]} part in line {lines[row]}",
                hint="keep it in one part",
                code="table-contradiction",
            )
    return np.array([parts[names[row]][0] for row in rows], np.int8)


def groups_of(path: Path, column: Column, names: Sequence[str], lines: Sequence[int], rows: Sequence[int]) -> list[str]:
    """The group of each of the pictures in `rows`; empty where the cell is.

    Raises:
        DataError: rows of one picture name different groups (`table-contradiction`).
    """
    groups: dict[str, tuple[str, int]] = {}
    for row, cell in enumerate(column.cells):
        before, line = groups.setdefault(names[row], (cell, lines[row]))
        if before != cell:
            raise DataError(
                path,
                f"{printable(names[row])} is in the group {printable(before)!r} in line {line} and in the group "
                f"{printable(cell)!r} in line {lines[row]}",
                hint="name one group for each picture",
                code="table-contradiction",
            )
    return ["" if is_missing(cell) else cell for cell in (groups[names[row]][0] for row in rows)]
