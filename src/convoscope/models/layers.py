"""The catalogue of layers: what each one is called, what it is for, its arguments, and its rules.

Each rule works on plain numbers: the shape that comes out, the weights, the multiply-adds and the window are known
before anything is built. torch is imported only inside `module`.

Everything else follows from this file: the grammar, the table, the first weights, the names of operations in a trace,
what the studio draws and what a figure leaves out. To add a layer, write one class here; to add an activation, one line
of the table. Then add its line to docs/models.md and compare its numbers with a plain loop in tests/models.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from .arguments import LARGEST_SIZE, Argument, Arguments, pair, size_text
from .kernels import KERNELS

if TYPE_CHECKING:
    from torch import nn

Shape = tuple[int, ...]
"""Maps are `(height, width, channels)`, vectors are `(n,)`."""

Role = Literal[
    "convolution", "dense", "norm", "pooling", "activation", "dropout", "reshape", "padding", "block", "other"
]
"""What a layer is for; `other`: the catalogue does not have it. Drawings and figures ask for this, not for names."""


class ShapeError(Exception):  # Never leaves this room; `plan` turns it into a UsageError that names the layer
    """A layer cannot take what comes in. `too_small`: a larger image would help."""

    def __init__(self, reason: str, hint: str = "", *, too_small: bool = False) -> None:
        super().__init__(reason)
        self.reason, self.hint, self.too_small = reason, hint, too_small


@dataclass(frozen=True)
class Window:
    """What one unit sees of the layer before: size, stride and dilation, each as (height, width)."""

    size: tuple[int, int]
    stride: tuple[int, int] = (1, 1)
    dilation: tuple[int, int] = (1, 1)


class Layer:
    """One entry of the catalogue. The defaults are those of a layer that changes each number by itself.

    Attributes:
        kind: its name in a model's text.
        meaning: one line for the handbook.
        role: what it is for.
        arguments: what is written between its brackets.
        branches: how many chains of layers are inside: at least, at most.
        rectifies: whether it is like a relu, which halves the variance of what goes through; networks with such a layer
            start with larger weights.
        aten: the names of torch's operations that are this layer and nothing else; a trace and a measured table
            know the layer by them.
        classes: the names of the torch modules that are this layer, in `torch.nn` or in network.py.
        unnamed: how many leading arguments `to_text` writes without their names.
        numbered: whether the first one in a chain is called `conv1` (or only `flatten`).
    """

    kind: str
    meaning: str
    role: Role
    arguments: tuple[Argument, ...] = ()
    branches: tuple[int, int] = (0, 0)
    rectifies: bool = False
    aten: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()
    unnamed: int = 1
    numbered: bool = True

    def output(self, arguments: Arguments, shape: Shape) -> Shape:
        """The shape that comes out. Raises ShapeError."""
        return shape

    def weights(self, arguments: Arguments, shape: Shape) -> tuple[tuple[int, ...], ...]:
        """The learned numbers as one product for each tensor: `((3, 3, 32, 64), (64,))` is 3x3x32x64 + 64."""
        return ()

    def multiply_adds(self, arguments: Arguments, shape: Shape) -> int:
        """Multiplications of a weight by a number that came in, for one image."""
        return 0

    def window(self, arguments: Arguments, shape: Shape) -> Window | None:
        """What one unit sees, or None where it sees one unit only."""
        return None

    def padding(self, arguments: Arguments) -> tuple[int, int, int, int]:
        """Cells added before the layer works: top, bottom, left, right."""
        return 0, 0, 0, 0

    def module(self, arguments: Arguments, shape: Shape) -> nn.Module:
        """The torch module for inputs of `shape`."""
        raise NotImplementedError


LAYERS: dict[str, Layer] = {}
"""Kind to layer, in the order of the handbook."""


def layer(definition: type[Layer]) -> type[Layer]:
    """Put a layer into the catalogue."""
    LAYERS[definition.kind] = definition()
    return definition


def need_maps(shape: Shape) -> None:
    if len(shape) != 3:
        raise ShapeError(
            f"needs feature maps, but a vector of {shape[0]} numbers comes in",
            "put it before flatten, globalavg and dense",
        )


def slide(window: Window, shape: Shape, padding: tuple[int, int, int, int]) -> tuple[int, int]:
    """How many positions a window has on a map, vertically and horizontally. Raises ShapeError where there is none."""
    top, bottom, left, right = padding
    frame = shape[0] + top + bottom, shape[1] + left + right
    reach = tuple((k - 1) * d + 1 for k, d in zip(window.size, window.dilation, strict=True))
    if reach[0] > frame[0] or reach[1] > frame[1]:
        reached = f" spread over {size_text(reach)}" if window.dilation != (1, 1) else ""
        padded = " with its padding" if any(padding) else ""
        raise ShapeError(
            f"a {size_text(window.size)} window{reached} does not fit into {size_text(shape[:2])}{padded}",
            "drop a pooling layer or make the window smaller",
            too_small=True,
        )
    height, width = ((f - r) // s + 1 for f, r, s in zip(frame, reach, window.stride, strict=True))
    return height, width


# Layers with weights.


class Windowed(Layer):
    """What convolutions share, whether their numbers are learned or given."""

    def padding(self, arguments: Arguments) -> tuple[int, int, int, int]:
        padding = arguments["padding"]
        if padding == "valid":
            return 0, 0, 0, 0
        if padding == "same":
            # An even window has no middle: the extra cell is at the bottom and at the right, as in torch.
            window = self.window(arguments, ())
            assert window is not None
            (height, width), (down, across) = window.size, window.dilation
            rows, columns = (height - 1) * down, (width - 1) * across
            return rows // 2, rows - rows // 2, columns // 2, columns - columns // 2
        rows, columns = pair(padding)
        return rows, rows, columns, columns

    def places(self, arguments: Arguments, shape: Shape) -> tuple[int, int]:
        """Height and width that come out. Raises ShapeError."""
        padding, window = self.padding(arguments), self.window(arguments, shape)
        assert window is not None
        if arguments["border"] == "reflect" and (max(padding[:2]) >= shape[0] or max(padding[2:]) >= shape[1]):
            raise ShapeError(
                f"a reflected border of {max(padding)} needs a larger map than {size_text(shape[:2])}",
                "use border=replicate or border=zeros",
                too_small=True,
            )
        return slide(window, shape, padding)


_STRIDE = Argument(name="stride", kind="size", default=1, minimum=1, maximum=1000, meaning="step of the window")
_PADDING = Argument(
    name="padding",
    kind="size",
    default="same",
    words=("same", "valid"),
    maximum=1000,
    meaning="cells added at each side; same: the size stays (with stride s: size / s, rounded up); valid: none",
)
_BORDER = Argument(
    name="border",
    kind="word",
    default="zeros",
    words=("zeros", "reflect", "replicate"),
    meaning="what the added cells contain",
)


@layer
class Conv(Windowed):
    """2-D convolution (cross-correlation, as everywhere in deep learning)."""

    kind = "conv"
    role = "convolution"
    aten = ("convolution",)
    classes = ("Conv2d",)
    meaning = "slides filters over the maps; each filter makes one map"
    unnamed = 2
    arguments = (
        Argument(
            name="filters", kind="count", required=True, minimum=1, maximum=65_536, meaning="number of output maps"
        ),
        Argument(name="size", kind="size", default=3, minimum=1, maximum=1000, meaning="window, height x width"),
        _STRIDE,
        _PADDING,
        _BORDER,
        Argument(
            name="dilation",
            kind="size",
            default=1,
            minimum=1,
            maximum=1000,
            meaning="distance between the window's cells",
        ),
        Argument(
            name="groups",
            kind="count",
            default=1,
            minimum=1,
            maximum=65_536,
            meaning="groups into which channels and filters are divided; each filter sees only its own group",
        ),
        Argument(name="bias", kind="flag", default=True, meaning="whether each filter adds a learned bias"),
    )

    def window(self, arguments: Arguments, shape: Shape) -> Window:
        return Window(pair(arguments["size"]), pair(arguments["stride"]), pair(arguments["dilation"]))

    def output(self, arguments: Arguments, shape: Shape) -> Shape:
        need_maps(shape)
        filters, groups = arguments["filters"], arguments["groups"]
        assert isinstance(filters, int) and isinstance(groups, int)
        if shape[2] % groups or filters % groups:
            raise ShapeError(
                f"groups must divide the channels that come in and the filters; received groups={groups}, "
                f"{shape[2]} channels, {filters} filters"
            )
        return (*self.places(arguments, shape), filters)

    def weights(self, arguments: Arguments, shape: Shape) -> tuple[tuple[int, ...], ...]:
        filters, groups = arguments["filters"], arguments["groups"]
        assert isinstance(filters, int) and isinstance(groups, int)
        kernel = (*pair(arguments["size"]), shape[2] // groups, filters)
        return (kernel, (filters,)) if arguments["bias"] else (kernel,)

    def multiply_adds(self, arguments: Arguments, shape: Shape) -> int:
        height, width, _ = self.output(arguments, shape)
        return height * width * math.prod(self.weights(arguments, shape)[0])

    def module(self, arguments: Arguments, shape: Shape) -> nn.Module:
        from torch import nn

        filters, groups = arguments["filters"], arguments["groups"]
        assert isinstance(filters, int) and isinstance(groups, int)
        top, bottom, left, right = self.padding(arguments)
        # `plan` puts a pad layer before a convolution whose padding is not the same on both sides.
        return nn.Conv2d(
            shape[2],
            filters,
            pair(arguments["size"]),
            stride=pair(arguments["stride"]),
            padding=(top, left) if (top, left) == (bottom, right) else 0,
            dilation=pair(arguments["dilation"]),
            groups=groups,
            bias=bool(arguments["bias"]),
            padding_mode=str(arguments["border"]),  # type: ignore[arg-type]
        )


@layer
class Dense(Layer):
    """Each number that comes out is a weighted sum of all that come in."""

    kind = "dense"
    role = "dense"
    aten = ("addmm", "mm", "linear")
    classes = ("Linear",)
    meaning = "each unit is a weighted sum of all its inputs"
    arguments = (
        Argument(
            name="n",
            kind="count",
            minimum=1,
            meaning="number of output units; if left out: the number of outputs (last layer only)",
        ),
        Argument(name="bias", kind="flag", default=True, meaning="whether each unit adds a learned bias"),
    )

    def output(self, arguments: Arguments, shape: Shape) -> Shape:
        if len(shape) != 1:
            raise ShapeError(
                f"needs a vector, but maps of {size_text(shape)} come in", "put flatten or globalavg before it"
            )
        units = arguments["n"]
        assert isinstance(units, int)
        return (units,)

    def weights(self, arguments: Arguments, shape: Shape) -> tuple[tuple[int, ...], ...]:
        units = arguments["n"]
        assert isinstance(units, int)
        return ((shape[0], units), (units,)) if arguments["bias"] else ((shape[0], units),)

    def multiply_adds(self, arguments: Arguments, shape: Shape) -> int:
        return math.prod(self.weights(arguments, shape)[0])

    def module(self, arguments: Arguments, shape: Shape) -> nn.Module:
        from torch import nn

        return nn.Linear(shape[0], self.output(arguments, shape)[0], bias=bool(arguments["bias"]))


@layer
class Norm(Layer):
    """Batch normalisation (Ioffe and Szegedy 2015)."""

    kind = "norm"
    role = "norm"
    aten = ("native_batch_norm", "_native_batch_norm_legit_no_training", "cudnn_batch_norm")
    classes = ("BatchNorm2d", "BatchNorm1d")
    meaning = (
        "batch normalisation: brings each channel to mean 0 and variance 1 over the batch, then scales and shifts it"
    )

    def weights(self, arguments: Arguments, shape: Shape) -> tuple[tuple[int, ...], ...]:
        return (shape[-1],), (shape[-1],)

    def module(self, arguments: Arguments, shape: Shape) -> nn.Module:
        from torch import nn

        return nn.BatchNorm2d(shape[2]) if len(shape) == 3 else nn.BatchNorm1d(shape[0])


# A convolution whose numbers are given.


@layer
class GivenKernel(Windowed):
    """One kernel over every channel by itself. Its numbers are in the text; training does not change them."""

    kind = "kernel"
    role = "convolution"
    classes = ("FixedKernel",)
    meaning = "slides one kernel of given numbers over each map separately; nothing is learned"
    arguments = (
        Argument(
            name="values",
            kind="numbers",
            required=True,
            minimum=-1_000_000,
            maximum=1_000_000,
            words=tuple(KERNELS),
            meaning="the kernel's numbers, or its name",
        ),
        _STRIDE,
        _PADDING,
        _BORDER,
    )

    @staticmethod
    def values(arguments: Arguments) -> tuple[float, ...]:
        """The numbers, row by row."""
        given = arguments["values"]
        if isinstance(given, str):
            return KERNELS[given].values
        assert isinstance(given, tuple)
        return given

    def window(self, arguments: Arguments, shape: Shape) -> Window:
        return Window(pair(math.isqrt(len(self.values(arguments)))), pair(arguments["stride"]))

    def output(self, arguments: Arguments, shape: Shape) -> Shape:
        need_maps(shape)
        return (*self.places(arguments, shape), shape[2])

    def multiply_adds(self, arguments: Arguments, shape: Shape) -> int:
        return math.prod(self.output(arguments, shape)) * len(self.values(arguments))

    def module(self, arguments: Arguments, shape: Shape) -> nn.Module:
        from .network import FixedKernel

        top, bottom, left, right = self.padding(arguments)
        window = self.window(arguments, shape)
        # `plan` puts a pad layer before a kernel whose padding is not the same on both sides.
        return FixedKernel(
            self.values(arguments),
            channels=shape[2],
            stride=window.stride,
            padding=(top, left) if (top, left) == (bottom, right) else (0, 0),
            border=str(arguments["border"]),
        )


# Pooling.


class Pool(Layer):
    """One number for each window, as a class of `torch.nn` makes it."""

    role = "pooling"
    arguments = (
        Argument(
            name="size", kind="size", default=2, minimum=1, maximum=LARGEST_SIZE, meaning="window, height x width"
        ),
        Argument(
            name="stride",
            kind="size",
            minimum=1,
            maximum=LARGEST_SIZE,
            meaning="step of the window; if left out: its size",
        ),
        Argument(
            name="padding",
            kind="size",
            default=0,
            maximum=1000,
            meaning="cells added at each side, at most half the size",
        ),
    )

    def __init__(
        self, kind: str, meaning: str, torch_class: str, *, aten: tuple[str, ...] = (), **options: int
    ) -> None:
        """`options`: of the torch class; with them it is not this layer by its class alone."""
        self.kind, self.meaning, self.aten = kind, meaning, aten
        self.classes = () if options else (torch_class,)
        self._torch_class, self._options = torch_class, options

    def window(self, arguments: Arguments, shape: Shape) -> Window:
        size = pair(arguments["size"])
        return Window(size, size if arguments["stride"] is None else pair(arguments["stride"]))

    def padding(self, arguments: Arguments) -> tuple[int, int, int, int]:
        rows, columns = pair(arguments["padding"])
        return rows, rows, columns, columns

    def output(self, arguments: Arguments, shape: Shape) -> Shape:
        need_maps(shape)
        window, padding = self.window(arguments, shape), self.padding(arguments)
        if 2 * padding[0] > window.size[0] or 2 * padding[2] > window.size[1]:
            raise ShapeError(
                f"padding may be at most half the size; received size {size_text(window.size)}, "
                f"padding {size_text((padding[0], padding[2]))}"
            )
        return (*slide(window, shape, padding), shape[2])

    def module(self, arguments: Arguments, shape: Shape) -> nn.Module:
        from torch import nn

        window = self.window(arguments, shape)
        made: nn.Module = getattr(nn, self._torch_class)(
            window.size, stride=window.stride, padding=pair(arguments["padding"]), **self._options
        )
        return made


for _pool in (
    Pool(
        "maxpool",
        "the largest number in the window",
        "MaxPool2d",
        aten=("max_pool2d_with_indices", "max_pool2d", "adaptive_max_pool2d"),
    ),
    Pool(
        "avgpool",
        "the mean of the window; padding counts as zeros",
        "AvgPool2d",
        aten=("avg_pool2d", "_adaptive_avg_pool2d"),
    ),
    Pool("sumpool", "the sum of the window", "AvgPool2d", divisor_override=1),
):
    LAYERS[_pool.kind] = _pool


@layer
class GlobalAvg(Layer):
    kind = "globalavg"
    role = "pooling"
    classes = ("GlobalAverage",)
    meaning = "the mean of each map: one number for each channel, whatever the size of the image"
    numbered = False

    def output(self, arguments: Arguments, shape: Shape) -> Shape:
        need_maps(shape)
        return (shape[2],)

    def window(self, arguments: Arguments, shape: Shape) -> Window:
        return Window((shape[0], shape[1]))

    def module(self, arguments: Arguments, shape: Shape) -> nn.Module:
        from .network import GlobalAverage

        return GlobalAverage()


# Activations.


class Activation(Layer):
    """A function of each number by itself, as `torch.nn` has it."""

    role = "activation"

    def __init__(
        self,
        kind: str,
        meaning: str,
        torch_class: str,
        *arguments: Argument,
        rectifies: bool = False,
        operation: str = "",
    ) -> None:
        """`arguments`: in the order in which the torch class takes them; `operation`: left out where it is `kind`."""
        self.kind, self.meaning, self.arguments = kind, meaning, arguments
        self.classes, self.aten, self.rectifies = (torch_class,), (operation or kind,), rectifies

    def module(self, arguments: Arguments, shape: Shape) -> nn.Module:
        from torch import nn

        made: nn.Module = getattr(nn, self.classes[0])(*(arguments[argument.name] for argument in self.arguments))
        return made


_SLOPE = Argument(name="slope", kind="number", default=0.01, maximum=1, meaning="slope below zero")

for _activation in (
    Activation("relu", "max(0, x)", "ReLU", rectifies=True),
    Activation(
        "leakyrelu",
        "x where x > 0, else slope times x",
        "LeakyReLU",
        _SLOPE,
        rectifies=True,
        operation="leaky_relu",
    ),
    Activation("sigmoid", "1 / (1 + exp(-x))", "Sigmoid"),
    Activation("tanh", "the hyperbolic tangent of x", "Tanh"),
    Activation("gelu", "x times the normal distribution function of x", "GELU", rectifies=True),
    Activation("silu", "x times sigmoid(x)", "SiLU", rectifies=True),
):
    LAYERS[_activation.kind] = _activation


# The rest.


@layer
class Dropout(Layer):
    kind = "dropout"
    role = "dropout"
    aten = ("dropout",)
    classes = ("Dropout",)
    meaning = "in training, sets each number to zero with probability p and divides the others by 1 - p"
    arguments = (Argument(name="p", kind="number", default=0.5, maximum=0.999, meaning="probability"),)

    def module(self, arguments: Arguments, shape: Shape) -> nn.Module:
        from torch import nn

        probability = arguments["p"]
        assert isinstance(probability, float)
        return nn.Dropout(probability)


@layer
class Flatten(Layer):
    kind = "flatten"
    role = "reshape"
    classes = ("Flatten",)
    meaning = "flattens the maps to one vector, channel by channel, row by row"
    numbered = False

    def output(self, arguments: Arguments, shape: Shape) -> Shape:
        return (math.prod(shape),)

    def module(self, arguments: Arguments, shape: Shape) -> nn.Module:
        from torch import nn

        return nn.Flatten()


# Layers that hold chains of layers; `plan` and `build` know them by kind.


@layer
class Residual(Layer):
    kind = "residual"
    role = "block"
    classes = ("Residual",)
    meaning = "adds its input to the output of the layers inside"
    branches = (1, 1)


@layer
class Parallel(Layer):
    kind = "parallel"
    role = "block"
    classes = ("Parallel",)
    meaning = (
        "feeds its input to each branch and concatenates the results as channels; "
        "an empty branch passes it on unchanged"
    )
    branches = (2, 64)


@layer
class Repeat(Layer):
    kind = "repeat"
    role = "block"
    meaning = "repeats the layers inside, each time with its own weights"
    arguments = (Argument(name="n", kind="count", required=True, minimum=1, maximum=1000, meaning="how many times"),)
    branches = (1, 1)


class Pad(Layer):
    """Padding that is not the same on both sides, put before an even-sized convolution. Not for the text.

    Its arguments are the convolution's own, `size` and `dilation` always among them.
    """

    kind = "pad"
    role = "padding"
    aten = ("constant_pad_nd", "reflection_pad2d", "replication_pad2d")
    classes = ("ZeroPad2d", "ReflectionPad2d", "ReplicationPad2d")
    meaning = "cells added at the border"

    def output(self, arguments: Arguments, shape: Shape) -> Shape:
        top, bottom, left, right = self.padding(arguments)
        return shape[0] + top + bottom, shape[1] + left + right, shape[2]

    def padding(self, arguments: Arguments) -> tuple[int, int, int, int]:
        return LAYERS["conv"].padding(arguments)

    def module(self, arguments: Arguments, shape: Shape) -> nn.Module:
        from torch import nn

        top, bottom, left, right = self.padding(arguments)
        kinds = {"zeros": nn.ZeroPad2d, "reflect": nn.ReflectionPad2d, "replicate": nn.ReplicationPad2d}
        return kinds[str(arguments["border"])]((left, right, top, bottom))


PAD = Pad()


# What the rest of the house asks the catalogue.

_ALL = {**LAYERS, PAD.kind: PAD}


def role_of(kind: str) -> Role:
    """What layers of this kind are for."""
    return _ALL[kind].role if kind in _ALL else "other"


def kinds_of(*roles: Role) -> frozenset[str]:
    """The kinds of all layers with one of these roles."""
    return frozenset(kind for kind, layer in LAYERS.items() if layer.role in roles)


OPERATIONS: dict[str, str] = {name: entry.kind for entry in _ALL.values() for name in entry.aten}
"""Names of torch's operations to the kind of layer that they are."""

CLASSES: dict[str, str] = {name: entry.kind for entry in _ALL.values() for name in entry.classes}
"""Names of modules to the kind of layer that they are."""
