"""A network's answers while one image is shifted, turned and scaled, by the geometry of the invariance curves."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import UsageError
from ...geometry import Grid, Pixels, grid, scale, shift, turn

_MOST_BYTES = 1 << 26
"""Bytes that the moved copies of an image take at once, at most."""
Scores = Callable[[Pixels], NDArray[Any]]
"""From images uint8 `(N, H, W, C)` to `(N, K)`, such as `Run.scores`."""


@dataclass(frozen=True, eq=False)
class MovedScores:
    """The answers, float32, one row for each point.

    Attributes:
        points: S shifts in pixels, T turns in degrees against the clock, F factors; see `Grid`.
        untouched: `(K,)`, of the image as it is.
        right, down: `(S, K)`, for each shift that way; negative ones are to the left and up.
        turned: `(T, K)`.
        scaled: `(F, K)`; factors above 1 enlarge.
    """

    points: Grid
    untouched: NDArray[np.float32]
    right: NDArray[np.float32]
    down: NDArray[np.float32]
    turned: NDArray[np.float32]
    scaled: NDArray[np.float32]


def transform_sensitivity(scores: Scores, image: Pixels, points: Grid | None = None) -> MovedScores:
    """Ask for the scores of one image in every position.

    `scores` is called once for each of the five fields, or more often where a field's images would take much memory.

    Args:
        scores: see above.
        image: uint8 `(H, W, C)`, in the network's input size.
        points: None: those of the invariance curves for images of this size.

    Raises:
        UsageError: `image-shape`: no such image; `scores-shape`: not one row of K numbers for each image.
    """
    image = np.asarray(image)
    if image.dtype != np.uint8 or image.ndim != 3 or not image.size:
        raise UsageError(
            "image",
            f"expected one image uint8 (H, W, C); received {image.dtype} of shape {image.shape}",
            code="image-shape",
        )
    pixels = image[None]
    places = grid(*image.shape[:2]) if points is None else points
    outputs: int | None = None
    together = max(1, _MOST_BYTES // image.nbytes)

    def ask(move: Callable[[float], Pixels], places: Sequence[float]) -> NDArray[np.float32]:
        """The answers to the image in all these places."""
        if not places:
            return np.zeros((0, outputs or 0), np.float32)
        parts = [places[begin : begin + together] for begin in range(0, len(places), together)]
        return np.concatenate([answer([move(place) for place in part]) for part in parts])

    def answer(images: list[Pixels]) -> NDArray[np.float32]:
        nonlocal outputs
        answered = np.array(scores(np.concatenate(images)), dtype=np.float32)
        if answered.ndim != 2 or len(answered) != len(images) or answered.shape[1] != (outputs or answered.shape[1]):
            raise UsageError(
                "scores",
                f"expected ({len(images)}, {outputs or 'K'}) numbers for as many images, got {answered.shape}",
                code="scores-shape",
            )
        outputs = answered.shape[1]
        return answered

    return MovedScores(
        points=places,
        untouched=answer([pixels])[0],
        right=ask(lambda step: shift(pixels, right=int(step)), places.shifts),
        down=ask(lambda step: shift(pixels, down=int(step)), places.shifts),
        turned=ask(lambda degrees: turn(pixels, degrees), places.turns),
        scaled=ask(lambda factor: scale(pixels, factor), places.scales),
    )
