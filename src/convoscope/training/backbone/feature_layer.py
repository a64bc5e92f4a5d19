"""Where a backbone ends. Its first layers find edges and corners, its last ones the classes that it was trained on.

What serves other classes best is in between (Yosinski et al. 2014, https://arxiv.org/abs/1411.1792), the earlier the
fewer and the narrower the backbone's own classes were.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from ...data import Prepared
from ...errors import UsageError, printable
from ..core.reporter import Reporter
from ..heads.head import cross_validated
from .backbone import Backbone
from .features import Features, Precision
from .source_images import whitening_of

_WIDEST = 4_096
"""The most numbers an image; more would make the run's files large for little gain."""
_MOST = 1 << 25
"""Numbers of all images and their views together: 128 MiB, of which a few copies are made."""
_TRIED = 1_000
"""How many images layers are compared by."""
_FEWEST = 5
"""With fewer images of a class nothing is compared."""


def feature_layer_at(backbone: Backbone, layer: str, *, whole: bool = False) -> Backbone:
    """The backbone up to the layer of this name. `whole`: without a layer it would be used whole.

    Raises:
        UsageError: `relearn-feature-layer`: the backbone does not end there, or it can only be used whole.
    """
    feature_layers = {feature_layer.layers[-1]: feature_layer for feature_layer in backbone.feature_layers()}
    if not feature_layers:
        reason = f"{printable(backbone.name)} can only be used whole"
        raise UsageError("feature_layer", reason, hint="leave --feature-layer out", code="relearn-feature-layer")
    if layer not in feature_layers:
        otherwise = "the whole backbone is used" if whole else "cross-validation chooses"
        raise UsageError(
            "feature_layer",
            f"the backbone may end after {', '.join(feature_layers)}; received {printable(layer)[:80]!r}",
            hint=f"leave --feature-layer out, and {otherwise}",
            code="relearn-feature-layer",
        )
    return backbone.until(feature_layers[layer])


def choose_feature_layer(
    backbone: Backbone,
    prepared: Prepared,
    *,
    own: Prepared | None,
    augmented_views: int,
    device: str,
    precision: Precision | Literal["auto"],
    seed: int,
    reporter: Reporter,
) -> tuple[Features, tuple[str, ...]]:
    """The backbone up to the layer on which a linear head does best, by cross-validation on training and validation
    images.

    It stays whole where it can only be used whole, where it has too many features, or where there are hardly any
    images.

    Args:
        backbone: as it is.
        prepared: images in its form.
        own: some of the images that it was trained on.
        augmented_views: how many versions of each the head will learn from.
        device, precision: as for `Features`.
        seed: decides which images serve, and the folds.
        reporter: hears how far it is.

    Returns:
        What gives the shortened backbone's features, and what was found, in plain sentences.
    """
    dataset = prepared.dataset
    train, validation = dataset.indices("train"), dataset.indices("validation")
    used, classes = np.concatenate([train, validation]), len(dataset.classes)
    fits = [
        feature_layer
        for feature_layer in backbone.feature_layers()
        if feature_layer.width <= _WIDEST and feature_layer.width * len(dataset) * augmented_views <= _MOST
    ]
    counts = np.bincount(dataset.targets[used], minlength=classes)
    if (
        len(fits) < 2
        or fits[-1] != backbone.feature_layers()[-1]
        or counts.min() < _FEWEST
        or classes * _FEWEST > _TRIED
    ):
        return Features(backbone, device=device, precision=precision), ()
    rows = _sample(used, dataset.targets[used], classes, seed)
    targets = torch.from_numpy(np.ascontiguousarray(dataset.targets[rows], np.int64))
    sources, losses = [], []
    for number, feature_layer in enumerate(fits):
        reporter.progress("layers", number, len(fits))
        source = Features(backbone.until(feature_layer), device=device, precision=precision)
        features = np.empty((len(rows), feature_layer.width), np.float32)
        for part, exact in ((train, False), (validation, True)):
            inside = np.isin(rows, part)
            if inside.any():
                features[inside] = source.of(prepared, rows[inside], exact=exact)
        sources.append(source)
        vectors = torch.from_numpy(features)
        whitening = whitening_of(source.backbone, own, device)
        whitened = vectors if whitening is None else whitening.whitened(vectors)
        losses.append(cross_validated(whitened, targets, classes, seed))
    reporter.progress("layers", len(fits), len(fits))
    best = losses.index(min(losses))
    compared = ", ".join(f"{layer.layers[-1]} {loss:.3f}" for layer, loss in zip(fits, losses, strict=True))
    note = (
        f"the backbone ends after {fits[best].layers[-1]}: {fits[best].width:,} numbers an image; "
        f"cross-entropy by layer: {compared}"
    )
    return sources[best], (note,)


def _sample(rows: NDArray[np.int64], targets: NDArray[np.int64], classes: int, seed: int) -> NDArray[np.int64]:
    """`_TRIED` rows in all, as many of each class, fewer where a class does not have that many."""
    rng = np.random.default_rng(seed)
    most = _TRIED // classes
    return np.sort(np.concatenate([rng.permutation(rows[targets == label])[:most] for label in range(classes)]))
