"""A training that is stopped, killed or starved ends, once resumed, at the very weights of an undisturbed one."""

import errno
import io
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from convoscope.errors import Interrupted, InUseError, MachineError, ModelFileError, UsageError
from convoscope.files import FolderLock
from convoscope.training import Reporter, Run, resume, train
from convoscope.training.core import checkpoint
from tests.support.runs import At, Listener, events, fingerprint

EPOCHS = 3
STEPS = 6  # in an epoch: 96 training images in batches of 16
RECIPE: dict[str, Any] = {
    "model": "conv(6) norm relu maxpool conv(8) norm relu globalavg dropout(0.3) dense",
    "epochs": EPOCHS,
    "batch_size": 16,
    "learning_rate": 0.01,
    "flip": True,
    "rotate": 15.0,
    "shift": 0.1,
    "erase": 0.2,
    "crop": 0.6,
    "start_size": 0.7,
    "ema": 0.5,
    "mixup": 0.5,
    "precision": "float32",  # a timed choice may differ between two trainings; a resumed one keeps its own
}


def send(number: int) -> Callable[[], None]:
    return lambda: os.kill(os.getpid(), number)


@pytest.fixture(scope="module")
def straight(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., dict[str, str]]:
    """The undisturbed training's fingerprint, for any change of the recipe; each is trained once."""
    known: dict[str, dict[str, str]] = {}

    def of(**changes: Any) -> dict[str, str]:
        key = repr(sorted(changes.items()))
        if key not in known:
            folder = tmp_path_factory.mktemp("straight") / "run"
            train(pictures, output=folder, **RECIPE | changes)
            known[key] = fingerprint(folder)
        return known[key]

    return of


@pytest.mark.parametrize("optimizer", ["sgd", "adamw", "muon"])
@pytest.mark.parametrize("schedule", ["cosine", "linear"])
@pytest.mark.parametrize("stops", [(1,), (3,), (6,), (7,), (EPOCHS * STEPS,), (2, 1, 9)], ids=str)
def test_stopped_and_resumed(
    pictures: Path,
    tmp_path: Path,
    straight: Callable[..., dict[str, str]],
    optimizer: str,
    schedule: str,
    stops: tuple[int, ...],
) -> None:
    changes = {"optimizer": optimizer, "schedule": schedule}
    folder = tmp_path / "run"
    seen: list[tuple[int, int]] = []
    for number, stop in enumerate(stops):
        reporter = At(stop, send(signal.SIGINT))
        with pytest.raises(Interrupted) as caught:
            if number == 0:
                train(pictures, output=folder, reporter=reporter, **RECIPE | changes)
            else:
                resume(folder, reporter=reporter)
        assert caught.value.code == "interrupted"
        assert caught.value.exit_code == 130
        seen += reporter.seen
    last = At(0, lambda: None)
    resume(folder, reporter=last)
    seen += last.seen
    assert fingerprint(folder) == straight(**changes)
    # No step twice, none left out.
    assert seen == [(epoch, step) for epoch in range(1, EPOCHS + 1) for step in range(1, STEPS + 1)]
    steps = [event["step"] for event in events(folder) if event["event"] == "step"]
    assert steps == list(range(1, EPOCHS * STEPS + 1))
    assert len((folder / "metrics.csv").read_text().splitlines()) == EPOCHS + 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_each_signal_saves_and_says_so(pictures: Path, tmp_path: Path, number: int) -> None:
    before = signal.getsignal(number)
    with pytest.raises(Interrupted) as caught:
        train(pictures, output=tmp_path / "run", reporter=At(4, send(number)), **RECIPE)
    assert caught.value.exit_code == 128 + number
    assert "the state is saved" in caught.value.reason
    assert f"--resume {tmp_path / 'run'}" in caught.value.hint
    assert signal.getsignal(number) is before
    _, state = checkpoint.load(tmp_path / "run" / "last.safetensors")
    assert (state["progress"]["epoch"], state["progress"]["step"]) == (0, 4)


@pytest.mark.parametrize("step", [2, STEPS])  # the last step of an epoch is followed by validation
def test_a_second_signal_leaves_at_once(
    pictures: Path, tmp_path: Path, straight: Callable[..., dict[str, str]], step: int
) -> None:
    folder = tmp_path / "run"
    assert _in_a_process(pictures, folder, "twice", float(step), {}) == 128 + signal.SIGINT
    resume(folder)
    assert fingerprint(folder) == straight(save_every=0.0)


def test_a_signal_between_the_first_files_and_the_first_step_leaves_nothing(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from convoscope.training.commands import train as command

    def interrupted(*_: Any) -> None:
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(command, "fit", interrupted)
    with pytest.raises(Interrupted) as caught:
        train(pictures, output=tmp_path / "run", **RECIPE)
    assert (caught.value.code, caught.value.exit_code) == ("interrupted-early", 143)
    assert "nothing was changed" in caught.value.reason
    assert not (tmp_path / "run").exists()


def test_a_signal_while_images_are_decoded_leaves_nothing(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CONVOSCOPE_CACHE", str(tmp_path / "cache"))

    class Early(Reporter):
        def progress(self, what: str, done: int, total: int) -> None:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(Interrupted) as caught:
        train(pictures, output=tmp_path / "run", reporter=Early(), **RECIPE)
    assert caught.value.code == "interrupted-early"
    assert not (tmp_path / "run").exists()


def test_a_signal_while_a_network_is_tried_is_not_taken_for_the_networks_fault(pictures: Path, tmp_path: Path) -> None:
    class Struck(nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            os.kill(os.getpid(), signal.SIGINT)
            return images.new_zeros(len(images), 3)

    with pytest.raises(Interrupted) as caught:
        train(pictures, output=tmp_path / "run", **RECIPE | {"model": Struck()})
    assert (caught.value.code, caught.value.exit_code) == ("interrupted-early", 130)
    assert not (tmp_path / "run").exists()


def test_a_signal_while_validating(
    pictures: Path, tmp_path: Path, straight: Callable[..., dict[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    from convoscope.training.fit import loop

    original = loop.evaluate

    begun = [False]

    def interrupted(*arguments: Any) -> Any:
        if begun[0]:  # before that, a part of the images is timed
            os.kill(os.getpid(), signal.SIGTERM)
        return original(*arguments)

    class Told(Reporter):
        def start(self, folder: Path, epochs: int) -> None:
            begun[0] = True

    with monkeypatch.context() as patch:
        patch.setattr(loop, "evaluate", interrupted)
        with pytest.raises(Interrupted):
            train(pictures, output=tmp_path / "run", reporter=Told(), **RECIPE)
    _, state = checkpoint.load(tmp_path / "run" / "last.safetensors")
    assert (state["progress"]["epoch"], state["progress"]["step"]) == (0, STEPS)
    resume(tmp_path / "run")
    assert fingerprint(tmp_path / "run") == straight()


def test_more_epochs_later(pictures: Path, tmp_path: Path) -> None:
    run = train(pictures, output=tmp_path / "run", **RECIPE)
    longer = resume(run.folder, epochs=EPOCHS + 2)
    assert [row["epoch"] for row in longer.history] == list(range(1, EPOCHS + 3))
    assert longer.settings.recipe.epochs == EPOCHS + 2
    assert longer.history[:EPOCHS] == run.history
    with pytest.raises(UsageError) as caught:
        resume(run.folder, epochs=2)
    assert caught.value.code == "epochs-done"


def test_a_finished_run_stays_finished(pictures: Path, tmp_path: Path) -> None:
    run = train(pictures, output=tmp_path / "run", **RECIPE)
    before = fingerprint(run.folder)
    listener = Listener()
    resume(run.folder, reporter=listener)
    assert fingerprint(run.folder) == before
    assert listener.said == ["all its 3 epochs are done; --epochs 6 would go on to twice as many"]


def test_resumed_in_another_process_another_folder_and_with_other_hashes(
    pictures: Path, tmp_path: Path, straight: Callable[..., dict[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither the working folder nor Python's hashes decide anything: the source is kept as a full path, sets are not relied on."""
    monkeypatch.chdir(pictures.parent)
    with pytest.raises(Interrupted):
        train(pictures.name, output=tmp_path / "run", reporter=At(STEPS + 2, send(signal.SIGINT)), **RECIPE)
    monkeypatch.chdir(tmp_path)
    command = [sys.executable, "-m", "convoscope", "train", "--resume", "run", "--no-test"]
    subprocess.run(command, env=os.environ | {"PYTHONHASHSEED": "4711"}, capture_output=True, check=True)
    assert fingerprint(tmp_path / "run") == straight()


def test_what_changed_since_is_said_and_written_down(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from convoscope.training.runs import settings

    with pytest.raises(Interrupted):
        train(pictures, output=tmp_path / "run", reporter=At(2, send(signal.SIGINT)), **RECIPE)
    now = settings.versions()
    monkeypatch.setattr(settings, "versions", lambda: now | {"torch": "99.9", "processor": "abacus"})
    listener = Listener()
    run = resume(tmp_path / "run", reporter=listener)
    changes = [f"torch 99.9 now, {now['torch']} before", f"processor abacus now, {now['processor']} before"]
    assert listener.warned == [f"{change}: the result may differ in the last digits" for change in changes]
    assert [note for note in run.settings.notes if note.startswith("resumed with")] == [
        f"resumed with {c}" for c in changes
    ]
    assert "resumed with torch 99.9 now" in (run.folder / "run.toml").read_text("utf-8")


# --- what has to be saved ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "left_out",
    [
        "model.conv1.weight", "model.norm1.running_mean", "model.norm1.running_var", "average.conv1.weight", "optimizer.0.0.exp_avg",
        "optimizer.0.0.exp_avg_sq", "optimizer.0.0.step", "epoch", "step", "loss_sum", "right_sum", "images", "best_value", "history",
    ],
)  # fmt: skip
def test_leaving_out_any_saved_item_shows(
    pictures: Path, tmp_path: Path, straight: Callable[..., dict[str, str]], left_out: str
) -> None:
    """Each thing in a checkpoint is there for a reason: without it the resumed training differs or is refused."""
    folder = tmp_path / "run"
    with pytest.raises(Interrupted):
        train(pictures, output=folder, reporter=At(STEPS + 3, send(signal.SIGINT)), **RECIPE)
    tensors, state = checkpoint.load(folder / "last.safetensors")
    if left_out in tensors:
        tensors[left_out] = tensors[left_out] * 0
    else:
        empty = {"best_value": [99, 2.0, 0.0], "history": []}
        assert left_out in state["progress"]
        state["progress"][left_out] = empty.get(left_out, 0)
    checkpoint.save(folder / "last.safetensors", tensors, state)
    if left_out in ("epoch", "history"):  # the one contradicts the other
        with pytest.raises(ModelFileError, match="progress"):
            resume(folder)
    else:
        resume(folder)
        assert fingerprint(folder) != straight()


# --- killed ------------------------------------------------------------------------------------------------------------


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _doomed(source: Path, folder: Path, kind: str, moment: float, changes: dict[str, Any]) -> None:
    """In a process of its own: begin or go on with a training, and die at a moment."""
    import builtins

    left = int(moment)
    reporter: Reporter = Reporter()

    def counted(original: Callable[..., Any], after: bool) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            nonlocal left
            left -= 1
            if left == 0 and not after:
                _die()
            result = original(*arguments, **options)
            if left == 0 and after:
                _die()
            return result

        return call

    if kind == "step":
        reporter = At(left, _die)
    elif kind == "twice":

        def stop_twice() -> None:
            os.kill(os.getpid(), signal.SIGINT)
            checkpoint.save = lambda *_: signal.pause()  # a disk that does not answer: only the second signal ends it
            threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()

        reporter = At(left, stop_twice)
    elif kind == "write":  # before or after the n-th open, sync, replace or link
        after = bool(int(moment * 10) % 2)
        for name in ("fsync", "replace", "link", "unlink"):
            setattr(os, name, counted(getattr(os, name), after))
        builtins.open = counted(builtins.open, after)
    elif kind == "clock":
        threading.Timer(moment, _die).start()
    recipe = RECIPE | changes | {"save_every": 0.0}
    if (folder / "run.toml").exists():
        resume(folder, reporter=reporter)
    else:
        train(source, output=folder, reporter=reporter, **recipe)


def _in_a_process(*arguments: Any) -> int:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        ["convoscope.training.commands.train", "convoscope.models.network", "numpy", "PIL.Image"]
    )
    process = context.Process(target=_doomed, args=arguments)
    process.start()
    process.join(120)
    assert process.exitcode is not None, "the process hangs"
    return process.exitcode


@pytest.mark.slow
def test_killed_at_fifty_moments(pictures: Path, tmp_path: Path, straight: Callable[..., dict[str, str]]) -> None:
    """kill -9: between steps, at a random time, and before or after single system calls of a checkpoint's writing."""
    rng = np.random.default_rng(int(os.environ.get("CONVOSCOPE_TEST_SEED", "0")))
    moments: list[tuple[str, float]] = [("write", float(rng.integers(3, 60)) + rng.random()) for _ in range(22)]
    moments += [("step", float(rng.integers(1, 8))) for _ in range(18)]
    moments += [("clock", float(rng.random() * 0.6)) for _ in range(10)]
    rng.shuffle(moments)
    killed, runs = 0, 0
    folder = tmp_path / "run-0"
    for kind, moment in moments:
        code = _in_a_process(pictures, folder, str(kind), float(moment), {})
        if code == 0:  # this training came to its end; the next one begins
            assert fingerprint(folder) == straight()
            runs += 1
            folder = tmp_path / f"run-{runs}"
        else:
            assert code == -signal.SIGKILL
            killed += 1
    while _in_a_process(pictures, folder, "none", 0.0, {}) != 0:
        raise AssertionError("a training that is left alone must end")
    assert fingerprint(folder) == straight()
    assert not list(folder.glob(".*.tmp"))
    assert killed >= 40


# --- disks that fail ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EACCES, errno.EDQUOT])
@pytest.mark.parametrize("call", ["fsync", "replace", "write"])
@pytest.mark.parametrize("lasting", [False, True], ids=["once", "for good"])
def test_a_write_that_fails(
    pictures: Path,
    tmp_path: Path,
    straight: Callable[..., dict[str, str]],
    monkeypatch: pytest.MonkeyPatch,
    number: int,
    call: str,
    lasting: bool,
) -> None:
    """A checkpoint that cannot be written once is written at the next save; if it never can, the last one is still there."""
    folder = tmp_path / "run"
    original = checkpoint.save
    saves = 0

    def failing(path: Path, *arguments: Any) -> None:
        nonlocal saves
        saves += 1
        with monkeypatch.context() as patch:
            if saves == 5 or (lasting and saves >= 5):

                def fail(*_: Any, **__: Any) -> Any:
                    raise OSError(number, os.strerror(number), str(path))

                if call == "write":
                    patch.setattr("convoscope.files.open", fail, raising=False)
                else:
                    patch.setattr(os, call, fail)
            original(path, *arguments)

    recipe = RECIPE | {"save_every": 0.0}
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "save", failing)
        if lasting:
            with pytest.raises(MachineError) as caught:
                train(pictures, output=folder, **recipe)
            assert caught.value.code in ("disk-full", "no-permission", "system-error")
        else:
            train(pictures, output=folder, **recipe)
    if lasting:
        checkpoint.load(folder / "last.safetensors")
        resume(folder)
    assert fingerprint(folder) == straight()
    assert not list(folder.glob(".*.tmp"))


def test_no_room_is_reported_before_training(pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:

    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**9, 10**9 - 5000, 5000))
    with pytest.raises(MachineError) as caught:
        train(pictures, output=tmp_path / "run", **RECIPE)
    assert caught.value.code == "disk-full"
    assert "5.0 kB are free" in caught.value.reason
    assert not (tmp_path / "run").exists()


def test_every_single_call_may_fail_once(
    pictures: Path, tmp_path: Path, straight: Callable[..., dict[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The n-th sync, replacement or link of a whole training fails, for each n: it goes on, or can be gone on with by hand."""
    short = RECIPE | {"epochs": 1, "batch_size": 48, "save_every": 0.0}
    expected = straight(epochs=1, batch_size=48)
    kept_on, stopped = 0, 0
    for number in range(1, 200):
        left = number

        def counted(original: Callable[..., Any]) -> Callable[..., Any]:
            def call(*arguments: Any, **options: Any) -> Any:
                nonlocal left
                left -= 1
                if left == 0:
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                return original(*arguments, **options)

            return call

        folder = tmp_path / f"run-{number}"
        with monkeypatch.context() as patch:
            for name in ("fsync", "replace", "link"):
                patch.setattr(os, name, counted(getattr(os, name)))
            try:
                train(pictures, output=folder, **short)
                kept_on += 1
            except MachineError as error:
                assert error.code == "disk-full"
                stopped += 1
        if not folder.exists():
            train(pictures, output=folder, **short)
        resume(folder)
        assert fingerprint(folder) == expected, number
        assert not list(folder.glob(".*.tmp"))
        if left > 0:  # fewer calls than that are made
            break
    assert kept_on >= 5
    assert stopped >= 5


def test_a_disk_that_fills_up_ends_tensorboards_view_with_a_warning_and_the_run_with_one_sentence(
    pictures: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    from convoscope.training.core.event_log import EventLog

    class Full(io.BytesIO):
        def write(self, _: Any) -> int:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with EventLog(tmp_path, [], 0) as journal:
        journal.step(1, 1, 0.5, 0.1)
        records = journal._board._records
        assert records is not None
        records._file = Full()
        with pytest.warns(UserWarning, match="TensorBoard's curves end here: the disk is full") as warned:
            journal.step(2, 1, 0.5, 0.1)
            journal.step(3, 1, 0.5, 0.1)
        assert len(warned) == 1
        assert [event["step"] for event in events(tmp_path)] == [1, 2, 3]
        journal._events.close()
        journal._events = Path("/dev/full").open("ab", buffering=0)  # noqa: SIM115 - the journal closes it
        with pytest.raises(MachineError) as caught:
            journal.step(4, 1, 0.5, 0.1)
    assert (caught.value.code, caught.value.path) == ("disk-full", str(tmp_path / "events.jsonl"))
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("steps", "told", "command"),
    [
        (1, "nothing of the training is saved yet", "start again"),
        (STEPS + 2, "the training is saved up to epoch 2, step 1", "go on with: convoscope train --resume"),
    ],
)
def test_a_run_folder_that_goes_away_is_named_with_what_is_saved(
    pictures: Path, tmp_path: Path, straight: Callable[..., dict[str, str]], steps: int, told: str, command: str
) -> None:
    folder, away = tmp_path / "run", tmp_path / "away"
    with pytest.raises(MachineError) as caught:
        train(pictures, output=folder, reporter=At(steps, lambda: folder.rename(away)), **RECIPE | {"save_every": 0.0})
    assert caught.value.exit_code == 5
    assert caught.value.reason == f"the system says: No such file or directory; {told}"
    assert caught.value.hint.startswith(f"fix that, then {command}")
    if steps > 1:
        away.rename(folder)
        resume(folder)
        assert fingerprint(folder) == straight(save_every=0.0)


def test_another_process_that_was_first_in_a_folder_keeps_it(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("convoscope.training.runs.request.new_folder", lambda *_: tmp_path)
    with FolderLock(tmp_path), pytest.raises(InUseError):
        train(pictures, **RECIPE)
    assert [entry.name for entry in tmp_path.iterdir()] == [".lock"]


def test_a_folder_that_may_not_be_written(tmp_path: Path, pictures: Path) -> None:
    blocked = tmp_path / "file"
    blocked.touch()
    with pytest.raises(MachineError) as caught:
        train(pictures, output=blocked / "run", **RECIPE)
    assert caught.value.code == "run-unwritable"


# --- two at a time -----------------------------------------------------------------------------------------------------


def test_one_process_at_a_time(pictures: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"

    def intrude() -> None:
        with pytest.raises(InUseError) as caught:
            resume(folder)
        assert caught.value.code == "folder-in-use"
        assert f"process {os.getpid()} since {time.strftime('%Y')}" in caught.value.reason
        with pytest.raises(InUseError):
            train(pictures, output=folder, **RECIPE)

    train(pictures, output=folder, reporter=At(3, intrude), **RECIPE)


def test_many_starts_get_a_folder_each(pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from concurrent.futures import ThreadPoolExecutor

    from convoscope.training.runs.folder import new_folder

    monkeypatch.chdir(tmp_path)
    with ThreadPoolExecutor(20) as pool:
        folders = list(pool.map(lambda _: new_folder(None, str(pictures), "tiny"), range(20)))
    assert len(set(folders)) == 20


# --- data that change --------------------------------------------------------------------------------------------------


def test_changed_images_are_noticed(pictures: Path, tmp_path: Path) -> None:

    source = tmp_path / "source"
    shutil.copytree(pictures, source)
    folder = tmp_path / "run"
    with pytest.raises(Interrupted):
        train(source, output=folder, reporter=At(4, send(signal.SIGINT)), **RECIPE)
    (source / "square" / "7.png").unlink()
    (source / "square" / "8.png").write_bytes((source / "square" / "9.png").read_bytes())
    shutil.copy(source / "square" / "1.png", source / "square" / "new.png")
    with pytest.raises(ModelFileError) as caught:
        resume(folder)
    assert caught.value.code == "data-changed"
    assert "1 new, 1 missing, 1 altered" in caught.value.reason
    run = resume(folder, accept_data_change=True)
    assert len(run.history) == EPOCHS


def train_and_break(pictures: Path, folder: Path, name: str) -> None:
    """A finished run, one of whose checkpoints has weights that are not finite."""
    train(pictures, output=folder, **RECIPE)
    tensors, state = checkpoint.load(folder / name)
    tensors["model.conv1.weight"][:] = float("nan")
    checkpoint.save(folder / name, tensors, state)


def test_nan_weights_are_not_gone_on_with(pictures: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    train_and_break(pictures, folder, "last.safetensors")
    with pytest.raises(ModelFileError) as caught:
        resume(folder, epochs=EPOCHS + 1)
    assert caught.value.code == "checkpoint-not-finite"


def test_nan_weights_predict_with_a_warning(pictures: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    train_and_break(pictures, folder, "best.safetensors")
    with pytest.warns(UserWarning, match="not finite"):
        Run.open(folder).predict(pictures / "square" / "1.png")


def test_a_damaged_last_checkpoint_is_passed_over(
    pictures: Path, tmp_path: Path, straight: Callable[..., dict[str, str]]
) -> None:
    folder = tmp_path / "run"
    with pytest.raises(Interrupted):
        train(pictures, output=folder, reporter=At(8, send(signal.SIGINT)), **RECIPE | {"save_every": 0.0})
    damaged = bytearray((folder / "last.safetensors").read_bytes())
    damaged[-1] ^= 1
    (folder / "last.safetensors").write_bytes(damaged)
    listener = Listener()
    resume(folder, reporter=listener)
    assert "last.safetensors: damaged" in listener.warned[0]
    assert fingerprint(folder) == straight()


def test_without_its_last_checkpoint_a_run_goes_on_from_the_one_before(
    pictures: Path, tmp_path: Path, straight: Callable[..., dict[str, str]]
) -> None:
    folder = tmp_path / "run"
    with pytest.raises(Interrupted):
        train(pictures, output=folder, reporter=At(8, send(signal.SIGINT)), **RECIPE | {"save_every": 0.0})
    (folder / "last.safetensors").unlink()
    listener = Listener()
    resume(folder, reporter=listener)
    assert "there is no such file or run; going on from previous.safetensors" in listener.warned[0]
    assert fingerprint(folder) == straight()
    for name in ("last.safetensors", "previous.safetensors"):
        (folder / name).unlink()
    with pytest.raises(ModelFileError) as caught:
        resume(folder)
    reason = "holds weights to predict with, but not what is needed to go on"
    assert (caught.value.code, caught.value.reason) == ("checkpoint-without-progress", reason)
    assert caught.value.hint.endswith(f"convoscope train --config {folder / 'run.toml'}")


def test_a_signal_in_the_last_moment_is_heard(
    pictures: Path, tmp_path: Path, straight: Callable[..., dict[str, str]]
) -> None:
    class Late(Reporter):
        def epoch(self, row: Any, best: bool) -> None:
            if row["epoch"] == EPOCHS:
                os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(Interrupted) as caught:
        train(pictures, output=tmp_path / "run", reporter=Late(), **RECIPE)
    assert (caught.value.code, caught.value.exit_code) == ("interrupted", 130)
    assert fingerprint(tmp_path / "run") == straight()
    resume(tmp_path / "run")
    assert fingerprint(tmp_path / "run") == straight()
