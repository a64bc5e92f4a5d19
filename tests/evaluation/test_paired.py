"""Differences of two runs, against SciPy, plain loops and simulation."""

import itertools
import math
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from convoscope import evaluation
from convoscope.evaluation import compare, write_comparison
from convoscope.evaluation.paired import (
    holm,
    mcnemar,
    mean_difference,
    p_text,
    paired_interval,
    read_answers,
    unpaired_interval,
    unpaired_p,
)
from tests.support.html_pages import read
from tests.support.pictures import Pixels
from tests.support.standin import labels_run, numbers_run, pictures_run


def by_brightness(batch: Pixels) -> NDArray[np.float64]:
    """Right for every image of `pictures_run`, the marked ones too."""
    bright = np.median(batch.reshape(len(batch), -1), axis=1)
    answers: NDArray[np.float64] = np.eye(2)[np.abs(bright[:, None] - np.array([20, 230])).argmin(axis=1)]
    return answers


def test_the_exact_test_is_scipys() -> None:
    for one, other in [*itertools.product(range(9), repeat=2), (400, 470), (3000, 3100)]:
        expected = stats.binomtest(one, one + other).pvalue if one + other else 1.0
        assert mcnemar(one, other) == pytest.approx(expected, rel=1e-9)
    assert mcnemar(0, 6) == 0.03125


@pytest.mark.parametrize("table", [(0.6, 0.1, 0.1, 0.2), (0.8, 0.15, 0.03, 0.02), (0.3, 0.2, 0.3, 0.2)])
def test_the_paired_interval_holds_the_difference_nineteen_times_of_twenty(table: tuple[float, ...]) -> None:
    drawn = np.random.default_rng(0).multinomial(60, table, 3000)
    inside = sum(low <= table[1] - table[2] <= high for low, high in (paired_interval(*row) for row in drawn.tolist()))
    assert 0.93 <= inside / 3000 <= 0.985


def test_intervals_are_symmetric_and_narrower_in_pairs() -> None:
    low, high = paired_interval(80, 6, 1, 13)
    assert paired_interval(80, 1, 6, 13) == pytest.approx((-high, -low))
    wide = unpaired_interval((86, 100), (81, 100))
    assert wide[0] < low < 0.05 < high < wide[1]
    # Without any correlation both are the same: the number of right answers of each is all that counts.
    assert paired_interval(25, 25, 25, 25) == pytest.approx(unpaired_interval((50, 100), (50, 100)))


def test_unpaired_runs_are_tested_as_scipy_does() -> None:
    expected = stats.chi2_contingency([[86, 14], [70, 30]], correction=False).pvalue
    assert unpaired_p((86, 100), (70, 100)) == pytest.approx(expected, rel=1e-9)
    assert unpaired_p((10, 10), (20, 20)) == 1.0


def test_means_of_differences() -> None:
    values = np.random.default_rng(3).normal(0.2, 1, 80)
    p, (low, high) = mean_difference(values)
    assert p == pytest.approx(stats.ttest_1samp(values, 0).pvalue, abs=0.02)
    expected = stats.bootstrap((values,), np.mean, method="percentile", rng=np.random.default_rng(1))
    assert (low, high) == pytest.approx(tuple(expected.confidence_interval), abs=0.02)
    assert mean_difference(values) == (p, (low, high))
    assert mean_difference(np.zeros(9))[0] == 1.0


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.7]) == [1.0, 1.0] and holm([]) == []
    assert [p_text(p) for p in (0.03125, 0.0001, 0.004, 0.62)] == ["p = 0.031", "p < 0.001", "p = 0.004", "p = 0.62"]


def test_answers_to_the_same_images_are_paired(tmp_path: Path) -> None:
    made = []
    for name in ("a", "b", "elsewhere"):
        (tmp_path / name).mkdir()
        names = [f"{row}.png" for row in range(60)]
        run = pictures_run(tmp_path / name, names=names, source="x" if name == "elsewhere" else "pictures")
        if name == "b":
            run = run.changed(answer=by_brightness)
        evaluation.test(run, invariance=False)
        made.append(run)
    pair = compare(made[:2]).pairs[0]
    assert (pair.better, pair.other, pair.paired, pair.images, pair.only_other) == ("b", "a", True, 40, 0)
    assert pair.only_better == 6 and pair.p == pair.holm == 0.03125 and pair.difference == pytest.approx(6 / 40)
    assert pair.sentence.startswith(
        "b answers 6 images right that a gets wrong, a none that b gets wrong: p = 0.031, too much for chance. 95 %"
    )
    page = read(write_comparison(compare(made[:2]), tmp_path / "page.html"))
    assert "a none that b gets wrong: p = 0.031" in page.text and "overlap" not in page.text
    three = compare(made).pairs
    assert [one.paired for one in three] == [True, False, False] and three[0].holm > three[0].p
    assert "on different images, so they cannot be paired" in three[1].sentence
    assert compare(made[:1]).pairs == []


def test_labels_and_numbers_are_paired(tmp_path: Path) -> None:
    for make in (labels_run, numbers_run):
        made = []
        for name in ("a", "b"):
            folder = tmp_path / make.__name__ / name
            folder.mkdir(parents=True)
            run = make(folder)
            run = run if name == "a" else run.changed(answer=lambda batch, run=run: run.answer(batch) * 0.4)
            run = run.changed(names=[f"{row}.png" for row in range(len(run.pixels))])
            scores = evaluation.test(run, invariance=False)
            answers = read_answers(folder, scores)
            assert answers is not None and scores.accuracy is not None
            assert math.fsum(answers.values()) / len(answers) == pytest.approx(scores.accuracy, abs=1e-4)
            made.append(run)
        (pair,) = compare(made).pairs
        assert pair.paired and pair.better == "a" and pair.interval[0] <= pair.difference <= pair.interval[1]


def test_damaged_answers_are_not_paired(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    run = pictures_run(tmp_path / "run", names=[f"{row}.png" for row in range(60)])
    scores = evaluation.test(run, invariance=False)
    path = tmp_path / "run" / "test" / "predictions.csv"
    whole = path.read_text()
    assert read_answers(run.folder, scores) is not None
    for text in ("", "path\na", whole[: len(whole) // 2], whole.replace(",yes,", ",perhaps,"), whole + whole):
        path.write_text(text)
        assert read_answers(run.folder, scores) is None
    path.unlink()
    assert read_answers(run.folder, scores) is None
