"""Pictures put together from smaller ones: words, cells with their numbers, maps, scales, bars; joined in rows and
columns.

Every block is an RGB image on white, as large as what it shows, so that nothing is cut off where blocks are joined.
Blue is negative, red is positive, zero is white; a number that is not finite is grey.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from ...errors import printable
from ...render import COLOURS, fitting, font, signed_image

Floats = NDArray[np.floating[Any]]
Align = Literal["start", "middle", "end"]

NUMBERED = 7
"""Maps of at most this many rows and columns show their numbers."""
TITLE, TEXT, SMALL = 18, 14, 12
"""Sizes of type in pixels."""


def ink(name: str) -> tuple[int, int, int]:
    """A colour of `COLOURS` on a light ground."""
    red, green, blue = bytes.fromhex(COLOURS[name][0][1:])
    return red, green, blue


GROUND = ink("ground")


# --- numbers as text --------------------------------------------------------------------------------------------------


def number(value: float, digits: int = 4) -> str:
    """A number with `digits` meaningful digits, whole ones up to seven digits as they are, with a real minus sign."""
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else "∞" if value > 0 else "−∞"
    whole = value == int(value) and abs(value) < 1e7
    text = str(int(value)) if whole else f"{value:.{digits}g}"
    mantissa, _, power = text.partition("e")
    return (f"{mantissa}e{int(power)}" if power else text).replace("-", "−")


def cell_texts(values: Floats) -> list[str]:
    """Numbers for cells that are looked at together: few digits, the same number of decimals, an exact zero as 0."""
    flat = np.asarray(values, np.float64).ravel()
    finite = flat[np.isfinite(flat)]
    top = float(np.abs(finite).max(initial=0))
    if np.all(finite == np.round(finite)) and top < 1e5:
        decimals, kind = 0, "f"
    elif 0.01 <= top < 1e5:
        decimals, kind = min(3, max(0, 2 - math.floor(math.log10(top)))), "f"
    else:
        decimals, kind = 1, "e"
    return [
        number(value) if value == 0 or not math.isfinite(value) else _plain(f"{value:z.{decimals}{kind}}")
        for value in flat.tolist()
    ]


def aligned_texts(values: Sequence[float], digits: int = 8) -> list[str]:
    """Numbers that stand below one another: the same decimals, `digits` meaningful ones for the largest."""
    finite = [abs(value) for value in values if math.isfinite(value)]
    top = max(finite, default=0.0)
    if all(math.isfinite(value) and value == round(value) for value in values) and top < 1e7:
        return [number(value) for value in values]
    if top and not 1e-3 <= top < 1e7:
        return [number(value, digits) for value in values]
    decimals = max(0, digits - 1 - math.floor(math.log10(top))) if top else 1
    return [_plain(f"{value:.{decimals}f}") if math.isfinite(value) else number(value) for value in values]


def _plain(text: str) -> str:
    mantissa, _, power = text.partition("e")
    return (f"{mantissa}e{int(power)}" if power else text).replace("-", "−")


def times(shape: Iterable[int]) -> str:
    """A shape as people write it: 64 × 112 × 112."""
    return " × ".join(map(str, shape))


# --- words ------------------------------------------------------------------------------------------------------------


def words(
    text: str,
    *,
    size: int = TEXT,
    colour: str = "ink",
    bold: bool = False,
    width: int | None = None,
    align: Align = "start",
) -> Image.Image:
    """One line of text; in a block of `width` pixels where that is given, shortened if it must be."""
    text = printable(text) if width is None else fitting(text, width, size, bold)
    face = font(size, bold)
    wide = math.ceil(face.getlength(text)) if width is None else width
    block = Image.new("RGB", (max(1, wide), round(size * 1.4)), GROUND)
    x = {"start": 0.0, "middle": wide / 2, "end": float(wide)}[align]
    anchor = {"start": "ls", "middle": "ms", "end": "rs"}[align]
    ImageDraw.Draw(block).text((x, round(size * 1.08)), text, ink(colour), face, anchor=anchor)
    return block


def title_line(text: str, width: int = 1000) -> Image.Image:
    """The title of a sheet, shortened where it is very long."""
    return words(fitting(text, width, TITLE, True), size=TITLE, bold=True)


def paragraph(text: str, width: int, *, size: int = SMALL, colour: str = "muted") -> Image.Image:
    """Text in lines of at most `width` pixels."""
    face = font(size)
    lines: list[str] = []
    for word in printable(text).split(" "):
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and face.getlength(longer) <= width:
            lines[-1] = longer
        else:
            lines.append(word)
    blocks = [
        words(line, size=size, colour=colour, width=width if face.getlength(line) > width else None) for line in lines
    ]
    return column(blocks, gap=0)


# --- rows and columns -------------------------------------------------------------------------------------------------


def column(parts: Sequence[Image.Image], *, gap: int = 6, align: Align = "start") -> Image.Image:
    """Blocks below one another."""
    wide = max((part.width for part in parts), default=1)
    sheet = Image.new("RGB", (wide, max(1, sum(part.height + gap for part in parts) - gap)), GROUND)
    top = 0
    for part in parts:
        sheet.paste(part, (_offset(wide - part.width, align), top))
        top += part.height + gap
    return sheet


def row(parts: Sequence[Image.Image], *, gap: int = 6, align: Align = "start") -> Image.Image:
    """Blocks beside one another; `align` says how they hang: from the top, by their middles, or on a floor."""
    tall = max((part.height for part in parts), default=1)
    sheet = Image.new("RGB", (max(1, sum(part.width + gap for part in parts) - gap), tall), GROUND)
    left = 0
    for part in parts:
        sheet.paste(part, (left, _offset(tall - part.height, align)))
        left += part.width + gap
    return sheet


def table(
    rows: Sequence[Sequence[Image.Image]],
    *,
    gap: tuple[int, int] = (12, 8),
    align: Sequence[Align] = (),
    middle: bool = True,
) -> Image.Image:
    """Rows of blocks with common columns; `align` for each column, the last one for all further ones; `gap`: across,
    down.
    """
    count = max(len(parts) for parts in rows)
    wide = [max((parts[at].width for parts in rows if at < len(parts)), default=1) for at in range(count)]
    tall = [max(part.height for part in parts) for parts in rows]
    sheet = Image.new("RGB", (sum(wide) + gap[0] * (len(wide) - 1), sum(tall) + gap[1] * (len(tall) - 1)), GROUND)
    top = 0
    for parts, height in zip(rows, tall, strict=True):
        left = 0
        for at, part in enumerate(parts):
            how: Align = align[min(at, len(align) - 1)] if align else "start"
            down = _offset(height - part.height, "middle" if middle else "start")
            sheet.paste(part, (left + _offset(wide[at] - part.width, how), top + down))
            left += wide[at] + gap[0]
        top += height + gap[1]
    return sheet


def flow(parts: Sequence[Image.Image], columns: int, *, gap: tuple[int, int] = (12, 10)) -> Image.Image:
    """Blocks in lines of `columns`."""
    return table([parts[at : at + columns] for at in range(0, len(parts), columns)], gap=gap, middle=False)


def columns_for(count: int, width: int, room: int) -> int:
    """How many blocks of `width` pixels stand in a line of `room`: where there are many, a power of two, easy to count
    in.
    """
    fit = max(1, room // max(1, width))
    return count if count <= fit else 2 ** int(math.log2(fit)) if fit >= 4 else fit


def margin(block: Image.Image, size: int = 24) -> Image.Image:
    """White all round."""
    sheet = Image.new("RGB", (block.width + 2 * size, block.height + 2 * size), GROUND)
    sheet.paste(block, (size, size))
    return sheet


def framed(image: Image.Image, colour: str = "soft") -> Image.Image:
    """A hairline round an image, outside it."""
    sheet = Image.new("RGB", (image.width + 2, image.height + 2), ink(colour))
    sheet.paste(image.convert("RGB"), (1, 1))
    return sheet


def _offset(room: int, align: Align) -> int:
    return {"start": 0, "middle": room // 2, "end": room}[align]


# --- maps -------------------------------------------------------------------------------------------------------------


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
    """Shares `(H, W)` at another width and height: each new cell is the mean of what lies in it, NaN where any of it is
    not finite.
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
    said = [words(range_text(values), size=SMALL)]
    meaning = "pixels as they are" if pixels else "blue negative, white zero, red positive"
    said.append(words(meaning, size=SMALL, colour="muted"))
    return row([ends, row(said, gap=14)], gap=22)


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


# --- bars -------------------------------------------------------------------------------------------------------------


def bar(value: float, low: float, high: float, *, width: int = 240, height: int = 16) -> Image.Image:
    """A number as a bar from zero, on an axis from low <= 0 to high >= 0."""
    block = Image.new("RGB", (width + 1, height), GROUND)
    pen = ImageDraw.Draw(block)
    span = high - low
    zero = round(-low / span * width) if span > 0 else 0
    if math.isfinite(value) and span > 0:
        end = round((min(max(value, low), high) - low) / span * width)
        left, right = sorted((zero, end))
        if right > left:
            pen.rectangle((left, 2, right, height - 3), signed_colour(value))
    elif not math.isfinite(value):
        pen.rectangle((0, 2, width, height - 3), ink("soft"))
    pen.line((zero, 0, zero, height), ink("muted"))
    return block


def signed_colour(value: float) -> tuple[int, int, int]:
    """The full colour of a sign."""
    red, green, blue = coloured(np.array([[np.sign(value)]]), 1.0).getpixel((0, 0))  # type: ignore[misc]
    return red, green, blue


def axis_of(values: Iterable[float]) -> tuple[float, float]:
    """From the smallest to the largest finite number, zero included."""
    finite = [value for value in values if math.isfinite(value)]
    return min(0.0, *finite, 0.0), max(0.0, *finite, 0.0)
