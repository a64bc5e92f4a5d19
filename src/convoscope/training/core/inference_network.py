"""How a finished network answers images: `test`, `predict`, reports, `look` and the studio all come here, and a
backbone's features are computed in the same way.

Its batch norms are multiplied into its convolutions, and images go through it in batches of one size, the last one
filled up: how many others there are does not change an image's numbers. The size is small, because a step's memory is
then asked for, freed and used again at once instead of being taken from the system. With freed memory kept, batches of
4 images of 256x256 were as fast as batches of 32 within 5 % (EfficientNet-Lite0, one thread of an AMD EPYC).
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ... import models
from ...free_memory import free_memory
from ...models import BUDGET, Footprint, footprint
from .norm_folding import fold_norms

_WORKING_SET = 1 << 24
"""Bytes that a batch takes on its way through a network on the processor, where 4 images take no more."""
_FEWEST, _MOST = 4, 64
_SAME = 1e-4
"""How far folding may move a number, as a share of the largest one."""


class InferenceNetwork:
    """A network as it answers: a copy, on a device.

    Attributes:
        device: where it computes.
        footprint: what one image takes on its way.
    """

    def __init__(
        self,
        network: nn.Module,
        image: Sequence[int],
        device: str = "cpu",
        *,
        precision: torch.dtype = torch.float32,
        one: Footprint | None = None,
    ) -> None:
        """Copy the network.

        Args:
            network: on the processor; it is left as it is.
            image: the size of one image, `(C, H, W)`.
            device: where to compute.
            precision: float32 or bfloat16.
            one: the network's footprint, if it is known.
        """
        self.device = device
        self.footprint = footprint(network, image) if one is None else one
        self._precision = precision
        self._network = _quick(network, image).to(device, precision).to(memory_format=torch.channels_last)

    def at_once(self) -> int:
        """How many images go through the network together. That depends on the network alone, but where the machine has
        little memory left it is fewer.
        """
        free = free_on(self.device)
        one = max(self.footprint.answering, 1)
        if self.device == "cpu":
            fit = max(_FEWEST, min(_MOST, _WORKING_SET // one))
            wanted = 1 << (fit.bit_length() - 1)
        else:
            wanted = self.footprint.at_once(budget=8 * BUDGET)
        return wanted if free is None else max(1, min(wanted, free // 2 // one))

    def __call__(self, images: Tensor, together: int, *, before: str | None = None) -> tuple[Tensor, Tensor | None]:
        """One batch's raw scores `(N, K)`, float32 on the processor, and what goes into the layer named `before`.

        Args:
            images: normalised float32 `(N, C, H, W)`, at most `together`.
            together: how many images the network is given, see `at_once`.
            before: the path of a layer; None: the scores are all that is wanted.
        """
        count = len(images)
        # Filled up with the images themselves: zeros may be slow, or a network may make NaN of them.
        whole = images if count == together else images[torch.arange(together) % count]
        inside: list[Tensor] = []
        with contextlib.ExitStack() as held:
            held.enter_context(torch.inference_mode())
            held.enter_context(_in_full())
            if before is not None:
                layer = self._network.get_submodule(before)
                hook = layer.register_forward_pre_hook(lambda _, given: inside.append(given[0]))
                held.callback(hook.remove)
            batch = whole.to(self.device, self._precision).contiguous(memory_format=torch.channels_last)
            scores = self._network(batch)[:count].float().cpu()
            return scores, inside[0][:count].float().cpu() if inside else None


def free_on(device: str) -> int | None:
    """Bytes that may still be taken there; None where it is not known."""
    if device.startswith("cuda"):
        return int(torch.cuda.mem_get_info(device)[0])
    return free_memory() if device == "cpu" else None


def _in_full() -> contextlib.AbstractContextManager[object]:
    """Graphics cards round float32 to 10 bits in convolutions unless they are asked not to."""
    return torch.backends.cudnn.flags(
        enabled=torch.backends.cudnn.enabled, benchmark=False, deterministic=True, allow_tf32=False
    )


def _quick(network: nn.Module, image: Sequence[int]) -> nn.Module:
    """A copy that gives the same numbers but for rounding: maxpools before relus, norms folded. With these, eight
    networks were 1.04 to 2 times as fast as without, on an AMD EPYC.
    """
    plain = copy.deepcopy(network).eval()
    models.pool_first(plain)
    if not any(isinstance(part, nn.BatchNorm2d) for part in plain.modules()):
        return plain
    picture = torch.randn(1, *image, generator=torch.Generator().manual_seed(0))
    folded = fold_norms(plain, picture)
    # Folding rests on the order of execution, seen once; where it gives other numbers the norms stay.
    with torch.inference_mode(), torch.random.fork_rng(devices=[]):
        one, two = plain(picture), folded(picture)
    same = isinstance(one, Tensor) and float((one - two).abs().max()) <= _SAME * float(one.abs().max())
    return folded if same else plain
