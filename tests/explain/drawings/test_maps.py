"""Sheets of feature maps: every shape and number has a picture, and what is promised is there."""

from typing import Any

import numpy as np
import pytest
from torch import nn

from convoscope import explain as figures
from convoscope.errors import UsageError
from convoscope.explain.drawings import cells, numerals
from tests.support.figures import BLUE, RED, has, is_sheet, net, random

SHAPES = [
    (1, 1, 1), (1, 5, 5), (3, 5, 5), (64, 5, 5), (512, 1, 1), (512, 7, 7), (3, 28, 28), (64, 28, 28), (512, 14, 14),
    (1, 224, 224), (3, 224, 224), (64, 56, 56), (2, 3, 400), (2, 400, 3), (2, 1, 3000), (197, 96), (4, 3, 9, 9), (1,), (10,), (24,), (25,), (160,), (512,), (5000,),
]  # fmt: skip
AWKWARD = {
    "zeros": np.zeros((3, 5, 5)),
    "constant": np.full((3, 5, 5), 2.5),
    "negative": np.full((3, 9, 9), -2.5),
    "NaN": np.full((3, 5, 5), np.nan),
    "one NaN": np.where(np.arange(75).reshape(3, 5, 5) == 7, np.nan, 1.0),
    "large with NaN": np.where(np.arange(3 * 224 * 224).reshape(3, 224, 224) == 7, np.nan, 1.0),
    "infinite": np.where(np.arange(75).reshape(3, 5, 5) % 2 == 0, np.inf, -np.inf),
    "tiny": np.full((2, 3, 3), 5e-324),
    "huge": np.array([[[1e300, -1e300]]]),
    "mixed": np.array([[[1e30, -1e-30, 0.0]]]),
    "float32": np.full((2, 3, 3), 3e38, np.float32),
    "whole": np.arange(-9, 9).reshape(2, 3, 3),
    "boolean": np.eye(4)[None] > 0,
    "NaN vector": np.full(7, np.nan),
    "infinite vector": np.array([np.inf, -np.inf, 1.0]),
}


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("statistics", [False, True])
def test_a_sheet_for_every_shape(shape: Any, statistics: bool, written: list[str]) -> None:
    values = random.normal(size=shape)
    sheet = figures.map_sheet(values, title="a layer", statistics=statistics)
    assert is_sheet(sheet) and sheet.width < 2600 and sheet.height < 4000
    assert written[0] == "a layer"
    assert f"min {numerals.number(values.min())}, max {numerals.number(values.max())}" in written or values.size == 1


@pytest.mark.parametrize("name", AWKWARD)
def test_every_number_has_a_picture(name: str, written: list[str]) -> None:
    values = AWKWARD[name]
    assert is_sheet(figures.map_sheet(values))
    assert is_sheet(figures.map_sheet(values, order="strength", statistics=True))
    flat = values.reshape(values.shape[0], -1) if values.ndim == 3 else values[None]
    assert is_sheet(figures.scores_bars(flat[0]))
    assert is_sheet(figures.filter_sheet(flat[:, None, None]))
    assert is_sheet(figures.attribution_sheet(np.zeros((6, 6), np.uint8), [("a", flat)], [(flat, float("nan"))]))
    assert max(len(text) for text in numerals.cell_texts(values)) <= 8


@pytest.mark.parametrize("side", [5, 20, 300])
def test_the_sheets_keep_the_colours(side: int) -> None:
    values = np.zeros((3, side, side))
    values[1], values[2] = -1, 1
    for sheet in (figures.map_sheet(values), figures.filter_sheet(values[None])):
        assert has(sheet, BLUE) and has(sheet, RED)
    legend = cells.scale_bar(np.ones(1), 1.0).height  # the scale itself has both colours
    only_zero = np.asarray(figures.map_sheet(np.zeros((2, side, side))))
    assert legend and not (only_zero[160:] == RED).all(2).any() and not (only_zero[160:] == BLUE).all(2).any()


def test_pixels_are_grey(written: list[str]) -> None:
    sheet = figures.map_sheet(net(nn.Conv2d(1, 2, 3))["pixels"])
    pixels = np.asarray(sheet).astype(int)
    assert np.ptp(pixels, axis=2).max() < 16  # the greys of type are slightly blue
    assert "pixels as they are" in written


def test_the_range_is_the_data_s(written: list[str]) -> None:
    figures.map_sheet(np.array([[[-0.25, 0.75]]]), title="conv1")
    assert {"min −0.25, max 0.75", "−0.75", "0.75", "blue negative, white zero, red positive"} <= set(written)


def test_what_is_not_shown_is_said(written: list[str]) -> None:
    figures.map_sheet(random.normal(size=(512, 9, 9)))
    assert any("the first 64 of 512 channels shown" in text for text in written)
    assert "63" in written and "64" not in written


def test_the_strongest_come_first(written: list[str]) -> None:
    values = np.ones((20, 9, 9)) * np.arange(20)[:, None, None] * np.where(np.arange(20) % 2, 1, -1)[:, None, None]
    figures.map_sheet(values, order="strength", limit=3)
    assert [text for text in written if text in ("19", "18", "17", "16")][:3] == ["19", "18", "17"]
    assert any("3 of 20 channels shown, the strongest first" in text for text in written)


def test_small_maps_show_their_numbers(written: list[str]) -> None:
    figures.map_sheet(np.arange(49).reshape(1, 7, 7) + 100)
    assert {str(number) for number in range(100, 149)} <= set(written)
    written.clear()
    figures.map_sheet(np.arange(64).reshape(1, 8, 8) + 100)
    assert "120" not in written


def test_silent_channels_are_named(written: list[str]) -> None:
    maps = np.stack([np.zeros((9, 9)), np.ones((9, 9))])
    figures.map_sheet(maps, statistics=True)
    assert written.count("never fires") == 1 and "0 % ≤ 0" in written


@pytest.mark.parametrize("values", [np.zeros((0, 3, 3)), np.zeros(0)])
def test_nothing_is_no_figure(values: Any) -> None:
    with pytest.raises(UsageError, match="expected numbers") as caught:
        figures.map_sheet(values)
    assert caught.value.code == "figure-values"


def test_wrong_shapes_are_named() -> None:
    with pytest.raises(UsageError, match=r"expected filters .* received shape \(3, 3\)"):
        figures.filter_sheet(np.ones((3, 3)))
    with pytest.raises(UsageError, match=r"expected uint8 .* received float64"):
        figures.image_sheet(np.ones((3, 3)))
    with pytest.raises(UsageError, match="saliency: expected a map"):
        figures.attribution_sheet(np.zeros((3, 3), np.uint8), [("saliency", np.ones(3))])
    with pytest.raises(UsageError, match="expected points"):
        figures.scatter(np.ones((3, 3)), [0, 0, 0], ["a"])
    with pytest.raises(UsageError, match="expected labels 0 to 0; received 0 to 1"):
        figures.scatter(np.ones((2, 2)), [0, 1], ["a"])
