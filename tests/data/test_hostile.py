"""Pictures made to cost time or memory, and half ones that look whole: each is refused, or read rightly, within 2 s
and 300 MB.
"""

import io
import json
import os
import struct
import subprocess
import sys
import threading
from concurrent.futures import Future
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from convoscope.data import InputFormat, Resize, Skipped, inspect, load, open_image, prepare, turns
from convoscope.data.decode import decode_bytes, turn_to_read
from convoscope.data.turns import Turns, abandoned, decoding_threads
from convoscope.errors import DataError
from convoscope.studio.decoder_child import decode as decode_upload
from convoscope.training import train
from tests.support import hostile
from tests.support.pictures import class_folders, colourful, encoded, exif, jpeg

EACH = 4
ROOT = Path(__file__).parents[2]
FORM = InputFormat(height=24, width=32, channels=3, resize="stretch")


def python(program: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
        timeout=600,
        check=False,
    )


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="only Linux tells a process's peak of memory")
def test_200_hostile_pictures(tmp_path: Path) -> None:
    kinds = [*hostile.REFUSED, *hostile.READ]
    assert len(kinds) * EACH >= 200
    result = python(
        f"from tests.support import hostile; hostile.child({kinds}, range({EACH}), {str(tmp_path / 'picture')!r})"
    )
    lines = result.stdout.splitlines()
    faults = [line for line in lines if line.startswith("fault ")]
    assert not faults, "\n".join(["see one again: python -m tests.support.hostile KIND NUMBER", *faults[:10]])
    assert result.returncode == 0, f"{lines[-1:]} {result.stderr[-500:]}"
    assert len(lines) == len(kinds) * EACH


QUICK = [
    "jpeg-scans",
    "jpeg-cut",
    "jpeg-of-twice-the-height",
    "jpeg-of-another-kind",
    "jpeg-restart-markers",
    "png-half",
    "png-half-interlaced",
    "png-without-palette",
    "gif-half",
    "webp-half",
    "bmp-half",
    "bmp-of-run-lengths-half",
]


def test_hostile_pictures_in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONVOSCOPE_CACHE", str(tmp_path / "cache"))
    root = class_folders(tmp_path / "photos", {"cat": 75, "dog": 75})
    bad = []
    for number, kind in enumerate(QUICK):
        bad.append(root / ("cat", "dog")[number % 2] / f"x{number}{os.extsep}jpg")
        bad[-1].write_bytes(hostile.hostile(kind, 0))
    names = sorted(str(path.relative_to(root)) for path in bad)
    seen = inspect(load(root))
    assert sorted(skipped.path for skipped in seen.skipped) == names
    run = train(root, "flatten dense", output=tmp_path / "run", size=8, epochs=1, test=0.1)
    assert sorted(skipped.path for skipped in run.prepared().dataset.skipped) == names
    assert sum(run.settings.images.values()) == 150
    skipped: list[Skipped] = []
    answers = run.predict([*bad, root / "cat" / "0000.png"], skipped=skipped)
    assert len(answers) == 1
    assert [item.path for item in skipped] == [str(path) for path in bad]
    for item in (*seen.skipped, *skipped):
        assert item.reason
        assert "0x" not in item.reason


@pytest.mark.parametrize(
    "kind", ["jpeg-empty-tables", "jpeg-refining-scans", "png-texts", "gif-sub-blocks", "webp-half"]
)
def test_hostile_pictures_in_the_studios_child(kind: str) -> None:
    with pytest.raises(DataError):
        decode_upload(hostile.hostile(kind, 0), 128)
    child = subprocess.run(
        [sys.executable, "-P", "-m", "convoscope.studio.decoder_child"],
        input=b"128\n" + hostile.hostile(kind, 0)[:20_000_000],
        capture_output=True,
        timeout=60,
        check=True,
    )
    assert json.loads(child.stdout)["code"] in ("image-broken", "image-over-limit")


# --- half pictures -----------------------------------------------------------------------------------------------------


def refused(data: bytes, *, tiff: bool = False) -> str:
    with pytest.raises(DataError) as caught:
        decode_bytes(data, FORM, tiff=tiff)
    return caught.value.reason


@pytest.mark.parametrize("size", [(480, 320), (960, 1280)])
def test_a_jpeg_cut_before_an_end_marker_tells_its_rows(size: tuple[int, int]) -> None:
    data = jpeg(*size)
    reason = refused(data[: len(data) // 2] + b"\xff\xd9")
    rows = int(reason.removeprefix("the JPEG ends early (").split(" of ")[0])
    assert reason.endswith(f" of {size[0]} rows)")
    assert abs(rows / size[0] - 0.5) < 0.12


def test_a_jpeg_of_twice_its_height_tells_its_rows() -> None:
    data = bytearray(jpeg(240, 320))
    place = data.index(b"\xff\xc0") + 5
    data[place : place + 2] = struct.pack(">H", 480)
    # libjpeg gives out the last two rows once it has seen those below, which it needs for their colour.
    assert refused(bytes(data)) == "the JPEG ends early (238 of 480 rows)"


def test_a_progressive_jpeg_tells_its_scan() -> None:
    data = jpeg(200, 300, progressive=True)
    last = data.rindex(b"\xff\xda")
    assert refused(data[: (last + len(data)) // 2] + b"\xff\xd9") == "the JPEG ends early (within scan 10 of 10)"
    assert "its details are missing" in refused(data[: data.rindex(b"\xff\xc4")] + b"\xff\xd9")
    assert "its details are missing" in refused(data[: data.rindex(b"\xff\xc4")])


def test_a_jpeg_that_lacks_restart_markers() -> None:
    data = jpeg(400, 300, restart_marker_rows=1)
    without = data[: data.index(b"\xff\xd2")] + data[data.index(b"\xff\xd4") :]
    assert refused(without) == "parts of the JPEG are missing (22 of 24 restart markers)"


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"restart_marker_blocks": 3}, {"subsampling": 0}])
@pytest.mark.parametrize("quality", [5, 60, 100])
@pytest.mark.parametrize("grey", [False, True])
def test_whole_jpegs_stay_whole(options: dict[str, object], quality: int, grey: bool) -> None:
    """Also where the last block is a few bits, and whatever stands behind the end."""
    for side in (1, 7, 8, 9, 16, 17, 33, 100):
        for pixels in (colourful(side, side + 3, side), np.zeros((side, side + 3, 3), np.uint8)):
            image = Image.fromarray(pixels).convert("L" if grey else "RGB")
            data = encoded(image, "JPEG", quality=quality, **options)
            with Image.open(io.BytesIO(data)) as opened:
                wanted = np.asarray(opened.convert("RGB"))
            form = InputFormat(height=side, width=side + 3, channels=3, resize="stretch")
            for changed in (data, data[:-2], data + b"\xff\xd8\xff" * 50, data[:-2] + bytes(5_000)):
                assert np.array_equal(open_image(changed, form), wanted)


def test_a_png_whose_pixels_end_early_tells_its_rows() -> None:
    assert refused(hostile.hostile("png-half", 1)).startswith("the PNG ends early (")
    assert refused(hostile.hostile("png-half-interlaced", 1)).endswith("rows of all passes)")
    black = encoded(Image.new("RGB", (40, 40)))
    assert open_image(black, FORM).max() == 0


def test_a_bmp_tells_its_rows() -> None:
    data = encoded(colourful(), "BMP")
    assert refused(data[: 54 + 64 * 3 * 20 + 5]) == "the BMP ends early (20 of 48 rows)"


def test_other_halves() -> None:
    assert refused(hostile.hostile("gif-half", 0)) == "the GIF ends early"
    assert refused(hostile.hostile("bmp-of-run-lengths-half", 0)) == "the BMP ends early"
    assert refused(hostile.hostile("tiff-of-half-its-strips", 0), tiff=True).startswith("the TIFF ends early (1 of ")


def test_kinds_that_are_not_read_are_named() -> None:
    data = bytearray(jpeg())
    place = data.index(b"\xff\xc0")
    data[place + 4] = 12
    assert refused(bytes(data)) == "is a JPEG of 12 bits a sample instead of 8, which is not read"
    data[place + 1], data[place + 4] = 0xC9, 8
    assert refused(bytes(data)) == "is a JPEG of the arithmetic-coded kind, which is not read"
    assert refused(hostile.hostile("png-without-palette", 0)) == "the PNG's palette is missing"
    tiff = encoded(colourful(), "TIFF", compression="jpeg")
    assert refused(tiff, tiff=True) == "is a TIFF of compression 7, which is not read"
    assert "BigTIFF" in refused(encoded(colourful(), "TIFF", big_tiff=True), tiff=True)


def test_reasons_name_no_object_of_ours() -> None:
    header = bytearray(encoded(colourful(), "BMP"))
    header[28:30] = struct.pack("<H", 7)
    for data in (bytes(header), encoded(colourful(), "WEBP")[:20] + bytes(2_000)):
        reason = refused(data[:4] + struct.pack("<I", len(data) - 8) + data[8:] if data[:4] == b"RIFF" else data)
        assert "object" not in reason
        assert "0x" not in reason


# --- large pictures ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "I;16", "CMYK", "RGB"])
@pytest.mark.parametrize("resize", ["fit", "crop", "stretch"])
def test_strips_give_the_same_pixels(mode: str, resize: Resize, monkeypatch: pytest.MonkeyPatch) -> None:
    image = Image.fromarray(colourful(203, 317))
    if mode == "I;16":
        image = Image.fromarray(np.arange(203 * 317, dtype=np.uint16).reshape(203, 317))
    elif mode == "RGBA":
        image.putalpha(Image.fromarray(colourful(203, 317, 1)[:, :, 0]))
    elif mode != "RGB":
        image = image.convert(mode)
    format_ = "TIFF" if mode == "CMYK" else "PNG"
    for orientation in (1, 3, 6, 7):
        data = encoded(image, format_, exif=exif(orientation)[6:] if format_ == "PNG" else b"")
        for height, width, channels in ((11, 17, 3), (100, 30, 1), (203, 317, 3), (150, 290, 3)):
            form = InputFormat(height=height, width=width, channels=channels, resize=resize)
            whole = open_image(data, form, tiff=True)
            with monkeypatch.context() as patch:
                patch.setattr("convoscope.data.upright.STRIP_PIXELS", 2_000)
                assert np.array_equal(open_image(data, form, tiff=True), whole)


def test_what_takes_too_much_memory_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    data = encoded(Image.new("RGB", (600, 400)), "WEBP")
    monkeypatch.setattr("convoscope.data.decode.MAX_DECODE_BYTES", 3_000_000)
    assert refused(data).startswith("600 x 400 as WEBP take ")
    monkeypatch.setenv("CONVOSCOPE_MAX_MEGAPIXELS", "178")
    assert open_image(data, FORM).shape == (24, 32, 3)


# --- threads -----------------------------------------------------------------------------------------------------------


def test_so_many_bytes_are_in_use_at_once() -> None:
    turns_, used, most, lock = Turns(10), 0, 0, threading.Lock()

    def take(count: int) -> None:
        nonlocal used, most
        with turns_.take(count):
            with lock:
                used += count
                most = max(most, used)
            os.sched_yield()
            with lock:
                used -= count

    with decoding_threads(8) as pool:
        list(pool.map(take, [4, 3, 6, 1, 9, 2, 25, 5] * 5))
    assert most == 25  # one that is larger than all of it had it alone
    with turn_to_read(__file__):
        pass


def test_an_interruption_waits_for_no_more_than_the_pictures_at_hand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = class_folders(tmp_path / "photos", {"cat": 60, "dog": 60})
    looked = []

    def slow(file: str) -> bytes:
        looked.append(file)
        if len(looked) >= 4:
            interrupted.set()
        if interrupted.is_set():  # what is at hand takes until the pool is given up
            turns._THREAD.stop.wait(30)
        return Path(file).read_bytes()

    interrupted = threading.Event()

    def interrupt(*_: object) -> None:
        interrupted.wait()
        raise KeyboardInterrupt

    monkeypatch.setattr("convoscope.data.sources.read_picture", slow)
    monkeypatch.setattr(Future, "result", interrupt)
    with pytest.raises(KeyboardInterrupt):
        prepare(load(root), FORM, cache=tmp_path / "cache", workers=2)
    count = len(looked)
    assert count < 20
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("decode")]
    assert not abandoned()


def test_who_waits_for_room_goes_when_the_pool_is_given_up() -> None:
    room, waiting = Turns(1), threading.Event()

    def wait() -> None:
        waiting.set()
        with room.take(1):
            pass

    with room.take(1):
        with decoding_threads(1) as pool:
            asked = pool.submit(wait)
            waiting.wait()
        assert isinstance(asked.exception(), turns.Abandoned)
