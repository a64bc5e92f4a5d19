"""What happens inside a network as pictures: numbers in, PIL images (RGB, on white) out. No files, no printing.

A layer has one symmetric scale for all its maps, and every sheet states it. Where not everything is shown, the sheet
says what is.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image, ImageDraw

from ...errors import UsageError
from ...render import Pixels, enlarge, to_image
from ..methods.map_statistics import MapStatistics, map_statistics
from .arithmetic_figure import why_figure
from .blocks import (
    GROUND,
    NUMBERED,
    SMALL,
    Floats,
    aligned_texts,
    axis_of,
    bar,
    cell_side,
    cell_texts,
    cells,
    coloured,
    column,
    columns_for,
    flat_cell,
    flow,
    framed,
    greys,
    ink,
    margin,
    number,
    paragraph,
    range_text,
    reach_of,
    resampled,
    row,
    scale_bar,
    shares_of,
    shown_size,
    table,
    tile,
    times,
    title_line,
    words,
)

if TYPE_CHECKING:
    from torch import Tensor

    from ..capture.recorder import Step, Trace

__all__ = [
    "attribution_sheet",
    "filter_sheet",
    "image_sheet",
    "map_sheet",
    "overview",
    "patches_sheet",
    "scatter",
    "scores_bars",
    "why_figure",
]

Order = Literal["number", "strength"]

_PAGE = 1180
"""How wide a sheet's contents are where there is more than fits."""
_MOST_CELLS = 4096
_MOST_NUMBERS = 1600
"""More numbers than this on one sheet of maps nobody reads: then colour only."""
_PASSING = frozenset({"flatten", "reshape", "dropout", "transpose", "slice", "output", "identity", "getitem"})
"""Kinds that only pass numbers on: not worth a row."""
_LEFT_OUT_FIRST = (
    ("norm", "layernorm", "groupnorm"),
    ("relu", "leakyrelu", "relu6", "gelu", "silu", "hardswish", "sigmoid", "tanh", "hardtanh", "elu"),
    ("multiply", "divide", "subtract", "concat", "pad", "add"),
)


# --- feature maps -----------------------------------------------------------------------------------------------------


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
        layer: a step of a trace, or numbers `(C, H, W)`, `(H, W)` or `(K,)`; further axes are counted as channels.
        title: by default the step's name.
        order: by channel number, or by strength, the mean of the absolute values, the strongest first.
        limit: how many maps are shown at most.
        statistics: under each map its mean, spread and the share of cells at or below 0, with a small histogram.
        names: of the numbers of a vector, such as classes.

    Raises:
        UsageError: there are no numbers, or they have no axes (`figure-values`).
    """
    values = _maps(layer)
    kind, pixels = _kind(layer)
    shape = values.shape
    heading = [title_line(title or _name(layer) or "feature maps")]
    if values.ndim == 1:
        about = [kind, f"{shape[0]:,} number{'s' if shape[0] != 1 else ''}"]
        heading.append(words(" · ".join(filter(None, about)), colour="muted"))
        body = _vector(values, names)
        return _sheet([*heading, scale_bar(values, reach_of(values)), body])
    reach = 255.0 if pixels else reach_of(values)
    about = [kind, f"{shape[0]:,} map{'s' if shape[0] != 1 else ''} of {times(shape[1:])}"]
    shown = _chosen(values, order, limit)
    if len(shown) < shape[0]:
        about.append(_shown_text(len(shown), shape[0], order, "channels"))
    elif order == "strength" and len(shown) > 1:
        about.append("the strongest first")
    heading.append(words(" · ".join(filter(None, about)), colour="muted"))
    found = map_statistics(values) if statistics else []
    side = _tile_side(len(shown))
    numbered = max(shape[1:]) <= NUMBERED and len(shown) * math.prod(shape[1:]) <= _MOST_NUMBERS
    pictures = (
        _numbered(values[shown], reach, pixels)
        if numbered
        else [_tile(values[at], reach, side, pixels) for at in shown]
    )
    tiles = [
        _labelled(picture, channel, found[channel] if found else None)
        for picture, channel in zip(pictures, shown, strict=True)
    ]
    room = 2 * _PAGE if numbered and len(shown) > 16 else _PAGE
    columns = columns_for(len(tiles), max(block.width for block in tiles) + 12, room + 12)
    return _sheet([*heading, scale_bar(values, reach, pixels=pixels), flow(tiles, columns, gap=(12, 12))])


def _numbered(values: Floats, reach: float, pixels: bool) -> list[Image.Image]:
    """Small maps with their numbers, all with the same digits and cells of one size."""
    texts, each = cell_texts(values), values[0].size
    side = cell_side(texts)
    return [
        cells(greys(part) if pixels else coloured(part, reach), texts[at * each : (at + 1) * each], side=side)
        for at, part in enumerate(values)
    ]


def _tile(values: Floats, reach: float, side: int, pixels: bool) -> Image.Image:
    if pixels:
        return _pixel_tile(np.clip(np.nan_to_num(values), 0, 255).astype(np.uint8)[..., None], side)
    return tile(values, reach, side)


def _labelled(picture: Image.Image, channel: int, found: MapStatistics | None) -> Image.Image:
    parts = [words(str(channel), size=SMALL, colour="muted"), picture]
    if found is not None:
        wide = max(picture.width, 108)
        mean, std = cell_texts(np.array([found.mean, found.std]))
        share = "never fires" if found.silent else f"{100 * found.zero_share:.0f} % ≤ 0"
        parts += [
            _histogram(found, wide),
            words(f"{mean} ± {std}", size=SMALL, colour="muted", width=wide),
            words(share, size=SMALL, colour="ink" if found.silent else "muted", width=wide),
        ]
    return column(parts, gap=2)


def _histogram(found: MapStatistics, width: int, height: int = 26) -> Image.Image:
    """Grey bars; a line marks zero. Heights are square roots of counts, so that a peak at zero does not hide the rest."""
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
    return _strongest(values)[: max(1, limit)]


def _strongest(values: Floats) -> list[int]:
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
        return _bar_rows(values.tolist(), labels)
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


def _bar_rows(values: Sequence[float], labels: Sequence[str], more: Sequence[str] = (), bold: int = -1) -> Image.Image:
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


# --- the whole network ------------------------------------------------------------------------------------------------


def overview(trace: Trace, *, title: str = "", maps: int = 10, limit: int = 100) -> Image.Image:
    """Every layer in the order of execution: name, kind, shape, range and some of its maps.

    Each row has its own symmetric scale, whose end is the larger of the two numbers of its range. Steps that only pass
    numbers on (flatten, dropout, ...) are left out; of networks with more than `limit` further steps first norms, then
    activations, then sums, and at last the end. The sheet says so.

    Args:
        trace: of one image.
        title: what stands on top.
        maps: how many maps a row shows: all in order where there are no more, else the strongest.
        limit: of rows.
    """
    steps, remarks = _rows_of(trace, limit)
    side = 72
    lines = []
    for step in steps:
        values = _maps(step)
        left = column(
            [
                words(step.name, bold=True, width=260),
                words(
                    " · ".join(filter(None, (_kind(step)[0], times(step.shape)))), size=SMALL, colour="muted", width=260
                ),
                words(range_text(values), size=SMALL, colour="muted", width=260),
            ],
            gap=0,
        )
        lines.append([left, _strip(step, values, maps, side, trace.classes if step is trace.steps[-1] else ())])
    count = sum(step.kind not in ("pixels", "image") for step in trace.steps)
    heading = [
        title_line(title or "From the image to the scores"),
        words(
            f"{count} steps in the order of execution · each row on its own scale, blue negative, white zero, red positive · "
            f"of more than {maps} maps the strongest",
            colour="muted",
        ),
    ]
    body = table(lines, gap=(20, 12), align=("start",))
    notes = [paragraph(text, max(body.width, 600)) for text in (*remarks, *trace.notes)]
    return _sheet([*heading, body, *notes])


def _rows_of(trace: Trace, limit: int) -> tuple[list[Step], list[str]]:
    """The steps worth a row, and what was left out, in words."""
    steps = [step for step in trace.steps if step.kind not in _PASSING and step.output.numel()]
    last = trace.steps[-1]
    if last not in steps and last.kind == "output" and last.output.numel():
        steps.append(last)
    dropped: Counter[str] = Counter(step.kind for step in trace.steps if step not in steps)
    for kinds in _LEFT_OUT_FIRST:
        if len(steps) <= limit:
            break
        dropped.update(step.kind for step in steps if step.kind in kinds)
        steps = [step for step in steps if step.kind not in kinds]
    remarks = []
    if dropped:
        remarks.append("Not shown: " + ", ".join(f"{count} × {kind}" for kind, count in dropped.most_common()) + ".")
    if len(steps) > limit:
        remarks.append(f"The first {limit - 1} of the other {len(steps)} steps are shown, and the last.")
        steps = [*steps[: max(1, limit - 1)], steps[-1]]
    return steps, remarks


def _strip(step: Step, values: Floats, count: int, side: int, classes: Sequence[str]) -> Image.Image:
    """A few maps of one layer in a line, or the beginning of a vector."""
    reach = reach_of(values)
    if step.kind == "pixels":
        pixels = np.clip(np.nan_to_num(values), 0, 255).astype(np.uint8).transpose(1, 2, 0)
        return _pixel_tile(pixels, side)
    if values.ndim == 1:
        return _short_vector(values, reach, classes)
    chosen = list(range(len(values))) if len(values) <= count else _strongest(values)[:count]
    return row(
        [
            column([tile(values[channel], reach, side), words(str(channel), size=10, colour="muted")], gap=1)
            for channel in chosen
        ],
        gap=6,
    )


def _short_vector(values: Floats, reach: float, classes: Sequence[str]) -> Image.Image:
    if len(values) <= 14:
        if len(classes) != len(values):
            return cells(coloured(values[None], reach), cell_texts(values))
        texts = cell_texts(values)
        wide = max(64, cell_side(texts))
        return row(
            [
                column(
                    [
                        flat_cell(value, reach, text, wide),
                        words(name, size=10, colour="muted", width=wide, align="middle"),
                    ],
                    gap=2,
                )
                for value, text, name in zip(values.tolist(), texts, classes, strict=True)
            ],
            gap=4,
        )
    shown = values[:192]
    strips = [
        framed(
            coloured(shown[None, at : at + 64], reach).resize(
                (min(64, len(shown) - at) * 12, 16), Image.Resampling.NEAREST
            )
        )
        for at in range(0, len(shown), 64)
    ]
    if len(values) > len(shown):
        strips.append(words(f"the first {len(shown)} of {len(values):,}", size=10, colour="muted"))
    return column(strips, gap=3)


# --- filters ----------------------------------------------------------------------------------------------------------


def filter_sheet(
    weights: Tensor | ArrayLike, title: str = "", *, limit: int = 64, channels: int = 16, first: int = 0
) -> Image.Image:
    """The filters of a convolution: for each its kernels side by side, one for every input channel.

    Args:
        weights: `(F, C, kh, kw)`.
        title: what stands on top.
        limit: how many filters are shown at most.
        channels: how many kernels of each are shown at most.
        first: the number of the first filter given.

    Raises:
        UsageError: another number of axes, or no numbers (`figure-values`).
    """
    values = _numbers(weights, "weights")
    if values.ndim != 4:
        raise UsageError(
            "weights",
            f"expected filters (filters, channels, height, width); received shape {values.shape}",
            code="figure-values",
        )
    count, depth, height, width = values.shape
    shown, kernels = min(count, max(1, limit)), min(depth, max(1, channels))
    reach = reach_of(values)
    about = [
        f"{count:,} filter{'s' if count > 1 else ''} of {depth:,} kernel{'s' if depth > 1 else ''} of {times((height, width))}"
    ]
    if shown < count:
        about.append(f"the first {shown} of {count:,} filters shown")
    if kernels < depth:
        about.append(f"of each the first {kernels} of {depth:,} kernels")
    numbered = max(height, width) <= NUMBERED and shown * kernels * height * width <= _MOST_NUMBERS
    pictures = _kernels(values[:shown, :kernels].reshape(-1, height, width), reach, numbered)
    names = [words(f"filter {first + at}", size=SMALL, colour="muted") for at in range(shown)]
    rows = [pictures[at * kernels : (at + 1) * kernels] for at in range(shown)]
    wide = kernels * (pictures[0].width + 6) + 28
    columns = columns_for(shown, wide, _PAGE + 28)
    if depth > 1:
        about.append("columns are input channels")
    head = [words(str(channel), size=SMALL, colour="muted") for channel in range(kernels)]
    if columns > 1:
        top = [row([_centred(block, pictures[0].width) for block in head], gap=6)] if depth > 1 else []
        blocks = [
            column([name, *(top if at < columns else []), row(kernel_row, gap=6)], gap=3)
            for at, (name, kernel_row) in enumerate(zip(names, rows, strict=True))
        ]
        body = flow(blocks, columns, gap=(28, 14))
    else:
        corner = words(" ", size=SMALL)
        lines = [[corner, *head], *([name, *kernel_row] for name, kernel_row in zip(names, rows, strict=True))]
        body = table(lines if depth > 1 else lines[1:], gap=(6, 8), align=("start", "middle"))
    heading = [title_line(title or "filters"), words(" · ".join(about), colour="muted")]
    return _sheet([*heading, scale_bar(values, reach), body])


def _kernels(values: Floats, reach: float, numbered: bool) -> list[Image.Image]:
    if numbered:
        return _numbered(values, reach, False)
    return [tile(kernel, reach, max(36, 10 * max(kernel.shape))) for kernel in values]


def _centred(block: Image.Image, width: int) -> Image.Image:
    return column([block, Image.new("RGB", (width, 1), GROUND)], gap=0, align="middle")


# --- the image --------------------------------------------------------------------------------------------------------


def image_sheet(pixels: Pixels | ArrayLike, *, title: str = "the image", unit: bool = False) -> Image.Image:
    """An image, its channels, and grey; of images up to 28 x 28 with the number of every pixel.

    Grey is 0.299 R + 0.587 G + 0.114 B, as in television (ITU-R BT.601).

    Args:
        pixels: uint8 `(H, W)` or `(H, W, C)`.
        title: what stands on top.
        unit: numbers as 0..1 rather than 0..255.

    Raises:
        UsageError: not uint8, or another number of axes (`figure-values`).
    """
    picture = _checked_pixels(pixels)
    height, width, depth = picture.shape
    numbered = max(height, width) <= 28
    panels = [("image", picture, (1.0, 1.0, 1.0))]
    tints = {"red": (1.0, 0.0, 0.0), "green": (0.0, 1.0, 0.0), "blue": (0.0, 0.0, 1.0)}
    for channel, name in enumerate(_channel_names(depth)):
        panels.append((name, picture[:, :, channel : channel + 1], tints.get(name, (1.0, 1.0, 1.0))))
    if depth >= 3:
        grey = np.asarray(Image.fromarray(np.ascontiguousarray(picture[:, :, :3])).convert("L"))
        panels.append(("grey", grey[:, :, None], (1.0, 1.0, 1.0)))
    pictures = []
    for _, part, tint in panels[1:]:
        pictures.append(_pixel_cells(part[:, :, 0], tint, unit) if numbered else _pixel_tile(part, 380, tint))
    size = pictures[0].width - 2, pictures[0].height - 2
    blocks = []
    for (name, part, _), block in zip(panels, [_small_image(picture, size), *pictures], strict=True):
        says = f"{_level(int(part.min()), unit)} to {_level(int(part.max()), unit)}"
        blocks.append(column([words(name, bold=True), block, words(says, size=SMALL, colour="muted")], gap=4))
    columns = columns_for(len(blocks), max(block.width for block in blocks) + 20, 1700)
    if len(blocks) > columns and columns >= 3:
        columns = 3
    scale = "numbers 0 to 1: pixel / 255" if unit else "numbers 0 to 255"
    about = f"{times((height, width))} pixels · {depth} channel{'s' if depth > 1 else ''} · {scale}"
    return _sheet([title_line(title), words(about, colour="muted"), flow(blocks, columns, gap=(20, 16))])


def _channel_names(depth: int) -> list[str]:
    known = {1: ["grey"], 2: ["grey", "alpha"], 3: ["red", "green", "blue"], 4: ["red", "green", "blue", "alpha"]}
    return known.get(depth) or [f"channel {channel}" for channel in range(depth)]


def _level(value: int, unit: bool) -> str:
    if not unit:
        return str(value)
    return "0" if value == 0 else "1" if value == 255 else f"{value / 255:.2f}"


def _pixel_cells(values: NDArray[np.uint8], tint: tuple[float, float, float], unit: bool) -> Image.Image:
    """One channel with the number of every pixel, in its own colour."""
    small = max(values.shape) <= 12
    texts = [_level(int(value), unit) for value in values.ravel()]
    size = SMALL if small else 10
    return cells(
        _tinted(Image.fromarray(values), tint), texts, size=size, side=max(44 if small else 0, cell_side(texts, size))
    )


def _tinted(picture: Image.Image, tint: tuple[float, float, float]) -> Image.Image:
    return Image.fromarray((np.asarray(picture.convert("RGB")) * np.array(tint)).astype(np.uint8))


def _pixel_tile(pixels: Pixels, side: int, tint: tuple[float, float, float] = (1.0, 1.0, 1.0)) -> Image.Image:
    """An image or one channel of it, its longer side about `side` pixels."""
    return framed(_tinted(enlarge(to_image(pixels), side), tint))


def _checked_pixels(pixels: Any) -> Pixels:
    picture = np.asarray(pixels)
    if picture.ndim == 2:
        picture = picture[:, :, None]
    if picture.dtype != np.uint8 or picture.ndim != 3 or not picture.size:
        raise UsageError(
            "pixels",
            f"expected uint8 (height, width, channels); received {picture.dtype} of shape {np.shape(pixels)}",
            code="figure-values",
        )
    return picture


# --- attributions -----------------------------------------------------------------------------------------------------


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
        title: what stands on top.

    Raises:
        UsageError: `figure-values`.
    """
    picture = _checked_pixels(image)
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
    panels = [[words("the image", bold=True), _small_image(picture, size), blank, blank, blank, blank, blank]]
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
    says = "red positive, blue negative, each map on its own scale; a map with red only has no negative numbers"
    heading = [title_line(title or "What the answer rests on"), words(says, colour="muted")]
    return _sheet([*heading, column(blocks, gap=28)])


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
        return figure + "much the same. It shows the picture more than what was learned."
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
    base = np.asarray(to_image(picture).convert("L").resize(size, _filter(picture, size)), np.float64)
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


def _filter(picture: Pixels, size: tuple[int, int]) -> Image.Resampling:
    return Image.Resampling.NEAREST if size[0] >= picture.shape[1] else Image.Resampling.LANCZOS


def _small_image(picture: Pixels, size: tuple[int, int]) -> Image.Image:
    return framed(to_image(picture).convert("RGB").resize(size, _filter(picture, size)))


def _plane(values: Any, name: str) -> Floats:
    numbers = _numbers(values, name)
    if numbers.ndim != 2:
        raise UsageError(name, f"expected a map (height, width); received shape {numbers.shape}", code="figure-values")
    return numbers


# --- what excites a channel -------------------------------------------------------------------------------------------


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
        title: what stands on top.
        about: one line under it.
        side: about how large the largest patch of a row is drawn.
    """
    lines = []
    for name, patches in rows:
        pictures = [(_checked_pixels(patch), value) for patch, value in patches]
        largest = max((max(patch.shape[:2]) for patch, _ in pictures), default=1)
        blocks = []
        texts = cell_texts(np.array([value for _, value in pictures])) if pictures else []
        for (patch, _), text in zip(pictures, texts, strict=True):
            factor = side // largest if largest <= side else side / largest
            size = max(1, round(patch.shape[1] * factor)), max(1, round(patch.shape[0] * factor))
            small = _small_image(patch, size)
            blocks.append(column([small, words(text, size=SMALL, colour="muted")], gap=2, align="middle"))
        label = words(name, bold=True)
        label = label if label.width <= 220 else words(name, bold=True, width=220)
        lines.append([label, row(blocks, gap=8, align="end") if blocks else words("none", colour="muted")])
    heading = [title_line(title or "What excites these channels most")]
    heading.append(words(about, colour="muted"))
    return _sheet([*heading, table(lines, gap=(18, 14)) if lines else words("no channels", colour="muted")])


# --- points, scores ---------------------------------------------------------------------------------------------------

_POINT_COLOURS = ("blue", "orange", "green", "purple", "red", "brown", "ink")
_MARKS = 4
_MOST_CLASSES = 28


def scatter(
    points: Tensor | ArrayLike,
    labels: Tensor | ArrayLike | Sequence[int],
    classes: Sequence[str],
    explained: Sequence[float] = (),
    *,
    title: str = "",
) -> Image.Image:
    """Feature vectors in two dimensions, coloured by class; neighbouring classes differ in colour and in shape of mark.

    Both axes have the same scale. Up to 28 classes have marks of their own; further ones begin again.

    Args:
        points: `(N, 2)`; those that are not finite are left out, and the sheet says how many.
        labels: `(N,)`, whole numbers.
        classes: their names.
        explained: the share of the variance that each axis explains, 0..1, where there is such a thing.
        title: what stands on top.

    Raises:
        UsageError: the shapes do not fit, or a label has no class (`figure-values`).
    """
    places = _numbers(points, "points")
    kinds = np.asarray(_numbers(labels, "labels"), np.int64)
    if places.ndim != 2 or places.shape[1] != 2 or kinds.shape != places.shape[:1]:
        raise UsageError(
            "points",
            f"expected points (N, 2) and labels (N,); received {places.shape} and {kinds.shape}",
            code="figure-values",
        )
    if kinds.min() < 0 or kinds.max() >= len(classes):
        raise UsageError(
            "labels",
            f"expected labels 0 to {len(classes) - 1}; received {kinds.min()} to {kinds.max()}",
            code="figure-values",
        )
    finite = np.isfinite(places).all(1)
    shown, of = places[finite], kinds[finite]
    plot = _plot(shown, of)
    if explained:
        across, up = (
            f"{name} axis: {100 * share:.1f} % of the variance"
            for name, share in zip(("first", "second"), explained, strict=False)
        )
        plot = row([_upright(words(up, size=SMALL, colour="muted")), plot], align="middle")
        plot = column([plot, words(across, size=SMALL, colour="muted")], align="middle", gap=4)
    counts = np.bincount(of, minlength=len(classes)).tolist()
    legend = [
        [_legend_mark(kind), _name_block(name), words(f"{counts[kind]:,}", size=SMALL, colour="muted")]
        for kind, name in enumerate(classes[:60])
    ]
    halves = [legend[at : at + 20] for at in range(0, len(legend), 20)]
    key = row([table(part, gap=(8, 3), align=("middle", "start", "end")) for part in halves], gap=20)
    said = f"{len(shown):,} images" + (
        f"; {len(places) - len(shown):,} without finite numbers left out" if not finite.all() else ""
    )
    if len(classes) > 60:
        key = column([key, words(f"the first 60 of {len(classes):,} classes named", size=SMALL, colour="muted")])
    if len(classes) > _MOST_CLASSES:
        said += f"; marks repeat after {_MOST_CLASSES} classes"
    heading = [title_line(title or "Images as the classifier sees them"), words(said, colour="muted")]
    return _sheet([*heading, row([plot, key], gap=24)])


def _name_block(name: str) -> Image.Image:
    block = words(name)
    return block if block.width <= 220 else words(name, width=220)


def _plot(points: Floats, kinds: NDArray[np.int64]) -> Image.Image:
    fine, edge = 3, 16
    low, high = (points.min(0), points.max(0)) if len(points) else (np.zeros(2), np.zeros(2))
    middle, span = low / 2 + high / 2, high - low
    wide = 680
    tall = int(min(680, max(300, wide * (span[1] / span[0] if span[0] > 0 else 1.0 if span[1] > 0 else 0.5))))
    factors = [(room - 2 * edge) / size for room, size in zip((wide, tall), span.tolist(), strict=True) if size > 0]
    factor = min(factors, default=0.0)
    sheet = Image.new("RGB", (wide * fine, tall * fine), GROUND)
    pen = ImageDraw.Draw(sheet)
    radius = 5.5 if len(points) <= 300 else 4.5 if len(points) <= 2000 else 3.0
    order = np.random.default_rng(0).permutation(len(points))  # no class lies on top of all others
    for at in order.tolist():
        x = (wide / 2 + (points[at, 0] - middle[0]) * factor) * fine
        y = (tall / 2 - (points[at, 1] - middle[1]) * factor) * fine
        _mark(pen, float(x), float(y), radius * fine, int(kinds[at]), fine)
    return framed(sheet.resize((wide, tall), Image.Resampling.BOX), "faint")


def _mark(pen: ImageDraw.ImageDraw, x: float, y: float, r: float, kind: int, fine: int) -> None:
    """Colour and shape of a class, with a thin white edge so that marks that touch stay apart."""
    fill, edge = ink(_POINT_COLOURS[kind % len(_POINT_COLOURS)]), GROUND
    shape = kind % _MARKS
    if shape == 0:
        pen.circle((x, y), r, fill, edge, fine)
    elif shape == 1:
        pen.rectangle((x - 0.86 * r, y - 0.86 * r, x + 0.86 * r, y + 0.86 * r), fill, edge, fine)
    elif shape == 2:
        pen.polygon([(x, y - 1.35 * r), (x + 1.25 * r, y + 0.95 * r), (x - 1.25 * r, y + 0.95 * r)], fill, edge, fine)
    else:
        pen.polygon([(x, y - 1.25 * r), (x + 1.25 * r, y), (x, y + 1.25 * r), (x - 1.25 * r, y)], fill, edge, fine)


def _legend_mark(kind: int) -> Image.Image:
    fine = 3
    block = Image.new("RGB", (16 * fine, 16 * fine), GROUND)
    _mark(ImageDraw.Draw(block), 8 * fine, 8 * fine, 5.5 * fine, kind, fine)
    return block.resize((16, 16), Image.Resampling.BOX)


def _upright(block: Image.Image) -> Image.Image:
    return block.rotate(90, expand=True)


def scores_bars(
    scores: Tensor | ArrayLike,
    classes: Sequence[str] = (),
    *,
    probabilities: Tensor | ArrayLike | None = None,
    title: str = "",
    kind: str = "class",
    limit: int = 20,
) -> Image.Image:
    """The scores of the classes as bars with their numbers, of classes the largest in bold.

    Up to `limit` classes stand in their order, of more the highest, the highest first. A single score of two classes
    speaks for the second one above zero, for the first one below.

    Args:
        scores: `(K,)` or `(1, K)`.
        classes: names; numbers where there are none.
        probabilities: `(K,)`, shown as percentages.
        title: what stands on top.
        kind: `class`, `label` or `number`.
        limit: of bars.
    """
    values = _numbers(scores, "scores").reshape(-1)
    count = len(values)
    single = count == 1 and len(classes) == 2
    names = (
        [f"{classes[1]} (below zero: {classes[0]})"]
        if single
        else [classes[at] if at < len(classes) else str(at) for at in range(count)]
    )
    order = list(range(count))
    ranked = sorted(order, key=lambda at: -values[at] if math.isfinite(values[at]) else math.inf)
    plural = {"class": "classes"}.get(kind, f"{kind}s")
    about = f"{count:,} {kind if count == 1 else plural}" if not single else "one score for two classes"
    if count > limit:
        order = ranked[:limit]
        about += f" · the {limit} highest shown"
    more: list[str] = []
    if probabilities is not None:
        chances = _numbers(probabilities, "probabilities").reshape(-1)
        more = [_percent(float(chances[at])) for at in order]
    best = order.index(ranked[0]) if count > 1 and kind == "class" else -1
    body = _bar_rows([float(values[at]) for at in order], [names[at] for at in order], more, best)
    return _sheet([title_line(title or "Scores"), words(about, colour="muted"), body])


def _percent(share: float) -> str:
    if not math.isfinite(share):
        return number(share)
    return "< 0.1 %" if 0 < share < 0.001 else f"{100 * share:.1f} %"


# --- what the figures share -------------------------------------------------------------------------------------------


def _sheet(parts: Sequence[Image.Image]) -> Image.Image:
    """Title, line about it, and the rest, with white all round."""
    head, rest = list(parts[:2]), list(parts[2:])
    return margin(column([column(head, gap=2), *rest], gap=14))


def _numbers(values: Any, name: str) -> Floats:
    if hasattr(values, "detach"):
        values = values.detach().cpu().double().numpy()
    numbers = np.asarray(values, np.float64)
    if not numbers.size:
        raise UsageError(name, f"expected numbers; received none, of shape {numbers.shape}", code="figure-values")
    return numbers


def _maps(layer: Any) -> Floats:
    """`(C, H, W)`, or `(K,)` for vectors and for maps of a single cell."""
    values = _numbers(layer.output.reshape(layer.shape) if hasattr(layer, "output") else layer, _name(layer) or "layer")
    if values.ndim == 0:
        return values.reshape(1)
    if values.ndim == 2:
        return values[None]
    if values.ndim > 3:
        values = values.reshape(-1, *values.shape[-2:])
    if values.ndim == 3 and values.shape[1:] == (1, 1):
        return values.reshape(-1)
    return values


def _name(layer: Any) -> str:
    return str(layer.name) if hasattr(layer, "output") else ""


def _kind(layer: Any) -> tuple[str, bool]:
    """The layer's kind in words, and whether its numbers are pixels."""
    if not hasattr(layer, "output"):
        return "", False
    return ("" if layer.kind == layer.name else str(layer.kind)), layer.kind == "pixels"
