"""The out-of-distribution detector: how far an image is from all training images, and from which distance on it is
none that the classes are known by.

The distance is 1 - cosine to the k-th nearest training image in the space of the features (Sun et al. 2022,
"Out-of-Distribution Detection with Deep Nearest Neighbors", https://arxiv.org/abs/2204.06507). A classifier's own
confidence does not measure this: it is trained to choose among its classes, and is often sure of things it has never
seen.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .head import filled_up

NEIGHBOURS = 5
"""The rank of the training image that counts. It is smaller with fewer than 5 times as many training images."""
MOST = 2_000
"""The most training images that are kept, each class in proportion."""
FEWEST = 20
"""With fewer validation images no threshold can be set."""
COVERAGE = 0.99
"""The share of new images of the classes that are to be known, where nothing else is asked for."""
_MARGIN = 1e-5
"""A cosine in float32 is exact to about 1e-6."""
_TENSOR = "ood.features"


@dataclass(frozen=True, kw_only=True)
class OodDetector:
    """What a run knows of its own images.

    Attributes:
        features: float16 `(M, D)` of training images, each of length 1.
        neighbours: the distance is that to the training image of this rank.
        threshold: an image farther away than this is not known.
    """

    features: Tensor
    neighbours: int
    threshold: float

    @classmethod
    def read(cls, tensors: Mapping[str, Tensor], threshold: float | None, neighbours: int) -> OodDetector | None:
        """The detector whose features are among a checkpoint's tensors; None where there is none."""
        if threshold is None or _TENSOR not in tensors:
            return None
        return cls(features=tensors[_TENSOR], neighbours=neighbours, threshold=threshold)

    def tensors(self) -> dict[str, Tensor]:
        """What `read` needs, for a checkpoint."""
        return {_TENSOR: self.features}

    def distances(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """Each image's distance, 0..2: float32 `(N,)` of features `(N, D)`."""
        return distances(self.features, features, self.neighbours)


def distances(known: Tensor, features: NDArray[np.float32], neighbours: int) -> NDArray[np.float32]:
    """1 - cosine to the neighbour of this rank among `known` (rows of length 1): float32 `(N,)`."""
    kept = known.float()
    parts = []
    for batch, count in filled_up(torch.from_numpy(features)):
        rows = torch.nn.functional.normalize(batch, dim=1)
        nearest = (rows @ kept.T).topk(neighbours, dim=1).values[:count, -1]
        parts.append((1 - nearest).numpy())
    return np.concatenate(parts) if parts else np.zeros(0, np.float32)


def fit_ood_detector(
    features: NDArray[np.float32],
    targets: NDArray[np.int64],
    train: NDArray[np.int64],
    validation: NDArray[np.int64],
    coverage: float,
) -> OodDetector | None:
    """Keep training images, and set the threshold by the validation images so that this share of new images of the
    classes is known, see `rank`.

    Args:
        features: float32 `(N, D)` of all images.
        targets: int64 `(N,)`.
        train, validation: their rows.
        coverage: 0..1.

    Returns:
        None if there are too few validation images to set a threshold.
    """
    if len(validation) < FEWEST:
        return None
    rows = _chosen(targets[train])
    known = torch.nn.functional.normalize(torch.from_numpy(features[train[rows]]), dim=1).half()
    neighbours = max(1, min(NEIGHBOURS, len(known) // NEIGHBOURS))
    far = np.sort(distances(known, features[validation], neighbours))
    return OodDetector(features=known, neighbours=neighbours, threshold=_just_above(far, rank(len(far), coverage) - 1))


def rank(images: int, coverage: float) -> int:
    """Which of the sorted distances of `images` validation images, from 1, is the threshold: ceil((n + 1) coverage), at
    most n.

    A new image of the classes takes each of the n + 1 places among them with the same chance, so rank / (n + 1) of such
    images are known, in the mean over draws of the validation images: split conformal prediction (Papadopoulos et al.
    2002, https://doi.org/10.1007/3-540-36755-1_29). More than n / (n + 1) cannot be had.
    """
    exact = Fraction(str(float(coverage))) * (images + 1)  # as it was written: in binary 0.95 is a little less
    return max(1, min(images, math.ceil(exact)))


def enough_for(coverage: float) -> int | None:
    """The fewest validation images by which this share of new images can be known; None: no number is enough."""
    share = Fraction(str(float(coverage)))
    return math.ceil(share / (1 - share)) if share < 1 else None


def _just_above(far: NDArray[np.float32], place: int) -> float:
    """A little above this one of the sorted distances: in another batch the same image's differs in its last digits."""
    own = float(far[place])
    beyond = next((float(other) for other in far[place + 1 :] if other > own), math.inf)
    return own + min(_MARGIN, (beyond - own) / 2)


def _chosen(targets: NDArray[np.int64]) -> NDArray[np.int64]:
    """Positions of at most `MOST` images, evenly through each class."""
    if len(targets) <= MOST:
        return np.arange(len(targets))
    order = np.argsort(targets, kind="stable")
    return np.sort(order[np.linspace(0, len(order) - 1, MOST).astype(np.int64)])
