"""Where a backbone ends: chosen by cross-validation, or asked for."""

import dataclasses
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from convoscope import data
from convoscope.errors import (
    UsageError,
)
from convoscope.training import Run, relearn
from convoscope.training.backbone.feature_layer import feature_layer_at
from convoscope.training.backbone.features import Features
from convoscope.training.backbone.source_images import own_images, whitening_of
from convoscope.training.backbone.sources import open_backbone
from convoscope.training.heads.head import cross_validated
from tests.support.runs import OTHERS, Listener, fingerprint


def test_the_backbone_ends_where_cross_validation_is_best(backbone: Run, tmp_path: Path) -> None:
    listener = Listener()
    made = relearn(backbone, OTHERS, output=tmp_path / "run", reporter=listener)
    (note,) = (line for line in made.settings.notes if line.startswith("the backbone ends after "))
    assert note in listener.said
    losses = {name: float(loss) for name, loss in re.findall(r"(\w+) (\d\.\d{3})", note)}
    prepared, whole = made.prepared(), open_backbone(backbone, say=print)
    rows = np.flatnonzero(prepared.dataset.splits != 2)
    targets = torch.from_numpy(prepared.dataset.targets[rows].astype(np.int64))
    images, _ = own_images(whole)
    for feature_layer in whole.feature_layers():
        features = torch.from_numpy(Features(whole.until(feature_layer)).of(prepared, rows, exact=True))
        whitening = whitening_of(whole.until(feature_layer), images, "cpu")
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
    assert listener.heard("8 augmented views of each training image")
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
    assert not listener.heard("the backbone ends after")


@pytest.mark.parametrize(("name", "value"), [("_WIDEST", 31), ("_MOST", 100), ("_TRIED", 14)])
def test_what_is_too_large_to_compare_leaves_the_backbone_whole(
    backbone: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: int
) -> None:
    """The end of `BACKBONE` has 32 numbers; three classes of at least five images are 15."""
    monkeypatch.setattr(f"convoscope.training.backbone.feature_layer.{name}", value)
    listener = Listener()
    made = relearn(backbone, OTHERS, output=tmp_path / "run", augmented_views=1, reporter=listener)
    assert made.settings.model.endswith("dense(32) relu dense")
    assert not listener.heard("the backbone ends after")


def test_what_the_comparison_computed_was_not_cached_before(
    backbone: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CONVOSCOPE_CACHE", str(tmp_path / "cache"))
    listener = Listener()
    made = relearn(backbone, OTHERS, output=tmp_path / "run", reporter=listener)
    assert listener.heard("features in float32") and not listener.heard("were cached")
    monkeypatch.setenv("CONVOSCOPE_CACHE", str(tmp_path / "other"))
    found = next(note for note in made.settings.notes if note.startswith("the backbone ends after "))
    place = found.removeprefix("the backbone ends after ").partition(":")[0]
    again = relearn(backbone, OTHERS, output=tmp_path / "again", feature_layer=place)
    assert fingerprint(again.folder) == fingerprint(made.folder)


def test_only_a_backbone_with_a_text_has_feature_layers(backbone: Run) -> None:
    whole = dataclasses.replace(open_backbone(backbone, say=print), head="fc")
    assert whole.feature_layers() == ()
    with pytest.raises(UsageError) as caught:
        feature_layer_at(whole, "relu1")
    assert caught.value.code == "relearn-feature-layer"
    assert "can only be used whole" in caught.value.reason
