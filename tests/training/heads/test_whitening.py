"""Whitening: what it is in numbers, and that heads on whitened features answer on plain ones."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from convoscope.training.heads.head import Examples, linear, nearest_mean
from convoscope.training.heads.whitening import DIRECTIONS, Whitening, fit_whitening


def varied(classes: int, count: int, width: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Features with the same few directions of large variance in every class."""
    rng = np.random.default_rng(seed)
    mixed = rng.normal(size=(width, width)) * np.geomspace(4, 0.01, width)[:, None]
    targets = np.arange(classes * count) % classes
    features = 3 * rng.normal(size=(classes, width))[targets] + rng.normal(size=(len(targets), width)) @ mixed
    return torch.tensor(features, dtype=torch.float32), torch.tensor(targets)


def whitened(features: torch.Tensor, targets: torch.Tensor) -> NDArray[np.float64]:
    """(W / mean variance + 1) ** -0.5 of the within-class covariance W, in float64, class by class."""
    points = features.numpy().astype(np.float64)
    covariance = np.zeros((points.shape[1], points.shape[1]))
    for label in np.unique(targets):
        own = points[targets.numpy() == label]
        covariance += (own - own.mean(0)).T @ (own - own.mean(0)) / len(points)
    values, vectors = np.linalg.eigh(covariance)
    inverse: NDArray[np.float64] = (vectors / np.sqrt(values / values.mean() + 1)) @ vectors.T
    return inverse


@pytest.mark.parametrize(("count", "width"), [(60, 30), (8, 90)])
def test_it_is_within_class_covariance_normalisation(count: int, width: int) -> None:
    features, targets = varied(4, count, width)
    whitening = fit_whitening(features, targets)
    assert whitening is not None
    others = torch.randn(20, width, generator=torch.Generator().manual_seed(1))
    wanted = others.numpy().astype(np.float64) @ whitened(features, targets)
    np.testing.assert_allclose(whitening.whitened(others).numpy(), wanted, atol=1e-4)
    assert whitening.directions.shape[1] <= min(width, 4 * count)
    assert whitening.kept.min() > 0 and whitening.kept.max() <= 1


def test_of_many_features_the_first_directions_count() -> None:
    features, targets = varied(5, 120, 700)
    whitening = fit_whitening(features, targets)
    assert whitening is not None and whitening.directions.shape == (700, DIRECTIONS)
    torch.testing.assert_close(whitening.directions.T @ whitening.directions, torch.eye(DIRECTIONS), atol=1e-4, rtol=0)
    exact = whitened(features, targets)
    # The rest of the directions, which vary little, stays as it is.
    values, vectors = np.linalg.eigh(exact)
    values[DIRECTIONS:] = 1
    wanted = (vectors * values) @ vectors.T
    own = whitening.whitened(torch.eye(700)).numpy()
    assert np.linalg.norm(own - wanted) < 0.02 * np.linalg.norm(wanted - np.eye(700))


def test_it_takes_no_chance_from_outside() -> None:
    features, targets = varied(5, 120, 700)
    torch.manual_seed(3)
    before = torch.random.get_rng_state()
    one, two = fit_whitening(features, targets), fit_whitening(features, targets)
    assert one is not None and two is not None and one.directions.equal(two.directions)
    assert torch.random.get_rng_state().equal(before)


def test_where_nothing_differs_there_is_nothing_to_learn() -> None:
    targets = torch.arange(200) % 2
    assert fit_whitening(targets[:, None].repeat(1, 5).float(), targets) is None
    assert fit_whitening(torch.full((200, 5), torch.nan), targets) is None


def test_heads_answer_on_the_features_as_they_are() -> None:
    """A head made with a whitening gives features the scores of one made without it on whitened features."""
    whitening = fit_whitening(*varied(4, 60, 30))
    assert whitening is not None
    features, targets = varied(3, 20, 30, seed=1)
    validation, truth = varied(3, 20, 30, seed=1)
    validation = validation + 0.5 * torch.randn(60, 30, generator=torch.Generator().manual_seed(5))
    known = Examples.of(features, targets, validation, truth, None, whitening)
    plain = Examples.of(whitening.whitened(features), targets, whitening.whitened(validation), truth)
    others, _ = varied(3, 30, 30, seed=7)
    for make in (nearest_mean, linear):
        one, two = make(known, 3), make(plain, 3)
        assert one.l2 == two.l2
        wanted = two.scores(whitening.whitened(others))
        torch.testing.assert_close(one.scores(others), wanted, atol=2e-4 * float(wanted.abs().max()), rtol=0)
    assert not torch.allclose(linear(Examples.of(features, targets, validation, truth), 3).scores(others), wanted, 0.1)


def test_whitening_is_symmetric() -> None:
    directions = torch.linalg.qr(torch.randn(9, 4, generator=torch.Generator().manual_seed(0))).Q
    whitening = Whitening(directions=directions, kept=torch.tensor([0.1, 0.5, 0.9, 1.0]))
    one, two = torch.randn(2, 3, 9, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(whitening.whitened(one) @ two.T, one @ whitening.whitened(two).T)
    torch.testing.assert_close(whitening.whitened(directions.T), directions.T * whitening.kept[:, None])
