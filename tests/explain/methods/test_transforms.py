"""One image's scores while it moves: the same images, and the same answers, as the invariance curves."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from convoscope import geometry
from convoscope.errors import UsageError
from convoscope.evaluation import invariance
from convoscope.explain.methods.transforms import transform_sensitivity
from tests.support.preserved import network, preserve_state

Pixels = NDArray[np.uint8]
Numbers = NDArray[np.floating[Any]]


def picture(height: int, width: int, channels: int, seed: int = 0) -> Pixels:
    return np.random.default_rng(seed).integers(0, 256, (height, width, channels), dtype=np.uint8)


def answers(model: nn.Module) -> Callable[[Pixels], Numbers]:
    def scores(pixels: Pixels) -> Numbers:
        with torch.no_grad():
            found: Numbers = model(torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255).softmax(1).numpy()
            return found

    return scores


def mean_colour(pixels: Pixels) -> Numbers:
    """Two numbers for each image that differ between any two of them."""
    places = np.arange(pixels[0].size).reshape(pixels[0].shape)
    return np.stack([(pixels * places).mean((1, 2, 3)), pixels.astype(float).mean((1, 2, 3))], 1)


@pytest.mark.parametrize("size", [(28, 28, 1), (9, 14, 3)])
def test_each_row_belongs_to_its_place(size: Any) -> None:
    image = picture(*size)
    before = image.copy()
    found = transform_sensitivity(mean_colour, image)
    points = geometry.grid(*size[:2])
    assert found.points == points
    moves = {
        "right": [geometry.shift(image[None], right=step) for step in points.shifts],
        "down": [geometry.shift(image[None], down=step) for step in points.shifts],
        "turned": [geometry.turn(image[None], degrees) for degrees in points.turns],
        "scaled": [geometry.scale(image[None], factor) for factor in points.scales],
    }
    for name, images in moves.items():
        rows = getattr(found, name)
        assert rows.dtype == np.float32 and rows.shape == (len(images), 2)
        for row, moved in zip(rows, images, strict=True):
            assert row == pytest.approx(mean_colour(moved)[0], rel=1e-6)
    assert found.untouched == pytest.approx(mean_colour(image[None])[0], rel=1e-6)
    assert np.array_equal(image, before)


def test_the_answers_are_those_of_the_invariance_curves() -> None:
    """The curves of a set of one image: right or wrong at each point."""
    model, _ = network("text")
    image = picture(28, 28, 1)
    with preserve_state(model):
        found = transform_sensitivity(answers(model), image)
    truth = found.untouched.argmax()
    curves = invariance.curves(
        lambda move: float((answers(model)(move(image[None])).argmax(1) == truth).mean()), 1, found.points, chance=0.2
    )
    assert [point.horizontal for point in curves.shift] == (found.right.argmax(1) == truth).tolist()
    assert [point.vertical for point in curves.shift] == (found.down.argmax(1) == truth).tolist()
    assert [point.accuracy for point in curves.turn] == (found.turned.argmax(1) == truth).tolist()
    assert [point.accuracy for point in curves.scale] == (found.scaled.argmax(1) == truth).tolist()


def test_the_untouched_image_is_among_the_points() -> None:
    model, _ = network("text")
    found = transform_sensitivity(answers(model), picture(28, 28, 1))
    places = found.points
    # Batches of another size may round otherwise.
    for rows, place in (
        (found.right, places.shifts.index(0)),
        (found.down, places.shifts.index(0)),
        (found.turned, places.turns.index(0)),
        (found.scaled, places.scales.index(1.0)),
    ):
        assert rows[place] == pytest.approx(found.untouched, abs=1e-6)
        assert rows.sum(1) == pytest.approx(np.ones(len(rows)), abs=1e-5)


def test_points_of_ones_own() -> None:
    found = transform_sensitivity(mean_colour, picture(6, 6, 1), geometry.Grid((-2, 0), (), (1.0,)))
    assert [len(rows) for rows in (found.right, found.down, found.turned, found.scaled)] == [2, 2, 0, 1]
    assert found.turned.shape == (0, 2)


def test_a_function_that_changes_its_images_changes_only_its_own() -> None:
    image = picture(6, 6, 1)

    def careless(pixels: Pixels) -> Numbers:
        pixels[:] = 0
        return np.zeros((len(pixels), 2))

    before = image.copy()
    transform_sensitivity(careless, image)
    assert np.array_equal(image, before)


@pytest.mark.parametrize(
    ("image", "match"),
    [
        (np.zeros((6, 6), np.uint8), r"expected one image uint8 \(H, W, C\); received uint8 of shape \(6, 6\)"),
        (np.zeros((1, 6, 6, 1), np.uint8), r"received uint8 of shape \(1, 6, 6, 1\)"),
        (np.zeros((6, 6, 1)), "received float64"),
        (np.zeros((0, 6, 1), np.uint8), r"shape \(0, 6, 1\)"),
    ],
)
def test_images_that_do_not_fit(image: Any, match: str) -> None:
    with pytest.raises(UsageError, match=match) as caught:
        transform_sensitivity(mean_colour, image)
    assert caught.value.code == "image-shape"


@pytest.mark.parametrize(
    ("scores", "match"),
    [
        (lambda pixels: np.zeros(len(pixels)), r"expected \(1, K\) numbers for as many images, got \(1,\)"),
        (lambda pixels: np.zeros((1, 2)), r"expected \(3, 2\) numbers for as many images, got \(1, 2\)"),
        (lambda pixels: np.zeros((len(pixels), len(pixels))), r"expected \(3, 1\) numbers .* got \(3, 3\)"),
    ],
)
def test_scores_that_do_not_fit(scores: Callable[[Pixels], Numbers], match: str) -> None:
    with pytest.raises(UsageError, match=match) as caught:
        transform_sensitivity(scores, picture(4, 4, 1))
    assert caught.value.code == "scores-shape"


def test_places_that_would_take_much_memory_are_asked_some_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def scores(pixels: Pixels) -> Numbers:
        asked.append(len(pixels))
        return mean_colour(pixels)

    image = picture(9, 7, 3)
    whole = transform_sensitivity(mean_colour, image)
    monkeypatch.setattr("convoscope.explain.methods.transforms._MOST_BYTES", 4 * image.nbytes)
    found = transform_sensitivity(scores, image)
    assert max(asked) == 4
    for name in ("untouched", "right", "down", "turned", "scaled"):
        assert np.array_equal(getattr(found, name), getattr(whole, name))
