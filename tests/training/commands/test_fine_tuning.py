"""Relearning with a backbone that is fine-tuned: stopped, resumed, and its threshold set anew."""

import dataclasses
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from convoscope import data, evaluation
from convoscope.errors import (
    DataError,
    Interrupted,
)
from convoscope.training import Reporter, Run, resume
from convoscope.training.backbone.features import Features
from convoscope.training.core import checkpoint
from convoscope.training.runs.saved import read_summary
from tests.support.runs import OTHERS, At, fingerprint, taught

UNFROZEN: dict[str, Any] = {
    "unfreeze": 2, "epochs": 2, "batch_size": 32, "precision": "float32", "threads": 1, "learning_rate": 1e-3
}  # fmt: skip
"""With such a rate the second epoch is better than the head alone, so that the threshold is set anew."""


def test_the_backbone_is_fine_tuned(backbone: Run, tmp_path: Path) -> None:
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


def test_epochs_are_chosen_by_the_arithmetic_that_predicts(backbone: Run, tmp_path: Path) -> None:
    """Training may go in bfloat16; the head's epoch, with which the others are compared, is measured in float32."""
    hard = "builtin:drawings/bicycle,butterfly,cactus,envelope,flower,snail"
    options = UNFROZEN | {"unfreeze": "all", "epochs": 4, "precision": "bfloat16", "ema": 0.0}
    made = taught(backbone, hard, output=tmp_path / "run", head="mean", **options)
    assert made.settings.engine["precision"] == "bfloat16" and made.best_epoch > 1
    best = made.history[made.best_epoch - 1]
    scores = evaluation.test(Run.open(made.folder), split="validation", invariance=False)
    assert scores.accuracy == best["val_accuracy"]
    assert scores.uncalibrated is not None  # the loss of an epoch is that of raw scores
    assert scores.uncalibrated.loss == pytest.approx(best["val_loss"], rel=1e-5)


class Struck(Reporter):
    """Ctrl-C where something is reported for the first time."""

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
        assert distances is not None and far is not None
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
