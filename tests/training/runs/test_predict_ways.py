"""Run.predict: every way of handing an image over gives the same scores; what was trained on is taken."""

import io
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from convoscope.data import Dataset, Skipped, from_arrays, load
from convoscope.errors import DataError
from convoscope.training import Run, read_summary, train
from convoscope.training.runs.settings import Settings
from tests.support.pictures import colourful, encoded, exif

QUICK: dict[str, Any] = {"epochs": 1, "precision": "float32", "threads": 1, "learning_rate": 0.1}
MODEL = "conv(4) relu globalavg dense"


def trained(source: Dataset | Path, folder: Path, **options: Any) -> Run:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return train(source, MODEL, output=folder, **QUICK, **options)


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """JPEGs larger than the network's input, every other one on its side."""
    root = tmp_path_factory.mktemp("photographs")
    for kind in ("a", "b"):
        (root / kind).mkdir()
        for row in range(6):
            turned = {"exif": exif(6)} if row % 2 else {}
            noise = np.random.default_rng(row).normal(0, 25, (120, 160, 3))
            pixels = np.clip(colourful(120, 160, row) + noise, 0, 255).astype(np.uint8)
            (root / kind / f"{row}.jpg").write_bytes(encoded(pixels, "JPEG", quality=85, **turned))
    return root


@pytest.fixture(scope="module")
def run(photographs: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return trained(photographs, tmp_path_factory.mktemp("runs") / "colour", size=24)


def scores(run: Run, given: Any) -> list[tuple[float, ...]]:
    return [tuple(answer.scores.values()) for answer in run.predict(given)]


def test_every_way_gives_the_same_scores(run: Run, photographs: Path) -> None:
    for row in (0, 1):
        path = photographs / "a" / f"{row}.jpg"
        data = path.read_bytes()
        loaded = Image.open(io.BytesIO(data))
        loaded.load()
        upright = np.asarray(loaded.transpose(Image.Transpose.ROTATE_270) if row else loaded)
        ways: list[Any] = [
            str(path),
            path,
            data,
            Image.open(io.BytesIO(data)),
            loaded,
            loaded.convert("RGB"),
            upright,
            upright.transpose(2, 0, 1),
            upright / 255,
            upright.astype(np.float32),
            upright.astype(np.uint16) * 257,
        ]
        expected = scores(run, path)
        assert all(scores(run, way) == expected for way in ways)
        assert scores(run, ways) == expected * len(ways)
        assert scores(run, np.stack([upright] * 3)) == scores(run, [path] * 3)
        assert scores(run, np.stack([upright.transpose(2, 0, 1)] * 3)) == scores(run, [path] * 3)


def test_an_image_has_the_same_scores_alone_and_among_others(run: Run) -> None:
    images = np.random.default_rng(0).integers(0, 256, (33, 24, 24, 3), dtype=np.uint8)
    together = scores(run, images)
    assert [scores(run, image)[0] for image in images[:8]] == together[:8]
    assert np.array_equal(run.scores(images[32:]), run.scores(images)[32:])


def test_the_test_part_is_decoded_as_prediction_decodes(run: Run, photographs: Path) -> None:
    prepared = run.prepared()
    files = [photographs / name for name in prepared.dataset.names]
    assert scores(run, files) == [tuple(map(float, row)) for row in run.scores(prepared.pixels)]


def test_images_come_in_order_with_what_cannot_be_read(run: Run, photographs: Path, tmp_path: Path) -> None:
    (tmp_path / "broken.jpg").write_bytes(b"")
    good = [photographs / "a" / f"{row}.jpg" for row in range(6)]
    given: list[Any] = [good[0], tmp_path / "broken.jpg", colourful(30, 40), *good[1:], b"no picture", *good]
    skipped: list[Skipped] = []
    answers = run.predict(given, skipped=skipped)
    names = [str(item) if isinstance(item, Path) else str(place) for place, item in enumerate(given)]
    assert [answer.path for answer in answers] == [name for name in names if name not in (names[1], names[8])]
    assert [one.path for one in skipped] == [names[1], names[8]]
    with pytest.raises(DataError, match="is empty"):
        run.predict(given)


def test_arrays_are_taken_as_they_were_trained_on(tmp_path: Path) -> None:
    images = np.stack([colourful(12, 12, row) for row in range(12)])
    for name, given in (("keras", images.astype(np.float32)), ("torch", images.transpose(0, 3, 1, 2) / 255)):
        run = trained(from_arrays(given, [0, 1] * 6), tmp_path / name)
        assert run.settings.input.white == (255 if name == "keras" else 1)
        expected = [tuple(map(float, row)) for row in run.scores(run.prepared().pixels)]
        assert scores(run, given) == scores(run, list(given)) == scores(run, images) == expected
        assert len(run.predict(given[0])) == len(run.predict(images[0])) == 1
    dark = np.zeros((12, 12, 3), np.float32)
    dark[::2] = 1
    keras = Run.open(tmp_path / "keras")
    assert scores(keras, dark) == scores(keras, dark.astype(np.uint8))


def test_12_bit_scans_are_scaled_as_in_training(tmp_path: Path) -> None:
    for kind in ("a", "b"):
        (tmp_path / "scans" / kind).mkdir(parents=True)
        for row in range(6):
            levels = colourful(20, 20, row)[:, :, 0].astype(np.uint16) * 16
            Image.fromarray(levels).save(tmp_path / "scans" / kind / f"{row}.png")
    run = trained(load(tmp_path / "scans"), tmp_path / "run")
    assert run.settings.input.white == 4095
    assert read_summary(tmp_path / "run")[0].input == run.settings.input
    path = tmp_path / "scans" / "a" / "3.png"
    levels = np.asarray(Image.open(path))
    expected = scores(run, path)
    assert scores(run, levels) == scores(run, Image.open(io.BytesIO(path.read_bytes()))) == expected
    quiet = levels // 5  # a dark scan alone is not brightened
    assert scores(run, quiet) == scores(run, np.rint(quiet * (255 / 4095)).astype(np.uint8))


def test_most_images_of_one_tone_are_warned_of(run: Run) -> None:
    black, good = np.zeros((30, 30, 3), np.uint8), colourful(30, 30)
    with pytest.warns(UserWarning, match="2 of 3 images are of one even tone, such as black"):
        run.predict([black, good, black])
    run.predict([black, good])


def test_another_generation_of_pillow_is_said(run: Run) -> None:
    settings = run.settings
    assert settings.decoding_changes() == ()
    now = settings.versions["pillow"]

    def made_with(version: str) -> Settings:
        return settings.model_copy(update={"versions": settings.versions | {"pillow": version}})

    assert made_with(now.partition(".")[0] + ".99").decoding_changes() == ()
    said = f"the run was trained with Pillow 9.1; this is {now}, which may decode some pixels otherwise"
    assert made_with("9.1").decoding_changes() == (said,)
