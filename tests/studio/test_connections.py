"""Connections that do not ask, do not read or are too many. L and R are cases of the catalogue."""

import contextlib
import itertools
import socket
from pathlib import Path

import httpx2
import psutil
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection

from convoscope.studio import connections as room
from convoscope.studio import draw_state, server
from tests.support.studios import PAGE, live, serving, until


def test_connections_that_never_ask_are_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """L06, before the first header is complete."""
    monkeypatch.setattr(room, "HEAD_SECONDS", 0.5)
    with serving(tmp_path) as served:
        with contextlib.ExitStack() as stack:
            silent = [stack.enter_context(socket.create_connection(("127.0.0.1", served.port))) for _ in range(50)]
            for number, one in enumerate(silent):
                one.sendall(b"GET / HTTP/1.1\r\nhost: " if number % 2 else b"")
            with served.client() as client:
                assert client.get("/api/session").status_code == 200
            for one in silent:
                one.settimeout(10)
                assert one.recv(1) == b""
        with live(served.port, served.headers()) as stream:
            stream.recv(timeout=10)
            # A websocket may be silent: it outlives a connection that was opened after it.
            with socket.create_connection(("127.0.0.1", served.port), timeout=10) as later:
                assert later.recv(1) == b""
            stream.send("still here")
            assert stream.ping().wait(10)
        assert served.faults == []


def test_a_second_request_that_never_becomes_whole_is_cut_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "HEAD_SECONDS", 0.5)
    with serving(tmp_path) as served, socket.create_connection(("127.0.0.1", served.port)) as one:
        one.settimeout(10)
        for _ in range(2):
            one.sendall(f"GET /api/session HTTP/1.1\r\nhost: 127.0.0.1:{served.port}\r\n\r\n".encode())
            answer = b""
            while b"no-session" not in answer:
                answer += one.recv(10_000)
        ended = None
        for piece in itertools.cycle([b"GET / HTTP/1.1\r\n", b"x: y\r\n"]):  # a byte now and then keeps nothing open
            try:
                one.sendall(piece)
                one.settimeout(0.1)
                ended = one.recv(1)
            except TimeoutError:
                continue
            except OSError:
                ended = b""
            break
        assert ended == b""


def test_half_open_connections_keep_nobody_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "CONNECTIONS", 40)
    with serving(tmp_path) as served, contextlib.ExitStack() as stack:
        headers = served.headers()
        stream = stack.enter_context(live(served.port, headers))
        stream.recv(timeout=10)
        for number in range(100):
            one = stack.enter_context(socket.create_connection(("127.0.0.1", served.port)))
            one.sendall(b"GET / HTTP/1.1\r\nhost: " if number % 2 else b"")
        for _ in range(3):
            assert httpx2.get(f"{served.url}/api/session", headers=headers, trust_env=False).status_code == 200
        stack.enter_context(live(served.port, headers)).recv(timeout=10)
        stream.send("still here")
        stream.ping().wait(10)
        assert served.faults == []


def test_bodies_under_way_keep_nobody_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All places hold requests that are being answered; the oldest of the address with the most makes room."""
    monkeypatch.setattr(room, "CONNECTIONS", 20)
    with serving(tmp_path) as served, contextlib.ExitStack() as stack:
        headers = served.headers()
        for count in (19, 12):
            for _ in range(count):
                stack.enter_context(served.post("/api/images", "image/png", "content-length: 1000", b"x"))
            assert httpx2.get(f"{served.url}/api/session", headers=headers, trust_env=False).status_code == 200
        assert served.faults == []


def test_who_gives_up_a_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "CONNECTIONS", 5)
    cut: list[str] = []

    class Connection:
        def __init__(self, name: str, address: str, opened: float, *, waiting: bool) -> None:
            self.name, self.client, self.opened, self.waiting = name, (address, 1), opened, waiting
            self.transport = self
            self.closing = False

        def is_closing(self) -> bool:
            return self.closing

        def abort(self) -> None:
            self.closing = True
            cut.append(self.name)

    connections = [
        Connection("idle of a few", "b", 1, waiting=True),
        Connection("old and at work", "a", 2, waiting=False),
        Connection("idle", "a", 3, waiting=True),
        Connection("idle and younger", "a", 4, waiting=True),
        Connection("young and at work", "a", 5, waiting=False),
    ]
    for number in range(5):
        room._make_room(connections, connections[-1])
        connections.append(Connection(f"new {number}", "a", 6 + number, waiting=True))
    assert cut == ["idle", "idle and younger", "new 0", "new 1"]
    connections = [Connection(str(number), "a", number, waiting=False) for number in range(6)]
    cut.clear()
    connections[-1].waiting = True
    room._make_room(connections, connections[-1])
    assert cut == ["0"], "whoever has just come is not the one to go"


def connected(port: int) -> bool:
    """Whether the server on this port, which runs in this process, has a connection."""
    found = psutil.Process().net_connections()
    return any(one.laddr.port == port and one.status == psutil.CONN_ESTABLISHED for one in found)


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="the system knows no such limit")
def test_l02_who_never_reads_the_answer_is_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "READING_SECONDS", 1.0)
    monkeypatch.setitem(PAGE.files, "assets/large.js", bytes(30_000_000))
    with serving(tmp_path) as served, socket.create_connection(("127.0.0.1", served.port)) as one:
        one.settimeout(10)
        one.sendall(
            f"GET /assets/large.js HTTP/1.1\r\nhost: 127.0.0.1:{served.port}\r\ncookie: {served.cookie()}\r\n\r\n".encode()
        )
        until(lambda: connected(served.port), seconds=20)
        until(lambda: not connected(served.port), seconds=30)
        count = 0
        with contextlib.suppress(ConnectionError):
            while piece := one.recv(1 << 20):
                count += len(piece)
        assert 0 < count < 30_000_000
        assert served.faults == []


def test_live_channels_of_one_client_keep_no_other_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(draw_state, "LISTENERS", 3)
    with serving(tmp_path) as served, contextlib.ExitStack() as stack:

        def listen_as(role: str) -> ClientConnection:
            stream = stack.enter_context(live(served.port, served.headers(role)))
            stream.recv(timeout=10)
            return stream

        students = [listen_as("student") for _ in range(3)]
        for stream in students[:2]:
            listen_as("owner")
            with pytest.raises(ConnectionClosed) as caught:
                stream.recv(timeout=10)
            assert caught.value.rcvd is not None and caught.value.rcvd.code == 1013
        with pytest.raises(ConnectionClosed):
            listen_as("owner")  # who has the most gets no more
        students[2].send("still here")
        assert students[2].ping().wait(10)
        assert served.faults == []
