"""`convoscope studio`: binds the port, says where the page is, serves until it is told to stop.

Not here: routes (`app.py`), who may come in (`guard.py`, `sessions.py`).
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import json
import logging
import os
import signal
import socket
import stat
import sys
import tempfile
import threading
import time
import traceback
import warnings
import webbrowser
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, Final

import platformdirs
import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from ..errors import MachineError, UsageError, printable
from ..parsing import parse_json
from .app import create_app
from .sessions import Sessions, is_this_machine
from .state import Studio
from .static_files import Page

CONNECTIONS: Final = 400
"""At once; for more, older ones are cut. A class of 30 with seven each (a browser's six, and the live channel) needs
210.
"""
HEAD_SECONDS: Final = 10.0
"""That a request may take to come as far as its body."""
READING_SECONDS: Final = 30.0
"""For so long a client may leave unread what it has been sent."""

_WEBSOCKET_BYTES: Final = 65_536
_MOST_LOG_BYTES: Final = 10_000_000

Say = Callable[[str], None]


@dataclass(frozen=True)
class Addresses:
    """Where the page is. `owner` opens on this machine only; `student` is there with `--lan`."""

    owner: str
    student: str | None


def serve(studio: Studio, *, port: int, browser: bool, allow_root: bool, say: Say, warn: Say) -> int:
    """Serve until Ctrl-C (returns 130), SIGTERM (143) or SIGHUP (129).

    Args:
        port: 0 for a free one.
        browser: open the page in one, where there is a screen.
        say: prints a line for the user.
        warn: prints a line of trouble.

    Raises:
        UsageError: a class is let in by root, who may do anything (`root-refused`).
        MachineError: the page is not built, or the port cannot be had.
    """
    _check_root(studio, allow_root=allow_root, warn=warn)
    page = Page.read()
    listener = listen(port, lan=studio.lan)
    port = listener.getsockname()[1]
    sessions = Sessions(lan=studio.lan)
    faults = FaultLog(warn)
    studio.passed_over.warn = warn
    with contextlib.closing(listener), noted(port, studio.runs):

        def announce() -> None:
            for line in announcement(addresses(sessions, port), studio):
                say(line)
            if browser and has_screen():
                address = f"http://127.0.0.1:{port}/?token={sessions.token_for_once()}"
                threading.Thread(target=webbrowser.open, args=(address,), daemon=True).start()

        app = create_app(studio, sessions, port=port, page=page, on_fault=faults)
        return _Server(app, announce, warn).serve_until_stopped(listener)


def _check_root(studio: Studio, *, allow_root: bool, warn: Say) -> None:
    if os.geteuid() != 0 or allow_root:
        return
    if studio.lan:
        raise UsageError(
            "--lan",
            "you are root, and others would reach a server that may do anything on this machine",
            hint="start it as an ordinary user; in a container made for it, add --allow-root",
            code="root-refused",
        )
    warn("you are root; the studio needs no such rights")


# --- port and address -------------------------------------------------------------------------------------------------


def listen(port: int, *, lan: bool) -> socket.socket:
    """A listening socket on 127.0.0.1, with `lan` on every address of this machine.

    Raises:
        MachineError: the port is taken, reserved, or none.
    """
    where = f"port {port}"
    free = "leave --port out: a free one is chosen"
    if not 0 <= port <= 65_535:
        raise MachineError(where, "there is none: ports are 1 to 65535", hint=free, code="port-unknown")
    # The protocol is named because asyncio turns Nagle's algorithm off only then; otherwise every answer waits about 40
    # ms.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with contextlib.suppress(AttributeError, OSError):  # not on macOS; connections inherit it
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, round(READING_SECONDS * 1000))
        listener.bind(("0.0.0.0" if lan else "127.0.0.1", port))  # noqa: S104 (asked for by --lan, with its own rules)
        listener.listen(CONNECTIONS)
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            reason, hint = "in use by another program", free
            other = running(port)
            if other is not None:
                reason = f"in use by your studio of {other['runs']} (process {other['pid']})"
                hint = f"it is at {other['url']}, with the token in its terminal; or {free}"
            raise MachineError(where, printable(reason), hint=printable(hint), code="port-taken") from error
        if error.errno in (errno.EACCES, errno.EPERM):
            raise MachineError(
                where, "reserved for the system: ports below 1024 often are", hint=free, code="port-reserved"
            ) from error
        raise MachineError(
            where, f"cannot be listened on: {error.strerror}", hint=free, code="port-unusable"
        ) from error
    return listener


def addresses(sessions: Sessions, port: int) -> Addresses:
    """With their tokens."""
    owner = f"http://127.0.0.1:{port}/?token={sessions.owner_token}"
    if sessions.class_token is None:
        return Addresses(owner, None)
    return Addresses(owner, f"http://{_own_address()}:{port}/?token={sessions.class_token}")


def _own_address() -> str:
    """The address of this machine by which it reaches others. Nothing is sent: a UDP socket is only given its route."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
            return str(probe.getsockname()[0])
        except OSError:
            return "127.0.0.1"


def announcement(found: Addresses, studio: Studio) -> Iterator[str]:
    """What is printed once the page can be opened, line by line."""
    yield f"studio: {found.owner}"
    if found.student is not None:
        import io

        import segno

        drawing = io.StringIO()
        segno.make(found.student, error="l").terminal(drawing, border=2, compact=True)
        yield "That address is yours, and opens on this machine only."
        yield "The studio is open to this network by plain HTTP: readable on this network. Do not send what is private."
        yield "For the class, who may look and try but not see or change what is yours:"
        yield f"class: {found.student}"
        yield from drawing.getvalue().rstrip("\n").split("\n")
        if is_this_machine(found.student.split("/")[2].partition(":")[0]):
            yield "This machine seems to have no network."
    yield f"runs: {printable(studio.runs)}"
    yield "Ctrl-C stops it."


def has_screen() -> bool:
    """Whether a browser that opens would be seen: not where there is only a terminal."""
    if sys.platform == "darwin":
        return "SSH_CONNECTION" not in os.environ
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


# --- a note of what runs ----------------------------------------------------------------------------------------------


def _note(port: int) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it is a common folder: see `_is_ours`
        return Path(platformdirs.user_runtime_dir("convoscope", appauthor=False)) / f"studio-{port}.json"


@contextlib.contextmanager
def noted(port: int, runs: Path) -> Iterator[None]:
    """While it lasts, a file says which studio has this port; the lock on it ends with the process, however it ends.

    The file holds no token and only its user may read it. Where there is no place for it, there is none.
    """
    path = _note(port)
    with contextlib.ExitStack() as cleanup:
        with contextlib.suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            if _is_ours(path.parent):
                descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
                file = cleanup.enter_context(open(descriptor, "w", encoding="utf-8"))
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                file.truncate(0)
                url = f"http://127.0.0.1:{port}/"
                json.dump({"pid": os.getpid(), "runs": str(runs.absolute()), "url": url}, file)
                file.flush()
                cleanup.callback(path.unlink, missing_ok=True)
        yield


def running(port: int) -> dict[str, Any] | None:
    """The pid, folder of runs and address of this user's studio on a port; None: there is none that we know of."""
    path = _note(port)
    try:
        if not _is_ours(path.parent):
            return None
        with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), encoding="utf-8") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                note = parse_json(file.read(10_000).encode())
                return {key: note[key] for key in ("pid", "runs", "url")}
    except (OSError, ValueError, KeyError, TypeError):
        pass
    return None


def _is_ours(folder: Path) -> bool:
    """Where there is no folder of the user's own, it lies in a common one, where another user may have been first."""
    status = folder.lstat()
    return stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid() and not status.st_mode & 0o022


# --- running ----------------------------------------------------------------------------------------------------------


class FaultLog:
    """Writes the tracebacks of our own bugs into a file, made at the first, and prints its path; browsers never see it."""

    def __init__(self, warn: Say) -> None:
        self._warn = warn
        self.path: Path | None = None

    def __call__(self, error: BaseException) -> None:
        with contextlib.suppress(OSError):
            if self.path is None:
                descriptor, name = tempfile.mkstemp(prefix="convoscope-studio-", suffix=".log")
                os.close(descriptor)
                self.path = Path(name)
            if self.path.stat().st_size < _MOST_LOG_BYTES:
                with open(self.path, "a", encoding="utf-8", errors="backslashreplace") as file:
                    file.write(time.strftime("%Y-%m-%d %H:%M:%S\n"))
                    traceback.print_exception(error, file=file)
        last = printable(traceback.format_exception_only(error)[-1].strip())[:300]
        self._warn(f"the studio failed, which is a bug of its own: {last}; please report it with the file {self.path}")


class _Server(uvicorn.Server):
    """uvicorn on a socket of ours, that announces itself once it answers, and that ends with an exit code."""

    def __init__(self, app: ASGIApp, announce: Callable[[], None], warn: Say) -> None:
        super().__init__(server_config(self._watched(app)))
        self._announce = announce
        self._failure: Exception | None = None
        logger = logging.getLogger("uvicorn.error")
        logger.handlers, logger.propagate = [_Warnings(self, warn)], False

    def _watched(self, app: ASGIApp) -> ASGIApp:
        async def watched(scope: Scope, receive: Receive, send: Send) -> None:
            try:
                await app(scope, receive, send)
            except Exception as error:
                self._failure = error  # of the start or the end: those of requests stop at the guard
                raise

        return watched

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._announce()

    def serve_until_stopped(self, listener: socket.socket) -> int:
        """128 + the number of the signal that stopped it. What the start fails with is raised."""
        stopped_by: list[int] = []

        def stop(number: int, _: FrameType | None) -> None:
            stopped_by.append(number)
            self.should_exit = True

        # uvicorn takes SIGINT and SIGTERM while it serves; it raises them again when all is closed, and so they arrive
        # here too.
        before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
        try:
            self.run([listener])
        except SystemExit:
            if self._failure is None:
                raise
            raise self._failure from None
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
        return 128 + stopped_by[0] if stopped_by else 0


class _Warnings(logging.Handler):
    """What uvicorn warns of while it serves, each once, as lines of ours. What it says of the end is known: connections
    are cut.
    """

    def __init__(self, server: uvicorn.Server, warn: Say) -> None:
        super().__init__(logging.WARNING)
        self._server = server
        self._warn = warn
        self._said: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        text = printable(record.getMessage().strip())
        if self._server.started and not self._server.should_exit and text not in self._said and len(self._said) < 100:
            self._said.add(text)
            self._warn(text)


class _Http(H11Protocol):
    """Cuts connections whose next request does not come whole; uvicorn waits for them for ever."""

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
        """From the first byte on, or the connection's begin, a request has `HEAD_SECONDS` to come as far as its body."""
        at_it = self.waiting and not self.transport.is_closing() and self.transport.get_protocol() is self
        if not at_it and self._head is not None:
            self._head.cancel()
            self._head = None
        elif at_it and self._head is None:
            self._head = self.loop.call_later(HEAD_SECONDS, self._cut)

    def _cut(self) -> None:
        self._head = None
        if self.waiting and self.transport.get_protocol() is self:
            self.transport.abort()


class _Live(WebSocketsSansIOProtocol):
    """A live channel, that knows how long it has been open."""

    opened = 0.0
    waiting = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.opened = self.loop.time()


def _make_room(connections: Iterable[Any], newest: object) -> None:
    """Where all places are taken, the address that holds the most gives one up: the oldest without a request, else the
    oldest.

    So nobody keeps others out by opening connections, and those of the same address that do ask come in, too.
    """
    by_address: dict[str, list[Any]] = {}
    for one in connections:
        if not one.transport.is_closing():
            by_address.setdefault(one.client[0] if one.client else "", []).append(one)
    if sum(map(len, by_address.values())) > CONNECTIONS:
        most = [one for one in max(by_address.values(), key=len) if one is not newest]
        min([one for one in most if one.waiting] or most, key=lambda one: one.opened).transport.abort()


def server_config(app: ASGIApp) -> uvicorn.Config:
    """How uvicorn is set up, also in tests. No access log: addresses hold tokens."""
    return uvicorn.Config(
        app,
        http=_Http,
        ws=_Live,
        loop="asyncio",
        lifespan="on",
        log_config=None,
        log_level="warning",
        access_log=False,
        proxy_headers=False,  # nobody may say where a request came from but the connection itself
        server_header=False,
        ws_max_size=_WEBSOCKET_BYTES,
        ws_max_queue=16,
        ws_per_message_deflate=False,
        ws_ping_interval=10,
        ws_ping_timeout=15,
        limit_concurrency=2 * CONNECTIONS,  # requests whose connections were cut may still be at work
        timeout_keep_alive=30,
        timeout_graceful_shutdown=2,
    )
