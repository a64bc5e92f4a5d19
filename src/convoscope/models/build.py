"""From a text, a preset's name, a library's name or a ready module to a network. torch is imported inside the
functions.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

from ..errors import UsageError, printable
from ..free_memory import ran_out
from ..suggestions import did_you_mean
from .grammar import parse
from .layers import LAYERS
from .plan import Plan, PlannedLayer, check_input, make_plan
from .presets import PRESETS

if TYPE_CHECKING:
    from torch import nn

LIBRARIES = ("torchvision", "timm")


def model_text(model: str) -> str:
    """The text that a preset's name stands for; any other text, and `torchvision:NAME`, as it is.

    Raises:
        UsageError: `model-unknown`: a single word that is neither a preset nor a layer.
    """
    word = model.strip()
    if word in PRESETS:
        return PRESETS[word].text
    if re.fullmatch(r"[\w.-]+", word) and word not in LAYERS:
        raise UsageError(
            "model",
            f"expected a preset ({', '.join(PRESETS)}), torchvision:NAME, timm:NAME or a text of layers, got `{printable(word[:80])}`",
            code="model-unknown",
            hint=did_you_mean(word, [*PRESETS, *LAYERS]) or "write for instance: conv(32) relu maxpool flatten dense",
        )
    return model


class LibraryName(NamedTuple):
    """A network of a library, and the text of the layers that take the place of its last dense layer; empty: it keeps
    its own.
    """

    library: str
    name: str
    layers: str = ""


def library_name(model: str) -> LibraryName | None:
    """The parts of `torchvision:resnet18` or `timm:resnet18 dense(64) relu dense`; None for a text.

    Raises:
        UsageError: `model-unknown`: another library.
    """
    found = re.fullmatch(r"\s*([\w-]+)\s*:\s*(\S*)(\s.*)?", model, re.DOTALL)
    if not found:
        return None
    library, name, layers = found.groups()
    if library not in LIBRARIES:
        raise UsageError(
            "model",
            f"expected torchvision:NAME or timm:NAME, got `{printable(model.strip()[:80])}`",
            code="model-unknown",
            hint=f"the libraries are {' and '.join(LIBRARIES)}",
        )
    return LibraryName(library, name, (layers or "").strip())


def build(model: str | nn.Module, input: tuple[int, int, int], outputs: int) -> nn.Module:
    """The network for a text, a preset's name, `torchvision:NAME` or `timm:NAME`, with random weights.

    It takes float32 `(N, C, H, W)`, already normalised, and returns raw scores `(N, outputs)`; `.outputs` on networks
    from a text says how many, which is 1 where the text ends with `dense(1)` for two classes. A ready module is tried
    on one image of zeros and returned as it is. Chance comes from torch's global generator: set `torch.manual_seed`
    first.

    Weights start normal with mean 0 and variance 2 / inputs of a unit (He et al. 2015,
    https://arxiv.org/abs/1502.01852), 1 / inputs in the last layer with weights; biases start at 0. Networks without a
    relu or its kin keep torch's own, smaller start. Where a residual has an empty shortcut and its body ends with a
    norm, that norm's scale starts at 0, so that the block begins by passing on what comes in (Goyal et al. 2017,
    https://arxiv.org/abs/1706.02677).

    Args:
        model: what to build.
        input: (height, width, channels) of the images.
        outputs: scores for each image: the number of classes, labels or numbers.

    Raises:
        UsageError: the text, the shapes or the names do not fit; see `parse` and `make_plan`.
    """
    check_input(input, outputs)
    if not isinstance(model, str):
        check(model, input, outputs)
        return model
    named = library_name(model)
    if named is not None:
        from .library import build_from_library

        return build_from_library(named, input, outputs)
    text = model_text(model)
    return _network(make_plan(parse(text), input, outputs), text)


def count_parameters(model: str, input: tuple[int, int, int], outputs: int) -> int:
    """How many parameters `build` would make, told without making them.

    Raises:
        UsageError: as in `build`.
    """
    check_input(input, outputs)
    named = library_name(model)
    if named is not None:
        from .library import sketch_from_library

        return sum(parameter.numel() for parameter in sketch_from_library(named, input, outputs).parameters())
    return sum(step.parameters for step in make_plan(parse(model_text(model)), input, outputs).rows())


def _network(plan: Plan, text: str) -> nn.Module:
    from .network import Network

    network = Network(_children(plan.steps))
    network.text, network.input, network.outputs = text, plan.input, plan.outputs
    _initialise(network, plan)
    return network


def head_layers(text: str, features: int, outputs: int) -> nn.Module:
    """The layers of `text` on a vector of `features` numbers: `(N, features)` to `(N, outputs)`.

    Raises:
        UsageError: the layers do not fit a vector or give another number of scores.
    """
    from .network import Chain

    flatten, *items = parse(f"flatten {text}")
    plan = make_plan((flatten, *items), (1, 1, features), outputs)
    chain = Chain(_children(plan.steps[1:]))
    _initialise(chain, plan)
    return chain


def _children(steps: Sequence[PlannedLayer]) -> OrderedDict[str, nn.Module]:
    return OrderedDict((step.name.rpartition(".")[2], _module(step)) for step in steps)


def _module(step: PlannedLayer) -> nn.Module:
    from .network import Chain, Parallel, Residual

    branches = [Chain(_children(branch)) for branch in step.branches]
    if step.layer.kind == "residual":
        return Residual(*branches)
    if step.layer.kind == "parallel":
        return Parallel(branches)
    return step.layer.module(step.arguments, step.shape)


def _initialise(network: nn.Module, plan: Plan) -> None:
    from torch import nn

    from .network import Residual

    rectified = any(step.layer.kind in ("relu", "leakyrelu", "gelu", "silu") for step in plan.rows())
    if not rectified:
        return  # torch's own: uniform with variance 1 / (3 inputs), from which the smallest networks learn most surely
    weighted = [module for module in network.modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    for module in weighted:
        gain = "relu" if module is not weighted[-1] else "linear"
        nn.init.kaiming_normal_(module.weight, nonlinearity=gain)  # type: ignore[arg-type]
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    for block in network.modules():
        if isinstance(block, Residual) and not len(block.shortcut):
            last = list(block.body)[-1]
            if isinstance(last, nn.BatchNorm2d | nn.BatchNorm1d):
                nn.init.zeros_(last.weight)


def check(module: nn.Module, input: tuple[int, int, int], outputs: int) -> int:
    """The number of scores that a ready module gives for one image of zeros; the module is left as it was found.

    Raises:
        UsageError: `model-module`: it fails on images of that shape, or gives something else than `(1, outputs)`, or
            `(1, 1)` for two outputs.
    """
    import torch
    from torch import nn

    if not isinstance(module, nn.Module):
        raise UsageError(
            "model", f"expected a text or a torch.nn.Module, got {type(module).__name__}", code="model-module"
        )
    name = type(module).__name__
    height, width, channels = input
    weight = next(module.parameters(), torch.zeros(()))
    modes = {part: part.training for part in module.modules()}
    try:
        module.eval()
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            scores = module(torch.zeros(1, channels, height, width, device=weight.device, dtype=weight.dtype))
    except Exception as error:
        if ran_out(error):
            raise
        first = printable(str(error).strip().split("\n")[0][:300]) or type(error).__name__
        raise UsageError(
            f"model {name}",
            f"expected a network for images of {height}x{width}x{channels}, but it fails on one: {first}",
            code="model-module",
            hint="it must take float32 (N, C, H, W)",
        ) from error
    finally:
        for part, training in modes.items():
            part.training = training
    if (
        not isinstance(scores, torch.Tensor)
        or scores.ndim != 2
        or scores.shape[0] != 1
        or (scores.shape[1] != outputs and (scores.shape[1], outputs) != (1, 2))
    ):
        got = f"shape {tuple(scores.shape)}" if isinstance(scores, torch.Tensor) else type(scores).__name__
        raise UsageError(
            f"model {name}",
            f"expected raw scores of shape (1, {outputs}) for one image, got {got}",
            code="model-module",
            hint="return one tensor with one score for each output",
        )
    return int(scores.shape[1])


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
