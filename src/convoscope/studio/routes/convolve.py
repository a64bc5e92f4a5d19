"""The page Convolve: sample images, kernels, and chains of convolution and pooling, which `explain` calculates."""

from __future__ import annotations

import base64
import math
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
from fastapi import APIRouter, Query

from ... import data
from ...data import InputFormat
from ...errors import UsageError
from ...models import KERNELS
from ..errors import RequestRefused
from ..messages.common import Maps, Pixels, Refusal, bytes_of
from ..messages.convolve import Chain, ChainResult, Convolve, NamedKernel, Pool, Relu, Sample, StepResult
from ..samples import SAMPLES, sample

if TYPE_CHECKING:
    from ...explain import Numbers

router = APIRouter(prefix="/api")

_LARGEST_SIDE = 512
_MOST_CHANNELS = 3
_LARGEST_KERNEL = 15
_MOST_WORK = 250_000_000
"""Multiply-adds of one request: about half a second."""
_POOL_WORK = 10
"""One number of a pooling window takes as long as this many multiply-adds."""


@router.get("/samples")
def samples() -> list[Sample]:
    """The images that come with convoscope, with their full size."""
    found = []
    for name in SAMPLES:
        height, width, channels = sample(name).shape
        found.append(Sample(id=name, height=height, width=width, channels=_grey_or_colour(channels)))
    return found


@router.get("/samples/{name}")
def sample_pixels(name: str, side: Annotated[int, Query(ge=8, le=512)] = 128) -> Pixels:
    """One sample image, its longer side scaled down to `side`, never up."""
    if name not in SAMPLES:
        raise RequestRefused(
            404, "unknown-sample", "there is no such sample image", f"choose one of {', '.join(SAMPLES)}"
        )
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
    """The named kernels, in the order of the handbook."""
    return [NamedKernel(name=kernel.name, rows=[list(row) for row in kernel.rows]) for kernel in KERNELS.values()]


def _grey_or_colour(channels: int) -> Literal[1, 3]:
    return 1 if channels == 1 else 3


@router.post("/convolve")
def convolve(chain: Chain) -> ChainResult:
    """The result of every step, in float64. A step that cannot be done ends the chain and gives the reason."""
    maps, work = _image(chain.image), 0
    results: list[StepResult] = []
    for step in chain.steps:
        try:
            work += _work(step, maps.shape)
            if work > _MOST_WORK:
                raise UsageError(
                    "steps",
                    f"the steps so far take about {work:,} multiply-adds; the limit is {_MOST_WORK:,}",
                    code="too-much-work",
                    hint="use a smaller image, a smaller kernel or window, or a larger stride",
                )
            maps, size_text = _result(step, maps)
        except UsageError as error:
            refusal = Refusal(code=error.code, message=error.reason, hint=error.hint)
            return ChainResult(steps=results, refusal=refusal)
        results.append(StepResult(maps=Maps.of(maps), size_text=size_text))
    return ChainResult(steps=results, refusal=None)


def _image(image: Maps) -> Numbers:
    """The numbers of an image, `(H, W, C)`.

    Raises:
        RequestRefused: 422; it is too large, or its text does not contain the right numbers.
    """
    height, width, channels = image.height, image.width, image.channels
    sides = 1 <= height <= _LARGEST_SIDE and 1 <= width <= _LARGEST_SIDE
    if not (sides and 1 <= channels <= _MOST_CHANNELS):
        raise RequestRefused(
            422,
            "image-size",
            f"expected an image of 1 to {_LARGEST_SIDE} rows and columns and 1 to {_MOST_CHANNELS} channels; "
            f"received {_short(height)} x {_short(width)} x {_short(channels)}",
            "make the image smaller first",
        )
    expected = height * width * channels * 8
    try:
        content = base64.b64decode(image.values, validate=True)
    except ValueError:
        raise RequestRefused(422, "image-encoding", "the image's numbers are not valid base64") from None
    if len(content) != expected:
        raise RequestRefused(
            422,
            "image-length",
            f"{height} x {width} x {channels} numbers take {expected:,} bytes; received {len(content):,}",
        )
    return np.frombuffer(content, "<f8").reshape(height, width, channels).astype(np.float64)


def _short(number: int) -> str:
    # Python writes no whole number of more than 4,300 digits.
    return str(number) if abs(number) < 10**9 else "a very large number"


def _work(step: Convolve | Relu | Pool, shape: tuple[int, ...]) -> int:
    """An upper estimate of the multiply-adds that a step takes."""
    height, width, channels = shape
    if isinstance(step, Relu):
        return height * width * channels
    places = math.ceil(height / step.stride) * math.ceil(width / step.stride) * channels
    if isinstance(step, Convolve):
        rows, columns = len(step.kernel), max(map(len, step.kernel), default=0)
        if max(rows, columns) > _LARGEST_KERNEL:
            raise UsageError(
                "kernel",
                f"expected a kernel of at most {_LARGEST_KERNEL}x{_LARGEST_KERNEL}; received {rows}x{columns}",
                code="kernel-over-limit",
            )
        return places * rows * columns
    if step.size > min(height, width):
        return 0
    down, across = ((side - step.size) // step.stride + 1 for side in (height, width))
    return down * across * channels * step.size * step.size * _POOL_WORK


def _result(step: Convolve | Relu | Pool, maps: Numbers) -> tuple[Numbers, list[str]]:
    """The result of a step, `(H, W, C)`, and the formula of its size.

    Raises:
        UsageError: the step cannot be done.
    """
    from ... import explain  # imports torch

    height, width = maps.shape[:2]
    with np.errstate(over="ignore", invalid="ignore"):
        if isinstance(step, Convolve):
            made = explain.convolve(maps, step.kernel, border=step.border, stride=step.stride, dilation=step.dilation)
            rows, columns = len(step.kernel), len(step.kernel[0])
            padding = (
                (0, 0)
                if step.border == "none"
                else (explain.border_cells(rows, step.dilation), explain.border_cells(columns, step.dilation))
            )
            size_text = [
                explain.output_size_text(height, rows, step.stride, step.dilation, padding[0]),
                explain.output_size_text(width, columns, step.stride, step.dilation, padding[1]),
            ]
        elif isinstance(step, Pool):
            made = explain.pool(maps, step.pool, step.size, step.stride)
            size_text = [explain.output_size_text(side, step.size, step.stride) for side in (height, width)]
        else:
            if not np.isfinite(maps).all():
                raise UsageError("image", "expected finite numbers", code="image-numbers")
            made, size_text = np.maximum(maps, 0), []
    if not np.isfinite(made).all():
        raise UsageError(
            "steps",
            "a result of this step is larger than the largest float64 number (1.8e308)",
            code="numbers-too-large",
            hint="use smaller numbers",
        )
    return made[:, :, None] if made.ndim == 2 else made, list(dict.fromkeys(size_text))
