"""The training or the validation images of a dataset, ready for batches."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Split:
    """One part of a prepared dataset, ready for batches.

    Attributes:
        pixels: uint8 `(N, H, W, C)`, all images of the dataset, memory-mapped.
        rows: the part's rows in `pixels`.
        targets: the loss's targets of those rows, see `Objective.targets`.
    """

    pixels: NDArray[np.uint8]
    rows: NDArray[np.int64]
    targets: Tensor

    def __len__(self) -> int:
        return len(self.rows)


def load_batch(part: Split, batch: NDArray[np.int64], device: str) -> tuple[Tensor, Tensor]:
    """The uint8 images `(n, H, W, C)` and targets of the part's positions `batch`."""
    images = torch.from_numpy(np.take(part.pixels, part.rows[batch], axis=0))
    return images.to(device), part.targets[torch.from_numpy(batch)].to(device)
