"""A model's text as a backbone and a head: the head is the last dense layer, the backbone all that comes before it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from .grammar import parse
from .item_text import to_text
from .items import written_out
from .layers import PAD
from .names import library_name, model_text
from .plan import make_plan


def backbone_text(model: str, *, head: int = 1) -> str:
    """A model's text without its head: `conv(8) flatten dense(16) relu dense` gives `conv(8) flatten dense(16) relu`.

    A library's network keeps its name, without the layers written behind it. A text that ends in something other than a
    dense layer has no head and stays whole.

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
    """The text of a model with this backbone and a new head: hidden dense layers of `head` units, each with a relu, and
    a last dense layer with one unit for each output.

    Examples:
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
    """A layer at which a backbone may end.

    Attributes:
        text: the model's text up to this layer; maps are flattened to one vector.
        layers: the names of the layers that are kept, from the input on. The last one is this layer.
        width: D, how many features it gives for an image.
    """

    text: str
    layers: tuple[str, ...]
    width: int


_TAKES_UP = ("conv", "dense", "residual", "parallel", "globalavg")


def feature_layers(backbone: str, input: tuple[int, int, int]) -> tuple[FeatureLayer, ...]:
    """The layers at which a backbone may end, from the input on: those before each layer that learns or averages whole
    maps, and its own last one.

    A library's network can only be used whole, so it has none.

    Examples:
        >>> found = feature_layers("conv(4) relu maxpool conv(8) relu globalavg", (8, 8, 1))
        >>> [(each.layers[-1], each.width) for each in found]
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
