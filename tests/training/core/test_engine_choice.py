"""Which arithmetic is chosen, however busy the machine is, and that it is chosen once."""

import json
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from convoscope import models
from convoscope.training import Recipe, train
from convoscope.training.core import engine_choice, engine_store, step_time
from convoscope.training.core.engine import Engine
from tests.support.runs import Listener, fingerprint

TEXT = "conv(4) relu maxpool globalavg dense"


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CONVOSCOPE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def step_of(
    text: str = TEXT, images: int = 4, classes: int = 3
) -> tuple[nn.Module, Tensor, Callable[[Tensor], Tensor]]:
    """A network, a batch and a loss."""
    torch.manual_seed(0)
    targets = torch.arange(images) % classes
    network = models.build(text, (12, 12, 1), classes)
    return network, torch.randn(images, 1, 12, 12), lambda scores: nn.functional.cross_entropy(scores, targets)


def chosen() -> Engine:
    return engine_choice.choose_engine(*step_of(), Recipe())


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How often something was timed, where that takes no time."""
    made: list[int] = []

    def fastest(*_: Any) -> Engine:
        made.append(1)
        return Engine(memory_format="channels_last", reason="one step: 1 ms")

    monkeypatch.setattr(engine_choice, "_fastest", fastest)
    return made


class Machine:
    """A machine whose steps take as long as they are said to, and longer the busier it is, in a fake time.

    Attributes:
        seconds: of a step, by memory format and threads.
        busy: how much longer a step takes where its threads wait for a core, at most.
    """

    def __init__(self, seconds: dict[tuple[str, int], float], busy: float, seed: int) -> None:
        self.seconds, self.busy = seconds, busy
        self.wall = self.processor = self.waited = 0.0
        self.steps = 0
        self._noise = np.random.default_rng(seed)

    def step(self, trial: Any) -> None:
        self.steps += 1
        engine = trial.engine
        took = self.seconds[engine.memory_format, engine.threads] * (1 + 0.03 * self._noise.random())
        # More threads find a busy core more often.
        late = took * self.busy * engine.threads * self._noise.random()
        self.processor += took
        self.wall += took + late
        self.waited += late
        trial.gradient = torch.ones(2)
        trial._network.zero_grad()
        for parameter in trial._network.parameters():
            parameter.grad = torch.ones_like(parameter)

    def take_over(self, patch: pytest.MonkeyPatch) -> None:
        patch.setattr(engine_choice._Trial, "_run", lambda trial: self.step(trial))  # noqa: PLW0108 - called as a method
        patch.setattr(engine_choice, "all_threads", lambda: 2)
        patch.setattr(step_time, "_waited", lambda: self.waited)
        patch.setattr(engine_choice, "has_bfloat16", lambda _: False)
        clocks = SimpleNamespace(perf_counter=lambda: self.wall, thread_time=lambda: self.processor)
        for module in (engine_choice, step_time):
            patch.setattr(module, "time", clocks)


SMALL_STEPS = {
    ("channels_last", 2): 0.0060, ("channels_last", 1): 0.0050, ("contiguous", 2): 0.0080, ("contiguous", 1): 0.0062,
}  # fmt: skip
LARGE_STEPS = {
    ("channels_last", 2): 0.0200, ("channels_last", 1): 0.0380, ("contiguous", 2): 0.0270, ("contiguous", 1): 0.0420,
}  # fmt: skip
CONTIGUOUS_STEPS = {
    ("channels_last", 2): 0.0400, ("channels_last", 1): 0.0500, ("contiguous", 2): 0.0200, ("contiguous", 1): 0.0390,
}  # fmt: skip


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (SMALL_STEPS, ("channels_last", 1)),
        (LARGE_STEPS, ("channels_last", 2)),
        (CONTIGUOUS_STEPS, ("contiguous", 2)),
    ],
    ids=["small steps", "large steps", "contiguous"],
)
@pytest.mark.parametrize("busy", [0.0, 1.0, 5.0], ids=["idle", "busy", "very busy"])
def test_a_busy_machine_makes_the_choice_of_an_idle_one(
    seconds: dict[tuple[str, int], float], expected: tuple[str, int], busy: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    for seed in range(5):
        Machine(seconds, busy, seed).take_over(monkeypatch)
        monkeypatch.setenv("CONVOSCOPE_CACHE", os.environ["CONVOSCOPE_CACHE"] + f"-{seed}")
        engine = chosen()
        assert (engine.memory_format, engine.threads) == expected, engine.reason


def test_no_candidate_is_tried_more_often_than_its_time_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(LARGE_STEPS, 0.0, 0)
    machine.take_over(monkeypatch)
    chosen()
    # Two rounds of four candidates, three of the two that may win, and each one's step that is not timed.
    assert machine.steps == 2 * 4 + 3 * 2 + 4


def test_one_thread_is_tried_however_long_a_step_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = {
        ("channels_last", 2): 2.0, ("channels_last", 1): 2.1, ("contiguous", 2): 2.6, ("contiguous", 1): 2.7,
    }  # fmt: skip
    machine = Machine(seconds, 0.0, 0)
    machine.take_over(monkeypatch)
    assert chosen().threads == 1
    assert machine.steps == 3 * 4 + 4


def test_a_network_without_convolutions_is_tried_in_one_order_only() -> None:
    network, batch, loss = step_of("flatten dense(4) relu dense")
    engine = engine_choice.choose_engine(network, batch, loss, Recipe())
    assert engine.memory_format == "contiguous"
    assert "channels-last" not in engine.reason


def test_a_choice_is_made_once(calls: list[int]) -> None:
    first, again = chosen(), chosen()
    assert len(calls) == 1
    assert again.reason == f"{first.reason}; remembered from an earlier run"
    assert again.model_copy(update={"reason": first.reason}) == first


def test_starts_in_one_moment_make_one_choice(calls: list[int]) -> None:
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: chosen(), range(4)))
    assert len(calls) == 1
    assert {engine.memory_format for engine in found} == {"channels_last"}


def test_another_kind_of_step_is_another_choice() -> None:
    network, batch, _ = step_of()

    def kind(network: nn.Module = network, batch: Tensor = batch, **recipe: Any) -> str:
        return engine_store.kind_of_step(network, batch, Recipe.read(recipe), "cpu")

    frozen = step_of()[0]
    next(frozen.parameters()).requires_grad_(False)
    kinds = [
        kind(),
        kind(frozen),
        kind(step_of(classes=4)[0]),
        kind(step_of("conv(4, 5) relu maxpool globalavg dense")[0]),
        kind(step_of("conv(4) tanh maxpool globalavg dense")[0]),
        kind(batch=batch[:3]),
        kind(batch=batch[..., :8, :8]),
        kind(threads=1),
        kind(memory_format="contiguous"),
    ]
    assert len(set(kinds)) == len(kinds)
    torch.manual_seed(7)
    assert kind(models.build(TEXT, (12, 12, 1), 3), torch.randn(4, 1, 12, 12), epochs=3, learning_rate=0.1) == kind()


@pytest.mark.parametrize(
    ("made_with", "needs", "available", "used"),
    [(8, 1, 8, True), (8, 1, 2, True), (8, 4, 2, False), (8, 4, 4, True), (2, 1, 8, False), (2, 2, 8, False)],
)
def test_a_choice_counts_where_it_would_have_been_the_same(
    made_with: int, needs: int, available: int, used: bool
) -> None:
    """With fewer cores only if it needs no more; with more it might be better to use them."""
    engine_store.keep_choice("ab" * 32, made_with, Engine(threads=needs))
    assert (engine_store.find_choice("ab" * 32, available) is not None) == used


def test_choices_for_other_numbers_of_threads_stand_side_by_side() -> None:
    kind = "cd" * 32
    engine_store.keep_choice(kind, 1, Engine(threads=1, memory_format="channels_last"))
    engine_store.keep_choice(kind, 4, Engine(threads=4))
    found = [engine_store.find_choice(kind, threads) for threads in (1, 2, 4)]
    assert [engine and engine.threads for engine in found] == [1, None, 4]


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b'{"2": {"threads": "many"}}', b'{"2": {"precision": "float8"}}', b"\xff\xfe", b"x" * 200_000],
)
def test_a_damaged_entry_is_made_anew(content: bytes, own_cache: Path, calls: list[int]) -> None:
    chosen()
    (entry,) = (own_cache / "engines").iterdir()
    entry.write_bytes(content)
    assert "remembered" not in chosen().reason
    assert "remembered" in chosen().reason
    assert len(calls) == 2
    assert [choice["device"] for choice in json.loads(entry.read_bytes()).values()] == ["cpu"]


def test_without_a_cache_folder_it_is_chosen_each_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, calls: list[int]
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("CONVOSCOPE_CACHE", str(tmp_path / "file" / "cache"))
    assert "remembered" not in chosen().reason + chosen().reason
    assert len(calls) == 2


def test_the_oldest_entries_go_when_there_are_too_many(own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_store, "_MOST_FILES", 2)
    for number in range(4):
        engine_store.keep_choice(f"{number}" * 64, 1, Engine())
        place = own_cache / "engines" / f"{str(number) * 32}.json"
        os.utime(place, (number, number))
    assert sorted(entry.name[0] for entry in (own_cache / "engines").iterdir()) == ["2", "3"]


def test_the_same_command_gives_the_same_weights_when_another_choice_would_be_made_by_now(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listener = Listener()
    train(pictures, TEXT, output=tmp_path / "one", epochs=1, reporter=listener)
    monkeypatch.setattr(engine_choice, "_fastest", lambda *_: pytest.fail("chosen anew"))
    run = train(pictures, TEXT, output=tmp_path / "two", epochs=1, reporter=listener)
    assert fingerprint(tmp_path / "one") == fingerprint(tmp_path / "two")
    assert [line.count("remembered") for line in listener.said if line.startswith("computing on")] == [0, 1]
    engine = run.settings.engine
    pinned = f"--set precision=float32 --set memory_format={engine['memory_format']} --set threads={engine['threads']}"
    assert listener.heard(f"to compute in the same way on any machine: {pinned}")


@pytest.mark.parametrize(
    ("asked", "fixed"), [({}, False), ({"threads": 1}, True), ({"precision": "float32"}, True)], ids=str
)
def test_threads_stay_where_they_or_the_precision_were_named(asked: dict[str, Any], fixed: bool) -> None:
    for _ in range(2):  # chosen, then remembered
        assert engine_choice.choose_engine(*step_of(), Recipe.read(asked)).threads_fixed == fixed
