"""A table's file as rows of cells: encoding, separator, quotes, JSON lines. What the cells mean is left to others."""

from __future__ import annotations

import array
import csv
import io
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from ...errors import DataError, printable, shell_word
from ...parsing import parse_json
from ..table_options import TableOptions

UNIT: Final = "\x1f"
"""ASCII's unit separator: stands between the entries of a list in a cell of JSON lines."""
JSON_ENDINGS: Final = (".jsonl", ".ndjson")
_SEPARATORS: Final = ("\t", ";", ",", "|", " ")
_NAMES: Final = {"\t": "tabs", ";": "semicolons", ",": "commas", "|": "vertical bars", " ": "blanks"}
_MOST_SHARED: Final = 20_000
"""Different cells that are kept once each, however often they come."""
_SAMPLE_LINES: Final = 100
_SAMPLE_BYTES: Final = 100_000
_MOST_LINE: Final = 1_000_000
_MARKS: Final = (
    (b"\xef\xbb\xbf", "utf-8-sig"), (b"\xff\xfe\0\0", "utf-32"), (b"\0\0\xfe\xff", "utf-32"),
    (b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"),
)  # fmt: skip
_LATIN: Final = {"cp1250", "cp1252", "cp1254", "cp1257"}
_WRITTEN: Final = (
    "cp1252", "cp1250", "cp1251", "cp1253", "cp1254", "cp1255", "cp1256", "cp1257", "koi8_r", "cp932", "euc_jp",
    "gb18030", "big5", "cp949",
)  # fmt: skip
"""The encodings in which programs of today write tables that are not UTF-8."""
_TEXT_CELL = re.compile(r'="(.*)"', re.DOTALL)


@dataclass
class Rows:
    """The rows of a file that hold anything; nothing is known of them yet.

    Attributes:
        cells: of each row its cells.
        lines: of each row the number of its first line in the file, counted from 1.
        left_out: line and reason of the rows that hold nothing or cannot be read.
        names: the columns' names where the file gives them in each row (JSON lines); None: the first row may be a
            header.
        separator: the character between two cells; None for JSON lines.
        encoding: how the text was decoded.
        ordinary: whether encoding and separator are those that everybody expects.
    """

    cells: list[list[str]]
    lines: array.array[int]
    left_out: list[tuple[int, str]] = field(default_factory=list)
    names: list[str] | None = None
    separator: str | None = None
    encoding: str = "utf-8"

    def notes(self, path: Path) -> list[str]:
        """What is unusual about the file, with the option that says otherwise."""
        notes = []
        if self.encoding not in ("utf-8", "utf-8-sig"):
            notes.append(f"the text is read as {self.encoding} (--encoding)")
        usual = "\t" if path.suffix.lower() in (".tsv", ".tab") else ","
        if self.separator is not None and self.separator != usual:
            name = _NAMES.get(self.separator, printable(repr(self.separator)))
            notes.append(f"the cells are divided by {name} (--separator)")
        return notes


def read_text(path: Path, asked: TableOptions, like: TableOptions | None) -> tuple[str, str]:
    """The file's text, and its encoding.

    Raises:
        DataError: it is not text in the encoding that was named, or in none that can be told (`table-encoding`).
    """
    content = path.read_bytes()
    if asked.encoding is not None:
        return _decoded(path, content, asked.encoding), asked.encoding
    for mark, name in _MARKS:
        if content.startswith(mark):
            return _decoded(path, content, name), "utf-8" if name == "utf-8-sig" else name
    try:
        return content.decode("utf-8"), "utf-8"
    except UnicodeDecodeError:
        pass
    if like is not None and like.encoding not in (None, "utf-8"):
        try:
            return content.decode(str(like.encoding)), str(like.encoding)
        except UnicodeDecodeError:
            pass
    name = _likely_encoding(content)
    return _decoded(path, content, name), name


def _decoded(path: Path, content: bytes, encoding: str) -> str:
    try:
        return content.decode(encoding)
    except UnicodeError as error:
        start = error.start if isinstance(error, UnicodeDecodeError) else 0
        line = content[:start].count(b"\n") + 1
        raise DataError(
            path,
            f"line {line} is not text in {encoding}",
            hint="name its encoding, such as --encoding cp1252, or save it as UTF-8",
            code="table-encoding",
        ) from None


def _likely_encoding(content: bytes) -> str:
    """The encoding of text that is not UTF-8. Western European text is taken as cp1252, as Windows writes it."""
    from charset_normalizer import from_bytes

    # Lines of plain ASCII say nothing about it.
    telling = b"\n".join(dict.fromkeys(line for line in content.split(b"\n") if not line.isascii()))[:_SAMPLE_BYTES]
    if content[:_SAMPLE_BYTES].count(0) > len(content[:_SAMPLE_BYTES]) // 4:
        even, odd = content[0:_SAMPLE_BYTES:2].count(0), content[1:_SAMPLE_BYTES:2].count(0)
        return "utf-16-le" if odd > even else "utf-16-be"
    best = from_bytes(telling, cp_isolation=list(_WRITTEN)).best()
    name = "cp1252" if best is None else best.encoding
    if name in _LATIN:
        name = "cp1250" if _signs_in_words(telling) and _decodes(content, "cp1250") else "cp1252"
    return name if _decodes(content, name) else "cp1252"


def _decodes(content: bytes, encoding: str) -> bool:
    try:
        content.decode(encoding)
    except (UnicodeError, LookupError):
        return False
    return True


def _signs_in_words(content: bytes) -> bool:
    """Whether the text, read as cp1252, has signs within words, as Polish written in cp1250 has; or letters together
    that no western language has, as Czech has.
    """
    text = content.decode("cp1252", "replace")
    signs = "[¡¢£¤¥¦¨¬¯±³´µ¶·¸¹¼½¾¿]"
    in_words = re.search(rf"[^\W\d_]{signs}|(?<!\w)[£³¯¹]{signs}*[^\W\d_]|¿[a-zó]", text)
    return in_words is not None or ("ø" in text and any(letter in text for letter in "ìùòïè"))


def read_rows(path: Path, text: str, separator: str) -> Rows:
    """The rows of comma-separated or similar text.

    Raises:
        DataError: a quote is not closed, or a cell is not to be read (`csv-line`).
    """
    rows = Rows([], array.array("q"), separator=separator)
    known: dict[str, str] = {}
    begin = 1
    # Blanks after a separator belong to no cell: `a.png, "New York"`.
    reader = csv.reader(
        io.StringIO(text, newline=""), delimiter=separator, strict=True, skipinitialspace=separator != " "
    )
    try:
        for cells in reader:
            line, begin = begin, reader.line_num + 1
            if line == 1 and is_separator_line(cells, separator):
                continue
            if not any(cells) or not any(cell.strip() for cell in cells):
                rows.left_out.append((line, "is empty"))
                continue
            if len(known) < _MOST_SHARED:
                cells = [known.setdefault(cell, cell) for cell in cells]
            else:
                cells = [known.get(cell, cell) for cell in cells]
            rows.cells.append(cells)
            rows.lines.append(line)
    except csv.Error as error:
        raise DataError(
            path,
            f"line {begin} cannot be read ({error})",
            hint="close its quotes, or write each quote in a cell twice",
            code="csv-line",
        ) from error
    return rows


def is_separator_line(cells: list[str], separator: str) -> bool:
    """Whether a first line is Excel's `sep=;`, which names the separator."""
    return separator.join(cells).strip().lower() == f"sep={separator}".strip()


def separators(path: Path, text: str) -> list[str]:
    """What may stand between the cells, the likeliest first: what divides the first lines into as many cells each."""
    lines = text[: _SAMPLE_BYTES * 4].splitlines()[:_SAMPLE_LINES]
    if len(text) > _SAMPLE_BYTES * 4 and len(lines) < _SAMPLE_LINES:
        lines = lines[:-1]
    first = lines[0].strip().lower() if lines else ""
    if first.startswith("sep=") and len(lines[0].strip("\r\n")) == 5:
        return [lines[0][4]]
    if path.suffix.lower() in (".tsv", ".tab") and "\t" in first:
        return ["\t"]
    scored = []
    for separator in _SEPARATORS:
        widths = [len(cells) for cells in _lenient(lines, separator) if cells]
        if not widths or max(widths) < 2:
            continue
        width, same = Counter(widths).most_common(1)[0]
        header = widths[0] == width and width > 1
        scored.append((header, same / len(widths), separator == ",", separator))
    return [separator for *_, separator in sorted(scored, reverse=True)] or [","]


def _lenient(lines: list[str], separator: str) -> list[list[str]]:
    try:
        return list(csv.reader(lines, delimiter=separator, skipinitialspace=separator != " "))
    except csv.Error:
        return []


def unquoted(cell: str) -> str:
    """A cell without what keeps Excel from taking it for a number: `="00007"` is 00007."""
    match = _TEXT_CELL.fullmatch(cell) if cell.startswith('="') else None
    return match[1].replace('""', '"') if match else cell


def read_json_lines(path: Path, text: str) -> Rows:
    """The rows of JSON lines: an object on each line, whose keys are the columns' names. Objects inside objects become
    columns `outer.inner`, lists of texts several labels of one cell.

    Raises:
        DataError: a line is not JSON, or no object (`csv-line`).
    """
    names: dict[str, int] = {}
    rows = Rows([], array.array("q"), names=[])
    for line, written in enumerate(text.split("\n"), 1):
        if not written.strip():
            if line < text.count("\n") + 1 or written:
                rows.left_out.append((line, "is empty"))
            continue
        cells = [""] * len(names)
        for name, value in _flat(_json_object(path, line, written)):
            if name not in names:
                names[name] = len(names)
                cells.append("")
            cells[names[name]] = value
        rows.cells.append(cells)
        rows.lines.append(line)
    for short in rows.cells:
        short.extend([""] * (len(names) - len(short)))
    rows.names = list(names)
    return rows


def _json_object(path: Path, line: int, written: str) -> dict[str, Any]:
    try:
        if len(written) > _MOST_LINE:
            raise ValueError(f"it has more than {_MOST_LINE:,} characters")
        value = parse_json(written.encode("utf-8", "surrogatepass"), not_finite=True)
    except ValueError as error:
        raise DataError(
            path, f"line {line} is not JSON ({printable(error)[:200]})", hint="write one object a line", code="csv-line"
        ) from None
    if not isinstance(value, dict):
        raise DataError(
            path, f"line {line} is not a JSON object", hint='write one object a line, {"path": ...}', code="csv-line"
        )
    return value


def _flat(value: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for key, inner in value.items():
        if isinstance(inner, dict):
            yield from _flat(inner, f"{prefix}{key}.")
        elif isinstance(inner, list):
            yield prefix + key, _listed(inner)
        else:
            yield prefix + key, _cell(inner)


def _listed(values: Iterable[Any]) -> str:
    """A list as one cell. Lists of objects, such as boxes, stay JSON."""
    entries = list(values)
    if any(isinstance(entry, (dict, list)) for entry in entries):
        return json.dumps(entries)
    return UNIT.join(_cell(entry) for entry in entries) + UNIT


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return str(value).lower() if isinstance(value, bool) else str(value)


def names_hint(names: Iterable[str]) -> str:
    """Columns' names for a message."""
    return ", ".join(printable(name) or "''" for name in names)


def option(name: str, value: str) -> str:
    """An option as it is typed."""
    return f"--{name} {shell_word(value)}"
