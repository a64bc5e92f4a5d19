"""Networks that can be drawn for. The user's runs are told by the small files in their folders: opening every
checkpoint would take seconds.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Final

from .. import evaluation
from ..data import PadForm, pad_form
from ..errors import printable
from ..training import Settings, read_summary
from .messages.common import PadModel
from .run_folders import Stamps, Unreadable, read_runs, stamps

PREFIX: Final = "run:"
"""What the identity of a user's run begins with; the folder's name follows."""


_SCORES: Final = "test/scores.json"
_MOST_HISTORY: Final = 16_000_000
"""Bytes of a `metrics.csv` that are looked at: 100,000 epochs."""


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


def drawable_runs(runs: Path) -> tuple[list[Drawable], Unreadable]:
    """Every run in this folder that has its best weights and can be drawn for, by name; and the folders that cannot be
    read.
    """
    return read_runs(runs, _drawable)


def _drawable(folder: Path) -> Drawable | None:
    settings = _settings(folder, stamps(folder, ("run.toml",)))
    # A module of the user's own is not at hand here.
    if form_of(settings) is None or settings.model.startswith("custom:") or not (folder / "best.safetensors").exists():
        return None
    message = PadModel(
        id=PREFIX + folder.name,
        title=folder.name,
        ready_made=False,
        classes=[printable(name) for name in settings.classes],
        state="ready",
        epoch=epochs_done(folder),
        epochs=settings.recipe.epochs,
        test_accuracy=_accuracy(folder, stamps(folder, (_SCORES,))),
        refusal=None,
    )
    return Drawable(folder, settings.model, message)


@lru_cache(maxsize=4096)
def _settings(folder: Path, _: Stamps) -> Settings:
    return read_summary(folder)[0]


def form_of(settings: Settings) -> PadForm | None:
    """How a drawing is brought into the form of a run's images, see `data.pad_form`."""
    size = settings.input
    return pad_form(
        settings.source, settings.layout, settings.classes, size.height, size.width, size.channels, settings.task
    )


def epochs_done(folder: Path) -> int:
    """The lines of a run's `metrics.csv`, without the header and a torn last one."""
    path = folder / "metrics.csv"
    try:
        if not path.is_file():
            return 0
        with path.open("rb") as file:
            return max(0, file.read(_MOST_HISTORY).count(b"\n") - 1)
    except OSError:
        return 0


def test_accuracy(folder: Path) -> float | None:
    """Of the run's last test, if that was of its own test part; None if there is none or it cannot be read."""
    try:
        return _accuracy(folder, stamps(folder, (_SCORES,))) if (folder / _SCORES).is_file() else None
    except Exception:  # whatever lies there: it is no result of a test
        return None


@lru_cache(maxsize=4096)
def _accuracy(folder: Path, _: Stamps) -> float | None:
    scores = evaluation.read_scores(folder)
    return scores.accuracy if scores is not None and scores.split == "test" else None
