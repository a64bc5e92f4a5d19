"""When a training goes on with one thread, and when it comes back."""

import pytest

from convoscope.training.fit.watch import ProcessorWatch


class Machine:
    """Steps in a fake time: 0.1 s with both threads and 0.17 s with one where it is quiet, longer where it is busy."""

    def __init__(self, *, fixed: bool = False, threads: int = 2) -> None:
        self.said: list[str] = []
        self.time = 0.0
        self.alone = 0.0
        self.watch = ProcessorWatch(threads, fixed, self.said.append)

    def run(self, seconds: float, both: float, one: float) -> None:
        end = self.time + seconds
        while self.time < end:
            took = both if self.watch.threads > 1 else one
            self.alone += took * (self.watch.threads == 1)
            self.time += took
            self.watch.step(took, 0.1)


BUSY = "another program keeps the processor busy: going on with 1 thread"
FREE = "the processor is free again: going on with 2 threads"


def test_a_quiet_machine_is_left_alone() -> None:
    machine = Machine()
    machine.run(600, 0.15, 0.17)
    assert (machine.said, machine.alone) == ([], 0)


def test_one_thread_while_another_program_is_busy_and_back_when_it_ends() -> None:
    machine = Machine()
    machine.run(60, 0.1, 0.17)
    machine.run(15, 1.0, 0.2)
    assert (machine.said, machine.watch.threads) == ([BUSY], 1)
    machine.run(600, 1.0, 0.2)
    assert machine.said == [BUSY]
    assert machine.alone > 0.93 * 600  # all threads are tried again, but seldom
    machine.run(300, 0.1, 0.17)
    assert (machine.said, machine.watch.threads) == ([BUSY, FREE], 2)


def test_one_thread_that_is_not_faster_is_given_up() -> None:
    machine = Machine()
    machine.run(600, 0.5, 0.5)
    assert (machine.said, machine.watch.threads) == ([], 2)
    assert machine.alone < 0.06 * 600


@pytest.mark.parametrize(("fixed", "threads"), [(True, 2), (False, 1)])
def test_a_number_that_was_asked_for_or_is_one_stays(fixed: bool, threads: int) -> None:
    machine = Machine(fixed=fixed, threads=threads)
    machine.run(100, 5.0, 5.0)
    assert (machine.said, machine.watch.threads) == ([], threads)


def test_one_slow_second_changes_nothing() -> None:
    machine = Machine()
    for _ in range(20):
        machine.run(8, 0.1, 0.17)
        machine.run(0.9, 0.9, 0.9)
    assert (machine.said, machine.alone) == ([], 0)
