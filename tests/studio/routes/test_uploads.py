"""Images sent by the page: what becomes of good ones, bad ones and hostile ones. R, S and P are cases of the catalogue."""

import asyncio
import base64
import io
import tempfile
import threading
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, Any

import numpy as np
import psutil
import pytest
from numpy.typing import NDArray
from PIL import Image

from convoscope.data import InputFormat, open_image
from convoscope.studio import decoder
from convoscope.studio.decoder import Decoder
from tests.support.studios import Served, serving, until

Child = asyncio.subprocess.Process


def picture(mode: str = "RGB", size: tuple[int, int] = (400, 300), kind: str = "PNG", **options: Any) -> bytes:
    ramp = np.linspace(0, 255, size[0] * size[1] * 4).astype(np.uint8).reshape(size[1], size[0], 4)
    buffer = io.BytesIO()
    Image.fromarray(ramp, "RGBA").convert(mode).save(buffer, kind, **options)
    return buffer.getvalue()


def send(served: Served, content: bytes, side: int | None = None, kind: str = "application/octet-stream") -> Any:
    with served.client() as client:
        query = "" if side is None else f"?side={side}"
        return client.post(f"/api/images{query}", content=content, headers={"content-type": kind})


def pixels(answer: Any) -> NDArray[np.uint8]:
    assert answer.status_code == 200, answer.text
    told = answer.json()
    shape = told["height"], told["width"], told["channels"]
    return np.frombuffer(base64.b64decode(told["values"]), np.uint8).reshape(shape)


@pytest.mark.parametrize(
    ("content", "side", "shape"),
    [
        (picture(), 128, (96, 128, 3)),
        (picture(size=(300, 400)), 128, (128, 96, 3)),
        (picture(kind="JPEG"), 512, (300, 400, 3)),
        (picture("L"), 100, (75, 100, 1)),
        (picture("L", kind="JPEG"), 8, (6, 8, 1)),
        (picture("RGBA", kind="WEBP", lossless=True), 64, (48, 64, 3)),
        (picture("P", kind="GIF"), 64, (48, 64, 3)),
        (picture(size=(5, 3), kind="BMP"), 128, (3, 5, 3)),
        (picture(size=(1, 1)), 8, (1, 1, 3)),
        (picture(size=(2000, 1)), 8, (1, 8, 3)),
    ],
)
def test_an_upload_is_what_open_image_makes_of_it(
    served: Served, content: bytes, side: int, shape: tuple[int, int, int]
) -> None:
    answer = send(served, content, side)
    height, width, channels = shape
    form = InputFormat(height=height, width=width, channels=channels, resize="stretch")
    assert np.array_equal(pixels(answer), open_image(content, form))
    scaled = any("scaled down" in note for note in answer.json()["notes"])
    assert scaled == (max(Image.open(io.BytesIO(content)).size) > side)


def test_the_side_is_128_unless_said_and_8_to_512(served: Served) -> None:
    assert pixels(send(served, picture())).shape == (96, 128, 3)
    for side in (7, 513, 10**30):
        answer = send(served, picture(), side)
        assert answer.status_code == 422
        assert answer.json()["message"].startswith("side: ")


def test_an_upload_is_upright(served: Served) -> None:
    upright = Image.fromarray(np.arange(6, dtype=np.uint8).reshape(2, 3) * 40)
    exif = Image.Exif()
    exif[274] = 6
    buffer = io.BytesIO()
    upright.rotate(90, expand=True).save(buffer, "PNG", exif=exif)
    assert np.array_equal(pixels(send(served, buffer.getvalue()))[:, :, 0], np.asarray(upright))


def bomb() -> bytes:
    """P15: 50,000 x 50,000 pixels in 300 kB."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return len(body).to_bytes(4, "big") + name + body + zlib.crc32(name + body).to_bytes(4, "big")

    header = (50_000).to_bytes(4, "big") * 2 + bytes([1, 0, 0, 0, 0])
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(bytes(6251 * 50_000), 1))
        + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize(
    ("content", "code", "sentence"),
    [
        (b"<!doctype html><title>Not found</title>", "image-foreign", "this file is an HTML page"),
        (b"<html><body>log in</body></html>", "image-foreign", "this file is an HTML page"),
        (b"Dear diary,\n", "image-broken", "this file is no picture"),
        (b"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>", "image-foreign", "this file is an SVG drawing"),
        (b"<?xml version='1.0'?><svg/>", "image-foreign", "this file is an SVG drawing"),
        (b"%PDF-1.7", "image-foreign", "this file is a PDF document"),
        (b"PK\x03\x04" + bytes(100), "image-foreign", "this file is a ZIP archive"),
        (b"\x00\x00\x00\x18ftypheic" + bytes(50), "image-foreign", "the HEIC has no still picture"),
        (b"MZ" + bytes(1000), "image-foreign", "this file is a program"),
        (b"", "image-broken", "this file is empty"),
        (b"\xff", "image-broken", "this file is no picture"),
        (bytes(1_000_000), "image-broken", "this file is no picture"),
        (picture(kind="JPEG", quality=95)[:-9000], "image-broken", "the JPEG ends early ("),
        (picture()[:-200], "image-broken", "the PNG ends early ("),
        (bomb(), "image-over-limit", "this image is too large: 50000 x 50000"),
        (picture(size=(20_001, 1)), "image-over-limit", "this image is too large: 20001 x 1"),
    ],
)  # fmt: skip
def test_a_wrong_upload_gets_a_plain_sentence(served: Served, content: bytes, code: str, sentence: str) -> None:
    """P01 to P21 as they are sent to the studio."""
    answer = send(served, content, kind="image/jpeg")
    assert (answer.status_code, answer.json()["code"]) == (422, code)
    assert answer.json()["message"].startswith(sentence)
    assert "Traceback" not in answer.text


def test_the_page_goes_on_after_a_wrong_upload(served: Served) -> None:
    with served.client() as client:
        kind = {"content-type": "image/jpeg"}
        wrong = [
            client.post("/api/images", content=content, headers=kind) for content in (b"<html>", bytes(39_900_000), b"")
        ]
        assert [answer.status_code for answer in wrong] == [422, 413, 422]
        assert pixels(client.post("/api/images", content=picture(), headers=kind)).shape == (96, 128, 3)


@pytest.mark.parametrize(
    "kind", ["text/html", "text/plain", "application/json", "multipart/form-data; boundary=x", "video/mp4"]
)
def test_r09_what_calls_itself_something_else_is_not_read(served: Served, kind: str) -> None:
    answer = send(served, picture(), kind=kind)
    assert (answer.status_code, answer.json()["code"]) == (415, "content-type-wrong")


NAMES = ["../../x.jpg", "C:\\x.jpg", "x\0.jpg", "a" * 5_000, "/etc/passwd", "😀.jpg", "-rf", "\x1b[31m"]


def test_r05_no_name_of_the_clients_is_used(served: Served, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    for name in NAMES:
        header = "".join(character if " " <= character <= "~" else "_" for character in name)
        with served.client() as client:
            answer = client.post(
                "/api/images",
                params={"name": name, "filename": name},
                content=picture(),
                headers={"content-type": "image/png", "content-disposition": f'form-data; filename="{header}"'},
            )
        assert answer.status_code == 200
        assert header not in answer.text
    assert list(tmp_path.iterdir()) == []


def spooled() -> list[str]:
    """Files that are open in this process (where the server runs) and have no name any more."""
    found = []
    for link in Path("/proc/self/fd").iterdir():
        try:
            target = str(link.readlink())
        except OSError:
            continue
        if target.endswith("(deleted)") and target.startswith(tempfile.gettempdir()):
            found.append(target)
    return found


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="reads /proc")
def test_r10_a_client_that_leaves_mid_upload_leaves_nothing_behind(served: Served) -> None:
    before = len(spooled())
    with served.post("/api/images", "image/png", "content-length: 10000000", bytes(5_000_000)):
        until(lambda: len(spooled()) == before + 1, seconds=5)
    until(lambda: len(spooled()) == before, seconds=10)


def test_r04_uploads_take_no_memory(served: Served) -> None:
    process = psutil.Process()
    send(served, bytes(20_000_000), kind="image/jpeg")
    before = process.memory_info().rss

    def body() -> Any:
        for _ in range(80):
            yield bytes(250_000)

    highest = 0
    for _ in range(8):
        with served.client() as client:
            client.post("/api/images", content=body(), headers={"content-type": "image/jpeg"})
        highest = max(highest, process.memory_info().rss)
    assert highest - before < 16_000_000


def test_r16_a_full_disk(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    # /dev/full takes nothing: every write fails as on a full disk.
    monkeypatch.setattr(tempfile, "TemporaryFile", lambda **_: open("/dev/full", "wb", buffering=0))  # noqa: SIM115
    answer = send(served, picture())
    assert (answer.status_code, answer.json()["code"]) == (507, "disk-full")
    assert "nothing was stored" in answer.json()["message"]
    assert "/" not in answer.json()["message"]


def test_a_machine_that_starts_no_process(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    async def decode(self: Decoder, file: IO[bytes], side: int) -> None:
        raise BlockingIOError(11, "Resource temporarily unavailable", "/secret/place")

    monkeypatch.setattr(Decoder, "decode", decode)
    answer = send(served, picture())
    assert (answer.status_code, answer.json()["code"]) == (503, "upload-failed")
    assert "secret" not in answer.text


ONE_PIXEL = b'{"height": 1, "width": 1, "channels": 1, "notes": []}\nx'


def test_many_images_of_one_client_keep_no_other_waiting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The hostile ones take all the time that a child gets; the class's other images, and the owner's, go past them."""
    hostile, hang = threading.Semaphore(0), threading.Event()

    async def ask(self: Decoder, child: Child, file: IO[bytes], side: int) -> bytes:
        file.seek(0)
        if file.read() == b"hostile":
            hostile.release()
            await asyncio.to_thread(hang.wait, 60)
        return ONE_PIXEL

    monkeypatch.setattr(Decoder, "_ask", ask)
    with serving(tmp_path) as served, ThreadPoolExecutor(8) as senders:

        def send_as(role: str, content: bytes) -> int:
            with served.client(role) as client:
                kind = {"content-type": "image/png"}
                return int(client.post("/api/images", content=content, headers=kind).status_code)

        try:
            sent = [senders.submit(send_as, "student", b"hostile") for _ in range(8)]
            assert hostile.acquire(timeout=20)
            assert [send_as("owner", b"mine") for _ in range(5)] == [200] * 5
            assert not any(one.done() for one in sent)
            assert not hostile.acquire(blocking=False), "one of a client at a time"
        finally:
            hang.set()
        assert [one.result() for one in sent] == [200] * 8
        assert served.faults == []


def test_what_waits_is_not_read_yet(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """L05: two megabytes wait at their sender, not in this process's memory or on its disk."""
    hang = threading.Event()
    decoders: list[Decoder] = []
    monkeypatch.setattr(decoder, "READ_AT_ONCE", 2)

    async def ask(self: Decoder, child: Child, file: IO[bytes], side: int) -> bytes:
        decoders.append(self)
        await asyncio.to_thread(hang.wait, 60)
        return ONE_PIXEL

    monkeypatch.setattr(Decoder, "_ask", ask)
    before = len(spooled())
    with ThreadPoolExecutor(6) as senders:
        try:
            sent = [senders.submit(send, served, bytes(2_000_000)) for _ in range(6)]
            until(lambda: decoders and decoders[0]._queues["owner"].length == 6, seconds=20)
            until(lambda: len(spooled()) == before + 2, seconds=20)
            assert len(spooled()) == before + 2
        finally:
            hang.set()
        assert [one.result().status_code for one in sent] == [200] * 6


def test_l05_many_pictures_dropped_at_once_are_each_decoded_or_refused(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoder, "WAITING", 1)
    monkeypatch.setattr(decoder, "READ_AT_ONCE", 2)
    content = picture(size=(16, 16))
    with ThreadPoolExecutor(8) as senders:
        answers = list(senders.map(lambda _: send(served, content), range(8)))
    told = {(answer.status_code, answer.json().get("code")) for answer in answers}
    assert (200, None) in told
    assert told <= {(200, None), (429, "images-waiting")}


def test_no_child_outlives_the_server(tmp_path: Path) -> None:
    def children() -> set[int]:
        return {
            child.pid
            for child in psutil.Process().children(recursive=True)
            if child.status() != psutil.STATUS_ZOMBIE and "decoder_child" in " ".join(child.cmdline())
        }

    before = children()
    with serving(tmp_path) as served:
        pixels(send(served, picture()))
        until(lambda: children() - before, seconds=5)
    until(lambda: not children() - before, seconds=5)


def test_a_picture_in_pieces_is_put_together(served: Served) -> None:
    content = picture(size=(900, 700))
    with served.client() as client:
        answer = client.post(
            "/api/images",
            content=(content[i : i + 997] for i in range(0, len(content), 997)),
            headers={"content-type": "image/png"},
        )
    assert pixels(answer).shape == (100, 128, 3)
