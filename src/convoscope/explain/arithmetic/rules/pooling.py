"""Pooling and reductions: the largest, the mean or the sum of a window, or of whole axes."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from ...capture.records import Recording, Ref, Step
from ..terms import Floats, Ints
from .elementwise import pointwise
from .operands import argument, flat_place, flat_places, named, per_axis, picked, piece, tensor_of
from .registry import Parts, rule


@rule("mean", "sum", "amax", "amin", "max", "min")
def reduction(recording: Recording, step: Step, full: tuple[int, ...]) -> Parts:
    """Everything along some axes."""
    if isinstance(argument(step, 1, "dim"), Ref | Tensor):  # the larger of two tensors, number by number
        return pointwise(recording, step, full)
    if step.piece == 1:
        return _which(step, full)
    source, operation = step.arguments[0], step.operation
    flat, shape = _along(recording, step, full)
    if operation in ("amax", "max"):
        return _largest(recording, source, flat, (), f"{len(flat)} numbers")
    inputs = picked(recording, source, flat)
    if operation in ("amin", "min"):
        words = f"smallest of {len(flat)} numbers"
        total = float(inputs.min())
        return Parts(inputs, None, inputs, [(source, flat)], words, "function", total=total)
    share = 1 / len(flat) if operation == "mean" else 1.0
    weights = np.full(len(flat), share)
    words = f"{'mean' if operation == 'mean' else 'sum'} of {len(flat)} numbers"
    return Parts(
        inputs,
        weights,
        inputs * share,
        [(source, flat)],
        words,
        roundings=len(flat) + 1,
        shape=(1, *shape) if len(shape) == 2 else (),
    )


def _along(recording: Recording, step: Step, full: tuple[int, ...]) -> tuple[Ints, tuple[int, ...]]:
    """Flat positions of the numbers that a reduction takes together, and the sizes of the axes that it takes."""
    taken = tensor_of(recording, step.arguments[0])
    given = named(step)
    dims = given.get("dim")
    if dims is None or dims == []:
        dims = list(range(taken.ndim))
    dims = [d % taken.ndim for d in per_axis(dims, 1)]
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
    return flat, tuple(taken.shape[d] for d in sorted(dims))


_TOGETHER = {
    "linalg_vector_norm": "norm",
    "norm": "norm",
    "var": "variance",
    "var_mean": "variance",
    "std": "standard deviation",
    "std_mean": "standard deviation",
    "logsumexp": "logarithm of the sum of the exponentials",
    "prod": "product",
}


@rule(*_TOGETHER)
def together(recording: Recording, step: Step, full: tuple[int, ...]) -> Parts:
    """A number that many make together, by the operation itself in float64 on just these."""
    source = step.arguments[0]
    flat, _ = _along(recording, step, full)
    inputs = picked(recording, source, flat)
    given = {name: value for name, value in named(step).items() if name not in ("self", "dim", "keepdim", "dtype")}
    if "mean" in step.operation and step.piece == 1:
        share = np.full(len(flat), 1 / len(flat))
        words = f"mean of {len(flat)} numbers"
        return Parts(inputs, share, inputs * share, [(source, flat)], words, roundings=len(flat) + 1)
    given |= {"dim": 0} if step.operation in ("logsumexp", "prod") else {"dim": [0]}
    with torch.no_grad():
        result = step.function._overloadpacket(torch.from_numpy(inputs), **given)
    total = float(piece(step, result))
    square = float((inputs**2).mean())
    sizes = {
        "variance": square,
        "standard deviation": square / total if total else math.sqrt(square),
        "logarithm of the sum of the exponentials": 1 + abs(total) + float(np.abs(inputs).max()),
    }
    what = _TOGETHER[step.operation]
    return Parts(
        inputs,
        None,
        inputs,
        [(source, flat)],
        f"{what} of {len(flat)} numbers",
        "function",
        total=total,
        roundings=2 * len(flat) + 8,
        magnitude=sizes.get(what, abs(total)),
    )


@rule(
    "sort", "topk", "kthvalue", "median", "mode", "cummax", "cummin", "fractional_max_pool2d", "fractional_max_pool3d"
)
def chosen(recording: Recording, step: Step, full: tuple[int, ...]) -> Parts:
    """One of the numbers that came in, where the operation's second result says which."""
    source = step.arguments[0]
    taken = tensor_of(recording, source)
    places = recording.cache.get(step.number)
    if places is None:
        arguments, keywords = tree_map(lambda leaf: _recorded(recording, leaf), (step.arguments, step.keywords))
        with torch.no_grad():
            places = recording.cache[step.number] = step.function(*arguments, **keywords)[1]
    if step.piece == 1:
        return _which(step, full)
    which = int(places[full])
    if "pool" in step.operation:
        axes = taken.ndim - 2
        inside = np.unravel_index(which, taken.shape[2:])
        place = [*full[:2], *(int(i) for i in inside[:axes])]
    else:
        axis = int(named(step).get("dim", -1)) % taken.ndim
        full = full if step.output.ndim == taken.ndim else (*full[:axis], 0, *full[axis:])
        place = [which if d == axis else i for d, i in enumerate(full)]
    flat = flat_place(taken.shape, place)
    value = picked(recording, source, flat)
    return Parts(value, np.ones(1), value, [(source, flat)], f"one of the numbers, as {step.operation} chooses")


def _which(step: Step, full: tuple[int, ...]) -> Parts:
    """The second result of an operation that chooses: no sum, but a place."""
    empty: Floats = np.zeros(0)
    return Parts(empty, None, empty, [], f"which number {step.operation} took", "value", total=float(step.output[full]))


def _recorded(recording: Recording, leaf: Any) -> Any:
    return tensor_of(recording, leaf) if isinstance(leaf, Ref) else leaf


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


@rule("_adaptive_avg_pool2d", "_adaptive_avg_pool3d", "adaptive_max_pool2d", "adaptive_max_pool3d")
def adaptive_pool(recording: Recording, step: Step, full: tuple[int, ...]) -> Parts:
    """The largest or the mean of a window as large as the wanted size needs."""
    if step.piece == 1:
        return _which(step, full)
    source = step.arguments[0]
    taken = tensor_of(recording, source)
    axes = 3 if "3d" in step.operation else 2
    places: list[Any] = [np.array([i]) for i in full[:-axes]]
    size = []
    for axis in range(-axes, 0):
        cells, wanted, i = taken.shape[axis], step.output.shape[axis], full[axis]
        start, end = i * cells // wanted, -(-(i + 1) * cells // wanted)
        places.append(np.arange(start, end))
        size.append(end - start)
    flat = flat_places(taken.shape, [axis.ravel() for axis in np.meshgrid(*places, indexing="ij")])
    words = f"a {'x'.join(map(str, size))} window"
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
        shape=(1, *size) if axes == 2 else (),
    )
