"""What a person sees while something runs: progress bars on a terminal or in a notebook, elsewhere one plain line for
each epoch.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .duration import rough_duration
from .errors import printable
from .training import EpochMetrics, Reporter

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, TaskID

_SILENCE = 30.0
"""Where there is no terminal, a line says how far it is once this many seconds have passed without one."""


class TerminalReporter(Reporter):
    """Reports a training on a console.

    A console that can no longer be written to (closed, its reader gone, its disk full) never ends a training: it just
    goes silent.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._lively = console.is_terminal or console.is_jupyter
        self._progress: Progress | None = None
        self._task: TaskID | None = None
        self._job = ""
        self._folder = Path()
        self._epochs = 0
        self._left: float | None = None
        self._started = False
        self._told = 0.0
        self._drawn = 0.0
        self._mute = False

    def say(self, text: str) -> None:
        self._print(text, style="dim")

    def warn(self, text: str) -> None:
        self._print("warning: " + text, style="yellow")

    def progress(self, what: str, done: int, total: int) -> None:
        if self._lively:
            self._draw(self._show_progress, what, done, total)

    def _show_progress(self, what: str, done: int, total: int) -> None:
        if self._progress is None or self._job != what:
            self._close()
            self._open(what)
        assert self._progress is not None
        assert self._task is not None
        self._progress.update(self._task, completed=done, total=total, note=f"{done:,} of {total:,}")
        if done >= total:
            self._close()

    def start(self, folder: Path, epochs: int) -> None:
        self._close()
        self._epochs, self._started = epochs, False
        self._folder = folder

    def time_left(self, seconds: float) -> None:
        self._left = seconds
        if not self._started:
            self._started = True
            self._told = time.monotonic()
            self._print(
                f"training in {printable(self._folder)}, about {rough_duration(seconds)}; Ctrl-C saves and stops"
            )

    def step(self, epoch: int, step: int, steps: int, loss: float) -> None:
        now = time.monotonic()
        if not self._lively:
            if now - self._told >= _SILENCE and self._left is not None:
                self._told = now
                left = rough_duration(self._left)
                self._print(f"epoch {epoch}/{self._epochs}, batch {step} of {steps}, about {left} left")
            return
        if now - self._drawn < 0.1 and step < steps:
            return
        self._drawn = now
        self._draw(self._show_step, epoch, step, steps, loss)

    def _show_step(self, epoch: int, step: int, steps: int, loss: float) -> None:
        if self._progress is None:
            self._open("training")
        assert self._progress is not None
        assert self._task is not None
        left = "" if self._left is None else f"  about {rough_duration(self._left)} left"
        self._progress.update(
            self._task,
            completed=(epoch - 1) * steps + step,
            total=self._epochs * steps,
            description=f"epoch {epoch}/{self._epochs}",
            note=f"loss {loss:.3f}{left}",
        )

    def epoch(self, row: EpochMetrics, best: bool) -> None:
        self._told = time.monotonic()
        self._print(epoch_line(row, self._epochs, best))

    def head(self, row: EpochMetrics) -> None:
        self._close()
        self._print(f"head  {_figures(row)}")

    def end(self) -> None:
        self._close()

    def _open(self, what: str) -> None:
        from rich.progress import BarColumn, Progress, ProgressColumn, TextColumn, TimeRemainingColumn

        self._job = what
        columns: list[ProgressColumn] = [
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TextColumn("{task.percentage:>3.0f}%"),
            TextColumn("{task.fields[note]}"),
        ]
        if what != "training":  # which says itself how long it takes: not every step takes equally long
            columns.append(TimeRemainingColumn(compact=True, elapsed_when_finished=True))
        self._progress = Progress(*columns, console=self._console, transient=True, refresh_per_second=5)
        self._progress.start()
        self._task = self._progress.add_task(what, total=None, note="")

    def _close(self) -> None:
        if self._progress is not None:
            progress, self._progress = self._progress, None
            self._draw(progress.stop)

    def _print(self, text: str, **style: Any) -> None:
        self._draw(self._console.print, printable(text), markup=False, highlight=False, soft_wrap=True, **style)

    def _draw(self, action: Callable[..., object], *arguments: Any, **options: Any) -> None:
        """Do something with the console; if that fails, be silent from then on."""
        if self._mute:
            return
        try:
            action(*arguments, **options)
        except (OSError, ValueError):
            self._mute = self._console.quiet = True
            if self._progress is not None:
                # It may be half started; what matters is that it gives the program its own streams back.
                with contextlib.suppress(Exception):
                    self._progress.stop()


def epoch_line(row: EpochMetrics, epochs: int, best: bool) -> str:
    """One epoch in one line, columns aligned."""
    width = len(str(epochs))
    return f"epoch {row['epoch']:>{width}}/{epochs}  {_figures(row)}" + ("  best" if best else "")


def _figures(row: EpochMetrics) -> str:
    text = f"train loss {row['train_loss']:.4f} accuracy {row['train_accuracy']:.4f}"
    if row["val_loss"] is not None:
        text += f"   validation loss {row['val_loss']:.4f} accuracy {row['val_accuracy']:.4f}"
    for name, value in row.get("metrics", {}).items():
        text += f" {name} –" if value is None else f" {name} {value:.4f}"
    return text + f"   {row['seconds']:.1f} s"


def default_reporter() -> Reporter:
    """For Python: a console in a notebook or on a terminal, silence elsewhere."""
    from rich.console import Console

    class Lasting(Console):
        def on_broken_pipe(self) -> None:
            self.quiet = True  # rich would end the program, and its standard output, too

    console = Lasting(file=None if "ipykernel" in sys.modules else sys.stderr)
    return TerminalReporter(console) if console.is_terminal or console.is_jupyter else Reporter()
