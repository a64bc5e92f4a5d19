"""Operations that only move numbers, and add some at a border."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map

from ...capture.records import Recording, Ref, Step
from ..terms import Floats, Ints
from .operands import flat_place, picked, piece
from .registry import Parts, rule


@rule("identity")
def identity(recording: Recording, step: Step, full: tuple[int, ...]) -> Parts:
    """The same number in the same place."""
    source = step.arguments[0]
    flat = flat_place(step.output.shape, full)
    value = picked(recording, source, flat)
    words = "dropout passes everything on when it does not train" if step.kind == "dropout" else "the same number"
    return Parts(value, np.ones(1), value, [(source, flat)], words)


@rule(
    "view", "_unsafe_view", "reshape", "_reshape_alias", "expand", "squeeze", "unsqueeze", "transpose",
    "permute", "t", "split", "split_with_sizes", "unbind", "select", "slice", "cat", "stack", "flip", "roll",
    "repeat", "pixel_shuffle", "pixel_unshuffle", "constant_pad_nd", "reflection_pad1d", "reflection_pad2d",
    "replication_pad1d", "replication_pad2d", "index_select", "as_strided", "channel_shuffle",
    "native_channel_shuffle", "movedim", "narrow", "clone", "unfold", "copy", "copy_",
    "alias", "detach", "im2col", "diagonal", "index", "_unsafe_index", "gather", "take", "rot90", "unsafe_split",
    "unsafe_split_with_sizes", "unsafe_chunk", "chunk", "tril", "triu", "diag_embed", "select_scatter",
    "slice_scatter", "scatter", "index_put", "index_copy", "max_unpool2d", "max_unpool3d", "embedding",
    "reflection_pad3d", "replication_pad3d",
)  # fmt: skip
def moved(recording: Recording, step: Step, full: tuple[int, ...]) -> Parts:
    """Where a number comes from: the operation is run once on places instead of numbers."""
    origin = recording.cache.get(step.number)
    if origin is None:
        origin = recording.cache[step.number] = _origins(recording, step)
    places, starts = origin
    found = int(places[full])
    value = float(step.output[full])
    kind = {"concat": "one number of several maps side by side", "pad": "the map with cells added at its border"}
    words = kind.get(step.kind, "the same number in another place")
    for ref, start, end in starts:
        if start <= found < end:
            flat = np.array([found - start])
            number = picked(recording, ref, flat)
            return Parts(number, np.ones(1), number, [(ref, flat)], words)
    if step.operation.endswith(("pad_nd", "im2col")):
        beyond = np.array([value])
        return Parts(beyond, np.ones(1), beyond, [(Ref(step.references()[0]), np.array([-1]))], words)
    empty: Floats = np.zeros(0)
    return Parts(empty, empty, empty, [], "a number of the network's own, put in here", "value", bias=value)


def _origins(recording: Recording, step: Step) -> tuple[Ints, list[tuple[Ref, int, int]]]:
    """For each output cell the number of the input cell it shows, counted through all inputs; below 0: none."""
    starts: list[tuple[Ref, int, int]] = []
    next_start = 1  # so that the zeros that an operation puts in are no place
    first = next(iter(tree_leaves((step.arguments, step.keywords))), None)

    def one(leaf: Any) -> Any:
        nonlocal next_start
        if isinstance(leaf, Ref):
            tensor = recording.steps[leaf.step].output
            if not tensor.is_floating_point() and leaf is not first:
                return tensor.detach()  # it says where from, or which
            start, next_start = next_start, next_start + tensor.numel()
            starts.append((leaf, start, next_start))
            places = torch.arange(start, next_start, dtype=torch.float64, device=tensor.device).reshape(tensor.shape)
            if step.operation == "as_strided":  # the only one that asks how numbers lie in memory
                places = torch.empty_strided(
                    tensor.shape, tensor.stride(), dtype=torch.float64, device=tensor.device
                ).copy_(places)
            return places
        if isinstance(leaf, Tensor) and leaf.is_floating_point():
            return torch.full(leaf.shape, -1.0, dtype=torch.float64, device=leaf.device)
        return leaf

    arguments, keywords = tree_map(one, (step.arguments, step.keywords))
    if step.operation == "constant_pad_nd":
        arguments = (*arguments[:2], -1.0)
    with torch.no_grad():
        result = piece(step, step.function(*arguments, **keywords))
    return result.round().to("cpu", torch.int64).numpy(), starts


@rule("assemble")
def assembled(recording: Recording, step: Step, full: tuple[int, ...]) -> Parts:
    """A number that one of several steps wrote into the same memory."""
    found = int(step.keywords["places"][full])
    for ref in step.arguments:
        size = recording.steps[ref.step].output.numel()
        if 0 <= found < size:
            flat = np.array([found])
            number = picked(recording, ref, flat)
            return Parts(number, np.ones(1), number, [(ref, flat)], "the number that was last written there")
        found -= size
    value, empty = float(step.output[full]), np.zeros(0)
    return Parts(empty, empty, empty, [], "a number of the network's own, put in here", "value", bias=value)
