"""What differs within a class, learned from the images that a backbone was trained on."""

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from convoscope import data
from convoscope.data import Dataset
from convoscope.errors import ModelFileError
from convoscope.training import Run, relearn, train
from convoscope.training.backbone.features import Features
from convoscope.training.backbone.source_images import IMAGES, _origin, own_images, whitening_of
from convoscope.training.backbone.sources import open_backbone
from convoscope.training.heads.head import Examples, linear
from convoscope.training.heads.whitening import fit_whitening
from tests.support.runs import Listener

BACKBONE = "conv(8) norm relu maxpool conv(12) norm relu maxpool flatten dense"
OTHERS = "builtin:drawings/star,house"
LESS = "what differs within a class among 192 images that the backbone was trained on counts less"


@pytest.fixture(scope="module")
def drawings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three classes of 80 drawings as files."""
    from PIL import Image

    root = tmp_path_factory.mktemp("drawings")
    loaded = data.load("builtin:drawings/apple,cat,tree")
    prepared = data.prepare(loaded, data.suggest_format(loaded)[0])
    for row, target in enumerate(loaded.targets):
        folder = root / loaded.classes[int(target)]
        folder.mkdir(exist_ok=True)
        Image.fromarray(prepared.pixels[row][:, :, 0]).save(folder / f"{row}.png")
    return root


@pytest.fixture(scope="module")
def backbone(drawings: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return train(drawings, BACKBONE, output=tmp_path_factory.mktemp("backbone") / "run", epochs=2, precision="float32")


def taught(
    backbone: Run | Path, images: str | Path | Dataset, output: Path, **options: object
) -> tuple[Run, list[str]]:
    listener = Listener()
    made = relearn(backbone, images, output=output, augmented_views=1, reporter=listener, **options)  # type: ignore[arg-type]
    return made, listener.said


# --- whose images ------------------------------------------------------------------------------------------------------


def test_it_asks_the_images_that_the_backbone_learned_from(backbone: Run, tmp_path: Path) -> None:
    own, told = own_images(open_backbone(backbone, say=print))
    assert own is not None and told == LESS
    dataset = backbone.prepared().dataset
    assert set(own.dataset.names) == {dataset.names[row] for row in dataset.indices("train")}
    made, said = taught(backbone, OTHERS, tmp_path / "run", feature_layer="maxpool1")
    assert told in said and told in made.settings.notes
    # What its head was made of, put together by hand.
    prepared = made.prepared()
    taken = open_backbone(backbone, say=print)
    taken = taken.until(
        next(feature_layer for feature_layer in taken.feature_layers() if feature_layer.layers[-1] == "maxpool1")
    )
    whitening = whitening_of(taken, own, "cpu")
    source = Features(taken)
    parts = [prepared.dataset.indices(part) for part in ("train", "validation")]
    vectors = [torch.from_numpy(source.of(prepared, rows, exact=True)) for rows in parts]
    targets = [torch.from_numpy(prepared.dataset.targets[rows].astype(np.int64)) for rows in parts]
    head = linear(Examples.of(vectors[0], targets[0], vectors[1], targets[1], None, whitening), 2)
    weight = made.weights()["dense1.weight"]
    torch.testing.assert_close(weight, head.layers[0][0], atol=1e-3 * float(weight.abs().max()), rtol=0)


def test_small_images_are_looked_at_several_times(backbone: Run) -> None:
    taken = open_backbone(backbone, say=print)
    own, _ = own_images(taken)
    assert own is not None
    targets = torch.from_numpy(own.dataset.targets.astype(np.int64))
    once = fit_whitening(torch.from_numpy(Features(taken).of(own, np.arange(192), exact=True)), targets)
    several = whitening_of(taken, own, "cpu")
    assert once is not None and several is not None
    assert not torch.allclose(once.kept[:20], several.kept[:20], rtol=1e-3)


def test_of_many_images_each_class_is_asked_in_proportion(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (2_400, 6, 6), np.uint8)
    targets = np.repeat([0, 1, 2], [1_600, 600, 200])
    run = train(data.from_arrays(pixels, targets, ["a", "b", "c"]), "flatten dense", output=tmp_path / "run", epochs=1)
    own, _ = own_images(open_backbone(run, say=print))
    assert own is not None and len(own.dataset) == IMAGES
    assert np.abs(np.bincount(own.dataset.targets) - [667, 250, 83]).max() <= 1


def test_a_relearned_run_goes_by_the_images_of_its_backbone(backbone: Run, tmp_path: Path) -> None:
    made, _ = taught(backbone, OTHERS, tmp_path / "run")
    _, said = taught(made.folder, "builtin:drawings/snail", tmp_path / "added", add=True)
    assert LESS in said
    _, said = taught(made, OTHERS, tmp_path / "again", head="mean")
    assert LESS in said


def test_images_that_are_gone_are_reported(drawings: Path, tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    shutil.copytree(drawings, mine)
    backbone = train(mine, BACKBONE, output=tmp_path / "backbone", epochs=1)
    made, _ = taught(backbone, OTHERS, tmp_path / "run")
    moved = mine.rename(tmp_path / "moved")
    words = "all features count alike, because the images that the backbone was trained on cannot be read: "
    run, said = taught(backbone.folder, OTHERS, tmp_path / "again")
    (line,) = (line for line in said if line.startswith(words))
    assert line in run.settings.notes
    # So is another network in the backbone's place.
    moved.rename(mine)
    shutil.move(backbone.folder, tmp_path / "elsewhere")
    shutil.copytree(train(mine, BACKBONE, output=tmp_path / "other", epochs=1, seed=1).folder, backbone.folder)
    _, said = taught(made.folder, "builtin:drawings/snail", tmp_path / "added", add=True)
    assert words + "another network is in its place now" in said
    with pytest.raises(ModelFileError) as caught:
        _origin(open_backbone(made.folder, say=print))
    assert caught.value.code == "backbone-changed" and caught.value.path == str(backbone.folder)


def test_what_was_handed_over_in_memory_serves_while_it_is_there(tmp_path: Path) -> None:
    loaded = data.load("builtin:drawings/apple,cat,tree")
    prepared = data.prepare(loaded, data.suggest_format(loaded)[0])
    images = data.from_arrays(prepared.pixels, loaded.targets, loaded.classes)
    backbone = train(images, BACKBONE, output=tmp_path / "backbone", epochs=1)
    _, said = taught(backbone, OTHERS, tmp_path / "one")
    assert any("counts less" in line for line in said)
    _, said = taught(backbone.folder, OTHERS, tmp_path / "two")
    assert any(line.startswith("all features count alike") for line in said)


def test_some_backbones_have_no_images_to_ask(backbone: Run, tmp_path: Path) -> None:
    library = dataclasses.replace(open_backbone(backbone, say=print), run=None)
    assert own_images(library) == (None, "")
    pixels = np.random.default_rng(0).integers(0, 255, (120, 8, 8), np.uint8)
    few = data.from_arrays(
        pixels, np.arange(120) % 2, ["a", "b"], splits=np.repeat([0, 1, 2], [101, 9, 10]).astype(np.int8)
    )
    assert len(few.indices("train")) == 101
    small = train(few, BACKBONE, output=tmp_path / "small", epochs=1)
    assert own_images(open_backbone(small, say=print)) == (None, "")
    pixels = np.random.default_rng(0).integers(0, 255, (200, 8, 8), np.uint8)
    numbers = train(
        data.from_arrays(pixels, pixels.mean((1, 2)).astype(np.float32)),
        BACKBONE,
        output=tmp_path / "numbers",
        epochs=1,
    )
    assert own_images(open_backbone(numbers, say=print)) == (None, "")
    assert whitening_of(library, None, "cpu") is None
