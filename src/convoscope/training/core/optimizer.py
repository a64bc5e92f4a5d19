"""The optimiser and its schedule. The rate is a function of the step, so there is no scheduler state to keep."""

from __future__ import annotations

import contextlib
import inspect
import math
import sys
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor, nn

from ... import models
from ...errors import ModelFileError, printable
from .recipe import Recipe

_MARK = "__dynamo_disable"


@contextlib.contextmanager
def compiler_not_loaded() -> Iterator[None]:
    """While this is open, torch's optimisers do not load torch's compiler. That takes 1.6 s, and nothing is compiled.

    They load it to mark three of their methods as not to be compiled. Here the marks are put there beforehand, and
    taken off afterwards.
    """
    kind = torch.optim.Optimizer
    methods = [
        getattr(method, "__wrapped__", None) for method in (kind.add_param_group, kind.state_dict, kind.load_state_dict)
    ]
    unmarked = [plain for plain in methods if plain is not None and not hasattr(plain, _MARK)]
    if "torch._dynamo" in sys.modules:
        unmarked = []
    for plain in unmarked:
        setattr(plain, _MARK, plain)
    try:
        yield
    finally:
        for plain in unmarked:
            delattr(plain, _MARK)


def plain_step(optimizer: torch.optim.Optimizer) -> None:
    """What `optimizer.step()` does, without the wrappers that serve torch's compiler and profiler; see
    `compiler_not_loaded`.
    """
    with torch.no_grad():
        inspect.unwrap(type(optimizer).step)(optimizer)


def freeze(network: nn.Module, recipe: Recipe) -> None:
    """Let only the recipe's `trained_blocks` learn."""
    if not recipe.trained_blocks:
        return
    learning = {name for block in models.blocks(network)[-recipe.trained_blocks :] for name in block}
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(name in learning)


def has_batch_norm(network: nn.Module) -> bool:
    """Whether a layer measures mean and standard deviation over the images of a batch."""
    return any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in network.modules())


def training_mode(network: nn.Module, recipe: Recipe) -> None:
    """Train mode, but for batch norms that shall keep their statistics: all with `freeze_norm`, else those of frozen
    blocks.

    A small set's batches give poor statistics, and an early layer's shift all that is behind it; see section 4.2 of Wu
    and Johnson 2021, "Rethinking 'Batch' in BatchNorm", https://arxiv.org/abs/2105.07576, on frozen batch norm in
    fine-tuning.
    """
    network.train()
    for part in network.modules():
        if isinstance(part, nn.modules.batchnorm._BatchNorm):
            frozen = part.weight is not None and not part.weight.requires_grad
            if recipe.freeze_norm or frozen:
                part.eval()


class Optimizer:
    """One or two of torch's optimisers that step together, at one rate or, with `block_decay`, at rates that fall
    towards the input.

    Weights of two or more dimensions decay; biases and norms do not. With `muon`, convolutions behind the first layer
    learn by orthogonalised momentum (https://kellerjordan.github.io/posts/muon/), its rate matched to AdamW's, which
    learns the rest.
    """

    def __init__(self, network: nn.Module, recipe: Recipe) -> None:
        trainable = [parameter for parameter in network.parameters() if parameter.requires_grad]
        self._matrices = _Matrices(network) if recipe.optimizer == "muon" else None
        if self._matrices is not None:
            ours = set(map(id, self._matrices.parameters))
            trainable = [parameter for parameter in trainable if id(parameter) not in ours]
        shares = _lr_factors(network, recipe)
        groups = [
            {"params": chosen, "weight_decay": recipe.weight_decay if large else 0.0, "share": share}
            for share in sorted(set(shares.values()), reverse=True)
            for large in (True, False)
            if (chosen := [p for p in trainable if (p.ndim >= 2) == large and shares[id(p)] == share])
        ]
        rate = recipe.learning_rate
        self._all: list[torch.optim.Optimizer] = []
        if recipe.optimizer == "sgd":
            momentum = recipe.momentum
            self._all.append(torch.optim.SGD(groups, lr=rate, momentum=momentum, nesterov=momentum > 0, fused=True))
        elif groups:
            kind = torch.optim.Adam if recipe.optimizer == "adam" else torch.optim.AdamW
            self._all.append(kind(groups, lr=rate, betas=(recipe.momentum, recipe.beta2), fused=True))
        if self._matrices is not None and self._matrices.parameters:
            # match_rms_adamw: Liu et al. 2025, https://arxiv.org/abs/2502.16982, so that one rate suits both.
            pairs = list(zip(self._matrices.parameters, self._matrices.views, strict=True))
            muon = torch.optim.Muon(
                [
                    {"params": [view for parameter, view in pairs if shares[id(parameter)] == share], "share": share}
                    for share in sorted({shares[id(parameter)] for parameter, _ in pairs}, reverse=True)
                ],
                lr=recipe.muon_learning_rate,
                weight_decay=recipe.weight_decay,
                momentum=0.95,
                adjust_lr_fn="match_rms_adamw",
            )
            self._all.append(muon)

        for optimizer in self._all:
            for group in optimizer.param_groups:
                group["initial_lr"] = group["lr"] * group["share"]

    def step(self, share: float) -> None:
        """Update all weights by their gradients, at this share of the highest learning rate."""
        if self._matrices is not None:
            self._matrices.take_gradients()
        for optimizer in self._all:
            for group in optimizer.param_groups:
                group["lr"] = group["initial_lr"] * share
            plain_step(optimizer)

    def tensors(self) -> dict[str, Tensor]:
        """The state as flat tensors, for a checkpoint: `optimizer.0.3.exp_avg`."""
        return {
            f"optimizer.{number}.{index}.{key}": value
            for number, optimizer in enumerate(self._all)
            for index, entry in optimizer.state_dict()["state"].items()
            for key, value in entry.items()
            if isinstance(value, Tensor)
        }

    def restore(self, tensors: dict[str, Tensor], path: Path, *, begun: bool) -> None:
        """Put back what `tensors` gave.

        Args:
            tensors: of a checkpoint; those that are not the optimiser's are ignored.
            path: the checkpoint, for messages.
            begun: whether a step was made, so that there must be some.

        Raises:
            ModelFileError: they are not those of this optimiser (`weights-do-not-fit`).
        """
        keys = [_kept(optimizer) for optimizer in self._all]
        states: list[dict[int, dict[str, Tensor]]] = [{} for _ in self._all]
        wanted = {
            f"optimizer.{number}.{index}.{key}": (number, index, key, parameter)
            for number, optimizer in enumerate(self._all)
            for index, parameter in enumerate(p for group in optimizer.param_groups for p in group["params"])
            for key in keys[number]
        }
        own = [name for name in tensors if name.startswith("optimizer.")]
        faults = [f"{name}: not in it" for name in own if name not in wanted]
        if begun and wanted and not own:
            faults.append("it is missing")
        for name in own:
            if name not in wanted:
                continue
            number, index, key, parameter = wanted[name]
            value = tensors[name]
            shape, kind = (torch.Size(), torch.float32) if key == "step" else (parameter.shape, parameter.dtype)
            if (
                value.shape != shape
                or value.dtype != kind
                or (key in ("step", "exp_avg_sq") and bool((value < 0).any()))
            ):
                faults.append(f"{name}: {list(value.shape)} {value.dtype}, expected {list(shape)} {kind}")
            states[number].setdefault(index, {})[key] = value
        # A parameter that no loss depends on has none at all.
        faults += [
            f"optimizer.{number}.{index}: only {', '.join(sorted(entry))}"
            for number, state in enumerate(states)
            for index, entry in state.items()
            if len(entry) < len(keys[number])
        ]
        if faults:
            more = f" and {len(faults) - 5} more" if len(faults) > 5 else ""
            raise ModelFileError(
                path,
                "its optimiser's state does not fit this model: "
                + "; ".join(printable(f)[:200] for f in faults[:5])
                + more,
                hint="restore it from a copy, or train again",
                code="weights-do-not-fit",
            )
        for optimizer, state in zip(self._all, states, strict=True):
            optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def _kept(optimizer: torch.optim.Optimizer) -> tuple[str, ...]:
    """The names of what an optimiser keeps of each parameter."""
    if isinstance(optimizer, torch.optim.Adam):  # AdamW is one too
        return "step", "exp_avg", "exp_avg_sq"
    return ("momentum_buffer",) if optimizer.param_groups[0]["momentum"] else ()


def _lr_factors(network: nn.Module, recipe: Recipe) -> dict[int, float]:
    """For each parameter's identity: its rate as a share of the last block's."""
    if recipe.block_decay == 1:
        return {id(parameter): 1.0 for parameter in network.parameters()}
    parameters = dict(network.named_parameters())
    blocks = models.blocks(network)
    return {
        id(parameters[name]): recipe.block_decay ** (len(blocks) - 1 - number)
        for number, block in enumerate(blocks)
        for name in block
    }


class _Matrices:
    """Convolutions' weights as matrices (filters x rest) that share their memory, which is how Muon sees them."""

    def __init__(self, network: nn.Module) -> None:
        convolutions = [
            m for m in network.modules() if isinstance(m, nn.Conv2d) and m.groups == 1 and m.weight.requires_grad
        ]
        self.parameters = [m.weight for m in convolutions if m.in_channels > 4]
        self.views = [nn.Parameter(_matrix(parameter.detach(), parameter)) for parameter in self.parameters]
        for view, parameter in zip(self.views, self.parameters, strict=True):
            assert view.data_ptr() == parameter.data_ptr(), "the view must share the weights' memory"

    def take_gradients(self) -> None:
        """Hand the weights' gradients to their matrices."""
        for view, parameter in zip(self.views, self.parameters, strict=True):
            view.grad = None if parameter.grad is None else _matrix(parameter.grad, parameter)


def _matrix(values: Tensor, like: Tensor) -> Tensor:
    """`(filters, channels, h, w)` as `(filters, channels * h * w)`, the columns in the memory order of `like`."""
    if not like.is_contiguous():
        values = values.permute(0, 2, 3, 1)
    return values.flatten(1)


def lr_factor(recipe: Recipe, step: int, steps: int) -> float:
    """The share of the highest rate for step `step` (from 0) of `steps`: a linear rise, then constant, linear or cosine
    to zero.
    """
    rise = math.ceil(recipe.warmup * steps)
    if step < rise:
        return (step + 1) / rise
    if recipe.schedule == "constant":
        return 1.0
    done = (step - rise) / max(steps - rise, 1)
    return 1 - done if recipe.schedule == "linear" else (1 + math.cos(math.pi * done)) / 2
