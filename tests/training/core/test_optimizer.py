import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from convoscope.training.core.optimizer import Optimizer, lr_factor
from convoscope.training.core.recipe import Recipe


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 6, 3, bias=False),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        nn.Conv2d(6, 8, 3),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(8 * 4 * 4, 3),
    )


def learn(net: nn.Module, optimizer: Optimizer, steps: int) -> None:
    for step in range(steps):
        images = torch.from_numpy(np.random.default_rng(step).normal(size=(5, 1, 8, 8)).astype(np.float32))
        net.zero_grad()
        (net(images) ** 2).mean().backward()
        optimizer.step(1.0)


@pytest.mark.parametrize("kind", ["sgd", "adam", "adamw"])
def test_steps_equal_torchs_own(kind: str) -> None:
    """Against torch's optimiser used directly, decay only on weights of two or more dimensions."""
    ours, theirs = network(), network()
    recipe = Recipe(optimizer=kind, learning_rate=0.01, weight_decay=0.1)
    learn(ours, Optimizer(ours, recipe), 5)
    groups = [
        {"params": [p for p in theirs.parameters() if p.ndim >= 2], "weight_decay": 0.1},
        {"params": [p for p in theirs.parameters() if p.ndim < 2], "weight_decay": 0.0},
    ]
    options = {"momentum": 0.9, "nesterov": True} if kind == "sgd" else {"betas": (0.9, 0.999)}
    reference = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[kind](
        groups, lr=0.01, **options
    )

    class Plain:
        def step(self, _share: float) -> None:
            reference.step()

    learn(theirs, Plain(), 5)  # type: ignore[arg-type]
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-7)


def test_muon_moves_convolutions_by_orthogonal_matrices() -> None:
    """A first step of Muon is a multiple of a matrix whose singular values lie near one."""
    for order in (torch.contiguous_format, torch.channels_last):
        net = network().to(memory_format=order)
        before = [p.detach().clone() for p in net.parameters()]
        learn(net, Optimizer(net, Recipe(optimizer="muon", weight_decay=0.0, muon_learning_rate=0.01)), 1)
        change = (list(net.parameters())[3].detach() - before[3]).flatten(1)
        singular = torch.linalg.svdvals(change) / (0.01 * 0.2 * math.sqrt(54))
        assert float(singular.min()) > 0.4
        assert float(singular.max()) < 1.3
        assert all(bool((a != b).any()) for a, b in zip(net.parameters(), before, strict=True))


@pytest.mark.parametrize("kind", ["sgd", "adam", "adamw", "muon"])
def test_a_restored_optimiser_goes_on_exactly(kind: str) -> None:
    recipe = Recipe(optimizer=kind)
    straight, stopped = network(), network()
    learn(straight, Optimizer(straight, recipe), 3)
    first = Optimizer(stopped, recipe)
    learn(stopped, first, 3)
    kept = {name: value.clone() for name, value in first.tensors().items()}
    weights = {name: value.clone() for name, value in stopped.state_dict().items()}
    learn(stopped, first, 2)
    again = network()
    again.load_state_dict(weights)
    second = Optimizer(again, recipe)
    second.restore(kept, Path("last.safetensors"), begun=True)
    learn(again, second, 2)
    for a, b in zip(stopped.parameters(), again.parameters(), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("schedule", ["constant", "linear", "cosine"])
def test_the_rate_rises_then_falls(schedule: str) -> None:
    recipe = Recipe(schedule=schedule, warmup=0.25)
    rates = [lr_factor(recipe, step, 100) for step in range(100)]
    np.testing.assert_allclose(rates[:25], np.arange(1, 26) / 25)
    if schedule == "constant":
        assert set(rates[25:]) == {1.0}
    elif schedule == "linear":
        np.testing.assert_allclose(rates[25:], 1 - np.arange(75) / 75)
    else:
        np.testing.assert_allclose(rates[25:], 0.5 * (1 + np.cos(np.pi * np.arange(75) / 75)))
    assert min(rates) > 0


def test_no_warmup_starts_at_the_full_rate() -> None:
    assert lr_factor(Recipe(warmup=0.0), 0, 10) == 1


@pytest.mark.parametrize("kind", ["sgd", "adam", "adamw", "muon"])
def test_optimisers_do_not_load_torchs_compiler(kind: str) -> None:
    """Which takes 1.6 s. In a process of its own: other tests' libraries may have loaded it."""
    code = (
        "import pathlib, sys, torch\n"
        "from convoscope.training.core.optimizer import Optimizer, compiler_not_loaded\n"
        "from convoscope.training.core.recipe import Recipe\n"
        "net = torch.nn.Sequential(torch.nn.Conv2d(5, 3, 3), torch.nn.Flatten(), torch.nn.Linear(3, 2))\n"
        "with compiler_not_loaded():\n"
        f"    optimizer = Optimizer(net, Recipe(optimizer={kind!r}))\n"
        "    net(torch.ones(1, 5, 3, 3)).sum().backward()\n"
        "    optimizer.step(1.0)\n"
        "    optimizer.restore(optimizer.tensors(), pathlib.Path('x'), begun=True)\n"
        "marked = [hasattr(torch.optim.Optimizer.state_dict.__wrapped__, '__dynamo_disable')]\n"
        "print('torch._dynamo' in sys.modules, len(optimizer.tensors()) > 0, *marked)\n"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.split() == ["False", "True", "False"]
