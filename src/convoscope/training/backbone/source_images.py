"""The images that a backbone was trained on, and the whitening that is fitted on them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from ... import data
from ...data import Prepared
from ...errors import DataError, MachineError, ModelFileError
from ..fit.defaults import small, view_recipe
from ..heads.whitening import Whitening, fit_whitening
from ..runs.run import Run
from .backbone import Backbone
from .features import Features
from .sources import open_backbone

IMAGES = 1_000
"""The most of the backbone's own images that are used, each class in proportion."""
FEWEST = 100
"""With fewer of them, beyond one for each class, nothing is fitted."""
_VIEWS = 4
"""Augmented views of each of them where images are small."""


def own_images(backbone: Backbone) -> tuple[Prepared | None, str]:
    """Some of the images that a backbone was trained on, in its form.

    Of a relearned run these are the images of the run whose backbone it uses: that learned from them.

    Returns:
        The images, or None where there are none that help; and what is to be said, in a plain sentence, or nothing.
    """
    try:
        run = _origin(backbone)
        if run is None or run.settings.task != "classification":
            return None, ""
        dataset = run.prepared().dataset if run.settings.in_memory else run.dataset()
        train = dataset.indices("train")
        ordered = train[np.argsort(dataset.targets[train], kind="stable")]
        chosen = np.unique(np.linspace(0, len(train) - 1, min(IMAGES, len(train))).astype(np.int64))
        prepared = data.prepare(dataset.select(np.sort(ordered[chosen])), backbone.form)
    except (DataError, ModelFileError, MachineError) as error:
        reason = "all features count alike, because the images that the backbone was trained on cannot be read"
        return None, f"{reason}: {error.reason}"
    count = len(prepared.dataset)
    if count - len(dataset.classes) < FEWEST:
        return None, ""
    return prepared, f"what differs within a class among {count:,} images that the backbone was trained on counts less"


def _origin(backbone: Backbone) -> Run | None:
    """The run that trained the backbone; None where it comes from elsewhere."""
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
    """The whitening of this backbone's features, up to the layer where it ends, fitted on these images."""
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
