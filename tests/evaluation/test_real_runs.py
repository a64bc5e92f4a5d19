"""From pictures on the disk to a report, through every room; one small training for each task."""

import csv
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from convoscope import data, evaluation, training
from convoscope.errors import DataError
from convoscope.evaluation.overfitting import augments
from convoscope.training import Run
from tests.support.html_pages import read

MODEL = "conv(4) relu maxpool flatten dense"


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Bright squares in three places, as class folders and as a manifest with labels and with numbers."""
    folder = tmp_path_factory.mktemp("pictures")
    generator = np.random.default_rng(0)
    lines = []
    for row in range(90):
        kind = row % 3
        image = generator.integers(0, 40, (16, 16), dtype=np.uint8)
        image[4:10, 1 + 5 * kind : 5 + 5 * kind] = 220
        path = folder / "classes" / ("left", "middle", "right")[kind] / f"{row}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)
        lines.append((str(path), ("bright;left", "bright", "bright;right")[kind], kind, 10 - kind))
    for name, columns in (("labels", (0, 1)), ("numbers", (0, 2, 3))):
        with open(folder / f"{name}.csv", "w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow([("path", "labels", "place", "rest")[column] for column in columns])
            writer.writerows([[line[column] for column in columns] for line in lines])
    return folder


@pytest.mark.parametrize(
    ("source", "task"), [("classes", "classification"), ("labels.csv", "multi-label"), ("numbers.csv", "regression")]
)
def test_train_test_report_compare(pictures: Path, tmp_path: Path, source: str, task: str) -> None:
    run = training.train(pictures / source, MODEL, output=tmp_path / "run", epochs=4, batch_size=16, learning_rate=0.01)
    assert run.task == task
    opened = Run.open(tmp_path / "run")
    scores = evaluation.test(opened)
    assert scores.images == int(opened.settings.images["test"]) > 0
    prepared = opened.prepared()
    rows = prepared.dataset.indices("test")
    answers, truth = opened.scores(prepared.pixels[rows]), prepared.dataset.targets[rows]
    if task == "classification":
        assert scores.accuracy == pytest.approx((answers.argmax(1) == truth).mean())
    elif task == "multi-label":
        assert scores.accuracy == pytest.approx(((answers >= 0.5) == truth).mean())
    else:
        assert scores.mae == pytest.approx(np.abs(answers - truth).mean(), rel=1e-5)
    page = read(evaluation.write_report(opened))
    assert "3 × 3 × 1 × 4 + 4" in page.text
    assert "has not been tested" not in page.text
    comparison = evaluation.compare([opened, opened])
    assert comparison.runs[0].accuracy == scores.accuracy
    read(evaluation.write_comparison(comparison, tmp_path / "compare.html"))
    elsewhere = evaluation.test(opened, pictures / source, invariance=False)
    assert elsewhere.images == 90 and elsewhere.split == "all"
    assert any("were used in training" in note for note in elsewhere.notes)


def test_a_test_part_that_is_not_what_it_was_is_told(tmp_path: Path) -> None:
    """Copies of training images in the test part, and images that came, went or changed since."""
    generator = np.random.default_rng(1)
    for part, count in (("train", 40), ("test", 12)):
        for row in range(count):
            image = generator.integers(0, 40, (16, 16), dtype=np.uint8)
            image[4:10, (1, 9)[row % 2] : (7, 15)[row % 2]] = 220
            path = tmp_path / "pictures" / part / ("left", "right")[row % 2] / f"{row}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(path)
    test_part = sorted((tmp_path / "pictures" / "test" / "left").iterdir())
    training_images = sorted((tmp_path / "pictures" / "train" / "left").iterdir())
    for copy, place in zip(training_images[:3], test_part[:3], strict=True):
        place.write_bytes(copy.read_bytes())
    run = training.train(tmp_path / "pictures", MODEL, output=tmp_path / "run", epochs=1, validation=0.0)
    scores = evaluation.test(run, invariance=False)
    assert scores.notes[0] == (
        "3 of these 12 images were used in training: the result is too good; to train without them: "
        f"convoscope train --config {run.folder / 'run.toml'} --dedupe"
    )
    page = read(evaluation.write_report(run))
    assert "12 images of its test part" in page.text and "that it has not seen" not in page.text
    assert "validation figures are measured" not in page.text
    test_part[3].unlink()
    Image.fromarray(np.full((16, 16), 7, np.uint8)).save(test_part[4])
    Image.fromarray(np.full((16, 16), 9, np.uint8)).save(test_part[4].with_name("new.png"))
    again = evaluation.test(Run.open(tmp_path / "run"), invariance=False)
    assert any("1 new, 1 missing, 1 altered; they are tested as they are now" in note for note in again.notes)


def test_a_run_of_what_lay_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It can be tested as long as it is at hand; reopened, it says why it cannot, and takes nothing else for its images."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "arrays" / "one").mkdir(parents=True)
    images = np.random.default_rng(0).integers(0, 255, (60, 12, 12), dtype=np.uint8)
    dataset = data.from_arrays(images, np.arange(60) % 2)
    run = training.train(dataset, MODEL, output=tmp_path / "run", epochs=1)
    assert evaluation.test(run, invariance=False).images == len(dataset.indices("test"))
    with pytest.raises(DataError) as caught:
        evaluation.test(Run.open(tmp_path / "run"))
    assert caught.value.code == "data-in-memory" and "in memory" in caught.value.reason
    assert run.predict(images[0])[0].label in ("0", "1")


@pytest.mark.parametrize(
    ("changes", "augmented"), [({}, False), ({"flip": True}, True), ({"crop": 0.5}, True), ({"mixup": 0.5}, True)]
)
def test_whether_images_are_augmented(changes: dict[str, Any], augmented: bool) -> None:
    run: Any = SimpleNamespace(settings=SimpleNamespace(recipe=training.Recipe.read(changes)))
    assert augments(run) is augmented
