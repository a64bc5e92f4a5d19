"""What a training shows in a notebook: its curves, growing, in one output of the cell that runs it."""

from __future__ import annotations

import sys
import time
from importlib import import_module
from pathlib import Path
from typing import Any

from .errors import printable
from .python_words import in_python
from .render import notebook, text
from .training import EpochMetrics, Reporter, curves_html, history_line

_PAUSE = 0.5
"""Seconds between two updates: a page that is open for an hour must not drown in them."""
_MOST_LINES = 12


def in_notebook() -> bool:
    """Whether this runs inside a notebook's kernel."""
    shell = sys.modules.get("IPython")
    return "ipykernel" in sys.modules and getattr(shell and shell.get_ipython(), "kernel", None) is not None


class NotebookReporter(Reporter):
    """Shows a training in a notebook: what was decided, how far it is, and its curves.

    A page that can no longer be written to never ends a training: it just stays as it is.
    """

    def __init__(self) -> None:
        self._output: Any = None
        self._drawn = 0.0
        self._mute = False
        self._clear()

    def _clear(self) -> None:
        self._lines: list[tuple[str, str]] = []
        self._history: list[EpochMetrics] = []
        self._folder: Path | None = None
        self._epochs = 0
        self._job = ""
        self._share = 0.0

    def say(self, text: str) -> None:
        self._add(text, "muted")

    def warn(self, text: str) -> None:
        self._add("warning: " + text, "warning")

    def _add(self, line: str, kind: str) -> None:
        self._lines.append((in_python(line), kind))
        self._draw()

    def progress(self, what: str, done: int, total: int) -> None:
        self._job = f"{what}: {done:,} of {total:,}" if done < total else ""
        self._share = done / max(total, 1)
        self._draw(now=done >= total)

    def start(self, folder: Path, epochs: int) -> None:
        if self._folder is not None and self._folder != folder:  # the next of several trainings
            self._output = None
            self._clear()
        self._folder, self._epochs = folder, epochs
        self._draw(now=True)

    def step(self, epoch: int, step: int, steps: int, loss: float) -> None:
        self._job = f"epoch {epoch} of {self._epochs}, step {step:,} of {steps:,}, loss {loss:.3f}"
        self._share = ((epoch - 1) * steps + step) / max(self._epochs * steps, 1)
        self._draw()

    def epoch(self, row: EpochMetrics, best: bool) -> None:
        self._history.append(row)
        self._draw()

    def head(self, row: EpochMetrics) -> None:
        self._history.append(row)
        self._epochs = max(self._epochs, 1)
        self._draw(now=True)

    def end(self) -> None:
        self._job = ""
        self._draw(now=True)

    def _draw(self, *, now: bool = False) -> None:
        """Renew the output, at most twice a second unless it must be `now`."""
        moment = time.monotonic()
        if self._mute or (not now and moment - self._drawn < _PAUSE):
            return
        self._drawn = moment
        try:
            if self._output is None:
                self._output = import_module("IPython.display").display(_Output(self._html()), display_id=True)
            else:
                self._output.update(_Output(self._html()))
        except Exception:  # the frontend's business; a training goes on without it
            self._mute = True

    def _html(self) -> str:
        lines = [f'<p class="{kind}">{text(line)}</p>' for line, kind in self._lines[-_MOST_LINES:]]
        hidden = len(self._lines) - len(lines)
        if hidden > 0:
            lines.insert(0, f'<p class="muted">{hidden} earlier lines are left out</p>')
        if self._folder is not None:
            words = f"training in {printable(self._folder)}"
            if self._job:
                words += "; interrupt the kernel to save and stop"
            lines.append(f"<p>{text(words)}</p>")
        if self._job:
            width = f"{100 * min(self._share, 1):.1f}%"
            bar = f'<div class="bar"><div style="width:{width}"></div></div>'
            lines.append(f'{bar}<p class="muted">{text(self._job)}</p>')
        if self._history:
            lines.append(f"<p>{text(history_line(self._history, self._epochs))}</p>")
            lines.append(curves_html(self._history, self._epochs))
        return notebook(*lines)


class _Output:
    """Markup that knows how to be shown."""

    def __init__(self, markup: str) -> None:
        self._markup = markup

    def __repr__(self) -> str:
        return "a training's progress"

    def _repr_html_(self) -> str:
        return self._markup
