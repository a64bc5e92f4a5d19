"""Why this number? The complete arithmetic of one unit, from the numbers that were recorded, in float64.

Each operation of the catalogue has one rule that lists its terms. `sum` is what the terms give in float64, `recorded`
what the network computed, and `bound` how far float32 may be away from it: a sum of n products of which each is rounded
is off by at most n u / (1 - n u) times the sum of their absolute values, in whatever order it is added up (Higham 2002,
section 3.1), u = 2^-24.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch

from ...errors import UsageError
from ...free_memory import ran_out
from ..capture.records import Recording, Step
from .rules import Parts, rule_for
from .rules.operands import doubled, piece
from .terms import Arithmetic, Floats, Unit, rounding_bound


def solve(recording: Recording, layer: str, index: Sequence[int]) -> Arithmetic:
    """The arithmetic of one unit of a layer; see `Trace.why`.

    Raises:
        UsageError: `layer-unknown`, `unit-unknown`, `number-complex`, `trace-outdated`.
    """
    step = recording[layer]
    place = _place(step, index)
    recorded = step.value(place)
    recording.check_unchanged(step)
    full = place if len(place) == step.output.ndim else (0, *place)
    return _arithmetic(recording, step, place, _parts(recording, step, full), recorded)


def follow(found: Arithmetic, number: int) -> Arithmetic:
    """The arithmetic of the input of one term; see `Why.open`.

    Raises:
        UsageError: `term-closed`, `term-unknown`.
    """
    if not 0 <= number < len(found):
        raise UsageError(
            "term", f"{found.unit} has terms 0 to {len(found) - 1}; received {number}", code="term-unknown"
        )
    source = found.term(number).source
    if source is None:
        raise UsageError("term", f"term {number} of {found.unit} is not a computed number", code="term-closed")
    return solve(found.recording, source.layer, source.index)


def _place(step: Step, index: Sequence[int]) -> tuple[int, ...]:
    shape = step.shape
    place = tuple(int(i) for i in index)
    if len(shape) == 1 and len(place) == 3 and place[1:] == (0, 0):
        place = place[:1]
    inside = len(place) == len(shape) and all(0 <= i < n for i, n in zip(place, shape, strict=True))
    if not inside:
        words = {3: "channel, y, x", 1: "the unit's number"}.get(len(shape), f"{len(shape)} numbers")
        limits = ", ".join(f"0 to {n - 1}" for n in shape)
        raise UsageError(
            "unit",
            f"{step.name} needs {words}, in {limits}; received {', '.join(map(str, index)) or 'nothing'}",
            hint=f"its middle: {step.name}:{','.join(str(n // 2) for n in shape)}",
            code="unit-unknown",
        )
    return place


def _parts(recording: Recording, step: Step, full: tuple[int, ...]) -> Parts:
    if not step.inputs:
        empty: Floats = np.zeros(0)
        words = "what goes in: nothing computes it"
        return Parts(empty, None, empty, [], words, "value", total=float(step.output[full]))
    rule = None if step.opaque else rule_for(step)
    return _as_a_whole(recording, step, full) if rule is None else rule(recording, step, full)


def _as_a_whole(recording: Recording, step: Step, full: tuple[int, ...]) -> Parts:
    """An operation outside the catalogue, run in float64 as a whole."""
    empty: Floats = np.zeros(0)
    recorded = float(step.output[full])
    if step.function is None or step.opaque:
        return Parts(empty, None, empty, [], step.opaque or "not opened", "whole", total=recorded)
    words = f"torch's {step.operation} of {', '.join(step.inputs)}"
    try:
        with torch.no_grad():
            result = step.function(*doubled(recording, step.arguments), **doubled(recording, step.keywords))
        total = float(piece(step, result)[full])
    except Exception as error:
        if ran_out(error):
            raise
        # Some kernels know float32 alone.
        words += ": its arithmetic is not opened, and it does not run in float64"
        return Parts(empty, None, empty, [], words, "whole", total=recorded)
    words += ", run as a whole in float64: its arithmetic is not opened"
    sizes = [recording.steps[number].output.double().abs() for number in step.references()]
    most = max(float(size.max()) for size in sizes if size.numel())
    return Parts(empty, None, empty, [], words, "whole", total=total, roundings=64, magnitude=abs(total) + most)


def _arithmetic(recording: Recording, step: Step, place: tuple[int, ...], parts: Parts, recorded: float) -> Arithmetic:
    total = parts.total
    if total is None:
        total = math.fsum(parts.products) + (parts.bias or 0.0)
    magnitude = parts.magnitude
    if magnitude is None:
        magnitude = float(np.abs(parts.products).sum()) + abs(parts.bias or 0.0)
    precision = torch.finfo(step.output.dtype if step.output.is_floating_point() else torch.float64)
    bound = 0.0
    if parts.roundings and math.isfinite(magnitude):  # what is infinite is not rounded
        # Near zero the steps between numbers are of one size.
        least = parts.roundings * precision.smallest_normal * (precision.eps / 2)
        bound = rounding_bound(parts.roundings, precision.eps, magnitude) + least
    weights = parts.weight_sources
    return Arithmetic(
        unit=Unit(step.name, place, step),
        kind=step.kind,
        form=parts.form,
        words=parts.words,
        inputs=parts.inputs,
        weights=parts.weights,
        products=parts.products,
        bias=parts.bias,
        sum=total,
        recorded=recorded,
        bound=bound,
        constants=parts.constants,
        shape=parts.shape or (len(parts.inputs),),
        winner=parts.winner,
        function=parts.function,
        recording=recording,
        _sources=[(-1 if ref is None else ref.step, places) for ref, places in parts.sources],
        _weight_sources=None if weights is None else (weights[0].step, weights[1]),
    )
