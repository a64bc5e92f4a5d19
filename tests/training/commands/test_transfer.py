"""Relearning: a new head on a frozen backbone, cached features, and the out-of-distribution detector."""

import csv
import io
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from convoscope import data, evaluation, look
from convoscope.cli import run as command
from convoscope.errors import ModelFileError
from convoscope.training import Run, relearn, resume, train
from convoscope.training.backbone.features import Features
from convoscope.training.backbone.sources import open_backbone
from convoscope.training.fit.defaults import view_recipe
from tests.support.runs import BACKBONE, OTHERS, Listener, check_validation_figures, fingerprint, taught, words_of

# --- the run -----------------------------------------------------------------------------------------------------------


def test_the_backbone_is_unchanged_bit_for_bit(backbone: Run, relearned: Run) -> None:
    before, after = backbone.network().state_dict(), relearned.network().state_dict()
    kept = [name for name in before if not name.startswith("dense2.")]
    assert len(kept) == len(before) - 2
    assert all(torch.equal(before[name], after[name]) for name in kept)
    assert after["dense2.weight"].shape == (3, 32)


def test_it_is_a_run_like_any_other(relearned: Run) -> None:
    assert relearned.settings.model == BACKBONE
    assert relearned.classes == ("house", "star", "umbrella")
    assert relearned.parameters == sum(value.numel() for value in relearned.network().parameters())
    row = relearned.history[0]
    assert [row["epoch"] for row in relearned.history] == [1] == [relearned.best_epoch]
    opened = Run.open(relearned.folder)
    prepared = opened.prepared()
    check_validation_figures(opened, row)
    rows = prepared.dataset.indices("test")
    assert (opened.scores(prepared.pixels[rows]).argmax(1) == prepared.dataset.targets[rows]).mean() >= 0.6
    names = {entry.name for entry in relearned.folder.iterdir()}
    assert {"run.toml", "split.csv", "events.jsonl", "metrics.csv", "best.safetensors", "last.safetensors"} <= names
    from convoscope.training import read_summary

    assert read_summary(relearned.folder)[0].relearned == relearned.settings.relearned


def test_the_cached_features_give_the_networks_numbers(relearned: Run) -> None:
    prepared = relearned.prepared()
    rows = prepared.dataset.indices("test")
    assert relearned._features is not None
    quick, near = relearned.scores_and_distances(prepared.pixels, rows)
    slow, far = Run.open(relearned.folder).scores_and_distances(prepared.pixels[rows])
    np.testing.assert_allclose(quick, slow, atol=2e-5)
    assert near is not None and far is not None
    np.testing.assert_allclose(near, far, atol=2e-5)


def test_the_same_again_is_the_same(backbone: Run, relearned: Run, tmp_path: Path) -> None:
    again = taught(backbone, OTHERS, output=tmp_path / "again")
    assert fingerprint(again.folder) == fingerprint(relearned.folder)
    other = taught(backbone, OTHERS, output=tmp_path / "other", seed=1)
    assert fingerprint(other.folder) != fingerprint(relearned.folder)


def test_another_head_and_another_split_compute_nothing(backbone: Run, relearned: Run, tmp_path: Path) -> None:
    changed: tuple[dict[str, Any], ...] = ({"head": "mean"}, {"head": "mlp"}, {"seed": 5})
    for number, changes in enumerate(changed):
        listener = Listener()
        made = taught(backbone, OTHERS, output=tmp_path / str(number), reporter=listener, **changes)
        assert listener.heard("240 of 240 were cached")
        assert listener.heard("nearest class mean: ")
        assert made.history[0]["val_accuracy"] is not None
        assert Run.open(made.folder).predict(Image.new("L", (28, 28)))[0].scores.keys() == set(made.classes)


def test_views_are_computed_for_training_images_only(backbone: Run, relearned: Run, tmp_path: Path) -> None:
    listener = Listener()
    made = taught(backbone, OTHERS, output=tmp_path / "run", augmented_views=3, reporter=listener)
    assert made.settings.relearned is not None
    assert made.settings.relearned.augmented_views == 3
    assert listener.heard("240 of 240 were cached")  # as they are; their views come on top
    source = Features(open_backbone(backbone, say=listener.say))
    prepared = made.prepared()
    rows = prepared.dataset.indices("train")

    views = view_recipe(prepared)
    one = source.of(prepared, rows, views=views, view=1)
    assert source.computed == 0
    two = source.of(prepared, rows, views=views, view=2)
    plain = source.of(prepared, rows)
    assert source.computed == 0
    assert not np.allclose(one, two) and not np.allclose(one, plain)


def test_a_finished_run_can_be_resumed_and_trained_on(relearned: Run, backbone: Run, tmp_path: Path) -> None:
    made = taught(backbone, OTHERS, output=tmp_path / "run")
    listener = Listener()
    resume(made.folder, reporter=listener)
    assert listener.heard("its one epoch is done")
    again = resume(made.folder, epochs=3)
    assert len(again.history) == 3
    before, after = backbone.network().state_dict(), again.network().state_dict()
    # Only the head learns: the backbone's statistics do not move either.
    assert all(torch.equal(before[name], after[name]) for name in before if not name.startswith("dense2."))


def test_a_run_is_tested_reported_and_looked_at(relearned: Run) -> None:
    scores = evaluation.test(relearned, invariance=False)
    assert scores.unknown is not None
    prepared = relearned.prepared()
    _, distances = relearned.scores_and_distances(prepared.pixels, prepared.dataset.indices("test"))
    assert distances is not None
    assert scores.unknown.not_known == int((distances > scores.unknown.threshold).sum())
    assert scores.accuracy is not None
    assert sum(scores.unknown.right) == round(scores.accuracy * scores.images)
    page = evaluation.write_report(relearned, inside=False).read_text("utf-8")
    assert "None of these" in page and "marked as <b>not known</b>" in page
    assert "taken over from" in page
    again = evaluation.read_scores(relearned.folder)
    assert again is not None and again.unknown == scores.unknown
    whole = evaluation.write_report(Run.open(relearned.folder)).read_text("utf-8")
    assert "multiply-adds" in whole


def test_killed_before_its_first_checkpoint_it_says_how_to_begin_anew(relearned: Run, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    shutil.copy(relearned.folder / "run.toml", folder)
    settings = relearned.settings
    assert settings.relearned is not None
    hint = f"start it again: convoscope relearn {settings.relearned.backbone} {settings.source}"
    for use in (Run.open, resume):
        with pytest.raises(ModelFileError) as caught:
            use(folder)
        assert (caught.value.code, caught.value.hint) == ("run-empty", hint)
    more = taught(relearned, "builtin:drawings/snail", output=tmp_path / "more", add=True)
    shutil.copy(more.folder / "run.toml", folder)
    with pytest.raises(ModelFileError) as caught:
        Run.open(folder)
    hint = f"start it again: convoscope relearn {relearned.folder} builtin:drawings/snail --add"
    assert caught.value.hint == hint
    (folder / "run.toml").write_text("record = 3", "utf-8")
    with pytest.raises(ModelFileError, match="no checkpoint") as caught:
        Run.open(folder)
    assert caught.value.hint == f"start it again: convoscope train SOURCE --output {folder}"


def test_a_report_speaks_of_no_training_where_a_head_was_made(backbone: Run, tmp_path: Path) -> None:
    made = taught(backbone, OTHERS, output=tmp_path / "run", augmented_views=2, coverage=1.0)
    assert (
        "2 augmented views of each training image, rotated, sheared, zoomed and shifted a little" in made.settings.notes
    )
    evaluation.test(made, split="validation", invariance=False)
    told = words_of(evaluation.write_report(made))
    width = made.network().get_parameter("dense2.weight").shape[1]
    assert f"A network of {made.parameters:,} parameters, the {3 * width + 3} of its head fitted to 168 images" in told
    assert "Measured once, with the finished head, on images that are not augmented." in told
    assert "24 for validation (choosing the head)" in told
    assert "2 augmented views of each" in told
    assert "the validation images chose the head, so this result is slightly too good" in told
    assert "on average 96 % of new images of the classes are known; 24 images are too few for 100 %" in told
    assert "These are the images that set the threshold" in told
    for word in ("epoch", "learning rate", "batch size", "flip", "still change", "switched off"):
        assert word not in told, word
    resume(made.folder, epochs=3)
    further = words_of(evaluation.write_report(Run.open(made.folder), inside=False))
    assert (
        "from the second on the head was trained further by gradient descent, while the backbone stayed as it was."
        in further
    )
    assert "learning rate" in further and "choosing the best epoch" in further


def test_predict_test_and_look_agree_on_what_is_unknown(
    relearned: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One by one as in a batch, at the threshold too: the image that sets it is known. The label stays the best class."""
    prepared = relearned.prepared()
    rows = prepared.dataset.indices("validation")
    evaluation.test(Run.open(relearned.folder), split="validation", invariance=False)
    with open(relearned.folder / "test" / "predictions.csv", encoding="utf-8", newline="") as file:
        written = list(csv.DictReader(file))
    assert [line["path"] for line in written] == [prepared.dataset.names[row] for row in rows]
    detector = relearned.ood_detector()
    assert detector is not None
    opened = Run.open(relearned.folder)
    for row, line in zip(rows.tolist(), written, strict=True):
        answer = opened.predict(prepared.pixels[row])[0]
        assert answer.distance is not None
        assert answer.known is True and line["known"] == "yes"  # so few images allow for no other
        assert answer.label == line["predicted"]
        assert answer.confidence == pytest.approx(float(line["confidence"]), abs=1e-5)
        assert abs(answer.distance - float(line["distance"])) < 1e-5
    others = data.prepare(data.load("builtin:drawings/apple,cat,fish"), prepared.form).pixels
    drawing, farthest = next((image, answer) for image in others if not (answer := opened.predict(image)[0]).known)
    seen = look(opened, drawing)
    told = seen.to_json()
    best = max(farthest.scores, key=lambda name: farthest.scores[name])
    assert (told["label"], told["known"], told["distance"]) == (best, False, pytest.approx(farthest.distance))
    assert told["confidence"] == pytest.approx(farthest.scores[best])
    image = tmp_path / "far.png"
    Image.fromarray(drawing[..., 0]).save(image)
    assert command(["look", str(relearned.folder), str(image), "--out", str(tmp_path / "seen")]) == 0
    printed = capsys.readouterr().out
    assert f"far.png: {best} (" in printed and f"not known: its distance {farthest.distance:.3f} is above" in printed


def test_without_test_and_validation_images_the_next_command_names_others(
    backbone: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert (
        command(["relearn", str(backbone.folder), OTHERS, "--test", "0", "--validation", "0", "--output", "run"]) == 0
    )
    assert "convoscope test run SOURCE" in capsys.readouterr().out
    assert "convoscope test run SOURCE" in words_of(tmp_path / "run" / "report.html")
    assert command(["train", "--config", "run/run.toml"]) == 2
    assert "relearned run" in capsys.readouterr().err


# --- out of distribution ---------------------------------------------------------------------------------------------------------


def test_too_few_validation_images_know_no_ood_detector(backbone: Run, tmp_path: Path) -> None:
    listener = Listener()
    made = taught(backbone, OTHERS, output=tmp_path / "run", validation=0.02, reporter=listener)
    assert listener.heard("too few for an out-of-distribution detector")
    assert made.ood_detector() is None and Run.open(made.folder).ood_detector() is None
    assert made.predict(np.zeros((28, 28), np.uint8))[0].distance is None
    none = taught(backbone, OTHERS, output=tmp_path / "none", validation=0.0, reporter=listener)
    assert listener.heard("there is no validation part")
    assert none.history[0]["val_accuracy"] is None


def test_a_share_that_so_few_images_cannot_keep_is_said(backbone: Run, tmp_path: Path) -> None:
    note = "with 24 validation images 96 % of new images of the classes are known on average; 99 % takes 99 of them"
    listener = Listener()
    usual = taught(backbone, OTHERS, output=tmp_path / "usual", reporter=listener)
    assert note in usual.settings.notes and note in listener.said and not listener.warned
    listener = Listener()
    asked = taught(backbone, OTHERS, output=tmp_path / "run", coverage=0.99, reporter=listener)
    assert note in asked.settings.notes and note in listener.warned
    assert asked.settings.relearned == usual.settings.relearned
    listener = Listener()
    possible = taught(backbone, OTHERS, output=tmp_path / "two", coverage=0.96, reporter=listener)
    assert not listener.warned and not any("are known on average" in note for note in possible.settings.notes)


def test_an_image_of_no_class_is_marked_and_keeps_its_label(
    backbone: Run, capsysbinary: pytest.CaptureFixture[bytes], tmp_path: Path
) -> None:
    """At a threshold that half of the validation images are within, the farthest of them are not known."""
    made = taught(backbone, OTHERS, output=tmp_path / "run", coverage=0.5)
    prepared = made.prepared()
    rows = prepared.dataset.indices("validation")
    opened = Run.open(made.folder)
    _, far = opened.scores_and_distances(prepared.pixels[rows])
    detector = opened.ood_detector()
    assert far is not None and detector is not None
    order = rows[np.argsort(far)]
    near, farthest = (prepared.pixels[row][:, :, 0] for row in (order[0], order[-1]))
    one, other = opened.predict([near, farthest])
    for answer in (one, other):
        assert answer.label == max(answer.scores, key=lambda name: answer.scores[name])
        assert answer.confidence == answer.scores[answer.label]
    assert (one.known, other.known) == (True, False)
    assert one.distance is not None and other.distance is not None
    assert one.distance <= detector.threshold < other.distance
    assert sum(other.scores.values()) == pytest.approx(1, abs=1e-4)
    Image.fromarray(farthest).save(tmp_path / "farthest.png")
    asked = ["predict", str(made.folder), str(tmp_path / "farthest.png")]
    assert command([*asked, "--json"]) == 0
    told = json.loads(capsysbinary.readouterr().out)[0]
    assert (told["label"], told["known"]) == (other.label, False)
    assert told["distance"] == pytest.approx(other.distance, abs=1e-5)
    for options, label in (([], other.label), (["--unknown"], "unknown")):
        assert command([*asked, *options, "--format", "csv"]) == 0
        line = next(csv.DictReader(io.StringIO(capsysbinary.readouterr().out.decode())))
        assert (line["label"], line["known"]) == (label, "no") and float(line["distance"]) > detector.threshold
        assert float(line["confidence"]) == pytest.approx(other.confidence, abs=1e-5)
        assert command([*asked, *options]) == 0
        shown = capsysbinary.readouterr().out.decode().splitlines()
        assert shown[0].split() == ["image", "label", "confidence", "distance", "known", "next"]
        assert f" {label} " in shown[2] and " no " in shown[2]


# --- channels and sizes ------------------------------------------------------------------------------------------------


def test_grey_images_into_a_colour_backbone_and_the_reverse(backbone: Run, pictures: Path, tmp_path: Path) -> None:
    colour = train(
        "builtin:drawings/apple,banana", "conv(4) norm relu maxpool globalavg dense(8) relu dense",
        output=tmp_path / "colour", epochs=1, channels=3, precision="float32",
    )  # fmt: skip
    listener = Listener()
    made = relearn(colour, pictures, output=tmp_path / "one", reporter=listener)
    assert listener.heard("the grey is repeated in all three channels")
    assert any("the grey is repeated" in note for note in made.settings.notes)
    pixels = made.prepared().pixels
    assert pixels.shape[3] == 3 and (pixels[..., 0] == pixels[..., 2]).all()
    photos = tmp_path / "photos"
    for label, name in enumerate(("red", "blue")):
        (photos / name).mkdir(parents=True)
        for number in range(10):
            picture = np.zeros((90, 120, 3), np.uint8)
            picture[:, :, 2 * label] = 100 + number
            Image.fromarray(picture).save(photos / name / f"{number}.png")
    made = taught(backbone, photos, output=tmp_path / "two", reporter=listener)
    assert listener.heard("they become grey")
    assert made.prepared().pixels.shape[1:] == (28, 28, 1)
    assert listener.heard("are small (12x12)") is False  # 12 is not less than a third of 28


# --- the command -------------------------------------------------------------------------------------------------------


def test_the_command(
    backbone: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert command(["relearn", str(backbone.folder), OTHERS]) == 0
    out = capsys.readouterr().out
    assert "test part: right on" in out and "not known:" in out and "convoscope test runs/" in out
    made = next((tmp_path / "runs").iterdir())
    assert (made / "report.html").exists()
    assert (
        command(["relearn", str(made), "builtin:drawings/snail", "--add", "--no-test", "--json", "--head", "mean"]) == 0
    )
    told = json.loads(capsys.readouterr().out)
    assert Run.open(told["run"]).classes[-1] == "snail"
    assert command(["relearn", str(backbone.folder), OTHERS, "--unfreeze", "some"]) == 2
    assert "expected all, or how many" in capsys.readouterr().err
    assert command(["relearn", str(backbone.folder), OTHERS, "--epochs", "2", "--set", "epochs=3"]) == 2
    assert command(["relearn", str(backbone.folder)]) == 2
