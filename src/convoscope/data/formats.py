"""Which format a picture has by its first bytes, how large it is, and what of it Pillow needs to see.

Sizes are checked and metadata (text, profiles, previews, further frames) is cut away before any decoder runs. EXIF
gives the orientation, nothing else. What is counted here (segments, scans, chunks, blocks) is counted because a small
file can hold millions
of them: each costs a parser or a decoder time, and no picture from a camera or a program has that many.
"""

from __future__ import annotations

import contextlib
import os
import re
import struct
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np

from ..errors import DataError, UsageError, printable
from ..files import size_text
from .heif import CONTAINERS, Refused, container_of, read_container
from .orientation import orientation_of, tiff_entries, valid_orientation

MAX_SIDE: Final = 20_000
MAX_FILE_BYTES: Final = 256_000_000
MAX_METADATA_BYTES: Final = 32_000_000
MAX_TEXT_BYTES: Final = 1_000_000
MAX_TEXTS_BYTES: Final = 8_000_000
"""All packed text of a PNG together, unpacked: each may be harmless and all of them a bomb."""
MAX_SEGMENTS: Final = 10_000
"""Segments of a JPEG, chunks of a WEBP, blocks before the picture of a GIF: a camera writes some hundred at most."""
MAX_CHUNKS: Final = 100_000
"""Chunks of a PNG: one of 50 million pixels, in pieces of 8 kB as usual, has some 20,000."""
MAX_ROWS_BYTES: Final = 201_000_000
"""The unpacked rows of a PNG: 50 million pixels with opacity. 16 bits a channel take twice as much, and about 2 s."""
MAX_SUB_BLOCKS: Final = 1_000_000
"""Sub-blocks of a GIF, which hold up to 255 bytes each: a full file of `MAX_FILE_BYTES`."""
MAX_TABLE_BYTES: Final = 1_000_000
"""Tables of a JPEG: at most 2 kB for each scan."""
MAX_SCANS: Final = 1_000
"""Scans of a JPEG: progressive ones have about 10, and 100 if somebody wrote their script by hand."""
MAX_WORK_NS: Final = 1_000_000_000
"""What the scans of a JPEG may cost, in nanoseconds of one core of 2020: see `_scan_work`. 48 million pixels cost 0.3
to 0.5 s.
"""
MAX_RLE_PIXELS: Final = 2_000_000
"""Pixels of a run-length coded BMP, which Pillow unpacks in Python: up to 0.6 s for a million of them."""
MAX_TIFF_PARTS: Final = 100_000
"""Strips or tiles of a TIFF: Pillow makes an object for each; 20,000 rows in a strip each are the most that make sense.
"""
PICTURE_ENDINGS: Final = frozenset(
    {".jpg", ".jpeg", ".jfif", ".jpe", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff"}
    | {".avif", ".heic", ".heif", ".hif"}
)
FOREIGN_ENDINGS: Final = frozenset(
    {
        ".svg",
        ".psd",
        ".jp2",
        ".jxl",
        ".ico",
        ".eps",
        ".tga",
        ".ppm",
        ".pgm",
        ".dng",
        ".cr2",
        ".nef",
    }
)
"""Endings of pictures that are not read; such files are listed as skipped, others are ignored."""


@dataclass
class Picture:
    """A picture stripped to what Pillow needs, and what its header said. `width` and `height` are as stored."""

    format: str
    width: int
    height: int
    data: bytes
    """What Pillow opens: the picture, or of JPEG and PNG what comes before the compressed pixels."""
    scans: tuple[tuple[bytes, memoryview], ...] = ()
    """Of a JPEG: each scan's tables and header, and its compressed pixels. These are not copied; they are views of the
    file's bytes.
    """
    packed: tuple[memoryview, ...] = ()
    """Of a PNG: the pieces of its compressed pixels, as views of the file's bytes."""
    row_bytes: tuple[int, ...] = ()
    """Of a PNG: bytes of each of its rows, unpacked; of an interlaced one of all rows of all passes."""
    interlaced: bool = False
    orientation: int = 1
    grey: bool = False
    deep: bool = False
    """Whether it is grey of more than 8 bits."""
    inverted_cmyk: bool = False
    endless: bool = False
    """Whether a JPEG's end marker is missing."""
    several: bool = False
    """Whether a JPEG is put together of several scans."""
    lacks: str = ""
    """What of a JPEG is missing although each of its scans may be whole."""
    extra_bytes: int = 0
    """Memory that decoding takes beside the file and the pixels."""


def max_pixels() -> int:
    """The largest picture that is decoded, in pixels: 50 million, or what CONVOSCOPE_MAX_MEGAPIXELS says (1 to 178)."""
    text = os.environ.get("CONVOSCOPE_MAX_MEGAPIXELS", "")
    if not text:
        return 50_000_000
    try:
        value = int(text)
    except ValueError:
        value = 0
    if not 1 <= value <= 178:
        raise UsageError(
            "CONVOSCOPE_MAX_MEGAPIXELS", f"expected a whole number from 1 to 178; received {text!r}", code="bad-setting"
        )
    return value * 1_000_000


def bad_image(path: str | os.PathLike[str], reason: str, code: str = "image-broken", hint: str = "") -> DataError:
    return DataError(path, reason, code=code, hint=hint)


_FOREIGN_MAGIC: Final = (
    (b"%PDF", "a PDF document"),
    (b"8BPS", "a PSD (Photoshop) picture"),
    (b"%!PS", "an EPS document"),
    (b"\xc5\xd0\xd3\xc6", "an EPS document"),
    (b"SIMPLE  =", "a FITS picture"),
    (b"\x00\x00\x00\x0cjP  \r\n", "a JPEG 2000 picture"),
    (b"\xff\x4f\xff\x51", "a JPEG 2000 picture"),
    (b"\xff\x0a", "a JPEG XL picture"),
    (b"\x00\x00\x00\x0cJXL ", "a JPEG XL picture"),
    (b"\x00\x00\x01\x00", "an ICO icon"),
    (b"PK\x03\x04", "a ZIP archive"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"Rar!", "a RAR archive"),
    (b"7z\xbc\xaf", "a 7z archive"),
    (b"\x7fELF", "a program"),
    (b"MZ", "a program"),
    (b"\x93NUMPY", "a NumPy array"),
    (b"version https://git-lfs", "a Git LFS pointer, not the picture itself"),
    (b"{\\rtf", "an RTF document"),
)


def sniff(data: bytes) -> tuple[str, str]:
    """The format by the first bytes: `("JPEG", "")`, or `("", "is a PDF document")` when it is not one we read."""
    if data.startswith(b"\xff\xd8\xff"):
        return "JPEG", ""
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "PNG", ""
    if data.startswith((b"GIF87a", b"GIF89a")):
        return "GIF", ""
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return "WEBP", ""
    if data.startswith(b"BM") and len(data) >= 26 and data[14:18] in _BMP_HEADERS:
        return "BMP", ""
    if data.startswith((b"II*\x00", b"MM\x00*", b"II+\x00", b"MM\x00+")):
        return "TIFF", ""
    if data[4:8] == b"ftyp":
        container = container_of(data)
        return container, "" if container else "is a film, which is not read"
    for magic, name in _FOREIGN_MAGIC:
        if data.startswith(magic):
            return "", f"is {name}"
    text = data[:1024].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if b"<svg" in text:
        return "", "is an SVG drawing, which is not read"
    if text.startswith((b"<!doctype html", b"<html", b"<head", b"<body")) or b"<html" in text:
        return "", "is an HTML page (a failed download?)"
    if text.startswith(b"<?xml"):
        return "", "is an XML document"
    return "", ""


_BMP_HEADERS: Final = tuple(struct.pack("<I", size) for size in (12, 16, 40, 52, 56, 64, 108, 124))


def parse_picture(data: bytes, path: str, tiff: bool) -> Picture:
    """Tell the format, check the size against the limits, strip what is not needed."""
    if not data:
        raise bad_image(path, "is empty (0 bytes)")
    format_, foreign = sniff(data)
    check_file_size(len(data), path)
    if foreign:
        raise bad_image(path, foreign, "image-foreign", "JPEG, PNG, WEBP, BMP, GIF, AVIF and HEIC are read")
    if not format_:
        raise bad_image(
            path,
            f"is no picture: its {size_text(len(data))} begin like no known format",
            hint="JPEG, PNG, WEBP, BMP, GIF, AVIF and HEIC are read",
        )
    if format_ == "TIFF" and not tiff:
        raise bad_image(
            path, "is a TIFF picture, which is read only on request", "image-foreign", "ask for it with tiff=True"
        )
    try:
        picture = _PARSERS[format_](data, path)
    except (struct.error, IndexError, ValueError) as error:
        raise bad_image(path, f"the {format_} ends within its header") from error
    check_size(picture.width, picture.height, path)
    return picture


def check_file_size(count: int, path: str | os.PathLike[str]) -> None:
    if count > MAX_FILE_BYTES:
        raise bad_image(
            path, f"is {size_text(count)} large; at most {size_text(MAX_FILE_BYTES)} are read", "image-over-limit"
        )


def check_size(width: int, height: int, path: str) -> None:
    if width < 1 or height < 1:
        raise bad_image(path, f"has no pixels ({width} x {height})")
    limit = max_pixels()
    if width * height > limit:
        raise bad_image(
            path,
            f"{width} x {height} are {width * height / 1e6:.0f} million pixels; "
            f"the limit is {limit // 1_000_000} (CONVOSCOPE_MAX_MEGAPIXELS)",
            "image-over-limit",
            "make the picture smaller",
        )
    if max(width, height) > MAX_SIDE:
        raise bad_image(path, f"{width} x {height}: the longer side may have {MAX_SIDE} pixels", "image-over-limit")


def _check_metadata(count: int, path: str) -> None:
    if count > MAX_METADATA_BYTES:
        raise bad_image(
            path,
            f"carries {size_text(count)} of metadata; the limit is {size_text(MAX_METADATA_BYTES)}",
            "image-over-limit",
        )


def _check_count(count: int, most: int, what: str, path: str) -> None:
    if count > most:
        raise bad_image(path, f"{what} more than {most:,}", "image-over-limit")


# --- JPEG -------------------------------------------------------------------------------------------------------------

_FILL: Final = re.compile(rb"\xff+")
_XMP_IN_JPEG: Final = b"http://ns.adobe.com/xap/1.0/\0"
_SEARCHED: Final = 1 << 20
_NOT_READ: Final = {
    **dict.fromkeys((0xC3, 0xC7, 0xCB, 0xCF), "lossless"),
    **dict.fromkeys((0xC5, 0xC6, 0xCD, 0xCE), "hierarchical"),
    **dict.fromkeys((0xC9, 0xCA), "arithmetic-coded"),
}


@dataclass
class _Component:
    """One channel of a JPEG: its sampling, and per coefficient how many of its last bits are still to come."""

    wide: int
    high: int
    bits: list[int]


class _Frame:
    """What a JPEG's frame header says."""

    def __init__(self, marker: int, body: bytes, path: str) -> None:
        depth, self.height, self.width, count = struct.unpack_from(">BHHB", body)
        if marker in _NOT_READ:
            raise _unread(path, f"is a JPEG of the {_NOT_READ[marker]} kind")
        if depth != 8:
            raise _unread(path, f"is a JPEG of {depth} bits a sample instead of 8")
        self.count = count
        if count not in (1, 3, 4):
            raise bad_image(path, f"has {count} channels; JPEGs of 1, 3 or 4 are read", "image-foreign")
        check_size(self.width, self.height, path)
        self.progressive = marker == 0xC2
        self.components: dict[int, _Component] = {}
        for number in range(count):
            name, sampling = struct.unpack_from("BB", body, 6 + 3 * number)
            self.components[name] = _Component(sampling >> 4, sampling & 15, [14] * 64)
            if not (1 <= sampling >> 4 <= 4 and 1 <= sampling & 15 <= 4):
                raise bad_image(path, "the JPEG's header is damaged")
        self.wide = max(component.wide for component in self.components.values())
        self.high = max(component.high for component in self.components.values())

    def blocks(self, names: Iterable[int]) -> tuple[int, int]:
        """Units (between two of which a restart marker may come) and blocks of 8 x 8 of a scan of these components."""
        chosen = [self.components[name] for name in names]
        if len(chosen) == 1:
            wide = -(-self.width * chosen[0].wide // (8 * self.wide))
            count = wide * -(-self.height * chosen[0].high // (8 * self.high))
            return count, count
        units = -(-self.width // (8 * self.wide)) * -(-self.height // (8 * self.high))
        return units, units * sum(component.wide * component.high for component in chosen)


def _unread(path: str, what: str) -> DataError:
    return bad_image(path, f"{what}, which is not read", "image-foreign", "save it anew as an ordinary JPEG or as PNG")


class _Jpeg:
    """A JPEG read segment by segment: finds every scan, bounds what it costs, and drops what comes after the end
    marker, such as further pictures of a phone.
    """

    def __init__(self, data: bytes, path: str) -> None:
        self.data, self.view, self.path = data, memoryview(data), path
        self.frame: _Frame | None = None
        self.kept = [b"\xff\xd8"]  # tables and headers of the next scan
        self.scans: list[tuple[bytes, memoryview]] = []
        self.segments = self.metadata = self.tables = self.work = self.interval = 0
        self.exif: list[bytes] = []
        self.xmp = b""
        self.adobe = self.endless = self.several = False
        self.lacks = ""

    def read(self) -> Picture:
        """The picture.

        Raises:
            DataError: it is damaged, beyond the limits, or of a kind that is not read.
        """
        data, position = self.data, 2
        while True:
            position, marker = self._next_segment(position)
            if marker == 0xD9:
                break
            if marker == 0 or marker == 0x01 or 0xD0 <= marker <= 0xD7:
                position += 2
                continue
            body = position + 4
            length = struct.unpack_from(">H", data, position + 2)[0] if body <= len(data) else 0
            end = position + 2 + length
            if marker in (-1, 0xD8) or length < 2 or end > len(data):
                if not self.scans:
                    raise bad_image(self.path, "the JPEG ends within its header, before any row")
                self.endless = True
                break
            self._segment(marker, position, end)
            position = self._scan(body, end) if marker == 0xDA else end
        return self._picture()

    def _next_segment(self, position: int) -> tuple[int, int]:
        """Where the next segment begins, and its marker; -1 at the end of the file."""
        data = self.data
        fill = _FILL.match(data, position)
        if fill is None and position < len(data):
            if not self.scans:
                raise bad_image(self.path, "the JPEG's header is damaged")
            position, _ = _next_marker(self.view, position)
            fill = _FILL.match(data, position)
        position = fill.end() - 1 if fill else len(data)
        self.segments += 1
        _check_count(self.segments, MAX_SEGMENTS, "the JPEG's segments are", self.path)
        return position, data[position + 1] if position + 1 < len(data) else -1

    def _segment(self, marker: int, position: int, end: int) -> None:
        """Note what a segment says, and keep it if a decoder needs it."""
        data, body, length = self.data, position + 4, end - position - 2
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            if self.frame is not None:
                raise bad_image(self.path, "the JPEG says twice how large it is")
            self.frame = _Frame(marker, data[body:end], self.path)
        elif marker == 0xDD and length == 4:
            (self.interval,) = struct.unpack_from(">H", data, body)
        elif marker == 0xE1 and data.startswith(b"Exif\0\0", body):
            self.exif.append(data[body + 6 : end])  # one too long for a segment goes on in the next
        elif marker == 0xE1 and data.startswith(_XMP_IN_JPEG, body):
            self.xmp = data[body + len(_XMP_IN_JPEG) : end]
        elif marker == 0xEE and data.startswith(b"Adobe", body):
            self.adobe = True
        if (0xE0 <= marker <= 0xEF and marker not in (0xE0, 0xEE)) or marker == 0xFE:
            self.metadata += length
            _check_metadata(self.metadata, self.path)
            return
        self.kept.append(data[position:end])
        self.tables += length
        if self.tables > MAX_TABLE_BYTES:
            reason = f"the JPEG's tables are more than {size_text(MAX_TABLE_BYTES)}"
            raise bad_image(self.path, reason, "image-over-limit")

    def _scan(self, body: int, end: int) -> int:
        """Take the scan whose header is `data[body:end]`. Returns where its compressed pixels end."""
        data, path, frame = self.data, self.path, self.frame
        if frame is None:
            raise bad_image(path, "the JPEG says nowhere how large it is")
        names = list(data[body + 1 : body + 1 + 2 * data[body] : 2])
        if not names or not set(names) <= frame.components.keys():
            raise bad_image(path, "the JPEG's header is damaged")
        self.several = self.several or frame.progressive or len(names) < frame.count
        units, blocks = frame.blocks(names)
        position, restarts = _next_marker(self.view, end)
        ending = data[body + 1 + 2 * len(names) : end]
        self.work += _scan_work(frame, names, ending, blocks, position - end, path)
        if self.work > MAX_WORK_NS:
            reason = f"the JPEG has too much to decode, {len(self.scans) + 1} scans and more"
            raise bad_image(path, reason, "image-over-limit", _ANEW)
        expected = -(-units // self.interval) - 1 if self.interval else 0
        if restarts and not self.interval:  # libjpeg would take the first one for the end and make up the rest
            raise bad_image(path, "the JPEG is damaged: it has restart markers where none belong")
        if restarts < expected and not self.lacks:
            self.lacks = f"parts of the JPEG are missing ({restarts} of {expected} restart markers)"
        self.scans.append((b"".join(self.kept), self.view[end:position]))
        _check_count(len(self.scans), MAX_SCANS, "the JPEG's scans are", path)
        self.kept = []
        return position

    def _picture(self) -> Picture:
        frame, scans = self.frame, self.scans
        if not scans:
            raise bad_image(self.path, "the JPEG has a header but no picture")
        assert frame is not None
        if self.endless:  # what an unfinished download has not filled
            scans[-1] = scans[-1][0], _without_zeros(scans[-1][1])
        if any(any(component.bits) for component in frame.components.values()):
            after = f"after {len(scans)} scan{'s' if len(scans) > 1 else ''}"
            self.lacks = f"the JPEG ends early ({after}, its details are missing)"
        return Picture(
            "JPEG",
            frame.width,
            frame.height,
            scans[0][0],
            scans=tuple(scans),
            orientation=orientation_of(b"".join(self.exif), self.xmp),
            grey=frame.count == 1,
            inverted_cmyk=frame.count == 4 and not self.adobe,
            endless=self.endless,
            several=self.several,
            lacks=self.lacks,
            extra_bytes=128 * frame.blocks(frame.components)[1] if self.several else 0,  # coefficients
        )


def _parse_jpeg(data: bytes, path: str) -> Picture:
    return _Jpeg(data, path).read()


_ANEW: Final = "save it anew in another program"


def _scan_work(frame: _Frame, names: list[int], ending: bytes, blocks: int, size: int, path: str) -> int:
    """About how many nanoseconds a scan takes, and note which bits of which coefficients it brings.

    Measured with libjpeg-turbo 3 on a core of 2020: 12 for a byte; for a block 25 with the first coefficient, 10
    without, and 1 more for each coefficient that is refined.
    """
    first, last, approximation = ending if frame.progressive else (0, 63, 0)
    if not first <= last <= 63:
        raise bad_image(path, "the JPEG's header is damaged")
    for name in names:
        frame.components[name].bits[first : last + 1] = [approximation & 15] * (last + 1 - first)
    refined = last + 1 - first if first and approximation >> 4 else 0
    return 12 * size + blocks * ((10 if first else 25) + refined)


def _next_marker(view: memoryview, position: int) -> tuple[int, int]:
    """Where compressed pixels end, at a marker other than a restart marker or at the end of the file; and how many
    restart markers they hold.
    """
    restarts, block = 0, 4096
    while position + 1 < len(view):
        values = np.frombuffer(view[position : position + block + 1], np.uint8)
        places = np.flatnonzero(values[:-1] == 0xFF)
        following = values[places + 1]
        restart = (following & 0xF8) == 0xD0
        other = ~restart & (following != 0) & (following != 0xFF)
        if other.any():
            first = int(np.argmax(other))
            return position + int(places[first]), restarts + int(np.count_nonzero(restart[:first]))
        restarts += int(np.count_nonzero(restart))
        position += block
        block = min(2 * block, _SEARCHED)
    return len(view), restarts


def _without_zeros(view: memoryview) -> memoryview:
    """Without the zeros at the end, but for 8 of them, which may be the last codes of a picture and make no rows."""
    end = len(view)
    while end and not (ending := bytes(view[max(0, end - _SEARCHED) : end]).rstrip(b"\0")):
        end -= min(end, _SEARCHED)
    return view[: max(0, end - _SEARCHED) + len(ending) + 8] if end else view[:0]


# --- PNG --------------------------------------------------------------------------------------------------------------

_PNG_KEPT: Final = frozenset({b"IHDR", b"PLTE", b"tRNS"})
_ADAM7: Final = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
"""Of each pass of an interlaced PNG: the first column and row, and the steps between them."""


class _Png:
    """A PNG read chunk by chunk: what Pillow needs to open it, and the pieces of its compressed pixels."""

    def __init__(self, data: bytes, path: str) -> None:
        self.data, self.view, self.path = data, memoryview(data), path
        self.kept = [data[:8]]
        self.kinds: set[bytes] = set()
        self.packed: list[memoryview] = []
        self.rows: tuple[int, ...] = ()
        self.width = self.height = self.depth = self.colour = self.interlaced = 0
        self.chunks = self.metadata = self.texts = 0
        self.exif = self.raw_exif = self.xmp = b""

    def read(self) -> Picture:
        """The picture.

        Raises:
            DataError: it is damaged, ends early, or is beyond the limits.
        """
        data, position, kind = self.data, 8, b""
        while kind != b"IEND":
            length = struct.unpack_from(">I", data, position)[0] if position + 8 <= len(data) else 0
            end = position + 12 + length
            kind = data[position + 4 : position + 8]
            if end > len(data):
                raise self._early(kind, position)
            if not self.width and kind != b"IHDR":
                raise bad_image(self.path, "the PNG does not begin with its header")
            self.chunks += 1
            if self.chunks > MAX_CHUNKS:
                reason = f"the PNG is cut into more than {MAX_CHUNKS:,} chunks"
                raise bad_image(self.path, reason, "image-over-limit")
            if kind in _PNG_KEPT or kind in (b"IDAT", b"eXIf"):
                self._note(kind, position, end)
            if kind in _PNG_KEPT:
                if not self.packed and kind not in self.kinds:
                    self.kept.append(data[position:end])
                    self.kinds.add(kind)
            elif kind not in (b"IDAT", b"IEND"):
                self._drop(kind, position, end)
            position = end
        return self._picture()

    def _early(self, kind: bytes, position: int) -> DataError:
        """The error of a file that ends within the chunk at `position`."""
        if kind == b"IDAT":
            self.packed.append(self.view[position + 8 :])
        if not self.width:
            return bad_image(self.path, "the PNG ends within its header")
        rows = len(self.rows)
        early = early_png(self.packed, self.rows, bool(self.interlaced))
        return bad_image(self.path, early or f"the PNG ends early, behind its last row ({rows} of {rows} rows)")

    def _note(self, kind: bytes, position: int, end: int) -> None:
        """Check a chunk's checksum, and note what it says."""
        if zlib.crc32(self.view[position + 4 : end - 4]) != struct.unpack_from(">I", self.data, end - 4)[0]:
            name = printable(kind.decode("latin-1"))
            raise bad_image(self.path, f"the PNG is damaged: the checksum of {name} differs")
        if kind == b"IHDR":
            self._header(position + 8)
        elif kind == b"IDAT":
            self.packed.append(self.view[position + 8 : end - 4])
        elif kind == b"eXIf":
            self.exif = self.data[position + 8 : end - 4]

    def _header(self, body: int) -> None:
        if self.width:
            raise bad_image(self.path, "the PNG says twice how large it is")
        header = struct.unpack_from(">IIBBBBB", self.data, body)
        self.width, self.height, self.depth, self.colour, _, _, self.interlaced = header
        check_size(self.width, self.height, self.path)
        self.rows = _row_bytes(self.width, self.height, self.depth, self.colour, bool(self.interlaced))
        unpacked = sum(self.rows)
        if unpacked > MAX_ROWS_BYTES * max(1, max_pixels() // 50_000_000):
            raise bad_image(
                self.path,
                f"{self.width} x {self.height} pixels of this kind take {size_text(unpacked)} unpacked; "
                f"the limit is {size_text(MAX_ROWS_BYTES)} (CONVOSCOPE_MAX_MEGAPIXELS)",
                "image-over-limit",
                "make the picture smaller",
            )

    def _drop(self, kind: bytes, position: int, end: int) -> None:
        """Bound the metadata, of which nothing is kept."""
        self.metadata += end - position - 12
        _check_metadata(self.metadata, self.path)
        text = _unpacked_text(kind, self.view[position + 8 : end - 4], self.path)
        self.texts += text.unpacked
        if text.keyword == _RAW_EXIF and kind != b"iTXt":
            self.raw_exif = _from_hexadecimal(text.content)
        elif text.keyword == _XMP_IN_PNG and kind == b"iTXt":
            self.xmp = text.content
        if self.texts > MAX_TEXTS_BYTES:
            reason = f"the PNG's texts unpack to more than {size_text(MAX_TEXTS_BYTES)}"
            raise bad_image(self.path, reason, "image-over-limit")

    def _picture(self) -> Picture:
        if not self.packed:
            raise bad_image(self.path, "the PNG has a header but no picture")
        if self.colour == 3 and b"PLTE" not in self.kinds:
            raise bad_image(self.path, "the PNG's palette is missing")
        return Picture(
            "PNG",
            self.width,
            self.height,
            # Pillow opens a picture as far as its first IDAT chunk; we hand the pixels to its decoder ourselves.
            b"".join((*self.kept, b"\0\0\0\0IDAT")),
            packed=tuple(piece for piece in self.packed if piece),
            row_bytes=self.rows,
            interlaced=bool(self.interlaced),
            orientation=orientation_of(self.exif or self.raw_exif, self.xmp),
            grey=self.colour in (0, 4),
            deep=self.colour == 0 and self.depth == 16,
        )


def _parse_png(data: bytes, path: str) -> Picture:
    return _Png(data, path).read()


def _row_bytes(width: int, height: int, depth: int, colour: int, interlaced: bool) -> tuple[int, ...]:
    bits = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}.get(colour, 1) * depth
    if not interlaced:
        return (1 + (width * bits + 7) // 8,) * height
    rows: list[int] = []
    for left, top, across, down in _ADAM7:
        columns = len(range(left, width, across))
        if columns:
            rows += [1 + (columns * bits + 7) // 8] * len(range(top, height, down))
    return tuple(rows)


def early_png(packed: Iterable[memoryview], rows: tuple[int, ...], interlaced: bool) -> str:
    """Why a PNG is not whole, from counting how many bytes of its rows are there; empty if all are."""
    whole = unpacked = sum(rows)
    unpacker = zlib.decompressobj()
    with contextlib.suppress(zlib.error):
        for piece in packed:
            for start in range(0, len(piece), 65_536):
                rest: bytes | memoryview = piece[start : start + 65_536]
                while rest and unpacked > 0:
                    unpacked -= len(unpacker.decompress(rest, 1 << 20))
                    rest = unpacker.unconsumed_tail
                if unpacked <= 0:
                    return ""
                if unpacker.eof:
                    break
            if unpacker.eof:
                break
    there = int(np.searchsorted(np.cumsum(rows), whole - unpacked, side="right"))
    return f"the PNG ends early ({there} of {len(rows)} rows{' of all passes' if interlaced else ''})"


class _Text(NamedTuple):
    """A text of a PNG, and how many bytes of it were packed."""

    keyword: bytes
    content: bytes
    unpacked: int


_RAW_EXIF: Final = b"Raw profile type exif"
"""How ImageMagick wrote Exif before PNG had a chunk for it: as hexadecimal digits, behind three lines."""
_XMP_IN_PNG: Final = b"XML:com.adobe.xmp"


def _unpacked_text(kind: bytes, body: memoryview, path: str) -> _Text:
    """A few kilobytes of zipped text may unpack to gigabytes. We drop most text, but say what the file is; and how long
    it is.
    """
    keyword = bytes(body[:80]).partition(b"\0")[0]
    start = len(keyword) + 1
    if kind == b"tEXt":
        return _Text(keyword, bytes(body[start : start + MAX_TEXT_BYTES]) if keyword == _RAW_EXIF else b"", 0)
    if kind not in (b"zTXt", b"iTXt", b"iCCP"):
        return _Text(b"", b"", 0)
    packed, start = True, start + 1
    if kind == b"iTXt":
        head = bytes(body[:400])
        packed = head[start - 1 : start] == b"\1"
        start = head.find(b"\0", head.find(b"\0", start + 1) + 1) + 1
    if not packed:
        return _Text(keyword, bytes(body[start : start + MAX_TEXT_BYTES]) if keyword == _XMP_IN_PNG else b"", 0)
    content = b""
    with contextlib.suppress(zlib.error):
        content = zlib.decompressobj().decompress(body[start:], MAX_TEXT_BYTES + 1)
    if len(content) > MAX_TEXT_BYTES:
        raise bad_image(
            path,
            f"the PNG's {kind.decode()} text unpacks to more than {size_text(MAX_TEXT_BYTES)}",
            "image-over-limit",
        )
    return _Text(keyword, content, len(content))


def _from_hexadecimal(text: bytes) -> bytes:
    with contextlib.suppress(ValueError):
        return bytes.fromhex(b"".join(text.split(b"\n")[3:]).decode("latin-1"))
    return b""


# --- GIF --------------------------------------------------------------------------------------------------------------


def _parse_gif(data: bytes, path: str) -> Picture:
    """Keep the screen, its palette and the first frame; comments and further frames are cut away."""
    width, height, flags = struct.unpack_from("<HHB", data, 6)
    position = 13 + (3 << ((flags & 7) + 1) if flags & 0x80 else 0)
    screen, control = data[:position], b""
    metadata, extensions, blocks = 0, 0, 0
    while True:
        introducer = data[position]
        if introducer == 0x3B:
            raise bad_image(path, "the GIF has a header but no picture")
        if introducer == 0x21:
            end, count = _gif_blocks(data, position + 2, MAX_SUB_BLOCKS - blocks, path)
            if data[position + 1] == 0xF9:
                control = data[position:end] if end - position < 100 else control  # the last one is the frame's
            metadata += end - position
            _check_metadata(metadata, path)
            blocks += count
            extensions += 1
            _check_count(extensions, MAX_SEGMENTS, "the GIF's blocks before its picture are", path)
        elif introducer == 0x2C:
            left, top, frame_width, frame_height, frame_flags = struct.unpack_from("<HHHHB", data, position + 1)
            width, height = max(width, left + frame_width), max(height, top + frame_height)
            check_size(width, height, path)
            start = position + 10 + (3 << ((frame_flags & 7) + 1) if frame_flags & 0x80 else 0)
            try:
                end, _ = _gif_blocks(data, start + 1, MAX_SUB_BLOCKS - blocks, path)
            except IndexError:
                raise bad_image(path, "the GIF ends early, within its first frame") from None
            # At worst each pixel is a code of 12 bits, and a code to clear the table comes with each.
            if end - start > 4 * frame_width * frame_height + 65_536:
                raise bad_image(
                    path,
                    f"the GIF's first frame has {size_text(end - start)} for {frame_width} x {frame_height} pixels",
                    "image-over-limit",
                )
            kept = b"".join((screen, control, data[position:end], b"\x3b"))
            return Picture("GIF", width, height, kept, extra_bytes=len(kept))
        else:
            raise bad_image(path, "the GIF is damaged before its first frame")
        position = end


def _gif_blocks(data: bytes, position: int, most: int, path: str) -> tuple[int, int]:
    """The position after a chain of sub-blocks, and how many there are."""
    count = 0
    while size := data[position]:
        position += 1 + size
        count += 1
        if count > most:
            raise bad_image(path, f"the GIF's sub-blocks are more than {MAX_SUB_BLOCKS:,}", "image-over-limit")
    return position + 1, count


# --- WEBP -------------------------------------------------------------------------------------------------------------

_WEBP_KEPT: Final = frozenset({b"VP8X", b"ANIM", b"ANMF", b"ALPH", b"VP8 ", b"VP8L"})


def _parse_webp(data: bytes, path: str) -> Picture:
    """Keep the first picture and what it needs; libwebp makes an entry for each chunk it is given."""
    (riff,) = struct.unpack_from("<I", data, 4)
    if riff + 8 > len(data):
        raise bad_image(path, f"the WEBP ends early ({size_text(len(data))} of {size_text(riff + 8)})")
    position, metadata, chunks = 12, 0, 0
    said: dict[bytes, bytes] = {}
    size: tuple[int, int] | None = None
    kept: dict[bytes, memoryview] = {}
    view = memoryview(data)
    while position + 8 <= riff + 8:
        kind = data[position : position + 4]
        (length,) = struct.unpack_from("<I", data, position + 4)
        body = position + 8
        end = body + length + (length & 1)
        if body + length > riff + 8:
            raise bad_image(path, f"the WEBP ends early ({size_text(riff + 8)} of {size_text(body + length)})")
        chunks += 1
        if chunks > MAX_SEGMENTS and b"ANMF" not in kept:
            raise bad_image(path, f"the WEBP's chunks are more than {MAX_SEGMENTS:,}", "image-over-limit")
        if kind == b"VP8X":
            wide, high = data[body + 4 : body + 7], data[body + 7 : body + 10]
            size = size or (int.from_bytes(wide, "little") + 1, int.from_bytes(high, "little") + 1)
        elif kind == b"VP8 " and size is None:
            wide_high = struct.unpack_from("<HH", data, body + 6)
            size = (wide_high[0] & 0x3FFF, wide_high[1] & 0x3FFF)
        elif kind == b"VP8L" and size is None:
            (bits,) = struct.unpack_from("<I", data, body + 1)
            size = ((bits & 0x3FFF) + 1, ((bits >> 14) & 0x3FFF) + 1)
        elif kind in (b"EXIF", b"ICCP", b"XMP "):
            metadata += length
            _check_metadata(metadata, path)
            if kind != b"ICCP":
                said.setdefault(kind, data[body : body + length])
        if kind in _WEBP_KEPT and kind not in kept:
            kept[kind] = view[position:end]
        position = end
        if chunks > MAX_CHUNKS:
            break  # the frames of an animation; its first one is kept already
    if size is None:
        raise bad_image(path, "the WEBP has a header but no picture")
    check_size(*size, path)
    body_ = b"".join(kept.values())
    picture = b"RIFF" + struct.pack("<I", 4 + len(body_)) + b"WEBP" + body_
    # libwebp holds two canvases for animations, and of a lossless picture its own pixels; Pillow takes a copy of one.
    canvases = 4 if b"VP8L" in kept or b"ANMF" in kept else 3
    return Picture(
        "WEBP",
        *size,
        picture,
        orientation=orientation_of(said.get(b"EXIF", b""), said.get(b"XMP ", b"")),
        extra_bytes=canvases * 4 * size[0] * size[1] + 2 * len(picture),
    )


# --- BMP --------------------------------------------------------------------------------------------------------------


def _parse_bmp(data: bytes, path: str) -> Picture:
    (start,) = struct.unpack_from("<I", data, 10)
    if data[14:18] == _BMP_HEADERS[0]:
        width, height, _, bits = struct.unpack_from("<HHHH", data, 18)
        coding = 0
    else:
        width, height, _, bits, coding = struct.unpack_from("<iiHHI", data, 18)
    width, height = abs(width), abs(height)
    check_size(width, height, path)
    extra = 0
    if coding in (1, 2):  # run lengths
        if width * height > MAX_RLE_PIXELS:
            raise bad_image(
                path,
                f"{width} x {height} are {width * height / 1e6:.0f} million pixels; "
                f"of a run-length coded BMP {MAX_RLE_PIXELS // 1_000_000} are read",
                "image-over-limit",
                _ANEW,
            )
        extra = 3 * width * height
    elif coding in (0, 3):
        row = (width * bits + 31) // 32 * 4
        rows = max(0, len(data) - start) // row if row else 0
        if rows < height:
            raise bad_image(path, f"the BMP ends early ({rows} of {height} rows)")
    return Picture("BMP", width, height, data, extra_bytes=extra)


# --- TIFF -------------------------------------------------------------------------------------------------------------

_TIFF_TYPE_BYTES: Final = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8}
_TIFF_READ: Final = {
    1: "plain",
    2: "CCITT",
    3: "CCITT",
    4: "CCITT",
    5: "LZW",
    8: "deflate",
    32946: "deflate",
    32773: "PackBits",
}


def _parse_tiff(data: bytes, path: str) -> Picture:
    if data[2:4] in (b"+\0", b"\0+"):
        raise bad_image(path, "is a BigTIFF, which is not read", "image-foreign", _ANEW)
    _check_tiff_tags(data, path)
    tags = _tiff_tags(data)
    bands, width, height = tags.get(277, 1), tags.get(256, 0), tags.get(257, 0)
    if bands > 4:
        raise bad_image(
            path,
            f"has {bands} channels; pictures of 1, 3 or 4 are read",
            "image-foreign",
            "give such data as an array (.npy)",
        )
    check_size(width, height, path)
    if tags.get(259, 1) not in _TIFF_READ:
        raise bad_image(path, f"is a TIFF of compression {tags.get(259)}, which is not read", "image-foreign", _ANEW)
    rows = min(tags.get(278, height) or height, height)
    across, down = tags.get(322, width), tags.get(323, rows)
    if across < 1 or down < 1:
        raise bad_image(path, "the TIFF's header is damaged")
    parts = -(-width // across) * -(-height // down) * (bands if tags.get(284, 1) == 2 else 1)
    _check_count(parts, MAX_TIFF_PARTS, "the TIFF's strips or tiles are", path)
    there = _tiff_counts(data).get(324 if 322 in tags else 273, 0)
    if there < parts:
        raise bad_image(path, f"the TIFF ends early ({there} of {parts} {'tiles' if 322 in tags else 'strips'})")
    if valid_orientation(tags.get(274, 1)) >= 5:  # Pillow turns a TIFF itself, and only a TIFF
        width, height = height, width
    return Picture(
        "TIFF",
        width,
        height,
        data,
        grey=tags.get(262, 2) in (0, 1),
        deep=bands == 1 and tags.get(258, 1) > 8,
        # libtiff unpacks a strip or tile of up to 16 bits a channel beside the pixels.
        extra_bytes=2 * bands * across * down if tags.get(259, 1) != 1 else 0,
    )


def _check_tiff_tags(data: bytes, path: str) -> None:
    """Pillow reads the values of all tags, each of which may point to the whole file."""
    total = sum(entry.number * _TIFF_TYPE_BYTES.get(entry.kind, 1) for entry in tiff_entries(data, 65_536))
    _check_metadata(total, path)


def _tiff_counts(data: bytes) -> dict[int, int]:
    """How many values each tag of the first directory has."""
    return {entry.tag: entry.number for entry in tiff_entries(data, 65_536)}


def _parse_heif(data: bytes, path: str) -> Picture:
    format_ = container_of(data)
    try:
        found = read_container(data, format_)
    except Refused as refused:
        own = refused.reason.startswith(("is ", "the "))
        reason = refused.reason if own else f"the {format_} {refused.reason}"
        raise bad_image(path, reason, refused.code, refused.hint) from None
    _check_metadata(found.metadata, path)
    for sides in found.sides:
        check_size(*sides, path)
    width, height, orientation = found.width, found.height, found.orientation
    if format_ == "HEIC":  # its library turns it
        width, height = (height, width) if orientation >= 5 else (width, height)
        orientation = 1
    # The decoder's planes, at most 4:2:0 of 8 bits or 4:4:4 of 16, and the pixels made of them.
    extra = (10 if found.deep else 5) * max(wide * high for wide, high in found.sides)
    return Picture(format_, width, height, found.data, orientation=orientation, grey=found.grey, extra_bytes=extra)


_PARSERS: Final = {
    **dict.fromkeys(CONTAINERS, _parse_heif),
    "JPEG": _parse_jpeg,
    "PNG": _parse_png,
    "GIF": _parse_gif,
    "WEBP": _parse_webp,
    "BMP": _parse_bmp,
    "TIFF": _parse_tiff,
}


def _tiff_tags(data: bytes) -> dict[int, int]:
    """Whole-number tags of the first directory: tag to its value. Stops quietly where the bytes end."""
    entries = (entry for entry in tiff_entries(data, 1000) if entry.kind in (3, 4) and entry.number == 1)
    return {entry.tag: entry.value or 0 for entry in entries}
