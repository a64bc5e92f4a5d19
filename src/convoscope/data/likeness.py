"""Which pictures look the same: saved again, scaled, brightened, cropped by a pixel. They are told by 16x16 grey
thumbnails.

A thumbnail is made of the whole decoded picture, whatever the network's input is: the same pictures are alike in every
run.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np
from numpy.typing import NDArray

from .dataset import InputFormat, Look

NEAR_CORRELATION: Final = 0.995
"""Thumbnails that agree at least this well (Pearson's r of their pixels) show the same picture. Photographs saved again
at quality 60, at half or 1.7 times their size or 100 pixels wide, brightened or with less contrast, reach it.
"""

NEAR_CORRELATION_SMALL: Final = 0.998
"""The same for sets of images below 64 pixels, which hold less and are more alike (Fashion-MNIST: 64 groups, not 474).
"""

SIDE: Final = 16
# Decoded larger than the thumbnail and averaged, so that JPEG's shortcuts do not shift what a large and a small copy
# show.
LOOK_FORM: Final = InputFormat(height=4 * SIDE, width=4 * SIDE, channels=1, resize="stretch")
_PLAIN: Final = 3.0  # thumbnails whose pixels vary less than this (standard deviation, of 255) show nothing to compare
_LUMINANCE: Final = (0.299, 0.587, 0.114)
_FEW: Final = 256
_DIRECTIONS: Final = 12  # in which thumbnails are compared before they are compared in full


@dataclass(frozen=True)
class Looks:
    """What N images look like.

    Attributes:
        thumbnails: uint8 `(N, SIDE * SIDE)`, grey; 0 where an image cannot be read.
        sides: uint16 `(N,)`, the longer side of each picture.
    """

    thumbnails: NDArray[np.uint8]
    sides: NDArray[np.uint16]

    @classmethod
    def blank(cls, count: int) -> Looks:
        """To be filled by `note`."""
        return cls(np.zeros((count, SIDE * SIDE), np.uint8), np.zeros(count, np.uint16))

    def note(self, row: int, look: Look | None) -> None:
        """Take in what one image looks like."""
        if look is not None:
            self.thumbnails[row] = look.thumbnail
            self.sides[row] = min(look.side, np.iinfo(np.uint16).max)

    def of(self, count: int) -> bool:
        """Whether they are those of N images, in the right form."""
        kinds = self.thumbnails.dtype == np.uint8 and self.sides.dtype == np.uint16
        return kinds and (self.thumbnails.shape, self.sides.shape) == ((count, SIDE * SIDE), (count,))

    def select(self, rows: NDArray[np.int64]) -> Looks:
        """Those of these rows, in this order."""
        return Looks(self.thumbnails[rows], self.sides[rows])

    @property
    def plain(self) -> NDArray[np.bool_]:
        """`(N,)`: which images show nothing to compare."""
        return np.concatenate([part.std(axis=1) < _PLAIN for part in _parts(self.thumbnails)] or [np.zeros(0, bool)])

    @property
    def agreement(self) -> float:
        """How well thumbnails must agree to show the same picture: better where most pictures are small."""
        sides = self.sides[self.sides > 0]
        return NEAR_CORRELATION_SMALL if len(sides) and np.median(sides) < 4 * SIDE else NEAR_CORRELATION

    def alike(self, rows: NDArray[np.int64]) -> list[NDArray[np.int64]]:
        """Groups of two or more of these rows that look the same; plain ones are in none."""
        rows = rows[~self.plain[rows]]
        return [rows[group] for group in close_groups(self.thumbnails[rows], self.agreement)]


def _parts(array: NDArray[np.uint8], step: int = 16_384) -> list[NDArray[np.uint8]]:
    """The array in parts whose float copies take little memory."""
    return [array[begin : begin + step] for begin in range(0, len(array), step)]


def thumbnail(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """`(SIDE * SIDE,)` from a square picture whose side is a multiple of that."""
    factor = pixels.shape[0] // SIDE
    if factor == 1:
        return pixels.reshape(-1)
    sums = pixels.reshape(SIDE, factor, SIDE, factor).sum(axis=(1, 3), dtype=np.uint32)
    return np.asarray((sums + factor * factor // 2) // (factor * factor), dtype=np.uint8).reshape(-1)


def thumbnails(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """`(N, SIDE * SIDE)` from images of one size, uint8 `(N, height, width, channels)`: each cell is the mean of the
    pixels that it covers, in grey.
    """
    count, height, width, channels = images.shape
    weights = np.array(_LUMINANCE if channels == 3 else [1 / channels] * channels, np.float32)
    down, across = _coverage(height), _coverage(width)
    cells = np.empty((count, SIDE, SIDE), np.uint8)
    step = max(1, 4_000_000 // max(1, height * width * channels))
    for begin in range(0, count, step):
        # Not by matmul, whose library takes tens of megabytes for each thread that decodes.
        grey = np.einsum("nhwc,c->nhw", images[begin : begin + step], weights)
        cells[begin : begin + step] = np.rint(np.einsum("niw,jw->nij", np.einsum("ih,nhw->niw", down, grey), across))
    return cells.reshape(count, -1)


def _coverage(length: int) -> NDArray[np.float32]:
    """`(SIDE, length)`: which share of each cell each pixel of a row covers."""
    edges, cells = np.arange(length + 1), np.arange(SIDE + 1)[:, None] * (length / SIDE)
    low, high = np.maximum(edges[:-1], cells[:-1]), np.minimum(edges[1:], cells[1:])
    shares: NDArray[np.float32] = (np.maximum(high - low, 0) * (SIDE / length)).astype(np.float32)
    return shares


def close_groups(thumbnails: NDArray[np.uint8], correlation: float) -> list[NDArray[np.int64]]:
    """Groups of rows linked by pairs whose Pearson correlation is at least `correlation`.

    Each row, less its mean and scaled to length 1, is a point; r >= c means a distance of at most sqrt(2 - 2c). So two
    such points are also that close in each of the main directions (PCA): only such pairs are compared, found by a
    grid over the first two directions and sorting along the third. No pair is missed.

    Args:
        thumbnails: `(N, pixels)`, none of them plain.
        correlation: below 1.

    Returns:
        Groups of two or more, each ascending.
    """
    count = len(thumbnails)
    if count < 2:
        return []
    radius = float(np.sqrt(2 - 2 * correlation)) + 1e-4
    points = thumbnails.astype(np.float32)
    points -= points.mean(axis=1, keepdims=True)
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    if count <= _FEW:  # each with each, without the libraries of linear algebra, which take much memory at first
        few = Groups(count)
        few.join(*np.nonzero(np.einsum("id,jd->ij", points, points) >= correlation))
        return few.result()
    sample = points[:: max(1, count // 4096)]
    _, directions = np.linalg.eigh(sample.T @ sample)
    main = np.ascontiguousarray(points @ directions[:, ::-1][:, :_DIRECTIONS])

    # One number for the place of each point: the cell of the grid, and within it the third coordinate, in 0..2 of 4.
    width = int(2 / radius) + 3
    across, down = np.floor((main[:, 0] + 1) / radius) + 1, np.floor((main[:, 1] + 1) / radius) + 1
    third = main[:, 2].astype(np.float64) + 1
    cell = (across * width + down).astype(np.int64)
    order = np.argsort(cell * 4 + third)
    cell, third, main = cell[order], third[order], main[order]
    place = cell * 4 + third
    fourth = np.ascontiguousarray(main[:, 3])

    groups = Groups(count)
    # The other half of the neighbouring cells finds these points from its side.
    for step in (0, 1, width - 1, width, width + 1):
        near = (cell + step) * 4 + third
        ends = np.searchsorted(place, near + radius, side="right")
        starts = np.searchsorted(place, near - radius) if step else np.arange(1, count + 1)
        numbers = np.maximum(ends - starts, 0)
        for low, high in _portions(numbers, 1_000_000):
            left = np.repeat(np.arange(low, high), numbers[low:high])
            first_of = np.cumsum(numbers[low:high]) - numbers[low:high]
            right = np.arange(len(left)) + np.repeat(starts[low:high] - first_of, numbers[low:high])
            close = np.abs(fourth[left] - fourth[right]) <= radius
            left, right = left[close], right[close]
            for columns in (slice(0, 6), slice(0, _DIRECTIONS)):
                close = ((main[left, columns] - main[right, columns]) ** 2).sum(axis=1) <= radius**2
                left, right = left[close], right[close]
            left, right = order[left], order[right]
            for begin in range(0, len(left), 100_000):
                one, other = groups.apart(left[begin : begin + 100_000], right[begin : begin + 100_000])
                alike = np.einsum("nd,nd->n", points[one], points[other]) >= correlation
                groups.join(one[alike], other[alike])
    return groups.result()


def _portions(numbers: NDArray[np.int64], limit: int) -> Iterator[tuple[int, int]]:
    """Consecutive ranges of positions whose numbers add up to about `limit`."""
    portion = np.cumsum(numbers) // limit
    edges = [0, *(np.flatnonzero(np.diff(portion)) + 1).tolist(), len(numbers)]
    yield from pairwise(edges)


class Groups:
    """Which rows belong together. Every row points to a smaller one of its group or to itself."""

    def __init__(self, count: int) -> None:
        self._parent = np.arange(count)

    def _flatten(self) -> None:
        while not np.array_equal(further := self._parent[self._parent], self._parent):
            self._parent = further

    def apart(self, left: NDArray[np.int64], right: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Those pairs whose rows are not known to belong together."""
        self._flatten()
        open_ = self._parent[left] != self._parent[right]
        return left[open_], right[open_]

    def join(self, left: NDArray[np.int64], right: NDArray[np.int64]) -> None:
        """Put the rows of each pair into one group."""
        while len(left):
            one, other = self._parent[left], self._parent[right]
            np.minimum.at(self._parent, np.maximum(one, other), np.minimum(one, other))
            left, right = self.apart(left, right)

    def numbers(self) -> NDArray[np.int64]:
        """Of each row the smallest of its group."""
        self._flatten()
        return self._parent

    def result(self) -> list[NDArray[np.int64]]:
        self._flatten()
        order = np.argsort(self._parent, kind="stable")
        parts = np.split(order, np.flatnonzero(np.diff(self._parent[order])) + 1)
        return [part for part in parts if len(part) > 1]
