"""An exponential moving average of a network's weights."""

from __future__ import annotations

import math

import torch
from torch import nn


class WeightAverage:
    """An exponential moving average of the weights and buffers. Validation measures it, and it is kept as the best.

    `share`: over about this share of an epoch; the first steps count fully, so that the start is forgotten soon.
    """

    def __init__(self, network: nn.Module, share: float, steps: int) -> None:
        import copy

        self.network = copy.deepcopy(network)
        pairs = list(zip(self.network.state_dict().values(), network.state_dict().values(), strict=True))
        self._own = [own for own, _ in pairs if own.is_floating_point()]
        self._new = [new for own, new in pairs if own.is_floating_point()]
        self._counters = [(own, new) for own, new in pairs if not own.is_floating_point()]
        self._decay = math.exp(-1 / max(share * steps, 1))

    def update(self, step: int) -> None:
        """Move the average towards the network after step `step`."""
        decay = min(self._decay, (1 + step) / (10 + step))
        with torch.no_grad():
            torch._foreach_lerp_(self._own, self._new, 1 - decay)
            for own, new in self._counters:
                own.copy_(new)
