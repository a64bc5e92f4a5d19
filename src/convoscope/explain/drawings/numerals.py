"""Numbers as people write them on a sheet."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]


def number(value: float, digits: int = 4) -> str:
    """A number with `digits` meaningful digits, whole ones up to seven digits as they are, with a real minus sign."""
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else "∞" if value > 0 else "−∞"
    whole = value == int(value) and abs(value) < 1e7
    text = str(int(value)) if whole else f"{value:.{digits}g}"
    mantissa, _, power = text.partition("e")
    return (f"{mantissa}e{int(power)}" if power else text).replace("-", "−")


def cell_texts(values: Floats) -> list[str]:
    """Numbers for cells that are looked at together: few digits, the same number of decimals, an exact zero as 0."""
    flat = np.asarray(values, np.float64).ravel()
    finite = flat[np.isfinite(flat)]
    top = float(np.abs(finite).max(initial=0))
    if np.all(finite == np.round(finite)) and top < 1e5:
        decimals, kind = 0, "f"
    elif 0.01 <= top < 1e5:
        decimals, kind = min(3, max(0, 2 - math.floor(math.log10(top)))), "f"
    else:
        decimals, kind = 1, "e"
    return [
        number(value) if value == 0 or not math.isfinite(value) else _plain(f"{value:z.{decimals}{kind}}")
        for value in flat.tolist()
    ]


def aligned_texts(values: Sequence[float], digits: int = 8) -> list[str]:
    """Numbers in a column: the same decimals, `digits` meaningful ones for the largest."""
    finite = [abs(value) for value in values if math.isfinite(value)]
    top = max(finite, default=0.0)
    if all(math.isfinite(value) and value == round(value) for value in values) and top < 1e7:
        return [number(value) for value in values]
    if top and not 1e-3 <= top < 1e7:
        return [number(value, digits) for value in values]
    decimals = max(0, digits - 1 - math.floor(math.log10(top))) if top else 1
    return [_plain(f"{value:.{decimals}f}") if math.isfinite(value) else number(value) for value in values]


def _plain(text: str) -> str:
    mantissa, _, power = text.partition("e")
    return (f"{mantissa}e{int(power)}" if power else text).replace("-", "−")


def times(shape: Iterable[int]) -> str:
    """A shape as people write it: 64 × 112 × 112."""
    return " × ".join(map(str, shape))
