"""`convoscope studio`: opens the port, prints the address of the page, and serves until it is stopped.

Routes are in `app.py`; who may use them is in `guard.py` and `sessions.py`.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import signal
import socket
import sys
import tempfile
import threading
import time
import traceback
import webbrowser
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Final

import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send

from ..errors import MachineError, UsageError, printable
from ..posix import STOP_SIGNALS, give_up_sending, is_root, take_port_alone
from .app import create_app
from .connections import CONNECTIONS, READING_SECONDS, server_config
from .port_notes import noted, running
from .sessions import Sessions, is_this_machine
from .state import Studio
from .static_files import Page

_MOST_LOG_BYTES: Final = 10_000_000

Say = Callable[[str], None]


@dataclass(frozen=True)
class Addresses:
    """The addresses of the page. `owner` works on this machine only; `student` exists only with `--lan`."""

    owner: str
    student: str | None


def serve(studio: Studio, *, port: int, browser: bool, allow_root: bool, say: Say, warn: Say) -> int:
    """Serve until Ctrl-C (returns 130), SIGTERM (143) or SIGHUP (129).

    Args:
        port: the port; 0 chooses a free one.
        browser: open the page in a browser, if there is a screen.
        allow_root: let the class in even if the user is root.
        say: prints a line for the user.
        warn: prints a warning.

    Raises:
        UsageError: root, who may do anything, lets a class in (`root-refused`).
        MachineError: the page has not been built, or the port cannot be used.
    """
    _check_root(studio, allow_root=allow_root, warn=warn)
    page = Page.read()
    listener = listen(port, lan=studio.lan)
    port = listener.getsockname()[1]
    sessions = Sessions(lan=studio.lan)
    faults = FaultLog(warn)
    studio.skipped.warn = warn
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
    if not is_root() or allow_root:
        return
    if studio.lan:
        raise UsageError(
            "--lan",
            "you are root, and others could reach a server that may do anything on this machine",
            hint="start it as an ordinary user; in a container that is meant for it, add --allow-root",
            code="root-refused",
        )
    warn("you are root; the studio does not need these rights")


# --- port and address -------------------------------------------------------------------------------------------------


def listen(port: int, *, lan: bool) -> socket.socket:
    """A listening socket on 127.0.0.1, or with `lan` on every address of this machine.

    Raises:
        MachineError: the port is in use, reserved, or not a port.
    """
    where = f"port {port}"
    free = "leave out --port to use a free one"
    if not 0 <= port <= 65_535:
        raise MachineError(where, "does not exist; ports are 1 to 65535", hint=free, code="port-unknown")
    # asyncio turns Nagle's algorithm off only if the protocol is named; otherwise every answer would take about 40 ms
    # longer.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        take_port_alone(listener)
        with contextlib.suppress(OSError):
            give_up_sending(listener, READING_SECONDS)  # connections inherit it
        listener.bind(("0.0.0.0" if lan else "127.0.0.1", port))  # noqa: S104 (--lan asks for it)
        listener.listen(CONNECTIONS)
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            reason, hint = "is in use by another program", free
            other = running(port)
            if other is not None:
                reason = f"is in use by your studio of {other['runs']} (process {other['pid']})"
                hint = f"open {other['url']} with the token from its terminal, or {free}"
            raise MachineError(where, printable(reason), hint=printable(hint), code="port-taken") from error
        if error.errno in (errno.EACCES, errno.EPERM):
            raise MachineError(
                where, "is reserved for the system, as ports below 1024 often are", hint=free, code="port-reserved"
            ) from error
        raise MachineError(where, f"cannot be opened: {error.strerror}", hint=free, code="port-unusable") from error
    return listener


def addresses(sessions: Sessions, port: int) -> Addresses:
    """The addresses of the page, with their tokens."""
    owner = f"http://127.0.0.1:{port}/?token={sessions.owner_token}"
    if sessions.class_token is None:
        return Addresses(owner, None)
    return Addresses(owner, f"http://{_own_address()}:{port}/?token={sessions.class_token}")


def _own_address() -> str:
    """The address of this machine in its network. Nothing is sent: the system only chooses a route for a UDP socket."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
            return str(probe.getsockname()[0])
        except OSError:
            return "127.0.0.1"


def announcement(found: Addresses, studio: Studio) -> Iterator[str]:
    """The lines that are printed when the page can be opened."""
    yield f"studio: {found.owner}"
    if found.student is not None:
        import io

        import segno

        drawing = io.StringIO()
        segno.make(found.student, error="l").terminal(drawing, border=2, compact=True)
        yield "That address is yours; it works on this machine only."
        yield "The studio uses plain HTTP: others on this network can read what is sent. Do not send anything private."
        yield "This address is for the class. Students may try everything, but cannot see or change your runs:"
        yield f"class: {found.student}"
        yield from drawing.getvalue().rstrip("\n").split("\n")
        if is_this_machine(found.student.split("/")[2].partition(":")[0]):
            yield "This machine does not seem to be in a network."
    yield f"runs: {printable(studio.runs)}"
    yield "Press Ctrl-C to stop."


def has_screen() -> bool:
    """Whether there is a screen on which a browser can open."""
    if sys.platform in ("darwin", "win32"):
        return "SSH_CONNECTION" not in os.environ
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


# --- running ----------------------------------------------------------------------------------------------------------


class FaultLog:
    """Writes the tracebacks of bugs of ours to a file and prints its path; browsers never see them."""

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
        self._warn(f"internal error (a bug in convoscope): {last}; please report it with the file {self.path}")


class _Server(uvicorn.Server):
    """uvicorn on a given socket: announces when it answers, and ends with an exit code."""

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
                self._failure = error  # of the start or the end: the guard handles those of requests
                raise

        return watched

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._announce()

    def serve_until_stopped(self, listener: socket.socket) -> int:
        """Serve; returns 128 + the number of the signal that stopped it. An error during the start is raised."""
        stopped_by: list[int] = []

        def stop(number: int, _: FrameType | None) -> None:
            stopped_by.append(number)
            self.should_exit = True

        # uvicorn handles SIGINT and SIGTERM while it serves. When everything is closed it raises them again, so they
        # arrive here, too.
        before = {number: signal.signal(number, stop) for number in STOP_SIGNALS}
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
    """uvicorn's warnings while it serves, each once; at the end it only warns of connections that are cut off."""

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
