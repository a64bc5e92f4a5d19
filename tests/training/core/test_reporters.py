"""Several reporters at once: all hear everything, and one that fails is heard of once."""

from pathlib import Path

import pytest

from convoscope.training import EpochMetrics, Reporter, Reporters
from tests.support.runs import Listener

ROW = EpochMetrics(
    epoch=1, train_loss=1.0, train_accuracy=0.5, val_loss=None, val_accuracy=None, seconds=1.0, learning_rate=0.1, size=5
)  # fmt: skip


class Failing(Reporter):
    def epoch(self, row: EpochMetrics, best: bool) -> None:
        raise ConnectionError("the server\x1b is gone")


def test_all_hear_everything() -> None:
    names = [name for name in vars(Reporter) if not name.startswith("_")]
    assert {"say", "start", "epoch", "finished", "tested"} <= set(names)
    assert [name for name in names if vars(Reporters).get(name) is None] == []
    one, two = Listener(), Listener()
    both = Reporters(one, [two])
    both.say("hello")
    both.epoch(ROW, best=True)
    both.finished(Path("runs/a"))
    assert one.said == two.said == ["hello"]
    assert one.rows == two.rows == [ROW]


def test_one_that_fails_is_heard_of_once() -> None:
    first, last = Listener(), Listener()
    told = Reporters(first, [Failing(), last])
    for _ in range(2):
        told.epoch(ROW, best=True)
    assert first.warned == ["Failing failed and is told no more of this: ConnectionError: the server\\x1b is gone"]
    assert len(first.rows) == len(last.rows) == 2


def test_what_the_first_raises_is_raised() -> None:
    with pytest.raises(ConnectionError):
        Reporters(Failing(), [Listener()]).epoch(ROW, best=True)
