"""A decoded picture as it is seen: upright, in grey or RGB, on white. Large ones are made part by part."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

import numpy as np
from PIL import Image, ImageChops

from ..errors import DataError, printable
from .formats import bad_image
from .levels import to_uint8

STRIP_PIXELS: Final = 1_000_000
"""Larger pictures are converted and turned in strips of about this many pixels, because the result is smaller than any
step on the way.
"""

_TURN: Final = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

Box = tuple[int, int, int, int]
"""Left, top, right, bottom."""


class Upright:
    """A picture as it is seen.

    Args:
        image: as it was decoded.
        channels: 1 makes it grey; else colour stays colour, and grey stays grey.
        orientation: EXIF's, 1 to 8.
        path: for messages.
        inverted: whether it is CMYK that is stored inverted.
        white: of numbers of more than 8 bits, see `levels.to_uint8`.
    """

    def __init__(
        self,
        image: Image.Image,
        channels: int,
        orientation: int = 1,
        path: str = "",
        *,
        inverted: bool = False,
        white: int | None = None,
    ) -> None:
        self.image = image
        self.channels = channels
        self.orientation = orientation
        self.path = path
        self.inverted = inverted
        self.white = white
        self.most = 0
        """The largest number seen so far of a picture of more than 8 bits."""

    @property
    def size(self) -> tuple[int, int]:
        """Width and height."""
        return self.image.size if self.orientation < 5 else self.image.size[::-1]

    @property
    def as_it_is(self) -> bool:
        """Whether there is nothing to do."""
        plain = self.image.mode == "L" or (self.image.mode == "RGB" and self.channels == 3)
        return plain and self.orientation == 1 and "transparency" not in self.image.info

    def strips(self, box: Box, *, across: bool) -> Iterator[tuple[int, Image.Image]]:
        """What is within the box in strips, each with where it begins in the box: rows, or columns if `across`."""
        left, top, right, bottom = box
        if (right - left) * (bottom - top) <= STRIP_PIXELS or (self.as_it_is and box == (0, 0, *self.size)):
            yield 0, self.part(box)
        elif across:
            step = max(1, STRIP_PIXELS // (bottom - top))
            for begin in range(left, right, step):
                yield begin - left, self.part((begin, top, min(begin + step, right), bottom))
        else:
            step = max(1, STRIP_PIXELS // (right - left))
            for begin in range(top, bottom, step):
                yield begin - top, self.part((left, begin, right, min(begin + step, bottom)))

    def part(self, box: Box) -> Image.Image:
        """What is within the box, in mode L or RGB.

        Raises:
            DataError: it cannot be converted.
        """
        part = self.image
        if box != (0, 0, *self.size):
            part = part.crop(self._stored(box))
            part.info = self.image.info
        try:
            if self.inverted and part.mode == "CMYK":
                part = ImageChops.invert(part)
            part = self._plain(part)
        except (DataError, MemoryError):
            raise
        except Exception as error:  # Pillow raises whatever its conversions stumble over
            raise bad_image(self.path, f"cannot be converted ({cleaned(error)})") from error
        return part if self.orientation == 1 else part.transpose(_TURN[self.orientation])

    def _stored(self, box: Box) -> Box:
        """Where in the image as it is stored that part of the upright one is."""
        left, top, right, bottom = box
        if self.orientation >= 5:
            left, top, right, bottom = top, left, bottom, right
        width, height = self.image.size
        if self.orientation in (2, 3, 7, 8):
            left, right = width - right, width - left
        if self.orientation in (3, 4, 6, 7):
            top, bottom = height - bottom, height - top
        return left, top, right, bottom

    def _plain(self, image: Image.Image) -> Image.Image:
        mode, channels = image.mode, self.channels
        if mode in ("I;16", "I;16L", "I;16B", "I;16N"):
            levels = np.asarray(image).astype(np.uint16)
            self.most = max(self.most, int(levels.max()))
            grey = to_uint8(levels, self.white)
            see_through = image.info.get("transparency")
            if isinstance(see_through, int):
                grey[levels == see_through] = 255
            return Image.fromarray(grey)
        if mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info:
            grey_source = mode in ("L", "LA", "La", "1")
            image = image if image.mode == "RGBA" and "transparency" not in image.info else image.convert("RGBA")
            ground = Image.new("RGBA", image.size, (255, 255, 255, 255))
            ground.alpha_composite(image)
            return ground.convert("L" if channels == 1 or grey_source else "RGB")
        if mode == "L" or (mode == "RGB" and channels == 3):
            return image
        if mode == "1":
            return image.convert("L")
        if mode == "CMYK":
            image = image.convert("RGB")
        return image.convert("L" if channels == 1 else "RGB")


def cleaned(error: Exception) -> str:
    """A library's text without the names that Python gives to objects."""
    return printable(re.sub(r"\s*<[^<>]* at 0x[0-9a-f]+>", "", str(error))) or type(error).__name__
