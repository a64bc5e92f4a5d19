"""Numbers of other kinds than 8 bits as 0..255.

What stands for white is not in a file or an array: a camera of 12 bits writes 16-bit pictures that end at 4,095. So it
is decided once for a set of images (`white_of`), and kept with the form that its images are brought to.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError

DEEP_WHITE: Final = 65_535
"""White of numbers of 16 bits where nothing else is known."""


def white_of(most: int) -> int:
    """White of a set of whole numbers whose largest is `most`: the largest number of the fewest bits that hold it, such
    as 4,095 of 12.
    """
    return (1 << max(1, most.bit_length())) - 1


def to_uint8(numbers: NDArray[Any], white: int | None = None) -> NDArray[np.uint8]:
    """Pixels 0..255 from numbers of any kind, in an array of the same shape.

    - uint8 stays; False and True become 0 and 255.
    - Whole numbers v of 16 bits become v * 255 / white, rounded; what is above white becomes 255. Others count as 8-bit
      if none is above 255, else as those of 16 bits.
    - Floats are from 0 to 1 if none is above 1, else from 0 to 255. Nothing but 0s and 1s is from 0 to 255 if `white`
      is 255: a set of such floats holds a black image.

    Args:
        numbers: the array.
        white: the number that stands for white in the set; None: 65,535 for whole numbers of 16 bits.

    Raises:
        DataError: no numbers, or numbers that mean no brightness (`bad-array`).
    """
    if numbers.dtype == np.uint8:
        return numbers
    if numbers.dtype == np.bool_:
        return numbers.astype(np.uint8) * np.uint8(255)
    low, high = (float(numbers.min()), float(numbers.max())) if numbers.dtype.kind in "iuf" else (-1.0, 0.0)
    if numbers.dtype.kind in "iu" and low >= 0 and high <= DEEP_WHITE:
        known = white is not None and white > 1
        if numbers.dtype.str[1:] != "u2" and high <= 255 and (not known or white == 255):
            return numbers.astype(np.uint8)
        return _scaled(numbers, white if known and white is not None else DEEP_WHITE)
    if numbers.dtype.kind == "f" and -0.5 < low <= high < 255.5:  # false for NaN
        if _from_0_to_1(numbers, low, high, white):
            return np.rint(numbers.astype(np.float32) * 255).clip(0, 255).astype(np.uint8)
        if high > 1 or white == 255:
            return np.rint(numbers.astype(np.float32)).clip(0, 255).astype(np.uint8)
    received = str(numbers.dtype)
    if numbers.dtype.kind in "iuf":
        received += f" from {low:g} to {high:g}"
    raise DataError(
        "",
        f"expected uint8, bool, whole numbers 0..65535, or floats 0..1 or 0..255; received {received}",
        hint="scale them to 0..255",
        code="bad-array",
    )


def _from_0_to_1(numbers: NDArray[Any], low: float, high: float, white: int | None) -> bool:
    """Whether floats between `low` and `high` are shares of white. Rounding may leave them a little outside."""
    if white == 255 and high <= 1:
        return bool((numbers != np.rint(numbers)).any())
    return low * 255 > -0.5 and (high <= 1 or (white == 1 and high * 255 < 255.5))


def _scaled(numbers: NDArray[Any], white: int) -> NDArray[np.uint8]:
    wide = np.minimum(numbers, white).astype(np.uint32)
    wide *= 255
    wide += white // 2
    wide //= white
    result: NDArray[np.uint8] = wide.astype(np.uint8)
    return result


_EVEN: Final = 5.0
"""Standard deviation, of 255 levels, below which a channel shows next to nothing. A 12-bit picture that is taken for
one of 16 bits has some 4 at most.
"""


def even_toned(images: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Which of these images, uint8 `(n, height, width, channels)`, are of one even tone, such as black."""
    # Most images show by a few of their pixels that they are not.
    step = max(1, images.shape[1] // 8), max(1, images.shape[2] // 8)
    even = np.asarray(images[:, :: step[0], :: step[1]].std(axis=(1, 2), dtype=np.float32).max(axis=1) < 4 * _EVEN)
    rows = np.flatnonzero(even)
    if len(rows):
        even[rows] = images[rows].std(axis=(1, 2), dtype=np.float32).max(axis=1) < _EVEN
    return even


def told_even(even: int, count: int) -> str:
    """A warning if more than half of several images are of one even tone; else nothing."""
    if count < 2 or 2 * even <= count:
        return ""
    some = f"{even:,} of {count:,} images are of one even tone"
    return f"{some}, such as black: see that the numbers in the files fill their range"
