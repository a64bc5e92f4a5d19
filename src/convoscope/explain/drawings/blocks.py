"""Pictures put together from smaller ones: words, and blocks joined in rows and columns.

Every block is an RGB image on white, as large as what it shows, so that nothing is cut off where blocks are joined.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

from PIL import Image, ImageDraw

from ...errors import printable
from ...render import COLOURS, fitting, font

Align = Literal["start", "middle", "end"]

TITLE, TEXT, SMALL = 18, 14, 12
"""Sizes of type in pixels."""


def ink(name: str) -> tuple[int, int, int]:
    """A colour of `COLOURS` on a light ground."""
    red, green, blue = bytes.fromhex(COLOURS[name][0][1:])
    return red, green, blue


GROUND = ink("ground")


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
    """Blocks beside one another; `align`: at their tops, middles or bottoms."""
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
    """Rows of blocks with common columns.

    Args:
        gap: across, down.
        align: for each column, the last one for all further ones.
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
    """How many blocks of `width` pixels fit into a line of `room`; of many a power of two, which is easy to count."""
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
