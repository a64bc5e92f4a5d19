"""The whole network on one sheet: a row for each layer, in the order of execution."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
from PIL import Image

from ...models import kinds_of
from ..capture.records import PASSING, Recording, Step
from .blocks import SMALL, column, framed, paragraph, row, table, title_line, words
from .cells import cell_side, cells, coloured, flat_cell, range_text, reach_of, tile
from .image import pixel_tile
from .maps import kind_of, maps_of, shape_of, strongest
from .numerals import Floats, cell_texts, times
from .sheets import on_sheet

_LEFT_OUT_FIRST = (
    kinds_of("norm") | {"layernorm", "groupnorm"},
    kinds_of("activation") | {"relu6", "hardswish", "hardtanh", "elu"},
    ("multiply", "divide", "subtract", "concat", "pad", "add"),
)
"""Kinds that lose their row first where a network has too many steps."""


def overview(trace: Recording, *, title: str = "", maps: int = 10, limit: int = 100) -> Image.Image:
    """Every layer in the order of execution: name, kind, shape, range and some of its maps.

    Each row has its own symmetric scale, whose end is the larger of the two numbers of its range. Steps that only pass
    numbers on (flatten, dropout, ...) are left out; of networks with more than `limit` further steps first norms, then
    activations, then sums, and at last the end. The sheet states it.

    Args:
        trace: of one image.
        title: the heading.
        maps: how many maps a row shows: all in order where there are no more, else the strongest.
        limit: of rows.
    """
    steps, remarks = _rows_of(trace, limit)
    side = 72
    lines = []
    for step in steps:
        values = maps_of(step)
        left = column(
            [
                words(step.name, bold=True, width=260),
                words(
                    " · ".join(filter(None, (kind_of(step)[0], times(shape_of(step))))),
                    size=SMALL,
                    colour="muted",
                    width=260,
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
            f"{count} steps in the order of execution · "
            "each row on its own scale, blue negative, white zero, red positive · "
            f"of more than {maps} maps the strongest",
            colour="muted",
        ),
    ]
    body = table(lines, gap=(20, 12), align=("start",))
    notes = [paragraph(text, max(body.width, 600)) for text in (*remarks, *trace.notes)]
    return on_sheet([*heading, body, *notes])


def _rows_of(trace: Recording, limit: int) -> tuple[list[Step], list[str]]:
    """The steps worth a row, and what was left out, in words."""
    steps = [step for step in trace.steps if step.kind not in PASSING and step.output.numel()]
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
        return pixel_tile(pixels, side)
    if values.ndim == 1:
        return _short_vector(values, reach, classes)
    chosen = list(range(len(values))) if len(values) <= count else strongest(values)[:count]
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
