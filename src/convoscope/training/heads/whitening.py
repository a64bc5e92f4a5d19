"""Whitening of the within-class covariance: features count less where images of one class differ.

What makes two images of one class differ (the place of a stroke, its thickness) does not help to separate new classes
either, so a new head relies on it less: within-class covariance normalisation (Hatch et al. 2006, "Within-class
covariance normalization for SVM-based speaker recognition", https://doi.org/10.21437/Interspeech.2006-183). It is
fitted on the images that the backbone itself was trained on (`backbone/source_images.py`): the few new ones could not
show what varies. Only the directions of most variance are used, and the mean variance is added, so that chance in few
images weighs little.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

DIRECTIONS = 256
"""The most directions that are used."""
_SPARE = 64
"""How many directions more are computed, so that those that are used are exact."""
_NOTHING = 1e-10
"""A variance below this share of the largest is rounding."""


@dataclass(frozen=True, kw_only=True)
class Whitening:
    """The directions in which images of one class differ most, D features long.

    Attributes:
        directions: float32 `(D, r)`, orthonormal columns.
        kept: float32 `(r,)`, 0..1: what is left of a difference along each: 1 / sqrt(1 + its variance / the mean
            variance).
    """

    directions: Tensor
    kept: Tensor

    def whitened(self, vectors: Tensor) -> Tensor:
        """Vectors `(N, D)` with less of what varies within a class: `(N, D)`.

        The map is symmetric: scores `w . whitened(f)` are `whitened(w) . f`.
        """
        directions, kept = self.directions.to(vectors), self.kept.to(vectors)
        return vectors - ((vectors @ directions) * (1 - kept)) @ directions.T


def fit_whitening(features: Tensor, targets: Tensor) -> Whitening | None:
    """Fit it on features `(N, D)` of images of classes `targets` `(N,)`. None where images of a class do not differ."""
    present, targets = targets.unique(return_inverse=True)
    means = torch.zeros(len(present), features.shape[1]).index_add_(0, targets, features)
    rest = features - (means / targets.bincount()[:, None])[targets]
    mean = float(rest.double().square().mean())
    if not 0 < mean < math.inf:
        return None
    most = min(*rest.shape)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # for the vectors that it begins with
        _, lengths, directions = torch.svd_lowrank(rest, q=min(most, DIRECTIONS + _SPARE), niter=4)
    shares = (lengths[:DIRECTIONS].double().square() / (len(rest) * mean)).float()
    some = shares > _NOTHING * shares[0]
    return Whitening(directions=directions[:, : len(shares)][:, some].contiguous(), kept=(1 + shares[some]).rsqrt())
