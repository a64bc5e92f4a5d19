"""How much memory images take on their way through a network, and so how many of them may go at once.

One image of zeros goes through, and every tensor made on the way is counted for as long as it exists. What an
operation allocates internally is not seen; for convolutions on a CPU that is little.
"""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils._pytree import tree_leaves

from ..free_memory import asked_for, ran_out
from .dispatch import OperationMode
from .modes import eval_mode

BUDGET = 1 << 29
"""Bytes that a batch may take. It is fixed, however much is free: another batch size may change the last digits of the
answers.
"""
MOST = 256
"""The most images at once; more are not faster."""
_LARGE = 1 << 20
"""Images with more numbers than this are measured without computing anything. Torch's imports for that take about two
seconds.
"""
_PREPARING = 3
"""Copies of the image as floats: before, during and after normalisation."""


@dataclass(frozen=True)
class Footprint:
    """Of one image, in bytes.

    Attributes:
        answering: the most that is alive at the same time in a forward pass without gradients, with its preparation.
        training: everything made on the way, which is kept for the backward pass.
    """

    answering: int
    training: int

    def at_once(self, *, most: int = MOST, budget: int = BUDGET) -> int:
        """How many images may be answered at once, at least 1."""
        return max(1, min(most, budget // max(self.answering, 1)))


def footprint(network: nn.Module, image: Sequence[int]) -> Footprint:
    """What one image `(C, H, W)` takes in a network, which is left as it was found.

    Where memory runs out, the result is a lower bound.
    """
    weights = network.state_dict(keep_vars=True)
    first = next(network.parameters(), torch.zeros(()))
    if torch.Size(image).numel() > _LARGE:
        away = {name: value.detach().to("meta") for name, value in weights.items()}
        # A module of the user's own may ask for values, which do not exist on this device.
        with contextlib.suppress(RuntimeError, NotImplementedError, TypeError, ValueError):
            picture = torch.zeros(1, *image, device="meta", dtype=first.dtype)
            return _weighed(network, picture, away.values(), lambda: functional_call(network, away, (picture,)))
    picture = torch.zeros(1, *image, device=first.device, dtype=first.dtype)
    return _weighed(network, picture, weights.values(), lambda: network(picture))


def _weighed(
    network: nn.Module, picture: Tensor, weights: Iterable[Tensor], forward: Callable[[], object]
) -> Footprint:
    scale = Scale(weights)
    try:
        with eval_mode(network), torch.no_grad(), torch.random.fork_rng(devices=[]), scale:
            scale.put(picture)
            forward()
    except Exception as error:
        if not ran_out(error):
            raise
        # At least this much: the error comes again, with this figure, when the network is really run.
        asked = asked_for(error) or 0
        scale.made, scale.most = scale.made + asked, scale.most + asked
    preparing = _PREPARING * picture.nbytes
    return Footprint(answering=scale.most + preparing, training=scale.made + preparing)


class Scale(OperationMode):
    """Counts the bytes of the tensors that are made while it is open.

    Attributes:
        made: bytes of all of them.
        most: the most bytes that were alive at the same time.
    """

    def __init__(self, there: Iterable[object]) -> None:
        """`there`: what existed before, such as weights, and does not count."""
        super().__init__()
        self.made = self.most = self._alive = 0
        self._known: dict[int, tuple[int, weakref.ref[Any]]] = {}
        for tensor in there:
            if isinstance(tensor, Tensor):  # the weights of quantised layers are not
                self.put(tensor, 0)

    def put(self, tensor: Tensor, weight: int | None = None) -> None:
        """Count a tensor's bytes once, until it is freed; `weight`: count this many bytes instead."""
        numbers = tensor.untyped_storage()
        which = numbers._cdata
        if which in self._known:
            return
        size = numbers.nbytes() if weight is None else weight
        self._known[which] = size, weakref.ref(numbers, lambda _: self._gone(which))
        self.made += size
        self._alive += size
        self.most = max(self.most, self._alive)

    def _gone(self, which: int) -> None:
        self._alive -= self._known.pop(which)[0]

    def operation(self, func: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
        result = func(*args, **kwargs)
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor):
                self.put(leaf)
        return result
