"""Ready modules: what is taken as it is, and what is refused."""

import copy

import pytest
import torch
from torch import nn

from convoscope.errors import UsageError
from convoscope.models import build, check


def test_a_ready_module_is_returned_as_it_is() -> None:
    network = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 5)
    )
    network[1].eval()
    half = nn.Sequential(nn.Flatten(), nn.Linear(4, 1))
    before, state = copy.deepcopy(network.state_dict()), torch.get_rng_state()
    assert build(network, (8, 9, 3), 5) is network
    assert check(network, (8, 9, 3), 5) == 5 and check(half, (2, 2, 1), 2) == 1
    assert network.training and not network[1].training and network[2].training
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (nn.Linear(3, 5), "model Linear: expected a network for images of 4x4x1, but it fails on one: mat1 and mat2"),
        (nn.Flatten(), "model Flatten: expected raw scores of shape (1, 5) for one image, got shape (1, 16)"),
        (nn.Identity(), "model Identity: expected raw scores of shape (1, 5) for one image, got shape (1, 1, 4, 4)"),
        (nn.Sequential(nn.Flatten(), nn.Linear(16, 1)), "got shape (1, 1)"),
        (3, "model: expected a text or a torch.nn.Module, got int"),
        (nn.Linear, "model Linear: expected a network for images of 4x4x1, but it fails on one: mat1 and mat2"),
    ],
)
def test_a_module_that_does_not_fit_is_refused(module: nn.Module, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        build(module, (4, 4, 1), 5)
    assert message in str(caught.value) and caught.value.code == "model-module"


def test_a_module_that_returns_no_tensor_is_refused() -> None:
    class Two(nn.Module):
        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            return x, x

    with pytest.raises(UsageError, match=r"expected raw scores of shape \(1, 2\) for one image, got tuple"):
        build(Two(), (4, 4, 1), 2)


def test_memory_that_runs_out_is_no_fault_of_the_module() -> None:
    class Greedy(nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return images.new_zeros(len(images), 2**50)

    with pytest.raises(RuntimeError, match="allocate memory"):
        build(Greedy(), (8, 8, 1), 2)
