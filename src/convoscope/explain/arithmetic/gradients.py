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
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from ...errors import UsageError, printable
from ...free_memory import ran_out
from ...suggestions import the_nearest
from ..capture.forward import first_line, normalised, preserve_state, probabilities, the_scores, uncompiled
from ..capture.recorder import record
from ..capture.records import Recording
from ..capture.recurrence import Unrolled
from .gradient_terms import Use, meetings
from .terms import GradientSum, finite_json, rounding_bound

_CONVOLUTIONS = (torch.conv1d, torch.conv2d, torch.conv3d)
_LINEAR = F.linear


class _Recorder(TorchFunctionMode):
    """Notes every call of a layer with weights, above torch's own record for gradients."""

    def __init__(self) -> None:
        super().__init__()
        self.uses: list[Use] = []

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
            self.uses.append(Use(kind, values["input"], made, weight, bias, values))
            # A copy goes on through the network, so that nothing changes this one in place.
            return made.clone()
        return made


@dataclass(frozen=True, eq=False)
class Gradients:
    """A loss and its gradients: the plain record behind a `Backward`.

    Attributes:
        loss: its value.
        scores: the raw scores, `(N, K)`.
        gradients: parameter name to gradient.
    """

    loss: float
    scores: Tensor
    gradients: dict[str, Tensor]
    _uses: list[Use] = field(repr=False)
    _parameters: dict[str, Tensor] = field(repr=False)
    _recording: Recording | None = field(repr=False, default=None)
    _frozen: frozenset[str] = field(repr=False, default=frozenset())
    _unused: frozenset[str] = field(repr=False, default=frozenset())

    def solve(self, parameter: str, index: Sequence[int]) -> GradientSum:
        """The sum that makes one gradient; see `Backward.why`."""
        gradient, place = self._gradient(parameter), tuple(index)
        shape = tuple(gradient.shape)
        if len(place) != len(shape) or not all(0 <= i < n for i, n in zip(place, shape, strict=True)):
            limits = ", ".join(f"0 to {n - 1}" for n in shape)
            received = ", ".join(map(str, index)) or "nothing"
            raise UsageError(
                "weight", f"{parameter} needs a place in {limits}; received {received}", code="unit-unknown"
            )
        tensor = self._parameters[parameter]
        uses = [use for use in self._uses if tensor is use.weight or tensor is use.bias]
        if not uses and parameter in self._unused:
            raise UsageError(
                "weight",
                f"{parameter} does not enter the loss of these images: its gradient is 0",
                code="parameter-unused",
            )
        if not uses:
            value = f"{float(gradient[place]):.9g}"
            raise UsageError(
                "weight",
                f"{parameter} is used by an operation whose gradient is not opened; its value is {value}",
                hint="those of convolutions, dense layers and norms are",
                code="parameter-closed",
            )
        met = [meetings(use, tensor, place) for use in uses]
        inputs, deltas = (np.concatenate(parts) for parts in ([m.inputs for m in met], [m.deltas for m in met]))
        products = inputs * deltas
        roundings = len(products) + 2 + sum(each.roundings for each in met)
        return GradientSum(
            parameter=parameter,
            index=place,
            words=met[0].words,
            inputs=inputs,
            deltas=deltas,
            products=products,
            cells=np.concatenate([each.cells for each in met]),
            sum=math.fsum(products),
            recorded=float(gradient[place]),
            bound=rounding_bound(roundings, torch.finfo(gradient.dtype).eps, float(np.abs(products).sum())),
            _places=np.concatenate([each.places for each in met]),
            _source=self._source(parameter, tuple(uses[0].taken.shape)) if len(uses) == 1 else None,
        )

    def _gradient(self, parameter: str) -> Tensor:
        if parameter in self.gradients:
            return self.gradients[parameter]
        if parameter in self._frozen:
            raise UsageError(
                "weight",
                f"{parameter} is frozen: no gradient is computed for it",
                code="parameter-frozen",
                hint="set its requires_grad to True, and go backwards again",
            )
        raise UsageError(
            "weight",
            f"this network has no learned weight {printable(parameter)!r}",
            hint=the_nearest(parameter, self.gradients) or "it has " + ", ".join(list(self.gradients)[:5]),
            code="parameter-unknown",
        )

    def _source(self, parameter: str, shape: tuple[int, ...]) -> tuple[str, tuple[int, ...]] | None:
        """The layer whose output the weight met, from the record of the same image."""
        if self._recording is None:
            return None
        owner = parameter.rpartition(".")[0]
        for step in self._recording.steps:
            weighted = step.kind in ("conv", "dense", "norm", "layernorm", "groupnorm")
            if (
                step.module == owner
                and weighted
                and step.inputs
                and tuple(self._recording[step.inputs[0]].output.shape) == shape
            ):
                return step.inputs[0], shape
        return None


def gradients_of(
    model: nn.Module, images: Tensor, loss: Callable[[Tensor], Tensor] | Tensor | int, *, training: bool = False
) -> Gradients:
    """The gradients of a loss by every weight, and what is needed to open each into its sum; see `backward`.

    Raises:
        UsageError: `model-module`, `target-unknown`, `image-shape`, `image-values`, `loss-not-a-number`, `no-gradient`.
    """
    model = uncompiled(model)
    images = normalised(model, images[None] if images.ndim == 3 else images, "image")
    function = loss if callable(loss) else _cross_entropy(loss)
    recorder = _Recorder()
    with preserve_state(model):
        every = dict(model.named_parameters())
        names = {name: parameter for name, parameter in every.items() if parameter.requires_grad}
        if training:
            model.train()
        try:
            with recorder, Unrolled():  # on top, so that the products inside recurrent layers are noted too
                scores = the_scores(model, model(images.clone()), len(images))
                value = _one_number(function(scores))
            made = [use.made for use in recorder.uses]
            found = torch.autograd.grad(value, [*names.values(), *made], allow_unused=True)
        except UsageError:
            raise
        except Exception as error:
            if ran_out(error):
                raise
            raise UsageError(
                f"model {type(model).__name__}", f"it fails on these images: {first_line(error)}", code="model-module"
            ) from error
    unused = frozenset(name for name, gradient in zip(names, found, strict=False) if gradient is None)
    gradients = {
        name: torch.zeros_like(parameter) if gradient is None else gradient
        for (name, parameter), gradient in zip(names.items(), found[: len(names)], strict=True)
    }
    for use, delta in zip(recorder.uses, found[len(names) :], strict=True):
        use.delta = torch.zeros_like(use.made) if delta is None else delta
    alone = record(model, images) if len(images) == 1 else None
    frozen = frozenset(every.keys() - names.keys())
    return Gradients(
        float(value.detach()), scores.detach(), gradients, recorder.uses, dict(names), alone, frozen, unused
    )


def _one_number(value: Any) -> Tensor:
    """The loss, if it is a number that was computed from weights.

    Raises:
        UsageError: `loss-not-a-number`, `no-gradient`.
    """
    if not isinstance(value, Tensor) or value.numel() != 1:
        got = f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
        raise UsageError(
            "loss", f"expected a tensor with one number, got {got}", code="loss-not-a-number", hint="take its mean"
        )
    if not value.requires_grad:
        raise UsageError(
            "loss",
            "no gradient comes back from it: every weight is frozen, or the network computes without gradients",
            code="no-gradient",
            hint="set requires_grad of the weights to True",
        )
    return value.reshape(())


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


@dataclass(frozen=True, eq=False)
class Descent:
    """One step of plain gradient descent: the plain record behind a `TrainingStep`.

    Attributes:
        before: parameter name to value.
        backward: prediction, loss and gradients; each opens into its sum.
        learning_rate: the share of the gradient that is taken off.
        after: parameter name to value.
        probabilities: of the classes, before the step.
        loss_after: the loss of the same images with the new weights.
    """

    before: dict[str, Tensor]
    backward: Gradients
    learning_rate: float
    after: dict[str, Tensor]
    probabilities: Tensor
    loss_after: float

    def to_json(self) -> dict[str, Any]:
        """All numbers by name."""

        def plain(tensors: dict[str, Tensor]) -> dict[str, Any]:
            return {name: tensor.tolist() for name, tensor in tensors.items()}

        value = {
            "scores": self.backward.scores.tolist(),
            "probabilities": self.probabilities.tolist(),
            "loss": self.backward.loss,
            "learning_rate": self.learning_rate,
            "before": plain(self.before),
            "gradients": plain(self.backward.gradients),
            "after": plain(self.after),
            "loss_after": self.loss_after,
        }
        return dict(finite_json(value))


def descend(model: nn.Module, images: Tensor, targets: Tensor | int, *, learning_rate: float) -> Descent:
    """One step of gradient descent on a copy of the network; see `training_step`.

    Raises:
        UsageError: as `gradients_of`; `rate-out-of-range`.
    """
    if not (math.isfinite(learning_rate) and learning_rate > 0):
        raise UsageError(
            "learning_rate", f"expected a number above 0; received {learning_rate}", code="rate-out-of-range"
        )
    model = uncompiled(model)
    images = normalised(model, images[None] if images.ndim == 3 else images, "image")
    found = gradients_of(model, images, targets)
    with preserve_state(model):
        moved = copy.deepcopy(model)
    before, after = {}, {}
    with torch.no_grad():
        for name, parameter in moved.named_parameters():
            before[name] = parameter.detach().clone()
            if name in found.gradients:
                parameter.sub_(found.gradients[name], alpha=learning_rate)
            after[name] = parameter.detach().clone()
    with preserve_state(moved), torch.no_grad():
        loss_after = float(_cross_entropy(targets)(the_scores(moved, moved(images), len(images))))
    return Descent(before, found, learning_rate, after, probabilities(found.scores), loss_after)
