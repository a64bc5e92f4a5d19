"""From arguments to a command and its exit code; what a command raises becomes a message."""

from __future__ import annotations

import contextlib
import sys
from typing import TYPE_CHECKING

from cyclopts import CycloptsError, MissingArgumentError, UnknownOptionError, UnusedCliTokensError

from ..errors import ConvoscopeError, Interrupted, MachineError, UsageError, printable
from ..files import machine_error
from ..free_memory import free_memory, ran_out, refused
from .app import app
from .output import complain

if TYPE_CHECKING:
    from collections.abc import Sequence


def run(arguments: Sequence[str]) -> int:
    """Run one command, print its errors to standard error and return the exit code."""
    free = free_memory()
    try:
        # A lone "-" would be taken for an option.
        plain = ["/dev/stdin" if argument == "-" else argument for argument in arguments]
        app(plain, exit_on_error=False, print_error=False, result_action="return_value")
    except CycloptsError as error:
        complain(_usage(error, arguments))
        return UsageError.exit_code
    except ConvoscopeError as error:
        complain(error)
        return error.exit_code
    except KeyboardInterrupt:
        complain(Interrupted("", "interrupted; every file that was written is whole", code="interrupted"))
        return 130
    except SystemExit as stop:
        return int(stop.code or 0)
    except Exception as error:
        if ran_out(error):
            complain(refused(error, free))
            return MachineError.exit_code
        if isinstance(error, OSError):
            complain(unwritable(error) if error.filename is None else machine_error(error.filename, error))
            return MachineError.exit_code
        return _internal_error()
    return 0


def _usage(error: CycloptsError, arguments: Sequence[str]) -> UsageError:
    """What is wrong with the arguments, in the form of our own errors."""
    path, reason, hint = "", " ".join(str(error).split()), f"convoscope {_command_of(arguments)}--help"
    if isinstance(error, UnusedCliTokensError) and error.unused_tokens:
        path, more = error.unused_tokens[0], len(error.unused_tokens) - 1
        reason = "one argument too many" + (f", and {more} more" if more else "")
    elif isinstance(error, MissingArgumentError) and error.argument is not None:
        path = error.argument.name
        reason = "expected a value after it" if path.startswith("-") else "missing"
    elif isinstance(error, UnknownOptionError):
        from ..training import Recipe

        option = (error.token.keyword or error.token.value).partition("=")[0]
        setting = option.lstrip("-").replace("-", "_")
        if setting in Recipe.model_fields:
            path, reason = option, "not an option, but a setting of the recipe"
            hint = f"convoscope train ... --set {setting}=VALUE"
    return UsageError(path, reason, hint=hint, code="usage")


def _command_of(arguments: Sequence[str]) -> str:
    first = arguments[0] if arguments and not arguments[0].startswith("-") else ""
    return f"{first} " if first in set(app) else ""


def unwritable(error: OSError) -> MachineError:
    """Standard output that cannot take any more."""
    reason = f"cannot be written to: {error.strerror or error}"
    return MachineError("standard output", reason, hint="nothing else was lost", code="output-unwritable")


def _internal_error() -> int:
    """A bug in convoscope: the traceback goes into a file whose path is printed."""
    import tempfile
    import traceback

    with tempfile.NamedTemporaryFile("w", prefix="convoscope-", suffix=".log", delete=False) as log:
        traceback.print_exc(file=log)
    last = traceback.format_exc().strip().splitlines()[-1]
    with contextlib.suppress(OSError, ValueError):
        print(f"error: internal error (a bug in convoscope): {printable(last)}", file=sys.stderr)
        print(f"hint: please report it with the file {log.name}", file=sys.stderr)
    return 1
