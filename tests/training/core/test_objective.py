"""Losses and answers against plain NumPy."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from convoscope.training.core.objective import Objective, balanced_weights


def batch(outputs: int, seed: int = 0, count: int = 9) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(0, 3, (count, outputs)).astype(np.float32))


def softmax(scores: np.ndarray) -> np.ndarray:
    powers = np.exp(scores - scores.max(1, keepdims=True))
    shares: np.ndarray = powers / powers.sum(1, keepdims=True)
    return shares


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_cross_entropy_of_the_softmax(smoothing: float) -> None:
    scores, targets = batch(4), torch.tensor([0, 1, 2, 3, 3, 2, 1, 0, 0])
    objective = Objective(task="classification", outputs=4, label_smoothing=smoothing)
    logs = np.log(softmax(scores.double().numpy()))
    wanted = np.eye(4)[targets.numpy()] * (1 - smoothing) + smoothing / 4
    assert float(objective.loss(scores, targets)) == pytest.approx(-(wanted * logs).sum(1).mean(), rel=1e-5)
    plain = -logs[np.arange(9), targets.numpy()].mean()
    assert float(objective.loss(scores, targets, smoothing=False)) == pytest.approx(plain, rel=1e-5)
    np.testing.assert_allclose(objective.answers(scores).numpy(), softmax(scores.numpy()), rtol=1e-5)
    assert objective.right(scores, targets) == (scores.numpy().argmax(1) == targets.numpy()).sum()


def test_class_weights_weigh_a_mean() -> None:
    scores, targets = batch(3), torch.tensor([0, 0, 0, 0, 0, 1, 1, 2, 2])
    weights = balanced_weights(targets.numpy(), 3)
    np.testing.assert_allclose(weights, [9 / 3 / 5, 9 / 3 / 2, 9 / 3 / 2])
    logs = -np.log(softmax(scores.double().numpy()))[np.arange(9), targets.numpy()]
    each = np.array(weights)[targets.numpy()]
    expected = (logs * each).sum() / each.sum()
    loss = Objective(task="classification", outputs=3, class_weights=weights).loss(scores, targets)
    assert float(loss) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("weights", [None, (0.5, 3.0)])
def test_one_sigmoid_equals_the_softmax_of_zero_and_the_score(weights: tuple[float, float] | None) -> None:
    scores, targets = batch(1), torch.tensor([0, 1, 1, 0, 1, 0, 1, 0, 0])
    pair = torch.cat([torch.zeros_like(scores), scores], 1)
    one = Objective(task="classification", outputs=1, class_weights=weights)
    two = Objective(task="classification", outputs=2, class_weights=weights)
    assert float(one.loss(scores, targets)) == pytest.approx(float(two.loss(pair, targets)), rel=1e-5)
    torch.testing.assert_close(one.answers(scores), two.answers(pair))
    assert one.right(scores, targets) == two.right(pair, targets)


def test_one_sigmoid_smooths_like_the_softmax() -> None:
    scores, targets = batch(1), torch.tensor([0, 1, 1, 0, 1, 0, 1, 0, 0])
    pair = torch.cat([torch.zeros_like(scores), scores], 1)
    one = Objective(task="classification", outputs=1, label_smoothing=0.2)
    two = Objective(task="classification", outputs=2, label_smoothing=0.2)
    assert float(one.loss(scores, targets)) == pytest.approx(float(two.loss(pair, targets)), rel=1e-5)


def test_labels_are_independent_sigmoids() -> None:
    scores = batch(3)
    targets = (np.random.default_rng(1).random((9, 3)) < 0.4).astype(np.uint8)
    objective = Objective(task="multi-label", outputs=3)
    wanted = objective.targets(targets)
    p = 1 / (1 + np.exp(-scores.double().numpy()))
    expected = -(targets * np.log(p) + (1 - targets) * np.log(1 - p)).mean()
    assert float(objective.loss(scores, wanted)) == pytest.approx(expected, rel=1e-5)
    assert objective.right(scores, wanted) == pytest.approx(((p > 0.5) == targets).mean(1).sum(), rel=1e-6)
    np.testing.assert_allclose(objective.answers(scores).numpy(), p, rtol=1e-5)


@given(st.floats(-1e3, 1e3), st.floats(0.01, 1e3))
def test_numbers_come_back_in_their_own_unit(mean: float, std: float) -> None:
    objective = Objective(task="regression", outputs=2, target_mean=(mean, 0.0), target_std=(std, 1.0))
    values = np.random.default_rng(2).normal(mean, std, (7, 2)).astype(np.float32)
    scaled = objective.targets(values)
    np.testing.assert_allclose(objective.answers(scaled).numpy(), values, rtol=1e-4, atol=1e-4 * (abs(mean) + std))
    assert float(objective.loss(scaled, scaled)) == 0
    assert float(objective.loss(scaled + 2, scaled)) == pytest.approx(4, rel=1e-3)
