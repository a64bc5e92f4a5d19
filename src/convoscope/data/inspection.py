"""What is in a dataset before anything is trained on it: counts, sizes, bad files, images that occur twice, leaks,
imbalance.

Every image is opened once, in parallel. Equal images are found by their content's digest; near duplicates (saved again,
scaled, brightened) by their 16x16 grey thumbnails, see `close_groups`.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice, takewhile
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import ConvoscopeError, MachineError, printable, shell_word
from ..posix import usable_cores
from .dataset import OPEN, SPLITS, Dataset, InputFormat, Look, Skipped, Task
from .decode import decode_bytes, read_header, turn_to_read
from .form import white_in, white_note
from .groups import kept_together, without_copies
from .levels import even_toned, told_even
from .likeness import LOOK_FORM, Looks, thumbnail
from .sources import ArrayImages, FileImages, digest_of
from .store import MACHINE_ERRORS_IN_A_ROW, Prepared, gathered_remarks, unreachable
from .turns import abandoned, decoding_threads

Progress = Callable[[int, int], None]
"""Called with the number of images done and of all images."""

NOTE_IMBALANCE, WARN_IMBALANCE = 10, 100

_NOTE_NEAR_LEAKS = 0.01  # training tells of no smaller share of held-out images that look like one in training
_BLOCK = 1024  # images of an array opened at a time


@dataclass(frozen=True, kw_only=True)
class Inspection:
    """What `inspect` found. Names are those of `Dataset.names`.

    Attributes:
        source, layout, task, classes: as in the dataset.
        counts: split to class to number, of the images that can be used.
        skipped: images that cannot be used, and why.
        sizes: width, height and how many images have them, the most frequent first.
        modes: such as `JPEG, colour` to how many.
        duplicates: groups of images with the same content.
        near_duplicates: groups that look the same but are not the same file; of equal ones only the first is listed.
        leaks: groups of equal images in more than one split: split to names.
        near_leaks: the same for near duplicates.
        conflicts: groups of equal images with different labels: label to names.
        numbers: for regression, per column the least, mean and largest value.
        warnings: what should be mended, one sentence each.
        notes: what is good to know, one sentence each.
    """

    source: str
    layout: str
    task: Task
    classes: tuple[str, ...]
    counts: dict[str, dict[str, int]]
    skipped: tuple[Skipped, ...]
    sizes: tuple[tuple[int, int, int], ...]
    modes: dict[str, int]
    duplicates: tuple[tuple[str, ...], ...]
    near_duplicates: tuple[tuple[str, ...], ...]
    leaks: tuple[dict[str, tuple[str, ...]], ...]
    near_leaks: tuple[dict[str, tuple[str, ...]], ...]
    conflicts: tuple[dict[str, tuple[str, ...]], ...]
    numbers: dict[str, tuple[float, float, float]] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def size_summary(self) -> dict[str, Any]:
        """Least, median and largest width and height, each on its own, and the ten most frequent sizes."""
        if not self.sizes:
            return {}
        widths, heights, counts = (np.array(column) for column in zip(*self.sizes, strict=True))
        summary: dict[str, Any] = {
            key: [_weighted(widths, counts, share), _weighted(heights, counts, share)]
            for key, share in (("min", 0.0), ("median", 0.5), ("max", 1.0))
        }
        summary["different"] = len(self.sizes)
        summary["most_common"] = [{"width": w, "height": h, "count": count} for w, h, count in self.sizes[:10]]
        return summary

    def to_json(self) -> dict[str, Any]:
        """Everything as plain lists, dicts, strings and numbers. Names that are not text get escapes."""
        result: dict[str, Any] = _plain_json(
            {
                "source": self.source,
                "layout": self.layout,
                "task": self.task,
                "classes": self.classes,
                "counts": self.counts,
                "skipped": [{"path": one.path, "reason": one.reason} for one in self.skipped],
                "sizes": self.size_summary(),
                "modes": self.modes,
                "duplicates": self.duplicates,
                "near_duplicates": self.near_duplicates,
                "leaks": self.leaks,
                "near_leaks": self.near_leaks,
                "conflicts": self.conflicts,
                "numbers": {
                    name: dict(zip(("min", "mean", "max"), v, strict=True)) for name, v in self.numbers.items()
                },
                "warnings": self.warnings,
                "notes": self.notes,
            }
        )
        return result


def _weighted(values: NDArray[np.int64], counts: NDArray[np.int64], share: float) -> int:
    """The value at or below which this share of all is."""
    order = np.argsort(values, kind="stable")
    position = np.searchsorted(np.cumsum(counts[order]), share * counts.sum())
    return int(values[order[min(int(position), len(order) - 1)]])


def _plain_json(value: Any) -> Any:
    if isinstance(value, dict):
        return {_text(key): _plain_json(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain_json(one) for one in value]
    return _text(value) if isinstance(value, str) else value


def _text(value: str) -> str:
    """Undecodable bytes of file names (lone surrogates) cannot be written as UTF-8."""
    return value.encode("utf-8", "backslashreplace").decode("utf-8")


# --- looking ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Look:
    """What opening one image gave: a digest and what it looks like, or why not."""

    digest: bytes = b""
    look: Look | None = None
    size: tuple[int, int] | None = None
    mode: str = ""
    error: ConvoscopeError | None = None
    machine: bool = False
    note: str = ""
    even: bool = False


@dataclass
class _Opened:
    """What opening every image gave, by row; digests and looks are empty where `good` is false."""

    digests: list[bytes]
    looks: Looks
    good: NDArray[np.bool_]
    skipped: list[Skipped]
    sizes: Counter[tuple[int, int]] = field(default_factory=Counter)
    modes: Counter[str] = field(default_factory=Counter)
    odd: list[tuple[int, str]] = field(default_factory=list)
    even: int = 0

    def note(self, row: int, name: str, look: _Look) -> None:
        """Take in what one image gave."""
        if look.error is not None:
            self.skipped.append(Skipped(name, look.error.reason))
        else:
            self.good[row] = True
            self.digests[row] = look.digest
            self.looks.note(row, look.look)
            self.even += look.even
            if look.note:
                self.odd.append((row, look.note))
        if look.size:
            self.sizes[look.size] += 1
        if look.mode:
            self.modes[look.mode] += 1


def _open_all(dataset: Dataset, progress: Progress | None, workers: int, white: int | None) -> _Opened:
    """Open every image once.

    Raises:
        MachineError: 20 images in a row could not be read because of the machine (`pictures-unreachable`).
    """
    total = len(dataset)
    opened = _Opened([b""] * total, Looks.blank(total), np.zeros(total, dtype=np.bool_), list(dataset.skipped))
    in_a_row = 0
    for row, look in enumerate(_looks(dataset, workers, white)):
        in_a_row = in_a_row + 1 if look.machine else 0
        if in_a_row >= MACHINE_ERRORS_IN_A_ROW:
            assert look.error is not None
            raise unreachable(dataset.source, look.error)
        opened.note(row, dataset.names[row], look)
        if progress and (row % 256 == 255 or row + 1 == total):
            progress(row + 1, total)
    return opened


def inspect(dataset: Dataset, *, progress: Progress | None = None, workers: int | None = None) -> Inspection:
    """Open every image of the dataset once and report what is in it; nothing is changed or written.

    Args:
        dataset: of any task.
        progress: called with the number of images opened and of all.
        workers: threads; None: one for each core.

    Raises:
        MachineError: 20 images in a row could not be read because of the machine (`pictures-unreachable`).
    """
    white = white_in(dataset)
    opened = _open_all(dataset, progress, workers or usable_cores(), white)
    kept = np.flatnonzero(opened.good)
    usable = dataset if len(kept) == len(dataset) else dataset.select(kept)
    usable, digests, looks = _arranged(
        usable, [opened.digests[row] for row in kept.tolist()], opened.looks.select(kept)
    )
    equal = _equal(digests, range(len(usable)))
    same = [rows for rows in equal.values() if len(rows) > 1]
    first = np.array(sorted(rows[0] for rows in equal.values()), dtype=np.int64)
    near = [group.tolist() for group in looks.alike(first)]
    # An equal copy of a near duplicate may be in another split than the one that was compared.
    near_all = [[row for one in group for row in equal[digests[one]]] for group in near]

    result = Inspection(
        source=dataset.source,
        layout=dataset.layout,
        task=dataset.task,
        classes=dataset.classes,
        counts=usable.counts(),
        skipped=(*opened.skipped, *usable.skipped[len(dataset.skipped) :]),
        sizes=tuple((width, height, count) for (width, height), count in opened.sizes.most_common()),
        modes=dict(opened.modes.most_common()),
        duplicates=_named(usable, same),
        near_duplicates=_named(usable, near),
        leaks=_apart(usable, same, _split),
        near_leaks=_apart(usable, near_all, _split),
        conflicts=_apart(usable, same, _label),
        numbers=_numbers(usable),
    )
    said = white_note(replace(LOOK_FORM, white=white)) if isinstance(dataset.images, FileImages) else ""
    notes = (*usable.notes, *([said] if said else []), *gathered_remarks(dataset.names, opened.odd))
    even = told_even(opened.even, len(usable))
    result = replace(result, warnings=(even,) if even else ())
    leaks = _told_leaks(usable, same, _remedy(usable))
    leaks += _told_leaks(usable, near_all, _near_remedy(usable), "nearly the same")
    return _judged(result, usable, notes, leaks, int(looks.plain.sum()), looks.agreement)


def _arranged(usable: Dataset, digests: list[bytes], looks: Looks) -> tuple[Dataset, list[bytes], Looks]:
    """The images as `prepare` leaves them: each once if that is asked for, and what belongs together in one part."""
    if usable.dedupe:
        usable, rows = without_copies(usable, digests)
        digests, looks = [digests[row] for row in rows.tolist()], looks.select(rows)
    return kept_together(usable, digests, looks), digests, looks


def concerns(prepared: Prepared) -> list[str]:
    """What to know before training on these images, one sentence each: the same image in two parts or under two labels,
    images on which there is nothing to see, and classes of very different size.
    """
    dataset = prepared.dataset
    same = [rows for rows in _equal(prepared.digests, range(len(dataset))).values() if len(rows) > 1]
    found = _told_leaks(dataset, same, _remedy(dataset))
    found += _told_near_leaks(prepared)
    found += _told_conflicts(_apart(dataset, same, _label))
    uneven, ratio = (
        ("", 0.0) if dataset.task == "regression" else _unevenness(_totals(dataset.classes, dataset.counts()))
    )
    even = told_even(prepared.even, len(dataset))
    return [*found, *([even] if even else []), *([uneven] if ratio > WARN_IMBALANCE else [])]


def _looks(dataset: Dataset, workers: int, white: int | None) -> Iterator[_Look]:
    """One `_Look` for each image, in order; at most a few blocks are ahead of the reader."""
    images = dataset.images
    step = 32 if isinstance(images, FileImages) else _BLOCK
    form = replace(LOOK_FORM, white=white)
    blocks = [range(start, min(start + step, len(dataset))) for start in range(0, len(dataset), step)]

    def look(rows: range) -> list[_Look]:
        if isinstance(images, FileImages):
            return [_look_at_file(images, row, form) for row in takewhile(lambda _: not abandoned(), rows)]
        shapes = _array_shapes(images, rows) if isinstance(images, ArrayImages) else [None] * len(rows)
        outcomes = images.outcomes(rows, form)
        return [
            _Look(
                outcome.digest,
                outcome.look,
                (shape[1], shape[0]) if shape else None,
                f"array, {shape[2]} channel{'s' if shape[2] > 1 else ''}" if shape else "",
                outcome.error,
                outcome.machine,
                even=outcome.even,
            )
            for outcome, shape in zip(outcomes, shapes, strict=True)
        ]

    with decoding_threads(workers) as pool:
        remaining = iter(blocks)
        waiting = [pool.submit(look, rows) for rows in islice(remaining, 4 * workers)]
        while waiting:
            yield from waiting.pop(0).result()
            waiting += [pool.submit(look, rows) for rows in islice(remaining, 1)]


def _look_at_file(images: FileImages, row: int, form: InputFormat) -> _Look:
    size, mode, name = None, "", images.files[row]
    try:
        with turn_to_read(images.path(row)):
            data = images.read(row)
            header = read_header(data, path=name, tiff=images.tiff)
            size, mode = (header.width, header.height), f"{header.format}, {'grey' if header.grey else 'colour'}"
            decoded = decode_bytes(data, form, path=name, tiff=images.tiff)
            digest = digest_of(data)
    except ConvoscopeError as error:
        return _Look(error=error, size=size, mode=mode, machine=isinstance(error, MachineError))
    even = bool(even_toned(decoded.pixels[None])[0])
    look = Look(thumbnail(decoded.pixels), max(size))
    return _Look(digest, look, size, mode, note=decoded.note, even=even)


def _array_shapes(images: ArrayImages, rows: range) -> list[tuple[int, int, int] | None]:
    ends = np.cumsum([stack.count for stack in images.stacks])
    parts = np.searchsorted(ends, images.rows[rows.start : rows.stop], side="right")
    shapes = [(stack.height, stack.width, stack.channels) for stack in images.stacks]
    return [shapes[part] for part in parts.tolist()]


# --- judging ----------------------------------------------------------------------------------------------------------


def _named(dataset: Dataset, groups: Iterable[Sequence[int]]) -> tuple[tuple[str, ...], ...]:
    return tuple(tuple(dataset.names[row] for row in sorted(rows)) for rows in groups)


_Apart = tuple[dict[str, tuple[str, ...]], ...]
"""Groups of images that should not differ: what they differ in to their names."""


def _equal(digests: Sequence[Any], rows: Iterable[int]) -> dict[Any, list[int]]:
    """Digest to the rows that have it."""
    groups: dict[Any, list[int]] = defaultdict(list)
    for row in rows:
        groups[digests[row]].append(row)
    return groups


def _apart(dataset: Dataset, groups: Iterable[Sequence[int]], key: Callable[[Dataset, int], str]) -> _Apart:
    """The groups whose members differ in `key`: key to names."""
    result = []
    for rows in groups:
        parts: dict[str, list[str]] = defaultdict(list)
        for row in sorted(rows):
            parts[key(dataset, row)].append(dataset.names[row])
        if len(parts) > 1:
            result.append({part: tuple(names) for part, names in parts.items()})
    return tuple(result)


def _split(dataset: Dataset, row: int) -> str:
    return SPLITS[int(dataset.splits[row])]


def _label(dataset: Dataset, row: int) -> str:
    target = dataset.targets[row]
    if dataset.task == "classification":
        return dataset.classes[int(target)]
    if dataset.task == "multi-label":
        return ";".join(name for name, present in zip(dataset.classes, target, strict=True) if present)
    return ";".join(f"{value:g}" for value in target)


def _numbers(dataset: Dataset) -> dict[str, tuple[float, float, float]]:
    if dataset.task != "regression" or not len(dataset):
        return {}
    columns = np.asarray(dataset.targets, dtype=np.float64).T
    return {
        name: (float(column.min()), float(column.mean()), float(column.max()))
        for name, column in zip(dataset.classes, columns, strict=True)
    }


def _some(names: Iterable[str]) -> str:
    return ", ".join(printable(name) for name in islice(names, 2))


def _judged(
    found: Inspection, usable: Dataset, notes: Sequence[str], leaks: Sequence[str], plain: int, agreement: float
) -> Inspection:
    """The same with warnings and notes in plain words."""
    warnings = list(found.warnings)
    remarks = list(notes)
    if found.skipped:
        warnings.append(
            f"{_count(len(found.skipped), 'image')} cannot be used; the first: "
            f"{printable(found.skipped[0].path)}: {found.skipped[0].reason}"
        )
    warnings += leaks
    warnings += _told_conflicts(found.conflicts)
    if found.duplicates:
        surplus = sum(len(group) - 1 for group in found.duplicates)
        remarks.append(
            f"{_count(surplus, 'image')} repeat the content of another, for instance {_some(found.duplicates[0])}"
        )
    if found.near_duplicates:
        remarks.append(
            f"{_count(len(found.near_duplicates), 'group')} of images that look the same "
            f"(thumbnails agree by r >= {agreement}), for instance {_some(found.near_duplicates[0])}"
        )
    if plain:
        remarks.append(f"{_count(plain, 'image')} of one even tone, not compared for near duplicates")
    _judge_balance(found, usable, warnings, remarks)
    return replace(found, warnings=tuple(warnings), notes=tuple(remarks))


def _told_leaks(dataset: Dataset, groups: Sequence[Sequence[int]], remedy: str, what: str = "the same") -> list[str]:
    """That images of these groups, which show the same, are in several parts; how many of each class; what to do."""
    apart = _apart(dataset, groups, _split)
    if not apart:
        return []
    example = "; ".join(f"{_some(names[:1])} in {split}" for split, names in apart[0].items())
    told = f"{what} image is in more than one split ({_count(len(apart), 'case')}): {example}"
    rows = _seen_rows(dataset, groups)
    if len(rows):
        told += (
            f". {_count(len(rows), 'image')} of validation or test {'is' if len(rows) == 1 else 'are'} in training too"
        )
        told += f": {_by_class(dataset, rows)}; the result will be too good"
    return [f"{told}. {remedy}"]


def _seen_rows(dataset: Dataset, groups: Iterable[Sequence[int]]) -> NDArray[np.int64]:
    """Images of validation and test of whose group some are in training."""
    parts = dataset.splits
    seen = [row for rows in groups if any(parts[one] == 0 for one in rows) for row in rows if parts[row] != 0]
    return np.array(seen, np.int64)


def _by_class(dataset: Dataset, rows: NDArray[np.int64], most: int = 8) -> str:
    """How many of these images each class or label has: `cat 7, dog 5`."""
    if dataset.task == "regression":
        return _count(len(rows), "image")
    chosen = np.asarray(dataset.targets)[rows]
    count = len(dataset.classes)
    numbers = np.bincount(chosen, minlength=count) if dataset.task == "classification" else chosen.sum(axis=0)
    order = [place for place in np.argsort(-numbers, kind="stable").tolist() if numbers[place]]
    told = ", ".join(f"{printable(dataset.classes[place])} {numbers[place]:,}" for place in order[:most])
    return told + (f" and {len(order) - most} more" if len(order) > most else "")


def _remedy(dataset: Dataset) -> str:
    """What to do about equal images in several parts."""
    return f"To leave them out of training: convoscope train {shell_word(dataset.source)} --dedupe"


def _near_remedy(dataset: Dataset) -> str:
    """The same for those that look alike."""
    listed = f"convoscope data {shell_word(dataset.source)} --json"
    return f"They are listed under near_leaks by: {listed}; a split drawn by convoscope keeps them together"


def _told_near_leaks(prepared: Prepared) -> list[str]:
    """The same for parts that the source gives, where it is no matter of a few pictures."""
    dataset, looks = prepared.dataset, prepared.looks
    drawn = dataset.layout == "builtin" or (dataset.draw is not None and bool((dataset.draw.state == OPEN).all()))
    if looks is None or drawn or not (dataset.splits != 0).any() or not (dataset.splits == 0).any():
        return []
    equal = _equal(prepared.digests, range(len(dataset)))
    first = np.array([rows[0] for rows in equal.values()], np.int64)
    near = [[row for one in group.tolist() for row in equal[prepared.digests[one]]] for group in looks.alike(first)]
    if len(_seen_rows(dataset, near)) < _NOTE_NEAR_LEAKS * (dataset.splits != 0).sum():
        return []
    return _told_leaks(dataset, near, _near_remedy(dataset), "nearly the same")


def _told_conflicts(groups: _Apart) -> list[str]:
    if not groups:
        return []
    example = "; ".join(f"{_some(names[:1])} as {printable(label) or 'no label'}" for label, names in groups[0].items())
    return [f"the same image has different labels ({_count(len(groups), 'case')}): {example}"]


def _totals(classes: Sequence[str], counts: dict[str, dict[str, int]]) -> Counter[str]:
    """Images of each class in all parts together."""
    totals: Counter[str] = Counter(dict.fromkeys(classes, 0))
    for by_class in counts.values():
        totals.update(by_class)
    return totals


def _unevenness(totals: Counter[str]) -> tuple[str, float]:
    """How much larger the largest class is than the smallest, in words and as a ratio."""
    present = {name: count for name, count in totals.items() if count}
    if len(present) < 2:
        return "", 1.0
    most, least = max(present, key=lambda name: present[name]), min(present, key=lambda name: present[name])
    ratio = present[most] / present[least]
    sentence = f"{printable(most)} has {ratio:.0f} times as many images as {printable(least)}"
    sentence += f" ({present[most]:,} and {present[least]:,})"
    if ratio > WARN_IMBALANCE:
        sentence += ": accuracy alone will say little; class weights or balanced sampling help"
    return sentence, ratio


def _judge_balance(found: Inspection, usable: Dataset, warnings: list[str], remarks: list[str]) -> None:
    if found.task == "regression":
        for name, (low, _, high) in found.numbers.items():
            if low == high:
                warnings.append(f"{printable(name)} is {low:g} for every image: there is nothing to learn from it")
        return
    totals = _totals(found.classes, found.counts)
    for name in [name for name, count in totals.items() if count == 0]:
        warnings.append(f"{printable(name)} has no image that can be used")
    sentence, ratio = _unevenness(totals)
    if ratio > WARN_IMBALANCE:
        warnings.append(sentence)
    elif ratio > NOTE_IMBALANCE:
        remarks.append(sentence)
    if found.task == "multi-label" and len(usable):
        unlabelled = int((np.asarray(usable.targets).sum(axis=1) == 0).sum())
        if unlabelled:
            remarks.append(f"{_count(unlabelled, 'image')} without any label")


def _count(number: int, word: str) -> str:
    return f"{number:,} {word}{'' if number == 1 else 's'}"
