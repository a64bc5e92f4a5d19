"""Messages that several pages use.

Arrays are sent as base64 text of their little-endian bytes, row by row, channels last. This is shorter and faster than
numbers in JSON, and exact.
"""

from __future__ import annotations

import base64
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import BaseModel, ConfigDict, Field


class Message(BaseModel):
    """Base of all messages: unknown fields are refused, and numbers are finite."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, ser_json_inf_nan="null")


class Refusal(Message):
    """The answer to every request that fails, with a status other than 2xx."""

    code: str = Field(description="A stable name for the cause, such as `image-broken`.")
    message: str = Field(description="One plain sentence.")
    hint: str = Field("", description="One safe action; may be empty.")


class Pixels(Message):
    """A decoded image, uint8 0..255."""

    height: int
    width: int
    channels: Literal[1, 3] = Field(description="1 grey, 3 red, green, blue.")
    values: str = Field(description="base64 of height x width x channels bytes.")
    notes: list[str] = Field([], description="What was done to it, such as scaling down or turning upright.")


class Maps(Message):
    """Feature maps, or another image of real numbers, float64."""

    height: int
    width: int
    channels: int
    values: str = Field(description="base64 of height x width x channels little-endian float64 numbers.")

    @classmethod
    def of(cls, array: ArrayLike) -> Maps:
        """The message of an array `(H, W)` or `(H, W, C)`."""
        numbers = np.asarray(array, dtype="<f8")
        if numbers.ndim == 2:
            numbers = numbers[:, :, None]
        height, width, channels = numbers.shape
        return cls(height=height, width=width, channels=channels, values=base64.b64encode(numbers.tobytes()).decode())


class Session(Message):
    """Who is signed in."""

    version: str
    role: Literal["owner", "student"]


def bytes_of(array: NDArray[Any]) -> str:
    """An array's bytes as base64 text."""
    return base64.b64encode(np.ascontiguousarray(array).tobytes()).decode()
