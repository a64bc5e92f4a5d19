"""Curves and tables of thresholds against scikit-learn and plain loops."""

from __future__ import annotations

import json

import numpy as np
import pytest
import sklearn.metrics as oracle
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from convoscope.evaluation import measures, thresholds
from convoscope.evaluation.results import plain


@given(st.integers(0, 10**6), st.integers(2, 80), st.integers(1, 3))
def test_areas_and_curves_with_many_equal_scores(seed: int, images: int, digits: int) -> None:
    generator = np.random.default_rng(seed)
    truth = generator.integers(0, 2, images) > 0
    truth[:2] = True, False
    scores = generator.random(images).round(digits).astype(np.float32)
    assert thresholds.roc_auc(truth, scores) == pytest.approx(oracle.roc_auc_score(truth, scores))
    assert thresholds.average_precision(truth, scores) == pytest.approx(oracle.average_precision_score(truth, scores))
    curves = thresholds.class_curves(truth, scores)
    assert curves is not None
    alarm, rate, _ = oracle.roc_curve(truth, scores, drop_intermediate=False)
    np.testing.assert_allclose(curves.roc, np.stack([alarm, rate], 1))
    precision, recall, _ = oracle.precision_recall_curve(truth, scores)
    np.testing.assert_allclose(curves.precision_recall, np.stack([recall, precision], 1)[-2::-1])


def test_without_a_positive_or_a_negative_image_there_is_no_area() -> None:
    scores = np.array([0.2, 0.7])
    for truth in (np.array([True, True]), np.array([False, False])):
        assert thresholds.roc_auc(truth, scores) is None and thresholds.class_curves(truth, scores) is None
    assert thresholds.average_precision(np.array([False, False]), scores) is None


def test_a_long_curve_is_thinned_and_keeps_its_area() -> None:
    generator = np.random.default_rng(0)
    truth = generator.random(20_000) < 0.3
    scores = generator.normal(truth * 1.5, 1)
    curves = thresholds.class_curves(truth, scores)
    assert curves is not None and len(curves.roc) <= thresholds.POINTS + 1
    assert curves.roc[0] == (0.0, 0.0) and curves.roc[-1] == (1.0, 1.0)
    alarm, rate = np.array(curves.roc).T
    assert np.trapezoid(rate, alarm) == pytest.approx(thresholds.roc_auc(truth, scores), abs=2e-3)


@given(st.integers(0, 10**6), st.integers(2, 60))
def test_thresholds(seed: int, images: int) -> None:
    generator = np.random.default_rng(seed)
    truth, scores = generator.integers(0, 2, images) > 0, generator.random(images).round(2)
    for row in thresholds.threshold_table(truth, scores):
        yes = [score >= row.threshold for score in scores]
        assert row.chosen == sum(yes)
        right = sum(a and b for a, b in zip(yes, truth, strict=True))
        assert row.precision == (right / sum(yes) if any(yes) else None)
        assert row.recall == (right / truth.sum() if truth.any() else None)
        assert row.false_alarms == (pytest.approx((sum(yes) - right) / (~truth).sum()) if (~truth).any() else None)
        assert row.accuracy == pytest.approx(oracle.accuracy_score(truth, yes))


@given(st.integers(0, 10**6), st.integers(1, 60))
def test_coverage(seed: int, images: int) -> None:
    generator = np.random.default_rng(seed)
    confidence, correct = generator.random(images), generator.integers(0, 2, images) > 0
    rows = thresholds.coverage_table(confidence, correct)
    assert rows[0].images == images
    assert [row.images for row in rows] == sorted({row.images for row in rows}, reverse=True)
    for row in rows:
        kept = [right for sure, right in zip(confidence, correct, strict=True) if sure >= row.confidence]
        assert row.images == len(kept) and row.accuracy == pytest.approx(sum(kept) / len(kept))
        assert row.coverage == pytest.approx(len(kept) / images)


@given(st.integers(0, 10**6), st.floats(0.3, 4))
def test_a_temperature_can_be_undone(seed: int, temperature: float) -> None:
    scores = np.random.default_rng(seed).normal(0, 3, (20, 4))

    def softmax(values: NDArray[np.float64]) -> NDArray[np.float64]:
        powers: NDArray[np.float64] = np.exp(values - values.max(1, keepdims=True))
        shares: NDArray[np.float64] = powers / powers.sum(1, keepdims=True)
        return shares

    np.testing.assert_allclose(
        measures.undo_temperature(softmax(scores / temperature), temperature), softmax(scores), atol=1e-12
    )
    np.testing.assert_allclose(
        measures.undo_label_temperature(1 / (1 + np.exp(-scores / temperature)), temperature),
        1 / (1 + np.exp(-scores)),
        atol=1e-9,
    )


def test_what_a_temperature_has_changed() -> None:
    """Probabilities that were too modest: sharpened by a temperature of a half, they agree better with the truth."""
    generator = np.random.default_rng(3)
    targets = np.arange(300) % 3
    raw = np.full((300, 3), 0.2)
    right = generator.random(300) < 0.9
    raw[np.arange(300), np.where(right, targets, (targets + 1) % 3)] = 0.6
    sharp = raw**2 / (raw**2).sum(1, keepdims=True)
    found = measures.classification(sharp, targets, ("a", "b", "c"), 0.5)
    before = measures.classification(raw, targets, ("a", "b", "c"))
    assert before["uncalibrated"] is None
    assert found["uncalibrated"].temperature == 0.5
    assert found["uncalibrated"].loss == pytest.approx(before["loss"])
    assert found["uncalibrated"].ece == pytest.approx(before["calibration"].ece)
    assert found["calibration"].ece < found["uncalibrated"].ece and found["loss"] < found["uncalibrated"].loss


def test_curves_are_of_the_classes_hardest_to_find() -> None:
    generator = np.random.default_rng(5)
    targets = np.arange(600) % 20
    scores = generator.random((600, 20)) + np.eye(20)[targets] * np.linspace(0, 2, 20)
    found = measures.classification(scores / scores.sum(1, keepdims=True), targets, [f"c{k}" for k in range(20)])
    areas = {name: row["roc_auc"] for name, row in found["per_class"].items()}
    assert set(found["curves"]) == set(sorted(areas, key=lambda name: areas[name])[: measures.MOST_CURVES])
    assert json.loads(json.dumps(plain(found["curves"]))) == plain(found["curves"])
    two = measures.classification(scores[:, :2] / scores[:, :2].sum(1, keepdims=True), targets % 2, ("no", "yes"))
    assert list(two["curves"]) == ["yes"] and len(two["thresholds"]) == len(thresholds.THRESHOLDS)
