"""Pooling and reductions: the largest, the mean or the sum of a window, or of whole axes."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import Tensor

from ...capture.records import Recording, Step
from ..terms import Ints
from .operands import argument, flat_places, per_axis, picked, tensor_of
from .registry import Parts, rule


@rule("mean", "sum", "amax")
def reduction(recording: Recording, step: Step, full: tuple[int, ...]) -> Parts:
    """Everything along some axes."""
    source = step.arguments[0]
    taken = tensor_of(recording, source)
    dims = argument(step, 1, "dim") or None
    dims = list(range(taken.ndim)) if dims is None else [d % taken.ndim for d in per_axis(dims, 1)]
    kept = iter(full[-(taken.ndim - len(dims)) :] if step.output.ndim == taken.ndim - len(dims) else ())
    places: list[Any] = []
    for axis in range(taken.ndim):
        if axis in dims:
            places.append(np.arange(taken.shape[axis]))
        elif step.output.ndim == taken.ndim:
            places.append(np.array([full[axis]]))
        else:
            places.append(np.array([next(kept)]))
    flat = flat_places(taken.shape, [axis.ravel() for axis in np.meshgrid(*places, indexing="ij")])
    if step.operation == "amax":
        return _largest(recording, source, flat, (), f"{len(flat)} numbers")
    inputs = picked(recording, source, flat)
    share = 1 / len(flat) if step.operation == "mean" else 1.0
    weights = np.full(len(flat), share)
    words = f"{'mean' if step.operation == 'mean' else 'sum'} of {len(flat)} numbers"
    shape = tuple(taken.shape[d] for d in sorted(dims))
    return Parts(
        inputs,
        weights,
        inputs * share,
        [(source, flat)],
        words,
        roundings=len(flat) + 1,
        shape=(1, *shape) if len(shape) == 2 else (),
    )


def _window(
    taken: Tensor, full: tuple[int, ...], size: list[int], stride: list[int], padding: list[int], dilation: list[int]
) -> Ints:
    """Flat positions of a pooling window's cells, -1 beyond the border."""
    axes = len(size)
    lead = [np.array([i]) for i in full[: taken.ndim - axes]]
    rows = []
    for axis in range(axes):
        found = full[taken.ndim - axes + axis] * stride[axis] - padding[axis] + np.arange(size[axis]) * dilation[axis]
        rows.append(np.where((found >= 0) & (found < taken.shape[taken.ndim - axes + axis]), found, -1))
    grid = np.meshgrid(*lead, *rows, indexing="ij")
    beyond = np.any([axis < 0 for axis in grid], axis=0)
    return np.where(beyond, -1, flat_places(taken.shape, [np.maximum(axis, 0) for axis in grid])).ravel()


def _pool_arguments(step: Step, taken: Tensor) -> tuple[list[int], list[int], list[int]]:
    axes = 1 if "1d" in step.operation else 3 if "3d" in step.operation else 2
    size = per_axis(step.arguments[1], axes)
    stride = argument(step, 2, "stride")
    padding = argument(step, 3, "padding", 0)
    return size, per_axis(stride, axes) if stride else size, per_axis(padding, axes)


@rule("max_pool2d_with_indices", "max_pool2d", "max_pool3d_with_indices", "max_pool1d")
def max_pool(recording: Recording, step: Step, full: tuple[int, ...]) -> Parts:
    """The largest of a window."""
    source = step.arguments[0]
    taken = tensor_of(recording, source)
    size, stride, padding = _pool_arguments(step, taken)
    dilation = per_axis(argument(step, 4, "dilation", 1), len(size))
    flat = _window(taken, full, size, stride, padding, dilation)
    return _largest(recording, source, flat, tuple(size), f"a {'x'.join(map(str, size))} window")


def _largest(recording: Recording, source: Any, flat: Ints, size: tuple[int, ...], words: str) -> Parts:
    inputs = picked(recording, source, flat)
    winner = int(np.argmax(np.where(flat < 0, -np.inf, inputs)))
    weights = np.zeros(len(flat))
    weights[winner] = 1.0
    return Parts(
        inputs,
        weights,
        np.where(weights > 0, inputs, 0.0),
        [(source, flat)],
        f"largest of {words}",
        "largest",
        total=float(inputs[winner]),
        shape=(1, *size) if len(size) == 2 else (),
        winner=winner,
    )


@rule("avg_pool2d", "avg_pool3d", "avg_pool1d")
def average_pool(recording: Recording, step: Step, full: tuple[int, ...]) -> Parts:
    """The mean of a window, with or without the cells beyond the border."""
    source = step.arguments[0]
    taken = tensor_of(recording, source)
    size, stride, padding = _pool_arguments(step, taken)
    axes = len(size)
    flat = _window(taken, full, size, stride, padding, [1] * axes)
    divisor = argument(step, 6, "divisor_override")
    if divisor is None:
        if argument(step, 5, "count_include_pad", True):
            divisor = 1
            for axis in range(axes):
                start = full[taken.ndim - axes + axis] * stride[axis] - padding[axis]
                divisor *= min(start + size[axis], taken.shape[taken.ndim - axes + axis] + padding[axis]) - start
        else:
            divisor = int((flat >= 0).sum())
    inputs = picked(recording, source, flat)
    what = "sum" if divisor == 1 and len(flat) > 1 else "mean"
    return Parts(
        inputs,
        np.full(len(flat), 1 / divisor),
        inputs / divisor,
        [(source, flat)],
        f"{what} of a {'x'.join(map(str, size))} window",
        roundings=len(flat) + 1,
        shape=(1, *size) if axes == 2 else (),
    )


@rule("_adaptive_avg_pool2d", "adaptive_max_pool2d")
def adaptive_pool(recording: Recording, step: Step, full: tuple[int, ...]) -> Parts:
    """The largest or the mean of a window as large as the wanted size needs."""
    source = step.arguments[0]
    taken = tensor_of(recording, source)
    places: list[Any] = [np.array([i]) for i in full[:-2]]
    size = []
    for axis in (-2, -1):
        cells, wanted, i = taken.shape[axis], step.output.shape[axis], full[axis]
        start, end = i * cells // wanted, -(-(i + 1) * cells // wanted)
        places.append(np.arange(start, end))
        size.append(end - start)
    flat = flat_places(taken.shape, [axis.ravel() for axis in np.meshgrid(*places, indexing="ij")])
    words = f"a {size[0]}x{size[1]} window"
    if "max" in step.operation:
        return _largest(recording, source, flat, tuple(size), words)
    inputs = picked(recording, source, flat)
    weights = np.full(len(flat), 1 / len(flat))
    return Parts(
        inputs,
        weights,
        inputs * weights,
        [(source, flat)],
        f"mean of {words}",
        roundings=len(flat) + 1,
        shape=(1, *size),
    )
