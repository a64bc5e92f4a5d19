"""Patches that excite a channel."""

import numpy as np

from convoscope import explain as figures
from tests.support.figures import is_sheet, random


def test_patches(written: list[str]) -> None:
    patches = [(random.integers(0, 256, (side, 9, 3)).astype(np.uint8), value) for side, value in ((9, 2.0), (5, 1.25))]
    sheet = figures.patches_sheet([("conv1, channel 3", patches), ("none here", []), ("w" * 99, patches[:1])])
    assert is_sheet(sheet) and sheet.width < 800
    assert {"conv1, channel 3", "2.00", "1.25", "none"} <= set(written)
    assert is_sheet(figures.patches_sheet([]))
