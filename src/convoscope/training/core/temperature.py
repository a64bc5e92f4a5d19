"""Temperature scaling: one number by which all raw scores are divided, so that probabilities mean what they say.

It is fitted to the validation images by maximum likelihood. The order of the scores stays, and with it every answer.
Source: Guo et al. 2017, "On Calibration of Modern Neural Networks", https://arxiv.org/abs/1706.04599.

If the network is right on all of these images, likelihood alone would make it infinitely sure. So the targets are those
of Platt 1999 ("Probabilistic Outputs for Support Vector Machines"): with n answers each target keeps 1 - 1 / (n + 2),
and the other answers share the rest.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ...data import Task

FEWEST = 30
"""With fewer validation images no temperature is fitted: it would follow a handful of mistakes."""
COLDEST, HOTTEST = 0.02, 50.0
"""A temperature is sought between these."""
_MOST_SCORES = 1_000_000
"""The most numbers that it is fitted to; of more images some are chosen, evenly."""


def fit_temperature(task: Task, scores: Tensor, targets: Tensor) -> float | None:
    """The temperature that suits these images best.

    Args:
        task: numbers (regression) have none.
        scores: `(N, K)` raw scores of K classes or labels, or `(N, 1)` of two classes.
        targets: `(N,)` classes, or `(N, K)` labels of 0 and 1.

    Returns:
        None for numbers, for scores that are not finite, and with fewer than `FEWEST` images.
    """
    if task == "regression" or len(targets) < FEWEST or not bool(scores.isfinite().all()):
        return None
    return best_temperature(task, scores, targets)


def best_temperature(task: Task, scores: Tensor, targets: Tensor) -> float:
    """As `fit_temperature`, for any number of images from one on.

    The loss is convex in 1 / temperature, so Newton's method, kept between two bounds, finds its only minimum.
    """
    most = max(FEWEST, _MOST_SCORES // scores.shape[1])
    if len(scores) > most:
        rows = torch.linspace(0, len(scores) - 1, most, dtype=torch.float64, device=scores.device).long()
        scores, targets = scores[rows], targets[rows]
    values, truth = scores.detach().double(), targets.to(scores.device)
    derivatives = _of_labels(values, truth) if task == "multi-label" else _of_classes(values, truth.long())
    low, high = 1 / HOTTEST, 1 / COLDEST
    if derivatives(low)[0] >= 0:
        return HOTTEST  # no better than chance: the less sure, the better
    if derivatives(high)[0] <= 0:
        return COLDEST
    inverse = 1.0
    for _ in range(100):
        slope, curvature = derivatives(inverse)
        low, high = (low, inverse) if slope > 0 else (inverse, high)
        step = inverse - slope / curvature if curvature > 0 else low
        if not low < step < high:
            step = (low * high) ** 0.5
        done, inverse = abs(step - inverse) <= 1e-10 * inverse, step
        if done:
            break
    return 1 / inverse


def _of_classes(scores: Tensor, targets: Tensor) -> Callable[[float], tuple[float, float]]:
    """First and second derivative of the mean cross-entropy by the inverse temperature."""
    if scores.shape[1] == 1:
        scores = torch.cat([torch.zeros_like(scores), scores], 1)
    count, classes = scores.shape
    own = scores.gather(1, targets[:, None])[:, 0]
    rest = 1 / (count + 2)
    wanted = (1 - rest) * own + rest * (scores.sum(1) - own) / max(classes - 1, 1)

    def derivatives(inverse: float) -> tuple[float, float]:
        shares = torch.softmax(scores * inverse, 1)
        expected = (shares * scores).sum(1)
        variance = (shares * (scores - expected[:, None]).square()).sum(1)
        return float((expected - wanted).mean()), float(variance.mean())

    return derivatives


def _of_labels(scores: Tensor, targets: Tensor) -> Callable[[float], tuple[float, float]]:
    """The same of the mean binary cross-entropy."""
    rest = 1 / (scores.numel() + 2)
    wanted = targets.double() * (1 - 2 * rest) + rest

    def derivatives(inverse: float) -> tuple[float, float]:
        shares = torch.sigmoid(scores * inverse)
        return float((scores * (shares - wanted)).mean()), float((scores.square() * shares * (1 - shares)).mean())

    return derivatives
