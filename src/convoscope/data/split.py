"""Which image is for training, which for validation, which for the test; writing that down and reading it back.

The split is a function of the seed and of the images' names alone: neither the order of the files nor the machine
matters.
"""

from __future__ import annotations

import csv
import hashlib
import io
import numbers
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError, UsageError
from ..files import atomic_write, machine_error, open_plain
from .dataset import GIVEN, OPEN, SPLITS, Dataset, Draw, SplitName, Task


class _Prepared(Protocol):
    """What is written down of images that were decoded, see `store.Prepared`."""

    @property
    def dataset(self) -> Dataset: ...
    @property
    def digests(self) -> Sequence[str]: ...


VALIDATION_SHARE: Final = 0.1
TEST_SHARE: Final = 0.1
MAX_VALIDATION: Final = 5_000
MAX_TEST: Final = 10_000
"""Where the user gives no share: a tenth of the images each, at most this many."""

TRAIN, VALIDATION, TEST = range(3)


def rank(seed: int, name: str) -> bytes:
    """The place of an image in the lot, a function of the seed and its name."""
    return hashlib.blake2b(name.encode("utf-8", "surrogateescape"), digest_size=8, key=b"%d" % seed).digest()


def draw(
    names: Sequence[str],
    strata: NDArray[np.int64],
    seed: int,
    validation: int | float,
    test: int | float,
    units: NDArray[np.int64] | None = None,
) -> NDArray[np.int8]:
    """Draw a stratified split: int8 `(N,)`, positions in `SPLITS`.

    In each stratum the images are ordered by `rank`; the first go to the test, the next to validation, the rest to
    training; shares of a stratum are rounded down. A stratum of three or more has an image in each part whose share is
    not 0, one of two or more in training and in validation. Images of one unit get the same part, see `_draw_units`.

    Args:
        names: N names.
        strata: int64 `(N,)`, what is to be represented evenly in each part.
        seed: another seed, another draw.
        validation: share 0..1.
        test: share 0..1.
        units: int64 `(N,)`, which images belong together; None: each is alone.
    """
    splits = np.zeros(len(names), np.int8)
    if len(names) == 0 or (validation == 0 and test == 0):
        return splits
    if units is not None and len(np.unique(units)) < len(units):
        return _draw_units(names, strata, seed, validation, test, units)
    order = np.lexsort((np.array([rank(seed, name) for name in names], "S8"), strata))
    starts = np.flatnonzero(np.diff(strata[order], prepend=strata[order[0]] - 1)).tolist()
    for start, end in pairwise([*starts, len(order)]):
        for_test, for_validation = _numbers(end - start, validation, test)
        splits[order[start : start + for_test]] = TEST
        splits[order[start + for_test : start + for_test + for_validation]] = VALIDATION
    return splits


def _numbers(count: int, validation: float, test: float) -> tuple[int, int]:
    """How many of `count` images are for the test and for validation."""
    for_test = max(int(count * test + 1e-9), 1 if test else 0)
    for_validation = max(int(count * validation + 1e-9), 1 if validation else 0)
    # Training keeps at least one image, then validation, then the test.
    for_validation = min(for_validation, count - 1)
    return max(0, min(for_test, count - 1 - for_validation)), for_validation


def _draw_units(
    names: Sequence[str],
    strata: NDArray[np.int64],
    seed: int,
    validation: float,
    test: float,
    units: NDArray[np.int64],
) -> NDArray[np.int8]:
    """As `draw`, where images of one unit get the same part. It draws the same as that where each is alone.

    A unit's place in the lot is that of its shortest name: a copy, whose name is longer as a rule, moves nothing. In
    this order a part takes each unit that brings its strata closer to their share, all of them together. A stratum of
    which a part has nothing then, because its units are large, gives the one that is the least too large. Training
    keeps one unit of every stratum, and the test leaves one for validation.
    """
    members: dict[int, list[int]] = {}
    for row, unit in enumerate(units.tolist()):
        members.setdefault(unit, []).append(row)
    named = {unit: [names[row] for row in rows] for unit, rows in members.items()}
    first = {unit: min(its, key=lambda name: (len(name), name)) for unit, its in named.items()}
    order = sorted(members, key=lambda unit: (rank(seed, first[unit]), first[unit]))
    sizes = {unit: Counter(strata[rows].tolist()) for unit, rows in members.items()}
    left = Counter(stratum for size in sizes.values() for stratum in size)
    numbers = {stratum: _numbers(count, validation, test) for stratum, count in Counter(strata.tolist()).items()}
    splits = np.zeros(len(names), np.int8)
    for part, keep in ((TEST, 2 if validation else 1), (VALIDATION, 1)):
        need = {stratum: for_test if part == TEST else held for stratum, (for_test, held) in numbers.items()}
        taken = _taken([unit for unit in order if splits[members[unit][0]] == TRAIN], sizes, need, left, keep)
        splits[[row for unit in taken for row in members[unit]]] = part
    return splits


def _taken(
    order: Sequence[int], sizes: Mapping[int, Counter[int]], need: dict[int, int], left: Counter[int], keep: int
) -> list[int]:
    """The units that one part takes, see `_draw_units`.

    Args:
        order: the units there are.
        sizes: of each unit, how many images of each stratum it has.
        need: how many images of each stratum the part is to have; it is counted down.
        left: how many units of each stratum there are; it is counted down.
        keep: as many have to be left.
    """
    taken: list[int] = []
    missing = {stratum for stratum, number in need.items() if number}

    def excess(unit: int) -> int:
        """How much farther from its shares the part is with this unit than without."""
        return sum(abs(need[one] - count) - abs(need[one]) for one, count in sizes[unit].items())

    def take(unit: int) -> None:
        taken.append(unit)
        need.update({one: need[one] - count for one, count in sizes[unit].items()})
        left.subtract(dict.fromkeys(sizes[unit], 1))
        missing.difference_update(sizes[unit])

    for unit in order:
        if excess(unit) < 0 and all(left[one] > keep for one in sizes[unit]):
            take(unit)
    rest = set(order) - set(taken) if missing else set()
    for unit in sorted((unit for unit in order if unit in rest), key=excess):
        if not missing.isdisjoint(sizes[unit]) and all(left[one] > keep for one in sizes[unit]):
            take(unit)
    return taken


def check_share(name: str, share: float | None) -> None:
    """Refuse a share outside 0 <= share < 1.

    Raises:
        UsageError: it is.
    """
    if share is not None and not 0 <= share < 1:
        raise UsageError(
            name, f"must be a share from 0 to below 1; received {share}", hint="0.1 holds out a tenth", code="bad-share"
        )


MAX_SEED: Final = 2**63 - 1


def check_seed(seed: int) -> int:
    """The seed as Python's own number; one outside 0 <= seed < 2**63 is refused.

    Raises:
        UsageError: it is.
    """
    if isinstance(seed, bool) or not isinstance(seed, numbers.Integral) or not 0 <= seed <= MAX_SEED:
        raise UsageError("seed", f"must be a whole number from 0 to {MAX_SEED}; received {seed}", code="bad-seed")
    return int(seed)


def complete(
    names: Sequence[str],
    strata: NDArray[np.int64],
    given: NDArray[np.int8] | None,
    *,
    seed: int,
    validation: float | None,
    test: float | None,
    units: NDArray[np.int64] | None = None,
) -> tuple[NDArray[np.int8], list[str], Draw | None]:
    """Fill in the parts that a source does not give itself, and say how.

    A source that gives
    - nothing: a tenth each for validation and test, at most 5,000 and 10,000 images;
    - training and test: a tenth of the training part, at most 5,000 images, becomes validation;
    - training and validation: the validation part is the unseen one, so it becomes the test, and validation is held out
      as above;
    - all three: they stay as they are.

    A share given by the user is kept to, and a given part is never mixed into another.

    Args:
        names: N names.
        strata: int64 `(N,)`.
        given: int8 `(N,)`, positions in `SPLITS`, or None.
        seed: of the draw.
        validation: share of what is drawn from, or None.
        test: the same.
        units: int64 `(N,)`, which images belong together, or None.

    Returns:
        The split, int8 `(N,)`, notes, and how it was drawn; None: nothing was.
    """
    seed = check_seed(seed)
    check_share("validation", validation)
    check_share("test", test)
    if (validation or 0) + (test or 0) >= 1:
        raise UsageError("validation, test", f"leave nothing for training: {validation} + {test}", code="bad-share")
    count = len(names)
    has = [given is not None and bool((given == part).any()) for part in range(3)]
    if given is None or not has[TRAIN] or not (has[VALIDATION] or has[TEST]):
        validation = min(VALIDATION_SHARE, MAX_VALIDATION / max(count, 1)) if validation is None else validation
        test = min(TEST_SHARE, MAX_TEST / max(count, 1)) if test is None else test
        splits = draw(names, strata, seed, validation, test, units)
        counts = np.bincount(splits, minlength=3)
        proportion = ", each class in proportion" if strata.any() else ""
        parts = f"{counts[0]} for training, {counts[1]} for validation, {counts[2]} for the test"
        drawn = Draw(seed, validation, test, np.full(count, OPEN, np.int8)) if validation or test else None
        return splits, [f"split drawn with seed {seed}: {parts}{proportion}"], drawn
    splits = given.copy()
    if has[VALIDATION] and has[TEST]:
        return splits, ["training, validation and test parts as the source gives them"], None
    notes = []
    if has[VALIDATION]:
        if test == 0:
            return splits, ["training and validation parts as the source gives them; no test part, as asked"], None
        splits[splits == VALIDATION] = TEST
        notes.append("the source's validation part is kept unseen and used as the test")
    pool = np.flatnonzero(splits == TRAIN)
    if validation is None:
        validation = min(VALIDATION_SHARE, MAX_VALIDATION / len(pool))
    splits[pool] = draw(
        [names[row] for row in pool.tolist()],
        strata[pool],
        seed,
        validation,
        0,
        None if units is None else units[pool],
    )
    held = int((splits[pool] == VALIDATION).sum())
    notes.append(f"{held} of {len(pool)} training images are held out for validation, drawn with seed {seed}")
    state = np.full(count, GIVEN, np.int8)
    state[pool] = OPEN
    return splits, notes, Draw(seed, validation, 0, state) if validation else None


def strata_of(task: Task, targets: NDArray[np.int64] | NDArray[np.uint8] | NDArray[np.float32]) -> NDArray[np.int64]:
    """What a split keeps in proportion: the class; of several labels the rarest; of numbers nothing."""
    if task == "classification":
        return targets.astype(np.int64)
    if task == "multi-label" and targets.shape[1]:
        frequency = targets.sum(axis=0)
        weighted = np.where(targets > 0, frequency, np.iinfo(np.int64).max)
        rarest: NDArray[np.int64] = weighted.argmin(axis=1).astype(np.int64)
        rarest[targets.sum(axis=1) == 0] = targets.shape[1]
        return rarest
    return np.zeros(len(targets), np.int64)


# --- split.csv --------------------------------------------------------------------------------------------------------

_COLUMNS: Final = ["path", "label", "split", "digest"]


@dataclass(frozen=True)
class SplitRow:
    """One line of a split.csv."""

    path: str
    label: str
    split: SplitName
    digest: str


def escape_cell(text: str) -> str:
    r"""A text that neither a terminal nor a spreadsheet will act upon, and that `unescape_cell` turns back exactly.

    A backslash and whatever cannot be printed (line ends, terminal escapes, bytes that are not text) are written as
    `\\`, `\xHH`, `\uHHHH`; a cell that a spreadsheet would take for a formula gets a `'` in front.
    """
    if not text.isprintable() or "\\" in text:
        text = "".join(_escape(character) for character in text)
    return "'" + text if text.startswith(("=", "+", "-", "@", "'")) else text


def _escape(character: str) -> str:
    if character == "\\":
        return "\\\\"
    if character.isprintable():
        return character
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def unescape_cell(cell: str) -> str:
    """The text that `escape_cell` was given.

    Raises:
        ValueError: no text gives this cell.
    """
    if cell.startswith("'"):
        cell = cell[1:]
    if "\\" not in cell:
        return cell
    parts = []
    position = 0
    while position < len(cell):
        character = cell[position]
        if character != "\\":
            parts.append(character)
            position += 1
            continue
        kind = cell[position + 1 : position + 2]
        digits = {"\\": 0, "x": 2, "u": 4, "U": 8}.get(kind)
        if digits is None:
            raise ValueError(f"unknown escape \\{kind}")
        parts.append(chr(int(cell[position + 2 : position + 2 + digits], 16)) if digits else "\\")
        position += 2 + digits
    return "".join(parts)


def label_text(dataset: Dataset, row: int) -> str:
    """The image's target as text: its class, its labels joined by `;`, or its numbers joined by `;`."""
    if dataset.task == "classification":
        return dataset.classes[int(dataset.targets[row])]
    if dataset.task == "multi-label":
        return ";".join(dataset.classes[k] for k in np.flatnonzero(dataset.targets[row]))
    return ";".join(repr(float(value)) for value in dataset.targets[row])


def write_split(path: str | os.PathLike[str], prepared: _Prepared) -> None:
    """Write path, label, split and content hash of every image as CSV.

    Raises:
        MachineError: the file cannot be written.
    """
    dataset = prepared.dataset
    with atomic_write(path) as file:
        text = io.TextIOWrapper(file, encoding="utf-8", newline="", write_through=True)
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(_COLUMNS)
        for row, name in enumerate(dataset.names):
            label = escape_cell(label_text(dataset, row))
            writer.writerow((escape_cell(name), label, SPLITS[dataset.splits[row]], prepared.digests[row]))
        text.detach()


def read_split(path: str | os.PathLike[str]) -> list[SplitRow]:
    """Read what `write_split` wrote.

    Raises:
        DataError: no such file (`split-missing`), or a line that `write_split` would not write (`split-damaged`).
    """
    rows: list[SplitRow] = []
    try:
        with open(path, encoding="utf-8", newline="", opener=open_plain) as file:
            reader = csv.reader(file, strict=True)
            if next(reader, None) != _COLUMNS:
                raise DataError(
                    path, f"expected the columns {','.join(_COLUMNS)} in its first line", code="split-damaged"
                )
            for cells in reader:
                if len(cells) != 4 or cells[2] not in SPLITS:
                    raise ValueError("expected path, label, split and digest")
                rows.append(SplitRow(unescape_cell(cells[0]), unescape_cell(cells[1]), cells[2], cells[3]))
    except FileNotFoundError as error:
        raise DataError(path, "there is no such split file", code="split-missing") from error
    except OSError as error:
        raise machine_error(path, error) from error
    except (ValueError, OverflowError, csv.Error) as error:
        raise DataError(
            path,
            f"line {len(rows) + 2} cannot be read ({error})",
            hint="restore the file as it was written",
            code="split-damaged",
        ) from error
    if not rows:
        raise DataError(path, "lists no image", code="split-damaged")
    return rows


def apply(rows: Sequence[SplitRow], names: Sequence[str], drawn: NDArray[np.int8]) -> tuple[NDArray[np.int8], int]:
    """The split as written down; images that are not listed keep what was drawn for them. Returns it and how many those
    are.
    """
    written = {row.path: SPLITS.index(row.split) for row in rows}
    splits = drawn.copy()
    new = 0
    for position, name in enumerate(names):
        known = written.get(name)
        if known is None:
            new += 1
        else:
            splits[position] = known
    return splits, new


def in_written_order(rows: Sequence[SplitRow], names: Sequence[str]) -> NDArray[np.int64] | None:
    """The order of the names that is written down, those that are not listed last; None if it is theirs already.

    The order of its images is a part of what a training repeats. It is that of the names but where the images have
    moved and have other names now.
    """
    written = {row.path: number for number, row in enumerate(rows)}
    places = np.array([written.get(name, len(rows)) for name in names], np.int64)
    known = places[places < len(rows)]
    return None if bool((np.diff(known) > 0).all()) else np.argsort(places, kind="stable")


def changed(
    prepared: _Prepared, manifest: str | os.PathLike[str] | Sequence[SplitRow]
) -> tuple[list[str], list[str], list[str]]:
    """How the images differ from a split.csv: names of new, missing and altered ones. Altered: another content or
    label.
    """
    rows = read_split(Path(os.fspath(manifest))) if isinstance(manifest, (str, os.PathLike)) else manifest
    written = {row.path: row for row in rows}
    dataset = prepared.dataset
    new, altered = [], []
    for position, name in enumerate(dataset.names):
        known = written.pop(name, None)
        if known is None:
            new.append(name)
        elif known.digest != prepared.digests[position] or known.label != label_text(dataset, position):
            altered.append(name)
    return new, list(written), altered
