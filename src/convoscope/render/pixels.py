"""Numbers as pixels: images as they are, signed numbers in blue and red."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Pixels = NDArray[np.uint8]


def to_image(pixels: Pixels) -> Image.Image:
    """One image `(H, W, C)` as a grey or RGB picture; of other numbers of channels the first one or three."""
    if pixels.shape[2] < 3:
        return Image.fromarray(np.ascontiguousarray(pixels[:, :, 0]), "L")
    return Image.fromarray(np.ascontiguousarray(pixels[:, :, :3]), "RGB")


def enlarge(image: Image.Image, side: int) -> Image.Image:
    """Fit the longer side to `side`: small images in whole, sharp pixels, large ones smoothly."""
    longest = max(image.size)
    if longest <= side:
        factor = max(1, side // longest)
        return image.resize((image.width * factor, image.height * factor), Image.Resampling.NEAREST)
    width, height = (max(1, round(length * side / longest)) for length in image.size)
    return image.resize((width, height), Image.Resampling.LANCZOS)


def signed_image(values: NDArray[np.floating[Any]], reach: float) -> Image.Image:
    """Signed numbers `(H, W)` as colour: blue negative, red positive, transparent zero, full colour at `reach`."""
    result = np.zeros((*values.shape, 4), np.uint8)
    negative = np.frombuffer(bytes.fromhex("1f5fbf"), np.uint8)
    positive = np.frombuffer(bytes.fromhex("c22a35"), np.uint8)
    result[..., :3] = np.where((values < 0)[..., None], negative, positive)
    share = np.abs(values) / reach if reach > 0 else np.zeros_like(values)
    result[..., 3] = np.round(np.clip(share, 0, 1) * 255)
    return Image.fromarray(result, "RGBA")


def filter_image(weights: NDArray[np.float32], reach: float) -> Image.Image:
    """One filter `(channels, height, width)`: its kernels side by side, one transparent column between them."""
    channels, height, width = weights.shape
    sheet = Image.new("RGBA", (channels * (width + 1) - 1, height))
    for channel in range(channels):
        sheet.paste(signed_image(weights[channel], reach), (channel * (width + 1), 0))
    return sheet
