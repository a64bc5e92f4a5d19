"""What a model may be called: a preset's name, `torchvision:NAME`, `timm:NAME`, or a text of layers."""

from __future__ import annotations

import re
from typing import NamedTuple

from ..errors import UsageError, printable
from ..suggestions import did_you_mean
from .layers import LAYERS
from .presets import PRESETS

LIBRARIES = ("torchvision", "timm")


def model_text(model: str) -> str:
    """The text of a preset, given its name; any other text, and `torchvision:NAME`, as it is.

    Raises:
        UsageError: `model-unknown`: a single word that is neither a preset nor a layer.
    """
    word = model.strip()
    if word in PRESETS:
        return PRESETS[word].text
    if re.fullmatch(r"[\w.-]+", word) and word not in LAYERS:
        raise UsageError(
            "model",
            f"expected a preset ({', '.join(PRESETS)}), torchvision:NAME, timm:NAME or a text of layers, "
            f"got `{printable(word[:80])}`",
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
