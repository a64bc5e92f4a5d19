"""The browser studio's server: it passes requests to the other rooms and does no mathematics itself."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .server import serve
    from .state import Studio

__all__ = ["Studio", "serve"]

_MODULES = {"Studio": ".state", "serve": ".server"}


def __getattr__(name: str) -> object:
    # The child that decodes images is a module of this package, and must not import the server.
    if name in _MODULES:
        return getattr(import_module(_MODULES[name], __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
