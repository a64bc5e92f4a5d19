"""Whether a ready module takes the images and gives the scores it should, tried on one image of zeros."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import UsageError, printable
from ..free_memory import ran_out
from .modes import eval_mode

if TYPE_CHECKING:
    from torch import nn


def check(module: nn.Module, input: tuple[int, int, int], outputs: int) -> int:
    """The number of scores that a ready module gives for one image of zeros; the module is left as it was found.

    Raises:
        UsageError: `model-module`: it fails on images of that shape, or gives something other than `(1, outputs)`, or
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
    try:
        with eval_mode(module), torch.no_grad(), torch.random.fork_rng(devices=[]):
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
