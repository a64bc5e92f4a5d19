"""Mixup and CutMix: images blended with their neighbours or in part from them, and their answers likewise."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from convoscope.data import Task
from convoscope.training import Recipe
from convoscope.training.core.engine import Engine
from convoscope.training.core.hooks import NO_HOOKS
from convoscope.training.core.normalisation import Normalisation
from convoscope.training.core.objective import Objective
from convoscope.training.core.optimizer import Optimizer
from convoscope.training.fit import loop
from convoscope.training.fit.loop import train_step
from convoscope.training.fit.schedule import blend_share, cut_box
from convoscope.training.fit.split import Split


def job_of(**recipe: Any) -> Any:
    return SimpleNamespace(recipe=Recipe(**recipe), seed=3)


def test_the_share_is_a_function_of_seed_and_step() -> None:
    job = job_of(mixup=0.5, epochs=10)
    shares = np.array([blend_share(job, 0, step) for step in range(2000)])
    assert np.array_equal(shares, [blend_share(job, 0, step) for step in range(2000)])
    assert 0.46 < np.mean(shares < 1) < 0.54
    assert shares.min() >= 0.5 and np.quantile(shares[shares < 1], 0.5) == pytest.approx(0.75, abs=0.03)
    job.seed = 4
    assert not np.array_equal(shares, [blend_share(job, 0, step) for step in range(2000)])


def test_the_last_epochs_see_images_as_they_are() -> None:
    job = job_of(mixup=1.0, epochs=20)
    assert [epoch for epoch in range(20) if blend_share(job, epoch, 5) < 1] == list(range(17))
    assert blend_share(job_of(epochs=20), 0, 5) == 1


@pytest.mark.parametrize("task", ["classification", "multi-label", "regression"])
def test_a_blended_step_is_the_blend_of_two_losses(task: Task, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    targets = {
        "classification": torch.tensor([0, 2, 1, 1]),
        "multi-label": torch.randint(0, 2, (4, 3), generator=generator).float(),
        "regression": torch.randn(4, 3, generator=generator),
    }[task]
    pixels = np.random.default_rng(0).integers(0, 256, (4, 5, 5, 1), np.uint8)
    seen: list[torch.Tensor] = []

    class Looks(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.dense = nn.Linear(25, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            seen.append(x.detach().clone())
            scores: torch.Tensor = self.dense(x.flatten(1))
            return scores

    recipe = Recipe(mixup=1.0, batch_size=4, label_smoothing=0.1)
    objective = Objective(task=task, outputs=3, label_smoothing=0.1)
    network = Looks()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    part = Split(pixels=pixels, rows=np.arange(4), targets=targets)
    normalisation = Normalisation(mean=(0.5,), std=(0.25,))
    job: Any = SimpleNamespace(
        recipe=recipe,
        seed=0,
        engine=Engine(),
        objective=objective,
        normalisation=normalisation,
        train=part,
        hooks=NO_HOOKS,
    )
    monkeypatch.setattr(loop, "blend_share", lambda job, epoch, step: 0.7)
    loss, _ = train_step(job, network, Optimizer(network, recipe), np.array([2, 0, 3, 1]), 0, 0, 1.0)
    images = torch.from_numpy(pixels[[2, 0, 3, 1]]).permute(0, 3, 1, 2).float()
    blended = (0.7 * images + 0.3 * images[[3, 0, 1, 2]] - 127.5) / 63.75
    assert torch.allclose(seen[0], blended, atol=1e-5)
    network.load_state_dict(before)
    scores = network(blended)
    own = targets[[2, 0, 3, 1]]
    wanted = 0.7 * objective.loss(scores, own) + 0.3 * objective.loss(scores, own[[3, 0, 1, 2]])
    assert loss == pytest.approx(float(wanted.detach()), rel=1e-5)


def test_the_rectangle_of_cutmix_is_a_function_of_seed_and_step() -> None:
    job = job_of(cutmix=0.5, epochs=10)
    boxes = [cut_box(job, 0, step, (20, 30)) for step in range(2000)]
    assert boxes == [cut_box(job, 0, step, (20, 30)) for step in range(2000)]
    cut = [box for box in boxes if box is not None]
    assert 0.46 < len(cut) / 2000 < 0.54
    for rows, columns in cut:
        assert 0 <= rows.start <= rows.stop <= 20 and 0 <= columns.start <= columns.stop <= 30
    # A side s keeps s - s^2 / 4 of itself inside, in the mean over all places of its middle.
    shares = [(rows.stop - rows.start) * (columns.stop - columns.start) / 600 for rows, columns in cut]
    side = np.sqrt(np.linspace(0, 1, 2001))
    assert np.mean(shares) == pytest.approx(np.mean((side - side**2 / 4) ** 2), abs=0.02)
    assert all(cut_box(job, 9, step, (20, 30)) is None for step in range(50))
    assert cut_box(job_of(epochs=10), 0, 1, (20, 30)) is None


def test_a_cut_step_is_the_loss_of_both_answers_by_their_area(monkeypatch: pytest.MonkeyPatch) -> None:
    targets = torch.tensor([0, 2, 1, 1])
    pixels = np.random.default_rng(0).integers(0, 256, (4, 5, 6, 1), np.uint8)
    seen: list[torch.Tensor] = []
    network = nn.Sequential(nn.Flatten(), nn.Linear(30, 3))
    network.register_forward_pre_hook(lambda _, given: seen.append(given[0].detach().clone()))
    before = {name: value.clone() for name, value in network.state_dict().items()}
    recipe, objective = Recipe(cutmix=1.0, batch_size=4), Objective(task="classification", outputs=3)
    job: Any = SimpleNamespace(
        recipe=recipe,
        seed=0,
        engine=Engine(),
        objective=objective,
        normalisation=Normalisation(mean=(0.0,), std=(1 / 255,)),
        train=Split(pixels=pixels, rows=np.arange(4), targets=targets),
        hooks=NO_HOOKS,
    )
    monkeypatch.setattr(loop, "cut_box", lambda job, epoch, step, size: (slice(1, 3), slice(2, 5)))
    order = [2, 0, 3, 1]
    loss, _ = train_step(job, network, Optimizer(network, recipe), np.array(order), 0, 0, 1.0)
    wanted = torch.from_numpy(pixels[order]).permute(0, 3, 1, 2).float()
    for place, neighbour in enumerate([1, 2, 0, 3]):
        for y in range(1, 3):
            for x in range(2, 5):
                wanted[place, 0, y, x] = float(pixels[neighbour, y, x, 0])
    assert torch.allclose(seen[0], wanted, atol=1e-3)
    network.load_state_dict(before)
    scores = network(wanted)
    own = torch.nn.functional.cross_entropy(scores, targets[order])
    other = torch.nn.functional.cross_entropy(scores, targets[[1, 2, 0, 3]])
    assert loss == pytest.approx(float(0.8 * own.detach() + 0.2 * other.detach()), rel=1e-4)
