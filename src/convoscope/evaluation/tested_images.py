"""What is tested: the run's own images or others of the same classes, and what makes the result doubtful."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from .. import data
from ..data import (
    SPLITS,
    TARGET_NOUNS,
    Dataset,
    Prepared,
    TableKeywords,
    TableOptions,
    changed,
    read_split,
    told_apart,
)
from ..errors import DataError, UsageError, printable, shell_word

if TYPE_CHECKING:
    from ..training import Run

Part = Literal["train", "validation", "test", "all"]


@dataclass(frozen=True)
class TestedImages:
    """The images that are tested are the `rows` of `pixels`, `names` and `targets`; `notes` say what is doubtful."""

    pixels: NDArray[np.uint8]
    names: Sequence[str]
    targets: NDArray[Any]
    rows: NDArray[np.int64]
    source: str
    split: str
    notes: tuple[str, ...]

    @property
    def truth(self) -> NDArray[Any]:
        """The targets of the tested rows."""
        return self.targets[self.rows]

    def name(self, position: int) -> str:
        """The name of one of the tested rows."""
        return self.names[int(self.rows[position])]


def images_to_test(
    run: Run, source: str | os.PathLike[str] | Dataset | None, layout: str, split: Part, table: TableKeywords
) -> TestedImages:
    if split not in (*SPLITS, "all"):
        raise UsageError(
            "split", f"expected train, validation, test or all; received {printable(split)!r}", code="split-unknown"
        )
    if source is None:
        _check_own(layout, table)
        prepared = run.prepared()
        dataset = prepared.dataset
        rows, part, notes = _own_part(run, dataset, split)
        notes += (*run.settings.decoding_changes(), *_drift(run, prepared), *_even(prepared))
        if part in ("test", "validation"):
            notes += tuple(f"{note}; {_without_copies(run)}" for note in _seen(run, prepared, rows))
        return TestedImages(prepared.pixels, dataset.names, dataset.targets, rows, run.settings.sources, part, notes)

    dataset = source if isinstance(source, Dataset) else _read(run, source, layout, table)
    _check_classes(run, dataset)
    prepared = data.prepare(dataset, run.settings.input, tolerant=True)
    dataset = prepared.dataset
    targets = _targets(run, dataset)
    notes = tuple(note for note in dataset.notes if note not in dataset.split_notes) + _left_out(run, dataset)
    notes += (*run.settings.decoding_changes(), *_even(prepared))
    rows, part = (np.arange(len(dataset)), "all") if split == "all" else (dataset.indices(split), str(split))
    if not len(rows) and len(dataset.indices("validation")):
        rows, part = dataset.indices("validation"), "validation"
        notes = (*notes, f"the source has no {split} part: its validation part is tested")
    elif not len(rows):
        rows, part = np.arange(len(dataset)), "all"
        tested = "its one image is" if len(rows) == 1 else f"all its {len(rows):,} images are"
        notes = (*notes, f"the source has no {split} part: {tested} tested")
    if not len(rows):
        raise DataError(dataset.source, "no images to test", hint="choose another source", code="test-empty")
    notes += _seen(run, prepared, rows)
    return TestedImages(prepared.pixels, dataset.names, targets, rows, dataset.source, part, notes)


def _check_own(layout: str, table: TableKeywords) -> None:
    """The run's own images are read as they were; an option that says how would have no effect."""
    typed = ["layout"] if layout != "auto" else list(TableOptions.of(table).keywords())
    if typed:
        raise UsageError(
            f"--{typed[0].replace('_', '-')}",
            "says how SOURCE is read, but none is named: the run's own images are read as they were",
            hint="leave it out, or name the images: convoscope test RUN SOURCE",
            code="option-without-source",
        )


def find_own(
    run: Run, source: str | os.PathLike[str] | Dataset | None, moved_to: str | os.PathLike[str]
) -> tuple[str, ...]:
    """Look for the run's own images where they are now, and say how many were found.

    Raises:
        UsageError: other images are named as well (`option-twice`).
        DataError: none of them is there (`moved-not-found`).
    """
    if source is not None:
        raise UsageError(
            "--source",
            "says where the run's own images are now, but SOURCE, other images, is named as well",
            hint="leave one of them out",
            code="option-twice",
        )
    return run.prepared(moved_to).dataset.notes[:1]


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
        notes = (*notes, f"the validation images chose the {chosen}, so this result is slightly too good")
    elif part in ("train", "all"):
        notes = (*notes, "these images were used in training: the result says little about new ones")
    return rows, part, notes


_WITHOUT_LABELS = ("no-class-folders", "not-a-folder", "nested-folders", "csv-columns", "arrays-missing")
"""Codes of sources that may well be images without labels."""


def _read(run: Run, source: str | os.PathLike[str], layout: str, table: TableKeywords) -> Dataset:
    """The source, read for the classes that the run knows.

    Raises:
        DataError: as `load`. The hint of images without labels is to predict them.
    """
    try:
        # Shares of 0: a source without parts of its own stays whole.
        reading: TableKeywords = {"like": run.settings.table, **table}
        return data.load(source, layout=layout, validation=0.0, test=0.0, classes=run.classes, **reading)
    except DataError as error:
        if error.code in _WITHOUT_LABELS:
            command = f"convoscope predict {shell_word(run.folder)} {shell_word(os.fspath(source))}"
            error.hint = f"a test needs labels; for images without labels: {command}"
        raise


def _check_classes(run: Run, dataset: Dataset) -> None:
    """Refuse a source of another task, or with classes that the run does not know.

    Raises:
        DataError: `test-classes-differ`.
    """
    ours, theirs = run.classes, dataset.classes
    alike = set(ours) <= set(theirs) if run.task == "regression" else set(theirs) <= set(ours)
    if dataset.task == run.task and alike:
        return
    kinds = {"classification": "classes", "multi-label": "labels", "regression": "columns of numbers"}
    hint = "test on images of the same classes, under the same names"
    strange = [name for name in theirs if name not in ours]
    if dataset.task == run.task and run.task != "regression" and len(strange) < len(theirs):
        hint = f"the run does not know {_listed(strange, ours)}: rename or remove that, then test again"
    raise DataError(
        dataset.source,
        f"the run knows the {kinds[run.task]} {_listed(ours, theirs)}; "
        f"the source has the {kinds[dataset.task]} {_listed(theirs, ours)}",
        hint=hint,
        code="test-classes-differ",
    )


def _targets(run: Run, dataset: Dataset) -> NDArray[Any]:
    """The targets by the run's classes, labels or numbers. No image has a label that the source does not have."""
    ours, theirs = run.classes, dataset.classes
    if run.task == "classification":
        return np.array([ours.index(name) for name in theirs], np.int64)[dataset.targets]
    targets = np.zeros((len(dataset), len(ours)), dataset.targets.dtype)
    for column, name in enumerate(ours):
        if name in theirs:
            targets[:, column] = dataset.targets[:, theirs.index(name)]
    return targets


def _left_out(run: Run, dataset: Dataset) -> tuple[str, ...]:
    """Which classes the source does not have, and which of its images cannot be read."""
    notes: list[str] = []
    if run.task == "regression":
        more = [name for name in dataset.classes if name not in run.classes]
        if more:
            notes.append(f"left out: the columns {_listed(more, run.classes)}, which the run does not predict")
    else:
        targets = dataset.targets
        present = len(np.unique(targets)) if run.task == "classification" else int(targets.any(axis=0).sum())
        if present < len(run.classes):
            noun = TARGET_NOUNS[run.task]
            notes.append(f"the source has {present} of the run's {len(run.classes)} {noun}")
    if dataset.skipped:
        examples = "; ".join(f"{printable(item.path)}: {item.reason}" for item in dataset.skipped[:5])
        more_of_them = f"; and {len(dataset.skipped) - 5} more" if len(dataset.skipped) > 5 else ""
        count = len(dataset.skipped)
        notes.append(f"{count} of {count + len(dataset)} images skipped: {examples}{more_of_them}")
    return tuple(notes)


def _listed(names: Sequence[str], others: Sequence[str], most: int = 20) -> str:
    """Names, as they are printed beside these others."""
    text = ", ".join(told_apart(names[:most], others))
    return text + (f" and {len(names) - most} more" if len(names) > most else "")


def _trained_on(run: Run, prepared: Prepared, rows: NDArray[np.int64]) -> int:
    """How many of these images are in the run's training part, by content."""
    manifest = Path(run.folder) / "split.csv"
    if not manifest.exists():
        return 0
    hashes = {row.digest for row in read_split(manifest) if row.split == "train"}
    return sum(str(prepared.digests[row]) in hashes for row in rows)


def _seen(run: Run, prepared: Prepared, rows: NDArray[np.int64]) -> tuple[str, ...]:
    seen = _trained_on(run, prepared, rows)
    return (f"{seen:,} of these {len(rows):,} images were used in training: the result is too good",) if seen else ()


def _without_copies(run: Run) -> str:
    """The command that trains such a run without the images that it is tested on."""
    command = f"convoscope train --config {shell_word(run.folder / 'run.toml')}"
    if run.settings.relearned is not None:
        command = f"convoscope relearn {shell_word(run.settings.relearned.backbone)} {shell_word(run.settings.source)}"
    return f"to train without them: {command} --dedupe"


def _even(prepared: Prepared) -> tuple[str, ...]:
    told = data.told_even(prepared.even, len(prepared.dataset))
    return (told,) if told else ()


def _drift(run: Run, prepared: Prepared) -> tuple[str, ...]:
    """How the run's images differ from those it was trained and tested on."""
    manifest = Path(run.folder) / "split.csv"
    if not manifest.exists():
        return ()
    new, missing, altered = changed(prepared, manifest)
    if not (new or missing or altered):
        return ()
    return (
        f"the run's images have changed: {len(new):,} new, {len(missing):,} missing, {len(altered):,} altered; "
        "they are tested as they are now",
    )
