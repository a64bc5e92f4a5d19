"""Maps of what an answer rests on, laid over the image, and below each its control."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike
from PIL import Image

from ...errors import UsageError
from ...render import Pixels, to_image
from .blocks import GROUND, column, columns_for, framed, paragraph, table, title_line, words
from .cells import NUMBERED, cell_side, cells, coloured, range_text, reach_of, resampled, shares_of, shown_size
from .image import checked_pixels, resampling, small_image
from .numerals import Floats, cell_texts, number
from .sheets import numbers_of, on_sheet

if TYPE_CHECKING:
    from torch import Tensor


def attribution_sheet(
    image: Pixels | ArrayLike,
    maps: Sequence[tuple[str, Tensor | ArrayLike]],
    controls: Sequence[tuple[Tensor | ArrayLike, float] | None] = (),
    *,
    title: str = "",
) -> Image.Image:
    """An image, each map laid over it, and below the same from the network with shuffled weights.

    Maps without negative numbers are red, others blue and red, each on its own scale: full colour from the largest
    absolute value on, of large maps from the one that only 1 cell in 200 exceeds.

    Args:
        image: uint8 `(H, W)` or `(H, W, C)`.
        maps: name and numbers `(h, w)`, enlarged to the image where they are smaller.
        controls: for each map the same of the shuffled network, and how alike the two are, -1..1 (`similarity`), or
            None.
        title: the heading.

    Raises:
        UsageError: `figure-values`.
    """
    picture = checked_pixels(image)
    planes = [(name, _plane(values, name)) for name, values in maps]
    others: list[tuple[Floats, float] | None] = [
        None if control is None else (_plane(control[0], "control"), float(control[1])) for control in controls
    ]
    others += [None] * (len(planes) - len(others))
    every = [values for _, values in planes] + [other[0] for other in others if other is not None]
    numbered = max(max(part.shape) for part in (picture[:, :, 0], *every)) <= NUMBERED
    cell = max((cell_side(cell_texts(values)) for values in every), default=44) if numbered else 0
    side = max(picture.shape[:2]) * max(cell, 44) if numbered else 256

    def over(values: Floats) -> Image.Image:
        if numbered:
            return cells(coloured(values, reach_of(values)), cell_texts(values), side=cell)
        return _overlay(picture, values, side)

    size = shown_size(picture.shape[0], picture.shape[1], side)
    wide = max(size[0] + 2, 200)
    blank = Image.new("RGB", (1, 1), GROUND)
    panels = [[words("the image", bold=True), small_image(picture, size), blank, blank, blank, blank, blank]]
    for (name, values), other in zip(planes, others, strict=True):
        panel = [words(name, bold=True, width=wide), over(values), _range_lines(values, wide, numbered)]
        if other is None:
            panel += [blank] * 4
        else:
            panel += [
                words("with shuffled weights", colour="muted", width=wide),
                over(other[0]),
                _range_lines(other[0], wide, numbered),
                paragraph(_alike(other[1]), wide, colour="ink"),
            ]
        panels.append(panel)
    columns = columns_for(len(panels), max(block.width for panel in panels for block in panel) + 20, 1720)
    blocks = []
    for at in range(0, len(panels), columns):
        lines = [list(line) for line in zip(*panels[at : at + columns], strict=True)]
        lines = [line for line in lines if any(block.height > 1 for block in line)]
        blocks.append(table(lines, gap=(20, 5), middle=False))
    about = "red positive, blue negative, each map on its own scale; a map with red only has no negative numbers"
    heading = [title_line(title or "What the answer rests on"), words(about, colour="muted")]
    return on_sheet([*heading, column(blocks, gap=28)])


def _range_lines(values: Floats, width: int, numbered: bool) -> Image.Image:
    full, top = _full_from(values), reach_of(values)
    text = range_text(values)
    if full < top and not numbered:
        text += f"; full colour from {number(full, 3)}"
    return paragraph(text, width)


def _alike(similarity: float) -> str:
    if not math.isfinite(similarity):
        return "No similarity: one of the two maps is everywhere the same."
    figure = f"Similarity {similarity:z.2f}: ".replace("-", "−")
    if similarity >= 0.7:
        return figure + "much the same. The map shows the image more than what was learned."
    if similarity >= 0.4:
        return figure + "alike in part. Read this map with care."
    return figure + "quite different, so the map depends on the weights."


def _full_from(values: Floats) -> float:
    """Where full colour begins."""
    sizes = np.abs(values[np.isfinite(values)])
    top = float(sizes.max(initial=0))
    if sizes.size < 1000:
        return top
    return float(np.quantile(sizes, 0.995)) or top


def _overlay(picture: Pixels, values: Floats, side: int) -> Image.Image:
    """A map over the faded image."""
    reach = _full_from(values)
    height, width = picture.shape[:2]
    size = shown_size(height, width, side)
    base = np.asarray(to_image(picture).convert("L").resize(size, resampling(picture, size)), np.float64)
    base = 255 - (255 - base) * 0.35
    shares = shares_of(values, reach)
    if values.shape[0] > size[1] or values.shape[1] > size[0]:
        shares = resampled(shares, size)
    else:
        rows = np.arange(size[1]) * values.shape[0] // size[1]
        across = np.arange(size[0]) * values.shape[1] // size[0]
        shares = shares[rows[:, None], across[None]]
    strength = np.where(np.isfinite(shares), np.abs(shares), 1.0)[..., None] * 0.9
    full = np.asarray(coloured(np.where(np.isfinite(shares), np.sign(shares), shares), 1.0), np.float64)
    return framed(Image.fromarray(np.round(base[..., None] * (1 - strength) + full * strength).astype(np.uint8)))


def _plane(values: Any, name: str) -> Floats:
    numbers = numbers_of(values, name)
    if numbers.ndim != 2:
        raise UsageError(name, f"expected a map (height, width); received shape {numbers.shape}", code="figure-values")
    return numbers
