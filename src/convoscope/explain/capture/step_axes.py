"""What the axes of a recorded step's output mean."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from ...models import Axes, axes_after


class Recorded(Protocol):
    """What is asked of a step."""

    output: Tensor
    operation: str
    arguments: tuple[Any, ...]
    keywords: dict[str, Any]
    opaque: str
    piece: int
    function: Any

    def references(self) -> list[int]: ...


def axes_of_steps(steps: Sequence[Recorded]) -> list[Axes]:
    """The axes of each step's output, in the order of the steps."""
    found: list[Axes] = []

    def known(leaf: Any) -> tuple[Axes, Tensor] | None:
        number = getattr(leaf, "step", None)
        return None if number is None else (found[number], steps[number].output)

    for step in steps:
        found.append(_axes_of(step, known, found, steps))
    return found


def _axes_of(step: Recorded, known: Any, found: Sequence[Axes], steps: Sequence[Recorded]) -> Axes:
    shape = tuple(step.output.shape)
    sources = step.references()
    if not sources:
        return Axes.of_image(shape) if len(shape) == 4 else Axes.unknown_of(shape, "it is no image")
    if step.opaque:
        same = [number for number in sources if tuple(steps[number].output.shape) == shape]
        return found[same[0]] if same else Axes.unknown_of(shape, step.opaque)
    if step.operation in ("identity", "normalise"):
        return found[sources[0]]
    function, arguments, keywords = step.function, step.arguments, step.keywords
    if step.operation == "assemble":
        function, keywords = _assembled, {"places": keywords["places"]}
    made, piece = [step.output], step.piece
    return axes_after(step.operation, function, arguments, keywords, made, known, piece)[0]


def _assembled(*sources: Tensor, places: Tensor) -> Tensor:
    """Numbers taken from several tensors by their places, counted through all of them; below 0: from none."""
    every = torch.cat([source.flatten() for source in sources])
    return torch.where(places >= 0, every[places.clamp(min=0)], 0)
