"""RandAugment: operations by Pillow's, groups by a loop over single images."""

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance, ImageOps

from convoscope.training import Recipe
from convoscope.training.core.augment import augment
from convoscope.training.core.randaugment import chosen, operations, randaugment


def images(count: int, channels: int) -> torch.Tensor:
    values = np.random.default_rng(0).integers(20, 200, (count, channels, 20, 24), np.uint8)
    values[:, :, 2:17, 3:19] //= 4  # so that equalising has something to do
    return torch.from_numpy(values)


def test_a_batch_equals_a_loop_over_its_images() -> None:
    batch, numbers = images(60, 3), np.arange(100, 160)
    which, negative = chosen(4, 2, numbers, 14)
    kinds = operations(3)
    assert len(kinds) == 14
    for row in range(60):
        wanted = batch[row : row + 1]
        for turn in range(2):
            wanted = kinds[which[row, turn]](wanted, -0.4 if negative[row, turn] else 0.4)
        made = randaugment(batch.float()[row : row + 1], numbers[row : row + 1], seed=4, epoch=2, strength=0.4)
        assert torch.equal(made, wanted.float())
    whole = randaugment(batch.float(), numbers, seed=4, epoch=2, strength=0.4)
    parts = [randaugment(batch.float()[[k]], numbers[[k]], seed=4, epoch=2, strength=0.4) for k in range(60)]
    assert torch.equal(whole, torch.cat(parts))
    assert not torch.equal(whole, randaugment(batch.float(), numbers, seed=4, epoch=3, strength=0.4))


def test_each_operation_comes_equally_often_in_both_directions() -> None:
    which, negative = chosen(0, 0, np.arange(14_000), 14)
    for turn in range(2):
        counts = np.bincount(which[:, turn], minlength=14)
        assert counts.min() > 850 and counts.max() < 1150
        assert 0.48 < negative[:, turn].mean() < 0.52
    assert abs(np.corrcoef(which[:, 0], which[:, 1])[0, 1]) < 0.03


@pytest.mark.parametrize(
    ("place", "strength", "pillow"),
    [
        (9, 0.5, ImageOps.autocontrast),
        (1, 0.5, ImageOps.equalize),
        (3, 0.5, lambda image: ImageOps.solarize(image, 129)),
        (4, 0.5, lambda image: ImageOps.posterize(image, 6)),
        (10, -0.5, lambda image: ImageEnhance.Brightness(image).enhance(0.55)),
        (11, -0.5, lambda image: ImageEnhance.Contrast(image).enhance(0.55)),
        (12, -0.5, lambda image: ImageEnhance.Sharpness(image).enhance(0.55)),
        (13, -0.5, lambda image: ImageEnhance.Color(image).enhance(0.55)),
    ],
)
def test_operations_are_those_of_pillow(place: int, strength: float, pillow: Any) -> None:
    image = images(1, 3)
    made = operations(3)[place](image, strength)[0].permute(1, 2, 0).numpy().astype(int)
    wanted = np.asarray(pillow(Image.fromarray(image[0].permute(1, 2, 0).numpy()))).astype(int)
    assert np.abs(made - wanted).max() <= 1  # of 255: each rounds in its own way
    assert np.abs(made - image[0].permute(1, 2, 0).numpy()).max() >= 3


@pytest.mark.parametrize("place", [5, 6, 7, 8])
def test_moved_images_keep_their_middle(place: int) -> None:
    image = torch.zeros(1, 1, 9, 9, dtype=torch.uint8)
    image[0, 0, 4, 4] = 200
    made = operations(1)[place](image, 0.5)
    shifted = {7: (4, 6), 8: (6, 4)}.get(place, (4, 4))
    assert made[0, 0, *shifted] > 150


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_any_number_of_channels(channels: int) -> None:
    pixels = images(40, channels).permute(0, 2, 3, 1)
    recipe = Recipe(randaugment=1.0, erase=0.3)
    made = augment(pixels, np.arange(40), seed=0, epoch=0, recipe=recipe)
    assert made.shape == (40, channels, 20, 24) and made.dtype == torch.float32
    assert float(made.min()) >= 0 and float(made.max()) <= 255
    same = torch.equal(made, augment(pixels, np.arange(40), seed=0, epoch=0, recipe=Recipe(erase=0.3)))
    assert not same
