"""The control that shows whether a map means anything: the same of a network with shuffled weights.

Adebayo et al. 2018, "Sanity checks for saliency maps", https://arxiv.org/abs/1810.03292: a map that stays the same
shows edges of the image, not what the network has learned.
"""

from __future__ import annotations

import copy
import math

import torch
from torch import Tensor, nn

from ....errors import UsageError
from ....free_memory import ran_out
from ...capture.forward import first_line


def shuffled(model: nn.Module, seed: int = 0) -> nn.Module:
    """A deep copy in which the numbers of every parameter are shuffled, each tensor by itself.

    So each layer keeps the distribution of its weights and loses what they mean. Buffers, such as the means and
    variances of a batch normalisation, stay: they describe data and were not learned by gradient. The copy has no
    gradients; modes and hooks are those of the original. The order follows from the seed; torch's own random state is
    not touched.

    Raises:
        UsageError: `model-copy`: Python cannot copy this module.
    """
    try:
        with torch.inference_mode(False):  # what is copied inside it has no gradients ever after
            copied = copy.deepcopy(model)
    except Exception as error:
        if ran_out(error):
            raise
        raise UsageError(
            f"model {type(model).__name__}",
            f"it cannot be copied, which the control needs: {first_line(error)}",
            code="model-copy",
            hint="go without the control: control=False",
        ) from error
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in copied.parameters():
            order = torch.randperm(parameter.numel(), generator=generator).to(parameter.device)
            parameter.copy_(parameter.flatten()[order].view_as(parameter))
            parameter.grad = None
    return copied


def similarity(first: Tensor, second: Tensor) -> float:
    """Spearman's rank correlation of the absolute values of two maps of one shape, -1..1; equal values share their mean
    rank.

    NaN where one of the maps is everywhere the same, or not finite: it then has no order to compare.

    Raises:
        UsageError: `map-shape`: the shapes differ.
    """
    if first.shape != second.shape:
        raise UsageError(
            "maps", f"expected one shape, got {tuple(first.shape)} and {tuple(second.shape)}", code="map-shape"
        )
    if not (first.isfinite().all() and second.isfinite().all()):
        return math.nan
    a, b = (_ranks(map_.detach().abs().flatten()) for map_ in (first, second))
    a, b = a - a.mean(), b - b.mean()
    scale = float(a.square().sum() * b.square().sum())
    return float(a @ b) / math.sqrt(scale) if scale else math.nan


def _ranks(values: Tensor) -> Tensor:
    _, inverse, counts = torch.unique(values, return_inverse=True, return_counts=True)
    last = counts.cumsum(0).double()
    mean: Tensor = last - (counts.double() - 1) / 2
    return mean[inverse]
