"""Traces, answers to "why?", gradients and training steps as users get them: with their texts and pictures.

Each extends one of the plain records of the rooms below.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from PIL import Image
from torch import Tensor, nn

from ..render import columns, notebook, small_sheet
from ..training import Normalisation
from .arithmetic.gradients import Descent, Gradients, descend, gradients_of
from .arithmetic.solve import follow, solve
from .arithmetic.terms import Arithmetic, GradientSum
from .capture.recorder import record
from .capture.records import Recording
from .drawings import text as texts
from .drawings.arithmetic_figure import why_figure
from .drawings.overview import overview


class _Printed:
    """Something that is a text, in a terminal and in a notebook."""

    def text(self) -> str:
        """For a terminal."""
        raise NotImplementedError

    def __str__(self) -> str:
        return self.text()

    def __repr__(self) -> str:
        lines = self.text().splitlines()
        return "\n".join(line[:160] for line in lines[:5]) + ("\n..." if len(lines) > 5 else "")

    def _repr_html_(self) -> str:
        return notebook(columns(self.text()))


@dataclass(frozen=True, eq=False, repr=False)
class Trace(Recording):
    """All steps of one image through one network, and the arithmetic of every number in them."""

    def why(self, layer: str, *index: int) -> Why:
        """The arithmetic of one unit.

        Args:
            layer: a step's name.
            *index: channel, y, x of a map; the number of a unit of a vector; else one number for each axis of
                `Step.shape`.

        Raises:
            UsageError: `layer-unknown`, `unit-unknown`.
        """
        return Why(**vars(solve(self, layer, index)))

    def _repr_html_(self) -> str:
        return notebook(small_sheet(overview(self), "every layer of the network"))

    def __repr__(self) -> str:
        return f"<Trace of {len(self.steps)} steps, {self.steps[0].name} to {self.steps[-1].name}>"


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class Why(_Printed, Arithmetic):
    """The arithmetic of one unit, in words, as a program and as a picture."""

    def open(self, number: int) -> Why:
        """The arithmetic of the input of one term, so that any number can be followed down to the pixels.

        Raises:
            UsageError: the term is a padding cell or a constant (`term-closed`), or there is no such term
                (`term-unknown`).
        """
        return Why(**vars(follow(self, number)))

    def text(self, *, all: bool = False) -> str:
        """For a terminal: short, or with every product."""
        return texts.why_text(self, all=all)

    def snippet(self) -> str:
        """A PyTorch program of a few lines that prints `sum`."""
        return texts.why_snippet(self)

    def figure(self) -> Image.Image:
        """The arithmetic as a picture: what came in, the weights, the products, and the sum."""
        return why_figure(self)


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class GradientWhy(_Printed, GradientSum):
    """The gradient of the loss by one weight, in words."""

    def text(self, *, all: bool = False) -> str:
        """For a terminal: short, or with every term."""
        return texts.gradient_text(self, all=all)


@dataclass(frozen=True, eq=False, repr=False)
class Backward(Gradients):
    """A loss and its gradients, each of which opens into its sum."""

    def __repr__(self) -> str:
        return f"<Backward of {len(self.gradients)} parameters, loss {float(self.loss):.6g}>"

    def why(self, parameter: str, *index: int) -> GradientWhy:
        """The sum that makes one gradient.

        Args:
            parameter: such as `conv1.weight`.
            *index: the place in the tensor, such as filter, channel, y, x.

        Raises:
            UsageError: there is no such weight (`parameter-unknown`, `unit-unknown`), or it is used by an operation
                whose arithmetic is not opened (`parameter-closed`).
        """
        return GradientWhy(**vars(self.solve(parameter, index)))


@dataclass(frozen=True, eq=False, repr=False)
class TrainingStep(_Printed, Descent):
    """One step of plain gradient descent, opened."""

    backward: Backward

    def text(self) -> str:
        """Every number of the step, for small models."""
        return texts.step_text(self)


def trace(
    model: nn.Module,
    image: Tensor,
    *,
    pixels: Tensor | None = None,
    normalisation: Normalisation | None = None,
    classes: Sequence[str] = (),
) -> Trace:
    """Send one image through a network in eval mode and record every operation.

    The network is left as it was found: no hooks, the same modes, gradients and weights, the same random state.

    Args:
        model: any module that takes `(1, C, H, W)`.
        image: float32 `(C, H, W)` or `(1, C, H, W)`, normalised as in training.
        pixels: the image in 0..255, `(1, C, H, W)`, if the trace is to reach down to it.
        normalisation: how `image` was made from `pixels`.
        classes: names of the scores.

    Returns:
        The trace; its tensors share memory with nothing that the caller holds.

    Raises:
        UsageError: the network fails on this image (`model-module`), or the image has no such shape (`image-shape`).
    """
    return Trace(**vars(record(model, image, pixels=pixels, normalisation=normalisation, classes=classes)))


def backward(
    model: nn.Module, images: Tensor, loss: Callable[[Tensor], Tensor] | Tensor | int, *, training: bool = False
) -> Backward:
    """The gradients of a loss by every weight, and what is needed to open each into its sum.

    The network is left as it was found; its `.grad` is not touched.

    Args:
        model: any module.
        images: float32 `(C, H, W)` or `(N, C, H, W)`, normalised.
        loss: a function from raw scores `(N, K)` to a scalar; or target classes, for the mean cross-entropy (of one
            sigmoid where the model gives one score).
        training: run norms and dropout as in training; by default as in use.

    Raises:
        UsageError: the network fails on these images (`model-module`), or the targets do not fit (`target-unknown`).
    """
    return Backward(**vars(gradients_of(model, images, loss, training=training)))


def training_step(
    model: nn.Module, images: Tensor, targets: Tensor | int, *, learning_rate: float = 0.1
) -> TrainingStep:
    """One step of gradient descent on a copy of the network: prediction, loss, gradients, update.

    The network itself stays as it is.

    Args:
        model: any module; meant for small ones.
        images: float32 `(C, H, W)` or `(N, C, H, W)`, normalised.
        targets: the right class of each image.
        learning_rate: above 0.

    Raises:
        UsageError: as `backward`, or the rate is not a positive number (`rate-out-of-range`).
    """
    found = descend(model, images, targets, learning_rate=learning_rate)
    return TrainingStep(**{**vars(found), "backward": Backward(**vars(found.backward))})
