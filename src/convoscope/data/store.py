"""The decoded store: every image of a dataset as uint8 in one memory-mapped file, made once and found again.

Two kinds of cache entries. `pixels/KEY` holds the images; its key is a hash over the images' contents, so that the same
pictures in two places share it. `rows/KEY` remembers what was found when the files with these names, sizes, times and
inodes were last
read: their digests, which of them are bad, and which `pixels` entry is theirs. While it fits, no picture is opened.
"""

from __future__ import annotations

import errno
import hashlib
import itertools
import json
import os
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from io import FileIO
from pathlib import Path
from typing import Final, overload

import numpy as np
from numpy.typing import NDArray

from ..errors import ConvoscopeError, DataError, MachineError, printable, shell_word
from ..files import check_room, machine_error
from ..parsing import parse_json
from ..posix import OPEN_FILES_MOVE, usable_cores
from .cache import Lease, alone, building, cache_folder, discard, find, tidy
from .dataset import SPLITS, Dataset, InputFormat, Outcome, Skipped
from .decode import DECODE_RULES, Pixels, check_format
from .groups import kept_together, without_copies
from .likeness import Looks
from .sources import DIGEST_BYTES
from .turns import decoding_threads

Progress = Callable[[int, int], None]
"""Called with the number of images done and of all images."""

MAX_LEFT_OUT_SHARE: Final = 0.10
MAX_LEFT_OUT_SHARE_OF_CLASS: Final = 0.25
MIN_OF_CLASS: Final = 2
MACHINE_ERRORS_IN_A_ROW: Final = 20

_MAKE_ROOM: Final = "make room, or set CONVOSCOPE_CACHE to a folder on another disk"

STILL_NS: Final = 50_000_000
"""A file changed this shortly before it was read may change again without its time changing."""


class Digests(Sequence[str]):
    """N content hashes, each 32 hexadecimal digits. Held as bytes: uint8 `(N, 16)`."""

    def __init__(self, values: NDArray[np.uint8]) -> None:
        self.values = values

    def __len__(self) -> int:
        return len(self.values)

    @overload
    def __getitem__(self, row: int) -> str: ...
    @overload
    def __getitem__(self, row: slice) -> Digests: ...
    def __getitem__(self, row: int | slice) -> str | Digests:
        if isinstance(row, slice):
            return Digests(self.values[row])
        return bytes(self.values[row]).hex()


@dataclass(frozen=True)
class Prepared:
    """A dataset whose images are decoded.

    Attributes:
        dataset: without the bad images; these are in `dataset.skipped`.
        pixels: uint8 `(N, height, width, channels)`, memory-mapped and read-only; take batches by index.
        digests: N content hashes.
        form: what the images were brought to.
        even: how many of the images are of one even tone.
        looks: what the images look like; None: not known.
    """

    dataset: Dataset
    pixels: Pixels
    digests: Sequence[str]
    form: InputFormat
    even: int = 0
    looks: Looks | None = field(default=None, repr=False, compare=False)
    _lease: Lease | None = field(default=None, repr=False, compare=False)

    def __repr__(self) -> str:
        height, width, channels = self.form.height, self.form.width, self.form.channels
        return f"<Prepared {height}x{width}x{channels}: {self.dataset!r}>"


@dataclass
class _Findings:
    """What reading all N images of a dataset gave. Rows count through the dataset as it was listed."""

    digests: NDArray[np.uint8]
    skipped: list[tuple[int, str, str, str]] = field(default_factory=list)  # row, path, reason, code
    notes: list[tuple[int, str]] = field(default_factory=list)  # row, remark
    even: int = 0
    pixels_key: str = ""  # empty: the images are used where they are
    looks: Looks = field(default_factory=lambda: Looks.blank(0))

    @property
    def kept(self) -> NDArray[np.int64]:
        keep = np.ones(len(self.digests), bool)
        keep[[row for row, *_ in self.skipped]] = False
        return np.flatnonzero(keep)


def prepare(
    dataset: Dataset,
    form: InputFormat,
    *,
    progress: Progress | None = None,
    strict: bool = False,
    tolerant: bool = False,
    cache: str | os.PathLike[str] | None = None,
    workers: int | None = None,
) -> Prepared:
    """Decode and resize every image once, in parallel, into the store; or find it there.

    Bad images are left out and listed in `dataset.skipped`. It is an error instead
    - if more than 10 % of all images, or 25 % of a class, cannot be used;
    - if a class that lost images keeps fewer than 2;
    - with `strict`, if there is any;
    - with `tolerant`, which is for images that nothing is to be learned from, only if none is left.

    Args:
        dataset: what to decode.
        form: size, channels and way of resizing.
        progress: called as the decoding goes on.
        strict: whether one bad image is an error.
        tolerant: whether any number of them may be left out.
        cache: the cache folder, instead of CONVOSCOPE_CACHE or the user's cache folder.
        workers: threads that decode; None: one for each core.

    Raises:
        UsageError: the form is impossible.
        DataError: too many bad images, or an image is gone since the dataset was listed.
        MachineError: 20 images in a row could not be read because of the machine; the disk is full.
    """
    check_format(form)
    if len(dataset) == 0:
        raise DataError(dataset.source, "holds no images", code="no-images")
    folder = Path(cache) if cache is not None else cache_folder()
    started = time.time_ns()
    stamp = dataset.images.stamp()
    in_place = dataset.images.in_place(form)
    store = in_place is None
    if stamp is None:
        findings, stored = _read_all(dataset, form, store, progress, workers, folder)
    else:
        key = hashlib.sha256(f"{DECODE_RULES} {form} {stamp.key}".encode()).hexdigest()
        known = _recall(key, len(dataset), store, form, folder)
        if known is None:
            with alone(key, folder):
                known = _recall(key, len(dataset), store, form, folder)
                if known is None:
                    known = _read_all(dataset, form, store, progress, workers, folder)
                    if started - stamp.newest > STILL_NS:
                        _remember(key, known[0], folder)
        findings, stored = known
    kept = findings.kept
    skipped = tuple(Skipped(path, reason) for _, path, reason, _ in findings.skipped)
    if not tolerant or len(kept) == 0:
        _check_losses(dataset, findings, strict)
    result = dataset if len(kept) == len(dataset) else dataset.select(kept)
    remarks = gathered_remarks(dataset.names, findings.notes)
    result = replace(result, skipped=(*dataset.skipped, *skipped), notes=(*dataset.notes, *remarks))
    if in_place is not None:
        pixels = in_place if len(kept) == len(dataset) else in_place[kept]
    else:
        assert stored is not None
        pixels = stored.pixels
    digests, looks = Digests(findings.digests[kept]), findings.looks.select(kept)
    if dataset.dedupe:
        result, rows = without_copies(result, digests)
        if len(rows) < len(kept):
            digests, looks = Digests(digests.values[rows]), looks.select(rows)
            if stored is None:
                pixels = pixels[rows]
            else:
                stored = _some_of(stored, rows, digests, form, folder)
                pixels = stored.pixels
    result = kept_together(result, digests, looks)
    return Prepared(result, pixels, digests, form, findings.even, looks, stored.lease if stored else None)


@dataclass(frozen=True)
class _Stored:
    """The good images, memory-mapped. The mapping outlives the file; the lease keeps the file from being removed."""

    pixels: Pixels
    lease: Lease | None


# --- reading ----------------------------------------------------------------------------------------------------------


def _read_all(
    dataset: Dataset, form: InputFormat, store: bool, progress: Progress | None, workers: int | None, folder: Path
) -> tuple[_Findings, _Stored | None]:
    """Read every image; with `store`, write the good ones one after the other into a new entry."""
    if not store:
        return _collect(dataset, form, progress, workers, lambda _: None), None
    with building("pixels", folder=folder) as entry, open(entry.folder / "images", "w+b", buffering=0) as file:
        needed = len(dataset) * form.height * form.width * form.channels
        check_room(entry.folder, needed, "the decoded images", _MAKE_ROOM, named=folder)

        def write(pixels: Pixels) -> None:
            _write_all(file.fileno(), np.ascontiguousarray(pixels).data.cast("B"))

        findings = _collect(dataset, form, progress, workers, write)
        os.fsync(file.fileno())
        entry.key = findings.pixels_key = _pixels_key(findings.digests[findings.kept], form)
        # Should somebody empty the cache folder at this very moment, the images are still ours.
        own = _Stored(_map(file, len(findings.kept), form), None) if OPEN_FILES_MOVE else None
    stored = _found(_find_pixels(findings.pixels_key, len(findings.kept), form, folder) or own, folder)
    tidy(folder)
    return findings, stored


def _pixels_key(digests: NDArray[np.uint8], form: InputFormat) -> str:
    hasher = hashlib.sha256(f"{DECODE_RULES} {form}\0".encode())
    hasher.update(digests.tobytes())
    return hasher.hexdigest()


def _some_of(stored: _Stored, rows: NDArray[np.int64], digests: Digests, form: InputFormat, folder: Path) -> _Stored:
    """An entry with these rows only: found, or copied from the one that has all."""
    key = _pixels_key(digests.values, form)
    found = _find_pixels(key, len(rows), form, folder)
    if found is not None:
        return found
    with building("pixels", key, folder) as entry, open(entry.folder / "images", "w+b", buffering=0) as file:
        check_room(entry.folder, len(rows) * stored.pixels[:1].nbytes, "the decoded images", _MAKE_ROOM, named=folder)
        step = max(1, 16_000_000 // max(1, stored.pixels[:1].nbytes))
        for begin in range(0, len(rows), step):
            _write_all(file.fileno(), stored.pixels[rows[begin : begin + step]].data.cast("B"))
        os.fsync(file.fileno())
        own = _Stored(_map(file, len(rows), form), None) if OPEN_FILES_MOVE else None
    tidy(folder)
    return _found(_find_pixels(key, len(rows), form, folder) or own, folder)


def _found(stored: _Stored | None, folder: Path) -> _Stored:
    if stored is None:
        raise machine_error(folder, FileNotFoundError(errno.ENOENT, "the decoded images are gone", str(folder)))
    return stored


def _write_all(descriptor: int, data: memoryview) -> None:
    while data:
        data = data[os.write(descriptor, data) :]


def _collect(
    dataset: Dataset, form: InputFormat, progress: Progress | None, workers: int | None, write: Callable[[Pixels], None]
) -> _Findings:
    findings = _Findings(np.zeros((len(dataset), DIGEST_BYTES), np.uint8), looks=Looks.blank(len(dataset)))
    in_a_row = 0
    gone: DataError | None = None
    if progress:
        progress(0, len(dataset))
    for row, outcome in enumerate(_outcomes(dataset, form, progress, workers)):
        if outcome.digest:
            findings.digests[row] = np.frombuffer(outcome.digest, np.uint8)
        in_a_row = in_a_row + 1 if outcome.machine else 0
        if in_a_row == MACHINE_ERRORS_IN_A_ROW:
            assert outcome.error is not None
            raise unreachable(dataset.source, outcome.error)
        if outcome.pixels is not None:
            write(outcome.pixels)
            findings.looks.note(row, outcome.look)
            findings.even += outcome.even
            if outcome.note:
                findings.notes.append((row, outcome.note))
        elif outcome.error is not None:
            if outcome.error.code == "image-gone":
                gone = gone or outcome.error
            findings.skipped.append((row, dataset.names[row], outcome.error.reason, outcome.error.code))
    if gone is not None and not _reachable(dataset.source):
        raise MachineError(
            dataset.source,
            f"the images are gone since they were listed, {gone.path} the first of them",
            hint="see whether the disk or the network share is still there, then start again; nothing was lost",
            code="pictures-unreachable",
        )
    if gone is not None:
        raise DataError(
            gone.path, gone.reason, hint="nothing was lost; start again to list the folder anew", code="image-gone"
        )
    return findings


def _reachable(source: str) -> bool:
    """Whether the source is still there. A share that is gone may leave an empty folder in its place."""
    try:
        return any(Path(source).iterdir())
    except NotADirectoryError:
        return True
    except OSError:
        return False


def unreachable(source: str, last: ConvoscopeError) -> MachineError:
    """That `MACHINE_ERRORS_IN_A_ROW` pictures in a row failed because of the machine, `last` being the last one's
    failure.
    """
    return MachineError(
        source,
        f"{MACHINE_ERRORS_IN_A_ROW} pictures in a row cannot be read, the last one {last.path}: {last.reason}; "
        "it is the machine, not the pictures",
        hint="see whether the disk or the network share is still there, then start again",
        code="pictures-unreachable",
    )


def _outcomes(dataset: Dataset, form: InputFormat, progress: Progress | None, workers: int | None) -> Iterator[Outcome]:
    """All outcomes in order, decoded by threads (Pillow and hashlib let go of Python's lock), a few chunks ahead."""
    threads = workers or usable_cores()
    count = len(dataset)
    size = max(1, min(256, 2_000_000 // (form.height * form.width * form.channels)))
    chunks = (range(start, min(start + size, count)) for start in range(0, count, size))
    with decoding_threads(threads) as pool:
        waiting: deque[Future[list[Outcome]]] = deque(
            pool.submit(dataset.images.outcomes, chunk, form) for chunk in itertools.islice(chunks, 3 * threads)
        )
        done = 0
        while waiting:
            results = waiting.popleft().result()
            for chunk in itertools.islice(chunks, 1):
                waiting.append(pool.submit(dataset.images.outcomes, chunk, form))
            yield from results
            done += len(results)
            if progress:
                progress(done, count)


def _map(file: Path | FileIO, count: int, form: InputFormat) -> Pixels:
    shape = (count, form.height, form.width, form.channels)
    if count == 0:
        return np.zeros(shape, np.uint8)
    return np.memmap(file, np.uint8, "r", shape=shape)


# --- remembering ------------------------------------------------------------------------------------------------------


_MAY_BE_MENDED: Final = ("image-unreadable", "heic-not-installed", "avif-not-built")
"""Codes of what changes without a file's time changing: rights and disks recover, and libraries are installed."""


def _remember(key: str, findings: _Findings, folder: Path) -> None:
    if any(code in _MAY_BE_MENDED for *_, code in findings.skipped):
        return
    found = {"skipped": findings.skipped, "notes": findings.notes, "even": findings.even}
    text = json.dumps(found | {"pixels": findings.pixels_key})
    with building("rows", key, folder) as entry, open(entry.folder / "findings.npz", "wb") as file:
        written, looks = np.frombuffer(text.encode("utf-8"), np.uint8), findings.looks
        np.savez(file, digests=findings.digests, text=written, thumbnails=looks.thumbnails, sides=looks.sides)
        file.flush()
        os.fsync(file.fileno())


def _recall(
    key: str, count: int, store: bool, form: InputFormat, folder: Path
) -> tuple[_Findings, _Stored | None] | None:
    """What was found last time, if it is still there and whole."""
    remembered = find("rows", key, folder)
    if remembered is None:
        return None
    try:
        with open(remembered.folder / "findings.npz", "rb") as file, np.load(file, allow_pickle=False) as arrays:
            text = parse_json(arrays["text"].tobytes())
            findings = _Findings(
                arrays["digests"],
                [(int(row), path, reason, code) for row, path, reason, code in text["skipped"]],
                [(int(row), note) for row, note in text["notes"]],
                int(text["even"]),
                str(text["pixels"]),
                Looks(arrays["thumbnails"], arrays["sides"]),
            )
        rows = [*(row for row, *_ in findings.skipped), *(row for row, _ in findings.notes)]
        whole = findings.digests.shape == (count, DIGEST_BYTES) and findings.looks.of(count)
        if not whole or not all(0 <= row < count for row in rows):
            raise ValueError
        if bool(findings.pixels_key) != store:
            raise ValueError
    except Exception:  # whatever is wrong with a cache's file: it is made anew
        discard("rows", key, folder)
        return None
    finally:
        remembered.release()
    if not store:
        return findings, None
    stored = _find_pixels(findings.pixels_key, len(findings.kept), form, folder)
    return None if stored is None else (findings, stored)


def _find_pixels(key: str, count: int, form: InputFormat, folder: Path) -> _Stored | None:
    lease = find("pixels", key, folder)
    if lease is None:
        return None
    try:
        return _Stored(_map(lease.folder / "images", count, form), lease)
    except (OSError, ValueError):  # gone since, or of another size
        lease.release()
        discard("pixels", key, folder)
        return None


# --- what is said about bad images ------------------------------------------------------------------------------------


def _check_losses(dataset: Dataset, findings: _Findings, strict: bool) -> None:
    lost = findings.skipped
    if not lost:
        return
    count = len(dataset)
    listing = f"convoscope data {shell_word(dataset.source)} --json"
    hint = f"mend or remove them; nothing was changed; all of them are listed by: {listing}"
    first = "; ".join(f"{printable(path)}: {reason}" for _, path, reason, _ in lost[:5])
    listed = f"{first}{'; ...' if len(lost) > 5 else ''}"
    if strict:
        raise DataError(
            dataset.source,
            f"{len(lost)} of {count} images cannot be used: {listed}",
            hint=hint,
            code="bad-images-strict",
        )
    rows = [row for row, *_ in lost]
    if len(rows) > MAX_LEFT_OUT_SHARE * count:
        raise DataError(
            dataset.source,
            f"{len(rows)} of {count} images cannot be used, more than {MAX_LEFT_OUT_SHARE:.0%}: {listed}",
            hint=hint,
            code="too-many-bad-images",
        )
    if dataset.task != "classification":
        return
    sizes = Counter(dataset.targets.tolist())
    for label, number in Counter(dataset.targets[rows].tolist()).items():
        name = dataset.classes[label]
        if sizes[label] - number < MIN_OF_CLASS:
            raise DataError(
                dataset.source,
                f"class {name!r} keeps {sizes[label] - number} of {sizes[label]} images, "
                f"at least {MIN_OF_CLASS} are needed: {listed}",
                hint=hint,
                code="too-many-bad-images",
            )
        if number > MAX_LEFT_OUT_SHARE_OF_CLASS * sizes[label]:
            share = f"more than {MAX_LEFT_OUT_SHARE_OF_CLASS:.0%}"
            raise DataError(
                dataset.source,
                f"{number} of {sizes[label]} images of class {name!r} cannot be used, {share}: {listed}",
                hint=hint,
                code="too-many-bad-images",
            )
    kept = findings.kept
    train = SPLITS.index("train")
    left = np.unique(dataset.targets[kept][dataset.splits[kept] == train])
    for label in np.setdiff1d(np.unique(dataset.targets[dataset.splits == train]), left):
        raise DataError(
            dataset.source,
            f"class {dataset.classes[label]!r} keeps no image for training: {listed}",
            hint=hint,
            code="too-many-bad-images",
        )


def gathered_remarks(names: Sequence[str], notes: Sequence[tuple[int, str]]) -> list[str]:
    """What was odd about images that were accepted, each thing once, with the first image it was found in."""
    groups: dict[str, list[int]] = {}
    for row, note in notes:
        groups.setdefault(note, []).append(row)
    return [
        f"{printable(names[rows[0]])}: {note}" + (f" (and {len(rows) - 1} more like it)" if len(rows) > 1 else "")
        for note, rows in groups.items()
    ]
