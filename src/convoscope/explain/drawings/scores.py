"""The scores of the classes as bars with their numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from numpy.typing import ArrayLike
from PIL import Image

from ...render import percent
from .bars import bar_rows
from .blocks import title_line, words
from .sheets import numbers_of, on_sheet

if TYPE_CHECKING:
    from torch import Tensor


def scores_bars(
    scores: Tensor | ArrayLike,
    classes: Sequence[str] = (),
    *,
    probabilities: Tensor | ArrayLike | None = None,
    title: str = "",
    kind: str = "class",
    limit: int = 20,
) -> Image.Image:
    """The scores of the classes as bars with their numbers, of classes the largest in bold.

    At most `limit` classes are shown in their order; of more, the highest scores, the highest first. A single score of
    two classes means the second one above zero, the first one below.

    Args:
        scores: `(K,)` or `(1, K)`.
        classes: names; numbers where there are none.
        probabilities: `(K,)`, shown as percentages.
        title: the heading.
        kind: `class`, `label` or `number`.
        limit: of bars.
    """
    values = numbers_of(scores, "scores").reshape(-1)
    count = len(values)
    single = count == 1 and len(classes) == 2
    names = (
        [f"{classes[1]} (below zero: {classes[0]})"]
        if single
        else [classes[at] if at < len(classes) else str(at) for at in range(count)]
    )
    order = list(range(count))
    ranked = sorted(order, key=lambda at: -values[at] if math.isfinite(values[at]) else math.inf)
    plural = {"class": "classes"}.get(kind, f"{kind}s")
    about = f"{count:,} {kind if count == 1 else plural}" if not single else "one score for two classes"
    if count > limit:
        order = ranked[:limit]
        about += f" · the {limit} highest shown"
    more: list[str] = []
    if probabilities is not None:
        chances = numbers_of(probabilities, "probabilities").reshape(-1)
        more = [percent(float(chances[at])) for at in order]
    best = order.index(ranked[0]) if count > 1 and kind == "class" else -1
    body = bar_rows([float(values[at]) for at in order], [names[at] for at in order], more, best)
    return on_sheet([title_line(title or "Scores"), words(about, colour="muted"), body])
