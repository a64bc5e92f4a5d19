"""What the axes of a tensor mean: to which place of the image each of its numbers belongs.

Nothing is guessed from sizes. The image's rows and columns are followed through the operations as they run: one that
moves numbers is run on places instead of numbers, one that sums over an axis gives each result the mean place of what
it sums, and a convolution or pooling lays a new grid over its output. So the maps are found in any order of the axes,
in tokens with or without class tokens, in windows, and in sequences that keep the batch second.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map
from torch.utils.weak import WeakTensorKeyDictionary

_MOVING = {
    "view",
    "_unsafe_view",
    "reshape",
    "_reshape_alias",
    "expand",
    "squeeze",
    "unsqueeze",
    "transpose",
    "permute",
}
_MOVING |= {"t", "movedim", "split", "split_with_sizes", "unsafe_split", "unsafe_chunk", "chunk", "unbind", "select"}
_MOVING |= {"slice", "narrow", "stack", "flip", "roll", "repeat", "repeat_interleave", "pixel_shuffle", "cat"}
_MOVING |= {"pixel_unshuffle", "channel_shuffle", "native_channel_shuffle", "constant_pad_nd", "reflection_pad1d"}
_MOVING |= {"reflection_pad2d", "replication_pad1d", "replication_pad2d", "index_select", "index", "gather", "unfold"}
_MOVING |= {"im2col", "diagonal", "unflatten", "flatten", "rot90", "as_strided", "assemble"}
_SHAPING = {"view", "_unsafe_view", "reshape", "_reshape_alias", "squeeze", "unflatten", "flatten"}
_TURNING = {"transpose", "permute", "t", "movedim"}
_CUTTING = {"split", "split_with_sizes", "unsafe_split", "unsafe_chunk", "chunk", "slice", "narrow"}
_PADDING = {"reflection_pad1d", "reflection_pad2d", "replication_pad1d", "replication_pad2d"}

_STAYING = {"_softmax", "_safe_softmax", "_log_softmax", "softmax", "log_softmax", "cumsum", "clone", "detach", "alias"}
_STAYING |= {"native_layer_norm", "layer_norm", "native_group_norm", "group_norm", "native_batch_norm", "batch_norm"}
_STAYING |= {"_native_batch_norm_legit_no_training", "_native_batch_norm_legit", "cudnn_batch_norm", "instance_norm"}
_STAYING |= {"_batch_norm_no_update", "_batch_norm_with_update", "miopen_batch_norm", "rms_norm", "_fused_rms_norm"}
_STAYING |= {"native_dropout", "dropout", "lift_fresh", "lift_fresh_copy", "_to_copy", "contiguous", "copy_", "copy"}
_STAYING |= {"where", "masked_fill", "lerp", "addcmul", "addcdiv", "prelu", "_prelu_kernel", "renorm", "identity"}
_STAYING |= {"normalise", "hardswish", "hardsigmoid", "hardtanh", "elu", "celu", "selu", "silu", "mish", "softplus"}
_STAYING |= {"leaky_relu", "threshold", "log_sigmoid_forward", "log_sigmoid", "gelu", "relu6", "softshrink"}
_STAYING |= {"hardshrink", "rrelu_with_noise", "clamp", "clamp_min", "clamp_max"}
"""Operations that leave every number's place as it is, beside those that torch marks as elementwise."""

_WINDOWS = {"convolution", "conv1d", "conv2d", "conv3d", "conv_transpose2d", "max_pool2d_with_indices", "max_pool2d"}
_WINDOWS |= {"mkldnn_convolution", "_convolution", "avg_pool1d", "avg_pool2d", "max_pool1d", "lp_pool2d"}
_WINDOWS |= {"_adaptive_avg_pool2d", "adaptive_avg_pool2d", "adaptive_avg_pool1d", "adaptive_max_pool2d"}
_WINDOWS |= {"upsample_nearest2d", "_upsample_nearest_exact2d", "upsample_bilinear2d", "upsample_bicubic2d"}
_WINDOWS |= {"_upsample_bilinear2d_aa", "_upsample_bicubic2d_aa", "fractional_max_pool2d"}

_SUMMING = {"mean", "sum", "amax", "amin", "max", "min", "median", "var", "std", "var_mean", "std_mean", "prod"}
_SUMMING |= {"norm", "linalg_vector_norm", "logsumexp", "any", "all", "argmax", "argmin", "nansum", "aminmax"}

_MAKING = {"new_empty", "new_zeros", "new_ones", "new_full", "empty_like", "zeros_like", "ones_like", "full_like"}
_MAKING |= {"new_empty_strided", "rand_like", "randn_like"}
"""Operations that take only the shape."""

_PRODUCTS = {"mm": 0, "bmm": 0, "matmul": 0, "addmm": 1, "baddbmm": 1, "addbmm": 1}
"""Matrix products, and at which argument the first matrix is."""


@dataclass(frozen=True, eq=False)
class Grid:
    """How a tensor's numbers lie as maps.

    Attributes:
        channels, height, width: of the maps.
        beside: numbers of each channel that belong to no place, such as a class token.
    """

    channels: int
    height: int
    width: int
    beside: int
    _shape: tuple[int, ...] = field(repr=False)
    _order: tuple[int, ...] = field(repr=False)
    """The axes without places, then those with."""
    _cells: Tensor = field(repr=False)
    """For each cell of the maps, row by row, where it is along the axes with places."""

    @property
    def batched(self) -> bool:
        """Whether the first axis counts the images, so that the same holds for several."""
        return self._shape[0] == 1 and self._order[0] == 0

    @cached_property
    def plain(self) -> bool:
        """Whether the tensor is `(N, channels, height, width)` as it is."""
        return (
            self.batched
            and self._shape[1:] == (self.channels, self.height, self.width)
            and self._order == (0, 1, 2, 3)
            and bool((self._cells == torch.arange(len(self._cells))).all())
        )

    def maps(self, tensor: Tensor) -> Tensor:
        """The tensor, or where `batched` that of several images, as `(N, channels, height, width)`."""
        if self.plain:
            return tensor
        images = len(tensor) if self.batched else 1
        lines = tensor.permute(self._order).reshape(images, self.channels, -1)
        return lines[..., self._cells.to(tensor.device)].reshape(images, self.channels, self.height, self.width)

    def unit(self, place: Sequence[int]) -> tuple[int, int, int] | None:
        """(channel, y, x) of the number at a place of the tensor; None where it belongs to no place."""
        sizes = [self._shape[axis] for axis in self._order]
        at, number = [place[axis] for axis in self._order], 0
        for size, index in zip(sizes, at, strict=True):
            number = number * size + index
        channel, along = divmod(number, math.prod(sizes) // self.channels)
        found = (self._cells == along).nonzero()
        if not len(found):
            return None
        y, x = divmod(int(found[0]), self.width)
        return channel, y, x


@dataclass(frozen=True, eq=False)
class _Cells:
    """Which place each number has, along the axes that change it; tensors with the same places share one."""

    numbers: Tensor
    """float64, broadcasts to the tensor: 0 where a number has no place, else 1 + the number of a row of `places`."""
    places: Tensor
    """float64 `(n, 2)`: row and column, 0..1."""

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.numbers.shape)

    @cached_property
    def where(self) -> Tensor:
        """Row and column of each number, `(..., 2)`; of one without a place those of any."""
        return self.places[(self.numbers.long() - 1).clamp(min=0)]

    @cached_property
    def there(self) -> Tensor:
        return self.numbers > 0

    @cached_property
    def spread(self) -> tuple[frozenset[int], frozenset[int]]:
        """The axes along which the row changes, and those along which the column does."""
        there = self.there[..., None]
        low, high = self.where.masked_fill(~there, torch.inf), self.where.masked_fill(~there, -torch.inf)
        along: tuple[set[int], set[int]] = set(), set()
        for axis, size in enumerate(self.shape):
            if size > 1:
                wide = (high.amax(axis) > low.amin(axis)).reshape(-1, 2).any(0).tolist()
                for which in (0, 1):
                    if wide[which]:
                        along[which].add(axis)
        return frozenset(along[0]), frozenset(along[1])

    @cached_property
    def grid(self) -> tuple[int, int, Tensor] | None:
        """Height, width, and for each cell of the maps where it is along the axes that change; None if these are no
        rows and columns.
        """
        changing = [axis for axis, size in enumerate(self.shape) if size > 1]
        there = self.there.flatten().nonzero()[:, 0]  # the other axes have size 1
        if len(changing) == 2 and len(there) < self.numbers.numel():
            padded = self._with_border(changing)
            if padded is not None:
                return padded
        rows, columns = self.where.reshape(-1, 2)[there].T
        (rows, row), (columns, column) = (torch.unique(each, return_inverse=True) for each in (rows, columns))
        height, width = len(rows), len(columns)
        cells = torch.full((height * width,), -1, device=there.device)
        if height * width == len(there):
            cells[row * width + column] = there
        if height * width != len(there) or bool((cells < 0).any()):
            # Cells that were repeated share a place: their order is that of the axes.
            if [*self.spread] != [{axis} for axis in changing] or len(there) != self.numbers.numel():
                return None
            height, width = (self.shape[axis] for axis in changing)
            cells = torch.arange(height * width)
        return (height, width, cells) if height * width > 1 else None

    def summed(self, over: Sequence[int]) -> _Cells:
        """What is summed over these axes has the mean place of its terms."""
        over = [axis for axis in over if self.shape[axis] > 1]
        if not over:
            return self
        there = self.there.double()
        counted = there.sum(over, keepdim=True)
        mean = (self.where * there[..., None]).sum(over, keepdim=True) / counted.clamp(min=1)[..., None]
        return _numbered(mean, counted > 0)

    def _with_border(self, changing: Sequence[int]) -> tuple[int, int, Tensor] | None:
        """As `grid`, with the cells that were added round the image's; None where others have no place."""
        first, second = changing
        for row_axis, column_axis in ((first, second), (second, first)):
            if self.spread[0] <= {row_axis} and self.spread[1] <= {column_axis}:
                steps = [self.along(which, axis).diff() for which, axis in ((0, row_axis), (1, column_axis))]
                if not all(bool((step > 0).all() or (step < 0).all()) for step in steps):
                    return None
                size = [self.shape[axis] for axis in changing]
                cells = torch.arange(math.prod(size)).reshape(size)
                cells = cells if row_axis == first else cells.T
                cells = cells.flip([which for which, step in enumerate(steps) if len(step) and step[0] < 0])
                return *cells.shape, cells.flatten()
        return None

    def along(self, which: int, axis: int) -> Tensor:
        """Row (0) or column (1) along an axis, where there is one."""
        lines, there = self.where[..., which].movedim(axis, 0).flatten(1), self.there.movedim(axis, 0).flatten(1)
        placed = there.any(1)
        return lines[placed].gather(1, there[placed].double().argmax(1, keepdim=True))[:, 0]


@dataclass(frozen=True, eq=False)
class Axes:
    """The place in the image of each number of a tensor.

    Attributes:
        shape: the tensor's.
        paired: whether each number belongs to two places, as the weights of attention do.
        unknown: why the places are not known, or an empty text.
    """

    shape: tuple[int, ...]
    _cells: _Cells = field(repr=False)
    paired: bool = False
    unknown: str = ""

    @classmethod
    def of_image(cls, shape: Sequence[int]) -> Axes:
        """Those of `(N, C, H, W)`."""
        return cls(tuple(shape), _laid(tuple(shape), {0: 2, 1: 3}))

    @classmethod
    def unknown_of(cls, shape: Sequence[int], reason: str) -> Axes:
        """Those of a tensor of which nothing is known."""
        return _lost(tuple(shape), reason)

    @property
    def placed(self) -> bool:
        """Whether its numbers belong to different places."""
        return self._cells.numbers.numel() > 1

    @cached_property
    def grid(self) -> Grid | None:
        """Its numbers as maps of more than one cell; None where they are none."""
        found = None if self.unknown or self.paired or not self.placed else self._cells.grid
        if found is None:
            return None
        height, width, cells = found
        changing = [axis for axis, size in enumerate(self._cells.shape) if size > 1]
        staying = [axis for axis in range(len(self.shape)) if axis not in changing]
        channels = math.prod(self.shape[axis] for axis in staying)
        beside = self._cells.numbers.numel() - len(cells)
        return Grid(channels, height, width, beside, self.shape, (*staying, *changing), cells)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """A word for each axis: `batch`, `channel`, `height`, `width`, `token`, or `unknown`."""
        if self.unknown:
            return ("unknown",) * len(self.shape)
        words = []
        rows, columns = self._cells.spread
        for axis, size in enumerate(self._cells.shape):
            both = (axis in rows) == (axis in columns)
            if size > 1:
                words.append("token" if both else "height" if axis in rows else "width")
            else:
                words.append("batch" if axis == 0 and self.shape[0] == 1 and len(self.shape) > 1 else "channel")
        if self.paired and words[-1] == "channel":
            words[-1] = "token"
        return tuple(words)

    def _over(self, axes: Sequence[int]) -> Axes:
        """After a sum over these axes, which stay with size 1."""
        count = len(self.shape)
        axes = [axis % count for axis in axes]
        shape = tuple(1 if axis in axes else size for axis, size in enumerate(self.shape))
        return replace(self, shape=shape, _cells=self._cells.summed(axes))


def _laid(shape: tuple[int, ...], axis_of: dict[int, int], backwards: Sequence[int] = ()) -> _Cells:
    """A new grid: which axis has the rows (0) and which the columns (1)."""
    sizes = [shape[axis_of[which]] if which in axis_of else 1 for which in (0, 1)]
    lines = [(torch.arange(size, dtype=torch.float64) + 0.5) / size for size in sizes]
    places = torch.cartesian_prod(*lines)
    numbers = torch.arange(1, len(places) + 1, dtype=torch.float64).reshape(sizes)
    cells = numbers.flip([which for which in (0, 1) if axis_of.get(which) in backwards])
    if 0 in axis_of and 1 in axis_of and axis_of[0] > axis_of[1]:
        cells = cells.T
    full = [1] * len(shape)
    for axis in axis_of.values():
        full[axis] = shape[axis]
    return _Cells(cells.reshape(full), places)


def _numbered(where: Tensor, there: Tensor) -> _Cells:
    """From a place for each number, `(..., 2)`, and whether it has one."""
    places, number = torch.unique(where.reshape(-1, 2).round(decimals=9), dim=0, return_inverse=True)
    return _Cells(_slim(torch.where(there, number.reshape(there.shape) + 1.0, 0.0)), places)


def _slim(cells: Tensor) -> Tensor:
    """With size 1 along each axis that changes nothing. A single place is none: nothing is told apart by it."""
    placed = cells[cells > 0]
    if not placed.numel() or bool(placed.min() == placed.max()):
        return cells.new_zeros((1,) * cells.ndim)
    for axis, size in enumerate(cells.shape):
        first = cells.narrow(axis, 0, 1)
        if size > 1 and bool((cells == first).all()):
            cells = first
    return cells.contiguous()


def _nowhere(shape: Sequence[int]) -> Axes:
    cells = _Cells(torch.zeros((1,) * len(shape), dtype=torch.float64), torch.zeros(1, 2, dtype=torch.float64))
    return Axes(tuple(shape), cells)


def _lost(shape: Sequence[int], reason: str) -> Axes:
    return replace(_nowhere(shape), unknown=reason)


def axes_after(
    operation: str,
    function: Any,
    arguments: tuple[Any, ...],
    keywords: dict[str, Any],
    made: Sequence[Tensor],
    known: Callable[[Any], tuple[Axes, Tensor] | None],
    piece: int | None = None,
) -> list[Axes]:
    """What the axes of an operation's results mean.

    Args:
        operation: its name, without the underscore of an operation in place.
        function: the operation, as torch dispatches it.
        arguments, keywords: its own, with tensors or what stands for them.
        made: its results.
        known: of an argument that depends on the image the axes and the numbers, else None.
        piece: where `made` has one of several results only, which.
    """
    call = _Call(operation, function, arguments, keywords, made, known)
    try:
        found = call.axes()
    except (RuntimeError, TypeError, ValueError, IndexError, NotImplementedError):  # it does not run on places
        found = []
    if piece is not None and len(found) > 1:
        found = [found[piece]]
    whole = len(found) == len(made) and all(
        axes.shape == tuple(each.shape) for axes, each in zip(found, made, strict=True)
    )
    return found if whole else [_lost(each.shape, f"{operation} is not followed") for each in made]


class _Call:
    """One operation, and what it does to places."""

    def __init__(
        self,
        name: str,
        function: Any,
        arguments: tuple[Any, ...],
        keywords: dict[str, Any],
        made: Sequence[Tensor],
        known: Callable[[Any], tuple[Axes, Tensor] | None],
    ) -> None:
        self.name, self.function = name, function
        self.arguments, self.keywords, self.made, self.known = arguments, keywords, made, known
        self.shape = tuple(made[0].shape) if made else ()
        found = [pair for leaf in tree_leaves((arguments, keywords)) if (pair := known(leaf)) is not None]
        self.given = [axes for axes, tensor in found if tensor.is_floating_point()] or [axes for axes, _ in found]

    def axes(self) -> list[Axes]:
        """One for each result."""
        if not self.given or not self.made:
            return []
        if self.name in _MAKING:
            return [_nowhere(each.shape) for each in self.made]
        if all(axes.unknown for axes in self.given):
            return [_lost(each.shape, self.given[0].unknown) for each in self.made]
        if self.name in _MOVING:
            return self._moved()
        if self.name in _STAYING or torch.Tag.pointwise in getattr(self.function, "tags", ()):
            one = self._together()
        elif self.name in _WINDOWS:
            one = self._window()
        elif self.name in _SUMMING:
            one = self._summed()
        elif self.name in _PRODUCTS:
            one = self._multiplied()
        elif self.name == "linear":
            one = self.given[0]._over([-1])
            one = replace(one, shape=self.shape)
        else:
            return []
        return [
            one if one.shape == tuple(each.shape) else _lost(each.shape, f"a by-product of {self.name}")
            for each in self.made
        ]

    # --- operations that move numbers ---

    def _moved(self) -> list[Axes]:
        first = self.given[0]
        if not any(axes.placed or axes.unknown for axes in self.given):
            return [_nowhere(each.shape) for each in self.made]
        if self.name in _TURNING and len(self.given) == 1:
            turned = self.function(first._cells.numbers, *self.arguments[1:], **self.keywords)
            return [replace(first, shape=self.shape, _cells=_Cells(turned, first._cells.places))]
        if self.name == "expand" and len(self.given) == 1:
            return [_broadcast(first, self.shape)]
        axis = self._axis()
        if axis is not None and all(axes._cells.shape[axis] == 1 for axes in self.given):
            if self.name in _CUTTING:
                return [replace(first, shape=tuple(each.shape)) for each in self.made]
            if self.name == "cat" and len({(axes._cells.shape, axes._cells.spread) for axes in self.given}) == 1:
                return [replace(_most_placed(self.given), shape=self.shape)]
        return self._run_on_places()

    def _axis(self) -> int | None:
        """The axis along which it cuts or joins."""
        if self.name not in (*_CUTTING, "cat"):
            return None
        at = [each.name for each in self.function._schema.arguments].index("dim")
        axis = self.arguments[at] if at < len(self.arguments) else self.keywords.get("dim", 0)
        return int(axis) % len(self.shape)

    def _run_on_places(self) -> list[Axes]:
        tables: list[Tensor] = []
        start, paired, unknown = 0, False, ""

        def one(leaf: Any) -> Any:
            nonlocal start, paired, unknown
            found = self.known(leaf)
            if found is None:
                # What the network adds of its own belongs to no place; an index stays an index.
                return torch.zeros_like(leaf, dtype=torch.float64) if _is_floating(leaf) else leaf
            axes, tensor = found
            if not tensor.is_floating_point():
                return tensor
            own = axes._cells
            cells = torch.where(own.there, own.numbers + start, 0).expand(axes.shape)
            if self.name == "as_strided":  # the only one that asks how numbers lie in memory
                cells = torch.empty_strided(tensor.shape, tensor.stride(), dtype=torch.float64).copy_(cells)
            tables.append(own.places)
            start, paired, unknown = start + len(own.places), paired or axes.paired, unknown or axes.unknown
            return cells

        arguments, keywords = tree_map(one, (self.arguments, self.keywords))
        if unknown:
            return [_lost(each.shape, unknown) for each in self.made]
        if self.name in _SHAPING:
            moved: Any = arguments[0].reshape(self.shape)
        elif self.name == "constant_pad_nd":
            moved = self.function(*arguments[:2], 0.0)
        else:
            moved = self.function(*arguments, **keywords)
        results = [leaf for leaf in tree_leaves(moved) if isinstance(leaf, Tensor)]
        found = []
        for each in results:
            cells = _Cells(_slim(each), torch.cat(tables))
            if len(tables) > 1:
                cells = _numbered(cells.where, cells.there)
            found.append(Axes(tuple(each.shape), cells, paired))
        return found

    # --- operations that compute ---

    def _together(self) -> Axes:
        """Each result from numbers in the same place."""
        operands = [_broadcast(axes, self.shape) for axes in self.given if not axes.unknown]
        best = _most_placed(operands)
        for axes in operands:
            if not all(other <= own for other, own in zip(axes._cells.spread, best._cells.spread, strict=True)):
                return _lost(self.shape, f"{self.name} joins maps whose axes differ")
        if not best.placed and len(operands) < len(self.given):
            return _lost(self.shape, next(axes.unknown for axes in self.given if axes.unknown))
        return replace(best, paired=any(axes.paired for axes in operands))

    def _window(self) -> Axes:
        """A window slides over the axes behind the second, and all channels are summed."""
        found = self.given[0]._over([1])
        sizes = self.shape[2:]
        if len(found.shape) != len(self.shape):
            return _lost(self.shape, f"{self.name} is not followed")
        if not found.placed or found.shape[2:] == sizes:
            return replace(found, shape=self.shape)
        if found.paired or found._cells.shape[0] > 1 or len(sizes) != 2:
            return _lost(self.shape, f"{self.name} is not followed over these axes")
        rows, columns = found._cells.spread
        if len(rows) > 1 or len(columns) > 1 or rows & columns:
            return _lost(self.shape, f"{self.name} slides over axes that are not the image's")
        axis_of = {which: next(iter(along)) for which, along in enumerate((rows, columns)) if along}
        lines = {axis: found._cells.along(which, axis) for which, axis in axis_of.items()}
        backwards = [axis for axis, line in lines.items() if line[0] > line[-1]]
        left = {0, 1} - set(axis_of), {2, 3} - set(axis_of.values())
        axis_of |= dict(zip(*left, strict=True))
        return Axes(self.shape, _laid(self.shape, axis_of, backwards))

    def _summed(self) -> Axes:
        names = [each.name for each in self.function._schema.arguments]
        at = names.index("dim") if "dim" in names else len(self.arguments)
        over = self.arguments[at] if at < len(self.arguments) else self.keywords.get("dim")
        axes = self.given[0]
        count = len(axes.shape)
        over = range(count) if over is None or over == [] else [over] if isinstance(over, int) else over
        over = sorted({axis % count for axis in over})
        found = axes._over(over)
        if len(self.shape) == count:
            return found
        kept = [axis for axis in range(count) if axis not in over]
        numbers = found._cells.numbers.reshape([found._cells.shape[axis] for axis in kept])
        shape = tuple(axes.shape[axis] for axis in kept)
        return replace(found, shape=shape, _cells=_Cells(numbers, found._cells.places))

    def _multiplied(self) -> Axes:
        """Rows times columns: what is summed over loses its places, unless they are all the same."""
        at = _PRODUCTS[self.name]
        first, second = (self.known(each) for each in self.arguments[at : at + 2])
        left = first[0]._over([-1]) if first is not None else None
        right = second[0]._over([-2]) if second is not None else None
        unknown = next((axes.unknown for axes in (left, right) if axes is not None and axes.unknown), "")
        if unknown or (left is None and right is None):
            return _lost(self.shape, unknown or f"{self.name} is not followed")
        if left is None or right is None:
            found = left or right
            assert found is not None
            return _broadcast(found, self.shape)
        rows, columns = left._cells.shape[-2] > 1, right._cells.shape[-1] > 1
        chosen = left if rows or (left.placed and not columns) else right
        return replace(_broadcast(chosen, self.shape), paired=rows and columns)


def _is_floating(leaf: Any) -> bool:
    return isinstance(leaf, Tensor) and leaf.is_floating_point()


def _broadcast(axes: Axes, shape: tuple[int, ...]) -> Axes:
    """With this shape; new axes stand in front."""
    more = len(shape) - len(axes.shape)
    cells = axes._cells
    if more:
        cells = _Cells(cells.numbers.reshape((1,) * more + cells.shape), cells.places)
    return replace(axes, shape=tuple(shape), _cells=cells)


def _most_placed(axes: Sequence[Axes]) -> Axes:
    return max(axes, key=lambda each: each._cells.numbers.numel())


class AxisFollower:
    """Knows what the axes mean of every tensor that is computed from an image, while that is computed."""

    def __init__(self) -> None:
        self._known: Any = WeakTensorKeyDictionary()

    def begin(self, image: Tensor) -> None:
        """From here on follow what is made from the image `(1, C, H, W)`."""
        self._known[image] = Axes.of_image(image.shape)

    def of(self, tensor: Tensor) -> Axes | None:
        """None of a tensor that does not depend on the image."""
        found: Axes | None = self._known.get(tensor)
        return found

    def ran(self, function: Any, arguments: tuple[Any, ...], keywords: dict[str, Any], result: Any) -> None:
        """To be told of each operation that torch dispatches."""
        leaves = tree_leaves((arguments, keywords))
        if not any(isinstance(leaf, Tensor) and leaf in self._known for leaf in leaves):
            return
        made = [leaf for leaf in tree_leaves(result) if isinstance(leaf, Tensor)]
        name = function._overloadpacket.__name__
        if function._schema.is_mutable and name.endswith("_") and not name.endswith("__"):
            name = name[:-1]
        found = axes_after(name, function, arguments, keywords, made, self._pair)
        for tensor, axes in zip(made, found, strict=True):
            self._known[tensor] = axes
            if function._schema.is_mutable and tensor._base is not None:
                self._written(tensor, axes)

    def _pair(self, leaf: Any) -> tuple[Axes, Tensor] | None:
        axes = self.of(leaf) if isinstance(leaf, Tensor) else None
        return None if axes is None else (axes, leaf)

    def _written(self, view: Tensor, axes: Axes) -> None:
        """A part of a tensor was written through a view: the whole has these places there."""
        whole = view._base
        assert whole is not None
        before = self.of(whole) or _nowhere(whole.shape)
        if before.unknown or axes.unknown:
            self._known[whole] = _lost(whole.shape, before.unknown or axes.unknown)
            return
        numbers = torch.empty_strided(whole.shape, whole.stride(), dtype=torch.float64)
        numbers.copy_(before._cells.numbers.expand(whole.shape))
        start = view.storage_offset() - whole.storage_offset()
        written = torch.where(axes._cells.there, axes._cells.numbers + len(before._cells.places), 0)
        numbers.as_strided(view.shape, view.stride(), start).copy_(written.expand(view.shape))
        cells = _Cells(_slim(numbers), torch.cat([before._cells.places, axes._cells.places]))
        cells = _numbered(cells.where, cells.there)
        self._known[whole] = Axes(tuple(whole.shape), cells, before.paired or axes.paired)
