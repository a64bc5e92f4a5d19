"""What a layer gives for the images of a set: batches of them, run as far as that layer."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn

from ...errors import UsageError, printable
from ...models import Axes
from ..capture.forward import at_once, find, hooked, normalised, run, whole_number
from ..capture.layer_axes import follow_layers, no_maps

Images = Tensor | ArrayLike | Iterable[Any]
"""Normalised floats `(N, C, H, W)`: a tensor, an array (memory-mapped where it is large), or batches of that form."""


class Tap:
    """Runs a model as far as a layer, and gives that layer's output.

    The first pass goes to the end, with one image, counts how often the layer runs and finds what its axes mean; later
    ones stop behind its last run. Used inside `preserve_state`.
    """

    def __init__(self, model: nn.Module, layer: str) -> None:
        self.model, self.layer = model, layer
        self.part = find(model, layer)
        self.runs = 0
        self.vectors = False
        self._axes: Axes | None = None

    def __call__(self, images: Tensor) -> Any:
        """What the layer gives, before anything after it could change it; None if it does not run.

        May change `images`.
        """
        kept: list[Any] = []

        def keep(_: nn.Module, __: object, output: Any) -> None:
            kept.append(output.clone() if isinstance(output, Tensor) else output)
            if len(kept) == self.runs:
                raise _Reached

        with hooked([self.part], keep), contextlib.suppress(_Reached):
            run(self.model, images)
        return kept[-1] if kept else None

    def axes(self, image: Tensor) -> Axes | None:
        """What the axes of the layer's output mean for one image `(1, C, H, W)`, at its last run."""
        if not self.runs:
            own = follow_layers(self.model, image.clone()).of(self.layer)
            self.runs, self._axes = len(own), own[-1].axes if own else None
        return self._axes


class _Reached(BaseException):
    """Leaves the network's forward. Not an Exception, which the network might catch."""


def batches(model: nn.Module, images: Images, batch_size: int | None) -> Iterator[Tensor]:
    """Copies of the images, at most `batch_size` at once (None: as suits the memory), with the type and in the place of
    the model's weights.

    Raises:
        UsageError: `image-shape`: no `(N, C, H, W)`, or sizes differ; `image-values`.
    """
    size: tuple[int, ...] | None = None
    whole = isinstance(images, Tensor) or hasattr(images, "__array__") or len(getattr(images, "shape", ())) == 4
    given: Any
    for given in [images] if whole else cast(Iterable[Any], images):
        shape = tuple(getattr(given, "shape", ()))
        if len(shape) != 4:
            raise UsageError(
                "images",
                "expected batches of images (N, C, H, W); received "
                + (f"shape {shape}" if shape else type(given).__name__),
                code="image-shape",
            )
        if size is not None and shape[1:] != size:
            raise UsageError("images", f"expected one size, got {size} and {shape[1:]}", code="image-shape")
        size = shape[1:]
        together = batch_size or at_once(model, size, 64)
        for start in range(0, shape[0], together):
            part = given[start : start + together]
            yield normalised(model, part if isinstance(part, Tensor) else torch.from_numpy(np.array(part)), "images")


def maps_from(tap: Tap, images: Tensor) -> Tensor:
    """The layer's maps `(N, channels, h, w)`, however its axes are ordered; vectors as maps of one cell.

    May change `images`.

    Raises:
        UsageError: `layer-map`.
    """
    one = images[:1].clone()
    axes = tap.axes(one)
    if axes is not None and axes.grid is not None and not axes.grid.batched and len(images) > 1:
        return torch.cat([maps_from(tap, each[None]) for each in images])
    output = tap(images)
    tap.vectors = False
    if isinstance(output, Tensor) and output.numel():
        if axes is not None and axes.grid is not None:
            return axes.grid.maps(output)
        tap.vectors = output.ndim == 2 and len(output) == len(images)
        if tap.vectors or (axes is not None and output.ndim == 4 and math.prod(axes.shape[2:]) == 1):
            return output.reshape(len(images), -1, 1, 1)
    got = (
        f"gives {tuple(output.shape)}{no_maps(axes)}"
        if isinstance(output, Tensor)
        else f"gives {type(output).__name__}"
    )
    raise UsageError(
        "layer",
        f"expected a layer with maps (N, channels, h, w) or vectors (N, channels); {printable(tap.layer)!r} "
        + (got if tap.runs else "does not run for these images"),
        code="layer-map",
    )


def chosen_channels(channels: Sequence[int] | None, count: int) -> list[int]:
    """Those asked for, each once, of a layer with that many."""
    if channels is None:
        return list(range(count))
    return list(dict.fromkeys(whole_number("channel", channel, 0, count - 1, "channel-range") for channel in channels))
