"""Which column of a table is what: paths, parts, and what is to be predicted. The cells decide; a column's name is one
hint among others. What cannot be decided is asked, by a refusal that names the options.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Final, Literal

from ...errors import DataError, UsageError, printable
from ...suggestions import did_you_mean
from ..listing import ENDINGS, SPLIT_NAMES
from ..table_options import TableOptions
from ..tasks import Task
from .cells import is_date, is_missing, number_of, tag_separator, truth_values
from .file import names_hint, option

Kind = Literal["empty", "binary", "whole", "number", "date", "text"]

_PATH_NAMES: Final = (
    "path", "file", "filename", "file_name", "filepath", "file_path", "image", "image_path", "image_name", "img", "id",
    "image_id", "picture", "url", "uri",
)  # fmt: skip
_LABEL_NAMES: Final = (
    "label", "labels", "class", "classes", "category", "target", "tag", "tags", "choice", "class_name", "label_name",
    "categories",
)  # fmt: skip
_CLASS_WORDS: Final = frozenset(
    {"label", "labels", "class", "category", "choice", "tag", "tags", "target", "species", "breed"}
)
_ID_WORDS: Final = frozenset({"id", "ids", "uuid", "index", "key"})
_SPLIT_NAMES: Final = ("split", "part", "set", "subset", "ml_use", "usage", "data_type")
_UNASSIGNED: Final = ("", "unassigned")
PARTS: Final = SPLIT_NAMES | {"validate": SPLIT_NAMES["val"], "dev": SPLIT_NAMES["val"]}
"""Names of parts in a table's cells."""
_SAMPLE: Final = 60
_MOST_NAMED: Final = 12


@dataclass(frozen=True)
class Column:
    """One column.

    Attributes:
        name: its name, unique in the table.
        cells: of each row its cell, without blanks around it.
        named: whether the table gives the name.
        comma: whether a comma may be the decimal mark.
    """

    name: str
    cells: Sequence[str]
    named: bool
    comma: bool

    @property
    def words(self) -> str:
        """The column in a sentence."""
        return f"the column {printable(self.name)}" if self.named else printable(self.name)

    @cached_property
    def values(self) -> frozenset[str]:
        """The different cells that are not empty."""
        return frozenset(self.cells) - {""}

    @cached_property
    def kind(self) -> Kind:
        """What all its cells are."""
        values = [value for value in self.values if not is_missing(value)]
        if not values:
            return "text" if self.values else "empty"
        if truth_values(self.values) is not None:
            return "binary"
        if all(number_of(value, comma=self.comma) is not None for value in values):
            return "whole" if all(re.fullmatch(r"[+-]?\d+", value) for value in values) else "number"
        return "date" if all(map(is_date, values)) else "text"

    @cached_property
    def repeats(self) -> bool:
        """Whether a value has two cells or more on average."""
        return 2 * len(self.values) <= sum(1 for cell in self.cells if cell)

    @cached_property
    def whole_decimals(self) -> bool:
        """Whether all its numbers are whole but written with decimals: pandas does so with classes, too, if some are
        missing.
        """
        values = [value for value in self.values if not is_missing(value)]
        return self.kind == "number" and all(re.fullmatch(r"[+-]?\d+\.0+", value) for value in values)

    @cached_property
    def padded(self) -> bool:
        """Whether whole numbers begin with zeros: then they are names."""
        return self.kind in ("whole", "binary") and any(re.fullmatch(r"0\d+", value) for value in self.values)

    @cached_property
    def counts_up(self) -> bool:
        """Whether it numbers the rows."""
        numbers = [int(cell) if re.fullmatch(r"\d{1,15}", cell) else -1 for cell in self.cells]
        return len(numbers) > 1 and all(after == before + 1 for before, after in pairwise(numbers))

    @cached_property
    def identifies(self) -> bool:
        """Whether it only tells the rows apart: it numbers them, or is called id and never repeats."""
        if self.counts_up or (not self.named and self.kind == "whole" and not self.repeats):
            return True
        words = _words(self.name)
        indexed = bool(re.match(r"(unnamed: ?\d+|index|level_\d+)$", self.name.lower()))
        return len(self.values) == len(self.cells) and (indexed or bool(words & _ID_WORDS))

    @cached_property
    def tags(self) -> str | None:
        """What divides several labels in its cells."""
        return tag_separator(self.cells)

    @cached_property
    def files(self) -> bool:
        """Whether its cells look like pictures' paths."""
        shown = list(self.values)[:_SAMPLE]
        return bool(shown) and sum(_has_ending(value) for value in shown) > len(shown) / 2

    @cached_property
    def recurs(self) -> bool:
        """Whether it is text of which a value comes twice: it may hold classes."""
        return self.kind == "text" and not self.files and 1 < len(self.values) < sum(1 for cell in self.cells if cell)

    @cached_property
    def names_things(self) -> bool:
        """Whether classes or labels can be in it: text whose values recur."""
        return (
            self.kind == "text" and not self.files and len(self.values) > 1 and (self.repeats or self.tags is not None)
        )


@dataclass(frozen=True)
class Choice:
    """What the columns are.

    Attributes:
        labels: the positions of those with what is to be predicted.
        task: what is to be predicted; None: their cells decide.
        split: the position of the column with parts.
        group: the position of the column that says which images belong together.
        ignored: names of columns that are not used.
        notes: what was chosen, with the option that says otherwise.
    """

    labels: tuple[int, ...]
    task: Task | None
    split: int | None
    ignored: tuple[str, ...]
    notes: tuple[str, ...] = ()
    group: int | None = None


def path_column(columns: Sequence[Column], is_there: Callable[[str], bool]) -> int | None:
    """The column whose cells name pictures that are there, or else seem to; None: there is none."""
    best: tuple[float, ...] = ()
    chosen = None
    for position, column in enumerate(columns):
        values = list(dict.fromkeys(cell for cell in column.cells[: 50 * _SAMPLE] if cell))
        shown = values[:: max(1, len(values) // _SAMPLE)][:_SAMPLE]
        if not shown:
            continue
        there = sum(map(is_there, shown)) / len(shown)
        ending = sum(map(_has_ending, shown)) / len(shown)
        named = column.name.lower() in _PATH_NAMES
        if not there and ending < 0.5 and not (named and column.kind == "text"):
            continue
        score = (round(there + ending, 1), named, -_rank(column.name, _PATH_NAMES), len(values) / len(column.cells))
        if there < 0.3 and not named and ending < 0.5:
            continue
        if score > best:
            best, chosen = score, position
    return chosen


def _has_ending(text: str) -> bool:
    # An address may go on behind the name.
    end = text.partition("?")[0].rpartition(".")[2]
    return f".{end.lower()}" in ENDINGS


def _words(name: str) -> set[str]:
    """The words of a name: image and id of ImageId or image_id."""
    return set(re.split(r"[^a-z]+", re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).lower()))


def _stem(name: str) -> str:
    """A column's name without the number that tells it from others: label of label_2."""
    return re.sub(r"[ _]?\(?\d+\)?$", "", name.strip().lower()) or name


def _rank(name: str, names: Sequence[str]) -> int:
    return names.index(name.lower()) if name.lower() in names else len(names)


def position_of(path: Path, columns: Sequence[Column], name: str, which: str) -> int:
    """The position of a column that was named.

    Raises:
        UsageError: there is none of this name (`table-column-missing`).
    """
    for fold in (str, str.strip, lambda text: text.strip().casefold()):
        found = [position for position, column in enumerate(columns) if fold(column.name) == fold(name)]
        if found:
            return found[0]
    names = [column.name for column in columns]
    raise UsageError(
        f"--{which}",
        f"{printable(path)} has no column {printable(name)!r}; it has {names_hint(names[:40])}",
        hint=did_you_mean(name, names, prefix=f"--{which} ") or "name one of them",
        code="table-column-missing",
    )


def split_column(columns: Sequence[Column], taken: Sequence[int]) -> int | None:
    """The column that says which part an image is in."""
    found: list[tuple[int, int]] = []
    for position, column in enumerate(columns):
        values = {value.lower() for value in column.values} - set(_UNASSIGNED)
        if position in taken or not values:
            continue
        named = column.name.strip().lower() in _SPLIT_NAMES
        known = values & set(PARTS)
        if (known == values and (named or len(values) > 1)) or (known and column.name.strip().lower() == "split"):
            found.append((_rank(column.name.strip(), _SPLIT_NAMES), position))
    return min(found)[1] if found else None


def choose(
    path: Path, columns: Sequence[Column], pictures: int, asked: TableOptions, like: TableOptions | None
) -> Choice:
    """What is to be predicted.

    Args:
        path: the table, for messages.
        columns: all columns.
        pictures: the position of that with the paths.
        asked: what was said.
        like: how another table was read.

    Raises:
        UsageError: a column that was named is not there.
        DataError: there is nothing to predict (`csv-columns`), or it cannot be told what (`table-question`).
    """
    named = tuple(dict.fromkeys(position_of(path, columns, name, "label-column") for name in asked.label_columns))
    task = asked.task
    if not named and like is not None and like.label_columns and task in (None, like.task):
        names = [column.name for column in columns]
        known = [names.index(name) for name in like.label_columns if name in names]
        if known and (len(known) == len(like.label_columns) or like.task == "multi-label"):
            named, task = tuple(known), like.task
    group = _group_column(path, columns, asked, like)
    split = split_column(columns, [pictures, *named, *([] if group is None else [group])])
    others = [
        position
        for position, column in enumerate(columns)
        if position not in (pictures, split, group, *named) and column.kind != "empty"
    ]
    if named:
        return Choice(named, task, split, _names(columns, others), group=group)
    labels, task, notes = _Search(path, columns, others, task).choice()
    return Choice(labels, task, split, _names(columns, [one for one in others if one not in labels]), notes, group)


def _group_column(path: Path, columns: Sequence[Column], asked: TableOptions, like: TableOptions | None) -> int | None:
    """The column that was named as that of groups, or was so in another table and is here, too."""
    if asked.group is not None:
        return position_of(path, columns, asked.group, "group")
    names = [column.name for column in columns]
    return names.index(like.group) if like is not None and like.group in names else None


def _names(columns: Sequence[Column], positions: Sequence[int]) -> tuple[str, ...]:
    return tuple(columns[position].name for position in positions)


_Found = tuple[tuple[int, ...], Task | None, tuple[str, ...]]


@dataclass
class _Search:
    """The search for the columns to predict among those that have no meaning yet."""

    path: Path
    columns: Sequence[Column]
    others: list[int]
    task: Task | None

    def choice(self) -> _Found:
        candidates = [one for one in self.others if not self._aside(self.columns[one])]
        numbers = self._of(candidates, "whole", "number", "binary")
        hinted = self._hinted(candidates)
        if self.task == "regression":
            numeric = [one for one in hinted if one in numbers] or numbers
            # A cell may hold several numbers.
            return self._checked(tuple(numeric or hinted)), self.task, ()
        texts = [one for one in candidates if self.columns[one].names_things]
        binary = [one for one in self._of(candidates, "binary") if not self.columns[one].padded]
        alike = self._alike(hinted or texts)
        if len(alike) > 1:
            return alike, self.task, ()
        if len(hinted) == 1:
            return self._named(hinted[0], [one for one in candidates if self.columns[one].recurs]), self.task, ()
        if len(hinted) > 1:
            raise self._question(hinted)
        if texts:
            best = texts if len(texts) == 1 else self._by_words(texts)
            if len(best) != 1:
                raise self._question([*texts, *numbers])
            return (best[0],), self.task, ()
        if len(binary) > 1:
            return tuple(binary), self.task, ()
        recurring = [one for one in candidates if self.columns[one].recurs]
        if numbers and recurring and self.task is None:
            raise self._question([*recurring, *numbers])
        if len(numbers) > 1:
            classes = self._by_words([one for one in numbers if self._class_numbers(one)], _ID_WORDS | _CLASS_WORDS)
            if len(classes) == 1:
                return (classes[0],), self.task, ()
            if self.task is not None or binary or len(classes) > 1:
                raise self._question(classes if len(classes) > 1 else numbers)
        if len(numbers) == 1 and self.task is None:
            self._check_decimals(self.columns[numbers[0]])
        if numbers:
            return tuple(numbers), self.task, ()
        rest = self._of(candidates, "text")
        if len(rest) == 1 and len(self.columns[rest[0]].values) < len(self.columns[rest[0]].cells):
            return (rest[0],), self.task, ()
        return self._checked(()), self.task, ()

    def _aside(self, column: Column) -> bool:
        """Whether a column is passed over unless it is named."""
        if _stem(column.name) in _LABEL_NAMES:
            return False
        return (
            column.identifies
            or column.files
            or column.kind == "date"
            or (len(column.values) < 2 and column.kind != "empty")
        )

    def _of(self, candidates: Sequence[int], *kinds: Kind) -> list[int]:
        return [one for one in candidates if self.columns[one].kind in kinds]

    def _hinted(self, candidates: Sequence[int]) -> list[int]:
        """Those that are called label or the like. Of `label` and `label (2)` with equal cells one is enough."""
        found = [one for one in candidates if _stem(self.columns[one].name) in _LABEL_NAMES]
        different: dict[tuple[str, ...], int] = {}
        for one in found:
            different.setdefault(tuple(self.columns[one].cells), one)
        return list(different.values())

    def _alike(self, texts: Sequence[int]) -> tuple[int, ...]:
        """Columns of further labels: `label_1`, `label_2`, or nameless ones that some rows leave empty."""
        one = self.columns[texts[0]] if texts else None
        if one is None or one.kind != "text" or self.task not in (None, "multi-label"):
            return ()
        stem = _stem(one.name)
        alike = [place for place in self.others if _stem(self.columns[place].name) == stem]
        alike = [
            place for place in alike if self.columns[place].kind == "text" and self.columns[place].named == one.named
        ]
        if one.named:
            return tuple({tuple(self.columns[place].cells): place for place in reversed(alike)}.values())[::-1]
        alike = [place for place in alike if place >= texts[0]]
        return tuple(alike) if any("" in self.columns[place].cells for place in alike) else ()

    def _named(self, hinted: int, texts: Sequence[int]) -> tuple[int, ...]:
        """The column that is called label, unless it holds numbers to predict while text was passed over."""
        column = self.columns[hinted]
        if column.kind in ("whole", "number") and not self._class_numbers(hinted) and texts and self.task is None:
            raise self._question([hinted, *texts])
        return (hinted,)

    def _by_words(self, texts: Sequence[int], hints: frozenset[str] = _CLASS_WORDS) -> list[int]:
        """Those with label, class or the like as a word in their names."""
        return [one for one in texts if hints & _words(self.columns[one].name)]

    def _class_numbers(self, position: int) -> bool:
        column = self.columns[position]
        return column.kind == "binary" or (column.kind == "whole" and (column.repeats or column.padded))

    def _check_decimals(self, column: Column) -> None:
        if column.whole_decimals and column.repeats:
            raise DataError(
                self.path,
                f"cannot tell whether {column.words} holds classes or numbers: {len(column.values)} whole numbers "
                "recur, all written with decimals",
                hint="say which: --task classification or --task regression",
                code="table-question",
            )

    def _checked(self, found: tuple[int, ...]) -> tuple[int, ...]:
        if found:
            return found
        names = names_hint([column.name for column in self.columns][:40])
        shown = self.columns[self.others[0]].name if self.others else "NAME"
        raise DataError(
            self.path,
            f"no column has classes, labels or numbers to predict; found {names}",
            hint=f"name it: {option('label-column', shown)}",
            code="csv-columns",
        )

    def _question(self, positions: Sequence[int]) -> DataError:
        """The refusal that asks which columns are meant."""
        positions = sorted(dict.fromkeys(positions))
        names = [self.columns[one].name for one in positions][:_MOST_NAMED]
        options = [option("label-column", name) for name in names]
        numbers = self._of(positions, "whole", "number", "binary")
        reason = f"cannot tell which column is to be predicted: {names_hint(names)}"
        hint = f"name it: {' or '.join(options)}"
        if len(numbers) > 1 and len(numbers) == len(positions):
            hint += f"; or all as numbers: {option('task', 'regression')}"
        return DataError(self.path, reason, hint=hint, code="table-question")
