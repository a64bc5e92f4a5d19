"""Operations that work number by number."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map

from ...capture.records import Recording, Ref, Step
from ..terms import Ints
from .operands import aligned, argument, flat_place, picked, piece, tensor_of
from .registry import Parts, rule


def _operand(recording: Recording, value: Any, full: tuple[int, ...]) -> tuple[float, Ints]:
    """A number of an elementwise operand and its flat place."""
    if not isinstance(value, Ref | Tensor):
        return float(value), np.zeros(1, np.int64)
    tensor = tensor_of(recording, value)
    place = aligned(tensor.shape, full)
    flat = flat_place(tensor.shape, place) if place else np.zeros(1, np.int64)
    return float(picked(recording, value, flat)[0]), flat


@rule("add", "sub", "rsub")
def addition(recording: Recording, step: Step, full: tuple[int, ...]) -> Parts:
    """A sum or a difference."""
    signs = {"add": (1.0, 1.0), "sub": (1.0, -1.0), "rsub": (-1.0, 1.0)}[step.operation]
    alpha = float(argument(step, 2, "alpha", 1))
    factors = (
        signs[0] * (alpha if step.operation == "rsub" else 1),
        signs[1] * (1 if step.operation == "rsub" else alpha),
    )
    inputs, weights, sources, bias = [], [], [], None
    for value, factor in zip(step.arguments[:2], factors, strict=True):
        number, flat = _operand(recording, value, full)
        if isinstance(value, Ref):
            inputs.append(number)
            weights.append(factor)
            sources.append((value, flat))
        else:
            bias = number * factor
    one, two = np.array(inputs), np.array(weights)
    words = {"add": "sum", "sub": "difference", "rsub": "difference"}[step.operation]
    return Parts(one, two, one * two, sources, f"{words} of two numbers", bias=bias, roundings=2)


@rule("mul", "div")
def multiplication(recording: Recording, step: Step, full: tuple[int, ...]) -> Parts:
    """A product or a quotient."""
    first, second = step.arguments[:2]
    divides = step.operation == "div"
    if divides and (argument(step, 2, "rounding_mode") or not isinstance(first, Ref)):
        return pointwise(recording, step, full)
    if not isinstance(first, Ref):
        first, second = second, first
    one, flat = _operand(recording, first, full)
    two, other = _operand(recording, second, full)
    factor = 1 / two if divides else two
    return Parts(
        np.array([one]),
        np.array([factor]),
        np.array([one * factor]),
        [(first, flat)],
        "quotient of two numbers" if divides else "product of two numbers",
        "quotient" if divides else "sum",
        roundings=2,
        weight_sources=(second, other) if isinstance(second, Ref) else None,
        constants={"divisor": two} if divides else {},
    )


@rule("glu")
def gated(recording: Recording, step: Step, full: tuple[int, ...]) -> Parts:
    """One half times the sigmoid of the other."""
    source = step.arguments[0]
    taken = tensor_of(recording, source)
    axis = int(argument(step, 1, "dim", -1)) % taken.ndim
    other = [i + (taken.shape[axis] // 2 if d == axis else 0) for d, i in enumerate(full)]
    flat = np.concatenate([flat_place(taken.shape, full), flat_place(taken.shape, other)])
    inputs = picked(recording, source, flat)
    total = float(inputs[0] / (1 + np.exp(-inputs[1])))
    words = "one number times the sigmoid of another"
    return Parts(
        inputs, None, inputs, [(source, flat)], words, "function", total=total, roundings=8, magnitude=abs(total)
    )


_STRAIGHT = frozenset({"relu", "leaky_relu", "hardtanh", "clamp", "clamp_min", "neg", "abs", "threshold"})
"""Piecewise linear: each number times a slope, unless it stops at a limit."""


# Elementwise, though torch does not mark them so.
@rule(
    "hardswish", "hardsigmoid", "hardshrink", "softshrink", "prelu", "_prelu_kernel", "log_sigmoid_forward",
    "_to_copy", "floor_divide",
)  # fmt: skip
def pointwise(recording: Recording, step: Step, full: tuple[int, ...]) -> Parts:
    """Any function that works number by number: the function itself, in float64, on the numbers of this place."""
    numbers: list[float] = []
    sources: list[tuple[Ref | None, Ints]] = []

    def one(leaf: Any) -> Any:
        if not isinstance(leaf, Ref | Tensor):
            return leaf
        number, flat = _operand(recording, leaf, full)
        if isinstance(leaf, Ref):
            numbers.append(number)
            sources.append((leaf, flat))
        original = tensor_of(recording, leaf)
        return torch.tensor([number], dtype=torch.float64 if original.is_floating_point() else original.dtype)

    arguments, keywords = tree_map(one, (step.arguments, step.keywords))
    with torch.no_grad():
        result = float(piece(step, step.function(*arguments, **keywords)))
    inputs = np.array(numbers)
    straight = step.operation in _STRAIGHT and len(numbers) == 1
    weights = None
    if straight and (inputs[0] == 0 or result == 0 or abs(result) <= abs(inputs[0])):
        # relu and the like multiply by a slope, unless they stop at a limit.
        slope = 0.0 if result == 0 else result / float(inputs[0])
        if step.operation in ("relu", "leaky_relu", "neg", "abs") or slope in (0.0, 1.0):
            weights = np.array([slope])
    # A slope is rounded to float32, and so is a limit such as 0.7.
    exact = straight and step.operation != "leaky_relu" and _holds(step.output.dtype, result)
    exact = exact or step.operation == "_to_copy"  # which rounds as the network did
    rest = tree_leaves((step.arguments[1:], step.keywords))
    plain = len(numbers) == 1 and all(isinstance(leaf, int | float | str | None) for leaf in rest)
    words = {1: f"{step.kind} of one number"}.get(len(numbers), f"{step.kind} of {len(numbers)} numbers")
    return Parts(
        inputs,
        weights,
        np.array([result]) if len(numbers) == 1 else inputs,
        sources,
        words,
        "function" if weights is None else "sum",
        total=result,
        roundings=0 if exact else 2 if straight else 8,
        magnitude=abs(result) + (0.0 if straight else float(np.abs(inputs).sum())),
        function=(step.operation.rstrip("_"), tuple(step.arguments[1:]), step.keywords) if plain else None,
    )


def _holds(dtype: torch.dtype, number: float) -> bool:
    """Whether numbers of this type can be exactly this one."""
    return not dtype.is_floating_point or float(torch.tensor(number, dtype=dtype)) == number
