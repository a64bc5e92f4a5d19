"""Modules that the user's own code makes."""

from __future__ import annotations

import inspect
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import UsageError, printable
from ..free_memory import ran_out

if TYPE_CHECKING:
    from torch import nn

ModuleMaker = Callable[[int, int], "nn.Module"]
"""A class or a function of the user's own that makes a module of two numbers: channels and scores for a network,
features and scores for a head. One without arguments is called without."""


def made(make: ModuleMaker, first: int, second: int, *, what: str = "model") -> nn.Module:
    """The module that `make` gives for two numbers.

    Raises:
        UsageError: it fails, or gives something else (`model-module`).
    """
    from torch import nn

    name = printable(getattr(make, "__qualname__", type(make).__name__))
    asked = "channels, classes" if what == "model" else "features, classes"
    arguments = _arguments(make, first, second)
    try:
        module: Any = make(*arguments)
    except Exception as error:
        if ran_out(error):
            raise
        last = traceback.extract_tb(error.__traceback__)[-1]
        words = printable(f"{type(error).__name__}: {str(error).strip()[:300]}")
        raise UsageError(
            f"{what} {name}",
            f"expected a module from {name}{arguments}, but it fails: {words} "
            f"({printable(Path(last.filename).name)}, line {last.lineno})",
            code="model-module",
            hint=f"it is called with two numbers, {name}({asked}), or without any if it takes none",
        ) from error
    if not isinstance(module, nn.Module):
        raise UsageError(
            f"{what} {name}",
            f"expected a torch.nn.Module from {name}{arguments}, got {type(module).__name__}",
            code="model-module",
            hint=f"let it be a class or a function {name}({asked}) that gives the module",
        )
    return module


def _arguments(make: ModuleMaker, first: int, second: int) -> tuple[int, ...]:
    """Both numbers, or none where `make` takes none."""
    try:
        return () if not inspect.signature(make).parameters else (first, second)
    except (TypeError, ValueError):
        return first, second
