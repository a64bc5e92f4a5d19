"""Train an image classifier on your own pictures, and see every number in it.

Examples:
    >>> import convoscope
    >>> run = convoscope.train("photos/")  # doctest: +SKIP
    >>> convoscope.test(run).accuracy  # doctest: +SKIP
    >>> run.predict("new.jpg")  # doctest: +SKIP
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from .thread_wait import shorten_spinning

if TYPE_CHECKING:
    from . import trackers as trackers
    from .api import compare, find_learning_rate, search, test
    from .data import load
    from .errors import ConvoscopeError
    from .explain import look
    from .models import build
    from .training import Recipe, Reporter, Run, relearn, resume, train

__all__ = [
    "ConvoscopeError",
    "Recipe",
    "Reporter",
    "Run",
    "build",
    "compare",
    "find_learning_rate",
    "load",
    "look",
    "relearn",
    "resume",
    "search",
    "test",
    "trackers",
    "train",
]

# Before anything imports torch.
shorten_spinning()

_ROOMS = {
    "ConvoscopeError": ".errors",
    "Recipe": ".training",
    "Reporter": ".training",
    "Run": ".training",
    "build": ".models",
    "compare": ".api",
    "find_learning_rate": ".api",
    "load": ".data",
    "look": ".explain",
    "relearn": ".api",
    "resume": ".api",
    "search": ".api",
    "test": ".api",
    "train": ".api",
}


def __getattr__(name: str) -> object:
    # Each name is imported when it is first used: torch alone takes seconds.
    if name == "trackers":
        return import_module(".trackers", __name__)
    if name in _ROOMS:
        return getattr(import_module(_ROOMS[name], __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
