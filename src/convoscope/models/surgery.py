"""A network's parts: its head, its blocks, and putting something else in a part's place."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

from ..errors import UsageError, printable
from .modes import eval_mode

if TYPE_CHECKING:
    from torch import Tensor, nn


def sole_head(network: nn.Module, input: tuple[int, int, int]) -> str | None:
    """The path of the dense layer whose result is the network's: its head. None: the scores come from something else,
    such as two heads or a convolution.
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
    return last[-1][0] if last and last[-1][1] is scores else None


def take_heads_off(network: nn.Module, heads: Sequence[str], input: tuple[int, int, int]) -> int:
    """Let a network give what its heads got, and say how many features that is for an image.

    Args:
        network: is changed.
        heads: the paths of dense layers, or convolutions of 1x1.
        input: height, width, channels.

    Raises:
        UsageError: `backbone-without-head`: they are something else, or without them the network gives no features.
    """
    import torch
    from torch import nn

    from .network import as_vectors

    name, height, width, channels = type(network).__name__, *input
    parts = [network.get_submodule(path) for path in heads]
    odd = [path for path, part in zip(heads, parts, strict=True) if not _is_linear(part)]
    if odd or not heads:
        what = (
            f"its scores come from {', '.join(odd)}, neither dense nor a convolution of 1x1" if odd else "it has none"
        )
        raise _without_head(name, what)
    weight = next(network.parameters())
    for path in heads:
        replace_part(network, path, nn.Identity())
    try:
        with eval_mode(network), torch.no_grad():
            features = network(torch.zeros(1, channels, height, width, device=weight.device))
    except Exception as error:
        raise _without_head(name, f"without {', '.join(heads)} it fails: {printable(error)[:200]}") from error
    shape = tuple(as_vectors(features).shape) if isinstance(features, torch.Tensor) else ()
    if len(shape) != 2 or shape[0] != 1:
        raise _without_head(
            name, f"without {', '.join(heads)} it gives no vector for an image, but {shape or 'no tensor'}"
        )
    return shape[1]


def _is_linear(part: nn.Module) -> bool:
    from torch import nn

    if isinstance(part, nn.Conv2d):
        return part.kernel_size == (1, 1) and part.groups == 1
    return isinstance(part, nn.Linear)


def _without_head(network: str, reason: str) -> UsageError:
    return UsageError(
        f"model {network}",
        f"its own head cannot be taken off: {reason}",
        hint="choose another backbone, such as imagenet",
        code="backbone-without-head",
    )


def replace_part(network: nn.Module, path: str, part: nn.Module) -> None:
    """Put `part` in the place of the module at `path`."""
    parent, _, child = path.rpartition(".")
    setattr(network.get_submodule(parent), child, part)


def blocks(network: nn.Module) -> list[list[str]]:
    """The network's parts that hold parameters, from the input to the scores, each with the names of its parameters.

    A block is one link of a chain: a convolution with the norm behind it, a residual, a dense layer. Chains within
    chains are opened.
    """
    from .network import OnFeatures

    result: list[list[str]] = []
    links = list(_links(network, ""))
    own = [name for name, _ in network.named_parameters(recurse=False)]
    if isinstance(network, OnFeatures):
        links = [*_links(network.backbone, "backbone"), *_links(network.head, "head")]
        own = [f"backbone.{name}" for name, _ in network.backbone.named_parameters(recurse=False)]
    for path, part in links:
        names = [f"{path}.{name}" for name, _ in part.named_parameters()]
        if not names:
            continue
        if _is_norm(part) and result:
            result[-1] += names
        else:
            result.append(names)
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
