"""What stands in a run's files is checked before anything is made of it, and what a training itself writes can always be read."""

import hashlib
import json
import math
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from convoscope import models
from convoscope.data import from_arrays
from convoscope.errors import DataError, ModelFileError
from convoscope.training import Recipe, Run, read_summary, resume, train
from convoscope.training.core import checkpoint
from convoscope.training.core.optimizer import Optimizer
from convoscope.training.fit.state import read_progress
from convoscope.training.runs.saved import read_history

PLAIN: dict[str, Any] = {"epochs": 2, "threads": 1, "precision": "float32", "memory_format": "contiguous"}


@pytest.fixture(scope="module")
def lines(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train("builtin:lines", "tiny", output=tmp_path_factory.mktemp("runs") / "lines", ema=0.3, **PLAIN).folder


def changed(run: Path, place: Path, **settings: Any) -> Path:
    """The run's best checkpoint with other settings, sealed anew."""
    tensors, state = checkpoint.load(run / "best.safetensors")
    checkpoint.save(place / "best.safetensors", tensors, {"settings": state["settings"] | settings})
    return place / "best.safetensors"


def test_a_network_larger_than_its_weights_is_never_built(
    lines: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(models, "build", lambda *_: pytest.fail("built"))
    run = Run.open(changed(lines, tmp_path, model="flatten dense(20000) dense(20000) dense"))
    with pytest.raises(ModelFileError) as caught:
        run.network()
    assert caught.value.code == "weights-do-not-fit"
    assert "it has 19 numbers, the model 400,580,002 parameters" in caught.value.reason


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"mean": [0.1] * 7}, "expected a mean and a standard deviation for each of 1 channels"),
        ({"std": [0.0]}, "std: a standard deviation must be greater than 0"),
        ({"outputs": 5}, "5 outputs do not suit 2 classes"),
        ({"classes": ["a", "a"]}, "has another's name"),
        ({"classes": [1] * 1000}, "classes.0: should be a valid string; received 1"),
        ({"engine": {"threads": 1_000_000}}, "engine: threads: should be less than or equal to 1024; received 1000000"),
        ({"input": {"height": 10**9, "width": 5, "channels": 1}}, "input: each side must be 1 to 4096 pixels"),
        ({"source": "a\0b"}, "source: holds a zero byte"),
        ({"task": "regression"}, "a mean and a standard deviation for each of 2 numbers to predict"),
    ],
)
def test_impossible_settings_are_reported(lines: Path, tmp_path: Path, settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ModelFileError) as caught:
        Run.open(changed(lines, tmp_path, **settings))
    assert caught.value.code == "settings-unreadable"
    assert words in caught.value.reason
    assert caught.value.hint


def test_a_run_toml_of_too_many_bytes_is_reported_with_the_limit(lines: Path, tmp_path: Path) -> None:
    (tmp_path / "best.safetensors").touch()
    (tmp_path / "run.toml").write_text("#" * 1_000_001)
    with pytest.raises(ModelFileError, match=r"more than 1\.0 MB"):
        read_summary(tmp_path)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"epoch": "3"}, "epoch: should be a valid integer; received '3'"),
        ({"step": -1}, "step: should be greater than or equal to 0; received -1"),
        ({"history": []}, "expected the figures of epochs 1 to 2, in order"),
        ({"best_value": [[1]]}, "best_value.0: should be a valid number"),
        ({"events_bytes": -1}, "events_bytes: should be greater"),
    ],
)
def test_impossible_progress_is_reported(lines: Path, change: dict[str, Any], words: str) -> None:
    _, state = checkpoint.load(lines / "last.safetensors")
    with pytest.raises(ModelFileError) as caught:
        read_progress({"progress": state["progress"] | change}, Path("last.safetensors"))
    assert caught.value.code == "progress-unreadable"
    assert words in caught.value.reason


def test_a_validation_loss_that_was_not_finite_does_not_cost_the_run(lines: Path, tmp_path: Path) -> None:
    tensors, state = checkpoint.load(lines / "last.safetensors")
    row = state["progress"]["history"][0] | {"val_loss": math.nan, "val_accuracy": 0.5}
    progress = state["progress"] | {"history": [row, state["progress"]["history"][1]], "best_value": [5, 0.5, math.nan]}
    content = checkpoint.pack(tensors, state | {"progress": progress})
    (tmp_path / "last.safetensors").write_bytes(content)
    _, state = checkpoint.load(tmp_path / "last.safetensors")
    assert math.isnan(read_progress(state, tmp_path).history[0]["val_loss"] or 0)
    text = (lines / "metrics.csv").read_text().splitlines()
    (tmp_path / "metrics.csv").write_text("\n".join([text[0], text[1].replace(text[1].split(",")[3], "nan"), ""]))
    assert math.isnan(read_history(tmp_path / "metrics.csv")[0]["val_loss"] or 0)


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(5, 3, 3), nn.Flatten(), nn.Linear(3, 2))


@pytest.mark.parametrize("kind", ["sgd", "adam", "adamw", "muon"])
def test_an_optimiser_takes_only_its_own_state_back(kind: str) -> None:
    net = network()
    optimizer = Optimizer(net, Recipe(optimizer=kind))
    net(torch.ones(1, 5, 3, 3)).sum().backward()
    optimizer.step(1.0)
    own = {name: value.clone() for name, value in optimizer.tensors().items()}
    name = next(iter(own))
    wrong = [
        {},
        own | {"optimizer.0.99.exp_avg": torch.zeros(2)},
        own | {"optimizer.x": torch.zeros(2)},
        own | {name: torch.zeros(2, 2, 2)},
        own | {name: own[name].to(torch.int32)},
    ]
    if kind.startswith("adam"):
        wrong += [{other: value for other, value in own.items() if other != name}, own | {name: torch.tensor(-1.0)}]
    for tensors in wrong:
        with pytest.raises(ModelFileError) as caught:
            optimizer.restore(tensors, Path("last.safetensors"), begun=True)
        assert caught.value.code == "weights-do-not-fit"
    optimizer.restore(own, Path("last.safetensors"), begun=True)
    optimizer.restore({}, Path("last.safetensors"), begun=False)


def test_names_that_no_run_can_hold_are_a_fault_of_the_data(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (20, 5, 5), dtype=np.uint8)
    dataset = from_arrays(images, np.array(["a\0b", "c"] * 10))
    with pytest.raises(DataError) as caught:
        train(dataset, "flatten dense", output=tmp_path / "run", **PLAIN)
    assert caught.value.code == "run-impossible"
    assert "classes.0: holds a zero byte" in caught.value.reason


def test_a_checkpoint_without_averages_is_refused(lines: Path, tmp_path: Path) -> None:
    tensors, state = checkpoint.load(lines / "last.safetensors")
    kept = {name: value for name, value in tensors.items() if not name.startswith("average.")}
    for name in ("split.csv", "run.toml"):
        (tmp_path / name).write_bytes((lines / name).read_bytes())
    checkpoint.save(tmp_path / "last.safetensors", kept, state)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(ModelFileError, match="do not fit"):
            resume(tmp_path, epochs=3)


@pytest.mark.parametrize("version", ["²", "٣", "-1", "9" * 5000, "", "3"])
def test_a_format_that_is_not_known_is_refused(lines: Path, tmp_path: Path, version: str) -> None:
    path = tmp_path / "best.safetensors"
    content = (lines / "best.safetensors").read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    header["__metadata__"]["convoscope"] = version
    header["__metadata__"]["sha256"] = "0" * 64
    text = json.dumps(header, separators=(",", ":")).encode()

    changed_content = bytearray(len(text).to_bytes(8, "little") + text + content[8 + length :])
    place = changed_content.index(b"0" * 64)
    changed_content[place : place + 64] = hashlib.sha256(changed_content).hexdigest().encode()
    path.write_bytes(changed_content)
    with pytest.raises(ModelFileError) as caught:
        checkpoint.load(path)
    assert caught.value.code == "checkpoint-newer"
