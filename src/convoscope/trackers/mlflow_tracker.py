"""MLflow: one of its runs for each, in the store that MLflow itself is set to, such as by `MLFLOW_TRACKING_URI`."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import printable
from .tracker import Tracker, library


class MLflow(Tracker):
    """Records runs with MLflow (`pip install 'convoscope[mlflow]'`).

    Args:
        experiment: its name; by default that of `MLFLOW_EXPERIMENT_NAME`, else `convoscope`.
        tracking_uri: where it is kept, such as `sqlite:///mlflow.db` or a server; by default as MLflow is set.

    Raises:
        MachineError: MLflow is not installed (`tracker-missing`).
    """

    def __init__(self, experiment: str | None = None, tracking_uri: str | None = None) -> None:
        super().__init__()
        self._library = library("mlflow", "mlflow")
        self._experiment = experiment or os.environ.get("MLFLOW_EXPERIMENT_NAME") or "convoscope"
        self._uri = tracking_uri
        self._client: Any = None
        self._run = ""

    def begin(self, folder: Path, parameters: Mapping[str, str | int | float | bool]) -> None:
        if self._client is None:
            self._client = self._library.MlflowClient(self._uri or self._library.get_tracking_uri())
        found = self._client.get_experiment_by_name(self._experiment)
        number = found.experiment_id if found is not None else self._client.create_experiment(self._experiment)
        tags = {"folder": printable(folder.absolute())}
        self._run = self._client.create_run(number, run_name=printable(folder.name), tags=tags).info.run_id
        entities = self._library.entities
        parts = [entities.Param(name, str(value)[:500]) for name, value in parameters.items()]
        self._client.log_batch(self._run, params=parts)

    def log(self, figures: Mapping[str, float], step: int) -> None:
        for name, value in figures.items():
            self._client.log_metric(self._run, name, value, step=step)

    def close(self, *, whole: bool) -> None:
        self._client.set_terminated(self._run, "FINISHED" if whole else "KILLED")
