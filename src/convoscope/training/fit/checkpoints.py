"""When and how a training writes its checkpoints."""

from __future__ import annotations

import time
from dataclasses import asdict, replace

from torch import Tensor

from ...errors import MachineError
from ..core import checkpoint
from ..core.event_log import EventLog
from ..core.reporter import EpochMetrics, Reporter
from .job import Job
from .learner import Learner
from .state import Progress


class CheckpointWriter:
    """Writes the checkpoints: `best.safetensors` for prediction, `last.safetensors` to go on, `previous.safetensors`
    behind it.

    `saved`: how far the training was at the last of them.
    """

    def __init__(self, job: Job, learner: Learner, saved: Progress | None) -> None:
        self.saved = saved
        self._job = job
        self._learner = learner
        self._best: tuple[dict[str, Tensor], EpochMetrics, float | None] | None = None
        self._interval = job.recipe.save_every
        self._saved_at = time.monotonic()
        self._failures = 0

    def due(self) -> bool:
        """Whether it is time for a checkpoint."""
        return time.monotonic() - self._saved_at >= self._interval

    def remember_best(self, row: EpochMetrics, temperature: float | None) -> None:
        """Hold the weights of the epoch that just proved best, and their temperature, until the next save."""
        weights = self._learner.measured.state_dict()
        self._best = ({name: value.detach().clone() for name, value in weights.items()}, row, temperature)

    def save(self, progress: Progress, log: EventLog, reporter: Reporter, *, final: bool) -> None:
        """Write what there is to keep. One failure on the way is a warning and the next save tries again; a second, or
        the last save's, is an error.
        """
        begin = time.monotonic()
        try:
            self._write(progress, log)
            self._failures = 0
        except MachineError as error:
            self._failures += 1
            if final or self._failures > 1:
                raise
            reporter.warn(f"a checkpoint could not be written ({error}); the next one tries again")
        self._saved_at = time.monotonic()
        # A large network on a slow disk: never spend more than a twentieth of the time on saving.
        self._interval = max(
            self._job.recipe.save_every, 20 * (self._saved_at - begin) if self._job.recipe.save_every else 0
        )

    def _write(self, progress: Progress, log: EventLog) -> None:
        folder, settings = self._job.folder, self._job.settings.to_json()
        settings.pop("temperature", None)  # that of a relearned run's head is of other weights
        best = None
        if self._best is not None:
            weights, row, temperature = self._best
            tensors = {f"model.{name}": value for name, value in weights.items()}
            known = {} if temperature is None else {"temperature": temperature}
            best = tensors, {"settings": settings | known, "epoch": row}
        progress.events_bytes = log.bytes_written
        state = {"settings": settings, "progress": asdict(progress)}
        checkpoint.save_both(folder, best, (self._learner.tensors(), state))
        self._best = None
        self.saved = replace(progress)
