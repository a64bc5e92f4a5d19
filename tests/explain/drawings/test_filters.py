"""Filters: every shape has its sheet."""

from typing import Any

import pytest

from convoscope import explain as figures
from tests.support.figures import is_sheet, random


@pytest.mark.parametrize(
    "shape",
    [
        (1, 1, 1, 1),
        (4, 1, 3, 3),
        (32, 1, 3, 3),
        (64, 3, 7, 7),
        (512, 512, 3, 3),
        (8, 3, 11, 11),
        (6, 40, 1, 1),
        (2, 3, 16, 4),
    ],
)
def test_filter_sheets(shape: Any, written: list[str]) -> None:
    weights = random.normal(size=shape)
    sheet = figures.filter_sheet(weights, "conv")
    assert is_sheet(sheet) and sheet.width < 2600 and sheet.height < 4000
    assert "conv" in written and "filter 0" in written
    said = " ".join(written)
    assert ("the first 64 of 512 filters shown" in said) == (shape[0] == 512)
    assert ("of each the first 16 of" in said) == (shape[1] > 16)
