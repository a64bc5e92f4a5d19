"""The report: all of it there, nothing fetched, nothing run, nothing from outside taken as markup."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from convoscope import evaluation
from convoscope.errors import DataError
from convoscope.evaluation import write_report
from convoscope.evaluation.pictures import first_filters
from convoscope.evaluation.text import area_text, seconds_text
from tests.support.html_pages import HOSTILE, read
from tests.support.standin import StandInRun, labels_run, numbers_run, pictures_run


def test_a_run_that_was_not_tested(tmp_path: Path) -> None:
    page = read(write_report(pictures_run(tmp_path)))
    assert "has not been tested yet" in page.text
    assert f"convoscope test {tmp_path}" in page.text
    assert "The validation loss turned after epoch 2" in page.text
    assert {"Images", "Model", "Learning", "Test", "How it was trained", "Use it again"} <= set(page.words)


def test_a_tested_run(tmp_path: Path) -> None:
    run = pictures_run(tmp_path, classes=("dark", "grey", "light"))
    scores = evaluation.test(run)
    path = write_report(run)
    assert path == tmp_path / "report.html"
    page = read(path)
    assert scores.accuracy is not None
    assert (
        f"correctly classifies {100 * scores.accuracy:.1f} % of 40 images that it has not seen (95 % interval"
        in page.text
    )
    assert "Always giving the most frequent answer would reach" in page.text
    for heading in (
        "What is mistaken for what",
        "Class by class",
        "Can its confidence be trusted?",
        "Worst mistakes",
        "Shifted, turned, scaled",
    ):
        assert heading in page.words
    assert page.text.count("chance") >= 3
    assert "1.0 s" not in page.text and "12 s" in page.text
    assert sum("dark, 90" in image["alt"] or "is " in image["alt"] for image in page.images) == len(scores.worst)
    again = write_report(run)
    assert again.read_text("utf-8") == page.source


def test_the_result_comes_first_then_what_to_do(tmp_path: Path) -> None:
    run = pictures_run(tmp_path, classes=("dark", "grey", "light"), temperature=0.8)
    scores = evaluation.test(run)
    (tmp_path / "metrics.csv").write_text("epoch\n")
    page = read(write_report(run))
    headings = ["What to do next", "What is mistaken for what", "Class by class", "Thresholds", "Learning", "Images"]
    places = [page.source.index(f"<h2>{heading}</h2>") for heading in [*headings, "Model", "Use it again"]]
    assert places == sorted(places)
    assert "2 classes have fewer than 20 training images" in page.text
    assert "Learning rate at the end of each epoch" in page.text and "Balance" in page.words
    assert scores.uncalibrated is not None
    assert "divided by a temperature of 0.800" in page.text and f"{scores.uncalibrated.loss:.4f}" in page.text
    assert "system Plan 9, cores 3" in page.text
    assert 'href="metrics.csv"' in page.source and 'href="test/predictions.csv"' in page.source
    assert 'href="run.toml"' not in page.source  # it is not there
    for mistake in scores.worst:  # in words, not only where a mouse points
        assert mistake.path in page.words


def test_two_classes_have_thresholds_and_more_have_coverage(tmp_path: Path) -> None:
    two = pictures_run(tmp_path / "two")
    two.folder.mkdir()
    scores = evaluation.test(two, invariance=False)
    page = read(write_report(two))
    assert "An image counts as light from a probability on" in page.text
    assert "Accuracy against coverage" in page.words
    row = next(row for row in scores.thresholds if row.threshold == 0.5)
    assert f"{row.chosen}" in page.words
    assert "No temperature was fitted to the validation images: 0 validation images are too few." in page.text


def test_an_area_is_1_only_if_it_is() -> None:
    assert [area_text(area) for area in (None, 0.5, 0.9994, 0.99961, 0.999999, 1.0)] == [
        "–",
        "0.500",
        "0.999",
        "0.9996",
        "0.9999",
        "1.000",
    ]


@pytest.mark.parametrize("make", [labels_run, numbers_run])
def test_other_tasks(tmp_path: Path, make: Callable[[Path], StandInRun]) -> None:
    run = make(tmp_path)
    evaluation.test(run)
    page = read(write_report(run))
    assert ("of the labels right" in page.text) == (run.task == "multi-label")
    assert ("of the variance (R²)" in page.text) == (run.task == "regression")


def test_hostile_names_are_text(tmp_path: Path) -> None:
    names = [f"{HOSTILE}\x1b[31m\n\"'&{row}\udcff" for row in range(60)]
    run = pictures_run(
        tmp_path / "runs", classes=("dark", HOSTILE), names=names, source=f"/data/{HOSTILE}", model=f"custom:{HOSTILE}"
    )
    run.folder.mkdir()
    evaluation.test(run)
    page = read(write_report(run))
    assert HOSTILE not in page.source and "\x1b" not in page.source
    assert HOSTILE in page.text
    assert not any(image["src"] == "x" for image in page.images)


def test_images_that_are_gone(tmp_path: Path) -> None:
    run = pictures_run(tmp_path)
    evaluation.test(run)
    gone = run.changed(missing=DataError("photos", "no such folder", code="data-missing"))
    page = read(write_report(gone))
    assert "The images are no longer where they were" in page.text and "photos: no such folder" in page.text
    assert "Worst mistakes" in page.words


def test_many_classes(tmp_path: Path) -> None:
    run = pictures_run(tmp_path, classes=tuple(f"class {k}" for k in range(120)), images=720)
    evaluation.test(run, invariance=False)
    path = write_report(run)
    page = read(path)
    assert "120 classes, one cell for each pair" in page.text and "The first 24 of 120 are shown." in page.text
    assert path.stat().st_size < 1_000_000
    assert "Shifted" not in page.text


def test_stored_mistakes_are_decoded_not_copied(tmp_path: Path) -> None:
    run = pictures_run(tmp_path)
    scores = evaluation.test(run, invariance=False)
    (tmp_path / "test" / "worst" / "01.png").write_text("<svg onload=alert(1)>")
    (tmp_path / "test" / "worst" / "02.png").unlink()
    page = read(write_report(run))
    assert page.source.count("taken for") or page.images
    assert page.source.count("<small>dark/") == len(scores.worst) - 2


def test_a_path_out_of_the_test_folder_is_not_followed(tmp_path: Path) -> None:
    Image.new("L", (3, 3)).save(tmp_path / "secret.png")
    run = pictures_run(tmp_path)
    scores = evaluation.test(run, invariance=False)
    file = tmp_path / "test" / "scores.json"
    file.write_text(file.read_text().replace("worst/01.png", "../secret.png"))
    assert read(write_report(run)).source.count("<small>dark/") == len(scores.worst) - 1


def test_first_filters_in_colour(tmp_path: Path) -> None:
    run = pictures_run(tmp_path, module=nn.Sequential(nn.Conv2d(3, 5, 3), nn.ReLU()))
    page = read(write_report(run))
    assert "5 filters of 3 × 3, each of 3 kernels" in page.text
    assert sum(image["alt"].startswith("filter ") for image in page.images) == 5
    dense = pictures_run(tmp_path, module=nn.Sequential(nn.Flatten(), nn.Linear(12 * 12 * 3, 4)))
    assert "4 neurons, each with one weight for each pixel and channel." in read(write_report(dense)).text
    assert "First layer" not in read(write_report(pictures_run(tmp_path, module=nn.Sequential(nn.Flatten())))).words


def test_filters_blue_is_negative_red_is_positive() -> None:
    from convoscope.render import filter_image

    layer = nn.Conv2d(2, 1, 2)
    with torch.no_grad():
        layer.weight[:] = torch.tensor([[[[-1.0, 0.0], [0.5, 1.0]], [[0.0, 0.0], [0.0, -0.5]]]])
    found = first_filters(nn.Sequential(layer), (8, 8, 2))
    assert found is not None
    kind, weights = found
    assert kind == "convolution" and weights.shape == (1, 2, 2, 2)
    pixels = np.asarray(filter_image(weights[0], 1.0)).astype(int)
    assert pixels.shape == (2, 5, 4)  # two kernels and a clear column between
    assert pixels[0, 0, 3] == 255 and pixels[0, 0, 2] > pixels[0, 0, 0]  # -1 blue
    assert pixels[1, 1, 3] == 255 and pixels[1, 1, 0] > pixels[1, 1, 2]  # 1 red
    assert pixels[0, 1, 3] == 0 and (pixels[:, 2, 3] == 0).all()  # 0 clear
    assert pixels[1, 0, 3] == pixels[1, 4, 3] == 128  # halves


def test_a_layer_table_for_a_text(tmp_path: Path) -> None:
    run = pictures_run(tmp_path, model="conv(4) relu flatten dense")
    page = read(write_report(run))
    assert "3 × 3 × 3 × 4 + 4" in page.text and "conv" in page.text
    assert "There is no table of layers" in read(write_report(pictures_run(tmp_path))).text


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.004, "0.00 s"), (3.14, "3.1 s"), (59.4, "59 s"), (61, "1 min 1 s"), (7510, "2 h 5 min")]
)
def test_durations(seconds: float, words: str) -> None:
    assert seconds_text(seconds) == words
