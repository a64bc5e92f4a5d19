"""From items and an input's shape to a plan: every layer with its name, shapes, weights, work and receptive field.

No tensors and no torch: `table` prints a plan, `build` turns it into modules, so both agree by construction.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NoReturn, Protocol

from ..errors import UsageError, printable
from .arguments import LARGEST_SIZE, Value, size_text
from .items import Item
from .layers import LAYERS, PAD, Layer, Shape, ShapeError, Window, Windowed

MOST_PARAMETERS = 2_000_000_000
MOST_CELLS = 2_000_000_000


@dataclass(frozen=True)
class ReceptiveField:
    """The receptive field of one unit, each as (height, width) in pixels of the input.

    Attributes:
        size: the side of the square of pixels that the unit can see, borders included.
        jump: the distance between the squares of two neighbours.
        extent: by how much a unit that sees the whole flattened map sees farther than one that sees a single cell.
        start: the first pixel of the first unit's square; below 0 beyond the border.
    """

    size: tuple[int, int] = (1, 1)
    jump: tuple[int, int] = (1, 1)
    extent: tuple[int, int] = (0, 0)
    start: tuple[int, int] = (0, 0)

    def through(self, window: Window, before: Sequence[int]) -> ReceptiveField:
        """The field of a unit that sees this one's maps through `window`, behind cells added at top and left."""
        height, width = (
            s + (k - 1) * d * j for s, k, d, j in zip(self.size, window.size, window.dilation, self.jump, strict=True)
        )
        down, across = (j * s for j, s in zip(self.jump, window.stride, strict=True))
        return ReceptiveField((height, width), (down, across), start=self.padded(before).start)

    def padded(self, before: Sequence[int]) -> ReceptiveField:
        """The field of a unit of these maps with cells added at the top and at the left."""
        top, left = (s - p * j for s, p, j in zip(self.start, before, self.jump, strict=True))
        return replace(self, start=(top, left))

    def flattened(self, shape: Shape) -> ReceptiveField:
        """The field of one number of the flattened maps."""
        return replace(self, extent=((shape[0] - 1) * self.jump[0], (shape[1] - 1) * self.jump[1]))

    def over_all(self) -> ReceptiveField:
        """The field of a unit that sees the whole vector."""
        height, width = (s + e for s, e in zip(self.size, self.extent, strict=True))
        return replace(self, size=(height, width), extent=(0, 0))

    def beside(self, other: ReceptiveField) -> ReceptiveField:
        """The field of a unit that sees both."""
        start = min(self.start[0], other.start[0]), min(self.start[1], other.start[1])
        height, width = (
            max(a + s, b + t) - first
            for a, s, b, t, first in zip(self.start, self.size, other.start, other.size, start, strict=True)
        )
        return ReceptiveField(
            (height, width), _larger(self.jump, other.jump), _larger(self.extent, other.extent), start
        )


def _larger(one: tuple[int, int], other: tuple[int, int]) -> tuple[int, int]:
    return max(one[0], other[0]), max(one[1], other[1])


@dataclass(frozen=True)
class PlannedLayer:
    """One layer with its shapes.

    Attributes:
        name: its path in the module, such as `conv1` or `residual1.body.conv2`.
        layer: its entry in the catalogue.
        arguments: all arguments, defaults filled in.
        shape, output: what comes in and goes out, `(H, W, C)` or `(n,)`.
        weights: the learned tensors' shapes as products.
        multiply_adds: for one image.
        field: of one unit of the output.
        branches: body and shortcut of a residual, the branches of a parallel.
    """

    name: str
    layer: Layer
    arguments: dict[str, Value | None]
    shape: Shape
    output: Shape
    weights: tuple[tuple[int, ...], ...]
    multiply_adds: int
    field: ReceptiveField
    branches: tuple[tuple[PlannedLayer, ...], ...] = ()

    @property
    def parameters(self) -> int:
        return sum(math.prod(product) for product in self.weights)


@dataclass(frozen=True)
class Plan:
    """A whole model with its shapes."""

    steps: tuple[PlannedLayer, ...]
    input: tuple[int, int, int]
    outputs: int
    """The scores for each image: as asked, or 1 where two classes share one."""

    def rows(self) -> Iterator[PlannedLayer]:
        """Every step in the order of execution; the layers inside a residual or parallel come before it."""
        yield from _rows(self.steps)


def _rows(steps: Sequence[PlannedLayer]) -> Iterator[PlannedLayer]:
    for step in steps:
        for branch in step.branches:
            yield from _rows(branch)
        yield step


def read_size(text: str) -> tuple[int, int, int]:
    """The input that `28x28x1` names: (height, width, channels); `28x28` has three channels.

    Raises:
        UsageError: `model-input`.
    """
    parts = text.lower().replace("×", "x").split("x")
    sizes = [int(part) if part.isascii() and part.isdigit() and len(part) < 10 else 0 for part in parts]
    if len(sizes) == 2:
        sizes.append(3)
    if len(sizes) != 3 or 0 in sizes:
        raise UsageError(
            "input",
            f"expected height x width x channels, got `{printable(text[:60])}`",
            code="model-input",
            hint="write for instance 28x28x1 (grey) or 96x96x3 (colour)",
        )
    size = (sizes[0], sizes[1], sizes[2])
    check_input(size, 1)
    return size


def check_input(input: tuple[int, int, int], outputs: int) -> None:
    """Refuse an input shape or a number of outputs that no model can have."""
    if (
        len(input) != 3
        or not all(type(side) is int and 1 <= side <= LARGEST_SIZE for side in input)
        or input[0] * input[1] * input[2] > MOST_CELLS
    ):
        raise UsageError(
            "input",
            f"expected height x width x channels, each from 1 to {LARGEST_SIZE:,}, got {size_text(tuple(input))[:60]}",
            code="model-input",
            hint="write for instance 28x28x1 (grey) or 96x96x3 (colour)",
        )
    if type(outputs) is not int or not 1 <= outputs <= 1_000_000:
        raise UsageError("outputs", f"expected a whole number from 1 to 1,000,000, got {outputs}", code="model-outputs")


def make_plan(items: Sequence[Item], input: tuple[int, int, int], outputs: int) -> Plan:
    """The plan of `items` for images of `input` (height, width, channels).

    Raises:
        UsageError: `model-input`, `model-outputs`; `model-size`: a window does not fit; `model-shape`: layers do not
            fit together; `model-end`: the last layer does not give the scores; `model-too-big`.
    """
    check_input(input, outputs)
    try:
        plan = _Planner(items, input, outputs).plan()
    except _Problem as problem:
        hint = problem.hint
        if problem.too_small:
            needed = _smallest(items, input, outputs)
            if needed:
                hint = f"make the image at least {size_text(needed)}" + (f", or {hint}" if hint else "")
        raise UsageError(problem.place, problem.reason, code=problem.code, hint=hint) from None
    return plan


class _Problem(Exception):  # Becomes a UsageError above
    def __init__(self, place: str, reason: str, code: str, hint: str, too_small: bool) -> None:
        super().__init__(reason)
        self.place, self.reason, self.code, self.hint, self.too_small = place, reason, code, hint, too_small


def _smallest(items: Sequence[Item], input: tuple[int, int, int], outputs: int) -> tuple[int, int] | None:
    """The smallest height and width, not below the given ones, in which every window fits."""

    def fits(height: int, width: int) -> bool:
        try:
            _Planner(items, (height, width, input[2]), outputs, limited=False).plan()
        except _Problem as problem:
            return not problem.too_small
        return True

    def least(low: int, *, vertical: bool) -> int:
        high = LARGEST_SIZE
        while low < high:
            middle = (low + high) // 2
            if fits(middle, LARGEST_SIZE) if vertical else fits(LARGEST_SIZE, middle):
                high = middle
            else:
                low = middle + 1
        return low

    if not fits(LARGEST_SIZE, LARGEST_SIZE):
        return None
    return least(input[0], vertical=True), least(input[1], vertical=False)


class _Fail(Protocol):
    """Raises the problem of one layer."""

    def __call__(
        self, reason: str, hint: str = "", *, code: str = "model-shape", too_small: bool = False
    ) -> NoReturn: ...


class _Planner:
    """Walks the items once. Steps are named by kind and count within their chain."""

    def __init__(
        self, items: Sequence[Item], input: tuple[int, int, int], outputs: int, *, limited: bool = True
    ) -> None:
        self.items, self.input, self.outputs, self.limited = tuple(items), input, outputs, limited
        self.parameters = 0

    def plan(self) -> Plan:
        if not self.items:
            raise _Problem(
                "model",
                "expected at least one layer, got none",
                "model-end",
                "write for instance: flatten dense",
                False,
            )
        last, number = self.items[-1], _written(self.items[:-1]) + 1
        if LAYERS[last.kind].role in ("activation", "dropout"):
            reason = "a model ends with raw scores, from which the loss makes probabilities itself"
            raise _Problem(_place(last.kind, last, number), reason, "model-end", f"drop the last {last.kind}", False)
        steps, shape, _ = self.chain(self.items, self.input, ReceptiveField(), "", 1, top=True)
        place = _place(steps[-1].name, last, number)
        if shape != (self.outputs,) and not (shape == (1,) and self.outputs == 2):
            raise _Problem(
                place,
                f"gives {size_text(shape)}, but {self.outputs} scores are needed, one for each output",
                "model-end",
                "end with a bare `dense`: it takes the number of outputs"
                + (", or with dense(1) for two classes" if self.outputs == 2 else ""),
                False,
            )
        return Plan(steps, self.input, shape[0])

    def chain(
        self, items: Sequence[Item], shape: Shape, field: ReceptiveField, path: str, number: int, *, top: bool = False
    ) -> tuple[tuple[PlannedLayer, ...], Shape, ReceptiveField]:
        """Steps for `items`; `number` is the first one's place in the text, counting every layer written."""
        steps: list[PlannedLayer] = []
        counts: Counter[str] = Counter()

        def walk(items: Sequence[Item], number: int, *, top: bool) -> None:
            nonlocal shape, field
            for position, item in enumerate(items):
                if item.kind == "repeat":
                    times = item.arguments()["n"]
                    assert isinstance(times, int)
                    for _ in range(times):
                        walk(item.branches[0], number + 1, top=False)
                else:
                    for step in self.steps(
                        item, shape, field, path, counts, number, top and position == len(items) - 1
                    ):
                        steps.append(step)
                        shape, field = step.output, step.field
                number += _written([item])

        walk(items, number, top=top)
        return tuple(steps), shape, field

    def steps(
        self, item: Item, shape: Shape, field: ReceptiveField, path: str, counts: Counter[str], number: int, last: bool
    ) -> Iterator[PlannedLayer]:
        layer, arguments = LAYERS[item.kind], item.arguments()
        counts[item.kind] += 1
        count = counts[item.kind]
        name = path + item.kind + ("" if count == 1 and not layer.numbered else str(count))

        def fail(reason: str, hint: str = "", *, code: str = "model-shape", too_small: bool = False) -> NoReturn:
            raise _Problem(_place(name, item, number), reason, code, hint, too_small)

        if item.kind == "residual":
            yield self.residual(name, item, shape, field, number, fail)
            return
        if item.kind == "parallel":
            yield self.parallel(name, item, shape, field, number, fail)
            return
        if item.kind == "dense" and arguments["n"] is None:
            if not last:
                fail(
                    "dense without a number has one unit for each output and can only be the last layer",
                    "write how many units it has, for instance dense(128)",
                )
            arguments["n"] = self.outputs
        try:
            output, window = layer.output(arguments, shape), layer.window(arguments, shape)
            if isinstance(layer, Windowed):
                top, bottom, left, right = layer.padding(arguments)
                if (top, left) != (bottom, right):
                    counts["pad"] += 1
                    assert window is not None
                    given = {**arguments, "size": window.size, "dilation": window.dilation}
                    padded = PAD.output(given, shape)
                    field = field.padded((top, left))
                    yield PlannedLayer(f"{path}pad{counts['pad']}", PAD, given, shape, padded, (), 0, field)
                    shape, arguments = padded, {**arguments, "padding": "valid"}
            weights = layer.weights(arguments, shape)
            if window is not None:
                after = field.through(window, layer.padding(arguments)[::2])
            elif item.kind == "flatten" and len(shape) == 3:
                after = field.flattened(shape)
            else:
                after = field.over_all() if item.kind == "dense" else field
            step = PlannedLayer(
                name, layer, arguments, shape, output, weights, layer.multiply_adds(arguments, shape), after
            )
        except ShapeError as problem:
            code = "model-size" if problem.too_small else "model-shape"
            fail(problem.reason, problem.hint, code=code, too_small=problem.too_small)
        self.parameters += step.parameters
        if self.limited and self.parameters > MOST_PARAMETERS:
            fail(
                f"brings the model to more than {MOST_PARAMETERS:,} parameters",
                "use fewer filters or units",
                code="model-too-big",
            )
        if self.limited and math.prod(output) > MOST_CELLS:
            fail(
                f"makes {math.prod(output):,} numbers for one image; the most is {MOST_CELLS:,}",
                "use smaller images or fewer filters",
                code="model-too-big",
            )
        yield step

    def residual(
        self, name: str, item: Item, shape: Shape, field: ReceptiveField, number: int, fail: _Fail
    ) -> PlannedLayer:
        body, output, inside = self.chain(item.branches[0], shape, field, f"{name}.body.", number + 1)
        if len(output) != len(shape):
            fail(
                "the layers inside turn maps into a vector, which cannot be added to the maps",
                "put flatten or globalavg after it",
            )
        shortcut: tuple[PlannedLayer, ...] = ()
        outside = field
        if output != shape:
            norm = _has_norm(item.branches[0])
            bias = ("bias", not norm)
            if len(shape) == 1:
                first = Item("dense", (("n", output[0]), bias))
            else:
                stride = (inside.jump[0] // field.jump[0], inside.jump[1] // field.jump[1])
                reached = (math.ceil(shape[0] / stride[0]), math.ceil(shape[1] / stride[1]))
                if reached != output[:2]:
                    step = size_text(stride) if stride[0] != stride[1] else stride[0]
                    fail(
                        f"the layers inside turn {size_text(shape[:2])} into {size_text(output[:2])}, but the shortcut "
                        f"with stride {step} gives {size_text(reached)}",
                        "inside residual, use convolutions with padding=same, and a stride in place of pooling",
                    )
                given: tuple[tuple[str, Value], ...] = (("filters", output[2]), ("size", 1), ("stride", stride))
                first = Item("conv", (*given, ("padding", "valid"), bias))
            items = (first, Item("norm")) if norm else (first,)
            shortcut, _, outside = self.chain(items, shape, field, f"{name}.shortcut.", number)
        return PlannedLayer(
            name, LAYERS["residual"], {}, shape, output, (), 0, inside.beside(outside), (body, shortcut)
        )

    def parallel(
        self, name: str, item: Item, shape: Shape, field: ReceptiveField, number: int, fail: _Fail
    ) -> PlannedLayer:
        branches, outputs, fields = [], [], []
        number += 1
        for position, items in enumerate(item.branches, 1):
            steps, output, after = self.chain(items, shape, field, f"{name}.branch{position}.", number)
            number += _written(items)
            branches.append(steps)
            outputs.append(output)
            fields.append(after)
            if len(output) != len(outputs[0]) or output[:-1] != outputs[0][:-1]:
                fail(
                    f"branch 1 gives {size_text(outputs[0])}, branch {position} gives {size_text(output)}; "
                    "all must agree in height and width",
                    "use the same strides and padding=same in all branches",
                )
        total = fields[0]
        for other in fields[1:]:
            total = total.beside(other)
        output = (*outputs[0][:-1], sum(shape[-1] for shape in outputs))
        return PlannedLayer(name, LAYERS["parallel"], {}, shape, output, (), 0, total, tuple(branches))


def _place(name: str, item: Item, number: int) -> str:
    where = f", line {item.line} column {item.column}" if item.line else ""
    return f"{name} (item {number}{where})"


def _written(items: Sequence[Item]) -> int:
    """Layers as they are written in the text, those inside others included."""
    return sum(1 + sum(_written(branch) for branch in item.branches) for item in items)


def _has_norm(items: Sequence[Item]) -> bool:
    return any(item.kind == "norm" or any(_has_norm(branch) for branch in item.branches) for item in items)
