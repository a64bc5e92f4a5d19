"""What an array of labels means: classes, any number of labels for each image, or numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError
from .dataset import Task
from .listing import natural


def check_lengths(where: object, images: int, labels: int) -> None:
    if images != labels:
        raise DataError(str(where), f"there are {images} images but {labels} labels", code="lengths-differ")


Targets = tuple[Task, tuple[str, ...], NDArray[Any], list[str]]
"""The task, names of the classes, labels or numbers, the targets as of `Dataset`, and notes."""


def read_targets(source: object, labels: NDArray[Any], class_names: Sequence[str] | None) -> Targets:
    """What an array of labels means.

    - one axis of whole numbers or texts: classes
    - `(N, 1)` of those: the same
    - `(N, K)` of 0 and 1 with one 1 in each row: classes, one-hot; with any number of 1s: labels
    - floats, one axis or `(N, K)`: numbers to predict, unless they are whole numbers 0..K-1 of one axis

    Raises:
        DataError: none of these, or more classes than names.
    """
    if labels.dtype.hasobject or labels.dtype.kind not in "biufSU" or labels.ndim not in (1, 2):
        raise DataError(
            str(source),
            f"expected labels as numbers or texts; received {labels.dtype} {labels.shape}",
            code="labels-shape",
        )
    if labels.dtype.kind == "f" and not np.isfinite(labels).all():
        raise DataError(str(source), "the labels hold NaN or infinity", code="labels-shape")
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim == 2:
        return _rows(source, labels, class_names)
    if labels.dtype.kind in "SU":
        return _texts(labels)
    if labels.dtype.kind == "f" and not _whole(labels):
        name = class_names[0] if class_names is not None and len(class_names) == 1 else "value"
        notes = ["the labels are one number for each image, to be predicted as a number"]
        return "regression", (name,), labels.astype(np.float32)[:, None], notes
    return _indices(source, labels.astype(np.int64), class_names)


def _rows(source: object, labels: NDArray[Any], class_names: Sequence[str] | None) -> Targets:
    """Labels `(N, K)`."""
    width = labels.shape[1]
    columns = tuple(map(str, range(width)))
    if class_names is not None and len(class_names) == width:
        columns = tuple(class_names)
    if labels.dtype.kind in "SU":
        raise DataError(str(source), f"expected one label for each image; received {labels.shape}", code="labels-shape")
    if not np.isin(labels, (0, 1)).all():
        note = f"the labels are {width} numbers for each image, to be predicted as numbers"
        return "regression", columns, labels.astype(np.float32), [note]
    if (labels.sum(axis=1) == 1).all():
        note = "the labels are one-hot rows: one class for each image"
        return "classification", columns, labels.argmax(axis=1).astype(np.int64), [note]
    note = "the labels are rows of 0 and 1: any number of labels for each image"
    return "multi-label", columns, labels.astype(np.uint8), [note]


def _texts(labels: NDArray[Any]) -> Targets:
    texts = [value.decode("utf-8", "replace") if isinstance(value, bytes) else value for value in labels.tolist()]
    classes = tuple(sorted(set(texts), key=natural))
    position = {name: number for number, name in enumerate(classes)}
    return "classification", classes, np.array([position[text] for text in texts], np.int64), []


def _whole(labels: NDArray[Any]) -> bool:
    """Whether floats are classes' numbers: whole, not negative, and each for many images."""
    whole = bool((labels == np.rint(labels)).all()) and labels.min(initial=0) >= 0
    return whole and len(np.unique(labels)) <= max(2, len(labels) // 10)


def _indices(source: object, numbers: NDArray[np.int64], class_names: Sequence[str] | None) -> Targets:
    """Whole numbers, which are the places of the class names where there are names."""
    present = np.unique(numbers)
    if class_names is None:
        return "classification", tuple(map(str, present.tolist())), np.searchsorted(present, numbers), []
    classes = tuple(class_names)
    if len(present) and (present[0] < 0 or present[-1] >= len(classes)):
        wrong = present[-1] if present[0] >= 0 else present[0]
        raise DataError(str(source), f"label {wrong} has no name; there are {len(classes)} names", code="labels-range")
    if len(present) == len(classes):
        return "classification", classes, numbers, []
    note = f"{len(classes) - len(present)} of {len(classes)} class names have no image and are left out"
    return "classification", tuple(classes[k] for k in present), np.searchsorted(present, numbers), [note]
