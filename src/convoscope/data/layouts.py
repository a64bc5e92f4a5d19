"""The way in: from a path or a name to a dataset.

`load` guesses the layout, says so in the dataset's notes, and fills in the parts that the source does not give itself.
The readers (`layout_*.py`) list images and labels; none decodes.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, Unpack

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError, UsageError, printable
from ..files import machine_error
from ..patterns import groups_by_name
from .dataset import KNOWN, TARGET_NOUNS, Dataset
from .groups import check_enough, named_units
from .label_arrays import check_lengths, read_targets
from .listing import Listing
from .registry import AUTO, TABLE, ReadOptions, guess, layout_called, layout_names, layouts, not_a_folder
from .sources import ArrayImages, Stack
from .split import TRAIN, apply, complete, in_written_order, read_split, strata_of
from .table_options import SourceKeywords, TableOptions

LAYOUTS: Final = layout_names()
"""How a source may be read; `auto` guesses and says what it took."""
MEMORY = "memory"
"""The layout of what `from_arrays` was given."""


def load(
    source: str | os.PathLike[str] | Dataset,
    *,
    layout: str = "auto",
    seed: int = 0,
    validation: float | None = None,
    test: float | None = None,
    manifest: str | os.PathLike[str] | None = None,
    tiff: bool = False,
    classes: Sequence[str] | None = None,
    **table: Unpack[SourceKeywords],
) -> Dataset:
    """List images and labels, and fix the split. Nothing is decoded.

    Args:
        source: a folder, a file, a name (`builtin:shapes`, `mnist`, `quickdraw:apple,banana`), or a dataset, which is
            returned as it is.
        layout: one of `LAYOUTS`.
        seed: of the split that is drawn where the source gives none.
        validation: share 0..1 of the images that validation gets; None: a tenth, at most 5,000.
        test: share 0..1 for the test; None: a tenth, at most 10,000. See `split.complete` for what happens to given
            parts.
        manifest: a split.csv whose split is read back; images it does not list keep the drawn one.
        tiff: whether TIFF pictures are read as well.
        classes: the classes that a run knows, where the images are to test that run or to be added to it. Any of them
            will do: one class, one image of a class, and a class folder may be empty.
        **table: how a table is read, see `TableOptions`: `path_column`, `label_column` (one or several), `task`,
            `separator`, `label_separator`, `root` and `encoding`; whatever is not said is found from the content.
            `like`: how another table was read, which holds, where it fits, for what is not said. `group`: the column
            whose equal cells name images that stay in one part, where parts are drawn. For any source:
            `group_pattern`: a regular expression whose one group does so in the images' names; `dedupe`: equal images
            count once. Equal images, and those that look the same, stay in one part in any case: `prepare` and
            `inspect`, which see them, draw once more for that.

    Returns:
        The dataset. What was guessed is in its notes, what was left out in `skipped`.

    Raises:
        UsageError: an unknown layout, an impossible share, or an option of tables for something else.
        DataError: nothing there, or nothing that can be read as images with labels.
    """
    asked, pattern, dedupe = TableOptions.of(table), table.get("group_pattern"), bool(table.get("dedupe"))
    if isinstance(source, Dataset):
        _check_no_table(asked, "images that were listed already")
        _check_no_grouping(pattern, dedupe, "these images were listed already")
        return source
    text = os.fspath(source)
    if layout == MEMORY:
        raise DataError(
            text,
            "these images were handed over in memory, so they cannot be read again",
            hint="name a folder or a file with the images",
            code="data-in-memory",
        )
    path = Path(text)
    if text.startswith("builtin:"):
        from .builtin import load_builtin

        _check_no_table(asked, printable(text))
        _check_no_grouping(pattern, dedupe, f"{printable(text)} is divided as it is")
        fewest = 2 if classes is None else 1
        dataset = load_builtin(text, seed=seed, validation=validation, test=test, fewest_classes=fewest)
        return with_manifest(dataset, manifest)
    if layout not in LAYOUTS:
        raise UsageError(
            "layout",
            f"must be one of {', '.join(LAYOUTS)}; received {layout!r}",
            hint="; ".join(f"{one.name}: {one.about}" for one in layouts()),
            code="unknown-layout",
        )
    if not text or not os.path.lexists(path):
        from .download import is_download, locate

        if not is_download(text):
            raise DataError(
                text or "''",
                "there is no such file or folder",
                hint="name a folder of pictures, or builtin:shapes, mnist, fashion-mnist, quickdraw:apple,banana",
                code="data-missing",
            )
        path = locate(text)
    known = None if classes is None else tuple(classes)
    try:
        listing = _read(path, layout, ReadOptions(tiff=tiff, classes=known, table=asked, like=table.get("like")))
    except OSError as error:
        raise machine_error(error.filename or path, error) from error
    listing = grouped(listing, pattern)
    dataset = _finish(text, listing, seed=seed, validation=validation, test=test, known=known)
    return with_manifest(replace(dataset, group_pattern=pattern, dedupe=dedupe), manifest)


def grouped(listing: Listing, pattern: str | None) -> Listing:
    """The listing with the groups that a pattern finds in the images' names.

    Raises:
        UsageError: the pattern cannot be used, see `groups_by_name`, or a column names groups, too (`option-twice`).
    """
    if pattern is None:
        return listing
    if listing.groups is not None:
        raise UsageError(
            "--group-pattern", "says what --group says; both were given", hint="leave one out", code="option-twice"
        )
    groups = groups_by_name(pattern, listing.names)
    number, alone = len(set(groups) - {""}), groups.count("")
    note = f"{number:,} groups, found in the images' names by {printable(pattern)}; each stays in one part"
    note += f"; {alone:,} images without one are alone" if alone else ""
    return replace(listing, groups=groups, notes=[*listing.notes, note])


def _finish(
    source: str,
    listing: Listing,
    *,
    seed: int,
    validation: float | None,
    test: float | None,
    known: tuple[str, ...] | None = None,
) -> Dataset:
    if not listing.names:
        reasons = "; ".join(f"{printable(bad.path)} {bad.reason}" for bad in listing.skipped[:5])
        raise DataError(source, f"holds no image that can be read{': ' + reasons if reasons else ''}", code="no-images")
    targets = listing.targets
    if len(set(listing.classes)) < len(listing.classes):
        twin = next(name for name, count in Counter(listing.classes).items() if count > 1)
        raise DataError(
            source,
            f"two of the {TARGET_NOUNS[listing.task]} have the same name, {printable(twin)[:80]!r}",
            hint="give each its own name",
            code="twin-classes",
        )
    if listing.task == "classification":
        _check_classes(source, listing, known)
    splits, notes, drawn = complete(
        listing.names,
        strata_of(listing.task, targets),
        listing.given,
        seed=seed,
        validation=validation,
        test=test,
        units=None if listing.groups is None else named_units(listing.groups),
    )
    dataset = Dataset(
        source=source,
        layout=listing.layout,
        task=listing.task,
        classes=listing.classes,
        names=listing.names,
        targets=targets,
        splits=splits,
        images=listing.images,
        notes=(*listing.notes, *notes),
        split_notes=tuple(notes),
        skipped=tuple(listing.skipped),
        table=listing.table,
        rows=listing.rows,
        groups=listing.groups,
        draw=drawn,
    )
    check_enough(dataset)
    return dataset


def with_manifest(dataset: Dataset, manifest: str | os.PathLike[str] | None) -> Dataset:
    """The dataset with the split of a split.csv; images it does not list keep theirs, or join their copies."""
    if manifest is None:
        return dataset
    rows = read_split(manifest)
    splits, new = apply(rows, dataset.names, dataset.splits)
    note = f"split read back from {printable(os.fspath(manifest))}"
    if new:
        note += f"; {new} images that it does not list keep the drawn one"
    kept = [one for one in dataset.notes if one not in dataset.split_notes]
    drawn = dataset.draw
    if drawn is not None:
        listed = {row.path for row in rows}
        known = np.fromiter((name in listed for name in dataset.names), bool, len(dataset))
        drawn = replace(drawn, state=np.where(known, KNOWN, drawn.state).astype(np.int8))
    dataset = replace(dataset, splits=splits, notes=(*kept, note), split_notes=(note,), draw=drawn)
    order = in_written_order(rows, dataset.names)
    return dataset if order is None else dataset.select(order)


def _check_classes(source: str, listing: Listing, known: tuple[str, ...] | None) -> None:
    if len(listing.classes) < 2 and known is None:
        raise DataError(
            source,
            f"has only one class ({printable(listing.classes[0])}); a classifier needs two or more",
            hint="make a folder for each class",
            code="one-class",
        )
    counts = np.bincount(listing.targets, minlength=len(listing.classes)).tolist()
    for name, count in zip(listing.classes, counts, strict=True):
        if count < 2 and name not in (known or ()):
            raise DataError(
                source,
                f"class {printable(name)!r} has {count} image{'s' * (count != 1)}; at least 2 are needed",
                hint="add images to it, or remove the class" + _or_numbers(listing),
                code="class-too-small" if count else "class-empty",
            )
    if known is None and listing.given is not None and (listing.given == TRAIN).any():
        trained = np.bincount(listing.targets[listing.given == TRAIN], minlength=len(listing.classes))
        for name, count in zip(listing.classes, trained, strict=True):
            if count == 0:
                raise DataError(source, f"class {printable(name)!r} has no training image", code="class-empty")


def _or_numbers(listing: Listing) -> str:
    """The other way to read classes that are numbers in a table."""
    numbers = listing.table is not None and all(name.isdigit() for name in listing.classes)
    return "; if these are numbers to be predicted: --task regression" if numbers else ""


def from_arrays(
    images: NDArray[Any],
    labels: NDArray[Any] | Sequence[Any],
    classes: Sequence[str] | None = None,
    *,
    splits: NDArray[np.int8] | None = None,
    seed: int = 0,
    validation: float | None = None,
    test: float | None = None,
    source: str = "arrays",
    groups: Sequence[str] | None = None,
    dedupe: bool = False,
) -> Dataset:
    """A dataset from arrays in memory.

    Args:
        images: `(N, H, W)`, `(N, H, W, C)`, `(N, C, H, W)` or `(N, side * side)`; uint8, bool, uint16 or float 0..1.
        labels: N class indices or texts, `(N, K)` rows of 0 and 1, or floats; see `read_targets`.
        classes: K names.
        splits: int8 `(N,)`, positions in `SPLITS`; None: drawn.
        seed, validation, test: as in `load`.
        source: what to call it.
        groups: N names of groups whose images stay in one part; an empty name: the image is alone.
        dedupe: whether equal images count once.

    Raises:
        DataError: shapes, types or lengths that do not fit.
    """
    stack = Stack(np.asarray(images), "images")
    values = np.asarray(labels)
    check_lengths(source, stack.count, len(values) if values.ndim else 0)
    if groups is not None:
        check_lengths(source, stack.count, len(groups))
    task, names, targets, notes = read_targets(source, values, classes)
    rows = [f"image/{row}" for row in range(stack.count)]
    if stack.axes in ("NCHW", "NF"):
        notes.append(f"taken as {stack.count} images of {stack.height} x {stack.width} x {stack.channels}")
    notes += stack.notes()
    listing = Listing(MEMORY, names, rows, targets, ArrayImages([stack]), task, given=splits, notes=notes)
    listing.groups = None if groups is None else list(map(str, groups))
    return replace(_finish(source, listing, seed=seed, validation=validation, test=test), dedupe=dedupe)


def _check_no_table(asked: TableOptions, what: str) -> None:
    given = list(asked.keywords())
    if given:
        raise UsageError(
            f"--{given[0].replace('_', '-')}",
            f"is for tables (CSV, TSV, JSON lines) only; {what} is no table",
            hint="name groups by the images' names: --group-pattern" if given == ["group"] else "leave it out",
            code="table-option-elsewhere",
        )


def _check_no_grouping(pattern: str | None, dedupe: bool, why: str) -> None:
    if pattern is not None or dedupe:
        raise UsageError(
            "--dedupe" if pattern is None else "--group-pattern",
            f"has no effect: {why}",
            hint="leave it out; in Python, give it to load",
            code="grouping-elsewhere",
        )


def _read(path: Path, name: str, options: ReadOptions) -> Listing:
    if path.is_symlink() or not path.is_dir():
        path = path.resolve(strict=False)
    if not path.exists():
        raise DataError(path, "is a link that leads nowhere", code="data-missing")
    chosen = guess(path) if name == AUTO else layout_called(name)
    if chosen.folder_only and not path.is_dir():
        raise not_a_folder(path)
    if chosen.name != TABLE:
        _check_no_table(options.table, printable(path))
    variant = "" if name == AUTO else name.partition(":")[2]
    listing = chosen.read(path, replace(options, variant=variant))
    if name == AUTO and not listing.guess_told:
        listing.notes.insert(0, f"layout guessed: {chosen.about} (--layout {listing.layout})")
    return listing
