"""Networks that can be drawn for. The user's runs are told by the small files in their folders: opening every checkpoint would take seconds."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Final

from .. import evaluation
from ..data import PadForm, pad_form
from ..errors import ConvoscopeError, printable
from ..training import Settings, glance
from .messages import PadModel
from .run_folders import run_folders

PREFIX: Final = "run:"
"""What the identity of a user's run begins with; the folder's name follows."""


@dataclass(frozen=True)
class Drawable:
    """A network that can be drawn for.

    Attributes:
        folder: its run's.
        architecture: its model's text or name.
        message: what the page gets to know of it.
    """

    folder: Path
    architecture: str
    message: PadModel


def drawable_runs(runs: Path) -> list[Drawable]:
    """Every run in this folder that has its best weights and can be drawn for, by name. A folder that cannot be read has none."""
    return [found for folder in run_folders(runs).values() if (found := _drawable(folder)) is not None]


def _drawable(folder: Path) -> Drawable | None:
    if not (folder / "best.safetensors").exists():
        return None
    try:
        status = (folder / "run.toml").stat()
    except OSError:
        return None
    settings = _drawable_settings(folder, status.st_mtime_ns, status.st_ino)
    if settings is None:
        return None
    message = PadModel(
        id=PREFIX + folder.name,
        title=folder.name,
        ready_made=False,
        classes=[printable(name) for name in settings.classes],
        state="ready",
        epoch=epochs_done(folder),
        epochs=settings.recipe.epochs,
        test_accuracy=test_accuracy(folder),
        refusal=None,
    )
    return Drawable(folder, settings.model, message)


@lru_cache(maxsize=4096)
def _drawable_settings(folder: Path, _changed_ns: int, _inode: int) -> Settings | None:
    """The run's settings; None if they cannot be read, or its network is not for drawings, or its module is not at hand."""
    try:
        settings, _ = glance(folder)
    except ConvoscopeError:
        return None
    return settings if form_of(settings) is not None and not settings.model.startswith("custom:") else None


def form_of(settings: Settings) -> PadForm | None:
    """How a drawing is brought into the form of a run's images, see `data.pad_form`."""
    size = settings.input
    return pad_form(
        settings.source, settings.layout, settings.classes, size.height, size.width, size.channels, settings.task
    )


def epochs_done(folder: Path) -> int:
    """The lines of a run's `metrics.csv`, without the header and a torn last one."""
    try:
        return max(0, (folder / "metrics.csv").read_bytes().count(b"\n") - 1)
    except OSError:
        return 0


def test_accuracy(folder: Path) -> float | None:
    """Of the run's last test, if that was of its own test part; None if there is none or it cannot be read."""
    try:
        status = (folder / "test" / "scores.json").stat()
    except OSError:
        return None
    return _accuracy(folder, status.st_mtime_ns, status.st_ino)


@lru_cache(maxsize=4096)
def _accuracy(folder: Path, _changed_ns: int, _inode: int) -> float | None:
    try:
        scores = evaluation.read_scores(folder)
    except ConvoscopeError:
        return None
    return scores.accuracy if scores is not None and scores.split == "test" else None
