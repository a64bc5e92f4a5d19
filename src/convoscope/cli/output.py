"""What commands print: tables and lines to standard output, JSON as bytes, messages to standard error."""

from __future__ import annotations

import contextlib
import sys
from typing import TYPE_CHECKING, Any, Literal

from ..errors import ConvoscopeError, printable
from ..files import json_bytes
from ..posix import has_reader

if TYPE_CHECKING:
    from rich.console import Console


Form = Literal["table", "csv", "json"]
"""How predictions are printed."""


def console(*, error: bool = False) -> Console:
    """Standard output or standard error, 120 columns wide where that is not a terminal."""
    from rich.console import Console

    stream = sys.stderr if error else sys.stdout
    return Console(file=stream, width=None if stream.isatty() else 120)


def reader_gone() -> bool:
    """Whether nobody reads standard output any longer, as after `| head`: what is still to be printed is for nobody."""
    try:
        return not has_reader(sys.stdout.fileno())
    except (OSError, ValueError):  # it is no file
        return False


def print_plain(console: Console, text: str, **style: Any) -> None:
    """Print a text as it is, without markup or highlighting, and where it is not a terminal in one line."""
    style.setdefault("soft_wrap", not console.is_terminal)
    console.print(text, markup=False, highlight=False, **style)


def print_json(value: Any) -> None:
    """Print one JSON value."""
    sys.stdout.buffer.write(json_bytes(value))


def complain(error: ConvoscopeError) -> None:
    """Print an error and its hint. If nobody can read them, that is not another error."""
    with contextlib.suppress(OSError, ValueError):
        print(f"error: {error}", file=sys.stderr)
        if error.hint:
            print(f"hint: {error.hint}", file=sys.stderr)


def warn(message: Warning | str, *_: Any, **__: Any) -> None:
    """Print a warning in one line, without the place in our code that Python prints."""
    with contextlib.suppress(OSError, ValueError):
        print(f"warning: {printable(message)}", file=sys.stderr)
