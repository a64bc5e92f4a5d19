"""How much memory images take on their way through a network, and so how many of them may go at once.

One image of zeros goes through, and every tensor that is made on the way is weighed for as long as it lives. What an
operation needs inside itself for a moment is not seen; with convolutions on a processor that is little.
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
"""Bytes that a batch may take. A fixed number, whatever is free: another size of the batch may change the last digits
of the answers.
"""
MOST = 256
"""Images at once at most; more make nothing quicker."""
_LARGE = 1 << 20
"""An image of more numbers is weighed without computing anything, for which torch has to import much: about two
seconds.
"""
_PREPARING = 3
"""An image as floats, so often: before, while and after it is normalised."""


@dataclass(frozen=True)
class Footprint:
    """Of one image, in bytes.

    Attributes:
        answering: what is alive at the same time at most while it goes through without gradients, with what its
            preparation takes.
        training: all that is made on the way, which is kept for the way back.
    """

    answering: int
    training: int

    def at_once(self, *, most: int = MOST, budget: int = BUDGET) -> int:
        """How many images may be answered at once, at least 1."""
        return max(1, min(most, budget // max(self.answering, 1)))


def footprint(network: nn.Module, image: Sequence[int]) -> Footprint:
    """What one image `(C, H, W)` takes in a network, which is left as it was found; at least, where memory does not
    suffice for it.
    """
    weights = network.state_dict(keep_vars=True)
    first = next(network.parameters(), torch.zeros(()))
    if torch.Size(image).numel() > _LARGE:
        away = {name: value.detach().to("meta") for name, value in weights.items()}
        # A module of the user's own may ask for numbers, which there are none of.
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
        # So much at least: the error comes again, with this figure, where the network is run in earnest.
        asked = asked_for(error) or 0
        scale.made, scale.most = scale.made + asked, scale.most + asked
    preparing = _PREPARING * picture.nbytes
    return Footprint(answering=scale.most + preparing, training=scale.made + preparing)


class Scale(OperationMode):
    """Weighs the tensors that are made while it is open.

    Attributes:
        made: bytes of all of them.
        most: bytes that were alive at the same time at most.
    """

    def __init__(self, there: Iterable[Tensor]) -> None:
        """`there`: what was there before, such as weights, and does not count."""
        super().__init__()
        self.made = self.most = self._alive = 0
        self._known: dict[int, tuple[int, weakref.ref[Any]]] = {}
        for tensor in there:
            self.put(tensor, 0)

    def put(self, tensor: Tensor, weight: int | None = None) -> None:
        """Weigh a tensor's numbers, once, until they are gone; `weight`: count them as so many bytes."""
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
