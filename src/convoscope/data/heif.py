"""AVIF and HEIC: pictures in a container of boxes (ISO/IEC 14496-12 and 23008-12, HEIF).

The boxes are read here first, and sizes are checked, in the container and in the coded picture itself, before a
decoder gets to see the file. AVIF is decoded by Pillow, HEIC by pillow-heif (`pip install 'convoscope[heic]'`). Only
the primary picture counts. It is turned by the container's own properties, never by EXIF, as the standard says.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import struct
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Final, NamedTuple

from PIL import AvifImagePlugin, Image, features

from ..errors import DataError

CONTAINERS: Final = ("AVIF", "HEIC")
_AVIF_BRANDS: Final = frozenset({b"avif", b"avis"})
_HEIC_BRANDS: Final = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"})
MAX_BOXES: Final = 10_000
"""Boxes in one box, and in all that are looked into."""
MAX_ITEMS: Final = 10_000
"""A phone writes about 60: the tiles of the picture, a preview, Exif."""
MAX_LINKS: Final = 100_000
"""Properties of all items together, and pieces of all of them."""
HEIC_COMMAND: Final = "pip install 'convoscope[heic]'"


def container_of(data: bytes) -> str:
    """`AVIF` or `HEIC` by the brands in the first box; empty for other containers, such as films, and other files."""
    if data[4:8] != b"ftyp":
        return ""
    size = min(int.from_bytes(data[:4], "big"), 4096)
    brands = {data[8:12], *(data[start : start + 4] for start in range(16, size, 4))}
    return "AVIF" if brands & _AVIF_BRANDS else "HEIC" if brands & _HEIC_BRANDS else ""


class Refused(Exception):
    """Why a picture is not read.

    Attributes:
        reason: in words, to follow the picture's name.
        code: of the error.
    """

    def __init__(self, reason: str, code: str = "image-broken", hint: str = "") -> None:
        super().__init__(reason)
        self.reason, self.code, self.hint = reason, code, hint


class Box(NamedTuple):
    """A box: its type, and where its content is."""

    kind: bytes
    start: int
    end: int
    begin: int


@dataclass
class Container:
    """What the boxes say of the primary picture.

    Attributes:
        format: `AVIF` or `HEIC`.
        width, height: as coded, before it is turned.
        orientation: as of EXIF, 1 to 8, by the container's properties.
        sides: width and height of every coded picture in the file, as the container and as its own header say.
        metadata: bytes of EXIF, XMP and the like.
        grey: whether it has one channel.
        deep: whether a channel may have more than 8 bits.
        data: the file, without whatever would be played as a film.
    """

    format: str
    width: int = -1
    height: int = -1
    orientation: int = 1
    sides: list[tuple[int, int]] = field(default_factory=list)
    metadata: int = 0
    grey: bool = False
    deep: bool = True
    data: bytes = b""


def read_container(data: bytes, format_: str) -> Container:
    """Read the boxes of a file that `container_of` knows.

    Raises:
        Refused: it is damaged, ends early, has too many parts, or cannot be decoded here.
        struct.error, IndexError: it ends within its boxes.
    """
    if format_ == "HEIC" and not _heic_is_read():
        raise Refused(f"is a HEIC picture; to read it: {HEIC_COMMAND}", "heic-not-installed", HEIC_COMMAND)
    if format_ == "AVIF" and not features.check("avif"):
        raise Refused("is an AVIF picture, which this Pillow cannot decode", "avif-not-built", "pip install -U pillow")
    top: dict[bytes, Box] = {}
    for box in _boxes(data, 0, len(data)):
        top.setdefault(box.kind, box)
    if b"meta" not in top:
        raise Refused(f"the {format_} has no still picture", "image-foreign")
    return _Meta(data, format_, top[b"meta"]).container(top.get(b"moov"))


def _boxes(data: bytes, start: int, end: int) -> Iterator[Box]:
    """The boxes between two places."""
    for _ in range(MAX_BOXES):
        if start + 8 > end:
            return
        size, kind = struct.unpack_from(">I4s", data, start)
        head = 8
        if size == 1:
            (size,) = struct.unpack_from(">Q", data, start + 8)
            head = 16
        stop = end if size == 0 else start + size
        if size and size < head:
            raise Refused("has a damaged box in its header")
        if stop > end:
            if kind == b"mdat":
                raise Refused("ends early: its coded pixels are not all there")
            raise Refused("ends within its header")
        yield Box(kind, start + head, stop, start)
        start = stop
    raise Refused(f"has more than {MAX_BOXES:,} boxes", "image-over-limit")


class _Meta:
    """The box `meta`, in which everything is said about the items of a file."""

    def __init__(self, data: bytes, format_: str, meta: Box) -> None:
        self.data, self.format = data, format_
        self.parts: dict[bytes, Box] = {}
        for box in _boxes(data, meta.start + 4, meta.end):
            self.parts.setdefault(box.kind, box)
        self.links = 0

    def container(self, film: Box | None) -> Container:
        """What it says of the primary picture."""
        for needed in (b"pitm", b"iinf", b"iprp", b"iloc"):
            if needed not in self.parts:
                raise Refused(f"the {self.format} has no primary picture")
        primary = self._number(self.parts[b"pitm"])
        kinds = self._kinds()
        properties = self._properties()
        pieces = self._pieces()
        found = Container(self.format)
        for box in self._all_properties:
            if box.kind == b"ispe":
                found.sides.append(struct.unpack_from(">II", self.data, box.start + 4))
            elif box.kind == b"hvcC":
                found.sides += _hevc_sides(self.data[box.start : box.end])
        for item, kind in kinds.items():
            length = sum(stop - start for start, stop in pieces.get(item, ()))
            if kind in (b"Exif", b"mime", b"uri "):
                found.metadata += length
            elif kind == b"av01" and pieces.get(item):
                start, stop = pieces[item][0]
                found.sides += _av1_sides(self.data[start : min(stop, start + 4096)])
        self._describe(found, properties.get(primary, []))
        if primary not in kinds or found.width < 0:
            raise Refused(f"the {self.format} has no primary picture")
        found.data = _still(self.data, film)
        return found

    def _describe(self, found: Container, properties: list[Box]) -> None:
        """Size, turn and channels of the primary picture."""
        angle, mirror = 0, None
        for box in properties:
            if box.kind == b"ispe":
                found.width, found.height = struct.unpack_from(">II", self.data, box.start + 4)
            elif box.kind == b"clap" and self.format == "HEIC":  # Pillow does not cut an AVIF
                wide, wide_by, high, high_by = struct.unpack_from(">IIII", self.data, box.start)
                if not (wide_by and high_by):
                    raise Refused("has a damaged box in its header")
                found.width, found.height = wide // wide_by, high // high_by
            elif box.kind == b"irot":
                angle = self.data[box.start] & 3
            elif box.kind == b"imir":
                mirror = self.data[box.start] & 1
            elif box.kind == b"pixi":
                channels = self.data[box.start + 4]
                found.grey = channels == 1
                found.deep = max(self.data[box.start + 5 : box.start + 5 + channels], default=16) > 8
        found.orientation = _ORIENTATIONS[angle, mirror]

    def _number(self, box: Box) -> int:
        """The one number of a box: 16 bits in its version 0, else 32."""
        value: int = struct.unpack_from(">H" if self.data[box.start] == 0 else ">I", self.data, box.start + 4)[0]
        return value

    def _kinds(self) -> dict[int, bytes]:
        """Each item's type."""
        box = self.parts[b"iinf"]
        head = 6 if self.data[box.start] == 0 else 8
        kinds: dict[int, bytes] = {}
        for entry in _boxes(self.data, box.start + head, box.end):
            version = self.data[entry.start]
            if entry.kind == b"infe" and version >= 2:
                wide = version >= 3
                (item,) = struct.unpack_from(">I" if wide else ">H", self.data, entry.start + 4)
                place = entry.start + (10 if wide else 8)
                kinds[item] = self.data[place : place + 4]
        return kinds

    def _properties(self) -> dict[int, list[Box]]:
        """Each item's properties, in order."""
        inner: dict[bytes, Box] = {}
        for box in _boxes(self.data, self.parts[b"iprp"].start, self.parts[b"iprp"].end):
            inner.setdefault(box.kind, box)
        if b"ipco" not in inner or b"ipma" not in inner:
            raise Refused(f"the {self.format} has no primary picture")
        self._all_properties = list(_boxes(self.data, inner[b"ipco"].start, inner[b"ipco"].end))
        box = inner[b"ipma"]
        version, flags = self.data[box.start], self.data[box.start + 3]
        (count,) = struct.unpack_from(">I", self.data, box.start + 4)
        self._count(count, MAX_ITEMS)
        place, found = box.start + 8, dict[int, list[Box]]()
        for _ in range(count):
            (item,) = struct.unpack_from(">I" if version else ">H", self.data, place)
            place += 4 if version else 2
            links = self.data[place]
            self.links += links
            self._count(self.links, MAX_LINKS)
            place += 1
            numbers = struct.unpack_from(f">{links}{'H' if flags & 1 else 'B'}", self.data, place)
            place += links * (2 if flags & 1 else 1)
            places = [(number & (0x7FFF if flags & 1 else 0x7F)) - 1 for number in numbers]
            found[item] = [self._all_properties[one] for one in places if 0 <= one < len(self._all_properties)]
        return found

    def _pieces(self) -> dict[int, list[tuple[int, int]]]:
        """Where each item's bytes are in the file, as far as they are not in the header itself."""
        box = self.parts[b"iloc"]
        version, sizes, more = self.data[box.start], self.data[box.start + 4], self.data[box.start + 5]
        offset_size, length_size, base_size = sizes >> 4, sizes & 15, more >> 4
        index_size = more & 15 if version in (1, 2) else 0
        wide = version >= 2
        (count,) = struct.unpack_from(">I" if wide else ">H", self.data, box.start + 6)
        self._count(count, MAX_ITEMS)
        reader = _Reader(self.data, box.start + (10 if wide else 8))
        found: dict[int, list[tuple[int, int]]] = {}
        for _ in range(count):
            item = reader.number(4 if wide else 2)
            within = reader.number(2) & 15 if version in (1, 2) else 0
            reader.number(2)
            base, extents = reader.number(base_size), reader.number(2)
            self.links += extents
            self._count(self.links, MAX_LINKS)
            for _ in range(extents):
                reader.number(index_size)
                start, length = base + reader.number(offset_size), reader.number(length_size)
                if within == 0:
                    stop = start + length if length else len(self.data)
                    if stop > len(self.data):
                        raise Refused(f"the {self.format} ends early: its coded pixels are not all there")
                    found.setdefault(item, []).append((start, stop))
        return found

    def _count(self, count: int, most: int) -> None:
        if count > most:
            raise Refused(f"the {self.format}'s parts are more than {most:,}", "image-over-limit")


class _Reader:
    """Numbers of any count of bytes, one after the other."""

    def __init__(self, data: bytes, place: int) -> None:
        self.data, self.place = data, place

    def number(self, size: int) -> int:
        """The next one; 0 of no bytes."""
        if self.place + size > len(self.data):
            raise IndexError
        self.place += size
        return int.from_bytes(self.data[self.place - size : self.place], "big")


_ORIENTATIONS: Final = {
    (0, None): 1, (1, None): 8, (2, None): 3, (3, None): 6,
    (0, 0): 4, (1, 0): 5, (2, 0): 2, (3, 0): 7,
    (0, 1): 2, (1, 1): 7, (2, 1): 4, (3, 1): 5,
}  # fmt: skip
"""EXIF's number for quarter turns anticlockwise (`irot`), then an exchange (`imir`): 0 of top and bottom, 1 of left and
right.
"""


def _still(data: bytes, film: Box | None) -> bytes:
    """The file without its film, which may have any number of frames: called free space, and not announced."""
    if film is None:
        return data
    changed = bytearray(data)
    changed[film.begin + 4 : film.begin + 8] = b"free"
    for start in range(8, min(int.from_bytes(data[:4], "big"), 4096), 4):
        if data[start : start + 4] in _FILM_BRANDS:
            changed[start : start + 4] = _FILM_BRANDS[data[start : start + 4]]
    return bytes(changed)


_FILM_BRANDS: Final = {b"avis": b"avif", b"hevc": b"heic", b"hevx": b"heix", b"msf1": b"mif1"}
"""Brands of films, each with that of a still picture of its kind."""


# --- the coded pictures' own headers ----------------------------------------------------------------------------------


class _Bits:
    """Bits of a header, most significant first."""

    def __init__(self, data: bytes) -> None:
        self.value, self.left = int.from_bytes(data, "big"), 8 * len(data)

    def take(self, count: int) -> int:
        """The next bits as a number."""
        self.left -= count
        if self.left < 0:
            raise IndexError
        return (self.value >> self.left) & ((1 << count) - 1)

    def golomb(self) -> int:
        """The next number of Exp-Golomb's code."""
        zeros = 0
        while not self.take(1):
            zeros += 1
            if zeros > 32:
                raise IndexError
        return (1 << zeros) - 1 + self.take(zeros)


def _av1_sides(coded: bytes) -> list[tuple[int, int]]:
    """The largest width and height that AV1's sequence headers allow (AV1 specification, 5.3 to 5.5)."""
    sides, place = [], 0
    while place < len(coded):
        head = coded[place]
        place += 2 if head & 4 else 1
        size, shift = len(coded) - place, 0
        if head & 2:  # has its size, seven bits a byte
            size = 0
            while True:
                byte = coded[place]
                size |= (byte & 127) << shift
                place, shift = place + 1, shift + 7
                if not byte & 128 or shift > 56:
                    break
        if (head >> 3) & 15 == 1:
            sides.append(_av1_sequence(_Bits(coded[place : place + min(size, 200)])))
        place += size
    return sides


def _av1_sequence(bits: _Bits) -> tuple[int, int]:
    bits.take(4)  # profile, still picture
    if bits.take(1):  # a reduced header
        bits.take(5)
    else:
        if bits.take(1):  # how long a frame is shown
            raise Refused("is a film")
        delayed = bits.take(1)
        for _ in range(bits.take(5) + 1):
            bits.take(12)
            if bits.take(5) > 7:
                bits.take(1)
            if delayed and bits.take(1):
                bits.take(4)
    wide, high = bits.take(4) + 1, bits.take(4) + 1
    return bits.take(wide) + 1, bits.take(high) + 1


def _hevc_sides(configuration: bytes) -> list[tuple[int, int]]:
    """Width and height in HEVC's sequence parameter sets (ISO/IEC 14496-15, 8.3.3; ITU-T H.265, 7.3.2.2)."""
    reader = _Reader(configuration, 22)
    sides = []
    for _ in range(reader.number(1)):
        kind = reader.number(1) & 63
        for _ in range(reader.number(2)):
            length = reader.number(2)
            start = reader.place
            reader.number(length)
            if kind == 33:
                unit = configuration[start + 2 : start + min(length, 400)].replace(b"\0\0\3", b"\0\0")
                sides.append(_hevc_sequence(_Bits(unit)))
    return sides


def _hevc_sequence(bits: _Bits) -> tuple[int, int]:
    bits.take(4)
    layers = bits.take(3)
    bits.take(1 + 88 + 8)  # the profile, and the level
    flags = [(bits.take(1), bits.take(1)) for _ in range(layers)]
    if layers:
        bits.take(2 * (8 - layers))
    for profile, level in flags:
        bits.take(88 * profile + 8 * level)
    bits.golomb()
    if bits.golomb() == 3:
        bits.take(1)
    return bits.golomb(), bits.golomb()


# --- opening ----------------------------------------------------------------------------------------------------------

_LOCK: Final = threading.Lock()


@cache
def _heic_is_read() -> bool:
    return importlib.util.find_spec("pillow_heif") is not None


def open_container(data: bytes, format_: str) -> Image.Image:
    """The picture with its pixels still packed. AVIF is decoded by one thread, so that this also works where no other
    may be started; HEIC's decoder starts one in any case.

    Raises:
        Exception: whatever the library stumbles over.
    """
    if format_ == "AVIF":
        with _LOCK, _set(AvifImagePlugin, DEFAULT_MAX_THREADS=1):
            return AvifImagePlugin.AvifImageFile(io.BytesIO(data))
    try:
        from pillow_heif import HeifImageFile, options
    except ImportError as error:
        raise DataError("", "pillow-heif cannot be loaded", code="heic-not-installed", hint=HEIC_COMMAND) from error
    # Of its previews, depth maps and masks nothing is needed.
    with _LOCK, _set(options, DECODE_THREADS=0, THUMBNAILS=False, DEPTH_IMAGES=False, AUX_IMAGES=False):
        picture: Image.Image = HeifImageFile(io.BytesIO(data))  # type: ignore[no-untyped-call] # it has none
        return picture


@contextlib.contextmanager
def _set(module: Any, **values: Any) -> Iterator[None]:
    """Settings of a library, which belong to the whole process, for a moment."""
    before = {name: getattr(module, name) for name in values}
    for name, value in values.items():
        setattr(module, name, value)
    try:
        yield
    finally:
        for name, value in before.items():
            setattr(module, name, value)
