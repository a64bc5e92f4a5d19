"""Relearning: a new head on a frozen backbone, kept features, detector, added classes, and the backbone that learns too."""

import contextlib
import csv
import dataclasses
import errno
import hashlib
import io
import itertools
import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from convoscope import data, evaluation, look, models
from convoscope.cli import run as command
from convoscope.errors import (
    ConvoscopeError,
    DataError,
    Interrupted,
    InUseError,
    MachineError,
    ModelFileError,
    UsageError,
)
from convoscope.training import Reporter, Run, relearn, resume, train
from convoscope.training.backbone.feature_layer import feature_layer_at
from convoscope.training.backbone.feature_store import FeatureStore
from convoscope.training.backbone.features import Features
from convoscope.training.backbone.norm_folding import fold_norms
from convoscope.training.backbone.source_images import own_images, whitening_of
from convoscope.training.backbone.sources import open_backbone
from convoscope.training.core import checkpoint
from convoscope.training.core.optimizer import Optimizer, freeze, training_mode
from convoscope.training.core.recipe import Recipe
from convoscope.training.fit.defaults import view_recipe
from convoscope.training.heads.head import Examples, Head, _basis, cross_validated, linear, mlp, nearest_mean
from convoscope.training.heads.ood import distances, fit_ood_detector
from convoscope.training.runs.saved import read_summary

BACKBONE = "conv(12) norm relu maxpool conv(24) norm relu maxpool flatten dense(32) relu dense"
OTHERS = "builtin:drawings/star,house,umbrella"


class Listener(Reporter):
    """Keeps what is told."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.warned: list[str] = []

    def say(self, text: str) -> None:
        self.said.append(text)

    def warn(self, text: str) -> None:
        self.warned.append(text)

    def told(self, words: str) -> bool:
        return any(words in line for line in self.said + self.warned)


def taught(backbone: Run | Path, images: Any, **options: Any) -> Run:
    """Relearned on all of `BACKBONE`, each image looked at once: where it ends and how often it looks is not what most tests ask."""
    usual = {"augmented_views": 1} if options.get("add") else {"feature_layer": "relu3", "augmented_views": 1}
    return relearn(backbone, images, **usual | options)


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("backbone") / "run"
    return train(
        "builtin:drawings/apple,banana,cat,fish,tree",
        BACKBONE,
        output=folder,
        epochs=6,
        precision="float32",
        flip=False,
    )


@pytest.fixture(scope="module")
def relearned(backbone: Run, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return taught(backbone, OTHERS, output=tmp_path_factory.mktemp("relearned") / "run")


def fingerprint(folder: Path) -> dict[str, str]:
    """A hash of every tensor of both checkpoints."""
    prints = {}
    for name in ("best", "last"):
        tensors, _ = checkpoint.load(folder / f"{name}.safetensors")
        for key, value in tensors.items():
            prints[f"{name} {key}"] = hashlib.sha256(value.contiguous().numpy().tobytes()).hexdigest()
    return prints


# --- where the backbone ends ----------------------------------------------------------------------------------------------


def test_the_backbone_ends_where_cross_validation_is_best(backbone: Run, tmp_path: Path) -> None:
    listener = Listener()
    made = relearn(backbone, OTHERS, output=tmp_path / "run", reporter=listener)
    (note,) = (line for line in made.settings.notes if line.startswith("the backbone ends after "))
    assert note in listener.said
    losses = {name: float(loss) for name, loss in re.findall(r"(\w+) (\d\.\d{3})", note)}
    prepared, whole = made.prepared(), open_backbone(backbone, say=print)
    rows = np.flatnonzero(prepared.dataset.splits != 2)
    targets = torch.from_numpy(prepared.dataset.targets[rows].astype(np.int64))
    own, _ = own_images(whole)
    for feature_layer in whole.feature_layers():
        features = torch.from_numpy(Features(whole.until(feature_layer)).of(prepared, rows, exact=True))
        whitening = whitening_of(whole.until(feature_layer), own, "cpu")
        assert whitening is not None
        features = whitening.whitened(features)
        assert losses.pop(feature_layer.layers[-1]) == pytest.approx(
            cross_validated(features, targets, 3, seed=0), abs=2e-3
        )
    assert not losses
    losses = {name: float(loss) for name, loss in re.findall(r"(\w+) (\d\.\d{3})", note)}
    best = min(losses, key=lambda name: losses[name])
    assert note.startswith(f"the backbone ends after {best}: ")
    kept, learned = made.weights(), backbone.weights()
    own = {name for name in kept if not name.startswith("dense1.") or best == "relu3"} - {
        "dense2.weight",
        "dense2.bias",
    }
    assert own and all(kept[name].equal(learned[name]) for name in own)
    assert made.settings.relearned is not None
    assert made.settings.relearned.augmented_views == 8
    assert listener.told("8 augmented views of each training image")
    again = relearn(backbone, OTHERS, output=tmp_path / "again", feature_layer=best)
    assert fingerprint(again.folder) == fingerprint(made.folder)
    with_more = relearn(made, "builtin:drawings/snail", add=True, output=tmp_path / "more")
    assert with_more.settings.model == made.settings.model
    assert with_more.settings.relearned is not None
    assert with_more.settings.relearned.augmented_views == 8


def test_a_place_that_is_asked_for(backbone: Run, tmp_path: Path) -> None:
    made = relearn(backbone, OTHERS, output=tmp_path / "run", feature_layer="maxpool1")
    assert made.settings.model == "conv(12) norm relu maxpool flatten dense"
    assert made.weights()["dense1.weight"].shape == (
        3,
        12 * 14 * 14,
    )
    shorter = relearn(
        backbone, OTHERS, output=tmp_path / "two", feature_layer="maxpool2", head="mlp", unfreeze=1, epochs=1
    )
    assert (
        shorter.settings.model == "conv(12) norm relu maxpool conv(24) norm relu maxpool flatten dense(64) relu dense"
    )


def test_with_hardly_any_images_the_backbone_stays_whole(backbone: Run, pictures: Path, tmp_path: Path) -> None:
    dataset = data.load(pictures)
    few = dataset.select(np.concatenate([np.flatnonzero(dataset.targets == label)[:4] for label in (0, 1)]))
    few = dataclasses.replace(few, classes=few.classes[:2])
    listener = Listener()
    made = relearn(backbone, few, output=tmp_path / "run", validation=0.0, test=0.0, reporter=listener)
    assert made.settings.model.endswith("dense(32) relu dense")
    assert not listener.told("the backbone ends after")


@pytest.mark.parametrize(("name", "value"), [("_WIDEST", 31), ("_MOST", 100), ("_TRIED", 14)])
def test_what_is_too_large_to_compare_leaves_the_backbone_whole(
    backbone: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: int
) -> None:
    """The end of `BACKBONE` has 32 numbers; three classes of at least five images are 15."""
    monkeypatch.setattr(f"convoscope.training.backbone.feature_layer.{name}", value)
    listener = Listener()
    made = relearn(backbone, OTHERS, output=tmp_path / "run", augmented_views=1, reporter=listener)
    assert made.settings.model.endswith("dense(32) relu dense")
    assert not listener.told("the backbone ends after")


def test_what_the_comparison_computed_was_not_kept_from_before(
    backbone: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CONVOSCOPE_CACHE", str(tmp_path / "cache"))
    listener = Listener()
    made = relearn(backbone, OTHERS, output=tmp_path / "run", reporter=listener)
    assert listener.told("features in float32") and not listener.told("were cached")
    monkeypatch.setenv("CONVOSCOPE_CACHE", str(tmp_path / "other"))
    found = next(note for note in made.settings.notes if note.startswith("the backbone ends after "))
    place = found.removeprefix("the backbone ends after ").partition(":")[0]
    again = relearn(backbone, OTHERS, output=tmp_path / "again", feature_layer=place)
    assert fingerprint(again.folder) == fingerprint(made.folder)


def test_only_a_backbone_with_a_text_has_places(backbone: Run) -> None:
    whole = dataclasses.replace(open_backbone(backbone, say=print), head="fc")
    assert whole.feature_layers() == ()
    with pytest.raises(UsageError) as caught:
        feature_layer_at(whole, "relu1")
    assert caught.value.code == "relearn-feature-layer"
    assert "can only be used whole" in caught.value.reason


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
    rows = prepared.dataset.indices("validation")
    scores = opened.scores(prepared.pixels[rows]).astype(np.float64)
    targets = prepared.dataset.targets[rows]
    assert (scores.argmax(1) == targets).mean() == pytest.approx(row["val_accuracy"])
    assert -np.log(scores[np.arange(len(rows)), targets]).mean() == pytest.approx(row["val_loss"], rel=1e-3)
    rows = prepared.dataset.indices("test")
    assert (opened.scores(prepared.pixels[rows]).argmax(1) == prepared.dataset.targets[rows]).mean() >= 0.6
    names = {entry.name for entry in relearned.folder.iterdir()}
    assert {"run.toml", "split.csv", "events.jsonl", "metrics.csv", "best.safetensors", "last.safetensors"} <= names
    from convoscope.training import read_summary

    assert read_summary(relearned.folder)[0].relearned == relearned.settings.relearned


def test_the_kept_features_give_the_networks_numbers(relearned: Run) -> None:
    prepared = relearned.prepared()
    rows = prepared.dataset.indices("test")
    assert relearned._features is not None
    quick, near = relearned.scores_and_distances(prepared.pixels, rows)
    slow, far = Run.open(relearned.folder).scores_and_distances(prepared.pixels[rows])
    np.testing.assert_allclose(quick, slow, atol=2e-5)
    np.testing.assert_allclose(near, far, atol=2e-5)


def test_the_same_again_is_the_same(backbone: Run, relearned: Run, tmp_path: Path) -> None:
    again = taught(backbone, OTHERS, output=tmp_path / "again")
    assert fingerprint(again.folder) == fingerprint(relearned.folder)
    other = taught(backbone, OTHERS, output=tmp_path / "other", seed=1)
    assert fingerprint(other.folder) != fingerprint(relearned.folder)


def test_another_head_and_another_split_compute_nothing(backbone: Run, relearned: Run, tmp_path: Path) -> None:
    for number, changes in enumerate(({"head": "mean"}, {"head": "mlp"}, {"seed": 5})):
        listener = Listener()
        made = taught(backbone, OTHERS, output=tmp_path / str(number), reporter=listener, **changes)
        assert listener.told("240 of 240 were cached")
        assert listener.told("nearest class mean: ")
        assert made.history[0]["val_accuracy"] is not None
        assert Run.open(made.folder).predict(Image.new("L", (28, 28)))[0].scores.keys() == set(made.classes)


def test_views_are_computed_for_training_images_only(backbone: Run, relearned: Run, tmp_path: Path) -> None:
    listener = Listener()
    made = taught(backbone, OTHERS, output=tmp_path / "run", augmented_views=3, reporter=listener)
    assert made.settings.relearned is not None
    assert made.settings.relearned.augmented_views == 3
    assert listener.told("240 of 240 were cached")  # as they are; their views come on top
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
    assert listener.told("its one epoch is done")
    again = resume(made.folder, epochs=3)
    assert len(again.history) == 3
    before, after = backbone.network().state_dict(), again.network().state_dict()
    # Only the head learns: the backbone's statistics do not move either.
    assert all(torch.equal(before[name], after[name]) for name in before if not name.startswith("dense2."))


def test_a_run_is_tested_reported_and_looked_at(relearned: Run) -> None:
    scores = evaluation.test(relearned, invariance=False)
    assert scores.unknown is not None
    assert scores.unknown.refused == sum(
        far > scores.unknown.threshold
        for far in relearned.scores_and_distances(
            relearned.prepared().pixels, relearned.prepared().dataset.indices("test")
        )[1]
    )
    assert sum(scores.unknown.right) == round(scores.accuracy * scores.images)
    page = evaluation.write_report(relearned, inside=False).read_text("utf-8")
    assert "None of these" in page and "would be refused" in page
    assert "taken over from" in page
    again = evaluation.read_scores(relearned.folder)
    assert again is not None and again.unknown == scores.unknown
    whole = evaluation.write_report(Run.open(relearned.folder)).read_text("utf-8")
    assert "multiply-adds" in whole


def words_of(page: Path) -> str:
    """A report's text without its drawings' tags."""
    return re.sub(
        r"\s+", " ", re.sub(r"<[^>]*>", " ", re.sub(r"<style.*?</style>", "", page.read_text("utf-8"), flags=re.S))
    )


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
    assert caught.value.hint == f"start it again: convoscope train --config {folder / 'run.toml'}"


def test_a_report_speaks_of_no_training_where_a_head_was_made(backbone: Run, tmp_path: Path) -> None:
    made = taught(backbone, OTHERS, output=tmp_path / "run", augmented_views=2, coverage=1.0)
    assert (
        "2 augmented views of each training image, rotated, sheared, zoomed and shifted a little" in made.settings.notes
    )
    evaluation.test(made, split="validation", invariance=False)
    told = words_of(evaluation.write_report(made))
    width = made.network().get_submodule("dense2").weight.shape[1]
    assert (
        f"A network of {made.parameters:,} parameters, the {3 * width + 3} of its head learned from 168 images" in told
    )
    assert "Measured once, with the finished head, on images as they are." in told
    assert "24 for validation (choosing the head)" in told
    assert "each looked at 2 times" in told
    assert "the validation images chose the head, so this is slightly too good" in told
    assert "at most 96.0 % of new images of the classes are accepted in the mean, as many as 24 images can tell" in told
    assert "These images have set the threshold themselves" in told
    for word in ("epoch", "learning rate", "batch size", "flip", "varied", "switched off"):
        assert word not in told, word
    resume(made.folder, epochs=3)
    further = words_of(evaluation.write_report(Run.open(made.folder), inside=False))
    assert "from the second on the head was trained further, in steps. The backbone stayed as it was." in further
    assert "learning rate" in further and "choosing the best epoch" in further


def test_predict_test_and_look_agree_on_what_is_unknown(
    relearned: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One by one as in a batch, at the threshold too: the image that sets it is accepted."""
    prepared = relearned.prepared()
    rows = prepared.dataset.indices("validation")
    evaluation.test(Run.open(relearned.folder), split="validation", invariance=False)
    with open(relearned.folder / "test" / "predictions.csv", encoding="utf-8", newline="") as file:
        written = list(csv.DictReader(file))
    assert [line["path"] for line in written] == [prepared.dataset.names[row] for row in rows]
    detector = relearned.ood_detector()
    assert detector is not None
    opened = Run.open(relearned.folder)
    refused = 0
    for row, line in zip(rows.tolist(), written, strict=True):
        answer = opened.predict(prepared.pixels[row])[0]
        assert answer.distance is not None
        assert (answer.label == "unknown") == (line["unknown"] == "yes")
        assert abs(answer.distance - float(line["distance"])) < 1e-5
        refused += answer.label == "unknown"
    kept = math.ceil(0.95 * (len(rows) + 1))
    assert refused == len(rows) - kept
    others = data.prepare(data.load("builtin:drawings/apple,cat,fish"), prepared.form).pixels
    drawing, stranger = next(
        (image, answer) for image in others if (answer := opened.predict(image)[0]).label == "unknown"
    )
    seen = look(opened, drawing)
    told = seen.to_json()
    assert (told["label"], told["confidence"], told["distance"]) == ("unknown", None, pytest.approx(stranger.distance))
    image = tmp_path / "far.png"
    Image.fromarray(drawing[..., 0]).save(image)
    assert command(["look", str(relearned.folder), str(image), "--out", str(tmp_path / "seen")]) == 0
    assert f"far.png: unknown (its distance {stranger.distance:.3f}" in capsys.readouterr().out


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


# --- heads -------------------------------------------------------------------------------------------------------------


def cloud(classes: int, count: int, width: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Points around `classes` centres, some of them nearer to another one."""
    generator = torch.Generator().manual_seed(seed)
    centres = 1.5 * torch.randn(classes, width, generator=torch.Generator().manual_seed(99))
    targets = torch.arange(classes * count) % classes
    return centres[targets] + 2 * torch.randn(len(targets), width, generator=generator) + 5, targets


def test_nearest_mean_is_the_nearest_mean() -> None:
    features, targets = cloud(4, 30, 6)
    head = nearest_mean(Examples.of(features, targets, features[:20], targets[:20]), 4)
    means = np.stack([features[targets == label].mean(0).numpy() for label in range(4)])
    others, _ = cloud(4, 50, 6, seed=1)
    nearest = np.linalg.norm(others.numpy()[:, None] - means[None], axis=2).argmin(1)
    np.testing.assert_array_equal(head.scores(others).argmax(1).numpy(), nearest)


def test_the_linear_head_is_logistic_regression() -> None:
    """scikit-learn solves the same problem: C * sum of losses + |w|^2 / 2, so C = 1 / (l2 * N)."""
    from sklearn.linear_model import LogisticRegression

    features, targets = cloud(3, 60, 5)
    validation, truth = cloud(3, 60, 5, seed=2)
    examples = Examples.of(features, targets, validation, truth)
    head = linear(examples, 3)
    assert head.l2 > 0
    oracle = LogisticRegression(C=1 / (head.l2 * len(features)), tol=1e-8, max_iter=10_000)
    oracle.fit(examples.train.numpy(), targets.numpy())
    wanted = oracle.predict_proba(examples.validation.numpy())
    np.testing.assert_allclose(head.scores(validation).softmax(1).numpy(), wanted, atol=2e-3)


def test_few_long_vectors_are_solved_along_what_they_span() -> None:
    """As scikit-learn has it in all dimensions; the weights, too, which are unique under the pull."""
    from sklearn.linear_model import LogisticRegression

    features, targets = cloud(3, 10, 400)
    validation, truth = cloud(3, 20, 400, seed=2)
    truth[::3] = (truth[::3] + 1) % 3  # so that a strong pull is chosen, whose weights are found exactly
    examples = Examples.of(features, targets, validation, truth)
    basis = _basis(examples.train)
    assert basis is not None and basis.shape == (400, 29)  # 30 centred vectors
    torch.testing.assert_close(basis.T @ basis, torch.eye(29), atol=1e-5, rtol=0)
    head = linear(examples, 3)
    oracle = LogisticRegression(C=1 / (head.l2 * len(features)), tol=1e-10, max_iter=100_000)
    oracle.fit(features.numpy().astype(np.float64) * examples.factor, targets.numpy())
    weight = head.layers[0][0].numpy() / examples.factor
    np.testing.assert_allclose(weight, oracle.coef_, atol=2e-3 * np.abs(oracle.coef_).max())


@pytest.mark.parametrize("width", [6, 200])
def test_cross_validation_leaves_each_image_out_once(width: int) -> None:
    """The same by scikit-learn: its splitter would divide otherwise, so the folds are taken from ours by what makes them up."""
    from sklearn.linear_model import LogisticRegression

    from convoscope.training.heads.head import L2_PENALTIES, _folds

    features, targets = cloud(3, 9, width)
    features[::9] = 0.6 * features[1::9] + 0.4 * features[::9]  # some images look like another class
    fold = _folds(targets, 7).numpy()
    assert sorted(np.bincount(fold)) == [5, 5, 5, 6, 6]
    for label in range(3):
        assert set(np.bincount(fold[targets.numpy() == label], minlength=5)) <= {1, 2}
    assert not np.array_equal(fold, _folds(targets, 8).numpy())
    losses = []
    for l2 in L2_PENALTIES[::2]:
        total = 0.0
        for number in range(5):
            inside, outside = fold != number, fold == number
            examples = Examples.of(features[inside], targets[inside], features[outside], targets[outside])
            oracle = LogisticRegression(C=1 / (l2 * inside.sum()), tol=1e-10, max_iter=100_000)
            oracle.fit(examples.train.double().numpy(), targets[inside].numpy())
            likely = oracle.predict_proba(examples.validation.double().numpy())
            total -= np.log(likely[np.arange(outside.sum()), targets[outside].numpy()]).sum()
        losses.append(total / len(targets))
    assert 0 < int(np.argmin(losses)) < len(losses) - 1  # a real choice
    assert cross_validated(features, targets, 3, seed=7) == pytest.approx(min(losses), rel=2e-3)


def test_the_strength_is_the_one_with_the_least_validation_loss() -> None:
    from convoscope.training.heads.head import L2_PENALTIES, _minimise

    features, targets = cloud(3, 8, 20)
    validation, truth = cloud(3, 60, 20, seed=3)
    examples = Examples.of(features, targets, validation, truth)
    head = linear(examples, 3)
    losses = []
    for l2 in L2_PENALTIES:
        weight, bias = torch.zeros(3, 20, requires_grad=True), torch.zeros(3, requires_grad=True)
        _minimise(examples, weight, bias, l2)
        losses.append(
            float(nn.functional.cross_entropy(nn.functional.linear(examples.validation, weight, bias), truth).detach())
        )
    assert 0 < losses.index(min(losses)) < len(L2_PENALTIES) - 1  # a real choice
    assert head.l2 == L2_PENALTIES[losses.index(min(losses))]


def test_the_small_network_learns_what_no_line_divides() -> None:
    generator = torch.Generator().manual_seed(0)
    points = torch.randn(600, 8, generator=generator)
    targets = ((points[:, 0] > 0) != (points[:, 1] > 0)).long()
    examples = Examples.of(points[:400], targets[:400], points[400:500], targets[400:500])
    right = [
        (head.scores(points[500:]).argmax(1) == targets[500:]).float().mean()
        for head in (linear(examples, 2), mlp(examples, 2, 0))
    ]
    assert right[0] < 0.65 and right[1] > 0.8
    assert all(
        torch.equal(a, b)
        for one, two in zip(mlp(examples, 2, 0).layers, mlp(examples, 2, 0).layers, strict=True)
        for a, b in zip(one, two, strict=True)
    )


def test_a_head_goes_into_a_network_and_comes_back() -> None:
    head = Head(((torch.randn(4, 3), torch.randn(4)), (torch.randn(2, 4), torch.randn(2))))
    again = Head.read(["a", "b.c"], head.tensors(["a", "b.c"]))
    points = torch.randn(5, 3)
    assert torch.equal(again.scores(points), head.scores(points))


def test_features_of_one_value_do_no_harm() -> None:
    features, targets = torch.ones(10, 3), torch.arange(10) % 2
    head = linear(Examples.of(features, targets, features, targets), 2)
    assert head.scores(features).isfinite().all()


# --- out of distribution ---------------------------------------------------------------------------------------------------------


def test_distances_are_those_to_the_k_th_neighbour() -> None:
    rng = np.random.default_rng(0)
    known, asked = rng.normal(size=(40, 6)).astype(np.float32), rng.normal(size=(2000, 6)).astype(np.float32)
    unit = known / np.linalg.norm(known, axis=1, keepdims=True)
    cosine = (asked / np.linalg.norm(asked, axis=1, keepdims=True)) @ unit.T
    wanted = 1 - np.sort(cosine, axis=1)[:, -3]
    np.testing.assert_allclose(distances(torch.from_numpy(unit), asked, 3), wanted, atol=1e-6)


@pytest.mark.parametrize("coverage", [1e-12, 0.5, 0.9, 0.95, 1.0])
def test_the_threshold_accepts_the_share_asked_for_of_new_images(coverage: float) -> None:
    """In the mean over many draws, with as few as 20 validation images: of 21 images each is the farthest with the same chance."""
    rng = np.random.default_rng(0)
    targets = np.arange(80) % 3
    shares = []
    for _ in range(300):
        features = rng.normal(size=(280, 8)).astype(np.float32)
        detector = fit_ood_detector(features[:80], targets, np.arange(60), np.arange(60, 80), coverage)
        assert detector is not None
        shares.append((detector.distances(features[80:]) <= detector.threshold).mean())
    wanted = min(20, np.ceil(coverage * 21)) / 21
    assert np.mean(shares) == pytest.approx(wanted, abs=4 * np.std(shares) / 300**0.5)


def test_of_many_training_images_some_of_each_class_are_kept() -> None:
    rng = np.random.default_rng(0)
    features = rng.normal(size=(5000, 4)).astype(np.float32)
    targets = np.where(np.arange(5000) < 4000, 0, 1)
    detector = fit_ood_detector(features, targets, np.arange(4900), np.arange(4900, 5000), 0.95)
    assert detector is not None
    assert detector.features.shape == (2000, 4) and detector.features.dtype == torch.float16


def test_too_few_validation_images_know_no_ood_detector(backbone: Run, tmp_path: Path) -> None:
    listener = Listener()
    made = taught(backbone, OTHERS, output=tmp_path / "run", validation=0.02, reporter=listener)
    assert listener.told("too few to tell strangers")
    assert made.ood_detector() is None and Run.open(made.folder).ood_detector() is None
    assert made.predict(np.zeros((28, 28), np.uint8))[0].distance is None
    none = taught(backbone, OTHERS, output=tmp_path / "none", validation=0.0, reporter=listener)
    assert listener.told("there is no validation part")
    assert none.history[0]["val_accuracy"] is None


def test_a_share_that_so_few_images_cannot_keep_is_said(backbone: Run, tmp_path: Path) -> None:
    listener = Listener()
    taught(backbone, OTHERS, output=tmp_path / "run", coverage=0.99, reporter=listener)
    assert listener.told("with 24 validation images no threshold accepts more than 96.0 % of new images on average")
    listener = Listener()
    taught(backbone, OTHERS, output=tmp_path / "two", coverage=0.96, reporter=listener)
    assert not listener.warned


def test_a_stranger_is_unknown(backbone: Run, capsysbinary: pytest.CaptureFixture[bytes], tmp_path: Path) -> None:
    """At a threshold that accepts half of the validation images, the farthest of them are detector."""
    made = taught(backbone, OTHERS, output=tmp_path / "run", coverage=0.5)
    prepared = made.prepared()
    rows = prepared.dataset.indices("validation")
    opened = Run.open(made.folder)
    _, far = opened.scores_and_distances(prepared.pixels[rows])
    detector = opened.ood_detector()
    assert far is not None and detector is not None
    order = rows[np.argsort(far)]
    near, stranger = (prepared.pixels[row][:, :, 0] for row in (order[0], order[-1]))
    one, other = opened.predict([near, stranger])
    assert one.label in opened.classes and one.confidence is not None and one.distance is not None
    assert other.label == "unknown" and other.confidence is None and other.distance is not None
    assert one.distance <= detector.threshold < other.distance
    assert sum(other.scores.values()) == pytest.approx(1, abs=1e-4)
    Image.fromarray(stranger).save(tmp_path / "stranger.png")
    asked = ["predict", str(made.folder), str(tmp_path / "stranger.png")]
    assert command([*asked, "--json"]) == 0
    answer = json.loads(capsysbinary.readouterr().out)[0]
    assert answer["label"] == "unknown" and answer["distance"] == pytest.approx(other.distance, abs=1e-5)
    assert command([*asked, "--format", "csv"]) == 0
    lines = list(csv.DictReader(io.StringIO(capsysbinary.readouterr().out.decode())))
    assert lines[0]["label"] == "unknown" and float(lines[0]["distance"]) > detector.threshold
    assert command(asked) == 0
    shown = capsysbinary.readouterr().out.decode()
    assert "unknown" in shown and "distance" in shown


# --- adding classes ----------------------------------------------------------------------------------------------------


def test_a_class_is_added_and_old_features_stay(backbone: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONVOSCOPE_CACHE", str(tmp_path / "cache"))  # what other tests kept shall not be found
    listener = Listener()
    relearned = taught(backbone, OTHERS, output=tmp_path / "first")
    made = taught(relearned.folder, "builtin:drawings/snail", add=True, output=tmp_path / "run", reporter=listener)
    assert made.classes == ("house", "star", "umbrella", "snail")
    assert listener.told("240 of 320 were cached")
    again = taught(made, "builtin:drawings/snowman", add=True, output=tmp_path / "more", reporter=listener)
    assert again.classes == ("house", "star", "umbrella", "snail", "snowman")
    assert listener.told("320 of 400 were cached")
    opened = Run.open(again.folder)
    dataset = opened.prepared().dataset
    assert len(dataset) == 400
    # What is said of the split is true of this run, and all sources are named.
    assert not any("drawn" in note or note.startswith("each class: ") for note in opened.prepared().dataset.notes)
    assert [note for note in made.settings.notes if "each class: " in note] == [
        "each class: 70% training, 10% validation, 20% test, drawn by seed 0"
    ]
    assert "1 thing " in next(note for note in made.settings.notes if note.startswith("80 drawings"))
    everything = f"{OTHERS} and builtin:drawings/snail and builtin:drawings/snowman"
    assert opened.settings.sources == everything
    old = {
        name
        for name, split in zip(relearned.prepared().dataset.names, relearned.prepared().dataset.splits, strict=True)
        if split == 2
    }
    new = {name for name, split in zip(dataset.names, dataset.splits, strict=True) if split == 2}
    assert old < new  # the test part stays unseen
    scores = evaluation.test(opened, invariance=False)
    assert scores.images == 80 and scores.accuracy > 0.6
    assert scores.source == everything
    told = words_of(evaluation.write_report(opened, inside=False))
    assert f"{OTHERS}, read as builtin, and builtin:drawings/snail, read as builtin" in told
    notes = evaluation.compare([opened]).notes
    assert any("its backbone had learned before and was taken over from" in note for note in notes)
    resume(again.folder)


def test_more_images_of_a_class_that_is_there(backbone: Run, pictures: Path, tmp_path: Path) -> None:
    made = taught(backbone, pictures, output=tmp_path / "run")
    more = tmp_path / "more" / "square"
    more.mkdir(parents=True)
    for number in range(10):
        Image.fromarray(np.full((12, 12), 20 * number, np.uint8)).save(more / f"{number}.png")
    added = taught(made.folder, tmp_path / "more", add=True, output=tmp_path / "added")
    assert added.classes == made.classes
    counts = [sum(added.prepared().dataset.counts()[split]["square"] for split in data.SPLITS) for _ in range(1)]
    assert counts == [50]
    assert any(name.startswith("more/") for name in added.prepared().dataset.names)


def test_an_image_that_is_there_already_keeps_its_part_and_counts_once(
    backbone: Run, pictures: Path, tmp_path: Path
) -> None:
    """With another seed the same images are split otherwise: what was for the test must not be learned from."""
    made = taught(backbone, pictures, output=tmp_path / "run")
    more = tmp_path / "more"
    shutil.copytree(pictures, more)
    for number in range(2):
        Image.fromarray(np.full((12, 12), 99 + number, np.uint8)).save(more / "square" / f"new-{number}.png")
    listener = Listener()
    added = taught(made, more, add=True, seed=3, output=tmp_path / "added", reporter=listener)
    assert listener.told("120 of 122 added images are left out")
    assert not listener.told("stands in more than one split")
    before, after = made.prepared(), added.prepared()
    assert len(after.dataset) == len(before.dataset) + 2
    old = dict(zip(before.digests, before.dataset.splits.tolist(), strict=True))
    new = dict(zip(after.digests, after.dataset.splits.tolist(), strict=True))
    assert {digest: new[digest] for digest in old} == old
    # The same under another label is no copy: both stay, and it is said.
    other = tmp_path / "other" / "lying bar"
    other.mkdir(parents=True)
    for number in range(2):
        shutil.copy(more / "square" / f"new-{number}.png", other)
    again = taught(added, tmp_path / "other", add=True, output=tmp_path / "again", reporter=listener)
    assert len(again.prepared().dataset) == len(after.dataset) + 2
    assert listener.told("the same image has different labels (2 cases)")
    with pytest.raises(DataError) as caught:
        taught(added, more, add=True, output=tmp_path / "nothing")
    assert caught.value.code == "relearn-nothing-new"
    assert not (tmp_path / "nothing").exists()


def test_what_lies_here_is_added_under_its_folders_name(
    backbone: Run, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`--add .`: read again from elsewhere, the names must be the same."""
    made = taught(backbone, OTHERS, output=tmp_path / "run")
    more = tmp_path / "more"
    shutil.copytree(pictures, more)
    monkeypatch.chdir(more)
    added = taught(made, ".", add=True, output=tmp_path / "added")
    before = (added.prepared().dataset.names, added.prepared().dataset.splits.tolist())
    monkeypatch.chdir(tmp_path)
    again = Run.open(tmp_path / "added").prepared().dataset
    assert (again.names, again.splits.tolist()) == before
    assert any(name.startswith("more/") for name in again.names)


def test_images_that_changed_since_are_told_when_others_are_added(
    backbone: Run, pictures: Path, tmp_path: Path
) -> None:
    mine = tmp_path / "mine"
    shutil.copytree(pictures, mine)
    made = taught(backbone, mine, output=tmp_path / "run")
    first, second = sorted((mine / "lying bar").iterdir())[:2]
    first.unlink()
    shutil.copy(next((mine / "square").iterdir()), second)
    listener = Listener()
    taught(made, "builtin:drawings/snail", add=True, output=tmp_path / "added", reporter=listener)
    assert listener.told(f"1 missing, 1 altered (such as lying bar/{second.name})")
    # New ones in the old folder may be added by its own name.
    third = mine / "square" / "another.png"
    Image.fromarray(np.arange(144, dtype=np.uint8).reshape(12, 12)).save(third)
    more = taught(made, mine, add=True, output=tmp_path / "more")
    assert "square/another.png" in more.prepared().dataset.names
    # A new class in it changes what the old run's classes are.
    shutil.copytree(mine / "square", mine / "tile")
    with pytest.raises(ModelFileError) as caught:
        taught(made, mine, add=True, output=tmp_path / "class")
    assert caught.value.code == "classes-changed" and "a folder of its own" in caught.value.hint


def test_joined_images_are_those_of_both(pictures: Path) -> None:
    one, two = data.load(pictures), data.load("builtin:drawings/star,house")
    both = data.joined(one, two)
    form = data.InputFormat(height=12, width=12, channels=1, resize="stretch")
    whole = data.prepare(both, form)
    first, second = data.prepare(one, form), data.prepare(two, form)
    np.testing.assert_array_equal(whole.pixels, np.concatenate([first.pixels, second.pixels]))
    assert list(whole.digests) == [*first.digests, *second.digests]
    rows = np.array([200, 3, 119, 120])
    chosen = both.select(rows)
    assert [chosen.images.digest(k) for k in range(4)] == [whole.digests[int(row)] for row in rows]
    np.testing.assert_array_equal(chosen.images.decode(0, form), whole.pixels[200])
    assert both.images.in_place(form) is None
    added = data.load("builtin:drawings/star,house,snail")
    twice = data.joined(both, added)
    assert len(set(twice.names)) == len(twice.names)
    assert len(twice) == len(both) + 80  # the stars and houses are there already
    assert twice.splits[: len(both)].tolist() == both.splits.tolist()
    assert twice.notes[-1] == "160 of 240 added images are left out: they are there already"
    numbers = data.from_arrays(np.zeros((4, 5, 5), np.uint8), np.array([0.5, 1.5, 2.5, 3.5]))
    with pytest.raises(DataError) as caught:
        data.joined(one, numbers)
    assert caught.value.code == "join-task"


# --- channels and sizes ------------------------------------------------------------------------------------------------


def test_grey_images_into_a_colour_backbone_and_the_reverse(backbone: Run, pictures: Path, tmp_path: Path) -> None:
    colour = train(
        "builtin:drawings/apple,banana", "conv(4) norm relu maxpool globalavg dense(8) relu dense",
        output=tmp_path / "colour", epochs=1, channels=3, precision="float32",
    )  # fmt: skip
    listener = Listener()
    made = relearn(colour, pictures, output=tmp_path / "one", reporter=listener)
    assert listener.told("the grey stands in all three channels")
    assert any("the grey stands" in note for note in made.settings.notes)
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
    assert listener.told("they become grey")
    assert made.prepared().pixels.shape[1:] == (28, 28, 1)
    assert listener.told("are small (12x12)") is False  # 12 is not less than a third of 28


# --- features ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "model", [BACKBONE.replace("flatten", "residual(conv(24) norm relu conv(24) norm) relu flatten"), "timm:resnet10t"]
)
def test_folded_norms_give_the_same_numbers(model: str) -> None:
    torch.manual_seed(0)
    network = models.build(model, (64, 64, 3), 4)
    for part in network.modules():
        if isinstance(part, nn.BatchNorm2d):
            nn.init.uniform_(part.weight, 0.5, 2)
            nn.init.normal_(part.bias)
            part.running_mean.normal_()
            part.running_var.uniform_(0.5, 3)
    network.eval()
    images = torch.randn(3, 3, 64, 64)
    folded = fold_norms(network, images[:1])
    with torch.no_grad():
        torch.testing.assert_close(folded(images), network(images), rtol=1e-3, atol=1e-3)
    left = [part for part in folded.modules() if isinstance(part, nn.BatchNorm2d)]
    assert len(left) < sum(isinstance(part, nn.BatchNorm2d) for part in network.modules())
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in folded.modules())


def test_a_norm_that_follows_no_convolution_stays() -> None:
    torch.manual_seed(0)
    network = models.build("norm conv(4) relu norm globalavg dense", (8, 8, 2), 3).eval()
    folded = fold_norms(network, torch.randn(1, 2, 8, 8))
    assert sum(isinstance(part, nn.BatchNorm2d) for part in folded.modules()) == 2


def test_an_images_features_are_its_own(backbone: Run) -> None:
    """In whatever company and order they are asked for, they are the same to the last bit."""
    prepared = data.prepare(data.load(OTHERS), backbone.settings.input)
    source = Features(open_backbone(backbone, say=print))
    order = np.random.default_rng(0).permutation(70)
    one = source.of(prepared, order)
    shutil.rmtree(data.cache.cache_folder() / "features")
    two = Features(open_backbone(backbone, say=print)).of(prepared, np.arange(70))
    np.testing.assert_array_equal(one, two[order])


def store(width: int = 3) -> Any:
    return FeatureStore.opened("ab" * 32, width)


@pytest.fixture
def filled() -> Path:
    """A store of five vectors, the last of them in a batch of its own."""
    shutil.rmtree(data.cache.cache_folder() / "features" / ("ab" * 32), ignore_errors=True)
    with store() as opened:
        opened.append([bytes([k]) * 15 + b"\0" for k in range(4)], np.arange(12, dtype=np.float32).reshape(4, 3))
        opened.append([b"last" * 4], np.full((1, 3), 7, np.float32))
    return data.cache.cache_folder() / "features" / ("ab" * 32)


@pytest.mark.parametrize(
    ("name", "bytes_lost", "left"),
    [("names", 1, 4), ("names", 21, 3), ("vectors", 1, 4), ("vectors", 13, 3), ("names", 99, 0)],
)
def test_torn_ends_are_cut_off(filled: Path, name: str, bytes_lost: int, left: int) -> None:
    os.truncate(filled / name, (filled / name).stat().st_size - bytes_lost if bytes_lost < 99 else 0)
    with store() as opened:
        known = [bytes([k]) * 15 + b"\0" in opened for k in range(4)]
        assert known == [k < left for k in range(4)]
        assert b"last" * 4 not in opened
        opened.append([b"more" * 4], np.full((1, 3), 9, np.float32))
    with store() as opened:
        np.testing.assert_array_equal(opened.take([b"more" * 4])[0], [9, 9, 9])
        if left:
            np.testing.assert_array_equal(opened.take([b"\0" * 16])[0], [0, 1, 2])


def test_a_vector_that_changed_is_not_believed(filled: Path) -> None:
    content = bytearray((filled / "vectors").read_bytes())
    content[2 * 12] ^= 1
    (filled / "vectors").write_bytes(content)
    with (
        pytest.warns(UserWarning, match="3 of 5 features cached there are damaged; they are computed again"),
        store() as opened,
    ):
        assert b"\0" * 16 in opened and bytes([1]) * 15 + b"\0" in opened
        assert bytes([2]) * 15 + b"\0" not in opened and b"last" * 4 not in opened


@pytest.mark.parametrize("what", ["gone", "a folder", "a pipe"])
@pytest.mark.parametrize("name", ["names", "vectors", "lock", ""])
def test_a_store_that_lacks_a_file_is_made_anew(filled: Path, name: str, what: str) -> None:
    path = filled / name
    if name:
        path.unlink()
    else:
        shutil.rmtree(path)
    if what == "a folder":
        (path / "something").mkdir(parents=True)
    elif what == "a pipe":
        os.mkfifo(path)
    said = "what was kept there is damaged; it is made anew" if (name, what) != ("", "gone") else None
    with pytest.warns(UserWarning, match=said) if said else contextlib.nullcontext(), store() as opened:
        opened.append([b"more" * 4], np.full((1, 3), 9, np.float32))
    with store() as opened:
        np.testing.assert_array_equal(opened.take([b"more" * 4])[0], [9, 9, 9])
        assert b"last" * 4 not in opened


def test_a_store_that_cannot_be_mended_is_done_without(filled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path) -> None:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM), str(path))

    (filled / "names").unlink()
    with monkeypatch.context() as patch:
        patch.setattr(data.cache, "_take_away", refuse)
        with pytest.warns(UserWarning, match="damaged, and cannot be removed"), store() as opened:
            opened.append([b"more" * 4], np.full((1, 3), 9, np.float32))
            np.testing.assert_array_equal(opened.take([b"more" * 4])[0], [9, 9, 9])
    assert not (filled / "names").exists()


def test_no_clock_decides_how_features_are_computed(
    backbone: Run, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not what was quick just now, nor what another run kept: the backbone and the machine do."""
    prepared = data.prepare(data.load(pictures), backbone.settings.input)
    rows = np.arange(len(prepared.dataset))
    taken, found = open_backbone(backbone, say=print), []
    for number in range(3):
        monkeypatch.setenv("CONVOSCOPE_CACHE", str(tmp_path / str(number)))
        ticks = itertools.cycle([0.0, *np.random.default_rng(number).random(7).tolist()])
        with monkeypatch.context() as patch:
            patch.setattr(time, "perf_counter", lambda ticks=ticks: next(ticks))
            found.append(Features(taken).of(prepared, rows))
    np.testing.assert_array_equal(found[1], found[0])
    np.testing.assert_array_equal(found[2], found[0])
    monkeypatch.setattr("convoscope.training.backbone.features._has_bfloat16", lambda _: True)
    assert np.array_equal(Features(taken).of(prepared, rows), found[0])  # images too small for bfloat16 to be worth it
    monkeypatch.setattr("convoscope.training.backbone.features._LARGE", 0)
    quick, again = Features(taken), Features(taken)
    close = quick.of(prepared, rows)
    assert (quick.way.precision, quick.found) == ("bfloat16", 0) and not np.array_equal(close, found[0])
    assert np.array_equal(quick.of(prepared, rows, exact=True), found[0])
    np.testing.assert_array_equal(again.of(prepared, rows), close)
    assert again.way.precision == "bfloat16" and again.computed == 0
    monkeypatch.setenv("CONVOSCOPE_CACHE", str(tmp_path / "other"))
    monkeypatch.setattr("convoscope.training.backbone.features._CLOSE", 1.1)
    far = Features(taken)
    assert np.array_equal(far.of(prepared, rows), found[0]) and "not bfloat16" in far.way.reason


KILLED = """
import os, signal, sys
from convoscope.training import Reporter, relearn

class At(Reporter):
    def progress(self, what, done, total):
        if what == "features" and done >= 64:
            os.kill(os.getpid(), signal.SIGKILL)

relearn(sys.argv[1], "builtin:drawings/cactus,flower,bicycle", output=sys.argv[2], feature_layer="relu3", augmented_views=1, reporter=At())
"""


def test_after_a_kill_the_next_start_goes_on_from_there(backbone: Run, tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", KILLED, str(backbone.folder), str(tmp_path / "run")], check=False)
    assert done.returncode == -signal.SIGKILL
    assert not (tmp_path / "run").exists()
    listener = Listener()
    taught(backbone, "builtin:drawings/cactus,flower,bicycle", output=tmp_path / "run", reporter=listener)
    assert listener.told("64 of 240 were cached")


def test_an_emptied_cache_is_no_harm(backbone: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONVOSCOPE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("CONVOSCOPE_CACHE_GB", "0")
    one = taught(backbone, OTHERS, output=tmp_path / "one")
    data.cache.tidy()
    assert not any((tmp_path / "cache" / "features").iterdir())  # counted with the others, the longest unused go first
    two = taught(backbone, OTHERS, output=tmp_path / "two")
    assert fingerprint(one.folder) == fingerprint(two.folder)


def test_images_larger_than_the_cache_may_hold_are_no_harm(
    backbone: Run, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CONVOSCOPE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("CONVOSCOPE_CACHE_GB", "0.000001")
    made = taught(backbone, pictures, output=tmp_path / "run")
    assert made.prepared().pixels.nbytes > 1_000
    assert evaluation.test(made, invariance=False).images == 12


# --- the backbone learns too ----------------------------------------------------------------------------------------------


def test_rates_fall_towards_the_input() -> None:
    network = models.build(BACKBONE, (28, 28, 1), 3)
    recipe = Recipe(optimizer="sgd", learning_rate=0.8, momentum=0.0, weight_decay=0.0, block_decay=0.5)
    optimizer = Optimizer(network, recipe)
    before = {name: value.clone() for name, value in network.named_parameters()}
    for parameter in network.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step(1.0)
    rates = {name: float((before[name] - value).detach().mean()) for name, value in network.named_parameters()}
    assert rates["dense2.weight"] == pytest.approx(0.8)
    assert rates["dense1.bias"] == pytest.approx(0.4)
    assert [rates["conv2.weight"], rates["norm2.weight"]] == pytest.approx([0.2, 0.2])
    assert rates["conv1.weight"] == pytest.approx(0.1)


def test_muon_too_has_rates_that_fall() -> None:
    network = models.build(BACKBONE, (28, 28, 1), 3)
    groups = Optimizer(network, Recipe(optimizer="muon", block_decay=0.5))._all
    rates = {group["initial_lr"] for optimizer in groups for group in optimizer.param_groups}
    assert len(rates) == 5  # four blocks at adamw's rates, and the second convolution at muon's


def test_frozen_blocks_and_norms_do_not_move() -> None:
    network = models.build(BACKBONE, (28, 28, 1), 3)
    freeze(network, Recipe(trained_blocks=2))
    learning = {name.split(".")[0] for name, parameter in network.named_parameters() if parameter.requires_grad}
    assert learning == {"dense1", "dense2"}
    training_mode(network, Recipe(trained_blocks=2))
    norms = [part for part in network.modules() if isinstance(part, nn.BatchNorm2d)]
    assert network.training and not any(norm.training for norm in norms)
    free = models.build(BACKBONE, (28, 28, 1), 3)
    training_mode(free, Recipe())
    assert all(part.training for part in free.modules())
    training_mode(free, Recipe(freeze_norm=True))
    assert [part.training for part in free.modules() if isinstance(part, nn.BatchNorm2d)] == [False, False]


UNFROZEN: dict[str, Any] = {
    "unfreeze": 2, "epochs": 2, "batch_size": 32, "precision": "float32", "threads": 1, "learning_rate": 1e-3
}  # fmt: skip
"""With such a rate the second epoch is better than the head alone, so that the threshold is set anew."""


def test_the_backbone_learns_too(backbone: Run, tmp_path: Path) -> None:
    made = taught(backbone, OTHERS, output=tmp_path / "run", **UNFROZEN)
    assert [row["epoch"] for row in made.history] == [1, 2, 3]
    before = backbone.network().state_dict()
    after = checkpoint.load(made.folder / "last.safetensors")[0]
    changed = {
        name.split(".")[0]
        for name in before
        if not name.startswith("dense2") and not torch.equal(before[name], after[f"model.{name}"])
    }
    assert changed == {"dense1", "conv2", "norm2"}  # the last two blocks of the backbone
    assert all(torch.equal(before[name], after[f"model.{name}"]) for name in before if "running" in name)
    detector = made.ood_detector()
    assert detector is not None
    prepared = made.prepared()
    _, far = Run.open(made.folder).scores_and_distances(prepared.pixels, prepared.dataset.indices("validation"))
    assert far is not None
    assert (far <= detector.threshold).mean() >= 0.95


def test_all_of_the_backbone_learns(backbone: Run, tmp_path: Path) -> None:
    made = taught(backbone, OTHERS, output=tmp_path / "run", **UNFROZEN | {"unfreeze": "all", "epochs": 1, "ema": 0.5})
    after = checkpoint.load(made.folder / "last.safetensors")[0]
    before = backbone.network().state_dict()
    assert not torch.equal(before["conv1.weight"], after["model.conv1.weight"])
    assert len(made.history) == 2


class At(Reporter):
    """Does something at the n-th step."""

    def __init__(self, number: int, action: Callable[[], None]) -> None:
        self.left = number
        self.action = action

    def step(self, epoch: int, step: int, steps: int, loss: float) -> None:
        self.left -= 1
        if self.left == 0:
            self.action()


def test_epochs_are_chosen_by_the_arithmetic_that_predicts(backbone: Run, tmp_path: Path) -> None:
    """Training may go in bfloat16; the head's epoch, with which the others are compared, is measured in float32."""
    hard = "builtin:drawings/bicycle,butterfly,cactus,envelope,flower,snail"
    options = UNFROZEN | {"unfreeze": "all", "epochs": 4, "precision": "bfloat16", "ema": 0.0}
    made = taught(backbone, hard, output=tmp_path / "run", head="mean", **options)
    assert made.settings.engine["precision"] == "bfloat16" and made.best_epoch > 1
    best = made.history[made.best_epoch - 1]
    scores = evaluation.test(Run.open(made.folder), split="validation", invariance=False)
    assert scores.accuracy == best["val_accuracy"]
    assert scores.loss == pytest.approx(best["val_loss"], rel=1e-5)


class Struck(Reporter):
    """Ctrl-C where something is told for the first time."""

    def __init__(self, where: str, epoch: int = 0) -> None:
        self.where, self.number, self.done = where, epoch, False

    def _strike(self, where: str) -> None:
        if where == self.where:
            self.where = ""
            os.kill(os.getpid(), signal.SIGINT)

    def head(self, row: Any) -> None:
        self._strike("head")
        self.done = True

    def epoch(self, row: Any, best: bool) -> None:
        if row["epoch"] == self.number:
            self._strike("epoch")

    def progress(self, what: str, done: int, total: int) -> None:
        if what == "features" and self.done:
            self._strike("finish")


@pytest.mark.parametrize("reporter", [Struck("head"), Struck("epoch", 3), Struck("finish")])
def test_a_stop_at_the_edges_is_heard_and_loses_nothing(backbone: Run, tmp_path: Path, reporter: Struck) -> None:
    straight = taught(backbone, OTHERS, output=tmp_path / "straight", **UNFROZEN)
    assert straight.best_epoch > 1 and len(straight.history) == 3
    with pytest.raises(Interrupted) as caught:
        taught(backbone, OTHERS, output=tmp_path / "run", reporter=reporter, **UNFROZEN)
    assert (caught.value.code, caught.value.exit_code, reporter.where) == ("interrupted", 130, "")
    resume(tmp_path / "run")
    assert fingerprint(tmp_path / "run") == fingerprint(straight.folder)
    settings = Run.open(tmp_path / "run").settings
    assert settings.relearned == straight.settings.relearned
    # What stands in run.toml is the best weights' threshold, also after another start.
    resume(tmp_path / "run")
    assert read_summary(tmp_path / "run")[0].relearned == straight.settings.relearned


def test_a_stop_while_the_head_is_written_leaves_a_whole_run(backbone: Run, tmp_path: Path) -> None:
    with pytest.raises(Interrupted) as caught:
        taught(backbone, OTHERS, output=tmp_path / "run", reporter=Struck("head"))
    assert caught.value.reason == "stopped; the head is made and saved"
    assert evaluation.test(Run.open(tmp_path / "run"), invariance=False).images == 48


def test_images_from_memory_teach_the_backbone_too(backbone: Run, tmp_path: Path) -> None:
    dataset = data.load(OTHERS)
    half = dataset.select(np.arange(0, len(dataset), 2))
    made = taught(backbone, half, output=tmp_path / "half", **UNFROZEN)
    assert made.settings.images["train"] == len(half.indices("train"))
    prepared = data.prepare(half, backbone.settings.input)
    arrays = data.from_arrays(prepared.pixels, half.targets, half.classes)
    run = taught(backbone, arrays, output=tmp_path / "arrays", **UNFROZEN)
    assert evaluation.test(run, invariance=False).images == len(arrays.indices("test"))
    with pytest.raises(DataError) as caught:
        Run.open(run.folder).prepared()
    assert caught.value.code == "data-in-memory"
    without = arrays.splits.copy()
    without[arrays.targets == 1] = data.SPLITS.index("test")
    with pytest.raises(DataError) as caught:
        taught(backbone, dataclasses.replace(arrays, splits=without), output=tmp_path / "none")
    assert caught.value.code == "class-empty" and "star" in caught.value.reason


def test_what_is_remembered_is_what_the_network_answers(backbone: Run, tmp_path: Path) -> None:
    """Training images' features may be bfloat16's; asked about, they go through the network."""
    made = taught(backbone, OTHERS, output=tmp_path / "run", precision="bfloat16")
    prepared = made.prepared()
    assert made._features is not None
    for part in ("train", "test"):
        rows = prepared.dataset.indices(part)
        answers, distances = made.scores_and_distances(prepared.pixels, rows)
        plain, far = Run.open(made.folder).scores_and_distances(prepared.pixels[rows])
        np.testing.assert_allclose(answers, plain, atol=1e-5)
        np.testing.assert_allclose(distances, far, atol=1e-5)


@pytest.mark.parametrize("stop", [1, 6, 8])
def test_stopped_and_resumed_it_ends_at_the_same_weights(backbone: Run, tmp_path: Path, stop: int) -> None:
    straight = taught(backbone, OTHERS, output=tmp_path / "straight", **UNFROZEN)
    with pytest.raises(Interrupted) as caught:
        taught(
            backbone,
            OTHERS,
            output=tmp_path / "run",
            reporter=At(stop, lambda: os.kill(os.getpid(), signal.SIGINT)),
            **UNFROZEN,
        )
    assert caught.value.code == "interrupted"
    resume(tmp_path / "run")
    assert fingerprint(tmp_path / "run") == fingerprint(straight.folder)


def test_the_threshold_is_set_anew_by_exact_features(
    backbone: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[int, bool]] = []
    real = Features.of

    def noted(self: Features, prepared: Any, rows: Any, **options: Any) -> Any:
        asked.append((len(rows), options.get("exact", False)))
        return real(self, prepared, rows, **options)

    monkeypatch.setattr(Features, "of", noted)
    made = taught(backbone, OTHERS, output=tmp_path / "run", **UNFROZEN)
    assert made.best_epoch > 1
    assert asked[-2:] == [(168, False), (24, True)]  # training, validation


def test_killed_before_the_threshold_is_set_anew(
    backbone: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from convoscope.training.commands import resume as command

    straight = taught(backbone, OTHERS, output=tmp_path / "straight", **UNFROZEN)
    assert straight.best_epoch > 1
    with monkeypatch.context() as patch:
        patch.setattr(command, "recalibrate", lambda *_: None)
        taught(backbone, OTHERS, output=tmp_path / "run", **UNFROZEN)
    resume(tmp_path / "run")
    assert fingerprint(tmp_path / "run") == fingerprint(straight.folder)


# --- refusals ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({"head": "tree"}, "relearn-head"),
        ({"head": ""}, "relearn-head"),
        ({"head": False}, "relearn-head"),
        ({"coverage": True}, "relearn-coverage"),
        ({"coverage": "0.9"}, "relearn-coverage"),
        ({"augmented_views": 2.0}, "relearn-augmented-views"),
        ({"unfreeze": np.array([1, 2])}, "relearn-unfreeze"),
        ({"unfreeze": 1, "epochs": 100_000}, "recipe-invalid"),
        ({"seed": 1.5}, "bad-seed"),
        ({"augmented_views": 0}, "relearn-augmented-views"),
        ({"augmented_views": 1000}, "relearn-augmented-views"),
        ({"coverage": 0.0}, "relearn-coverage"),
        ({"coverage": 1.5}, "relearn-coverage"),
        ({"unfreeze": "some"}, "relearn-unfreeze"),
        ({"unfreeze": -1}, "relearn-unfreeze"),
        ({"feature_layer": "conv1"}, "relearn-feature-layer"),
        ({"unfreeze": 4}, "relearn-unfreeze"),
        ({"add": True, "feature_layer": "relu3"}, "relearn-feature-layer"),
        ({"epochs": 3}, "relearn-idle"),
        ({"sampling": "balanced"}, "relearn-idle"),
        ({"unfreeze": 1, "trained_blocks": 5}, "option-twice"),
        ({"model": "timm:resnet10t"}, "backbone-model"),
        ({"epochs": 0}, "recipe-invalid"),
        ({"layout": "zip"}, "unknown-layout"),
    ],
)
def test_impossible_wishes(backbone: Run, pictures: Path, tmp_path: Path, options: dict[str, Any], code: str) -> None:
    with pytest.raises(UsageError) as caught:
        relearn(backbone, pictures, output=tmp_path / "run", **options)
    assert caught.value.code == code
    assert not (tmp_path / "run").exists()


def test_backbones_that_are_none(backbone: Run, pictures: Path, tmp_path: Path) -> None:
    def refusal(other: Any, **options: Any) -> ConvoscopeError:
        with pytest.raises(ConvoscopeError) as caught:
            relearn(other, pictures, output=tmp_path / "run", **options)
        assert not (tmp_path / "run").exists()
        return caught.value

    assert refusal("imagnet").code == "backbone-unknown"
    assert refusal("timm:resnet18 dense(8) relu dense").code == "backbone-unknown"
    assert refusal("keras:vgg").code == "backbone-unknown"
    assert refusal("builtin:shapes").code == "backbone-unknown"
    assert refusal("timm:resnet19").code == "model-unknown"
    assert refusal("torchvision:squeezenet1_1", model=None).code in ("backbone-without-head", "download-failed")
    (tmp_path / "lone").mkdir()
    shutil.copy(backbone.folder / "best.safetensors", tmp_path / "lone" / "best.safetensors")
    assert refusal(tmp_path / "lone" / "best.safetensors", add=True).code == "relearn-add"
    assert refusal(tmp_path / "none" / "run").code == "checkpoint-missing"
    assert refusal(tmp_path / "a.safetensors").code == "checkpoint-missing"
    (tmp_path / "empty").mkdir()
    assert refusal(tmp_path / "empty").code == "run-empty"
    assert refusal("timm:resnet10t", add=True, model="small").code == "backbone-model"


def test_the_hint_fits_where_the_place_is_not_chosen(backbone: Run, pictures: Path, tmp_path: Path) -> None:
    for unfreeze, words in ((0, "cross-validation chooses"), (1, "the whole backbone is used")):
        with pytest.raises(UsageError) as caught:
            relearn(backbone, pictures, output=tmp_path / "run", feature_layer="relu9", unfreeze=unfreeze)
        assert words in caught.value.hint


def broken(backbone: Run, folder: Path, change: Callable[[torch.Tensor], torch.Tensor]) -> Path:
    """A checkpoint like the backbone's, its weights changed, somewhere else."""
    tensors, state = checkpoint.load(backbone.folder / "best.safetensors")
    folder.mkdir()
    checkpoint.save(folder / "mine.safetensors", {name: change(value) for name, value in tensors.items()}, state)
    return folder / "mine.safetensors"


@pytest.mark.parametrize("options", [{}, {"feature_layer": "relu3"}, {"unfreeze": 1}])
@pytest.mark.parametrize(
    ("factor", "code"), [(float("nan"), "backbone-not-finite"), (1e30, "backbone-not-finite"), (0.0, "backbone-blind")]
)
def test_a_backbone_without_sense_is_told(
    backbone: Run, tmp_path: Path, options: dict[str, Any], factor: float, code: str
) -> None:
    file = broken(backbone, tmp_path / "weights", lambda value: value * factor if value.is_floating_point() else value)
    with pytest.raises(ModelFileError) as caught:
        relearn(file, OTHERS, output=tmp_path / "run", **options)
    assert caught.value.code == code
    assert str(file) in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_numbers_that_are_not_finite_are_not_kept(backbone: Run, tmp_path: Path) -> None:
    file = broken(backbone, tmp_path / "weights", lambda value: value * 1e30 if value.is_floating_point() else value)
    taken = open_backbone(file, say=lambda _: None)
    assert taken.name == str(file)
    prepared = data.prepare(data.load(OTHERS), taken.form)
    for _ in range(2):  # the second time from the store, if it had them
        source = Features(taken)
        with pytest.raises(ModelFileError):
            source.of(prepared, np.arange(40))
        assert source.computed == 0


def test_an_output_that_cannot_be_made_is_told_before_anything_is_computed(backbone: Run, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    listener = Listener()
    with pytest.raises(MachineError) as caught:
        relearn(backbone, OTHERS, output=tmp_path / "file" / "run", reporter=listener)
    assert caught.value.code == "run-unwritable"
    assert not listener.told("features")


def test_equal_images_were_not_kept_from_before(
    backbone: Run, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are computed once, which is no find in the cache."""
    monkeypatch.setenv("CONVOSCOPE_CACHE", str(tmp_path / "cache"))
    twins = tmp_path / "twins"
    shutil.copytree(pictures, twins)
    for place in sorted((twins / "square").iterdir()):
        shutil.copy(place, place.with_name(f"again-{place.name}"))
    listener = Listener()
    taught(backbone, twins, output=tmp_path / "run", reporter=listener)
    assert listener.told("stands in more than one split")
    assert not listener.told("were cached")
    taught(backbone, twins, output=tmp_path / "again", reporter=listener)
    assert listener.told("were cached")


def test_add_needs_a_run(pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from convoscope.training.core import weights

    network = models.build("timm:tf_efficientnet_lite0", (224, 224, 3), 1000)
    monkeypatch.setattr(weights, "imagenet_weights", lambda say: network.state_dict())
    with pytest.raises(UsageError) as caught:
        relearn("imagenet", pictures, add=True, output=tmp_path / "run")
    assert caught.value.code == "relearn-add"


def test_other_tasks_are_refused(backbone: Run, tmp_path: Path) -> None:
    numbers = data.from_arrays(np.zeros((40, 28, 28), np.uint8), np.linspace(0, 1, 40))
    with pytest.raises(DataError) as caught:
        relearn(backbone, numbers, output=tmp_path / "run")
    assert caught.value.code == "relearn-task"


def test_a_run_of_a_module_of_ones_own_has_no_known_head(pictures: Path, tmp_path: Path) -> None:
    own = nn.Sequential(nn.Flatten(), nn.Linear(144, 3))
    made = train(pictures, own, output=tmp_path / "own", epochs=1, precision="float32", size=(12, 12))
    with pytest.raises(UsageError) as caught:
        relearn(made.folder, pictures, output=tmp_path / "run")
    assert caught.value.code == "backbone-custom"


def test_a_model_that_ends_without_a_dense_layer_gets_one(pictures: Path, tmp_path: Path) -> None:
    made = train(pictures, "conv(8) relu conv(3) globalavg", output=tmp_path / "own", epochs=1, precision="float32")
    again = relearn(made, "builtin:drawings/star,house", output=tmp_path / "run", feature_layer="globalavg")
    assert again.settings.model == "conv(8) relu conv(3) globalavg dense"
    one = train(pictures, "conv(8) relu globalavg dense", output=tmp_path / "one", epochs=1, precision="float32")
    assert (
        relearn(
            one, "builtin:drawings/star,house", output=tmp_path / "two", head="mlp", feature_layer="globalavg"
        ).settings.model
        == "conv(8) relu globalavg dense(64) relu dense"
    )


def test_no_training_images(backbone: Run, pictures: Path, tmp_path: Path) -> None:
    dataset = data.load(pictures)
    dataset.splits[:] = 1
    with pytest.raises(DataError) as caught:
        relearn(backbone, dataset, output=tmp_path / "run")
    assert caught.value.code == "no-training-images"


def test_the_runs_folder_must_be_new(backbone: Run, relearned: Run) -> None:
    with pytest.raises(InUseError) as caught:
        relearn(backbone, OTHERS, output=relearned.folder)
    assert caught.value.code == "output-exists"


@pytest.mark.parametrize("feature_layer", [0, 4, 100, -1])
def test_damaged_runs_are_no_backbones(backbone: Run, pictures: Path, tmp_path: Path, feature_layer: int) -> None:
    file = tmp_path / "best.safetensors"
    file.write_bytes((backbone.folder / "best.safetensors").read_bytes()[:feature_layer])
    with pytest.raises(ModelFileError):
        relearn(file, pictures, output=tmp_path / "run")
    assert not (tmp_path / "run").exists()


# --- the command -------------------------------------------------------------------------------------------------------


def test_the_command(
    backbone: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    begin = time.perf_counter()
    assert command(["relearn", str(backbone.folder), OTHERS]) == 0
    out = capsys.readouterr().out
    assert "test part: right on" in out and "unknown:" in out and "convoscope test runs/" in out
    assert time.perf_counter() - begin < 60
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
