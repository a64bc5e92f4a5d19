"""Messages of the page Tiny."""

from __future__ import annotations

from pydantic import Field

from .common import Message


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
