"""IDX files as of MNIST."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError
from .array_headers import read_idx_header
from .dataset import SPLITS
from .label_arrays import check_lengths
from .listing import Listing, check_ordinary
from .registry import Contents, ReadOptions, layout
from .sources import ArrayImages, Stack
from .split import TEST, TRAIN, VALIDATION

IDX_NAME: Final = re.compile(r"(?P<part>.*?)[-_.]?(?P<what>images|labels)[-.]idx[13][-.]ubyte(?:\.gz)?$", re.IGNORECASE)
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
    looks_like="MNIST's files, packed (`.gz`) or not: `train-images-idx3-ubyte`, `train-labels-idx1-ubyte`, `t10k-...`",
    order=10,
    claims=_claims,
)
def read_idx(path: Path, options: ReadOptions) -> Listing:
    """IDX files: `train-images-idx3-ubyte` with `train-labels-idx1-ubyte`, `t10k-...` being the test; `.gz` too.

    Raises:
        DataError: a file is missing, damaged or of another size than its partner.
    """
    folder = path if path.is_dir() else path.parent
    files: dict[tuple[str, str], Path] = {}
    only = IDX_NAME.match(path.name) if not path.is_dir() else None
    for file in sorted(folder.iterdir(), reverse=True):  # an unpacked file comes after its .gz and is preferred
        match = IDX_NAME.match(file.name)
        if match and (only is None or match["part"].lower() == only["part"].lower()):
            check_ordinary(file, folder)
            files[match["part"].lower(), match["what"].lower()] = file
    parts = sorted({part for part, _ in files}, key=lambda part: (part != "train", part))
    if not parts:
        raise DataError(path, "holds no IDX files such as train-images-idx3-ubyte.gz", code="idx-missing")
    stacks, labels, given, names = [], [], [], []
    for part in parts:
        for what in ("images", "labels"):
            if (part, what) not in files:
                raise DataError(
                    folder, f"the {what} file that belongs to {part or 'the other'} is missing", code="idx-missing"
                )
        stack = Stack(read_idx_header(files[part, "images"], 3), files[part, "images"].name, axes="NHW")
        values = read_idx_header(files[part, "labels"], 1).open()
        check_lengths(files[part, "labels"], stack.count, len(values))
        stacks.append(stack)
        labels.append(_idx_labels(files[part, "labels"], values))
        number = TEST if part.startswith(("t10k", "test")) else VALIDATION if part.startswith("val") else TRAIN
        given.append(np.full(stack.count, number, np.int8))
        names += [f"{SPLITS[number]}/{row}" for row in range(stack.count)]
    targets = np.concatenate(labels)
    notes = []
    count = int(targets.max(initial=0)) + 1
    if "fashion" in str(path.resolve()).lower() and count == len(_FASHION):
        classes: tuple[str, ...] = _FASHION
        notes.append("the folder's name says Fashion-MNIST, so the classes have its names")
    else:
        classes = tuple(str(number) for number in range(count))
    return Listing(
        "idx",
        classes,
        names,
        targets,
        ArrayImages(stacks),
        given=np.concatenate(given) if len(parts) > 1 else None,
        notes=notes,
    )


_MOST_IDX_CLASSES: Final = 100_000


def _idx_labels(path: Path, values: NDArray[Any]) -> NDArray[np.int64]:
    """Labels that can be the classes' numbers: every class up to the largest gets a name.

    Raises:
        DataError: they are not whole, negative, or too large.
    """
    sound = np.isfinite(values).all() and bool(((values >= 0) & (values < _MOST_IDX_CLASSES)).all())
    if not sound or bool((values != np.rint(values)).any()):
        raise DataError(
            path, f"expected labels as whole numbers from 0 to {_MOST_IDX_CLASSES - 1:,}", code="labels-range"
        )
    return values.astype(np.int64)
