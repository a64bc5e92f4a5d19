"""Networks to look into, and the check that a look leaves them as they were found."""

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from convoscope import models

TEXT = "conv(8) relu maxpool conv(16) relu maxpool flatten dense(32) relu dense"
NETWORKS = {"text": (TEXT, (28, 28, 1)), "resnet-small": ("resnet-small", (48, 48, 3))}
NETWORKS["torchvision:resnet18"] = ("torchvision:resnet18", (96, 96, 3))


def network(name: str, outputs: int = 5, seed: int = 0) -> tuple[nn.Module, torch.Tensor]:
    """A network with random weights and random statistics in its norms, and an image for it."""
    text, size = NETWORKS.get(name, (name, (28, 28, 1)))
    torch.manual_seed(seed)
    model = models.build(text, size, outputs).eval()
    for part in model.modules():
        if isinstance(part, nn.BatchNorm2d):
            assert part.running_mean is not None and part.running_var is not None
            part.running_mean.normal_(0, 0.2)
            part.running_var.uniform_(0.5, 2)
            nn.init.uniform_(part.weight, 0.5, 1.5)
        if isinstance(part, nn.BatchNorm2d | nn.Conv2d | nn.Linear) and part.bias is not None:
            nn.init.normal_(part.bias, 0, 0.2)  # without biases a relu network is linear along a ray, and too easy
    return model, torch.randn(size[2], size[0], size[1])


class Awkward(nn.Module):
    """Does what a look must not be seen to do: changes its input and a buffer in place, replaces a buffer, draws at random.

    `fails_at`: the run, from 1, that fails in the middle.
    """

    runs: torch.Tensor
    replaced: torch.Tensor

    def __init__(self, fails_at: int = 0) -> None:
        super().__init__()
        self.first = nn.ReLU(inplace=True)
        self.conv = nn.Conv2d(2, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.relu = nn.ReLU(inplace=True)
        self.pool = nn.MaxPool2d(2)
        self.last = nn.Linear(4 * 16, 3)
        self.register_buffer("runs", torch.zeros(1))
        self.register_buffer("replaced", torch.zeros(1))
        self.fails_at, self.calls = fails_at, 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        self.runs += 1
        self.replaced = self.replaced + 1
        x = self.relu(self.norm(self.conv(self.first(x))))
        if self.calls == self.fails_at:
            raise ValueError("the fuse has blown")
        x = F.dropout(x, 0.1)
        scores: torch.Tensor = self.last(self.pool(x).flatten(1))
        return scores


def awkward(fails_at: int = 0) -> Awkward:
    """One in a state that a caller may leave it in: modes mixed, some weights fixed, gradients there, a hook of its own."""
    torch.manual_seed(3)
    model = Awkward()
    model(torch.randn(4, 2, 8, 8)).square().sum().backward()
    model.norm.eval()
    model.conv.weight.requires_grad_(False)
    model.last.register_forward_hook(lambda *_: None)
    model.fails_at, model.calls = fails_at, 0
    return model


def _state(model: nn.Module) -> dict[str, Any]:
    parts = list(model.modules())
    return {
        "modes": [part.training for part in parts],
        "hooks": [
            {name: list(value) for name, value in vars(part).items() if name.endswith("_hooks") and value is not None}
            for part in parts
        ],
        "weights": [(id(p), p.requires_grad, id(p.grad), p._version) for p in model.parameters()],
        "buffers": [(name, id(buffer)) for name, buffer in model.named_buffers()],
        "switches": (
            torch.is_grad_enabled(),
            torch.is_inference_mode_enabled(),
            torch.backends.mha.get_fastpath_enabled(),
            torch.backends.cudnn.enabled,
            torch.backends.mkldnn.enabled,
            torch.backends.cuda.flash_sdp_enabled(),
        ),
    }


def _numbers(model: nn.Module, tensors: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    found = [*model.parameters(), *model.buffers(), *gradients, *tensors, torch.get_rng_state()]
    return [tensor.detach().clone() for tensor in found]


@contextlib.contextmanager
def preserve_state(model: nn.Module, *tensors: torch.Tensor) -> Iterator[None]:
    state, numbers = _state(model), _numbers(model, tensors)
    asked = [tensor.requires_grad for tensor in tensors]
    try:
        yield
    finally:
        assert _state(model) == state
        after = _numbers(model, tensors)
        assert len(numbers) == len(after)
        assert all(torch.equal(a, b) for a, b in zip(numbers, after, strict=True))
        assert [tensor.requires_grad for tensor in tensors] == asked
