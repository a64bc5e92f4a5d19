"""From a text, a preset's name, a library's name or a ready module to a network: which file does it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .check import check
from .from_text import network_from_plan
from .grammar import parse
from .library import build_from_library, sketch_from_library
from .names import library_name, model_text
from .own_module import ModuleMaker, made
from .plan import check_input, make_plan

if TYPE_CHECKING:
    from torch import nn


def build(model: str | nn.Module | ModuleMaker, input: tuple[int, int, int], outputs: int) -> nn.Module:
    """The network for a text, a preset's name, `torchvision:NAME` or `timm:NAME`, with random weights.

    It takes float32 `(N, C, H, W)`, already normalised, and returns raw scores `(N, outputs)`; `.outputs` on networks
    from a text says how many, which is 1 where the text ends with `dense(1)` for two classes. A ready module is tried
    on one image of zeros and returned unchanged; a class or function of your own is called with the numbers of channels
    and outputs, `make(channels, outputs)`, and gives one. Weights are drawn from torch's global generator: call
    `torch.manual_seed` first.

    Weights start normal with mean 0 and variance 2 / inputs of a unit (He et al. 2015,
    https://arxiv.org/abs/1502.01852), 1 / inputs in the last layer with weights; biases start at 0. Networks without a
    relu or a similar activation keep torch's own, smaller start. Where a residual has an empty shortcut and its body
    ends with a norm, that norm's scale starts at 0, so that the block begins by passing on what comes in (Goyal et al.
    2017, https://arxiv.org/abs/1706.02677).

    Args:
        model: what to build.
        input: (height, width, channels) of the images.
        outputs: scores for each image: the number of classes, labels or numbers.

    Raises:
        UsageError: the text, the shapes or the names do not fit; see `parse` and `make_plan`.
    """
    check_input(input, outputs)
    if not isinstance(model, str):
        from torch import nn

        makes = callable(model) and not isinstance(model, nn.Module)
        network: nn.Module = made(model, input[2], outputs) if makes else model  # type: ignore[assignment]
        check(network, input, outputs)
        return network
    named = library_name(model)
    if named is not None:
        return build_from_library(named, input, outputs)
    text = model_text(model)
    return network_from_plan(make_plan(parse(text), input, outputs), text)


def count_parameters(model: str, input: tuple[int, int, int], outputs: int) -> int:
    """How many parameters the network of `build` would have, without building it.

    Raises:
        UsageError: as in `build`.
    """
    check_input(input, outputs)
    named = library_name(model)
    if named is not None:
        return sum(parameter.numel() for parameter in sketch_from_library(named, input, outputs).parameters())
    return sum(step.parameters for step in make_plan(parse(model_text(model)), input, outputs).rows())
