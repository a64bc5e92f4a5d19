"""Maps over an image: their colours, and the control below."""

from typing import Any

import numpy as np
import pytest

from convoscope import explain as figures
from convoscope.explain.drawings import attributions
from tests.support.figures import colour_of, is_sheet, random


@pytest.mark.parametrize("shape", [(5, 5, 1), (28, 28), (224, 224, 3), (300, 100, 3), (1, 1, 1)])
def test_attributions(shape: Any, written: list[str]) -> None:
    image = random.integers(0, 256, shape).astype(np.uint8)
    maps = [
        ("grad_cam", random.random((7, 7))),
        ("gradients", random.normal(size=shape[:2])),
        ("same", np.zeros(shape[:2])),
    ]
    controls = [(random.random((7, 7)), 0.83), (random.normal(size=shape[:2]), -0.6), None]
    sheet = figures.attribution_sheet(image, maps, controls)
    assert is_sheet(sheet)
    assert written.count("with shuffled weights") == 2
    said = " ".join(written)
    assert "Similarity 0.83: much the same" in said and "Similarity −0.60: quite different" in said


def test_a_map_without_negative_numbers_is_red_over_the_image() -> None:
    image = np.full((64, 64), 128, np.uint8)
    values = np.zeros((64, 64))
    values[:, 32:] = 1
    left, right = (
        np.array(colour_of(attributions._overlay(image[..., None], values, 128), x, 0.5), int) for x in (0.25, 0.75)
    )
    assert np.ptp(left) == 0  # zero: the image alone, in grey
    assert right[0] > right[1] + 60 and right[0] > right[2] + 60
    blue = np.array(colour_of(attributions._overlay(image[..., None], -values, 128), 0.75, 0.5), int)
    assert blue[2] > blue[0] + 60


def test_full_colour_of_large_maps_leaves_out_the_very_largest() -> None:
    values = np.concatenate([np.linspace(0, 1, 9999), [1000.0]]).reshape(100, 100)
    assert attributions._full_from(values) == pytest.approx(0.995, abs=0.001)
    assert attributions._full_from(np.zeros((100, 100))) == 0
    spike = np.zeros((100, 100))
    spike[0, 0] = 5
    assert attributions._full_from(spike) == 5
