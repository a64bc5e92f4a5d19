"""The temperature: the minimum that SciPy finds, of a likelihood written down in NumPy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import expit, log_softmax

from convoscope.training.core import temperature
from convoscope.training.core.objective import Objective
from convoscope.training.core.temperature import COLDEST, FEWEST, HOTTEST, best_temperature, fit_temperature

Floats = NDArray[np.float64]


def likelihood(task: str, scores: Floats, targets: NDArray[np.int64], temperature: float) -> float:
    """The mean negative log-likelihood under Platt's targets."""
    values = scores / temperature
    if task == "multi-label":
        rest = 1 / (values.size + 2)
        wanted = np.where(targets > 0, 1 - rest, rest)
        return float(-(wanted * np.log(expit(values)) + (1 - wanted) * np.log(expit(-values))).mean())
    if values.shape[1] == 1:
        values = np.hstack([np.zeros_like(values), values])
    count, classes = values.shape
    wanted = np.full(values.shape, 1 / (count + 2) / (classes - 1))
    wanted[np.arange(count), targets] = 1 - 1 / (count + 2)
    return float(-(wanted * log_softmax(values, axis=1)).sum(axis=1).mean())


def problem(task: str, outputs: int, sharpness: float, seed: int) -> tuple[Floats, NDArray[np.int64]]:
    """Scores whose right temperature is about 1 / sharpness ... times something, with noise."""
    generator = np.random.default_rng(seed)
    scores = generator.normal(0, 2, (400, outputs))
    if task == "multi-label":
        targets = (generator.uniform(size=scores.shape) < expit(scores)).astype(np.int64)
    elif outputs == 1:
        targets = (generator.uniform(size=400) < expit(scores[:, 0])).astype(np.int64)
    else:
        targets = (scores + generator.gumbel(size=scores.shape)).argmax(axis=1)
    return scores * sharpness, targets


@pytest.mark.parametrize("sharpness", [0.1, 1.0, 7.0])
@pytest.mark.parametrize(("task", "outputs"), [("classification", 5), ("classification", 1), ("multi-label", 3)])
def test_the_minimum_is_scipys(task: str, outputs: int, sharpness: float) -> None:
    for seed in range(3):
        scores, targets = problem(task, outputs, sharpness, seed)
        oracle = minimize_scalar(
            lambda log, scores=scores, targets=targets: likelihood(task, scores, targets, float(np.exp(log))),
            bounds=(np.log(COLDEST), np.log(HOTTEST)),
            method="bounded",
            options={"xatol": 1e-9},
        )
        found = best_temperature(task, torch.from_numpy(scores), torch.from_numpy(targets))  # type: ignore[arg-type]
        assert found == pytest.approx(np.exp(oracle.x), rel=1e-5)
        assert found == pytest.approx(sharpness, rel=0.35)  # the scores were drawn so that this is the true one


def test_all_right_is_not_infinitely_sure() -> None:
    """Every answer right by the same margin: as sure as Laplace's rule of succession, 1 - 1 / (n + 2)."""
    scores = torch.zeros(98, 3)
    targets = torch.arange(98) % 3
    scores[torch.arange(98), targets] = 40.0
    found = fit_temperature("classification", scores, targets)
    assert found is not None
    assert float(torch.softmax(scores / found, 1).max(1).values.mean()) == pytest.approx(0.99, abs=1e-6)


def test_at_its_bounds() -> None:
    scores = torch.eye(3)[torch.arange(90) % 3]
    wrong = (torch.arange(90) + 1) % 3
    assert best_temperature("classification", scores, wrong) == HOTTEST
    assert best_temperature("classification", scores * 1e-6, torch.arange(90) % 3) == COLDEST


def test_where_none_is_fitted() -> None:
    scores, targets = torch.randn(FEWEST, 3), torch.arange(FEWEST) % 3
    assert fit_temperature("classification", scores, targets) is not None
    assert fit_temperature("classification", scores[1:], targets[1:]) is None
    assert fit_temperature("regression", scores, scores) is None
    scores[3, 1] = float("nan")
    assert fit_temperature("classification", scores, targets) is None


def test_of_very_many_scores_some_are_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    scores, targets = (torch.from_numpy(values) for values in problem("classification", 4, 3.0, 0))
    monkeypatch.setattr(temperature, "_MOST_SCORES", 4 * 100)
    chosen = torch.linspace(0, 399, 100, dtype=torch.float64).long()
    wanted = best_temperature("classification", scores[chosen], targets[chosen])
    assert best_temperature("classification", scores, targets) == wanted
    monkeypatch.setattr(temperature, "_MOST_SCORES", 4 * 400)
    assert best_temperature("classification", scores, targets) != wanted


@pytest.mark.parametrize(("task", "outputs"), [("classification", 4), ("classification", 1), ("multi-label", 4)])
def test_answers_keep_their_order_and_the_loss_its_raw_scores(task: str, outputs: int) -> None:
    scores = torch.randn(50, outputs)
    plain = Objective(task=task, outputs=outputs)  # type: ignore[arg-type]
    scaled = Objective(task=task, outputs=outputs, temperature=2.5)  # type: ignore[arg-type]
    before, after = plain.answers(scores), scaled.answers(scores)
    assert torch.equal(before.argsort(1), after.argsort(1))
    torch.testing.assert_close(after, plain.answers(scores / 2.5))
    targets = torch.randint(0, 2, (50, outputs) if task == "multi-label" else (50,)).float()
    targets = targets if task == "multi-label" else targets.long()
    assert torch.equal(plain.loss(scores, targets), scaled.loss(scores, targets))
