"""Training from images to a run: what is written, what is learned, what is refused."""

import csv
import errno
import os
import shutil
import tomllib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from convoscope.errors import DataError, InUseError, MachineError, ModelFileError, UsageError
from convoscope.training import Recipe, Run, read_summary, resume, train
from convoscope.training.runs.saved import read_history
from tests.support.runs import Listener, check_validation_figures, events

MODEL = "conv(8) norm relu maxpool conv(8) relu globalavg dropout(0.1) dense"
QUICK: dict[str, Any] = {"model": MODEL, "epochs": 8, "batch_size": 16, "learning_rate": 0.02, "precision": "float32"}


@pytest.fixture(scope="module")
def run(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return train(pictures, output=tmp_path_factory.mktemp("runs") / "first", **QUICK)


def test_it_learns(run: Run) -> None:
    assert run.classes == ("lying bar", "square", "standing bar")
    assert max(row["val_accuracy"] or 0 for row in run.history) >= 0.9
    prepared = run.prepared()
    rows = prepared.dataset.indices("test")
    scores = run.scores(prepared.pixels[rows])
    np.testing.assert_allclose(scores.sum(1), 1, rtol=1e-5)
    assert (scores.argmax(1) == prepared.dataset.targets[rows]).mean() >= 0.8


def test_a_run_is_a_folder(run: Run) -> None:
    names = {entry.name for entry in run.folder.iterdir()}
    expected = {
        "run.toml", "split.csv", "events.jsonl", "metrics.csv", "tensorboard", "best.safetensors", "last.safetensors", "skipped.csv",
    }  # fmt: skip
    assert expected <= names
    assert not [name for name in names if name.endswith(".tmp")]
    settings = tomllib.loads((run.folder / "run.toml").read_text("utf-8"))
    assert settings["model"] == MODEL
    assert settings["recipe"]["batch_size"] == 16
    assert settings["record"]["classes"] == ["lying bar", "square", "standing bar"]
    with (run.folder / "metrics.csv").open() as file:
        header = file.readline()
        assert header.startswith("epoch,train_loss,train_accuracy,val_loss,val_accuracy,seconds")
        assert len(file.readlines()) == 8
    with (run.folder / "split.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 120
    assert {row["split"] for row in rows} == {"train", "validation", "test"}
    kinds = [event["event"] for event in events(run.folder)]
    assert kinds[0] == "start"
    assert kinds[-1] == "end"
    assert kinds.count("epoch") == 8


def test_tensorboard_reads_its_files(run: Run) -> None:
    from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

    values: dict[str, list[tuple[int, float]]] = {}
    for path in (run.folder / "tensorboard").iterdir():
        for event in EventFileLoader(str(path)).Load():
            for value in event.summary.value:
                values.setdefault(value.tag, []).append((event.step, value.tensor.float_val[0]))
    assert [step for step, _ in values["loss/validation"]] == [row["epoch"] for row in run.history]
    assert [loss for _, loss in values["loss/validation"]] == pytest.approx(
        [row["val_loss"] for row in run.history], rel=1e-5
    )


def test_the_best_epoch_is_kept(run: Run) -> None:
    """The kept weights give the validation figures of the best row."""
    best = run.history[run.best_epoch - 1]
    check_validation_figures(run, best)
    assert best["val_accuracy"] == max(row["val_accuracy"] or 0 for row in run.history)


def test_the_same_seed_gives_the_same_weights(run: Run, pictures: Path, tmp_path: Path) -> None:
    again = train(pictures, output=tmp_path / "again", **QUICK)
    other = train(pictures, output=tmp_path / "other", seed=1, **QUICK)
    one, two, three = (each.network().state_dict() for each in (run, again, other))
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert not all(torch.equal(one[name], three[name]) for name in one)
    figures = [[{k: v for k, v in row.items() if k != "seconds"} for row in each.history] for each in (run, again)]
    assert figures[0] == figures[1]


def test_torchs_generator_is_left_as_it_was_found(run: Run, pictures: Path, tmp_path: Path) -> None:
    torch.manual_seed(7)
    before = torch.get_rng_state()
    again = train(pictures, output=tmp_path / "again", seed=3, **QUICK)
    assert torch.equal(torch.get_rng_state(), before)
    resume(again.folder, epochs=QUICK["epochs"] + 1)
    assert torch.equal(torch.get_rng_state(), before)


def test_predictions_take_images_of_any_kind(run: Run, pictures: Path, tmp_path: Path) -> None:
    path = pictures / "square" / "3.png"
    picture = Image.open(path)
    large = tmp_path / "large.png"
    picture.resize((240, 240), Image.Resampling.NEAREST).convert("RGBA").save(large)
    forms = [path, str(path), path.read_bytes(), picture, np.asarray(picture)]
    answers = [run.predict(form) for form in forms]
    assert all(len(answer) == 1 for answer in answers)
    for answer in answers:
        assert answer[0].label == "square"
        assert answer[0].scores == answers[0][0].scores
    assert run.predict([large])[0].label == "square"
    assert len(run.predict(np.stack([np.asarray(picture)] * 7))) == 7
    assert run.predict([]) == []


def test_a_picture_that_cannot_be_read_is_an_error_or_is_listed(run: Run, pictures: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.jpg"
    bad.write_text("<html>not found</html>")
    with pytest.raises(DataError, match="HTML page"):
        run.predict([bad])
    skipped: list[Any] = []
    answers = run.predict([bad, pictures / "square" / "1.png"], skipped=skipped)
    assert [answer.path for answer in answers] == [str(pictures / "square" / "1.png")]
    assert skipped[0].path == str(bad)


def failing_disk(monkeypatch: pytest.MonkeyPatch, fails: Callable[[str], bool], number: int) -> None:
    """From now on pictures whose path `fails` cannot be read."""
    from convoscope.data import decode

    read = decode.read_picture

    def read_or_fail(path: Any) -> bytes:
        if fails(str(path)):
            raise OSError(number, os.strerror(number), path)
        return read(path)

    monkeypatch.setattr(decode, "read_picture", read_or_fail)


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE, errno.ENOENT])
def test_one_picture_that_the_disk_does_not_give_is_listed(
    number: int, run: Run, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing_disk(monkeypatch, lambda path: path.endswith("2.png"), number)
    names = [pictures / "square" / f"{n}.png" for n in (1, 2, 3)]
    skipped: list[Any] = []
    answers = run.predict(names, skipped=skipped)
    assert [answer.path for answer in answers] == [str(names[0]), str(names[2])]
    assert [item.path for item in skipped] == [str(names[1])]
    assert os.strerror(number) in skipped[0].reason or skipped[0].reason == "there is no such picture"


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOENT])
def test_twenty_of_them_in_a_row_are_the_machines_fault(
    number: int, run: Run, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing_disk(monkeypatch, lambda path: "gone" in path, number)
    gone = [f"gone/{n}.png" for n in range(30)]
    good = [str(pictures / "square" / f"{n}.png") for n in (1, 3)]
    skipped: list[Any] = []
    done: list[Any] = []
    with pytest.raises(MachineError, match="20 pictures in a row") as caught:
        run.predict([*good, *gone], skipped=skipped, done=done)
    assert caught.value.code == "pictures-unreachable"
    assert [answer.path for answer in done] == good
    assert len(skipped) == 20
    mixed = [name for pair in zip(gone, good * 15, strict=True) for name in pair]
    assert len(run.predict(mixed, skipped=[])) == 30


def test_what_was_decided_is_said(pictures: Path, tmp_path: Path) -> None:
    listener = Listener()
    train(pictures, output=tmp_path / "run", reporter=listener, **QUICK | {"epochs": 1})
    said = " ".join(listener.said)
    assert "computing on cpu in float32" in said
    assert "96 for training, 12 for validation, 12" in said
    assert len(listener.rows) == 1


def test_augmentation_dropout_and_average_train(pictures: Path, tmp_path: Path) -> None:
    recipe = QUICK | {
        "flip": True,
        "rotate": 10.0,
        "shift": 0.1,
        "zoom": 0.1,
        "erase": 0.2,
        "colour": 0.2,
        "ema": 0.3,
        "label_smoothing": 0.1,
    }
    run = train(pictures, output=tmp_path / "run", **recipe)
    assert run.history[-1]["train_loss"] < run.history[0]["train_loss"]
    assert all(np.isfinite(row["train_loss"]) for row in run.history)


@pytest.mark.parametrize(
    "recipe", [{"sampling": "balanced"}, {"class_weights": "balanced"}, {"optimizer": "muon"}, {"optimizer": "sgd"}]
)
def test_other_recipes_train(pictures: Path, tmp_path: Path, recipe: dict[str, Any]) -> None:
    run = train(pictures, output=tmp_path / "run", **QUICK | {"epochs": 3} | recipe)
    assert run.history[-1]["train_loss"] < run.history[0]["train_loss"]


def test_patience_stops_early(pictures: Path, tmp_path: Path) -> None:
    listener = Listener()
    quick = QUICK | {"epochs": 200, "patience": 3, "learning_rate": 1e-6}
    run = train(pictures, output=tmp_path / "run", reporter=listener, **quick)
    told = f"ended after {len(run.history)} of 200 epochs: none of the last 3 was better than epoch {run.best_epoch}"
    assert listener.said[-1] == told
    resume(run.folder, reporter=listener)
    assert listener.said[-1] == told
    assert len(run.history) == run.best_epoch + 3


def test_one_sigmoid_for_two_classes(pictures: Path, tmp_path: Path) -> None:
    two = tmp_path / "two"
    two.mkdir()
    for name in ("lying bar", "standing bar"):
        (two / name).symlink_to(pictures / name)
    images = np.stack(
        [
            np.asarray(Image.open(p))
            for name in ("lying bar", "standing bar")
            for p in sorted((pictures / name).iterdir())
        ]
    )
    np.savez(tmp_path / "two.npz", images=images, labels=np.repeat([0, 1], 40))
    text = "conv(8) norm relu maxpool conv(8) relu globalavg dense(1)"
    run = train(tmp_path / "two.npz", output=tmp_path / "run", **QUICK | {"model": text})
    assert run.settings.outputs == 1
    scores = run.scores(images[..., None])
    assert scores.shape == (80, 2)
    np.testing.assert_allclose(scores.sum(1), 1, rtol=1e-6)
    assert (scores.argmax(1) == np.repeat([0, 1], 40)).mean() > 0.9


def write_manifest(folder: Path, header: str, rows: list[str]) -> Path:
    path = folder / "labels.csv"
    path.write_text("\n".join([header, *rows]) + "\n")
    return path


def test_two_numbers_for_each_image_are_a_regression(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rows = []
    for number in range(150):
        y, x = rng.integers(1, 11, 2)
        picture = rng.integers(0, 30, (12, 12), dtype=np.uint8)
        picture[y - 1 : y + 1, x - 1 : x + 1] = 250
        Image.fromarray(picture).save(tmp_path / f"{number}.png")
        rows.append(f"{number}.png,{100 + 10.0 * y},{x / 7:.4f}")
    source = write_manifest(tmp_path, "path,height,side", rows)
    run = train(
        source, "flatten dense(32) relu dense", output=tmp_path / "run", epochs=60, batch_size=16, learning_rate=0.01
    )
    assert run.task == "regression"
    assert run.classes == ("height", "side")
    assert max(row["val_accuracy"] or -9 for row in run.history) > 0.7
    answer = run.predict(tmp_path / "0.png")[0]
    assert answer.confidence is None
    assert answer.scores["height"] == pytest.approx(float(rows[0].split(",")[1]), abs=30)


def test_several_labels_for_each_image(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rows = []
    for number in range(150):
        names = []
        picture = rng.integers(0, 30, (12, 12), dtype=np.uint8)
        if rng.random() < 0.5:
            picture[2:4] = 250
            names.append("bar")
        if rng.random() < 0.5:
            picture[7:11, 7:11] = 250
            names.append("square")
        Image.fromarray(picture).save(tmp_path / f"{number}.png")
        rows.append(f"{number}.png,{';'.join(names)}")
    source = write_manifest(tmp_path, "path,labels", rows)
    run = train(source, output=tmp_path / "run", **QUICK | {"epochs": 15})
    assert run.task == "multi-label"
    assert run.classes == ("bar", "square")
    assert max(row["val_accuracy"] or 0 for row in run.history) > 0.9
    answer = run.predict(tmp_path / "0.png")[0]
    assert set(answer.label.split(";")) - {""} == set(rows[0].split(",")[1].split(";")) - {""}


def test_one_output_is_for_two_classes_only(tmp_path: Path) -> None:
    for number in range(20):
        Image.new("L", (8, 8), number * 10).save(tmp_path / f"{number}.png")
    source = write_manifest(tmp_path, "path,x,y", [f"{n}.png,{n * 1.5},{n * 2.5}" for n in range(20)])
    with pytest.raises(UsageError) as caught:
        train(source, "flatten dense(1)", output=tmp_path / "run", epochs=1)
    assert caught.value.code == "one-output-task"
    assert "2 numbers are to be predicted" in caught.value.reason


def test_a_module_of_ones_own(pictures: Path, tmp_path: Path) -> None:
    def make() -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.Linear(144, 16), nn.ReLU(), nn.Linear(16, 3))

    run = train(pictures, make(), output=tmp_path / "run", epochs=3)
    assert run.settings.model.startswith("custom:")
    assert run.predict(pictures / "square" / "3.png")[0].label in run.classes
    with pytest.raises(ModelFileError) as caught:
        Run.open(run.folder).network()
    assert caught.value.code == "run-needs-module"
    with pytest.raises(ModelFileError) as caught:
        resume(run.folder, epochs=4)
    assert caught.value.code == "run-needs-module"
    longer = resume(run.folder, epochs=4, model=make())
    assert len(longer.history) == 4


# --- refusals ----------------------------------------------------------------------------------------------------------


def test_an_existing_folder_is_not_written_into(pictures: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("precious")
    with pytest.raises(InUseError) as caught:
        train(pictures, output=tmp_path, **QUICK)
    assert caught.value.code == "output-exists"
    assert caught.value.hint == "choose another folder"
    assert [entry.name for entry in tmp_path.iterdir()] == ["mine.txt"]
    with pytest.raises(InUseError, match="is a file; expected a new folder"):
        train(pictures, output=tmp_path / "mine.txt", **QUICK)


def test_an_existing_run_is_not_written_into(run: Run, pictures: Path) -> None:
    listener = Listener()
    with pytest.raises(InUseError) as caught:
        train(pictures, output=run.folder, reporter=listener, **QUICK)
    assert caught.value.hint.startswith(f"go on with it: convoscope train --resume {run.folder}")
    assert listener.said == [], "it is reported before anything long begins"


def test_a_run_inside_the_data_is_refused(pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "link").symlink_to(pictures)
    monkeypatch.chdir(pictures)  # the default folder, runs/, would become a class
    for output in (pictures / "run", tmp_path / "link" / "run", pictures, None):
        with pytest.raises(UsageError) as caught:
            train(".", output=output, **QUICK)
        assert caught.value.code == "output-inside-data"
    assert sorted(entry.name for entry in pictures.iterdir()) == ["lying bar", "square", "standing bar"]
    run = train(".", output="../" + tmp_path.name + "-beside", **QUICK | {"epochs": 1})
    assert Path(run.settings.source) == pictures


def test_words_of_a_recipe_may_be_written_in_any_case() -> None:
    assert Recipe.read({"optimizer": "AdamW", "schedule": "Cosine", "device": "CPU"}) == Recipe(device="cpu")


@pytest.mark.parametrize(
    ("recipe", "words"),
    [
        ({"learning_rate": 0}, "learning_rate: input should be greater than 0; received 0"),
        ({"learning_rate": -1}, "learning_rate: input should be greater than 0"),
        ({"learning_rate": float("nan")}, "learning_rate: input should be a finite number"),
        ({"learning_rate": float("inf")}, "learning_rate"),
        ({"learning_rate": "quick"}, "learning_rate: input should be a valid number"),
        ({"batch_size": 0}, "batch_size: input should be greater than or equal to 1; received 0"),
        ({"epochs": 0}, "epochs: input should be greater than or equal to 1; received 0"),
        ({"epoch": 3}, "epoch: no such setting; did you mean epochs?"),
        ({"epochs": 100_001}, "epochs: input should be less than or equal to 100000"),
        ({"optimizer": "lion"}, "optimizer: input should be 'sgd', 'adam', 'adamw' or 'muon'; received 'lion'"),
    ],
)
def test_impossible_recipes_are_named(pictures: Path, tmp_path: Path, recipe: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError) as caught:
        train(pictures, output=tmp_path / "run", **QUICK | recipe)
    assert caught.value.code == "recipe-invalid"
    assert words in caught.value.reason
    # A wrong key is answered with all keys, a wrong value with what the key means.
    key = words.split(":", maxsplit=1)[0]
    meaning = Recipe.model_fields[key].description if key in Recipe.model_fields else "settings: epochs, batch_size, "
    assert str(meaning) in caught.value.hint
    assert not (tmp_path / "run").exists()


def test_all_faults_are_reported_at_once(pictures: Path) -> None:
    with pytest.raises(UsageError) as caught:
        train(pictures, epochs=0, batch_size=-3, flipp=True)  # type: ignore[call-arg]
    for key in ("epochs", "batch_size", "flipp"):
        assert f"{key}: " in caught.value.reason


def test_one_number_is_the_side_of_a_square(pictures: Path, tmp_path: Path) -> None:
    run = train(pictures, output=tmp_path / "run", size=np.int64(12), **QUICK | {"epochs": 1})  # type: ignore[arg-type]
    assert (run.settings.input.height, run.settings.input.width) == (12, 12)


def test_a_size_too_small_for_the_depth_names_the_layer(pictures: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="conv2"):
        train(pictures, "conv(4) maxpool conv(4, padding=valid) flatten dense", size=(4, 4), output=tmp_path / "run")
    for size in ((0, 100_000), 0, (8,), (8, 8, 3), (8.0, 8.0), "8x8", True):
        with pytest.raises(UsageError) as caught:
            train(pictures, size=size, output=tmp_path / "run")  # type: ignore[arg-type]
        assert caught.value.code == "size-out-of-range"
    for channels in (0, 2, 99):
        with pytest.raises(UsageError) as caught:
            train(pictures, channels=channels, output=tmp_path / "run")
        assert caught.value.code == "channels-out-of-range"
        assert caught.value.reason == f"the images have 1, which can become 1 or 3; received {channels}"
    assert not (tmp_path / "run").exists()


def test_channels_of_arrays(tmp_path: Path) -> None:
    for own, possible in ((3, (1, 3)), (4, (1, 3, 4)), (5, (5,))):
        images = np.random.default_rng(0).integers(0, 256, (20, 8, 8, own), dtype=np.uint8)
        np.savez(tmp_path / f"{own}.npz", images=images, labels=np.arange(20) % 2)
        for channels in (1, 3, 4, 5):
            options: dict[str, Any] = {"channels": channels, "epochs": 1, "precision": "float32"}
            output = tmp_path / f"{own} as {channels}"
            if channels in possible:
                run = train(tmp_path / f"{own}.npz", "flatten dense", output=output, **options)
                assert run.settings.input.channels == channels
            else:
                with pytest.raises(UsageError, match=f"the images have {own}, which can become"):
                    train(tmp_path / f"{own}.npz", "flatten dense", output=output, **options)


def test_batches_of_one_image_and_batch_norm(pictures: Path, tmp_path: Path) -> None:
    flat = QUICK | {"model": "flatten dense(4) norm relu dense", "epochs": 1}
    with pytest.raises(UsageError, match="batch norm needs more than one image in a batch here") as caught:
        train(pictures, output=tmp_path / "run", **flat | {"batch_size": 1})
    assert caught.value.code == "batch-too-small"
    assert "batch_size=2" in caught.value.hint
    assert not (tmp_path / "run").exists()
    # The pixels of one image have a standard deviation.
    train(pictures, output=tmp_path / "pixels", **QUICK | {"epochs": 1, "batch_size": 1})
    listener = Listener()
    train(pictures, output=tmp_path / "rest", reporter=listener, **flat | {"batch_size": 95})
    assert any(
        said.startswith("one image, a different one each time, is left out of an epoch") for said in listener.said
    )
    listener = Listener()
    train(pictures, output=tmp_path / "whole", reporter=listener, **flat | {"batch_size": 200})
    assert "batch_size 200 is more than the 96 training images: one batch is an epoch" in listener.said
    assert not any("left out of an epoch" in said for said in listener.said)


def test_more_threads_than_cores_are_slow(pictures: Path, tmp_path: Path) -> None:
    listener = Listener()
    cores = os.cpu_count() or 1
    train(pictures, output=tmp_path / "run", reporter=listener, **QUICK | {"epochs": 1, "threads": cores + 1})
    assert listener.warned == [f"{cores + 1} threads on {cores} cores: training will be slow"]


def test_odd_doubled_and_uneven_images_are_reported(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for name, count in (("many", 202), ("few", 2)):
        (tmp_path / "data" / name).mkdir(parents=True)
        for number in range(count):
            Image.fromarray(rng.integers(0, 256, (6, 6), dtype=np.uint8)).save(
                tmp_path / "data" / name / f"{number}.png"
            )
    (tmp_path / "data" / "few" / "1.png").write_bytes((tmp_path / "data" / "many" / "1.png").read_bytes())
    Image.new("L", (1, 1), 7).save(tmp_path / "data" / "many" / "2.png")
    listener = Listener()
    recipe = QUICK | {"epochs": 1, "model": "flatten dense"}
    train(tmp_path / "data", output=tmp_path / "run", reporter=listener, **recipe)
    assert "many/2.png: has one pixel only" in listener.said
    told = " | ".join(listener.warned)
    assert "the same image has different labels (1 case): few/1.png as few; many/1.png as many" in told
    assert "many has 101 times as many images as few (202 and 2)" in told


def test_an_absent_device(pictures: Path, tmp_path: Path) -> None:
    with pytest.raises(MachineError) as caught:
        train(pictures, output=tmp_path / "run", device="cuda:7", **QUICK)
    assert caught.value.code == "device-absent"
    listener = Listener()
    with pytest.raises(MachineError):
        train(pictures, output=tmp_path / "run", device="cuda:7", reporter=listener, **QUICK)
    assert listener.said == [], "it is reported before anything long begins"
    assert not (tmp_path / "run").exists()
    with pytest.raises(UsageError) as usage:
        train(pictures, output=tmp_path / "run", device="abacus", **QUICK)
    assert usage.value.code == "device-unknown"


@pytest.mark.parametrize(
    ("recipe", "code"),
    [({"sampling": "balanced"}, "sampling-task"), ({"class_weights": "balanced"}, "class-weights-task")],
)
def test_balance_needs_classes(tmp_path: Path, recipe: dict[str, Any], code: str) -> None:
    for number in range(20):
        Image.new("L", (8, 8), number * 10).save(tmp_path / f"{number}.png")
    source = write_manifest(tmp_path, "path,value", [f"{number}.png,{number * 1.5}" for number in range(20)])
    with pytest.raises(UsageError) as caught:
        train(source, "flatten dense", output=tmp_path / "run", epochs=1, **recipe)
    assert caught.value.code == code


def test_a_loss_that_is_not_finite_stops_and_keeps_the_last_state(pictures: Path, tmp_path: Path) -> None:
    recipe = QUICK | {
        "optimizer": "sgd",
        "learning_rate": 100.0,
        "warmup": 0.0,
        "save_every": 0.0,
        "model": "flatten dense(64) relu dense(64) relu dense",
    }
    with pytest.raises(DataError) as caught:
        train(pictures, output=tmp_path / "run", **recipe)
    assert caught.value.code == "loss-not-finite"
    assert "last.safetensors" in caught.value.reason
    assert caught.value.hint == "train again with a lower rate: --set learning_rate=10"
    from convoscope.training.core import checkpoint

    tensors, _ = checkpoint.load(tmp_path / "run" / "last.safetensors")
    assert all(bool(value.isfinite().all()) for value in tensors.values() if value.is_floating_point())


def test_a_damaged_best_checkpoint_is_passed_over(run: Run, pictures: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(run.folder, folder)
    shutil.copy(folder / "last.safetensors", folder / "previous.safetensors")
    damaged = bytearray((folder / "best.safetensors").read_bytes())
    damaged[-1] ^= 1
    (folder / "best.safetensors").write_bytes(damaged)
    with pytest.warns(UserWarning, match=r"best.safetensors: damaged .*; its place is taken by last.safetensors"):
        opened = Run.open(folder)
    assert opened.predict(pictures / "square" / "3.png")[0].label in run.classes
    (folder / "last.safetensors").write_bytes(damaged)
    with pytest.warns(UserWarning, match=r"its place is taken by previous.safetensors"):
        Run.open(folder)
    (folder / "previous.safetensors").write_bytes(damaged)
    with pytest.raises(ModelFileError) as caught:
        Run.open(folder)
    assert (caught.value.code, caught.value.path) == ("checkpoint-damaged", str(folder / "best.safetensors"))


@pytest.mark.parametrize(
    ("damage", "kept"),
    [
        (lambda text: text + "rubbish\n", 8),
        (lambda text: text.replace("\n3,", "\nthree,"), 2),
        (lambda text: text.replace(",", ";"), 0),
        (lambda text: "a,b,c\n1,2,3\n", 0),
        (lambda text: text + "9,0.1\n", 8),
        (lambda text: text.replace("\n2,", "\n2,\udcff"), 1),
    ],
    ids=["rubbish", "word", "semicolons", "other columns", "short", "no text"],
)
def test_figures_that_cannot_be_read_do_not_hinder_prediction(
    run: Run, pictures: Path, tmp_path: Path, damage: Callable[[str], str], kept: int
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(run.folder, folder)
    text = damage((folder / "metrics.csv").read_text())
    (folder / "metrics.csv").write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.warns(UserWarning, match=rf"metrics.csv, line {kept + 2}: cannot be read"):
        opened = Run.open(folder)
    assert opened.history == run.history[:kept]
    assert opened.predict(pictures / "square" / "3.png")[0].label in run.classes


def test_other_classes_are_never_taken_for_the_runs_own(pictures: Path, tmp_path: Path) -> None:
    source = tmp_path / "source"
    shutil.copytree(pictures, source)
    run = train(source, output=tmp_path / "run", **QUICK | {"epochs": 1})
    (source / "square").rename(source / "box")
    for call in (
        lambda: resume(run.folder, epochs=2, accept_data_change=True),
        lambda: Run.open(run.folder).prepared(),
    ):
        with pytest.raises(ModelFileError) as caught:
            call()
        assert caught.value.code == "classes-changed"
        assert (
            "now: box, lying bar, standing bar; the run knows: lying bar, square, standing bar" in caught.value.reason
        )


def test_best_weights_are_no_state_to_go_on_from(run: Run, tmp_path: Path) -> None:
    shutil.copytree(run.folder, tmp_path / "run")
    shutil.copy(tmp_path / "run" / "best.safetensors", tmp_path / "run" / "last.safetensors")
    with pytest.raises(ModelFileError) as caught:
        resume(tmp_path / "run", epochs=9)
    assert caught.value.code == "checkpoint-without-progress"


def test_names_that_are_no_text_do_not_spoil_the_runs_files(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for name in (os.fsdecode(b"\xff"), "a\nb", "\x1b[31m"):
        (tmp_path / "data" / name).mkdir(parents=True)
        for number in range(4):
            Image.fromarray(rng.integers(0, 256, (6, 6), dtype=np.uint8)).save(
                tmp_path / "data" / name / f"{number}.png"
            )
    run = train(tmp_path / "data", output=tmp_path / "run", **QUICK | {"epochs": 1})
    settings = tomllib.loads((run.folder / "run.toml").read_text("utf-8"))
    assert settings["record"]["classes"] == ["\x1b[31m", "a\nb", "\\udcff"]
    assert set(run.predict(tmp_path / "data" / "a\nb" / "0.png")[0].scores) == set(run.classes)
    assert Run.open(run.folder).prepared().dataset.classes == run.classes


def test_opening_what_is_no_run(tmp_path: Path) -> None:
    for place, code in ((tmp_path, "run-empty"), (tmp_path / "none", "checkpoint-missing")):
        with pytest.raises(ModelFileError) as caught:
            Run.open(place)
        assert caught.value.code == code
    with pytest.raises(ModelFileError) as caught:
        resume(tmp_path / "none")
    assert caught.value.code == "run-missing"


def test_a_torn_last_line_is_left_out(run: Run, tmp_path: Path) -> None:
    content = (run.folder / "metrics.csv").read_bytes()
    torn = tmp_path / "metrics.csv"
    rows = read_history(run.folder / "metrics.csv")
    last_line = content.rstrip(b"\n").rfind(b"\n") + 1
    for length in np.linspace(last_line, len(content) - 1, 20).astype(int):
        torn.write_bytes(content[:length])
        assert read_history(torn) == rows[:-1]


def test_settings_that_cannot_be_read(run: Run, tmp_path: Path) -> None:
    from convoscope.training.core import checkpoint

    tensors, state = checkpoint.load(run.folder / "best.safetensors")
    del state["settings"]["classes"]
    checkpoint.save(tmp_path / "best.safetensors", tensors, state)
    with pytest.raises(ModelFileError) as caught:
        Run.open(tmp_path)
    assert caught.value.code == "settings-unreadable"
    assert "classes" in caught.value.reason


def test_no_images_to_train_on(tmp_path: Path) -> None:
    from convoscope import data

    images = np.random.default_rng(0).integers(0, 256, (6, 8, 8), dtype=np.uint8)
    dataset = replace(data.from_arrays(images, np.array([0, 1] * 3)), splits=np.full(6, 2, np.int8))
    with pytest.raises(DataError) as caught:
        train(dataset, "flatten dense", output=tmp_path / "run", epochs=1)
    assert caught.value.code == "no-training-images"


def test_a_batch_that_does_not_fit_into_memory(pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from convoscope.training.fit import loop

    def too_large(*_: Any) -> Any:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 99 bytes")

    monkeypatch.setattr(loop, "train_step", too_large)
    with pytest.raises(MachineError) as caught:
        train(pictures, output=tmp_path / "run", **QUICK)
    assert caught.value.code == "out-of-memory"
    assert caught.value.reason.startswith("a batch of 16 at 12x12 needs about ")
    assert caught.value.reason.endswith(" could be had")
    assert caught.value.hint == "try --set batch_size=4"


def test_thirty_bad_files_among_three_hundred(tmp_path: Path) -> None:
    """Broken, misnamed and hostile files are listed with their reasons, left as they are, and the rest trains."""
    rng = np.random.default_rng(0)
    bad = {
        "empty.jpg": b"", "one.jpg": b"x", "page.jpg": b"<!DOCTYPE html><html></html>", "paper.png": b"%PDF-1.7", "drawing.png": b"<svg xmlns='x'/>",
        "layers.png": b"8BPS\0\1", "header.png": b"\x89PNG\r\n\x1a\n", "words.gif": b"hello", "zip.jpg": b"PK\x03\x04", "exe.bmp": b"MZ\x90",
    }  # fmt: skip
    for label, name in enumerate(("dark", "bright", "striped")):
        folder = tmp_path / "data" / name
        folder.mkdir(parents=True)
        for number in range(100):
            pixels = rng.integers(0, 90, (16, 16), dtype=np.uint8) + np.uint8(140 * (label == 1))
            pixels[:: 2 if label == 2 else 99] = 250
            Image.fromarray(pixels).save(folder / f"{number}.png")
        for title, content in bad.items():
            (folder / title).write_bytes(content)
    before = {path: path.read_bytes() for path in sorted((tmp_path / "data").rglob("*.*"))}
    listener = Listener()
    run = train(tmp_path / "data", output=tmp_path / "run", reporter=listener, **QUICK | {"epochs": 3})
    with (run.folder / "skipped.csv").open(newline="") as file:
        skipped = {row["path"]: row["reason"] for row in csv.DictReader(file)}
    assert set(skipped) == {f"{name}/{title}" for name in run.classes for title in bad}
    assert all(skipped.values())
    assert "HTML page" in skipped["dark/page.jpg"]
    assert any(warning.startswith("30 of 330 images skipped") for warning in listener.warned)
    assert {path: path.read_bytes() for path in sorted((tmp_path / "data").rglob("*.*"))} == before
    assert sum(run.settings.images.values()) == 300


def test_a_summary_is_what_opening_gives(run: Run) -> None:
    assert read_summary(run.folder) == (run.settings, run.history)


@pytest.mark.parametrize("content", [None, b"", b"size = 3", b"\xff", b"a = " + b"[" * 50_000, b"#" * 10_000_001])
def test_a_summary_of_settings_that_cannot_be_read(run: Run, tmp_path: Path, content: bytes | None) -> None:
    shutil.copy(run.folder / "best.safetensors", tmp_path)
    if content is not None:
        (tmp_path / "run.toml").write_bytes(content)
    with pytest.raises(ModelFileError, match="its settings cannot be read") as caught:
        read_summary(tmp_path)
    assert caught.value.code == "settings-unreadable"


def test_a_summary_of_no_run(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="no checkpoint in this folder"):
        read_summary(tmp_path)


def test_with_class_weights_the_validation_loss_does_not_depend_on_batches(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is the mean weighted by the images' classes, over all of them, whatever the batches are."""
    few = tmp_path / "few"
    shutil.copytree(pictures, few)
    for path in sorted((few / "square").iterdir())[6:]:
        path.unlink()
    run = train(
        few,
        output=tmp_path / "run",
        validation=0.4,
        **QUICK | {"epochs": 1, "class_weights": "balanced", "batch_size": 16},
    )
    prepared = run.prepared()
    rows, trained = prepared.dataset.indices("validation"), prepared.dataset.indices("train")
    counts = np.bincount(prepared.dataset.targets[trained], minlength=3)
    weights = (len(trained) / 3 / counts)[prepared.dataset.targets[rows]]
    with torch.inference_mode():
        raw = run.network()(run.input_tensor(prepared.pixels[rows]))
    chances = torch.softmax(raw, 1).double().numpy()
    losses = -np.log(chances[np.arange(len(rows)), prepared.dataset.targets[rows]])
    assert len(rows) > 32  # more than one batch
    assert run.history[0]["val_loss"] == pytest.approx((losses * weights).sum() / weights.sum(), rel=1e-4)


@pytest.mark.parametrize(
    ("epochs", "sizes"), [(1, [24]), (2, [16, 24]), (3, [16, 16, 24]), (4, [16, 16, 16, 24]), (10, [16] * 7 + [24] * 3)]
)
def test_small_images_come_first_and_full_ones_last(epochs: int, sizes: list[int]) -> None:
    from convoscope.training.fit.schedule import train_size, validation_size

    part = SimpleNamespace(pixels=np.zeros((1, 24, 24, 3), np.uint8))
    job = cast(
        Any, SimpleNamespace(recipe=Recipe.read({"epochs": epochs, "start_size": 2 / 3, "end_size": 1.0}), train=part)
    )
    assert [train_size(job, epoch)[0] for epoch in range(epochs)] == sizes
    assert validation_size(job, epochs - 1) == (24, 24)


def test_a_size_for_which_the_model_is_made_is_reported(pictures: Path, tmp_path: Path) -> None:
    listener = Listener()
    train(pictures, "quickdraw", output=tmp_path / "run", reporter=listener, epochs=1, precision="float32")
    assert any(line.startswith("images at 28x28, for which the model is made (") for line in listener.said)


@pytest.mark.parametrize("epochs", [3.5, float("nan"), "many", 0, 100_001])
def test_impossible_numbers_of_epochs_do_a_run_no_harm(run: Run, tmp_path: Path, epochs: Any) -> None:
    shutil.copytree(run.folder, tmp_path / "run")
    before = {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir() if path.is_file()}
    with pytest.raises(UsageError) as caught:
        resume(tmp_path / "run", epochs=epochs)
    assert caught.value.code == "recipe-invalid"
    assert {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir() if path.is_file()} == before
    more = resume(tmp_path / "run", epochs=np.int64(len(run.history) + 1))  # type: ignore[arg-type]
    assert len(more.history) == len(run.history) + 1


@pytest.mark.parametrize("seed", [1.5, True, "1", None, -1])
def test_seeds_are_whole_numbers(pictures: Path, seed: Any) -> None:
    with pytest.raises(UsageError) as caught:
        train(pictures, seed=seed, epochs=1)
    assert caught.value.code == "bad-seed"


def test_numpys_whole_numbers_are_seeds(run: Run, pictures: Path, tmp_path: Path) -> None:
    made = train(pictures, output=tmp_path / "run", seed=np.int64(0), **QUICK)  # type: ignore[arg-type]
    assert type(made.settings.seed) is int
    assert made.history[-1]["train_loss"] == run.history[-1]["train_loss"]
