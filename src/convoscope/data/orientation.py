"""Which way up a picture is, from its Exif block or its XMP packet, as Pillow 13 reads them.

Pillow's own reader is not asked: each entry of a hostile Exif block may make it read the whole block once more.
"""

from __future__ import annotations

import contextlib
import re
import struct
from collections.abc import Iterator
from typing import Final, NamedTuple

_HEADER: Final = b"Exif\0\0"
_ORIENTATION: Final = 274
_CODES: Final = {3: "H", 4: "I", 6: "b", 8: "h", 9: "i", 13: "I"}
"""TIFF's whole-number kinds that Pillow takes for numbers: short, long, their signed ones, signed byte, directory."""
_SIZES: Final = {1: 1, 2: 1, 5: 8, 7: 1, 10: 8, 11: 4, 12: 8, 16: 8}
"""Bytes of a value of the other kinds."""
_IN_XMP: Final = re.compile(rb'tiff:Orientation(?:="|>)([0-9])')


def orientation_of(exif: bytes, xmp: bytes = b"") -> int:
    """EXIF's 1 to 8; 1, upright, where nothing valid is said.

    Args:
        exif: a TIFF block, with or without `Exif` in front of it, once or twice; what comes behind, such as a second
            block, is not looked at.
        xmp: an XMP packet, which counts where the Exif block does not speak of it.
    """
    if not exif.startswith(b"MM\0*") and not exif.startswith(b"II*\0"):
        exif = exif.removeprefix(_HEADER).removeprefix(_HEADER)
    said = None
    for entry in tiff_entries(exif, 1000):
        if entry.broken:
            break  # where Pillow reads no further
        if entry.tag == _ORIENTATION and said is None:
            said = entry.value
    if said is None and (found := _IN_XMP.search(xmp)):
        said = int(found[1])
    return valid_orientation(said or 1)


def valid_orientation(value: int) -> int:
    return value if 1 <= value <= 8 else 1


class TiffEntry(NamedTuple):
    """An entry of a TIFF directory."""

    tag: int
    kind: int
    number: int
    """How many values it has."""
    value: int | None
    """The first value: 0 where it is no whole number, None where it cannot be read."""
    broken: bool
    """Whether its values are said to be where the bytes have ended."""


def tiff_entries(data: bytes, most: int) -> Iterator[TiffEntry]:
    """The first directory's entries. Ends where the bytes end."""
    order = {b"II": "<", b"MM": ">"}.get(data[:2])
    if order is None:
        return
    with contextlib.suppress(struct.error):
        (start,) = struct.unpack_from(order + "I", data, 4)
        (number,) = struct.unpack_from(order + "H", data, start)
        for entry in range(start + 2, start + 2 + 12 * min(number, most), 12):
            tag, kind, count, place = struct.unpack_from(order + "HHII", data, entry)
            code = _CODES.get(kind)
            size = count * (struct.calcsize("=" + code) if code else _SIZES.get(kind, 0))
            begin = entry + 8 if size <= 4 else place
            there = 0 < size <= len(data) - begin
            value = struct.unpack_from(order + code, data, begin)[0] if there and code else 0 if there else None
            yield TiffEntry(tag, kind, count, value, 4 < size <= len(data) < begin + size)
