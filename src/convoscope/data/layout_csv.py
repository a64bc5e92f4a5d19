"""A table with a row for each image: its path and what is to be predicted. `tables/` reads it."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Final

from ..errors import DataError, UsageError, printable, shell_word
from .dataset import Skipped, TableRows
from .listing import Listing, check_ordinary, is_clutter
from .registry import TABLE, TABLE_ENDINGS, Contents, ReadOptions, layout
from .sources import FileImages
from .table_options import TableOptions
from .tables.columns import Choice, Column, choose, path_column, position_of
from .tables.file import JSON_ENDINGS, Rows, names_hint, read_json_lines, read_rows, read_text, separators, unquoted
from .tables.join import join, split_tables
from .tables.paths import Found, Pictures, common_folder, folded, rewritten
from .tables.targets import Reader, Targets, groups_of, meaning, splits_of
from .tasks import TARGET_NOUNS

_TEXT_ENDINGS: Final = (".txt", ".tab")
_SAMPLE: Final = 100


def _claims(contents: Contents) -> bool:
    if not contents.path.is_dir():
        return contents.tables == 1 or contents.count(*_TEXT_ENDINGS) == 1
    if contents.tables == 0 and contents.folders and len(split_tables(contents.path, TABLE_ENDINGS)) > 1:
        return True
    return (
        contents.tables == 1
        and not contents.class_folders
        and bool(contents.folders or contents.pictures or not contents.arrays)
    )


@layout(
    TABLE,
    about="a table (CSV, TSV or JSON lines) with a row for each image",
    looks_like="a table (CSV, TSV, JSON lines) with a column of paths and one of classes or of several labels (`a;b`), "
    "columns of 0 and 1, or columns of numbers; a `split` column is heeded",
    order=15,  # before class folders, as which any folder of folders is taken
    claims=_claims,
    variants=tuple(TARGET_NOUNS.values()),
)
def read_csv(path: Path, options: ReadOptions) -> Listing:
    """A table with a row for each image: its path and what is to be predicted.

    Which column is what is found from the cells; `TableOptions` says otherwise. A column of text that recurs holds
    classes, or labels where a cell holds several; several columns of 0 and 1 are labels; whole numbers that recur or
    begin with zeros are classes; other numbers are to be predicted.

    Raises:
        UsageError: an option names what is not there, or contradicts the layout's variant.
        DataError: the table cannot be read, or it cannot be told what it means; see each one's `code`.
    """
    asked = _with_variant(options)
    parts = split_tables(path, TABLE_ENDINGS) if path.is_dir() else {}
    if len(parts) < 2 or any(_is_table(file) for file in path.iterdir()):
        return _read_table(_the_table(path), asked, options)
    listings: dict[str, Listing] = {}
    for folder, file in parts.items():
        check_ordinary(file, path)
        listings[folder] = _read_table(file, asked, options)
        # The others are read as the first one is.
        options = options if options.like is not None else replace(options, like=listings[folder].table)
    return join(path, listings, tiff=options.tiff)


def _read_table(path: Path, asked: TableOptions, options: ReadOptions) -> Listing:
    """One table."""
    table = _Table.read(path, asked, options.like)
    found = [table.pictures.find(cell) for cell in table.columns[table.position].cells]
    rows, skipped = table.sorted_out(found)
    columns = [replace(column, cells=[column.cells[row] for row in rows]) for column in table.columns]
    lines = [table.rows.lines[row] for row in rows]
    names = [found[row].name for row in rows]
    choice = choose(path, columns, table.position, asked, options.like)
    read_as = meaning(columns, choice, asked, options.like)
    chosen = [columns[position] for position in choice.labels]
    targets = Reader(path, chosen, read_as, names, lines, asked.task is not None).read()
    given = None if choice.split is None else splits_of(path, columns[choice.split], names, lines, targets.rows)
    groups = None if choice.group is None else groups_of(path, columns[choice.group], names, lines, targets.rows)
    unread = ((line, bad.reason) for line, bad in skipped)
    left_out = sorted([*table.rows.left_out, *targets.left_out, *unread])
    counts = TableRows(table.total, len(targets.names), targets.repeated, tuple(left_out))
    settled = TableOptions(
        path_column=table.columns[table.position].name,
        label_columns=tuple(column.name for column in chosen),
        task=targets.task,
        separator=table.rows.separator,
        label_separator=read_as.between,
        root=asked.root and str(Path(asked.root).absolute()),
        encoding=table.rows.encoding,
        group=None if choice.group is None else columns[choice.group].name,
    )
    return Listing(
        TABLE,
        targets.classes,
        targets.names,
        targets.values,
        FileImages(table.pictures.root, targets.names, tiff=options.tiff),
        targets.task,
        given,
        _notes(table, columns, choice, targets, counts, [found[row] for row in rows]),
        [_with_line(line, bad) for line, bad in skipped],
        table=settled if table.root is None else replace(settled, root=table.root),
        rows=counts,
        groups=groups,
    )


def _with_line(line: int, bad: Skipped) -> Skipped:
    """What is said of a row that was left out, with its line unless that is its name."""
    return bad if bad.path == f"line {line}" else Skipped(bad.path, f"{bad.reason} (line {line})")


def _with_variant(options: ReadOptions) -> TableOptions:
    """The options, with the task of `csv:labels` and the like.

    Raises:
        UsageError: another task was asked for (`option-twice`).
    """
    asked = options.table
    if not options.variant:
        return asked
    task = next(task for task, noun in TARGET_NOUNS.items() if noun == options.variant)
    if asked.task not in (None, task):
        reason = f"contradicts --layout {TABLE}:{options.variant}"
        raise UsageError(f"--task {asked.task}", reason, hint="leave one of them out", code="option-twice")
    return replace(asked, task=task)


def _is_table(file: Path) -> bool:
    return file.suffix.lower() in TABLE_ENDINGS and not is_clutter(file.name)


def _the_table(path: Path) -> Path:
    """The table at a path, or the only one in a folder.

    Raises:
        DataError: there is none or several (`csv-missing`), or it is no ordinary file.
    """
    if path.is_dir():
        tables = sorted(filter(_is_table, path.iterdir()))
        if len(tables) != 1:
            found = f" ({', '.join(printable(file.name) for file in tables[:5])})" if tables else ""
            raise DataError(
                path,
                f"expected one table (CSV, TSV or JSON lines); found {len(tables)}{found}",
                hint="name the table itself",
                code="csv-missing",
            )
        path = tables[0]
    check_ordinary(path)
    return path


@dataclass
class _Table:
    """A table whose columns have names, and whose column of paths is known.

    Attributes:
        path: the file.
        rows: its rows, and what was left out of them.
        columns: all columns that hold anything or have a name.
        position: that of the column with the paths.
        pictures: where they are.
        total: how many rows there are, empty ones included.
        root: the root folder that was taken from another table.
        ragged: line and reason of the rows with another number of cells.
    """

    path: Path
    rows: Rows
    columns: list[Column]
    position: int
    pictures: Pictures
    total: int
    root: str | None
    ragged: list[tuple[int, Skipped]]

    @classmethod
    def read(cls, path: Path, asked: TableOptions, like: TableOptions | None) -> _Table:
        """Read the file.

        Raises:
            UsageError: the root is no folder (`table-root`), or there is no column of a name.
            DataError: `no-images`, `csv-line`, `csv-columns`, `table-encoding`.
        """
        text, encoding = read_text(path, asked, like)
        pictures = _pictures(path, asked, encoding)
        rows = _rows(path, text, asked, like, pictures)
        rows.encoding = encoding
        total = len(rows.cells) + len(rows.left_out)
        named = rows.names is not None
        header = rows.names
        if header is None and rows.cells and not _is_row(rows.cells[0], pictures):
            header, named = rows.cells.pop(0), True
            rows.lines.pop(0)
            total -= 1
        if not rows.cells:
            raise DataError(path, "lists no image", hint="add a row for each image", code="no-images")
        names = _unique(header if header is not None else [""] * max(map(len, rows.cells)))
        ragged = _level(path, rows, names, named=named)
        comma = rows.separator is not None and rows.separator != ","
        columns = [
            Column(
                name,
                [unquoted(row[place].strip()) for row in rows.cells],
                named=bool(header and header[place].strip()),
                comma=comma,
            )
            for place, name in enumerate(names)
        ]
        rows.cells = []
        columns = [column for column in columns if column.named or column.kind != "empty"]
        position, root = _paths_of(path, columns, pictures, asked, like)
        return cls(path, rows, columns, position, pictures, total, root, ragged)

    def sorted_out(self, found: Sequence[Found]) -> tuple[list[int], list[tuple[int, Skipped]]]:
        """The rows that name a picture, and the others with their reasons.

        Raises:
            DataError: these are more than half (`csv-paths`, `csv-line`).
        """
        cells = self.columns[self.position].cells
        rows: list[int] = []
        skipped = list(self.ragged)
        foreign = self._foreign(found)
        for row, one in enumerate(found):
            reason = one.reason
            if len(foreign.get(one.name, ())) > 1 and not one.exact:
                reason = f"can be {printable(one.name)}, but so can another path"
            if not reason:
                rows.append(row)
                continue
            if reason == "is not there":
                near = self.pictures.nearest(cells[row])
                reason += f"; the nearest is {printable(near)}" if near else ""
            line = self.rows.lines[row]
            skipped.append((line, Skipped(cells[row] or f"line {line}", reason)))
        skipped.sort(key=lambda item: item[0])
        if 2 * len(skipped) > len(found) + len(self.ragged):
            raise self._too_many(skipped, found, len(found) + len(self.ragged))
        return rows, skipped

    def _foreign(self, found: Sequence[Found]) -> dict[str, set[str]]:
        """Of each picture the different paths from another machine that were taken for it: of several none is sure."""
        foreign: dict[str, set[str]] = {}
        for one, cell in zip(found, self.columns[self.position].cells, strict=True):
            if one.name and not one.exact:
                text, far = rewritten(cell)
                if far:
                    foreign.setdefault(one.name, set()).add(folded(text))
        return foreign

    def _too_many(self, skipped: Sequence[tuple[int, Skipped]], found: Sequence[Found], total: int) -> DataError:
        if len(self.ragged) * 2 > total:
            line, bad = self.ragged[0]
            return DataError(
                self.path,
                f"line {line} {bad.reason}",
                hint="name what divides the cells, such as --separator ';', or put cells that hold it into quotes",
                code="csv-line",
            )
        first = "; ".join(f"{printable(bad.path)} {bad.reason}" for _, bad in skipped[:5])
        outside = [one.outside for one in found if one.outside]
        folder = common_folder(Path(self.pictures.folder), outside) if outside else ""
        hint = "paths count from the table's folder; name another one: --root FOLDER"
        if folder:
            hint = f"name the folder in which all of them lie: --root {shell_word(folder)}"
        return DataError(
            self.path,
            f"{len(skipped)} of {total} rows name no picture that can be read: {first}",
            hint=hint,
            code="csv-paths",
        )


def _pictures(path: Path, asked: TableOptions, encoding: str) -> Pictures:
    folder = os.path.realpath(path.parent)
    if asked.root is not None and not Path(asked.root).is_dir():
        raise UsageError(
            "--root",
            f"{printable(asked.root)} is not a folder",
            hint="name the folder of the pictures",
            code="table-root",
        )
    return Pictures(folder, folder if asked.root is None else os.path.realpath(asked.root), encoding)


def _rows(path: Path, text: str, asked: TableOptions, like: TableOptions | None, pictures: Pictures) -> Rows:
    """The file's rows, divided by the separator that was named or else makes most of them."""
    if path.suffix.lower() in JSON_ENDINGS:
        return read_json_lines(path, text)
    if asked.separator is not None:
        return read_rows(path, text, asked.separator)
    candidates = separators(path, text)
    if like is not None and like.separator in candidates:
        candidates.remove(like.separator)
        candidates.insert(0, like.separator)
    if len(candidates) > 1:
        sample = "".join(text.splitlines(keepends=True)[:_SAMPLE]) if len(text) < 10_000_000 else text[:100_000]
        candidates.sort(key=lambda separator: -_paths_in(path, sample, separator, pictures))
    return read_rows(path, text, candidates[0])


def _paths_in(path: Path, sample: str, separator: str, pictures: Pictures) -> int:
    """How many columns of the first rows name a picture, at most one."""
    try:
        cells = read_rows(path, sample, separator).cells
    except DataError:
        return 0
    shown = [cell for row in cells if len(row) > 1 for cell in row][: 10 * _SAMPLE]
    return int(any(pictures.at_once(cell).name for cell in shown))


def _is_row(cells: Sequence[str], pictures: Pictures) -> bool:
    """Whether the first row is none of names: one of its cells is the path of a picture."""
    return any(pictures.at_once(cell).name or _is_picture(cell) for cell in cells)


def _is_picture(cell: str) -> bool:
    return path_column([Column("", [cell], named=False, comma=False)], lambda _: False) is not None


def _unique(header: Sequence[str]) -> list[str]:
    """Names without blanks around them, each once: nameless columns are called after their place, `label` that comes
    again `label (2)`.
    """
    names: list[str] = []
    for place, written in enumerate(header, 1):
        name = written.strip() or f"column {place}"
        number, plain = 2, name
        while name in names:
            name, number = f"{plain} ({number})", number + 1
        names.append(name)
    return names


def _level(path: Path, rows: Rows, names: list[str], *, named: bool) -> list[tuple[int, Skipped]]:
    """Give every row as many cells as there are columns. Rows that have others are taken out, and named."""
    width = len(names)
    while named and width > 1 and names[width - 1] == f"column {width}":
        width -= 1
    ragged: list[tuple[int, Skipped]] = []
    keep = []
    for row, cells in enumerate(rows.cells):
        count = len(cells)
        if count < len(names) and (count >= width or not named):
            cells.extend([""] * (len(names) - count))
        elif count > len(names) and not any(cell.strip() for cell in cells[len(names) :]):
            del cells[len(names) :]
        if len(cells) == len(names):
            keep.append(row)
            continue
        line = rows.lines[row]
        reason = f"has {count} cell{'s' * (count != 1)}, the first line {len(names)}"
        ragged.append((line, Skipped(f"line {line}", reason)))
    if ragged:
        rows.cells = [rows.cells[row] for row in keep]
        for place, row in enumerate(keep):
            rows.lines[place] = rows.lines[row]
        del rows.lines[len(keep) :]
        if 2 * len(ragged) > len(keep) + len(ragged):
            line, bad = ragged[0]
            raise DataError(
                path,
                f"line {line} {bad.reason}",
                hint="name what divides the cells, such as --separator ';', or put cells that hold it into quotes",
                code="csv-line",
            )
    return ragged


def _paths_of(
    path: Path, columns: Sequence[Column], pictures: Pictures, asked: TableOptions, like: TableOptions | None
) -> tuple[int, str | None]:
    """The column of paths, and the root folder if that of another table is where the pictures are.

    Raises:
        UsageError: there is no column of the name (`table-column-missing`).
        DataError: no column names pictures (`csv-columns`).
    """
    wanted = asked.path_column
    if wanted is None and like is not None and like.path_column in [column.name for column in columns]:
        wanted = like.path_column
    position = position_of(path, columns, wanted, "path-column") if wanted is not None else None
    tests: tuple[Callable[[str], Found], ...] = (pictures.at_once, pictures.find)
    for find in tests if position is None else ():
        position = path_column(columns, lambda cell, find=find: bool(find(cell).name))  # type: ignore[misc]
        if position is not None and any(find(cell).name for cell in columns[position].cells[:_SAMPLE]):
            break
    if position is None:
        raise DataError(
            path,
            f"no column names pictures that are there; found {names_hint([column.name for column in columns][:40])}",
            hint=f"name it: --path-column {shell_word(columns[0].name)}; or the pictures' folder: --root FOLDER",
            code="csv-columns",
        )
    root = _root_of_another(columns[position].cells[:_SAMPLE], pictures, asked, like)
    return position, root


def _root_of_another(
    cells: Sequence[str], pictures: Pictures, asked: TableOptions, like: TableOptions | None
) -> str | None:
    """The root folder of another table, where it has pictures of this one and the table's own folder has none."""
    if asked.root is not None or like is None or like.root is None or not Path(like.root).is_dir():
        return None
    if any(pictures.at_once(cell).name for cell in cells):
        return None
    other = Pictures(pictures.folder, os.path.realpath(like.root), pictures.encoding)
    if not any(other.find(cell).name for cell in cells):
        return None
    pictures.move(other.root)
    return like.root


def _notes(
    table: _Table,
    columns: Sequence[Column],
    choice: Choice,
    targets: Targets,
    counts: TableRows,
    found: Sequence[Found],
) -> list[str]:
    """What was chosen, each with the option that says otherwise, and what became of the rows."""
    notes = table.rows.notes(table.path)
    notes.append(f"the pictures' paths are in {columns[table.position].words} (--path-column)")
    notes += [*choice.notes, *targets.notes]
    if choice.split is not None:
        notes.append(f"the parts are in {columns[choice.split].words}")
    if choice.group is not None:
        notes.append(f"images with the same cell in {columns[choice.group].words} stay together (--group)")
    if choice.ignored:
        notes.append(f"ignored: {names_hint(choice.ignored)}")
    other = [row for row, one in enumerate(found) if not one.exact]
    if other:
        row = other[0]
        cell = printable(columns[table.position].cells[row])
        notes.append(
            f"{len(other)} paths are written otherwise than their files, "
            f"such as {cell} for {printable(found[row].name)}"
        )
    if counts.total != counts.images:
        more = f", {counts.repeated} further rows of the same images" if counts.repeated else ""
        notes.append(
            f"the table has {counts.total} rows: {counts.images} images{more}, {len(counts.left_out)} left out"
        )
    quiet = sorted([*table.rows.left_out, *targets.left_out])
    for reason, number in Counter(reason for _, reason in quiet).most_common():
        lines = [line for line, why in quiet if why == reason]
        notes.append(
            f"left out: {_spans(lines)}, which {reason}"
            if number == 1
            else f"left out: {_spans(lines)}, {number} rows, each {reason}"
        )
    return notes


def _spans(lines: Sequence[int], most: int = 8) -> str:
    """`lines 3, 5 to 9`."""
    spans = []
    for _, run in groupby(enumerate(lines), lambda item: item[1] - item[0]):
        numbers = [line for _, line in run]
        spans.append(str(numbers[0]) if len(numbers) == 1 else f"{numbers[0]} to {numbers[-1]}")
    more = f" and {len(spans) - most} more" if len(spans) > most else ""
    return f"line{'s' * (len(lines) > 1)} {', '.join(spans[:most])}{more}"
