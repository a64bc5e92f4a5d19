"""Weights & Biases: a run each. Where it goes, and whether at all, is W&B's own setting (`WANDB_MODE=offline`, ...)."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import printable
from .tracker import Tracker, library


class WandB(Tracker):
    """Records runs with Weights & Biases (`pip install 'convoscope[wandb]'`).

    A record stays open until its test, the next run, or the end of the program, whichever comes first.

    Args:
        project: its name; by default that of `WANDB_PROJECT`, else `convoscope`.

    Raises:
        MachineError: wandb is not installed (`tracker-missing`).
    """

    def __init__(self, project: str | None = None) -> None:
        super().__init__()
        self._library = library("wandb", "wandb")
        self._project = project or os.environ.get("WANDB_PROJECT") or "convoscope"
        self._run: Any = None

    def begin(self, folder: Path, parameters: Mapping[str, str | int | float | bool]) -> None:
        self._finish()
        self._run = self._library.init(
            project=self._project,
            name=printable(folder.name),
            config=dict(parameters),
            reinit="create_new",
            settings=self._library.Settings(silent=True, console="off"),
        )

    def log(self, figures: Mapping[str, float], step: int) -> None:
        self._run.log({"epoch": step, **figures})

    def tested(self, folder: Path, split: str, figures: Mapping[str, float]) -> None:
        super().tested(folder, split, figures)
        self._finish()
        self._folder = None

    def _finish(self) -> None:
        run, self._run = self._run, None
        if run is not None:
            run.finish()
