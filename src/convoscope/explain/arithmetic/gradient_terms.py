"""Which numbers met at one weight: what came in, and delta, the gradient of the loss by what came out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .rules.operands import floats, per_axis
from .terms import Floats, Ints

_BEYOND, _NONE = -1, -2
"""Places in a layer's input that are none: beyond the border; the input does not enter at all."""


@dataclass(eq=False)
class Use:
    """One call that used weights: what went in, what came out, the settings."""

    kind: str
    taken: Tensor
    made: Tensor
    weight: Tensor | None
    bias: Tensor | None
    settings: dict[str, Any]
    delta: Tensor = field(default_factory=lambda: torch.empty(0))


@dataclass(frozen=True, eq=False)
class Meetings:
    """All places at which one use met one weight.

    Attributes:
        inputs, deltas: `(n,)`.
        cells: `(n, axes)`: image number and cell of the layer's output.
        places: `(n,)`: flat places in the layer's input; -1 beyond the border, -2 none.
        words: how the weight is used.
        roundings: how often a number was rounded before, besides the product and the sum.
    """

    inputs: Floats
    deltas: Floats
    cells: Ints
    places: Ints
    words: str
    roundings: int = 0


def meetings(use: Use, tensor: Tensor, index: tuple[int, ...]) -> Meetings:
    """What came in and delta, wherever `tensor[index]` was used."""
    taken, delta = floats(use.taken), floats(use.delta)
    if use.kind in ("conv", "dense") and tensor is use.bias:
        channel = index[0]
        own = delta[:, channel] if use.kind == "conv" else delta[..., channel]
        none = np.full(own.size, _NONE, np.int64)
        return Meetings(np.ones(own.size), own.ravel(), _cells(own.shape), none, "the bias is used at every cell")
    if use.kind == "conv":
        return _of_filter(use, taken, delta, index)
    if use.kind == "dense":
        row, column = index
        own, values = delta[..., row].ravel(), taken[..., column].ravel()
        places = np.arange(len(values), dtype=np.int64) * taken.shape[-1] + column
        return Meetings(values, own, _cells(delta.shape[:-1]), places, "the weight is used once for each image")
    return _of_norm(use, tensor, taken, delta, index)


def _cells(shape: Sequence[int]) -> Ints:
    return np.stack([axis.ravel() for axis in np.indices(tuple(shape))], 1).astype(np.int64)


def _of_filter(use: Use, taken: Floats, delta: Floats, index: tuple[int, ...]) -> Meetings:
    filter_, channel, *offset = index
    axes = len(offset)
    weight = use.weight
    assert weight is not None
    groups = int(use.settings.get("groups", 1))
    stride, dilation = (per_axis(use.settings.get(name, 1), axes) for name in ("stride", "dilation"))
    given = use.settings.get("padding", 0)
    if isinstance(given, str):
        reach = [(weight.shape[2 + a] - 1) * dilation[a] for a in range(axes)]
        padding = [r // 2 for r in reach] if given == "same" else [0] * axes
    else:
        padding = per_axis(given, axes)
    source = filter_ // (weight.shape[0] // groups) * weight.shape[1] + channel
    own = delta[:, filter_]
    cells = _cells(own.shape)
    rows = [cells[:, 1 + a] * stride[a] - padding[a] + offset[a] * dilation[a] for a in range(axes)]
    inside = np.all([(r >= 0) & (r < taken.shape[2 + a]) for a, r in enumerate(rows)], axis=0)
    safe = [np.where(inside, r, 0) for r in rows]
    at = (cells[:, 0], np.full(len(cells), source), *safe)
    values = np.where(inside, taken[at], 0.0)
    places = np.where(inside, np.ravel_multi_index(at, taken.shape), _BEYOND).astype(np.int64)
    return Meetings(values, own.ravel(), cells, places, "the weight is used at every cell of its filter's map")


def _of_norm(use: Use, tensor: Tensor, taken: Floats, delta: Floats, index: tuple[int, ...]) -> Meetings:
    """Scale and shift of a norm: what came in, normalised, times delta."""
    scales = tensor is use.weight
    pick: tuple[Any, ...] = (..., *index) if use.kind == "layernorm" else (slice(None), index[0])
    own, cells = delta[pick].ravel(), _cells(delta[pick].shape)
    words = f"the {'scale' if scales else 'shift'} is used at every cell of its channel"
    if not scales:
        return Meetings(np.ones(len(own)), own, cells, np.full(len(own), _NONE, np.int64), words, 16)
    mean, variance = _mean_and_variance(use, taken, len(index))
    normalised = (taken - mean) / np.sqrt(variance + float(use.settings.get("eps", 1e-5)))
    places = np.arange(taken.size, dtype=np.int64).reshape(taken.shape)[pick].ravel()
    return Meetings(normalised[pick].ravel(), own, cells, places, words, 16)


def _mean_and_variance(use: Use, taken: Floats, axes: int) -> tuple[Floats, Floats]:
    """What a norm took its numbers by, in a shape that fits them; `axes`: of its weights."""
    if use.kind == "layernorm":
        last = tuple(range(taken.ndim - axes, taken.ndim))
        return taken.mean(last, keepdims=True), taken.var(last, keepdims=True)
    if use.kind == "groupnorm":
        groups = int(use.settings["num_groups"])
        grouped = taken.reshape(taken.shape[0], groups, -1)
        each = taken.shape[1] // groups
        fitted = (slice(None), slice(None), *(None for _ in taken.shape[2:]))
        return np.repeat(grouped.mean(2), each, 1)[fitted], np.repeat(grouped.var(2), each, 1)[fitted]
    if use.settings.get("training") or use.settings.get("running_mean") is None:
        others = (0, *range(2, taken.ndim))
        return taken.mean(others, keepdims=True), taken.var(others, keepdims=True)
    fitted = (None, slice(None), *(None for _ in taken.shape[2:]))
    mean, variance = (floats(use.settings[name])[fitted] for name in ("running_mean", "running_var"))
    return mean, variance
