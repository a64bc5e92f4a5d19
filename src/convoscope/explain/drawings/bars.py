"""Numbers as bars from zero."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np
from PIL import Image, ImageDraw

from .blocks import GROUND, ink, table, words
from .cells import coloured
from .numerals import aligned_texts


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


def bar_rows(values: Sequence[float], labels: Sequence[str], more: Sequence[str] = (), bold: int = -1) -> Image.Image:
    """A line each: name, bar, number, and one more column of text."""
    low, high = axis_of(values)
    rows = []
    texts = aligned_texts(values, 4)
    for at, value in enumerate(values):
        strong = at == bold
        label = words(labels[at], bold=strong)
        if label.width > 240:
            label = words(labels[at], bold=strong, width=240)
        line = [label, bar(value, low, high), words(texts[at], bold=strong)]
        if more:
            line.append(words(more[at], bold=strong, colour="ink" if strong else "muted"))
        rows.append(line)
    return table(rows, gap=(14, 4), align=("start", "start", "end"))
