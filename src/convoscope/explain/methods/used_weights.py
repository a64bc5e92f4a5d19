"""The weights with which a convolution multiplies, which need not be those that it holds."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ...models import OperationMode
from ..capture.forward import preserve_state


def used_weight(part: nn.Module) -> Tensor | None:
    """The weights `(filters, channels, height, width)` of a 2-D convolution of any class; None for other modules.

    Where they are computed from others (weight norm, spectral norm, standardised weights) the module runs once on a
    blank image, and what it multiplies by is taken; it is left as it was found.
    """
    with preserve_state(part), torch.no_grad():  # in training some change their state when they are read
        weight = getattr(part, "weight", None)
        if not isinstance(weight, Tensor) or weight.ndim != 4 or isinstance(part, nn.ConvTranspose2d):
            return None
        if type(part) is nn.Conv2d and not part._forward_pre_hooks:
            return weight.detach()
        channels = weight.shape[1] * getattr(part, "groups", 1)
        blank = weight.new_zeros(1, channels, *(4 * side for side in weight.shape[2:]))
        with _Convolution() as seen:
            try:
                part(blank)
            except (RuntimeError, TypeError, ValueError):
                return weight.detach()  # it takes something else than maps
        used = seen.weight
        return weight.detach() if used is None or used.shape != weight.shape else used.detach()


class _Convolution(OperationMode):
    """Keeps the weights of the first convolution that runs."""

    weight: Tensor | None = None

    def operation(self, func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        if func._overloadpacket.__name__ == "convolution" and self.weight is None:
            self.weight = args[1]
        return func(*args, **kwargs)
