"""Images sent by the page: what becomes of good ones, bad ones and hostile ones. R, S and P are cases of the catalogue."""

import asyncio
import base64
import io
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import zlib
from collections.abc import Awaitable, Callable
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
from convoscope.studio.decoder import Decoder, sentence
from convoscope.studio.decoder_child import decode
from convoscope.studio.errors import RequestRefused
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
        (b"\x00\x00\x00\x18ftypheic" + bytes(50), "image-foreign", "this file is a HEIC picture"),
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
    started = time.monotonic()
    answer = send(served, content, kind="image/jpeg")
    assert (answer.status_code, answer.json()["code"]) == (422, code)
    assert answer.json()["message"].startswith(sentence)
    assert "Traceback" not in answer.text
    assert time.monotonic() - started < 10


def test_the_page_goes_on_after_a_wrong_upload(served: Served) -> None:
    with served.client() as client:
        kind = {"content-type": "image/jpeg"}
        wrong = [
            client.post("/api/images", content=content, headers=kind) for content in (b"<html>", bytes(39_900_000), b"")
        ]
        assert [answer.status_code for answer in wrong] == [422, 413, 422]
        assert pixels(client.post("/api/images", content=picture(), headers=kind)).shape == (96, 128, 3)


def test_every_reason_becomes_a_sentence_about_an_image() -> None:
    assert sentence("is empty (0 bytes)") == "this file is empty (0 bytes)"
    assert sentence("holds 32-bit numbers instead of pixels") == "this file holds 32-bit numbers instead of pixels"
    assert sentence("9 x 9 are too many").startswith("this image is too large: ")
    assert sentence("the PNG ends early (1 of 2 rows)") == "the PNG ends early (1 of 2 rows)"


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
    with socket.create_connection(("127.0.0.1", served.port)) as one:
        headers = "".join(f"{name}: {value}\r\n" for name, value in served.headers().items())
        one.sendall(
            f"POST /api/images HTTP/1.1\r\nhost: 127.0.0.1:{served.port}\r\n{headers}"
            "content-type: image/png\r\ncontent-length: 10000000\r\n\r\n".encode()
            + bytes(5_000_000)
        )
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


# --- the child ---------------------------------------------------------------------------------------------------------


def with_child(code: str, monkeypatch: pytest.MonkeyPatch, content: bytes = b"x", **options: Any) -> Any:
    """What `Decoder` makes of a child that runs this code."""

    async def start() -> Child:
        return await asyncio.create_subprocess_exec(
            sys.executable,
            "-c",
            code,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )

    async def run() -> Any:
        decoder = Decoder(**options)
        with tempfile.TemporaryFile() as file:
            file.write(content)
            try:
                return await decoder.decode(file, 64)
            finally:
                await decoder.stop()

    monkeypatch.setattr(decoder, "start_child", start)
    return asyncio.run(run())


LIMITED = "from convoscope.studio import decoder_child as d; d.CPU_SECONDS = 1; d.limit(); "


@pytest.mark.parametrize(
    "code",
    [
        "import os; os.abort()",
        "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)",
        "raise SystemExit(3)",
        "pass",
        "print()",
        "print('no JSON')",
        "print('[]')",
        "print('{}')",
        "print('7')",
        """print('{"height": 64, "width": 64, "channels": 3, "notes": []}')""",
        """print('{"height": 900, "width": 1, "channels": 1, "notes": []}' + chr(10) + 'x' * 900, end='')""",
        """print('{"height": -1, "width": -1, "channels": 1, "notes": []}' + chr(10) + 'x', end='')""",
        """print('{"height": 1, "width": 1, "channels": 2, "notes": []}' + chr(10) + 'xx', end='')""",
        """print('{"height": 1, "width": 1, "channels": 1, "notes": 7}' + chr(10) + 'x', end='')""",
        """print('{"code": 1}')""",
        "while True: print('x' * 100000)",
        LIMITED + "\nwhile True: pass",
        LIMITED + "x = bytearray(3_000_000_000)",
    ],
)
def test_s14_whatever_becomes_of_the_child_is_one_refusal(code: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(RequestRefused) as caught:
        with_child(code, monkeypatch, content=bytes(1_000))
    assert (caught.value.status, caught.value.code) == (422, "image-undecodable")


def test_s14_a_child_that_hangs_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    started = time.monotonic()
    for code in ("import time; time.sleep(60)", "import sys, time; sys.stdin.close(); time.sleep(60)"):
        with pytest.raises(RequestRefused) as caught:
            with_child(code, monkeypatch, content=bytes(3_000_000), wall_seconds=0.5)
        assert caught.value.code == "image-undecodable"
    assert time.monotonic() - started < 10


@pytest.mark.parametrize(
    ("attack", "error"),
    [
        ("open({place!r}, 'w').write('x' * 100_000)", "File too large"),
        ("bytearray(3_000_000_000)", "MemoryError"),
        ("[open('/dev/null') for _ in range(100)]", "Too many open files"),
    ],
)
def test_s14_the_child_can_do_little(attack: str, error: str, tmp_path: Path) -> None:
    place = tmp_path / "written"
    command = [sys.executable, "-c", LIMITED + attack.format(place=str(place))]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert ended.returncode == 1
    assert error in ended.stderr
    assert not place.exists() or place.stat().st_size == 0


@pytest.mark.skipif(os.geteuid() == 0, reason="root may start as many processes as it likes")
def test_s14_the_child_starts_no_process() -> None:
    ended = subprocess.run(
        [sys.executable, "-c", LIMITED + "import os; os.fork()"], check=False, capture_output=True, text=True
    )
    assert "Resource temporarily unavailable" in ended.stderr


def test_s14_the_child_has_only_so_much_processor_time() -> None:
    ended = subprocess.run(
        [sys.executable, "-c", LIMITED + "\nwhile True: pass"], capture_output=True, timeout=30, check=False
    )
    assert ended.returncode in (-signal.SIGXCPU, -signal.SIGKILL)


def test_the_child_is_small() -> None:
    code = "import sys, convoscope.studio.decoder_child; print([name for name in ('torch', 'fastapi', 'matplotlib', 'pydantic') if name in sys.modules])"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stdout.strip() == "[]"


def test_the_largest_picture_fits_into_the_childs_memory() -> None:
    content = io.BytesIO()
    Image.new("RGBA", (7071, 7071), (1, 2, 3, 4)).save(content, "PNG", compress_level=1)
    code = "from convoscope.studio.decoder_child import main; main()"
    ended = subprocess.run(
        [sys.executable, "-c", code], input=b"64\n" + content.getvalue(), capture_output=True, check=True
    )
    assert ended.stdout.startswith(b'{"height": 64, "width": 64, "channels": 3')


def test_a_module_in_the_working_folder_is_not_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "PIL.py").write_text("raise SystemExit('taken over')")
    (tmp_path / "numpy.py").write_text("raise SystemExit('taken over')")
    monkeypatch.chdir(tmp_path)

    async def run() -> Any:
        decoder = Decoder()
        with tempfile.TemporaryFile() as file:
            file.write(picture())
            try:
                return await decoder.decode(file, 64)
            finally:
                await decoder.stop()

    assert asyncio.run(run()).width == 64


def in_a_loop(work: Callable[[Decoder], Awaitable[Any]], **options: Any) -> Any:
    async def run() -> Any:
        decoder = Decoder(**options)
        try:
            return await work(decoder)
        finally:
            await decoder.stop()

    return asyncio.run(run())


def test_a_child_that_ended_while_it_stood_ready_is_replaced() -> None:
    async def work(decoder: Decoder) -> Any:
        decoder.start()
        assert decoder._spare is not None
        child = await decoder._spare
        child.kill()
        await child.wait()
        with tempfile.TemporaryFile() as file:
            file.write(picture())
            return await decoder.decode(file, 64)

    assert in_a_loop(work).width == 64


def test_no_more_than_four_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    running, most, started = 0, 0, 0
    real = decoder.start_child
    assert decoder.CHILDREN_AT_ONCE == 4

    async def ask(self: Decoder, child: Child, file: IO[bytes], side: int) -> bytes:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.05)
        running -= 1
        return b'{"height": 1, "width": 1, "channels": 1, "notes": []}\nx'

    async def start() -> Child:
        nonlocal started
        started += 1
        return await real()

    monkeypatch.setattr(Decoder, "_ask", ask)
    monkeypatch.setattr(decoder, "start_child", start)

    async def work(decoder: Decoder) -> Any:
        with tempfile.TemporaryFile() as file:
            return await asyncio.gather(*(decoder.decode(file, 8) for _ in range(12)))

    assert len(in_a_loop(work)) == 12
    assert most == 4
    assert started <= 12 + 4


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


def test_a_client_may_drop_a_folder_but_not_wait_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoder, "WAITING", 2)
    monkeypatch.setattr(decoder, "READ_AT_ONCE", 2)
    order: list[int] = []

    async def one(decoder: Decoder, client: str, number: int) -> int:
        async with decoder.place(client) as turn, turn:
            order.append(number)
            await asyncio.sleep(0.01)
        return number

    async def work(decoder: Decoder) -> None:
        waiting = [asyncio.create_task(one(decoder, "a", number)) for number in range(5)]
        await asyncio.sleep(0)
        waiting[2].cancel()
        done = await asyncio.gather(*waiting, one(decoder, "b", 7), return_exceptions=True)
        assert isinstance(done[2], asyncio.CancelledError)
        assert isinstance(done[4], RequestRefused)
        assert (done[4].status, done[4].code) == (429, "images-waiting")
        assert [done[0], done[1], done[3], done[5]] == [0, 1, 3, 7]
        assert order == [0, 7, 1, 3]
        assert await one(decoder, "a", 8) == 8
        assert decoder._queues == {}, "nothing is kept of who has left"

    in_a_loop(work)


def test_what_waits_is_not_read_yet(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """L05: two megabytes wait at their sender, not in this process's memory or on its disk."""
    hang = threading.Event()
    monkeypatch.setattr(decoder, "READ_AT_ONCE", 2)

    async def ask(self: Decoder, child: Child, file: IO[bytes], side: int) -> bytes:
        await asyncio.to_thread(hang.wait, 60)
        return ONE_PIXEL

    monkeypatch.setattr(Decoder, "_ask", ask)
    before = len(spooled())
    with ThreadPoolExecutor(6) as senders:
        try:
            sent = [senders.submit(send, served, bytes(2_000_000)) for _ in range(6)]
            until(lambda: len(spooled()) == before + 2, seconds=20)
            time.sleep(0.3)
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


def test_the_end_of_a_child_is_no_warning(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """It has often ended by itself when it is ended, and asyncio has not yet heard of it."""
    wait, start = os.waitpid, decoder.start_child

    def waitpid(pid: int, options: int) -> tuple[int, int]:
        time.sleep(0 if options & os.WNOHANG else 0.4)
        return wait(pid, options)

    async def start_and_end() -> Child:
        child = await start()
        os.kill(child.pid, signal.SIGKILL)
        status = Path(f"/proc/{child.pid}/stat")
        while status.exists() and " Z " not in status.read_text():
            await asyncio.sleep(0.01)
        return child

    monkeypatch.setattr(os, "waitpid", waitpid)
    monkeypatch.setattr(decoder, "start_child", start_and_end)

    async def work(decoder: Decoder) -> None:
        with tempfile.TemporaryFile() as file:
            file.write(picture())
            with pytest.raises(RequestRefused):
                await decoder.decode(file, 64)

    in_a_loop(work)
    assert [record.getMessage() for record in caplog.records] == []


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


@pytest.mark.parametrize("side", [8, 64, 512])
def test_decode_keeps_the_aspect(side: int) -> None:
    line, content = decode(picture(size=(640, 200)), side)
    assert line["width"] == side
    assert line["height"] == round(200 * side / 640)
    assert len(content) == line["width"] * line["height"] * 3


def test_a_picture_in_pieces_is_put_together(served: Served) -> None:
    content = picture(size=(900, 700))
    with served.client() as client:
        answer = client.post(
            "/api/images",
            content=(content[i : i + 997] for i in range(0, len(content), 997)),
            headers={"content-type": "image/png"},
        )
    assert pixels(answer).shape == (100, 128, 3)
