"""The child processes that decode images: their limits, their number, and whose turn it is. S are cases of the catalogue."""

import asyncio
import io
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import IO, Any

import psutil
import pytest
from PIL import Image

from convoscope.studio import decoder as room
from convoscope.studio.child_signals import end_at_once
from convoscope.studio.decoder import Decoder, sentence
from convoscope.studio.decoder_child import decode
from convoscope.studio.errors import RequestRefused
from convoscope.studio.messages.common import Pixels
from tests.support.pictures import colourful, encoded

Child = asyncio.subprocess.Process


PICTURE = encoded(colourful(300, 400))


def test_every_reason_becomes_a_sentence_about_an_image() -> None:
    assert sentence("is empty (0 bytes)") == "this file is empty (0 bytes)"
    assert sentence("holds 32-bit numbers instead of pixels") == "this file holds 32-bit numbers instead of pixels"
    assert sentence("9 x 9 are too many").startswith("this image is too large: ")
    assert sentence("the PNG ends early (1 of 2 rows)") == "the PNG ends early (1 of 2 rows)"


async def decoded(decoder: Decoder, content: bytes = PICTURE) -> Pixels:
    with tempfile.TemporaryFile() as file:
        file.write(content)
        return await decoder.decode(file, 64)


def in_a_loop(work: Callable[[Decoder], Awaitable[Any]], **options: Any) -> Any:
    async def run() -> Any:
        decoder = Decoder(**options)
        try:
            return await work(decoder)
        finally:
            await decoder.stop()

    return asyncio.run(run())


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

    monkeypatch.setattr(room, "start_child", start)
    return in_a_loop(lambda decoder: decoded(decoder, content), **options)


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
    for code in ("import time; time.sleep(60)", "import sys, time; sys.stdin.close(); time.sleep(60)"):
        with pytest.raises(RequestRefused) as caught:
            with_child(code, monkeypatch, content=bytes(3_000_000), wall_seconds=0.5)
        assert caught.value.code == "image-undecodable"
        assert not [child for child in psutil.Process().children() if code in child.cmdline()]


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
    assert in_a_loop(decoded).width == 64


def test_a_child_that_ended_while_it_stood_ready_is_replaced() -> None:
    async def work(decoder: Decoder) -> Any:
        decoder.start()
        assert decoder._spare is not None
        child = await decoder._spare
        child.kill()
        await child.wait()
        return await decoded(decoder)

    assert in_a_loop(work).width == 64


def test_no_more_than_four_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    running, most, started = 0, 0, 0
    real = room.start_child
    assert room.CHILDREN_AT_ONCE == 4
    four = asyncio.Barrier(4)

    async def ask(self: Decoder, child: Child, file: IO[bytes], side: int) -> bytes:
        nonlocal running, most
        running += 1
        most = max(most, running)
        async with asyncio.timeout(60):
            await four.wait()
        running -= 1
        return b'{"height": 1, "width": 1, "channels": 1, "notes": []}\nx'

    async def start() -> Child:
        nonlocal started
        started += 1
        return await real()

    monkeypatch.setattr(Decoder, "_ask", ask)
    monkeypatch.setattr(room, "start_child", start)

    async def work(decoder: Decoder) -> Any:
        with tempfile.TemporaryFile() as file:
            return await asyncio.gather(*(decoder.decode(file, 8) for _ in range(12)))

    assert len(in_a_loop(work)) == 12
    assert most == 4
    assert started <= 12 + 4


ONE_PIXEL = b'{"height": 1, "width": 1, "channels": 1, "notes": []}\nx'


def test_a_client_may_drop_a_folder_but_not_wait_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "WAITING", 2)
    monkeypatch.setattr(room, "READ_AT_ONCE", 2)
    order: list[int] = []
    another = asyncio.Event()

    async def one(decoder: Decoder, client: str, number: int) -> int:
        async with decoder.place(client) as turn, turn:
            order.append(number)
            if client == "b":
                another.set()
            async with asyncio.timeout(60):
                await another.wait()
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


def test_the_end_of_a_child_is_no_warning(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """It has often ended by itself when it is ended, and asyncio has not yet heard of it."""
    wait, start = os.waitpid, room.start_child
    signalled = threading.Event()

    def waitpid(pid: int, options: int) -> tuple[int, int]:
        if not options & os.WNOHANG:
            signalled.wait(1)
        return wait(pid, options)

    def end_and_say_so(child: Child) -> None:
        end_at_once(child)
        signalled.set()

    async def start_and_end() -> Child:
        child = await start()
        os.kill(child.pid, signal.SIGKILL)
        status = Path(f"/proc/{child.pid}/stat")
        while status.exists() and " Z " not in status.read_text():
            await asyncio.sleep(0.01)
        return child

    monkeypatch.setattr(os, "waitpid", waitpid)
    monkeypatch.setattr(room, "end_at_once", end_and_say_so)
    monkeypatch.setattr(room, "start_child", start_and_end)

    async def work(decoder: Decoder) -> None:
        with pytest.raises(RequestRefused):
            await decoded(decoder)

    in_a_loop(work)
    assert [record.getMessage() for record in caplog.records] == []


@pytest.mark.parametrize("side", [8, 64, 512])
def test_decode_keeps_the_aspect(side: int) -> None:
    line, content = decode(encoded(colourful(200, 640)), side)
    assert line["width"] == side
    assert line["height"] == round(200 * side / 640)
    assert len(content) == line["width"] * line["height"] * 3
