"""How the images of one class vary in a backbone's eyes, learned from the images that the backbone itself was trained
on.

What makes two images of one class differ there (where a stroke lies, how thick it is) will tell new classes apart no
better, so a new head
shall rest on it less: within-class covariance normalisation (Hatch et al. 2006, "Within-class covariance normalization
    for SVM-based speaker
recognition", https://doi.org/10.21437/Interspeech.2006-183). A few new images could not say what varies; the backbone's
own can. Taken over are the directions of most variance only, and with the mean variance added, so that chance in few
images weighs little.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from .. import data
from ..data import Prepared
from ..errors import DataError, MachineError, ModelFileError
from .backbone import Backbone, open_backbone
from .defaults import small, view_recipe
from .features import Features
from .run import Run

DIRECTIONS = 256
"""So many directions at most."""
IMAGES = 1_000
"""So many of the backbone's own images are asked, each class in proportion."""
FEWEST = 100
"""With fewer of them, beyond one for each class, nothing is learned."""
_VIEWS = 4
"""Looks at each of them where images are small."""
_SPARE = 64
"""So many directions more are computed, for those that count to be exact."""
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
    """The variation of features `(N, D)` of images of classes `targets` `(N,)`, or None where images of a class do not
    differ.
    """
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


def own_images(backbone: Backbone) -> tuple[Prepared | None, str]:
    """Some of the images that a backbone was trained on, in its form.

    Of a run that was relearned these are the images of the run whose backbone it took over: what it knows, it knows
    from them.

    Returns:
        The images, or None where there are none that help; and what there is to be said, in a plain sentence, or
        nothing.
    """
    try:
        run = _taught(backbone)
        if run is None or run.settings.task != "classification":
            return None, ""
        dataset = run.prepared().dataset if run.settings.in_memory else run.dataset()
        train = dataset.indices("train")
        ordered = train[np.argsort(dataset.targets[train], kind="stable")]
        chosen = np.unique(np.linspace(0, len(train) - 1, min(IMAGES, len(train))).astype(np.int64))
        prepared = data.prepare(dataset.select(np.sort(ordered[chosen])), backbone.form)
    except (DataError, ModelFileError, MachineError) as error:
        return (
            None,
            f"all features count alike, for the images that the backbone was trained on cannot be read: {error.reason}",
        )
    count = len(prepared.dataset)
    if count - len(dataset.classes) < FEWEST:
        return None, ""
    return prepared, f"what differs within a class among {count:,} images that the backbone was trained on counts less"


def _taught(backbone: Backbone) -> Run | None:
    """The run that taught the backbone what it knows; None where it comes from elsewhere."""
    run = backbone.run
    while run is not None and run.settings.relearned is not None:
        before = run.settings.relearned
        if not Path(before.backbone).is_absolute():
            return None  # a library's
        try:
            earlier = open_backbone(before.backbone, say=lambda _: None)
        except ModelFileError as error:
            if error.code == "checkpoint-foreign":
                return None
            raise
        places = [earlier, *(earlier.until(feature_layer) for feature_layer in earlier.feature_layers())]
        if all(place.digest != before.digest for place in places):
            raise ModelFileError(before.backbone, "another network is in its place now", code="backbone-changed")
        run = earlier.run
    return run


def whitening_of(backbone: Backbone, own: Prepared | None, device: str) -> Whitening | None:
    """What differs within the classes of these images in the eyes of this backbone, which may be cut."""
    if own is None:
        return None
    source = Features(backbone, device=device, precision="float32")
    rows = np.arange(len(own.dataset))
    features = [source.of(own, rows, exact=True)]
    if small(own):
        recipe = view_recipe(own)
        features += [source.of(own, rows, exact=True, views=recipe, view=view) for view in range(1, _VIEWS)]
    targets = torch.from_numpy(own.dataset.targets.astype(np.int64))
    return fit_whitening(torch.from_numpy(np.concatenate(features)), targets.repeat(len(features)))
