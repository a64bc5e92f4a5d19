"""Shifting, turning and scaling against plain loops and NumPy."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from convoscope import geometry as room


def pictures(seed: int, count: int, height: int, width: int, channels: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, height, width, channels), dtype=np.uint8)


sides = st.integers(1, 9)


@given(st.integers(0, 1000), sides, sides, st.integers(1, 4))
def test_background_is_the_median_of_the_frame(seed: int, height: int, width: int, channels: int) -> None:
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
def test_shift_moves_every_pixel(seed: int, height: int, width: int, channels: int, right: int, down: int) -> None:
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
def test_quarter_turns_of_squares_are_exact(seed: int, side: int, channels: int, quarters: int) -> None:
    images = pictures(seed, 3, side, side, channels)
    assert np.array_equal(room.turn(images, 90 * quarters), np.rot90(images, quarters, axes=(1, 2)))


def test_half_turn_of_a_large_photo_is_exact() -> None:
    images = pictures(1, 2, 149, 201, 3)
    assert np.array_equal(room.turn(images, 180), images[:, ::-1, ::-1])
    assert np.array_equal(room.turn(images, 0), images)
    assert np.array_equal(room.scale(images, 1), images)


def slowly(image: np.ndarray, ground: np.ndarray, place: Callable[[float, float], tuple[float, float]]) -> np.ndarray:
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
def test_turn_agrees_with_slow_sampling(height: int, width: int, channels: int, degrees: float) -> None:
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
def test_scale_agrees_with_slow_sampling(factor: float) -> None:
    images = pictures(4, 2, 8, 11, 2)
    for image, ground, result in zip(images, room.background(images), room.scale(images, factor), strict=True):
        wanted = slowly(image, ground, lambda x, y: (x / factor, y / factor))
        assert np.abs(result.astype(int) - wanted).max() <= 1


@given(st.integers(0, 255), st.floats(-180, 180), st.floats(0.5, 1.5), st.integers(-9, 9))
def test_a_plain_image_stays_as_it_is(value: int, degrees: float, factor: float, step: int) -> None:
    images = np.full((1, 6, 7, 3), value, np.uint8)
    for changed in (room.turn(images, degrees), room.scale(images, factor), room.shift(images, right=step, down=-step)):
        assert np.array_equal(changed, images)


def test_the_grid_of_28_pixels() -> None:
    fine = room.grid(28, 28)
    assert fine.shifts == tuple(range(-8, 9))
    assert fine.turns == tuple(range(-180, 181, 15))
    assert fine.scales == pytest.approx(np.arange(5, 16) / 10)
    assert fine.passes == 1 + 32 + 23 + 10


@given(st.integers(1, 600), st.integers(1, 600))
def test_the_coarse_grid_is_part_of_the_fine_one(height: int, width: int) -> None:
    fine, coarse = room.grid(height, width), room.grid(height, width, coarse=True)
    for name in ("shifts", "turns", "scales"):
        points = getattr(fine, name)
        assert set(getattr(coarse, name)) <= set(points)
        assert list(points) == sorted(set(points))
    assert 0 in coarse.shifts and 0 in coarse.turns and 1.0 in coarse.scales


def test_how_many_images_are_moved_at_once_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    images = pictures(1, 7, 12, 9, 3)
    whole = room.turn(images, 37), room.scale(images, 1.3)
    monkeypatch.setattr(room, "_AT_ONCE", 2 * images[:1].size)
    assert np.array_equal(room.turn(images, 37), whole[0])
    assert np.array_equal(room.scale(images, 1.3), whole[1])
