"""Which images belong together: copies, pictures that look the same, and groups that the user names. A split that is
drawn has them in one part, so that the test is on pictures that the network has not seen in any form.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError, printable
from .dataset import KNOWN, OPEN, Dataset, Draw, Skipped
from .likeness import Groups, Looks
from .split import TEST, TRAIN, draw, strata_of

_LARGE_GROUP: Final = 16
_LARGE_SHARE: Final = 0.1
"""A group that looks the same, is larger than this many images, and is more than this share of all or half of a class
is none of copies: on pictures from one camera everything looks the same.
"""


def named_units(groups: Sequence[str]) -> NDArray[np.int64]:
    """int64 `(N,)`: equal numbers for images of the same group; an image without one is alone."""
    numbers: dict[str, int] = {}
    units = np.arange(len(groups), dtype=np.int64)
    for row, name in enumerate(groups):
        if name:
            units[row] = numbers.setdefault(name, row)
    return units


def check_enough(dataset: Dataset) -> None:
    """Refuse named groups that are too few to be divided.

    Raises:
        DataError: `groups-too-few`.
    """
    if dataset.groups is None or dataset.draw is None:
        return
    wanted = 1 + (dataset.draw.validation > 0) + (dataset.draw.test > 0)
    units = named_units(dataset.groups)[dataset.draw.state == OPEN]
    found = len(np.unique(units))
    if found < wanted:
        names = ", ".join(sorted({printable(name) for name in dataset.groups if name})[:3])
        raise DataError(
            dataset.source,
            f"its images are of {found} group{'' if found == 1 else 's'} ({names}); {wanted} parts need {wanted}",
            hint="name another column or pattern; or draw no test part with --test 0, and test on other images",
            code="groups-too-few",
        )


def without_copies(dataset: Dataset, digests: Sequence[Any]) -> tuple[Dataset, NDArray[np.int64]]:
    """Each picture with each of its labels once, and the rows that stay. The others are in `skipped`.

    Of copies in several parts that of the test part stays, then that of validation: what is given to test on is not
    changed.
    """
    state = np.full(len(dataset), KNOWN, np.int8) if dataset.draw is None else dataset.draw.state
    worth = np.where(state == OPEN, -1, dataset.splits) + 10 * (state == KNOWN)
    kept: dict[Any, int] = {}
    for row in range(len(dataset)):
        key = (digests[row], np.asarray(dataset.targets[row]).tobytes())
        best = kept.setdefault(key, row)
        if worth[row] > worth[best]:
            kept[key] = row
    rows = np.sort(np.fromiter(kept.values(), np.int64, len(kept)))
    if len(rows) == len(dataset):
        return dataset, rows
    left_out = []
    for row in sorted(set(range(len(dataset))) - set(rows.tolist())):
        same = kept[digests[row], np.asarray(dataset.targets[row]).tobytes()]
        left_out.append(Skipped(dataset.names[row], f"is the same picture as {printable(dataset.names[same])}"))
    return replace(dataset.select(rows), skipped=(*dataset.skipped, *left_out)), rows


def kept_together(dataset: Dataset, digests: Sequence[Any], looks: Looks) -> Dataset:
    """The dataset with the images that belong together in one part, as far as their parts were drawn.

    New images join the part of their group in the run. The others are drawn as `split.draw` does, group by group.

    Args:
        dataset: N images that can be read.
        digests: N content hashes.
        looks: what they look like.
    """
    if dataset.draw is None or not (dataset.draw.state == OPEN).any():
        return dataset
    units, too_alike = _units(dataset, digests, looks)
    if len(np.unique(units)) == len(units):
        return _noted(dataset, too_alike, 0, 0)
    splits = dataset.splits.copy()
    free = _joined_known(splits, units, dataset.draw)
    rows = np.flatnonzero(free)
    drawn = dataset.draw
    strata = strata_of(dataset.task, dataset.targets)
    if len(rows):
        names = [dataset.names[row] for row in rows.tolist()]
        splits[rows] = draw(names, strata[rows], drawn.seed, drawn.validation, drawn.test, units[rows])
    sizes = Counter(units[drawn.state == OPEN].tolist())
    groups = [size for size in sizes.values() if size > 1]
    return _noted(replace(dataset, splits=splits), too_alike, len(groups), sum(groups))


def _noted(dataset: Dataset, too_alike: int, groups: int, images: int) -> Dataset:
    """The dataset with what was done in its notes."""
    notes = []
    if groups:
        counts = np.bincount(dataset.splits, minlength=3)
        parts = f"{counts[0]:,} for training, {counts[1]:,} for validation, {counts[2]:,} for the test"
        kinds = "the same or alike, or of one group" if dataset.groups is not None else "the same or look alike"
        notes.append(f"kept together: {images:,} images in {groups:,} groups that are {kinds}; now {parts}")
    if too_alike:
        notes.append(
            f"{too_alike:,} images look so much alike that this says nothing of copies: they are not kept together. If "
            "they come from few objects or videos, name these with --group-pattern or --group"
        )
    return replace(dataset, notes=(*dataset.notes, *notes), split_notes=(*dataset.split_notes, *notes))


def _joined_known(splits: NDArray[np.int8], units: NDArray[np.int64], drawn: Draw) -> NDArray[np.bool_]:
    """Give the open images whose group a run has the part of that group, in place; which are still open, bool `(N,)`.

    A group that a run has in several parts goes where most of it is, to training if that is undecided.
    """
    free: NDArray[np.bool_] = drawn.state == OPEN
    parts: dict[int, list[int]] = defaultdict(lambda: [0, 0, 0])
    for row in np.flatnonzero(drawn.state == KNOWN).tolist():
        parts[int(units[row])][splits[row]] += 1
    for row in np.flatnonzero(free).tolist():
        known = parts.get(int(units[row]))
        if known is None:
            continue
        part = int(np.argmax(known))
        # A source that gives its own test part is not to have another image in it.
        splits[row] = part if part != TEST or drawn.test else TRAIN
        free[row] = False
    return free


def _units(dataset: Dataset, digests: Sequence[Any], looks: Looks) -> tuple[NDArray[np.int64], int]:
    """int64 `(N,)`, which images belong together; and how many look alike but too much so."""
    count = len(dataset)
    groups = Groups(count)
    if dataset.groups is not None:
        groups.join(np.arange(count), named_units(dataset.groups))
    equal: dict[Any, list[int]] = defaultdict(list)
    for row in np.flatnonzero(~looks.plain).tolist():
        equal[digests[row]].append(row)
    same = [np.array(rows) for rows in equal.values() if len(rows) > 1]
    first = np.array([rows[0] for rows in equal.values()], np.int64)
    whole = [np.array([row for one in group.tolist() for row in equal[digests[one]]]) for group in looks.alike(first)]
    too_alike = [rows for rows in whole if _too_large(rows, dataset)]
    together = [rows for rows in [*same, *whole] if not _too_large(rows, dataset)]
    if together:
        groups.join(np.concatenate(together), np.concatenate([np.full(len(rows), rows[0]) for rows in together]))
    return groups.numbers(), sum(map(len, too_alike))


def _too_large(rows: NDArray[np.int64], dataset: Dataset) -> bool:
    """Whether so many images look the same that they cannot be copies of one picture."""
    if len(rows) <= _LARGE_GROUP:
        return False
    if len(rows) > _LARGE_SHARE * len(dataset):
        return True
    if dataset.task != "classification":
        return False
    inside = np.bincount(dataset.targets[rows], minlength=len(dataset.classes))
    whole = np.bincount(dataset.targets, minlength=len(dataset.classes))
    return bool(((inside > _LARGE_GROUP) & (2 * inside > whole)).any())
