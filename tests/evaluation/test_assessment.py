"""`test` on a stand-in for a run: what is measured, what is written, what is refused."""

import csv
import json
import os
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from convoscope import evaluation
from convoscope.data import Dataset, escape_cell, from_arrays, prepare
from convoscope.errors import DataError, InUseError, MachineError, ModelFileError, UsageError
from convoscope.evaluation import read_scores
from convoscope.files import FolderLock
from tests.support.pictures import class_folders
from tests.support.standin import StandInRun, labels_run, numbers_run, pictures_run


def table(path: Path) -> list[list[str]]:
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.reader(file))


def test_scores_of_classes(tmp_path: Path) -> None:
    run = pictures_run(tmp_path)
    ticks: list[tuple[int, int]] = []
    scores = evaluation.test(run, progress=lambda done, total: ticks.append((done, total)))
    rows = np.flatnonzero(run.splits == 2)
    wanted = (run.scores(run.pixels[rows]).argmax(1) == run.targets[rows]).mean()
    assert scores.accuracy == pytest.approx(wanted) and 0.8 < wanted < 0.95
    assert (scores.images, scores.split, scores.notes) == (40, "test", ())
    assert scores.chance == 0.5
    assert scores.interval is not None and scores.gap is not None and scores.invariance is not None
    assert scores.accuracy is not None
    assert scores.interval[0] < scores.accuracy < scores.interval[1]
    assert (scores.gap.turned, scores.gap.epoch, scores.gap.test_accuracy) == (2, 3, scores.accuracy)
    assert ticks[-1][0] == ticks[-1][1] and ticks == sorted(ticks)
    untouched = next(point for point in scores.invariance.shift if point.pixels == 0)
    assert untouched.accuracy == scores.accuracy == scores.invariance.untouched
    stored = json.loads((tmp_path / "test" / "scores.json").read_text())
    assert {"accuracy", "loss", "classes", "per_class", "confusion", "invariance"} <= stored.keys()
    assert set(stored["invariance"]) >= {"shift", "turn", "scale", "chance", "images"}
    assert stored["per_class"]["dark"].keys() == {
        "precision",
        "recall",
        "f1",
        "support",
        "average_precision",
        "roc_auc",
    }
    assert read_scores(tmp_path) == scores


def test_files_of_classes(tmp_path: Path) -> None:
    run = pictures_run(tmp_path)
    scores = evaluation.test(run)
    folder = tmp_path / "test"
    header, *lines = table(folder / "predictions.csv")
    assert header == ["path", "label", "predicted", "confidence", "correct", "score dark", "score light"]
    assert len(lines) == 40
    assert sum(line[4] == "yes" for line in lines) / 40 == pytest.approx(scores.accuracy)
    assert all(float(line[3]) == pytest.approx(max(map(float, line[5:]))) for line in lines)
    confusion = table(folder / "confusion.csv")
    assert [[int(cell) for cell in row[1:]] for row in confusion[1:]] == scores.confusion
    wrong = [line for line in lines if line[4] == "no"]
    assert len(scores.worst) == len(wrong)
    assert {mistake.path for mistake in scores.worst} == {line[0] for line in wrong}
    confidences = [mistake.confidence or 0.0 for mistake in scores.worst]
    assert confidences == sorted(confidences, reverse=True)
    names = run.dataset().names
    for mistake in scores.worst:
        with Image.open(folder / mistake.image) as image:
            assert np.array_equal(np.asarray(image), run.pixels[names.index(mistake.path)])
    for name in ("confusion.png", "calibration.png", "invariance.png", "worst/sheet.png"):
        with Image.open(folder / name) as image:
            image.verify()
    assert not list(folder.glob(".stage*"))


def test_without_invariance_the_network_sees_each_image_once(tmp_path: Path) -> None:
    run = pictures_run(tmp_path)
    scores = evaluation.test(run, invariance=False)
    assert scores.invariance is None
    assert run.scored == scores.images == 40
    assert not (tmp_path / "test" / "invariance.png").exists()


def test_a_second_test_replaces_the_first_and_leaves_other_files(tmp_path: Path) -> None:
    run = pictures_run(tmp_path)
    evaluation.test(run)
    (tmp_path / "test" / "my notes.txt").write_text("mine")
    (tmp_path / "test" / ".stage.1").mkdir()
    perfect = run.changed(
        answer=lambda batch: np.eye(2)[(np.median(batch.reshape(len(batch), -1), axis=1) > 125).astype(int)]
    )
    scores = evaluation.test(perfect, invariance=False)
    assert scores.accuracy == 1.0 and scores.worst == []
    left = {path.name for path in (tmp_path / "test").rglob("*") if path.is_file()} - {".lock"}
    assert left == {
        "my notes.txt",
        "scores.json",
        "predictions.csv",
        "confusion.csv",
        "confusion.png",
        "calibration.png",
    }
    assert not list((tmp_path / "test").glob(".stage*"))


def test_scores_of_labels(tmp_path: Path) -> None:
    run = labels_run(tmp_path)
    scores = evaluation.test(run)
    truth = run.targets
    assert scores.accuracy == pytest.approx(((run.scores(run.pixels) >= 0.5) == truth).mean())
    assert scores.exact_match == pytest.approx((truth[:, 2] == 0).mean())
    assert scores.per_class["b"]["f1"] == 1.0 and scores.per_class["c"]["precision"] is None
    assert scores.accuracy is not None and scores.interval is not None
    assert scores.interval[0] <= scores.accuracy <= scores.interval[1]
    line = next(line for line in table(tmp_path / "test" / "predictions.csv") if line[4] == "no")
    assert line[1].endswith("c") and not line[2].endswith("c")
    assert table(tmp_path / "test" / "confusion.csv")[0][1:] == [
        "true negative",
        "false positive",
        "false negative",
        "true positive",
    ]
    assert all(mistake.confidence == pytest.approx(0.55) for mistake in scores.worst)


def test_scores_of_numbers(tmp_path: Path) -> None:
    run = numbers_run(tmp_path)
    scores = evaluation.test(run)
    assert scores.per_class["x"]["r2"] > 0.99 and scores.per_class["y"]["r2"] < 0.1
    assert scores.accuracy == pytest.approx(np.mean([scores.per_class[name]["r2"] for name in "xy"]))
    assert scores.mae == pytest.approx(np.abs(run.scores(run.pixels) - run.targets).mean(), rel=1e-5)
    assert scores.interval is None and scores.confusion == [] and scores.chance == 0
    assert scores.invariance is not None and scores.invariance.measure == "R2"
    assert scores.pairs is not None and len(scores.pairs["x"]) == 50
    assert not (tmp_path / "test" / "confusion.csv").exists()
    header, *lines = table(tmp_path / "test" / "predictions.csv")
    assert header[5:] == ["predicted x", "predicted y"] and lines[0][3:5] == ["", ""]
    assert (tmp_path / "test" / "numbers.png").exists()


@pytest.mark.parametrize(
    "text", ["=1+1", "+1", "-1", "@x", "a\nb", "\x1b[31mred", "\tx", "a\udcffb", "<img src=x onerror=alert(1)>"]
)
def test_hostile_names_reach_no_spreadsheet(tmp_path: Path, text: str) -> None:
    names = [f"{text}{row}" for row in range(60)]
    run = pictures_run(tmp_path, classes=("dark", text), names=names)
    evaluation.test(run, invariance=False)
    for name in ("predictions.csv", "confusion.csv"):
        content = (tmp_path / "test" / name).read_bytes().decode("utf-8")
        assert "\x1b" not in content and "\t" not in content
        for line in table(tmp_path / "test" / name):
            assert not any(cell[:1] in tuple("=+-@") for cell in line)
            assert not any("\n" in cell for cell in line)
    json.loads((tmp_path / "test" / "scores.json").read_bytes().decode("utf-8"))


def test_a_run_without_test_part_is_tested_on_validation(tmp_path: Path) -> None:
    run = pictures_run(tmp_path)
    scores = evaluation.test(run.changed(splits=np.where(run.splits == 2, 1, 0).astype(np.int8)), invariance=False)
    assert scores.split == "validation" and scores.images == 40
    assert "no test part" in scores.notes[0] and "too good" in scores.notes[1]


def test_training_images_say_little(tmp_path: Path) -> None:
    scores = evaluation.test(pictures_run(tmp_path), split="train", invariance=False)
    assert scores.images == 20 and "used in training" in scores.notes[0]
    assert evaluation.test(pictures_run(tmp_path), split="all", invariance=False).images == 60


def other(run: StandInRun, classes: tuple[str, ...], targets: NDArray[Any]) -> Dataset:
    """Another source: the run's images under other names."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dataset = run.dataset()
    return replace(
        dataset, source="other", classes=classes, targets=targets, splits=np.zeros(len(dataset), np.int8),
        images=from_arrays(run.pixels, np.asarray(targets), classes=classes).images,
    )  # fmt: skip


def test_another_source_in_another_order_of_classes(tmp_path: Path) -> None:
    run = pictures_run(tmp_path)
    scores = evaluation.test(run, other(run, ("light", "dark"), 1 - run.targets), invariance=False)
    assert scores.classes == ("dark", "light")
    assert scores.accuracy == pytest.approx((run.scores(run.pixels).argmax(1) == run.targets).mean())
    assert (scores.source, scores.split, scores.images) == ("other", "all", 60)
    assert "the source has no test part: all its 60 images are tested" in scores.notes


def test_another_source_with_fewer_classes(tmp_path: Path) -> None:
    run = pictures_run(tmp_path, classes=("a", "b", "c"))
    dataset = other(run, ("b", "c"), np.where(run.targets == 1, 0, 1))
    dataset = dataset.select(np.flatnonzero(run.targets > 0))
    scores = evaluation.test(run, dataset, invariance=False)
    assert scores.images == 40 and scores.per_class["a"]["support"] == 0
    assert "the source has 2 of the run's 3 classes" in scores.notes


def made(folder: Path) -> Path:
    folder.mkdir()
    return folder


def test_any_subset_of_the_classes_is_tested(tmp_path: Path) -> None:
    run = pictures_run(made(tmp_path / "run"), classes=("a", "b", "c"))
    for name, count in {
        "one class": {"b": 8},
        "one picture": {"a": 5, "c": 1},
        "empty class": {"a": 3, "b": 0},
    }.items():
        source = class_folders(tmp_path / name, count)
        scores = evaluation.test(run, source, invariance=False)
        assert scores.images == sum(count.values())
        assert {each: scores.per_class[each]["support"] for each in "abc"} == {"a": 0, "b": 0, "c": 0} | count
        assert f"the source has {sum(map(bool, count.values()))} of the run's 3 classes" in scores.notes
    one = evaluation.test(run, tmp_path / "one picture" / "c" / "0000.png", invariance=False)
    assert (one.images, one.per_class["c"]["support"]) == (1, 1)
    assert evaluation.test(run, tmp_path / "one picture" / "c").images == 1
    assert "class folders without a picture: b" in scores.notes


def test_what_cannot_be_read_is_left_out_of_a_test_and_told(tmp_path: Path) -> None:
    run = pictures_run(made(tmp_path / "run"), classes=("a", "b"))
    source = class_folders(tmp_path / "new", {"a": 4, "b": 1})
    for name in ("a/0001.png", "a/0002.png", "b/0000.png"):
        (source / name).write_bytes(b"")
    scores = evaluation.test(run, source, invariance=False)
    assert scores.images == 2
    assert "3 of 5 images skipped: a/0001.png: is empty (0 bytes); a/0002.png: is empty (0 bytes); b/0000.png: is empty (0 bytes)" in scores.notes  # fmt: skip
    assert "the source has 1 of the run's 2 classes" in scores.notes


def test_images_without_labels_are_for_predict(tmp_path: Path) -> None:
    run = pictures_run(made(tmp_path / "run"), classes=("a", "b"))
    flat = class_folders(tmp_path, {"new ones": 3}) / "new ones"
    for source in (flat, flat / "0001.png"):
        with pytest.raises(DataError) as caught:
            evaluation.test(run, source)
        assert f"convoscope predict {tmp_path}/run '{source}'" in caught.value.hint


def test_a_source_may_lack_labels_and_have_more_numbers(tmp_path: Path) -> None:
    run = labels_run(made(tmp_path / "labels"))
    dataset = other(run, ("c", "b"), run.targets[:, [2, 1]])
    scores = evaluation.test(run, dataset, invariance=False)
    assert scores.per_class["=cmd"]["support"] == 0
    assert scores.per_class["b"]["support"] == run.targets[:, 1].sum()
    assert "the source has 2 of the run's 3 labels" in scores.notes
    numbers = numbers_run(made(tmp_path / "numbers"))
    more = np.column_stack([numbers.targets[:, 1], np.ones(50, np.float32), numbers.targets[:, 0]])
    scores = evaluation.test(numbers, other(numbers, ("y", "index", "x"), more), invariance=False)
    assert scores.accuracy == pytest.approx(evaluation.test(numbers, invariance=False).accuracy)
    assert "left out: the columns index, which the run does not predict" in scores.notes


def test_images_seen_in_training_are_counted(tmp_path: Path) -> None:
    run = pictures_run(tmp_path)
    dataset = other(run, run.classes, run.targets)
    digests = prepare(dataset, run.settings.input).digests
    lines = "".join(f"x,y,{'train' if row < 7 else 'test'},{digests[row]}\n" for row in range(60))
    (tmp_path / "split.csv").write_text("path,label,split,digest\n" + lines)
    scores = evaluation.test(run, dataset, invariance=False)
    assert "7 of these 60 images were used in training: the result is too good" in scores.notes


def test_other_classes_are_refused(tmp_path: Path) -> None:
    run = pictures_run(tmp_path)
    with pytest.raises(
        DataError, match="the run knows the classes dark, light; the source has the classes dark, blue"
    ) as caught:
        evaluation.test(run, other(run, ("dark", "blue"), run.targets))
    assert caught.value.code == "test-classes-differ"
    assert caught.value.hint == "the run does not know blue: rename or remove that, then test again"
    assert not (tmp_path / "test").exists()


def test_classes_that_print_alike_are_told_apart(tmp_path: Path) -> None:
    run = pictures_run(tmp_path, classes=("caf\u00e9", "tea"))
    with pytest.raises(DataError) as caught:
        evaluation.test(run, other(run, ("cafe\u0301", "tea"), run.targets))
    assert "classes 'caf\\xe9', tea; the source has the classes 'cafe\\u0301', tea" in caught.value.reason


def test_an_unknown_part_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="expected train, validation, test or all; received 'tests'") as caught:
        evaluation.test(pictures_run(tmp_path), split="tests")  # type: ignore[arg-type] # that is the fault
    assert caught.value.code == "split-unknown"


def test_nothing_to_test_is_refused(tmp_path: Path) -> None:
    run = pictures_run(tmp_path)
    with pytest.raises(DataError, match="no validation part to test on") as caught:
        evaluation.test(run.changed(splits=np.zeros(60, np.int8)))
    assert caught.value.code == "test-empty"


def test_answers_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    run = pictures_run(tmp_path).changed(answer=lambda batch: np.full((len(batch), 2), np.nan))
    with pytest.raises(ModelFileError, match="NaN or infinity for 40 of 40 images") as caught:
        evaluation.test(run)
    assert caught.value.code == "scores-not-finite"
    assert not (tmp_path / "test").exists()


def test_a_damaged_result_is_named(tmp_path: Path) -> None:
    assert read_scores(tmp_path) is None
    (tmp_path / "test").mkdir()
    for content in ("", "[1]", '{"accuracy": 1}', '{"acc', "\xff"):
        (tmp_path / "test" / "scores.json").write_text(content, "latin-1")
        with pytest.raises(DataError, match="not a test result, or a damaged one") as caught:
            read_scores(tmp_path)
        assert caught.value.code == "scores-unreadable" and "convoscope test" in caught.value.hint


def test_a_full_disk_keeps_the_earlier_test(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = pictures_run(tmp_path, images=18)
    evaluation.test(run, invariance=False)
    before = {path: path.read_bytes() for path in (tmp_path / "test").rglob("*") if path.is_file()}
    real, failures = os.fsync, 0
    for fail_at in range(100):
        calls = 0

        def fsync(descriptor: int, limit: int = fail_at) -> None:
            nonlocal calls
            calls += 1
            if calls > limit:
                raise OSError(28, "No space left on device")
            real(descriptor)

        monkeypatch.setattr(os, "fsync", fsync)
        try:
            evaluation.test(run.changed(seconds=99.0), invariance=False)
        except MachineError as error:
            failures += 1
            assert error.code == "disk-full"
            after = {path: path.read_bytes() for path in (tmp_path / "test").rglob("*") if path.is_file()}
            assert after == {path: after[path] if path.name == ".lock" else content for path, content in before.items()}
        else:
            break
    assert failures > 10 and fail_at < 99


def test_two_tests_at_once(tmp_path: Path) -> None:
    run = pictures_run(tmp_path)
    (tmp_path / "test").mkdir()
    with FolderLock(tmp_path / "test"), pytest.raises(InUseError) as caught:
        evaluation.test(run, invariance=False)
    assert caught.value.code == "folder-in-use"


def test_a_run_folder_that_is_gone(tmp_path: Path) -> None:
    with pytest.raises(MachineError):
        evaluation.test(pictures_run(tmp_path / "gone"), invariance=False)


def test_more_classes_than_a_matrix_with_numbers_can_show(tmp_path: Path) -> None:
    run = pictures_run(tmp_path, classes=tuple(f"class {k}" for k in range(30)), images=180)
    scores = evaluation.test(run, invariance=False)
    assert len(scores.confusion) == 30 and scores.top5 is not None
    with Image.open(tmp_path / "test" / "confusion.png") as image:
        assert image.width >= 600


# --- few images, and names that are ours -------------------------------------------------------------------------------


def test_of_one_image_no_r_squared_is_given(tmp_path: Path) -> None:
    """Its numbers do not differ, so there is nothing to explain; what can be measured is measured."""
    run = numbers_run(tmp_path)
    run = run.changed(splits=np.where(np.arange(len(run.splits)) == 5, 2, 0).astype(np.int8))
    scores = evaluation.test(run)
    assert scores.accuracy is None and scores.invariance is None
    assert [scores.per_class[name]["r2"] for name in "xy"] == [None, None]
    assert scores.mae == pytest.approx(np.abs(run.scores(run.pixels[5:6]) - run.targets[5:6]).mean(), rel=1e-5)
    assert scores.notes == ("R² is left out: the true numbers of 1 image do not differ",)
    assert scores.headline.startswith("mean absolute error") and "on 1 image" in scores.headline
    assert [row[3] for row in scores.rows()[1]] == ["–", "–"]
    assert read_scores(tmp_path) == scores
    page = evaluation.write_report(run).read_text("utf-8")
    assert "is off by" in page and "is left out" in page
    assert evaluation.compare([run]).rows()[1][0][2] == "–"


def test_a_number_that_does_not_vary_has_no_r_squared(tmp_path: Path) -> None:
    run = numbers_run(tmp_path)
    scores = evaluation.test(run.changed(targets=np.stack([run.targets[:, 0], np.full(len(run.targets), 3.0)], 1)))
    assert scores.per_class["y"]["r2"] is None and scores.accuracy == scores.per_class["x"]["r2"]
    assert scores.invariance is not None and scores.invariance.untouched == pytest.approx(scores.accuracy)
    assert any(note.startswith("R² of y is left out: the true numbers of") for note in scores.notes)


@pytest.mark.parametrize(("images", "calibrated"), [(30, True), (27, False)])
def test_few_images_have_no_calibration(tmp_path: Path, images: int, calibrated: bool) -> None:
    scores = evaluation.test(pictures_run(tmp_path, images=images), invariance=False)
    assert scores.images == 2 * images // 3
    assert (scores.calibration is not None) == calibrated == (tmp_path / "test" / "calibration.png").exists()
    note = f"the calibration is left out: it takes 20 images, and there are {scores.images}"
    assert (note in scores.notes) == (not calibrated)


def test_of_images_of_one_class_no_chance_is_given(tmp_path: Path) -> None:
    run = pictures_run(tmp_path)
    run = run.changed(splits=np.where(run.targets == 0, 2, 0).astype(np.int8))
    scores = evaluation.test(run, invariance=False)
    assert "chance" not in scores.headline and "Always giving" not in evaluation.write_report(run).read_text("utf-8")
    assert "chance is left out: all of these images are of one class" in scores.notes


def test_no_two_columns_have_one_name(tmp_path: Path) -> None:
    names = ("true class", "path", "label", "predicted", "confidence", "correct", "distance", "known", "a\nb", "a\\nb")
    evaluation.test(pictures_run(tmp_path, classes=names), invariance=False)
    for file, own, word in (("predictions", 5, "score"), ("confusion", 1, "predicted")):
        header = table(tmp_path / "test" / f"{file}.csv")[0]
        assert len(set(header)) == len(header)
        assert header[own:] == [escape_cell(f"{word} {name}") for name in names]
