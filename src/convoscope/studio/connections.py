"""How uvicorn is set up: connections that do not ask, do not read or are too many are cut off."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any, Final

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

CONNECTIONS: Final = 400
"""Open at the same time; beyond this, older ones are cut off. A class of 30 with seven each (six of a browser, and the
live channel) needs 210.
"""
HEAD_SECONDS: Final = 10.0
"""The time that a request may take until its body begins."""
READING_SECONDS: Final = 30.0
"""How long a client may leave unread what it was sent."""

_WEBSOCKET_BYTES: Final = 65_536


class _Http(H11Protocol):
    """Cuts off connections whose next request stays incomplete; uvicorn would wait for ever."""

    opened = 0.0
    _head: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.opened = self.loop.time()
        self._watch_head()
        _make_room(self.connections, self)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._watch_head()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._watch_head()

    @property
    def waiting(self) -> bool:
        """Whether no request is being answered."""
        return self.cycle is None or self.cycle.response_complete

    def _watch_head(self) -> None:
        """A request has `HEAD_SECONDS` until its body begins, from its first byte or from the connection's start."""
        expected = self.waiting and not self.transport.is_closing() and self.transport.get_protocol() is self
        if not expected and self._head is not None:
            self._head.cancel()
            self._head = None
        elif expected and self._head is None:
            self._head = self.loop.call_later(HEAD_SECONDS, self._cut)

    def _cut(self) -> None:
        self._head = None
        if self.waiting and self.transport.get_protocol() is self:
            self.transport.abort()


class _Live(WebSocketsSansIOProtocol):
    """A live channel that knows how long it has been open."""

    opened = 0.0
    waiting = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.opened = self.loop.time()


def _make_room(connections: Iterable[Any], newest: object) -> None:
    """If all places are taken, the address with the most connections loses one: the oldest without a request, else the
    oldest.

    So nobody can keep others out by opening connections, and requests from the same address still get through.
    """
    by_address: dict[str, list[Any]] = {}
    for one in connections:
        if not one.transport.is_closing():
            by_address.setdefault(one.client[0] if one.client else "", []).append(one)
    if sum(map(len, by_address.values())) > CONNECTIONS:
        most = [one for one in max(by_address.values(), key=len) if one is not newest]
        min([one for one in most if one.waiting] or most, key=lambda one: one.opened).transport.abort()


def server_config(app: ASGIApp) -> uvicorn.Config:
    """The settings of uvicorn, also in tests. There is no access log, because addresses contain tokens."""
    return uvicorn.Config(
        app,
        http=_Http,
        ws=_Live,
        loop="asyncio",
        lifespan="on",
        log_config=None,
        log_level="warning",
        access_log=False,
        proxy_headers=False,  # only the connection itself shows where a request comes from
        server_header=False,
        ws_max_size=_WEBSOCKET_BYTES,
        ws_max_queue=16,
        ws_per_message_deflate=False,
        ws_ping_interval=10,
        ws_ping_timeout=15,
        limit_concurrency=2 * CONNECTIONS,  # requests may still be running after their connections were cut off
        timeout_keep_alive=30,
        timeout_graceful_shutdown=2,
    )
