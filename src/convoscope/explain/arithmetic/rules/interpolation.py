"""Maps made larger or smaller: each number is a weighted sum of those around its place in the map that came in.

torch finds that place in float32, so that it is off by up to a few roundings of its own size; on a large map this moves
the weights more than all later roundings together. The bound knows it.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ...capture.records import Recording, Step
from ..terms import Floats, Ints, rounding_bound
from .operands import finds_in, flat_place, flat_places, floats, named, picked, tensor_of
from .registry import Parts, rule


@dataclass(frozen=True)
class _Axis:
    """One axis of the resizing.

    Attributes:
        cells: of the map that came in.
        cubic: four cells along a cubic curve (Keys 1981) instead of two along a line.
        smoothed: whether the window widens where the map gets smaller, so that no cell is passed over.
        copied: whether the size stays, so that each number is taken as it is.
        step: how many cells apart two neighbours of the result are in the map that came in.
        centre: where this number's place is, 0 at the middle of the first cell.
        eps: of the numbers in which torch finds the place.
    """

    cells: int
    cubic: bool
    smoothed: bool
    copied: bool
    step: float
    centre: float
    eps: float

    def off_by(self) -> float:
        """How far float32 may move the place: the step, its product, the half cell and the difference are rounded."""
        return 0.0 if self.copied else 2 * self.eps * (abs(self.centre) + 1 + self.step)

    def window(self, moved: float = 0.0) -> tuple[Ints, Floats]:
        """The cells and their weights, with the place `moved` by so much."""
        centre = self.centre + moved
        if self.copied:
            return np.array([round(centre)]), np.ones(1)
        if self.smoothed:
            return self._smoothed(centre)
        if not self.cubic:
            centre = min(max(centre, 0.0), self.cells - 1.0)
        first = math.floor(centre) - (1 if self.cubic else 0)
        cells = np.arange(first, first + (4 if self.cubic else 2))
        weights = _keys(cells - centre, -0.75) if self.cubic else 1 - np.abs(cells - centre)
        return np.clip(cells, 0, self.cells - 1), weights

    def _smoothed(self, centre: float) -> tuple[Ints, Floats]:
        wide = max(self.step, 1.0)
        reach = (2 if self.cubic else 1) * wide
        cells = np.arange(max(int(centre + 0.5 - reach + 0.5), 0), min(int(centre + 0.5 + reach + 0.5), self.cells))
        away = (cells - centre) / wide
        weights = _keys(away, -0.5) if self.cubic else np.maximum(1 - np.abs(away), 0)
        return cells, weights / weights.sum()


def _keys(away: NDArray[Any], a: float) -> Floats:
    """The cubic curve through 1 at 0 and through 0 at 1 and 2 (Keys 1981, equation 15)."""
    x = np.abs(away)
    near = (a + 2) * x**3 - (a + 3) * x**2 + 1
    far = a * x**3 - 5 * a * x**2 + 8 * a * x - 4 * a
    return np.where(x <= 1, near, np.where(x < 2, far, 0.0))


@rule(
    "upsample_linear1d", "upsample_bilinear2d", "upsample_trilinear3d", "upsample_bicubic2d",
    "_upsample_bilinear2d_aa", "_upsample_bicubic2d_aa",
)  # fmt: skip
def resized(recording: Recording, step: Step, full: tuple[int, ...]) -> Parts:
    """The cells around a place, by their distance."""
    taken = tensor_of(recording, step.arguments[0])
    axes = _axes(step, tuple(taken.shape[2:]), full[2:])
    windows = [axis.window() for axis in axes]
    windows = [(np.unique(cells), _gathered(cells, weights)) for cells, weights in windows]
    windows = [(cells[weights != 0], weights[weights != 0]) for cells, weights in windows]
    grid = np.meshgrid(*(cells for cells, _ in windows), indexing="ij")
    flat = flat_places(taken.shape, [*(np.full(grid[0].size, i) for i in full[:2]), *(cells.ravel() for cells in grid)])
    inputs = picked(recording, step.arguments[0], flat)
    weights = _product([weights for _, weights in windows]).ravel()
    products = inputs * weights
    off = _most_moved(axes, floats(taken[full[:2]]), float(products.sum()))
    roundings = 2 * len(flat) + 8
    magnitude = float(np.abs(products).sum())
    eps = torch.finfo(step.output.dtype).eps
    size = tuple(len(cells) for cells, _ in windows)
    curve = "cubic curve" if axes[0].cubic else "line"
    return Parts(
        inputs,
        weights,
        products,
        [(step.arguments[0], flat)],
        f"the map at {', '.join(f'{axis.centre:.6g}' for axis in axes)}, along a {curve} "
        f"between {len(flat)} of its cells",
        roundings=roundings,
        # The place's own rounding, as so much more of what the others are relative to.
        magnitude=magnitude + off / rounding_bound(roundings, eps, 1.0),
        shape=(1, *size) if len(size) == 2 else (),
    )


def _axes(step: Step, before: tuple[int, ...], place: tuple[int, ...]) -> list[_Axis]:
    given = named(step)
    aligned = bool(given["align_corners"])
    scales = _scales(given, len(before))
    found = []
    for cells, made, scale, i in zip(before, step.output.shape[2:], scales, place, strict=True):
        apart = 1 / scale if scale else cells / made
        if aligned:
            apart = (cells - 1) / (made - 1) if made > 1 else 0.0
        cubic, smoothed = "bicubic" in step.operation, step.operation.endswith("_aa")
        copied = cells == made and not cubic and not smoothed
        centre = float(i) if copied else i * apart if aligned else (i + 0.5) * apart - 0.5
        found.append(_Axis(cells, cubic, smoothed, copied, apart, centre, torch.finfo(finds_in(step)).eps))
    return found


def _scales(given: dict[str, Any], axes: int) -> list[float | None]:
    """The scale factors that the caller gave, one for each axis."""
    if given.get("scale_factors"):
        return list(given["scale_factors"])
    names = {1: ("scales",), 2: ("scales_h", "scales_w"), 3: ("scales_d", "scales_h", "scales_w")}[axes]
    return [given.get(name) for name in names]


def _gathered(cells: Ints, weights: Floats) -> Floats:
    """The weights of each cell: beyond the border the last one is met again."""
    found: Floats = np.bincount(cells - cells.min(), weights)[np.unique(cells) - cells.min()]
    return found


def _product(along: list[Floats]) -> Floats:
    total = np.ones(())
    for weights in along:
        total = np.multiply.outer(total, weights)
    return total


def _most_moved(axes: list[_Axis], channel: Floats, value: float) -> float:
    """How far the number moves at most when float32 moves its place in the channel."""
    most = 0.0
    for signs in itertools.product((-1, 1), repeat=len(axes)):
        windows = [axis.window(sign * axis.off_by()) for axis, sign in zip(axes, signs, strict=True)]
        cells = channel[np.ix_(*(cells for cells, _ in windows))]
        moved = float((cells * _product([weights for _, weights in windows])).sum())
        most = max(most, abs(moved - value))
    return most


@rule(
    "upsample_nearest1d", "upsample_nearest2d", "upsample_nearest3d",
    "_upsample_nearest_exact1d", "_upsample_nearest_exact2d", "_upsample_nearest_exact3d",
)  # fmt: skip
def nearest(recording: Recording, step: Step, full: tuple[int, ...]) -> Parts:
    """The number of the cell nearest to a place."""
    source = step.arguments[0]
    taken = tensor_of(recording, source)
    cells: Sequence[Ints] | None = recording.cache.get(step.number)
    if cells is None:
        cells = recording.cache[step.number] = _nearest_cells(step, tuple(taken.shape[2:]), str(taken.device))
    flat = flat_place(taken.shape, (*full[:2], *(int(along[full[2:]]) for along in cells)))
    value = picked(recording, source, flat)
    return Parts(value, np.ones(1), value, [(source, flat)], "the number of the nearest cell")


def _nearest_cells(step: Step, before: tuple[int, ...], device: str) -> Sequence[Ints]:
    """For each axis the cell that each cell shows: the operation itself, on the cells' numbers along this axis.

    It finds the nearest cell in float32, so float64 might find another.
    """
    along = torch.meshgrid(*(torch.arange(n, dtype=finds_in(step), device=device) for n in before), indexing="ij")
    with torch.no_grad():
        found = step.function(torch.stack(along)[None], *step.arguments[1:], **step.keywords)
    return list(found[0].round().to("cpu", torch.int64).numpy())
