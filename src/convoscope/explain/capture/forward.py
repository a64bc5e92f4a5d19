"""Running a network without leaving anything behind, and checking what it is given."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import operator
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.parameter import is_lazy

from ...errors import UsageError, printable
from ...free_memory import ran_out
from ...models import eval_mode, footprint
from ...suggestions import the_nearest


@contextlib.contextmanager
def preserve_state(model: nn.Module) -> Iterator[None]:
    """Evaluation mode inside, with plain attention, and with gradients whatever the caller has switched off.

    Compiled parts run as they were written. On the way out modes, buffers, random state and torch's switches are as
    before.

    Raises:
        UsageError: `weights-missing`: some have no numbers.
    """
    _refuse_without_numbers(model)
    fast = torch.backends.mha.get_fastpath_enabled()
    before = [(held, name, tensor, tensor.detach().clone()) for held, name, tensor in _kept(model)]
    try:
        torch.backends.mha.set_fastpath_enabled(False)  # it hides the arithmetic of attention
        with (
            eval_mode(model),
            torch.random.fork_rng(),
            sdpa_kernel(SDPBackend.MATH),
            torch.inference_mode(False),
            torch.enable_grad(),
            _as_written(),
            _ordinary_weights(model),
        ):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
        for held, name, tensor, value in before:
            held[name] = tensor
            # Only what did change: writing would spoil a graph that the caller has not yet gone back through.
            if not torch.equal(tensor, value) and not torch.equal(tensor.nan_to_num(), value.nan_to_num()):
                with torch.no_grad():
                    tensor.copy_(value)


def _refuse_without_numbers(model: nn.Module) -> None:
    for name, tensor in itertools.chain(model.named_parameters(), model.named_buffers()):
        if is_lazy(tensor):
            raise UsageError(
                f"model {type(model).__name__}",
                f"its {printable(name)} has no numbers yet: a lazy layer makes them when it sees its first image",
                code="weights-missing",
                hint="run the network once: model(images)",
            )
        if tensor.is_meta:
            raise UsageError(
                f"model {type(model).__name__}",
                f"its {printable(name)} is on torch's device meta, where tensors have no numbers",
                code="weights-missing",
                hint="model.to_empty(device='cpu'), and then load its weights",
            )


@contextlib.contextmanager
def _as_written() -> Iterator[None]:
    """What torch.compile has made of a network, or of parts of it, is left aside."""
    if "torch._dynamo" not in sys.modules:  # then nothing is compiled, and its import takes a second
        yield
        return
    with torch.compiler.set_stance("force_eager"):
        yield


@contextlib.contextmanager
def _ordinary_weights(model: nn.Module) -> Iterator[None]:
    """Copies of weights that were made in inference mode: torch computes no gradients with the originals."""
    held = [
        (part, name, tensor)
        for part in model.modules()
        for name, tensor in (*part._parameters.items(), *part._buffers.items())
        if tensor is not None and tensor.is_inference()
    ]
    copies = {id(tensor): tensor.detach().clone() for _, _, tensor in held}
    for part, name, tensor in held:
        copy = copies[id(tensor)]
        if isinstance(tensor, nn.Parameter) and not isinstance(copy, nn.Parameter):
            copy = copies[id(tensor)] = nn.Parameter(copy, requires_grad=tensor.requires_grad)
        setattr(part, name, copy)
    try:
        yield
    finally:
        for part, name, tensor in held:
            setattr(part, name, tensor)


def uncompiled(model: nn.Module) -> nn.Module:
    """The network that torch.compile was given; layers have its names. Other networks as they are."""
    original = getattr(model, "_orig_mod", None)
    return original if isinstance(original, nn.Module) else model


def _kept(model: nn.Module) -> Iterator[tuple[dict[str, Any], str, Tensor]]:
    """The tensors besides the weights that a module carries from one image to the next, and where it keeps them."""
    for part in model.modules():
        for held in (part._buffers, vars(part)):
            for name, tensor in list(held.items()):
                if isinstance(tensor, Tensor) and tensor.layout == torch.strided:
                    yield held, name, tensor


def own_tensors(model: nn.Module) -> Iterator[Tensor]:
    """Every tensor that the network itself has: weights, buffers and plain attributes."""
    yield from model.parameters()
    for _, _, tensor in _kept(model):
        yield tensor


@contextlib.contextmanager
def hooked(parts: Iterable[nn.Module], hook: Callable[..., Any], *, before: bool = False) -> Iterator[None]:
    """`hook` after, or before, each run of each of the modules, for as long as this lasts."""
    handles = []
    try:
        for part in parts:
            if isinstance(part, torch.jit.ScriptModule):
                raise UsageError(
                    f"model {type(part).__name__}",
                    "its layers were compiled by torch.jit, and nothing can be heard from them one by one",
                    code="model-scripted",
                    hint="give the network that it was made from; trace, saliency and occlusion take this one too",
                )
            handles.append(part.register_forward_pre_hook(hook) if before else part.register_forward_hook(hook))
        yield
    finally:
        for handle in handles:
            handle.remove()


def find(model: nn.Module, layer: str) -> nn.Module:
    """The module of that path.

    Raises:
        UsageError: `layer-unknown`; the nearest paths are listed.
    """
    found: nn.Module | None = dict(model.named_modules(remove_duplicate=False)).get(layer) if layer else None
    if found is not None:
        return found
    paths = [path for path, _ in model.named_modules() if path]
    raise UsageError(
        "layer",
        f"this network has no layer {printable(layer)[:200]!r}",
        code="layer-unknown",
        hint=the_nearest(layer, paths) or "it has " + (", ".join(paths[:5]) or "no parts with a name"),
    )


def one_image(model: nn.Module, image: Tensor) -> Tensor:
    """A copy of the image as `(1, C, H, W)`, with the type and in the place of the model's weights.

    Raises:
        UsageError: `image-shape`, `image-values`.
    """
    if not isinstance(image, Tensor) or image.ndim not in (3, 4) or (image.ndim == 4 and len(image) != 1):
        got = f"shape {tuple(image.shape)}" if isinstance(image, Tensor) else type(image).__name__
        raise UsageError("image", f"expected one image (C, H, W); received {got}", code="image-shape")
    return normalised(model, image if image.ndim == 4 else image[None], "image")


def normalised(model: nn.Module, images: Tensor, name: str) -> Tensor:
    """A copy of images `(N, C, H, W)`, with the type and in the place of the model's weights.

    Raises:
        UsageError: `image-shape`: empty; `image-values`: not floats, or not finite.
    """
    if not images.numel():
        raise UsageError(name, f"expected pixels; received shape {tuple(images.shape)}", code="image-shape")
    if not images.is_floating_point():
        raise UsageError(
            name,
            f"expected normalised floats; received {images.dtype}",
            code="image-values",
            hint="Run.input_tensor normalises pixels as in training",
        )
    if not images.isfinite().all():
        count = int((~images.isfinite()).sum())
        raise UsageError(name, f"expected finite numbers; {count:,} are NaN or infinite", code="image-values")
    weight = next((p for p in model.parameters() if p.is_floating_point()), torch.zeros(()))
    with torch.inference_mode(False):
        return images.detach().to(weight.device, weight.dtype, copy=True)


def run(model: nn.Module, images: Tensor) -> Any:
    """What the model gives for `(N, C, H, W)`.

    Raises:
        UsageError: `model-module`: it fails.
    """
    try:
        return model(images)
    except UsageError:
        raise
    except Exception as error:
        if ran_out(error):
            raise
        _, channels, height, width = images.shape
        raise UsageError(
            f"model {type(model).__name__}",
            f"it fails on an image of {height}x{width}x{channels}: {first_line(error)}",
            code="model-module",
            hint="give images in the network's own input size",
        ) from error


def at_once(model: nn.Module, image: Sequence[int], most: int) -> int:
    """How many images `(C, H, W)` go through the model together: `most`, fewer where they would take much memory."""
    try:
        one = footprint(model, image)
    except Exception as error:
        if ran_out(error):
            raise
        return most  # the run itself reports what is wrong
    return one.at_once(most=most)


def scores_of(model: nn.Module, images: Tensor) -> Tensor:
    """The raw scores `(N, outputs)`. The model may change `images` in place: give a copy.

    Raises:
        UsageError: `model-module`: it fails or gives something else; `scores-not-finite`.
    """
    scores = the_scores(model, run(model, images), len(images))
    if not scores.isfinite().all():
        raise UsageError(
            f"model {type(model).__name__}",
            "its scores are not finite",
            code="scores-not-finite",
            hint="its weights may hold NaN, or the image may not be normalised",
        )
    return scores


def the_scores(model: nn.Module, output: Any, count: int) -> Tensor:
    """The raw scores `(count, outputs)` in what the network gives: alone, or the only ones that can be meant.

    Raises:
        UsageError: `model-module`: there are none, or several that may be meant.
    """
    found = results(output)
    fitting = [(name, each) for name, each in found if each.ndim == 2 and len(each) == count and each.shape[1]]
    named = [pair for pair in fitting if pair[0] in SCORES]
    if len(named or fitting) == 1:
        return (named or fitting)[0][1]
    if isinstance(output, Tensor):
        got = f"shape {tuple(output.shape)}"
    else:
        got = f"{type(output).__name__} of {listed(found)}" if found else type(output).__name__
    raise UsageError(
        f"model {type(model).__name__}",
        f"expected raw scores ({count}, K), got {got}",
        code="model-module",
        hint="return one tensor with one score for each output",
    )


SCORES = ("logits", "scores", "out", "output", "prediction", "predictions")
"""What networks with several results call their scores, the likeliest first."""


def results(output: Any, name: str = "") -> list[tuple[str, Tensor]]:
    """Every tensor in what a network gives, with its place there, such as `logits` or `[0]`.

    Tuples, lists, dictionaries, dataclasses and the like, also in each other.
    """
    if isinstance(output, Tensor):
        return [(name, output)]
    parts: Iterable[tuple[str, Any]] = ()
    if isinstance(output, Mapping):
        parts = ((f"{name}.{key}" if name else str(key), value) for key, value in output.items())
    elif isinstance(output, tuple) and hasattr(output, "_fields"):
        parts = ((f"{name}.{key}".strip("."), getattr(output, key)) for key in output._fields)
    elif isinstance(output, list | tuple):
        parts = ((f"{name}[{number}]", value) for number, value in enumerate(output))
    elif isinstance(output, SimpleNamespace) or (dataclasses.is_dataclass(output) and not isinstance(output, type)):
        parts = ((f"{name}.{key}".strip("."), value) for key, value in vars(output).items())
    return [pair for place, value in parts for pair in results(value, place)]


def listed(found: Sequence[tuple[str, Tensor]]) -> str:
    """Results in words: their places and shapes, the first few."""
    words = ", ".join(f"{printable(name)} {tuple(tensor.shape)}" for name, tensor in found[:5])
    return words + (f" and {len(found) - 5} more" if len(found) > 5 else "")


def probabilities(scores: Tensor) -> Tensor:
    """Raw scores `(N, outputs)` as class probabilities `(N, K)`: softmax, or sigmoid for a single output s.

    A single output becomes `(sigmoid(-s), sigmoid(s))`.
    """
    if scores.shape[1] == 1:
        return torch.sigmoid(torch.cat([-scores, scores], 1))
    return torch.softmax(scores, 1)


def whole_number(name: str, value: Any, least: int, most: int, code: str) -> int:
    """`value`, if it is one in this range.

    Raises:
        UsageError: it is not; with the given code.
    """
    with contextlib.suppress(TypeError):
        number = operator.index(value)
        if least <= number <= most and not isinstance(value, bool):
            return number
    raise UsageError(name, f"expected a whole number from {least} to {most}, got {printable(value)[:80]}", code=code)


def first_line(error: Exception) -> str:
    """The first line of an error's message, safe to print."""
    return printable(str(error).strip().split("\n")[0][:300]) or type(error).__name__
