"""Two datasets as one: the images of both, and the classes of the first, followed by those that only the second
has.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..errors import ConvoscopeError, DataError, printable
from .dataset import GIVEN, KNOWN, TARGET_NOUNS, Dataset, Draw, ImageSource, InputFormat, Outcome, Stamp
from .listing import check_twins
from .sources import PartedRows


class JoinedImages(PartedRows):
    """The images of several sources, all counted through.

    Args:
        sources: the sources.
        rows: which images, in which order; None: all.
    """

    def __init__(self, sources: Sequence[ImageSource], rows: NDArray[np.int64] | None = None) -> None:
        self.sources = tuple(sources)
        super().__init__(map(len, self.sources), rows)

    def select(self, rows: NDArray[np.int64]) -> JoinedImages:
        return JoinedImages(self.sources, self.rows[rows])

    def digest(self, row: int) -> str:
        part, inner = self._place(row)
        return self.sources[part].digest(inner)

    def decode(self, row: int, form: InputFormat) -> NDArray[np.uint8]:
        part, inner = self._place(row)
        return self.sources[part].decode(inner, form)

    def outcomes(self, rows: range, form: InputFormat) -> list[Outcome]:
        results: list[Outcome] = []
        places = [self._place(row) for row in rows]
        begin = 0
        while begin < len(places):
            part, first = places[begin]
            end = begin + 1
            while end < len(places) and places[end] == (part, first + end - begin):
                end += 1
            results += self.sources[part].outcomes(range(first, first + end - begin), form)
            begin = end
        return results

    def stamp(self) -> Stamp | None:
        stamps = [source.stamp() for source in self.sources]
        known = [stamp for stamp in stamps if stamp is not None]
        if len(known) < len(stamps):
            return None
        hasher = hashlib.sha256("joined\0".join(stamp.key for stamp in known).encode())
        hasher.update(self.rows.tobytes())
        return Stamp(hasher.hexdigest(), max(stamp.newest for stamp in known))

    def in_place(self, form: InputFormat) -> NDArray[np.uint8] | None:
        return None


def joined(first: Dataset, second: Dataset) -> Dataset:
    """Both as one, each image in the part that it has. The second's names begin with its source's name.

    What the first has already, under the same label, is left out of the second: an image keeps the part that it has,
    and counts once.

    Raises:
        DataError: one of them has labels or numbers instead of classes (`join-task`), or two of their classes differ
            only in case (`twin-classes`).
    """
    for dataset in (first, second):
        if dataset.task != "classification":
            raise DataError(
                dataset.source,
                f"has {TARGET_NOUNS[dataset.task]}; only images with one class each can be added to others",
                code="join-task",
            )
    new = [name for name in second.classes if name not in first.classes]
    classes = (*first.classes, *new)
    check_twins(second.source, classes)
    columns = np.array([classes.index(name) for name in second.classes], np.int64)
    here = set(zip(_digests(first), first.targets.tolist(), strict=True))
    again = zip(_digests(second), columns[second.targets].tolist(), strict=True)
    fresh = np.array([digest == "" or (digest, label) not in here for digest, label in again], bool)
    notes = second.notes
    if not fresh.all():
        notes += (f"{(~fresh).sum()} of {len(second)} added images are left out, as they are there already",)
        second = second.select(np.flatnonzero(fresh))
    source = Path(second.source)
    stem = printable((source.absolute() if source.exists() else source).name) or "added"
    taken, prefix, number = set(first.names), stem, 2
    while any(f"{prefix}/{name}" in taken for name in second.names):
        prefix, number = f"{stem}-{number}", number + 1
    groups = None
    if first.groups is not None or second.groups is not None:
        groups = [*(first.groups or [""] * len(first)), *(second.groups or [""] * len(second))]
    return replace(
        first,
        groups=groups,
        draw=_joined_draw(first, second),
        classes=classes,
        names=[*first.names, *(f"{prefix}/{name}" for name in second.names)],
        targets=np.concatenate([first.targets, columns[second.targets]]),
        splits=np.concatenate([first.splits, second.splits]),
        images=JoinedImages([first.images, second.images]),
        notes=(*first.notes, *notes),
        split_notes=(*first.split_notes, *second.split_notes),
        skipped=(*first.skipped, *second.skipped),
    )


def _joined_draw(first: Dataset, second: Dataset) -> Draw | None:
    """The second's images are drawn for as they would be alone, but those of the first have their parts for good."""
    if second.draw is None:
        return None if first.draw is None else replace(first.draw, state=_states(first, second, KNOWN, GIVEN))
    return replace(second.draw, state=_states(first, second, KNOWN, GIVEN))


def _states(first: Dataset, second: Dataset, here: int, there: int) -> NDArray[np.int8]:
    one, other = (
        np.full(len(dataset), otherwise, np.int8) if dataset.draw is None else dataset.draw.state
        for dataset, otherwise in ((first, here), (second, there))
    )
    return np.concatenate([one, other])


def _digests(dataset: Dataset) -> Iterator[str]:
    """Each image's content hash; empty where it cannot be read, which `prepare` reports."""
    for row in range(len(dataset)):
        try:
            yield dataset.images.digest(row)
        except ConvoscopeError:
            yield ""
