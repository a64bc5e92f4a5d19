"""Networks that can be drawn for. Only the small files of the user's runs are read, because opening every checkpoint
would take seconds.
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
from .messages.draw import PadModel
from .run_folders import Stamps, Unreadable, read_runs, stamps

PREFIX: Final = "run:"
"""The identity of a user's run is this and the folder's name."""


_SCORES: Final = "test/scores.json"
_MOST_HISTORY: Final = 16_000_000
"""Bytes of a `metrics.csv` that are read: 100,000 epochs."""


@dataclass(frozen=True)
class Drawable:
    """A network that can be drawn for.

    Attributes:
        folder: the folder of its run.
        architecture: its model's text or name.
        message: what the page shows of it.
    """

    folder: Path
    architecture: str
    message: PadModel


def drawable_runs(runs: Path) -> tuple[list[Drawable], Unreadable]:
    """The runs in this folder that have their best weights and can be drawn for, sorted by name; and the folders that
    cannot be read.
    """
    return read_runs(runs, _drawable)


def _drawable(folder: Path) -> Drawable | None:
    settings = _settings(folder, stamps(folder, ("run.toml",)))
    # The code of a user's own module is not available here.
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
    """The form in which a run receives a drawing, see `data.pad_form`."""
    size = settings.input
    return pad_form(
        settings.source, settings.layout, settings.classes, size.height, size.width, size.channels, settings.task
    )


def epochs_done(folder: Path) -> int:
    """The complete lines of a run's `metrics.csv`, without the header."""
    path = folder / "metrics.csv"
    try:
        if not path.is_file():
            return 0
        with path.open("rb") as file:
            return max(0, file.read(_MOST_HISTORY).count(b"\n") - 1)
    except OSError:
        return 0


def test_accuracy(folder: Path) -> float | None:
    """The accuracy of the run's last test, on its own test images; None if there is none that can be read."""
    try:
        return _accuracy(folder, stamps(folder, (_SCORES,))) if (folder / _SCORES).is_file() else None
    except Exception:  # whatever the file contains, it is not a test result
        return None


@lru_cache(maxsize=4096)
def _accuracy(folder: Path, _: Stamps) -> float | None:
    scores = evaluation.read_scores(folder)
    return scores.accuracy if scores is not None and scores.split == "test" else None
