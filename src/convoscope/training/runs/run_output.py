"""A run in a notebook: the figures, the curves, and what to call next."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ...errors import printable
from ...render import Series, calls, curve_panel, heading, notebook, panels, shorten
from ..core.reporter import EpochMetrics, best_epoch

if TYPE_CHECKING:
    from pathlib import Path

    from .settings import Settings

_MOST_CLASSES = 3


def run_html(folder: Path, settings: Settings, history: Sequence[EpochMetrics]) -> str:
    """What it is, how it learned, and what can be asked of it."""
    height, width, channels = settings.input.height, settings.input.width, settings.input.channels
    images = ", ".join(f"{count:,} {part}" for part, count in settings.images.items() if count)
    facts = [
        f"{shorten(settings.model, 90)}; {settings.parameters:,} parameters; input {height}x{width}x{channels}",
        f"{shorten(settings.source, 80)}: {images} images; {_names(settings.classes)}",
        history_line(history, settings.recipe.epochs),
    ]
    return notebook(
        heading(f"Run {folder}", *facts),
        curves_html(history, settings.recipe.epochs, regression=settings.task == "regression"),
        calls("convoscope.test(run)", 'run.predict("new.jpg")', 'convoscope.look(run, "new.jpg")'),
    )


def _names(classes: Sequence[str]) -> str:
    names = ", ".join(shorten(name, 24) for name in classes[:_MOST_CLASSES])
    more = len(classes) - _MOST_CLASSES
    return f"{names} and {more:,} more" if more > 0 else names


def history_line(history: Sequence[EpochMetrics], epochs: int) -> str:
    """How far a training is and what it reached, in one line."""
    if not history:
        return f"no epoch of {epochs} is done"
    best = history[best_epoch(list(history)) - 1]
    done = f"{len(history)} of {epochs} epochs" if epochs > 1 else "1 epoch"
    kept = f"; best epoch {best['epoch']}" if len(history) > 1 else ""
    reached = f"training loss {best['train_loss']:.4g}"
    if best["val_accuracy"] is not None and best["val_loss"] is not None:
        reached = f"validation accuracy {best['val_accuracy']:.4f}, loss {best['val_loss']:.4g}"
    return f"{done}{kept}: {reached}; {sum(row['seconds'] for row in history):,.1f} s"


def curves_html(history: Sequence[EpochMetrics], epochs: int, *, regression: bool = False) -> str:
    """Loss and accuracy over the epochs; nothing where there are no two epochs to draw a line between."""
    if len(history) < 2:
        return ""
    best = best_epoch(list(history))
    charts = []
    for title, name in (("loss", "loss"), ("R²" if regression else "accuracy", "accuracy")):
        series = []
        for part, colour, key in (("training", "blue", f"train_{name}"), ("validation", "orange", f"val_{name}")):
            points = [(float(row["epoch"]), value) for row in history if (value := _figure(row, key)) is not None]
            if points:
                series.append(Series(name=part, colour=colour, points=points))
        share = name == "accuracy" and not regression
        charts.append(curve_panel(title, series, last=max(epochs, len(history)), percent=share, marked=best))
    return panels(charts)


def _figure(row: EpochMetrics, key: str) -> float | None:
    value = dict(row).get(key)
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None


def run_text(folder: Path, settings: Settings, history: Sequence[EpochMetrics]) -> str:
    """One line for `repr`."""
    last = history[-1] if history else None
    figures = (
        f", {last['epoch']} epochs, validation accuracy {last['val_accuracy']:.4f}"
        if last and last["val_accuracy"] is not None
        else ""
    )
    return f"<Run {shorten(printable(folder), 300)}: {shorten(settings.model.split(':')[0], 40)!r}{figures}>"
