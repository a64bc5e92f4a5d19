"""A network's answer to one image."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Prediction:
    """A network's answer to one image.

    Attributes:
        path: the image's path, or its position in the list if it was given as an array.
        label: the most likely class, whether it is known or not; for labels those of at least 0.5, joined by `;`; for
            numbers the numbers.
        confidence: the label's probability; for labels the least sure decision's; for numbers None.
        scores: class or number name to probability or number.
        distance: of a run that has an out-of-distribution detector (it was relearned): how far the image is from the
            training images, 0..2, see `OodDetector`; else None.
        known: of such a run, whether the distance is within the threshold. If not, the image probably shows none of the
            classes. Else None.
    """

    path: str
    label: str
    confidence: float | None
    scores: dict[str, float]
    distance: float | None = None
    known: bool | None = None

    def to_json(self) -> dict[str, Any]:
        """As `predict --json` prints it. JSON has no NaN: it becomes None. Runs without an
        out-of-distribution detector have neither distance nor `known`.
        """
        scores = {name: value if math.isfinite(value) else None for name, value in self.scores.items()}
        sure = self.confidence if self.confidence is not None and math.isfinite(self.confidence) else None
        content = {"path": self.path, "label": self.label, "confidence": sure, "scores": scores}
        return content if self.distance is None else content | {"distance": self.distance, "known": self.known}
