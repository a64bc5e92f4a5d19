"""Maps in colour, cells with their numbers, and the scale that belongs to them.

Blue is negative, red is positive, zero is white; a number that is not finite is grey.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from ...render import font, signed_image
from .blocks import GROUND, SMALL, framed, ink, row, words
from .numerals import Floats, number

NUMBERED = 7
"""Maps of at most this many rows and columns show their numbers."""


def reach_of(values: Floats) -> float:
    """The largest finite size: where a symmetric scale ends."""
    return float(np.abs(np.where(np.isfinite(values), values, 0)).max(initial=0))


def shares_of(values: Floats, reach: float) -> Floats:
    """Numbers as shares -1..1 of the scale; what is not finite stays so."""
    numbers = np.asarray(values, np.float64)
    if not reach > 0:
        return np.where(np.isfinite(numbers), 0.0, numbers)
    with np.errstate(over="ignore"):
        shares = np.clip(numbers / reach, -1, 1)
    return np.where(np.isfinite(numbers), shares, numbers)


def coloured(values: Floats, reach: float) -> Image.Image:
    """Signed numbers `(H, W)`, one pixel each."""
    shares = shares_of(values, reach)
    finite = np.isfinite(shares)
    over = signed_image(np.where(finite, shares, 0), 1.0)
    sheet = Image.new("RGB", over.size, GROUND)
    sheet.paste(over, (0, 0), over)
    sheet.paste(ink("soft"), (0, 0), Image.fromarray(np.where(finite, 0, 255).astype(np.uint8)))
    return sheet


def resampled(shares: Floats, size: tuple[int, int]) -> Floats:
    """Shares `(H, W)` at another width and height.

    Each new cell is the mean of what is in it, NaN where any of it is not finite.
    """
    finite = np.isfinite(shares)
    image = Image.fromarray(np.where(finite, shares, 0).astype(np.float32))
    result = np.array(image.resize(size, Image.Resampling.BOX), np.float64)
    if not finite.all():
        holes = Image.fromarray(np.where(finite, 0, 1).astype(np.float32)).resize(size, Image.Resampling.BOX)
        result[np.asarray(holes) > 0] = math.nan
    return result


def shown_size(height: int, width: int, side: int) -> tuple[int, int]:
    """Width and height on a sheet: a whole multiple of a small map, a large one reduced to `side`."""
    longest = max(height, width)
    if longest <= side:
        return width * (side // longest), height * (side // longest)
    return max(1, round(width * side / longest)), max(1, round(height * side / longest))


def tile(values: Floats, reach: float, side: int) -> Image.Image:
    """A map `(H, W)` in colour only, its longer side about `side` pixels."""
    height, width = values.shape
    size = shown_size(height, width, side)
    if max(height, width) <= side:
        return framed(coloured(values, reach).resize(size, Image.Resampling.NEAREST))
    return framed(coloured(resampled(shares_of(values, reach), size), 1.0))


def greys(values: Floats, reach: float = 255.0) -> Image.Image:
    """Pixels `(H, W)`, one pixel each: black at 0, white at `reach`; what is not finite is black."""
    shares = np.nan_to_num(shares_of(values, reach), nan=0, posinf=0, neginf=0)
    return Image.fromarray(np.round(np.clip(shares, 0, 1) * 255).astype(np.uint8)).convert("RGB")


def cell_side(texts: Iterable[str], size: int = SMALL) -> int:
    """How large a square cell must be for the longest of these numbers."""
    room, least = (8, 34) if size >= SMALL else (4, 24)
    return max(least, math.ceil(max(font(size).getlength(text) for text in texts)) + room)


def cells(
    picture: Image.Image,
    texts: Sequence[str],
    *,
    beyond: NDArray[np.bool_] | None = None,
    winner: int = -1,
    size: int = SMALL,
    side: int = 0,
) -> Image.Image:
    """A small map with the number in every cell.

    Args:
        picture: one pixel for each cell, RGB: `coloured` or `greys`.
        texts: the numbers, row by row.
        beyond: bool `(H, W)`: cells beyond the border, hatched.
        winner: the cell to be framed, counted row by row.
        size: of the type.
        side: of a cell; by default `cell_side`.
    """
    width, height = picture.size
    side = side or cell_side(texts, size)
    face = font(size)
    sheet = Image.new("RGB", (width * side + 1, height * side + 1), GROUND)
    sheet.paste(picture.resize((width * side, height * side), Image.Resampling.NEAREST), (0, 0))
    pen = ImageDraw.Draw(sheet)
    dark = _dark(picture)
    for place, text in enumerate(texts):
        y, x = divmod(place, width)
        outside = beyond is not None and bool(beyond[y, x])
        if outside:
            _hatch(sheet, (x * side, y * side), side)
        middle = x * side + side / 2, round(y * side + side / 2 + size * 0.37)
        pen.text(middle, text, ink("muted" if outside else "ground" if dark[y, x] else "ink"), face, anchor="ms")
    for x in range(width + 1):
        pen.line((x * side, 0, x * side, height * side), ink("soft" if x in (0, width) else "faint"))
    for y in range(height + 1):
        pen.line((0, y * side, width * side, y * side), ink("soft" if y in (0, height) else "faint"))
    if winner >= 0:
        y, x = divmod(winner, width)
        pen.rectangle((x * side, y * side, (x + 1) * side, (y + 1) * side), outline=ink("ink"), width=3)
    return sheet


def flat_cell(value: float, reach: float, text: str, width: int, height: int = 30) -> Image.Image:
    """One number in a cell that is lower than wide."""
    colour = coloured(np.array([[value]]), reach)
    block = colour.resize((width, height), Image.Resampling.NEAREST)
    place = width / 2, round(height / 2 + SMALL * 0.37)
    shade = "ground" if _dark(colour)[0, 0] else "ink"
    ImageDraw.Draw(block).text(place, text, ink(shade), font(SMALL), anchor="ms")
    return framed(block)


def _dark(picture: Image.Image) -> NDArray[np.bool_]:
    """Where white type reads better than black: by the relative luminance of WCAG 2."""
    levels = np.asarray(picture.convert("RGB"), np.float64) / 255
    linear = np.where(levels <= 0.04045, levels / 12.92, ((levels + 0.055) / 1.055) ** 2.4)
    found: NDArray[np.bool_] = linear @ np.array([0.2126, 0.7152, 0.0722]) < 0.22
    return found


def _hatch(sheet: Image.Image, corner: tuple[int, int], side: int) -> None:
    cell = Image.new("RGB", (side, side), ink("panel"))
    pen = ImageDraw.Draw(cell)
    for start in range(-side, side, 6):
        pen.line((start, side, start + side, 0), ink("faint"))
    sheet.paste(cell, corner)


def scale_bar(values: Floats, reach: float, *, pixels: bool = False) -> Image.Image:
    """The scale of colours, with the smallest and the largest of the numbers, and how many are not finite.

    A bracket under the scale marks the part that the numbers use.
    """
    finite = np.asarray(values, np.float64)[np.isfinite(values)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (math.nan, math.nan)
    wide, tall = 220, 12
    start = 0.0 if pixels else -1.0
    ramp = np.linspace(start, 1, wide)[None].repeat(tall, 0)
    bar = Image.fromarray((ramp * 255).astype(np.uint8)).convert("RGB") if pixels else coloured(ramp, 1.0)
    block = Image.new("RGB", (wide + 2, tall + 10), GROUND)
    block.paste(framed(bar), (0, 0))
    if finite.size and reach > 0:
        pen = ImageDraw.Draw(block)
        first, last = (
            round(1 + (min(max(value / reach, start), 1.0) - start) / (1 - start) * (wide - 1)) for value in (low, high)
        )
        pen.line((first, tall + 6, last, tall + 6), ink("muted"), 2)
        pen.line((first, tall + 3, first, tall + 9), ink("muted"))
        pen.line((last, tall + 3, last, tall + 9), ink("muted"))
    left, right = ("0", number(reach)) if pixels else (number(-reach), number(reach))
    ends = row([words(left, size=SMALL, colour="muted"), block, words(right, size=SMALL, colour="muted")], gap=8)
    legend = [words(range_text(values), size=SMALL)]
    meaning = "pixels as they are" if pixels else "blue negative, white zero, red positive"
    legend.append(words(meaning, size=SMALL, colour="muted"))
    return row([ends, row(legend, gap=14)], gap=22)


def range_text(values: Floats) -> str:
    """The smallest and the largest number in words, and what is not finite."""
    numbers = np.asarray(values, np.float64)
    finite = numbers[np.isfinite(numbers)]
    missing = numbers.size - finite.size
    if not finite.size:
        return "no finite number"
    low, high = float(finite.min()), float(finite.max())
    text = f"all {number(low)}" if low == high else f"min {number(low)}, max {number(high)}"
    return text + (f"; {missing:,} not finite (grey)" if missing else "")
