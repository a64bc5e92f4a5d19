"""How long a training takes, counted in advance."""

import datetime
import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from convoscope.errors import UsageError
from convoscope.training import EpochMetrics, Recipe, Reporter, Run, train
from convoscope.training.core.engine import Engine
from convoscope.training.fit import budget, loop, watch
from convoscope.training.fit import job as job_module
from convoscope.training.fit.pace import EpochPace, Pace, TimeLeft, early_epochs
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
    monkeypatch.setattr(loop, "measure_pace", lambda *_: Pace(EpochPace(1e-6, 0), EpochPace(1e-6, 0), 9))
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


def test_minutes_choose_the_epochs_and_the_run_notes_it(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(budget, "measure_pace", lambda *_: Pace(EpochPace(0.1, 0.4), EpochPace(0.1, 0.4), 6))
    listener = Listener()
    text = "conv(2) relu globalavg dense"
    run = train(pictures, text, output=tmp_path / "run", batch_size=16, minutes=0.1, reporter=listener)
    assert run.settings.recipe.epochs == len(run.history) == 6
    (note,) = [note for note in run.settings.notes if "instead of" in note]
    assert note.startswith("6 epochs instead of ") and note.endswith(", which take about 6 s: 0.1 min were given")
    assert listener.heard(note) and note in (tmp_path / "run" / "run.toml").read_text()
    run = train(pictures, text, output=tmp_path / "short", batch_size=16, minutes=0.01, reporter=listener)
    assert len(run.history) == 1
    assert listener.heard("one epoch takes about a second, which is more than 0.01 min")


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({"minutes": 0}, "minutes-out-of-range"),
        ({"minutes": "five"}, "minutes-out-of-range"),
        ({"minutes": 5, "epochs": 3}, "minutes-with-epochs"),
    ],
)
def test_minutes_that_cannot_be(pictures: Path, tmp_path: Path, options: dict[str, Any], code: str) -> None:
    with pytest.raises(UsageError) as refused:
        train(pictures, output=tmp_path / "run", **options)
    assert refused.value.code == code


@pytest.mark.parametrize(
    ("done", "recipe", "words"),
    [
        (3, {"epochs": 3}, ""),
        (2, {"epochs": 5, "start_size": 0.6}, "stopped at epoch 2 of 5, while still on small images"),
        (8, {"epochs": 10, "start_size": 0.6}, "stopped at epoch 8 of 10"),
        (2, {"epochs": 5, "patience": 1}, ""),
    ],
)
def test_a_stopped_run_says_where(
    done: int, recipe: dict[str, Any], words: str, pictures: Path, tmp_path: Path
) -> None:
    before = datetime.datetime.now().astimezone().replace(microsecond=0)
    run = train(pictures, "conv(2) relu globalavg dense", output=tmp_path / "run", size=24, batch_size=48, epochs=1)
    assert before <= datetime.datetime.fromisoformat(run.settings.started) <= datetime.datetime.now().astimezone()
    settings = run.settings.model_copy(update={"recipe": Recipe.read(recipe)})
    small = 0 if recipe.get("start_size", 1) == 1 else early_epochs(settings.recipe)
    history: list[EpochMetrics] = [
        run.history[0] | {"epoch": number + 1, "size": 16 if number < small else 24} for number in range(done)
    ]
    stopped = Run(run.folder, settings, history, run.folder / "best.safetensors")
    assert stopped.stopped_early == words
    assert stopped.remarks == ((f"the training was {words}",) if words else ())
    settings = settings.model_copy(update={"engine": settings.engine | {"threads": 2}})
    rows: list[EpochMetrics] = [row | {"threads": 2 - (row["epoch"] == 1)} for row in history]
    disturbed = Run(run.folder, settings, rows, run.folder / "best.safetensors")
    assert disturbed.fewer_threads.startswith("epoch 1 was computed on fewer than 2 threads")
