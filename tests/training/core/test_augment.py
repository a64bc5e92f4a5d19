"""Augmentation against plain loops."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from convoscope.training.core.augment import affine_maps, augment
from convoscope.training.core.recipe import Recipe
from convoscope.training.core.rng import uniforms


def images(count: int = 4, height: int = 12, width: int = 12, channels: int = 3) -> torch.Tensor:
    values = np.random.default_rng(0).integers(0, 256, (count, height, width, channels), dtype=np.uint8)
    return torch.from_numpy(values)


def test_no_augmentation_changes_nothing() -> None:
    batch = images()
    result = augment(batch, np.arange(4), seed=0, epoch=0, recipe=Recipe())
    assert result.dtype == torch.float32
    assert torch.equal(result, batch.permute(0, 3, 1, 2).float())


def test_flip_mirrors_about_half_of_the_images_and_only_left_to_right() -> None:
    batch = images(200)
    result = augment(batch, np.arange(200), seed=0, epoch=0, recipe=Recipe(flip=True)).permute(0, 2, 3, 1)
    kept = (result == batch.float()).flatten(1).all(1)
    mirrored = (result == batch.flip(2).float()).flatten(1).all(1)
    assert bool((kept ^ mirrored).all())
    assert 70 < int(mirrored.sum()) < 130


def mirrored(place: float, side: int) -> float:
    """A pixel coordinate folded back at the image's edges (-0.5 and side - 0.5), then kept between the outermost pixels' middles."""
    place = (place + 0.5) % (2 * side)
    return min(max(min(place, 2 * side - place) - 0.5, 0.0), side - 1.0)


def bilinear(image: np.ndarray, y: float, x: float) -> np.ndarray:
    """The value at pixel coordinates (y, x), the image mirrored outside."""
    height, width = image.shape[:2]
    y, x = mirrored(y, height), mirrored(x, width)
    y0, x0 = math.floor(y), math.floor(x)
    y1, x1 = min(y0 + 1, height - 1), min(x0 + 1, width - 1)
    fy, fx = y - y0, x - x0
    top = image[y0, x0] * (1 - fx) + image[y0, x1] * fx
    bottom = image[y1, x0] * (1 - fx) + image[y1, x1] * fx
    value: np.ndarray = top * (1 - fy) + bottom * fy
    return value


@pytest.mark.parametrize(
    ("height", "width", "size"), [(9, 9, (9, 9)), (6, 11, (6, 11)), (12, 12, (8, 8)), (10, 16, (5, 8))]
)
def test_geometry_equals_a_plain_loop(height: int, width: int, size: tuple[int, int]) -> None:
    recipe = Recipe(flip=True, rotate=30, shift=0.2, shear=15, zoom=0.3, crop=0.5)
    batch = images(5, height, width, 2)
    result = augment(batch, np.arange(5), seed=3, epoch=2, recipe=recipe, size=size)
    assert result.shape == (5, 2, *size)
    maps = affine_maps(torch.from_numpy(uniforms(3, 2, np.arange(5), 16)), recipe).double().numpy()
    for n in range(5):
        (a, b, c), (d, e, f) = maps[n]
        for row in range(size[0]):
            for column in range(size[1]):
                # In pixels from the middle, so that unequal sides turn without distortion.
                v = (row + 0.5) * height / size[0] - height / 2
                u = (column + 0.5) * width / size[1] - width / 2
                x = a * u + b * v + c * width / 2 + width / 2 - 0.5
                y = d * u + e * v + f * height / 2 + height / 2 - 0.5
                expected = bilinear(batch[n].numpy().astype(float), y, x)
                np.testing.assert_allclose(result[n, :, row, column].numpy(), expected, atol=0.02)


def test_rotation_zoom_and_shift_stay_within_their_limits() -> None:
    draws = torch.from_numpy(uniforms(0, 0, np.arange(5000), 16))
    only_turned = affine_maps(draws, Recipe(rotate=20))
    angles = torch.rad2deg(torch.atan2(only_turned[:, 1, 0], only_turned[:, 0, 0]))
    assert 19 < float(angles.abs().max()) <= 20.001
    assert torch.allclose(torch.linalg.det(only_turned[:, :, :2]), torch.ones(5000), atol=1e-5)
    zoomed = affine_maps(draws, Recipe(zoom=0.2))[:, 1, 1]
    assert 0.79 < float(zoomed.min()) < 0.83
    assert 1.2 < float(zoomed.max()) < 1.26
    shifted = affine_maps(draws, Recipe(shift=0.1))[:, :, 2]
    assert 0.19 < float(shifted.abs().max()) <= 0.2001  # in half sides


def test_a_crop_lies_inside_the_image_and_keeps_its_share() -> None:
    draws = torch.from_numpy(uniforms(0, 0, np.arange(5000), 16))
    maps = affine_maps(draws, Recipe(crop=0.35))
    side = maps[:, 0, 0]
    assert 0.35 <= float((side**2).min()) < 0.36
    assert 0.99 < float(side.max()) <= 1
    assert bool((maps[:, 0, 2].abs() + side <= 1 + 1e-6).all())
    assert bool((maps[:, 1, 2].abs() + side <= 1 + 1e-6).all())
    assert abs(float((side**2).mean()) - 0.675) < 0.01


def test_another_size_without_augmentation_is_antialiased() -> None:
    batch = images(3, 16, 16, 1)
    small = augment(batch, np.arange(3), seed=0, epoch=0, recipe=Recipe(), size=(8, 8))
    assert small.shape == (3, 1, 8, 8)
    assert torch.allclose(small.mean((1, 2, 3)), batch.float().mean((1, 2, 3)), atol=3)


@given(st.integers(0, 1000), st.integers(0, 50))
def test_an_image_is_augmented_alike_in_any_batch(seed: int, epoch: int) -> None:
    recipe = Recipe(flip=True, rotate=10, shift=0.1, zoom=0.1, erase=0.3, colour=0.2)
    batch = images(6)
    rows = np.array([4, 17, 2, 99, 5, 31])
    together = augment(batch, rows, seed=seed, epoch=epoch, recipe=recipe)
    alone = torch.cat(
        [augment(batch[i : i + 1], rows[i : i + 1], seed=seed, epoch=epoch, recipe=recipe) for i in range(6)]
    )
    torch.testing.assert_close(together, alone, rtol=1e-6, atol=1e-4)


def test_erase_fills_one_square_with_the_mean() -> None:
    batch = images(300, 16, 16, 1)
    result = augment(batch, np.arange(300), seed=0, epoch=0, recipe=Recipe(erase=0.5))
    changed = result != batch.permute(0, 3, 1, 2).float()
    largest = 0
    for n in range(300):
        rows, columns = np.nonzero(changed[n, 0].numpy())
        if len(rows):
            hole = result[n, 0, rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
            assert torch.allclose(hole, batch[n].float().mean(), atol=1e-3)
            largest = max(largest, rows.max() - rows.min() + 1, columns.max() - columns.min() + 1)
    assert 6 <= largest <= 9


def test_colour_keeps_the_range_and_leaves_grey_images_grey() -> None:
    grey = images(50, 8, 8, 1).expand(-1, -1, -1, 3).contiguous()
    result = augment(grey, np.arange(50), seed=0, epoch=0, recipe=Recipe(colour=0.5))
    assert float(result.min()) >= 0
    assert float(result.max()) <= 255
    assert torch.allclose(result[:, 0], result[:, 1], atol=1e-3)
    assert not torch.equal(result, grey.permute(0, 3, 1, 2).float())
