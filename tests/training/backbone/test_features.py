"""Features: the cache that keeps them, the norms folded into convolutions, and nothing that depends on a clock."""

import contextlib
import errno
import itertools
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from convoscope import data, evaluation, models
from convoscope.training import Run, resume
from convoscope.training.backbone.feature_store import FeatureStore
from convoscope.training.backbone.features import Features, recall_features
from convoscope.training.backbone.sources import open_backbone
from convoscope.training.core.norm_folding import fold_norms
from tests.support.runs import BACKBONE, OTHERS, Listener, fingerprint, taught


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
            assert part.running_mean is not None and part.running_var is not None
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
    monkeypatch.setattr("convoscope.training.backbone.features.has_bfloat16", lambda _: True)
    assert np.array_equal(Features(taken).of(prepared, rows), found[0])  # images too small for bfloat16 to be worth it
    monkeypatch.setattr("convoscope.training.backbone.features._LARGE", 0)
    quick, again = Features(taken), Features(taken)
    close = quick.of(prepared, rows)
    assert (quick.mode.precision, quick.found) == ("bfloat16", 0) and not np.array_equal(close, found[0])
    assert np.array_equal(quick.of(prepared, rows, exact=True), found[0])
    np.testing.assert_array_equal(again.of(prepared, rows), close)
    assert again.mode.precision == "bfloat16" and again.computed == 0
    monkeypatch.setenv("CONVOSCOPE_CACHE", str(tmp_path / "other"))
    monkeypatch.setattr("convoscope.training.backbone.features._CLOSE", 1.1)
    far = Features(taken)
    assert np.array_equal(far.of(prepared, rows), found[0]) and "not bfloat16" in far.mode.reason


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
    assert not list((tmp_path / "run").glob("*.safetensors"))
    listener = Listener()
    resume(tmp_path / "run", reporter=listener)
    assert listener.heard("64 of 240 were cached")


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


def test_a_test_takes_the_features_that_relearning_left_in_the_cache(
    backbone: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CONVOSCOPE_CACHE", str(tmp_path / "cache"))
    run = taught(backbone, OTHERS, output=tmp_path / "run")
    prepared = run.prepared()
    rows = np.arange(len(prepared.dataset))
    fresh, plain = Run.open(run.folder), Run.open(run.folder)
    recall_features(fresh)
    assert fresh.unanswered(prepared.pixels, rows) == len(rows)  # other pixels, though equal ones
    own = fresh.prepared().pixels
    assert fresh.unanswered(own, rows) == 0
    answers, distances = fresh.scores_and_distances(own, rows)
    assert distances is not None
    wanted, far = plain.scores_and_distances(prepared.pixels, rows)
    assert np.array_equal(answers, wanted)
    assert far is not None and np.array_equal(distances, far)
    ticks: list[tuple[int, int]] = []
    evaluation.test(Run.open(run.folder), invariance=False, progress=lambda *done: ticks.append(done))
    assert {total for _, total in ticks} == {0}
    changed = Run.open(run.folder)
    changed.settings = run.settings.model_copy(
        update={"relearned": run.settings.relearned.model_copy(update={"digest": "0" * 64})}  # type: ignore[union-attr]
    )
    recall_features(changed)
    assert not changed.has_features()
