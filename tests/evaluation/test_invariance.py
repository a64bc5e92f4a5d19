"""The curves and their ranges."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from convoscope import geometry
from convoscope.evaluation import invariance as room
from convoscope.evaluation.results import Ranges, ShiftPoint
from convoscope.geometry import Pixels


def pictures(seed: int, count: int, height: int, width: int, channels: int = 1) -> Pixels:
    return np.random.default_rng(seed).integers(0, 256, (count, height, width, channels), dtype=np.uint8)


def test_costly_networks_are_measured_on_fewer_images() -> None:
    assert room.plan(10_000, 28, 28, 101_632)[0] == 1000
    assert room.plan(70, 28, 28, 101_632)[0] == 70
    assert room.plan(10_000, 28, 28, 4_241_152) == (500, geometry.grid(28, 28))
    assert room.plan(10_000, 150, 150, 20_000_000) == (100, geometry.grid(150, 150))
    count, points = room.plan(10_000, 224, 224, 1_800_000_000)
    assert count == 100 and points == geometry.grid(224, 224, coarse=True)
    assert room.plan(10_000, 28, 28, None) == room.plan(10_000, 28, 28, None)


@given(st.integers(0, 1000), st.integers(1, 60), st.integers(1, 5), st.integers(1, 60))
def test_the_sample_is_stratified_and_seeded(seed: int, total: int, classes: int, count: int) -> None:
    targets = np.random.default_rng(seed).integers(0, classes, total)
    rows = room.stratified(targets, count, seed)
    assert len(rows) == min(count, total) == len(set(rows.tolist()))
    assert np.array_equal(rows, np.sort(rows))
    assert np.array_equal(rows, room.stratified(targets, count, seed))
    assert set(room.stratified(targets, count // 2, seed).tolist()) <= set(rows.tolist())
    if count < total:
        for k in range(classes):
            share = (targets == k).sum() * count / total
            assert abs((targets[rows] == k).sum() - share) <= 1 + classes / 2
    assert len(room.stratified(np.zeros((total, 2)), count, seed)) == min(count, total)


def test_curves_measure_what_they_say() -> None:
    """A scores_and_distances that is right only about the untouched image or one shifted by two to the right."""
    images = pictures(5, 4, 14, 14)
    accepted = {
        images.tobytes(): 1.0,
        geometry.shift(images, right=2).tobytes(): 0.6,
        geometry.turn(images, 45).tobytes(): 0.4,
    }
    passes: list[int] = []

    def measure(move: room.Move) -> float:
        pixels = move(images)
        passes.append(len(pixels))
        return accepted.get(pixels.tobytes(), 0.0)

    points = geometry.grid(14, 14)
    found = room.curves(measure, len(images), points, chance=0.25)
    assert len(passes) == points.passes
    shift = {point.pixels: point for point in found.shift}
    assert shift[0] == ShiftPoint(pixels=0, accuracy=1.0, horizontal=1.0, vertical=1.0)
    assert shift[2] == ShiftPoint(pixels=2, accuracy=0.3, horizontal=0.6, vertical=0.0)
    assert shift[-2].accuracy == 0
    assert {point.degrees: point.accuracy for point in found.turn}[45] == 0.4
    assert [point.factor for point in found.scale if point.accuracy == 1.0] == [1.0]
    assert (found.chance, found.images, found.untouched, found.kept) == (0.25, 4, 1.0, 0.9)
    kept = found.ranges.shift
    assert kept is not None and found.ranges.turn is not None
    assert (kept.start, kept.to) == pytest.approx((-0.1, 0.1))
    assert not kept.open_below and not kept.open_above
    assert found.ranges.turn.to == pytest.approx(1.5)


def test_no_range_for_a_network_that_only_guesses() -> None:
    found = room.curves(lambda _: 0.1, 2, geometry.grid(8, 8), chance=0.1)
    assert found.ranges == Ranges(shift=None, turn=None, scale=None)


@pytest.mark.parametrize(
    ("values", "wanted"),
    [
        ([0.5, 0.8, 1.0, 0.8, 0.5], (-0.5, 0.5, False, False)),
        ([1.0, 1.0, 1.0, 1.0, 1.0], (-2, 2, True, True)),
        ([1.0, 0.2, 1.0, 0.95, 0.9], (-0.125, 2, False, True)),
        ([0.9, 0.9, 1.0, 0.0, 1.0], (-2, 0.1, True, False)),
    ],
)
def test_the_range_ends_where_the_line_falls_below(
    values: list[float], wanted: tuple[float, float, bool, bool]
) -> None:
    found = room.kept_range([-2, -1, 0, 1, 2], values, 0, 0.9)
    assert (found.start, found.to, found.open_below, found.open_above) == pytest.approx(wanted)
