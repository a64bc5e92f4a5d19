"""`--module FILE.py:NAME`: a network of the user's own, from a file that is executed because the user named it.

Nothing else executes such a file. A run stores its name and a digest, and every command that needs the network is given
the file once more.
"""

from __future__ import annotations

import importlib.util
import inspect
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from ..errors import UsageError, printable, shell_word
from ..suggestions import did_you_mean

if TYPE_CHECKING:
    from ..models import ModuleMaker


def read_module(text: str | None) -> ModuleMaker | None:
    """The class or function of `FILE.py:NAME`; None of None.

    Raises:
        UsageError: it is not written so (`module-malformed`), the file is not there (`module-missing`), it fails
            (`module-failed`), or has nothing of that name that makes a network (`module-unknown`).
    """
    if text is None:
        return None
    place, _, name = text.rpartition(":")
    path = Path(place).absolute()
    if path.suffix != ".py" or not name.isidentifier():
        raise UsageError(
            "--module",
            f"expected a file and the name of a class or function in it; received {printable(text)[:200]}",
            hint="for instance --module net.py:Net",
            code="module-malformed",
        )
    if not path.is_file():
        raise UsageError(
            place, "there is no such file", hint="give its path: --module FILE.py:NAME", code="module-missing"
        )
    return _maker(_executed(path), name, place)


def _executed(path: Path) -> ModuleType:
    """The file as a module. What lies beside it can be imported, after everything that is installed."""
    from ..training import FILE_MARK

    name = f"convoscope_own_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    setattr(module, FILE_MARK, True)
    sys.modules[name] = module
    try:
        with _folder_importable(path.parent):
            spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        sys.modules.pop(name, None)
        inside = [frame for frame in traceback.extract_tb(error.__traceback__) if Path(frame.filename) == path]
        line = error.lineno if isinstance(error, SyntaxError) else inside[-1].lineno if inside else None
        where = f"line {line}: " if line else ""
        raise UsageError(
            path,
            f"{where}it fails: {type(error).__name__}: {printable(str(error))[:300]}",
            hint=f"see what Python says: python {shell_word(path)}",
            code="module-failed",
        ) from error
    return module


@contextmanager
def _folder_importable(folder: Path) -> Iterator[None]:
    """While this is open, modules in the folder are found, last of all; nothing is written there."""
    written = sys.dont_write_bytecode
    sys.path.append(str(folder))
    sys.dont_write_bytecode = True
    try:
        yield
    finally:
        sys.dont_write_bytecode = written
        sys.path.remove(str(folder))


def _maker(module: ModuleType, name: str, place: str) -> ModuleMaker:
    from torch import nn

    found = getattr(module, name, None)
    if callable(found) and not isinstance(found, nn.Module):
        maker: ModuleMaker = found
        return maker
    own = [
        key
        for key, value in vars(module).items()
        if (inspect.isclass(value) or inspect.isfunction(value)) and value.__module__ == module.__name__
    ]
    what = "is a network already" if found is not None else "is not in it"
    raise UsageError(
        place,
        f"{name} {what}; expected a class or function that makes a network of the numbers of channels and classes",
        hint=did_you_mean(name, own) or f"it has: {', '.join(map(printable, own[:20])) or 'none'}",
        code="module-unknown",
    )
