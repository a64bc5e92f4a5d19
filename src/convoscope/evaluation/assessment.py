"""`test`: a run on images it has not seen, and the result in `RUN/test/`."""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

import numpy as np
from numpy.typing import NDArray

from .. import geometry
from ..data import Dataset, TableKeywords
from ..errors import printable
from ..files import check_plain
from ..training import freed_memory_kept, own_metrics
from . import invariance as curves
from .answers import Answers
from .measures import FEWEST_CALIBRATED, THRESHOLD, classification, labelling, r_squared, regression, varied
from .overfitting import gap_of
from .result_files import check_own, write_result
from .results import Invariance, Scores
from .run_facts import table_of
from .tested_images import Part, TestedImages, find_own, images_to_test

if TYPE_CHECKING:
    from ..training import Run

Progress = Callable[[int, int], None]
"""Called with the number of images that went through the network, and how many there are to be."""

_MEASURES: dict[str, Callable[..., dict[str, Any]]] = {
    "classification": classification,
    "multi-label": labelling,
    "regression": regression,
}

PAIRS = 400
"""How many images of each column of numbers are kept as pairs of true and predicted."""


def test(
    run: Run,
    source: str | os.PathLike[str] | Dataset | None = None,
    *,
    layout: str = "auto",
    split: Part = "test",
    invariance: bool = True,
    moved_to: str | os.PathLike[str] | None = None,
    progress: Progress | None = None,
    **table: Unpack[TableKeywords],
) -> Scores:
    """Test a run and write the result into `RUN/test/`.

    Args:
        run: an opened run; its best weights are used.
        source: other images with the same classes, as for `load`; without it the run's own.
        layout: how to read `source`.
        split: which part. Another source without such a part is tested whole, and a run without a test part on its
            validation part; the notes say so.
        invariance: whether to measure the curves of shift, turn and scale too.
        moved_to: where the run's own images are now, if they were moved. They are found by their content.
        progress: called as the work goes on.
        **table: how a table is read, see `load`; what is not said is as in the run's own table.

    Raises:
        UsageError: no such part (`split-unknown`).
        DataError: the source's classes are not the run's (`test-classes-differ`), or there are no images
            (`test-empty`).
        ModelFileError: the network's answers are not finite (`scores-not-finite`).
        MachineError: the run's folder cannot be written to, or something in it is not a plain
            file (`not-a-plain-file`).
        InUseError: another process is writing a test of this run.
    """
    start = time.monotonic()
    folder = Path(run.folder) / "test"
    check_own(folder)
    check_plain(Path(run.folder) / "report.html")  # which is written next
    found = () if moved_to is None else find_own(run, source, moved_to)
    images = images_to_test(run, source, layout, split, table)
    if source is None and not run.has_features():
        from ..training import recall_features

        recall_features(run)
    images = dataclasses.replace(images, notes=(*found, *images.notes))
    constant = run.task == "regression" and not varied(images.truth).any()
    sample = _sample(run, images) if invariance and not constant else None
    moved = len(sample[0]) * sample[1].passes if sample else 0
    count = _counter(progress, run.unanswered(images.pixels, images.rows) + moved)
    with freed_memory_kept():
        answers = Answers.of(run, images, count)
        values = _MEASURES[run.task](answers.scores, answers.truth, run.classes, run.settings.temperature)
        if sample is not None:
            values["invariance"] = _invariance(run, images, *sample, float(values["chance"]), count)
    if run.settings.relearned is not None:
        values["unknown"] = answers.unknown(run.settings.relearned.coverage)
    gap = gap_of(run)
    if gap is not None and images.split == "test":
        gap = dataclasses.replace(gap, test_accuracy=values["accuracy"])
    worst = answers.worst()
    scores = Scores(
        task=run.task,
        source=images.source,
        split=images.split,
        images=len(answers.truth),
        classes=tuple(run.classes),
        gap=gap,
        worst=[answers.mistake(row, rank) for rank, row in enumerate(worst, 1)],
        pairs=_pairs(answers),
        metrics=own_metrics(run.metrics, answers.scores, answers.truth),
        notes=(*images.notes, *_left_out(answers), *_not_given(run), *run.remarks),
        folder=folder,
        **values,
    )
    scores = dataclasses.replace(scores, seconds=time.monotonic() - start)
    write_result(folder, scores, answers, worst)
    return scores


# Test frameworks collect functions by this name; this one is for users.
test.__test__ = False  # type: ignore[attr-defined]


def _left_out(answers: Answers) -> list[str]:
    """Which figures have no value for these images, and why."""
    count = len(answers.truth)
    images = "1 image" if count == 1 else f"{count:,} images"
    if answers.task == "regression":
        flat = [name for name, differ in zip(answers.classes, varied(answers.truth), strict=True) if not differ]
        if not flat:
            return []
        which = "" if len(flat) == len(answers.classes) else f" of {', '.join(map(printable, flat))}"
        return [f"R²{which} is left out: the true numbers of {images} do not differ"]
    notes = []
    if count < FEWEST_CALIBRATED:
        notes.append(f"the calibration is left out: it takes {FEWEST_CALIBRATED} images, and there are {count}")
    if answers.task == "classification" and len(np.unique(answers.truth)) == 1:
        notes.append("chance is left out: all of these images are of one class")
    return notes


def _not_given(run: Run) -> list[str]:
    """Which of the user's own metrics cannot be computed, because they are not stored and were not given again."""
    names = [own.label for own in run.settings.own if own.kind == "metric" and own.label not in run.metrics]
    if not names:
        return []
    given = ", ".join(f'"{name}": ...' for name in names)
    which = (
        f"the metric {names[0]} is code of your own and is"
        if len(names) == 1
        else "some metrics are code of your own and are"
    )
    return [f"{which} not measured here; in Python: Run.open(folder, metrics={{{given}}})"]


def _counter(progress: Progress | None, total: int) -> Callable[[int], None]:
    """Count the images that went through the network, and report it to `progress`."""
    done = 0
    if progress is not None:
        progress(0, total)

    def count(images: int) -> None:
        nonlocal done
        done += images
        if progress is not None:
            progress(done, total)

    return count


def _sample(run: Run, images: TestedImages) -> tuple[NDArray[np.int64], geometry.Grid]:
    """The rows whose curves are measured, seeded and stratified, and the curves' points."""
    _, height, width, _ = images.pixels.shape
    table = table_of(run)
    count, points = curves.plan(len(images.rows), height, width, table.multiply_adds if table is not None else None)
    return images.rows[curves.stratified(images.truth, count, seed=0)], points


def _invariance(
    run: Run,
    images: TestedImages,
    rows: NDArray[np.int64],
    points: geometry.Grid,
    chance: float,
    count: Callable[[int], None],
) -> Invariance:
    truth = images.targets[rows]
    differ = varied(images.truth) if run.task == "regression" else None
    together = run.at_once()

    def measure(move: curves.Move) -> float:
        found = []
        for begin in range(0, len(rows), together):
            part = rows[begin : begin + together]
            found.append(run.scores(move(images.pixels[part])))
            count(len(part))
        answers = np.concatenate(found)
        if run.task == "classification":
            return float((answers.argmax(axis=1) == truth).mean())
        if run.task == "multi-label":
            return float(((answers >= THRESHOLD) == (truth > 0)).mean())
        return float(r_squared(answers, truth)[differ].mean())

    name = "R2" if run.task == "regression" else "accuracy"
    return curves.curves(measure, len(rows), points, chance=chance, name=name)


def _pairs(answers: Answers) -> dict[str, list[list[float]]] | None:
    if answers.task != "regression":
        return None
    rows = curves.stratified(answers.truth, PAIRS, seed=0)
    truth, scores = answers.truth, answers.scores
    return {
        name: [[float(truth[row, k]), float(scores[row, k])] for row in rows] for k, name in enumerate(answers.classes)
    }
