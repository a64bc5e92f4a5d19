"""The run's growing files: what a resumed run cuts off, what it never does, and whose files they are."""

import json
from pathlib import Path
from typing import Any

import pytest

from convoscope.errors import MachineError, ModelFileError
from convoscope.training.core.event_log import EventLog
from tests.support.planted_files import CHANGED, FOLDERS, Plant, Victim, clear
from tests.support.runs import events


def row(epoch: int) -> Any:
    return {
        "epoch": epoch, "train_loss": 0.5, "train_accuracy": 0.5, "val_loss": None, "val_accuracy": None, "seconds": 1.0,
        "learning_rate": 0.1, "size": 12,
    }  # fmt: skip


def kinds(folder: Path) -> list[tuple[str, int]]:
    return [(event["event"], event["epoch"]) for event in events(folder)]


@pytest.fixture
def begun(tmp_path: Path) -> tuple[Path, list[int]]:
    """A journal of two epochs of two steps, and its length after each of its lines."""
    lengths = []
    with EventLog(tmp_path, [], 0) as journal:
        journal.event("start", epoch=1, step=0)
        for epoch in (1, 2):
            for step in (1, 2):
                lengths.append(journal.bytes_written)
                journal.step(2 * (epoch - 1) + step, epoch, 0.5, 0.1)
            lengths.append(journal.bytes_written)
            journal.epoch(row(epoch))
        lengths.append(journal.bytes_written)
    return tmp_path, lengths


def test_a_resumed_run_goes_on_behind_its_checkpoint(begun: tuple[Path, list[int]]) -> None:
    folder, lengths = begun
    for after, told in ((7, 7), (5, 5), (4, 4)):
        with EventLog(folder, [row(1)], lengths[after - 1]) as journal:
            journal.event("resume", epoch=2, step=after - 4)
        assert len(kinds(folder)) == told + 1
        assert kinds(folder)[-1] == ("resume", 2)


@pytest.mark.parametrize("torn", [1, 5, 40])
def test_a_torn_last_line_is_dropped(begun: tuple[Path, list[int]], torn: int) -> None:
    folder, lengths = begun
    content = (folder / "events.jsonl").read_bytes()
    (folder / "events.jsonl").write_bytes(content[:-torn])
    with EventLog(folder, [row(1)], lengths[-1]) as journal:
        journal.event("resume", epoch=2, step=2)
    assert kinds(folder) == [
        *(("start", 1), ("step", 1), ("step", 1), ("epoch", 1), ("step", 2), ("step", 2)), ("resume", 2),
    ]  # fmt: skip


@pytest.mark.parametrize("claimed", [0, -1, 7, 10**9])
def test_a_checkpoint_cannot_have_done_epochs_cut_off(begun: tuple[Path, list[int]], claimed: int) -> None:
    folder, lengths = begun
    before = (folder / "events.jsonl").read_bytes()
    with EventLog(folder, [row(1), row(2)], claimed):
        pass
    assert (folder / "events.jsonl").read_bytes() == before
    with EventLog(folder, [row(1)], min(claimed, 7)):
        pass
    assert (folder / "events.jsonl").read_bytes() == before[: lengths[3]]


@pytest.mark.parametrize("content", [b"precious", b"precious\n" * 1000, b"{}\n", b"\0" * 5000])
def test_a_file_that_is_no_journal_is_left_as_it_is(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "events.jsonl").write_bytes(content)
    for keep in (0, 4, len(content)):
        with pytest.raises(ModelFileError) as caught:
            EventLog(tmp_path, [], keep)
        assert caught.value.code == "events-foreign"
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [content]


def test_lines_of_another_kind_end_nothing(begun: tuple[Path, list[int]]) -> None:
    folder, lengths = begun
    with (folder / "events.jsonl").open("ab") as file:
        for line in (
            b"[" * 3000,
            b"[1]",
            b'{"event": "step"}',
            b'{"event": "step", "epoch": "2"}',
            b"\xff" * 2_000_000,
        ):
            file.write(line + b"\n")
    with EventLog(folder, [row(1), row(2)], 0):
        pass
    assert len((folder / "events.jsonl").read_bytes()) == lengths[-1]
    assert json.loads((folder / "events.jsonl").read_bytes().splitlines()[-1])["epoch"] == 2


@pytest.mark.parametrize("plant", CHANGED)
@pytest.mark.parametrize("name", ["events.jsonl", "metrics.csv"])
def test_only_a_runs_own_files_grow(tmp_path: Path, name: str, plant: Plant) -> None:
    victim = Victim(tmp_path / "elsewhere")
    (tmp_path / "run").mkdir()
    plant(tmp_path / "run" / name, victim)
    if (name, plant.__name__) == ("metrics.csv", "hard_link"):  # replaced as a whole: the other name keeps its content
        EventLog(tmp_path / "run", [], 0).close()
    else:
        with pytest.raises(MachineError) as caught:
            EventLog(tmp_path / "run", [], 0)
        assert caught.value.code == "not-a-plain-file"
    assert victim.untouched()


@pytest.mark.parametrize("plant", FOLDERS)
def test_tensorboards_folder_is_no_link(tmp_path: Path, plant: Plant) -> None:
    victim = Victim(tmp_path / "elsewhere")
    (tmp_path / "run").mkdir()
    plant(tmp_path / "run" / "tensorboard", victim)
    with (
        pytest.warns(UserWarning, match="TensorBoard's curves end here: is .*; expected a plain folder"),
        EventLog(tmp_path / "run", [], 0) as journal,
    ):
        journal.step(1, 1, 0.5, 0.1)
        journal.step(2, 1, 0.5, 0.1)
    assert len(events(tmp_path / "run")) == 2
    assert victim.untouched()


@pytest.mark.parametrize("plant", CHANGED)
def test_tensorboards_file_is_the_runs_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, plant: Plant) -> None:
    """Its name is made of the time and the process's number, which can be guessed."""
    monkeypatch.setattr("convoscope.training.core.event_log.time.time", lambda: 1e9)
    with EventLog(tmp_path, [], 0) as journal:
        journal.step(1, 1, 0.5, 0.1)
    (name,) = (tmp_path / "tensorboard").iterdir()
    victim = Victim(tmp_path / "elsewhere")
    clear(name)
    plant(name, victim)
    with pytest.warns(UserWarning, match="TensorBoard's curves end here: is "), EventLog(tmp_path, [], 0) as journal:
        journal.step(2, 1, 0.5, 0.1)
    assert victim.untouched()
