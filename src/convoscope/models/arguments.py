"""The arguments of a layer: what each may be, and how its value is read."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

Value = int | float | bool | str | tuple[int, int] | tuple[float, ...]
"""An argument's value: a count, a number, a flag, a word, a size of two sides (height, width), or floats row by row."""

Arguments = Mapping[str, Value | None]
"""All arguments of a layer by name, with the defaults filled in."""

LARGEST_SIZE = 20_000
LARGEST_COUNT = 1_000_000
LARGEST_KERNEL = 31


@dataclass(frozen=True, kw_only=True)
class Argument:
    """One argument of a layer.

    Attributes:
        kind: `count`: a whole number; `size`: `3`, or `3x5` for height 3 and width 5; `number`; `flag`: true or false;
            `word`: one of `words`; `numbers`: the numbers of a square, row by row. A count, a size or numbers may also
            be one of `words`.
        default: None where `meaning` says what is taken instead, or where the argument is required.
    """

    name: str
    kind: Literal["count", "size", "number", "numbers", "flag", "word"]
    meaning: str
    default: Value | None = None
    required: bool = False
    minimum: float = 0
    maximum: float = LARGEST_COUNT
    words: tuple[str, ...] = ()

    @property
    def expected(self) -> str:
        """The accepted values, in words."""
        low, high = f"{self.minimum:,.15g}", f"{self.maximum:,.15g}"
        what = {
            "count": f"a whole number from {low} to {high}",
            "size": f"a size such as 3 or 3x5 (sides from {low} to {high})",
            "number": f"a number from {low} to {high}",
            "numbers": (
                f"the numbers of a square, row by row (1, 4, 9, ... or {LARGEST_KERNEL**2} of them, "
                f"from {low} to {high})"
            ),
            "flag": "true or false",
            "word": "",
        }[self.kind]
        return " or ".join([what, *self.words] if what else self.words)

    def accept(self, value: object) -> Value | None:
        """`value` in its normal form (3x3 is 3, numbers are floats, words are lower case), or None where it is not
        accepted.
        """
        if isinstance(value, str):
            return value.lower() if value.lower() in self.words else None
        if self.kind == "flag" or isinstance(value, bool):
            return value if self.kind == "flag" and isinstance(value, bool) else None
        if self.kind == "number" and isinstance(value, int | float):
            return float(value) if self.minimum <= value <= self.maximum else None
        if self.kind == "numbers" and isinstance(value, int | float | tuple | list):
            return self._accept_numbers(value if isinstance(value, tuple | list) else (value,))
        if self.kind in ("count", "size") and isinstance(value, int):
            return value if self.minimum <= value <= self.maximum else None
        if self.kind == "size" and isinstance(value, tuple | list) and len(value) == 2:
            if not all(type(side) is int and self.minimum <= side <= self.maximum for side in value):
                return None
            return value[0] if value[0] == value[1] else (value[0], value[1])
        return None

    def _accept_numbers(self, values: Sequence[object]) -> tuple[float, ...] | None:
        if not 1 <= len(values) <= LARGEST_KERNEL**2 or math.isqrt(len(values)) ** 2 != len(values):
            return None
        accepted = []
        for value in values:
            if isinstance(value, bool) or not isinstance(value, int | float):
                return None
            if not self.minimum <= value <= self.maximum:
                return None
            accepted.append(float(value) + 0.0)  # no -0, which an int in a text could not tell from 0
        return tuple(accepted)


def pair(value: Value | None) -> tuple[int, int]:
    """A size as (height, width)."""
    if isinstance(value, tuple):
        height, width = value
        return int(height), int(width)
    assert isinstance(value, int)
    return value, value


def size_text(size: tuple[int, ...]) -> str:
    """`(28, 28, 1)` as `28x28x1`."""
    return "x".join(map(str, size))
