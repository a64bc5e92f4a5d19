"""Which way up a picture is: read from wherever programs put it, as Pillow itself reads it."""

import io
import random
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageOps

from convoscope.data import InputFormat, open_image
from convoscope.data.decode import read_header
from convoscope.data.orientation import orientation_of
from tests.support.pictures import chunk, colourful, encoded, exif, jpeg, with_segment


def xmp(orientation: int, form: str = ' tiff:Orientation="{}"/>') -> bytes:
    return b"<x:xmpmeta><rdf:Description" + form.format(orientation).encode() + b"</x:xmpmeta>"


def block(order: str, kind: int, value: bytes, count: int = 1) -> bytes:
    """An Exif block of one entry, the orientation, of any kind."""
    entry = struct.pack(order + "HHHI", 1, 274, kind, count) + value.ljust(4, b"\0") + bytes(4)
    return b"Exif\0\0" + (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", 8) + entry


ADOBE = b"http://ns.adobe.com/xap/1.0/\0"
PLAIN = b"Exif\0\0II*\0" + struct.pack("<IHHHIHHI", 8, 1, 0x0103, 3, 1, 6, 0, 0)
RAW = b"\nexif\n      34\n" + exif(6).hex().encode() + b"\n"


def in_jpeg(*segments: bytes) -> bytes:
    data = jpeg(30, 44)
    for body in reversed(segments):
        data = with_segment(data, 0xE1, body)
    return data


def in_png(*chunks: bytes, late: bool = False) -> bytes:
    data = encoded(colourful(30, 44))
    place = len(data) - 12 if late else 33
    return data[:place] + b"".join(chunks) + data[place:]


def in_webp(**options: bytes) -> bytes:
    return encoded(colourful(30, 44), "WEBP", lossless=True, **options)


TURNED = {
    "Exif": in_jpeg(exif(6)),
    "Exif's header twice": in_jpeg(b"Exif\0\0" + exif(6)),
    "a second block without it": in_jpeg(exif(6), PLAIN),
    "a second block that says otherwise": in_jpeg(exif(6), exif(3)),
    "XMP before Exif": in_jpeg(ADOBE + xmp(3), exif(6)),
    "XMP alone": in_jpeg(ADOBE + xmp(6)),
    "XMP as an element": in_jpeg(ADOBE + xmp(6, "><tiff:Orientation>{}</tiff:Orientation>")),
    "XMP behind an Exif block without it": in_jpeg(PLAIN, ADOBE + xmp(6)),
    "two XMP packets, the last one counts": in_jpeg(ADOBE + xmp(3), ADOBE + xmp(6)),
    "a long number": in_jpeg(block("<", 4, struct.pack("<I", 6))),
    "big-endian": in_jpeg(block(">", 3, struct.pack(">H", 6))),
    "a signed number": in_jpeg(block(">", 8, struct.pack(">h", 6))),
    "two numbers": in_jpeg(block("<", 3, struct.pack("<HH", 6, 1), 2)),
    "PNG": in_png(chunk(b"eXIf", exif(6)[6:])),
    "PNG behind its pixels": in_png(chunk(b"eXIf", exif(6)[6:]), late=True),
    "PNG of ImageMagick": in_png(chunk(b"tEXt", b"Raw profile type exif\0" + RAW)),
    "PNG of ImageMagick, packed": in_png(chunk(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(RAW))),
    "XMP in PNG": in_png(chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + xmp(6))),
    "XMP in PNG, packed": in_png(chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(xmp(6)))),
    "WEBP": in_webp(exif=exif(6)),
    "WEBP, the header twice": in_webp(exif=b"Exif\0\0" + exif(6)),
    "XMP in WEBP": in_webp(xmp=xmp(6)),
    "TIFF": encoded(colourful(30, 44), "TIFF", tiffinfo={274: 6}),
    "MPO": encoded(Image.fromarray(colourful(30, 44)), "MPO", save_all=True, append_images=[], exif=exif(6)),
}


@pytest.mark.filterwarnings("ignore:Metadata Warning")
@pytest.mark.parametrize("data", TURNED.values(), ids=TURNED.keys())
def test_wherever_the_orientation_is_said_it_is_heeded(data: bytes) -> None:
    shown = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB"))
    assert shown.shape == (44, 30, 3)
    form = InputFormat(height=44, width=30, channels=3)
    loaded = Image.open(io.BytesIO(data))
    loaded.load()
    for source in (data, Image.open(io.BytesIO(data)), loaded, loaded.convert("RGB"), shown):
        assert np.array_equal(open_image(source, form, tiff=True), shown)
    header = read_header(data, tiff=True)
    assert (header.height, header.width) == (44, 30)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_tiff_is_turned_once(orientation: int) -> None:
    data = encoded(colourful(30, 44), "TIFF", tiffinfo={274: orientation})
    shown = np.asarray(Image.open(io.BytesIO(data)))  # Pillow turns it itself
    form = InputFormat(height=shown.shape[0], width=shown.shape[1], channels=3)
    assert np.array_equal(open_image(data, form, tiff=True), shown)


def random_block(chosen: random.Random) -> bytes:
    """An Exif block of a few entries, good and bad."""
    order, start, entries = chosen.choice("<>"), chosen.choice([8, 20]), []
    for tag in chosen.sample([256, 271, 274, 282], chosen.randint(0, 4)):
        kind, count = chosen.choice([1, 2, 3, 3, 3, 4, 5, 8, 9, 13, 99]), chosen.choice([0, 1, 1, 1, 2, 3])
        numbers = [chosen.choice([0, 1, 3, 6, 8, 9, 99])] * max(count, 1)
        code = {3: "H", 4: "I", 8: "h", 9: "i", 13: "I"}.get(kind, "B")
        value = struct.pack(f"{order}{len(numbers)}{code}", *numbers)
        if struct.calcsize(code) * count > 4 or kind == 5:
            value = struct.pack(order + "I", chosen.choice([8, 60, 5000]))
        entries.append(struct.pack(order + "HHI", tag, kind, count) + value[:4].ljust(4, b"\0"))
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", start) + bytes(start - 8)
    whole = head + struct.pack(order + "H", len(entries)) + b"".join(entries) + bytes(4)
    whole = b"Exif\0\0" * chosen.randint(0, 2) + whole + struct.pack(order + "40H", *[6] * 40)
    return whole[: chosen.randint(0, len(whole))] if chosen.random() < 0.1 else whole


@pytest.mark.filterwarnings("ignore")
def test_random_blocks_are_read_as_pillow_reads_them() -> None:
    chosen, turned = random.Random(0), 0
    for _ in range(1_500):
        content, packet = random_block(chosen), chosen.choice([b"", xmp(6), xmp(3)])
        image = Image.new("RGB", (2, 1))
        image.info = {"exif": content, "xmp": packet}
        try:
            said = image.getexif().get(274, 1)
        except (SyntaxError, struct.error):  # no Exif block at all; then there is nothing to compare
            continue
        said = said if isinstance(said, int) and 1 <= said <= 8 else 1
        assert orientation_of(content, packet) == said, (content, packet)
        turned += said > 1
    assert turned > 300
