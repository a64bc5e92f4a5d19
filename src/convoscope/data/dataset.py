"""What a dataset is: labelled images with class names and a fixed train / validation / test split.

A dataset lists images; it does not hold their pixels. `store.py` turns it into one array of pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError
from .table_options import TableOptions
from .tasks import TARGET_NOUNS as TARGET_NOUNS  # noqa: PLC0414 - a dataset's task is part of it
from .tasks import Task as Task  # noqa: PLC0414

SplitName = Literal["train", "validation", "test"]
SPLITS: tuple[SplitName, ...] = ("train", "validation", "test")

Resize = Literal["fit", "crop", "stretch"]
"""`fit`: whole image, rest filled with the background; `crop`: fill the frame, cut the rest; `stretch`: change
the aspect.
"""


@dataclass(frozen=True, kw_only=True)
class InputFormat:
    """How an image of any size and mode becomes the network's input: uint8, height x width x channels.

    `white`: which number becomes 255, of images whose numbers are not those of 8 bits; None: that of their kind, see
    `levels.to_uint8`.
    """

    height: int
    width: int
    channels: int
    resize: Resize = "fit"
    white: int | None = None


@dataclass(frozen=True)
class Skipped:
    """An image left out, and why."""

    path: str
    reason: str


@dataclass(frozen=True)
class TableRows:
    """What became of each row of a table: `total` is `images` and `repeated` and the number of those left out.

    Attributes:
        total: rows under the header, empty ones included.
        images: rows with an image of their own.
        repeated: further rows of an image that has one already.
        left_out: the number of the line and the reason, of each row that names no image to be used.
    """

    total: int
    images: int
    repeated: int = 0
    left_out: tuple[tuple[int, str], ...] = ()


@dataclass(frozen=True)
class Look:
    """What a picture looks like, whatever the network's input is: a grey thumbnail, uint8 `(256,)`, and the longer side
    of the picture that it was made of.
    """

    thumbnail: NDArray[np.uint8]
    side: int


@dataclass(frozen=True)
class Outcome:
    """What became of one image: pixels `(height, width, channels)`, or the error that left it out.

    Attributes:
        digest: 16 bytes, a hash of the file's bytes or of the array's pixels; empty where nothing could be read.
        note: something odd about an image that was accepted.
        even: whether all of it is of one tone, see `levels.even_toned`.
        machine: whether the error came from the machine (disk, share) rather than from the image.
        look: what it looks like; None where it is left out.
    """

    digest: bytes
    pixels: NDArray[np.uint8] | None = None
    error: DataError | None = None
    note: str = ""
    machine: bool = False
    even: bool = False
    look: Look | None = None


class ImageSource(Protocol):
    """Where the pixels of a dataset's images come from."""

    def __len__(self) -> int: ...

    def select(self, rows: NDArray[np.int64]) -> ImageSource:
        """The same images, only these rows, in this order."""
        ...

    def digest(self, row: int) -> str:
        """A hash of the image's content, 32 hexadecimal digits: of its file's bytes, or of its pixels."""
        ...

    def decode(self, row: int, form: InputFormat) -> NDArray[np.uint8]:
        """The image as `(height, width, channels)`.

        Raises:
            DataError: the image cannot be used; the reason says why.
        """
        ...

    def outcomes(self, rows: range, form: InputFormat) -> list[Outcome]:
        """Digest and pixels of several images, read once. Safe to call from several threads."""
        ...

    def stamp(self) -> Stamp | None:
        """What the file system says of all files of these images, or None where only the pixels can show a change."""
        ...

    def in_place(self, form: InputFormat) -> NDArray[np.uint8] | None:
        """All images `(N, height, width, channels)`, where they are in this very form in one array in memory or on the
        disk.
        """
        ...


@dataclass(frozen=True)
class Stamp:
    """A hash over names, sizes, times and inodes: as long as it stays, files need not be read again.

    Attributes:
        key: the hash.
        newest: the latest change of any of the files, in nanoseconds since 1970.
    """

    key: str
    newest: int


OPEN, GIVEN, KNOWN = range(3)
"""Whose choice an image's part is: drawn here, the source's, or that of a run which has the image already."""


@dataclass(frozen=True)
class Draw:
    """How parts are drawn. `prepare`, which sees the pictures, draws once more where some of them are copies.

    Attributes:
        seed: of the draw.
        validation, test: shares of the open images, 0..1.
        state: int8 `(N,)`, `OPEN`, `GIVEN` or `KNOWN`.
    """

    seed: int
    validation: float
    test: float
    state: NDArray[np.int8]


@dataclass(frozen=True, kw_only=True, repr=False)
class Dataset:
    """Labelled images with a fixed split.

    N images; K classes, labels or numbers.

    Attributes:
        source: what was asked for, a path or a name.
        layout: how it was read: one of `convoscope.data.LAYOUTS`, or `builtin`.
        task: what is to be predicted.
        classes: K class names, label names or names of number columns.
        names: N names, unique: a path relative to the source, or `test/17` for images in arrays.
        targets: int64 `(N,)` class indices, uint8 `(N, K)` of 0 and 1 for labels, or float32 `(N, K)` numbers.
        splits: int8 `(N,)`, positions in `SPLITS`.
        images: the pixels' source, in the same order.
        notes: what was guessed or normalised, one plain sentence each, to be printed.
        skipped: images left out.
        split_notes: those of `notes` that say where the split comes from.
        table: how the table was read, if it is one: nothing is open.
        rows: what became of the table's rows.
        groups: N names of groups whose images stay in one part, such as patients; empty: the image is alone.
        group_pattern: the pattern that found them in the images' names.
        dedupe: whether equal images are to count once.
        draw: how the split was drawn; None: it was not.
    """

    source: str
    layout: str
    task: Task
    classes: tuple[str, ...]
    names: Sequence[str]
    targets: NDArray[np.int64] | NDArray[np.uint8] | NDArray[np.float32]
    splits: NDArray[np.int8]
    images: ImageSource
    notes: tuple[str, ...] = ()
    skipped: tuple[Skipped, ...] = field(default=())
    split_notes: tuple[str, ...] = ()
    table: TableOptions | None = None
    rows: TableRows | None = None
    groups: Sequence[str] | None = None
    group_pattern: str | None = None
    dedupe: bool = False
    draw: Draw | None = None

    def __len__(self) -> int:
        return len(self.names)

    def indices(self, split: SplitName) -> NDArray[np.int64]:
        """The rows of one part, ascending."""
        return np.flatnonzero(self.splits == SPLITS.index(split))

    def select(self, rows: NDArray[np.int64]) -> Dataset:
        """The same dataset with these rows only, in this order."""
        return replace(
            self,
            names=[self.names[row] for row in rows],
            targets=self.targets[rows],
            splits=self.splits[rows],
            images=self.images.select(rows),
            groups=None if self.groups is None else [self.groups[row] for row in rows],
            draw=None if self.draw is None else replace(self.draw, state=self.draw.state[rows]),
        )

    def counts(self) -> dict[str, dict[str, int]]:
        """Images of each class (or with each label) in each part: split, then class, to number. Regression counts all
        as `images`.
        """
        result: dict[str, dict[str, int]] = {}
        for position, split in enumerate(SPLITS):
            targets = self.targets[self.splits == position]
            if self.task == "regression":
                result[split] = {"images": len(targets)}
            elif self.task == "multi-label":
                result[split] = {name: int(targets[:, k].sum()) for k, name in enumerate(self.classes)}
            else:
                numbers = np.bincount(targets, minlength=len(self.classes))
                result[split] = {name: int(numbers[k]) for k, name in enumerate(self.classes)}
        return result

    def __repr__(self) -> str:
        from ..render import shorten

        return f"<Dataset {shorten(self.source, 300)}: {self._summary(300)}>"

    def _summary(self, length: int) -> str:
        from ..render import shorten

        parts = [f"{count:,} {part}" for part in SPLITS if (count := len(self.indices(part)))]
        names = shorten(", ".join(shorten(name, 40) for name in self.classes[:50]), length)
        images = f"{len(self):,} image{'' if len(self) == 1 else 's'}" + (f" ({', '.join(parts)})" if parts else "")
        return f"{images}; {len(self.classes):,} {TARGET_NOUNS[self.task]}: {names}"

    def _repr_html_(self) -> str:
        from .dataset_output import dataset_html

        counts = self.counts()
        remarks = [self._summary(200), f"read as {self.layout}", *self.notes[:6]]
        if self.skipped:
            remarks.append(f"{len(self.skipped):,} images left out")
        rows = np.linspace(0, len(self) - 1, min(12, len(self))).astype(np.int64)
        if self.task == "classification":  # one of each class
            rows = np.unique(self.targets, return_index=True)[1][:12]
        form = InputFormat(height=80, width=80, channels=3)
        pictures = [(self.names[row], partial(self.images.decode, row, form)) for row in rows.tolist()]
        kind = {"regression": "", "multi-label": "label"}.get(self.task, "class")
        return dataset_html(self.source, remarks, kind, counts, pictures)
