"""Evaluation mode for a while: the one place that switches a module's modes and puts them back."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn


@contextlib.contextmanager
def eval_mode(module: nn.Module) -> Iterator[None]:
    """Evaluation mode inside; afterwards every part of the module is in the mode it was in, also after an error.

    The parts need not all be in the same mode: frozen batch norms, for instance, stay in evaluation mode in training.
    What torch.export has written and torch.jit has frozen has no modes any more, and runs as it is.
    """
    modes = {part: part.training for part in module.modules() if hasattr(part, "training")}
    try:
        if module in modes:
            with contextlib.suppress(NotImplementedError):
                module.eval()
        yield
    finally:
        for part, training in modes.items():
            part.training = training
