"""Small pictures of every kind, damaged in countable ways; run as a program, a child process that decodes them under limits.

Each damage is a function of the picture's name and a number, so that one of them can be looked at again:

    python -m tests.support.mutations jpeg-progressive 123
"""

import os
import resource
import signal
import sys
import time
import traceback
import zlib
from collections.abc import Callable

import numpy as np
from PIL import Image

from convoscope.data import InputFormat
from convoscope.data.decode import decode_bytes, read_header
from convoscope.errors import DataError
from tests.support.pictures import chunk, colourful, encoded, exif, jpeg

MEMORY_BYTES = 300_000_000
"""What the decoding of one picture may take, beyond what the process has before."""
CPU_SECONDS = 2.0
"""What it may take of the processor; its time, not the clock's, so that a busy machine changes nothing."""
HANGS_AFTER = 20.0
"""Processor seconds after which the system ends the child."""

FORMS = (
    InputFormat(height=24, width=32, channels=3, resize="stretch"),
    InputFormat(height=20, width=20, channels=1, resize="fit"),
    InputFormat(height=40, width=16, channels=3, resize="crop"),
)
CODES = {"image-broken", "image-foreign", "image-over-limit"}


def interlaced_png() -> bytes:
    """A grey PNG of 4 x 4 pixels in Adam7's seven passes, made by hand: Pillow reads such files but writes none."""
    passes = [(1, 1), None, (1, 1), (1, 2), (2, 2), (2, 4)]  # rows, columns; the second is empty
    rows = bytearray()
    for number, size in enumerate(passes):
        if size is None:
            continue
        for row in range(size[0]):
            rows += bytes([0, *(40 * number + row + column for column in range(size[1]))])
    header = b"\0\0\0\4\0\0\0\4\x08\0\0\0\1"
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(rows))) + chunk(b"IEND", b"")
    )


def _image(mode: str = "RGB", seed: int = 0) -> Image.Image:
    return Image.fromarray(colourful(seed=seed)).convert(mode)


PICTURES: dict[str, bytes] = {
    "jpeg": jpeg(),
    "jpeg-progressive": jpeg(progressive=True),
    "jpeg-exif": jpeg(exif=exif(6)),
    "jpeg-cmyk": encoded(_image("CMYK"), "JPEG"),
    "jpeg-grey-restarts": encoded(_image("L"), "JPEG", restart_marker_rows=1),
    "jpeg-no-end": jpeg()[:-2],
    "png": encoded(colourful()),
    "png-exif": encoded(colourful(), exif=exif(3)),
    "png-palette-transparent": encoded(_image().quantize(8), transparency=1),
    "png-rgba": encoded(_image("RGBA")),
    "png-16-bit": encoded(Image.fromarray(np.arange(48 * 64, dtype=np.uint16).reshape(48, 64) * 21), transparency=21),
    "png-one-bit": encoded(_image("1")),
    "png-interlaced": interlaced_png(),
    "gif": encoded(_image().quantize(16), "GIF", transparency=1),
    "gif-animated": encoded(_image(), "GIF", save_all=True, append_images=[_image(seed=1)]),
    "webp": encoded(colourful(), "WEBP"),
    "webp-lossless-exif": encoded(_image("RGBA"), "WEBP", lossless=True, exif=exif(2)),
    "webp-animated": encoded(_image(), "WEBP", save_all=True, append_images=[_image(seed=1)]),
    "bmp": encoded(colourful(), "BMP"),
    "bmp-palette": encoded(_image().quantize(8), "BMP"),
    "tiff": encoded(colourful(), "TIFF"),
    "tiff-lzw": encoded(colourful(), "TIFF", compression="tiff_lzw"),
}


def mutated(name: str, number: int) -> bytes:
    """The picture after 1 to 5 damages: bytes changed, cut out, doubled or set to extremes, or its end cut off."""
    random = np.random.default_rng([zlib.crc32(name.encode()), number])
    if name.startswith("png") and number % 2:
        return damaged_png(PICTURES[name], random)
    data = bytearray(PICTURES[name])
    for _ in range(random.integers(1, 6)):
        # Headers are short and decide most, so every other damage falls into the first bytes.
        reach = len(data) if random.random() < 0.5 else min(80, len(data))
        place = int(random.integers(0, max(reach, 1)))
        match random.integers(0, 6):
            case 0:
                data[place : place + 1] = random.bytes(1)
            case 1:
                data[place : place + 4] = random.bytes(4)
            case 2:
                data[place : place + 4] = random.choice(
                    [b"\0\0\0\0", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\0\0\xff\xff"]
                )
            case 3:
                del data[place : place + int(random.integers(1, 40))]
            case 4:
                data[place:place] = data[: int(random.integers(1, 40))]
            case _:
                if random.random() < 0.2:
                    del data[place:]
    return bytes(data)


def damaged_png(data: bytes, random: np.random.Generator) -> bytes:
    """With one of its chunks changed but every checksum right, so that the damage gets past them and into the decoder."""
    chunks, position = [], 8
    while position < len(data):
        end = position + 8 + int.from_bytes(data[position : position + 4], "big")
        chunks.append((data[position + 4 : position + 8], data[position + 8 : end]))
        position = end + 4
    chosen = int(random.integers(0, len(chunks) - 1))
    kind, body = chunks[chosen]
    pixels = kind == b"IDAT" and random.random() < 0.8
    changed = bytearray(zlib.decompress(body) if pixels else body)
    for place in random.integers(0, len(changed), random.integers(1, 4)):
        changed[place] = random.choice([0, 1, 2, 4, 16, 127, 255, int(random.integers(0, 256))])
    chunks[chosen] = (kind, zlib.compress(bytes(changed)) if pixels else bytes(changed))
    return data[:8] + b"".join(chunk(kind, body) for kind, body in chunks)


def decode(data: bytes, number: int) -> str:
    """What is wrong with the answer to these bytes; nothing if it is pixels, or an error of the kind that is promised."""
    form = FORMS[number % len(FORMS)]
    try:
        read_header(data, path="x.jpg", tiff=True)
        pixels = decode_bytes(data, form, path="x.jpg", tiff=True).pixels
    except DataError as error:
        if error.code not in CODES or not error.reason or not error.reason.isprintable():
            return f"an error of another kind: {error.code!r} {error.reason!r}"
        return "more memory than is allowed" if "does not fit into memory" in error.reason else ""
    except BaseException:
        return traceback.format_exc()
    good = pixels.shape == (form.height, form.width, form.channels) and pixels.dtype == np.uint8
    return "" if good else f"pixels of another form: {pixels.shape} {pixels.dtype}"


def address_space() -> int:
    """Bytes of this process's address space."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[0]) * resource.getpagesize()


def child(names: list[str], numbers: range, look: Callable[[bytes, int], str] = decode) -> None:
    """Say on standard output which damage is next, then decode it; and in another line if something was wrong with it."""
    # Pillow loads its decoders when they are first needed.
    for name in names:
        decode(PICTURES[name], 0)
    limit = address_space() + MEMORY_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for name in names:
        for number in numbers:
            data = mutated(name, number)
            os.write(1, f"next {name} {number}\n".encode())
            signal.setitimer(signal.ITIMER_PROF, HANGS_AFTER)
            begin = time.process_time()
            fault = look(data, number)
            taken = time.process_time() - begin
            signal.setitimer(signal.ITIMER_PROF, 0)
            if taken > CPU_SECONDS:
                fault += f"{taken:.1f} seconds of the processor"
            if fault:
                os.write(1, f"fault {name} {number}: {fault!r}\n".encode())


if __name__ == "__main__":
    if len(sys.argv) == 3:
        answer = decode(mutated(sys.argv[1], int(sys.argv[2])), int(sys.argv[2]))
        print(answer or "pixels, or an error of the kind that is promised")
        sys.exit(bool(answer))
    child(sys.argv[1].split(","), range(int(sys.argv[2]), int(sys.argv[3])))
