"""Where a front ends. Its first layers know edges and corners, its last ones the classes that it was taught; what serves other classes best
lies between (Yosinski et al. 2014, https://arxiv.org/abs/1411.1792), the earlier the fewer and the narrower those classes were.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from ..data import Prepared
from ..errors import UsageError, printable
from .features import Features
from .front import Front
from .head import cross_validated
from .report import Reporter

_WIDEST = 4_096
"""So many numbers an image at most; more would make the run's files large for little."""
_MOST = 1 << 26
"""Numbers of all images together: 256 MiB."""
_TRIED = 1_000
"""Images by which places are compared."""
_FEWEST = 5
"""Images of a class without which nothing is compared."""


def cut_at(front: Front, layer: str) -> Front:
    """The front up to the layer of this name.

    Raises:
        UsageError: `relearn-cut`: the front does not end there, or it can only be taken whole.
    """
    cuts = {cut.layers[-1]: cut for cut in front.cuts()}
    if not cuts:
        reason = f"{printable(front.name)} can only be taken whole"
        raise UsageError("cut", reason, hint="leave --cut out", code="relearn-cut")
    if layer not in cuts:
        raise UsageError(
            "cut",
            f"the front may end behind {', '.join(cuts)}; received {printable(layer)[:80]!r}",
            hint="leave --cut out, and the place is chosen by cross-validation",
            code="relearn-cut",
        )
    return front.until(cuts[layer])


def choose_cut(
    front: Front, prepared: Prepared, *, device: str, seed: int, reporter: Reporter
) -> tuple[Front, tuple[str, ...]]:
    """The front up to the place behind which a linear head does best, by cross-validation on training and validation images.

    Where it can only be taken whole, where features of earlier places would be too many, or where there are hardly any images, it stays whole.

    Returns:
        The front, and what was found, in plain sentences.
    """
    dataset = prepared.dataset
    used = np.concatenate([dataset.indices("train"), dataset.indices("validation")])
    cuts = [cut for cut in front.cuts() if cut.width <= _WIDEST and cut.width * len(dataset) <= _MOST]
    if len(cuts) < 2 or np.bincount(dataset.targets[used], minlength=len(dataset.classes)).min() < _FEWEST:
        return front, ()
    rows = _sample(used, dataset.targets[used], len(dataset.classes), seed)
    targets = torch.from_numpy(np.ascontiguousarray(dataset.targets[rows], np.int64))
    losses = []
    for number, cut in enumerate(cuts):
        reporter.progress("places", number, len(cuts))
        features = Features(front.until(cut), device=device, precision="float32").of(prepared, rows, exact=True)
        losses.append(cross_validated(torch.from_numpy(features), targets, len(dataset.classes), seed))
    reporter.progress("places", len(cuts), len(cuts))
    best = cuts[losses.index(min(losses))]
    told = ", ".join(f"{cut.layers[-1]} {loss:.3f}" for cut, loss in zip(cuts, losses, strict=True))
    note = f"the front ends behind {best.layers[-1]}: {best.width:,} numbers an image; cross-entropy by places: {told}"
    return front.until(best), (note,)


def _sample(rows: NDArray[np.int64], targets: NDArray[np.int64], classes: int, seed: int) -> NDArray[np.int64]:
    """As many rows of each class as make `_TRIED` in all, fewer where a class has not so many."""
    rng = np.random.default_rng(seed)
    most = max(_FEWEST, _TRIED // classes)
    return np.sort(np.concatenate([rng.permutation(rows[targets == label])[:most] for label in range(classes)]))
