"""What reports and comparisons say about a run from its settings alone."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from .. import models
from ..data import InputFormat
from ..errors import ConvoscopeError, printable, shell_word

if TYPE_CHECKING:
    from ..training import Run


def table_of(run: Run) -> models.ModelTable | None:
    """The run's table of layers, see `models.table`; None for a module of the user's own."""
    if run.settings.model.startswith("custom:"):
        return None
    with contextlib.suppress(ConvoscopeError):
        return models.table(run.settings.model, shape_of(run.settings.input), len(run.classes))
    return None


def shape_of(form: InputFormat) -> tuple[int, int, int]:
    """Height, width, channels."""
    return form.height, form.width, form.channels


def test_command(run: Run) -> str:
    """What tests the run, on its own images if it has some to test on."""
    settings = run.settings
    own = not settings.in_memory and (settings.images.get("test") or settings.images.get("validation"))
    return f"convoscope test {shell_word(run.folder)}" + ("" if own else " SOURCE")


def model_name(run: Run, length: int = 60) -> str:
    """The model's text on one line, shortened where it is long."""
    words = " ".join(run.settings.model.split())
    return printable(words if len(words) <= length else words[: length - 1] + "…")


def image_count(run: Run, split: str) -> int:
    """How many images one part has."""
    return int(run.settings.images.get(split, 0))
