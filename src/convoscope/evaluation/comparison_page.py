"""A comparison as one self-contained page, with the runs' curves over one another."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from html import escape
from pathlib import Path

from ..files import write_text
from ..render import DASHES, SERIES, Section, code, figure, figures, note, page, paragraph, shorten, table
from .charts import Axis, Curve, epoch_axis, invariance_charts, line_chart, share_axis
from .comparison import Comparison
from .text import percent


def style(position: int) -> tuple[str, str]:
    """Colour and dash of the n-th run's curves; colours come round again with another dash."""
    return SERIES[position % len(SERIES)], DASHES[position // len(SERIES) % len(DASHES)]


def write_comparison(comparison: Comparison, path: str | os.PathLike[str]) -> Path:
    """Write the comparison as one page, with the runs' curves over one another.

    Raises:
        MachineError: it cannot be written there.
    """
    sections = [Section("scores", "Scores", _scores(comparison))]
    names = [shorten(run.name, 22) for run in comparison.runs]
    styles = [style(position) for position in range(len(names))]
    key = _legend(comparison)
    if comparison.curves:
        drawings = invariance_charts(list(zip(names, comparison.curves, strict=True)), styles)
        which = "Each run's" if len({run.tested for run in comparison.runs}) > 1 else "The same"
        words = (
            f"{which} images, moved before they reach the network. The accuracy of a network that finds patterns "
            "anywhere in the image falls slowly; that of one that ties each weight to one pixel falls at once."
        )
        content = paragraph(words) + key + figures([figure(drawing) for drawing in drawings])
        sections.append(Section("invariance", "Shifted, turned, scaled", content))
    sections.append(Section("learning", "Learning", key + figures(_learning(comparison, names, styles))))
    about = "".join(
        f"<h3>{escape(run.name)}</h3>{code(run.model)}{paragraph(run.tested, 'quiet')}" for run in comparison.runs
    )
    sections.append(Section("runs", "The runs", about))
    head = (
        '<p class="eyebrow">convoscope comparison</p>'
        f"<h1>{len(comparison.runs)} run{'s' if len(comparison.runs) != 1 else ''} side by side</h1>"
        f'<p class="lead">{escape(_sentence(comparison))}</p>'
        + "".join(note(text, warn=True) for text in comparison.notes)
    )
    target = Path(path)
    write_text(target, page("convoscope comparison", head, sections, "This page fetches nothing and runs nothing."))
    return target


def _sentence(comparison: Comparison) -> str:
    best = max(comparison.runs, key=lambda run: -math.inf if run.accuracy is None else run.accuracy)
    if len(comparison.runs) == 1:
        return f"{best.name}: {percent(best.accuracy)}."
    if best.accuracy is None:
        return "None of the runs has an R²."
    reached = f"R² {best.accuracy:.3f}" if comparison.regression else percent(best.accuracy)
    text = f"{best.name} is the most accurate, with {reached}."
    return " ".join([text, *(pair.sentence for pair in comparison.pairs[:1])])


def _scores(comparison: Comparison) -> str:
    header, rows = comparison.rows()
    shown = [0, 2, 3, 4, 5, 6, 7, 8, 9]
    # Told apart by the exact values, as text may round two different ones to the same.
    columns = {
        2: ("accuracy", max),
        4: ("loss", min),
        6: ("parameters", min),
        7: ("multiply_adds", min),
        8: ("seconds", min),
    }
    best = [[False] * len(header) for _ in rows]
    if len(rows) > 1:
        for column, (key, pick) in columns.items():
            values = [getattr(run, key) for run in comparison.runs]
            if None not in values:
                for position, value in enumerate(values):
                    best[position][column] = value == pick(values)
    words = (
        "Gap: training minus validation accuracy at the best epoch, in percentage points. The best of a column is bold."
    )
    return (
        table(
            [header[column] for column in shown],
            [[row[column] for column in shown] for row in rows],
            wrapped=[0],
            best=[[marks[column] for column in shown] for marks in best],
        )
        + '<div class="space"></div>'
        + paragraph(words, "quiet")
        + "".join(paragraph(f"{pair.sentence} {pair.method}.") for pair in comparison.pairs)
    )


def _legend(comparison: Comparison) -> str:
    items = []
    for position, run in enumerate(comparison.runs):
        colour, dash = style(position)
        stroke = f' stroke-dasharray="{dash}"' if dash else ""
        line = (
            f'<svg class="swatch" width="22" height="8" viewBox="0 0 22 8" aria-hidden="true">'
            f'<path d="M0 4H22" stroke="var(--{colour})" stroke-width="2.5"{stroke}/></svg>'
        )
        items.append(f"<span>{line}{escape(run.name)}</span>")
    return f'<p class="legend">{"".join(items)}</p>'


def _learning(comparison: Comparison, names: Sequence[str], styles: Sequence[tuple[str, str]]) -> list[str]:
    result = []
    measure = "Validation R²" if comparison.regression else "Validation accuracy"
    for column, title in (("val_accuracy", measure), ("val_loss", "Validation loss")):
        curves = [
            Curve(
                name=name,
                points=[
                    (float(row["epoch"]), float(row[column])) for row in run.history if row.get(column) is not None
                ],
                colour=colour,
                dash=dash,
                dots=len(run.history) <= 30,
            )
            for name, run, (colour, dash) in zip(names, comparison.runs, styles, strict=True)
        ]
        curves = [curve for curve in curves if curve.points]
        if not curves:
            continue
        share = column == "val_accuracy" and not comparison.regression
        drawing = line_chart(
            curves,
            title=title,
            x=epoch_axis(max(x for curve in curves for x, _ in curve.points)),
            y=share_axis([y for curve in curves for _, y in curve.points]) if share else Axis(),
            legend=False,
        )
        result.append(figure(drawing))
    return result
