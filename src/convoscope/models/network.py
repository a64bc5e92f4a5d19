"""The torch modules a model's text becomes. Imports torch: only `build` and the layers' `module` rules import this
file.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Chain(nn.Sequential):
    """Layers one after another, children named by kind and count: conv1, norm1, relu1.

    With `pool_first` on, a relu directly before a maxpool runs after it: the same numbers and the same gradients, since
    relu keeps the order of numbers, for a fraction of the work. Names, weights and `state_dict` stay as they are.
    """

    pool_first: bool = False

    def forward(self, x: Tensor) -> Tensor:
        for module in self._in_order() if self.pool_first else self:
            x = module(x)
        return x

    def _in_order(self) -> Iterator[nn.Module]:
        waiting: nn.Module | None = None
        for module in self:
            if waiting is None and type(module) is nn.ReLU:
                waiting = module
                continue
            if waiting is not None and type(module) is nn.MaxPool2d:
                yield module
                yield waiting
                waiting = None
                continue
            if waiting is not None:
                yield waiting
                waiting = None
            if type(module) is nn.ReLU:
                waiting = module
            else:
                yield module
        if waiting is not None:
            yield waiting


class Network(Chain):
    """A network from a text: float32 `(N, C, H, W)`, normalised, to raw scores `(N, outputs)`.

    Attributes:
        text: the text it was made from.
        input: (height, width, channels) it was made for. With `globalavg` in it other sizes work too.
        outputs: the scores for each image; 1 where two classes share one score for a sigmoid.
    """

    text: str
    input: tuple[int, int, int]
    outputs: int


class Residual(nn.Module):
    """shortcut(x) + body(x). The shortcut is empty where the shapes agree."""

    def __init__(self, body: Chain, shortcut: Chain) -> None:
        super().__init__()
        self.body = body
        self.shortcut = shortcut

    def forward(self, x: Tensor) -> Tensor:
        inside, outside = self.body(x), self.shortcut(x)
        return torch.add(inside, outside)


class Parallel(nn.Module):
    """The branches' results side by side on the channel axis; branch1 first."""

    def __init__(self, branches: list[Chain]) -> None:
        super().__init__()
        for number, branch in enumerate(branches, 1):
            self.add_module(f"branch{number}", branch)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([branch(x) for branch in self.children()], dim=1)


class GlobalAverage(nn.Module):
    """The mean of each map: `(N, C, H, W)` to `(N, C)`."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mean(dim=(2, 3))


class FixedKernel(nn.Module):
    """One square kernel of given numbers over every channel by itself: `(N, C, H, W)` to `(N, C, H', W')`.

    Attributes:
        weight: `(C, 1, side, side)`, the same numbers for each channel. A buffer: optimisers and weight decay do not
            see it, checkpoints keep it.
        kernel_size, stride, padding: as (height, width), like those of `nn.Conv2d`.
        groups: C.
        border: what the padding holds: `zeros`, `reflect` or `replicate`.
    """

    weight: Tensor

    def __init__(
        self, values: Sequence[float], *, channels: int, stride: tuple[int, int], padding: tuple[int, int], border: str
    ) -> None:
        super().__init__()
        side = math.isqrt(len(values))
        self.register_buffer("weight", torch.tensor(values).reshape(1, 1, side, side).repeat(channels, 1, 1, 1))
        self.kernel_size, self.stride, self.padding = (side, side), stride, padding
        self.groups, self.border = channels, border

    def forward(self, x: Tensor) -> Tensor:
        padding = self.padding
        if self.border != "zeros" and any(padding):
            rows, columns = padding
            x, padding = F.pad(x, (columns, columns, rows, rows), mode=self.border), (0, 0)
        return F.conv2d(x, self.weight, None, self.stride, padding, 1, self.groups)

    def extra_repr(self) -> str:
        size, stride, padding = self.kernel_size, self.stride, self.padding
        return f"{self.groups}, kernel_size={size}, stride={stride}, padding={padding}, border={self.border}"


class OnFeatures(nn.Module):
    """A library's network whose own heads are taken off, and new layers on the features that it then gives.

    Attributes:
        backbone: the network; what its heads got is what it gives. Maps `(N, D, H, W)` are averaged to `(N, D)`.
        head: the layers, `(N, D)` to `(N, outputs)`.
        own_heads: the paths in `backbone` of the heads that were taken off.
    """

    def __init__(self, backbone: nn.Module, head: nn.Module, own_heads: tuple[str, ...]) -> None:
        super().__init__()
        self.backbone, self.head, self.own_heads = backbone, head, own_heads

    def forward(self, images: Tensor) -> Tensor:
        scores: Tensor = self.head(as_vectors(self.backbone(images)))
        return scores


def as_vectors(features: Tensor) -> Tensor:
    """Features `(N, D)`, of maps `(N, D, H, W)` their means."""
    return features.mean((2, 3)) if features.ndim == 4 else features
