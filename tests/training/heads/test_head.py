"""Heads: each against an independent solution of the same problem."""

import numpy as np
import pytest
import torch
from torch import nn

from convoscope.training.heads.head import Examples, Head, _basis, cross_validated, linear, mlp, nearest_mean


def cloud(classes: int, count: int, width: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Points around `classes` centres, some of them nearer to another one."""
    generator = torch.Generator().manual_seed(seed)
    centres = 1.5 * torch.randn(classes, width, generator=torch.Generator().manual_seed(99))
    targets = torch.arange(classes * count) % classes
    return centres[targets] + 2 * torch.randn(len(targets), width, generator=generator) + 5, targets


def test_nearest_mean_is_the_nearest_mean() -> None:
    features, targets = cloud(4, 30, 6)
    head = nearest_mean(Examples.of(features, targets, features[:20], targets[:20]), 4)
    means = np.stack([features[targets == label].mean(0).numpy() for label in range(4)])
    others, _ = cloud(4, 50, 6, seed=1)
    nearest = np.linalg.norm(others.numpy()[:, None] - means[None], axis=2).argmin(1)
    np.testing.assert_array_equal(head.scores(others).argmax(1).numpy(), nearest)


def test_the_linear_head_is_logistic_regression() -> None:
    """scikit-learn solves the same problem: C * sum of losses + |w|^2 / 2, so C = 1 / (l2 * N)."""
    from sklearn.linear_model import LogisticRegression

    features, targets = cloud(3, 60, 5)
    validation, truth = cloud(3, 60, 5, seed=2)
    examples = Examples.of(features, targets, validation, truth)
    head = linear(examples, 3)
    assert head.l2 > 0
    oracle = LogisticRegression(C=1 / (head.l2 * len(features)), tol=1e-8, max_iter=10_000)
    oracle.fit(examples.train.numpy(), targets.numpy())
    wanted = oracle.predict_proba(examples.validation.numpy())
    np.testing.assert_allclose(head.scores(validation).softmax(1).numpy(), wanted, atol=2e-3)


def test_few_long_vectors_are_solved_along_what_they_span() -> None:
    """As scikit-learn has it in all dimensions; the weights, too, which are unique under an L2 penalty."""
    from sklearn.linear_model import LogisticRegression

    features, targets = cloud(3, 10, 400)
    validation, truth = cloud(3, 20, 400, seed=2)
    truth[::3] = (truth[::3] + 1) % 3  # so that a strong penalty is chosen, whose weights are found exactly
    examples = Examples.of(features, targets, validation, truth)
    basis = _basis(examples.train)
    assert basis is not None and basis.shape == (400, 29)  # 30 centred vectors
    torch.testing.assert_close(basis.T @ basis, torch.eye(29), atol=1e-5, rtol=0)
    head = linear(examples, 3)
    oracle = LogisticRegression(C=1 / (head.l2 * len(features)), tol=1e-10, max_iter=100_000)
    oracle.fit(features.numpy().astype(np.float64) * examples.factor, targets.numpy())
    weight = head.layers[0][0].numpy() / examples.factor
    np.testing.assert_allclose(weight, oracle.coef_, atol=2e-3 * np.abs(oracle.coef_).max())


@pytest.mark.parametrize("width", [6, 200])
def test_cross_validation_leaves_each_image_out_once(width: int) -> None:
    """The same by scikit-learn: its splitter would divide otherwise, so the folds are taken from ours by what makes them up."""
    from sklearn.linear_model import LogisticRegression

    from convoscope.training.heads.head import L2_PENALTIES, _folds

    features, targets = cloud(3, 9, width)
    features[::9] = 0.6 * features[1::9] + 0.4 * features[::9]  # some images look like another class
    fold = _folds(targets, 7).numpy()
    assert sorted(np.bincount(fold)) == [5, 5, 5, 6, 6]
    for label in range(3):
        assert set(np.bincount(fold[targets.numpy() == label], minlength=5)) <= {1, 2}
    assert not np.array_equal(fold, _folds(targets, 8).numpy())
    losses = []
    for l2 in L2_PENALTIES[::2]:
        total = 0.0
        for number in range(5):
            inside, outside = fold != number, fold == number
            examples = Examples.of(features[inside], targets[inside], features[outside], targets[outside])
            oracle = LogisticRegression(C=1 / (l2 * inside.sum()), tol=1e-10, max_iter=100_000)
            oracle.fit(examples.train.double().numpy(), targets[inside].numpy())
            likely = oracle.predict_proba(examples.validation.double().numpy())
            total -= np.log(likely[np.arange(outside.sum()), targets[outside].numpy()]).sum()
        losses.append(total / len(targets))
    assert 0 < int(np.argmin(losses)) < len(losses) - 1  # a real choice
    assert cross_validated(features, targets, 3, seed=7) == pytest.approx(min(losses), rel=2e-3)


def test_the_l2_penalty_is_the_one_with_the_least_validation_loss() -> None:
    from convoscope.training.heads.head import L2_PENALTIES, _minimise

    features, targets = cloud(3, 8, 20)
    validation, truth = cloud(3, 60, 20, seed=3)
    examples = Examples.of(features, targets, validation, truth)
    head = linear(examples, 3)
    losses = []
    for l2 in L2_PENALTIES:
        weight, bias = torch.zeros(3, 20, requires_grad=True), torch.zeros(3, requires_grad=True)
        _minimise(examples, weight, bias, l2)
        losses.append(
            float(nn.functional.cross_entropy(nn.functional.linear(examples.validation, weight, bias), truth).detach())
        )
    assert 0 < losses.index(min(losses)) < len(L2_PENALTIES) - 1  # a real choice
    assert head.l2 == L2_PENALTIES[losses.index(min(losses))]


def test_the_small_network_learns_what_no_line_divides() -> None:
    generator = torch.Generator().manual_seed(0)
    points = torch.randn(600, 8, generator=generator)
    targets = ((points[:, 0] > 0) != (points[:, 1] > 0)).long()
    examples = Examples.of(points[:400], targets[:400], points[400:500], targets[400:500])
    right = [
        (head.scores(points[500:]).argmax(1) == targets[500:]).float().mean()
        for head in (linear(examples, 2), mlp(examples, 2, 0))
    ]
    assert right[0] < 0.65 and right[1] > 0.8
    assert all(
        torch.equal(a, b)
        for one, two in zip(mlp(examples, 2, 0).layers, mlp(examples, 2, 0).layers, strict=True)
        for a, b in zip(one, two, strict=True)
    )


def test_a_head_goes_into_a_network_and_comes_back() -> None:
    head = Head(((torch.randn(4, 3), torch.randn(4)), (torch.randn(2, 4), torch.randn(2))))
    again = Head.read(["a", "b.c"], head.tensors(["a", "b.c"]))
    points = torch.randn(5, 3)
    assert torch.equal(again.scores(points), head.scores(points))


def test_features_of_one_value_do_no_harm() -> None:
    features, targets = torch.ones(10, 3), torch.arange(10) % 2
    head = linear(Examples.of(features, targets, features, targets), 2)
    assert head.scores(features).isfinite().all()
