"""QuickDraw bitmaps: one `.npy` file for each class."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from ..errors import DataError
from .array_headers import read_npy_header
from .listing import Listing, check_ordinary, check_twins, is_clutter, natural
from .registry import ReadOptions, layout
from .sources import ArrayImages, Stack


@layout(
    "quickdraw",
    about="QuickDraw bitmaps, one .npy file per class",
    looks_like="one `.npy` of drawings per class",
    order=60,
    claims=lambda contents: contents.count(".npy") > 0,
    folder_only=True,
)
def read_quickdraw(path: Path, options: ReadOptions) -> Listing:
    """QuickDraw bitmaps: one `.npy` a class, `(N, 784)`, `(N, 1, 784)`, `(N, 28, 28)` or colour images; the class is
    the file's name.

    Raises:
        DataError: fewer than two such files, or arrays of another shape.
    """
    files = sorted(
        (file for file in path.glob("*.npy") if not is_clutter(file.name)), key=lambda file: natural(file.stem)
    )
    if not files:
        raise DataError(path, "holds no .npy files, one for each class", code="arrays-missing")
    stacks, names, targets = [], [], []
    classes = tuple(file.stem.removeprefix("full_numpy_bitmap_") for file in files)
    check_twins(path, classes)
    for number, (name, file) in enumerate(zip(classes, files, strict=True)):
        check_ordinary(file, path)
        header = read_npy_header(file)
        if len(header.shape) == 3 and header.shape[1] == 1:
            header = replace(header, shape=(header.shape[0], header.shape[2]))
        stack = Stack(header, file.name)
        stacks.append(stack)
        names += [f"{name}/{row}" for row in range(stack.count)]
        targets.append(np.full(stack.count, number, np.int64))
    ignored = sum(1 for file in path.iterdir() if file not in set(files) and not is_clutter(file.name))
    notes = [f"ignored: {ignored} other files"] if ignored else []
    return Listing("quickdraw", classes, names, np.concatenate(targets), ArrayImages(stacks), notes=notes)
