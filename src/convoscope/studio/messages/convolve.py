"""Messages of the page Convolve."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from .common import Maps, Message, Refusal


class Sample(Message):
    """An image that comes with convoscope."""

    id: str
    height: int
    width: int
    channels: Literal[1, 3]


class NamedKernel(Message):
    """A kernel with a name, see `models.KERNELS`."""

    name: str
    rows: list[list[float]]


class Convolve(Message):
    """Slide a kernel over the image."""

    kind: Literal["convolve"]
    kernel: list[list[float]] | list[list[list[float]]] = Field(
        description="(h, w): applied to each channel by itself; (h, w, C): summed over all C channels."
    )
    border: Literal["none", "zeros", "reflect", "replicate"] = "none"
    stride: int = Field(1, ge=1, le=64)
    dilation: int = Field(1, ge=1, le=64)


class Relu(Message):
    """Replace negative numbers by zero."""

    kind: Literal["relu"]


class Pool(Message):
    """Take the largest number, the mean or the sum of each window."""

    kind: Literal["pool"]
    pool: Literal["max", "mean", "sum"] = "max"
    size: int = Field(2, ge=1, le=512)
    stride: int = Field(2, ge=1, le=512)


Step = Annotated[Convolve | Relu | Pool, Field(discriminator="kind")]


class Chain(Message):
    """An image, and the steps that are applied to it one after the other."""

    image: Maps
    steps: list[Step] = Field(min_length=1, max_length=8)


class StepResult(Message):
    """The result of one step."""

    maps: Maps
    size_text: list[str] = Field(
        description="The output size's formula with its numbers, for height and width; one entry if both are equal."
    )


class ChainResult(Message):
    """One result for each step. A step that cannot be done ends the chain and gives the reason."""

    steps: list[StepResult]
    refusal: Refusal | None = Field(None, description="Why step number len(steps) could not be done.")
