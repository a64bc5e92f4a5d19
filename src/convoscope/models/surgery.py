"""A network's parts: its head, its blocks, and putting something else in a part's place."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import TYPE_CHECKING

from ..errors import UsageError
from .modes import eval_mode

if TYPE_CHECKING:
    from torch import Tensor, nn


def head_path(network: nn.Module, input: tuple[int, int, int]) -> str:
    """The path of the dense layer whose result is the network's: its head.

    Raises:
        UsageError: `backbone-without-head`: the scores come from something else.
    """
    import torch
    from torch import nn

    height, width, channels = input
    last: list[tuple[str, Tensor]] = []
    hooks = []
    for path, part in network.named_modules():
        if isinstance(part, nn.Linear):
            hooks.append(part.register_forward_hook(lambda _, __, out, path=path: last.append((path, out))))
    weight = next(network.parameters(), torch.zeros(()))
    try:
        with eval_mode(network), torch.no_grad():
            scores = network(torch.zeros(1, channels, height, width, device=weight.device))
    finally:
        for hook in hooks:
            hook.remove()
    if not last or last[-1][1] is not scores:
        raise UsageError(
            f"model {type(network).__name__}",
            "its scores do not come from a dense layer, so there is no head to replace",
            hint="choose another backbone, such as imagenet",
            code="backbone-without-head",
        )
    return last[-1][0]


def replace_part(network: nn.Module, path: str, part: nn.Module) -> None:
    """Put `part` in the place of the module at `path`."""
    parent, _, child = path.rpartition(".")
    setattr(network.get_submodule(parent), child, part)


def blocks(network: nn.Module) -> list[list[str]]:
    """The network's parts that hold parameters, from the input to the scores, each with the names of its parameters.

    A block is one link of a chain: a convolution with the norm behind it, a residual, a dense layer. Chains within
    chains are opened.
    """
    result: list[list[str]] = []
    for path, part in _links(network, ""):
        names = [f"{path}.{name}" for name, _ in part.named_parameters()]
        if not names:
            continue
        if _is_norm(part) and result:
            result[-1] += names
        else:
            result.append(names)
    own = [name for name, _ in network.named_parameters(recurse=False)]
    return ([own] if own else []) + result


def _links(module: nn.Module, path: str) -> Iterator[tuple[str, nn.Module]]:
    from torch import nn

    for name, part in module.named_children():
        below = f"{path}.{name}" if path else name
        if isinstance(part, nn.Sequential | nn.ModuleList):
            yield from _links(part, below)
        else:
            yield below, part


def _is_norm(part: nn.Module) -> bool:
    from torch import nn

    return isinstance(part, nn.modules.batchnorm._NormBase | nn.LayerNorm | nn.GroupNorm)


def pool_first(module: nn.Module, on: bool = True) -> int:
    """Let every maxpool that directly follows a relu run before it, or, with `on=False`, in the written order again.

    Results and gradients are exactly the same; the relu then works on a quarter of the numbers. Only networks from a
    text are touched. Returns how many pairs there are.
    """
    from torch import nn

    from .network import Chain

    pairs = 0
    for part in module.modules():
        if isinstance(part, Chain):
            part.pool_first = on
            kinds = [type(child) for child in part]
            pairs += sum(a is nn.ReLU and b is nn.MaxPool2d for a, b in pairwise(kinds))
    return pairs
