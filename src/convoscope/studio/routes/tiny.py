"""Images and kernels for the pages Tiny and Convolve; the routes of convolution and of runs are included here."""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
from fastapi import APIRouter, Query
from numpy.typing import NDArray

from ... import data
from ...data import InputFormat
from ...models import KERNELS
from ..messages.common import NamedKernel, Pixels, Sample, TinyImage, TinySet, bytes_of
from ..samples import SAMPLES, sample
from ..state import RequestRefused
from . import convolve, runs

router = APIRouter(prefix="/api")
router.include_router(convolve.router)
router.include_router(runs.router)

_TINY_SETS = ("lines", "shapes", "fruits")
_TINY_TRAIN, _TINY_TEST = 20, 10  # images of each class
_LARGEST_EXACT = 2**53 - 1  # the largest whole number a page counts with exactly


@router.get("/tiny/{name}")
def tiny(name: str, seed: Annotated[int, Query(ge=0, le=_LARGEST_EXACT)] = 0) -> TinySet:
    """A set of 5x5 images, the classes taking turns; another seed draws other images and another split."""
    if name not in _TINY_SETS:
        raise RequestRefused(404, "unknown-set", "there is no such set of tiny images", _one_of(_TINY_SETS))
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


@router.get("/samples")
def samples() -> list[Sample]:
    """The images that come with the package, with their full size."""
    found = []
    for name in SAMPLES:
        height, width, channels = sample(name).shape
        found.append(Sample(id=name, height=height, width=width, channels=_grey_or_colour(channels)))
    return found


@router.get("/samples/{name}")
def sample_pixels(name: str, side: Annotated[int, Query(ge=8, le=512)] = 128) -> Pixels:
    """One of them, its longer side scaled down to `side`, never up."""
    if name not in SAMPLES:
        raise RequestRefused(404, "unknown-sample", "there is no such sample image", _one_of(SAMPLES))
    image = sample(name)
    height, width, channels = image.shape
    notes = []
    if max(height, width) > side:
        form = InputFormat(
            height=max(1, round(height * side / max(height, width))),
            width=max(1, round(width * side / max(height, width))),
            channels=channels,
            resize="stretch",
        )
        image = data.open_image(image, form)
        notes.append(f"scaled down from {width} x {height} to {form.width} x {form.height} pixels")
    return Pixels(
        height=image.shape[0],
        width=image.shape[1],
        channels=_grey_or_colour(channels),
        values=bytes_of(image),
        notes=notes,
    )


@router.get("/kernels")
def kernels() -> list[NamedKernel]:
    """The kernels that have a name, in the order of the handbook."""
    return [NamedKernel(name=kernel.name, rows=[list(row) for row in kernel.rows]) for kernel in KERNELS.values()]


def _grey_or_colour(channels: int) -> Literal[1, 3]:
    return 1 if channels == 1 else 3


def _one_of(names: tuple[str, ...]) -> str:
    return f"choose one of {', '.join(names)}"
