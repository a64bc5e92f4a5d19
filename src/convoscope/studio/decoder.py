"""Decodes uploaded images in child processes with limits: a few at once, and no client keeps the others waiting."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
from asyncio.subprocess import Process
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import IO, Final

from ..children import own_process
from .child_signals import end_at_once
from .decoder_child import CPU_SECONDS, MEMORY_BYTES
from .errors import RequestRefused
from .messages.common import Pixels

WALL_SECONDS: Final = 30.0
"""More than the CPU time that a child may use: it may have to wait for a processor."""
CHILDREN_AT_ONCE: Final = 4
READ_AT_ONCE: Final = 6
"""Images of one client that are received at once, as many as a browser sends at once."""
WAITING: Final = 30
"""More images of one client that may wait: a class behind one address, or a whole folder dropped on the page."""
_END_SECONDS: Final = 5.0


@dataclass
class _Queue:
    """The images of one client."""

    receiving: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(READ_AT_ONCE))
    decoding: asyncio.Lock = field(default_factory=asyncio.Lock)
    length: int = 0


class Decoder:
    """Decodes images in child processes, a few at once; the others wait.

    One child is always started in advance, because starting takes 0.3 s.
    """

    def __init__(self, at_once: int = CHILDREN_AT_ONCE, wall_seconds: float = WALL_SECONDS) -> None:
        self._slots = asyncio.Semaphore(at_once)
        self._wall_seconds = wall_seconds
        self._queues: dict[str, _Queue] = {}
        self._spare: asyncio.Task[Process] | None = None
        self._stopped = False

    def start(self) -> None:
        """Start a child in advance."""
        if self._spare is None and not self._stopped:
            self._spare = asyncio.create_task(start_child())

    async def stop(self) -> None:
        """End the child that was started in advance."""
        self._stopped = True
        if self._spare is not None:
            await asyncio.wait([self._spare])
            if self._spare.exception() is None:
                await _end(self._spare.result())

    @contextlib.asynccontextmanager
    async def place(self, client: str) -> AsyncIterator[asyncio.Lock]:
        """A place for one image of this client: inside, it may be received, and decoded while the given lock is held.

        Only one image of each client is decoded at a time, so that many of one client do not keep the others waiting.
        What has no place yet is not even read.

        Raises:
            RequestRefused: 429 `images-waiting`, too many images of this client are waiting already.
        """
        queue = self._queues.setdefault(client, _Queue())
        if queue.length >= READ_AT_ONCE + WAITING:
            raise RequestRefused(
                429, "images-waiting", f"{WAITING} images from this address are already waiting", "send fewer at once"
            )
        queue.length += 1
        try:
            async with queue.receiving:
                yield queue.decoding
        finally:
            queue.length -= 1
            if not queue.length:
                del self._queues[client]

    async def decode(self, file: IO[bytes], side: int) -> Pixels:
        """The image in `file`, with its longest side scaled down to `side` pixels.

        Raises:
            RequestRefused: 422, it is not an image that can be decoded within the limits.
            OSError: no process could be started.
        """
        async with self._slots:
            ready, self._spare = self._spare, None
            child = await (ready or start_child())
            if child.returncode is not None:  # it ended before it was needed
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
            # A child's answer is never trusted. This child was ended by a limit or by its input.
            raise RequestRefused(
                422,
                "image-undecodable",
                f"this image cannot be decoded within {CPU_SECONDS} seconds and {MEMORY_BYTES / 1e9:g} GB of memory",
                "make it smaller, or save it again in another program",
            ) from None

    async def _ask(self, child: Process, file: IO[bytes], side: int) -> bytes:
        """The child's answer, incomplete if the child dies or takes too long."""
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
                # A line of JSON and the pixels; anything more makes the answer invalid.
                return await _read(child.stdout, side * side * 3 + 100_000)
        except TimeoutError:
            return b""


async def start_child() -> Process:
    """Start a process that waits for an image."""
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
    end_at_once(child)
    assert child.stdout is not None
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_END_SECONDS):
            # For asyncio a process ends only after its pipes, and a full pipe ends only when it has been emptied.
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
    """The reason of a `DataError`, which continues a file's path, as a sentence about an image without a name."""
    if reason.startswith(("is ", "has ", "holds ", "carries ", "cannot ")):
        return f"this file {reason}"
    if reason[:1].isdigit():
        return f"this image is too large: {reason}"
    return reason
