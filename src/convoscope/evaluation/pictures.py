"""Images of a test as images: sheets of mistakes, samples of classes, first-layer filters; and the way into a page."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from ..errors import printable
from .drawing import COLOURS, font, png_bytes

if TYPE_CHECKING:
    from torch import nn

Pixels = NDArray[np.uint8]


def to_image(pixels: Pixels) -> Image.Image:
    """One image `(H, W, C)` as a grey or RGB picture; of another number of channels the first one or three are shown."""
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


def data_uri(image: Image.Image) -> str:
    """An image inside a page: PNG where that is exact and small, JPEG for photographs."""
    if image.mode == "RGB" and image.width * image.height > 64 * 64:
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=88)
        return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
    return "data:image/png;base64," + base64.b64encode(png_bytes(image)).decode()


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


def fitting(text: str, width: float, size: int) -> str:
    """As much of a text as fits into `width` pixels, in one safe line."""
    text = printable(text)
    face = font(size)
    if face.getlength(text) <= width:
        return text
    while text and face.getlength(text + "…") > width:
        text = text[:-1]
    return text + "…"


def signed_image(values: NDArray[np.floating[Any]], reach: float) -> Image.Image:
    """Signed numbers `(H, W)` as colour: blue negative, red positive, transparent zero, full colour at `reach`."""
    result = np.zeros((*values.shape, 4), np.uint8)
    negative = np.frombuffer(bytes.fromhex("1f5fbf"), np.uint8)
    positive = np.frombuffer(bytes.fromhex("c22a35"), np.uint8)
    result[..., :3] = np.where((values < 0)[..., None], negative, positive)
    share = np.abs(values) / reach if reach > 0 else np.zeros_like(values)
    result[..., 3] = np.round(np.clip(share, 0, 1) * 255)
    return Image.fromarray(result, "RGBA")


def first_filters(network: nn.Module, shape: tuple[int, int, int]) -> tuple[str, NDArray[np.float32]] | None:
    """The first layer's weights as images: what kind of layer, and float32 `(filters, channels, height, width)`.

    A convolution gives its filters; a dense layer on the pixels gives one image for each neuron. None when the first layer
    with weights is neither. `shape` is the input's (height, width, channels).
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


def filter_image(weights: NDArray[np.float32], reach: float) -> Image.Image:
    """One filter `(channels, height, width)`: its kernels side by side, one transparent column between them."""
    channels, height, width = weights.shape
    sheet = Image.new("RGBA", (channels * (width + 1) - 1, height))
    for channel in range(channels):
        sheet.paste(signed_image(weights[channel], reach), (channel * (width + 1), 0))
    return sheet
