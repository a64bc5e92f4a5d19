"""What all trackers have in common: one record for each run, made while it trains or from its folder afterwards."""

from __future__ import annotations

import math
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from types import ModuleType

from ..errors import MachineError
from ..training import EpochMetrics, Reporter, Settings, best_epoch, read_described, read_history


class Tracker(Reporter):
    """Keeps a record of each run somewhere else. A subclass says how one is begun, added to and closed.

    A record has the run's settings as parameters, the figures of `metrics.csv` by epoch, and those of its tests.
    """

    def __init__(self) -> None:
        self._folder: Path | None = None
        self._done = 0

    def begin(self, folder: Path, parameters: Mapping[str, str | int | float | bool]) -> None:
        """Begin the record of a run."""
        raise NotImplementedError

    def log(self, figures: Mapping[str, float], step: int) -> None:
        """Add figures of an epoch."""
        raise NotImplementedError

    def close(self, *, whole: bool) -> None:
        """The run's training is over; `whole`: it was not stopped."""

    def start(self, folder: Path, epochs: int) -> None:
        self._begin(folder)

    def _begin(self, folder: Path) -> None:
        """Begin a record, unless it is begun, with the epochs that are done."""
        if folder == self._folder:
            return
        settings, history = read_described(folder), read_history(folder / "metrics.csv")
        self._folder, self._done = folder, 0
        self.begin(folder, parameters_of(settings))
        for row in history:
            self._log_row(row)

    def _log_row(self, row: EpochMetrics) -> None:
        if row["epoch"] > self._done:
            self._done = row["epoch"]
            values = {name: value for name, value in row.items() if name != "epoch" and isinstance(value, int | float)}
            self.log({name: float(value) for name, value in values.items() if math.isfinite(value)}, row["epoch"])

    def epoch(self, row: EpochMetrics, best: bool) -> None:
        self._log_row(row)

    def end(self) -> None:
        if self._folder is not None:
            self.close(whole=False)  # `finished` comes behind it, if nothing went wrong

    def finished(self, folder: Path) -> None:
        self._begin(folder)
        self.close(whole=True)

    def tested(self, folder: Path, split: str, figures: Mapping[str, float]) -> None:
        self._begin(folder)
        history = read_history(folder / "metrics.csv")
        self.log({f"{split}_{name}": value for name, value in figures.items()}, best_epoch(history))
        self.close(whole=True)


def parameters_of(settings: Settings) -> dict[str, str | int | float | bool]:
    """A run's settings as flat names and plain values: those of the recipe, and what it was made of."""
    form = settings.input
    made_of: dict[str, str | int | float | bool] = {
        "source": settings.source,
        "model": settings.model,
        "seed": settings.seed,
        "input": f"{form.height}x{form.width}x{form.channels}",
        "classes": len(settings.classes),
        "parameters": settings.parameters,
        **{f"images_{part}": count for part, count in settings.images.items()},
    }
    return made_of | settings.recipe.model_dump()


def library(name: str, extra: str) -> ModuleType:
    """A tracker's library.

    Raises:
        MachineError: it is not installed (`tracker-missing`).
    """
    try:
        return import_module(name)
    except ModuleNotFoundError:
        raise MachineError(
            name, "is not installed", hint=f"pip install 'convoscope[{extra}]'", code="tracker-missing"
        ) from None
