"""The user's own functions tried on a few images before a training begins, so that a mistake in them costs seconds."""

from __future__ import annotations

import numpy as np
import torch

from ...models import eval_mode
from ..core.augment import augment, resize
from .job import Job
from .loop import own_metrics_of
from .split import Split, load_batch

_TRIED = 512
"""At most this many validation images are given to a metric."""


def try_hooks(job: Job) -> None:
    """Call each of the user's own functions once, as the training will. Nothing changes by it.

    Raises:
        UsageError: one of them fails or gives something else than it should; see `core/hooks.py`.
    """
    hooks = job.hooks
    if hooks.loss is None and hooks.augment is None and not hooks.metrics:
        return
    network = job.network
    device = next((str(value.device) for value in network.parameters()), "cpu")
    rows = np.arange(min(2, len(job.train)))
    pixels, targets = load_batch(job.train, rows, device)
    with torch.random.fork_rng(devices=[]):
        images = augment(pixels, job.train.rows[rows], seed=job.seed, epoch=0, recipe=job.recipe, own=hooks.augment)
        if hooks.loss is not None:
            with eval_mode(network):
                scores = network(job.normalisation(images).contiguous())
            job.objective.loss(scores, targets)
        if hooks.metrics and len(job.validation):
            _try_metrics(job, device)


def _try_metrics(job: Job, device: str) -> None:
    """The metrics of images from all over the validation part."""
    whole = job.validation
    chosen = np.unique(np.linspace(0, len(whole) - 1, min(_TRIED, len(whole))).astype(np.int64))
    part = Split(pixels=whole.pixels, rows=whole.rows[chosen], targets=whole.targets[torch.from_numpy(chosen)])
    answers = []
    with eval_mode(job.network), torch.inference_mode():
        for begin in range(0, len(part), 32):
            images, _ = load_batch(part, np.arange(begin, min(begin + 32, len(part))), device)
            size = (images.shape[1], images.shape[2])
            scores = job.network(job.normalisation(resize(images.permute(0, 3, 1, 2), size)))
            answers.append(job.objective.answers(scores.cpu()).numpy())
    own_metrics_of(job, answers, part)
