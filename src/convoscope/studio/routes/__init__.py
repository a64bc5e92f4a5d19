"""What the server answers: one module for each page, with one `router` that also starts its background work."""

from importlib import import_module
from pkgutil import iter_modules
from typing import Final

from fastapi import APIRouter

ROUTERS: Final[tuple[APIRouter, ...]] = tuple(
    import_module(f".{module.name}", __name__).router for module in iter_modules(__path__)
)
"""Those of all modules in this folder; `policy.py` has a rule for each of their routes."""
