"""The images of the page Tiny."""

from __future__ import annotations

from typing import Annotated

import numpy as np
from fastapi import APIRouter, Query
from numpy.typing import NDArray
from pydantic import Field

from ... import data
from ...data import InputFormat
from ..errors import RequestRefused
from ..messages.common import Message

router = APIRouter(prefix="/api")

_TINY_SETS = ("lines", "shapes", "fruits")
_TINY_TRAIN, _TINY_TEST = 20, 10  # images of each class
_LARGEST_EXACT = 2**53 - 1  # the largest whole number that a page's script represents exactly


class TinyImage(Message):
    """A 5x5 image."""

    pixels: list[float] = Field(description="25 numbers 0..1, row by row; 0 is paper, 1 is ink.")
    label: int = Field(description="Index into the set's classes.")


class TinySet(Message):
    """Images for the network of 19 numbers."""

    name: str
    classes: list[str]
    train: list[TinyImage]
    test: list[TinyImage]


@router.get("/tiny/{name}")
def tiny(name: str, seed: Annotated[int, Query(ge=0, le=_LARGEST_EXACT)] = 0) -> TinySet:
    """A set of 5x5 images with alternating classes; another seed gives other images and another split."""
    if name not in _TINY_SETS:
        raise RequestRefused(
            404, "unknown-set", "there is no such set of images", f"choose one of {', '.join(_TINY_SETS)}"
        )
    dataset = data.load(f"builtin:{name}", seed=seed)

    def images(rows: NDArray[np.int64], each: int) -> list[TinyImage]:
        form = InputFormat(height=5, width=5, channels=1)
        by_class = [rows[dataset.targets[rows] == label][:each] for label in range(len(dataset.classes))]
        return [
            TinyImage(
                pixels=[value / 255 for value in dataset.images.decode(int(row), form).ravel().tolist()], label=label
            )
            for turn in zip(*by_class, strict=True)
            for label, row in enumerate(turn)
        ]

    train = images(dataset.indices("train"), _TINY_TRAIN)
    test = images(dataset.indices("test"), _TINY_TEST)
    return TinySet(name=name, classes=list(dataset.classes), train=train, test=test)
