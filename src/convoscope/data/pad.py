"""From a sheet of any size that somebody drew on to the small image that a network was trained on.

Two forms: that of the built-in drawings (`normalise_drawing`), and MNIST's, as its authors describe it at
http://yann.lecun.org/exdb/mnist/: each digit was scaled into 20x20 pixels, and put into 28x28 by its centre of mass.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..errors import DataError
from .builtin import DRAWING_SIDE, normalise_drawing
from .dataset import Task

PadForm = Literal["drawings", "digits"]

_DIGITS = ("0", "1", "2", "3", "4", "5", "6", "7", "8", "9")
_BOX = 20  # longest side of a digit, in pixels of the 28
_OVERSAMPLING = 4
_INK = 128  # from here on of 255 a pixel belongs to the stroke
_FAINT = 32  # below this a pixel is outside the digit's box
_THINNEST = 2.0  # pixels; of MNIST's strokes a quarter are thinner, half are over 2.3


def pad_form(
    source: str, layout: str, classes: tuple[str, ...], height: int, width: int, channels: int, task: Task
) -> PadForm | None:
    """How a drawing is brought into the form of a run's images; None: it cannot be drawn for.

    `drawings` for runs on the built-in drawings or on QuickDraw's bitmaps, `digits` for others whose classes are the
    ten digits; both in grey at 28x28.

    Args:
        source: of the run's dataset, a path or a name.
        layout: how it was read, see `Dataset.layout`.
        classes: their names.
        height, width, channels: of the network's input.
        task: what is predicted, see `Dataset.task`.
    """
    if task != "classification" or (height, width, channels) != (DRAWING_SIDE, DRAWING_SIDE, 1):
        return None
    if source.startswith(("builtin:drawings", "quickdraw:")) or layout == "quickdraw":
        return "drawings"
    return "digits" if tuple(sorted(classes)) == _DIGITS else None


def pad_image(pad: NDArray[np.uint8], form: PadForm) -> NDArray[np.uint8]:
    """A drawing in a run's form.

    Args:
        pad: uint8 `(H, W)` of any size, 0 for paper and 255 for ink.
        form: as `pad_form` found it.

    Returns:
        uint8 `(28, 28)`; all zero for an empty sheet.

    Raises:
        DataError: not a uint8 array `(H, W)` with at least one pixel (`bad-drawing`).
    """
    return normalise_drawing(pad) if form == "drawings" else _digit(pad)


def _digit(pad: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """MNIST's form. Strokes thinner than most of MNIST's, as a fine pen on a large pad makes them, are widened."""
    if pad.ndim != 2 or pad.dtype != np.uint8 or 0 in pad.shape:
        raise DataError(
            "drawing", f"expected a uint8 array (height, width); received {pad.dtype} {pad.shape}", code="bad-drawing"
        )
    rows, columns = (np.flatnonzero((pad >= _FAINT).any(axis=axis)) for axis in (1, 0))
    if not len(rows):
        return np.zeros((DRAWING_SIDE, DRAWING_SIDE), dtype=np.uint8)
    box = Image.fromarray(pad[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1])
    side = _BOX * _OVERSAMPLING
    large = _fitted(box, side)
    missing = _THINNEST * _OVERSAMPLING - _stroke_width(large)
    if missing > 0.5:
        # The wider stroke makes the box larger, so the digit is first made smaller by as much.
        large = _widened(_fitted(box, max(1, round(side - missing))), missing / 2)
    small = Image.fromarray(large).resize(
        tuple(max(1, round(length / _OVERSAMPLING)) for length in large.shape[::-1]), Image.Resampling.BOX
    )
    return _centred(np.asarray(small))


def _fitted(image: Image.Image, side: int) -> NDArray[np.uint8]:
    """Scaled, with antialiasing, so that its longer side is `side`."""
    scale = side / max(image.size)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    return np.asarray(image.resize(size, Image.Resampling.BILINEAR))


def _stroke_width(image: NDArray[np.uint8]) -> float:
    """Of a long thin shape: twice its area by its border. A slanted border crosses more edges of pixels than it is
    long, by 4 / pi on average.
    """
    ink = np.pad(image >= _INK, 1)
    border = np.count_nonzero(ink[1:] != ink[:-1]) + np.count_nonzero(ink[:, 1:] != ink[:, :-1])
    return 2 * np.count_nonzero(ink) / max(border * np.pi / 4, 1)


def _widened(image: NDArray[np.uint8], radius: float) -> NDArray[np.uint8]:
    """Every pixel becomes the most of the disc around it."""
    reach = int(radius)
    grown = np.pad(image, reach)
    result = grown.copy()
    height, width = grown.shape
    for down in range(-reach, reach + 1):
        for right in range(-reach, reach + 1):
            if down * down + right * right <= radius * radius:
                target = result[max(down, 0) : height + min(down, 0), max(right, 0) : width + min(right, 0)]
                taken = grown[max(-down, 0) : height + min(-down, 0), max(-right, 0) : width + min(-right, 0)]
                np.maximum(target, taken, out=target)
    return result


def _centred(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """In 28x28, with its centre of mass on the pixel (14, 14)."""
    total = max(float(image.sum(dtype=np.float64)), 1.0)
    starts = []
    for axis, length in enumerate(image.shape):
        middle = float(image.sum(axis=1 - axis, dtype=np.float64) @ np.arange(length)) / total
        starts.append(min(max(round(DRAWING_SIDE / 2 - middle), 0), DRAWING_SIDE - length))
    top, left = starts
    sheet = np.zeros((DRAWING_SIDE, DRAWING_SIDE), dtype=np.uint8)
    sheet[top : top + image.shape[0], left : left + image.shape[1]] = image
    return sheet
