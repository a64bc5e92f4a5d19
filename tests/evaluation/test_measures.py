"""The measures against scikit-learn, SciPy and plain loops."""

import json
import math

import numpy as np
import pytest
import sklearn.metrics as oracle
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import binomtest

from convoscope.evaluation import Scores
from convoscope.evaluation import measures as room


def drawn(seed: int, images: int, count: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Probabilities of at least 1e-6 and targets; small counts leave classes without images or answers."""
    generator = np.random.default_rng(seed)
    shares = np.maximum(generator.dirichlet(np.full(count, 0.4), images), 1e-6)
    probabilities = (shares / shares.sum(1, keepdims=True)).astype(np.float32)
    return probabilities, generator.integers(0, count, images)


@given(st.integers(0, 10**6), st.integers(1, 60), st.integers(2, 9))
def test_classification_agrees_with_scikit_learn(seed: int, images: int, count: int) -> None:
    probabilities, targets = drawn(seed, images, count)
    classes = [f"c{k}" for k in range(count)]
    found = room.classification(probabilities, targets, classes)
    predicted = probabilities.argmax(1)
    labels = list(range(count))
    assert found["accuracy"] == pytest.approx(oracle.accuracy_score(targets, predicted))
    assert found["confusion"] == oracle.confusion_matrix(targets, predicted, labels=labels).tolist()
    wanted = oracle.precision_recall_fscore_support(targets, predicted, labels=labels, zero_division=np.nan)
    for k, name in enumerate(classes):
        row = found["per_class"][name]
        for key, value in zip(("precision", "recall"), (wanted[0][k], wanted[1][k]), strict=True):
            assert (row[key] is None and math.isnan(value)) or row[key] == pytest.approx(value)
        assert row["support"] == wanted[3][k]
        if row["f1"] is not None:
            assert row["f1"] == pytest.approx(oracle.f1_score(targets == k, predicted == k, zero_division=0.0))
    assert found["macro_f1"] == pytest.approx(oracle.f1_score(targets, predicted, average="macro", zero_division=0.0))
    wide = probabilities.astype(np.float64)
    # A float32 probability near 1 is off by up to 6e-8, and so is its logarithm.
    wanted_loss = oracle.log_loss(targets, wide / wide.sum(1, keepdims=True), labels=labels)
    assert found["loss"] == pytest.approx(wanted_loss, rel=1e-5, abs=1e-6)
    members = np.eye(count)[targets]
    assert found["brier"] == pytest.approx(np.mean([((p - t) ** 2).sum() for p, t in zip(wide, members, strict=True)]))
    if count > 5:
        assert found["top5"] == pytest.approx(oracle.top_k_accuracy_score(targets, probabilities, k=5, labels=labels))
    else:
        assert found["top5"] is None


@given(st.integers(0, 10**6), st.integers(2, 40), st.integers(1, 5))
def test_labelling_agrees_with_scikit_learn(seed: int, images: int, count: int) -> None:
    generator = np.random.default_rng(seed)
    probabilities = generator.random((images, count)).round(2).astype(np.float32)
    targets = generator.integers(0, 2, (images, count)).astype(np.uint8)
    targets[0] = 1
    classes = [f"l{k}" for k in range(count)]
    found = room.labelling(probabilities, targets, classes)
    predicted = (probabilities >= 0.5).astype(int)
    assert found["accuracy"] == pytest.approx(1 - oracle.hamming_loss(targets, predicted))
    assert found["exact_match"] == pytest.approx((targets == predicted).all(1).mean())
    assert np.array_equal(
        found["confusion"],
        [oracle.confusion_matrix(targets[:, k], predicted[:, k], labels=[0, 1]) for k in range(count)],
    )
    two = targets.reshape(images, count)
    assert found["micro_f1"] == pytest.approx(oracle.f1_score(two.ravel(), predicted.ravel(), zero_division=0.0))
    each = [oracle.f1_score(two[:, k], predicted[:, k], zero_division=0.0) for k in range(count)]
    assert found["macro_f1"] == pytest.approx(np.mean(each))
    for k, name in enumerate(classes):
        wanted = oracle.average_precision_score(targets[:, k], probabilities[:, k])
        assert found["per_class"][name]["average_precision"] == pytest.approx(wanted)


def test_a_label_without_images_has_no_average_precision() -> None:
    found = room.labelling(np.array([[0.2], [0.7]]), np.array([[0], [0]], np.uint8), ["rare"])
    assert found["per_class"]["rare"] == {
        "precision": 0.0,
        "recall": None,
        "f1": 0.0,
        "support": 0,
        "average_precision": None,
        "roc_auc": None,
    }


@given(st.integers(0, 10**6), st.integers(2, 40), st.integers(1, 4))
def test_regression_agrees_with_scikit_learn(seed: int, images: int, count: int) -> None:
    generator = np.random.default_rng(seed)
    targets = generator.normal(3, 5, (images, count)).astype(np.float32)
    predicted = targets + generator.normal(0, 2, targets.shape).astype(np.float32)
    found = room.regression(predicted, targets, [f"n{k}" for k in range(count)])
    predicted, targets = predicted.astype(np.float64), targets.astype(np.float64)
    assert found["accuracy"] == pytest.approx(oracle.r2_score(targets, predicted), rel=1e-5)
    assert found["mae"] == pytest.approx(oracle.mean_absolute_error(targets, predicted), rel=1e-5)
    assert found["rmse"] == pytest.approx(oracle.root_mean_squared_error(targets, predicted), rel=1e-5)
    assert found["loss"] == pytest.approx(oracle.mean_squared_error(targets, predicted), rel=1e-5)
    for k in range(count):
        assert found["per_class"][f"n{k}"]["r2"] == pytest.approx(
            oracle.r2_score(targets[:, k], predicted[:, k]), rel=1e-5
        )


@pytest.mark.parametrize(("predicted", "wanted"), [([2.0, 2.0], 1.0), ([2.0, 3.0], 0.0)])
def test_r_squared_of_equal_targets(predicted: list[float], wanted: float) -> None:
    assert room.r_squared(np.array(predicted)[:, None], np.array([[2.0], [2.0]])).tolist() == [wanted]


@given(st.integers(1, 400), st.data())
def test_wilson_agrees_with_scipy(total: int, data: st.DataObject) -> None:
    right = data.draw(st.integers(0, total))
    wanted = binomtest(right, total).proportion_ci(0.95, "wilson")
    assert room.wilson(right, total) == pytest.approx((wanted.low, wanted.high), abs=1e-12)


@given(st.integers(0, 10**6), st.integers(1, 80), st.integers(1, 20))
def test_calibration_agrees_with_a_plain_loop(seed: int, images: int, bins: int) -> None:
    generator = np.random.default_rng(seed)
    confidence = generator.integers(0, 41, images) / 40  # on bin edges, 0 and 1 too
    correct = generator.random(images) < confidence
    found = room.calibration(confidence, correct, bins)
    error, seen = 0.0, 0
    for k in range(bins):
        members = [
            i for i in range(images) if (k == 0 and confidence[i] == 0) or k < math.ceil(confidence[i] * bins) <= k + 1
        ]
        entry = found.bins[k]
        assert entry.images == len(members)
        seen += len(members)
        if members:
            right, sure = np.mean(correct[members]), np.mean(confidence[members])
            assert (entry.accuracy, entry.confidence) == pytest.approx((right, sure))
            error += float(len(members) / images * abs(right - sure))
        else:
            assert entry.accuracy is None
    assert seen == images
    assert found.ece == pytest.approx(error)


def test_one_sure_mistake_costs_at_most_27_6() -> None:
    assert room.cross_entropy(np.array([[1.0, 0.0]], np.float32), np.array([1])) == pytest.approx(-math.log(1e-12))


def test_chance_is_the_best_constant_answer() -> None:
    probabilities = np.array([[0.5, 0.3, 0.2]] * 5)
    assert room.classification(probabilities, np.array([0, 0, 1, 2, 0]), "abc")["chance"] == 0.6
    targets = np.array([[1, 0], [1, 0], [1, 1], [0, 0]], np.uint8)
    assert room.labelling(np.zeros((4, 2)), targets, "ab")["chance"] == 0.75


def test_scores_survive_json() -> None:
    probabilities, targets = drawn(0, 30, 7)
    classes = tuple("abcdefg")
    found = Scores(
        task="classification", source="s", split="test", images=30, classes=classes, notes=("one",),
        **room.classification(probabilities, targets, classes),
    )  # fmt: skip
    text = json.dumps(found.to_json(), allow_nan=False)
    assert Scores.from_json({**json.loads(text), "of_a_later_version": 1}) == found
    header, rows = found.rows()
    assert len(rows) == 7 and all(len(row) == len(header) for row in rows)
    assert "<table>" in found._repr_html_()


def test_the_interval_of_shares_is_that_of_agresti_and_coull_where_each_is_0_or_1() -> None:
    """p~ = (x + z^2/2) / (n + z^2), p~ +- z sqrt(p~ (1 - p~) / (n + z^2)); a few that are all right are no certainty."""
    z = 1.959963984540054
    for right, total in ((15, 15), (0, 7), (30, 40), (1, 1)):
        shares = np.repeat([1.0, 0.0], [right, total - right])
        count = total + z * z
        centre = (right + z * z / 2) / count
        reach = z * (centre * (1 - centre) / count) ** 0.5
        assert room.mean_interval(shares) == pytest.approx((max(0, centre - reach), min(1, centre + reach)), abs=1e-12)
    low, high = room.mean_interval(np.full(15, 1.0))
    assert low < 0.8 and high == 1.0
    many = np.random.default_rng(0).choice([0.5, 0.75, 1.0], 40_000)
    low, high = room.mean_interval(many)
    assert high - low == pytest.approx(2 * z * many.std() / 200, rel=1e-3)
