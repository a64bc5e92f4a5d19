"""How pixels become the numbers that a network takes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

_AT_ONCE = 1 << 22
"""Numbers that are measured at once."""


@dataclass(frozen=True, kw_only=True)
class Normalisation:
    """(pixel / 255 - mean) / std, channel by channel.

    Attributes:
        mean, std: C numbers in 0..1, measured on the training images.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]

    @classmethod
    def of(cls, pixels: NDArray[np.uint8], rows: NDArray[np.int64], *, at_most: int = 10_000) -> Normalisation:
        """Measured on these rows of images `(N, H, W, C)`, on at most `at_most` of them, spread evenly."""
        chosen = rows if len(rows) <= at_most else rows[np.linspace(0, len(rows) - 1, at_most).astype(np.int64)]
        channels = pixels.shape[3]
        total, squares, count = np.zeros(channels), np.zeros(channels), 0
        together = max(1, _AT_ONCE // max(pixels[:1].size, 1))
        for begin in range(0, len(chosen), together):
            chunk = np.take(pixels, chosen[begin : begin + together], axis=0).reshape(-1, channels).astype(np.float64)
            total += chunk.sum(0)
            squares += (chunk * chunk).sum(0)
            count += len(chunk)
        mean = total / count
        std = np.sqrt(np.maximum(squares / count - mean * mean, 0))
        std[std < 1e-3] = 255  # a channel of one value: only its mean is taken off
        return cls(mean=tuple(map(float, mean / 255)), std=tuple(map(float, std / 255)))

    def __call__(self, images: Tensor) -> Tensor:
        """`(N, C, H, W)` in 0..255 to the network's input."""
        mean = images.new_tensor(self.mean)[None, :, None, None] * 255
        factor = 1 / (images.new_tensor(self.std)[None, :, None, None] * 255)
        return (images - mean) * factor
