"""What the libraries say about their pretrained weights: where they are and how images are prepared for them.

Reading weights is not this room's work.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..errors import UsageError, printable
from .library import check_name
from .names import library_name


@dataclass(frozen=True, kw_only=True)
class Pretrained:
    """What a library says about a network's pretrained weights.

    Attributes:
        address: its URL; the suffix of the name says what kind of file it is. Empty where none is offered.
        sha256: the beginning of its SHA-256, as far as the library gives it; otherwise empty.
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


def pretrained(model: str, *, offered: bool = True) -> Pretrained:
    """What the library says about the weights of `torchvision:NAME` or `timm:NAME`; timm's names may have the tag of
    certain weights, such as `resnet18.a1_in1k`.

    Args:
        model: the name.
        offered: refuse a network whose weights the library does not offer. Else only how images are prepared is told,
            by the library's settings for the architecture.

    Raises:
        UsageError: `model-unknown`: no such network; `backbone-without-weights`: the library offers no weights for it.
    """
    named = library_name(model)
    assert named is not None
    check_name(named.library, named.name)
    found = _of_timm(named.name) if named.library == "timm" else _of_torchvision(named.name)
    if not found.address and offered:
        raise UsageError(
            "backbone",
            f"{named.library} offers no weights of {printable(named.name)} that can be read without running code",
            hint="choose another backbone, such as imagenet",
            code="backbone-without-weights",
        )
    return found


_CLASSES = 1000
"""Scores of a network whose settings name no number of classes."""


def _of_timm(name: str) -> Pretrained:
    import timm

    config = timm.get_pretrained_cfg(name)
    assert config is not None  # every architecture has one
    channels, height, width = config.input_size
    file = config.hf_hub_filename or "model.safetensors"
    return Pretrained(
        address=f"https://huggingface.co/{config.hf_hub_id}/resolve/main/{file}" if config.hf_hub_id else "",
        sha256="",
        input=(height, width, channels),
        mean=tuple(map(float, config.mean)),
        std=tuple(map(float, config.std)),
        outputs=int(config.num_classes) or _CLASSES,
    )


def _of_torchvision(name: str) -> Pretrained:
    from torchvision import models

    weights: Any = models.get_model_weights(name).DEFAULT
    preparation = weights.transforms()
    side = int(preparation.crop_size[0])
    stem = weights.url.rpartition("/")[2].rpartition(".")[0]
    return Pretrained(
        address=weights.url,
        sha256=stem.rpartition("-")[2],  # torch's habit: NAME-HASH.pth
        input=(side, side, 3),
        mean=tuple(map(float, preparation.mean)),
        std=tuple(map(float, preparation.std)),
        outputs=len(weights.meta["categories"]),
    )
