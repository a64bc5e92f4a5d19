"""What an opened number consists of: its terms, their sum in float64, and what the network recorded. Plain data."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ...errors import UsageError, printable
from ..capture.records import Recording, Step

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

Form = Literal[
    "value",  # no terms: nothing computes it
    "whole",  # no terms: the operation is outside the catalogue and was run as a whole
    "sum",  # of products, and a bias
    "convolution",  # the same, over the window of a filter
    "largest",  # of the inputs
    "norm",  # (x - mean) / sqrt(variance + epsilon) * scale + shift
    "scaling",  # (x - mean) / std
    "quotient",  # x / divisor
    "softmax",  # exp(own - largest) / the sum of all exp(each - largest)
    "log-softmax",
    "function",  # of the inputs
]
"""What is done with the terms, and so how they are written and drawn."""


@dataclass(frozen=True)
class Unit:
    """One cell of one layer's output.

    `index` is (channel, y, x) of maps and (number,) of vectors; otherwise it has one number for each axis.
    """

    layer: str
    index: tuple[int, ...]
    _step: Step | None = field(default=None, repr=False, compare=False)

    @property
    def place(self) -> tuple[int, int, int] | None:
        """(channel, y, x) in the layer's maps, whatever the order of its axes; None where it is in none."""
        axes = None if self._step is None or len(self.index) < 2 else self._step.axes
        if axes is not None and axes.grid is not None:
            return axes.grid.unit((0,) * (len(axes.shape) - len(self.index)) + self.index)
        single = axes is None or (not axes.placed and axes.shape[-2:] == (1, 1))
        return self.index if len(self.index) == 3 and single else None

    @property
    def words(self) -> str:
        """`channel 5, y 3, x 4`, or `unit 7`; both where the axes have another order."""
        words = "" if self.place is None else "channel {}, y {}, x {}".format(*self.place)
        return words if self.place == self.index else f"unit {', '.join(map(str, self.index))}{words and f': {words}'}"

    def place_json(self) -> dict[str, Any]:
        """`channel`, `y`, `x`; of a vector y and x are 0; `index` too where the axes have another order."""
        place = (self.index[0], 0, 0) if len(self.index) == 1 else self.place
        words = {} if place is None else dict(zip(("channel", "y", "x"), place, strict=True))
        return words if place == self.index or len(self.index) == 1 else {"index": list(self.index)} | words

    def to_json(self) -> dict[str, Any]:
        """`layer`, and its place."""
        return {"layer": self.layer} | self.place_json()

    def __str__(self) -> str:
        return f"{self.layer}[{', '.join(map(str, self.index))}]"


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
            hint="the names of the layers are in the table of: convoscope look RUN IMAGE",
            code="unit-malformed",
        )
    return layer.strip(), *map(int, parts)


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
        value |= _origin_json(self.source, self.padding)
        if self.weight_source is not None:
            value["weight_from"] = self.weight_source.to_json()
        if self.winner:
            value["winner"] = True
        return value


@dataclass(frozen=True)
class GradientTerm:
    """One place at which a weight was used.

    Attributes:
        image: its number.
        cell: of the output.
        input, delta, product: what came in, the gradient of the loss by what came out, and their product.
        source: the unit that `input` is, where known.
        padding: whether this is a cell beyond the border.
    """

    image: int
    cell: tuple[int, ...]
    input: float
    delta: float
    product: float
    source: Unit | None
    padding: bool = False

    def to_json(self) -> dict[str, Any]:
        """`image`, `cell`, `input`, `delta`, `product`, and `from`, or `padding`."""
        value: dict[str, Any] = {
            "image": self.image,
            "cell": list(self.cell),
            "input": self.input,
            "delta": self.delta,
            "product": self.product,
        }
        return value | _origin_json(self.source, self.padding)


def _origin_json(source: Unit | None, padding: bool) -> dict[str, Any]:
    if padding:
        return {"padding": True}
    return {} if source is None else {"from": source.to_json()}


@dataclass(frozen=True, eq=False, kw_only=True)
class CheckedSum:
    """n terms added up in float64, and beside it what the network computed.

    Attributes:
        words: the arithmetic in words, such as `3x3 convolution over 32 channels`.
        inputs, products: float64 `(n,)`.
        sum: the result in float64.
        recorded: what the network computed.
        bound: how far `recorded` may be from `sum` by rounding alone.
    """

    words: str
    inputs: Floats
    products: Floats
    sum: float
    recorded: float
    bound: float

    @property
    def difference(self) -> float:
        """`recorded` minus `sum`."""
        return self.recorded - self.sum

    @property
    def agrees(self) -> bool:
        """Whether the difference is within `bound`."""
        nothing = math.isnan(self.recorded) and math.isnan(self.sum)
        return abs(self.difference) <= self.bound or self.recorded == self.sum or nothing

    def __len__(self) -> int:
        return len(self.inputs)

    def _check_json(self) -> dict[str, float]:
        return {"sum": self.sum, "recorded": self.recorded, "difference": self.difference, "bound": self.bound}


def rounding_bound(roundings: int, eps: float, magnitude: float) -> float:
    """How far off `roundings` roundings of relative size eps / 2 may be; see `solve.py` for the source."""
    u = eps / 2
    return roundings * u / (1 - roundings * u) * magnitude


@dataclass(frozen=True, eq=False, kw_only=True)
class Arithmetic(CheckedSum):
    """The arithmetic of one unit.

    Attributes:
        unit: which number this is.
        kind: the layer's kind.
        form: what is done with the terms.
        weights: float64 `(n,)`, or None where a function is applied.
        bias: what is added at the end, or None.
        constants: further numbers of the formula, by name (mean and variance of a norm).
        shape: the terms' own shape, such as `(32, 3, 3)` of a filter; `(n,)` otherwise.
        winner: the place of the term that a max pooling took, or -1.
        function: of an elementwise function torch's name, and its settings.
    """

    unit: Unit
    kind: str
    form: Form
    weights: Floats | None
    bias: float | None
    constants: dict[str, float]
    shape: tuple[int, ...]
    winner: int
    function: tuple[str, tuple[Any, ...], dict[str, Any]] | None
    recording: Recording = field(repr=False)
    _sources: Sequence[tuple[int, Ints]] = field(repr=False)
    _weight_sources: tuple[int, Ints] | None = field(repr=False)

    @property
    def layer(self) -> str:
        """The layer's name."""
        return self.unit.layer

    @property
    def opened(self) -> bool:
        """False where the operation is not in the catalogue: then `sum` is the whole operation run in float64."""
        return self.form != "whole"

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
        made = self.recording.steps[step]
        index = tuple(int(i) for i in np.unravel_index(place, made.shape)) if made.shape else ()
        return Unit(made.name, index, made)

    def subtotals(self) -> Floats:
        """The sum of the products of each input channel, `(channels,)`; of other layers all products as they are."""
        return self.products.reshape(self.shape[0], -1).sum(1) if len(self.shape) > 1 else self.products

    def to_json(self) -> dict[str, Any]:
        """`layer`, `kind`, `unit`, `terms`, `bias`, `sum`, `recorded`, `difference`, `bound`, and the rest."""
        value = {
            "layer": self.layer,
            "kind": self.kind,
            "unit": self.unit.place_json(),
            "words": self.words,
            "terms": [term.to_json() for term in self.terms],
            "bias": self.bias,
            "constants": self.constants,
            **self._check_json(),
            "opened": self.opened,
        }
        return dict(finite_json(value))


@dataclass(frozen=True, eq=False, kw_only=True)
class GradientSum(CheckedSum):
    """The gradient of the loss by one weight, a term for each place of use.

    Attributes:
        parameter: the weight's tensor, such as `conv1.weight`.
        index: the place in it.
        deltas: float64 `(n,)`: the gradient of the loss by what came out there.
        cells: int64 `(n, axes)`: image number and cell of the layer's output.
    """

    parameter: str
    index: tuple[int, ...]
    deltas: Floats
    cells: Ints
    _places: Ints = field(repr=False)
    _source: tuple[str, tuple[int, ...]] | None = field(repr=False)

    def term(self, number: int) -> GradientTerm:
        """The term at a place, from 0."""
        place = int(self._places[number]) if len(self._places) else -2
        source = None
        if place >= 0 and self._source is not None:
            name, shape = self._source
            source = Unit(name, tuple(int(i) for i in np.unravel_index(place, shape))[1:])
        image, *cell = (int(i) for i in self.cells[number])
        return GradientTerm(
            image,
            tuple(cell),
            float(self.inputs[number]),
            float(self.deltas[number]),
            float(self.products[number]),
            source,
            place == -1,
        )

    @property
    def terms(self) -> list[GradientTerm]:
        """Every term, image by image, row by row."""
        return [self.term(number) for number in range(len(self))]

    def to_json(self) -> dict[str, Any]:
        """`parameter`, `index`, `terms`, `sum`, `recorded`, `difference`, `bound`."""
        value = {
            "parameter": self.parameter,
            "index": list(self.index),
            "words": self.words,
            "terms": [term.to_json() for term in self.terms],
            **self._check_json(),
        }
        return dict(finite_json(value))


def finite_json(value: Any) -> Any:
    """Numbers that JSON does not have become the texts `inf`, `-inf` and `nan`; the rest stays as it is."""
    if isinstance(value, dict):
        return {key: finite_json(each) for key, each in value.items()}
    if isinstance(value, list):
        return [finite_json(each) for each in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value
