"""The memory of a training step, estimated before it is taken."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import nn

from ...errors import MachineError
from ...free_memory import free_memory, out_of_memory
from ...models import footprint

if TYPE_CHECKING:
    from .recipe import Recipe
    from .reporter import Reporter

_COPIES = 8
"""How often the weights are held: gradients, moments, an average, the best, and copies that the engine is tried on."""
_SURELY = 1.5
"""A step that needs this many times what there is will not fit, however rough the estimate is."""
_SPARED = 0.8
"""The share of what is free that an advised batch may take."""


@dataclass(frozen=True, kw_only=True)
class StepMemory:
    """What a training step takes, estimated.

    Attributes:
        batch: images in it.
        size: their height and width.
        image: bytes of one image on its way through the network and back.
        weights: bytes of the weights and all that is kept beside them.
        device: where the step is computed.
    """

    batch: int
    size: tuple[int, int]
    image: int
    weights: int
    device: str

    @classmethod
    def of(cls, network: nn.Module, image: tuple[int, int, int], batch: int, recipe: Recipe, device: str) -> StepMemory:
        """Of a batch of images `(height, width, channels)`."""
        height, width, channels = image
        one = footprint(network, (channels, height, width))
        # Where only the last blocks learn, little is kept for the way back.
        kept = one.answering if recipe.trained_blocks else one.training
        return cls(
            batch=batch,
            size=(height, width),
            image=kept // 2 if recipe.precision == "bfloat16" else kept,
            weights=_COPIES * sum(value.nbytes for value in network.state_dict().values()),
            device=device,
        )

    @property
    def needed(self) -> int:
        """Bytes altogether."""
        return self.batch * self.image + self.weights

    def free(self, *, swap: bool = False) -> int | None:
        """Bytes that may still be taken on the device, see `free_memory`; None where it is not known."""
        if self.device.startswith("cuda"):
            return int(torch.cuda.mem_get_info(self.device)[0])
        return free_memory(swap=swap) if self.device == "cpu" else None

    def check(self, reporter: Reporter) -> None:
        """Refuse a step that surely does not fit, before anything is written; warn of one that may not.

        The system grants memory that it does not have and ends the process once it is used: then it is too late to say
        anything.

        Raises:
            MachineError: `out-of-memory`.
        """
        free, most = self.free(), self.free(swap=True)
        if free is None or most is None or self.needed <= free:
            return
        error = self.error(free)
        if self.needed > _SURELY * most:
            raise error
        reporter.warn(f"{error.reason}; should the system end the training: {error.hint}")

    def error(self, free: int | None, *, saved: bool = False) -> MachineError:
        """The error where this step does not fit. `free`: what was free before; `saved`: there is a checkpoint."""
        height, width = self.size
        fits = max(1, self.batch // 4)
        if free is not None:
            fits = min(fits, int(_SPARED * free - self.weights) // self.image)
        hint = f"try smaller images, --size {max(height // 2, 1)}x{max(width // 2, 1)}, or a smaller model"
        if self.batch > 1 and fits > 0:
            hint = f"try --set batch_size={1 << (fits.bit_length() - 1)}"
        return out_of_memory(f"a batch of {self.batch} at {height}x{width}", self.needed, free, hint=hint, saved=saved)
