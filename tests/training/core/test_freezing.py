"""Blocks that do not learn, norms that keep their statistics, and rates that fall towards the input."""

import pytest
import torch
from torch import nn

from convoscope import models
from convoscope.training.core.optimizer import Optimizer, freeze, training_mode
from convoscope.training.core.recipe import Recipe
from tests.support.runs import BACKBONE


def test_rates_fall_towards_the_input() -> None:
    network = models.build(BACKBONE, (28, 28, 1), 3)
    recipe = Recipe(optimizer="sgd", learning_rate=0.8, momentum=0.0, weight_decay=0.0, block_decay=0.5)
    optimizer = Optimizer(network, recipe)
    before = {name: value.clone() for name, value in network.named_parameters()}
    for parameter in network.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step(1.0)
    rates = {name: float((before[name] - value).detach().mean()) for name, value in network.named_parameters()}
    assert rates["dense2.weight"] == pytest.approx(0.8)
    assert rates["dense1.bias"] == pytest.approx(0.4)
    assert [rates["conv2.weight"], rates["norm2.weight"]] == pytest.approx([0.2, 0.2])
    assert rates["conv1.weight"] == pytest.approx(0.1)


def test_muon_too_has_rates_that_fall() -> None:
    network = models.build(BACKBONE, (28, 28, 1), 3)
    groups = Optimizer(network, Recipe(optimizer="muon", block_decay=0.5))._all
    rates = {group["initial_lr"] for optimizer in groups for group in optimizer.param_groups}
    assert len(rates) == 5  # four blocks at adamw's rates, and the second convolution at muon's


def test_frozen_blocks_and_norms_do_not_move() -> None:
    network = models.build(BACKBONE, (28, 28, 1), 3)
    freeze(network, Recipe(trained_blocks=2))
    learning = {name.split(".")[0] for name, parameter in network.named_parameters() if parameter.requires_grad}
    assert learning == {"dense1", "dense2"}
    training_mode(network, Recipe(trained_blocks=2))
    norms = [part for part in network.modules() if isinstance(part, nn.BatchNorm2d)]
    assert network.training and not any(norm.training for norm in norms)
    free = models.build(BACKBONE, (28, 28, 1), 3)
    training_mode(free, Recipe())
    assert all(part.training for part in free.modules())
    training_mode(free, Recipe(freeze_norm=True))
    assert [part.training for part in free.modules() if isinstance(part, nn.BatchNorm2d)] == [False, False]
