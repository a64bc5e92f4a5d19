"""How many images go at once: as many as suit the memory, with the same answers; and what is said where none do."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from convoscope.errors import ConvoscopeError, MachineError
from convoscope.models import footprint, memory
from convoscope.training import Run, relearn, resume, train
from convoscope.training.core import inference_network
from convoscope.training.core.normalisation import Normalisation
from convoscope.training.core.step_memory import StepMemory
from tests.support.runs import Listener

MODEL = "conv(8) norm relu maxpool conv(8) relu globalavg dense"
QUICK: dict[str, Any] = {"model": MODEL, "epochs": 2, "batch_size": 16, "learning_rate": 0.02, "precision": "float32"}


@pytest.fixture(scope="module")
def run(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return train(pictures, output=tmp_path_factory.mktemp("runs") / "first", **QUICK)


@pytest.fixture
def batches(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many images each convolution was given from now on, but for single ones."""
    seen: list[int] = []
    real: Callable[..., torch.Tensor] = torch.nn.Conv2d.forward

    def forward(self: torch.nn.Conv2d, images: torch.Tensor) -> torch.Tensor:
        if len(images) > 1:
            seen.append(len(images))
        return real(self, images)

    monkeypatch.setattr(torch.nn.Conv2d, "forward", forward)
    return seen


def allow(monkeypatch: pytest.MonkeyPatch, images: int, run: Run) -> None:
    """A budget that so many images of the run's need."""
    form = run.settings.input
    one = footprint(run.network(), (form.channels, form.height, form.width))
    monkeypatch.setattr(inference_network, "_WORKING_SET", images * one.answering)
    monkeypatch.setattr(inference_network, "_FEWEST", 1)
    monkeypatch.setattr(memory, "BUDGET", images * one.answering)
    monkeypatch.setattr(memory.Footprint.at_once, "__kwdefaults__", {"most": 256, "budget": images * one.answering})


def noise(count: int, side: int = 12, channels: int = 1) -> Any:
    return np.random.default_rng(0).integers(0, 256, (count, side, side, channels), dtype=np.uint8)


def by_torch(run: Run, pixels: Any) -> Any:
    """The answers of the network as it was trained, all at once."""
    normalisation = Normalisation(mean=run.settings.mean, std=run.settings.std)
    with torch.inference_mode():
        scores = run.network()(normalisation(torch.from_numpy(pixels).permute(0, 3, 1, 2).float()))
        return run.objective().answers(scores).numpy()


def test_answers_come_from_batches_of_one_size(run: Run, batches: list[int]) -> None:
    """And so an image has the same answer to the last digit, whatever the others are."""
    pixels = noise(150)
    found = run.scores(pixels)
    assert set(batches) == {64}
    np.testing.assert_allclose(found, by_torch(run, pixels), rtol=1e-5, atol=1e-6)
    order = np.random.default_rng(1).permutation(150)
    assert np.array_equal(run.scores(pixels[order]), found[order])
    assert np.array_equal(np.concatenate([run.scores(pixels[row : row + 1]) for row in range(9)]), found[:9])
    assert np.array_equal(run.scores_and_distances(pixels, order)[0], found[order])
    assert [list(each.scores.values()) for each in run.predict(list(pixels[:5, :, :, 0]))] == found[:5].tolist()
    assert len(run.scores(pixels[:0])) == 0


def test_large_images_go_in_smaller_batches(run: Run, batches: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    pixels, whole = noise(50), run.scores(noise(50))
    for fit, together in ((7, 4), (2, 2), (1, 1)):
        allow(monkeypatch, fit, run)
        batches.clear()
        np.testing.assert_allclose(run.scores(pixels), whole, rtol=1e-5, atol=1e-7)
        assert set(batches) == ({together} if together > 1 else set())
    monkeypatch.setattr(inference_network, "_FEWEST", 4)
    assert run.at_once() == 4  # fewer are slow, and two or three times the memory of one image is there


def test_where_little_is_free_fewer_go_at_once(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    form = run.settings.input
    one = footprint(run.network(), (form.channels, form.height, form.width)).answering
    told = []
    for free in (None, 10**12, 2 * 5 * one, 0):
        monkeypatch.setattr(inference_network, "free_memory", lambda free=free: free)
        told.append(run.at_once())
    assert told == [64, 64, 5, 1]


def test_a_run_answers_on_the_device_that_was_named(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    assert Run.open(run.folder).device == ("cuda" if torch.cuda.is_available() else "cpu")
    assert Run.open(run.folder, device="cpu").device == "cpu"
    for device, code in (("abacus", "device-unknown"), ("cuda:99", "device-absent")):
        with pytest.raises(ConvoscopeError) as caught:
            Run.open(run.folder, device=device)
        assert caught.value.code == code
    # A device that computes nothing shows that all goes there, and that as many go as fit onto a card.
    elsewhere = inference_network.InferenceNetwork(run.network(), (1, 12, 12), "meta")
    assert elsewhere.at_once() == 256
    monkeypatch.setattr(torch.Tensor, "cpu", lambda self: self)
    assert elsewhere(torch.zeros(3, 1, 12, 12), 4)[0].device.type == "meta"
    assert next(run.network().parameters()).device.type == "cpu"


def test_validation_takes_no_more_at_once_than_training(
    pictures: Path, tmp_path: Path, batches: list[int], run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(pictures, output=tmp_path / "small", **QUICK | {"batch_size": 4})
    assert max(batches) == 12  # all of the validation images; up to 32 would go
    allow(monkeypatch, 2, run)
    batches.clear()
    train(pictures, output=tmp_path / "large", **QUICK | {"batch_size": 4})
    assert max(batches) == 4


def test_features_of_large_images_go_in_smaller_batches(
    pictures: Path, tmp_path: Path, batches: list[int], run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CONVOSCOPE_CACHE", str(tmp_path / "cache"))
    options: dict[str, Any] = {"augmented_views": 1, "precision": "float32", "feature_layer": "globalavg"}
    plain = relearn(run, pictures, output=tmp_path / "plain", **options)
    assert max(batches) == 64
    monkeypatch.setenv("CONVOSCOPE_CACHE", str(tmp_path / "other"))
    allow(monkeypatch, 5, run)
    batches.clear()
    again = relearn(run, pictures, output=tmp_path / "again", **options)
    assert max(batches) == 4
    for name, value in plain.weights().items():
        torch.testing.assert_close(again.weights()[name], value, rtol=1e-2, atol=1e-3)


@pytest.mark.parametrize(("count", "side", "channels"), [(700, 28, 1), (300, 64, 3), (40, 200, 3), (3, 1100, 3)])
def test_mean_and_standard_deviation_do_not_depend_on_how_many_go_at_once(count: int, side: int, channels: int) -> None:
    """All sums are whole numbers below 2^53, exact in any order: the very bits of 256 images at once."""
    pixels, rows = noise(count, side, channels), np.arange(0, count, 2)
    total, squares, seen = np.zeros(channels), np.zeros(channels), 0
    for begin in range(0, len(rows), 256):
        chunk = pixels[rows[begin : begin + 256]].reshape(-1, channels).astype(np.float64)
        total, squares, seen = total + chunk.sum(0), squares + (chunk * chunk).sum(0), seen + len(chunk)
    mean = total / seen
    found = Normalisation.of(pixels, rows)
    assert found.mean == tuple(mean / 255)
    assert found.std == tuple(np.sqrt(squares / seen - mean * mean) / 255)


# --- what is said where memory does not suffice ---


def step(image: int = 50_000_000, batch: int = 64) -> StepMemory:
    return StepMemory(batch=batch, size=(224, 224), image=image, weights=0, device="cpu")


def test_a_batch_to_try(monkeypatch: pytest.MonkeyPatch) -> None:
    told = step().error(1_800_000_000)
    assert str(told) == "memory: a batch of 64 at 224x224 needs about 3.2 GB, 1.8 GB are free"
    assert told.hint == "try --set batch_size=16"
    assert step().error(300_000_000).hint == "try --set batch_size=4"
    assert step().error(None, saved=True).reason.endswith("the last checkpoint is kept")
    for none in (step(batch=1).error(5), step().error(1_000)):
        assert none.hint == "try smaller images, --size 112x112, or a smaller model"


def test_what_surely_does_not_fit_is_refused_and_what_may_not_is_warned_of(monkeypatch: pytest.MonkeyPatch) -> None:
    listener = Listener()
    for free, swap in ((10_000_000_000, 0), (2_500_000_000, 0), (1_000_000_000, 2_000_000_000)):
        monkeypatch.setattr(
            "convoscope.training.core.step_memory.free_memory",
            lambda swap=False, free=free, more=swap: free + more * swap,
        )
        step().check(listener)
    assert [text.partition(",")[2] for text in listener.warned] == [
        " 2.5 GB are free; should the system end the training: try --set batch_size=16",
        " 1.0 GB are free; should the system end the training: try --set batch_size=16",
    ]
    monkeypatch.setattr("convoscope.training.core.step_memory.free_memory", lambda swap=False: 2_000_000_000)
    with pytest.raises(MachineError) as caught:
        step().check(listener)
    assert caught.value.code == "out-of-memory"


def test_a_training_that_cannot_fit_leaves_nothing(
    pictures: Path, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    longer = train(pictures, output=tmp_path / "longer", **QUICK)
    monkeypatch.setattr("convoscope.training.core.step_memory.free_memory", lambda swap=False: 100_000)
    begins: tuple[Callable[[], Run], ...] = (
        lambda: train(pictures, output=tmp_path / "new", **QUICK),
        lambda: relearn(run, pictures, output=tmp_path / "new", unfreeze="all", batch_size=16),
        lambda: resume(longer.folder, epochs=3),
    )
    for begin in begins:
        with pytest.raises(MachineError, match=r"a batch of 16 at 12x12 needs about .*, 100 kB are free") as caught:
            begin()
        assert caught.value.code == "out-of-memory"
    assert not (tmp_path / "new").exists()
    assert len(Run.open(longer.folder).history) == 2


PROGRAM = """
import resource, sys
import torch, convoscope.training.commands.transfer, convoscope.evaluation, convoscope.explain
from convoscope import cli
torch.set_num_threads(1)
torch.nn.Conv2d(1, 1, 3)(torch.zeros(1, 1, 8, 8)).sum().backward()
taken = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (taken + int(sys.argv[1]) * 1_000_000,) * 2)
sys.exit(cli.run(sys.argv[2:]))
"""


@pytest.fixture(scope="module")
def large(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run whose network takes some 140 MB for each image."""
    root = tmp_path_factory.mktemp("large")
    for folder in sorted(pictures.iterdir())[:2]:
        (root / "few" / folder.name).mkdir(parents=True)
        for number in range(6):
            os.link(folder / f"{number}.png", root / "few" / folder.name / f"{number}.png")
    model = "conv(64) relu globalavg dense"
    return train(root / "few", model, output=root / "run", size=512, epochs=1, batch_size=2, precision="float32")


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits a process's memory as Linux does")
@pytest.mark.parametrize(
    ("command", "said", "hint"),
    [
        ("predict RUN FEW", "one image at 512x512 needs about ", "hint: close other programs, or train a network for smaller images: convoscope train ... --size 256x256"),
        ("test RUN", "at 512x512 needs about ", "--size 256x256"),
        ("train FEW --size 512 --model conv(64)_relu_globalavg_dense --set batch_size=4 --output OUT", "a batch of 4 at 512x512 needs about ", "hint: try "),
        ("relearn RUN FEW --unfreeze all --output OUT", "at 512x512 needs about ", "hint: close other programs"),
    ],
)  # fmt: skip
def test_a_command_without_memory_says_so(command: str, said: str, hint: str, large: Run, tmp_path: Path) -> None:
    places = {"RUN": str(large.folder), "FEW": str(large.folder.parent / "few"), "OUT": str(tmp_path / "out")}
    words = [places.get(word, word.replace("_", " ") if "(" in word else word) for word in command.split()]
    ended = subprocess.run([sys.executable, "-c", PROGRAM, "100", *words], capture_output=True, text=True, check=False)
    assert ended.returncode == 5, ended.stderr
    error, told = ended.stderr.strip().splitlines()[-2:]
    assert error.startswith("error: memory: ") and said in error and " free" in error
    assert hint in told
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits a process's memory as Linux does")
def test_predicting_takes_what_a_few_images_take(large: Run) -> None:
    """All twelve at once would take 1.7 GB."""
    words = [sys.executable, "-c", PROGRAM, "1000", "predict", str(large.folder), str(large.folder.parent / "few")]
    ended = subprocess.run(words, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
