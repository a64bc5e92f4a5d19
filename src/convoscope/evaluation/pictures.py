"""Images of a test: sheets of mistakes, samples of classes, first-layer filters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from ..render import COLOURS, Pixels, enlarge, fitting, font, to_image

if TYPE_CHECKING:
    from torch import nn


def strip(images: Sequence[Pixels], *, side: int, gap: int = 4) -> Image.Image:
    """Images in one row, each at most `side` large, on a transparent ground."""
    small = [_reduced(to_image(pixels), side) for pixels in images]
    tall = max(image.height for image in small)
    sheet = Image.new("RGBA", (sum(image.width for image in small) + gap * (len(small) - 1), tall))
    place = 0
    for image in small:
        sheet.paste(image.convert("RGBA"), (place, (tall - image.height) // 2))
        place += image.width + gap
    return sheet


def _reduced(image: Image.Image, side: int) -> Image.Image:
    return image if max(image.size) <= side else enlarge(image, side)


def mistakes_sheet(images: Sequence[Pixels], captions: Sequence[tuple[str, str]], *, columns: int = 6) -> Image.Image:
    """Images with two lines under each: what it is (grey) and what the network took it for (red)."""
    side, margin, line = 176, 14, 22
    columns = min(columns, max(1, len(images)))
    rows = -(-len(images) // columns)
    wide, tall = side + margin, side + 2 * line + margin
    sheet = Image.new("RGB", (columns * wide + margin, rows * tall + margin), COLOURS["ground"][0])
    pen = ImageDraw.Draw(sheet)
    for position, (pixels, (truth, answer)) in enumerate(zip(images, captions, strict=True)):
        left, top = margin + position % columns * wide, margin + position // columns * tall
        picture = enlarge(to_image(pixels), side).convert("RGB")
        pen.rectangle((left, top, left + side - 1, top + side - 1), COLOURS["panel"][0])
        sheet.paste(picture, (left + (side - picture.width) // 2, top + (side - picture.height) // 2))
        for row, (text, colour) in enumerate(((truth, "muted"), (answer, "red"))):
            pen.text((left, top + side + 3 + row * line), fitting(text, side, 15), COLOURS[colour][0], font(15))
    return sheet


def first_filters(network: nn.Module, shape: tuple[int, int, int]) -> tuple[str, NDArray[np.float32]] | None:
    """The first layer's weights as images: what kind of layer, and float32 `(filters, channels, height, width)`.

    A convolution gives its filters; a dense layer on the pixels gives one image for each neuron. None when the first
    layer with weights is neither. `shape` is the input's (height, width, channels).
    """
    from torch import nn as layers

    height, width, channels = shape
    for module in network.modules():
        if any(True for _ in module.children()) or not any(p.ndim > 1 for p in module.parameters(recurse=False)):
            continue
        if isinstance(module, layers.Conv2d):
            return "convolution", module.weight.detach().float().cpu().numpy()
        if isinstance(module, layers.Linear) and module.in_features == height * width * channels:
            weights = module.weight.detach().float().cpu().numpy()
            return "dense", weights.reshape(-1, channels, height, width)
        return None
    return None
