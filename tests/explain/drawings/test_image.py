"""An image and its channels: every shape has its sheet, in its own colours."""

from typing import Any

import numpy as np
import pytest

from convoscope import explain as figures
from tests.support.figures import has, is_sheet, random


@pytest.mark.parametrize(
    "shape", [(5, 5), (5, 5, 1), (1, 1, 3), (28, 28, 1), (28, 28, 3), (28, 3, 2), (224, 224, 3), (9, 9, 4), (300, 7, 5)]
)
@pytest.mark.parametrize("unit", [False, True])
def test_image_sheets(shape: Any, unit: Any, written: list[str]) -> None:
    pixels = random.integers(0, 256, shape).astype(np.uint8)
    assert is_sheet(figures.image_sheet(pixels, unit=unit))
    channels = shape[2] if len(shape) == 3 else 1
    assert ("red" in written) == (channels in (3, 4))
    assert "image" in written and ("grey" in written or channels > 4)
    small = max(shape[:2]) <= 28
    first = pixels.reshape(-1)[0]
    assert (f"{first / 255:.2f}" if unit else str(first)) in written or not small


def test_channels_have_their_own_colour() -> None:
    pixels = np.full((40, 40, 3), 255, np.uint8)
    sheet = figures.image_sheet(pixels)
    assert all(has(sheet, colour) for colour in ((255, 0, 0), (0, 255, 0), (0, 0, 255)))
