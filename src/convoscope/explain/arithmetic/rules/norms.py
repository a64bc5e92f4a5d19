"""Norms, the scaling of pixels, and softmax."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

import numpy as np

from ...capture.records import Recording, Ref, Step
from ..terms import Floats, Ints
from .operands import flat_place, flat_places, floats, number_at, picked, tensor_of
from .registry import Parts, rule


@dataclass(frozen=True)
class _Formula:
    """The constants of (x - mean) / sqrt(variance + epsilon) * scale + shift."""

    mean: float
    variance: float
    epsilon: float
    scale: float
    shift: float


def _normed(
    recording: Recording, source: Ref, place: Ints, formula: _Formula, words: str, *, measured: Floats | None = None
) -> Parts:
    """A norm as one product and one number added.

    Args:
        measured: the numbers whose mean and variance were taken on the way; None where both were known before.
    """
    x = float(picked(recording, source, place)[0])
    factor = formula.scale / math.sqrt(formula.variance + formula.epsilon)
    roundings, size = 8, 0.0
    if measured is not None:  # mean and variance are themselves sums of n rounded numbers
        roundings += measured.size
        size = float(np.abs(measured).mean()) + 2 * math.sqrt(formula.variance) + abs(formula.mean)
    return Parts(
        np.array([x]),
        np.array([factor]),
        np.array([x * factor]),
        [(source, place)],
        words,
        "norm",
        bias=formula.shift - formula.mean * factor,
        total=(x - formula.mean) * factor + formula.shift,
        roundings=roundings,
        magnitude=abs(x * factor) + abs(formula.mean * factor) + abs(formula.shift) + size * abs(factor),
        constants=dataclasses.asdict(formula),
    )


def _normed_by_itself(
    recording: Recording, step: Step, full: tuple[int, ...], values: Floats, own: tuple[float, float, float], words: str
) -> Parts:
    """A norm over numbers of this image; `own`: epsilon, scale and shift."""
    source = step.arguments[0]
    place = flat_place(tensor_of(recording, source).shape, full)
    formula = _Formula(float(values.mean()), float(values.var()), *own)
    return _normed(recording, source, place, formula, words, measured=values)


@rule(
    "native_batch_norm",
    "_native_batch_norm_legit_no_training",
    "_native_batch_norm_legit",
    "cudnn_batch_norm",
    "_batch_norm_no_update",
)
def batch_norm(recording: Recording, step: Step, full: tuple[int, ...]) -> Parts:
    """A channel by its learned mean and variance; in training by those of the batch."""
    source, weight, bias, mean, variance = step.arguments[:5]
    taken = tensor_of(recording, source)
    channel = full[1]
    scale, shift = number_at(recording, weight, channel, 1.0), number_at(recording, bias, channel, 0.0)
    numbers = [argument for argument in step.arguments[3:] if isinstance(argument, int | float)]
    eps = float(step.keywords.get("eps", numbers[-1]))
    no_training = "no_training" in step.operation or "no_update" in step.operation
    training = not no_training and any(argument is True for argument in step.arguments[3:])
    if training or mean is None:
        values = floats(taken[:, channel])
        words = f"norm over its own {values.size} cells"
        return _normed_by_itself(recording, step, full, values, (eps, scale, shift), words)
    formula = _Formula(
        float(tensor_of(recording, mean)[channel]), float(tensor_of(recording, variance)[channel]), eps, scale, shift
    )
    place = flat_place(taken.shape, full)
    return _normed(recording, source, place, formula, "batch norm with its learned mean and variance")


@rule("native_layer_norm")
def layer_norm(recording: Recording, step: Step, full: tuple[int, ...]) -> Parts:
    """All numbers of the last axes together."""
    source, shape, weight, bias, eps = step.arguments[:5]
    taken = tensor_of(recording, source)
    outer = taken.ndim - len(shape)
    values, inner = floats(taken[full[:outer]]), full[outer:]
    own = float(eps), number_at(recording, weight, inner, 1.0), number_at(recording, bias, inner, 0.0)
    return _normed_by_itself(recording, step, full, values, own, f"layer norm over {values.size} numbers")


@rule("native_group_norm")
def group_norm(recording: Recording, step: Step, full: tuple[int, ...]) -> Parts:
    """A group of channels together."""
    source, weight, bias, _, channels, _, groups, eps = step.arguments[:8]
    taken = tensor_of(recording, source)
    each = channels // groups
    group = full[1] // each
    values = floats(taken[full[0], group * each : (group + 1) * each])
    own = float(eps), number_at(recording, weight, full[1], 1.0), number_at(recording, bias, full[1], 0.0)
    return _normed_by_itself(recording, step, full, values, own, f"group norm over {values.size} numbers")


@rule("normalise")
def normalise(recording: Recording, step: Step, full: tuple[int, ...]) -> Parts:
    """A pixel on its way into the network."""
    mean, std = step.keywords["mean"][full[1]], step.keywords["std"][full[1]]
    flat = flat_place(step.output.shape, full)
    x = float(picked(recording, step.arguments[0], flat)[0])
    factor = 1 / (std * 255)
    return Parts(
        np.array([x]),
        np.array([factor]),
        np.array([x * factor]),
        [(step.arguments[0], flat)],
        "the pixel minus the training images' mean, divided by their standard deviation",
        "scaling",
        bias=-mean * 255 * factor,
        total=(x - mean * 255) * factor,
        roundings=8,
        constants={"mean": mean * 255, "std": std * 255},
    )


@rule("_softmax", "_safe_softmax", "_log_softmax")
def softmax(recording: Recording, step: Step, full: tuple[int, ...]) -> Parts:
    """Exponentials along one axis, and the share of this one."""
    source, dim = step.arguments[:2]
    taken = tensor_of(recording, source)
    dim %= taken.ndim
    count = taken.shape[dim]
    places = [np.full(count, i) for i in full]
    places[dim] = np.arange(count)
    flat = flat_places(taken.shape, places)
    inputs = picked(recording, source, flat)
    top = float(inputs.max())
    # Where all numbers are masked out, by -inf, the safe softmax gives zeros.
    nothing = top == -math.inf and step.operation == "_safe_softmax"
    powers = np.zeros(count) if nothing else np.exp(inputs - top)
    total = float(powers.sum())
    own = 0.0 if nothing else float(powers[full[dim]] / total)
    log = step.operation == "_log_softmax"
    span = float(np.abs(inputs[np.isfinite(inputs)]).max(initial=0)) * 2
    formula = "exp(own - largest) / sum of exp(each - largest)"
    return Parts(
        inputs,
        None,
        powers,
        [(source, flat)],
        f"{'logarithm of the ' if log else ''}softmax over {count} numbers: {formula}",
        "log-softmax" if log else "softmax",
        total=math.log(own) if log and own > 0 else own,
        roundings=count + 8,
        magnitude=(1 + span) * (1.0 if log else own),
        constants={"largest": top, "total": total},
    )
