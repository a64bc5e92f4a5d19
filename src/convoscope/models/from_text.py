"""From a plan to torch modules with their first weights. torch is imported inside the functions."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import TYPE_CHECKING

from .grammar import parse
from .plan import Plan, PlannedLayer, make_plan

if TYPE_CHECKING:
    from torch import nn


def network_from_plan(plan: Plan, text: str) -> nn.Module:
    """The network of a whole model, with its first weights."""
    from .network import Network

    network = Network(_children(plan.steps))
    network.text, network.input, network.outputs = text, plan.input, plan.outputs
    _initialise(network, plan)
    return network


def head_layers(text: str, features: int, outputs: int) -> nn.Module:
    """The layers of `text` on a vector of `features` numbers: `(N, features)` to `(N, outputs)`.

    Raises:
        UsageError: the layers do not fit a vector or give another number of scores.
    """
    from .network import Chain

    flatten, *items = parse(f"flatten {text}")
    plan = make_plan((flatten, *items), (1, 1, features), outputs)
    chain = Chain(_children(plan.steps[1:]))
    _initialise(chain, plan)
    return chain


def _children(steps: Sequence[PlannedLayer]) -> OrderedDict[str, nn.Module]:
    return OrderedDict((step.name.rpartition(".")[2], _module(step)) for step in steps)


def _module(step: PlannedLayer) -> nn.Module:
    from .network import Chain, Parallel, Residual

    branches = [Chain(_children(branch)) for branch in step.branches]
    if step.layer.kind == "residual":
        return Residual(*branches)
    if step.layer.kind == "parallel":
        return Parallel(branches)
    return step.layer.module(step.arguments, step.shape)


def _initialise(network: nn.Module, plan: Plan) -> None:
    from torch import nn

    from .network import Residual

    if not any(step.layer.rectifies for step in plan.rows()):
        return  # torch's own: uniform with variance 1 / (3 inputs), from which the smallest networks learn most surely
    weighted = [module for module in network.modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    for module in weighted:
        gain = "relu" if module is not weighted[-1] else "linear"
        nn.init.kaiming_normal_(module.weight, nonlinearity=gain)  # type: ignore[arg-type]
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    for block in network.modules():
        if isinstance(block, Residual) and not len(block.shortcut):
            last = list(block.body)[-1]
            if isinstance(last, nn.BatchNorm2d | nn.BatchNorm1d):
                nn.init.zeros_(last.weight)
