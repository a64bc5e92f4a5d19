"""Several tested runs side by side: scores, size, cost, and how far their images may be moved."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import UsageError, printable
from ..render import shorten
from .overfitting import gap_of
from .paired import Difference, differences
from .result_files import read_scores
from .results import KINDS, Invariance, Kind, Ranges, Scores, plain
from .run_facts import model_name, table_of, test_command
from .text import finite, number_text, part_name, percent, seconds_text

if TYPE_CHECKING:
    from ..training import Run

PLACES: dict[Kind, str] = {"shift": "pixels", "turn": "degrees", "scale": "factor"}


@dataclass(frozen=True, kw_only=True)
class ComparedRun:
    """One run of a comparison.

    Attributes:
        name: the folder's name, with as much of its path as distinguishes it from the others.
        folder, model, source, task: the run's.
        tested: what it was tested on, in words.
        accuracy, interval, chance, loss, macro_f1, mae: as in `Scores`.
        calibration_error: the expected calibration error; None for regression.
        parameters: how many the network has.
        multiply_adds: for one image; None where not known.
        seconds, epochs, best_epoch: of the training.
        not_known: the share of the images that are marked as not known; None without an out-of-distribution detector.
        gap: training minus validation accuracy at the best epoch.
        moved_images: how many images the curves of invariance were measured on; None without curves.
        ranges: of these curves.
        history: the epochs, as in `metrics.csv`.
    """

    name: str
    folder: str
    model: str
    source: str
    task: str
    tested: str
    accuracy: float | None
    interval: tuple[float, float] | None
    chance: float
    loss: float
    macro_f1: float | None
    calibration_error: float | None
    mae: float | None
    not_known: float | None
    parameters: int
    multiply_adds: int | None
    seconds: float
    epochs: int
    best_epoch: int
    gap: float | None
    moved_images: int | None
    ranges: Ranges | None
    history: list[dict[str, Any]]

    @classmethod
    def of(cls, name: str, run: Run, scores: Scores) -> ComparedRun:
        """The entry of a tested run."""
        history: list[dict[str, Any]] = [dict(row) for row in run.history]
        for row in history:
            row |= {key: finite(row[key]) for key in ("val_loss", "val_accuracy")}
        gap, layers, moved = gap_of(run), table_of(run), scores.invariance
        return cls(
            name=name,
            folder=printable(run.folder),
            model=model_name(run, 200),
            source=printable(run.settings.sources),
            task=scores.task,
            tested=f"{scores.images:,} images, {part_name(scores.split)} of {printable(scores.source)}",
            accuracy=scores.accuracy,
            interval=scores.interval,
            chance=scores.chance,
            loss=scores.loss,
            macro_f1=scores.macro_f1,
            calibration_error=scores.calibration.ece if scores.calibration else None,
            mae=scores.mae,
            not_known=scores.unknown.not_known / scores.images if scores.unknown else None,
            parameters=run.parameters,
            multiply_adds=layers.multiply_adds if layers is not None else None,
            seconds=run.seconds,
            epochs=len(history),
            best_epoch=run.best_epoch,
            gap=gap.difference if gap else None,
            moved_images=moved.images if moved else None,
            ranges=moved.ranges if moved else None,
            history=history,
        )


@dataclass(frozen=True, repr=False)
class Comparison:
    """Runs side by side.

    Attributes:
        runs: one entry a run, in the order given.
        invariance: `shift`, `turn` and `scale`, each a list of the points that all runs share (`pixels`, `degrees`,
            `factor`) with `accuracy`, one for each run in the same order; None when a run was tested without.
        notes: why the numbers may not be comparable, one plain sentence each.
        curves: the whole curves of each run; empty when a run was tested without.
        pairs: each pair of runs, tested image by image if both answered the same ones.
    """

    runs: list[ComparedRun]
    invariance: dict[str, list[dict[str, Any]]] | None
    notes: tuple[str, ...] = ()
    curves: list[Invariance] = field(default_factory=list, repr=False)
    pairs: list[Difference] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """Plain lists, dicts and numbers."""
        pairs = [{**plain(pair), "sentence": pair.sentence} for pair in self.pairs]
        return {"runs": plain(self.runs), "pairs": pairs, "invariance": self.invariance, "notes": list(self.notes)}

    def rows(self) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
        """The table as text: column names, then one row a run. A dash where a figure is not known."""
        header = (
            "run", "model", "R²" if self.regression else "accuracy", "95 % interval",
            *(["not known"] if self.some_unknown else []), "loss", "gap", "parameters", "multiply-adds", "training",
            "best epoch", *KINDS[:2], "size",
        )  # fmt: skip
        rows = [
            (
                run.name,
                shorten(run.model, 48),
                number_text(run.accuracy) if self.regression else percent(run.accuracy),
                f"{100 * run.interval[0]:.1f}–{100 * run.interval[1]:.1f}" if run.interval else "–",
                *([percent(run.not_known)] if self.some_unknown else []),
                f"{run.loss:,.3f}",
                "–" if run.gap is None else f"{100 * run.gap:+.1f}".replace("-", "−"),
                f"{run.parameters:,}",
                "–" if run.multiply_adds is None else f"{run.multiply_adds:,}",
                seconds_text(run.seconds),
                f"{run.best_epoch} of {run.epochs}",
                *(run.ranges.text(kind) if run.ranges else "–" for kind in KINDS),
            )
            for run in self.runs
        ]
        return header, rows

    @property
    def regression(self) -> bool:
        """Whether the runs answer with numbers."""
        return all(run.task == "regression" for run in self.runs)

    @property
    def some_unknown(self) -> bool:
        """Whether a run marks images as not known."""
        return any(run.not_known is not None for run in self.runs)

    def _repr_html_(self) -> str:
        from ..render import grid, heading, notebook

        names = f"{len(self.runs)} run{'' if len(self.runs) == 1 else 's'} compared"
        return notebook(heading(names, *self.notes), grid(*self.rows(), texts=(0, 1)))

    def __repr__(self) -> str:
        shown = ", ".join(f"{shorten(run.name, 60)} {percent(run.accuracy)}" for run in self.runs[:8])
        return f"<Comparison of {len(self.runs)} runs: {shown}{', ...' if len(self.runs) > 8 else ''}>"


def compare(runs: Sequence[Run]) -> Comparison:
    """Put tested runs side by side.

    Raises:
        UsageError: no run is given (`compare-nothing`), runs with numbers and others are mixed (`compare-tasks`), or
            some were not tested (`run-not-tested`); all of them are named.
        DataError: the result of a test is damaged (`scores-unreadable`).
    """
    tested = _tested(runs)
    names = _names([Path(run.folder) for run in runs])
    entries = [ComparedRun.of(name, run, scores) for name, run, scores in zip(names, runs, tested, strict=True)]
    curves = [scores.invariance for scores in tested if scores.invariance is not None]
    whole = curves if len(curves) == len(tested) else []
    pairs = differences(names, [Path(run.folder) for run in runs], tested)
    return Comparison(entries, _common(whole), _doubts(runs, entries, tested), whole, pairs)


def _tested(runs: Sequence[Run]) -> list[Scores]:
    """The scores of all runs, or an error that says which cannot be compared."""
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
            hint="compare each kind by itself",
            code="compare-tasks",
        )
    return tested


def _names(folders: Sequence[Path]) -> list[str]:
    """The folders' names; where two are alike, with as much of the path as distinguishes them."""
    parts = [[printable(part) for part in folder.resolve().parts] for folder in folders]
    for depth in range(1, max(len(part) for part in parts) + 1):
        names = ["/".join(part[-depth:]) for part in parts]
        if len(set(names)) == len(set(map(tuple, parts))):
            return names
    return names


def _common(curves: Sequence[Invariance]) -> dict[str, list[dict[str, Any]]] | None:
    """The points at which every run was measured."""
    if not curves:
        return None
    result = {}
    for kind, key in PLACES.items():
        values = [dict(entry.curve(kind)) for entry in curves]
        shared = sorted(set(values[0]).intersection(*values[1:]))
        result[str(kind)] = [{key: place, "accuracy": [entry[place] for entry in values]} for place in shared]
    return result


def _doubts(runs: Sequence[Run], entries: Sequence[ComparedRun], found: Sequence[Scores]) -> tuple[str, ...]:
    notes = []
    for entry, scores in zip(entries, found, strict=True):
        notes += [f"{entry.name}: {note}" for note in scores.notes if "used in training" in note or "chose the" in note]
    if len({entry.tested for entry in entries}) > 1:
        notes.append("the runs were tested on different images: their accuracies are not strictly comparable")
    if len({entry.task for entry in entries}) > 1 or len({frozenset(run.classes) for run in runs}) > 1:
        notes.append("the runs know different classes")
    for run, entry in zip(runs, entries, strict=True):
        if run.settings.relearned is not None:
            backbone = printable(run.settings.relearned.backbone)
            notes.append(f"{entry.name}: its backbone was already trained, and taken over from {backbone}")
    if len({(run.settings.input.height, run.settings.input.width) for run in runs}) > 1:
        notes.append("the runs see images in different sizes: a shift by one pixel is not the same for each")
    counts = sorted({entry.moved_images for entry in entries if entry.moved_images})
    if len(counts) > 1:
        notes.append(f"shift, turn and scale were measured on {' and '.join(f'{count:,}' for count in counts)} images")
    notes += [f"{entry.name}: {remark}" for entry, run in zip(entries, runs, strict=True) for remark in run.remarks]
    without = [entry.name for entry in entries if entry.ranges is None]
    if without:
        notes.append(f"tested without shift, turn and scale: {', '.join(without)}")
    return tuple(notes)
