"""Messages of the page Draw."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from ...models import Role
from .common import Maps, Message, Pixels, Refusal


class Layer(Message):
    """One line of a model's table, for its diagram."""

    name: str
    kind: str
    role: Role = Field(description="What the layer is for; `other`: none of the catalogue's.")
    output: list[int] = Field(description="(height, width, channels) or (units).")
    parameters: int
    text: str = Field(description="As written in the model's text, such as `conv(4)`.")


class PadModel(Message):
    """A network that can be drawn for."""

    id: str
    title: str = Field(
        description="A run's name, or `apple-banana` or `twenty` for the networks that come with the studio."
    )
    ready_made: bool
    classes: list[str]
    state: Literal["ready", "waiting", "making", "stopped", "failed"]
    epoch: int = Field(description="How many epochs are done.")
    epochs: int
    test_accuracy: float | None
    refusal: Refusal | None = Field(None, description="Why its training failed.")


class PadModels(Message):
    """All networks that can be drawn for; `/api/live` sends the same whenever one changes."""

    kind: Literal["models"] = "models"
    models: list[PadModel]
    unreadable: list[str] = Field(
        [], description="The folders of runs that could not be read; the reasons are printed in the terminal."
    )


class PadModelDetail(Message):
    """A network's layers."""

    layers: list[Layer]
    parameters: int


class Answer(Message):
    """A class and its probability."""

    name: str
    probability: float


class LayerMaps(Message):
    """The feature maps of one layer."""

    layer: str
    maps: Maps


class Guess(Message):
    """A network's answer to a drawing."""

    blank: bool = Field(description="Whether nothing was drawn; then there are no answers and no maps.")
    input: Pixels = Field(description="The image that the network received, before normalisation.")
    answers: list[Answer] = Field(description="The most probable first.")
    known: bool | None = Field(
        None, description="Of a run with an out-of-distribution detector, whether it is probably one of the classes."
    )
    layers: list[LayerMaps] = Field(
        description="The feature maps of the convolutions, after their activation, in order."
    )
