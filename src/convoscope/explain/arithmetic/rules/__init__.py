"""One rule for each operation of torch: which numbers come in, and what is done with them.

A new operation gets a function with `@rule` in the module where it belongs.
"""

import torch

from ...capture.records import Ref, Step
from . import convolution, elementwise, interpolation, moves, norms, pooling, products
from .registry import RULES, Parts, Rule

__all__ = ["Parts", "convolution", "elementwise", "interpolation", "moves", "norms", "pooling", "products", "rule_for"]


def rule_for(step: Step) -> Rule | None:
    """The rule of a step's operation, or that of all elementwise ones; None where the arithmetic is not opened."""
    if step.operation.startswith("grid_sampler") and not isinstance(step.arguments[0], Ref):
        return None  # in the places alone it is not linear
    if step.operation in RULES:
        return RULES[step.operation]
    pointwise = step.function is not None and torch.Tag.pointwise in step.function.tags
    return elementwise.pointwise if pointwise else None
