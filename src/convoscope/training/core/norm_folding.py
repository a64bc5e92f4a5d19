"""Batch norms multiplied into the convolutions before them."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from ... import models


def fold_norms(network: nn.Module, image: Tensor) -> nn.Module:
    """A copy in which each batch norm that directly follows a convolution is multiplied into it: the same numbers but
    for rounding.

    Args:
        network: in eval mode.
        image: one image, to see which norm follows which convolution.
    """
    network = copy.deepcopy(network)
    made: dict[int, nn.Conv2d] = {}
    kept: list[Tensor] = []  # so that no identity is used twice
    pairs: list[tuple[nn.Conv2d, nn.BatchNorm2d]] = []

    def after(convolution: nn.Module, _: object, result: Tensor) -> None:
        assert isinstance(convolution, nn.Conv2d)
        made[id(result)] = convolution
        kept.append(result)

    def before(norm: nn.Module, given: tuple[Tensor, ...]) -> None:
        assert isinstance(norm, nn.BatchNorm2d)
        if id(given[0]) in made:
            pairs.append((made[id(given[0])], norm))

    hooks = []
    for part in network.modules():
        if isinstance(part, nn.Conv2d):
            hooks.append(part.register_forward_hook(after))
        elif isinstance(part, nn.BatchNorm2d) and part.running_var is not None:
            hooks.append(part.register_forward_pre_hook(before))
    with torch.inference_mode():
        network(image)
    for hook in hooks:
        hook.remove()
    names = {part: name for name, part in network.named_modules()}
    once = {part: sum(part in pair for pair in pairs) for pair in pairs for part in pair}
    for convolution, norm in pairs:
        if once[convolution] > 1 or once[norm] > 1:
            continue  # one convolution before two norms, or used twice
        _fold(convolution, norm)
        # timm's norms carry their activation inside.
        inside = [part for part in norm.children() if not isinstance(part, nn.Identity)]
        models.replace_part(network, names[norm], nn.Sequential(*inside))
    return network


def _fold(convolution: nn.Conv2d, norm: nn.BatchNorm2d) -> None:
    assert norm.running_mean is not None
    assert norm.running_var is not None
    factor = (norm.running_var.double() + norm.eps).rsqrt()
    if norm.weight is not None:
        factor = factor * norm.weight.double()
    offset = -norm.running_mean.double() * factor
    if norm.bias is not None:
        offset = offset + norm.bias.double()
    if convolution.bias is not None:
        offset = offset + convolution.bias.double() * factor
    weight = convolution.weight.double() * factor[:, None, None, None]
    convolution.weight = nn.Parameter(weight.float(), requires_grad=False)
    convolution.bias = nn.Parameter(offset.float(), requires_grad=False)
