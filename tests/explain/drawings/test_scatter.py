"""Points of classes: marks that differ, and what is left out."""

from typing import Any

import numpy as np
import pytest

from convoscope import explain as figures
from convoscope.explain.drawings import scatter as points
from tests.support.figures import is_sheet, random


@pytest.mark.parametrize("classes", [1, 2, 10, 20, 70])
def test_scatter(classes: int, written: list[str]) -> None:
    labels = np.arange(300) % classes
    sheet = figures.scatter(random.normal(size=(300, 2)), labels, [f"class {n}" for n in range(classes)], [0.5, 0.25])
    assert is_sheet(sheet) and sheet.width < 1600 and sheet.height < 1000
    assert "class 0" in written and "first axis: 50.0 % of the variance" in written
    assert any("marks repeat" in text for text in written) == (classes > 28)


def test_marks_of_classes_differ() -> None:
    marks = {points._legend_mark(kind).tobytes() for kind in range(28)}
    assert len(marks) == 28


@pytest.mark.parametrize(
    "points",
    [
        np.zeros((4, 2)),
        np.full((4, 2), np.nan),
        np.array([[0.0, 1.0]] * 3 + [[np.inf, 0.0]]),
        np.array([[0.0, 0.0], [1e9, 1e-9]]),
    ],
)
def test_scatter_of_degenerate_points(points: Any, written: list[str]) -> None:
    assert is_sheet(figures.scatter(points, np.zeros(len(points)), ["a"]))
    assert any("left out" in text for text in written) == (not np.isfinite(points).all())
