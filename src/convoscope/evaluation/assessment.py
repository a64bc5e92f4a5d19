"""`test`: a run on images it has not seen, and what is written into `RUN/test/`.

The folder holds `scores.json`, `confusion.csv`, `predictions.csv`, figures as PNG, and the worst mistakes in `worst/`.
Everything is made in a folder of its own first and moved into place at the end, `scores.json` last: after a full disk
or a kill the earlier test is still there.
"""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import io
import os
import shlex
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from .. import geometry
from ..data import SPLITS, Dataset, InputFormat, Task, changed, escape_cell, read_split
from ..errors import ConvoscopeError, DataError, ModelFileError, UsageError, printable
from ..files import FolderLock, check_plain, machine_error, make_own_folder, write_bytes, write_json, write_text
from ..parsing import read_json
from ..render import png_bytes, to_image
from . import charts, invariance, pictures
from .measures import (
    THRESHOLD,
    Floats,
    Scores,
    classification,
    labelling,
    number_text,
    percent,
    r_squared,
    read_gap,
    regression,
)

if TYPE_CHECKING:
    from ..data import Prepared
    from ..training import Run

Progress = Callable[[int, int], None]
"""Called with the number of images that went through the network, and how many there are to be."""

Part = Literal["train", "validation", "test", "all"]

_MEASURES: dict[str, Callable[..., dict[str, Any]]] = {
    "classification": classification,
    "multi-label": labelling,
    "regression": regression,
}

_MOVED = 1 << 27
"""What images that are moved take at most at once."""

WORST = 24
PAIRS = 400


@dataclass(frozen=True)
class _Images:
    """What is tested: images, their names and targets, and where they come from."""

    pixels: NDArray[np.uint8]
    names: Sequence[str]
    targets: NDArray[Any]
    rows: NDArray[np.int64]
    source: str
    split: str
    notes: tuple[str, ...]


def test(
    run: Run,
    source: str | os.PathLike[str] | Dataset | None = None,
    *,
    layout: str = "auto",
    split: Part = "test",
    invariance: bool = True,
    progress: Progress | None = None,
) -> Scores:
    """Test a run and write the result into `RUN/test/`.

    Args:
        run: an opened run; its best weights are used.
        source: other images with the same classes, as for `load`; without it the run's own.
        layout: how to read `source`.
        split: which part. Another source without such a part is tested whole, and a run without a test part on its
            validation part; both are said in the notes.
        invariance: whether to measure the curves of shift, turn and scale too.
        progress: called as the work goes on.

    Raises:
        UsageError: no such part (`split-unknown`).
        DataError: the source's classes are not the run's (`test-classes-differ`), or there are no images
            (`test-empty`).
        ModelFileError: the network's answers are not finite (`scores-not-finite`).
        MachineError: the run's folder cannot be written to, or something there is no plain file (`not-a-plain-file`).
        InUseError: another process is writing a test of this run.
    """
    start = time.monotonic()
    _check_own(Path(run.folder) / "test")
    check_plain(Path(run.folder) / "report.html")  # which follows
    images = _images(run, source, layout, split)
    sample = _sample(run, images) if invariance else None
    count = _counter(progress, len(images.rows) + (len(sample[0]) * sample[1].passes if sample else 0))
    answers, distances = _answers(run, images, count)
    truth = images.targets[images.rows]
    values = _MEASURES[run.task](answers, truth, run.classes)
    if distances is not None:
        values["unknown"] = _unknown(run, answers, truth, distances)
    if sample is not None:
        values["invariance"] = _curves(run, images, *sample, float(values["chance"]), count)
    gap = gap_of(run)
    if gap is not None and images.split == "test":
        gap["test_accuracy"] = values["accuracy"]
    worst = _worst(run, answers, truth)
    far = _far(run, distances)
    scores = Scores(
        task=run.task,
        source=images.source,
        split=images.split,
        images=len(truth),
        classes=tuple(run.classes),
        gap=gap,
        worst=[_mistake(run, images, answers, truth, far, row, rank) for rank, row in enumerate(worst, 1)],
        pairs=_pairs(run, answers, truth),
        notes=images.notes,
        folder=Path(run.folder) / "test",
        **values,
    )
    scores = dataclasses.replace(scores, seconds=time.monotonic() - start)
    _write(run, scores, images, answers, truth, distances, worst)
    return scores


# Test frameworks collect functions by this name; this one is for users.
test.__test__ = False  # type: ignore[attr-defined]


def read_scores(folder: str | os.PathLike[str]) -> Scores | None:
    """The result of the run's last test; None if it was not tested.

    Raises:
        DataError: the file cannot be read (`scores-unreadable`).
    """
    path = Path(folder) / "test" / "scores.json"
    try:
        return Scores.from_json(read_json(path), path.parent)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise machine_error(path, error) from error
    except ValueError as error:
        raise DataError(
            path,
            f"this is no result of a test, or a damaged one: {printable(error)[:400]}",
            hint=f"test again: convoscope test {printable(folder)}",
            code="scores-unreadable",
        ) from None


def gap_of(run: Run) -> dict[str, Any] | None:
    """What the run's curves say about overfitting, see `read_gap`."""
    counted = run.settings.images.get("validation") if run.task == "classification" else None
    remark = None
    if not run.settings.solved:
        remark = "which is a mean over the epoch, while the network learns" + (
            " and the images are varied" if varies(run) else ""
        )
    numbers = run.task == "regression"
    return read_gap([dict(row) for row in run.history], run.best_epoch, counted, remark=remark, numbers=numbers)


def varies(run: Run) -> bool:
    """Whether images are varied in training."""
    recipe = run.settings.recipe.model_dump()
    kinds = ("flip", "rotate", "shear", "zoom", "shift", "colour", "erase", "mixup")
    return any(recipe.get(key) for key in kinds) or recipe.get("crop", 1) < 1


def table_of(run: Run) -> Any | None:
    """The run's table of layers, see `models.table`; None for a module of the user's own."""
    if run.settings.model.startswith("custom:"):
        return None
    from .. import models

    with contextlib.suppress(ConvoscopeError):
        return models.table(run.settings.model, shape_of(run.settings.input), len(run.classes))
    return None


def shape_of(form: InputFormat) -> tuple[int, int, int]:
    """Height, width, channels."""
    return form.height, form.width, form.channels


def _images(run: Run, source: str | os.PathLike[str] | Dataset | None, layout: str, split: Part) -> _Images:
    if split not in (*SPLITS, "all"):
        raise UsageError(
            "split", f"expected train, validation, test or all; received {printable(split)!r}", code="split-unknown"
        )
    if source is None:
        prepared = run.prepared()
        dataset = prepared.dataset
        rows, part, notes = _own_part(run, dataset, split)
        notes += _drift(run, prepared)
        if part in ("test", "validation"):
            notes += _seen(run, prepared, rows)
        return _Images(prepared.pixels, dataset.names, dataset.targets, rows, run.settings.sources, part, notes)

    from .. import data

    # Shares of 0: a source without parts of its own stays whole.
    dataset = source if isinstance(source, Dataset) else data.load(source, layout=layout, validation=0.0, test=0.0)
    columns = _columns(run, dataset)
    prepared = data.prepare(dataset, run.settings.input)
    dataset = prepared.dataset
    targets = columns[dataset.targets] if run.task == "classification" else dataset.targets[:, columns]
    notes = tuple(told for told in dataset.notes if told not in dataset.split_notes)
    if run.task == "classification" and len(dataset.classes) < len(run.classes):
        notes = (*notes, f"the source has {len(dataset.classes)} of the run's {len(run.classes)} classes")
    rows, part = (np.arange(len(dataset)), "all") if split == "all" else (dataset.indices(split), str(split))
    if not len(rows) and len(dataset.indices("validation")):
        rows, part = dataset.indices("validation"), "validation"
        notes = (*notes, f"the source has no {split} part: its validation part is tested")
    elif not len(rows):
        rows, part = np.arange(len(dataset)), "all"
        notes = (*notes, f"the source has no {split} part: all its {len(rows):,} images are tested")
    if not len(rows):
        raise DataError(dataset.source, "no images to test", hint="choose another source", code="test-empty")
    notes += _seen(run, prepared, rows)
    return _Images(prepared.pixels, dataset.names, targets, rows, dataset.source, part, notes)


def _own_part(run: Run, dataset: Dataset, split: Part) -> tuple[NDArray[np.int64], str, tuple[str, ...]]:
    notes: tuple[str, ...] = ()
    part: str = split
    rows = np.arange(len(dataset)) if split == "all" else dataset.indices(split)
    if split == "test" and not len(rows):
        rows, part = dataset.indices("validation"), "validation"
        notes = ("the run has no test part: its validation part is tested instead",)
    if not len(rows):
        raise DataError(
            run.settings.sources,
            f"the run has no {part} part to test on",
            hint=f"name other images: convoscope test {printable(run.folder)} SOURCE",
            code="test-empty",
        )
    if part == "validation":
        chosen = "head" if run.settings.solved else "best epoch"
        notes = (*notes, f"the validation images chose the {chosen}, so this is slightly too good")
    elif part in ("train", "all"):
        notes = (*notes, "these images were used in training: this says little about new ones")
    return rows, part, notes


def _columns(run: Run, dataset: Dataset) -> NDArray[np.int64]:
    """Where each of the source's classes stands among the run's; for labels and numbers where each of the run's stands."""
    ours, theirs = list(run.classes), list(dataset.classes)
    alike = set(theirs) <= set(ours) if run.task == "classification" else set(theirs) == set(ours)
    if dataset.task != run.task or not alike:
        kinds = {"classification": "classes", "multi-label": "labels", "regression": "columns of numbers"}
        raise DataError(
            dataset.source,
            f"the run knows the {kinds[run.task]} {_listed(ours)}; the source has the {kinds[dataset.task]} {_listed(theirs)}",
            hint="test on images of the same classes, under the same names",
            code="test-classes-differ",
        )
    if run.task == "classification":
        return np.array([ours.index(name) for name in theirs], dtype=np.int64)
    return np.array([theirs.index(name) for name in ours], dtype=np.int64)


def _listed(names: Sequence[str], most: int = 20) -> str:
    text = ", ".join(printable(name) for name in names[:most])
    return text + (f" and {len(names) - most} more" if len(names) > most else "")


def _trained_on(run: Run, prepared: Prepared, rows: NDArray[np.int64]) -> int:
    """How many of these images stand in the run's training part, by content."""
    manifest = Path(run.folder) / "split.csv"
    if not manifest.exists():
        return 0
    hashes = {row.digest for row in read_split(manifest) if row.split == "train"}
    return sum(str(prepared.digests[row]) in hashes for row in rows)


def _seen(run: Run, prepared: Prepared, rows: NDArray[np.int64]) -> tuple[str, ...]:
    seen = _trained_on(run, prepared, rows)
    return (f"{seen:,} of these {len(rows):,} images were used in training: the result is too good",) if seen else ()


def _drift(run: Run, prepared: Prepared) -> tuple[str, ...]:
    """How the run's images differ from those that it was made of."""
    manifest = Path(run.folder) / "split.csv"
    if not manifest.exists():
        return ()
    new, missing, altered = changed(prepared, manifest)
    if not (new or missing or altered):
        return ()
    return (
        f"the run's images have changed: {len(new):,} new, {len(missing):,} missing, {len(altered):,} altered; they are tested as they are now",
    )


def _counter(progress: Progress | None, total: int) -> Callable[[int], None]:
    """Counts images that went through the network, and tells `progress`."""
    done = 0

    def count(images: int) -> None:
        nonlocal done
        done += images
        if progress is not None:
            progress(done, total)

    return count


def _answers(
    run: Run, images: _Images, count: Callable[[int], None], batch: int = 1024
) -> tuple[Floats, Floats | None]:
    """The answers, and of a run that has an out-of-distribution detector the images' distances."""
    parts, distances = [], []
    total = len(images.rows)
    for start in range(0, total, batch):
        answers, far = run.scores_and_distances(images.pixels, images.rows[start : start + batch])
        parts.append(answers)
        if far is not None:
            distances.append(far)
        count(len(answers))
    answers = np.concatenate(parts)
    broken = int((~np.isfinite(answers)).any(axis=1).sum())
    if broken:
        raise ModelFileError(
            run.folder,
            f"expected finite answers; the network gives NaN or infinity for {broken:,} of {total:,} images",
            hint="train again with a lower learning_rate",
            code="scores-not-finite",
        )
    return answers, np.concatenate(distances) if distances else None


def _far(run: Run, distances: Floats | None) -> NDArray[np.bool_] | None:
    """Which images `predict` calls unknown."""
    if distances is None:
        return None
    detector = run.ood_detector()
    assert detector is not None
    return distances > detector.threshold


DISTANCE_BINS = 40


def _unknown(run: Run, answers: Floats, truth: NDArray[Any], distances: Floats) -> dict[str, Any]:
    """What it costs to call far images unknown: all of these are known, so each one refused is a loss."""
    detector, refused = run.ood_detector(), _far(run, distances)
    assert detector is not None
    assert refused is not None
    assert run.settings.relearned is not None
    right = answers.argmax(axis=1) == truth
    top = max(float(distances.max()), detector.threshold) * 1.05 or 1.0
    edges = np.linspace(0, top, DISTANCE_BINS + 1)
    kept = int((~refused).sum())
    return {
        "coverage": run.settings.relearned.coverage,
        "threshold": detector.threshold,
        "refused": int(refused.sum()),
        "refused_right": int((refused & right).sum()),
        "accuracy_accepted": float(right[~refused].mean()) if kept else None,
        "edges": edges.tolist(),
        "right": np.histogram(distances[right], edges)[0].tolist(),
        "wrong": np.histogram(distances[~right], edges)[0].tolist(),
    }


def _sample(run: Run, images: _Images) -> tuple[NDArray[np.int64], geometry.Grid]:
    """The rows whose curves are measured, seeded and stratified, and the curves' points."""
    _, height, width, _ = images.pixels.shape
    table = table_of(run)
    count, points = invariance.plan(len(images.rows), height, width, table.multiply_adds if table is not None else None)
    return images.rows[invariance.stratified(images.targets[images.rows], count, seed=0)], points


def _curves(
    run: Run,
    images: _Images,
    rows: NDArray[np.int64],
    points: geometry.Grid,
    chance: float,
    count: Callable[[int], None],
) -> dict[str, Any]:
    truth = images.targets[rows]

    together = max(1, _MOVED // images.pixels[:1].nbytes)
    together -= together % 256 if together > 256 else 0  # as the run goes through them, which decides the last digits

    def measure(move: invariance.Move) -> float:
        parts = [rows[begin : begin + together] for begin in range(0, len(rows), together)]
        answers = np.concatenate([run.scores(move(images.pixels[part])) for part in parts])
        count(len(answers))
        if run.task == "classification":
            return float((answers.argmax(axis=1) == truth).mean())
        if run.task == "multi-label":
            return float(((answers >= THRESHOLD) == (truth > 0)).mean())
        return float(r_squared(answers, truth).mean())

    result = invariance.curves(measure, len(rows), points, chance=chance)
    return {"measure": "R2" if run.task == "regression" else "accuracy", **result}


def _worst(run: Run, answers: Floats, truth: NDArray[Any]) -> NDArray[np.int64]:
    """Positions of the surest mistakes, worst first; for numbers of the largest errors in spreads of the column."""
    if run.task == "classification":
        wrong = answers.argmax(axis=1) != truth
        badness = np.where(wrong, answers.max(axis=1), -1.0)
    elif run.task == "multi-label":
        wrong = ((answers >= THRESHOLD) != (truth > 0)).any(axis=1)
        badness = np.where(wrong, np.abs(answers - truth).max(axis=1), -1.0)
    else:
        spread = truth.std(axis=0)
        badness = (np.abs(answers - truth) / np.where(spread > 0, spread, 1)).max(axis=1)
        wrong = badness > 0
    order = np.argsort(-badness, kind="stable")[:WORST]
    return np.array([row for row in order if wrong[row]], dtype=np.int64)


def _in_words(run: Run, answers: Floats, truth: NDArray[Any], row: int) -> tuple[str, str, float | None, bool | None]:
    """One image's true label, predicted label, confidence and whether it is right."""
    names = run.classes
    if run.task == "classification":
        best = int(answers[row].argmax())
        return names[int(truth[row])], names[best], float(answers[row, best]), best == int(truth[row])
    if run.task == "multi-label":
        chosen, wanted = answers[row] >= THRESHOLD, truth[row] > 0
        sure = float(np.maximum(answers[row], 1 - answers[row]).min())
        joined = [";".join(name for name, on in zip(names, mask, strict=True) if on) for mask in (wanted, chosen)]
        return joined[0], joined[1], sure, bool((chosen == wanted).all())
    joined = [";".join(f"{value:.6g}" for value in values[row]) for values in (truth, answers)]
    return joined[0], joined[1], None, None


def _mistake(
    run: Run,
    images: _Images,
    answers: Floats,
    truth: NDArray[Any],
    far: NDArray[np.bool_] | None,
    row: np.int64,
    rank: int,
) -> dict[str, Any]:
    label, predicted, confidence, _ = _in_words(run, answers, truth, int(row))
    if run.task == "multi-label":
        confidence = float(np.abs(answers[row] - truth[row]).max())
    return {
        "path": images.names[int(images.rows[row])],
        "label": label,
        "predicted": predicted,
        "confidence": confidence,
        "image": f"worst/{rank:02d}.png",
        **({} if far is None else {"unknown": bool(far[row])}),
    }


def _pairs(run: Run, answers: Floats, truth: NDArray[Any]) -> dict[str, list[list[float]]] | None:
    if run.task != "regression":
        return None
    rows = invariance.stratified(truth, PAIRS, seed=0)
    return {
        name: [[float(truth[row, k]), float(answers[row, k])] for row in rows] for k, name in enumerate(run.classes)
    }


def caption(mistake: dict[str, Any], task: Task) -> tuple[str, str]:
    """What stands under a mistake: what it is, and what it was taken for and how surely."""
    if task == "regression":
        truth, answer = (
            "; ".join(number_text(float(value)) for value in mistake[key].split(";")) for key in ("label", "predicted")
        )
        return f"true {truth}", f"predicted {answer}"
    predicted = mistake["predicted"] or "(no label)"
    told = ", but unknown" if mistake.get("unknown") else ""
    return f"is {mistake['label'] or '(no label)'}", f"{predicted}, {percent(mistake['confidence'], 0)}{told}"


def _write(
    run: Run,
    scores: Scores,
    images: _Images,
    answers: Floats,
    truth: NDArray[Any],
    distances: Floats | None,
    worst: NDArray[np.int64],
) -> None:
    """All files of `RUN/test/`, staged and then moved into place."""
    target = Path(run.folder) / "test"
    make_own_folder(target)
    with FolderLock(target), _staged(target) as stage:
        write_text(stage / "predictions.csv", _predictions(run, images, answers, truth, distances))
        if scores.confusion:
            write_text(stage / "confusion.csv", _confusion(scores))
        for name, picture in figures(scores).items():
            write_bytes(stage / name, png_bytes(picture))
        pixels = [images.pixels[images.rows[row]] for row in worst]
        for mistake, image in zip(scores.worst, pixels, strict=True):
            write_bytes(stage / mistake["image"], png_bytes(to_image(image)))
        if pixels:
            captions = [caption(mistake, scores.task) for mistake in scores.worst]
            write_bytes(stage / "worst" / "sheet.png", png_bytes(pictures.mistakes_sheet(pixels, captions)))
        write_json(stage / "scores.json", printable_json(scores.to_json()))


def printable_json(content: Any) -> Any:
    """The same content with undecodable bytes of file names written as escapes, so that it is valid UTF-8."""
    if isinstance(content, dict):
        return {printable_json(key): printable_json(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [printable_json(value) for value in content]
    if isinstance(content, str) and any("\ud800" <= character <= "\udfff" for character in content):
        return printable(content)
    return content


OWN_FILES = ("predictions.csv", "confusion.csv", "confusion.png", "calibration.png", "invariance.png", "numbers.png")


_KNOWN = (
    *map(Path, OWN_FILES),
    *(Path("worst") / f"{rank:02d}.png" for rank in range(1, WORST + 1)),
    Path("worst/sheet.png"),
)


def _check_own(target: Path) -> None:
    """Refuse, before anything is computed, a folder in which something else stands in the place of what a test writes."""
    for folder in (target, target / "worst"):
        check_plain(folder, folder=True)
    for path in (*_KNOWN, Path("scores.json")):
        check_plain(target / path)


@contextlib.contextmanager
def _staged(target: Path) -> Iterator[Path]:
    """A folder inside `target` to write into. On a clean exit its files replace the earlier test's, `scores.json` last."""
    for leftover in target.glob(".stage.*"):
        shutil.rmtree(leftover, ignore_errors=True)
        with contextlib.suppress(OSError):
            leftover.unlink()  # a link, which is not followed
    stage = target / f".stage.{os.getpid()}"
    try:
        stage.mkdir()  # and never takes what is there already
        (stage / "worst").mkdir()
        yield stage
        _check_own(target)
        make_own_folder(target / "worst")
        made = {path.relative_to(stage) for path in stage.rglob("*") if path.is_file()}
        for path in sorted(made - {Path("scores.json")}):
            os.replace(stage / path, target / path)
        for path in set(_KNOWN) - made:
            (target / path).unlink(missing_ok=True)
        os.replace(stage / "scores.json", target / "scores.json")
    except OSError as error:
        raise machine_error(target, error) from error
    finally:
        shutil.rmtree(stage, ignore_errors=True)


def _predictions(run: Run, images: _Images, answers: Floats, truth: NDArray[Any], distances: Floats | None) -> str:
    """As CSV. Of a run that has an out-of-distribution detector also each image's distance, and whether `predict` says
    `unknown`.
    """
    far = _far(run, distances)
    more: tuple[str, ...] = ()
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    kind = {"classification": "score", "multi-label": "score", "regression": "predicted"}[run.task]
    writer.writerow(
        ["path", "label", "predicted", "confidence", "correct", *(f"{kind} {printable(n)}" for n in run.classes)]
        + (["distance", "unknown"] if far is not None else [])
    )
    cells = {name: escape_cell(name) for name in run.classes}
    rounded = answers.astype(np.float64).round(6).tolist()
    for row, values in enumerate(rounded):
        label, predicted, confidence, correct = _in_words(run, answers, truth, row)
        if run.task != "regression":
            label, predicted = (cells[t] if t in cells else escape_cell(t) for t in (label, predicted))
        if far is not None and distances is not None:
            more = (str(round(float(distances[row]), 6)), "yes" if far[row] else "no")
        writer.writerow(
            [
                escape_cell(images.names[int(images.rows[row])]),
                label,
                predicted,
                "" if confidence is None else round(confidence, 6),
                "" if correct is None else ("yes" if correct else "no"),
                *values,
                *more,
            ]
        )
    return buffer.getvalue()


def _confusion(scores: Scores) -> str:
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    names = [escape_cell(name) for name in scores.classes]
    if scores.task == "multi-label":
        writer.writerow(["label", "true negative", "false positive", "false negative", "true positive"])
        for name, matrix in zip(names, scores.confusion, strict=True):
            writer.writerow([name, *matrix[0], *matrix[1]])
    else:
        writer.writerow(["true class", *names])
        for name, row in zip(names, scores.confusion, strict=True):
            writer.writerow([name, *row])
    return buffer.getvalue()


def figures(scores: Scores) -> dict[str, Image.Image]:
    """File name to picture: confusion, calibration, invariance, or predicted against true numbers."""
    result: dict[str, Image.Image] = {}
    if scores.task == "classification":
        if len(scores.classes) <= charts.LARGEST_NUMBERED:
            result["confusion.png"] = charts.confusion_chart(scores.confusion, scores.classes).image()
        else:
            heat = charts.confusion_image(scores.confusion)
            white = Image.new("RGBA", heat.size, "white")
            factor = max(1, 800 // heat.width)
            size = (heat.width * factor, heat.height * factor)
            result["confusion.png"] = (
                Image.alpha_composite(white, heat).convert("RGB").resize(size, Image.Resampling.NEAREST)
            )
    if scores.calibration is not None:
        result["calibration.png"] = charts.calibration_chart(
            scores.calibration, labels=scores.task == "multi-label"
        ).image()
    if scores.pairs is not None:
        drawings = [charts.pairs_chart(name, pairs) for name, pairs in list(scores.pairs.items())[:12]]
        result["numbers.png"] = charts.stacked(drawings, columns=min(3, len(drawings)))
    if scores.invariance is not None:
        result["invariance.png"] = charts.stacked(
            charts.invariance_charts([("", scores.invariance)], ["blue"], [""], legend=False), columns=3
        )
    return result


def range_text(kind: str, ranges: dict[str, Any]) -> str:
    """How far a curve keeps up, in words: `−2.1 to 2.4 pixels`; `at least` where it ends before falling."""
    entry = ranges.get(kind)
    if entry is None:
        return "–"
    unit, digits = {"shift": (" pixels", 1), "turn": ("°", 0), "scale": ("×", 2)}[kind]
    if entry["open_below"] and entry["open_above"]:
        return f"all of {number_text(entry['from'])} to {number_text(entry['to'])}{unit}"
    low = ("≤ " if entry["open_below"] else "") + number_text(round(entry["from"], digits))
    high = ("≥ " if entry["open_above"] else "") + number_text(round(entry["to"], digits))
    return f"{low} to {high}{unit}"


def test_command(run: Run) -> str:
    """What tests the run, on its own images if it has some to test on."""
    settings = run.settings
    own = not settings.in_memory and (settings.images.get("test") or settings.images.get("validation"))
    return f"convoscope test {shlex.quote(printable(run.folder))}" + ("" if own else " SOURCE")


def part_name(split: str) -> str:
    """A part of a dataset in words."""
    return {"all": "all images"}.get(split, f"the {split} part")
