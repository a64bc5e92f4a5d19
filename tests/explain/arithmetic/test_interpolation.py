"""Resized maps: the right number of each mode by torch's float64 and by plain loops, and a bound that holds in float32."""

import math
import random
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from convoscope.explain import Trace, trace


class Resizes(nn.Module):
    def __init__(self, channels: int = 0, **how: Any) -> None:
        super().__init__()
        self.lead, self.how = channels, how

    def forward(self, x: Tensor) -> Tensor:
        return F.interpolate(x.flatten(1, 2) if self.lead == 1 else x[:, None] if self.lead == 3 else x, **self.how)


def units(found: Trace, count: int) -> list[tuple[int, ...]]:
    chance = random.Random(0)
    shape = found.steps[-1].shape
    corners = [tuple(0 for _ in shape), tuple(n - 1 for n in shape)]
    return corners + [tuple(chance.randrange(n) for n in shape) for _ in range(count)]


CASES: dict[str, dict[str, Any]] = {
    "bilinear up": {"size": (223, 31), "mode": "bilinear"},
    "bilinear down": {"size": (160, 7), "mode": "bilinear"},
    "bilinear aligned": {"size": (160, 60), "mode": "bilinear", "align_corners": True},
    "bilinear to one row": {"size": (1, 5), "mode": "bilinear", "align_corners": True},
    "bilinear same size": {"size": (224, 20), "mode": "bilinear"},
    "bilinear by a factor": {"scale_factor": (0.73, 1.7), "mode": "bilinear"},
    "bilinear by a factor, from sizes": {"scale_factor": (0.73, 1.7), "mode": "bilinear", "recompute_scale_factor": True},
    "bilinear smoothed": {"size": (37, 33), "mode": "bilinear", "antialias": True},
    "bicubic up": {"size": (225, 61), "mode": "bicubic"},
    "bicubic down": {"size": (160, 7), "mode": "bicubic"},
    "bicubic aligned": {"size": (101, 60), "mode": "bicubic", "align_corners": True},
    "bicubic by a factor": {"scale_factor": (0.73, 1.7), "mode": "bicubic"},
    "bicubic smoothed": {"size": (37, 33), "mode": "bicubic", "antialias": True},
    "linear": {"size": 33, "mode": "linear", "channels": 1},
    "linear by a factor": {"scale_factor": 2.3, "mode": "linear", "channels": 1},
    "trilinear": {"size": (5, 33, 9), "mode": "trilinear", "channels": 3},
    "trilinear aligned": {"size": (2, 101, 33), "mode": "trilinear", "channels": 3, "align_corners": True},
}  # fmt: skip


@pytest.mark.parametrize("how", CASES.values(), ids=CASES)
def test_a_resized_number_is_that_of_float64_and_float32_is_within_the_bound(how: dict[str, Any]) -> None:
    torch.manual_seed(0)
    image = torch.randn(3, 224, 20) + 2
    net = Resizes(**how)
    found = trace(net, image)
    wanted = net(image[None].double())[0]
    for place in units(found, 30):
        why = found.why(found.names[-1], *place)
        assert why.opened and why.weights is not None
        assert why.sum == pytest.approx(float(wanted[place]), rel=1e-9, abs=1e-12)
        assert why.agrees, str(why)
        assert why.bound < 1e-3  # it is for roundings, not for mistakes
        assert why.weights.sum() == pytest.approx(1, abs=1e-12)
        for term in why.terms:
            assert term.source is not None and found[term.source.layer].value(term.source.index) == term.input


def test_bilinear_by_a_plain_loop() -> None:
    image = np.random.default_rng(0).normal(size=(1, 6, 9)).astype(np.float32).astype(np.float64)
    found = trace(Resizes(size=(11, 4), mode="bilinear"), torch.from_numpy(image).float())
    for y in range(11):
        for x in range(4):
            rows, columns = max((y + 0.5) * 6 / 11 - 0.5, 0), max((x + 0.5) * 9 / 4 - 0.5, 0)
            top, left = math.floor(rows), math.floor(columns)
            below, right = min(top + 1, 5), min(left + 1, 8)
            down, across = rows - top, columns - left
            upper = (1 - across) * image[0, top, left] + across * image[0, top, right]
            lower = (1 - across) * image[0, below, left] + across * image[0, below, right]
            why = found.why(found.names[-1], 0, y, x)
            assert why.sum == pytest.approx((1 - down) * upper + down * lower, rel=1e-12, abs=1e-14)
            assert why.agrees and len(why) <= 4


@pytest.mark.parametrize("mode", ["nearest", "nearest-exact"])
@pytest.mark.parametrize(
    "how", [{"size": (223, 31)}, {"size": (100, 7)}, {"scale_factor": (0.73, 1.7)}, {"size": (224, 40)}]
)
def test_the_nearest_number_is_the_one_that_torch_took(mode: str, how: dict[str, Any]) -> None:
    image = torch.arange(224 * 20.0).reshape(1, 224, 20)
    found = trace(Resizes(mode=mode, **how), image)
    for place in units(found, 60):
        why = found.why(found.names[-1], *place)
        assert why.opened and len(why) == 1 and why.sum == why.recorded
    for lead, size in ((1, 33), (3, (2, 20, 33))):
        found = trace(Resizes(lead, mode=mode, size=size), torch.randn(2, 9, 20))
        for place in units(found, 10):
            why = found.why(found.names[-1], *place)
            assert why.opened and why.sum == why.recorded


def test_half_precision_and_double() -> None:
    image = torch.randn(1, 50, 50) + 2
    for dtype in (torch.bfloat16, torch.float64):
        net = nn.Sequential(nn.Conv2d(1, 2, 1), Resizes(size=(33, 77), mode="bilinear")).to(dtype)
        found = trace(net, image)
        for place in units(found, 20):
            why = found.why(found.names[-1], *place)
            assert why.agrees, str(why)
            assert dtype is torch.bfloat16 or why.bound < 1e-11
