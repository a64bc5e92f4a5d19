"""Invariance curves: how the accuracy falls when the test images are shifted, turned and scaled.

A network of dense layers ties every weight to one pixel, a convolution sees the same pattern anywhere; the shift curve shows
the difference. Images are uint8 `(N, H, W, C)` in the size that the network gets, before normalisation.

What moves in from outside is filled with the image's own background: the median of its outermost frame of pixels, for each
channel. Shifts are by whole pixels and exact. Turns and scalings are about the centre, bilinear, rounded to uint8; a turn by a
multiple of 90 degrees of a square image is exact.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
KEPT = 0.9
"""The range of a curve is where accuracy stays above this share of the accuracy on the untouched images."""

MULTIPLY_ADDS = 1.5e11
"""What the curves may cost altogether; a costly network is measured on fewer images and, in the end, fewer points."""

COUNTS = (1000, 500, 250, 100)
"""How many images are measured at most. The same seed draws nested samples, so that two runs share images."""


@dataclass(frozen=True)
class Grid:
    """The points of the three curves, ascending, each with the untouched image (shift 0, turn 0, scale 1) among them."""

    shifts: tuple[int, ...]
    turns: tuple[int, ...]
    scales: tuple[float, ...]

    @property
    def passes(self) -> int:
        """How often the images go through the network: each shift sideways and up-down, -180 and 180 degrees once."""
        return 1 + 2 * (len(self.shifts) - 1) + len(self.turns) - 2 + len(self.scales) - 1


def grid(height: int, width: int, *, coarse: bool = False) -> Grid:
    """Shifts up to 2/7 of the shorter side (8 pixels at 28), turns all round, scales from one half to one and a half.

    The coarse grid is a part of the fine one, so that two runs can be compared at the points they share.
    """
    reach = max(1, round(min(height, width) * 2 / 7))
    steps = [round(reach * step / 8) for step in range(0, 9, 2 if coarse else 1)]
    shifts = sorted({sign * step for step in steps for sign in (-1, 1)})
    turns = range(-180, 181, 45 if coarse else 15)
    scales = (5, 7, 9, 10, 11, 13, 15) if coarse else range(5, 16)
    return Grid(tuple(shifts), tuple(turns), tuple(scale / 10 for scale in scales))


def plan(images: int, height: int, width: int, multiply_adds: int | None) -> tuple[int, Grid]:
    """How many images and which points, from the network's multiply-adds for one image (None: not known).

    Depends on nothing that varies from one machine or moment to the next, so that a test can be repeated.
    """
    fine = grid(height, width)
    cost = multiply_adds or height * width * 2000
    for count in COUNTS:
        if fine.passes * cost * count <= MULTIPLY_ADDS:
            return min(images, count), fine
    return min(images, COUNTS[-1]), grid(height, width, coarse=True)


def curves(
    measure: Callable[[Pixels], float],
    pixels: Pixels,
    points: Grid,
    *,
    chance: float,
) -> dict[str, Any]:
    """The three curves of one network.

    Args:
        measure: the accuracy (or R2) on these images after a change, from their pixels; called `points.passes` times.
        pixels: `(N, H, W, C)`.
        points: where to measure.
        chance: what guessing would reach, to be drawn beside the curves.

    Returns:
        `shift`: list of `pixels` (positive to the right and down), `accuracy` (mean of the two axes), `horizontal`, `vertical`;
        `turn`: list of `degrees` (positive against the clock) and `accuracy`; `scale`: list of `factor` (above 1
        is larger) and `accuracy`; `ranges`: of each curve `from` and `to`, or None where it does not rise above chance;
        `kept`, `chance`, `images`.
    """
    untouched = measure(pixels)
    shifts = []
    for step in points.shifts:
        sideways = measure(shift(pixels, right=step)) if step else untouched
        updown = measure(shift(pixels, down=step)) if step else untouched
        shifts.append({"pixels": step, "accuracy": (sideways + updown) / 2, "horizontal": sideways, "vertical": updown})
    turned: dict[int, float] = {0: untouched}
    for degrees in points.turns:
        if degrees == 180 and -180 in turned:
            turned[180] = turned[-180]
        elif degrees not in turned:
            turned[degrees] = measure(turn(pixels, degrees))
    turns = [{"degrees": degrees, "accuracy": turned[degrees]} for degrees in points.turns]
    scales = [
        {"factor": factor, "accuracy": untouched if factor == 1 else measure(scale(pixels, factor))}
        for factor in points.scales
    ]
    threshold = KEPT * untouched
    useful = untouched > chance
    return {
        "shift": shifts,
        "turn": turns,
        "scale": scales,
        "ranges": {
            "shift": kept_range(points.shifts, [row["accuracy"] for row in shifts], 0, threshold) if useful else None,
            "turn": kept_range(points.turns, [row["accuracy"] for row in turns], 0, threshold) if useful else None,
            "scale": kept_range(points.scales, [row["accuracy"] for row in scales], 1, threshold) if useful else None,
        },
        "untouched": untouched,
        "kept": KEPT,
        "chance": chance,
        "images": len(pixels),
    }


def kept_range(
    places: Sequence[float], values: Sequence[float], origin: float, threshold: float
) -> dict[str, float | bool]:
    """How far from `origin`, each way, the curve stays at or above `threshold`, between the points by straight lines.

    Returns `from`, `to`, and for each whether the curve ends there without having fallen (`open_below`, `open_above`).
    """
    start = list(places).index(origin)

    def walk(direction: int) -> tuple[float, bool]:
        at = start
        while 0 <= at + direction < len(places):
            after = at + direction
            if values[after] < threshold:
                share = (values[at] - threshold) / (values[at] - values[after])
                return places[at] + share * (places[after] - places[at]), False
            at = after
        return float(places[at]), True

    low, open_below = walk(-1)
    high, open_above = walk(1)
    return {"from": float(low), "to": float(high), "open_below": open_below, "open_above": open_above}


def background(pixels: Pixels) -> Pixels:
    """The median of each image's outermost frame of pixels, for each channel: uint8 `(N, C)`."""
    count, height, width, channels = pixels.shape
    frame = np.ones((height, width), dtype=bool)
    frame[1:-1, 1:-1] = False
    edge = pixels.reshape(count, height * width, channels)[:, frame.ravel()]
    # The lower of the two middle values of an even number: an average could be a colour that the image has nowhere.
    middle = (edge.shape[1] - 1) // 2
    chosen: Pixels = np.partition(edge, middle, axis=1)[:, middle]
    return chosen


def shift(pixels: Pixels, *, right: int = 0, down: int = 0) -> Pixels:
    """Move whole images by whole pixels; what comes in is background."""
    _, height, width, _ = pixels.shape
    result = np.empty_like(pixels)
    result[:] = background(pixels)[:, None, None, :]
    if abs(right) < width and abs(down) < height:
        rows, columns = _overlap(height, down), _overlap(width, right)
        result[:, rows[1], columns[1]] = pixels[:, rows[0], columns[0]]
    return result


def _overlap(size: int, move: int) -> tuple[slice, slice]:
    """Where the part that stays comes from, and where it goes."""
    kept = size - abs(move)
    return slice(max(0, -move), max(0, -move) + kept), slice(max(0, move), max(0, move) + kept)


def turn(pixels: Pixels, degrees: float) -> Pixels:
    """Turn images about their centre, against the clock for positive angles."""
    angle = math.radians(degrees)
    return _resample(pixels, [[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])


def scale(pixels: Pixels, factor: float) -> Pixels:
    """Enlarge (factor above 1) or shrink images about their centre; the frame keeps its size."""
    return _resample(pixels, [[1 / factor, 0.0], [0.0, 1 / factor]])


def _resample(pixels: Pixels, matrix: list[list[float]], batch: int = 256) -> Pixels:
    """Every pixel (x, y from the centre, y downwards) from the place `matrix @ (x, y)` of the old image, bilinear."""
    import torch
    import torch.nn.functional as F

    _, height, width, _ = pixels.shape
    vertical = torch.arange(height, dtype=torch.float64) - (height - 1) / 2
    horizontal = torch.arange(width, dtype=torch.float64) - (width - 1) / 2
    y, x = torch.meshgrid(vertical, horizontal, indexing="ij")
    (a, b), (c, d) = matrix
    # grid_sample counts from -1 at the left edge of the first pixel to 1 at the right edge of the last.
    places = torch.stack([(a * x + b * y) * 2 / width, (c * x + d * y) * 2 / height], dim=-1).float()
    ground = background(pixels)
    result = np.empty_like(pixels)
    for start in range(0, len(pixels), batch):
        part = slice(start, start + batch)
        base = torch.from_numpy(ground[part].astype(np.float32))[:, :, None, None]
        # Zero outside the image is background once it is added again.
        images = torch.from_numpy(pixels[part].astype(np.float32)).permute(0, 3, 1, 2) - base
        moved = F.grid_sample(images, places.expand(len(images), -1, -1, -1), padding_mode="zeros", align_corners=False)
        result[part] = moved.add_(base).round_().clamp_(0, 255).to(torch.uint8).permute(0, 2, 3, 1).numpy()
    return result


def stratified(targets: NDArray[Any], count: int, seed: int) -> NDArray[np.int64]:
    """`count` rows in ascending order, each class by its share; drawn evenly at random where targets are no class indices."""
    total = len(targets)
    if count >= total:
        return np.arange(total)
    generator = np.random.default_rng(seed)
    if targets.ndim > 1:
        return np.sort(generator.permutation(total)[:count])
    # Shuffled within each class, each row gets its place in the class as a share; the smallest shares are an even draw.
    order = generator.permutation(total)
    shuffled = targets[order]
    by_class = np.argsort(shuffled, kind="stable")
    sizes = np.bincount(shuffled)
    starts = np.repeat(np.cumsum(sizes) - sizes, sizes)
    shares = (np.arange(total) - starts + 0.5) / np.repeat(sizes, sizes)
    chosen = by_class[np.argsort(shares, kind="stable")[:count]]
    return np.sort(order[chosen])
