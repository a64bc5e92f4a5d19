"""What the rules share: the numbers that went into a step, and places in them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from ...capture.records import Recording, Ref, Step
from ..terms import Floats, Ints


def tensor_of(recording: Recording, value: Any) -> Tensor:
    """An operand's numbers: what an earlier step gave, or the network's own."""
    tensor: Tensor = recording.steps[value.step].output if isinstance(value, Ref) else value
    return tensor.detach()


def argument(step: Step, position: int, name: str, default: Any = None) -> Any:
    """An argument of the operation, given by place or by name."""
    if position < len(step.arguments):
        return step.arguments[position]
    return step.keywords.get(name, default)


def named(step: Step) -> dict[str, Any]:
    """All arguments of the operation by torch's own names for them."""
    names = [argument.name for argument in step.function._schema.arguments]
    return dict(zip(names, step.arguments, strict=False)) | step.keywords


def doubled(recording: Recording, value: Any) -> Any:
    """Arguments with every tensor of numbers in float64, copies so that nothing recorded can change."""

    def one(leaf: Any) -> Any:
        if isinstance(leaf, Ref):
            leaf = recording.steps[leaf.step].output
        if isinstance(leaf, Tensor):
            wanted = torch.float64 if leaf.is_floating_point() else leaf.dtype
            return leaf.detach().to(wanted, copy=True)
        return leaf

    return tree_map(one, value)


def piece(step: Step, result: Any) -> Tensor:
    """Of an operation's results the one that this step is."""
    if isinstance(result, Tensor):
        return result
    pieces = [leaf for leaf in result if isinstance(leaf, Tensor)]
    return pieces[step.piece]


def floats(tensor: Tensor) -> Floats:
    """A tensor as float64."""
    return tensor.detach().to("cpu", torch.float64).numpy()


def number_at(recording: Recording, tensor: Any, place: Any, default: float) -> float:
    """One of a norm's own numbers; `default` where it has none."""
    return default if tensor is None else float(tensor_of(recording, tensor)[place])


def finds_in(step: Step) -> torch.dtype:
    """The numbers in which torch finds a place."""
    return torch.float64 if step.output.dtype == torch.float64 else torch.float32


def flat_places(shape: Sequence[int], places: Sequence[Any]) -> Ints:
    """Places along each axis as flat positions."""
    return np.asarray(np.ravel_multi_index(tuple(places), tuple(shape)), np.int64)


def flat_place(shape: Sequence[int], place: Sequence[int]) -> Ints:
    """One place as a flat position, `(1,)`."""
    return flat_places(shape, [np.array([i]) for i in place])


def picked(recording: Recording, ref: Any, flat: Ints) -> Floats:
    """The numbers at flat positions of an operand; 0 for padding cells."""
    tensor = tensor_of(recording, ref)
    index = torch.from_numpy(np.maximum(flat, 0))
    values = floats(tensor.reshape(-1)[index.to(tensor.device)])
    return np.where(flat < 0, 0.0, values)


def per_axis(value: Any, axes: int) -> list[int]:
    """A setting as one number for each axis."""
    values = [value] if isinstance(value, int) else list(value)
    return values * axes if len(values) == 1 else values


def aligned(shape: Sequence[int], full: tuple[int, ...]) -> tuple[int, ...]:
    """The place in an operand that is repeated over the output by broadcasting."""
    tail = full[len(full) - len(shape) :]
    return tuple(0 if size == 1 else i for size, i in zip(shape, tail, strict=True))
