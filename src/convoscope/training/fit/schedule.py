"""What each epoch and step uses: order, image size, blending, learning rate. Each is a function of the job and of the
epoch or step.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from ...errors import UsageError
from ..core.optimizer import lr_factor
from ..core.recipe import Recipe
from ..core.rng import balanced_order, image_order, uniforms
from .job import Job
from .pace import early_epochs
from .state import Progress


def blend_share(job: Job, epoch: int, step: int) -> float:
    """Mixup (Zhang et al. 2018, https://arxiv.org/abs/1710.09412): how much of its own each image of this step keeps,
    0.5..1; the rest is the image before it in the batch. A function of (seed, step). In the last 15 % of the epochs
    images stay as they are.
    """
    recipe = job.recipe
    if not recipe.mixup or epoch >= 0.85 * recipe.epochs:
        return 1.0
    chosen, share = uniforms(job.seed, -1, np.array([step]), 2)[0]
    return 0.5 + float(share) / 2 if chosen < recipe.mixup else 1.0


def cut_box(job: Job, epoch: int, step: int, size: tuple[int, int]) -> tuple[slice, slice] | None:
    """CutMix (Yun et al. 2019, https://arxiv.org/abs/1905.04899): the rows and columns that each image of this step has
    from the image before it in the batch; None: none. A function of (seed, step); its area is uniform in 0..1 before
    it is cut off at the borders. In the last 15 % of the epochs images stay as they are.
    """
    recipe = job.recipe
    if not recipe.cutmix or epoch >= 0.85 * recipe.epochs:
        return None
    chosen, area, *middle = uniforms(job.seed, -1, np.array([step]), 6)[0][2:]  # the first two are mixup's
    if chosen >= recipe.cutmix:
        return None
    half = math.sqrt(float(area)) / 2
    rows, columns = (
        slice(max(0, round((float(at) - half) * side)), min(side, round((float(at) + half) * side)))
        for at, side in zip(middle, size, strict=True)
    )
    return rows, columns


def train_size(job: Job, epoch: int) -> tuple[int, int]:
    """Height and width of the training images in an epoch (from 0): small at first, larger in the last 30 % of the
    epochs, and in any case in the last one.

    Small images cost less, and a network sees things somewhat larger when trained on parts of images than when tested
    on whole ones, so that the input for testing may be the largest (Touvron et al. 2019,
    https://arxiv.org/abs/1906.06423).
    """
    return _scaled(job, train_share(job.recipe, epoch))


def train_share(recipe: Recipe, epoch: int) -> float:
    """The share of the input's side that images have in an epoch (from 0)."""
    return recipe.start_size if _early(recipe, epoch) else recipe.end_size


def validation_size(job: Job, epoch: int) -> tuple[int, int]:
    """Height and width for validation: the full input at the end, before that smaller in proportion to the training
    images.
    """
    return _scaled(job, min(1.0, job.recipe.start_size / job.recipe.end_size) if _early(job.recipe, epoch) else 1.0)


def _early(recipe: Recipe, epoch: int) -> bool:
    return epoch < early_epochs(recipe)


def _scaled(job: Job, share: float) -> tuple[int, int]:
    height, width = job.train.pixels.shape[1:3]
    return scaled(height, width, share)


def scaled(height: int, width: int, share: float) -> tuple[int, int]:
    """The input's height and width times `share`, in multiples of 8 where that is less."""
    if share == 1:
        return height, width
    return max(8, round(height * share / 8) * 8), max(8, round(width * share / 8) * 8)


def epoch_order(job: Job, epoch: int) -> NDArray[np.int64]:
    """The positions in the training part, in the order of this epoch."""
    if job.recipe.sampling == "balanced":
        if job.objective.task != "classification":
            raise UsageError(
                "sampling",
                "balanced sampling needs one class for each image",
                hint="use --set sampling=all",
                code="sampling-task",
            )
        return balanced_order(job.seed, epoch, job.train.targets.numpy())
    return image_order(job.seed, epoch, len(job.train))


def lr_factor_at(job: Job, step: int) -> float:
    """The share of the highest learning rate at a step, counted from 0 over the whole training."""
    return lr_factor(job.recipe, step, job.recipe.epochs * job.steps_in_epoch)


def exhausted(recipe: Recipe, progress: Progress) -> bool:
    """Whether the recipe's patience is at its end."""
    return recipe.patience > 0 and progress.stale >= recipe.patience
