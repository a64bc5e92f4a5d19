"""How images are moved: shifted, turned and scaled, and by how much where a curve or a slider asks.

Images are uint8 `(N, H, W, C)`. What moves in from outside is filled with the image's own background: the median of its
outermost frame of pixels, for each channel. Shifts are by whole pixels and exact. Turns and scalings are about the
centre, bilinear, rounded to uint8; a turn by a multiple of 90 degrees of a square image is exact.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
_AT_ONCE = 1 << 23
"""At most this many numbers of images are moved at once."""


@dataclass(frozen=True)
class Grid:
    """The points of the three curves, ascending. Each includes the untouched image (shift 0, turn 0, scale 1)."""

    shifts: tuple[int, ...]
    turns: tuple[int, ...]
    scales: tuple[float, ...]

    @property
    def passes(self) -> int:
        """How often the images go through the network: each shift sideways and up-down, -180 and 180 degrees once."""
        return 1 + 2 * (len(self.shifts) - 1) + len(self.turns) - 2 + len(self.scales) - 1


def grid(height: int, width: int, *, coarse: bool = False) -> Grid:
    """Shifts up to 2/7 of the shorter side (8 pixels at 28), turns all round, scales from one half to one and a half.

    The coarse grid is a part of the fine one, so that two runs can be compared at the points they share.
    """
    reach = max(1, round(min(height, width) * 2 / 7))
    steps = [round(reach * step / 8) for step in range(0, 9, 2 if coarse else 1)]
    shifts = sorted({sign * step for step in steps for sign in (-1, 1)})
    turns = range(-180, 181, 45 if coarse else 15)
    scales = (5, 7, 9, 10, 11, 13, 15) if coarse else range(5, 16)
    return Grid(tuple(shifts), tuple(turns), tuple(scale / 10 for scale in scales))


def background(pixels: Pixels) -> Pixels:
    """The median of each image's outermost frame of pixels, for each channel: uint8 `(N, C)`."""
    count, height, width, channels = pixels.shape
    frame = np.ones((height, width), dtype=bool)
    frame[1:-1, 1:-1] = False
    edge = pixels.reshape(count, height * width, channels)[:, frame.ravel()]
    # The lower of the two middle values of an even number: an average could be a colour that the image has nowhere.
    middle = (edge.shape[1] - 1) // 2
    chosen: Pixels = np.partition(edge, middle, axis=1)[:, middle]
    return chosen


def shift(pixels: Pixels, *, right: int = 0, down: int = 0) -> Pixels:
    """Move whole images by whole pixels; what comes in is background."""
    _, height, width, _ = pixels.shape
    result = np.empty_like(pixels)
    result[:] = background(pixels)[:, None, None, :]
    if abs(right) < width and abs(down) < height:
        rows, columns = _overlap(height, down), _overlap(width, right)
        result[:, rows[1], columns[1]] = pixels[:, rows[0], columns[0]]
    return result


def _overlap(size: int, move: int) -> tuple[slice, slice]:
    """Where the part that stays comes from, and where it goes."""
    kept = size - abs(move)
    return slice(max(0, -move), max(0, -move) + kept), slice(max(0, move), max(0, move) + kept)


def turn(pixels: Pixels, degrees: float) -> Pixels:
    """Turn images about their centre, against the clock for positive angles."""
    angle = math.radians(degrees)
    return _resample(pixels, [[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])


def scale(pixels: Pixels, factor: float) -> Pixels:
    """Enlarge (factor above 1) or shrink images about their centre; the frame keeps its size."""
    return _resample(pixels, [[1 / factor, 0.0], [0.0, 1 / factor]])


def _resample(pixels: Pixels, matrix: list[list[float]]) -> Pixels:
    """Every pixel (x, y from the centre, y downwards) from the place `matrix @ (x, y)` of the old image, bilinear."""
    import torch
    import torch.nn.functional as F

    _, height, width, _ = pixels.shape
    vertical = torch.arange(height, dtype=torch.float64) - (height - 1) / 2
    horizontal = torch.arange(width, dtype=torch.float64) - (width - 1) / 2
    y, x = torch.meshgrid(vertical, horizontal, indexing="ij")
    (a, b), (c, d) = matrix
    # grid_sample counts from -1 at the left edge of the first pixel to 1 at the right edge of the last.
    places = torch.stack([(a * x + b * y) * 2 / width, (c * x + d * y) * 2 / height], dim=-1).float()
    ground = background(pixels)
    result = np.empty_like(pixels)
    batch = max(1, _AT_ONCE // max(pixels[:1].size, 1))  # each image is moved by itself: their number changes nothing
    for start in range(0, len(pixels), batch):
        part = slice(start, start + batch)
        base = torch.from_numpy(ground[part].astype(np.float32))[:, :, None, None]
        # Zero outside the image is background once it is added again.
        images = torch.from_numpy(pixels[part].astype(np.float32)).permute(0, 3, 1, 2) - base
        moved = F.grid_sample(images, places.expand(len(images), -1, -1, -1), padding_mode="zeros", align_corners=False)
        result[part] = moved.add_(base).round_().clamp_(0, 255).to(torch.uint8).permute(0, 2, 3, 1).numpy()
    return result
