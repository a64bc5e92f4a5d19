"""`.npy` and `.npz` files with images and labels."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError, printable
from .array_headers import read_npy_header, read_npz_headers
from .dataset import SPLITS
from .label_arrays import check_lengths, read_targets
from .listing import SPLIT_NAMES, Listing, check_ordinary
from .registry import ARRAY_ENDINGS, Contents, ReadOptions, layout
from .sources import ArrayFile, ArrayImages, Stack
from .split import TEST, TRAIN, VALIDATION

_ROLES: Final = {
    **dict.fromkeys(("images", "image", "x", "data", "pixels"), "images"),
    **dict.fromkeys(("labels", "label", "y", "targets", "target", "classes"), "labels"),
    **dict.fromkeys(("names", "class_names", "label_names", "categories"), "names"),
}


_Role = tuple[str, int | None]
"""What an array holds, and of which part: `("images", TRAIN)`; None: of no part."""


def role_of(name: str) -> _Role | None:
    """What an array's name says: `x_train` -> ("images", TRAIN), `labels` -> ("labels", None)."""
    words = [word for word in re.split(r"[\s._-]+", name.removesuffix(".npy").lower()) if word]
    parts = [SPLIT_NAMES[word] for word in words if word in SPLIT_NAMES]
    rest = "_".join(word for word in words if word not in SPLIT_NAMES)
    role = _ROLES.get(rest)
    return (role, parts[0] if parts else None) if role and len(parts) <= 1 else None


def _claims(contents: Contents) -> bool:
    arrays = [name for name in contents.files if name.lower().endswith(ARRAY_ENDINGS)]
    return len(arrays) == 1 or any(role_of(name) for name in arrays)


@layout(
    "arrays",
    about="NumPy arrays (.npy, .npz)",
    looks_like="`.npy` or `.npz`: images and labels, or `x_train`, `y_train`, `x_test`, `y_test`",
    order=50,
    claims=_claims,
)
def read_arrays(path: Path, options: ReadOptions) -> Listing:
    """An `.npz` with images and labels (also `x_train`, `y_train`, `x_test`, `y_test`; `names` for the classes), or
    such `.npy` files.

    Raises:
        DataError: no images or labels among the names, lengths that differ, or arrays of the wrong shape or type.
    """
    arrays = _arrays_at(path)
    found: dict[_Role, ArrayFile] = {}
    ignored: list[str] = []
    for name, array in arrays.items():
        role = role_of(name)
        if role is None or array is None or role in found:
            ignored.append(name)
        else:
            found[role] = array
    parts = _parts(path, found, arrays)
    if None in parts and len(parts) > 1:
        ignored.append("images")
        parts.remove(None)
    stacks, labels, given, names = [], [], [], []
    for part in parts:
        stack = Stack(found["images", part], found["images", part].where)
        values = found["labels", part].open()
        check_lengths(path, stack.count, len(values) if values.ndim else 0)
        stacks.append(stack)
        labels.append(np.asarray(values))
        given.append(np.full(stack.count, part or 0, np.int8))
        prefix = f"{SPLITS[part]}/" if part is not None else "image/"
        names += [f"{prefix}{row}" for row in range(stack.count)]
    class_names = next((found["names", part].open() for part in (None, TRAIN) if ("names", part) in found), None)
    known = None if class_names is None else [str(name) for name in class_names.ravel()]
    task, classes, targets, notes = read_targets(path, _join_labels(path, labels), known)
    if ignored:
        notes.append(f"ignored: the arrays {', '.join(map(printable, ignored))}")
    notes += _stack_notes(stacks)
    splits = np.concatenate(given) if parts != [None] else None
    return Listing("arrays", classes, names, targets, ArrayImages(stacks), task, splits, notes)


def _has_role(name: str) -> bool:
    return role_of(name) is not None


def _arrays_at(path: Path) -> dict[str, ArrayFile | None]:
    """The arrays of an `.npz`, of a folder's only `.npz`, or the `.npy` files of a folder; None for names without a
    role.
    """
    if not path.is_dir() and path.suffix.lower() != ".npy":
        return read_npz_headers(path, _has_role)
    folder = path if path.is_dir() else path.parent
    files = sorted(folder.glob("*.npy"))
    if files:
        if path.is_dir():
            for file in (file for file in files if role_of(file.stem)):
                check_ordinary(file, folder)
        return {file.stem: read_npy_header(file) if role_of(file.stem) else None for file in files}
    packs = sorted(folder.glob("*.npz"))
    if len(packs) != 1:
        raise DataError(
            path, f"expected one .npz file or .npy files; found {len(packs)} .npz files", code="arrays-missing"
        )
    check_ordinary(packs[0], folder)
    return read_npz_headers(packs[0], _has_role)


def _parts(path: Path, found: Mapping[_Role, ArrayFile], arrays: Iterable[str]) -> list[int | None]:
    """The parts that have images; None for images of no part.

    Raises:
        DataError: there are none, or one has no labels.
    """
    parts = [part for part in (TRAIN, VALIDATION, TEST, None) if ("images", part) in found]
    if not parts or any(("labels", part) not in found for part in parts):
        raise DataError(
            path,
            "expected arrays named images and labels, x and y, or x_train, y_train, x_test, y_test; "
            f"found {', '.join(map(printable, arrays)) or 'none'}",
            hint="rename the arrays, or the .npy files",
            code="arrays-missing",
        )
    return parts


def _join_labels(path: object, labels: Sequence[NDArray[Any]]) -> NDArray[Any]:
    shapes = {array.shape[1:] for array in labels}
    if len(shapes) > 1:
        raise DataError(str(path), "the parts have labels of different shapes", code="labels-shape")
    return np.concatenate(labels)


def _stack_notes(stacks: Sequence[Stack]) -> list[str]:
    notes = []
    for stack in stacks:
        shape = f"{stack.count} images of {stack.height} x {stack.width} x {stack.channels}"
        if stack.axes in ("NCHW", "NF"):
            order = "channels come first" if stack.axes == "NCHW" else "each row is one square grey image"
            notes.append(f"{stack.name}: taken as {shape}, {order}")
        notes += stack.notes()
    return notes
