"""Checkpoint files: what goes in comes out, and nothing damaged, foreign or hostile gets through."""

import json
import os
import pickle
import struct
import threading
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from convoscope.errors import ModelFileError
from convoscope.training.core import checkpoint

STATE = {"epoch": 3, "rate": 0.1 + 0.2, "names": ["Apfel", "Öl", "<img onerror=alert(1)>"], "none": None}


def tensors() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    return {
        "model.weight": torch.randn(4, 3, 3, 3).contiguous(memory_format=torch.channels_last),
        "model.count": torch.tensor(7),
        "optimizer.0.1.step": torch.tensor(3.0),
    }


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "last.safetensors"
    checkpoint.save(path, tensors(), STATE)
    return path


def refused(path: Path, code: str) -> ModelFileError:
    with pytest.raises(ModelFileError) as caught:
        checkpoint.load(path)
    assert caught.value.code == code
    return caught.value


def test_a_checkpoint_comes_back_exactly(saved: Path) -> None:
    loaded, state = checkpoint.load(saved)
    assert state == STATE
    assert loaded.keys() == tensors().keys()
    for name, value in tensors().items():
        assert torch.equal(loaded[name], value)
    assert [entry.name for entry in saved.parent.iterdir()] == [saved.name]  # no temporary file is left


def test_other_tools_can_read_it(saved: Path) -> None:
    import safetensors.torch

    assert torch.equal(safetensors.torch.load_file(saved)["model.weight"], tensors()["model.weight"])


def test_every_single_bit_counts(saved: Path, tmp_path: Path) -> None:
    content = saved.read_bytes()
    rng = np.random.default_rng(0)
    places = {int(p) for p in rng.integers(0, len(content) * 8, 1000)} | set(range(64 * 8))
    broken = tmp_path / "broken.safetensors"
    for place in places:
        flipped = bytearray(content)
        flipped[place // 8] ^= 1 << place % 8
        broken.write_bytes(flipped)
        with pytest.raises(ModelFileError):
            checkpoint.load(broken)


def test_cut_short_at_a_hundred_places(saved: Path, tmp_path: Path) -> None:
    content = saved.read_bytes()
    broken = tmp_path / "broken.safetensors"
    for length in np.linspace(1, len(content) - 1, 100).astype(int):
        broken.write_bytes(content[:length])
        with pytest.raises(ModelFileError):
            checkpoint.load(broken)
    broken.write_bytes(content + b"x")
    refused(broken, "checkpoint-damaged")


def test_missing_and_empty(tmp_path: Path) -> None:
    assert "no such file" in refused(tmp_path / "none.safetensors", "checkpoint-missing").reason
    (tmp_path / "empty.safetensors").touch()
    assert "empty" in refused(tmp_path / "empty.safetensors", "checkpoint-empty").reason
    assert "not a file" in refused(tmp_path, "checkpoint-not-a-file").reason
    os.mkfifo(tmp_path / "pipe.safetensors")
    for path in (tmp_path / "pipe.safetensors", Path("/dev/zero")):
        assert "not a file" in refused(path, "checkpoint-not-a-file").reason


def test_what_a_file_really_is_is_named(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12\n")
    assert "Git LFS pointer" in refused(path, "checkpoint-lfs-pointer").reason
    path.write_bytes(b"\n<!DOCTYPE html><html><body>404</body></html>")
    assert "HTML page" in refused(path, "checkpoint-html").reason
    path.write_bytes(b"hello, world, this is no model")
    assert refused(path, "checkpoint-damaged").reason == "not a safetensors file"
    path.write_bytes(b"\0\0\0\0\0\0\0\x09{}")
    assert "it claims a header of 648518.3 TB, the file has 10 B" in refused(path, "checkpoint-damaged").reason


def header_file(path: Path, header: bytes, data: bytes = b"", length: int | None = None) -> Path:
    path.write_bytes(struct.pack("<Q", len(header) if length is None else length) + header + data)
    return path


@pytest.mark.parametrize(
    ("header", "data"),
    [
        (
            b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"b":{"dtype":"F32","shape":[1],"data_offsets":[2,6]}}',
            b"123456",
        ),
        (b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}', b"12345678"),
        (
            b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}',
            b"1234",
        ),
        (b'{"a":{"dtype":"F32","shape":[250000000000],"data_offsets":[0,1000000000000]}}', b"1234"),
        (b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,-4]}}', b""),
        (b'{"a":{"data_offsets":"x"}}', b""),
        (b"{" + b"[" * 50_000, b""),
    ],
    ids=["overlap", "hole", "twins", "a terabyte", "negative", "no numbers", "deep"],
)
def test_impossible_headers(tmp_path: Path, header: bytes, data: bytes) -> None:
    refused(header_file(tmp_path / "x.safetensors", header, data), "checkpoint-damaged")


@pytest.mark.parametrize("length", [2**63, 10**12, 2**64 - 1])
def test_a_huge_header_is_not_allocated(tmp_path: Path, length: int) -> None:
    import tracemalloc

    path = header_file(tmp_path / "x.safetensors", b"{}", length=length)
    tracemalloc.start()
    refused(path, "checkpoint-damaged")
    assert tracemalloc.get_traced_memory()[1] < 2_000_000
    tracemalloc.stop()


class Canary:
    def __reduce__(self) -> tuple[object, ...]:
        return (os.system, ("touch canary-has-fired",))


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".pkl", ".joblib", ".h5", ".keras", ".safetensors"])
def test_files_that_can_run_code_are_never_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / f"model{suffix}"
    path.write_bytes(pickle.dumps(Canary()))
    assert "can run code" in refused(path, "checkpoint-can-run-code").reason
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps(Canary()))
    refused(path, "checkpoint-can-run-code")
    assert not (tmp_path / "canary-has-fired").exists()


def test_a_safetensors_file_of_another_tool(tmp_path: Path) -> None:
    import safetensors.torch

    path = tmp_path / "x.safetensors"
    safetensors.torch.save_file({"a": torch.zeros(2)}, path)
    refused(path, "checkpoint-foreign")
    safetensors.torch.save_file({"a": torch.zeros(2)}, path, metadata={"format": "pt"})
    assert "seal" in refused(path, "checkpoint-foreign").reason


def test_a_newer_format_names_both(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.safetensors"
    monkeypatch.setattr(checkpoint, "FORMAT", 9)
    checkpoint.save(path, tensors(), STATE)
    monkeypatch.undo()
    assert "format 9; this one reads format 2" in refused(path, "checkpoint-newer").reason


def test_an_older_format_is_refused_in_plain_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.safetensors"
    monkeypatch.setattr(checkpoint, "FORMAT", 1)
    checkpoint.save(path, tensors(), STATE)
    monkeypatch.undo()
    error = refused(path, "checkpoint-older")
    assert error.reason == "made by an older convoscope (format 1; this one reads format 2)"
    assert error.hint == "train again with this version, or use the older one"


def test_weights_that_do_not_fit_are_listed(tmp_path: Path) -> None:
    network = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 2))
    weights = {"0.weight": torch.zeros(3, 3), "0.bias": torch.zeros(2, dtype=torch.float64), "extra": torch.zeros(1)}
    before = {name: value.clone() for name, value in network.state_dict().items()}
    with pytest.raises(ModelFileError) as caught:
        checkpoint.load_weights(network, weights, tmp_path / "x")
    assert caught.value.code == "weights-do-not-fit"
    for part in ("1.weight: missing", "1.bias: missing", "extra: not in the model", "0.weight: [3, 3]"):
        assert part in caught.value.reason
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())


def test_the_newest_whole_checkpoint_wins(saved: Path) -> None:
    checkpoint.keep_previous(saved.parent)
    checkpoint.save(saved, tensors(), STATE | {"epoch": 4})
    _, state, passed = checkpoint.newest_valid(saved.parent)
    assert state["epoch"] == 4
    assert not passed
    saved.write_bytes(saved.read_bytes()[:-10])
    _, state, passed = checkpoint.newest_valid(saved.parent)
    assert state["epoch"] == 3
    assert [error.code for error in passed] == ["checkpoint-damaged"]
    assert str(saved) in str(passed[0])
    (saved.parent / "previous.safetensors").unlink()
    with pytest.raises(ModelFileError):
        checkpoint.newest_valid(saved.parent)


def test_a_checkpoint_replaced_while_it_is_read_is_the_old_or_the_new_one(saved: Path) -> None:
    """Somebody predicts with a run that is being trained."""
    small = checkpoint.pack(tensors(), STATE)
    large = checkpoint.pack(tensors() | {"model.more": torch.zeros(5000)}, STATE | {"epoch": 4})
    stop = threading.Event()

    def replace() -> None:
        while not stop.is_set():
            for content in (large, small):
                (saved.parent / "new").write_bytes(content)
                (saved.parent / "new").replace(saved)

    thread = threading.Thread(target=replace)
    thread.start()
    try:
        seen = set()
        for _ in range(300):
            loaded, state = checkpoint.load(saved)
            seen.add((state["epoch"], "model.more" in loaded))
    finally:
        stop.set()
        thread.join()
    assert seen == {(3, False), (4, True)}


def test_state_is_json_and_floats_survive(saved: Path) -> None:
    header = saved.read_bytes()
    length = int.from_bytes(header[:8], "little")
    metadata = json.loads(header[8 : 8 + length])["__metadata__"]
    assert json.loads(metadata["state"])["rate"] == 0.1 + 0.2
