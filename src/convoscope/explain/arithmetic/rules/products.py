"""Weighted sums: matrix products, and linear operations whose weights torch gives as derivatives."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...capture.records import Recording, Ref, Step
from ..terms import Floats, rounding_bound
from .operands import aligned, argument, doubled, finds_in, flat_places, floats, picked, piece, tensor_of
from .registry import Parts, rule


@rule("addmm", "mm", "linear", "bmm", "baddbmm", "addmv", "mv", "dot", "matmul")
def matrix(recording: Recording, step: Step, full: tuple[int, ...]) -> Parts:
    """A row times a column."""
    name = step.operation
    bias, scale_sum, scale_bias = None, 1.0, 1.0
    operands = list(step.arguments)
    if name in ("addmm", "baddbmm", "addmv"):
        bias, *operands = operands
        scale_bias = float(step.keywords.get("beta", 1))
        scale_sum = float(step.keywords.get("alpha", 1))
    left, right = operands[:2]
    if name == "linear":
        bias = argument(step, 2, "bias")
    one, two = tensor_of(recording, left), tensor_of(recording, right)
    row = list(full) if two.ndim == 1 or name == "dot" else list(full[:-1])
    column = [] if two.ndim == 1 else [full[-1]]
    count = one.shape[-1]
    steps = np.arange(count)
    left_flat = flat_places(one.shape, [*(np.full(count, i) for i in row[len(row) - one.ndim + 1 :]), steps])
    if name == "linear":
        right_flat = flat_places(two.shape, [np.full(count, full[-1]), steps])
    else:
        batch = [np.full(count, i) for i in row[: two.ndim - 2]]
        right_flat = flat_places(two.shape, [*batch, steps, *(np.full(count, i) for i in column)])
    inputs = picked(recording, left, left_flat)
    weights = picked(recording, right, right_flat) * scale_sum
    swap = not isinstance(left, Ref)
    added = None
    if bias is not None:
        tensor = tensor_of(recording, bias)
        added = float(tensor[aligned(tensor.shape, full)]) * scale_bias
    parts = Parts(
        weights / scale_sum if swap else inputs,
        inputs * scale_sum if swap else weights,
        inputs * weights,
        [(right, right_flat)] if swap else [(left, left_flat)],
        f"weighted sum of {count} numbers",
        bias=added,
        roundings=count + 1,
    )
    if isinstance(left, Ref) and isinstance(right, Ref):
        parts.weight_sources = (right, right_flat)
        parts.words = f"sum of {count} products of two computed numbers"
    return parts


@rule("addbmm")
def added_up(recording: Recording, step: Step, full: tuple[int, ...]) -> Parts:
    """A row times a column, in each matrix of a batch, all added up."""
    bias, left, right = step.arguments[:3]
    one, two = tensor_of(recording, left), tensor_of(recording, right)
    batch, _, inner = one.shape
    numbers, steps = (axis.ravel() for axis in np.meshgrid(np.arange(batch), np.arange(inner), indexing="ij"))
    left_flat = flat_places(one.shape, [numbers, np.full_like(steps, full[0]), steps])
    right_flat = flat_places(two.shape, [numbers, steps, np.full_like(steps, full[1])])
    scale = float(step.keywords.get("alpha", 1))
    inputs, weights = picked(recording, left, left_flat), picked(recording, right, right_flat)
    added = tensor_of(recording, bias)
    computed = isinstance(left, Ref)
    return Parts(
        inputs if computed else weights,
        (weights if computed else inputs) * scale,
        inputs * weights * scale,
        [(left, left_flat) if computed else (right, right_flat)],
        f"weighted sum of {len(steps)} numbers",
        bias=float(added[aligned(added.shape, full)]) * float(step.keywords.get("beta", 1)),
        roundings=len(steps) + 2,
        weight_sources=(right, right_flat) if computed and isinstance(right, Ref) else None,
    )


_ADDED_TO = frozenset({"scatter_add", "index_add"})
"""Linear in what they add to a tensor of the network's own."""


@rule(
    "cumsum", "col2im", "affine_grid_generator", "_trilinear", "grid_sampler_2d", "grid_sampler_3d", "trace", *_ADDED_TO
)
def linear(recording: Recording, step: Step, full: tuple[int, ...]) -> Parts:
    """A linear operation's weights are its derivatives, which torch gives exactly."""
    position = next(i for i, value in enumerate(step.arguments) if _numbers(recording, value))
    arguments = list(doubled(recording, step.arguments))
    keywords = doubled(recording, step.keywords)
    varied = arguments[position].requires_grad_()
    with torch.enable_grad():
        arguments[position] = varied.clone()  # some of these operations write into their first argument
        result = piece(step, step.function(*arguments, **keywords))
        (slopes,) = torch.autograd.grad(result[full], varied)
    flat = slopes.reshape(-1).nonzero()[:, 0].cpu().numpy()
    weights = floats(slopes).reshape(-1)[flat]
    inputs = picked(recording, step.arguments[position], flat)
    bias = None
    if step.operation in _ADDED_TO:
        fresh = list(doubled(recording, step.arguments))
        fresh[position] = torch.zeros_like(fresh[position])
        bias = float(step.function(*fresh, **keywords)[full].detach())
    roundings = 2 * len(flat) + 8
    return Parts(
        inputs,
        weights,
        inputs * weights,
        [(step.arguments[position], flat)],
        f"weighted sum of {len(flat)} numbers ({step.kind})",
        bias=bias,
        roundings=roundings,
        magnitude=_size(step, arguments, full, inputs * weights, roundings, bias),
    )


def _numbers(recording: Recording, value: Any) -> bool:
    return isinstance(value, Ref) and recording.steps[value.step].output.is_floating_point()


def _size(
    step: Step, arguments: list[Any], full: tuple[int, ...], products: Floats, roundings: int, bias: float | None
) -> float:
    """What the roundings of a linear operation are relative to."""
    with torch.no_grad():
        if step.operation == "_trilinear":  # each weight is a sum itself
            sizes = [value.abs() if isinstance(value, Tensor) else value for value in arguments]
            return float(piece(step, step.function(*sizes))[full])
        size = float(np.abs(products).sum()) + abs(bias or 0.0)
        if not step.operation.startswith("grid_sampler"):
            return size
        # torch finds the places in float32: so much may they be off.
        image, grid, *rest = arguments
        off = 4 * torch.finfo(finds_in(step)).eps
        moved = 0.0
        for signs in itertools.product((-off, off), repeat=grid.shape[-1]):
            made = piece(step, step.function(image, grid + grid.new_tensor(signs), *rest))
            moved = max(moved, abs(float(made[full]) - float(products.sum())))
        return size + moved / rounding_bound(roundings, torch.finfo(step.output.dtype).eps, 1.0)
