"""The routes of the page Draw: which networks there are, how far their making is, and what they say to a drawing."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Annotated, Final

import numpy as np
from fastapi import APIRouter, FastAPI, Query, Request, Response, WebSocket

from ... import models
from ...data import DRAWING_SIDE
from ...models import Item
from .. import startup_networks
from ..drawables import Drawable, drawable_runs
from ..guesses import PAD_SIDE, Guesser
from ..messages.common import Guess, Layer, PadModelDetail, PadModels
from ..state import RequestRefused, Studio, client_of

router = APIRouter(prefix="/api")

LISTENERS: Final = 64
"""How many may listen at the same time."""
_FRAME_BYTES = 4096
_FRAMES_A_SECOND = 50
_LOOK_SECONDS = 0.5
"""Between two looks at the folders while somebody listens and something is being made."""
_IDLE_LOOK_SECONDS = 3.0
_WARM_SECONDS = 2.5
"""After the start; a drawing that comes earlier imports torch at once."""

_FULL, _NOT_TAKEN, _TOO_OFTEN, _TOO_LONG = 1013, 1003, 1008, 1009
"""Codes with which a websocket is closed (RFC 6455 and its registry)."""


def _log(error: Exception) -> None:
    logging.getLogger(__name__).error("the studio failed in the background", exc_info=error)


@dataclass(eq=False)
class _Listener:
    """Somebody's place at the live channel."""

    client: str
    dismissed: asyncio.Event = field(default_factory=asyncio.Event)


class Draw:
    """What the page's routes share: the networks, whoever listens, and the last state they were told.

    Args:
        on_fault: told of every bug of ours in what runs in the background, which goes on all the same.
    """

    def __init__(self, studio: Studio, on_fault: Callable[[Exception], None] | None = None) -> None:
        self.studio = studio
        self._on_fault = on_fault or _log
        self.making = startup_networks.Making(studio.models, self._wake, startup_networks.READY_MADE, self._tell_fault)
        self.guesser = Guesser()
        self._listeners: list[_Listener] = []
        self._told = PadModels(models=[], unreadable=[])
        self._fault = ""
        self._news = asyncio.Event()
        self._look = asyncio.Event()
        self._background: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begin to make what is missing, to watch, and soon to import torch."""
        self.making.start()
        self._background = [asyncio.create_task(self._watch()), asyncio.create_task(self._warm())]

    async def stop(self) -> None:
        """End all that runs in the background."""
        for task in self._background:
            task.cancel()
            await asyncio.wait([task])
        await self.making.stop()
        await asyncio.to_thread(self.guesser.close)

    def listing(self, role: str) -> PadModels:
        """All networks as they are now; students see those that come with the studio. Reads files."""
        return _seen_by(role, self._read())

    def find(self, identity: str, role: str) -> Drawable:
        """The network with that identity. It is looked up in the listing; no path is made of what was asked. Reads
        files.

        Raises:
            RequestRefused: 404.
        """
        found = self.making.drawables()
        if identity not in self.making and role == "owner":
            found, _ = drawable_runs(self.studio.runs)
        for one in found:
            if one.message.id == identity:
                return one
        raise RequestRefused(404, "no-such-model", "There is no such network.", "Choose one from the list.")

    @property
    def listeners(self) -> int:
        """How many listen."""
        return len(self._listeners)

    def admit(self, client: str) -> _Listener | None:
        """A place for one more. Where there is none, the client with the most gives up its oldest; None: that is this
        one.
        """
        if len(self._listeners) >= LISTENERS:
            most, _ = Counter(one.client for one in self._listeners).most_common(1)[0]
            if most == client:
                return None
            oldest = next(one for one in self._listeners if one.client == most)
            self.leave(oldest)
            oldest.dismissed.set()
        listener = _Listener(client)
        self._listeners.append(listener)
        return listener

    def leave(self, listener: _Listener) -> None:
        """Free its place, if it still has it."""
        if listener in self._listeners:
            self._listeners.remove(listener)

    async def news(self, role: str) -> AsyncIterator[str]:
        """Endlessly the newest state as JSON, at once and whenever it differs from the one before."""
        await self._refresh()
        before = ""
        while True:
            news = self._news
            text = _seen_by(role, self._told).model_dump_json()
            if text != before:
                before = text
                yield text
            else:
                await news.wait()

    def _read(self) -> PadModels:
        found, unreadable = drawable_runs(self.studio.runs)
        models = [one.message for one in self.making.drawables() + found]
        return PadModels(models=models, unreadable=self.studio.passed_over(unreadable))

    def _wake(self) -> None:
        self._look.set()

    def _tell_fault(self, error: Exception) -> None:
        """What runs in the background may fail the same way every second; it is told once."""
        if repr(error) != self._fault:
            self._fault = repr(error)
            self._on_fault(error)

    async def _refresh(self) -> None:
        try:
            read = await asyncio.to_thread(self._read)
        except Exception as error:
            # Whoever listens keeps the last state, and hears of the next one.
            self._tell_fault(error)
            return
        if read != self._told:
            self._told = read
            self._news.set()
            self._news = asyncio.Event()

    async def _warm(self) -> None:
        # The import holds the interpreter for a second or two: first the page that is being opened right now.
        await asyncio.sleep(_WARM_SECONDS)
        self.guesser.warm([one.folder for one in await asyncio.to_thread(self.making.drawables)])

    async def _watch(self) -> None:
        while True:
            pause = _LOOK_SECONDS if self.making.busy else _IDLE_LOOK_SECONDS
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._look.wait(), pause)
            self._look.clear()
            if self._listeners:
                await self._refresh()


async def start(app: FastAPI) -> None:
    """Call once the server runs, with the studio in `app.state.studio`."""
    app.state.draw = Draw(app.state.studio, app.state.on_fault)
    app.state.draw.start()


async def stop(app: FastAPI) -> None:
    """Call when the server ends. A network that is being made saves its state first, for 5 seconds at most."""
    await app.state.draw.stop()


def _draw(connection: Request | WebSocket) -> Draw:
    draw: Draw = connection.app.state.draw
    return draw


def _seen_by(role: str, found: PadModels) -> PadModels:
    if role == "owner":
        return found
    return PadModels(models=[model for model in found.models if model.ready_made], unreadable=[])


# --- networks ---------------------------------------------------------------------------------------------------------


@router.get("/draw/models")
def list_models(request: Request) -> PadModels:
    """All networks that can be drawn for."""
    return _draw(request).listing(request.state.role)


@router.get("/draw/models/{model}")
def show_model(model: str, request: Request) -> PadModelDetail:
    """A network's layers, for its schematic drawing; also of one that is yet to be made."""
    found = _draw(request).find(model, request.state.role)
    table = models.table(found.architecture, (DRAWING_SIDE, DRAWING_SIDE, 1), len(found.message.classes))
    texts = _texts(found.architecture, [row.kind for row in table.layers])
    layers = [
        Layer(name=row.name, kind=row.kind, output=list(row.output), parameters=row.parameters, text=text)
        for row, text in zip(table.layers, texts, strict=True)
    ]
    return PadModelDetail(layers=layers, parameters=table.parameters)


def _texts(architecture: str, kinds: list[str]) -> list[str]:
    """Each layer as it is written; where layers stand in the table that nobody wrote (a shortcut, a library's), all by
    their kinds.
    """
    if ":" not in architecture:
        items = list(_written(models.parse(models.model_text(architecture))))
        if [item.kind for item in items] == kinds:
            return [models.to_text([item]) for item in items]
    return kinds


def _written(items: Iterable[Item]) -> Iterator[Item]:
    """The layers in the order of execution, as the table has them."""
    for item in items:
        times = item.arguments()["n"] if item.kind == "repeat" else 1
        assert isinstance(times, int)
        for _ in range(times):
            for branch in item.branches:
                yield from _written(branch)
        if item.kind != "repeat":
            yield item


@router.post("/draw/models/{model}/make")
async def make_model(model: str, request: Request) -> PadModels:
    """Begin or go on with the making of a network that comes with the studio."""
    draw = _draw(request)
    _check_may_make(draw, model, request)
    draw.making.make(model)
    return await asyncio.to_thread(draw.listing, request.state.role)


@router.post("/draw/models/{model}/stop")
async def stop_model(model: str, request: Request) -> PadModels:
    """Stop the making; what was trained is kept."""
    draw = _draw(request)
    _check_may_make(draw, model, request)
    draw.making.halt(model)
    return await asyncio.to_thread(draw.listing, request.state.role)


def _check_may_make(draw: Draw, model: str, request: Request) -> None:
    if request.state.role != "owner":
        raise RequestRefused(403, "owner-only", "Only the studio's owner may do this.")
    if model not in draw.making:
        raise RequestRefused(404, "no-such-model", "No network of this name comes with the studio.")


# --- guesses ----------------------------------------------------------------------------------------------------------

_PAD_BODY = {
    "requestBody": {
        "required": True,
        "description": f"{PAD_SIDE}x{PAD_SIDE} bytes, grey, 0 paper and 255 ink, row by row.",
        "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
    }
}


@router.post("/draw/guess", response_model=Guess, openapi_extra=_PAD_BODY)
async def guess(request: Request, model: Annotated[str, Query(max_length=300)]) -> Response:
    """A network's answer to a drawing, with the image it received and its feature maps."""
    draw = _draw(request)
    pad = await request.body()
    if len(pad) != PAD_SIDE * PAD_SIDE:
        expected = f"{PAD_SIDE} x {PAD_SIDE} = {PAD_SIDE * PAD_SIDE:,} bytes"
        raise RequestRefused(422, "drawing-size", f"expected a drawing of {expected}; received {len(pad):,}")
    found = await asyncio.to_thread(draw.find, model, request.state.role)
    if found.message.state != "ready":
        raise RequestRefused(409, "model-not-ready", f"The network {found.message.title} is not ready yet.")
    answer = await draw.guesser.guess(found.folder, np.frombuffer(pad, np.uint8).reshape(PAD_SIDE, PAD_SIDE))
    # Written here: FastAPI would check all these numbers a second time.
    return Response(answer.model_dump_json(), media_type="application/json")


# --- live -------------------------------------------------------------------------------------------------------------


@router.websocket("/live")
async def live(socket: WebSocket) -> None:
    """The state of all networks, at once and whenever it changes. A slow reader misses what has been overtaken.

    The page says nothing here; frames that are long, binary or very many end the connection. The server's pings find
    readers that are gone.
    """
    draw = _draw(socket)
    await socket.accept()
    listener = draw.admit(client_of(socket))
    if listener is None:
        await socket.close(_FULL, "too many listeners; try again later")
        return
    tasks = [asyncio.create_task(part) for part in (_tell(socket, draw), _hear(socket), _leave(listener))]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        draw.leave(listener)
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
    # What telling or hearing fails with is the end of the connection.
    codes = [task.result() for task in tasks if not task.cancelled() and task.exception() is None]
    if any(codes):
        with contextlib.suppress(RuntimeError, OSError):
            await socket.close(next(filter(None, codes)))


async def _leave(listener: _Listener) -> int:
    await listener.dismissed.wait()
    return _FULL


async def _tell(socket: WebSocket, draw: Draw) -> int | None:
    async for text in draw.news(socket.state.role):
        await socket.send_text(text)
    return None


async def _hear(socket: WebSocket) -> int | None:
    """Until the reader leaves (None) or has to be closed (the code)."""
    second, frames = 0, 0
    while True:
        message = await socket.receive()
        if message["type"] == "websocket.disconnect":
            return None
        now = int(time.monotonic())
        second, frames = now, frames + 1 if now == second else 1
        if message.get("text") is None:
            return _NOT_TAKEN
        if len(message["text"].encode()) > _FRAME_BYTES:
            return _TOO_LONG
        if frames > _FRAMES_A_SECOND:
            return _TOO_OFTEN
