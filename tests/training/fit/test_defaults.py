"""What is chosen when the user says nothing."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from convoscope import data, models
from convoscope.data import InputFormat, Prepared
from convoscope.training import Recipe
from convoscope.training.fit.defaults import choose_model, choose_recipe, mirror_likeness


def prepared(count: int, side: int, channels: int = 3, *, lopsided: bool = False) -> Prepared:
    """Noise of two classes; `lopsided`: bright on the left or at the top."""
    rng = np.random.default_rng(0)
    labels = np.arange(count) % 2
    images = rng.integers(0, 60, (count, side, side, channels), dtype=np.uint8)
    half = side // 2
    images[labels == 0, :, :half] += np.uint8(120 if lopsided else 0)
    images[labels == 1, :half] += np.uint8(120)
    form = InputFormat(height=side, width=side, channels=channels)
    return data.prepare(data.from_arrays(images, labels), form)


def chosen(images: Prepared, model: str, **asked: object) -> tuple[Recipe, str]:
    form = images.form
    network = models.build(model, (form.height, form.width, form.channels), 2)
    recipe, notes = choose_recipe(images, network, Recipe.read(dict(asked)), set(asked))
    return recipe, " ".join(notes)


@pytest.mark.parametrize(("side", "model"), [(5, "tiny"), (28, "vgg-small"), (96, "small")])
def test_the_model_follows_the_size(side: int, model: str) -> None:
    images = prepared(40, side)
    assert choose_model(images.dataset, images.form) == model


def test_what_the_user_named_stays() -> None:
    recipe, _ = chosen(prepared(100, 64), "small", epochs=3, crop=0.9, flip=False, optimizer="sgd")
    assert (recipe.epochs, recipe.crop, recipe.flip, recipe.optimizer) == (3, 0.9, False, "sgd")
    assert recipe.colour > 0


def test_small_sets_are_shown_more_often() -> None:
    assert chosen(prepared(60, 64), "small")[0].epochs == 80
    assert chosen(prepared(4000, 48), "small")[0].epochs < 40
    few, some, more = (chosen(prepared(count, 12, 1), "fashion")[0].epochs for count in (60, 700, 3_000))
    assert 30 <= more < some < few <= 150
    many = prepared(13_000, 12, 1)
    assert chosen(many, "flatten dense(8) relu dense")[0].batch_size == 64
    assert chosen(many, "conv(4) relu flatten dense")[0].batch_size == 128
    assert chosen(many, "fashion")[0].epochs == 10


def test_small_images_first_only_where_the_model_takes_any_size() -> None:
    assert chosen(prepared(60, 64), "small")[0].start_size < 1
    assert chosen(prepared(60, 64), "conv(8) maxpool flatten dense(8) relu dense")[0].start_size == 1


def test_images_are_mirrored_only_if_the_classes_look_alike() -> None:
    alike, lopsided = prepared(200, 64), prepared(200, 64, lopsided=True)
    assert mirror_likeness(alike) > 0.9
    assert mirror_likeness(lopsided) < 0.3
    recipe, notes = chosen(alike, "small")
    assert recipe.flip
    assert "are mirrored in training" in notes
    recipe, notes = chosen(lopsided, "small")
    assert not recipe.flip
    assert "are not mirrored in training" in notes


def test_likeness_equals_a_plain_loop() -> None:
    images = prepared(60, 9, lopsided=True)
    rows = images.dataset.indices("train")
    targets = images.dataset.targets[rows]
    means = [images.pixels[rows[targets == label]].astype(float).mean(0) for label in (0, 1)]
    common = (means[0] + means[1]) / 2
    expected = np.mean([np.corrcoef((m - common).ravel(), (m - common)[:, ::-1].ravel())[0, 1] for m in means])
    assert mirror_likeness(images) == pytest.approx(expected)


def test_a_training_step_is_the_chosen_size(tmp_path: Path) -> None:
    """The sizes that the network really sees, in training and in validation."""
    from convoscope.training import train

    for name in ("a", "b"):
        (tmp_path / "images" / name).mkdir(parents=True)
        for number in range(20):
            pixels = np.random.default_rng(number).integers(0, 255, (64, 64, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "images" / name / f"{number}.png")
    seen: list[tuple[bool, int]] = []

    class Spy(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inside = torch.nn.Conv2d(3, 2, 3)

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            seen.append((self.training, images.shape[2]))
            scores: torch.Tensor = self.inside(images).mean((2, 3))
            return scores

    run = train(
        tmp_path / "images",
        Spy(),
        output=tmp_path / "run",
        epochs=10,
        batch_size=100,
        start_size=0.5,
        end_size=0.75,
        precision="float32",
    )
    # Validation is as much larger than training as it is at the end: 64 to 48.
    assert seen[-20:] == [(True, 32), (False, 40)] * 7 + [(True, 48), (False, 64)] * 3
    assert [row["size"] for row in run.history] == [32] * 7 + [48] * 3
    assert run.best_epoch > 7


def test_what_may_depend_on_left_and_right_is_not_mirrored() -> None:
    """Numbers never by themselves; labels where each one's images look like their mirror images, not their mean."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 60, (80, 20, 20), dtype=np.uint8)
    left = np.arange(80) % 2 == 0
    images[left, :, :10] += 120
    images[~left, :, 10:] += 120
    form = InputFormat(height=20, width=20, channels=1)
    numbers = data.prepare(data.from_arrays(images, left.astype(np.float32) + 0.5), form)
    recipe, notes = chosen(numbers, "conv(4) relu flatten dense")
    assert recipe.flip is False and "numbers may depend on left and right" in notes
    sides = data.prepare(data.from_arrays(images, np.stack([left, ~left, left | ~left], 1).astype(np.uint8)), form)
    assert sides.dataset.task == "multi-label" and mirror_likeness(sides) < 0
    recipe, notes = chosen(sides, "conv(4) relu flatten dense")
    assert recipe.flip is False and "not all labels' images look like their mirror images" in notes
    one = data.prepare(data.from_arrays(images, np.stack([left, left & False], 1).astype(np.uint8)), form)
    assert mirror_likeness(one) < 0  # against those without the label
    images[:, :, :] = rng.integers(0, 60, (80, 20, 20), dtype=np.uint8)
    images[left, :10] += 120
    heights = data.prepare(data.from_arrays(images, np.stack([left, ~left, left | ~left], 1).astype(np.uint8)), form)
    assert chosen(heights, "conv(4) relu flatten dense")[0].flip is True
