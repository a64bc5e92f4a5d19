"""Why this number? The complete arithmetic of one unit, from the numbers that the trace recorded, in float64.

Each operation of the catalogue has one rule that lists its terms. `sum` is what the terms give in float64, `recorded`
what the network computed, and `bound` how far float32 may be away from it: a sum of n products of which each is rounded
is off by at most n u / (1 - n u) times the sum of their absolute values, in whatever order it is added up (Higham 2002,
section 3.1), u = 2^-24.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...errors import UsageError, printable
from ..capture.recorder import Ref, Step, Trace

if TYPE_CHECKING:
    from PIL import Image

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Unit:
    """One cell of one layer's output: `index` is (channel, y, x) of maps, (number,) of vectors, else one number an
    axis.
    """

    layer: str
    index: tuple[int, ...]

    def to_json(self) -> dict[str, Any]:
        """`layer`, `channel`, `y`, `x`; of a vector y and x are 0; `index` where there are other axes."""
        return {"layer": self.layer} | place_json(self.index)

    def __str__(self) -> str:
        return f"{self.layer}[{', '.join(map(str, self.index))}]"


def place_json(index: tuple[int, ...]) -> dict[str, Any]:
    """A position with its words."""
    if len(index) not in (1, 3):
        return {"index": list(index)}
    return dict(zip(("channel", "y", "x"), (*index, 0, 0)[:3], strict=True))


@dataclass(frozen=True)
class Term:
    """One term of a sum.

    Attributes:
        input: the number that came in.
        weight: what it is multiplied by; None where a function is applied instead.
        product: what the term adds.
        source: the unit that `input` is, or None for a constant or a padding cell.
        weight_source: the unit that `weight` is, where both come from the image (attention, gates).
        padding: whether this is a cell beyond the border.
        winner: whether this is the cell that a max pooling took.
    """

    input: float
    weight: float | None
    product: float
    source: Unit | None
    weight_source: Unit | None = None
    padding: bool = False
    winner: bool = False

    def to_json(self) -> dict[str, Any]:
        """`input`, `weight`, `product`, and `from`, or `padding`."""
        value: dict[str, Any] = {"input": self.input, "weight": self.weight, "product": self.product}
        if self.padding:
            value["padding"] = True
        elif self.source is not None:
            value["from"] = self.source.to_json()
        if self.weight_source is not None:
            value["weight_from"] = self.weight_source.to_json()
        if self.winner:
            value["winner"] = True
        return value


@dataclass(eq=False)
class _Parts:
    """What a rule finds: n terms, and what is to be done with them."""

    inputs: Floats
    weights: Floats | None
    products: Floats
    sources: Sequence[tuple[Ref | None, Ints]]
    """Runs of terms with the step they come from and their flat positions in its output; -1: a padding cell."""
    words: str
    bias: float | None = None
    total: float | None = None
    """The result where it is not the sum of products and bias."""
    roundings: int = 0
    """How often a number is rounded on the way; sets `bound` with `magnitude`."""
    magnitude: float | None = None
    """What the roundings are relative to; by default the sum of the absolute products and bias."""
    constants: dict[str, float] = field(default_factory=dict)
    shape: tuple[int, ...] = ()
    """The terms' own shape: (channels, height, width) of a filter."""
    weight_sources: tuple[Ref, Ints] | None = None
    winner: int = -1
    settings: dict[str, Any] = field(default_factory=dict)
    function: tuple[str, tuple[Any, ...], dict[str, Any]] | None = None
    """An elementwise function: torch's name and its settings."""


@dataclass(frozen=True, eq=False)
class Why:
    """The arithmetic of one unit.

    n terms.

    Attributes:
        unit: which number this is.
        kind: the layer's kind.
        words: the arithmetic in words, such as `3x3 convolution over 32 channels`.
        inputs, products: float64 `(n,)`.
        weights: float64 `(n,)`, or None where a function is applied.
        bias: what is added at the end, or None.
        sum: the result in float64.
        recorded: what the network computed.
        bound: how far `recorded` may be from `sum` by rounding alone.
        constants: further numbers of the formula, by name (mean and variance of a norm).
        shape: the terms' own shape, such as `(32, 3, 3)` of a filter; `(n,)` otherwise.
        winner: the place of the term that a max pooling took, or -1.
        opened: False where the operation is not in the catalogue: then `sum` is the whole operation run in float64.
    """

    unit: Unit
    kind: str
    words: str
    inputs: Floats
    weights: Floats | None
    products: Floats
    bias: float | None
    sum: float
    recorded: float
    bound: float
    constants: dict[str, float]
    shape: tuple[int, ...]
    winner: int
    opened: bool
    settings: dict[str, Any]
    function: tuple[str, tuple[Any, ...], dict[str, Any]] | None
    _trace: Trace = field(repr=False)
    _sources: Sequence[tuple[int, Ints]] = field(repr=False)
    _weight_sources: tuple[int, Ints] | None = field(repr=False)

    @property
    def layer(self) -> str:
        """The layer's name."""
        return self.unit.layer

    @property
    def difference(self) -> float:
        """`recorded` minus `sum`."""
        return self.recorded - self.sum

    @property
    def agrees(self) -> bool:
        """Whether the difference is within `bound`."""
        return abs(self.difference) <= self.bound or self.recorded == self.sum

    def __len__(self) -> int:
        return len(self.inputs)

    @property
    def padding(self) -> NDArray[np.bool_]:
        """`(n,)`: which terms are cells beyond the border."""
        flags = [places < 0 if step >= 0 else np.zeros(len(places), bool) for step, places in self._sources]
        return np.concatenate(flags) if flags else np.zeros(0, bool)

    @property
    def terms(self) -> list[Term]:
        """Every term, in order: channel by channel, row by row."""
        return [self.term(number) for number in range(len(self))]

    def term(self, number: int) -> Term:
        """The term at a place, from 0."""
        left, source, padding = number, None, False
        for step, places in self._sources:
            if left < len(places):
                if step >= 0:
                    padding = bool(places[left] < 0)
                    source = None if padding else self._unit(step, int(places[left]))
                break
            left -= len(places)
        other = None
        if self._weight_sources is not None:
            step, places = self._weight_sources
            other = self._unit(step, int(places[number]))
        return Term(
            float(self.inputs[number]),
            None if self.weights is None else float(self.weights[number]),
            float(self.products[number]),
            source,
            other,
            padding,
            number == self.winner,
        )

    def _unit(self, step: int, place: int) -> Unit:
        made = self._trace.steps[step]
        return Unit(made.name, tuple(int(i) for i in np.unravel_index(place, made.shape)) if made.shape else ())

    def open(self, number: int) -> Why:
        """The arithmetic of the input of one term, so that any number can be followed down to the pixels.

        Raises:
            UsageError: the term is a padding cell or a constant (`term-closed`), or there is no such term
                (`term-unknown`).
        """
        if not 0 <= number < len(self):
            raise UsageError(
                "term", f"{self.unit} has terms 0 to {len(self) - 1}; received {number}", code="term-unknown"
            )
        source = self.term(number).source
        if source is None:
            raise UsageError("term", f"term {number} of {self.unit} is no computed number", code="term-closed")
        return self._trace.why(source.layer, *source.index)

    def subtotals(self) -> Floats:
        """The sum of the products of each input channel, `(channels,)`; of other layers all products as they are."""
        return self.products.reshape(self.shape[0], -1).sum(1) if len(self.shape) > 1 else self.products

    def to_json(self) -> dict[str, Any]:
        """`layer`, `kind`, `unit`, `terms`, `bias`, `sum`, `recorded`, `difference`, `bound`, and the rest."""
        return {
            "layer": self.layer,
            "kind": self.kind,
            "unit": place_json(self.unit.index),
            "words": self.words,
            "terms": [term.to_json() for term in self.terms],
            "bias": self.bias,
            "constants": self.constants,
            "sum": self.sum,
            "recorded": self.recorded,
            "difference": self.difference,
            "bound": self.bound,
            "opened": self.opened,
        }

    def text(self, *, all: bool = False) -> str:
        """For a terminal: short, or with every product."""
        from ..drawings.text import why_text

        return why_text(self, all=all)

    def snippet(self) -> str:
        """A PyTorch program of a few lines that prints `sum`."""
        from ..drawings.text import why_snippet

        return why_snippet(self)

    def figure(self) -> Image.Image:
        """The arithmetic as a picture: what came in, the weights, the products, and the sum."""
        from ..drawings.maps import why_figure

        return why_figure(self)

    def __str__(self) -> str:
        return self.text()

    def _repr_html_(self) -> str:
        from ...render import preformatted

        return preformatted(self.text())


def read_unit(text: str) -> tuple[Any, ...]:
    """`conv2:5,3,4` as `("conv2", 5, 3, 4)`, the arguments of `Trace.why`.

    Raises:
        UsageError: it has another form (`unit-malformed`).
    """
    layer, colon, place = text.rpartition(":")
    parts = [part.strip() for part in place.split(",")]
    if (
        not colon
        or not layer.strip()
        or not all(part.isascii() and part.isdigit() and len(part) < 10 for part in parts)
    ):
        raise UsageError(
            "--why",
            f"expected LAYER:CHANNEL,Y,X, such as conv2:5,3,4, or LAYER:UNIT; received {printable(text)[:80]}",
            hint="the layers' names stand in the table of: convoscope look RUN IMAGE",
            code="unit-malformed",
        )
    return layer.strip(), *map(int, parts)


def explain(trace: Trace, step: Step, index: Sequence[int]) -> Why:
    """The arithmetic of one unit of a step; see `Trace.why`."""
    place = _place(step, index)
    full = place if len(place) == step.output.ndim else (0, *place)
    recorded = float(step.output[full])
    if not step.inputs:
        parts = _Parts(np.zeros(0), None, np.zeros(0), [], "what goes in: nothing computes it", total=recorded)
        return _why(trace, step, place, parts, recorded, opened=True)
    parts_or_none = None if step.opaque else _terms(trace, step, full)
    if parts_or_none is None:
        return _why(trace, step, place, _as_a_whole(trace, step, full), recorded, opened=False)
    return _why(trace, step, place, parts_or_none, recorded, opened=True)


def _place(step: Step, index: Sequence[int]) -> tuple[int, ...]:
    shape = step.shape
    place = tuple(int(i) for i in index)
    if len(shape) == 1 and len(place) == 3 and place[1:] == (0, 0):
        place = place[:1]
    inside = len(place) == len(shape) and all(0 <= i < n for i, n in zip(place, shape, strict=True))
    if not inside:
        words = {3: "channel, y, x", 1: "the unit's number"}.get(len(shape), f"{len(shape)} numbers")
        limits = ", ".join(f"0 to {n - 1}" for n in shape)
        raise UsageError(
            "unit",
            f"{step.name} needs {words}, in {limits}; received {', '.join(map(str, index)) or 'nothing'}",
            hint=f"its middle: {step.name}:{','.join(str(n // 2) for n in shape)}",
            code="unit-unknown",
        )
    return place


def _why(trace: Trace, step: Step, place: tuple[int, ...], parts: _Parts, recorded: float, *, opened: bool) -> Why:
    total = parts.total
    if total is None:
        total = math.fsum(parts.products) + (parts.bias or 0.0)
    precision = torch.finfo(step.output.dtype if step.output.is_floating_point() else torch.float64)
    u = precision.eps / 2
    magnitude = parts.magnitude
    if magnitude is None:
        magnitude = float(np.abs(parts.products).sum()) + abs(parts.bias or 0.0)
    n = parts.roundings
    bound = n * u / (1 - n * u) * magnitude + n * precision.smallest_normal * u if n else 0.0
    return Why(
        unit=Unit(step.name, place),
        kind=step.kind,
        words=parts.words,
        inputs=parts.inputs,
        weights=parts.weights,
        products=parts.products,
        bias=parts.bias,
        sum=total,
        recorded=recorded,
        bound=bound,
        constants=parts.constants,
        shape=parts.shape or (len(parts.inputs),),
        winner=parts.winner,
        opened=opened,
        settings=parts.settings,
        function=parts.function,
        _trace=trace,
        _sources=[(-1 if ref is None else ref.step, places) for ref, places in parts.sources],
        _weight_sources=None
        if parts.weight_sources is None
        else (parts.weight_sources[0].step, parts.weight_sources[1]),
    )


def _as_a_whole(trace: Trace, step: Step, full: tuple[int, ...]) -> _Parts:
    """An operation outside the catalogue, run in float64 as a whole."""
    empty: Floats = np.zeros(0)
    if step.function is None or step.opaque:
        return _Parts(empty, None, empty, [], step.opaque or "not opened", total=float(step.output[full]))
    with torch.no_grad():
        result = _piece(step, step.function(*_doubled(trace, step.arguments), **_doubled(trace, step.keywords)))
    words = (
        f"torch's {step.operation} of {', '.join(step.inputs)}, run as a whole in float64: its arithmetic is not opened"
    )
    total = float(result[full])
    most = max(float(trace.steps[number].output.abs().max()) for number in step.references())
    return _Parts(empty, None, empty, [], words, total=total, roundings=64, magnitude=abs(total) + most)


# --- what the rules share ---------------------------------------------------------------------------------------------


class _Rule(Protocol):
    def __call__(self, trace: Trace, step: Step, full: tuple[int, ...]) -> _Parts: ...


_RULES: dict[str, _Rule] = {}


def _rule(*names: str) -> Callable[[_Rule], _Rule]:
    def put(rule: _Rule) -> _Rule:
        _RULES.update(dict.fromkeys(names, rule))
        return rule

    return put


def _terms(trace: Trace, step: Step, full: tuple[int, ...]) -> _Parts | None:
    rule = _RULES.get(step.operation)
    if rule is not None:
        return rule(trace, step, full)
    if step.function is not None and (torch.Tag.pointwise in step.function.tags or step.operation in _POINTWISE):
        return _pointwise(trace, step, full)
    return None


def _tensor(trace: Trace, value: Any) -> Tensor:
    return (trace.steps[value.step].output if isinstance(value, Ref) else value).detach()


def _argument(step: Step, position: int, name: str, default: Any = None) -> Any:
    if position < len(step.arguments):
        return step.arguments[position]
    return step.keywords.get(name, default)


def _doubled(trace: Trace, value: Any) -> Any:
    """Arguments with every tensor of numbers in float64, copies so that nothing recorded can change."""
    from torch.utils._pytree import tree_map

    def one(leaf: Any) -> Any:
        if isinstance(leaf, Ref):
            leaf = trace.steps[leaf.step].output
        if isinstance(leaf, Tensor):
            return leaf.detach().double() if leaf.is_floating_point() else leaf.detach().clone()
        return leaf

    return tree_map(one, value)


def _piece(step: Step, result: Any) -> Tensor:
    if isinstance(result, Tensor):
        return result
    pieces = [leaf for leaf in result if isinstance(leaf, Tensor)]
    return pieces[step.piece]


def _floats(tensor: Tensor) -> Floats:
    return tensor.detach().to("cpu", torch.float64).numpy()


def _flat(shape: Sequence[int], places: Sequence[Any]) -> Ints:
    return np.asarray(np.ravel_multi_index(tuple(places), tuple(shape)), np.int64)


def _picked(trace: Trace, ref: Any, flat: Ints) -> Floats:
    """The numbers at flat positions of an operand; 0 for padding cells."""
    tensor = _tensor(trace, ref)
    index = torch.from_numpy(np.maximum(flat, 0))
    values = _floats(tensor.reshape(-1)[index.to(tensor.device)])
    return np.where(flat < 0, 0.0, values)


def _list(value: Any, axes: int) -> list[int]:
    values = [value] if isinstance(value, int) else list(value)
    return values * axes if len(values) == 1 else values


# --- sums of products -------------------------------------------------------------------------------------------------


@_rule("convolution", "_convolution")
def _convolution(trace: Trace, step: Step, full: tuple[int, ...]) -> _Parts:
    source, weight, bias, stride, padding, dilation, transposed, _, groups, *_ = step.arguments
    taken, kernel = _tensor(trace, source), _tensor(trace, weight)
    axes = taken.ndim - 2
    stride, padding, dilation = (_list(value, axes) for value in (stride, padding, dilation))
    image, filter_, *place = full
    size = list(kernel.shape[2:])
    # For each axis the rows of the input that each row of the window meets, -1 where there is none.
    meets: list[Ints] = []
    for axis in range(axes):
        offsets = np.arange(size[axis], dtype=np.int64) * dilation[axis]
        if transposed:
            rows = place[axis] + padding[axis] - offsets
            found = np.where(rows % stride[axis] == 0, rows // stride[axis], -1)
        else:
            found = place[axis] * stride[axis] - padding[axis] + offsets
        meets.append(np.where((found >= 0) & (found < taken.shape[2 + axis]), found, -1))
    if transposed:
        per_group_in, per_group_out = taken.shape[1] // groups, kernel.shape[1]
        group, inside = divmod(filter_, per_group_out)
        channels = np.arange(group * per_group_in, (group + 1) * per_group_in)
        weights = _floats(kernel[group * per_group_in : (group + 1) * per_group_in, inside])
    else:
        count = kernel.shape[1]
        group = filter_ // (kernel.shape[0] // groups)
        channels = np.arange(group * count, (group + 1) * count)
        weights = _floats(kernel[filter_])
    grid = np.meshgrid(channels, *meets, indexing="ij")
    beyond = np.any([rows < 0 for rows in grid[1:]], axis=0) if axes else np.zeros_like(grid[0], bool)
    flat = _flat(taken.shape, [np.full_like(grid[0], image), *(np.maximum(rows, 0) for rows in grid)])
    flat = np.where(beyond, -1, flat).ravel()
    inputs = _picked(trace, source, flat)
    shape = tuple(weights.shape)
    if transposed:  # only the cells that meet the window count; there is no border
        keep = flat >= 0
        flat, inputs, weights, shape = flat[keep], inputs[keep], weights.ravel()[keep], ()
    added = None if bias is None else float(_tensor(trace, bias)[filter_])
    terms = len(flat)
    words = f"{'transposed ' if transposed else ''}convolution {'x'.join(map(str, size))} over {len(channels)} channel{'s' if len(channels) > 1 else ''}"
    if groups > 1:
        words += f" ({groups} groups)"
    if any(s != 1 for s in stride):
        words += f", stride {'x'.join(map(str, stride)) if len(set(stride)) > 1 else stride[0]}"
    if any(d != 1 for d in dilation):
        words += f", dilation {'x'.join(map(str, dilation)) if len(set(dilation)) > 1 else dilation[0]}"
    if any(padding) and not transposed:
        words += ", zeros beyond the border"
    return _Parts(
        inputs,
        weights.ravel(),
        inputs * weights.ravel(),
        [(source if isinstance(source, Ref) else None, flat)],
        words,
        bias=added,
        roundings=terms + 1,
        shape=shape,
        weight_sources=_weight_places(weight, kernel, filter_) if not transposed else None,
        settings={"dilation": dilation, "window": None if transposed else shape},
    )


def _weight_places(weight: Any, kernel: Tensor, filter_: int) -> tuple[Ref, Ints] | None:
    if not isinstance(weight, Ref):
        return None
    each = math.prod(kernel.shape[1:])
    return weight, np.arange(filter_ * each, (filter_ + 1) * each, dtype=np.int64)


@_rule("addmm", "mm", "linear", "bmm", "baddbmm", "addmv", "mv", "dot", "matmul")
def _matrix(trace: Trace, step: Step, full: tuple[int, ...]) -> _Parts:
    name = step.operation
    bias, scale_sum, scale_bias = None, 1.0, 1.0
    operands = list(step.arguments)
    if name in ("addmm", "baddbmm", "addmv"):
        bias, *operands = operands
        scale_bias = float(step.keywords.get("beta", 1))
        scale_sum = float(step.keywords.get("alpha", 1))
    left, right = operands[:2]
    if name == "linear":
        bias = _argument(step, 2, "bias")
    one, two = _tensor(trace, left), _tensor(trace, right)
    row = list(full) if two.ndim == 1 or name == "dot" else list(full[:-1])
    column = [] if two.ndim == 1 else [full[-1]]
    count = one.shape[-1]
    steps = np.arange(count)
    left_flat = _flat(one.shape, [*(np.full(count, i) for i in row[len(row) - one.ndim + 1 :]), steps])
    if name == "linear":
        right_flat = _flat(two.shape, [np.full(count, full[-1]), steps])
    else:
        batch = [np.full(count, i) for i in row[: two.ndim - 2]]
        right_flat = _flat(two.shape, [*batch, steps, *(np.full(count, i) for i in column)])
    inputs = _picked(trace, left, left_flat)
    weights = _picked(trace, right, right_flat) * scale_sum
    swap = not isinstance(left, Ref)
    added = None
    if bias is not None:
        tensor = _tensor(trace, bias)
        added = float(tensor[_aligned(tensor.shape, full)]) * scale_bias
    parts = _Parts(
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


def _aligned(shape: Sequence[int], full: tuple[int, ...]) -> tuple[int, ...]:
    """The place in an operand that is spread over the output by broadcasting."""
    tail = full[len(full) - len(shape) :]
    return tuple(0 if size == 1 else i for size, i in zip(shape, tail, strict=True))


@_rule("mean", "sum", "amax")
def _reduction(trace: Trace, step: Step, full: tuple[int, ...]) -> _Parts:
    source = step.arguments[0]
    taken = _tensor(trace, source)
    dims = _argument(step, 1, "dim") or None
    dims = list(range(taken.ndim)) if dims is None else [d % taken.ndim for d in _list(dims, 1)]
    kept = iter(full[-(taken.ndim - len(dims)) :] if step.output.ndim == taken.ndim - len(dims) else ())
    places: list[Any] = []
    for axis in range(taken.ndim):
        if axis in dims:
            places.append(np.arange(taken.shape[axis]))
        elif step.output.ndim == taken.ndim:
            places.append(np.array([full[axis]]))
        else:
            places.append(np.array([next(kept)]))
    flat = _flat(taken.shape, [axis.ravel() for axis in np.meshgrid(*places, indexing="ij")])
    if step.operation == "amax":
        return _largest(trace, source, flat, (), f"{len(flat)} numbers")
    inputs = _picked(trace, source, flat)
    share = 1 / len(flat) if step.operation == "mean" else 1.0
    weights = np.full(len(flat), share)
    words = f"{'mean' if step.operation == 'mean' else 'sum'} of {len(flat)} numbers"
    shape = tuple(taken.shape[d] for d in sorted(dims))
    return _Parts(
        inputs,
        weights,
        inputs * share,
        [(source, flat)],
        words,
        roundings=len(flat) + 1,
        shape=(1, *shape) if len(shape) == 2 else (),
    )


# --- pooling ----------------------------------------------------------------------------------------------------------


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
    return np.where(beyond, -1, _flat(taken.shape, [np.maximum(axis, 0) for axis in grid])).ravel()


def _pool_arguments(step: Step, taken: Tensor) -> tuple[list[int], list[int], list[int]]:
    axes = 1 if "1d" in step.operation else 3 if "3d" in step.operation else 2
    size = _list(step.arguments[1], axes)
    stride = _argument(step, 2, "stride")
    padding = _argument(step, 3, "padding", 0)
    return size, _list(stride, axes) if stride else size, _list(padding, axes)


@_rule("max_pool2d_with_indices", "max_pool2d", "max_pool3d_with_indices", "max_pool1d")
def _max_pool(trace: Trace, step: Step, full: tuple[int, ...]) -> _Parts:
    source = step.arguments[0]
    taken = _tensor(trace, source)
    size, stride, padding = _pool_arguments(step, taken)
    dilation = _list(_argument(step, 4, "dilation", 1), len(size))
    flat = _window(taken, full, size, stride, padding, dilation)
    return _largest(trace, source, flat, tuple(size), f"a {'x'.join(map(str, size))} window")


def _largest(trace: Trace, source: Any, flat: Ints, size: tuple[int, ...], words: str) -> _Parts:
    inputs = _picked(trace, source, flat)
    winner = int(np.argmax(np.where(flat < 0, -np.inf, inputs)))
    weights = np.zeros(len(flat))
    weights[winner] = 1.0
    return _Parts(
        inputs,
        weights,
        np.where(weights > 0, inputs, 0.0),
        [(source, flat)],
        f"largest of {words}",
        total=float(inputs[winner]),
        shape=(1, *size) if len(size) == 2 else (),
        winner=winner,
    )


@_rule("avg_pool2d", "avg_pool3d", "avg_pool1d")
def _average_pool(trace: Trace, step: Step, full: tuple[int, ...]) -> _Parts:
    source = step.arguments[0]
    taken = _tensor(trace, source)
    size, stride, padding = _pool_arguments(step, taken)
    axes = len(size)
    flat = _window(taken, full, size, stride, padding, [1] * axes)
    divisor = _argument(step, 6, "divisor_override")
    if divisor is None:
        if _argument(step, 5, "count_include_pad", True):
            divisor = 1
            for axis in range(axes):
                start = full[taken.ndim - axes + axis] * stride[axis] - padding[axis]
                divisor *= min(start + size[axis], taken.shape[taken.ndim - axes + axis] + padding[axis]) - start
        else:
            divisor = int((flat >= 0).sum())
    inputs = _picked(trace, source, flat)
    what = "sum" if divisor == 1 and len(flat) > 1 else "mean"
    return _Parts(
        inputs,
        np.full(len(flat), 1 / divisor),
        inputs / divisor,
        [(source, flat)],
        f"{what} of a {'x'.join(map(str, size))} window",
        roundings=len(flat) + 1,
        shape=(1, *size) if axes == 2 else (),
    )


@_rule("_adaptive_avg_pool2d", "adaptive_max_pool2d")
def _adaptive_pool(trace: Trace, step: Step, full: tuple[int, ...]) -> _Parts:
    source = step.arguments[0]
    taken = _tensor(trace, source)
    places: list[Any] = [np.array([i]) for i in full[:-2]]
    size = []
    for axis in (-2, -1):
        cells, wanted, i = taken.shape[axis], step.output.shape[axis], full[axis]
        start, end = i * cells // wanted, -(-(i + 1) * cells // wanted)
        places.append(np.arange(start, end))
        size.append(end - start)
    flat = _flat(taken.shape, [axis.ravel() for axis in np.meshgrid(*places, indexing="ij")])
    words = f"a {size[0]}x{size[1]} window"
    if "max" in step.operation:
        return _largest(trace, source, flat, tuple(size), words)
    inputs = _picked(trace, source, flat)
    weights = np.full(len(flat), 1 / len(flat))
    return _Parts(
        inputs,
        weights,
        inputs * weights,
        [(source, flat)],
        f"mean of {words}",
        roundings=len(flat) + 1,
        shape=(1, *size),
    )


# --- normalisation ----------------------------------------------------------------------------------------------------


def _scaled(
    trace: Trace,
    source: Ref,
    flat: int,
    mean: float,
    variance: float,
    eps: float,
    scale: float,
    shift: float,
    words: str,
    roundings: int = 8,
    spread: float = 0.0,
) -> _Parts:
    """(x - mean) / sqrt(variance + eps) * scale + shift, as one product and one number added."""
    places = np.array([flat])
    x = float(_picked(trace, source, places)[0])
    factor = scale / math.sqrt(variance + eps)
    return _Parts(
        np.array([x]),
        np.array([factor]),
        np.array([x * factor]),
        [(source, places)],
        words,
        bias=shift - mean * factor,
        total=(x - mean) * factor + shift,
        roundings=roundings,
        magnitude=abs(x * factor) + abs(mean * factor) + abs(shift) + spread * abs(factor),
        constants={"mean": mean, "variance": variance, "epsilon": eps, "scale": scale, "shift": shift},
    )


@_rule(
    "native_batch_norm", "_native_batch_norm_legit_no_training", "_native_batch_norm_legit", "cudnn_batch_norm",
    "_batch_norm_no_update",
)  # fmt: skip
def _batch_norm(trace: Trace, step: Step, full: tuple[int, ...]) -> _Parts:
    source, weight, bias = step.arguments[:3]
    taken = _tensor(trace, source)
    channel = full[1]
    scale = 1.0 if weight is None else float(_tensor(trace, weight)[channel])
    shift = 0.0 if bias is None else float(_tensor(trace, bias)[channel])
    flat = int(_flat(taken.shape, full))
    numbers = [argument for argument in step.arguments[3:] if isinstance(argument, int | float)]
    eps = float(step.keywords.get("eps", numbers[-1]))
    no_training = "no_training" in step.operation or "no_update" in step.operation
    training = not no_training and any(argument is True for argument in step.arguments[3:])
    if training or step.arguments[3] is None:
        values = _floats(taken[:, channel])
        return _scaled_by(trace, source, flat, values, eps, scale, shift, f"norm over its own {values.size} cells")
    mean = float(_tensor(trace, step.arguments[3])[channel])
    variance = float(_tensor(trace, step.arguments[4])[channel])
    return _scaled(
        trace, source, flat, mean, variance, eps, scale, shift, "batch norm with its learned mean and variance"
    )


def _scaled_by(
    trace: Trace, source: Ref, flat: int, values: Floats, eps: float, scale: float, shift: float, words: str
) -> _Parts:
    # Mean and variance are themselves sums of n rounded numbers.
    n = values.size
    mean, variance = float(values.mean()), float(values.var())
    spread = float(np.abs(values).mean()) + 2 * math.sqrt(variance) + abs(mean)
    return _scaled(trace, source, flat, mean, variance, eps, scale, shift, words, n + 8, spread)


@_rule("native_layer_norm")
def _layer_norm(trace: Trace, step: Step, full: tuple[int, ...]) -> _Parts:
    source, shape, weight, bias, eps = step.arguments[:5]
    taken = _tensor(trace, source)
    axes = len(shape)
    values = _floats(taken[full[: taken.ndim - axes]])
    inner = full[taken.ndim - axes :]
    scale = 1.0 if weight is None else float(_tensor(trace, weight)[inner])
    shift = 0.0 if bias is None else float(_tensor(trace, bias)[inner])
    words = f"layer norm over {values.size} numbers"
    return _scaled_by(trace, source, int(_flat(taken.shape, full)), values, float(eps), scale, shift, words)


@_rule("native_group_norm")
def _group_norm(trace: Trace, step: Step, full: tuple[int, ...]) -> _Parts:
    source, weight, bias, _, channels, _, groups, eps = step.arguments[:8]
    taken = _tensor(trace, source)
    each = channels // groups
    group = full[1] // each
    values = _floats(taken[full[0], group * each : (group + 1) * each])
    scale = 1.0 if weight is None else float(_tensor(trace, weight)[full[1]])
    shift = 0.0 if bias is None else float(_tensor(trace, bias)[full[1]])
    words = f"group norm over {values.size} numbers"
    return _scaled_by(trace, source, int(_flat(taken.shape, full)), values, float(eps), scale, shift, words)


@_rule("normalise")
def _normalise(trace: Trace, step: Step, full: tuple[int, ...]) -> _Parts:
    mean, std = step.keywords["mean"][full[1]], step.keywords["std"][full[1]]
    flat = _flat(step.output.shape, [np.array([i]) for i in full])
    x = float(_picked(trace, step.arguments[0], flat)[0])
    factor = 1 / (std * 255)
    return _Parts(
        np.array([x]),
        np.array([factor]),
        np.array([x * factor]),
        [(step.arguments[0], flat)],
        "the pixel, less the training images' mean, by their spread",
        bias=-mean * 255 * factor,
        total=(x - mean * 255) * factor,
        roundings=8,
        constants={"mean": mean * 255, "spread": std * 255},
    )


@_rule("_softmax", "_safe_softmax", "_log_softmax")
def _softmax(trace: Trace, step: Step, full: tuple[int, ...]) -> _Parts:
    source, dim = step.arguments[:2]
    taken = _tensor(trace, source)
    dim %= taken.ndim
    count = taken.shape[dim]
    places = [np.full(count, i) for i in full]
    places[dim] = np.arange(count)
    flat = _flat(taken.shape, places)
    inputs = _picked(trace, source, flat)
    top = float(inputs.max())
    powers = np.exp(inputs - top)
    total = float(powers.sum())
    own = float(powers[full[dim]] / total)
    log = step.operation == "_log_softmax"
    span = float(np.abs(inputs).max() + abs(top))
    return _Parts(
        inputs,
        None,
        powers,
        [(source, flat)],
        f"{'logarithm of the ' if log else ''}softmax over {count} numbers: exp(own - largest) / sum of exp(each - largest)",
        total=math.log(own) if log and own > 0 else own,
        roundings=count + 8,
        magnitude=(1 + span) * (1.0 if log else own),
        constants={"largest": top, "total": total},
    )


# --- number by number -------------------------------------------------------------------------------------------------


def _operand(trace: Trace, value: Any, full: tuple[int, ...]) -> tuple[float, Ints]:
    """A number of an elementwise operand and its flat place."""
    if not isinstance(value, Ref | Tensor):
        return float(value), np.zeros(1, np.int64)
    tensor = _tensor(trace, value)
    place = _aligned(tensor.shape, full)
    flat = _flat(tensor.shape, [np.array([i]) for i in place]) if place else np.zeros(1, np.int64)
    return float(_picked(trace, value, flat)[0]), flat


@_rule("add", "sub", "rsub")
def _addition(trace: Trace, step: Step, full: tuple[int, ...]) -> _Parts:
    signs = {"add": (1.0, 1.0), "sub": (1.0, -1.0), "rsub": (-1.0, 1.0)}[step.operation]
    alpha = float(_argument(step, 2, "alpha", 1))
    factors = (
        signs[0] * (alpha if step.operation == "rsub" else 1),
        signs[1] * (1 if step.operation == "rsub" else alpha),
    )
    inputs, weights, sources, bias = [], [], [], None
    for value, factor in zip(step.arguments[:2], factors, strict=True):
        number, flat = _operand(trace, value, full)
        if isinstance(value, Ref):
            inputs.append(number)
            weights.append(factor)
            sources.append((value, flat))
        else:
            bias = number * factor
    one, two = np.array(inputs), np.array(weights)
    words = {"add": "sum", "sub": "difference", "rsub": "difference"}[step.operation]
    return _Parts(one, two, one * two, sources, f"{words} of two numbers", bias=bias, roundings=2)


@_rule("mul", "div")
def _multiplication(trace: Trace, step: Step, full: tuple[int, ...]) -> _Parts:
    first, second = step.arguments[:2]
    divides = step.operation == "div"
    if divides and (_argument(step, 2, "rounding_mode") or not isinstance(first, Ref)):
        return _pointwise(trace, step, full)
    if not isinstance(first, Ref):
        first, second = second, first
    one, flat = _operand(trace, first, full)
    two, other = _operand(trace, second, full)
    factor = 1 / two if divides else two
    return _Parts(
        np.array([one]),
        np.array([factor]),
        np.array([one * factor]),
        [(first, flat)],
        "quotient of two numbers" if divides else "product of two numbers",
        roundings=2,
        weight_sources=(second, other) if isinstance(second, Ref) else None,
        constants={"divisor": two} if divides else {},
    )


_STRAIGHT = frozenset({"relu", "leaky_relu", "hardtanh", "clamp", "clamp_min", "neg", "abs", "threshold"})


_POINTWISE = frozenset(
    {"hardswish", "hardsigmoid", "hardshrink", "softshrink", "prelu", "_prelu_kernel", "log_sigmoid_forward"}
)
"""Elementwise, though torch does not mark them so."""


def _pointwise(trace: Trace, step: Step, full: tuple[int, ...]) -> _Parts:
    """Any function that works number by number: the function itself, in float64, on the numbers of this place."""
    from torch.utils._pytree import tree_leaves, tree_map

    numbers: list[float] = []
    sources: list[tuple[Ref | None, Ints]] = []

    def one(leaf: Any) -> Any:
        if not isinstance(leaf, Ref | Tensor):
            return leaf
        number, flat = _operand(trace, leaf, full)
        if isinstance(leaf, Ref):
            numbers.append(number)
            sources.append((leaf, flat))
        original = _tensor(trace, leaf)
        return torch.tensor([number], dtype=torch.float64 if original.is_floating_point() else original.dtype)

    arguments, keywords = tree_map(one, (step.arguments, step.keywords))
    with torch.no_grad():
        result = float(_piece(step, step.function(*arguments, **keywords)))
    inputs = np.array(numbers)
    straight = step.operation in _STRAIGHT and len(numbers) == 1
    weights = None
    if straight and (inputs[0] == 0 or result == 0 or abs(result) <= abs(inputs[0])):
        # relu and its kin multiply by a slope, unless they stop at a limit.
        slope = 0.0 if result == 0 else result / float(inputs[0])
        if step.operation in ("relu", "leaky_relu", "neg", "abs") or slope in (0.0, 1.0):
            weights = np.array([slope])
    exact = straight and step.operation != "leaky_relu"
    rest = tree_leaves((step.arguments[1:], step.keywords))
    plain = len(numbers) == 1 and all(isinstance(leaf, int | float | str | None) for leaf in rest)
    words = {1: f"{step.kind} of one number"}.get(len(numbers), f"{step.kind} of {len(numbers)} numbers")
    return _Parts(
        inputs,
        weights,
        np.array([result]) if len(numbers) == 1 else inputs,
        sources,
        words,
        total=result,
        # A slope such as 0.2 is rounded to float32, and so is the product.
        roundings=0 if exact else 2 if straight else 8,
        magnitude=abs(result) + (0.0 if straight else float(np.abs(inputs).sum())),
        function=(step.operation.rstrip("_"), tuple(step.arguments[1:]), step.keywords) if plain else None,
    )


# --- numbers that only move -------------------------------------------------------------------------------------------


@_rule("identity")
def _identity(trace: Trace, step: Step, full: tuple[int, ...]) -> _Parts:
    source = step.arguments[0]
    flat = _flat(step.output.shape, [np.array([i]) for i in full])
    value = _picked(trace, source, flat)
    words = "dropout passes everything on when it does not train" if step.kind == "dropout" else "the same number"
    return _Parts(value, np.ones(1), value, [(source, flat)], words)


@_rule(
    "view", "_unsafe_view", "reshape", "_reshape_alias", "expand", "squeeze", "unsqueeze", "transpose", "permute", "t", "split",
    "split_with_sizes", "unbind", "select", "slice", "cat", "stack", "flip", "roll", "repeat", "pixel_shuffle", "pixel_unshuffle",
    "constant_pad_nd", "reflection_pad1d", "reflection_pad2d", "replication_pad1d", "replication_pad2d", "index_select",
    "as_strided", "channel_shuffle", "native_channel_shuffle", "upsample_nearest2d", "movedim", "narrow", "clone", "unfold", "copy",
    "copy_", "alias", "detach", "im2col", "diagonal", "index", "gather",
)  # fmt: skip
def _moved(trace: Trace, step: Step, full: tuple[int, ...]) -> _Parts:
    """Where a number comes from is asked of the operation itself: it is run once on the places in place of the numbers."""
    origin = trace._cache.get(step.number)
    if origin is None:
        origin = trace._cache[step.number] = _origins(trace, step)
    places, starts = origin
    found = int(places[full])
    value = float(step.output[full])
    kind = {"concat": "one number of several maps side by side", "pad": "the map with cells added at its border"}
    words = kind.get(step.kind, "the same number in another place")
    for ref, start, end in starts:
        if start <= found < end:
            flat = np.array([found - start])
            number = _picked(trace, ref, flat)
            return _Parts(number, np.ones(1), number, [(ref, flat)], words)
    if step.operation.endswith(("pad_nd", "pad2d", "pad1d")):
        beyond = np.array([value])
        return _Parts(beyond, np.ones(1), beyond, [(Ref(step.references()[0]), np.array([-1]))], words)
    empty: Floats = np.zeros(0)
    return _Parts(empty, empty, empty, [], "a number of the network's own, put in here", bias=value)


def _origins(trace: Trace, step: Step) -> tuple[Ints, list[tuple[Ref, int, int]]]:
    """For each output cell the number of the input cell it shows, counted through all inputs; below 0: none."""
    from torch.utils._pytree import tree_map

    starts: list[tuple[Ref, int, int]] = []
    next_start = 0

    def one(leaf: Any) -> Any:
        nonlocal next_start
        if isinstance(leaf, Ref):
            tensor = trace.steps[leaf.step].output
            start, next_start = next_start, next_start + tensor.numel()
            starts.append((leaf, start, next_start))
            places = torch.arange(start, next_start, dtype=torch.float64).reshape(tensor.shape)
            if step.operation == "as_strided":  # the only one that asks how numbers lie in memory
                places = torch.empty_strided(tensor.shape, tensor.stride(), dtype=torch.float64).copy_(places)
            return places
        if isinstance(leaf, Tensor) and leaf.is_floating_point():
            return torch.full(leaf.shape, -1.0, dtype=torch.float64)
        return leaf

    arguments, keywords = tree_map(one, (step.arguments, step.keywords))
    if step.operation == "constant_pad_nd":
        arguments = (*arguments[:2], -1.0)
    with torch.no_grad():
        result = _piece(step, step.function(*arguments, **keywords))
    return result.round().to(torch.int64).numpy(), starts


# --- linear operations with weights of their own ----------------------------------------------------------------------


@_rule("upsample_bilinear2d", "_upsample_bilinear2d_aa", "upsample_bicubic2d", "_upsample_bicubic2d_aa", "cumsum")
def _linear(trace: Trace, step: Step, full: tuple[int, ...]) -> _Parts:
    """A linear operation's weights are its derivatives, which torch gives exactly."""
    source = step.arguments[0]
    taken = _tensor(trace, source).double().requires_grad_()
    with torch.enable_grad():
        result = _piece(
            step, step.function(taken, *_doubled(trace, step.arguments[1:]), **_doubled(trace, step.keywords))
        )
        (slopes,) = torch.autograd.grad(result[full], taken)
    flat = slopes.reshape(-1).nonzero()[:, 0].numpy()
    weights = _floats(slopes.reshape(-1)[torch.from_numpy(flat)])
    inputs = _picked(trace, source, flat)
    return _Parts(
        inputs,
        weights,
        inputs * weights,
        [(source, flat)],
        f"weighted sum of {len(flat)} numbers ({step.kind})",
        roundings=2 * len(flat) + 8,
    )
