"""RandAugment (Cubuk et al. 2020, https://arxiv.org/abs/1909.13719): two operations for each image, drawn at random,
all of one strength. Which ones is a function of (seed, epoch, image).

The operations are torchvision's, on whole groups of images: those that get the same one.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .rng import uniforms

_ROUNDS = 2
_FIRST_DRAW = 16
"""Those before it belong to the other augmentations."""
_GREY = 128.0
_BILINEAR = "bilinear"

Operation = Callable[[Tensor, float], Tensor]
"""From uint8 images `(n, C, H, W)` and a strength -1..1 to such images."""


def operations(channels: int) -> tuple[Operation, ...]:
    """The operations for images of this many channels; the first changes nothing."""
    import torchvision.transforms.v2.functional as v2

    def affine(images: Tensor, *, x: float = 0.0, y: float = 0.0, shear: tuple[float, float] = (0.0, 0.0)) -> Tensor:
        height, width = images.shape[2:]
        place = [round(x * width), round(y * height)]
        degrees = [float(np.degrees(np.arctan(each))) for each in shear]
        moved: Tensor = v2.affine(images, 0.0, place, 1.0, degrees, interpolation=_BILINEAR, fill=_GREY)
        return moved

    result: list[Operation] = [
        lambda images, strength: images,
        lambda images, strength: v2.equalize(images),
        lambda images, strength: v2.rotate(images, 30 * strength, interpolation=_BILINEAR, fill=_GREY),
        lambda images, strength: v2.solarize(images, 255 * (1 - abs(strength)) + 1),
        lambda images, strength: v2.posterize(images, 8 - round(4 * abs(strength))),
        lambda images, strength: affine(images, shear=(0.3 * strength, 0.0)),
        lambda images, strength: affine(images, shear=(0.0, 0.3 * strength)),
        lambda images, strength: affine(images, x=0.45 * strength),
        lambda images, strength: affine(images, y=0.45 * strength),
    ]
    if channels in (1, 3):
        result += [
            lambda images, strength: v2.autocontrast(images),
            lambda images, strength: v2.adjust_brightness(images, 1 + 0.9 * strength),
            lambda images, strength: v2.adjust_contrast(images, 1 + 0.9 * strength),
            lambda images, strength: v2.adjust_sharpness(images, 1 + 0.9 * strength),
        ]
    if channels == 3:
        result.append(lambda images, strength: v2.adjust_saturation(images, 1 + 0.9 * strength))
    return tuple(result)


def chosen(seed: int, epoch: int, images: NDArray[np.int64], count: int) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Which of `count` operations each image gets in each round, and whether its strength is negative, `(N, 2)`."""
    draws = uniforms(seed, epoch, images, _FIRST_DRAW + 2 * _ROUNDS)[:, _FIRST_DRAW:]
    return (draws[:, :_ROUNDS] * count).astype(np.int64), draws[:, _ROUNDS:] < 0.5


def randaugment(batch: Tensor, images: NDArray[np.int64], *, seed: int, epoch: int, strength: float) -> Tensor:
    """The batch with two operations on each image.

    Args:
        batch: `(N, C, H, W)` in 0..255; rounded to whole numbers.
        images: `(N,)` the images' fixed numbers.
        strength: 0..1.

    Returns:
        float32 `(N, C, H, W)`.
    """
    work = batch.round().clamp(0, 255).to(torch.uint8).contiguous()
    kinds = operations(batch.shape[1])
    which, negative = chosen(seed, epoch, images, len(kinds))
    for turn in range(_ROUNDS):
        for kind, operation in enumerate(kinds[1:], 1):
            for sign in (1, -1):
                rows = np.flatnonzero((which[:, turn] == kind) & (negative[:, turn] == (sign < 0)))
                if len(rows):
                    place = torch.from_numpy(rows).to(work.device)
                    work[place] = operation(work[place], sign * strength)
    return work.float()
