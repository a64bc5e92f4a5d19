"""A network's answer to one image."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ...render import Pixels

_MOST_SHOWN = 24
"""How many answers a notebook shows, and of how many the pictures are kept."""
_SIDE = 160
"""About how long a kept picture's longer side is, in pixels."""


@dataclass(frozen=True, repr=False)
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

    def __repr__(self) -> str:
        from ...render import shorten

        sure = "" if self.confidence is None else f", confidence {self.confidence:.3f}"
        known = "" if self.known is None else f", {'known' if self.known else 'not known'}"
        return f"<Prediction {shorten(self.path, 120)}: {shorten(self.label, 120)!r}{sure}{known}>"

    def _repr_html_(self) -> str:
        return _answer_html(self)


class Predictions(list[Prediction]):
    """The answers to several images: a list, which a notebook shows as a table with small pictures."""

    def __init__(self, answers: Iterable[Prediction] = ()) -> None:
        super().__init__(answers)
        self._pictures: list[Pixels | None] = []

    def keep_pictures(self, images: Iterable[Pixels]) -> None:
        """Keep small copies of the images `(H, W, C)` of the answers that come next, as long as they will be shown."""
        for image in images:
            if len(self._pictures) < _MOST_SHOWN:
                step = max(1, max(image.shape[:2]) // _SIDE)
                self._pictures.append(image[::step, ::step].copy())

    def __repr__(self) -> str:
        shown = ", ".join(repr(answer) for answer in self[:3])
        return f"[{shown}{f', and {len(self) - 3:,} more' if len(self) > 3 else ''}]"

    def _repr_html_(self) -> str:
        return _answers_html(self, self._pictures)


def _answers_html(answers: Sequence[Prediction], pictures: Sequence[Pixels | None]) -> str:
    """A table of answers with small pictures, where there are any."""
    from ...render import grid, notebook, shorten, thumbnail

    shown = answers[:_MOST_SHOWN]
    thumbs = [
        thumbnail(pixels, answer.path) if pixels is not None else ""
        for answer, pixels in zip(shown, [*pictures, *[None] * len(shown)], strict=False)
    ]
    header = ["image", "answer", "confidence", "next"]
    if any(answer.known is not None for answer in shown):
        header.append("known")
    rows = []
    for answer in shown:
        sure = answer.confidence is not None and math.isfinite(answer.confidence)
        row = [shorten(answer.path, 60), shorten(answer.label, 40) or "(no label)"]
        row += [_share(answer.confidence) if sure and answer.confidence is not None else "", _next(answer)]
        if len(header) > len(row):
            row.append({True: "yes", False: "no", None: ""}[answer.known])
        rows.append(row)
    some = any(thumbs)
    return notebook(
        grid(header, rows, texts=(0, 1, 3), pictures=thumbs if some else None, more=len(answers) - len(shown))
    )


def _share(value: float) -> str:
    """A probability in percent; 100 % and 0 % only where it is exactly that."""
    if 0 < value < 1:
        return f"{min(max(100 * value, 0.1), 99.9):.1f} %"
    return f"{100 * value:.0f} %"


def _next(answer: Prediction) -> str:
    """The second most likely class, where there is one label with a probability."""
    from ...render import shorten

    if answer.confidence is None or len(answer.scores) < 2 or answer.label not in answer.scores:
        return ""
    name = max((key for key in answer.scores if key != answer.label), key=lambda key: answer.scores[key])
    value = answer.scores[name]
    return f"{shorten(name, 30)} {_share(value)}" if math.isfinite(value) else ""


def _answer_html(answer: Prediction) -> str:
    """One answer: its label, and the largest scores."""
    from ...render import grid, heading, notebook, shorten

    ranked = sorted(answer.scores.items(), key=lambda entry: -entry[1])[:5]
    numbers = answer.confidence is None
    rows = [[shorten(name, 60), f"{value:.4g}" if numbers else _share(value)] for name, value in ranked]
    unknown = "probably none of the classes" if answer.known is False else ""
    title = f"{shorten(answer.path, 80)}: {shorten(answer.label, 80) or '(no label)'}"
    return notebook(
        heading(title, unknown),
        grid(
            ["number" if numbers else "class", "value" if numbers else "probability"],
            rows,
            more=len(answer.scores) - len(ranked),
        ),
    )
