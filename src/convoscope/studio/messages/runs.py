"""Messages about runs."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from .common import Maps, Message


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
        description="The form in which it receives drawings; None if it cannot be drawn for."
    )


class Runs(Message):
    """The runs in the studio's folder."""

    runs: list[RunSummary]
    unreadable: list[str] = Field(
        [], description="The folders that could not be read; the reasons are printed in the terminal."
    )


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
