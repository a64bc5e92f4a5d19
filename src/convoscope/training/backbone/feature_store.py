"""The cache of features: an entry of the cache folder for each backbone, preparation of images and arithmetic.

Two files grow side by side: `vectors`, float32 `(n, D)`, and `names`, which has for each vector 16 bytes that name the
image (and the view of it) and 4 that check the vector. A batch's vectors are on the disk before its names are, so a
kill costs one batch at most; what is torn is cut off by the next start.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
import warnings
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ... import data
from ...files import machine_error

_FILES = ("names", "vectors")
_RECORD = np.dtype([("name", "V16"), ("check", "<u4")])


class FeatureStore:
    """One entry of the cache folder, opened by one process at a time."""

    def __init__(self, folder: Path, width: int) -> None:
        self.folder = folder
        self._width = width
        self._check()
        self._places = {name: row for row, name in enumerate(_names(folder / "names"))}

    @classmethod
    @contextlib.contextmanager
    def opened(cls, key: str, width: int) -> Iterator[FeatureStore]:
        """The entry, made if it is not there yet or not one; other processes wait."""
        with data.cache.alone(key), contextlib.ExitStack() as held:
            try:
                store = cls(_entry(key, held), width)
            except OSError:  # a file of it is missing, or may not be read
                removed = data.cache.discard("features", key)
                store = cls(_entry(key, held) if removed else _passing(held), width)
            try:
                yield store
            except OSError as error:
                raise machine_error(store.folder, error) from error

    @classmethod
    def count(cls, key: str, names: Sequence[bytes]) -> int:
        """How many of these the entry holds, without waiting for anybody."""
        lease = data.cache.find("features", key, grows=True)
        if lease is None:
            return 0
        try:
            known = set(_names(lease.folder / "names"))
        except OSError:
            return 0
        finally:
            lease.release()
        return sum(name in known for name in names)

    def __contains__(self, name: bytes) -> bool:
        return name in self._places

    def append(self, names: Sequence[bytes], vectors: NDArray[np.float32]) -> None:
        """Add a batch `(n, D)`: its vectors are on the disk before its names are."""
        records = np.zeros(len(names), _RECORD)
        records["name"] = np.frombuffer(b"".join(names), "V16")
        records["check"] = [zlib.crc32(vector.tobytes()) for vector in vectors]
        for name, content in (("vectors", vectors.tobytes()), ("names", records.tobytes())):
            with open(self.folder / name, "ab") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        begin = len(self._places)
        self._places |= {name: begin + number for number, name in enumerate(names)}

    def take(self, names: Sequence[bytes]) -> NDArray[np.float32]:
        """The vectors of these, float32 `(len(names), D)`."""
        vectors = np.memmap(self.folder / "vectors", np.float32, "r").reshape(-1, self._width)
        return np.array(vectors[[self._places[name] for name in names]])

    def _check(self) -> None:
        """Cut off what a killed process left torn, and all from the first vector on that is not what it was.

        Raises:
            OSError: a file is missing, is none, or may not be read and written.
        """
        for name in _FILES:
            if not (self.folder / name).is_file() or not os.access(self.folder / name, os.R_OK | os.W_OK):
                raise FileNotFoundError
        sizes = [(self.folder / name).stat().st_size for name in _FILES]
        whole = min(sizes[0] // _RECORD.itemsize, sizes[1] // (4 * self._width))
        checks = np.fromfile(self.folder / "names", _RECORD, whole)["check"].tolist()
        with open(self.folder / "vectors", "rb") as file:
            for row, check in enumerate(checks):
                if zlib.crc32(file.read(4 * self._width)) != check:
                    warnings.warn(
                        f"{self.folder}: {whole - row} of {whole} features cached there are damaged; "
                        "they are computed again",
                        stacklevel=2,
                    )
                    whole = row
                    break
        for name, size, each in zip(_FILES, sizes, (_RECORD.itemsize, 4 * self._width), strict=True):
            if size != whole * each:
                os.truncate(self.folder / name, whole * each)


def _entry(key: str, held: contextlib.ExitStack) -> Path:
    """The store's folder, a new one if need be."""
    lease = data.cache.find("features", key, grows=True)
    if lease is None:
        data.cache.tidy()  # before: afterwards, while it is not in use, it might be the one that goes
        with data.cache.building("features", key, grows=True) as entry:
            for name in _FILES:
                (entry.folder / name).touch()
        lease = data.cache.find("features", key, grows=True)
    if lease is None:
        return _passing(held)
    held.callback(lease.release)
    return lease.folder


def _passing(held: contextlib.ExitStack) -> Path:
    """A store's folder for this time only, where the cache folder does not keep one."""
    folder = Path(held.enter_context(tempfile.TemporaryDirectory(prefix="convoscope-")))
    for name in _FILES:
        (folder / name).touch()
    return folder


def _names(path: Path) -> list[bytes]:
    """The names in the file, each 16 bytes; a torn last record is left out."""
    content = path.read_bytes() if path.is_file() else b""
    each = _RECORD.itemsize
    return [content[begin : begin + 16] for begin in range(0, len(content) - each + 1, each)]
