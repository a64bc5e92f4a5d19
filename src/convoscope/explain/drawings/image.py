"""An image, its channels, and the number of every pixel."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image

from ...errors import UsageError
from ...render import Pixels, enlarge, to_image
from .blocks import SMALL, column, columns_for, flow, framed, title_line, words
from .cells import cell_side, cells
from .numerals import times
from .sheets import on_sheet


def image_sheet(pixels: Pixels | ArrayLike, *, title: str = "the image", unit: bool = False) -> Image.Image:
    """An image, its channels, and grey; of images up to 28 x 28 with the number of every pixel.

    Grey is 0.299 R + 0.587 G + 0.114 B, as in television (ITU-R BT.601).

    Args:
        pixels: uint8 `(H, W)` or `(H, W, C)`.
        title: the heading.
        unit: numbers as 0..1 rather than 0..255.

    Raises:
        UsageError: not uint8, or another number of axes (`figure-values`).
    """
    picture = checked_pixels(pixels)
    height, width, depth = picture.shape
    numbered = max(height, width) <= 28
    panels = [("image", picture, (1.0, 1.0, 1.0))]
    tints = {"red": (1.0, 0.0, 0.0), "green": (0.0, 1.0, 0.0), "blue": (0.0, 0.0, 1.0)}
    for channel, name in enumerate(_channel_names(depth)):
        panels.append((name, picture[:, :, channel : channel + 1], tints.get(name, (1.0, 1.0, 1.0))))
    if depth >= 3:
        grey = np.asarray(Image.fromarray(np.ascontiguousarray(picture[:, :, :3])).convert("L"))
        panels.append(("grey", grey[:, :, None], (1.0, 1.0, 1.0)))
    pictures = []
    for _, part, tint in panels[1:]:
        pictures.append(_pixel_cells(part[:, :, 0], tint, unit) if numbered else pixel_tile(part, 380, tint))
    size = pictures[0].width - 2, pictures[0].height - 2
    blocks = []
    for (name, part, _), block in zip(panels, [small_image(picture, size), *pictures], strict=True):
        levels = f"{_level(int(part.min()), unit)} to {_level(int(part.max()), unit)}"
        blocks.append(column([words(name, bold=True), block, words(levels, size=SMALL, colour="muted")], gap=4))
    columns = columns_for(len(blocks), max(block.width for block in blocks) + 20, 1700)
    if len(blocks) > columns and columns >= 3:
        columns = 3
    scale = "numbers 0 to 1: pixel / 255" if unit else "numbers 0 to 255"
    about = f"{times((height, width))} pixels · {depth} channel{'s' if depth > 1 else ''} · {scale}"
    return on_sheet([title_line(title), words(about, colour="muted"), flow(blocks, columns, gap=(20, 16))])


def _channel_names(depth: int) -> list[str]:
    known = {1: ["grey"], 2: ["grey", "alpha"], 3: ["red", "green", "blue"], 4: ["red", "green", "blue", "alpha"]}
    return known.get(depth) or [f"channel {channel}" for channel in range(depth)]


def _level(value: int, unit: bool) -> str:
    if not unit:
        return str(value)
    return "0" if value == 0 else "1" if value == 255 else f"{value / 255:.2f}"


def _pixel_cells(values: NDArray[np.uint8], tint: tuple[float, float, float], unit: bool) -> Image.Image:
    """One channel with the number of every pixel, in its own colour."""
    small = max(values.shape) <= 12
    texts = [_level(int(value), unit) for value in values.ravel()]
    size = SMALL if small else 10
    return cells(
        _tinted(Image.fromarray(values), tint), texts, size=size, side=max(44 if small else 0, cell_side(texts, size))
    )


def _tinted(picture: Image.Image, tint: tuple[float, float, float]) -> Image.Image:
    return Image.fromarray((np.asarray(picture.convert("RGB")) * np.array(tint)).astype(np.uint8))


def pixel_tile(pixels: Pixels, side: int, tint: tuple[float, float, float] = (1.0, 1.0, 1.0)) -> Image.Image:
    """An image or one channel of it, its longer side about `side` pixels."""
    return framed(_tinted(enlarge(to_image(pixels), side), tint))


def checked_pixels(pixels: Any) -> Pixels:
    picture = np.asarray(pixels)
    if picture.ndim == 2:
        picture = picture[:, :, None]
    if picture.dtype != np.uint8 or picture.ndim != 3 or not picture.size:
        raise UsageError(
            "pixels",
            f"expected uint8 (height, width, channels); received {picture.dtype} of shape {np.shape(pixels)}",
            code="figure-values",
        )
    return picture


def resampling(picture: Pixels, size: tuple[int, int]) -> Image.Resampling:
    return Image.Resampling.NEAREST if size[0] >= picture.shape[1] else Image.Resampling.LANCZOS


def small_image(picture: Pixels, size: tuple[int, int]) -> Image.Image:
    return framed(to_image(picture).convert("RGB").resize(size, resampling(picture, size)))
