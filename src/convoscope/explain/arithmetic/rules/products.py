"""Weighted sums: matrix products, and linear operations whose weights torch gives as derivatives."""

from __future__ import annotations

import numpy as np
import torch

from ...capture.records import Recording, Ref, Step
from .operands import aligned, argument, doubled, flat_places, floats, picked, piece, tensor_of
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


@rule("cumsum", "col2im")
def linear(recording: Recording, step: Step, full: tuple[int, ...]) -> Parts:
    """A linear operation's weights are its derivatives, which torch gives exactly."""
    source = step.arguments[0]
    taken = tensor_of(recording, source).double().requires_grad_()
    with torch.enable_grad():
        result = piece(
            step, step.function(taken, *doubled(recording, step.arguments[1:]), **doubled(recording, step.keywords))
        )
        (slopes,) = torch.autograd.grad(result[full], taken)
    flat = slopes.reshape(-1).nonzero()[:, 0].numpy()
    weights = floats(slopes.reshape(-1)[torch.from_numpy(flat)])
    inputs = picked(recording, source, flat)
    return Parts(
        inputs,
        weights,
        inputs * weights,
        [(source, flat)],
        f"weighted sum of {len(flat)} numbers ({step.kind})",
        roundings=2 * len(flat) + 8,
    )
