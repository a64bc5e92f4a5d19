"""Charts are well-formed whatever the numbers and names, sheets whatever the images."""

import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from convoscope.evaluation import charts
from convoscope.evaluation.pictures import mistakes_sheet
from convoscope.render import shorten, to_image

span = st.floats(1e-6, 1e6)


@given(st.floats(-1e6, 1e6), span, st.integers(2, 8))
def test_ticks_are_round_and_inside(low: float, width: float, about: int) -> None:
    high = low + width
    places = charts.ticks(low, high, about)
    slack = 1e-6 * max(abs(low), abs(high), 1)
    assert all(low - slack <= place <= high + slack for place in places)
    assert len(places) <= about + 2
    if len(places) > 2:
        assert np.diff(places) == pytest.approx(np.full(len(places) - 1, places[1] - places[0]), rel=1e-3, abs=slack)


@pytest.mark.parametrize("text", ["ASCII", "Ω Ж 猫 🐈", "<script>", "a\nb\x1b[0m", "x" * 300, ""])
def test_any_text_is_well_formed(text: str) -> None:
    names = [text or "a", "b"]
    drawings = [
        charts.confusion_chart([[3, 1], [0, 2]], names),
        charts.pairs_chart(text, [[0.0, 1.0], [2.0, 1.5]]),
        charts.line_chart(
            [charts.Curve(name=text, points=[(1, 2)], colour="blue")], title=text, x=charts.Axis(label=text)
        ),
    ]
    for drawing in drawings:
        ElementTree.fromstring(drawing.svg())
        assert drawing.image(1).size[0] > 10
    assert len(shorten(text, 10)) <= 10


def test_degenerate_curves() -> None:
    cases: list[list[tuple[float, float]]] = [[], [(1.0, 0.0)], [(1.0, 0.5), (2.0, 0.5)], [(1.0, -3.0), (2.0, 1e9)]]
    for points in cases:
        curve = charts.Curve(name="c", points=points, colour="blue")
        ElementTree.fromstring(charts.line_chart([curve], title="t", x=charts.Axis(label="x")).svg())


def test_confusion_picture() -> None:
    image = np.asarray(charts.confusion_image([[3, 1], [0, 0]]))
    assert image.shape == (2, 2, 4)
    assert image[0, 0, 3] == round(255 * 0.75**0.5) and image[0, 1, 3] == round(255 * 0.5)
    assert image[1, 0, 3] == image[1, 1, 3] == 0
    assert image[0, 0, 2] > image[0, 0, 0] and image[0, 1, 0] > image[0, 1, 2]


def test_confused_pairs_come_by_number() -> None:
    pairs = charts.confused_pairs([[5, 2, 0], [7, 1, 0], [0, 3, 9]], "abc")
    assert pairs == [("b", "a", 7, 7 / 8), ("c", "b", 3, 3 / 12), ("a", "b", 2, 2 / 7)]


@pytest.mark.parametrize("shape", [(5, 5, 1), (300, 20, 3), (28, 28, 2), (1, 1, 4)])
def test_sheets_of_any_image(shape: tuple[int, int, int]) -> None:
    image = np.zeros(shape, np.uint8)
    assert to_image(image).size == (shape[1], shape[0])
    sheet = mistakes_sheet([image] * 8, [("is a", "b" * 90)] * 8)
    assert sheet.width == 6 * 190 + 14
