"""From an upright picture to the network's frame: the one way of resizing, for training, testing and prediction.

The rules are in `docs/data.md`, for other programs that are to do the same. They are those of Pillow 13's bilinear
filter; each pass is asked of Pillow by itself, so that their order is ours and the same with every version of Pillow.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from .dataset import InputFormat
from .upright import Box, Upright

_FILTER = Image.Resampling.BILINEAR
Size = tuple[int, int]
"""Width and height."""


def resized(picture: Upright, form: InputFormat) -> NDArray[np.uint8]:
    """The picture in the frame of `form`: uint8 `(height, width)` or `(height, width, 3)`."""
    box, target = placed(picture.size, form)
    return _framed(np.asarray(_scaled(picture, box, target)), form)


def placed(size: Size, form: InputFormat) -> tuple[Box, Size]:
    """Which part of a picture of `size` is taken, and the size that this part gets within the frame.

    `crop` takes the largest part of the frame's aspect, in the middle; the others take all. `fit` keeps the part's
    aspect; the others fill the frame. All in whole pixels, halves rounded up.
    """
    width, height = size
    wide, high = form.width, form.height
    wider = width * high > height * wide
    if form.resize == "crop":
        cut_wide = max(1, _rounded(height * wide, high)) if wider else width
        cut_high = height if wider else max(1, _rounded(width * high, wide))
        left, top = (width - cut_wide) // 2, (height - cut_high) // 2
        return (left, top, left + cut_wide, top + cut_high), (wide, high)
    if form.resize == "fit":
        if wider:
            high = max(1, _rounded(height * wide, width))
        else:
            wide = max(1, _rounded(width * high, height))
    return (0, 0, width, height), (wide, high)


def _rounded(numerator: int, denominator: int) -> int:
    return (2 * numerator + denominator) // (2 * denominator)


def columns_first(size: Size, target: Size) -> bool:
    """Whether the vertical pass comes first: where the picture loses far more height than width."""
    return target[1] < size[1] and size[1] - target[1] > 2 * (size[0] - target[0])


def pass_size(size: Size, target: Size) -> Size:
    """Width and height after the first of the two passes."""
    return (size[0], target[1]) if columns_first(size, target) else (target[0], size[1])


def _scaled(picture: Upright, box: Box, target: Size) -> Image.Image:
    """The part within `box` at the size `target`, in one pass along each side."""
    size = (box[2] - box[0], box[3] - box[1])
    vertical = columns_first(size, target)
    between = pass_size(size, target)
    result: Image.Image | None = None
    for begin, strip in picture.strips(box, across=vertical):
        passed = strip.resize((strip.width, between[1]) if vertical else (between[0], strip.height), _FILTER)
        if passed.size == between:
            result = passed
        else:
            result = result or Image.new(passed.mode, between)
            result.paste(passed, (begin, 0) if vertical else (0, begin))
    assert result is not None
    return result.resize(target, _FILTER)


def _framed(pixels: NDArray[np.uint8], form: InputFormat) -> NDArray[np.uint8]:
    """The pixels in the middle of the frame. The rest gets the median colour of their outermost rows and columns."""
    height, width = pixels.shape[:2]
    if (height, width) == (form.height, form.width):
        return pixels
    edge = np.concatenate((pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]))
    ground = np.median(edge, axis=0).astype(np.uint8)
    framed = np.empty((form.height, form.width, *pixels.shape[2:]), np.uint8)
    framed[...] = ground
    top, left = (form.height - height) // 2, (form.width - width) // 2
    framed[top : top + height, left : left + width] = pixels
    return framed
