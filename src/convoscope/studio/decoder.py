"""Images that the page sends: spooled into a file without a name, decoded in a child process with limits, never stored.

The client's file name is not asked for, so there is none to misuse.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import errno
import json
import signal
import tempfile
from asyncio.subprocess import Process
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import IO, Annotated, Final

from fastapi import APIRouter, Query, Request

from ..children import own_process
from .child_signals import signal_child
from .decoder_child import CPU_SECONDS, MEMORY_BYTES
from .messages.common import Pixels
from .state import RequestRefused, client_of

WALL_SECONDS: Final = 30.0
"""Longer than the processor time a child gets: it may have to wait for its turn."""
CHILDREN_AT_ONCE: Final = 4
READ_AT_ONCE: Final = 6
"""Images of one client that are received at once, as many as a browser sends."""
WAITING: Final = 30
"""Images of one client that may wait beyond these: a class behind one address, or a folder dropped at once."""
_END_SECONDS: Final = 5.0

router = APIRouter()

_BODY: Final = {"schema": {"type": "string", "format": "binary", "maxLength": 20_000_000}}


@router.post(
    "/api/images",
    openapi_extra={
        "requestBody": {
            "required": True,
            "description": "The bytes of a JPEG, PNG, WEBP, BMP or GIF file, at most 20 MB.",
            "content": {"application/octet-stream": _BODY, "image/*": _BODY},
        }
    },
)
async def decode_upload(request: Request, side: Annotated[int, Query(ge=8, le=512)] = 128) -> Pixels:
    """Decode an image file; its longest side is scaled down to `side` pixels, never up."""
    decoding: Decoding = request.app.state.decoding
    async with decoding.place(client_of(request)) as turn:
        try:
            with tempfile.TemporaryFile(buffering=0) as file:
                async for chunk in request.stream():
                    file.write(chunk)
                async with turn:
                    return await decoding.decode(file, side)
        except OSError as error:
            raise _machine(error) from error


@dataclass
class _Line:
    """The images of one client."""

    receiving: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(READ_AT_ONCE))
    decoding: asyncio.Lock = field(default_factory=asyncio.Lock)
    length: int = 0


class Decoding:
    """Decodes images in child processes, a few at once; the others wait. One child stands ready: to start takes it 0.3
    s.
    """

    def __init__(self, at_once: int = CHILDREN_AT_ONCE, wall_seconds: float = WALL_SECONDS) -> None:
        self._turns = asyncio.Semaphore(at_once)
        self._wall_seconds = wall_seconds
        self._lines: dict[str, _Line] = {}
        self._ready: asyncio.Task[Process] | None = None
        self._stopped = False

    def start(self) -> None:
        """Let a child stand ready."""
        if self._ready is None and not self._stopped:
            self._ready = asyncio.create_task(start_child())

    async def stop(self) -> None:
        """End the child that stands ready."""
        self._stopped = True
        if self._ready is not None:
            await asyncio.wait([self._ready])
            if self._ready.exception() is None:
                await _end(self._ready.result())

    @contextlib.asynccontextmanager
    async def place(self, client: str) -> AsyncIterator[asyncio.Lock]:
        """While it lasts, an image of this client may be received, and decoded when it has the lock: one of a client at
        a time.

        So many of one client keep no other waiting, and what they wait with is not even read.

        Raises:
            RequestRefused: 429 `images-waiting`, too many of this client wait already.
        """
        line = self._lines.setdefault(client, _Line())
        if line.length >= READ_AT_ONCE + WAITING:
            raise RequestRefused(
                429, "images-waiting", f"{WAITING} images from here wait to be decoded already", "send fewer at once"
            )
        line.length += 1
        try:
            async with line.receiving:
                yield line.decoding
        finally:
            line.length -= 1
            if not line.length:
                del self._lines[client]

    async def decode(self, file: IO[bytes], side: int) -> Pixels:
        """The image in `file`, with its longest side scaled down to `side` pixels.

        Raises:
            RequestRefused: 422, it is no image that can be decoded within the limits.
            OSError: no process can be started.
        """
        async with self._turns:
            ready, self._ready = self._ready, None
            child = await (ready or start_child())
            if child.returncode is not None:  # ended while it stood ready
                child = await start_child()
            try:
                output = await self._ask(child, file, side)
            finally:
                await _end(child)
                self.start()
        line, _, pixels = output.partition(b"\n")
        try:
            answer = json.loads(line)
            if "code" in answer:
                raise RequestRefused(422, answer["code"], sentence(answer["message"]), answer["hint"])
            height, width, channels = answer["height"], answer["width"], answer["channels"]
            if len(pixels) != height * width * channels or not 1 <= height <= side or not 1 <= width <= side:
                raise ValueError("pixels are missing")
            values = base64.b64encode(pixels).decode()
            return Pixels(height=height, width=width, channels=channels, values=values, notes=answer["notes"])
        except (ValueError, TypeError, KeyError):
            # Nothing that a child says is taken on trust; this one was ended by a limit or by its input.
            raise RequestRefused(
                422,
                "image-undecodable",
                f"this image cannot be decoded within {CPU_SECONDS} seconds and {MEMORY_BYTES / 1e9:g} GB of memory",
                "make it smaller, or save it anew in another program",
            ) from None

    async def _ask(self, child: Process, file: IO[bytes], side: int) -> bytes:
        """What the child says; cut short if it dies or takes too long."""
        assert child.stdin is not None
        assert child.stdout is not None
        file.seek(0)
        try:
            async with asyncio.timeout(self._wall_seconds):
                with contextlib.suppress(ConnectionError):
                    child.stdin.write(b"%d\n" % side)
                    while piece := file.read(262_144):
                        child.stdin.write(piece)
                        await child.stdin.drain()
                    child.stdin.close()
                # A line of JSON and the pixels; whatever is beyond that makes the answer invalid.
                return await _read(child.stdout, side * side * 3 + 100_000)
        except TimeoutError:
            return b""


async def start_child() -> Process:
    """A process that waits for an image."""
    command, environment = own_process("convoscope.studio.decoder_child", OPENBLAS_NUM_THREADS="1", OMP_NUM_THREADS="1")
    return await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        env=environment,
        cwd="/",
    )


async def _end(child: Process) -> None:
    signal_child(child, signal.SIGKILL)
    assert child.stdout is not None
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_END_SECONDS):
            # asyncio takes a process for ended once its pipes are, and a full one ends only when it is emptied.
            while await child.stdout.read(65_536):
                pass
            await child.wait()


async def _read(stream: asyncio.StreamReader, most: int) -> bytes:
    pieces, count = [], 0
    while count < most and (piece := await stream.read(65_536)):
        pieces.append(piece)
        count += len(piece)
    return b"".join(pieces)


def sentence(reason: str) -> str:
    """A reason of the data room, which speaks of a file by its path, as a sentence about an image without a name."""
    if reason.startswith(("is ", "has ", "holds ", "carries ", "cannot ")):
        return f"this file {reason}"
    if reason[:1].isdigit():
        return f"this image is too large: {reason}"
    return reason


def _machine(error: OSError) -> RequestRefused:
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return RequestRefused(
            507, "disk-full", "the disk of the studio's machine is full; nothing was stored", "make room on that disk"
        )
    return RequestRefused(503, "upload-failed", f"the studio's machine says: {error.strerror or 'it cannot'}")
