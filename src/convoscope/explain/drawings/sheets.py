"""What the sheets share: a heading with white all round, and numbers taken from tensors and arrays."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

from ...errors import UsageError
from .blocks import column, margin
from .numerals import Floats

PAGE = 1180
"""How wide a sheet's contents are where there is more than fits."""
MOST_NUMBERS = 1600
"""More numbers than this on one sheet of maps nobody reads: then colour only."""


def on_sheet(parts: Sequence[Image.Image]) -> Image.Image:
    """Title, line about it, and the rest, with white all round."""
    head, rest = list(parts[:2]), list(parts[2:])
    return margin(column([column(head, gap=2), *rest], gap=14))


def numbers_of(values: Any, name: str) -> Floats:
    """What a sheet draws; of complex numbers how large they are."""
    if hasattr(values, "detach"):
        values = values.detach().cpu()
        values = (values.abs() if values.is_complex() else values).double().numpy()
    numbers = np.asarray(values, np.float64)
    if not numbers.size:
        raise UsageError(name, f"expected numbers; received none, of shape {numbers.shape}", code="figure-values")
    return numbers
