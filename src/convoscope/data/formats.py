"""Which format a picture has by its first bytes, how large it is, and what of it Pillow needs to see.

Sizes are checked and metadata (text, profiles, previews, further frames) is cut away before any decoder runs. EXIF gives the
orientation, nothing else.
"""

from __future__ import annotations

import contextlib
import os
import struct
import zlib
from dataclasses import dataclass
from typing import Final

from ..errors import DataError, UsageError, printable
from ..files import size_text

MAX_SIDE: Final = 20_000
MAX_FILE_BYTES: Final = 256_000_000
MAX_METADATA_BYTES: Final = 32_000_000
MAX_TEXT_BYTES: Final = 1_000_000
PICTURE_ENDINGS: Final = frozenset({".jpg", ".jpeg", ".jfif", ".jpe", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff"})
FOREIGN_ENDINGS: Final = frozenset(
    {
        ".heic",
        ".heif",
        ".avif",
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
    orientation: int = 1
    grey: bool = False
    inverted_cmyk: bool = False
    ends_early: bool = False


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
_HEIF_BRANDS: Final = {
    **dict.fromkeys((b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1"), "a HEIC picture"),
    **dict.fromkeys((b"avif", b"avis"), "an AVIF picture"),
}


def sniff(data: bytes) -> tuple[str, str]:
    """The format that the first bytes tell: `("JPEG", "")`, or `("", "is a PDF document")` when it is none we read."""
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
        return "", f"is {_HEIF_BRANDS.get(data[8:12], 'a film')}, which is not read"
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
    if foreign:
        raise bad_image(path, foreign, "image-foreign", "JPEG, PNG, WEBP, BMP and GIF are read")
    if not format_:
        raise bad_image(
            path,
            f"is no picture: its {size_text(len(data))} begin like no known format",
            hint="JPEG, PNG, WEBP, BMP and GIF are read",
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


def _parse_jpeg(data: bytes, path: str) -> Picture:
    kept = [b"\xff\xd8"]
    position, metadata = 2, 0
    width = height = components = 0
    orientation = 1
    adobe = False
    while True:
        if position + 4 > len(data) and data[position:] != b"\xff\xd9":
            raise bad_image(path, "the JPEG ends within its header, before any row")
        if data[position] != 0xFF:
            raise bad_image(path, "the JPEG's header is damaged")
        marker = data[position + 1]
        if marker == 0xFF:  # fill byte
            position += 1
            continue
        if marker == 0xDA:
            break
        if marker == 0xD9:
            raise bad_image(path, "the JPEG has a header but no picture")
        if marker in (0x01, *range(0xD0, 0xD8)):
            position += 2
            continue
        (length,) = struct.unpack_from(">H", data, position + 2)
        end = position + 2 + length
        if length < 2 or end > len(data):
            raise bad_image(path, "the JPEG ends within its header, before any row")
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width, components = struct.unpack_from(">HHB", data, position + 5)
        body = position + 4
        if marker == 0xE1 and data.startswith(b"Exif\0\0", body):
            orientation = _orientation(data[body + 6 : end])
        if marker == 0xEE and data.startswith(b"Adobe", body):
            adobe = True
        if marker in (0xE0, 0xEE) or not (0xE0 <= marker <= 0xEF or marker == 0xFE):
            kept.append(data[position:end])
        else:
            metadata += length
            _check_metadata(metadata, path)
        position = end
    if not components:
        raise bad_image(path, "the JPEG says nowhere how large it is")
    # An end marker that is missing, or replaced by the zeros of an unfinished download, is looked into in `_load_jpeg`.
    ends_early = data.rfind(b"\xff\xd9", position) < 0
    rest = data[position:].rstrip(b"\0") if ends_early else data[position:]
    return Picture(
        "JPEG",
        width,
        height,
        b"".join((*kept, rest)),
        orientation=orientation,
        grey=components == 1,
        inverted_cmyk=components == 4 and not adobe,
        ends_early=ends_early,
    )


_PNG_KEPT: Final = frozenset({b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"})


def _parse_png(data: bytes, path: str) -> Picture:
    kept = [data[:8]]
    position, metadata, chunks = 8, 0, 0
    width = height = depth = colour = interlaced = 0
    orientation = 1
    packed: list[bytes] = []
    view = memoryview(data)
    while True:
        length = struct.unpack_from(">I", data, position)[0] if position + 8 <= len(data) else 0
        end = position + 12 + length
        kind = data[position + 4 : position + 8]
        if end > len(data):
            if kind == b"IDAT":
                packed.append(data[position + 8 :])
            rows = _png_rows(packed, width, height, depth, colour) if not interlaced else 0
            raise bad_image(
                path, f"the PNG ends early ({rows} of {height} rows)" if width else "the PNG ends within its header"
            )
        if not width and kind != b"IHDR":
            raise bad_image(path, "the PNG does not begin with its header")
        chunks += 1
        if chunks > 100_000:
            raise bad_image(path, "the PNG is cut into more than 100,000 chunks", "image-over-limit")
        if kind in _PNG_KEPT or kind == b"eXIf":
            if zlib.crc32(view[position + 4 : end - 4]) != struct.unpack_from(">I", data, end - 4)[0]:
                raise bad_image(
                    path, f"the PNG is damaged: the checksum of {printable(kind.decode('latin-1'))} differs"
                )
            if kind == b"IHDR":
                width, height, depth, colour, _, _, interlaced = struct.unpack_from(">IIBBBBB", data, position + 8)
                check_size(width, height, path)
            elif kind == b"IDAT":
                packed.append(data[position + 8 : end - 4])
            elif kind == b"eXIf":
                orientation = _orientation(data[position + 8 : end - 4])
        if kind in _PNG_KEPT:
            kept.append(data[position:end])
        else:
            metadata += length
            _check_metadata(metadata, path)
            _check_packed_text(kind, view[position + 8 : end - 4], path)
        position = end
        if kind == b"IEND":
            break
    if not packed:
        raise bad_image(path, "the PNG has a header but no picture")
    return Picture("PNG", width, height, b"".join(kept), orientation=orientation, grey=colour in (0, 4))


def _check_packed_text(kind: bytes, body: memoryview, path: str) -> None:
    """A few kilobytes of zipped text may unpack to gigabytes. We drop the text, but say what the file is."""
    if kind not in (b"zTXt", b"iTXt", b"iCCP"):
        return
    start = bytes(body[:80]).find(b"\0") + 2
    if kind == b"iTXt":
        head = bytes(body[:400])
        if head[start - 1 : start] != b"\1":
            return
        start = head.find(b"\0", head.find(b"\0", start + 1) + 1) + 1
    with contextlib.suppress(zlib.error):
        if len(zlib.decompressobj().decompress(body[start:], MAX_TEXT_BYTES + 1)) > MAX_TEXT_BYTES:
            raise bad_image(
                path,
                f"the PNG's {kind.decode()} text unpacks to more than {size_text(MAX_TEXT_BYTES)}",
                "image-over-limit",
            )


def _png_rows(packed: list[bytes], width: int, height: int, depth: int, colour: int) -> int:
    """Whole rows that an unfinished PNG still holds."""
    samples = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}.get(colour, 1)
    row_bytes = 1 + (width * samples * depth + 7) // 8
    unpacker, count = zlib.decompressobj(), 0
    with contextlib.suppress(zlib.error):
        for piece in packed:
            while piece:
                count += len(unpacker.decompress(piece, 1 << 20))
                piece = unpacker.unconsumed_tail
                if count >= row_bytes * height:
                    return height
    return count // row_bytes


def _parse_gif(data: bytes, path: str) -> Picture:
    """Keep the screen, its palette and the first frame; comments and further frames are cut away."""
    width, height, flags = struct.unpack_from("<HHB", data, 6)
    position = 13 + (3 << ((flags & 7) + 1) if flags & 0x80 else 0)
    kept = [data[:position]]
    metadata = 0
    while True:
        introducer = data[position]
        if introducer == 0x3B:
            raise bad_image(path, "the GIF has a header but no picture")
        if introducer == 0x21:
            end = _gif_blocks(data, position + 2)
            if data[position + 1] == 0xF9:
                kept.append(data[position:end])
            metadata += end - position
            _check_metadata(metadata, path)
        elif introducer == 0x2C:
            left, top, frame_width, frame_height, frame_flags = struct.unpack_from("<HHHHB", data, position + 1)
            width, height = max(width, left + frame_width), max(height, top + frame_height)
            check_size(width, height, path)
            start = position + 10 + (3 << ((frame_flags & 7) + 1) if frame_flags & 0x80 else 0)
            try:
                end = _gif_blocks(data, start + 1)
            except IndexError:
                raise bad_image(path, "the GIF ends early, within its first frame") from None
            kept.extend((data[position:end], b"\x3b"))
            return Picture("GIF", width, height, b"".join(kept))
        else:
            raise bad_image(path, "the GIF is damaged before its first frame")
        position = end


def _gif_blocks(data: bytes, position: int) -> int:
    """The position after a chain of sub-blocks."""
    while size := data[position]:
        position += 1 + size
    return position + 1


def _parse_webp(data: bytes, path: str) -> Picture:
    (riff,) = struct.unpack_from("<I", data, 4)
    if riff + 8 > len(data):
        raise bad_image(path, f"the WEBP ends early ({size_text(len(data))} of {size_text(riff + 8)})")
    position, metadata, orientation = 12, 0, 1
    size: tuple[int, int] | None = None
    while position + 8 <= riff + 8:
        kind = data[position : position + 4]
        (length,) = struct.unpack_from("<I", data, position + 4)
        body = position + 8
        if kind == b"VP8X":
            wide, high = data[body + 4 : body + 7], data[body + 7 : body + 10]
            size = (int.from_bytes(wide, "little") + 1, int.from_bytes(high, "little") + 1)
        elif kind == b"VP8 " and size is None:
            wide_high = struct.unpack_from("<HH", data, body + 6)
            size = (wide_high[0] & 0x3FFF, wide_high[1] & 0x3FFF)
        elif kind == b"VP8L" and size is None:
            (bits,) = struct.unpack_from("<I", data, body + 1)
            size = ((bits & 0x3FFF) + 1, ((bits >> 14) & 0x3FFF) + 1)
        elif kind in (b"EXIF", b"ICCP", b"XMP "):
            metadata += length
            _check_metadata(metadata, path)
            if kind == b"EXIF":
                orientation = _orientation(data[body : body + length].removeprefix(b"Exif\0\0"))
        position = body + length + (length & 1)
    if size is None:
        raise bad_image(path, "the WEBP has a header but no picture")
    return Picture("WEBP", *size, data, orientation=orientation)


def _parse_bmp(data: bytes, path: str) -> Picture:
    if data[14:18] == _BMP_HEADERS[0]:
        width, height = struct.unpack_from("<HH", data, 18)
    else:
        width, height = struct.unpack_from("<ii", data, 18)
    return Picture("BMP", abs(width), abs(height), data)


def _parse_tiff(data: bytes, path: str) -> Picture:
    tags = _tiff_tags(data)
    bands, width, height = tags.get(277, 1), tags.get(256, 0), tags.get(257, 0)
    if bands > 4:
        raise bad_image(
            path,
            f"has {bands} channels; pictures of 1, 3 or 4 are read",
            "image-foreign",
            "give such data as an array (.npy)",
        )
    return Picture(
        "TIFF", width, height, data, orientation=valid_orientation(tags.get(274, 1)), grey=tags.get(262, 2) in (0, 1)
    )


_PARSERS: Final = {
    "JPEG": _parse_jpeg,
    "PNG": _parse_png,
    "GIF": _parse_gif,
    "WEBP": _parse_webp,
    "BMP": _parse_bmp,
    "TIFF": _parse_tiff,
}


def _tiff_tags(data: bytes) -> dict[int, int]:
    """Whole-number tags of the first directory: tag to its first value. Stops quietly where the bytes end."""
    tags: dict[int, int] = {}
    order = {b"II": "<", b"MM": ">"}.get(data[:2])
    if order is None:
        return tags
    with contextlib.suppress(struct.error):
        (start,) = struct.unpack_from(order + "I", data, 4)
        (count,) = struct.unpack_from(order + "H", data, start)
        for entry in range(start + 2, start + 2 + 12 * min(count, 1000), 12):
            tag, kind, number = struct.unpack_from(order + "HHI", data, entry)
            if kind == 3 and number == 1:
                tags[tag] = struct.unpack_from(order + "H", data, entry + 8)[0]
            elif kind == 4 and number == 1:
                tags[tag] = struct.unpack_from(order + "I", data, entry + 8)[0]
    return tags


def _orientation(exif: bytes) -> int:
    """EXIF orientation 1..8; anything broken or unknown counts as 1, upright."""
    return valid_orientation(_tiff_tags(exif).get(274, 1))


def valid_orientation(value: int) -> int:
    return value if 1 <= value <= 8 else 1
