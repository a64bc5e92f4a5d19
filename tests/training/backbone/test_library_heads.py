"""Backbones of libraries whose scores come from no single dense layer: a run on one, opened, tested, learned from again."""

from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

from convoscope import data, models
from convoscope.data import Dataset
from convoscope.errors import ModelFileError
from convoscope.models import Pretrained
from convoscope.training import Run, relearn
from convoscope.training.backbone.sources import open_backbone
from tests.support.runs import Listener

SQUEEZENET = "torchvision:squeezenet1_1"


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONVOSCOPE_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Random weights of SqueezeNet, for images of 32 pixels."""
    offer = Pretrained(address="", sha256="", input=(32, 32, 3), mean=(0.5,) * 3, std=(0.25,) * 3, outputs=10)
    monkeypatch.setattr(models, "pretrained", lambda model, *, offered=True: offer)
    torch.manual_seed(0)
    path = tmp_path / "mine.safetensors"
    safetensors.torch.save_file(models.build(SQUEEZENET, (32, 32, 3), 10).state_dict(), path)
    return path


def coloured(classes: tuple[str, ...], seed: int) -> Dataset:
    """30 noisy images of each class, each class of another brightness."""
    rng = np.random.default_rng(seed)
    targets = np.repeat(np.arange(len(classes)), 30)
    images = rng.integers(0, 60, (len(targets), 32, 32, 3)) + 60 * targets[:, None, None, None]
    return data.from_arrays(images.astype(np.uint8), targets, classes, seed=0, validation=0.3)


def test_a_run_on_a_backbone_whose_head_was_a_convolution(file: Path, tmp_path: Path) -> None:
    listener = Listener()
    images = coloured(("dark", "middle", "bright"), 0)
    made = relearn(file, images, model=SQUEEZENET, output=tmp_path / "run", reporter=listener)
    assert listener.heard("normalised by mean 0.5, 0.5, 0.5 and std 0.25, 0.25, 0.25, torchvision's for this network")
    assert made.settings.model == f"{SQUEEZENET} dense"
    assert made.settings.relearned is not None and made.settings.relearned.layers == ("head.dense1",)
    prepared = made.prepared()
    rows = prepared.dataset.indices("test")
    opened = Run.open(made.folder)
    quick, near = made.scores_and_distances(prepared.pixels, rows)
    slow, far = opened.scores_and_distances(prepared.pixels[rows])
    np.testing.assert_allclose(quick, slow, atol=2e-5)
    assert near is not None and far is not None
    np.testing.assert_allclose(near, far, atol=1e-5)
    assert (slow.argmax(1) == prepared.dataset.targets[rows]).mean() > 0.9
    # The features are those that the library's own network has before its last convolution, averaged.
    network = models.build(SQUEEZENET, (32, 32, 3), 10).eval()
    network.load_state_dict(safetensors.torch.load_file(file))
    with torch.no_grad():
        maps = network.get_submodule("features")(opened.input_tensor(prepared.pixels[rows]))
        weight, bias = (opened.weights()[f"head.dense1.{kind}"] for kind in ("weight", "bias"))
        wanted = torch.softmax(maps.mean((2, 3)) @ weight.T + bias, 1)
    np.testing.assert_allclose(slow, wanted.numpy(), atol=1e-5)
    # A run is a backbone again, whole and with a hidden layer.
    again = open_backbone(opened, say=print)
    assert (again.head, again.behind, again.width, again.text) == ("head", True, 512, SQUEEZENET)
    further = relearn(opened, coloured(("low", "high"), 1), output=tmp_path / "further", head="mlp")
    assert further.settings.model == f"{SQUEEZENET} dense(64) relu dense"
    kept = further.weights()
    assert all(torch.equal(value, kept[name]) for name, value in again.tensors.items())
    assert open_backbone(Run.open(further.folder), say=print).tensors.keys() == again.tensors.keys()


def test_weights_of_another_network_are_refused(file: Path) -> None:
    with pytest.raises(ModelFileError) as caught:
        open_backbone(file, model="torchvision:squeezenet1_0", say=print)
    assert caught.value.code == "weights-do-not-fit"
