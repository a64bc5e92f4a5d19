"""The feature maps of one layer, on one symmetric scale that the sheet states."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import ArrayLike
from PIL import Image, ImageDraw

from ...render import percent
from ..methods.map_statistics import MapStatistics, map_statistics
from .bars import bar_rows
from .blocks import GROUND, SMALL, column, columns_for, flow, framed, ink, table, title_line, words
from .cells import NUMBERED, cell_side, cells, coloured, greys, reach_of, scale_bar, tile
from .image import pixel_tile
from .numerals import Floats, cell_texts, times
from .sheets import MOST_NUMBERS, PAGE, numbers_of, on_sheet

if TYPE_CHECKING:
    from torch import Tensor

    from ..capture.records import Step

Order = Literal["number", "strength"]

_MOST_CELLS = 4096


def map_sheet(
    layer: Step | Tensor | ArrayLike,
    *,
    title: str = "",
    order: Order = "number",
    limit: int = 64,
    statistics: bool = False,
    names: Sequence[str] = (),
) -> Image.Image:
    """All feature maps of one layer, each with its number, on one symmetric scale.

    Maps of at most 7 x 7 cells show their numbers, unless there would be more than 1,600 on the sheet; larger ones
    colour only. Vectors are bars, or cells where they are long.

    Args:
        layer: a step of a trace, whose maps are found in any order of its axes and in tokens; or numbers `(C, H, W)`,
            `(H, W)` or `(K,)`; further axes are counted as channels.
        title: by default the step's name.
        order: by channel number, or by strength, the mean of the absolute values, the strongest first.
        limit: how many maps are shown at most.
        statistics: under each map its mean and standard deviation, the share of cells at or below 0 and a small
            histogram.
        names: of the numbers of a vector, such as classes.

    Raises:
        UsageError: there are no numbers, or they have no axes (`figure-values`).
    """
    values = maps_of(layer)
    kind, pixels = kind_of(layer)
    shape = values.shape
    heading = [title_line(title or name_of(layer) or "feature maps")]
    if values.ndim == 1:
        about = [kind, f"{shape[0]:,} number{'s' if shape[0] != 1 else ''}"]
        heading.append(words(" · ".join(filter(None, about)), colour="muted"))
        body = _vector(values, names)
        return on_sheet([*heading, scale_bar(values, reach_of(values)), body])
    reach = 255.0 if pixels else reach_of(values)
    about = [kind, maps_in_words(layer, shape)]
    shown = _chosen(values, order, limit)
    if len(shown) < shape[0]:
        about.append(_shown_text(len(shown), shape[0], order, "channels"))
    elif order == "strength" and len(shown) > 1:
        about.append("the strongest first")
    heading.append(words(" · ".join(filter(None, about)), colour="muted"))
    found = map_statistics(values) if statistics else []
    side = _tile_side(len(shown))
    numbered = max(shape[1:]) <= NUMBERED and len(shown) * math.prod(shape[1:]) <= MOST_NUMBERS
    pictures = (
        numbered_maps(values[shown], reach, pixels)
        if numbered
        else [_tile(values[at], reach, side, pixels) for at in shown]
    )
    tiles = [
        _labelled(picture, channel, found[channel] if found else None)
        for picture, channel in zip(pictures, shown, strict=True)
    ]
    room = 2 * PAGE if numbered and len(shown) > 16 else PAGE
    columns = columns_for(len(tiles), max(block.width for block in tiles) + 12, room + 12)
    return on_sheet([*heading, scale_bar(values, reach, pixels=pixels), flow(tiles, columns, gap=(12, 12))])


def numbered_maps(values: Floats, reach: float, pixels: bool) -> list[Image.Image]:
    """Small maps with their numbers, all with the same digits and cells of one size."""
    texts, each = cell_texts(values), values[0].size
    side = cell_side(texts)
    return [
        cells(greys(part) if pixels else coloured(part, reach), texts[at * each : (at + 1) * each], side=side)
        for at, part in enumerate(values)
    ]


def _tile(values: Floats, reach: float, side: int, pixels: bool) -> Image.Image:
    if pixels:
        return pixel_tile(np.clip(np.nan_to_num(values), 0, 255).astype(np.uint8)[..., None], side)
    return tile(values, reach, side)


def _labelled(picture: Image.Image, channel: int, found: MapStatistics | None) -> Image.Image:
    parts = [words(str(channel), size=SMALL, colour="muted"), picture]
    if found is not None:
        wide = max(picture.width, 108)
        mean, std = cell_texts(np.array([found.mean, found.std]))
        share = "never fires" if found.silent else f"{percent(found.zero_share, 0)} ≤ 0"
        parts += [
            _histogram(found, wide),
            words(f"{mean} ± {std}", size=SMALL, colour="muted", width=wide),
            words(share, size=SMALL, colour="ink" if found.silent else "muted", width=wide),
        ]
    return column(parts, gap=2)


def _histogram(found: MapStatistics, width: int, height: int = 26) -> Image.Image:
    """Grey bars; a line marks zero. Heights are roots of counts, so that a peak at zero does not hide the rest."""
    block = Image.new("RGB", (width, height), GROUND)
    pen = ImageDraw.Draw(block)
    heights = np.sqrt(found.histogram / max(1, int(found.histogram.max())))
    count = len(heights)
    for position, share in enumerate(heights.tolist()):
        if share:
            left, right = round(position * width / count), round((position + 1) * width / count) - 1
            pen.rectangle((left, height - 1 - max(1, round(share * (height - 4))), right, height - 1), ink("soft"))
    low, high = float(found.edges[0]), float(found.edges[-1])
    if low <= 0 <= high:
        zero = round(-low / (high - low) * (width - 1))
        pen.line((zero, 0, zero, height), ink("muted"))
    return block


def _tile_side(count: int) -> int:
    return 448 if count == 1 else 320 if count <= 3 else 224 if count <= 16 else 128


def _chosen(values: Floats, order: Order, limit: int) -> list[int]:
    """Which maps, in the order to be shown."""
    if order == "number":
        return list(range(min(max(1, limit), len(values))))
    return strongest(values)[: max(1, limit)]


def strongest(values: Floats) -> list[int]:
    finite = np.where(np.isfinite(values), values, 0)
    size = reach_of(values) or 1.0
    strength = np.abs(finite / size).reshape(len(values), -1).mean(1)
    return [int(channel) for channel in np.argsort(-strength, kind="stable")]


def _shown_text(shown: int, count: int, order: Order, what: str) -> str:
    if order == "number":
        return f"the first {shown} of {count:,} {what} shown"
    return f"{shown} of {count:,} {what} shown, the strongest first"


def _vector(values: Floats, names: Sequence[str] = ()) -> Image.Image:
    """Numbers in a line: bars for a few, cells with numbers for some, cells of colour for many."""
    count = len(values)
    reach = reach_of(values)
    if count <= 24:
        labels = [names[at] if at < len(names) else str(at) for at in range(count)]
        return bar_rows(values.tolist(), labels)
    if count <= 160:
        return _cell_rows(values, reach, 16, numbered=True)
    shown = values[:_MOST_CELLS]
    block = _cell_rows(shown, reach, 64, numbered=False)
    if count > len(shown):
        return column(
            [block, words(f"the first {len(shown):,} of {count:,} numbers shown", size=SMALL, colour="muted")]
        )
    return block


def _cell_rows(values: Floats, reach: float, columns: int, *, numbered: bool, gap: int = 4) -> Image.Image:
    """Cells in rows of `columns`, each row with the number of its first cell."""
    rows = []
    texts = cell_texts(values) if numbered else []
    side = cell_side(texts) if numbered else 0
    for start in range(0, len(values), columns):
        part = values[None, start : start + columns]
        label = words(str(start), size=SMALL, colour="muted")
        if numbered:
            picture = cells(coloured(part, reach), texts[start : start + columns], side=side)
        else:
            picture = framed(coloured(part, reach).resize((part.shape[1] * 16, 14), Image.Resampling.NEAREST))
        rows.append([label, picture])
    return table(rows, gap=(8, gap), align=("end", "start"))


def maps_of(layer: Any) -> Floats:
    """`(C, H, W)`, or `(K,)` for vectors and for maps of a single cell.

    Of a step the axes are found; what is no maps, and a tensor by itself, is taken as it is.
    """
    found = getattr(layer, "maps", None)
    if found is None:
        found = layer.output.reshape(layer.shape) if hasattr(layer, "output") else layer
    values = numbers_of(found, name_of(layer) or "layer")
    if values.ndim == 0:
        return values.reshape(1)
    if values.ndim == 2:
        return values[None]
    if values.ndim > 3:
        values = values.reshape(-1, *values.shape[-2:])
    if values.ndim == 3 and values.shape[1:] == (1, 1):
        return values.reshape(-1)
    return values


def shape_of(step: Step) -> tuple[int, ...]:
    """(channels, height, width) of maps, however their axes are ordered; else the shape without the batch axis."""
    maps = step.maps
    return step.shape if maps is None else tuple(maps.shape)


def maps_in_words(layer: Any, shape: Sequence[int]) -> str:
    """How many maps of which size, such as `768 maps of 4x4`; what is no maps is not called so."""
    axes = getattr(layer, "axes", None)
    grid = None if axes is None else axes.grid
    if grid is None and axes is not None and axes.unknown:
        return f"{times(axes.shape)} numbers; which of its axes are the image's is not known, as {axes.unknown}"
    noun = "map" if axes is None or grid is not None else "table of attention" if axes.paired else "table"
    count = f"{shape[0]:,} {noun.replace('table', 'tables') if shape[0] != 1 else noun}"
    text = f"{count}{'s' if noun == 'map' and shape[0] != 1 else ''} of {times(shape[1:])}"
    if grid is not None and grid.beside:
        what = "the class token" if grid.beside == 1 else f"{grid.beside} tokens that belong to no place"
        text += f", without {what}"
    return text


def name_of(layer: Any) -> str:
    return str(layer.name) if hasattr(layer, "output") else ""


def kind_of(layer: Any) -> tuple[str, bool]:
    """The layer's kind in words, and whether its numbers are pixels."""
    if not hasattr(layer, "output"):
        return "", False
    return ("" if layer.kind == layer.name else str(layer.kind)), layer.kind == "pixels"
