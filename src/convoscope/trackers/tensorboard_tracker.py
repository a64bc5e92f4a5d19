"""TensorBoard: settings beside results, some images with their answers, and the network's graph, in the run's folder.

Every run has its curves there anyway, see `training/core/event_log.py`; these are what takes TensorBoard's own library.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import ConvoscopeError
from ..files import make_own_folder
from ..training import Run
from .tracker import Tracker, library, parameters_of

_MOST_IMAGES = 24
_FIGURES = ("accuracy/validation", "loss/validation", "accuracy/train", "loss/train", "test/accuracy", "test/loss")


class TensorBoard(Tracker):
    """Adds to each run's `tensorboard` folder what its curves lack (`pip install 'convoscope[tensorboard]'`).

    `tensorboard --logdir runs` then shows HPARAMS (the recipe beside the results of all runs), IMAGES and GRAPHS.

    Raises:
        MachineError: tensorboard is not installed (`tracker-missing`).
    """

    def __init__(self) -> None:
        super().__init__()
        library("tensorboard", "tensorboard")

    def start(self, folder: Path, epochs: int) -> None:
        """There is nothing to record before the training is over: its curves are written anyway."""

    def epoch(self, row: object, best: bool) -> None:
        """See `start`."""

    def end(self) -> None:
        """See `start`."""

    def finished(self, folder: Path) -> None:
        run = Run.open(folder)
        with _writer(folder) as writer:
            from torch.utils.tensorboard.summary import hparams

            for summary in hparams(parameters_of(run.settings), dict.fromkeys(_FIGURES, 0.0)):
                writer.file_writer.add_summary(summary)
            with contextlib.suppress(ConvoscopeError, OSError):  # its images may be gone
                self._add_images(run, writer)

    def _add_images(self, run: Run, writer: Any) -> None:
        prepared = run.prepared()
        rows = prepared.dataset.indices("validation")
        if not len(rows):
            rows = prepared.dataset.indices("train")
        rows = rows[np.linspace(0, len(rows) - 1, min(_MOST_IMAGES, len(rows))).astype(np.int64)]
        pixels = np.take(prepared.pixels, rows, axis=0)
        for row, image, answer in zip(rows.tolist(), pixels, run.predict(list(pixels)), strict=True):
            tag = f"validation/{prepared.dataset.names[row]}: {answer.label}"
            writer.add_image(tag, image[:, :, :3] if image.shape[2] >= 3 else image[:, :, :1], 0, dataformats="HWC")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # tracing has much to say about shapes that are computed
            writer.add_graph(run.network(), run.input_tensor(pixels[:1]))

    def tested(self, folder: Path, split: str, figures: Mapping[str, float]) -> None:
        with _writer(folder) as writer:
            for name, value in figures.items():
                writer.add_scalar(f"{split}/{name}", value, 0)


@contextlib.contextmanager
def _writer(folder: Path) -> Iterator[Any]:
    from torch.utils.tensorboard import SummaryWriter

    make_own_folder(folder / "tensorboard")
    writer = SummaryWriter(str(folder / "tensorboard"), filename_suffix=".more")
    try:
        yield writer
    finally:
        writer.close()
