"""What the page and the server say to one another; OpenAPI, and from it the page's types, are made of these.

Arrays travel as base64 text of their little-endian bytes, row by row, channels last: shorter and quicker than JSON
numbers, and exact.
"""

from __future__ import annotations

import base64
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import BaseModel, ConfigDict, Field


class Message(BaseModel):
    """Base of all messages: unknown fields are refused, numbers are finite."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, ser_json_inf_nan="null")


class Refusal(Message):
    """Every answer that is no 2xx."""

    code: str = Field(description="A stable name for the cause, such as `image-unreadable`.")
    message: str = Field(description="One plain sentence.")
    hint: str = Field("", description="One safe action; may be empty.")


class Pixels(Message):
    """A decoded image, uint8 0..255."""

    height: int
    width: int
    channels: Literal[1, 3] = Field(description="1 grey, 3 red, green, blue.")
    values: str = Field(description="base64 of height x width x channels bytes.")
    notes: list[str] = Field([], description="What was done to it: scaled down, turned upright, and so on.")


class Maps(Message):
    """Feature maps, or any image of real numbers, float64."""

    height: int
    width: int
    channels: int
    values: str = Field(description="base64 of height x width x channels little-endian float64 numbers.")

    @classmethod
    def of(cls, array: ArrayLike) -> Maps:
        """`(H, W)` or `(H, W, C)`."""
        numbers = np.asarray(array, dtype="<f8")
        if numbers.ndim == 2:
            numbers = numbers[:, :, None]
        height, width, channels = numbers.shape
        return cls(height=height, width=width, channels=channels, values=base64.b64encode(numbers.tobytes()).decode())


class Session(Message):
    """Who asks."""

    version: str
    role: Literal["owner", "student"]


# --- Tiny -------------------------------------------------------------------------------------------------------------


class TinyImage(Message):
    """A 5x5 image."""

    pixels: list[float] = Field(description="25 numbers 0..1, row by row; 0 paper, 1 ink.")
    label: int = Field(description="Index into the set's classes.")


class TinySet(Message):
    """Images for the network of 19 numbers."""

    name: str
    classes: list[str]
    train: list[TinyImage]
    test: list[TinyImage]


# --- Convolve ---------------------------------------------------------------------------------------------------------


class Sample(Message):
    """An image that comes with the package."""

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
        description="(h, w): over each channel by itself; (h, w, C): the sum over all C channels."
    )
    border: Literal["none", "zeros", "reflect", "replicate"] = "none"
    stride: int = Field(1, ge=1, le=64)
    dilation: int = Field(1, ge=1, le=64)


class Relu(Message):
    """Negative numbers become zero."""

    kind: Literal["relu"]


class Pool(Message):
    """The largest, the mean or the sum of each window."""

    kind: Literal["pool"]
    pool: Literal["max", "mean", "sum"] = "max"
    size: int = Field(2, ge=1, le=512)
    stride: int = Field(2, ge=1, le=512)


Step = Annotated[Convolve | Relu | Pool, Field(discriminator="kind")]


class Chain(Message):
    """An image and what is done to it, one step after the other."""

    image: Maps
    steps: list[Step] = Field(min_length=1, max_length=8)


class StepResult(Message):
    """What one step made."""

    maps: Maps
    size_text: list[str] = Field(
        description="The output size's formula with the numbers filled in, for height and width; one entry if they are alike."
    )


class ChainResult(Message):
    """One result a step; a step that cannot be done ends the chain and says why."""

    steps: list[StepResult]
    refusal: Refusal | None = Field(None, description="Why step number len(steps) could not be done.")


# --- runs -------------------------------------------------------------------------------------------------------------


class RunSummary(Message):
    """A finished or unfinished training."""

    id: str
    classes: list[str]
    height: int
    width: int
    channels: int
    model: str
    parameters: int
    epochs: int
    validation_accuracy: float | None
    test_accuracy: float | None
    pad: Literal["drawings", "digits"] | None = Field(
        description="How a drawing is brought into its form; None: it cannot be drawn for."
    )


class Runs(Message):
    """What lies in the studio's folder of runs."""

    runs: list[RunSummary]
    unreadable: list[str] = Field([], description="The folders that could not be read; the terminal says why.")


class FilterLayer(Message):
    """A convolution of a run."""

    name: str
    filters: int
    channels: int
    height: int
    width: int


class FilterLayers(Message):
    """All convolutions of a run."""

    layers: list[FilterLayer]


class Filter(Message):
    """One filter: a kernel for each channel."""

    maps: Maps


# --- Draw -------------------------------------------------------------------------------------------------------------


class Layer(Message):
    """One line of a model's table, for its schematic drawing."""

    name: str
    kind: str
    output: list[int] = Field(description="(height, width, channels) or (units).")
    parameters: int
    text: str = Field(description="As it stands in the model's text, such as `conv(4)`.")


class PadModel(Message):
    """A network that can be drawn for."""

    id: str
    title: str = Field(description="A run's name, or `apple-banana` or `twenty` for those made at the first start.")
    ready_made: bool
    classes: list[str]
    state: Literal["ready", "waiting", "making", "stopped", "failed"]
    epoch: int = Field(description="How far the making is.")
    epochs: int
    test_accuracy: float | None
    refusal: Refusal | None = Field(None, description="Why the making failed.")


class PadModels(Message):
    """All of them; also what `/api/live` sends whenever one changes."""

    kind: Literal["models"] = "models"
    models: list[PadModel]
    unreadable: list[str] = Field([], description="The folders of runs that could not be read; the terminal says why.")


class PadModelDetail(Message):
    """A network's layers."""

    layers: list[Layer]
    parameters: int


class Answer(Message):
    """A class and its probability."""

    name: str
    probability: float


class LayerMaps(Message):
    """What one layer made of the drawing."""

    layer: str
    maps: Maps


class Guess(Message):
    """A network's answer to a drawing."""

    blank: bool = Field(description="Nothing is drawn; then there are no answers and no maps.")
    input: Pixels = Field(description="Exactly what the network received, before normalisation.")
    answers: list[Answer] = Field(description="Most likely first.")
    layers: list[LayerMaps] = Field(
        description="The feature maps of the convolutions, after their activation, in order."
    )


def bytes_of(array: NDArray[Any]) -> str:
    """Base64 of an array's bytes."""
    return base64.b64encode(np.ascontiguousarray(array).tobytes()).decode()
