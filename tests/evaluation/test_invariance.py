"""Shifting, turning and scaling against plain loops and NumPy; the curves and their ranges."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from convoscope.evaluation import invariance as room


def pictures(seed, count, height, width, channels=1):
    return np.random.default_rng(seed).integers(0, 256, (count, height, width, channels), dtype=np.uint8)


sides = st.integers(1, 9)


@given(st.integers(0, 1000), sides, sides, st.integers(1, 4))
def test_background_is_the_median_of_the_frame(seed, height, width, channels):
    images = pictures(seed, 2, height, width, channels)
    for image, ground in zip(images, room.background(images), strict=True):
        for c in range(channels):
            frame = sorted(
                int(image[y, x, c])
                for y in range(height)
                for x in range(width)
                if y in (0, height - 1) or x in (0, width - 1)
            )
            assert ground[c] == frame[(len(frame) - 1) // 2]


@given(st.integers(0, 1000), sides, sides, st.integers(1, 3), st.integers(-11, 11), st.integers(-11, 11))
def test_shift_moves_every_pixel(seed, height, width, channels, right, down):
    images = pictures(seed, 2, height, width, channels)
    before = images.copy()
    moved = room.shift(images, right=right, down=down)
    ground = room.background(images)
    for n in range(2):
        for y in range(height):
            for x in range(width):
                inside = 0 <= y - down < height and 0 <= x - right < width
                wanted = images[n, y - down, x - right] if inside else ground[n]
                assert np.array_equal(moved[n, y, x], wanted)
    assert np.array_equal(images, before)


@given(st.integers(0, 1000), st.integers(1, 12), st.integers(1, 4), st.integers(-2, 2))
def test_quarter_turns_of_squares_are_exact(seed, side, channels, quarters):
    images = pictures(seed, 3, side, side, channels)
    assert np.array_equal(room.turn(images, 90 * quarters), np.rot90(images, quarters, axes=(1, 2)))


def test_half_turn_of_a_large_photo_is_exact():
    images = pictures(1, 2, 149, 201, 3)
    assert np.array_equal(room.turn(images, 180), images[:, ::-1, ::-1])
    assert np.array_equal(room.turn(images, 0), images)
    assert np.array_equal(room.scale(images, 1), images)


def slowly(image, ground, place):
    """Bilinear sampling in float64, pixel by pixel; background outside."""
    height, width, channels = image.shape
    result = np.empty_like(image)
    for y in range(height):
        for x in range(width):
            sx, sy = place(x - (width - 1) / 2, y - (height - 1) / 2)
            sx, sy = sx + (width - 1) / 2, sy + (height - 1) / 2
            value = np.zeros(channels)
            for dy in (0, 1):
                for dx in (0, 1):
                    iy, ix = int(np.floor(sy)) + dy, int(np.floor(sx)) + dx
                    weight = (1 - abs(sy - iy)) * (1 - abs(sx - ix))
                    inside = 0 <= iy < height and 0 <= ix < width
                    value += weight * (image[iy, ix] if inside else ground).astype(float)
            result[y, x] = np.round(value)
    return result


@pytest.mark.parametrize(("height", "width", "channels"), [(9, 9, 1), (7, 12, 3)])
@pytest.mark.parametrize("degrees", [-135, -15, 30, 45, 120])
def test_turn_agrees_with_slow_sampling(height, width, channels, degrees):
    images = pictures(3, 2, height, width, channels)
    angle = np.deg2rad(degrees)
    turned = room.turn(images, degrees)
    for image, ground, result in zip(images, room.background(images), turned, strict=True):
        wanted = slowly(
            image, ground, lambda x, y: (np.cos(angle) * x - np.sin(angle) * y, np.sin(angle) * x + np.cos(angle) * y)
        )
        # float32 coordinates may round a value that lies half-way the other way.
        assert np.abs(result.astype(int) - wanted).max() <= 1


@pytest.mark.parametrize("factor", [0.5, 0.7, 1.3, 1.5])
def test_scale_agrees_with_slow_sampling(factor):
    images = pictures(4, 2, 8, 11, 2)
    for image, ground, result in zip(images, room.background(images), room.scale(images, factor), strict=True):
        wanted = slowly(image, ground, lambda x, y: (x / factor, y / factor))
        assert np.abs(result.astype(int) - wanted).max() <= 1


@given(st.integers(0, 255), st.floats(-180, 180), st.floats(0.5, 1.5), st.integers(-9, 9))
def test_a_plain_image_stays_as_it_is(value, degrees, factor, step):
    images = np.full((1, 6, 7, 3), value, np.uint8)
    for changed in (room.turn(images, degrees), room.scale(images, factor), room.shift(images, right=step, down=-step)):
        assert np.array_equal(changed, images)


def test_the_grid_of_28_pixels():
    fine = room.grid(28, 28)
    assert fine.shifts == tuple(range(-8, 9))
    assert fine.turns == tuple(range(-180, 181, 15))
    assert fine.scales == pytest.approx(np.arange(5, 16) / 10)
    assert fine.passes == 1 + 32 + 23 + 10


@given(st.integers(1, 600), st.integers(1, 600))
def test_the_coarse_grid_is_part_of_the_fine_one(height, width):
    fine, coarse = room.grid(height, width), room.grid(height, width, coarse=True)
    for name in ("shifts", "turns", "scales"):
        points = getattr(fine, name)
        assert set(getattr(coarse, name)) <= set(points)
        assert list(points) == sorted(set(points))
    assert 0 in coarse.shifts and 0 in coarse.turns and 1.0 in coarse.scales


def test_costly_networks_are_measured_on_fewer_images():
    assert room.plan(10_000, 28, 28, 101_632)[0] == 1000
    assert room.plan(70, 28, 28, 101_632)[0] == 70
    assert room.plan(10_000, 28, 28, 4_241_152) == (500, room.grid(28, 28))
    assert room.plan(10_000, 150, 150, 20_000_000) == (100, room.grid(150, 150))
    count, points = room.plan(10_000, 224, 224, 1_800_000_000)
    assert count == 100 and points == room.grid(224, 224, coarse=True)
    assert room.plan(10_000, 28, 28, None) == room.plan(10_000, 28, 28, None)


@given(st.integers(0, 1000), st.integers(1, 60), st.integers(1, 5), st.integers(1, 60))
def test_the_sample_is_stratified_and_seeded(seed, total, classes, count):
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


def test_curves_measure_what_they_say():
    """A judge that only accepts the untouched image or one shifted by two to the right."""
    images = pictures(5, 4, 14, 14)
    accepted = {images.tobytes(): 1.0, room.shift(images, right=2).tobytes(): 0.6, room.turn(images, 45).tobytes(): 0.4}
    passes = []

    def measure(pixels):
        passes.append(len(pixels))
        return accepted.get(pixels.tobytes(), 0.0)

    points = room.grid(14, 14)
    found = room.curves(measure, images, points, chance=0.25)
    assert len(passes) == points.passes
    shift = {row["pixels"]: row for row in found["shift"]}
    assert shift[0] == {"pixels": 0, "accuracy": 1.0, "horizontal": 1.0, "vertical": 1.0}
    assert shift[2] == {"pixels": 2, "accuracy": 0.3, "horizontal": 0.6, "vertical": 0.0}
    assert shift[-2]["accuracy"] == 0
    assert {row["degrees"]: row["accuracy"] for row in found["turn"]}[45] == 0.4
    assert [row["factor"] for row in found["scale"] if row["accuracy"] == 1.0] == [1.0]
    assert (found["chance"], found["images"], found["untouched"], found["kept"]) == (0.25, 4, 1.0, 0.9)
    shift_range = found["ranges"]["shift"]
    assert (shift_range["from"], shift_range["to"]) == pytest.approx((-0.1, 0.1))
    assert not shift_range["open_below"] and not shift_range["open_above"]
    assert found["ranges"]["turn"]["to"] == pytest.approx(1.5)


def test_no_range_for_a_network_that_only_guesses():
    found = room.curves(lambda _: 0.1, pictures(6, 2, 8, 8), room.grid(8, 8), chance=0.1)
    assert found["ranges"] == {"shift": None, "turn": None, "scale": None}


@pytest.mark.parametrize(
    ("values", "wanted"),
    [
        ([0.5, 0.8, 1.0, 0.8, 0.5], (-0.5, 0.5, False, False)),
        ([1.0, 1.0, 1.0, 1.0, 1.0], (-2, 2, True, True)),
        ([1.0, 0.2, 1.0, 0.95, 0.9], (-0.125, 2, False, True)),
        ([0.9, 0.9, 1.0, 0.0, 1.0], (-2, 0.1, True, False)),
    ],
)
def test_the_range_ends_where_the_line_falls_below(values, wanted):
    found = room.kept_range([-2, -1, 0, 1, 2], values, 0, 0.9)
    assert (found["from"], found["to"], found["open_below"], found["open_above"]) == pytest.approx(wanted)
