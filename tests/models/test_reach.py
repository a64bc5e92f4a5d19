"""Receptive fields against gradients: the pixels on which the unit in the middle depends, in networks of every kind."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from convoscope.models import table

SIDE = 32


class Runs(nn.Module):
    """A function of an image, with weights, as one layer of a network that ends in one score."""

    def __init__(self, function: Callable[..., Tensor], *parts: nn.Module) -> None:
        super().__init__()
        self.part = Inside(function, *parts)

    def forward(self, x: Tensor) -> Tensor:
        made: Tensor = self.part(x)
        return made.flatten(1).sum(1, keepdim=True).expand(-1, 3)


class Inside(nn.Module):
    def __init__(self, function: Callable[..., Tensor], *parts: nn.Module) -> None:
        super().__init__()
        self.function, self.parts = function, nn.ModuleList(parts)
        self.own = nn.Parameter(torch.ones(1))

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x * self.own, *self.parts)


def seen(network: Runs) -> tuple[int, int]:
    """Height and width of the box of pixels with a gradient, from the unit in the middle."""
    for parameter in network.parameters():
        nn.init.uniform_(parameter, 0.5, 1)
    image = torch.rand(1, 2, SIDE, SIDE, dtype=torch.float64, requires_grad=True)
    made = network.double().eval().part(image)
    middle = [size // 2 for size in made.shape[1:]]
    if made.ndim == 3:
        middle[0] += math.isqrt(made.shape[1]) // 2
    made[(0, *middle)].backward()
    assert image.grad is not None
    places = image.grad[0].abs().sum(0).nonzero()
    height, width = (places.max(0).values - places.min(0).values + 1).tolist()
    return height, width


def conv(*arguments: Any, **settings: Any) -> nn.Conv2d:
    return nn.Conv2d(*arguments, **settings)


def gate(x: Tensor, one: nn.Module, two: nn.Module, last: nn.Module) -> Tensor:
    maps: Tensor = one(x)
    made: Tensor = last(maps * torch.sigmoid(two(maps.mean((2, 3), keepdim=True))))
    return made


def tokens(x: Tensor, patches: nn.Module) -> Tensor:
    made: Tensor = patches(x).flatten(2).transpose(1, 2)
    return made


def attended(x: Tensor) -> Tensor:
    return F.scaled_dot_product_attention(x, x, x)


def in_windows(x: Tensor, size: int) -> Tensor:
    n, height, width, channels = x.shape
    parts = x.view(n, height // size, size, width // size, size, channels).permute(0, 1, 3, 2, 4, 5)
    made = attended(parts.reshape(-1, size * size, channels))
    made = made.view(n, height // size, width // size, size, size, channels).permute(0, 1, 3, 2, 4, 5)
    return made.reshape(n, height, width, channels)


def written(x: Tensor, one: nn.Module) -> Tensor:
    out = torch.zeros(1, 4, *x.shape[2:], dtype=x.dtype)
    out[:, :2] = x
    out[:, 2:] = one(x)
    return out


def shuffled(x: Tensor, one: nn.Module) -> Tensor:
    maps: Tensor = F.pixel_unshuffle(x, 2)
    return F.pixel_shuffle(one(maps.view(1, 2, 4, 16, 16).transpose(1, 2).reshape(1, 8, 16, 16)), 2)


NETWORKS: dict[str, tuple[Runs, bool]] = {
    "dilated": (Runs(lambda x, a, b: b(a(x)), conv(2, 3, 3, dilation=2), conv(3, 2, (1, 3))), True),
    "strided and padded": (Runs(lambda x, a, b: b(a(x)), conv(2, 3, 5, 2, 2), conv(3, 2, 3, 2, 1)), True),
    "transposed": (Runs(lambda x, a, b: b(a(x)), conv(2, 3, 3, 4, 1), nn.ConvTranspose2d(3, 2, 4, 2, 1)), True),
    "transposed, dilated": (Runs(lambda x, a: a(x), nn.ConvTranspose2d(2, 2, 3, 3, dilation=2)), True),
    "pooled": (Runs(lambda x, a: F.avg_pool2d(a(F.avg_pool2d(x, 3, 2, 1)), 2), conv(2, 2, 3)), True),
    "pooled unevenly": (Runs(lambda x: F.adaptive_avg_pool2d(x, (5, 3))), True),
    "depthwise": (Runs(lambda x, a: a(x), conv(2, 4, 3, groups=2)), True),
    "branches off the middle": (
        Runs(
            lambda x, a, b, c: c(torch.cat([a(a(x)), b(x)[:, :, :30, :30]], 1)),
            conv(2, 2, 2), conv(2, 2, 3, padding=1), conv(4, 2, 1),
        ),
        True,
    ),
    "enlarged": (Runs(lambda x, a: F.interpolate(a(x), scale_factor=2, mode="nearest"), conv(2, 2, 3, 2, 1)), True),
    "enlarged along a line": (Runs(lambda x: F.interpolate(x[..., ::4, ::4], (27, 27), mode="bilinear")), True),
    "mirrored border": (Runs(lambda x, a: a(F.pad(x, (1, 1, 2, 2), mode="reflect")), conv(2, 2, 5)), True),
    "gated by the whole": (Runs(gate, conv(2, 3, 3, padding=1), conv(3, 3, 1), conv(3, 2, 3)), False),
    "group norm": (Runs(lambda x, a: F.group_norm(a(x), 1), conv(2, 2, 3)), False),
    "layer norm of channels": (
        Runs(lambda x, a: F.layer_norm(a(x).permute(0, 2, 3, 1), (3,)).permute(0, 3, 1, 2), conv(2, 3, 3)),
        True,
    ),
    "patches": (Runs(tokens, conv(2, 5, 4, 4)), True),
    "attention": (Runs(lambda x, a: attended(tokens(x, a)), conv(2, 5, 4, 4)), False),
    "attention in windows": (Runs(lambda x, a: in_windows(a(x).permute(0, 2, 3, 1), 4), conv(2, 5, 2, 2)), True),
    "attention in two kinds of windows": (
        Runs(lambda x, a: in_windows(in_windows(a(x).permute(0, 2, 3, 1), 4)[:, 2:14, 2:14], 4), conv(2, 5, 2, 2)),
        True,
    ),
    "axes mixed": (Runs(lambda x, a, b: b(a(x).transpose(2, 3)).transpose(2, 3), conv(2, 2, 3), nn.Linear(30, 30)), True),
    "recurrent, up to its moment": (
        Runs(
            lambda x, a: a(x.transpose(1, 2).flatten(2))[0], nn.RNN(64, 3, nonlinearity="relu", batch_first=True)
        ),
        True,
    ),
    "unfolded": (Runs(lambda x: F.unfold(x, 3, stride=2, padding=1).sum(1, keepdim=True).transpose(1, 2)), True),
    "folded": (
        Runs(
            lambda x, a: F.fold(a(F.unfold(x, 3, padding=1).transpose(1, 2)).transpose(1, 2), (32, 32), 3, padding=1),
            nn.Linear(18, 18),
        ),
        True,
    ),
    "written in pieces": (Runs(written, conv(2, 2, 5, padding=2)), True),
    "shuffled": (Runs(shuffled, conv(8, 8, 3, padding=1)), True),
    "moved around": (Runs(lambda x, a: a(x).roll(3, 2).flip(3)[:, :, 4:20, ::2], conv(2, 2, 3)), True),
    "a class token": (
        Runs(lambda x, a: torch.cat([torch.zeros(1, 1, 5, dtype=x.dtype), tokens(x, a)], 1)[:, 1:], conv(2, 5, 4, 4)),
        True,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", NETWORKS)
def test_the_receptive_field_is_the_reach_of_the_gradient(name: str) -> None:
    network, exact = NETWORKS[name]
    torch.manual_seed(0)
    wanted = seen(network)
    row = next(row for row in table(network, (SIDE, SIDE, 2), 3).layers if row.name == "part")
    field = row.receptive_field
    assert field is not None
    found = field if isinstance(field, tuple) else (field, field)
    if exact:
        assert found == wanted
    else:  # the whole image, borders included
        assert (min(found[0], SIDE), min(found[1], SIDE)) == wanted == (SIDE, SIDE)


def test_what_does_not_depend_on_the_image_has_no_field() -> None:
    class Positions(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.places = nn.Conv2d(2, 3, 1), nn.Linear(1, 3)

        def forward(self, x: Tensor) -> Tensor:
            made: Tensor = self.conv(x).mean((2, 3)) + self.places(torch.ones(1, 1))
            return made

    rows = {row.name: row.receptive_field for row in table(Positions(), (4, 4, 2), 3).layers}
    assert rows["places"] is None and rows["conv"] == 1
