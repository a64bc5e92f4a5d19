"""What the maps of a layer are like, each in a few numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ...errors import UsageError


@dataclass(frozen=True, eq=False, kw_only=True)
class MapStatistics:
    """One map.

    Attributes:
        mean, std: of its finite cells; `std` over all of them, not a sample's estimate. NaN where there are none.
        minimum, maximum: likewise.
        zero_share: the share of finite cells that are 0 or below, 0..1: behind a relu the units that do not fire.
        histogram: int64 `(bins,)`, how many cells lie between two neighbouring `edges`.
        edges: float64 `(bins + 1,)`, the same for all maps of a layer.
        not_finite: how many cells are NaN or infinite.
    """

    mean: float
    std: float
    minimum: float
    maximum: float
    zero_share: float
    histogram: NDArray[np.int64]
    edges: NDArray[np.float64]
    not_finite: int = 0

    @property
    def silent(self) -> bool:
        """Whether no cell is above 0."""
        return self.zero_share == 1


def map_statistics(maps: ArrayLike, *, bins: int = 32) -> list[MapStatistics]:
    """The statistics of each map of a layer.

    Args:
        maps: `(C, H, W)`; a vector `(K,)` counts as one map.
        bins: of the histograms, at least 1; they span the finite numbers of all maps.

    Raises:
        UsageError: another number of axes, or no numbers (`map-shape`).
    """
    values: NDArray[Any] = np.asarray(maps, np.float64)
    if values.ndim == 1:
        values = values[None, None]
    if values.ndim != 3 or not values.size or bins < 1:
        raise UsageError(
            "maps",
            "expected numbers (channels, height, width) and at least one bin; "
            f"received shape {values.shape}, bins={bins}",
            code="map-shape",
        )
    every = values[np.isfinite(values)]
    low, high = (float(every.min()), float(every.max())) if every.size else (0.0, 0.0)
    if not low + (high - low) / bins > low:
        low, high = low - max(0.5, abs(low) / 2), high + max(0.5, abs(high) / 2)
    edges = np.array([min(high, low + (high / bins - low / bins) * at) for at in range(bins)] + [high])
    return [_one(channel[np.isfinite(channel)], edges, channel.size) for channel in values]


def _one(cells: NDArray[np.float64], edges: NDArray[np.float64], size: int) -> MapStatistics:
    histogram = np.histogram(cells, edges)[0].astype(np.int64)
    if not cells.size:
        nan = float("nan")
        return MapStatistics(
            mean=nan,
            std=nan,
            minimum=nan,
            maximum=nan,
            zero_share=nan,
            histogram=histogram,
            edges=edges,
            not_finite=size,
        )
    with np.errstate(over="ignore", invalid="ignore"):  # numbers near the end of the range have no finite square
        mean, std = float(cells.mean()), float(cells.std())
    return MapStatistics(
        mean=mean,
        std=std,
        minimum=float(cells.min()),
        maximum=float(cells.max()),
        zero_share=float((cells <= 0).mean()),
        histogram=histogram,
        edges=edges,
        not_finite=size - cells.size,
    )
