"""What the axes of each layer's output mean, found in one run of the network on one image."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.weak import WeakTensorKeyDictionary

from ...models import Axes, AxisFollower, Grid, OperationMode
from .forward import hooked, run


@dataclass(frozen=True, eq=False)
class LayerRun:
    """One run of one module.

    Attributes:
        part, path: the module.
        gives: its output's shape, or the name of its type where that is no tensor.
        axes: what they mean; None of what is no tensor, or was not made from the image by torch's operations.
        takes: the numbers of the earlier runs whose very output went in.
    """

    part: nn.Module
    path: str
    gives: tuple[int, ...] | str
    axes: Axes | None
    takes: tuple[int, ...]

    @property
    def grid(self) -> Grid | None:
        """Its output as maps of more than one cell."""
        return None if self.axes is None else self.axes.grid


@dataclass(frozen=True, eq=False)
class LayerRuns:
    """Every run of every module.

    Attributes:
        runs: in the order in which they end.
        attending: the paths of modules that weigh places by attention themselves.
    """

    runs: tuple[LayerRun, ...]
    attending: frozenset[str]

    def of(self, path: str) -> list[LayerRun]:
        """The runs of one module."""
        return [each for each in self.runs if each.path == path]


def no_maps(axes: Axes | None) -> str:
    """Why an output is no maps, for the end of a sentence; empty where its shape says it."""
    if axes is None or len(axes.shape) < 3:
        return ""
    if axes.unknown:
        return f", whose axes are not known: {axes.unknown}"
    if axes.paired:
        return ", the weights of attention, each of which belongs to two places"
    if axes.placed:
        return ", whose numbers do not form rows and columns of the image"
    return ", whose numbers do not belong to single places of the image"


def follow_layers(model: nn.Module, image: Tensor) -> LayerRuns:
    """Run `model` on one image `(1, C, H, W)`. Used inside `preserve_state`.

    The model may change `image` in place: give a copy.

    Raises:
        UsageError: `model-module`: it fails on the image.
    """
    following = _Following(model, image)
    with following.hooks(), torch.no_grad(), following:
        run(model, image)
    return LayerRuns(tuple(following.runs), frozenset(following.attending))


class _Following(OperationMode):
    def __init__(self, model: nn.Module, image: Tensor) -> None:
        super().__init__()
        self.runs: list[LayerRun] = []
        self.attending: set[str] = set()
        self._follower = AxisFollower()
        self._follower.begin(image)
        self._paths = {part: path for path, part in model.named_modules()}
        self._running: list[str] = []
        self._made: Any = WeakTensorKeyDictionary()
        """The numbers of the runs that gave a tensor: dropout that is off passes on its input itself."""

    @contextlib.contextmanager
    def hooks(self) -> Iterator[None]:
        with hooked(self._paths, self._enter, before=True), hooked(self._paths, self._leave):
            yield

    def _enter(self, part: nn.Module, _: object) -> None:
        self._running.append(self._paths[part])

    def _leave(self, part: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        path = self._running.pop()
        taken = inputs[0] if inputs and isinstance(inputs[0], Tensor) else None
        takes = () if taken is None else self._made.get(taken, ())
        is_tensor = isinstance(output, Tensor)
        gives = tuple(output.shape) if is_tensor else type(output).__name__
        axes = self._follower.of(output) if is_tensor else None
        if is_tensor:
            self._made[output] = (*self._made.get(output, ()), len(self.runs))
        self.runs.append(LayerRun(part, path, gives, axes, takes))

    def operation(self, func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        result = func(*args, **kwargs)
        self._follower.ran(func, tuple(args), kwargs, result)
        if func._overloadpacket.__name__ in ("bmm", "matmul") and self._running:
            # Attention multiplies what has places by what has places, or by the network's own queries.
            first, second = self._follower.of(args[0]), self._follower.of(args[1])
            if second is not None and second.placed and (first is not None or second.names[-1] != "channel"):
                self.attending.add(self._running[-1])
        return result
