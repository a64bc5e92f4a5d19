"""The sample images of the page Convolve: a photograph, drawings, images of the tiny sets, and small images with known
numbers.

The photograph is a portrait of Grace Hopper by the US Navy, in the public domain (`sample_data/NOTICE.md`).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .. import data
from ..data import InputFormat

Image = NDArray[np.uint8]

# The worked example of convolution and pooling in "Introduction to Deep Learning with TensorFlow", an image of 6x6. The
# window 1 0 4, 8 2 5, 20 13 25 pools to 25, and a kernel is centred on the pixel 25 in row 3, column 3. The text gives
# nine of the 36 numbers; the others, and the kernel of the example, are ours.
_NUMBERS = (
    (1, 0, 4, 2, 125, 67),
    (8, 2, 5, 4, 34, 12),
    (20, 13, 25, 15, 240, 2),
    (76, 8, 6, 6, 100, 76),
    (34, 66, 134, 223, 201, 3),
    (255, 123, 89, 55, 32, 2),
)


def _numbers() -> Image:
    return np.array(_NUMBERS, np.uint8)[:, :, None]


def _photograph(channels: int) -> Image:
    file = Path(__file__).parent / "sample_data" / "grace_hopper.jpg"
    height, width = data.picture_size(file) or (0, 0)
    return data.open_image(file, InputFormat(height=height, width=width, channels=channels))


def _drawing(name: str) -> Image:
    return _drawings()[name]


@cache
def _drawings() -> dict[str, Image]:
    dataset = data.load(f"builtin:drawings/{','.join(_DRAWN)}")
    form = InputFormat(height=28, width=28, channels=1)
    rows = {name: dataset.names.index(f"{name}/{number}") for name, number in _DRAWN.items()}
    return {name: dataset.images.decode(row, form) for name, row in rows.items()}


def _tiny(name: str) -> Image:
    """The first training image of the set's second class: a vertical line, a square, a banana."""
    dataset = data.load(f"builtin:{name}")
    row = next(row for row in dataset.indices("train") if dataset.targets[row] == 1)
    return dataset.images.decode(int(row), InputFormat(height=5, width=5, channels=1))


def _step() -> Image:
    """Black on the left half, white on the right half."""
    return _grey(16, lambda y, x: np.where(x < 8, 0, 255))


def _checkerboard() -> Image:
    """Squares of 4x4 pixels."""
    return _grey(16, lambda y, x: (x // 4 + y // 4) % 2 * 255)


def _ramp() -> Image:
    """From 0 on the left to 255 on the right, 17 more in each column."""
    return _grey(16, lambda y, x: x * 17)


def _disc() -> Image:
    """White on black, with radius 10."""
    return _grey(32, lambda y, x: np.where((x - 15.5) ** 2 + (y - 15.5) ** 2 <= 100, 255, 0))


def _grey(side: int, value: Callable[[NDArray[np.int64], NDArray[np.int64]], NDArray[np.int64]]) -> Image:
    rows, columns = np.indices((side, side))
    return value(rows, columns).astype(np.uint8)[:, :, None]


_DRAWN = {"apple": 5, "banana": 4, "cat": 3, "house": 8, "star": 0}
"""Built-in class -> number of the drawing."""

_MADE: dict[str, Callable[[], Image]] = {
    "photograph": partial(_photograph, 3),
    "photograph-grey": partial(_photograph, 1),
    **{name: partial(_drawing, name) for name in _DRAWN},
    **{name: partial(_tiny, name) for name in ("lines", "shapes", "fruits")},
    "step": _step,
    "checkerboard": _checkerboard,
    "ramp": _ramp,
    "disc": _disc,
    "numbers": _numbers,
}

SAMPLES = tuple(_MADE)
"""The names of all samples, in the order of the page."""


@cache
def sample(name: str) -> Image:
    """A sample in full size, uint8 `(H, W, 1)` or `(H, W, 3)`, read-only.

    Raises:
        KeyError: it is not one of `SAMPLES`.
    """
    image = _MADE[name]()
    image.setflags(write=False)
    return image
