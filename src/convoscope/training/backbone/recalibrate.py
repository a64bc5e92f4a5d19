"""The threshold for unknown images after fine-tuning: the backbone's features are different now."""

from __future__ import annotations

import numpy as np

from ...data import Prepared
from ..core import checkpoint
from ..core.engine import pick_device
from ..core.reporter import Reporter
from ..core.signals import StopSignals
from ..fit.errors import stopped
from ..fit.job import Job
from ..heads.ood import fit_ood_detector
from ..runs.folder import write_toml
from ..runs.run import Run
from ..runs.settings import read_settings
from .features import Features
from .sources import open_backbone


def recalibrate(job: Job, prepared: Prepared, signals: StopSignals, reporter: Reporter) -> None:
    """Set the threshold by the best checkpoint's features, and write it into that checkpoint and into `run.toml`.

    Does nothing if that is done already, so that a start after a kill may call it again.
    """
    best = job.folder / "best.safetensors"
    tensors, state = checkpoint.load(best)
    settings = read_settings(state, best)
    relearned = settings.relearned
    if relearned is None:
        return
    if any(name.startswith("ood.") for name in tensors):
        write_toml(job.folder, job.settings.model_copy(update={"relearned": relearned}))
        return

    def progress(done: int, total: int) -> None:
        if signals.number:
            raise stopped(job, signals.number)
        reporter.progress("features", done, total)

    dataset = prepared.dataset
    train, validation = dataset.indices("train"), dataset.indices("validation")
    backbone = open_backbone(Run.open(best), say=reporter.say)
    source = Features(backbone, device=pick_device(settings.recipe.device), precision=settings.recipe.precision)
    features = np.zeros((len(dataset), source.width), np.float32)
    for rows in (train, validation):
        features[rows] = source.of(prepared, rows, exact=rows is validation, progress=progress)
    reporter.end()
    detector = fit_ood_detector(features, dataset.targets.astype(np.int64), train, validation, relearned.coverage)
    if detector is None:
        return
    threshold = {"threshold": detector.threshold, "neighbours": detector.neighbours}
    relearned = relearned.model_copy(update=threshold)
    content = settings.model_copy(update={"relearned": relearned}).to_json()
    checkpoint.save(best, tensors | detector.tensors(), state | {"settings": content})
    write_toml(job.folder, job.settings.model_copy(update={"relearned": relearned}))
