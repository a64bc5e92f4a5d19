"""Running a network without leaving anything behind, and checking what it is given."""

from __future__ import annotations

import contextlib
import operator
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from ...errors import UsageError, printable
from ...free_memory import ran_out
from ...models import eval_mode, footprint
from ...suggestions import the_nearest


@contextlib.contextmanager
def preserve_state(model: nn.Module) -> Iterator[None]:
    """Evaluation mode inside, with plain attention, and with gradients whatever the caller has switched off.

    On the way out modes, buffers, random state and torch's switches are as before.
    """
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
        ):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
        for held, name, tensor, value in before:
            held[name] = tensor
            # Only what did change: writing would spoil a graph that the caller has not yet gone back through.
            if not torch.equal(tensor, value):
                with torch.no_grad():
                    tensor.copy_(value)


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
    with contextlib.suppress(AttributeError):
        if layer:
            return model.get_submodule(layer)
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
    scores = run(model, images)
    if not isinstance(scores, Tensor) or scores.ndim != 2 or len(scores) != len(images) or not scores.shape[1]:
        got = f"shape {tuple(scores.shape)}" if isinstance(scores, Tensor) else type(scores).__name__
        raise UsageError(
            f"model {type(model).__name__}",
            f"expected raw scores ({len(images)}, K), got {got}",
            code="model-module",
            hint="return one tensor with one score for each output",
        )
    if not scores.isfinite().all():
        raise UsageError(
            f"model {type(model).__name__}",
            "its scores are not finite",
            code="scores-not-finite",
            hint="its weights may hold NaN, or the image may not be normalised",
        )
    return scores


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
