"""Pictures made to cost time or memory, and half ones that look whole; run as a program, a child process that decodes them.

Each is a function of its kind and a number, so that one of them can be looked at again:

    python -m tests.support.hostile jpeg-scans 3
"""

import functools
import os
import struct
import sys
import time
import traceback
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
from PIL import Image

from convoscope.data import InputFormat, open_image
from convoscope.errors import DataError
from tests.support.pictures import chunk, colourful, encoded, exif, jpeg, with_segment

MEMORY_BYTES = 300_000_000
"""What one picture may take, beyond what the process has before; its file is read within."""
CPU_SECONDS = 2.0
FORM = InputFormat(height=24, width=32, channels=3, resize="stretch")

Random = np.random.Generator
Maker = Callable[[Random], bytes]

REFUSED: dict[str, Maker] = {}
"""Kinds that no reader can make sense of, or not at a bearable price."""
READ: dict[str, tuple[Maker, Callable[[], bytes]]] = {}
"""Kinds that are as good as another, plain picture."""


def _refused(make: Maker) -> Maker:
    REFUSED[make.__name__.replace("_", "-")] = make
    return make


def _read_as(plain: Callable[[], bytes]) -> Callable[[Maker], Maker]:
    def add(make: Maker) -> Maker:
        READ[make.__name__.replace("_", "-")] = (make, plain)
        return make

    return add


def _some(random: Random, *numbers: int) -> int:
    return int(random.choice(numbers))


# --- JPEG --------------------------------------------------------------------------------------------------------------


def _segment(marker: int, body: bytes = b"") -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body


def _bits(text: str) -> bytes:
    text += "1" * (-len(text) % 8)
    return int(text, 2).to_bytes(len(text) // 8, "big").replace(b"\xff", b"\xff\0")


def scans(width: int, height: int, count: int, approximation: int = 0, last: int = 63) -> bytes:
    """A grey progressive JPEG, made by hand, of one scan of first coefficients and `count` scans of the others that say nothing."""
    blocks = -(-width // 8) * -(-height // 8)
    head = _segment(0xDB, b"\0" + b"\x10" * 64) + _segment(
        0xC2, struct.pack(">BHHB3s", 8, height, width, 1, b"\1\x11\0")
    )
    # Code 0 is a difference of nothing, and in the other table the end of up to 32,767 blocks at once.
    head += _segment(0xC4, b"\x00\x01" + bytes(15) + b"\0") + _segment(0xC4, b"\x10\x01" + bytes(15) + b"\xe0")
    first = _segment(0xDA, b"\1\1\0\0\0\0") + _bits("0" * blocks)
    nothing = _bits(("0" + "1" * 14) * -(-blocks // 32_767))
    each = _segment(0xDA, b"\1\1\0\1" + bytes([last, approximation])) + nothing
    return b"\xff\xd8" + head + first + each * count + b"\xff\xd9"


@_refused
def jpeg_scans(random: Random) -> bytes:
    return scans(_some(random, 8, 200, 1000), 200, _some(random, 1_001, 5_000, 20_000))


@_refused
def jpeg_refining_scans(random: Random) -> bytes:
    return scans(8_000, 6_000, _some(random, 40, 100, 900), 0x10)


@_refused
def jpeg_empty_tables(random: Random) -> bytes:
    return jpeg()[:2] + b"\xff\xc4\0\2" * _some(random, 1_000_000, 10_000_000) + jpeg()[2:]


@_refused
def jpeg_large_tables(random: Random) -> bytes:
    table = _segment(0xDB, (b"\0" + b"\x10" * 64) * 1_000)
    return jpeg()[:2] + table * _some(random, 20, 800) + jpeg()[2:]


@_refused
def jpeg_comments(random: Random) -> bytes:
    return jpeg()[:2] + b"\xff\xfe\0\2" * _some(random, 100_000, 10_000_000) + jpeg()[2:]


@_refused
def jpeg_comments_between_scans(random: Random) -> bytes:
    data = jpeg(progressive=True)
    place = data.rindex(b"\xff\xc4")
    return data[:place] + b"\xff\xfe\0\2" * _some(random, 100_000, 10_000_000) + data[place:]


@_read_as(jpeg)
def jpeg_fill_bytes(random: Random) -> bytes:
    place = jpeg().index(b"\xff\xdb")
    return jpeg()[:place] + b"\xff" * _some(random, 1_000_000, 100_000_000) + jpeg()[place:]


@_read_as(jpeg)
def jpeg_fill_bytes_at_the_end(random: Random) -> bytes:
    return jpeg()[:-2] + b"\xff" * _some(random, 1_000_000, 50_000_000) + b"\xd9"


@_refused
def jpeg_restart_markers(random: Random) -> bytes:
    start = jpeg().index(b"\xff\xda")
    return jpeg()[: start + 14] + b"\xff\xd0" * _some(random, 1_000_000, 20_000_000) + b"\xff\xd9"


@_refused
def jpeg_stuffing(random: Random) -> bytes:
    start = jpeg().index(b"\xff\xda")
    twice = bytearray(jpeg()[: start + 14])
    frame = twice.index(b"\xff\xc0") + 5
    twice[frame : frame + 4] = struct.pack(">HH", 5_000, 9_000)
    return bytes(twice) + b"\xff\0" * _some(random, 1_000_000, 60_000_000) + b"\xff\xd9"


def _cut(data: bytes, random: Random) -> bytes:
    """With an end marker behind a cut somewhere in the compressed pixels."""
    first = data.index(b"\xff\xda") + 14
    place = int(random.integers(first + (len(data) - first) // 10, len(data) - (len(data) - first) // 10))
    return data[:place].rstrip(b"\xff") + b"\xff\xd9"


@_refused
def jpeg_cut(random: Random) -> bytes:
    kinds: tuple[dict[str, Any], ...] = (
        {},
        {"subsampling": 0},
        {"progressive": True},
        {"restart_marker_rows": 1},
        {"optimize": True},
    )
    return _cut(jpeg(200, 300, **kinds[_some(random, *range(len(kinds)))]), random)


@_refused
def jpeg_of_twice_the_height(random: Random) -> bytes:
    data = bytearray(jpeg(200, 300, progressive=bool(random.integers(2))))
    place = data.index(b"\xff\xc2" if b"\xff\xc2" in data else b"\xff\xc0") + 5
    data[place : place + 2] = struct.pack(">H", _some(random, 232, 400, 1_000))
    return bytes(data)


@_refused
def jpeg_without_its_middle(random: Random) -> bytes:
    data = jpeg(400, 300, restart_marker_rows=1)
    first, second = data.index(b"\xff\xd2"), data.index(b"\xff\xd4")
    return data[:first] + data[second:]


@_refused
def jpeg_of_another_kind(random: Random) -> bytes:
    data = bytearray(jpeg())
    place = data.index(b"\xff\xc0")
    if random.integers(2):
        data[place + 1] = _some(random, 0xC3, 0xC5, 0xC6, 0xC7, 0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF)
    else:
        data[place + 4] = _some(random, 2, 12, 16)
    return bytes(data)


@_refused
def jpeg_of_two_sizes(random: Random) -> bytes:
    place = jpeg().index(b"\xff\xc0")
    return jpeg()[:place] + jpeg()[place : place + 19] + jpeg()[place:]


@functools.cache
def _grey(width: int, height: int, format_: str) -> bytes:
    return encoded(Image.new("L", (width, height), 128), format_)


@_read_as(lambda: _grey(8, 8, "JPEG"))
def jpeg_of_48_million_pixels(random: Random) -> bytes:
    data = _grey(8_000, 6_000, "JPEG")
    return data if random.integers(2) else data[:-2]


@_read_as(lambda: _grey(8, 8, "JPEG"))
def jpeg_of_a_hundred_scans(random: Random) -> bytes:
    return scans(1_000, 1_000, 100)


@_read_as(jpeg)
def jpeg_with_an_endless_directory(random: Random) -> bytes:
    directory = b"II*\0\x08\0\0\0\xff\xff" + struct.pack("<HHII", 0x8769, 4, 1, 8) * 4_000
    return with_segment(jpeg(), 0xE1, b"Exif\0\0" + directory)


@_read_as(jpeg)
def jpeg_of_a_phone(random: Random) -> bytes:
    """With a profile in many pieces, a depth map, and a second picture behind the first."""
    data = jpeg()
    for number in range(200):
        data = with_segment(data, 0xE2, b"ICC_PROFILE\0" + bytes([number, 200]) + random.bytes(60_000))
    return with_segment(data, 0xE1, exif(1)) + jpeg(300, 300) + random.bytes(100_000)


# --- PNG ---------------------------------------------------------------------------------------------------------------


@functools.cache
def _zeros(count: int) -> bytes:
    """Zeros by the million as zlib packs them, quickly made."""
    packer = zlib.compressobj(9)
    million = packer.compress(bytes(1_000_000)) + packer.flush(zlib.Z_FULL_FLUSH)
    packer = zlib.compressobj(9, wbits=-15)
    again = packer.compress(bytes(1_000_000)) + packer.flush(zlib.Z_FULL_FLUSH)
    return million + again * (count // 1_000_000) + b"\3\0" + bytes(4)


def _png(
    width: int, height: int, depth: int, colour: int, packed: bytes, interlaced: int = 0, before: bytes = b""
) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlaced)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + before + chunk(b"IDAT", packed) + chunk(b"IEND", b"")


@functools.cache
def _plain() -> bytes:
    return encoded(colourful())


@functools.cache
def _packed_rows() -> bytes:
    rows = np.concatenate((np.zeros((48, 1), np.uint8), colourful().reshape(48, -1)), axis=1)
    return rows.tobytes()


def _with_chunks(chunks: bytes) -> bytes:
    return _plain()[:33] + chunks + _plain()[33:]


@_refused
def png_texts(random: Random) -> bytes:
    kind = (b"zTXt", b"iTXt", b"iCCP")[_some(random, 0, 1, 2)]
    packed = zlib.compress(bytes(900_000))
    text = chunk(kind, b"key\0\1\0\0\0" + packed if kind == b"iTXt" else b"key\0\0" + packed)
    return _with_chunks(text * _some(random, 10, 30_000))


@_read_as(_plain)
def png_texts_of_a_program(random: Random) -> bytes:
    """As programs write them that keep how a picture was made: some large, many small, packed and plain."""
    plain = chunk(b"tEXt", b"workflow\0" + b'{"nodes": [1, 2, 3]}' * 100_000)
    packed = chunk(b"zTXt", b"Raw profile type xmp\0\0" + zlib.compress(b"0123456789abcdef\n" * 20_000))
    return _with_chunks(plain + packed + chunk(b"tEXt", b"date:create\0today") * 200)


@_refused
def png_empty_chunks(random: Random) -> bytes:
    return _with_chunks(chunk(b"abCd", b"") * _some(random, 100_001, 3_000_000))


@_read_as(_plain)
def png_in_crumbs(random: Random) -> bytes:
    packed = zlib.compress(_packed_rows())
    pieces = b"".join(chunk(b"IDAT", packed[place : place + 1]) for place in range(len(packed)))
    return _plain()[:33] + pieces + chunk(b"IDAT", b"") * 80_000 + chunk(b"IEND", b"")


@_refused
def png_half(random: Random) -> bytes:
    rows = _packed_rows()
    half = zlib.compress(rows[: len(rows) // 48 * int(random.integers(1, 48))])
    return _png(64, 48, 8, 2, half + random.bytes(_some(random, 0, 3, 500)))


@_refused
def png_half_interlaced(random: Random) -> bytes:
    return _png(64, 48, 8, 2, zlib.compress(bytes(_some(random, 100, 3_000, 9_300))), 1)


@_refused
def png_without_palette(random: Random) -> bytes:
    return _png(8, 8, _some(random, 1, 2, 4, 8), 3, zlib.compress(bytes(72)))


@_read_as(lambda: encoded(Image.new("RGB", (4, 4))))
def png_of_50_million_pixels(random: Random) -> bytes:
    depth, colour, interlaced = ((8, 2, 0), (8, 0, 0), (16, 0, 0), (8, 2, 1), (1, 0, 1))[_some(random, *range(5))]
    return _png(8_660, 5_770, depth, colour, _zeros(160_000_000), interlaced)


@_read_as(lambda: encoded(Image.new("RGB", (4, 4), (255, 255, 255))))
def png_of_50_million_transparent_pixels(random: Random) -> bytes:
    return _png(8_660, 5_770, 8, _some(random, 4, 6), _zeros(201_000_000))


@_refused
def png_of_wide_pixels(random: Random) -> bytes:
    return _png(8_660, 5_770, 16, _some(random, 2, 6), _zeros(10_000_000))


@_read_as(_plain)
def png_of_many_frames(random: Random) -> bytes:
    frame = chunk(b"fcTL", bytes(26)) + chunk(b"fdAT", bytes(100))
    return _plain()[:-12] + frame * _some(random, 1_000, 40_000) + _plain()[-12:]


# --- GIF ---------------------------------------------------------------------------------------------------------------


@functools.cache
def _gif() -> bytes:
    return encoded(Image.fromarray(colourful()).quantize(16), "GIF")


def _gif_with(blocks: bytes) -> bytes:
    place = _gif().index(b"\x2c\0\0\0\0")
    return _gif()[:place] + blocks + _gif()[place:]


@_refused
def gif_blocks(random: Random) -> bytes:
    return _gif_with(b"\x21\xfe\1x\0" * _some(random, 10_001, 8_000_000))


@_refused
def gif_controls(random: Random) -> bytes:
    return _gif_with(b"\x21\xf9\4\0\0\0\0\0" * _some(random, 10_001, 5_000_000))


@_refused
def gif_sub_blocks(random: Random) -> bytes:
    return _gif_with(b"\x21\xfe" + b"\1x" * _some(random, 1_100_000, 15_000_000) + b"\0")


@_refused
def gif_sub_blocks_of_the_frame(random: Random) -> bytes:
    screen = b"GIF89a" + struct.pack("<HHBBB", 7_000, 7_000, 0x80, 0, 0) + bytes(6)
    frame = b"\x2c" + struct.pack("<HHHHB", 0, 0, 7_000, 7_000, 0) + b"\2"
    return screen + frame + b"\1\x24" * _some(random, 1_100_000, 20_000_000) + b"\0\x3b"


@_refused
def gif_of_cleared_tables(random: Random) -> bytes:
    screen = b"GIF89a" + struct.pack("<HHBBB", 64, 48, 0x80, 0, 0) + bytes(6)
    frame = b"\x2c" + struct.pack("<HHHHB", 0, 0, 64, 48, 0) + b"\2"
    return screen + frame + (b"\xff" + b"\x24\x49\x92" * 85) * _some(random, 1_000, 200_000) + b"\0\x3b"


@_refused
def gif_half(random: Random) -> bytes:
    """One that says the end of the pixels before the last of them, all of it well formed."""
    rows = int(random.integers(1, 47))
    half = encoded(Image.fromarray(colourful()[:rows]).quantize(16), "GIF")
    place = half.index(b"\x2c\0\0\0\0")
    return half[:8] + struct.pack("<H", 48) + half[10 : place + 7] + struct.pack("<H", 48) + half[place + 9 :]


@_read_as(lambda: encoded(Image.new("P", (4, 4)), "GIF"))
def gif_of_49_million_pixels(random: Random) -> bytes:
    return _flat_gif()


@functools.cache
def _flat_gif() -> bytes:
    return encoded(Image.new("P", (7_000, 7_000)), "GIF")


# --- WEBP --------------------------------------------------------------------------------------------------------------


@functools.cache
def _webp(lossless: bool = False) -> bytes:
    return encoded(colourful(200, 300), "WEBP", lossless=lossless)


def _riff(body: bytes) -> bytes:
    return b"RIFF" + struct.pack("<I", len(body) + 4) + b"WEBP" + body


@_refused
def webp_empty_chunks(random: Random) -> bytes:
    return _riff(b"JUNK\0\0\0\0" * _some(random, 10_001, 5_000_000) + _webp()[12:])


@_refused
def webp_half(random: Random) -> bytes:
    """Cut in its pixels, with the lengths that stand before them made right."""
    data = _webp(bool(random.integers(2)))
    body = data[20 : 20 + 2 * int(random.integers(len(data) // 20, len(data) // 3))]
    return _riff(data[12:16] + struct.pack("<I", len(body)) + body)


@functools.cache
def _webp_bomb() -> bytes:
    return encoded(Image.new("RGB", (16_383, 3_000)), "WEBP", lossless=True, method=0)


@_refused
def webp_of_49_million_pixels(random: Random) -> bytes:
    return _webp_bomb()


@_read_as(lambda: encoded(Image.new("RGB", (4, 4), (9, 99, 199)), "WEBP", lossless=True))
def webp_of_12_million_pixels(random: Random) -> bytes:
    return _large_webp()


@functools.cache
def _large_webp() -> bytes:
    return encoded(Image.new("RGB", (4_000, 3_000), (9, 99, 199)), "WEBP", lossless=True, method=0)


@functools.cache
def _moving() -> bytes:
    frames = [Image.fromarray(colourful(seed=seed)) for seed in (0, 1)]
    return encoded(frames[0], "WEBP", save_all=True, append_images=frames[1:], lossless=True)


@_read_as(_plain)
def webp_of_many_frames(random: Random) -> bytes:
    data = _moving()
    last = data[data.rindex(b"ANMF") :]
    return _riff(data[12:] + last * _some(random, 1_000, 10_000))


# --- BMP ---------------------------------------------------------------------------------------------------------------


def _bmp(width: int, height: int, bits: int, coding: int, body: bytes, colours: int = 0) -> bytes:
    palette = bytes(range(256)) * (colours // 64)
    start = 54 + len(palette)
    head = struct.pack("<IHHI", start + len(body), 0, 0, start)
    info = struct.pack("<IiiHHIIiiII", 40, width, height, 1, bits, coding, len(body), 0, 0, colours, 0)
    return b"BM" + head + info + palette + body


@_refused
def bmp_half(random: Random) -> bytes:
    return _bmp(100, int(random.choice([100, -100])), 24, 0, bytes(300 * int(random.integers(0, 100))))


@_refused
def bmp_of_run_lengths(random: Random) -> bytes:
    return _bmp(7_000, 7_000, 8, 1, b"\1\5\0\0" * _some(random, 7_000, 10_000_000) + b"\0\1", 256)


@_refused
def bmp_of_run_lengths_half(random: Random) -> bytes:
    return _bmp(200, 200, 8, 1, (b"\xc8\5\0\0") * int(random.integers(0, 199)) + b"\0\1", 256)


@_read_as(lambda: _bmp(4, 4, 8, 1, b"\4\5\0\0" * 4 + b"\0\1", 256))
def bmp_of_long_rows_of_run_lengths(random: Random) -> bytes:
    return _bmp(20_000, 100, 8, 1, (b"\xff\5" * 78 + b"\x6e\5\0\0") * 100 + b"\0\1", 256)


# --- TIFF --------------------------------------------------------------------------------------------------------------


def _tiff(tags: list[tuple[int, int, int, int]], body: bytes) -> bytes:
    entries = b"".join(struct.pack("<HHII", *tag) for tag in tags)
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + struct.pack("<I", 8) + body


def _tiff_of(width: int, height: int, more: list[tuple[int, int, int, int]], body: bytes) -> bytes:
    tags = [(256, 3, 1, width), (257, 3, 1, height), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1), (277, 3, 1, 1)]
    return _tiff(tags + more, body)


@_refused
def tiff_of_huge_tags(random: Random) -> bytes:
    huge = [(40_000 + number, 1, 50_000_000, 0) for number in range(_some(random, 10, 20_000))]
    return _tiff_of(8, 8, [(273, 4, 1, 8), (278, 3, 1, 8), (279, 4, 1, 64), *huge], bytes(51_000_000))


@_refused
def tiff_of_half_its_strips(random: Random) -> bytes:
    return _tiff_of(8, 64, [(273, 4, 1, 8), (278, 3, 1, _some(random, 1, 8, 32)), (279, 4, 1, 256)], bytes(4_000))


@_refused
def tiff_of_tiny_tiles(random: Random) -> bytes:
    return _tiff_of(5_000, 5_000, [(322, 3, 1, 1), (323, 3, 1, 1), (324, 4, 4_000_000, 8), (325, 4, 4_000_000, 8)], b"")


@_refused
def tiff_half(random: Random) -> bytes:
    packed = ("raw", "tiff_lzw", "tiff_deflate", "packbits")[_some(random, 0, 1, 2, 3)]
    data = encoded(np.random.default_rng(0).integers(0, 256, (100, 100, 3), dtype=np.uint8), "TIFF", compression=packed)
    head = struct.unpack_from("<I", data, 4)[0]
    if head > len(data) // 2:  # the directory stands behind the pixels: blank half of these instead
        return data[: head // 2] + bytes(head - head // 2) + data[head:] if packed != "raw" else data[: head // 2]
    return data[: len(data) // 2]


# --- looking at them ---------------------------------------------------------------------------------------------------


def hostile(kind: str, number: int) -> bytes:
    """The picture of that kind and number."""
    make = REFUSED[kind] if kind in REFUSED else READ[kind][0]
    return make(np.random.default_rng([zlib.crc32(kind.encode()), number]))


def peak() -> int:
    """The most memory this process had since `forget_peak`, in bytes."""
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith("VmHWM"))


def forget_peak() -> None:
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")


def look(kind: str, number: int, path: str) -> str:
    """What is wrong with how the picture is taken; nothing if it is as promised."""
    with open(path, "wb") as file:
        file.write(hostile(kind, number))
    forget_peak()
    before, begin = peak(), time.process_time()
    reason, pixels = "", None
    try:
        pixels = open_image(path, FORM, tiff=True)
    except DataError as error:
        reason = error.reason
    except BaseException:
        return traceback.format_exc()
    taken, grown = time.process_time() - begin, peak() - before
    fault = ""
    if taken > CPU_SECONDS:
        fault += f"{taken:.1f} seconds of the processor; "
    if grown > MEMORY_BYTES:
        fault += f"{grown / 1e6:.0f} MB; "
    if kind in REFUSED:
        if pixels is not None:
            fault += "was read"
        elif "0x" in reason or not reason.isprintable():
            fault += f"a reason that is not plain: {reason!r}"
    elif pixels is None:
        fault += f"was refused: {reason}"
    elif np.abs(pixels.astype(int) - open_image(READ[kind][1](), FORM)).max() > 3:
        fault += "other pixels"
    if __name__ == "__main__" and len(sys.argv) == 3:
        print(f"{taken:.2f} s, {grown / 1e6:.0f} MB, {reason or 'read'}")
    return fault


def child(kinds: list[str], numbers: range, path: str) -> None:
    """Look at pictures of these kinds and say on standard output which is next, and what is wrong with it."""
    for format_ in (
        "JPEG",
        "PNG",
        "GIF",
        "WEBP",
        "BMP",
        "TIFF",
    ):  # Pillow loads its decoders when they are first needed
        open_image(encoded(colourful(), format_), FORM, tiff=True)
    for kind in kinds:
        for number in numbers:
            os.write(1, f"next {kind} {number}\n".encode())
            fault = look(kind, number, path)
            if fault:
                os.write(1, f"fault {kind} {number}: {fault!r}\n".encode())


if __name__ == "__main__":
    sys.exit(look(sys.argv[1], int(sys.argv[2]), "hostile.bin"))
