"""How long a training takes, counted in advance."""

import json
import math
from pathlib import Path

import pytest
import torch

from convoscope.training import Recipe, Reporter, train
from convoscope.training.core.engine import Engine
from convoscope.training.fit import job as job_module
from convoscope.training.fit import loop, watch
from convoscope.training.fit.pace import EpochPace, Pace, TimeLeft
from tests.support.runs import Listener

PACE = Pace(EpochPace(0.1, 1.0), EpochPace(0.3, 2.0), steps=20)


def recipe(epochs: int) -> Recipe:
    return Recipe.read({"epochs": epochs})


def counted(epochs: int, epoch: int = 0, step: int = 0) -> float:
    """The seconds left, epoch by epoch and step by step."""
    small = min(math.ceil(0.7 * epochs), epochs - 1)
    total = 0.0
    for number in range(epoch, epochs):
        each, validation = (0.1, 1.0) if number < small else (0.3, 2.0)
        total += sum(each for _ in range(step if number == epoch else 0, 20)) + validation
    return total


@pytest.mark.parametrize("epochs", [1, 2, 3, 10, 44])
def test_every_epoch_counts_with_the_time_of_its_own_image_size(epochs: int) -> None:
    for epoch in range(epochs):
        for step in (0, 7, 20):
            assert PACE.seconds(recipe(epochs), epoch, step) == pytest.approx(counted(epochs, epoch, step))
    assert PACE.seconds(recipe(epochs), epochs) == 0


def test_as_many_epochs_as_fit() -> None:
    for seconds in (0, 7, 8, 60, 600):
        epochs = PACE.epochs_within(recipe(10), seconds)
        assert counted(epochs + 1) > seconds and (epochs == 0 or counted(epochs) <= seconds)


def test_what_is_left_follows_the_steps_as_they_are() -> None:
    left = TimeLeft(recipe(10), PACE)
    assert left.seconds(0, 0) == pytest.approx(counted(10))
    for _ in range(2000):
        left.note(0.2, 0.1)
    assert left.seconds(5, 0) == pytest.approx(2 * counted(10, 5), rel=0.01)
    slow = TimeLeft(recipe(10), Pace(PACE.early, PACE.late, 20, slower=3.0))
    assert slow.seconds(0, 0) == pytest.approx(3 * counted(10))


class Hears(Reporter):
    """Notes how long it is said to take, and when."""

    def __init__(self) -> None:
        self.left: list[float] = []
        self.order: list[str] = []

    def start(self, folder: Path, epochs: int) -> None:
        self.order.append("start")

    def time_left(self, seconds: float) -> None:
        self.left.append(seconds)
        self.order.append("left")

    def step(self, epoch: int, step: int, steps: int, loss: float) -> None:
        self.order.append("step")


def test_a_training_says_how_long_it_takes_before_it_begins_and_with_each_step(pictures: Path, tmp_path: Path) -> None:
    heard = Hears()
    train(
        pictures, "conv(2) relu globalavg dense", output=tmp_path / "run", epochs=3, batch_size=32,
        precision="float32", start_size=0.7, reporter=heard,
    )  # fmt: skip
    steps = heard.order.count("step")
    assert heard.order == ["start", "left"] + ["left", "step"] * steps
    assert heard.left[0] > heard.left[-1] >= 0


def test_beside_a_busy_program_it_goes_on_with_one_thread_and_notes_it(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pace that no machine has makes every step look slow."""
    threads = torch.get_num_threads()
    for name in ("_LOOK", "_TRY"):
        monkeypatch.setattr(watch, name, 0.0)
    monkeypatch.setattr(watch, "_STEPS", 1)
    monkeypatch.setattr(watch, "_BETTER", 1e9)
    monkeypatch.setattr(loop, "measure_pace", lambda job, _: Pace(EpochPace(1e-6, 0), EpochPace(1e-6, 0), 9))
    monkeypatch.setattr(job_module, "choose_engine", lambda *_: Engine(threads=2))
    listener = Listener()
    text = "conv(2) relu globalavg dense"
    run = train(pictures, text, output=tmp_path / "run", epochs=2, batch_size=16, reporter=listener)
    assert listener.heard("another program keeps the processor busy: going on with 1 thread")
    assert torch.get_num_threads() == threads
    assert [row["threads"] for row in run.history] == [1, 1]
    assert (tmp_path / "run" / "metrics.csv").read_text().splitlines()[1].endswith(",1")
    events = [json.loads(line) for line in (tmp_path / "run" / "events.jsonl").read_text().splitlines()]
    assert [event["threads"] for event in events if event["event"] == "threads"] == [1]
    monkeypatch.setattr(job_module, "choose_engine", lambda *_: Engine(threads=2, threads_fixed=True))
    run = train(pictures, text, output=tmp_path / "fixed", epochs=1, batch_size=16)
    assert [row["threads"] for row in run.history] == [2]
