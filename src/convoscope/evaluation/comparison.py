"""Several tested runs side by side: scores, size, cost, and how far their images may be moved."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import UsageError, printable
from ..files import write_text
from ..render import DASHES, SERIES, Section, code, figure, figures, note, page, paragraph, shorten, table
from .assessment import gap_of, part_name, range_text, read_scores, table_of, test_command
from .charts import Curve, accuracy_floor, invariance_charts, line_chart, ticks
from .measures import Scores, finite, number_text, percent
from .report import model_name, seconds_text

if TYPE_CHECKING:
    from ..training import Run

KINDS = (("shift", "pixels"), ("turn", "degrees"), ("scale", "factor"))


@dataclass(frozen=True)
class Comparison:
    """Runs side by side.

    Attributes:
        runs: for each run `name`, `folder`, `model`, `source`, `task`, `tested` (what it was tested on), `accuracy`,
            `interval`, `chance`, `loss`, `macro_f1`, `calibration_error`, `mae`, `parameters`, `multiply_adds` (None
            where not known), `seconds`, `epochs`, `best_epoch`, `gap` (training minus validation accuracy), `ranges` of
            invariance and `history`.
        invariance: `shift`, `turn` and `scale`, each a list of the points that all runs share (`pixels`, `degrees`,
            `factor`) with `accuracy`, one for each run in the same order; None when a run was tested without.
        notes: why the numbers may not be comparable, one plain sentence each.
    """

    runs: list[dict[str, Any]]
    invariance: dict[str, list[dict[str, Any]]] | None
    notes: tuple[str, ...] = ()
    curves: list[dict[str, Any]] = field(default_factory=list, repr=False)

    def to_json(self) -> dict[str, Any]:
        """Plain lists, dicts and numbers."""
        return {"runs": self.runs, "invariance": self.invariance, "notes": list(self.notes)}

    def rows(self) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
        """The table as text: column names, then one row a run. A dash where a figure is not known."""
        regression = self._regression
        header = (
            "run", "model", "R²" if regression else "accuracy", "95 % interval", "loss", "gap", "parameters", "multiply-adds",
            "training", "best epoch", "shift", "turn", "size",
        )  # fmt: skip
        rows = []
        for run in self.runs:
            interval, ranges = run["interval"], run["ranges"]
            rows.append(
                (
                    run["name"],
                    shorten(run["model"], 48),
                    number_text(run["accuracy"]) if regression else percent(run["accuracy"]),
                    f"{100 * interval[0]:.1f}–{100 * interval[1]:.1f}" if interval else "–",
                    f"{run['loss']:,.3f}",
                    "–" if run["gap"] is None else f"{100 * run['gap']:+.1f}".replace("-", "−"),
                    f"{run['parameters']:,}",
                    "–" if run["multiply_adds"] is None else f"{run['multiply_adds']:,}",
                    seconds_text(run["seconds"]),
                    f"{run['best_epoch']} of {run['epochs']}",
                    *(range_text(kind, ranges) if ranges else "–" for kind, _ in KINDS),
                )
            )
        return header, rows

    @property
    def _regression(self) -> bool:
        return all(run["task"] == "regression" for run in self.runs)

    def _repr_html_(self) -> str:
        header, rows = self.rows()
        head = "".join(f"<th>{escape(cell)}</th>" for cell in header)
        body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
        return f"<table><tr>{head}</tr>{body}</table>"


def compare(runs: Sequence[Run]) -> Comparison:
    """Put tested runs side by side.

    Raises:
        UsageError: no run is given (`compare-nothing`), runs with numbers and others are mixed (`compare-tasks`), or
            some were not tested (`run-not-tested`); all of them are named.
        DataError: the result of a test is damaged (`scores-unreadable`).
    """
    if not runs:
        raise UsageError(
            "",
            "expected one or more runs to compare; received none",
            hint="convoscope compare RUN RUN",
            code="compare-nothing",
        )
    found = [read_scores(run.folder) for run in runs]
    untested = [run for run, scores in zip(runs, found, strict=True) if scores is None]
    if untested:
        raise UsageError(
            ", ".join(str(run.folder) for run in untested),
            f"{'has' if len(untested) == 1 else 'have'} not been tested; only tested runs can be compared",
            hint="; ".join(map(test_command, untested)),
            code="run-not-tested",
        )
    tested = [scores for scores in found if scores is not None]
    if len({scores.task == "regression" for scores in tested}) > 1:
        raise UsageError(
            ", ".join(str(run.folder) for run in runs),
            "some answer with numbers, others with classes or labels; they have no figure in common",
            hint="compare these and those apart",
            code="compare-tasks",
        )
    names = _names([Path(run.folder) for run in runs])
    entries, curves = [], []
    for name, run, scores in zip(names, runs, found, strict=True):
        assert scores is not None
        history: list[dict[str, Any]] = [dict(row) for row in run.history]
        for row in history:
            row |= {key: finite(row[key]) for key in ("val_loss", "val_accuracy")}
        gap = gap_of(run)
        layers = table_of(run)
        curves.append(scores.invariance or {})
        entries.append(
            {
                "name": name,
                "folder": printable(run.folder),
                "model": model_name(run, 200),
                "source": printable(run.settings.sources),
                "task": scores.task,
                "tested": f"{scores.images:,} images, {part_name(scores.split)} of {printable(scores.source)}",
                "accuracy": scores.accuracy,
                "interval": list(scores.interval) if scores.interval else None,
                "chance": scores.chance,
                "loss": scores.loss,
                "macro_f1": scores.macro_f1,
                "calibration_error": scores.calibration["ece"] if scores.calibration else None,
                "mae": scores.mae,
                "parameters": run.parameters,
                "multiply_adds": layers.multiply_adds if layers is not None else None,
                "seconds": run.seconds,
                "epochs": len(history),
                "best_epoch": run.best_epoch,
                "gap": gap["difference"] if gap else None,
                "moved_images": (scores.invariance or {}).get("images"),
                "ranges": (scores.invariance or {}).get("ranges"),
                "history": history,
            }
        )
    return Comparison(entries, _common(curves), _doubts(runs, entries, tested), curves if all(curves) else [])


def _names(folders: Sequence[Path]) -> list[str]:
    """The folders' names; where two are alike, with as much of the path as tells them apart."""
    parts = [[printable(part) for part in folder.resolve().parts] for folder in folders]
    for depth in range(1, max(len(part) for part in parts) + 1):
        names = ["/".join(part[-depth:]) for part in parts]
        if len(set(names)) == len(set(map(tuple, parts))):
            return names
    return names


def _common(curves: Sequence[dict[str, Any]]) -> dict[str, list[dict[str, Any]]] | None:
    """The points at which every run was measured."""
    if not all(curves):
        return None
    result = {}
    for kind, key in KINDS:
        values = [{row[key]: row["accuracy"] for row in entry[kind]} for entry in curves]
        shared = sorted(set(values[0]).intersection(*values[1:]))
        result[kind] = [{key: place, "accuracy": [entry[place] for entry in values]} for place in shared]
    return result


def _doubts(runs: Sequence[Run], entries: Sequence[dict[str, Any]], found: Sequence[Scores]) -> tuple[str, ...]:
    notes = []
    for entry, scores in zip(entries, found, strict=True):
        notes += [
            f"{entry['name']}: {note}" for note in scores.notes if "used in training" in note or "chose the" in note
        ]
    if len({entry["tested"] for entry in entries}) > 1:
        notes.append("the runs were tested on different images: their accuracies are not strictly comparable")
    if len({entry["task"] for entry in entries}) > 1 or len({frozenset(run.classes) for run in runs}) > 1:
        notes.append("the runs know different classes")
    for run, entry in zip(runs, entries, strict=True):
        if run.settings.relearned is not None:
            backbone = printable(run.settings.relearned.backbone)
            notes.append(f"{entry['name']}: its backbone had learned before and was taken over from {backbone}")
    if len({(run.settings.input.height, run.settings.input.width) for run in runs}) > 1:
        notes.append("the runs see images in different sizes: a shift by one pixel is not the same for each")
    counts = sorted({entry["moved_images"] for entry in entries if entry["moved_images"]})
    if len(counts) > 1:
        notes.append(f"shift, turn and scale were measured on {' and '.join(f'{count:,}' for count in counts)} images")
    if not all(entry["ranges"] is not None for entry in entries):
        names = ", ".join(entry["name"] for entry in entries if entry["ranges"] is None)
        notes.append(f"tested without shift, turn and scale: {names}")
    return tuple(notes)


def style(position: int) -> tuple[str, str]:
    """Colour and dash of the n-th run's curves; colours come round again with another dash."""
    return SERIES[position % len(SERIES)], DASHES[position // len(SERIES) % len(DASHES)]


def write_comparison(comparison: Comparison, path: str | os.PathLike[str]) -> Path:
    """Write the comparison as one self-contained page, with the runs' curves laid over one another.

    Raises:
        MachineError: it cannot be written there.
    """
    sections = [Section("scores", "Scores", _scores(comparison))]
    names = [shorten(run["name"], 22) for run in comparison.runs]
    styles = [style(position) for position in range(len(names))]
    key = _legend(comparison)
    if comparison.curves:
        drawings = invariance_charts(
            list(zip(names, comparison.curves, strict=True)),
            [colour for colour, _ in styles],
            [dash for _, dash in styles],
            legend=False,
        )
        words = (
            f"{'Each run' + chr(39) + 's' if len({run['tested'] for run in comparison.runs}) > 1 else 'The same'} images, moved before the network gets them. A network that looks for patterns wherever they are falls slowly; "
            "one that ties each weight to one pixel falls at once."
        )
        sections.append(
            Section(
                "invariance", "Shifted, turned, scaled", paragraph(words) + key + figures([figure(d) for d in drawings])
            )
        )
    sections.append(Section("learning", "Learning", key + figures(_learning(comparison, names, styles))))
    about = "".join(
        f"<h3>{escape(run['name'])}</h3>{code(run['model'])}{paragraph(run['tested'], 'quiet')}"
        for run in comparison.runs
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
    best = max(comparison.runs, key=lambda run: float(run["accuracy"]))
    if len(comparison.runs) == 1:
        return f"{best['name']}: {percent(best['accuracy'])}."
    reached = f"R² {best['accuracy']:.3f}" if comparison._regression else percent(best["accuracy"])
    text = f"{best['name']} is the most accurate, with {reached}."
    others = [run for run in comparison.runs if run is not best and run["interval"] and best["interval"]]
    close = [run["name"] for run in others if run["interval"][1] >= best["interval"][0]]
    if close:
        text += f" Its 95 % interval overlaps with that of {', '.join(close)}: the difference may be chance."
    return text


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
            values = [run[key] for run in comparison.runs]
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
    )


def _ranges(comparison: Comparison) -> str:
    header, rows = comparison.rows()
    return "<h3>How far each keeps 90&nbsp;% of its accuracy</h3>" + table(
        [header[0], *header[10:]], [[row[0], *row[10:]] for row in rows], texts=[1, 2, 3], wrapped=[0]
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
        items.append(f"<span>{line}{escape(run['name'])}</span>")
    return f'<p class="legend">{"".join(items)}</p>'


def _learning(comparison: Comparison, names: Sequence[str], styles: Sequence[tuple[str, str]]) -> list[str]:
    result = []
    measure = "Validation R²" if comparison._regression else "Validation accuracy"
    for column, title in (("val_accuracy", measure), ("val_loss", "Validation loss")):
        curves = [
            Curve(
                name=name,
                points=[
                    (float(row["epoch"]), float(row[column])) for row in run["history"] if row.get(column) is not None
                ],
                colour=colour,
                dash=dash,
                dots=len(run["history"]) <= 30,
            )
            for name, run, (colour, dash) in zip(names, comparison.runs, styles, strict=True)
        ]
        curves = [curve for curve in curves if curve.points]
        if not curves:
            continue
        longest = max(x for curve in curves for x, _ in curve.points)
        share = column == "val_accuracy" and not comparison._regression
        drawing = line_chart(
            curves,
            title=title,
            x_label="epoch",
            x_ticks=[tick for tick in ticks(1, longest, 6) if tick == int(tick)],
            y_text=(lambda value: f"{100 * value:.0f} %") if share else number_text,
            y_range=(accuracy_floor([y for curve in curves for _, y in curve.points]), 1.0) if share else None,
            legend=False,
        )
        result.append(figure(drawing))
    return result
