"""What `relearn` refuses, and how it says so."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from convoscope import data, models
from convoscope.errors import (
    ConvoscopeError,
    DataError,
    InUseError,
    MachineError,
    ModelFileError,
    UsageError,
)
from convoscope.training import Run, relearn, train
from convoscope.training.backbone.features import Features
from convoscope.training.backbone.sources import open_backbone
from convoscope.training.core import checkpoint
from tests.support.runs import OTHERS, Listener, taught


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
def test_a_backbone_without_sense_is_reported(
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


def test_an_output_that_cannot_be_made_is_reported_before_anything_is_computed(backbone: Run, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    listener = Listener()
    with pytest.raises(MachineError) as caught:
        relearn(backbone, OTHERS, output=tmp_path / "file" / "run", reporter=listener)
    assert caught.value.code == "run-unwritable"
    assert not listener.heard("features")


def test_equal_images_were_not_cached_before(
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
    assert listener.heard("that are the same or look alike") and not listener.heard("is in more than one split")
    assert not listener.heard("were cached")
    taught(backbone, twins, output=tmp_path / "again", reporter=listener)
    assert listener.heard("were cached")


def test_add_needs_a_run(pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from convoscope.training.core import weights

    network = models.build("timm:tf_efficientnet_lite0", (224, 224, 3), 1000)
    monkeypatch.setattr(weights, "packaged_weights", lambda packaged, say: network.state_dict())
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
