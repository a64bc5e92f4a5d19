"""Where pixels come from: picture files in a folder, or arrays in memory, in `.npy`, `.npz` and IDX files."""

# Paths of pictures are plain strings here: a set may have a million of them.
# ruff: noqa: PTH116, PTH118

from __future__ import annotations

import contextlib
import errno
import gzip
import hashlib
import math
import os
import threading
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final, Literal, cast

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError
from ..files import machine_error
from .cache import unpacked_file
from .dataset import InputFormat, Look, Outcome, Stamp
from .decode import Decoded, Pixels, decode_array, decode_bytes, read_picture, turn_to_read
from .levels import DEEP_WHITE, even_toned, to_uint8, white_of
from .likeness import thumbnails
from .turns import abandoned

MAX_IN_MEMORY: Final = 128_000_000
"""Packed arrays up to this size are unpacked into memory, larger ones into the cache folder."""

DIGEST_BYTES: Final = 16
_MACHINE_ERRORS: Final = frozenset(
    {
        errno.EIO,
        errno.ENOENT,
        errno.ENOTDIR,
        errno.ESTALE,
        errno.ENODEV,
        errno.ENXIO,
        errno.ENOTCONN,
        errno.ETIMEDOUT,
        errno.EHOSTDOWN,
        errno.EHOSTUNREACH,
        getattr(errno, "EREMOTEIO", errno.EIO),  # Linux alone has it
    }
)


def digest_of(data: bytes | memoryview) -> bytes:
    """16 bytes of the SHA-256 of `data`."""
    return hashlib.sha256(data).digest()[:DIGEST_BYTES]


class FileImages:
    """Picture files under one folder.

    Args:
        root: the folder.
        files: N paths relative to it.
        tiff: whether TIFF pictures are read as well.
    """

    def __init__(self, root: str | os.PathLike[str], files: Sequence[str], *, tiff: bool = False) -> None:
        self.root = os.fspath(root)
        self.files = files
        self.tiff = tiff

    def __len__(self) -> int:
        return len(self.files)

    def path(self, row: int) -> str:
        """Where the picture is."""
        return os.path.join(self.root, self.files[row])

    def select(self, rows: NDArray[np.int64]) -> FileImages:
        return FileImages(self.root, [self.files[row] for row in rows], tiff=self.tiff)

    def read(self, row: int) -> bytes:
        """The file's bytes.

        Raises:
            DataError: it is no ordinary file, too large, or may not be read.
            MachineError: it is gone, or the machine cannot read it.
        """
        path = self.path(row)
        try:
            return read_picture(path)
        except OSError as error:
            raise machine_error(path, error) from error

    def digest(self, row: int) -> str:
        return digest_of(self.read(row)).hex()

    def decode(self, row: int, form: InputFormat) -> Pixels:
        return self.decode_noted(row, form).pixels

    def decode_noted(self, row: int, form: InputFormat) -> Decoded:
        """As `decode`, with a remark where something was odd."""
        return decode_bytes(self.read(row), form, path=self.files[row], tiff=self.tiff)

    def outcomes(self, rows: range, form: InputFormat) -> list[Outcome]:
        results: list[Outcome] = []
        for row in rows:
            if abandoned():
                break
            results.append(self._outcome(self.files[row], form))
        return results

    def _outcome(self, file: str, form: InputFormat) -> Outcome:
        digest = b""
        try:
            path = os.path.join(self.root, file)
            with turn_to_read(path):
                data = read_picture(path)
                digest = digest_of(data)
                decoded = decode_bytes(data, form, path=file, tiff=self.tiff, look=True)
        except DataError as error:
            return Outcome(digest, error=DataError(file, error.reason, code=error.code, hint=error.hint))
        except OSError as error:
            gone = error.errno in (errno.ENOENT, errno.ENOTDIR)
            reason = "is gone since the folder was listed" if gone else f"the system says: {error.strerror or error}"
            failure = DataError(file, reason, code="image-gone" if gone else "image-unreadable")
            return Outcome(digest, error=failure, machine=error.errno in _MACHINE_ERRORS)
        even = bool(even_toned(decoded.pixels[None])[0])
        return Outcome(digest, decoded.pixels, note=decoded.note, even=even, look=decoded.look)

    def stamp(self) -> Stamp | None:
        hasher = hashlib.sha256(f"files tiff={self.tiff} {self.root}\0".encode("utf-8", "surrogateescape"))
        newest = 0
        for file in self.files:
            hasher.update(file.encode("utf-8", "surrogateescape"))
            newest = max(newest, _stamp_file(hasher, os.path.join(self.root, file)))
        return Stamp(hasher.hexdigest(), newest)

    def in_place(self, form: InputFormat) -> Pixels | None:
        return None


def _stamp_file(hasher: Any, path: str) -> int:
    try:
        status = os.stat(path)
    except OSError:
        hasher.update(b"\0missing")
        return 0
    numbers = (status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)
    hasher.update(b"\0%d,%d,%d,%d\0" % numbers)
    return max(status.st_mtime_ns, status.st_ctime_ns)


# --- arrays -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ArrayFile:
    """An array in a file, described by its header alone and opened when it is needed.

    Attributes:
        path: the file.
        member: its name within an `.npz`, or empty.
        shape: as the header says.
        dtype: as the header says.
        offset: where the values begin: in the file, or in the unpacked member.
        packed: whether the file or member is compressed, so that it cannot be mapped.
        fortran: whether the first axis varies fastest.
    """

    path: Path
    member: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    offset: int
    packed: bool
    fortran: bool = False

    @property
    def size(self) -> int:
        """Bytes of values."""
        return math.prod(self.shape) * self.dtype.itemsize

    @property
    def where(self) -> str:
        """The file's name for messages."""
        return f"{self.path}:{self.member}" if self.member else str(self.path)

    def open(self) -> NDArray[Any]:
        """The values: memory-mapped, or unpacked into memory or (large ones) into the cache folder.

        Raises:
            DataError: the file is shorter than its header says, or damaged.
        """
        order: Literal["F", "C"] = "F" if self.fortran else "C"
        if self.size == 0:
            return np.zeros(self.shape, self.dtype)
        if not self.packed:
            if self.path.stat().st_size < self.offset + self.size:
                raise self.short()
            return np.memmap(self.path, self.dtype, "r", self.offset, self.shape, order)
        if self.size <= MAX_IN_MEMORY:
            with self._unpacked() as file:
                data = file.read(self.size)
            if len(data) != self.size:
                raise self.short()
            return np.frombuffer(data, self.dtype).reshape(self.shape, order=order)
        hasher = hashlib.sha256(self.where.encode("utf-8", "surrogateescape"))
        _stamp_file(hasher, str(self.path))
        with unpacked_file(hasher.hexdigest(), self._unpack_into) as unpacked:
            return np.memmap(unpacked, self.dtype, "r", 0, self.shape, order)

    def _unpack_into(self, target: IO[bytes]) -> None:
        missing = self.size
        with self._unpacked() as file:
            while missing:
                block = file.read(min(missing, 1 << 20))
                if not block:
                    raise self.short()
                target.write(block)
                missing -= len(block)

    @contextlib.contextmanager
    def _unpacked(self) -> Iterator[IO[bytes]]:
        """The values as a stream."""
        try:
            with contextlib.ExitStack() as stack:
                file: IO[bytes]
                if self.member:
                    file = stack.enter_context(stack.enter_context(zipfile.ZipFile(self.path)).open(self.member))
                else:
                    file = cast(IO[bytes], stack.enter_context(gzip.open(self.path, "rb")))
                if len(file.read(self.offset)) != self.offset:
                    raise self.short()
                yield file
        except (gzip.BadGzipFile, zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
            raise DataError(self.where, f"is damaged ({error})", code="array-damaged") from error

    def short(self) -> DataError:
        """The error of a file that is shorter than its header says."""
        shape = " x ".join(map(str, self.shape))
        return DataError(self.where, f"ends early: its header says {shape} values of {self.dtype}", code="array-short")


Axes = Literal["NHW", "NHWC", "NCHW", "NF"]
"""The order of an array's axes. `NF`: each row is one square grey image."""


class Stack:
    """An array of N images of one size, as uint8 `(n, height, width, channels)` on request.

    Args:
        array: the array, or the file that holds it.
        name: what to call it in messages.
        axes: how to read it; None: guessed (see `guess_axes`).
    """

    def __init__(self, array: NDArray[Any] | ArrayFile, name: str, *, axes: Axes | None = None) -> None:
        self._array = array
        self._opened: NDArray[Any] | None = None if isinstance(array, ArrayFile) else array
        self._lock = threading.Lock()
        self.name = name
        shape = array.shape
        self.axes: Axes = axes or guess_axes(shape, name)
        self._white: int | None = None
        self.count = int(shape[0])
        if self.axes == "NF":
            side = math.isqrt(shape[1])
            self.height, self.width, self.channels = side, side, 1
        elif self.axes == "NCHW":
            self.channels, self.height, self.width = shape[1:]
        else:
            self.height, self.width, self.channels = (*shape[1:], 1)[:3]

    @property
    def file(self) -> ArrayFile | None:
        """The file behind it, if there is one."""
        return self._array if isinstance(self._array, ArrayFile) else None

    def array(self) -> NDArray[Any]:
        """The array as it is."""
        with self._lock:
            if self._opened is None:
                assert isinstance(self._array, ArrayFile)
                self._opened = self._array.open()
            return self._opened

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of its numbers."""
        return self._array.dtype

    @property
    def white(self) -> int | None:
        """Which of its numbers stands for white; None where their type says it: uint8 and bool."""
        if self._white is None and self.dtype not in (np.uint8, np.bool_):
            self._white = guess_white(self.array(), self.name)
        return self._white

    def notes(self) -> list[str]:
        """What is said of the meaning of its numbers, if they are not those of 8 bits."""
        if self.dtype == np.uint8:
            return []
        values = "bool" if self.white is None else f"0..{self.white}"
        return [f"{self.name}: its values are taken as {values} and become 0..255"]

    def _in_order(self, block: NDArray[Any]) -> NDArray[Any]:
        """A block of rows as `(n, height, width, channels)`, a view where possible."""
        if self.axes == "NCHW":
            return block.transpose(0, 2, 3, 1)
        return block.reshape(len(block), self.height, self.width, self.channels)

    def read(
        self, rows: NDArray[np.int64] | slice, white: int | None = None
    ) -> tuple[Pixels, NDArray[np.bool_] | None]:
        """Images as uint8 `(n, height, width, channels)`, and which of them hold only possible values (None: all).

        `white`: of whole numbers of more than 8 bits; None: its own.
        """
        block, own = self._in_order(self.array()[rows]), self.white
        if own is None:
            return np.ascontiguousarray(to_uint8(block)), None
        if block.dtype.kind != "f":
            deep = white if white is not None and 1 not in (own, white) else own
            return to_uint8(block, deep), None
        scaled = block.astype(np.float32) * (255 if own == 1 else 1)
        # The comparison is false for NaN as well.
        good = np.asarray(((scaled > -0.5) & (scaled < 255.5)).all(axis=(1, 2, 3)))
        scaled[~good] = 0
        return np.rint(scaled).astype(np.uint8), good

    def in_place(self) -> Pixels | None:
        """The whole array as it is in memory or on the disk, where that is uint8 `(N, height, width, channels)`."""
        file = self.file
        if file is None:
            array = self.array()
            plain = array.dtype == np.uint8 and self.axes != "NCHW"
            return array.reshape(self.count, self.height, self.width, self.channels) if plain else None
        if file.packed or file.fortran or file.dtype != np.uint8:
            return None
        if self.axes == "NCHW" and self.channels != 1:
            return None
        return self.array().reshape(self.count, self.height, self.width, self.channels)


def guess_axes(shape: tuple[int, ...], name: str) -> Axes:
    """The order of axes of an array of images: 2 axes with a square second one, 3 axes, or 4 with 1, 3 or 4 channels
    last or second.

    Raises:
        DataError: the shape is none of these.
    """
    if len(shape) == 2 and shape[1] > 0 and math.isqrt(shape[1]) ** 2 == shape[1]:
        return "NF"
    if len(shape) == 3 and 0 not in shape[1:]:
        return "NHW"
    if len(shape) == 4 and 0 not in shape[1:]:
        return "NCHW" if shape[1] in (1, 3, 4) and shape[3] not in (1, 3, 4) else "NHWC"
    received = " x ".join(map(str, shape)) or "a single number"
    raise DataError(
        name,
        "expected images as N x height x width, N x height x width x channels or N x (side * side); "
        f"received {received}",
        code="array-shape",
    )


def guess_white(array: NDArray[Any], name: str) -> int:
    """Which number stands for white: of floats 1 or 255, from up to 1,000 of its images; of whole numbers 255, or where
    they are uint16 or larger than that, the largest number of their bits, see `levels.white_of`.

    Raises:
        DataError: numbers outside 0..65,535 (floats 0..255), or no numbers at all.
    """
    kind = array.dtype.kind
    if kind not in "iuf":
        raise DataError(name, f"expected an array of numbers; received {array.dtype}", code="array-values")
    if len(array) == 0:
        return 255
    sample = np.asarray(array[:: max(1, len(array) // 1000)]) if kind == "f" else array
    low, high = float(np.nanmin(sample)), float(np.nanmax(sample))
    if kind == "f" and low >= 0 and high <= 255:
        return 1 if high <= 1 else 255
    if kind != "f" and low >= 0 and high <= DEEP_WHITE:
        return 255 if high <= 255 and array.dtype.str[1:] != "u2" else white_of(int(high))
    raise DataError(
        name,
        f"expected pixels 0..255, whole numbers 0..65535, or floats 0..1; received {array.dtype} from {low:g} to "
        f"{high:g}",
        hint="scale the array to 0..255 and save it as uint8",
        code="array-values",
    )


class PartedRows:
    """Chosen rows of several parts, which are counted through.

    Args:
        counts: rows of each part.
        rows: which of all, in which order; None: all.
    """

    def __init__(self, counts: Iterable[int], rows: NDArray[np.int64] | None) -> None:
        self._starts = np.cumsum([0, *counts])
        self.rows = np.arange(self._starts[-1]) if rows is None else np.asarray(rows, np.int64)

    def __len__(self) -> int:
        return len(self.rows)

    def _place(self, row: int) -> tuple[int, int]:
        """The part that a row is in, and its row within the part."""
        index = int(self.rows[row])
        part = int(np.searchsorted(self._starts, index, side="right")) - 1
        return part, index - int(self._starts[part])


class ArrayImages(PartedRows):
    """Images in one or several arrays, all counted through.

    Args:
        stacks: the arrays.
        rows: which images, in which order; None: all.
    """

    def __init__(self, stacks: Sequence[Stack], rows: NDArray[np.int64] | None = None) -> None:
        self.stacks = tuple(stacks)
        super().__init__((stack.count for stack in self.stacks), rows)

    def select(self, rows: NDArray[np.int64]) -> ArrayImages:
        return ArrayImages(self.stacks, self.rows[rows])

    def stack_of(self, row: int) -> Stack:
        """The array that holds the image."""
        return self.stacks[self._place(row)[0]]

    def read(self, row: int) -> Pixels:
        """The image as it is, uint8 `(height, width, channels)`.

        Raises:
            DataError: it holds NaN or impossible values.
        """
        part, inner = self._place(row)
        pixels, good = self.stacks[part].read(slice(inner, inner + 1))
        if good is not None and not good[0]:
            raise self._impossible(part, inner)
        first: Pixels = pixels[0]
        return first

    def _impossible(self, part: int, inner: int) -> DataError:
        stack = self.stacks[part]
        reason = f"holds NaN or values outside 0..{stack.white}"
        return DataError(f"{stack.name}[{inner}]", reason, code="image-broken")

    def digest(self, row: int) -> str:
        return _pixel_digest(self.read(row)).hex()

    def decode(self, row: int, form: InputFormat) -> Pixels:
        part, inner = self._place(row)
        pixels = self.read(row)
        if form.white is not None:
            pixels = self.stacks[part].read(slice(inner, inner + 1), form.white)[0][0]
        return decode_array(pixels, form, path=f"image {row}")

    def outcomes(self, rows: range, form: InputFormat) -> list[Outcome]:
        results: list[Outcome] = []
        indices = self.rows[rows.start : rows.stop]
        parts = np.searchsorted(self._starts, indices, side="right") - 1
        begin = 0
        while begin < len(indices):
            part = int(parts[begin])
            end = begin + int(np.argmax(np.append(parts[begin:] != part, True)))
            inner = indices[begin:end] - self._starts[part]
            consecutive = len(inner) == inner[-1] - inner[0] + 1 and bool(np.all(np.diff(inner) == 1))
            chosen = slice(int(inner[0]), int(inner[-1]) + 1) if consecutive else inner
            # An image's digest is its own; its pixels may depend on the set that its network learned from.
            own, good = self.stacks[part].read(chosen)
            images = own if form.white is None else self.stacks[part].read(chosen, form.white)[0]
            even, looks = even_toned(images), thumbnails(images)
            for position, pixels in enumerate(images):
                if abandoned():
                    return results
                digest = _pixel_digest(own[position])
                if good is not None and not good[position]:
                    results.append(Outcome(digest, error=self._impossible(part, int(inner[position]))))
                    continue
                try:
                    decoded = decode_array(pixels, form, path=self.stacks[part].name)
                    look = Look(looks[position], max(pixels.shape[:2]))
                    results.append(Outcome(digest, decoded, even=bool(even[position]), look=look))
                except DataError as error:
                    results.append(Outcome(digest, error=error))
            begin = end
        return results

    def stamp(self) -> Stamp | None:
        hasher, newest = hashlib.sha256(b"arrays\0"), 0
        for stack in self.stacks:
            if stack.file is None:
                return None
            described = f"{stack.file.where}\0{stack.axes}\0"
            hasher.update(described.encode("utf-8", "surrogateescape"))
            newest = max(newest, _stamp_file(hasher, str(stack.file.path)))
        hasher.update(self.rows.tobytes())
        return Stamp(hasher.hexdigest(), newest)

    def in_place(self, form: InputFormat) -> Pixels | None:
        if len(self.stacks) != 1:
            return None
        stack = self.stacks[0]
        if (stack.height, stack.width, stack.channels) != (form.height, form.width, form.channels):
            return None
        if len(self.rows) != stack.count or not np.array_equal(self.rows, np.arange(stack.count)):
            return None
        return stack.in_place()


def _pixel_digest(pixels: Pixels) -> bytes:
    hasher = hashlib.sha256(b"%d,%d,%d\0" % pixels.shape)
    hasher.update(np.ascontiguousarray(pixels).data)
    return hasher.digest()[:DIGEST_BYTES]
