"""Convolutions, plain and transposed: a window of the input times a filter."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from torch import Tensor

from ...capture.records import Recording, Ref, Step
from ..terms import Ints
from .operands import flat_places, floats, per_axis, picked, tensor_of
from .registry import Parts, rule


@rule("convolution", "_convolution")
def convolution(recording: Recording, step: Step, full: tuple[int, ...]) -> Parts:
    """The cells of the window, channel by channel, times the filter's weights."""
    source, weight, bias, stride, padding, dilation, transposed, _, groups, *_ = step.arguments
    taken, kernel = tensor_of(recording, source), tensor_of(recording, weight)
    axes = taken.ndim - 2
    stride, padding, dilation = (per_axis(value, axes) for value in (stride, padding, dilation))
    image, filter_, *place = full
    size = list(kernel.shape[2:])
    meets: list[Ints] = []
    for axis in range(axes):
        offsets = np.arange(size[axis], dtype=np.int64) * dilation[axis]
        meets.append(_met(offsets, place[axis], stride[axis], padding[axis], taken.shape[2 + axis], transposed))
    channels, own = _channels_and_weights(kernel, filter_, taken.shape[1], groups, transposed)
    weights = floats(own)
    grid = np.meshgrid(channels, *meets, indexing="ij")
    beyond = np.any([rows < 0 for rows in grid[1:]], axis=0) if axes else np.zeros_like(grid[0], bool)
    flat = flat_places(taken.shape, [np.full_like(grid[0], image), *(np.maximum(rows, 0) for rows in grid)])
    flat = np.where(beyond, -1, flat).ravel()
    inputs = picked(recording, source, flat)
    shape = tuple(weights.shape)
    if transposed:  # only the cells that meet the window count; there is no border
        keep = flat >= 0
        flat, inputs, weights, shape = flat[keep], inputs[keep], weights.ravel()[keep], ()
    settings = {"groups": groups, "stride": stride, "dilation": dilation, "padding": padding}
    return Parts(
        inputs,
        weights.ravel(),
        inputs * weights.ravel(),
        [(source if isinstance(source, Ref) else None, flat)],
        _words(size, len(channels), settings, transposed),
        "sum" if transposed else "convolution",
        bias=None if bias is None else float(tensor_of(recording, bias)[filter_]),
        roundings=len(flat) + 1,
        shape=shape,
        weight_sources=_weight_places(weight, kernel, filter_) if not transposed else None,
    )


def _met(offsets: Ints, place: int, stride: int, padding: int, length: int, transposed: bool) -> Ints:
    """Along one axis the cells of the input that the window meets, -1 where there is none."""
    if transposed:
        rows = place + padding - offsets
        found = np.where(rows % stride == 0, rows // stride, -1)
    else:
        found = place * stride - padding + offsets
    return np.where((found >= 0) & (found < length), found, -1)


def _channels_and_weights(
    kernel: Tensor, filter_: int, depth: int, groups: int, transposed: bool
) -> tuple[Ints, Tensor]:
    """The input channels of the filter's group, and its weights for them."""
    if transposed:
        count = depth // groups
        group, inside = divmod(filter_, kernel.shape[1])
        return np.arange(group * count, (group + 1) * count), kernel[group * count : (group + 1) * count, inside]
    count = kernel.shape[1]
    group = filter_ // (kernel.shape[0] // groups)
    return np.arange(group * count, (group + 1) * count), kernel[filter_]


def _words(size: list[int], channels: int, settings: dict[str, Any], transposed: bool) -> str:
    words = f"{'transposed ' if transposed else ''}convolution {_by(size)} "
    words += f"over {channels} channel{'s' if channels > 1 else ''}"
    if settings["groups"] > 1:
        words += f" ({settings['groups']} groups)"
    for name in ("stride", "dilation"):
        if any(number != 1 for number in settings[name]):
            words += f", {name} {_by(settings[name]) if len(set(settings[name])) > 1 else settings[name][0]}"
    if any(settings["padding"]) and not transposed:
        words += ", zeros beyond the border"
    return words


def _by(size: list[int]) -> str:
    return "x".join(map(str, size))


def _weight_places(weight: Any, kernel: Tensor, filter_: int) -> tuple[Ref, Ints] | None:
    """Where the weights come from, if they are computed from the image."""
    if not isinstance(weight, Ref):
        return None
    each = math.prod(kernel.shape[1:])
    return weight, np.arange(filter_ * each, (filter_ + 1) * each, dtype=np.int64)
