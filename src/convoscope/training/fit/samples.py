"""Images as the training made them, to be looked at."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from ..core.augment import augment
from ..core.recipe import Recipe
from .schedule import scaled, train_share


def augmented_images(
    pixels: NDArray[np.uint8], rows: NDArray[np.int64], *, recipe: Recipe, seed: int, epoch: int
) -> NDArray[np.uint8]:
    """Training images as an epoch augments them. Where images are blended with others (mixup), that comes after it.

    Args:
        pixels: uint8 `(N, H, W, C)`, in the run's input format.
        rows: `(N,)`, their numbers in the run's dataset, which with seed and epoch decide every draw.
        recipe, seed: the run's.
        epoch: from 1.

    Returns:
        uint8 `(N, h, w, C)`, rounded from what the network gets; smaller than the input in epochs on smaller images.
    """
    height, width = pixels.shape[1:3]
    size = scaled(height, width, train_share(recipe, epoch - 1))
    made = augment(torch.from_numpy(np.array(pixels)), rows, seed=seed, epoch=epoch - 1, recipe=recipe, size=size)
    whole: NDArray[np.uint8] = made.round().clamp(0, 255).byte().permute(0, 2, 3, 1).contiguous().numpy()
    return whole
