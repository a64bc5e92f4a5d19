"""A run's folder from somebody else, entered by every door that writes: nothing outside of it changes, and nothing hangs."""

import errno
import io
import os
import shutil
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from convoscope.cli import run as cli
from convoscope.errors import MachineError
from convoscope.training.core import checkpoint
from tests.support.planted_files import (
    CHANGED,
    FOLDERS,
    REPLACED,
    Plant,
    Victim,
    clear,
    folder_link,
    hard_link,
    link,
    pipe,
)

CHECKPOINTS = ("best.safetensors", "last.safetensors", "previous.safetensors")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes of 20 pictures, dark and light."""
    root = tmp_path_factory.mktemp("data") / "shades"
    rng = np.random.default_rng(0)
    for name, level in (("dark", 40), ("light", 200)):
        (root / name).mkdir(parents=True)
        for number in range(20):
            Image.fromarray(rng.integers(level, level + 40, (8, 8), dtype=np.uint8)).save(root / name / f"{number}.png")
    return root


@pytest.fixture(scope="module")
def trained(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of one epoch, tested, with a report."""
    folder = tmp_path_factory.mktemp("runs") / "shades"
    model = [
        "--model",
        "conv(4) relu globalavg dense",
        "--epochs",
        "1",
        "--set",
        "threads=1",
        "--set",
        "precision=float32",
    ]
    assert cli(["train", str(pictures), *model, "--output", str(folder)]) == 0
    return folder


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    shutil.copytree(trained, tmp_path / "run")
    return tmp_path / "run"


@pytest.fixture
def victim(tmp_path: Path) -> Victim:
    return Victim(tmp_path / "elsewhere")


def content(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.name != ".lock"}


def refused(arguments: list[str], run: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """What a command says that must end with exit code 5 before anything in the run is written."""
    before = content(run)
    capsys.readouterr()
    assert cli(arguments) == 5
    said = capsys.readouterr()
    assert content(run) == before
    assert said.out == ""
    assert said.err.startswith("error: ")
    return said.err


@pytest.mark.parametrize(
    ("name", "plant"),
    [
        *product([*CHECKPOINTS, "run.toml", "metrics.csv", "report.html"], REPLACED),
        *product([".lock", "events.jsonl"], CHANGED),
        *product(["tensorboard", "test"], FOLDERS),
    ],
)
def test_resume_writes_nothing_but_the_runs_own_files_and_follows_no_link(
    run: Path, victim: Victim, capsys: pytest.CaptureFixture[str], name: str, plant: Plant
) -> None:
    clear(run / name)
    plant(run / name, victim)
    assert f"{run / name}: is " in refused(["train", "--resume", str(run), "--epochs", "2"], run, capsys)
    assert victim.untouched()


def test_hard_links_of_files_that_are_replaced_keep_their_content(run: Path, victim: Victim) -> None:
    """As a copy by `cp -al` has them."""
    kept = {
        name: (run / name).read_bytes() for name in ("best.safetensors", "last.safetensors", "run.toml", "metrics.csv")
    }
    for name in kept:
        (victim.folder / name).hardlink_to(run / name)
    for name in ("skipped.csv", "report.html"):
        clear(run / name)
        hard_link(run / name, victim)
    assert cli(["train", "--resume", str(run), "--epochs", "2"]) == 0
    assert {name: (victim.folder / name).read_bytes() for name in kept} == kept
    assert victim.file.read_bytes() == b"precious"


def test_a_sealed_checkpoint_cannot_have_a_file_cut_to_nothing(
    run: Path, victim: Victim, capsys: pytest.CaptureFixture[str]
) -> None:
    tensors, state = checkpoint.load(run / "last.safetensors")
    state["progress"]["events_bytes"] = 0
    checkpoint.save(run / "last.safetensors", tensors, state)
    shutil.copyfile(victim.file, run / "events.jsonl")
    assert cli(["train", "--resume", str(run), "--epochs", "2"]) == 4
    assert "holds something other than a run's events" in capsys.readouterr().err
    assert (run / "events.jsonl").read_bytes() == b"precious"


@pytest.mark.parametrize("plant", REPLACED)
@pytest.mark.parametrize("name", ["scores.json", "predictions.csv", "confusion.png", "worst/01.png", "worst/sheet.png"])
def test_a_test_replaces_only_plain_files(
    run: Path, victim: Victim, capsys: pytest.CaptureFixture[str], name: str, plant: Plant
) -> None:
    clear(run / "test" / name)
    plant(run / "test" / name, victim)
    assert f"{run / 'test' / name}: is " in refused(["test", str(run)], run, capsys)
    assert victim.untouched()


@pytest.mark.parametrize("plant", CHANGED)
def test_a_tests_lock_is_the_runs_own(
    run: Path, victim: Victim, capsys: pytest.CaptureFixture[str], plant: Plant
) -> None:
    clear(run / "test" / ".lock")
    plant(run / "test" / ".lock", victim)
    assert ".lock: is " in refused(["test", str(run)], run, capsys)
    assert victim.untouched()


@pytest.mark.parametrize("plant", FOLDERS)
@pytest.mark.parametrize("name", ["test", "test/worst"])
def test_a_test_follows_no_linked_folder(
    run: Path, victim: Victim, capsys: pytest.CaptureFixture[str], name: str, plant: Plant
) -> None:
    clear(run / name)
    plant(run / name, victim)
    assert f"{run / name}: is " in refused(["test", str(run)], run, capsys)
    assert victim.untouched()


def test_a_stage_is_always_a_new_folder(run: Path, victim: Victim, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.getpid", lambda: 4321)
    folder_link(run / "test" / ".stage.4321", victim)
    (run / "test" / ".stage.99").mkdir()
    folder_link(run / "test" / ".stage.99" / "worst", victim)
    assert cli(["test", str(run)]) == 0
    assert not list((run / "test").glob(".stage*"))
    assert victim.untouched()


@pytest.mark.parametrize("plant", [link, pipe])
def test_a_report_replaces_only_a_plain_file(
    run: Path, victim: Victim, capsys: pytest.CaptureFixture[str], plant: Plant
) -> None:
    clear(run / "report.html")
    plant(run / "report.html", victim)
    assert cli(["test", str(run)]) == 5
    assert "report.html: is " in capsys.readouterr().err
    assert victim.untouched()


def test_a_report_shows_no_pictures_from_elsewhere(run: Path, victim: Victim) -> None:
    from convoscope import Run
    from convoscope.evaluation import read_scores
    from convoscope.evaluation.report import write_report
    from convoscope.evaluation.report_on_test import stored_image

    scores = read_scores(run)
    assert scores is not None
    picture = run / "test" / "worst" / "01.png"
    clear(picture)
    Image.new("L", (4, 4)).save(picture)
    assert stored_image(scores, "worst/01.png") is not None
    picture.rename(victim.folder / "own.png")
    picture.symlink_to(victim.folder / "own.png")
    assert stored_image(scores, "worst/01.png") is None
    clear(run / "test" / "worst")
    folder_link(run / "test" / "worst", victim)
    with pytest.raises(MachineError, match="worst: is a symbolic link; expected a plain folder"):
        write_report(Run.open(run))


def test_a_report_reads_no_pipe(run: Path, victim: Victim) -> None:
    from convoscope import Run
    from convoscope.evaluation import write_report

    for picture in (run / "test" / "worst").iterdir():
        clear(picture)
        pipe(picture, victim)
    assert "</html>" in write_report(Run.open(run)).read_text("utf-8")


@pytest.mark.parametrize("plant", REPLACED)
def test_pages_and_pictures_replace_only_plain_files(
    run: Path, pictures: Path, tmp_path: Path, victim: Victim, capsys: pytest.CaptureFixture[str], plant: Plant
) -> None:
    place = tmp_path / "out" / "overview.png"
    place.parent.mkdir()
    plant(place, victim)
    for command in (
        ["compare", str(run), "--html", str(place)],
        ["data", str(pictures), "--sheet", str(place)],
        ["look", str(run), str(pictures / "dark" / "0.png"), "--out", str(place.parent)],
    ):
        assert f"{place}: is " in refused(command, run, capsys)
    assert victim.untouched()


@pytest.mark.parametrize("plant", FOLDERS)
def test_looking_follows_no_linked_folder(
    run: Path, pictures: Path, tmp_path: Path, victim: Victim, capsys: pytest.CaptureFixture[str], plant: Plant
) -> None:
    (tmp_path / "out").mkdir()
    plant(tmp_path / "out" / "layers", victim)
    command = ["look", str(run), str(pictures / "dark" / "0.png"), "--out", str(tmp_path / "out")]
    assert "layers: is " in refused(command, run, capsys)
    assert victim.untouched()


@pytest.mark.parametrize("plant", FOLDERS)
@pytest.mark.parametrize("name", ["contact-sheets", "looks", "looks/run-0"])
def test_the_working_folder_may_have_come_with_the_images(
    run: Path,
    pictures: Path,
    tmp_path: Path,
    victim: Victim,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    plant: Plant,
) -> None:
    monkeypatch.chdir(tmp_path)
    clear(tmp_path / name)
    plant(tmp_path / name, victim)
    look = ["look", str(run), str(pictures / "dark" / "0.png")]
    assert f"{name}: is " in refused(["data", str(pictures)] if name == "contact-sheets" else look, run, capsys)
    assert victim.untouched()


def test_weights_may_lie_elsewhere_for_reading(run: Path, pictures: Path, tmp_path: Path) -> None:
    """A link of the user's own, to another disk; and the run's folder itself may be one."""
    shutil.move(run / "best.safetensors", tmp_path / "weights.safetensors")
    (run / "best.safetensors").symlink_to(tmp_path / "weights.safetensors")
    (tmp_path / "named").symlink_to(run)
    (tmp_path / "here").mkdir()
    (tmp_path / "looks").symlink_to("here")
    before = (tmp_path / "weights.safetensors").read_bytes()
    for command in (["predict", "run", str(pictures / "dark")], ["test", "run"], ["look", "run", "--out", "looks"]):
        arguments = [
            str(tmp_path / argument.replace("run", "named")) if argument in ("run", "looks") else argument
            for argument in command
        ]
        assert cli(arguments) == 0
    assert (tmp_path / "weights.safetensors").read_bytes() == before
    assert (run / "best.safetensors").is_symlink()
    assert list((tmp_path / "here").iterdir())


def test_a_run_whose_split_is_a_pipe_is_refused_and_not_waited_for(
    run: Path, victim: Victim, capsys: pytest.CaptureFixture[str]
) -> None:
    clear(run / "split.csv")
    pipe(run / "split.csv", victim)
    for command in (["test", str(run)], ["train", "--resume", str(run), "--epochs", "2"]):
        assert "split.csv: is a named pipe; expected a plain file" in refused(command, run, capsys)


# --- disks that are full ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "command",
    [
        "test {run}",
        "train --resume {run} --epochs 2",
        "train {pictures} --output {new}",
        "relearn {run} {pictures} --output {new}",
        "compare {run} --html {new}",
        "data {pictures} --sheet {new}",
        "look {run} {picture} --out {new}",
        "look {run} --out {new}",
    ],
)
@pytest.mark.parametrize("full_at", ["write", "fsync"])
def test_on_a_full_disk_every_command_ends_with_its_plain_reason_and_without_half_a_file(
    run: Path,
    pictures: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    command: str,
    full_at: str,
) -> None:
    names = {"run": run, "pictures": pictures, "picture": pictures / "dark" / "0.png", "new": tmp_path / "new"}
    before = content(run)
    capsys.readouterr()

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    class Full(io.FileIO):
        write = full  # type: ignore[assignment]

    with monkeypatch.context() as patch:
        if full_at == "fsync":
            patch.setattr(os, "fsync", full)
        else:
            patch.setattr("convoscope.files.open", lambda path, mode, **_: Full(path, mode), raising=False)
        assert cli([part.format(**names) for part in command.split()]) == 5
    said = capsys.readouterr()
    assert "the disk is full" in said.err
    assert "Traceback" not in said.err
    assert said.out == ""
    assert content(run) == before
    assert not [path for path in (tmp_path / "new").rglob("*") if path.is_file()]
    assert not (tmp_path / "new").is_file()
