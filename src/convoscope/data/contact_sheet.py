"""A contact sheet: one PNG with some images of each class, its name and how many there are."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from ..errors import DataError, printable
from ..files import atomic_write
from .dataset import SPLITS, Dataset
from .store import Prepared

_MARGIN, _GAP, _LABEL_WIDTH = 24, 4, 190
_GROUND, _TEXT, _FAINT, _FRAME = (255, 255, 255), (28, 28, 30), (120, 120, 124), (216, 216, 220)
_MAX_PIXELS = 40_000_000

# Fonts of the system that cover more than Pillow's own (Latin, Greek, Cyrillic), tried for names it cannot write.
_MORE_FONTS = (
    "NotoSansCJK-Regular.ttc",
    "NotoSansCJKsc-Regular.otf",
    "NotoSans-Regular.ttf",
    "NotoSansArabic-Regular.ttf",
    "DejaVuSans.ttf",
    "Arial Unicode.ttf",
    "msyh.ttc",
    "wqy-zenhei.ttc",
    "wqy-microhei.ttc",
)


def contact_sheet(
    prepared: Prepared,
    path: str | os.PathLike[str],
    *,
    per_class: int = 12,
    max_classes: int = 40,
    cell: int = 84,
    seed: int = 0,
) -> Path:
    """Write a PNG: one row for each class with its name, its counts in each split and up to `per_class` images.

    Which images, is drawn by `seed`, training images first. Small images are enlarged by a whole number so that each
    pixel stays sharp; images larger than 1.5 cells are reduced. For regression, one row for each fifth of the first
    number; for labels, one for each label. Names that no font at hand can write appear as escapes.

    Args:
        prepared: what `prepare` gave; 1, 2, 3 or 4 channels (others: the first is shown).
        path: where to write.
        per_class: images in a row, at least 1.
        max_classes: rows; of more classes, as many are drawn by `seed`, and the sheet says so.
        cell: about how large an image appears, in pixels.
        seed: another seed, other images.

    Returns:
        The path.

    Raises:
        DataError: there are no images (`no-images`).
        MachineError: the file cannot be written.
    """
    dataset, pixels = prepared.dataset, prepared.pixels
    if not len(dataset):
        raise DataError(dataset.source, "holds no images", code="no-images")
    random = np.random.default_rng(seed)
    rows = _rows(dataset)
    shown = (
        sorted(random.choice(len(rows), max_classes, replace=False).tolist())
        if len(rows) > max_classes
        else range(len(rows))
    )
    height, width = pixels.shape[1:3]
    high, wide = _shown_size(height, width, cell)
    columns = max(1, min(per_class, max(len(rows[row][1]) for row in shown)))
    step = max(high, 46) + _GAP
    # An extreme shape of image must not make an extreme sheet.
    columns = max(1, min(columns, _MAX_PIXELS // (len(shown) * step * (wide + _GAP))))
    title = f"{dataset.source}: {len(dataset):,} images" + (
        f" of {len(dataset.classes):,} classes" if dataset.task == "classification" else ""
    )
    remark = f"{width} x {height} pixels each" + (
        f"; {len(shown)} of {len(rows):,} rows shown" if len(shown) < len(rows) else ""
    )
    sheet_width = max(_MARGIN * 2 + _LABEL_WIDTH + columns * (wide + _GAP), 460)
    sheet = Image.new("RGB", (sheet_width, _MARGIN * 2 + 52 + len(shown) * step), _GROUND)
    draw = ImageDraw.Draw(sheet)
    _write(draw, (_MARGIN, _MARGIN), title, 18, _TEXT, sheet_width - 2 * _MARGIN)
    _write(draw, (_MARGIN, _MARGIN + 25), remark, 13, _FAINT, sheet_width - 2 * _MARGIN)
    top = _MARGIN + 52
    for row in shown:
        name, members = rows[row]
        middle = top + (step - _GAP) // 2
        _write(draw, (_MARGIN, middle - 18), name, 15, _TEXT, _LABEL_WIDTH - 12)
        _write(draw, (_MARGIN, middle + 3), _count_text(dataset, members), 12, _FAINT, _LABEL_WIDTH - 12)
        left = _MARGIN + _LABEL_WIDTH
        for member in _choose(dataset, members, columns, random):
            picture = _picture(pixels[member], (wide, high))
            draw.rectangle((left - 1, top - 1, left + wide, top + high), outline=_FRAME)
            sheet.paste(picture, (left, top))
            left += wide + _GAP
        top += step
    target = Path(path)
    with atomic_write(target) as file:
        sheet.save(file, format="PNG")
    return target


def _rows(dataset: Dataset) -> list[tuple[str, NDArray[np.int64]]]:
    """What each row of the sheet shows: a name and the images it is about."""
    targets = dataset.targets
    if dataset.task == "classification":
        return [(name, np.flatnonzero(targets == label)) for label, name in enumerate(dataset.classes)]
    if dataset.task == "multi-label":
        rows = [(name, np.flatnonzero(targets[:, label])) for label, name in enumerate(dataset.classes)]
        without = np.flatnonzero(~targets.any(axis=1))
        return [*rows, ("(no label)", without)] if len(without) else rows
    values = targets[:, 0]
    parts = np.array_split(np.argsort(values, kind="stable"), min(5, len(values)))
    return [(f"{dataset.classes[0]} {values[part[0]]:.4g} to {values[part[-1]]:.4g}", part) for part in parts]


def _count_text(dataset: Dataset, members: NDArray[np.int64]) -> str:
    counts = np.bincount(dataset.splits[members], minlength=len(SPLITS))
    short = ("train", "val", "test")
    return (
        ", ".join(f"{count:,} {name}" for name, count in zip(short, counts.tolist(), strict=True) if count)
        or "no images"
    )


def _choose(dataset: Dataset, members: NDArray[np.int64], count: int, random: np.random.Generator) -> NDArray[np.int64]:
    """Up to `count` of the members, training images first, in their order."""
    shuffled = random.permutation(members)
    chosen = shuffled[np.argsort(dataset.splits[shuffled], kind="stable")][:count]
    return np.sort(chosen)


def _shown_size(height: int, width: int, cell: int) -> tuple[int, int]:
    """Height and width on the sheet: a whole multiple of small images, large ones reduced so that the longer side is a
    cell.
    """
    longest = max(height, width)
    if longest <= cell * 1.5:
        scale = max(1, round(cell / longest))
        return height * scale, width * scale
    return max(1, round(height * cell / longest)), max(1, round(width * cell / longest))


def _picture(pixels: NDArray[np.uint8], size: tuple[int, int]) -> Image.Image:
    """`(H, W, C)` as RGB of this size; transparent parts on white."""
    channels = pixels.shape[2]
    if channels in (2, 4):
        image = Image.fromarray(np.ascontiguousarray(pixels), "LA" if channels == 2 else "RGBA").convert("RGBA")
        ground = Image.new("RGBA", image.size, (255, 255, 255, 255))
        ground.alpha_composite(image)
        image = ground.convert("RGB")
    elif channels == 3:
        image = Image.fromarray(np.ascontiguousarray(pixels))
    else:
        image = Image.fromarray(np.ascontiguousarray(pixels[:, :, 0])).convert("RGB")
    enlarged = size[0] >= image.width
    return image.resize(size, Image.Resampling.NEAREST if enlarged else Image.Resampling.LANCZOS)


# --- text -------------------------------------------------------------------------------------------------------------

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


@cache
def _fonts(size: int) -> tuple[Font, ...]:
    """Pillow's own font, then those of the system that are there."""
    fonts: list[Font] = [ImageFont.load_default(size)]
    for name in _MORE_FONTS:
        try:
            # Pillow would take a font of a bare name from the working folder; of a path that is not there it looks for
            # the name in the system's.
            fonts.append(ImageFont.truetype(f"{os.devnull}/{name}", size))
        except OSError:
            continue
    return tuple(fonts)


@cache
def _missing_glyph(size: int, number: int) -> bytes:
    """What a font draws for a character that it does not have."""
    return _glyph(_fonts(size)[number], "\U0010fffd")


def _glyph(font: Font, character: str) -> bytes:
    try:
        mask = font.getmask(character)
    except (OSError, ValueError, UnicodeError):
        return b""
    return repr(mask.size).encode() + bytes(mask)


@cache
def _has(size: int, number: int, character: str) -> bool:
    return character.isspace() or _glyph(_fonts(size)[number], character) not in (b"", _missing_glyph(size, number))


def _writable(text: str, size: int) -> tuple[str, Font]:
    """The text, and the first font that has all its characters; else with escapes for those that Pillow's own font
    lacks.
    """
    text = printable(text)
    for number, font in enumerate(_fonts(size)):
        if all(_has(size, number, character) for character in text):
            return text, font
    return "".join(c if _has(size, 0, c) else c.encode("ascii", "backslashreplace").decode() for c in text), _fonts(
        size
    )[0]


def _write(
    draw: ImageDraw.ImageDraw, place: tuple[int, int], text: str, size: int, colour: Sequence[int], width: int
) -> None:
    """One line, cut with an ellipsis where it would be wider than `width` pixels."""
    text, font = _writable(text[:400], size)
    if draw.textlength(text, font) > width:
        ellipsis = "…" if _has(size, 0, "…") else "..."
        while text and draw.textlength(text + ellipsis, font) > width:
            text = text[:-1]
        text += ellipsis
    draw.text(place, text, fill=tuple(colour), font=font)
