"""The errors convoscope raises, one class for each exit code of the command line.

Every error says what it is about (`path`: a file, a folder, a setting or a layer), the plain `reason`,
one safe `hint`, and a stable `code`. The command line prints them in one rhythm and nothing else:

    error: photos/cat/0137.jpg: the JPEG ends early (213 of 480 rows)
    hint: skipped; the list is in runs/a1/skipped.csv
"""

from __future__ import annotations

import os
import re
import shlex
import traceback
from os import PathLike
from pathlib import Path

from .python_words import in_python

_MOST_PLACES = 6


def printable(name: object) -> str:
    """`name` as one safe line: control characters and undecodable bytes are written as escapes.

    File names may hold line ends, terminal escapes or bytes that are not text; whatever is printed goes through here.
    """
    text = str(name)
    if text.isprintable():
        return text
    return "".join(character if character.isprintable() else ascii(character)[1:-1] for character in text)


def shell_word(path: str | PathLike[str]) -> str:
    """A path as it is typed in a command: quoted where it has to be, and safe to print."""
    text = str(path)
    if os.sep == "/":
        return printable(shlex.quote(text))
    return printable(text if re.fullmatch(r"[\w.:\\/-]+", text) else f'"{text}"')  # which no name on Windows may hold


class ConvoscopeError(Exception):
    """Base of every error that is not a bug in convoscope.

    Attributes:
        path: what it is about, as text that is safe to print; may be empty.
        reason: what was expected and what came, in one plain line.
        hint: one safe action, where possible as an exact command; may be empty.
        code: a stable name for the cause, such as `data-missing`.
        exit_code: what the command line exits with.
    """

    exit_code = 1

    def __init__(self, path: str | PathLike[str], reason: str, *, code: str, hint: str = "") -> None:
        self.path = printable(path)
        self.reason = reason
        self.hint = hint
        self.code = code
        super().__init__(f"{self.path}: {reason}" if self.path else reason)
        if hint:
            self.add_note(f"hint: {in_python(hint)}")  # what Python prints under its own traceback

    def _render_traceback_(self) -> list[str]:
        """What IPython shows instead of a traceback: the message and the hint, and where in the user's own code."""
        inside, shell = str(Path(__file__).parent), f"{os.sep}IPython{os.sep}"
        places = [
            f"  {_file(place.filename)}, line {place.lineno}: {printable(place.line or '')}"
            for place in traceback.extract_tb(self.__traceback__)
            if not place.filename.startswith(inside) and shell not in place.filename
        ]
        lines = [
            f"{type(self).__name__}: {printable(self)}",
            *map(printable, getattr(self, "__notes__", ())),
            *places[:_MOST_PLACES],
        ]
        if self.__cause__ is not None and not isinstance(self.__cause__, ConvoscopeError):
            lines.append(f"caused by {type(self.__cause__).__name__}: {printable(self.__cause__)}")
        return lines

    def __reduce__(self) -> tuple[object, ...]:
        # Errors cross process borders in the decoding workers; keyword-only arguments need this.
        return (_rebuild, (type(self), self.path, self.reason, self.code, self.hint))


def _file(name: str) -> str:
    """A file as a place in a program; a notebook's cells have names that nobody knows."""
    return "in the cell" if f"{os.sep}ipykernel_" in name else printable(name)


def _rebuild(kind: type[ConvoscopeError], path: str, reason: str, code: str, hint: str) -> ConvoscopeError:
    return kind(path, reason, code=code, hint=hint)


class UsageError(ConvoscopeError):
    """A command, an argument or a configuration that cannot be followed."""

    exit_code = 2


class DataError(ConvoscopeError):
    """Images, labels or folders that cannot be used."""

    exit_code = 3


class ModelFileError(ConvoscopeError):
    """A checkpoint or model file that is damaged or hostile, or that does not fit."""

    exit_code = 4


class MachineError(ConvoscopeError):
    """The machine cannot do it: disk, permissions, memory, port, a missing device or a missing library."""

    exit_code = 5


class InUseError(ConvoscopeError):
    """Another process is using it, or it exists already."""

    exit_code = 6


class Interrupted(ConvoscopeError):
    """Stopped by a signal, with the state saved. The exit code is 128 + the signal's number."""

    exit_code = 130

    def __init__(self, path: str | PathLike[str], reason: str, *, code: str, hint: str = "", signal: int = 2) -> None:
        super().__init__(path, reason, code=code, hint=hint)
        self.exit_code = 128 + signal
