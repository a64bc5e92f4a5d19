"""From pictures on the disk to a report, through every room; one small training for each task."""

import csv

import numpy as np
import pytest
from PIL import Image
from test_report import read

from convoscope import evaluation, training
from convoscope.training import Run

MODEL = "conv(4) relu maxpool flatten dense"


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
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
    ("source", "task"), [("classes", "classes"), ("labels.csv", "labels"), ("numbers.csv", "numbers")]
)
def test_train_test_report_compare(pictures, tmp_path, source, task):
    run = training.train(pictures / source, MODEL, output=tmp_path / "run", epochs=4, batch_size=16, learning_rate=0.01)
    assert run.task == task
    opened = Run.open(tmp_path / "run")
    scores = evaluation.test(opened)
    assert scores.images == int(opened.settings.images["test"]) > 0
    prepared = opened.prepared()
    rows = prepared.dataset.indices("test")
    answers, truth = opened.scores(prepared.pixels[rows]), prepared.dataset.targets[rows]
    if task == "classes":
        assert scores.accuracy == pytest.approx((answers.argmax(1) == truth).mean())
    elif task == "labels":
        assert scores.accuracy == pytest.approx(((answers >= 0.5) == truth).mean())
    else:
        assert scores.mae == pytest.approx(np.abs(answers - truth).mean(), rel=1e-5)
    page = read(evaluation.write_report(opened))
    assert "3 × 3 × 1 × 4 + 4" in page.text
    assert "has not been tested" not in page.text
    comparison = evaluation.compare([opened, opened])
    assert comparison.runs[0]["accuracy"] == scores.accuracy
    read(evaluation.write_comparison(comparison, tmp_path / "compare.html"))
    elsewhere = evaluation.test(opened, pictures / source, invariance=False)
    assert elsewhere.images == 90 and elsewhere.split == "all"
    assert any("were used in training" in note for note in elsewhere.notes)
