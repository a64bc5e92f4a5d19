"""A network as a backbone and a head: the head is its last dense layer, the backbone all that comes before it.

What the libraries say of their pretrained weights stands here too: where they are offered and how images are prepared
for them. Reading weights is not this room's work.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..errors import UsageError, printable
from .build import library_name, model_text
from .grammar import parse, to_text, written_out
from .layers import PAD
from .plan import make_plan

if TYPE_CHECKING:
    from torch import Tensor, nn


def backbone_text(model: str, *, head: int = 1) -> str:
    """A model's text without its head: `conv(8) flatten dense(16) relu dense` gives `conv(8) flatten dense(16) relu`.

    A library's network stays as it is named, without layers of its own behind it. A text that ends in something else
    than a dense layer has no head and stays whole.

    Args:
        model: a text, a preset's name, `torchvision:NAME` or `timm:NAME`.
        head: how many dense layers are its head.
    """
    named = library_name(model)
    if named is not None:
        return f"{named.library}:{named.name}"
    items = parse(model_text(model))
    if items[-1].kind == "repeat":
        items = written_out(items)
    taken = 0
    for position in range(len(items) - 1, -1, -1):
        if items[position].kind == "dense":
            taken += 1
        if taken == head:
            return to_text(items[:position])
        if items[position].kind not in ("dense", "relu"):
            break
    return to_text(items)


def with_head(backbone: str, head: Sequence[int] = ()) -> str:
    """The model's text of a backbone and a head: one dense layer with as many units as there are outputs, before it
    those of `head`, each with a relu.

    >>> with_head("conv(8) globalavg")
    'conv(8) globalavg dense'
    >>> with_head("timm:resnet18", [64])
    'timm:resnet18 dense(64) relu dense'
    """
    hidden = "".join(f" dense({units}) relu" for units in head)
    if library_name(backbone) is not None and not head:
        return backbone
    return f"{backbone}{hidden} dense".strip()


@dataclass(frozen=True, kw_only=True)
class FeatureLayer:
    """A place where a backbone may end.

    Attributes:
        text: the model's text up to there; maps are laid out as one vector.
        layers: the names of the layers that are kept, from the input on. The last one names the place.
        width: D, how many numbers come out for an image.
    """

    text: str
    layers: tuple[str, ...]
    width: int


_TAKES_UP = ("conv", "dense", "residual", "parallel", "globalavg")


def feature_layers(backbone: str, input: tuple[int, int, int]) -> tuple[FeatureLayer, ...]:
    """Where the text of a backbone may end: before each layer that learns or averages whole maps, and where it ends.
    From the input on.

    A library's network can only be taken whole, so it has none.

    >>> [(feature_layer.layers[-1], feature_layer.width) for feature_layer in feature_layers("conv(4) relu maxpool conv(8) relu globalavg", (8, 8, 1))]
    [('maxpool1', 64), ('relu2', 128), ('globalavg', 8)]
    """
    if library_name(backbone) is not None:
        return ()
    items = written_out(parse(backbone))
    steps = [step for step in make_plan((*items, *parse("dense")), input, 2).steps if step.layer is not PAD]
    found: dict[int, FeatureLayer] = {}
    for end in [place for place, item in enumerate(items) if place and item.kind in _TAKES_UP] + [len(items)]:
        kept = end
        while kept and items[kept - 1].kind in ("flatten", "dropout"):
            kept -= 1
        if not kept:
            continue
        output = steps[kept - 1].output
        text = backbone if end == len(items) else to_text(items[:kept]) + (" flatten" if len(output) == 3 else "")
        found[kept] = FeatureLayer(text=text, layers=tuple(step.name for step in steps[:kept]), width=math.prod(output))
    return tuple(found.values())


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
    modes = {part: part.training for part in network.modules()}
    try:
        network.eval()
        with torch.no_grad():
            scores = network(torch.zeros(1, channels, height, width, device=weight.device))
    finally:
        for hook in hooks:
            hook.remove()
        for part, training in modes.items():
            part.training = training
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

    A block is what stands in a chain: a convolution with the norm behind it, a residual, a dense layer. Chains within
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


@dataclass(frozen=True, kw_only=True)
class Pretrained:
    """What a library says of a network's pretrained weights.

    Attributes:
        address: where the file is offered; its name's ending says what it is.
        sha256: how its SHA-256 begins, as far as the library says; empty if it does not.
        input: (height, width, channels) of the images it was trained for.
        mean, std: of the images' channels, in 0..1.
        outputs: how many scores the weights give.
    """

    address: str
    sha256: str
    input: tuple[int, int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    outputs: int


def pretrained(model: str) -> Pretrained:
    """What the library says of the weights of `torchvision:NAME` or `timm:NAME`.

    Raises:
        UsageError: `model-unknown`: no such network; `backbone-without-weights`: the library offers no weights for it.
    """
    named = library_name(model)
    assert named is not None
    from .library import check_name

    check_name(named.library, named.name)
    found = _of_timm(named.name) if named.library == "timm" else _of_torchvision(named.name)
    if found is None:
        raise UsageError(
            "backbone",
            f"{named.library} offers no weights of {printable(named.name)} that can be read without running code",
            hint="choose another backbone, such as imagenet",
            code="backbone-without-weights",
        )
    return found


def _of_timm(name: str) -> Pretrained | None:
    import timm

    config = timm.get_pretrained_cfg(name)
    if config is None or not config.hf_hub_id:
        return None
    channels, height, width = config.input_size
    file = config.hf_hub_filename or "model.safetensors"
    return Pretrained(
        address=f"https://huggingface.co/{config.hf_hub_id}/resolve/main/{file}",
        sha256="",
        input=(height, width, channels),
        mean=tuple(map(float, config.mean)),
        std=tuple(map(float, config.std)),
        outputs=int(config.num_classes),
    )


def _of_torchvision(name: str) -> Pretrained | None:
    from torchvision import models

    weights: Any = models.get_model_weights(name).DEFAULT
    way = weights.transforms()
    side = int(way.crop_size[0])
    stem = weights.url.rpartition("/")[2].rpartition(".")[0]
    return Pretrained(
        address=weights.url,
        sha256=stem.rpartition("-")[2],  # torch's habit: NAME-HASH.pth
        input=(side, side, 3),
        mean=tuple(map(float, way.mean)),
        std=tuple(map(float, way.std)),
        outputs=len(weights.meta["categories"]),
    )
