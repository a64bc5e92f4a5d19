"""Which part of the image each number of a tensor depends on, followed from operation to operation.

The part is kept as its box: the first and last row and column. Most tensors have one box for each place of their maps
and the same for all channels; along such an axis it is kept once. Where a number depends on a place of its own and on
something else, as in attention or behind a gate, there are two sets of boxes. Beyond the border of a map they go on as
they do inside, so that a part may reach beyond the image.

`after` knows most operations of torch: those that work number by number, move numbers, take axes together, multiply
matrices, and slide windows.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from .layers import OPERATIONS, role_of


@dataclass(frozen=True, eq=False)
class Reach:
    """The boxes of one tensor.

    Attributes:
        boxes: float64 `(4, ...)`: top, left, -bottom and -right, so that the box around several is their minimum; an
            axis is as long as the tensor's, or 1 where all along it have the same box. Infinite: nothing of the image.
        jump: how many pixels lie between two neighbours of a map, down and across.
    """

    boxes: tuple[Tensor, ...]
    jump: tuple[float, float] = (1.0, 1.0)

    def of_the_middle(self, shape: Sequence[int]) -> tuple[int, int] | None:
        """Height and width of what the unit in the middle of a tensor depends on; None: nothing."""
        total = torch.full((4,), math.inf, dtype=torch.float64)
        middle = [size // 2 for size in shape]
        if len(shape) == 3:  # tokens, row by row: the middle of the middle row
            middle[1] += math.isqrt(shape[1]) // 2 if shape[1] > 1 else 0
        for box in self.boxes:
            for own, i in zip(box.shape[1:], middle, strict=True):
                box = box.select(1, 0 if own == 1 else i)
            total = torch.minimum(total, box)
        top, left, bottom, right = total.tolist()
        if math.inf in (top, left, bottom, right):
            return None
        return round(-bottom - top) + 1, round(-right - left) + 1

    def written(self, shape: Sequence[int], to: Sequence[int]) -> Reach:
        """The boxes of a tensor `to` after one of this `shape`, a part of it, was written.

        Where the part is as long as the tensor along every axis that has boxes of its own, they stay where they are;
        otherwise each number may be any of the part's.
        """
        boxes = []
        for box in self.boxes:
            own = zip(box.shape[1:], shape, to, strict=False)
            if len(shape) == len(to) and all(size == 1 or before == after for size, before, after in own):
                boxes.append(box)
            else:
                boxes.append(box.reshape(4, -1).amin(1).reshape(4, *[1] * len(to)))
        return _united([(box, len(to)) for box in boxes], self.jump)


Found = list[Reach | None]


def of_image(height: int, width: int) -> Reach:
    """The boxes of an image `(1, C, H, W)`: each pixel its own."""
    rows, columns = torch.arange(height, dtype=torch.float64), torch.arange(width, dtype=torch.float64)
    down, across = torch.meshgrid(rows, columns, indexing="ij")
    return Reach((torch.stack([down, across, -down, -across])[:, None, None],))


def after(
    name: str, func: Any, args: Sequence[Any], known: Callable[[Any], Reach | None], made: Sequence[Tensor]
) -> Found:
    """The boxes of an operation's results; None for each where the operation is unknown.

    Args:
        name: of the operation, by torch (`aten::add_` is `add_`).
        func: the operation.
        args: as torch hands them to it.
        known: a tensor's boxes; None for the network's own numbers.
        made: its results.
    """
    inputs = [leaf for leaf in tree_leaves(args) if isinstance(leaf, Tensor) and known(leaf) is not None]
    reaches = [reach for leaf in inputs if (reach := known(leaf)) is not None]
    jump = (max(reach.jump[0] for reach in reaches), max(reach.jump[1] for reach in reaches))
    name = name.removesuffix("_")
    if name in _MATRICES:
        return [_united(_products(name, args, known, made[0].ndim), jump)]
    if name in _WINDOWS:
        found = _slid(name, args, known(args[0]), args[0], made)
        weights = known(args[1]) if "conv" in name else None
        if found[0] is not None and weights is not None:  # weights that depend on the image
            everywhere = [(_least(box, range(box.ndim - 1)), made[0].ndim) for box in weights.boxes]
            found = [_united([*((box, made[0].ndim) for box in found[0].boxes), *everywhere], found[0].jump)]
        return found
    boxes = _united(
        [(box, leaf.ndim) for leaf, reach in zip(inputs, reaches, strict=True) for box in reach.boxes], jump
    )
    if name in _TOGETHER:
        return [_together(name, args, inputs[0], boxes, result) for result in made]
    if name in ("view", "_unsafe_view", "reshape", "_reshape_alias", "squeeze", "unsqueeze", "expand"):
        made_shape = _before_expansion(inputs[0].shape, made[0].shape) if name == "expand" else tuple(made[0].shape)
        return [Reach(tuple(_reshaped(box, tuple(inputs[0].shape), made_shape) for box in boxes.boxes), jump)]
    if name in ("cat", "stack"):
        return [_joined(name, args, known, made[0], jump)]
    if name == "as_strided" and inputs[0].shape == made[0].shape:
        return [boxes]
    if name in ("im2col", "col2im"):
        return [_unfolded(args, boxes, made[0]) if name == "im2col" else _folded(args, boxes, made[0])]
    if len(inputs) == 1 and name in _MOVES:
        return _moved(func, args, inputs[0], boxes, made)
    alike = name in _ELEMENTWISE or torch.Tag.pointwise in func.tags
    if alike and all(_broadcasts(leaf.shape, made[0].shape) for leaf in inputs):
        return [boxes] * len(made)
    return [None] * len(made)


_ELEMENTWISE = {
    name for name, kind in OPERATIONS.items() if role_of(kind) in ("activation", "dropout")
} | {
    "clone", "detach", "alias", "lift_fresh", "_to_copy", "hardswish", "hardsigmoid", "hardshrink", "softshrink",
    "prelu", "_prelu_kernel", "log_sigmoid_forward", "native_dropout", "bernoulli", "masked_fill", "where",
    "copy",
}  # fmt: skip
_MOVES = frozenset({
    "permute", "transpose", "t", "slice", "select", "split", "split_with_sizes", "unsafe_split", "unbind", "chunk",
    "flip", "roll", "repeat", "index", "index_select", "unfold", "pixel_shuffle", "pixel_unshuffle", "channel_shuffle",
    "native_channel_shuffle", "diagonal", "rot90", "narrow", "movedim",
})  # fmt: skip
_MATRICES = frozenset({"mm", "addmm", "_addmm_activation", "bmm", "baddbmm", "mv", "addmv", "dot", "linear", "matmul"})
_TOGETHER = frozenset({
    "mean", "sum", "amax", "amin", "max", "min", "prod", "var", "std", "var_mean", "std_mean",
    "linalg_vector_norm", "norm", "logsumexp", "_softmax", "_safe_softmax", "_log_softmax", "cumsum",
    "native_layer_norm", "native_group_norm", "native_batch_norm", "_native_batch_norm_legit",
    "_native_batch_norm_legit_no_training", "cudnn_batch_norm", "_batch_norm_no_update",
    "_batch_norm_with_update", "mkldnn_rnn_layer", "_cudnn_rnn", "glu", "_trilinear",
})  # fmt: skip


def _broadcasts(shape: Sequence[int], to: Sequence[int]) -> bool:
    pairs = zip(reversed(shape), reversed(to), strict=False)
    return len(shape) <= len(to) and all(own in (1, other) for own, other in pairs)


def united(reaches: Sequence[Reach], jump: tuple[float, float]) -> Reach:
    """The boxes of a number that depends on what each of these does."""
    return _united([(box, box.ndim - 1) for reach in reaches for box in reach.boxes], jump)


def _united(boxes: Iterable[tuple[Tensor, int]], jump: tuple[float, float]) -> Reach:
    """All of these sets, with leading axes where a tensor has fewer; sets of one form become one."""
    listed = list(boxes)
    axes = max(ndim for _, ndim in listed)
    found: dict[tuple[int, ...], Tensor] = {}
    for box, _ in listed:
        wide = box.reshape(4, *[1] * (axes - (box.ndim - 1)), *box.shape[1:])
        other = found.get(tuple(wide.shape))
        found[tuple(wide.shape)] = wide if other is None else torch.minimum(wide, other)
    return Reach(tuple(found.values()), jump)


def _least(box: Tensor, axes: Iterable[int]) -> Tensor:
    """The box around all along these axes, which stay with length 1."""
    for axis in axes:
        box = box.amin(axis + 1 if axis >= 0 else axis, keepdim=True)
    return box


# --- numbers that move ---


def _before_expansion(before: Sequence[int], shape: Sequence[int]) -> tuple[int, ...]:
    return (*[1] * (len(shape) - len(before)), *before)


def _reshaped(box: Tensor, before: tuple[int, ...], shape: tuple[int, ...]) -> Tensor:
    """The boxes in another shape, group by group of axes that become one another; equal ones stay as one."""
    sizes: list[int] = []
    full: list[int] = []
    i = j = 0
    while i < len(before) or j < len(shape):
        first, to = i, j
        old = before[i] if i < len(before) else 1
        new = shape[j] if j < len(shape) else 1
        i, j = i + (i < len(before)), j + (j < len(shape))
        while old != new:
            if old < new:
                old, i = old * before[i], i + 1
            else:
                new, j = new * shape[j], j + 1
        alike = all(box.shape[axis + 1] == 1 for axis in range(first, i))
        full += [box.shape[axis + 1] if alike else before[axis] for axis in range(first, i)]
        sizes += [1] * (j - to) if alike else shape[to:j]
    return _once(box.expand(4, *full).reshape(4, *sizes))


def _once(box: Tensor) -> Tensor:
    """Axes along which all boxes are equal are kept once."""
    for axis in range(1, box.ndim):
        if box.shape[axis] > 1 and (box.stride(axis) == 0 or bool((box == box.narrow(axis, 0, 1)).all())):
            box = box.narrow(axis, 0, 1)
    return box


def _moved(func: Any, args: Sequence[Any], taken: Tensor, reach: Reach, made: Sequence[Tensor]) -> Found:
    """The operation itself, on boxes instead of numbers."""
    if any(isinstance(leaf, Tensor) and leaf is not taken and leaf.is_meta for leaf in tree_leaves(args)):
        return [None] * len(made)  # where from, is not known without numbers
    rest = [leaf.cpu() if isinstance(leaf, Tensor) else leaf for leaf in args[1:]]
    if rest and isinstance(rest[0], list):
        rest[0] = [leaf.cpu() if isinstance(leaf, Tensor) else leaf for leaf in rest[0]]
    found: list[list[Tensor]] = [[] for _ in made]
    for box in reach.boxes:
        sides = [tree_leaves(func(side.expand(taken.shape), *rest)) for side in box]
        for piece, results in enumerate(zip(*sides, strict=True)):
            found[piece].append(_stacked(results))
    return [Reach(tuple(boxes), reach.jump) for boxes in found]


def _stacked(sides: Sequence[Tensor]) -> Tensor:
    """Four sides as one set, each axis once that lies once in memory."""
    for axis in range(sides[0].ndim):
        if all(side.shape[axis] > 1 and side.stride(axis) == 0 for side in sides):
            sides = [side.narrow(axis, 0, 1) for side in sides]
    return _once(torch.stack(list(sides)))


def _joined(
    name: str, args: Sequence[Any], known: Callable[[Any], Reach | None], made: Tensor, jump: tuple[float, float]
) -> Reach:
    """Side by side: along an axis where all boxes are equal each may depend on any of the tensors."""
    axis = (args[1] if len(args) > 1 else 0) % made.ndim
    tensors = [tensor for tensor in args[0] if name == "stack" or tensor.ndim == made.ndim]  # no empty one of old
    sets = [reach.boxes if (reach := known(tensor)) else () for tensor in tensors]
    if name == "stack":
        sets = [tuple(box.unsqueeze(axis + 1) for box in boxes) for boxes in sets]
    elif all(box.shape[axis + 1] == 1 for boxes in sets for box in boxes):
        return _united([(box, made.ndim) for boxes in sets for box in boxes], jump)
    parts = []
    for tensor, boxes in zip(tensors, sets, strict=True):
        whole = torch.full((4, *[1] * made.ndim), math.inf, dtype=torch.float64)
        for box in boxes:
            whole = torch.minimum(whole, box)
        sizes = list(whole.shape)
        sizes[axis + 1] = 1 if name == "stack" else tensor.shape[axis]
        parts.append(whole.expand(sizes))
    sizes = [max(part.shape[a] for part in parts) for a in range(made.ndim + 1)]
    wide = [
        part.expand(*(part.shape[a] if a == axis + 1 else sizes[a] for a in range(made.ndim + 1))) for part in parts
    ]
    return Reach((_once(torch.cat(wide, axis + 1)),), jump)


# --- numbers that come together ---


def _together(name: str, args: Sequence[Any], taken: Tensor, reach: Reach, made: Tensor) -> Reach | None:
    """Axes that an operation takes together: what is left of them depends on all."""
    axes, keeps = list(range(taken.ndim)), made.ndim == taken.ndim
    if name == "native_layer_norm":
        axes = axes[-len(args[1]) :]
    elif "batch_norm" in name:
        own = "no_training" not in name and "no_update" not in name and any(arg is True for arg in args[3:])
        axes = [axis for axis in range(taken.ndim) if axis != 1] if own or args[3] is None else []
    elif name in ("glu", "_trilinear"):
        axes = [-1] if name == "_trilinear" or len(args) < 2 else [args[1]]
    elif "rnn" not in name and name != "native_group_norm":
        place = 2 if name == "linalg_vector_norm" else 1
        given = args[place] if len(args) > place else None
        if isinstance(given, int | list | tuple) and given != []:
            axes = [given] if isinstance(given, int) else list(given)
    axes = [axis % taken.ndim for axis in axes]
    boxes = [_least(box, axes) for box in reach.boxes]
    if "rnn" in name:
        boxes = [box.amin(tuple(range(1, box.ndim))).reshape(4, *[1] * made.ndim) for box in boxes]
    elif not keeps:
        left = [axis for axis in range(taken.ndim) if axis not in axes]
        boxes = [box.reshape(4, *(box.shape[axis + 1] for axis in left)) for box in boxes]
        if len(left) != made.ndim:
            return None
    return _united([(box, made.ndim) for box in boxes], reach.jump)


def _products(
    name: str, args: Sequence[Any], known: Callable[[Any], Reach | None], axes: int
) -> list[tuple[Tensor, int]]:
    """Each row of the first with each column of the second: both are taken together along what they share."""
    added = name.startswith(("add", "_addmm", "badd"))
    left, right = args[1:3] if added else args[:2]
    found = []
    if added and (reach := known(args[0])) is not None:
        found += [(box, axes) for box in reach.boxes]
    if (reach := known(left)) is not None:
        for box in reach.boxes:
            whole = box.amin(-1, keepdim=True)
            found.append((whole if right.ndim > 1 else whole.squeeze(-1), axes))
    if (reach := known(right)) is not None:
        for box in reach.boxes:
            if name == "linear":
                box = box.transpose(-1, -2)
            vector = right.ndim == 1
            found.append((box.amin(-1 if vector else -2, keepdim=not vector), axes))
    return found


# --- windows ---

_WINDOWS = frozenset({
    "convolution", "_convolution", "max_pool2d_with_indices", "max_pool2d", "avg_pool2d", "_adaptive_avg_pool2d",
    "adaptive_max_pool2d", "constant_pad_nd", "reflection_pad2d", "replication_pad2d", "upsample_nearest2d",
    "_upsample_nearest_exact2d", "upsample_bilinear2d", "upsample_bicubic2d", "_upsample_bilinear2d_aa",
    "_upsample_bicubic2d_aa",
})  # fmt: skip


def _slid(name: str, args: Sequence[Any], reach: Reach | None, taken: Tensor, made: Sequence[Tensor]) -> Found:
    """A window that slides over the last axes: along each the cells that it meets."""
    unknown: Found = [None] * len(made)
    result = made[0]
    axes = taken.ndim - 2 if "conv" in name else 2
    if name == "constant_pad_nd":
        axes = len(args[1]) // 2
    elif reach is None or taken.ndim != made[0].ndim or axes < 1:
        return unknown
    assert reach is not None
    boxes = [_least(box, [1]) if "conv" in name else box for box in reach.boxes]
    jump = list(reach.jump)
    for number in range(axes):
        axis = taken.ndim - axes + number
        side = max(number - axes + 2, 0)  # the last axis is across, the one before it down
        before, size = taken.shape[axis], result.shape[axis]
        cells, there = _met(name, args, number, axes, before, size)
        boxes = [_gathered(box, axis + 1, cells, there, before, side, reach.jump[side]) for box in boxes]
        jump[side] = reach.jump[side] * _pace(name, args, number, axes, before, size)
    return [Reach(tuple(boxes), (jump[0], jump[1]))] * len(made)


def _met(name: str, args: Sequence[Any], number: int, axes: int, before: int, size: int) -> tuple[Tensor, Tensor]:
    """`(size, cells)`: for each cell along one axis those that its window meets, and which of them there are."""
    own = torch.arange(size)[:, None]
    if "conv" in name:
        window = args[1].shape[2 + number]
        stride, padding, dilation = (_of(args[k], number) for k in (3, 4, 5))
        offsets = torch.arange(window)[None] * dilation
        if not args[6]:
            return own * stride - padding + offsets, torch.ones(size, window, dtype=torch.bool)
        places = own + padding - offsets
        return torch.div(places, stride, rounding_mode="floor"), places % stride == 0
    if "adaptive" in name:
        first, last = own * before // size, -((-(own + 1) * before) // size)
        cells = first + torch.arange(int((last - first).max()))[None]
        return cells, cells < last
    if "pool" in name:
        window = _of(args[1], number)
        pace = _of(args[2], number) if len(args) > 2 and args[2] else window
        border = _of(args[3], number) if len(args) > 3 else 0
        apart = _of(args[4], number) if name.startswith("max") and len(args) > 4 else 1
        cells = own * pace - border + torch.arange(window)[None] * apart
        return cells, torch.ones_like(cells, dtype=torch.bool)
    if "pad" in name:
        added = args[1][2 * (axes - 1 - number)]  # the last axis comes first
        return own - added, torch.ones_like(own, dtype=torch.bool)
    return _resized(name, args, before, size)


def _resized(name: str, args: Sequence[Any], before: int, size: int) -> tuple[Tensor, Tensor]:
    apart = before / size
    own = torch.arange(size, dtype=torch.float64)[:, None]
    if "nearest" in name:
        cells = ((own + (0.5 if "exact" in name else 0.0)) * apart).floor().long()
        return cells.clamp(0, before - 1), torch.ones_like(cells, dtype=torch.bool)
    aligned = bool(args[2])
    centre = own * ((before - 1) / max(size - 1, 1)) if aligned else (own + 0.5) * apart - 0.5
    reach = (2.0 if "bicubic" in name else 1.0) * (max(apart, 1.0) if name.endswith("_aa") else 1.0)
    cells = centre.floor().long() + torch.arange(-math.ceil(reach), math.ceil(reach) + 1)[None]
    there = (cells - centre).abs() < reach
    return cells.clamp(0, before - 1), there


def _pace(name: str, args: Sequence[Any], number: int, axes: int, before: int, size: int) -> float:
    """How many cells apart two neighbours of the result are in the map that came in."""
    if "conv" in name:
        stride = _of(args[3], number)
        return 1 / stride if args[6] else float(stride)
    if "adaptive" in name or "upsample" in name:
        return before / size if size > 1 or "upsample" in name else 1.0
    if "pool" in name:
        return float(_of(args[2], number) if len(args) > 2 and args[2] else _of(args[1], number))
    return 1.0


def _of(value: Any, number: int) -> int:
    listed = [value] if isinstance(value, int) else list(value)
    return int(listed[number] if len(listed) > number else listed[-1])


def _gathered(box: Tensor, axis: int, cells: Tensor, there: Tensor, before: int, side: int, jump: float) -> Tensor:
    """The box around the cells that each window meets along one axis; beyond the border boxes go on as inside."""
    length = box.shape[axis]
    if length == 1 and before > 1:
        return box
    inside = cells.clamp(0, before - 1)
    beyond = (cells - inside).to(torch.float64)
    found = box.index_select(axis, inside.reshape(-1)).unflatten(axis, cells.shape)
    if length > 1:
        edges = box.narrow(axis, 1, 1) - box.narrow(axis, 0, 1), box.narrow(axis, -1, 1) - box.narrow(axis, -2, 1)
    else:
        one = torch.zeros([4] + [1] * (box.ndim - 1), dtype=torch.float64)
        one[side], one[side + 2] = jump, -jump
        edges = one, one
    step = [edge.nan_to_num(0.0).unsqueeze(axis) for edge in edges]
    form = [1] * axis + list(cells.shape) + [1] * (box.ndim - 1 - axis)
    far = beyond.reshape(form)
    found = found + torch.where(far < 0, far * step[0], torch.where(far > 0, far * step[1], 0.0))
    found = torch.where(there.reshape(form), found, math.inf)
    return found.amin(axis + 1)


def _unfolded(args: Sequence[Any], reach: Reach, made: Tensor) -> Reach:
    """`im2col`: each window as one column, which depends on all of it."""
    taken, size, dilation, padding, stride = args
    boxes, counts = [_least(box, [1]) for box in reach.boxes], []
    for number in range(2):
        length = taken.shape[2 + number]
        reached = (_of(size, number) - 1) * _of(dilation, number) + 1
        counts.append((length + 2 * _of(padding, number) - reached) // _of(stride, number) + 1)
        offsets = torch.arange(_of(size, number))[None] * _of(dilation, number)
        cells = torch.arange(counts[-1])[:, None] * _of(stride, number) - _of(padding, number) + offsets
        there = torch.ones_like(cells, dtype=torch.bool)
        boxes = [_gathered(box, 3 + number, cells, there, length, number, reach.jump[number]) for box in boxes]
    maps = (taken.shape[0], 1, *counts)
    jump = reach.jump[0] * _of(stride, 0), reach.jump[1] * _of(stride, 1)
    return Reach(tuple(_reshaped(box, maps, (taken.shape[0], 1, made.shape[2])) for box in boxes), jump)


def _folded(args: Sequence[Any], reach: Reach, made: Tensor) -> Reach:
    """`col2im`: each cell from all windows that hold it."""
    taken, sides, size, dilation, padding, stride = args
    counts = []
    for number in range(2):
        reached = (_of(size, number) - 1) * _of(dilation, number) + 1
        counts.append((_of(sides, number) + 2 * _of(padding, number) - reached) // _of(stride, number) + 1)
    boxes = [_least(box, [1]) for box in reach.boxes]
    boxes = [_reshaped(box, (taken.shape[0], 1, taken.shape[2]), (taken.shape[0], 1, *counts)) for box in boxes]
    for number in range(2):
        offsets = torch.arange(_of(size, number))[None] * _of(dilation, number)
        places = torch.arange(made.shape[2 + number])[:, None] + _of(padding, number) - offsets
        cells = torch.div(places, _of(stride, number), rounding_mode="floor")
        there = (places % _of(stride, number) == 0) & (cells >= 0) & (cells < counts[number])
        boxes = [_gathered(box, 3 + number, cells, there, counts[number], number, reach.jump[number]) for box in boxes]
    return Reach(tuple(boxes), (reach.jump[0] / _of(stride, 0), reach.jump[1] / _of(stride, 1)))
