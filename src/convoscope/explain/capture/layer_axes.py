"""What the axes of each layer's output mean, found in one run of the network on one image."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from ...models import Axes, AxisFollower, OperationMode
from .forward import hooked, run

Found = Callable[[nn.Module, Any, Axes | None], None]


class _Following(OperationMode):
    def __init__(self, image: Tensor) -> None:
        super().__init__()
        self.follower = AxisFollower(image)

    def operation(self, func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        result = func(*args, **kwargs)
        self.follower.ran(func, tuple(args), kwargs, result)
        return result


def follow_axes(model: nn.Module, image: Tensor, found: Found) -> None:
    """Run `model` on one image `(1, C, H, W)` and call `found` with each module that ends, what it gives, and its axes.

    Used inside `preserve_state`. The axes are None where the module gives no tensor, or one that no operation of torch
    made from the image. The model may change `image` in place: give a copy.
    """
    following = _Following(image)

    def leave(part: nn.Module, _: object, output: Any) -> None:
        found(part, output, following.follower.of(output) if isinstance(output, Tensor) else None)

    with hooked(model.modules(), leave), torch.no_grad(), following:
        run(model, image)
