"""IDX files as of MNIST."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError, printable
from .array_headers import read_idx_header
from .dataset import SPLITS
from .label_arrays import check_lengths
from .listing import Listing, check_ordinary
from .registry import Contents, ReadOptions, layout
from .sources import ArrayImages, Stack
from .split import TEST, TRAIN, VALIDATION

IDX_NAME: Final = re.compile(
    r"(?P<part>.*?)[-_.]?(?P<what>images|labels)[-_.]idx(?P<axes>[123])[-_.](?:ubyte|int)(?:\.gz)?$", re.IGNORECASE
)
_PART_NAME: Final = re.compile(r"t10k|test(?:ing)?\d*k?|train(?:ing)?|val(?:id(?:ation)?)?", re.IGNORECASE)
_FASHION: Final = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)


def _claims(contents: Contents) -> bool:
    return any(IDX_NAME.match(name) for name in contents.files)


@layout(
    "idx",
    about="IDX files as of MNIST",
    looks_like="MNIST's files and those of its relatives, packed (`.gz`) or not: `train-images-idx3-ubyte`, "
    "`train-labels-idx1-ubyte`, `t10k-...`, `emnist-letters-test-...`",
    order=10,
    claims=_claims,
)
def read_idx(path: Path, options: ReadOptions) -> Listing:
    """IDX files: `train-images-idx3-ubyte` with `train-labels-idx1-ubyte`, `t10k-...` being the test; `.gz` too. Also
    those of EMNIST, QMNIST and others, whose names say more: `emnist-letters-test-images-idx3-ubyte`.

    Raises:
        DataError: a file is missing, damaged or of another size than its partner; or there are several sets.
    """
    folder = path if path.is_dir() else path.parent
    files, folders = _files(path, folder)
    parts = sorted({part for part, _ in files}, key=lambda part: (_split_of(part), part))
    if not parts:
        raise DataError(path, "holds no IDX files such as train-images-idx3-ubyte.gz", code="idx-missing")
    _check_one_set(folder, parts)
    stacks, labels, given, names = [], [], [], []
    numbers = [_split_of(part) for part in parts]
    for part, number in zip(parts, numbers, strict=True):
        for what in ("images", "labels"):
            if (part, what) not in files:
                raise DataError(
                    folder, f"the {what} file that belongs to {part or 'the other'} is missing", code="idx-missing"
                )
        stack = Stack(read_idx_header(files[part, "images"], 3), files[part, "images"].name, axes="NHW")
        values = _label_column(files[part, "labels"])
        check_lengths(files[part, "labels"], stack.count, len(values))
        stacks.append(stack)
        labels.append(_idx_labels(files[part, "labels"], values))
        given.append(np.full(stack.count, number, np.int8))
        prefix = SPLITS[number] if numbers.count(number) == 1 else part or SPLITS[number]
        names += [f"{prefix}/{row}" for row in range(stack.count)]
    classes, targets, notes = _classes_of(path, np.concatenate(labels), options)
    splits = np.concatenate(given) if len(parts) > 1 else None
    if folders:
        notes.append(f"ignored: {folders} folder{'s' * (folders > 1)} named like IDX files")
    return Listing("idx", classes, names, targets, ArrayImages(stacks), given=splits, notes=notes)


def _files(path: Path, folder: Path) -> tuple[dict[tuple[str, str], Path], int]:
    """The files by part and kind, and how many folders have such names. Of one file that is named: it and its
    partner.
    """
    files: dict[tuple[str, str], Path] = {}
    folders = 0
    only = IDX_NAME.match(path.name) if not path.is_dir() else None
    for file in sorted(folder.iterdir(), reverse=True):  # an unpacked file comes after its .gz and is preferred
        match = IDX_NAME.match(file.name)
        if match is None or (only is not None and match["part"].lower() != only["part"].lower()):
            continue
        if file.is_dir():
            folders += 1
            continue
        check_ordinary(file, folder)
        files[match["part"].lower(), match["what"].lower()] = file
    return files, folders


def _split_of(part: str) -> int:
    """Which part of the images it is: the last word for a part decides, wherever in the file's name it is."""
    words = _PART_NAME.findall(part)
    if not words:
        return TRAIN
    return {"tra": TRAIN, "val": VALIDATION}.get(words[-1].lower()[:3], TEST)


def _check_one_set(folder: Path, parts: Sequence[str]) -> None:
    """Refuse the files of several sets in one folder, such as emnist-digits and emnist-letters.

    Raises:
        DataError: `several-sets`.
    """
    sets = {_PART_NAME.sub("", part).strip("-_. "): part for part in parts}
    if len(sets) > 1:
        names = ", ".join(printable(name) or "one without a name" for name in sorted(sets))
        raise DataError(
            folder,
            f"holds the IDX files of {len(sets)} sets ({names}); which of them is meant?",
            hint="put the files of each set into a folder of their own, and name that",
            code="several-sets",
        )


def _label_column(path: Path) -> NDArray[Any]:
    """The labels. QMNIST has eight numbers an image (`idx2`), of which the first is the class."""
    match = IDX_NAME.match(path.name)
    if match is None or match["axes"] != "2":
        return read_idx_header(path, 1).open()
    values: NDArray[Any] = read_idx_header(path, 2).open()[:, 0]
    return values


def _classes_of(
    path: Path, labels: NDArray[np.int64], options: ReadOptions
) -> tuple[tuple[str, ...], NDArray[np.int64], list[str]]:
    """The labels that occur as classes; each image's place among them; and notes."""
    present = np.unique(labels)
    if "fashion" in str(path.resolve()).lower() and int(labels.max(initial=0)) < len(_FASHION):
        known = options.classes is not None and set(options.classes) <= set(_FASHION)
        if len(present) == len(_FASHION) or known:
            note = "the folder's name says Fashion-MNIST, so the classes have its names"
            names = tuple(_FASHION[number] for number in present.tolist())
            return names, np.searchsorted(present, labels), [note]
    return tuple(map(str, present.tolist())), np.searchsorted(present, labels), []


_MOST_IDX_CLASSES: Final = 100_000


def _idx_labels(path: Path, values: NDArray[Any]) -> NDArray[np.int64]:
    """Labels that can be the classes' numbers.

    Raises:
        DataError: they are not whole, negative, or too large.
    """
    sound = np.isfinite(values).all() and bool(((values >= 0) & (values < _MOST_IDX_CLASSES)).all())
    if not sound or bool((values != np.rint(values)).any()):
        raise DataError(
            path, f"expected labels as whole numbers from 0 to {_MOST_IDX_CLASSES - 1:,}", code="labels-range"
        )
    return values.astype(np.int64)
