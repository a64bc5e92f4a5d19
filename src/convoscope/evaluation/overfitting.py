"""What the curves of training and validation say about overfitting."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from .results import Gap
from .text import finite

if TYPE_CHECKING:
    from ..training import Run


def gap_of(run: Run) -> Gap | None:
    """A run's gap between training and validation, see `read_gap`."""
    counted = run.settings.images.get("validation") if run.task == "classification" else None
    remark = None
    if not run.settings.solved:
        remark = "which is averaged over the epoch while the network is still learning"
        remark += ", on augmented images" if augments(run) else ""
    numbers = run.task == "regression"
    return read_gap([dict(row) for row in run.history], run.best_epoch, counted, remark=remark, numbers=numbers)


def augments(run: Run) -> bool:
    """Whether images are augmented in training."""
    recipe = run.settings.recipe.model_dump()
    kinds = ("flip", "rotate", "shear", "zoom", "shift", "colour", "erase", "mixup", "cutmix", "randaugment")
    return any(recipe.get(key) for key in kinds) or recipe.get("crop", 1) < 1


def read_gap(
    history: Sequence[Mapping[str, Any]],
    best_epoch: int,
    validation_images: int | None = None,
    *,
    remark: str | None = "which is averaged over the epoch while the network is still learning",
    numbers: bool = False,
) -> Gap | None:
    """Compare training and validation at the best epoch; None when nothing was trained.

    With the number of validation images, a gap that chance can make (two standard errors of their accuracy) is not
    called overfitting. The validation loss has turned when it ends at least 2 % above its minimum, two or more epochs
    later, while the training loss went on falling.

    Args:
        history: one row an epoch, as in `metrics.csv`.
        best_epoch: the epoch to compare.
        validation_images: how many there are.
        remark: why training figures come out lower; None where both are measured alike, once.
        numbers: accuracy is R2.
    """
    keys = ("train_loss", "train_accuracy", "val_loss", "val_accuracy")
    rows = [row for row in history if all(finite(row.get(key)) is not None for key in keys)]
    if not rows:
        return None
    best = next((row for row in rows if row["epoch"] == best_epoch), rows[-1])
    lowest = min(rows, key=lambda row: float(row["val_loss"]))
    last = rows[-1]
    rise = float(last["val_loss"]) / float(lowest["val_loss"]) - 1 if lowest["val_loss"] else 0.0
    late = last["epoch"] - lowest["epoch"] >= 2
    turned = late and rise >= 0.02 and last["train_loss"] < lowest["train_loss"]
    difference = float(best["train_accuracy"]) - float(best["val_accuracy"])
    share = min(max(float(best["val_accuracy"]), 0.0), 1.0)
    noise = 2 * math.sqrt(share * (1 - share) / validation_images) if validation_images else 0.0
    sentence = _difference_in_words(difference, noise, validation_images, remark=remark, numbers=numbers)
    if turned:
        sentence += (
            f" The validation loss turned after epoch {lowest['epoch']}: it rose from {lowest['val_loss']:.3f} to "
            f"{last['val_loss']:.3f} by epoch {last['epoch']}, while the training loss went on falling. "
            "The weights kept are those of the best epoch."
        )
    return Gap(
        epoch=int(best["epoch"]),
        train_accuracy=float(best["train_accuracy"]),
        validation_accuracy=float(best["val_accuracy"]),
        difference=difference,
        turned=int(lowest["epoch"]) if turned else None,
        sentence=sentence,
    )


def _difference_in_words(
    difference: float, noise: float, images: int | None, *, remark: str | None, numbers: bool
) -> str:
    when = " at the best epoch" if remark is not None else ""
    points = f"{abs(difference):.3f} of R²" if numbers else f"{abs(100 * difference):.1f} percentage points"
    if 0.03 < abs(difference) <= noise:
        return (
            f"Training and validation differ by {points}{when}, which may be chance: {images:,} validation images "
            f"measure an accuracy to within about {100 * noise:.0f} points."
        )
    if difference > 0.1:
        return f"It overfits:{when} it scores {points} higher on the training images than on the validation images."
    if difference > 0.03:
        return f"It overfits a little:{when} training is {points} ahead of validation."
    if difference < -0.005:
        return f"No overfitting: validation is {points} ahead of training{f', {remark}' if remark else ''}."
    return f"No overfitting to speak of: training and validation differ by {points}{when}."
