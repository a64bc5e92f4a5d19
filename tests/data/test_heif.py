"""AVIF and HEIC: what is read of them, and what is refused before a decoder sees it."""

import io
import random
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pillow_heif
import pytest
from PIL import AvifImagePlugin, Image, ImageOps

from convoscope.data import InputFormat, formats, heif, load, open_image, prepare
from convoscope.data.decode import decode_bytes, read_header
from convoscope.errors import DataError
from tests.support.pictures import Pixels, class_folders, colourful

FORMATS = ("AVIF", "HEIC")


def coded(pixels: Pixels, format_: str, *, orientation: int = 1, frames: int = 1) -> bytes:
    exif = Image.Exif()
    exif[274] = orientation
    buffer, image = io.BytesIO(), Image.fromarray(pixels)
    if format_ == "AVIF":
        more = [Image.fromarray(255 - pixels)] * (frames - 1)
        image.save(buffer, "AVIF", quality=95, speed=10, exif=exif, save_all=frames > 1, append_images=more)
    else:
        pillow_heif.from_pillow(image).save(buffer, quality=95, exif=exif.tobytes())
    return buffer.getvalue()


def whole(data: bytes) -> Pixels:
    header = read_header(data)
    return decode_bytes(data, InputFormat(height=header.height, width=header.width, channels=3)).pixels


def as_libraries_show_it(data: bytes, format_: str) -> Pixels:
    if format_ == "AVIF":
        return np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB"))
    return np.asarray(pillow_heif.open_heif(io.BytesIO(data)).to_pillow().convert("RGB"))


def refused(data: bytes) -> DataError:
    with pytest.raises(DataError) as caught:
        decode_bytes(data, InputFormat(height=8, width=8, channels=3))
    return caught.value


def with_size(data: bytes, width: int, height: int) -> bytes:
    """The file whose container claims another size."""
    place = data.index(b"ispe") + 8
    return data[:place] + struct.pack(">II", width, height) + data[place + 8 :]


@pytest.mark.parametrize("format_", FORMATS)
@pytest.mark.parametrize("orientation", range(1, 9))
def test_pictures_stand_upright_once(format_: str, orientation: int) -> None:
    data = coded(colourful(), format_, orientation=orientation)
    assert b"irot" in data or b"imir" in data or orientation == 1
    header = read_header(data)
    assert (header.format, header.height, header.width) == (format_, *((48, 64) if orientation < 5 else (64, 48)))
    assert np.array_equal(whole(data), as_libraries_show_it(data, format_))


@pytest.mark.parametrize("format_", FORMATS)
def test_the_containers_turn_counts_and_not_exifs(format_: str) -> None:
    data = bytearray(coded(colourful(), format_, orientation=6))
    data[data.index(b"irot") + 4] = 0  # Exif still says 6
    header = read_header(bytes(data))
    assert (header.height, header.width) == (48, 64)
    assert np.array_equal(whole(bytes(data)), whole(coded(colourful(), format_)))


@pytest.mark.parametrize("format_", FORMATS)
@pytest.mark.parametrize("size", [(33, 47), (5, 3)])
def test_odd_sizes(format_: str, size: tuple[int, int]) -> None:
    data = coded(colourful(*size), format_)
    assert (read_header(data).height, read_header(data).width) == size
    assert np.array_equal(whole(data), as_libraries_show_it(data, format_))


def test_the_tiles_of_a_phone_are_one_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pillow_heif.options, "GRID_TILE_SIZE", 64)
    data = coded(colourful(150, 200), "HEIC", orientation=6)
    assert b"grid" in data
    assert (read_header(data).height, read_header(data).width) == (200, 150)
    assert np.array_equal(whole(data), as_libraries_show_it(data, "HEIC"))


def test_the_first_frame_of_an_animation() -> None:
    data = coded(colourful(), "AVIF", frames=3)
    assert data[8:12] == b"avis"
    assert np.abs(whole(data).astype(int) - colourful()).mean() < 4


@pytest.mark.parametrize("format_", FORMATS)
def test_transparent_parts_are_white_and_grey_is_seen(format_: str) -> None:
    pixels = np.dstack([colourful(), np.zeros((48, 64), np.uint8)])
    assert whole(coded(pixels, format_)).min() > 250
    assert read_header(coded(colourful()[:, :, 0], format_)).grey
    assert not read_header(coded(colourful(), format_)).grey


def no_decoder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("convoscope.data.decode.open_container", lambda *_: pytest.fail("no decoder must see it"))


@pytest.mark.parametrize("format_", FORMATS)
def test_bombs_are_refused_before_a_decoder_sees_them(format_: str, monkeypatch: pytest.MonkeyPatch) -> None:
    no_decoder(monkeypatch)
    data = coded(colourful(), format_)
    assert "50000 x 50000 are 2500 million pixels" in refused(with_size(data, 50_000, 50_000)).reason
    assert "the longer side may have 20000 pixels" in refused(with_size(data, 20_001, 1)).reason
    assert "no pixels" in refused(with_size(data, 0, 5)).reason


@pytest.mark.parametrize("format_", FORMATS)
def test_a_container_that_claims_less_than_is_coded_is_not_believed(
    format_: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = with_size(coded(colourful(120, 160), format_), 10, 10)
    no_decoder(monkeypatch)
    monkeypatch.setattr(formats, "max_pixels", lambda: 10_000)
    error = refused(data)
    assert error.code == "image-over-limit"
    assert error.reason.startswith("160 x 120 are ")


@pytest.mark.parametrize("format_", FORMATS)
@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda data: data[: data.index(b"mdat") + 40], "ends early"),
        (lambda data: data[: data.index(b"iprp") + 30], "ends within its header"),
        (lambda data: data.replace(b"pitm", b"pitx"), "has no primary picture"),
        (lambda data: data.replace(b"meta", b"metx"), "has no still picture"),
    ],
)
def test_damaged_ones_say_what_is_missing(format_: str, change: Callable[[bytes], bytes], words: str) -> None:
    error = refused(change(coded(colourful(), format_)))
    assert words in error.reason and format_ in error.reason


def test_parts_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heif, "MAX_ITEMS", 1)
    assert "parts are more than 1" in refused(coded(colourful(), "HEIC")).reason


@pytest.mark.parametrize("format_", FORMATS)
def test_any_change_gives_a_picture_or_a_reason(format_: str) -> None:
    data, chance = coded(colourful(16, 16), format_), random.Random(0)
    for _ in range(150):
        changed = bytearray(data)
        for _ in range(chance.randrange(1, 5)):
            changed[chance.randrange(len(data))] = chance.choice((0, 1, 127, 255, chance.randrange(256)))
        try:
            decode_bytes(bytes(changed[: chance.choice((len(data), chance.randrange(len(data))))]), InputFormat(height=8, width=8, channels=3))  # fmt: skip
        except DataError as error:
            assert error.reason


@pytest.mark.parametrize("format_", FORMATS)
def test_every_door_reads_them(format_: str, tmp_path: Path) -> None:
    ending = "." + format_.lower()
    root = class_folders(tmp_path, {"cat": 3, "dog": 3})
    (root / "cat" / f"a{ending}").write_bytes(coded(colourful(), format_))
    (root / "dog" / "b.jpg").write_bytes(coded(colourful(seed=1), format_))
    form = InputFormat(height=12, width=12, channels=3)
    prepared = prepare(load(root), form)
    assert len(prepared.dataset) == 8
    assert any(f"is a {format_} picture, not what its ending .jpg says" in note for note in prepared.dataset.notes)
    row = list(prepared.dataset.names).index(f"cat/a{ending}")
    assert np.array_equal(prepared.pixels[row], open_image(root / "cat" / f"a{ending}", form))


@pytest.mark.parametrize("format_", FORMATS)
def test_the_studios_child_reads_them_within_its_limits(format_: str) -> None:
    """Root may start as many threads as it likes, so the child gives up its rights first, if it has them."""
    code = (
        "import os, PIL.AvifImagePlugin, pillow_heif; from convoscope.studio import decoder_child as child; "
        "os.geteuid() or (os.setgroups([]), os.setgid(65534), os.setuid(65534)); child.main()"
    )
    content = b"32\n" + coded(colourful(150, 200), format_)
    ended = subprocess.run([sys.executable, "-P", "-c", code], input=content, capture_output=True, check=True)
    line, _, pixels = ended.stdout.partition(b"\n")
    assert line.startswith(b'{"height": 24, "width": 32, "channels": 3') and len(pixels) == 24 * 32 * 3


def test_without_pillow_heif_the_reason_names_the_command_and_is_not_remembered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = class_folders(tmp_path, {"cat": 20, "dog": 20})
    (root / "cat" / "a.heic").write_bytes(coded(colourful(), "HEIC"))
    form = InputFormat(height=12, width=12, channels=3)
    with monkeypatch.context() as lacking:
        lacking.setattr(heif, "_heic_is_read", lambda: False)
        (skipped,) = prepare(load(root), form).dataset.skipped
        with pytest.raises(DataError) as caught:
            open_image(root / "cat" / "a.heic", form)
    assert caught.value.code == "heic-not-installed"
    assert skipped.reason == "is a HEIC picture; to read it: pip install 'convoscope[heic]'"
    assert len(prepare(load(root), form).dataset) == 41


def test_the_libraries_settings_are_left_as_they_were() -> None:
    names = ("DECODE_THREADS", "THUMBNAILS", "DEPTH_IMAGES", "AUX_IMAGES")
    before = [getattr(pillow_heif.options, name) for name in names], AvifImagePlugin.DEFAULT_MAX_THREADS
    for format_ in FORMATS:
        whole(coded(colourful(), format_))
    assert ([getattr(pillow_heif.options, name) for name in names], AvifImagePlugin.DEFAULT_MAX_THREADS) == before
    with pytest.raises(OSError):
        Image.open(io.BytesIO(coded(colourful(), "HEIC")))  # nothing was registered with Pillow
