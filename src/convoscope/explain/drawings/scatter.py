"""Images as points in two dimensions, coloured by class."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image, ImageDraw

from ...errors import UsageError
from ...render import percent
from .blocks import GROUND, SMALL, column, framed, ink, row, table, title_line, words
from .numerals import Floats
from .sheets import numbers_of, on_sheet

if TYPE_CHECKING:
    from torch import Tensor


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
        points: `(N, 2)`; those that are not finite are left out, and the sheet states how many.
        labels: `(N,)`, whole numbers.
        classes: their names.
        explained: the share of the variance that each axis explains, 0..1, where there is such a thing.
        title: the heading.

    Raises:
        UsageError: the shapes do not fit, or a label has no class (`figure-values`).
    """
    places = numbers_of(points, "points")
    kinds = np.asarray(numbers_of(labels, "labels"), np.int64)
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
            f"{name} axis: {percent(share)} of the variance"
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
    about = f"{len(shown):,} images" + (
        f"; {len(places) - len(shown):,} without finite numbers left out" if not finite.all() else ""
    )
    if len(classes) > 60:
        key = column([key, words(f"the first 60 of {len(classes):,} classes named", size=SMALL, colour="muted")])
    if len(classes) > _MOST_CLASSES:
        about += f"; marks repeat after {_MOST_CLASSES} classes"
    heading = [title_line(title or "Images as the classifier sees them"), words(about, colour="muted")]
    return on_sheet([*heading, row([plot, key], gap=24)])


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
    order = np.random.default_rng(0).permutation(len(points))  # no class is drawn over all others
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
