"""What excites a channel: the patches of a set of images, the strongest first."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image

from ...render import Pixels
from .blocks import SMALL, column, row, table, title_line, words
from .image import checked_pixels, small_image
from .numerals import cell_texts
from .sheets import on_sheet


def patches_sheet(
    rows: Sequence[tuple[str, Sequence[tuple[Pixels, float]]]],
    *,
    title: str = "",
    about: str = "the strongest first; under each patch the channel's value",
    side: int = 96,
) -> Image.Image:
    """For each channel the patches that excite it most, with the value under each.

    Args:
        rows: a name, and patches uint8 `(h, w, C)` with their values; patches of one row keep their sizes relative to
            one another, so that those cut off by an image's border are smaller.
        title: the heading.
        about: one line under it.
        side: about how large the largest patch of a row is drawn.
    """
    lines = []
    for name, patches in rows:
        pictures = [(checked_pixels(patch), value) for patch, value in patches]
        largest = max((max(patch.shape[:2]) for patch, _ in pictures), default=1)
        blocks = []
        texts = cell_texts(np.array([value for _, value in pictures])) if pictures else []
        for (patch, _), text in zip(pictures, texts, strict=True):
            factor = side // largest if largest <= side else side / largest
            size = max(1, round(patch.shape[1] * factor)), max(1, round(patch.shape[0] * factor))
            small = small_image(patch, size)
            blocks.append(column([small, words(text, size=SMALL, colour="muted")], gap=2, align="middle"))
        label = words(name, bold=True)
        label = label if label.width <= 220 else words(name, bold=True, width=220)
        lines.append([label, row(blocks, gap=8, align="end") if blocks else words("none", colour="muted")])
    heading = [title_line(title or "What excites these channels most")]
    heading.append(words(about, colour="muted"))
    return on_sheet([*heading, table(lines, gap=(18, 14)) if lines else words("no channels", colour="muted")])
