"""A head that the user's own code makes, behind the layers of a text or of a library's network."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import UsageError
from .backbone_text import backbone_text, with_head
from .build import build
from .check import check
from .own_module import ModuleMaker, made
from .surgery import replace_part, sole_head

if TYPE_CHECKING:
    from torch import nn


def with_own_head(model: str, make: ModuleMaker, input: tuple[int, int, int], outputs: int) -> nn.Module:
    """The network of a text, a preset or a library's name with the module of `make` in the place of its head.

    Args:
        model: what gives the features.
        make: called with the number of features and of scores, it gives a module from `(N, features)` to `(N, scores)`.
        input: height, width, channels.
        outputs: scores for each image.

    Raises:
        UsageError: `model-module`: it fails or does not fit; else as `build`.
    """
    network = build(with_head(backbone_text(model)), input, outputs)
    path = sole_head(network, input)
    if path is None:
        raise UsageError(
            "head",
            "the scores of this model do not come from one dense layer, so nothing can take its place",
            code="backbone-without-head",
            hint="choose another model, such as small",
        )
    features = network.get_parameter(f"{path}.weight").shape[1]
    replace_part(network, path, made(make, features, outputs, what="head"))
    check(network, input, outputs)
    return network
