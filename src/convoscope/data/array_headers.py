"""What the headers of array files say: IDX, `.npy` and `.npz`. Values are read when they are needed."""

from __future__ import annotations

import errno
import gzip
import math
import re
import struct
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import IO, Final

import numpy as np

from ..errors import ConvoscopeError, DataError, printable
from .listing import check_ordinary
from .sources import ArrayFile

_IDX_TYPES: Final = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}


def read_idx_header(path: Path, axes: int) -> ArrayFile:
    """What an IDX file's first bytes say: `00 00 type axes`, then the length of each axis.

    Raises:
        DataError: no IDX file, or one of another number of axes.
    """
    check_ordinary(path)
    try:
        with path.open("rb") as file:
            packed = file.read(2) == b"\x1f\x8b"
        with gzip.open(path, "rb") if packed else path.open("rb") as file:
            head = file.read(4 + 4 * axes)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise DataError(path, f"is damaged ({error})", code="array-damaged") from error
    kind = _IDX_TYPES.get(head[2]) if len(head) == 4 + 4 * axes and head[:2] == b"\0\0" and head[3] == axes else None
    if kind is None:
        raise DataError(
            path,
            f"is not an IDX file with {axes} axes (it begins with {head[:4].hex(' ') or 'nothing'})",
            code="array-damaged",
        )
    shape = struct.unpack(f">{axes}I", head[4:])
    array = ArrayFile(path, "", tuple(shape), np.dtype(kind), len(head), packed)
    # Deflate packs at most 1,032 to 1: a header that claims more than the file can hold is refused before any memory is
    # asked for.
    if array.size > path.stat().st_size * (1032 if packed else 1):
        raise DataError(path, f"ends early: its header says {' x '.join(map(str, shape))} values", code="array-short")
    return _bounded(array)


def read_npy_header(path: Path) -> ArrayFile:
    """What a `.npy` file's header says.

    Raises:
        DataError: no such file, one that is shorter than it says, or one that holds other values than numbers and
            texts.
    """
    check_ordinary(path)
    with path.open("rb") as file:
        return _npy_header(file, path, "", 0, False)


_MAX_NPY_HEADER: Final = 10_000
"""As NumPy itself has it."""
_KEYS: Final = {
    "descr": re.compile(r"""(['"])descr\1\s*:\s*(['"])(?P<value>[^'"]{1,20})\2"""),
    "fortran_order": re.compile(r"""(['"])fortran_order\1\s*:\s*(?P<value>True|False)"""),
    "shape": re.compile(r"""(['"])shape\1\s*:\s*\((?P<value>[\d\sL,]*)\)"""),
}
_NUMBERS: Final = re.compile(r"[<>|=]?(b1|\?|[iu][1248]|f[248]|[SU][1-9]\d{0,4})")
_MOST_VALUES: Final = 2**48


def _npy_header(file: IO[bytes], path: Path, member: str, start: int, packed: bool) -> ArrayFile:
    where = f"{path}:{member}" if member else str(path)
    try:
        shape, fortran, descr = _read_header(file)
    except (ValueError, EOFError) as error:
        raise DataError(where, f"is not a NumPy array file ({printable(error)})", code="array-damaged") from error
    if descr.lstrip("<>|=").startswith("O"):
        raise DataError(
            where,
            "holds Python objects, which can run code when they are opened",
            hint="save it as plain numbers",
            code="array-objects",
        )
    if not _NUMBERS.fullmatch(descr):
        raise DataError(
            where,
            f"holds values of the type {printable(descr)!r}; expected whole numbers, floats, booleans or texts",
            hint="save it as one of these",
            code="array-type",
        )
    return _bounded(ArrayFile(path, member, shape, np.dtype(descr), start + file.tell(), packed, fortran))


def _read_header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, str]:
    """Shape, order and type of a `.npy` file, found by their names: its header is written in Python, which is not run
    here, nor parsed.

    Format: https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html

    Raises:
        ValueError, EOFError: it is not so.
    """
    start = file.read(8)
    if start[:6] != b"\x93NUMPY":
        raise ValueError("it does not begin as one")
    if start[6:] not in (b"\1\0", b"\2\0", b"\3\0"):
        raise ValueError("its version is not known")
    length = int.from_bytes(file.read(2 if start[6] == 1 else 4), "little")
    if length > _MAX_NPY_HEADER:
        raise ValueError(f"it claims a header of {length:,} bytes, more than {_MAX_NPY_HEADER:,}")
    content = file.read(length)
    if len(content) < length:
        raise EOFError("it ends within its header")
    text = content.decode("utf-8" if start[6] == 3 else "latin-1")
    values = []
    for name, pattern in _KEYS.items():
        found = pattern.search(text)
        if found is None:
            raise ValueError(f"its header has no {name} of plain values")
        values.append(found["value"])
        text = text[: found.start()] + text[found.end() :]
    if not re.fullmatch(r"\s*\{[,\s]*\}\s*", text):
        raise ValueError("its header is not one of just these")
    descr, fortran, sides = values
    shape = tuple(int(side) for side in sides.replace("L", "").split(",") if side.strip())
    return shape, fortran == "True", descr


def _bounded(array: ArrayFile) -> ArrayFile:
    """The array, unless its header claims what no file holds; names are made for as many images as it says.

    Raises:
        DataError: it does.
    """
    # With an empty axis there are no values, and any number of images.
    impossible = len(array.shape) > 32 or 0 in array.shape[1:] or math.prod(array.shape) > _MOST_VALUES
    if impossible:
        shape = " x ".join(map(str, array.shape[:8]))
        raise DataError(array.where, f"has an impossible shape: {shape[:80]}", code="array-damaged")
    if not array.packed and array.offset + array.size > array.path.stat().st_size:
        raise array.short()
    return array


_MOST_MEMBERS: Final = 1000


def read_npz_headers(path: Path, wanted: Callable[[str], bool]) -> dict[str, ArrayFile | None]:
    """The arrays of an `.npz` file by name; None for names that are not `wanted`, whose arrays are not looked at. Those
    stored unpacked can be mapped right where they are.

    Raises:
        DataError: it is damaged, encrypted, or holds something else than arrays.
    """
    check_ordinary(path)
    arrays: dict[str, ArrayFile | None] = {}
    try:
        size = path.stat().st_size
        with zipfile.ZipFile(path) as archive, path.open("rb") as raw:
            members = archive.infolist()
            if len(members) > _MOST_MEMBERS:
                raise DataError(
                    path, f"holds {len(members):,} files, more than {_MOST_MEMBERS:,}", code="array-damaged"
                )
            for info in members:
                name = info.filename.removesuffix(".npy")
                where = f"{path}:{info.filename}"
                plain = info.compress_type in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
                if not info.filename.endswith(".npy") or info.flag_bits & 1 or not plain:
                    raise DataError(where, "is not a readable array of this .npz file", code="array-damaged")
                if name in arrays:
                    raise DataError(where, "occurs twice in this .npz file", code="array-damaged")
                packed = info.compress_type == zipfile.ZIP_DEFLATED
                # Its sizes are claims too. Deflate packs at most 1,032 to 1.
                most = info.compress_size * 1032 if packed else info.compress_size
                if info.compress_size > size or info.file_size > most:
                    raise DataError(where, "claims to be larger than it can be", code="array-damaged")
                if not wanted(name):
                    arrays[name] = None
                    continue
                start = 0
                if not packed:
                    raw.seek(info.header_offset)
                    local = raw.read(30)
                    start = info.header_offset + 30 + sum(struct.unpack_from("<HH", local, 26))
                with archive.open(info) as file:
                    array = _npy_header(file, path, info.filename, start, packed)
                if array.size > info.file_size:
                    raise DataError(
                        array.where, "ends early: its header says more values than there are", code="array-short"
                    )
                arrays[name] = array if packed else replace(array, member="")
    except ConvoscopeError:
        raise
    except Exception as error:  # zipfile and zlib raise whatever a damaged archive leads them to
        if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):
            raise
        raise DataError(path, f"is damaged ({printable(error)[:200]})", code="array-damaged") from error
    return arrays
