"""Invariance curves: how the accuracy falls when the test images are shifted, turned and scaled.

A network of dense layers ties every weight to one pixel, a convolution sees the same pattern anywhere; the shift curve
shows the difference. Images are uint8 `(N, H, W, C)` in the size that the network gets, before normalisation. How they
are moved, `geometry.py` says.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..geometry import Grid, Pixels, grid, scale, shift, turn
from .results import Invariance, Range, Ranges, ScalePoint, ShiftPoint, TurnPoint

Move = Callable[[Pixels], Pixels]
"""Moves images; each one by itself, so that it may be given some at a time."""

KEPT = 0.9
"""The range of a curve is where accuracy stays above this share of the accuracy on the untouched images."""

MULTIPLY_ADDS = 1.5e11
"""What the curves may cost altogether; a costly network is measured on fewer images and, in the end, fewer points."""

COUNTS = (1000, 500, 250, 100)
"""How many images are measured at most. The same seed draws nested samples, so that two runs share images."""


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
    measure: Callable[[Move], float],
    images: int,
    points: Grid,
    *,
    chance: float,
    name: str = "accuracy",
) -> Invariance:
    """The three curves of one network.

    Args:
        measure: the accuracy (or R2) on the images after a change; called `points.passes` times.
        images: how many they are.
        points: where to measure.
        chance: what guessing would reach, to be drawn beside the curves. A network that does no better has no ranges.
        name: what `measure` gives, `accuracy` or `R2`.
    """
    untouched = measure(lambda pixels: pixels)
    shifts = []
    for step in points.shifts:
        sideways = measure(partial(shift, right=step)) if step else untouched
        updown = measure(partial(shift, down=step)) if step else untouched
        mean = (sideways + updown) / 2
        shifts.append(ShiftPoint(pixels=step, accuracy=mean, horizontal=sideways, vertical=updown))
    turned: dict[int, float] = {0: untouched}
    for degrees in points.turns:
        if degrees == 180 and -180 in turned:
            turned[180] = turned[-180]
        elif degrees not in turned:
            turned[degrees] = measure(partial(turn, degrees=degrees))
    turns = [TurnPoint(degrees=degrees, accuracy=turned[degrees]) for degrees in points.turns]
    scales = [
        ScalePoint(factor=factor, accuracy=untouched if factor == 1 else measure(partial(scale, factor=factor)))
        for factor in points.scales
    ]

    def kept(
        places: Sequence[float], curve: Sequence[ShiftPoint | TurnPoint | ScalePoint], origin: float
    ) -> Range | None:
        if untouched <= chance:
            return None
        return kept_range(places, [point.accuracy for point in curve], origin, KEPT * untouched)

    return Invariance(
        measure=name,
        shift=shifts,
        turn=turns,
        scale=scales,
        ranges=Ranges(
            shift=kept(points.shifts, shifts, 0),
            turn=kept(points.turns, turns, 0),
            scale=kept(points.scales, scales, 1),
        ),
        untouched=untouched,
        kept=KEPT,
        chance=chance,
        images=images,
    )


def kept_range(places: Sequence[float], values: Sequence[float], origin: float, threshold: float) -> Range:
    """How far from `origin`, each way, the curve stays at or above `threshold`; straight lines join its points."""
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
    return Range(start=float(low), to=float(high), open_below=open_below, open_above=open_above)


def stratified(targets: NDArray[Any], count: int, seed: int) -> NDArray[np.int64]:
    """`count` rows in ascending order, each class by its share; drawn evenly at random where targets are not class
    indices.
    """
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
