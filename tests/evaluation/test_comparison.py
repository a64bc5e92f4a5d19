"""Runs side by side."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from convoscope import evaluation
from convoscope.errors import UsageError
from convoscope.evaluation import compare, write_comparison
from tests.support.html_pages import HOSTILE, read
from tests.support.standin import StandInRun, numbers_run, pictures_run


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[StandInRun]:
    tmp_path = tmp_path_factory.mktemp("runs")
    made: list[StandInRun] = []
    for name, model in (("first", "conv(4) relu flatten dense"), ("second", "custom:Mine")):
        (tmp_path / name).mkdir()
        run = pictures_run(tmp_path / name, model=model, seconds=10.0 + len(made))
        if made:
            run = run.changed(answer=lambda batch: np.eye(2)[(batch[:, 5, 5, 0] > 125).astype(int)])
        evaluation.test(run)
        made.append(run)
    return made


def test_side_by_side(runs: list[StandInRun]) -> None:
    comparison = compare(runs)
    content = json.loads(json.dumps(comparison.to_json(), allow_nan=False))
    first, second = content["runs"]
    scores = evaluation.read_scores(runs[0].folder)
    assert scores is not None and scores.invariance is not None
    assert (first["name"], first["accuracy"], first["loss"]) == ("first", scores.accuracy, scores.loss)
    assert first["multiply_adds"] == 12 * 12 * 27 * 4 + 12 * 12 * 4 * 2 and second["multiply_adds"] is None
    assert (first["seconds"], first["best_epoch"], first["epochs"]) == (10.0, 3, 4)
    assert first["gap"] == pytest.approx(0.9 - 0.8)
    assert first["ranges"].keys() == {"shift", "turn", "scale"}
    shared = [point.pixels for point in scores.invariance.shift]
    assert [row["pixels"] for row in content["invariance"]["shift"]] == shared
    assert all(len(row["accuracy"]) == 2 for kind in ("shift", "turn", "scale") for row in content["invariance"][kind])
    assert content["notes"] == []
    header, rows = comparison.rows()
    assert len(rows) == 2 and all(len(row) == len(header) for row in rows)
    assert "<table>" in comparison._repr_html_()


def test_what_is_not_known_stands_beside_the_accuracy(runs: list[StandInRun]) -> None:
    """Where a run has an out-of-distribution detector; else there is no such column."""
    comparison = compare(runs)
    assert "not known" not in comparison.rows()[0]
    entries = [replace(run, not_known=share) for run, share in zip(comparison.runs, (0.025, None), strict=True)]
    header, rows = replace(comparison, runs=entries).rows()
    place = header.index("not known")
    assert header[place - 2] == "accuracy" and [row[place] for row in rows] == ["2.5 %", "–"]
    assert all(len(row) == len(header) for row in rows)


def test_the_page(runs: list[StandInRun], tmp_path: Path) -> None:
    page = read(write_comparison(compare(runs), tmp_path / "both.html"))
    assert "2 runs side by side" in page.text
    assert "Shifted, turned, scaled" in page.words
    assert page.source.count("<polyline") > 10


def test_hostile_run_names(tmp_path: Path) -> None:
    run = pictures_run(tmp_path / HOSTILE, source=HOSTILE, model=f"custom:{HOSTILE}")
    run.folder.mkdir()
    evaluation.test(run, invariance=False)
    page = read(write_comparison(compare([run]), tmp_path / "one.html"))
    assert HOSTILE not in page.source and HOSTILE in page.text
    assert "tested without shift, turn and scale" in page.text


def test_doubts_are_said(runs: list[StandInRun], tmp_path: Path) -> None:
    (tmp_path / "third").mkdir()
    third = pictures_run(tmp_path / "third", classes=("a", "b", "c"))
    evaluation.test(third, split="train", invariance=False)
    comparison = compare([*runs, third])
    text = " ".join(comparison.notes)
    assert "different images" in text and "different classes" in text and "third" in text
    assert comparison.invariance is None
    assert comparison.rows()[1][2][-1] == "–"


def test_runs_of_the_same_name(tmp_path: Path) -> None:
    made = []
    for folder in ("a/run", "b/run"):
        (tmp_path / folder).mkdir(parents=True)
        made.append(pictures_run(tmp_path / folder))
        evaluation.test(made[-1], invariance=False)
    assert [run.name for run in compare(made).runs] == ["a/run", "b/run"]
    assert len(compare([made[0], made[0]]).runs) == 2


def test_untested_runs_are_named(runs: list[StandInRun], tmp_path: Path) -> None:
    (tmp_path / "third").mkdir()
    with pytest.raises(UsageError, match="has not been tested; only tested runs can be compared") as caught:
        compare([*runs, pictures_run(tmp_path / "third")])
    assert caught.value.code == "run-not-tested"
    assert caught.value.hint == f"convoscope test {tmp_path / 'third'}"


def test_nothing_to_compare() -> None:
    with pytest.raises(UsageError, match="expected one or more runs to compare; received none") as caught:
        compare([])
    assert caught.value.code == "compare-nothing"


def test_what_makes_figures_too_good_is_said(runs: list[StandInRun], tmp_path: Path) -> None:
    (tmp_path / "seen").mkdir()
    seen = pictures_run(tmp_path / "seen")
    evaluation.test(seen, split="train", invariance=False)
    assert any(note.startswith("seen: these images were used in training") for note in compare([*runs, seen]).notes)
    scores = evaluation.read_scores(seen.folder)
    assert scores is not None and scores.gap is not None and scores.gap.test_accuracy is None
    assert "test_accuracy" not in scores.to_json()["gap"]


def test_numbers_and_classes_have_no_figure_in_common(runs: list[StandInRun], tmp_path: Path) -> None:
    (tmp_path / "numbers").mkdir()
    numbers = numbers_run(tmp_path / "numbers")
    evaluation.test(numbers, invariance=False)
    with pytest.raises(UsageError) as caught:
        compare([*runs, numbers])
    assert caught.value.code == "compare-tasks"
