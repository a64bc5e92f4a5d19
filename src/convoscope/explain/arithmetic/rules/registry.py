"""The catalogue of operations that can be opened: a function for each, registered with `@rule`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from ...capture.records import Recording, Ref, Step
from ..terms import Floats, Form, Ints


@dataclass(eq=False)
class Parts:
    """What a rule finds: n terms, and what is to be done with them."""

    inputs: Floats
    weights: Floats | None
    products: Floats
    sources: Sequence[tuple[Ref | None, Ints]]
    """Runs of terms with the step they come from and their flat positions in its output; -1: a padding cell."""
    words: str
    form: Form = "sum"
    bias: float | None = None
    total: float | None = None
    """The result where it is not the sum of products and bias."""
    roundings: int = 0
    """How often a number is rounded on the way; sets the bound with `magnitude`."""
    magnitude: float | None = None
    """What the roundings are relative to; by default the sum of the absolute products and bias."""
    constants: dict[str, float] = field(default_factory=dict)
    shape: tuple[int, ...] = ()
    """The terms' own shape: (channels, height, width) of a filter."""
    weight_sources: tuple[Ref, Ints] | None = None
    winner: int = -1
    function: tuple[str, tuple[Any, ...], dict[str, Any]] | None = None
    """Of an elementwise function torch's name, and its settings."""


class Rule(Protocol):
    """Lists the terms of one number of a step; `full` is its place in the output, batch axis included."""

    def __call__(self, recording: Recording, step: Step, full: tuple[int, ...]) -> Parts: ...


RULES: dict[str, Rule] = {}
"""torch's name of the operation to its rule."""


def rule(*operations: str) -> Callable[[Rule], Rule]:
    """Register a rule for these operations, by torch's own names (`aten::convolution` is `convolution`)."""

    def put(function: Rule) -> Rule:
        RULES.update(dict.fromkeys(operations, function))
        return function

    return put
