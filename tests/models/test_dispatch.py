"""The operations that are seen below the modules are the same whatever mode torch is in."""

from collections.abc import Callable
from contextlib import AbstractContextManager

import pytest
import torch
from torch import nn

from convoscope.models import table
from tests.support.operations import Heard


def plain() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2), nn.Dropout(),
        nn.AdaptiveAvgPool2d(3), nn.Flatten(), nn.LayerNorm(36), nn.Linear(36, 3),
    ).eval()  # fmt: skip


@pytest.mark.parametrize("mode", [torch.inference_mode, torch.no_grad, torch.enable_grad])
def test_a_table_is_the_same_in_every_mode(mode: Callable[[], AbstractContextManager[None]]) -> None:
    wanted = table(plain(), (12, 12, 3), 3)
    with mode():
        found = table(plain(), (12, 12, 3), 3)
    assert found.layers == wanted.layers
    assert found.multiply_adds == 12 * 12 * 4 * 27 + 36 * 3


def test_composite_operations_are_taken_apart_in_inference_mode() -> None:
    network, image = plain(), torch.randn(1, 3, 12, 12)
    heard = Heard()
    with torch.no_grad(), heard:
        wanted = network(image)
    inside = Heard()
    with torch.inference_mode(), inside:
        found = network(image)
    assert torch.equal(found, wanted)
    for name in ("convolution", "max_pool2d_with_indices", "_adaptive_avg_pool2d", "native_layer_norm", "addmm"):
        assert name in heard.names and name in inside.names
