"""JSON and TOML from files that anybody may have written: bounded in bytes, values and depth before anything is built
of them.

What cannot be read is a `ValueError` with a plain reason; the reader says of which file, and what follows. What the
content means is checked where it is used, by pydantic; `faults_of` puts its findings into words.
"""

from __future__ import annotations

import json
import os
import re
import reprlib
import stat
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from .errors import printable
from .files import open_at_once, size_text

if TYPE_CHECKING:
    from pydantic import ValidationError

DEEPEST: Final = 64
"""Lists and tables inside each other. What convoscope writes has no more than six."""
MOST_JSON_BYTES: Final = 32_000_000
MOST_JSON_VALUES: Final = 2_000_000
"""A test of 1,000 classes has a million counts."""
MOST_TOML_BYTES: Final = 1_000_000
MOST_TOML_VALUES: Final = 60_000
"""Python reads TOML slowly. A run of 20,000 classes fits."""
_DIGITS: Final = 20
_DOTS: Final = 8

_STRINGS = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?', re.DOTALL)
_BRACKETS = bytes.maketrans(b"{}", b"[]")
_NO_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
_DOTTED = re.compile(rb"""(?<![\w-])(?:(?:[\w-]++|"[^"\n]*+"|'[^'\n]*+')[ \t]*+\.[ \t]*+){%d}""" % _DOTS)


def read_bytes(path: str | os.PathLike[str], most: int) -> bytes:
    """The content of a file of at most `most` bytes.

    Raises:
        ValueError: it has more, or is not a file.
        OSError: as the system says.
    """
    with open(path, "rb", opener=open_at_once) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise ValueError("it is not a file")
        content = file.read(most + 1)
    if len(content) > most:
        raise ValueError(f"it has more than {size_text(most)}; no more is read")
    return content


def read_json(path: str | os.PathLike[str], *, most: int = MOST_JSON_BYTES) -> Any:
    """A file's JSON, see `parse_json`.

    Raises:
        ValueError: it is too large, or as for `parse_json`.
        OSError: as the system says.
    """
    return parse_json(read_bytes(path, most))


def parse_json(content: bytes, *, values: int = MOST_JSON_VALUES, twins: bool = True, not_finite: bool = False) -> Any:
    """JSON in UTF-8 with bounded depth and number of values, and without numbers of more than 20 digits.

    Args:
        content: the text.
        values: how many lists, tables and entries there may be.
        twins: whether a name may occur twice in one table; the last one counts.
        not_finite: whether NaN and Infinity, which JSON does not know, are read.

    Raises:
        ValueError: it is not such JSON.
    """
    text = content.decode("utf-8")
    if content.count(b",") + content.count(b"[") + content.count(b"{") > values:
        raise ValueError(f"it has more than {values:,} values")
    if _is_deep(content):
        raise ValueError(_TOO_DEEP)
    try:
        return json.loads(
            text,
            parse_int=_whole_number,
            parse_constant=None if not_finite else _no_constant,
            object_pairs_hook=None if twins else _no_twins,
        )
    except RecursionError:
        raise ValueError(_TOO_DEEP) from None


_TOO_DEEP: Final = f"it is nested more than {DEEPEST} levels deep"


def _is_deep(content: bytes) -> bool:
    """Whether brackets outside of strings are nested too deep, found without recursion: the innermost pairs are taken
    away, level by level.
    """
    brackets = _STRINGS.sub(b"", content).translate(_BRACKETS, _NO_BRACKETS)
    for _ in range(DEEPEST):
        if not brackets:
            break
        brackets = brackets.replace(b"[]", b"")
    return b"[]" in brackets or len(brackets) > DEEPEST


def _whole_number(digits: str) -> int:
    if len(digits) > _DIGITS:
        raise ValueError(f"a number has {len(digits)} digits, more than {_DIGITS}")
    return int(digits)


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not a number")


def _no_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValueError("a name occurs twice")
    return result


def read_toml(path: str | os.PathLike[str]) -> dict[str, Any]:
    """A file's TOML, see `parse_toml`.

    Raises:
        ValueError: it is larger than 1 MB, or as for `parse_toml`.
        OSError: as the system says.
    """
    return parse_toml(read_bytes(Path(path), MOST_TOML_BYTES))


def parse_toml(content: bytes) -> dict[str, Any]:
    """TOML in UTF-8 with bounded depth and number of values, and without whole numbers of more than 64 bits.

    Raises:
        ValueError: it is not such TOML; `tomllib.TOMLDecodeError` and `UnicodeDecodeError` are kinds of it.
    """
    text = content.removeprefix(b"\xef\xbb\xbf").decode("utf-8").replace("\r\n", "\n")
    if len(content) > MOST_TOML_BYTES:
        raise ValueError(f"it has more than {size_text(MOST_TOML_BYTES)}; no more is read")
    if sum(map(content.count, (b",", b"=", b"[", b"{", b"\n"))) > MOST_TOML_VALUES:
        raise ValueError(f"it has more than {MOST_TOML_VALUES:,} values and lines")
    # Names of many parts are nested tables too, and the library takes minutes for one of thousands.
    if _DOTTED.search(content):
        raise ValueError(f"a name has more than {_DOTS} parts")
    try:
        values = tomllib.loads(text)
    except RecursionError:
        raise ValueError(_TOO_DEEP) from None
    level: list[Any] = [values]
    for _ in range(DEEPEST + 1):
        below: list[Any] = []
        for value in level:
            if isinstance(value, dict):
                below += value.values()
            elif isinstance(value, list):
                below += value
            elif isinstance(value, int) and not -(2**63) <= value < 2**64:
                raise ValueError("a whole number has more than 64 bits")
        level = below
    if level:
        raise ValueError(_TOO_DEEP)
    return values


def faults_of(error: ValidationError, most: int = 3) -> str:
    """What pydantic found, in one line: `std.0: should be greater than 0; received -1`."""
    faults = error.errors(include_url=False)
    words = []
    for fault in faults[:most]:
        place = ".".join(str(part)[:60] for part in fault["loc"])
        message = fault["msg"].removeprefix("Value error, ").removeprefix("Input ")
        received = "" if fault["type"] in ("missing", "value_error") else f"; received {_short.repr(fault['input'])}"
        words.append(f"{place}: {message}{received}" if place else f"{message}{received}")
    more = f"; and {len(faults) - most} more" if len(faults) > most else ""
    return printable("; ".join(words) + more)


_short = reprlib.Repr()
_short.maxstring = _short.maxother = _short.maxlong = 60
