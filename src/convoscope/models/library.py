"""Networks of torchvision and timm, with random weights, for any channel count and number of outputs.

Both libraries are imported inside the functions: they take seconds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..errors import UsageError, printable
from ..suggestions import did_you_mean
from .check import check
from .from_text import head_layers
from .names import LibraryName
from .surgery import replace_part, sole_head, take_heads_off

if TYPE_CHECKING:
    from torch import nn

# Enough to find the smallest size that works, from the smallest icons to the largest inputs in use.
_SIZES = (8, 16, 32, 64, 128, 256, 512)


def build_from_library(named: LibraryName, input: tuple[int, int, int], outputs: int) -> nn.Module:
    """The library's network with random weights and without auxiliary heads, and with the named layers in place of its
    last one.

    Raises:
        UsageError: `model-unknown`: no such name; `model-size`: it does not take images of that size;
            `backbone-without-head`: its own head cannot be taken off.
    """
    library, name, layers = named
    options = _fitting_options(library, name, input, outputs)
    network = _create(library, name, input, outputs, options)
    return _with_layers(network, named, input, outputs) if layers else network


def sketch_from_library(named: LibraryName, input: tuple[int, int, int], outputs: int) -> nn.Module:
    """The same network without numbers (on torch's meta device), for its shapes; made in a fraction of the time."""
    library, name, layers = named
    options = _fitting_options(library, name, input, outputs)
    network = _sketch(library, name, input, outputs, options)
    return _with_layers(network, named, input, outputs) if layers else network


def _with_layers(network: nn.Module, named: LibraryName, input: tuple[int, int, int], outputs: int) -> nn.Module:
    """New layers in place of the one dense layer that gives the scores; where they do not come from one, behind the
    network without whatever gives them.
    """
    path = sole_head(network, input)
    if path is not None:
        weight = network.get_parameter(f"{path}.weight")
        replace_part(network, path, head_layers(named.layers, weight.shape[1], outputs).to(weight.device))
        return network
    from .network import OnFeatures

    heads = _heads(named, input)
    device = next(network.parameters()).device
    width = take_heads_off(network, heads, input)
    return OnFeatures(network, head_layers(named.layers, width, outputs).to(device), heads)


def _heads(named: LibraryName, input: tuple[int, int, int]) -> tuple[str, ...]:
    """The paths of the parts that give the scores: those that are larger in a network for more classes."""
    shapes = []
    options = _fitting_options(named.library, named.name, input, 11)
    for outputs in (11, 13):  # primes that no width in use is
        network = _sketch(named.library, named.name, input, outputs, options)
        shapes.append({name: value.shape for name, value in network.state_dict().items()})
    few, more = shapes
    found = [name.rpartition(".")[0] for name in few if few[name] != more.get(name)]
    return tuple(dict.fromkeys(found))


def check_name(library: str, name: str) -> None:
    """Refuse a name that the library does not have.

    Raises:
        UsageError: `model-unknown`.
    """
    known = _names(library)
    if name not in known and not _is_tagged(library, name, known):
        raise UsageError(
            "model",
            f"{library} has no classification network `{printable(name[:80])}`",
            code="model-unknown",
            hint=did_you_mean(name, known, prefix=f"{library}:") or f"for instance {library}:resnet18",
        )


def _names(library: str) -> list[str]:
    if library == "torchvision":
        from torchvision import models

        return list(models.list_models(module=models))
    import timm

    return list(timm.list_models())


def _is_tagged(library: str, name: str, known: list[str]) -> bool:
    """Whether it is a name of timm's with the name of certain weights, such as `resnet18.a1_in1k`."""
    architecture, dot, _ = name.partition(".")
    if library != "timm" or not dot or architecture not in known:
        return False
    import timm

    try:
        return timm.get_pretrained_cfg(name) is not None
    except RuntimeError:
        tags = timm.list_pretrained(f"{architecture}.*")
        raise UsageError(
            "model",
            f"timm has no weights `{printable(name[:80])}`",
            code="model-unknown",
            hint=did_you_mean(name, tags, prefix="timm:") or f"without the tag: timm:{architecture}",
        ) from None


def _fitting_options(library: str, name: str, input: tuple[int, int, int], outputs: int) -> dict[str, Any]:
    """The extra arguments with which the network takes images of this size."""
    check_name(library, name)
    failure: UsageError | None = None
    for options in _size_options(library, name, input):
        try:
            check(_sketch(library, name, input, outputs, options), input, outputs)
        except (TypeError, ValueError, AssertionError):
            continue  # this network takes no such argument, or not this value of it
        except UsageError as error:
            failure = error
        else:
            return options
    # What does not run without numbers may still run with them.
    try:
        check(_create(library, name, input, outputs, {}), input, outputs)
    except UsageError as error:
        failure = error
    else:
        return {}
    height, width, _ = input
    works = _smallest_size(library, name, input, outputs)
    raise UsageError(
        f"model {library}:{name}",
        f"it does not take images of {height}x{width}: {failure.reason.rpartition('fails on one: ')[2]}",
        code="model-size",
        hint=f"images of {works}x{works} work" if works else "try 224x224",
    ) from failure


def _size_options(library: str, name: str, input: tuple[int, int, int]) -> list[dict[str, Any]]:
    """Options that set the network's image size, the plain one first. Most networks take any size."""
    height, width, _ = input
    if library == "timm":
        return [{}, {"img_size": (height, width)}]
    if name.startswith("vit_"):
        return [{"image_size": height}] if height == width else [{}]
    if name.startswith("maxvit"):
        return [{"input_size": (height, width)}]
    return [{}]


def _smallest_size(library: str, name: str, input: tuple[int, int, int], outputs: int) -> int | None:
    """The smallest side of a square image that works, or None if no tried size does."""

    def works(side: int) -> bool:
        square = (side, side, input[2])
        for options in _size_options(library, name, square):
            try:
                check(_sketch(library, name, square, outputs, options), square, outputs)
            except (TypeError, ValueError, AssertionError, UsageError):
                continue
            return True
        return False

    low = 0
    for side in _SIZES:
        if works(side):
            high = side
            while high - low > 1:
                middle = (low + high) // 2
                if works(middle):
                    high = middle
                else:
                    low = middle
            return high
        low = side
    return 224 if works(224) else None


def _sketch(library: str, name: str, input: tuple[int, int, int], outputs: int, options: dict[str, Any]) -> nn.Module:
    import torch

    try:
        with torch.device("meta"):
            return _create(library, name, input, outputs, options)
    except (NotImplementedError, RuntimeError):
        # Some networks compute with numbers while they are made.
        return _create(library, name, input, outputs, options).to("meta")


def _create(library: str, name: str, input: tuple[int, int, int], outputs: int, options: dict[str, Any]) -> nn.Module:
    channels = input[2]
    if library == "timm":
        import timm

        network: nn.Module = timm.create_model(
            name, pretrained=False, in_chans=channels, num_classes=outputs, **options
        )
        return network
    from torchvision import models

    if name in ("googlenet", "inception_v3"):
        # Their own start takes seconds and hardly matters: batch normalisation follows every convolution.
        options = {**options, "aux_logits": False, "init_weights": False}
    network = models.get_model(name, weights=None, num_classes=outputs, **options)
    if channels != 3:
        _replace_first_convolution(network, channels)
    return network


def _replace_first_convolution(network: nn.Module, channels: int) -> None:
    """Let a network made for colour take `channels` channels."""
    from torch import nn

    path, old = next((path, part) for path, part in network.named_modules() if isinstance(part, nn.Conv2d))
    new = nn.Conv2d(
        channels,
        old.out_channels,
        old.kernel_size,  # type: ignore[arg-type]
        stride=old.stride,  # type: ignore[arg-type]
        padding=old.padding,  # type: ignore[arg-type]
        bias=old.bias is not None,
        device=old.weight.device,
    )
    nn.init.kaiming_normal_(new.weight, mode="fan_out", nonlinearity="relu")
    parent, _, child = path.rpartition(".")
    setattr(network.get_submodule(parent), child, new)
