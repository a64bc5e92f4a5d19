"""One decode function: what it accepts and how it converts, what it refuses and in which words."""

import io
import os
import socket
import struct
import time
import zipfile
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageChops

from convoscope.data import InputFormat, Resize, open_image
from convoscope.data.decode import decode_array, decode_bytes, read_header, read_picture
from convoscope.errors import ConvoscopeError, DataError, UsageError
from tests.support.pictures import chunk, colourful, encoded, exif, jpeg, png_header, with_segment


def form(height: int = 24, width: int = 32, channels: int = 3, resize: Resize = "stretch") -> InputFormat:
    return InputFormat(height=height, width=width, channels=channels, resize=resize)


def native(pixels: np.ndarray, channels: int = 3) -> InputFormat:
    return form(pixels.shape[0], pixels.shape[1], channels)


def refused(data: bytes, *, tiff: bool = False) -> DataError:
    with pytest.raises(DataError) as caught:
        decode_bytes(data, form(), path="cat/1.jpg", tiff=tiff)
    return caught.value


# --- broken ------------------------------------------------------------------------------------------------------------


def test_empty_and_tiny_files() -> None:
    assert refused(b"").reason == "is empty (0 bytes)"
    assert "is no picture: its 1 B begin like no known format" in refused(b"\xff").reason
    assert refused(b"").code == refused(b"\xff").code == "image-broken"


@pytest.mark.parametrize("share", [0.3, 0.5, 0.8, 0.97])
def test_a_jpeg_that_ends_early_tells_its_rows(share: float) -> None:
    data = jpeg(480, 320)
    error = refused(data[: int(len(data) * share)])
    rows, total = (int(word) for word in error.reason.split("(")[1].split(" rows")[0].split(" of "))
    assert error.reason.startswith("the JPEG ends early (")
    assert total == 480
    # This picture has about as many bytes in each row.
    assert abs(rows / 480 - share) < 0.12


def test_a_jpeg_padded_with_zeros_has_ended_early() -> None:
    data = jpeg(200, 200)
    assert "ends early" in refused(data[: len(data) // 2] + bytes(len(data) // 2)).reason


def test_a_progressive_jpeg_that_ends_early() -> None:
    data = jpeg(200, 200, progressive=True)
    assert "ends early" in refused(data[: len(data) // 2]).reason


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0}])
def test_a_jpeg_without_its_end_marker_is_whole(options: dict[str, Any]) -> None:
    data = jpeg(**options)
    assert data.endswith(b"\xff\xd9")
    decoded = decode_bytes(data[:-2], native(colourful()))
    assert "no end marker" in decoded.note
    assert np.array_equal(decoded.pixels, decode_bytes(data, native(colourful())).pixels)


def test_a_png_that_ends_early_tells_its_rows() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (100, 50, 3), dtype=np.uint8)
    data = encoded(noise)
    reason = refused(data[: len(data) // 2]).reason
    rows = int(reason.split("(")[1].split(" of ")[0])
    assert reason == f"the PNG ends early ({rows} of 100 rows)"
    assert 45 <= rows <= 51


def test_a_png_with_a_wrong_checksum() -> None:
    data = bytearray(encoded(colourful()))
    data[data.index(b"IDAT") + 30] ^= 1
    assert refused(bytes(data)).reason == "the PNG is damaged: the checksum of IDAT differs"


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (jpeg()[:20], "the JPEG ends within its header, before any row"),
        (jpeg()[: jpeg().index(b"\xff\xda")] + b"\xff\xd9", "the JPEG has a header but no picture"),
        (b"\xff\xd8\xff\xdb\x00\x04\x00\x00\xff\xda\x00\x02", "the JPEG says nowhere how large it is"),
        (b"\xff\xd8\xff\xe0\x00\x04\x00\x00junk", "the JPEG's header is damaged"),
        (png_header(5, 5) + chunk(b"IEND", b""), "the PNG has a header but no picture"),
        (encoded(colourful())[:8], "the PNG ends within its header"),
        (encoded(colourful())[:20], "the PNG ends within its header"),
        (b"\x89PNG\r\n\x1a\n" + chunk(b"IDAT", b"") + chunk(b"IEND", b""), "the PNG does not begin with its header"),
        (encoded(colourful(), "GIF")[:13] + b"\x3b", "the GIF ends within its header"),
        (b"GIF89a\x05\0\x05\0\0\0\0\x3b", "the GIF has a header but no picture"),
        (b"GIF89a\x05\0\x05\0\0\0\0\x07", "the GIF is damaged before its first frame"),
        (encoded(colourful(), "GIF")[:-400], "the GIF ends early, within its first frame"),
        (encoded(colourful(), "WEBP")[:60], "the WEBP ends early (60 B of "),
        (b"RIFF\x04\0\0\0WEBP", "the WEBP has a header but no picture"),
        (encoded(colourful(), "BMP")[:2000], "the BMP ends early"),
        (png_header(0, 5) + chunk(b"IEND", b""), "has no pixels (0 x 5)"),
        (b"nothing that is known", "is no picture: its 21 B begin like no known format"),
    ],
)
def test_damaged_pictures_say_where(data: bytes, reason: str) -> None:
    error = refused(data)
    assert error.reason.startswith(reason)
    assert error.code == "image-broken"


def test_a_picture_without_the_right_to_read_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(jpeg())

    def denied(*_: object) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", denied)  # root may read everything, so chmod would not do
    with pytest.raises(DataError, match="no permission to read it") as caught:
        read_picture(path)
    assert caught.value.code == "image-unreadable"


# --- impostors ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"<!DOCTYPE html><html>404</html>", "is an HTML page (a failed download?)"),
        (b"\n <html><body>", "is an HTML page (a failed download?)"),
        (b"%PDF-1.7 ...", "is a PDF document"),
        (b"8BPS\0\1", "is a PSD (Photoshop) picture"),
        (b"%!PS-Adobe-3.0 EPSF", "is an EPS document"),
        (b"SIMPLE  =                    T", "is a FITS picture"),
        (b"\x00\x00\x00\x0cjP  \r\n\x87\n", "is a JPEG 2000 picture"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "is an SVG drawing, which is not read"),
        (b"<?xml version='1.0'?><svg/>", "is an SVG drawing, which is not read"),
        (b"<?xml version='1.0'?><data/>", "is an XML document"),
        (b"\0\0\0\x18ftypisom\0\0\0\0", "is a film, which is not read"),
        (b"PK\x03\x04....", "is a ZIP archive"),
        (b"version https://git-lfs.github.com/spec/v1", "is a Git LFS pointer, not the picture itself"),
        (b"\x93NUMPY\1\0", "is a NumPy array"),
    ],
)
def test_impostors_are_named_and_never_parsed(data: bytes, reason: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "open", lambda *_, **__: pytest.fail("Pillow must not see it"))
    error = refused(data)
    assert error.reason == reason
    assert error.code == "image-foreign"
    assert "JPEG, PNG, WEBP, BMP, GIF, AVIF and HEIC" in error.hint


def test_a_good_picture_under_another_ending_is_taken_and_remarked() -> None:
    decoded = decode_bytes(encoded(colourful(), "WEBP"), form(), path="a.jpg")
    assert decoded.note == "is a WEBP picture, not what its ending .jpg says"
    for ending in (".JPG", ".jfif", ".jpeg"):
        assert decode_bytes(jpeg(), form(), path="a" + ending).note == ""


def test_a_jpeg_with_an_archive_behind_it() -> None:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("a.txt", "hello")
    assert np.array_equal(open_image(jpeg() + archive.getvalue(), form()), open_image(jpeg(), form()))


def test_what_is_no_ordinary_file_is_never_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "folder.jpg").mkdir()
    (tmp_path / "device.jpg").symlink_to("/dev/zero")
    (tmp_path / "loop.jpg").symlink_to("loop.jpg")
    monkeypatch.chdir(tmp_path)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("socket.jpg")
        with monkeypatch.context() as patch:
            patch.setattr(os, "open", lambda *_, **__: pytest.fail("must not be opened"))
            for name, what in {
                "pipe": "is a named pipe, not a picture",
                "folder": "is a folder, not a picture",
                "device": "is a device, not a picture",
                "socket": "is a socket, not a picture",
                "loop": "is a link that leads to itself",
            }.items():
                with pytest.raises(DataError, match=what) as caught:
                    open_image(tmp_path / f"{name}.jpg", form())
                assert caught.value.code == "image-foreign"


def test_a_missing_picture(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is no such picture") as caught:
        open_image(tmp_path / "a.jpg", form())
    assert caught.value.code == "image-missing"


# --- bombs and limits --------------------------------------------------------------------------------------------------


def test_a_huge_picture_is_refused_at_once() -> None:
    rows = zlib.compress(bytes(6251 * 50_000), 1)
    bomb = png_header(50_000, 50_000, depth=1, colour=0) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    process = psutil.Process()
    before, start = process.memory_info().rss, time.process_time()
    error = refused(bomb)
    assert time.process_time() - start < 0.05
    assert process.memory_info().rss - before < 20_000_000
    assert error.reason == "50000 x 50000 are 2500 million pixels; the limit is 50 (CONVOSCOPE_MAX_MEGAPIXELS)"
    assert error.code == "image-over-limit"


def test_the_limit_of_pixels_is_a_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    data = encoded(Image.new("1", (1200, 1000)))
    monkeypatch.setenv("CONVOSCOPE_MAX_MEGAPIXELS", "1")
    assert "the limit is 1 (CONVOSCOPE_MAX_MEGAPIXELS)" in refused(data).reason
    monkeypatch.setenv("CONVOSCOPE_MAX_MEGAPIXELS", "2")
    assert open_image(data, form()).shape == (24, 32, 3)
    monkeypatch.setenv("CONVOSCOPE_MAX_MEGAPIXELS", "many")
    with pytest.raises(UsageError, match="expected a whole number from 1 to 178; received 'many'") as caught:
        open_image(data, form())
    assert caught.value.code == "bad-setting"


@pytest.mark.parametrize("size", [(15_000, 12_000), (1, 20_001), (20_001, 1)])
@pytest.mark.parametrize("format_", ["JPEG", "PNG", "GIF", "BMP", "WEBP"])
def test_sizes_beyond_the_limits_never_reach_the_decoder(
    size: tuple[int, int], format_: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    width, height = size
    data = bytearray(encoded(colourful(), format_))
    if format_ == "JPEG":
        start = data.index(b"\xff\xc0") + 5
        data[start : start + 4] = struct.pack(">HH", height, width)
    elif format_ == "PNG":
        data = bytearray(png_header(width, height) + data[33:])
    elif format_ == "GIF":
        data[6:10] = struct.pack("<HH", width, height)
    elif format_ == "BMP":
        data[18:26] = struct.pack("<ii", width, -height)
    else:
        extended = (
            b"VP8X" + struct.pack("<II", 10, 0) + (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
        )
        data = data[:4] + struct.pack("<I", len(data) - 8 + len(extended)) + b"WEBP" + extended + data[12:]
    monkeypatch.setattr(Image, "open", lambda *_, **__: pytest.fail("Pillow must not see it"))
    error = refused(bytes(data))
    assert error.code == "image-over-limit"
    assert str(width) in error.reason


@pytest.mark.parametrize("kind", [b"zTXt", b"iTXt", b"iCCP"])
def test_text_that_unpacks_to_gigabytes(kind: bytes) -> None:
    packed = zlib.compress(bytes(100_000_000))
    body = b"key\0\1\0\0\0" + packed if kind == b"iTXt" else b"key\0\0" + packed
    good = encoded(colourful())
    bomb = good[:33] + chunk(kind, body) + good[33:]
    start = time.process_time()
    error = refused(bomb)
    assert time.process_time() - start < 0.5
    assert error.reason == f"the PNG's {kind.decode()} text unpacks to more than 1.0 MB"


def test_metadata_of_60_megabytes() -> None:
    block = bytes(60_000)
    many = jpeg()
    heavy = many[:2] + b"".join(struct.pack(">BBH", 0xFF, 0xE1, len(block) + 2) + block for _ in range(1000)) + many[2:]
    assert refused(heavy).reason.startswith("carries 32 MB of metadata; the limit is 32 MB")
    good = encoded(colourful())
    assert "carries 60 MB of metadata" in refused(good[:33] + chunk(b"eXIf", bytes(60_000_000)) + good[33:]).reason
    webp = encoded(colourful(), "WEBP")
    profile = b"ICCP" + struct.pack("<I", 60_000_000) + bytes(60_000_000)
    heavy = webp[:4] + struct.pack("<I", len(webp) - 8 + len(profile)) + webp[8:12] + profile + webp[12:]
    assert refused(heavy).code == "image-over-limit"


def test_a_png_in_a_hundred_thousand_pieces() -> None:
    good = encoded(colourful())
    assert "more than 100,000 chunks" in refused(good[:33] + chunk(b"abCd", b"") * 100_001 + good[33:]).reason


def test_a_file_too_large_for_any_picture(tmp_path: Path) -> None:
    with open(tmp_path / "a.bmp", "wb") as file:
        file.truncate(300_000_000)
    with pytest.raises(DataError, match="is 300 MB large; at most 256 MB are read"):
        open_image(tmp_path / "a.bmp", form())


def test_an_animation_of_many_frames_gives_its_first() -> None:
    one = encoded(Image.fromarray(colourful()).quantize(16), "GIF")
    frame = one[one.index(b"\x2c") : -1]
    many = one[:-1] + frame * 100_000 + b"\x3b"
    start = time.process_time()
    pixels = open_image(many, form())
    assert time.process_time() - start < 0.5
    assert np.array_equal(pixels, open_image(one, form()))


# --- sizes and modes ---------------------------------------------------------------------------------------------------


def test_one_pixel_is_taken_and_remarked() -> None:
    decoded = decode_bytes(encoded(np.full((1, 1, 3), 77, np.uint8)), form(resize="fit"))
    assert decoded.note == "has one pixel only"
    assert (decoded.pixels == 77).all()


def cmyk_picture() -> tuple[np.ndarray, np.ndarray]:
    """CMYK values and their RGB by the plain formula."""
    values = np.zeros((40, 40, 4), np.uint8)
    values[:20, :20] = (200, 0, 0, 0)
    values[:20, 20:] = (0, 200, 0, 50)
    values[20:, :20] = (0, 0, 200, 100)
    values[20:, 20:] = (10, 20, 30, 200)
    ink = values.astype(float) / 255
    return values, 255 * (1 - ink[..., :3]) * (1 - ink[..., 3:])


def test_cmyk_is_inverted_as_adobes_marker_says() -> None:
    values, expected = cmyk_picture()
    adobe = encoded(Image.fromarray(values, "CMYK"), "JPEG", quality=98)
    assert b"Adobe" in adobe
    middle = np.s_[5:35:10, 5:35:10]
    assert np.abs(open_image(adobe, form(40, 40)).astype(float) - expected)[middle].max() < 6
    # Without the marker the values are stored as they are: the same picture, stored the other way round.
    inverted = encoded(ImageChops.invert(Image.fromarray(values, "CMYK")), "JPEG", quality=98)
    start = inverted.index(b"\xff\xee")
    plain = inverted[:start] + inverted[start + 16 :]
    assert b"Adobe" not in plain
    assert np.abs(open_image(plain, form(40, 40)).astype(float) - expected)[middle].max() < 6
    assert np.abs(open_image(plain[:-2], form(40, 40)).astype(float) - expected)[middle].max() < 6


def test_16_bit_grey_keeps_its_levels() -> None:
    levels = np.linspace(0, 65535, 64 * 64).round().astype(np.uint16).reshape(64, 64)
    pixels = open_image(encoded(Image.fromarray(levels)), form(64, 64, 1))[:, :, 0]
    assert len(np.unique(pixels)) == 256
    assert np.array_equal(pixels, np.rint(levels / 257).astype(np.uint8))
    assert np.array_equal(open_image(levels, form(64, 64, 1))[:, :, 0], pixels)


def test_transparency_stands_on_white() -> None:
    colour = np.zeros((8, 8, 4), np.uint8)
    colour[..., 0] = 200
    colour[:, 4:, 3] = 255
    colour[:, 2:4, 3] = 128
    expected = np.full((8, 8, 3), 255, np.uint8)
    expected[:, 4:] = (200, 0, 0)
    expected[:, 2:4] = np.rint(255 + (np.array([200, 0, 0]) - 255) * 128 / 255)
    image = Image.fromarray(colour)
    for data in (encoded(image), encoded(image, "WEBP", lossless=True)):
        assert np.abs(open_image(data, form(8, 8)).astype(int) - expected).max() <= 1
    grey = Image.fromarray(colour[..., [0, 3]], "LA")
    pixels = open_image(encoded(grey), form(8, 8, 1))[0, :, 0]
    assert pixels.tolist() == [255, 255, 227, 227, 200, 200, 200, 200]
    assert open_image(encoded(grey), form(8, 8, 3))[0, 7].tolist() == [200, 200, 200]


def test_a_palette_with_transparency() -> None:
    image = Image.new("P", (8, 8), 1)
    image.putpalette([255, 0, 0, 0, 0, 255])
    image.paste(0, (0, 0, 4, 8))
    pixels = open_image(encoded(image, transparency=0), form(8, 8))
    assert pixels[0, 0].tolist() == [255, 255, 255]
    assert pixels[0, 7].tolist() == [0, 0, 255]
    assert open_image(encoded(image, "GIF", transparency=0), form(8, 8))[0, 0].tolist() == [255, 255, 255]
    assert open_image(encoded(image), form(8, 8))[0, 0].tolist() == [255, 0, 0]


def test_one_bit_and_grey() -> None:
    bits = np.indices((8, 8)).sum(axis=0) % 2 == 0
    expected = bits.astype(np.uint8)[:, :, None] * 255
    assert np.array_equal(open_image(encoded(Image.fromarray(bits)), form(8, 8, 1)), expected)
    assert np.array_equal(open_image(bits, form(8, 8, 1)), expected)
    grey = colourful()[:, :, 0]
    assert np.array_equal(open_image(encoded(grey), native(grey, 1))[:, :, 0], grey)
    assert np.array_equal(open_image(encoded(grey), native(grey, 3)), np.repeat(grey[:, :, None], 3, axis=2))
    assert np.array_equal(open_image(encoded(grey, "BMP"), native(grey, 1))[:, :, 0], grey)


def test_tiff_is_read_on_request_only() -> None:
    pixels = colourful()
    data = encoded(pixels, "TIFF")
    error = refused(data)
    assert error.reason == "is a TIFF picture, which is read only on request"
    assert "tiff=True" in error.hint
    assert np.array_equal(open_image(data, native(pixels), tiff=True), pixels)
    levels = np.linspace(0, 65535, 4096).astype(np.uint16).reshape(64, 64)
    assert len(np.unique(open_image(encoded(Image.fromarray(levels), "TIFF"), form(64, 64, 1), tiff=True))) >= 200
    big_endian = Image.frombytes("I;16B", (64, 64), levels.astype(">u2").tobytes())
    assert len(np.unique(open_image(encoded(big_endian, "TIFF"), form(64, 64, 1), tiff=True))) >= 200
    numbers = encoded(Image.fromarray(levels.astype(np.float32)), "TIFF")
    reason = "holds numbers that are no brightness (float32 from 0 to 65535)"
    assert refused(numbers, tiff=True).reason == reason


def test_a_tiff_of_seven_bands() -> None:
    tags = [(256, 3, 4), (257, 3, 4), (258, 3, 8), (259, 3, 1), (262, 3, 1), (277, 3, 7)]
    body = b"".join(struct.pack("<HHIHH", tag, kind, 1, value, 0) for tag, kind, value in tags)
    data = b"II*\0" + struct.pack("<IH", 8, len(tags)) + body + bytes(4) + bytes(4 * 4 * 7)
    assert refused(data, tiff=True).reason == "has 7 channels; pictures of 1, 3 or 4 are read"


@pytest.mark.parametrize(
    "options", [{"progressive": True}, {"subsampling": "4:1:1"}, {"subsampling": 2}, {"restart_marker_rows": 1}]
)
def test_kinds_of_jpeg(options: dict[str, Any]) -> None:
    pixels = colourful()
    difference = open_image(jpeg(**options), native(pixels)).astype(int) - pixels
    assert np.abs(difference).mean() < 6


# --- turning -----------------------------------------------------------------------------------------------------------


def stored_for(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """What a camera stores so that a viewer, following the orientation, shows `pixels`."""
    stored = {
        1: lambda p: p,
        2: lambda p: p[:, ::-1],
        3: lambda p: p[::-1, ::-1],
        4: lambda p: p[::-1],
        5: lambda p: p.transpose(1, 0, 2),
        6: lambda p: p.transpose(1, 0, 2)[::-1],
        7: lambda p: p.transpose(1, 0, 2)[::-1, ::-1],
        8: lambda p: p.transpose(1, 0, 2)[:, ::-1],
    }[orientation](pixels)
    return np.ascontiguousarray(stored)


@pytest.mark.parametrize("resize", ["fit", "crop", "stretch"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_gives_one_array(orientation: int, resize: Resize, tmp_path: Path) -> None:
    pixels = colourful(47, 64)
    stored = stored_for(pixels, orientation)
    wanted = form(20, 20, resize=resize)
    expected = open_image(encoded(pixels), wanted)
    data = encoded(stored, "PNG", exif=exif(orientation))
    (tmp_path / "a.png").write_bytes(data)
    routes: list[Any] = [data, tmp_path / "a.png", str(tmp_path / "a.png"), Image.open(io.BytesIO(data))]
    loaded = Image.open(io.BytesIO(data))
    loaded.load()
    routes.append(loaded)
    for route in routes:
        assert np.array_equal(open_image(route, wanted), expected)
    # Pillow's own reading of the tag agrees.
    from PIL import ImageOps

    assert np.array_equal(np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data)))), pixels)
    header = read_header(data)
    assert (header.height, header.width) == (47, 64)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_in_jpeg_and_webp(orientation: int) -> None:
    pixels = colourful(48, 64)
    stored = Image.fromarray(stored_for(pixels, orientation))
    for data in (
        encoded(stored, "JPEG", quality=97, exif=exif(orientation)),
        encoded(stored, "WEBP", lossless=True, exif=exif(orientation)),
    ):
        assert np.abs(open_image(data, native(pixels)).astype(int) - pixels).mean() < 3


@pytest.mark.parametrize(
    "block", [exif(0), exif(99), b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0", b"Exif\0\0MM\0*\0\0"]
)
def test_a_broken_orientation_counts_as_upright(block: bytes) -> None:
    assert np.array_equal(open_image(with_segment(jpeg(), 0xE1, block), form()), open_image(jpeg(), form()))


# --- resizing ----------------------------------------------------------------------------------------------------------


def box_means(pixels: np.ndarray, height: int, width: int) -> np.ndarray:
    """Every target pixel as the mean of the source pixels under it, for whole factors."""
    tall, wide = pixels.shape[0] // height, pixels.shape[1] // width
    return np.asarray(pixels.reshape(height, tall, width, wide, -1).astype(float).mean(axis=(1, 3)))


def test_shrinking_averages_what_lies_under_a_pixel() -> None:
    pixels = colourful(240, 320)
    small = open_image(encoded(pixels), form(24, 32))
    assert np.abs(small - box_means(pixels, 24, 32)).mean() < 2
    fine = np.indices((240, 320)).sum(axis=0) % 2 * 255  # a chequerboard must become grey, not a pattern
    assert np.ptp(open_image(fine.astype(np.uint8), form(24, 32, 1))) <= 4


def test_crop_fills_the_frame_from_the_middle() -> None:
    pixels = np.zeros((20, 60, 3), np.uint8)
    pixels[:, 20:40] = 255
    assert (open_image(pixels, form(20, 20, resize="crop")) == 255).all()
    assert (open_image(pixels.transpose(1, 0, 2), form(10, 10, resize="crop"))[1:-1] == 255).all()


def test_fit_keeps_everything_and_fills_with_the_edges_colour() -> None:
    pixels = np.full((20, 60, 3), (10, 200, 30), np.uint8)
    pixels[8:12, 20:40] = 0
    framed = open_image(pixels, form(60, 60, resize="fit"))
    assert np.array_equal(framed[20:40], pixels)
    assert (framed[:20] == (10, 200, 30)).all()
    assert (framed[40:] == (10, 200, 30)).all()


@given(
    height=st.integers(1, 40),
    width=st.integers(1, 40),
    out=st.tuples(st.integers(1, 30), st.integers(1, 30), st.sampled_from([1, 3])),
    resize=st.sampled_from(["fit", "crop", "stretch"]),
    channels=st.sampled_from([1, 3]),
)
def test_any_size_gives_the_frame_and_one_colour_stays_one(
    height: int, width: int, out: tuple[int, int, int], resize: Resize, channels: int
) -> None:
    pixels = np.full((height, width, channels), 137, np.uint8)
    wanted = form(*out, resize=resize)
    from_array = open_image(pixels, wanted)
    assert from_array.shape == out
    assert (from_array == 137).all()
    image = pixels[:, :, 0] if channels == 1 else pixels
    assert np.array_equal(open_image(encoded(image), wanted), from_array)
    assert np.array_equal(open_image(Image.fromarray(image), wanted), from_array)


@given(seed=st.integers(0, 99), resize=st.sampled_from(["fit", "crop", "stretch"]), side=st.integers(8, 40))
def test_a_file_and_its_pixels_give_the_same(seed: int, resize: Resize, side: int) -> None:
    pixels = colourful(37, 53, seed)
    for channels in (1, 3):
        wanted = form(side, side + 3, channels, resize)
        assert np.array_equal(open_image(encoded(pixels), wanted), open_image(pixels, wanted))


def test_a_pillow_image_not_yet_decoded_goes_the_way_of_the_file() -> None:
    data = jpeg(480, 640)
    assert np.array_equal(open_image(Image.open(io.BytesIO(data)), form()), open_image(data, form()))


# --- arrays ------------------------------------------------------------------------------------------------------------


def test_arrays_of_every_type_mean_the_same() -> None:
    pixels = colourful()
    wanted = native(pixels)
    for array in (
        pixels.astype(np.int64),
        pixels / 255,
        (pixels / 255).astype(np.float32),
        pixels.astype(np.uint16) * 257,
    ):
        assert np.array_equal(open_image(array, wanted), pixels)


def test_arrays_of_any_number_of_channels() -> None:
    five = np.random.default_rng(0).integers(0, 256, (12, 12, 5), dtype=np.uint8)
    small = decode_array(five, form(6, 6, 5))
    for channel in range(5):
        assert np.array_equal(
            small[:, :, channel : channel + 1], decode_array(five[:, :, channel : channel + 1], form(6, 6, 1))
        )
    with pytest.raises(DataError, match="has 5 channels; 3 were asked for") as caught:
        decode_array(five, form(6, 6, 3))
    assert caught.value.code == "channels-differ"
    with pytest.raises(DataError, match="has 1 or 3 channels; 5 were asked for"):
        open_image(jpeg(), form(6, 6, 5))


@pytest.mark.parametrize(
    "array",
    [np.zeros((2, 2, 2, 2)), np.zeros((0, 3)), np.full((3, 3), np.nan), np.full((3, 3), -1), np.full((3, 3), "a")],
)
def test_impossible_arrays(array: np.ndarray) -> None:
    with pytest.raises(DataError, match="expected") as caught:
        open_image(array, form())
    assert caught.value.code == "bad-array"


def test_impossible_forms() -> None:
    for bad, code in (
        (form(0, 8), "bad-input-size"),
        (form(8, 100_000), "bad-input-size"),
        (form(8, 8, 0), "bad-input-size"),
    ):
        with pytest.raises(UsageError) as caught:
            open_image(jpeg(), bad)
        assert caught.value.code == code
        assert "received" in caught.value.reason
    with pytest.raises(UsageError, match="must be fit, crop or stretch; received 'squeeze'") as caught:
        open_image(jpeg(), form(8, 8, resize="squeeze"))  # type: ignore[arg-type]
    assert caught.value.code == "bad-resize"


# --- at large ----------------------------------------------------------------------------------------------------------


@given(
    data=st.binary(max_size=200),
    head=st.sampled_from([b"", b"\xff\xd8\xff", b"GIF89a", b"\x89PNG\r\n\x1a\n", b"II*\0"]),
)
def test_any_bytes_give_pixels_or_a_reason(data: bytes, head: bytes) -> None:
    try:
        decode_bytes(head + data, form(), tiff=True)
    except ConvoscopeError as error:
        assert isinstance(error, DataError)


def test_many_threads_decode_alike() -> None:
    pictures = [jpeg(100, 140, seed) for seed in range(8)] * 6
    alone = [open_image(data, form()) for data in pictures]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda data: open_image(data, form()), pictures))
    assert all(np.array_equal(a, b) for a, b in zip(alone, together, strict=True))
