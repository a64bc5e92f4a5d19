"""The networks that come with the studio: made, stopped, gone on with, by one process at a time."""

import asyncio
import contextlib
import hashlib
import json
import os
import shutil
import signal
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from convoscope.data import pad_image
from convoscope.files import FolderLock
from convoscope.studio import startup_networks as room
from convoscope.studio.errors import RequestRefused
from convoscope.studio.messages.draw import PadModel
from convoscope.studio.startup_networks import READY_MADE, ReadyMade, StartupNetworks
from convoscope.training import Run, train
from tests.support.strokes import drawn, strokes

SETTINGS = ("--set", "threads=1", "--set", "precision=float32")
QUICK = ReadyMade(
    name="quick",
    classes=("horizontal", "vertical"),
    architecture="tiny",
    arguments=("builtin:lines", *SETTINGS),
    epochs=3,
)
# A few seconds of training: time to look at it, and to stop it.
LONG = replace(QUICK, name="long", epochs=250)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(autouse=True)
def quick(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a busy machine a child of the lowest priority takes minutes; one test has it so."""
    if "priority" not in request.node.name:
        monkeypatch.setattr(room, "NICENESS", 0)


def model_of(making: StartupNetworks, name: str) -> PadModel:
    return next(one.message for one in making.drawables() if one.message.id == name)


async def until(
    making: StartupNetworks, name: str, reached: Callable[[PadModel], bool], seconds: float = 300
) -> PadModel:
    end = time.monotonic() + seconds
    while not reached(model_of(making, name)):
        assert time.monotonic() < end, model_of(making, name)
        await asyncio.sleep(0.02)
    return model_of(making, name)


@contextlib.asynccontextmanager
async def begun(folder: Path, *recipes: ReadyMade) -> AsyncIterator[StartupNetworks]:
    making = StartupNetworks(folder, lambda: None, recipes)
    making.start()
    try:
        yield making
    finally:
        await making.stop()


def children() -> list[int]:
    """The trainings that this process has started and that have not ended."""
    found = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError, ValueError, IndexError):
            status = (entry / "stat").read_text().rpartition(")")[2].split()
            command = (entry / "cmdline").read_bytes().split(b"\0")
            # Between fork and exec a child still looks like its parent; a server of another test has children of its own.
            if int(status[1]) == os.getpid() and status[0] != "Z" and b"convoscope" in command:
                found.append(int(entry.name))
    return found


def events(folder: Path) -> list[str]:
    return [
        line.split('"')[3] for line in (folder / "events.jsonl").read_text().splitlines() if '"step"' not in line[:20]
    ]


@pytest.mark.anyio
async def test_at_the_lowest_priority_and_on_one_thread(tmp_path: Path) -> None:
    async with begun(tmp_path, LONG) as making:
        while not children():
            await asyncio.sleep(0.01)
        (child,) = children()
        while os.getpriority(os.PRIO_PROCESS, child) != 19:
            await asyncio.sleep(0.01)
        environment = Path(f"/proc/{child}/environ").read_bytes().split(b"\0")
        assert b"OMP_NUM_THREADS=1" in environment
        making.halt("long")


@pytest.mark.anyio
async def test_however_it_is_stopped_it_ends_at_the_same_weights(tmp_path: Path) -> None:
    undisturbed = train("builtin:lines", "tiny", output=tmp_path / "whole", epochs=250, threads=1, precision="float32")
    folder = tmp_path / "models" / LONG.folder
    async with begun(tmp_path / "models", LONG) as making:
        seen = await until(making, "long", lambda model: model.epoch > 5)
        assert (seen.state, seen.epochs, seen.test_accuracy) == ("making", 250, None)
        making.halt("long")
        assert model_of(making, "long").state == "stopped"
        while children():
            await asyncio.sleep(0.02)
        stopped_at = model_of(making, "long").epoch
        assert 5 < stopped_at < 250
        making.make("long")
        await until(making, "long", lambda model: model.epoch > stopped_at + 5)

        (child,) = children()
        os.kill(child, signal.SIGKILL)
        failed = await until(making, "long", lambda model: model.state == "failed")
        assert failed.refusal is not None and "the system ended the training" in failed.refusal.message
        making.make("long")
        await until(making, "long", lambda model: model.epoch > stopped_at + 5)

        await making.stop()
        assert not children()
    assert (folder / "last.safetensors").exists()
    async with begun(tmp_path / "models", LONG) as making:
        made = await until(making, "long", lambda model: model.state in ("ready", "failed"))
        assert made.state == "ready" and made.test_accuracy is not None and made.epoch == 250
    async with begun(tmp_path / "models", LONG) as making:
        assert model_of(making, "long").state == "ready" and not making.busy, "what is finished is used as it is"
    assert events(folder).count("start") == 1 and events(folder).count("resume") >= 1
    run = Run.open(folder)
    assert run.settings.engine["threads"] == 1
    again = run.network().state_dict()
    assert all(bool((value == again[name]).all()) for name, value in undisturbed.network().state_dict().items())


@pytest.mark.anyio
async def test_starting_twice_is_one_job_and_only_what_is_made_can_be_stopped(tmp_path: Path) -> None:
    folder = tmp_path / QUICK.folder
    folder.mkdir(parents=True)
    (folder / "run.toml").write_text("killed before the first checkpoint")
    async with begun(tmp_path, QUICK) as making:
        making.make("quick")
        await until(making, "quick", lambda model: model.state == "making")
        making.make("quick")
        await until(making, "quick", lambda model: model.state == "ready")
        making.make("quick")
        with pytest.raises(RequestRefused) as refused:
            making.halt("quick")
        assert (refused.value.status, refused.value.code) == (409, "not-being-made")
        while making.busy:
            await asyncio.sleep(0.05)
        assert events(folder).count("start") == 1
        shutil.rmtree(folder)
        assert model_of(making, "quick").state == "stopped", "what is gone can be made again"
        making.make("quick")
        assert making.busy


@pytest.mark.anyio
async def test_what_waits_can_be_taken_out_of_the_queue(tmp_path: Path) -> None:
    async with begun(tmp_path, LONG, QUICK) as making:
        await until(making, "long", lambda model: model.state == "making")
        making.halt("quick")
        making.halt("long")
        while making._wanted.is_set():  # until it has looked for the next one
            await asyncio.sleep(0.01)
        assert [one.message.state for one in making.drawables()] == ["stopped", "stopped"] and not making.busy
    assert not (tmp_path / QUICK.folder).exists()


@pytest.mark.anyio
async def test_two_studios_with_one_folder_train_once_and_in_order(tmp_path: Path) -> None:
    last = replace(QUICK, name="last", epochs=2)
    async with begun(tmp_path, QUICK, last) as first, begun(tmp_path, QUICK, last) as second:
        assert [one.message.state for one in first.drawables()] == ["waiting", "waiting"]
        for making in (first, second):
            assert (await until(making, "quick", lambda model: model.state in ("ready", "failed"))).state == "ready"
            assert (await until(making, "last", lambda model: model.state in ("ready", "failed"))).state == "ready"
        while first.busy or second.busy:  # a report is still being written
            await asyncio.sleep(0.05)
        assert not children()
    began = []
    for recipe in (QUICK, last):
        assert events(tmp_path / recipe.folder).count("start") == 1
        began.append(json.loads((tmp_path / recipe.folder / "events.jsonl").read_text().splitlines()[0])["time"])
    assert began == sorted(began)


@pytest.mark.anyio
async def test_what_another_process_makes_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looks = 0
    command = room._command

    def counted(job: Any) -> list[str] | None:
        nonlocal looks
        looks += 1
        return command(job)

    monkeypatch.setattr(room, "_command", counted)
    monkeypatch.setattr(room, "_RETRY_SECONDS", 0.01)
    folder = tmp_path / QUICK.folder
    folder.mkdir(parents=True)
    with FolderLock(folder):
        async with begun(tmp_path, QUICK) as making:
            while looks < 3:
                await asyncio.sleep(0.01)
            assert model_of(making, "quick").state == "making" and not children()
            making.halt("quick")
            assert model_of(making, "quick").state == "stopped"


@pytest.mark.anyio
async def test_a_failure_is_told_in_plain_words_without_a_path(tmp_path: Path) -> None:
    wrong = ReadyMade(name="wrong", classes=("a", "b"), architecture="conv(9", arguments=("builtin:lines",), epochs=1)
    async with begun(tmp_path / "secret", wrong) as making:
        failed = await until(making, "wrong", lambda model: model.state == "failed")
        assert failed.refusal is not None and failed.refusal.code == "making-failed"
        assert failed.refusal.message.startswith("The network wrong could not be trained: model, line 1")
        assert "secret" not in failed.refusal.model_dump_json()
        making.make("wrong")
        assert model_of(making, "wrong").refusal is None and making.busy


@pytest.mark.anyio
async def test_a_folder_that_cannot_be_made_is_a_failure(tmp_path: Path) -> None:
    (tmp_path / "models").write_text("a file")
    async with begun(tmp_path / "models", QUICK) as making:
        failed = await until(making, "quick", lambda model: model.state == "failed")
        assert failed.refusal is not None and str(tmp_path) not in failed.refusal.message


@pytest.mark.anyio
async def test_a_bug_of_ours_fails_one_network_and_not_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    faults: list[Exception] = []

    def failing(job: Any) -> list[str] | None:
        if job.recipe.name == "long":
            raise ZeroDivisionError
        return None  # another process makes it

    monkeypatch.setattr(room, "_command", failing)
    making = StartupNetworks(tmp_path, lambda: None, (LONG, QUICK), faults.append)
    making.start()
    try:
        await until(making, "quick", lambda model: model.state == "making")
        failed = model_of(making, "long")
        assert failed.state == "failed" and failed.refusal is not None
        assert "a bug in convoscope (ZeroDivisionError)" in failed.refusal.message
    finally:
        await making.stop()
    assert [type(fault) for fault in faults] == [ZeroDivisionError]


def test_another_recipe_gets_another_folder() -> None:
    longer = replace(QUICK, epochs=QUICK.epochs + 1)
    assert longer.folder != QUICK.folder
    assert longer.folder.startswith("quick-")
    text = "\n".join(["train", "builtin:lines", *SETTINGS, "--model", "tiny", "--epochs", "3"])
    assert QUICK.folder == f"quick-{hashlib.sha256(text.encode()).hexdigest()[:8]}", "the same on every machine"


def test_the_recipes_can_be_typed() -> None:
    from convoscope.config import read_assignments
    from convoscope.models import table
    from convoscope.training import Recipe

    for recipe in READY_MADE:
        settings = [after for word, after in zip(recipe.command, recipe.command[1:], strict=False) if word == "--set"]
        Recipe.read(read_assignments(settings))
        rows = table(recipe.architecture, (28, 28, 1), len(recipe.classes)).layers
        assert [row.kind for row in rows].count("conv") == 2
    assert [recipe.name for recipe in READY_MADE] == ["apple-banana", "twenty"]
    assert [row.output for row in table("quickdraw", (28, 28, 1), 2).layers if row.kind in ("conv", "dense")] == [
        (28, 28, 4), (14, 14, 8), (16,), (8,), (2,)
    ]  # fmt: skip


def replayed_accuracy(run: Run, split: Any) -> tuple[int, float]:
    """Unseen drawings as strokes of a 10-pixel pen on the pad: how many, and which share is right."""
    prepared = run.prepared()
    rows = prepared.dataset.indices(split)
    pads = [drawn(strokes(np.array(prepared.pixels[row][..., 0]))) for row in rows]
    images = np.stack([pad_image(pad, "drawings") for pad in pads])[..., None]
    return len(rows), float((run.scores(images).argmax(1) == prepared.dataset.targets[rows]).mean())


@pytest.mark.slow
@pytest.mark.anyio
async def test_the_studios_own_networks_know_what_is_drawn(tmp_path: Path) -> None:
    async with begun(tmp_path, *READY_MADE) as making:
        fruits = await until(making, "apple-banana", lambda model: model.state in ("ready", "failed"), 120)
        assert fruits.test_accuracy is not None and fruits.test_accuracy >= 0.95, fruits
        count, accuracy = replayed_accuracy(Run.open(tmp_path / READY_MADE[0].folder), "test")
        assert count == 40 and accuracy >= 0.925
        twenty = await until(making, "twenty", lambda model: model.state in ("ready", "failed"), 300)
        assert twenty.test_accuracy is not None and twenty.test_accuracy >= 0.8, twenty
        count, accuracy = replayed_accuracy(Run.open(tmp_path / READY_MADE[1].folder), "test")
        # Less than as bitmaps: where somebody filled a shape with ink, only its middle line is drawn again.
        assert count == 320 and accuracy >= 0.72
