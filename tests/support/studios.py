"""The studio for tests: one request at a time in this process, or the real server on a real port.

It makes no networks to draw for, which would keep the machine busy; a test that needs one trains it itself.
"""

import asyncio
import contextlib
import json
import logging
import socket
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import httpx2
import pytest
import uvicorn
from starlette.types import ASGIApp
from websockets.sync.client import ClientConnection, connect

from convoscope.studio import startup_networks
from convoscope.studio.app import create_app
from convoscope.studio.connections import server_config
from convoscope.studio.server import listen
from convoscope.studio.sessions import Sessions
from convoscope.studio.state import Studio
from convoscope.studio.static_files import Page

PAGE = Page(
    {
        "index.html": b'<!doctype html><title>convoscope</title><script type="module" src="/assets/index-1a.js"></script>',
        "assets/index-1a.js": b"export {};",
        "icon.svg": b"<svg xmlns='http://www.w3.org/2000/svg'/>",
    }
)


@dataclass
class Answer:
    """What a request got."""

    status: int
    headers: dict[str, str]
    body: bytes
    accepted: bool = False

    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def code(self) -> str:
        return str(self.json()["code"])


async def as_coroutine(awaitable: Awaitable[None]) -> None:
    await awaitable


def ask(
    app: ASGIApp,
    path: str = "/",
    *,
    method: str = "GET",
    headers: dict[str, str] | list[tuple[str, str]] | None = None,
    body: bytes | list[bytes] | Callable[[], Any] = b"",
    client: str = "127.0.0.1",
    server: str = "127.0.0.1",
    kind: str = "http",
    loop: Callable[[], asyncio.AbstractEventLoop] | None = None,
) -> Answer:
    """One request straight to an ASGI application; headers are sent as they are, and no others.

    `body` may be pieces, or a coroutine function that gives the next message; `loop` makes another event loop.
    """
    pairs = list(headers.items()) if isinstance(headers, dict) else headers or []
    raw_path, _, query = path.partition("?")
    scope: dict[str, Any] = {
        "type": kind,
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "scheme": "http" if kind == "http" else "ws",
        "path": unquote(raw_path),
        "raw_path": raw_path.encode(),
        "query_string": query.encode(),
        "root_path": "",
        "headers": [(name.lower().encode(), value.encode("latin-1")) for name, value in pairs],
        "client": (client, 50_000),
        "server": (server, 8000),
        "state": {},
        "extensions": {"websocket.http.response": {}} if kind == "websocket" else {},
    }
    if kind == "http":
        scope["method"] = method
    pieces = [body] if isinstance(body, bytes) else list(body) if isinstance(body, list) else []
    answer = Answer(0, {}, b"")

    async def receive() -> Any:
        if kind == "websocket":
            return {"type": "websocket.connect"}
        if callable(body):
            return await body()
        if pieces:
            return {"type": "http.request", "body": pieces.pop(0), "more_body": bool(pieces)}
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        if message["type"].endswith("http.response.start"):
            answer.status = message["status"]
            answer.headers = {name.decode(): value.decode("latin-1") for name, value in message["headers"]}
        elif message["type"].endswith("http.response.body"):
            answer.body += message.get("body", b"")
        elif message["type"] == "websocket.accept":
            answer.accepted = True
            raise ConnectionResetError

    with contextlib.suppress(ConnectionResetError), asyncio.Runner(loop_factory=loop) as runner:
        runner.run(as_coroutine(app(scope, receive, send)))
    return answer


def cookie_name(port: int, role: str) -> str:
    return f"convoscope-{port}" if role == "owner" else f"convoscope-{port}-class"


@dataclass
class Door:
    """An application in this process on the supposed port 8000, and how to get in."""

    app: ASGIApp
    sessions: Sessions

    def headers(self, role: str = "owner", **more: str) -> dict[str, str]:
        token = self.sessions.owner_token if role == "owner" else self.sessions.class_token
        assert token is not None
        made = self.sessions.trade(token, "127.0.0.1")
        assert made is not None
        origin = {"host": "127.0.0.1:8000", "origin": "http://127.0.0.1:8000"}
        return {**origin, "cookie": f"{cookie_name(8000, role)}={made[0]}", **more}

    def ask(self, path: str, role: str = "owner", **more: Any) -> Answer:
        headers = {**self.headers(role), **more.pop("headers", {})}
        return ask(self.app, path, headers=headers, **more)


def make_door(folder: Path, *, lan: bool = True, **options: Any) -> Door:
    sessions = Sessions(lan=lan)
    studio = Studio(runs=folder / "runs", models=folder / "models", lan=lan)
    return Door(create_app(studio, sessions, port=8000, page=PAGE, **options), sessions)


@dataclass
class Served:
    """A real server on a real port, in a thread."""

    port: int
    sessions: Sessions
    studio: Studio
    faults: list[Exception] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def cookie(self, role: str = "owner") -> str:
        token = self.sessions.owner_token if role == "owner" else self.sessions.class_token
        assert token is not None
        made = self.sessions.trade(token, "127.0.0.1")
        assert made is not None
        return f"{cookie_name(self.port, role)}={made[0]}"

    def headers(self, role: str = "owner") -> dict[str, str]:
        """With which everything is allowed that this role may do."""
        return {"cookie": self.cookie(role), "origin": self.url}

    def post(self, path: str, content_type: str, framing: str, body: bytes = b"") -> socket.socket:
        """A connection on which the head of a request has been sent, and of its body only `body`."""
        return post(self.port, self.headers(), path, content_type, framing, body)

    @contextlib.contextmanager
    def client(self, role: str = "owner") -> Iterator[httpx2.Client]:
        with httpx2.Client(base_url=self.url, headers=self.headers(role), timeout=30, trust_env=False) as client:
            yield client


@contextlib.contextmanager
def serving(folder: Path, *, lan: bool = True, **options: Any) -> Iterator[Served]:
    """Listens on 127.0.0.1 only, whatever `lan` says."""
    listener = listen(0, lan=False)
    port = listener.getsockname()[1]
    studio = Studio(runs=folder / "runs", models=folder / "models", lan=lan)
    served = Served(port, Sessions(lan=lan), studio)
    app = create_app(studio, served.sessions, port=port, page=PAGE, on_fault=served.faults.append, **options)
    logging.getLogger("uvicorn.error").propagate = False
    server = uvicorn.Server(server_config(app))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(startup_networks, "READY_MADE", ())
        thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
        thread.start()
        until(lambda: server.started, seconds=20)
        try:
            yield served
        finally:
            server.should_exit = True
            thread.join(20)
            listener.close()
            assert not thread.is_alive()


def post(
    port: int, headers: dict[str, str], path: str, content_type: str, framing: str, body: bytes = b""
) -> socket.socket:
    """As `Served.post`, for a server in another process."""
    lines = {"host": f"127.0.0.1:{port}", **headers, "content-type": content_type}
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    connection = socket.create_connection(("127.0.0.1", port), timeout=30)
    connection.sendall(f"POST {path} HTTP/1.1\r\n{head}{framing}\r\n\r\n".encode() + body)
    return connection


def live(port: int, headers: dict[str, str], **changes: Any) -> ClientConnection:
    """A connection to the live channel."""
    options: dict[str, Any] = {
        "origin": headers["origin"],
        "additional_headers": {"cookie": headers["cookie"]},
        "close_timeout": 1,
        **changes,
    }
    connection: ClientConnection = connect(f"ws://127.0.0.1:{port}/api/live", proxy=None, **options)
    return connection


def until(reached: Callable[[], Any], *, seconds: float) -> None:
    """Wait for it; fail if it does not come."""
    end = time.monotonic() + seconds
    while not reached():
        assert time.monotonic() < end, "it did not come in time"
        time.sleep(0.02)
