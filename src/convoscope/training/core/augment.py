"""Augmentation on whole batches, a different draw for every image, as a function of (seed, epoch, image).

N images, H height, W width, C channels. Geometry is one affine map for each image (crop, rotate, shear, zoom, shift,
flip and the change of size), sampled bilinearly; beyond its border the image is mirrored.
"""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from .hooks import Augmentation, own_augmentation
from .randaugment import randaugment
from .recipe import Recipe
from .rng import image_seeds, uniforms

_DRAWS = 16


def augments(recipe: Recipe) -> bool:
    """Whether the recipe changes images at all."""
    return recipe.flip or _moves(recipe) or max(recipe.erase, recipe.colour, recipe.randaugment) > 0


def _moves(recipe: Recipe) -> bool:
    return max(recipe.rotate, recipe.shift, recipe.shear, recipe.zoom) > 0 or recipe.crop < 1


def augment(
    pixels: Tensor,
    images: NDArray[np.int64],
    *,
    seed: int,
    epoch: int,
    recipe: Recipe,
    size: tuple[int, int] | None = None,
    own: Augmentation | None = None,
) -> Tensor:
    """The batch as the network shall see it in this epoch.

    Args:
        pixels: uint8 or float32 `(N, H, W, C)` in 0..255.
        images: `(N,)` the images' fixed numbers in the dataset, which with seed and epoch decide every draw.
        size: height and width of the result; by default the images' own.
        own: a function of the user's, which gets the result of all others and a seed for each image.

    Returns:
        float32 `(N, C, H, W)` in 0..255, channels-last in memory.

    Raises:
        UsageError: see `own_augmentation`.
    """
    batch = _augmented(pixels, images, seed, epoch, recipe, size)
    if own is None:
        return batch
    seeds = torch.from_numpy(image_seeds(seed, epoch, images)).to(pixels.device)
    return own_augmentation(own, batch, seeds).contiguous(memory_format=torch.channels_last)


def _augmented(
    pixels: Tensor, images: NDArray[np.int64], seed: int, epoch: int, recipe: Recipe, size: tuple[int, int] | None
) -> Tensor:
    batch = pixels.permute(0, 3, 1, 2)
    size = size or (batch.shape[2], batch.shape[3])
    resized = size != (batch.shape[2], batch.shape[3])
    if not augments(recipe):
        return resize(batch, size)
    draws = torch.from_numpy(uniforms(seed, epoch, images, _DRAWS)).to(pixels.device)
    if _moves(recipe) or resized:
        batch = _move(batch.float(), draws, recipe, size)
    elif recipe.flip:
        batch = torch.where((draws[:, 0] < 0.5)[:, None, None, None], batch.flip(3), batch).float()
    else:
        batch = batch.float()
    if recipe.colour:
        batch = _recolour(batch, draws, recipe.colour)
    if recipe.randaugment:
        batch = randaugment(batch, images, seed=seed, epoch=epoch, strength=recipe.randaugment)
    if recipe.erase:
        batch = _erase(batch, draws, recipe.erase)
    return batch.contiguous(memory_format=torch.channels_last)


def affine_maps(draws: Tensor, recipe: Recipe) -> Tensor:
    """The map from output to input coordinates (-1..1 along each side) for each image: `(N, 2, 3)`."""
    signed = draws * 2 - 1  # -1..1
    angle = signed[:, 1] * math.radians(recipe.rotate)
    slant = torch.tan(signed[:, 2] * math.radians(recipe.shear))
    limit = math.log(1 / (1 - recipe.zoom)) if recipe.zoom else 0.0
    scale = torch.exp(signed[:, 3] * limit)
    # A little independent stretch along x, so that zooming changes the aspect as well (at most a quarter of the zoom).
    stretch = torch.exp(signed[:, 4] * limit / 4)
    mirror = torch.where(draws[:, 0] < 0.5, -1.0, 1.0) if recipe.flip else torch.ones_like(angle)
    cos, sin = torch.cos(angle), torch.sin(angle)
    side = torch.sqrt(1 - draws[:, 13] * (1 - recipe.crop))  # of the part that is cut out
    scale = scale * side
    maps = torch.empty(len(draws), 2, 3, device=draws.device)
    maps[:, 0, 0] = mirror * cos * scale * stretch
    maps[:, 0, 1] = mirror * (slant * cos - sin) * scale
    maps[:, 1, 0] = sin * scale * stretch
    maps[:, 1, 1] = (slant * sin + cos) * scale
    maps[:, 0, 2] = signed[:, 5] * recipe.shift * 2 + signed[:, 14] * (1 - side)
    maps[:, 1, 2] = signed[:, 6] * recipe.shift * 2 + signed[:, 15] * (1 - side)
    return maps


def resize(images: Tensor, size: tuple[int, int]) -> Tensor:
    """Images `(N, C, H, W)` as float32 of another size, bilinear with antialiasing; of their own size exact."""
    if tuple(images.shape[2:]) == size:
        return images.float()
    return F.interpolate(images.float(), size, mode="bilinear", antialias=True, align_corners=False)


def _move(batch: Tensor, draws: Tensor, recipe: Recipe, size: tuple[int, int]) -> Tensor:
    maps = affine_maps(draws, recipe)
    height, width = batch.shape[2:]
    if height != width:  # turn in pixels, not in shares of unequal sides
        maps[:, 0, 1] *= height / width
        maps[:, 1, 0] *= width / height
    # The middles of the result's pixels in -1..1. As torch's affine_grid, whose matrix products take three times as
    # long.
    y = (torch.arange(size[0], device=batch.device) * 2 + 1)[None, :, None] / size[0] - 1
    x = (torch.arange(size[1], device=batch.device) * 2 + 1)[None, None, :] / size[1] - 1
    a, b, c, d, e, f = (maps[:, row, column, None, None] for row in range(2) for column in range(3))
    grid = torch.stack([a * x + b * y + c, d * x + e * y + f], 3)
    return F.grid_sample(batch.contiguous(), grid, mode="bilinear", padding_mode="reflection", align_corners=False)


def _recolour(batch: Tensor, draws: Tensor, strength: float) -> Tensor:
    """Brightness and contrast, and for colour images saturation, each multiplied by 1 - strength .. 1 + strength."""
    factors = 1 + (draws[:, 7:10] * 2 - 1) * strength
    brightness, contrast, saturation = (factors[:, k, None, None, None] for k in range(3))
    mean = batch.mean((1, 2, 3), keepdim=True)
    batch = (batch - mean) * contrast + mean * brightness
    if batch.shape[1] == 3:
        weights = torch.tensor([0.299, 0.587, 0.114], device=batch.device)[None, :, None, None]
        grey = (batch * weights).sum(1, keepdim=True)
        batch = torch.lerp(grey, batch, saturation)
    return batch.clamp_(0, 255)


def _erase(batch: Tensor, draws: Tensor, share: float) -> Tensor:
    """A square of random place and side, 0 .. share of the image's shorter side, filled with the image's mean."""
    height, width = batch.shape[2:]
    side = draws[:, 10] * share * min(height, width)
    top = draws[:, 11] * height - side / 2
    left = draws[:, 12] * width - side / 2
    y = torch.arange(height, device=batch.device)[None, :] + 0.5
    x = torch.arange(width, device=batch.device)[None, :] + 0.5
    rows = (y >= top[:, None]) & (y < (top + side)[:, None])
    columns = (x >= left[:, None]) & (x < (left + side)[:, None])
    hole = rows[:, None, :, None] & columns[:, None, None, :]
    return torch.where(hole, batch.mean((1, 2, 3), keepdim=True), batch)
