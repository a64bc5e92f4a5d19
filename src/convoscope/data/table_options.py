"""What may be said about a table (CSV, TSV, JSON lines) when it is read. Whatever is left open is found from its
content.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypedDict, cast, get_args

from ..errors import UsageError, printable
from .tasks import TARGET_NOUNS, Task

_SEPARATOR_NAMES: Final = {"tab": "\t", "\\t": "\t", "comma": ",", "semicolon": ";", "space": " ", "blank": " "}


@dataclass(frozen=True, kw_only=True)
class TableOptions:
    """How a table is read. What is None or empty is open.

    Attributes:
        path_column: the column with the pictures' paths.
        label_columns: the columns with what is to be predicted.
        task: what is to be predicted.
        separator: the character between two cells of a line.
        label_separator: what stands between two labels, or two numbers, in one cell.
        root: the folder from which paths count and in which all pictures lie; open: that of the table.
        encoding: the text's encoding, by a name that Python knows.
        group: the column that says which images belong together, such as patients.
    """

    path_column: str | None = None
    label_columns: tuple[str, ...] = ()
    task: Task | None = None
    separator: str | None = None
    label_separator: str | None = None
    root: str | None = None
    encoding: str | None = None
    group: str | None = None

    @classmethod
    def of(cls, keywords: Mapping[str, Any]) -> TableOptions:
        """Read and check the options of `TableKeywords`; None is open.

        Raises:
            UsageError: one of them cannot be (`table-option-invalid`).
        """
        given = {name: value for name, value in keywords.items() if value is not None and name in TABLE_KEYS}
        labels = given.pop("label_column", ())
        columns = (labels,) if isinstance(labels, str) else tuple(labels) if isinstance(labels, Sequence) else (labels,)
        if "root" in given and isinstance(given["root"], os.PathLike):
            given["root"] = os.fspath(given["root"])
        for name, value in [*given.items(), *(("label_column", column) for column in columns)]:
            if not isinstance(value, str):
                raise _invalid(name, f"expected text; received {printable(repr(value))}")
        separator = given.get("separator")
        if separator is not None:
            given["separator"] = separator = _SEPARATOR_NAMES.get(separator.lower(), separator)
            if len(separator) != 1 or separator in '"\r\n\0':
                raise _invalid("separator", f"expected one character, or tab; received {printable(repr(separator))}")
        between = given.get("label_separator")
        if between is not None:
            given["label_separator"] = between = _SEPARATOR_NAMES.get(between.lower(), between)
            if not between:
                raise _invalid("label_separator", "expected what stands between two labels; received nothing")
        if given.get("task", "classification") not in TARGET_NOUNS:
            raise _invalid("task", f"expected {', '.join(get_args(Task))}; received {printable(given['task'])!r}")
        if "encoding" in given:
            _check_encoding(given["encoding"])
        return cls(label_columns=columns, **given)

    def keywords(self) -> TableKeywords:
        """The options that are not open, as `load` takes them."""
        names = ("path_column", "task", "separator", "label_separator", "root", "encoding", "group")
        given = {name: getattr(self, name) for name in names if getattr(self, name) is not None}
        if self.label_columns:
            given["label_column"] = list(self.label_columns)
        return cast("TableKeywords", given)


class TableKeywords(TypedDict, total=False):
    """The options of `TableOptions` as keywords of `load`, `train`, `relearn` and `test`; None is open.

    `like`: how another table was read; it holds, where it fits, for what the others leave open.
    """

    path_column: str | None
    label_column: str | Sequence[str] | None
    task: Task | None
    separator: str | None
    label_separator: str | None
    root: str | os.PathLike[str] | None
    encoding: str | None
    group: str | None
    like: TableOptions | None


class SourceKeywords(TableKeywords, total=False):
    """Those that say which images of any source belong together, and which count, as well; None is open."""

    group_pattern: str | None
    dedupe: bool | None


TABLE_KEYS: Final = tuple(name for name in TableKeywords.__annotations__ if name != "like")
"""Their names in settings files."""


def _invalid(name: str, reason: str) -> UsageError:
    return UsageError(name, reason, hint="see convoscope data --help", code="table-option-invalid")


def _check_encoding(name: str) -> None:
    try:
        "a".encode(name)
    except (LookupError, ValueError):
        raise _invalid(
            "encoding", f"unknown; expected a name such as utf-8 or cp1252, received {printable(name)!r}"
        ) from None
