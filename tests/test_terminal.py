"""What a person sees while a training runs, and that it never ends one."""

import io
import os
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console

from convoscope.terminal import TerminalReporter, default_reporter


@pytest.fixture(params=["pipe", "terminal", "closed file"])
def dead(request: pytest.FixtureRequest) -> Iterator[io.TextIOWrapper]:
    """A stream that cannot be written to any more."""
    ours, theirs = os.openpty() if request.param == "terminal" else os.pipe()
    os.close(ours)
    stream = io.TextIOWrapper(io.FileIO(theirs, "w"), write_through=True)
    if request.param == "closed file":
        stream.close()
    yield stream
    stream.close()


def test_a_script_outlives_the_stream_of_its_progress(dead: io.TextIOWrapper, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")  # a bar, as on a terminal
    monkeypatch.setattr(sys, "stderr", dead)
    output = sys.stdout
    reporter = default_reporter()
    assert isinstance(reporter, TerminalReporter)
    for _ in range(2):
        reporter.say("hello")
        reporter.progress("reading", 1, 9)
        reporter.step(1, 1, 2, 0.5)
        reporter.end()
    assert sys.stdout is output
    assert sys.stderr is dead
    os.fstat(1)


@pytest.mark.parametrize("kind", ["pipe", "terminal"])
def test_a_stream_that_dies_while_a_bar_is_drawn(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setattr(threading, "excepthook", lambda *_: None)  # the thread that draws may be the first to meet it
    ours, theirs = os.openpty() if kind == "terminal" else os.pipe()
    with io.TextIOWrapper(io.FileIO(theirs, "w"), write_through=True) as stream:
        monkeypatch.setattr(sys, "stderr", stream)
        output = sys.stdout
        reporter = default_reporter()
        reporter.progress("reading", 1, 9)
        assert sys.stdout is not output  # in good hands while the bar is there
        os.close(ours)
        reporter.say("hello")
        reporter.step(1, 2, 2, 0.5)
        reporter.end()
        assert (sys.stdout, sys.stderr) == (output, stream)


def test_a_bar_says_how_many_are_done() -> None:
    stream = io.StringIO()
    reporter = TerminalReporter(Console(file=stream, force_terminal=True, width=100))
    reporter.progress("predicting", 64, 3000)
    reporter.end()
    assert "predicting" in stream.getvalue() and "64 of 3,000" in stream.getvalue()


def told(lively: bool, width: int = 80) -> tuple[TerminalReporter, io.StringIO]:
    stream = io.StringIO()
    return TerminalReporter(Console(file=stream, force_terminal=lively, width=width)), stream


def test_a_training_says_how_long_it_takes_before_it_begins() -> None:
    reporter, stream = told(lively=False)
    reporter.start(Path("runs/a"), 10)
    reporter.time_left(530)
    reporter.time_left(529)
    assert stream.getvalue() == "training in runs/a, about 9 min; Ctrl-C saves and stops\n"


def test_the_bar_says_how_long_it_still_takes() -> None:
    reporter, stream = told(lively=True)
    reporter.start(Path("runs/a"), 10)
    reporter.time_left(530)
    reporter.step(1, 1, 4, 0.25)
    reporter.end()
    assert "loss 0.250  about 9 min left" in stream.getvalue()


def test_without_a_terminal_a_line_comes_from_time_to_time(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    reporter, stream = told(lively=False)
    reporter.start(Path("runs/a"), 3)
    for step in range(1, 8):
        reporter.time_left(200 - now[0])
        reporter.step(2, step, 7, 0.25)
        now[0] += 12
    assert stream.getvalue().splitlines()[1:] == [
        "epoch 2/3, batch 4 of 7, about 65 s left",
        "epoch 2/3, batch 7 of 7, about 30 s left",
    ]
