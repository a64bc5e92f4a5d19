"""Blocks and cells: colours mean what the legend says, and numbers are short."""

import numpy as np
import pytest
from PIL import Image

from convoscope import explain as figures
from convoscope.explain.drawings import blocks, cells, numerals
from convoscope.render import font
from tests.support.figures import BLUE, RED, WHITE, colour_of, random


def test_blue_is_negative_red_is_positive_white_is_zero() -> None:
    values = np.array([[-1.0, 0.0, 0.5, 1.0, np.nan]])
    for block in (cells.coloured(values, 1.0), cells.tile(values, 1.0, 50)):
        negative, zero, half, positive, missing = (colour_of(block, x, 0.5) for x in (0.1, 0.3, 0.5, 0.7, 0.9))
        assert negative == BLUE and positive == RED and zero == WHITE
        assert half[0] > half[2] and RED[1] < half[1] < 255
        assert missing[0] == pytest.approx(missing[1], abs=12) and missing != WHITE
    numbered = cells.cells(cells.coloured(values, 1.0), ["", "", "", "", ""])
    assert [numbered.getpixel((x * 34 + 5, 5)) for x in (0, 1, 3)] == [BLUE, WHITE, RED]


def test_reducing_keeps_means() -> None:
    values = random.normal(size=(224, 224))
    small = cells.resampled(values, (56, 56))
    assert small == pytest.approx(values.reshape(56, 4, 56, 4).mean((1, 3)), abs=1e-5)
    values[100, 100] = np.inf
    assert np.flatnonzero(~np.isfinite(cells.resampled(values, (56, 56)))).tolist() == [25 * 56 + 25]


@pytest.mark.parametrize(
    ("colour", "dark"), [("white", False), ("black", True), ("#c22a35", True), ("#1f5fbf", True), ("#e5a9ae", False)]
)
def test_type_reads_on_every_cell(colour: tuple[int, int, int], dark: bool) -> None:
    assert cells._dark(Image.new("RGB", (1, 1), colour))[0, 0] == dark


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"), (-0.0, "0"), (3.0, "3"), (-1234567.0, "−1234567"), (0.123456, "0.1235"), (-12.3456, "−12.35"), (1e-7, "1e−7"),
        (-1.23456e-9, "−1.235e−9"), (1.5e12, "1.5e12"), (float("nan"), "NaN"), (float("inf"), "∞"), (float("-inf"), "−∞"),
    ],
)  # fmt: skip
def test_numbers(value: float, text: str) -> None:
    assert numerals.number(value) == text


def test_numbers_in_cells_are_short_and_alike() -> None:
    assert numerals.cell_texts(np.array([0.0, 1.23456, -0.5, 0.0001])) == ["0", "1.23", "−0.50", "0.00"]
    assert numerals.cell_texts(np.array([12.0, -255.0])) == ["12", "−255"]
    assert numerals.cell_texts(np.array([0.00123, 0.0])) == ["1.2e−3", "0"]
    assert numerals.cell_texts(np.array([123.4, np.nan])) == ["123", "NaN"]
    assert numerals.aligned_texts([1.5, -0.25], 4) == ["1.500", "−0.250"]


def test_figures_stand_below_one_another() -> None:
    assert len({font(12).getlength(digit) for digit in "0123456789"}) == 1


def test_long_words_are_shortened() -> None:
    assert blocks.words("w" * 500, width=90).width == 90
    assert blocks.paragraph("many words " * 30 + "w" * 200, 200).width <= 200
    assert figures.map_sheet(np.ones((1, 5, 5)), title="w" * 500).width < 1100
