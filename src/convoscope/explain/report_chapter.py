"""The report's chapter on what happens inside a run's network."""

from __future__ import annotations

import numpy as np

from ..errors import ConvoscopeError
from ..models import table
from ..render import Section, paragraph, sheet
from ..training import Run
from .inspection import Look, RunInspection, look
from .methods.attribution.catalogue import METHODS

_WORK = 4e10
"""Multiply-adds that the chapter may cost for each of its parts."""


def chapters(run: Run) -> list[Section]:
    """The report's part on what happens inside. Empty where the run's images are gone."""
    try:
        inside = RunInspection.of(run, at_most=300)
        network = run.network()
    except ConvoscopeError:
        return []
    if inside is None:
        return []
    form = run.settings.input
    work = table(network, (form.height, form.width, form.channels), len(run.classes)).multiply_adds
    found = look(run, np.array(inside.pixels[0]))
    markup = [
        paragraph(
            "One image on its way through every layer. Blue is negative, red positive, white zero. "
            "Any of these numbers opens into its arithmetic with: convoscope look RUN IMAGE --why LAYER:CHANNEL,Y,X"
        ),
        sheet(found.overview(), "one image in every layer"),
    ]
    if work * 600 <= _WORK * 3:
        markup += _attributions(inside, found)
    if work * len(inside.pixels) <= _WORK * 2:
        markup += _levels(inside, grow=work * 64 * 6 * 3 <= _WORK) + _features(inside)
    return [Section("inside", "Inside", "".join(markup))]


def _attributions(inside: RunInspection, found: Look) -> list[str]:
    names = [name for name in found.methods() if METHODS[name].in_report]
    if not names:
        return []
    chosen = inside.pixels[:: max(1, len(inside.pixels) // 2)][:2]
    sheets = [look(inside.run, np.array(pixels)).attribution_sheet(names) for pixels in chosen]
    return [
        "<h3>Which part decides</h3>",
        paragraph(
            "Above: each method's answer. Below: the same from a network whose weights were shuffled. "
            "Where both look alike, the map says nothing about what was learned."
        ),
        *(sheet(image, "which part of an image decides") for image in sheets),
    ]


def _levels(inside: RunInspection, *, grow: bool) -> list[str]:
    levels = inside.levels_sheet(channels=2, grow=grow)
    if levels is None:
        return []
    words = (
        f"The patches of {len(inside.pixels):,} images that excite single channels most, "
        "from the first convolution to the last."
    )
    return ["<h3>From edges to parts</h3>", paragraph(words), sheet(levels, "patches that excite channels")]


def _features(inside: RunInspection) -> list[str]:
    features = inside.features_sheet()
    if features is None:
        return []
    words = "Each dot is an image, placed by what goes into the last layer, along the two axes of largest variance."
    return [
        "<h3>How it separates the classes</h3>",
        paragraph(words),
        sheet(features, "feature vectors in two dimensions"),
    ]
