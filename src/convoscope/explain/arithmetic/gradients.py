"""Why, backwards: the gradient of a loss by one weight as a sum over every place at which the weight was used.

The weight at place k of a filter met the input at one cell for each cell of the filter's map; the gradient is the sum
over these cells of what came in times delta, the gradient of the loss by what came out (Rumelhart, Hinton, Williams
1986). The input and delta are recorded from the network's own run; the sum is made in float64 and compared with
torch's.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from ...errors import UsageError, printable
from ...suggestions import the_nearest
from ..capture.forward import first_line, preserve_state, probabilities, quiet
from ..capture.recorder import Trace
from .solve import Unit

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_CONVOLUTIONS = (torch.conv1d, torch.conv2d, torch.conv3d)
_LINEAR = F.linear


@dataclass(eq=False)
class _Use:
    """One call that used weights: what went in, what came out, the settings."""

    kind: str
    taken: Tensor
    made: Tensor
    weight: Tensor | None
    bias: Tensor | None
    settings: dict[str, Any]
    delta: Tensor = field(default_factory=lambda: torch.empty(0))


class _Recorder(TorchFunctionMode):
    """Notes every call of a layer with weights, above torch's own record for gradients."""

    def __init__(self) -> None:
        super().__init__()
        self.uses: list[_Use] = []

    def __torch_function__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func in _CONVOLUTIONS:
            return self._note(
                "conv", func, ("input", "weight", "bias", "stride", "padding", "dilation", "groups"), args, kwargs
            )
        if func is _LINEAR:
            return self._note("dense", func, ("input", "weight", "bias"), args, kwargs)
        if func is F.batch_norm:
            names = ("input", "running_mean", "running_var", "weight", "bias", "training", "momentum", "eps")
            return self._note("norm", func, names, args, kwargs)
        if func is F.layer_norm:
            return self._note("layernorm", func, ("input", "normalized_shape", "weight", "bias", "eps"), args, kwargs)
        if func is F.group_norm:
            return self._note("groupnorm", func, ("input", "num_groups", "weight", "bias", "eps"), args, kwargs)
        return func(*args, **kwargs)

    def _note(self, kind: str, func: Any, names: Sequence[str], args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
        values = dict(zip(names, args, strict=False)) | kwargs
        made = func(*args, **kwargs)
        weight, bias = values.get("weight"), values.get("bias")
        if torch.is_grad_enabled() and isinstance(made, Tensor) and made.requires_grad:
            self.uses.append(_Use(kind, values["input"], made, weight, bias, values))
            # A copy goes on through the network, so that nothing changes this one in place.
            return made.clone()
        return made


@dataclass(frozen=True)
class GradientTerm:
    """One place at which a weight was used: image number, the cell of the output, what came in, delta, and their
    product.
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
            "image": self.image, "cell": list(self.cell), "input": self.input, "delta": self.delta, "product": self.product,
        }  # fmt: skip
        if self.padding:
            value["padding"] = True
        elif self.source is not None:
            value["from"] = self.source.to_json()
        return value


@dataclass(frozen=True, eq=False)
class GradientWhy:
    """The gradient of the loss by one weight.

    n terms, one for each place of use.

    Attributes:
        parameter: the weight's tensor, such as `conv1.weight`.
        index: the place in it.
        inputs, deltas, products: float64 `(n,)`.
        cells: int64 `(n, axes)`: image number and cell of the layer's output.
        sum: of the products, in float64.
        recorded: what torch computed.
        bound: how far `recorded` may be from `sum` by float32 rounding alone.
    """

    parameter: str
    index: tuple[int, ...]
    words: str
    inputs: Floats
    deltas: Floats
    products: Floats
    cells: Ints
    sum: float
    recorded: float
    bound: float
    _places: Ints = field(repr=False)
    _source: tuple[str, tuple[int, ...]] | None = field(repr=False)

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
        return {
            "parameter": self.parameter,
            "index": list(self.index),
            "words": self.words,
            "terms": [term.to_json() for term in self.terms],
            "sum": self.sum,
            "recorded": self.recorded,
            "difference": self.difference,
            "bound": self.bound,
        }

    def text(self, *, all: bool = False) -> str:
        """For a terminal: short, or with every term."""
        from ..drawings.text import gradient_text

        return gradient_text(self, all=all)

    def __str__(self) -> str:
        return self.text()

    def _repr_html_(self) -> str:
        from ...render import preformatted

        return preformatted(self.text())


@dataclass(frozen=True, eq=False)
class Backward:
    """A loss and its gradients, each of which opens into its sum.

    Attributes:
        loss: its value.
        scores: the raw scores, `(N, K)`.
        gradients: parameter name to gradient.
    """

    loss: float
    scores: Tensor
    gradients: dict[str, Tensor]
    _uses: list[_Use] = field(repr=False)
    _parameters: dict[str, Tensor] = field(repr=False)
    _trace: Trace | None = field(repr=False, default=None)

    def why(self, parameter: str, *index: int) -> GradientWhy:
        """The sum that makes one gradient.

        Args:
            parameter: such as `conv1.weight`.
            *index: the place in the tensor, such as filter, channel, y, x.

        Raises:
            UsageError: there is no such weight (`parameter-unknown`, `unit-unknown`), or it is used by an operation
                whose arithmetic is not opened (`parameter-closed`).
        """
        gradient = self._gradient(parameter)
        shape = tuple(gradient.shape)
        if len(index) != len(shape) or not all(0 <= i < n for i, n in zip(index, shape, strict=True)):
            limits = ", ".join(f"0 to {n - 1}" for n in shape)
            received = ", ".join(map(str, index)) or "nothing"
            raise UsageError(
                "weight", f"{parameter} needs a place in {limits}; received {received}", code="unit-unknown"
            )
        tensor = self._parameters[parameter]
        runs = [
            _use_terms(use, tensor, tuple(index)) for use in self._uses if tensor is use.weight or tensor is use.bias
        ]
        if not runs:
            raise UsageError(
                "weight",
                f"{parameter} is used by an operation whose gradient is not opened; its value is {float(gradient[index]):.9g}",
                hint="those of convolutions, dense layers and norms are",
                code="parameter-closed",
            )
        inputs, deltas, cells, places = (np.concatenate([run[k] for run in runs]) for k in range(4))
        products = inputs * deltas
        n = len(products) + 2 + sum(run[5] for run in runs)
        u = torch.finfo(gradient.dtype).eps / 2
        magnitude = float(np.abs(products).sum())
        return GradientWhy(
            parameter=parameter,
            index=tuple(index),
            words=runs[0][4],
            inputs=inputs,
            deltas=deltas,
            products=products,
            cells=cells,
            sum=math.fsum(products),
            recorded=float(gradient[index]),
            bound=n * u / (1 - n * u) * magnitude,
            _places=places,
            _source=self._source(parameter, runs[0][6]) if len(runs) == 1 else None,
        )

    def _gradient(self, parameter: str) -> Tensor:
        if parameter in self.gradients:
            return self.gradients[parameter]
        raise UsageError(
            "weight",
            f"this network learns no {printable(parameter)!r}",
            hint=the_nearest(parameter, self.gradients) or "it learns " + ", ".join(list(self.gradients)[:5]),
            code="parameter-unknown",
        )

    def _source(self, parameter: str, shape: tuple[int, ...]) -> tuple[str, tuple[int, ...]] | None:
        """The layer whose output the weight met, from the trace of the same image."""
        if self._trace is None:
            return None
        tensor = self._parameters[parameter]
        for step in self._trace.steps:
            owner = parameter.rpartition(".")[0]
            if (
                step.module == owner
                and step.kind in ("conv", "dense", "norm", "layernorm", "groupnorm")
                and step.inputs
            ):
                taken = self._trace[step.inputs[0]].output
                if tuple(taken.shape) == shape and tensor is not None:
                    return step.inputs[0], shape
        return None


def backward(
    model: nn.Module, images: Tensor, loss: Callable[[Tensor], Tensor] | Tensor | int, *, training: bool = False
) -> Backward:
    """The gradients of a loss by every weight, and what is needed to open each into its sum.

    The network is left as it was found; its `.grad` is not touched.

    Args:
        model: any module.
        images: float32 `(C, H, W)` or `(N, C, H, W)`, normalised.
        loss: a function from raw scores `(N, K)` to a scalar; or target classes, for the mean cross-entropy (of one
            sigmoid where the model gives one score).
        training: run norms and dropout as in training; by default as in use.

    Raises:
        UsageError: the network fails on these images (`model-module`), or the targets do not fit (`target-unknown`).
    """
    from ..capture.recorder import trace

    images = images[None] if images.ndim == 3 else images
    function = loss if callable(loss) else _cross_entropy(loss)
    recorder = _Recorder()
    names = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    with quiet(model):
        if training:
            model.train()
        try:
            with recorder:
                scores = model(images.detach())
                value = function(scores)
            made = [use.made for use in recorder.uses]
            found = torch.autograd.grad(value, [*names.values(), *made], allow_unused=True)
        except UsageError:
            raise
        except Exception as error:
            raise UsageError(
                f"model {type(model).__name__}", f"it fails on these images: {first_line(error)}", code="model-module"
            ) from error
    gradients = {
        name: torch.zeros_like(parameter) if gradient is None else gradient
        for (name, parameter), gradient in zip(names.items(), found[: len(names)], strict=True)
    }
    for use, delta in zip(recorder.uses, found[len(names) :], strict=True):
        use.delta = torch.zeros_like(use.made) if delta is None else delta
    alone = trace(model, images) if len(images) == 1 else None
    return Backward(float(value.detach()), scores.detach(), gradients, recorder.uses, dict(names), alone)


def _cross_entropy(targets: Tensor | int) -> Callable[[Tensor], Tensor]:
    def loss(scores: Tensor) -> Tensor:
        wanted = torch.as_tensor(targets, device=scores.device).reshape(-1).long()
        count = max(2, scores.shape[1])
        if len(wanted) != len(scores) or int(wanted.min()) < 0 or int(wanted.max()) >= count:
            raise UsageError(
                "target",
                f"expected a class from 0 to {count - 1} for each of {len(scores)} images; received {wanted.tolist()}",
                code="target-unknown",
            )
        if scores.shape[1] == 1:
            return F.binary_cross_entropy_with_logits(scores[:, 0], wanted.to(scores.dtype))
        return F.cross_entropy(scores, wanted)

    return loss


_Run = tuple[Floats, Floats, Ints, Ints, str, int, tuple[int, ...]]
"""Inputs, deltas, cells, flat places in the layer's input (-1 padding, -2 none), words, extra roundings, the input's
shape.
"""


def _floats(tensor: Tensor) -> Floats:
    return tensor.detach().to("cpu", torch.float64).numpy()


def _cells(shape: Sequence[int]) -> Ints:
    return np.stack([axis.ravel() for axis in np.indices(tuple(shape))], 1).astype(np.int64)


def _use_terms(use: _Use, tensor: Tensor, index: tuple[int, ...]) -> _Run:
    taken, delta = _floats(use.taken), _floats(use.delta)
    shape = tuple(use.taken.shape)
    if use.kind in ("conv", "dense") and tensor is use.bias:
        channel = index[0]
        own = delta[:, channel] if use.kind == "conv" else delta[..., channel]
        values = own.ravel()
        cells = _cells(own.shape)
        none = np.full(len(values), -2, np.int64)
        return np.ones(len(values)), values, cells, none, "the bias is used at every cell", 0, shape
    if use.kind == "conv":
        return _conv_terms(use, taken, delta, index, shape)
    if use.kind == "dense":
        row, column = index
        own, values = delta[..., row].ravel(), taken[..., column].ravel()
        cells = _cells(delta.shape[:-1])
        places = np.arange(len(values), dtype=np.int64) * taken.shape[-1] + column
        return values, own, cells, places, "the weight is used once for each image", 0, shape
    return _norm_terms(use, tensor, taken, delta, index, shape)


def _conv_terms(use: _Use, taken: Floats, delta: Floats, index: tuple[int, ...], shape: tuple[int, ...]) -> _Run:
    filter_, channel, *offset = index
    axes = len(offset)
    weight = use.weight
    assert weight is not None
    groups = int(use.settings.get("groups", 1))
    stride, dilation = (_spread(use.settings.get(name, 1), axes) for name in ("stride", "dilation"))
    given = use.settings.get("padding", 0)
    if isinstance(given, str):
        reach = [(weight.shape[2 + a] - 1) * dilation[a] for a in range(axes)]
        padding = [r // 2 for r in reach] if given == "same" else [0] * axes
    else:
        padding = _spread(given, axes)
    source = filter_ // (weight.shape[0] // groups) * weight.shape[1] + channel
    own = delta[:, filter_]
    cells = _cells(own.shape)
    rows = [cells[:, 1 + a] * stride[a] - padding[a] + offset[a] * dilation[a] for a in range(axes)]
    inside = np.all([(r >= 0) & (r < taken.shape[2 + a]) for a, r in enumerate(rows)], axis=0)
    safe = [np.where(inside, r, 0) for r in rows]
    values = np.where(inside, taken[(cells[:, 0], np.full(len(cells), source), *safe)], 0.0)
    flat = np.ravel_multi_index((cells[:, 0], np.full(len(cells), source), *safe), shape)
    places = np.where(inside, flat, -1).astype(np.int64)
    return values, own.ravel(), cells, places, "the weight is used at every cell of its filter's map", 0, shape


def _norm_terms(
    use: _Use, tensor: Tensor, taken: Floats, delta: Floats, index: tuple[int, ...], shape: tuple[int, ...]
) -> _Run:
    """Scale and shift of a norm: what came in, normalised, times delta."""
    eps = float(use.settings.get("eps", 1e-5))
    if use.kind == "layernorm":
        axes = tuple(range(taken.ndim - len(index), taken.ndim))
        mean, variance = taken.mean(axes, keepdims=True), taken.var(axes, keepdims=True)
        pick: tuple[Any, ...] = (..., *index)
    else:
        others = (0, *range(2, taken.ndim))
        pick = (slice(None), index[0])
        if use.kind == "groupnorm":
            groups = int(use.settings["num_groups"])
            grouped = taken.reshape(taken.shape[0], groups, -1)
            each = taken.shape[1] // groups
            spread = (slice(None), slice(None), *(None for _ in taken.shape[2:]))
            mean = np.repeat(grouped.mean(2), each, 1)[spread]
            variance = np.repeat(grouped.var(2), each, 1)[spread]
        elif use.settings.get("training") or use.settings.get("running_mean") is None:
            mean, variance = taken.mean(others, keepdims=True), taken.var(others, keepdims=True)
        else:
            spread = (None, slice(None), *(None for _ in taken.shape[2:]))
            mean, variance = (_floats(use.settings[name])[spread] for name in ("running_mean", "running_var"))
    normalised = (taken - mean) / np.sqrt(variance + eps)
    own = delta[pick].ravel()
    values = normalised[pick].ravel() if tensor is use.weight else np.ones(len(own))
    where = np.arange(taken.size, dtype=np.int64).reshape(taken.shape)[pick].ravel()
    cells = _cells(delta[pick].shape)
    what = "scale" if tensor is use.weight else "shift"
    places = where if tensor is use.weight else np.full(len(own), -2, np.int64)
    return values, own, cells, places, f"the {what} is used at every cell of its channel", 16, shape


def _spread(value: Any, axes: int) -> list[int]:
    values = [value] if isinstance(value, int) else list(value)
    return values * axes if len(values) == 1 else values


# --- a whole training step --------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class TrainingStep:
    """One step of plain gradient descent, opened.

    Attributes:
        before: parameter name to value.
        backward: prediction, loss and gradients; each opens into its sum.
        learning_rate: the share of the gradient that is taken off.
        after: parameter name to value.
        loss_after: the loss of the same images with the new weights.
    """

    before: dict[str, Tensor]
    backward: Backward
    learning_rate: float
    after: dict[str, Tensor]
    probabilities: Tensor
    loss_after: float

    def to_json(self) -> dict[str, Any]:
        """All numbers by name."""

        def plain(tensors: dict[str, Tensor]) -> dict[str, Any]:
            return {name: tensor.tolist() for name, tensor in tensors.items()}

        return {
            "scores": self.backward.scores.tolist(),
            "probabilities": self.probabilities.tolist(),
            "loss": self.backward.loss,
            "learning_rate": self.learning_rate,
            "before": plain(self.before),
            "gradients": plain(self.backward.gradients),
            "after": plain(self.after),
            "loss_after": self.loss_after,
        }

    def text(self) -> str:
        """Every number of the step, for small models."""
        from ..drawings.text import step_text

        return step_text(self)

    def __str__(self) -> str:
        return self.text()

    def _repr_html_(self) -> str:
        from ...render import preformatted

        return preformatted(self.text())


def training_step(
    model: nn.Module, images: Tensor, targets: Tensor | int, *, learning_rate: float = 0.1
) -> TrainingStep:
    """One step of gradient descent on a copy of the network: prediction, loss, gradients, update. The network itself
    stays as it is.

    Args:
        model: any module; meant for small ones.
        images: float32 `(C, H, W)` or `(N, C, H, W)`, normalised.
        targets: the right class of each image.
        learning_rate: above 0.

    Raises:
        UsageError: as `backward`, or a rate that is no positive number (`rate-out-of-range`).
    """
    if not (math.isfinite(learning_rate) and learning_rate > 0):
        raise UsageError(
            "learning_rate", f"expected a number above 0; received {learning_rate}", code="rate-out-of-range"
        )
    images = images[None] if images.ndim == 3 else images
    found = backward(model, images, targets)
    moved = copy.deepcopy(model)
    before, after = {}, {}
    with torch.no_grad():
        for name, parameter in moved.named_parameters():
            before[name] = parameter.detach().clone()
            if name in found.gradients:
                parameter.sub_(found.gradients[name], alpha=learning_rate)
            after[name] = parameter.detach().clone()
    with preserve_state(moved), torch.no_grad():
        loss_after = float(_cross_entropy(targets)(moved(images)))
    return TrainingStep(before, found, learning_rate, after, probabilities(found.scores), loss_after)
