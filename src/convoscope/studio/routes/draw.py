"""The page Draw: its networks, their training at the first start, and their answers to a drawing."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Annotated

import numpy as np
from fastapi import APIRouter, Query, Request, Response, WebSocket

from ... import models
from ...data import DRAWING_SIDE
from ...models import Item
from ..draw_state import DrawState, Listener
from ..errors import RequestRefused
from ..guesses import PAD_SIDE
from ..lifespans import keeps
from ..messages.draw import Guess, Layer, PadModelDetail, PadModels
from ..startup_networks import StartupNetworks
from ..state import client_of

router = APIRouter(prefix="/api", lifespan=keeps("draw", lambda app: DrawState(app.state.studio, app.state.on_fault)))

_FRAME_BYTES = 4096
_FRAMES_A_SECOND = 50

_FULL, _NOT_TEXT, _TOO_OFTEN, _TOO_LONG = 1013, 1003, 1008, 1009
"""Codes with which a websocket is closed (RFC 6455 and its registry)."""


def _draw(connection: Request | WebSocket) -> DrawState:
    draw: DrawState = connection.app.state.draw
    return draw


# --- networks ---------------------------------------------------------------------------------------------------------


@router.get("/draw/models")
def list_models(request: Request) -> PadModels:
    """All networks that can be drawn for."""
    return _draw(request).listing(request.state.role)


@router.get("/draw/models/{model}")
def show_model(model: str, request: Request) -> PadModelDetail:
    """A network's layers, for its diagram; also of a network that has not been trained yet."""
    found = _draw(request).find(model, request.state.role)
    table = models.table(found.architecture, (DRAWING_SIDE, DRAWING_SIDE, 1), len(found.message.classes))
    texts = _texts(found.architecture, [row.kind for row in table.layers])
    layers = [
        Layer(
            name=row.name,
            kind=row.kind,
            role=models.role_of(row.kind),
            output=list(row.output),
            parameters=row.parameters,
            text=text,
        )
        for row, text in zip(table.layers, texts, strict=True)
    ]
    return PadModelDetail(layers=layers, parameters=table.parameters)


def _texts(architecture: str, kinds: list[str]) -> list[str]:
    """Each layer as it is written; or only the kinds, if the table has layers that nobody wrote, such as a shortcut."""
    if ":" not in architecture:
        items = list(_written(models.parse(models.model_text(architecture))))
        if [item.kind for item in items] == kinds:
            return [models.to_text([item]) for item in items]
    return kinds


def _written(items: Iterable[Item]) -> Iterator[Item]:
    """The layers in the order of execution, as in the table."""
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
    """Start or continue the training of a network that comes with the studio."""
    return await _changed(model, request, StartupNetworks.make)


@router.post("/draw/models/{model}/stop")
async def stop_model(model: str, request: Request) -> PadModels:
    """Stop the training; what was trained is kept."""
    return await _changed(model, request, StartupNetworks.halt)


async def _changed(model: str, request: Request, change: Callable[[StartupNetworks, str], None]) -> PadModels:
    draw = _draw(request)
    if request.state.role != "owner":
        raise RequestRefused(403, "owner-only", "Only the studio's owner may do this.")
    if model not in draw.startup:
        raise RequestRefused(404, "no-such-model", "No network with this name comes with the studio.")
    change(draw.startup, model)
    return await asyncio.to_thread(draw.listing, request.state.role)


# --- guesses ----------------------------------------------------------------------------------------------------------

_PAD_BODY = {
    "requestBody": {
        "required": True,
        "description": f"{PAD_SIDE}x{PAD_SIDE} bytes, grey, row by row; 0 is paper, 255 is ink.",
        "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
    }
}


@router.post("/draw/guess", response_model=Guess, openapi_extra=_PAD_BODY)
async def guess(request: Request, model: Annotated[str, Query(max_length=300)]) -> Response:
    """A network's answer to a drawing, with the image that it received and its feature maps."""
    draw = _draw(request)
    pad = await request.body()
    if len(pad) != PAD_SIDE * PAD_SIDE:
        expected = f"{PAD_SIDE} x {PAD_SIDE} = {PAD_SIDE * PAD_SIDE:,} bytes"
        raise RequestRefused(422, "drawing-size", f"expected a drawing of {expected}; received {len(pad):,}")
    found = await asyncio.to_thread(draw.find, model, request.state.role)
    if found.message.state != "ready":
        raise RequestRefused(409, "model-not-ready", f"The network {found.message.title} is not ready yet.")
    answer = await draw.guesser.guess(found.folder, np.frombuffer(pad, np.uint8).reshape(PAD_SIDE, PAD_SIDE))
    # Serialised here, because FastAPI would validate all these numbers a second time.
    return Response(answer.model_dump_json(), media_type="application/json")


# --- live -------------------------------------------------------------------------------------------------------------


@router.websocket("/live")
async def live(socket: WebSocket) -> None:
    """The state of all networks, at once and whenever it changes. A slow reader gets only the newest state.

    The page sends nothing here. Long, binary or very many frames end the connection. The server's pings find readers
    that are gone.
    """
    draw = _draw(socket)
    await socket.accept()
    listener = draw.admit(client_of(socket))
    if listener is None:
        await socket.close(_FULL, "too many listeners; try again later")
        return
    tasks = [asyncio.create_task(part) for part in (_send(socket, draw), _receive(socket), _dismissal(listener))]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        draw.leave(listener)
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
    # If sending or receiving fails, the connection has ended.
    codes = [task.result() for task in tasks if not task.cancelled() and task.exception() is None]
    if any(codes):
        with contextlib.suppress(RuntimeError, OSError):
            await socket.close(next(filter(None, codes)))


async def _dismissal(listener: Listener) -> int:
    await listener.dismissed.wait()
    return _FULL


async def _send(socket: WebSocket, draw: DrawState) -> int | None:
    async for text in draw.news(socket.state.role):
        await socket.send_text(text)
    return None


async def _receive(socket: WebSocket) -> int | None:
    """Read until the client leaves (None) or the connection must be closed (the code)."""
    second, frames = 0, 0
    while True:
        message = await socket.receive()
        if message["type"] == "websocket.disconnect":
            return None
        now = int(time.monotonic())
        second, frames = now, frames + 1 if now == second else 1
        if message.get("text") is None:
            return _NOT_TEXT
        if len(message["text"].encode()) > _FRAME_BYTES:
            return _TOO_LONG
        if frames > _FRAMES_A_SECOND:
            return _TOO_OFTEN
