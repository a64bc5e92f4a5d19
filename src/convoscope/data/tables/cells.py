"""What one cell can be: a number, a date, nothing, yes or no, or several labels."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from typing import Final

from .file import UNIT

_MISSING: Final = frozenset({"", "nan", "na", "n/a", "null", "none", "<na>"})
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_COMMA_NUMBER = re.compile(r"[+-]?\d+(\.\d{3})*,\d+|[+-]?\d+", re.ASCII)
_DATE = re.compile(r"\d{4}-\d\d-\d\d([T ].*)?|\d{1,2}[./]\d{1,2}[./]\d{4}([T ].*)?|\d{1,2}:\d\d(:\d\d.*)?", re.ASCII)
_TRUTH: Final = {"0": 0, "1": 1, "false": 0, "true": 1, "0.0": 0, "1.0": 1}
_BETWEEN: Final = (";", "|", ",", " ")
_MOST_COMPARED: Final = 20_000


def is_missing(cell: str) -> bool:
    """Whether a cell of numbers says that there is none."""
    return cell.strip().lower() in _MISSING


def is_date(cell: str) -> bool:
    return _DATE.fullmatch(cell.strip()) is not None


def number_of(cell: str, *, comma: bool = False) -> float | None:
    """The number in a cell, if it is one and finite. `comma`: a comma may be the decimal mark, as in 1.234,5."""
    text = cell.strip()
    if comma and "," in text:
        if not _COMMA_NUMBER.fullmatch(text):
            return None
        text = text.replace(".", "").replace(",", ".")
    if not _NUMBER.fullmatch(text):
        return None
    value = float(text)
    return value if math.isfinite(value) else None


def truth_values(values: Collection[str]) -> dict[str, int] | None:
    """0 or 1 for each of the values, if that is what they are: 0 and 1, true and false, or -1 and 1."""
    if not values or len(values) > 4:
        return None
    if set(values) == {"-1", "1"}:
        return {"-1": 0, "1": 1}
    found = {value: _TRUTH.get(value.lower()) for value in values}
    return {key: value for key, value in found.items() if value is not None} if None not in found.values() else None


def tag_separator(cells: Sequence[str]) -> str | None:
    """What divides several labels in some of the cells: a semicolon or a bar; a comma or a blank only where the parts
    recur in other cells, so that "New York" stays one name. `[]` for lists such as `["cat", "dog"]`.
    """
    values = list(dict.fromkeys(cell for cell in cells if cell))[:_MOST_COMPARED]
    if not values:
        return None
    if any(UNIT in value for value in values):
        return UNIT
    lists = sum(bracketed(value) is not None for value in values)
    if 2 * lists > len(values) or (lists and any(value.startswith("{") for value in values)):
        return "[]"
    for between in _BETWEEN:
        several = [value for value in values if between in value]
        if several and (between in ";|" or _recur(values, between)):
            return between
    return None


def _recur(values: Sequence[str], between: str) -> bool:
    """Whether most parts of the cells recur in other cells, in other company."""
    parts = [parts_of(value, between) for value in values]
    counts = Counter(part for some in parts for part in set(some))
    several = {part for some in parts if len(some) > 1 for part in some}
    if len(values) < 3 or not several:
        return False
    recurring = sum(counts[part] > 1 for part in several) / len(several)
    if between == ",":
        return recurring > 0.4
    # Words of a name are often as many; labels are not.
    return recurring >= 0.8 and len({len(some) for some in parts}) > 1 and len(counts) <= len(values) + 2


def parts_of(cell: str, between: str) -> list[str]:
    """The labels in a cell, each once, in their order."""
    if between == "[]":
        found = bracketed(cell)
        parts: Iterable[str] = [cell] if found is None else found
    else:
        parts = cell.split(between) if between != " " else cell.split()
    return list(dict.fromkeys(part.strip() for part in parts if part.strip()))


def bracketed(cell: str) -> list[str] | None:
    """The entries of a list as JSON, as Python or pandas write it, or as `{"choices": [...]}` of Label Studio."""
    text = cell.strip()
    if text.startswith("{") and '"choices"' in text[:20]:
        try:
            choices = json.loads(text)["choices"]
        except (ValueError, KeyError, RecursionError):
            return None
        return [str(choice) for choice in choices] if isinstance(choices, list) else None
    if not (text.startswith("[") and text.endswith("]")) or text.startswith(("[{", "[[")):
        return None
    entries = re.findall(r"""\s*(?:"([^"]*)"|'([^']*)'|([^,]+?))\s*(?:,|$)""", text[1:-1])
    return [one or two or three for one, two, three in entries]
