"""`convoscope studio` as a process: its port, its address, its end. F, L, R and S are cases of the catalogue."""

import contextlib
import http.client
import json
import os
import signal
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import psutil
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from convoscope.errors import MachineError, UsageError
from convoscope.studio import server as room
from convoscope.studio import static_files
from convoscope.studio.draw_state import DrawState
from convoscope.studio.server import FaultLog, addresses, announcement, has_screen, listen, serve
from convoscope.studio.sessions import Sessions
from convoscope.studio.state import Studio
from convoscope.studio.static_files import Page
from tests.support.studios import PAGE, Served, live, make_door, post, until

pytestmark = pytest.mark.usefixtures("runtime")


# A page of three files instead of the built one, no networks to make, and no torch, whose import takes seconds of both cores.
START = """
import sys
from pathlib import Path
from convoscope.studio import guesses, startup_networks, static_files
static_files.FOLDER = Path(sys.argv.pop(1))
startup_networks.READY_MADE = ()
guesses.Guesser.warm_up = lambda self, folders: None
from convoscope.launch import main
main()
"""


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("page")
    for name, content in PAGE.files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


class Command:
    """A running `convoscope studio`."""

    def __init__(self, page: Path, folder: Path, *arguments: str) -> None:
        command = [
            sys.executable,
            "-c",
            START,
            str(page),
            "studio",
            "--no-browser",
            "--runs",
            str(folder / "runs"),
            *arguments,
        ]
        self.process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )
        assert self.process.stdout is not None
        first = self.process.stdout.readline()
        if not first:
            _, errors = self.process.communicate(timeout=60)
            raise AssertionError(errors)
        self.address = first.removeprefix("studio: ").strip()
        self.url = self.address.partition("/?")[0]
        self.port = int(self.url.rpartition(":")[2])

    def headers(self) -> dict[str, str]:
        answer = httpx2.get(self.address, trust_env=False)
        assert answer.status_code == 303
        return {"cookie": answer.headers["set-cookie"].partition(";")[0], "origin": self.url}

    def end(self, number: int) -> tuple[int, str, str]:
        """Exit code and what was printed since the first line."""
        self.process.send_signal(number)
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        code = self.process.wait(timeout=20)
        output = "" if self.process.stdout.closed else self.process.stdout.read()
        return code, output, self.process.stderr.read()


@contextlib.contextmanager
def studio(page: Path, folder: Path, *arguments: str) -> Iterator[Command]:
    command = Command(page, folder, *arguments)
    try:
        yield command
    finally:
        command.process.kill()
        command.process.wait()
        for stream in (command.process.stdout, command.process.stderr):
            assert stream is not None
            stream.close()


def test_the_address_is_the_first_line_and_opens_the_page(page: Path, tmp_path: Path) -> None:
    """S06: the token is nowhere but in that line."""
    with studio(page, tmp_path) as one:
        assert one.url == f"http://127.0.0.1:{one.port}"
        token = one.address.partition("token=")[2]
        with httpx2.Client(base_url=one.url, headers=one.headers(), trust_env=False) as client:
            assert client.get("/").content == PAGE.files["index.html"]
            assert client.get("/api/session").json()["role"] == "owner"
            assert client.get("/api/runs").json() == {"runs": [], "unreadable": []}
            assert token not in client.get("/").text
            for path in ("/nowhere", "/?token=wrong"):
                assert token not in client.get(path).text
        assert httpx2.get(f"{one.url}/api/runs", trust_env=False).status_code == 401
        for connection in psutil.Process(one.process.pid).net_connections():
            assert connection.status != psutil.CONN_LISTEN or connection.laddr.ip == "127.0.0.1"
        code, output, errors = one.end(signal.SIGINT)
    assert code == 130
    assert output.splitlines() == [f"runs: {tmp_path / 'runs'}", "Press Ctrl-C to stop.", "the studio has stopped"]
    assert token not in output + errors
    assert [line for line in errors.splitlines() if "you are root" not in line] == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_l09_it_stops_at_once_with_30_open_streams_and_a_slow_upload(page: Path, tmp_path: Path, number: int) -> None:
    """F07 and L09: 128 + the signal's number, and it does not wait for the upload, which may be silent for 30 seconds."""
    with studio(page, tmp_path) as one:
        headers = one.headers()
        with contextlib.ExitStack() as stack:
            streams = [stack.enter_context(live(one.port, headers)) for _ in range(30)]
            assert all(json.loads(stream.recv())["kind"] == "models" for stream in streams)
            slow = stack.enter_context(
                post(one.port, headers, "/api/images", "image/png", "content-length: 1000\r\nexpect: 100-continue")
            )
            assert slow.recv(100).startswith(b"HTTP/1.1 100 ")  # now the server waits for the image
            code, output, errors = one.end(number)
    assert code == 128 + number
    assert output.endswith("the studio has stopped\n")
    assert [line for line in errors.splitlines() if "you are root" not in line] == []


def test_two_signals_do_not_confuse_it(page: Path, tmp_path: Path) -> None:
    with studio(page, tmp_path) as one:
        one.process.send_signal(signal.SIGINT)
        code, _, errors = one.end(signal.SIGINT)
    assert code == 130
    assert "Traceback" not in errors


def test_what_is_no_http_is_warned_of_once(page: Path, tmp_path: Path) -> None:
    with studio(page, tmp_path) as one:
        for _ in range(20):
            with socket.create_connection(("127.0.0.1", one.port)) as wrong:
                wrong.settimeout(10)
                wrong.sendall(b"\x16\x03\x01 hello\r\n\r\n")
                assert wrong.recv(100).startswith(b"HTTP/1.1 400")
        _, _, errors = one.end(signal.SIGTERM)
    lines = [line for line in errors.splitlines() if "you are root" not in line]
    assert lines == ["warning: Invalid HTTP request received."]


def test_a_reader_that_reads_one_line_does_not_stop_it(page: Path, tmp_path: Path) -> None:
    with studio(page, tmp_path) as one:
        assert one.process.stdout is not None
        one.process.stdout.close()
        assert one.headers()
        assert one.end(signal.SIGTERM)[0] == 143


def test_torch_is_not_needed_to_answer() -> None:
    code = "import sys, convoscope.studio.server; print('torch' in sys.modules, 'matplotlib' in sys.modules)"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stdout.strip() == "False False"


def test_f09_a_port_that_another_program_has(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        for lan in (False, True):
            with pytest.raises(MachineError) as caught:
                listen(port, lan=lan)
            assert (caught.value.code, caught.value.path) == ("port-taken", f"port {port}")
            assert caught.value.reason == "is in use by another program"
            assert "--port" in caught.value.hint


def test_f09_a_port_that_our_own_studio_has(page: Path, tmp_path: Path) -> None:
    with studio(page, tmp_path) as one:
        command = [sys.executable, "-c", START, str(page), "studio", "--no-browser", "--port", str(one.port)]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert ended.returncode == 5
        assert (
            f"port {one.port}: is in use by your studio of {tmp_path / 'runs'} (process {one.process.pid})"
            in ended.stderr
        )
        assert f"open http://127.0.0.1:{one.port}/ with the token from its terminal" in ended.stderr
        assert "token=" not in ended.stderr
        (note,) = (tmp_path / "runtime").rglob("studio-*.json")
        assert stat.S_IMODE(note.stat().st_mode) == 0o600
        assert "token" not in note.read_text()
        one.end(signal.SIGINT)
        assert not note.exists()


@pytest.mark.parametrize("port", [-1, 65_536, 10**9])
def test_f09_a_port_that_is_none(port: int) -> None:
    with pytest.raises(MachineError, match="ports are 1 to 65535") as caught:
        listen(port, lan=False)
    assert (caught.value.code, caught.value.exit_code, caught.value.path) == ("port-unknown", 5, f"port {port}")


@pytest.mark.parametrize(
    ("number", "code"), [(13, "port-reserved"), (1, "port-reserved"), (99, "port-unusable"), (98, "port-taken")]
)
def test_f09_what_the_system_refuses(number: int, code: str, monkeypatch: pytest.MonkeyPatch) -> None:
    class Refusing(socket.socket):
        def bind(self, address: Any) -> None:
            raise OSError(number, os.strerror(number))

    monkeypatch.setattr(socket, "socket", Refusing)
    with pytest.raises(MachineError) as caught:
        listen(80, lan=False)
    assert (caught.value.code, caught.value.exit_code) == (code, 5)
    assert caught.value.path == "port 80"


def test_a_page_that_is_not_built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(static_files, "FOLDER", tmp_path)
    with pytest.raises(MachineError) as caught:
        serve(Studio(tmp_path, tmp_path), port=0, browser=False, allow_root=True, say=print, warn=print)
    assert caught.value.code == "page-missing"
    assert "make run" in caught.value.hint


def test_a_page_is_read_whole_once(page: Path, tmp_path: Path) -> None:
    (page / "assets" / "notes.md").write_text("no part of a page")
    assert Page.read(page) == PAGE
    (page / "assets" / "notes.md").unlink()


@pytest.mark.parametrize(
    ("settings", "screen"),
    [({}, False), ({"DISPLAY": ":0"}, True), ({"WAYLAND_DISPLAY": "w"}, True), ({"DISPLAY": ""}, False)],
)
@pytest.mark.skipif(sys.platform == "darwin", reason="there is always one, but over SSH")
def test_a_browser_is_opened_where_there_is_a_screen(
    settings: dict[str, str], screen: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    assert has_screen() is screen


def test_the_browser_gets_a_token_for_once(page: Path, tmp_path: Path) -> None:
    """Its command line is in the list of processes, where others can read it."""
    opener, seen = tmp_path / "browser", tmp_path / "seen"
    opener.write_text(f'#!/bin/sh\necho "$1" > "{seen}.part"; mv "{seen}.part" "{seen}"\n')
    opener.chmod(0o755)
    environment = {**os.environ, "DISPLAY": ":0", "BROWSER": str(opener)}
    command = [sys.executable, "-c", START, str(page), "studio", "--runs", str(tmp_path)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        try:
            assert process.stdout is not None
            printed = process.stdout.readline().split()[1]
            until(seen.exists, seconds=20)
            opened = seen.read_text().strip()
            assert opened.partition("=")[0] == printed.partition("=")[0]
            assert opened != printed
            statuses = [
                httpx2.get(address, trust_env=False).status_code for address in (opened, opened, printed, printed)
            ]
            assert statuses == [303, 401, 303, 303]
        finally:
            process.terminate()
            process.communicate(timeout=20)


def test_s07_the_banner_of_a_class(tmp_path: Path) -> None:
    sessions = Sessions(lan=True)
    found = addresses(sessions, 8000)
    assert found.owner == f"http://127.0.0.1:8000/?token={sessions.owner_token}"
    assert found.student is not None
    assert found.student.endswith(f":8000/?token={sessions.class_token}")
    text = "\n".join(announcement(found, Studio(tmp_path, tmp_path, lan=True)))
    assert "plain HTTP: others on this network can read" in text
    assert f"class: {found.student}" in text
    assert "▀" in text
    lines = [line for line in text.splitlines() if "▀" in line or "▄" in line]
    assert len({len(line) for line in lines}) == 1  # a square of half blocks
    alone = addresses(Sessions(), 8000)
    assert alone.student is None
    assert "class:" not in "\n".join(announcement(alone, Studio(tmp_path, tmp_path)))


def test_s07_a_class_is_let_in_by_lan_only(page: Path, tmp_path: Path) -> None:
    for lan, host in ((False, "127.0.0.1"), (True, "0.0.0.0")):
        with contextlib.closing(listen(0, lan=lan)) as listener:
            assert listener.getsockname()[0] == host
    with studio(page, tmp_path, "--lan", "--allow-root") as one:
        assert one.process.stdout is not None
        lines = iter(one.process.stdout.readline, "")
        student = next(line for line in lines if line.startswith("class: ")).removeprefix("class: ").strip()
        if "127.0.0.1" in student:
            pytest.skip("this machine has no network")
        answer = httpx2.get(student, trust_env=False)
        assert answer.status_code == 303
        base = student.partition("/?")[0]
        cookie = answer.headers["set-cookie"].partition(";")[0]
        with httpx2.Client(base_url=base, headers={"cookie": cookie, "origin": base}, trust_env=False) as client:
            assert client.get("/api/session").json()["role"] == "student"
            assert client.post("/api/draw/models/twenty/make").status_code == 403
            assert client.get("/").status_code == 200
        # Read off the terminal, the owner's token is worth nothing over the network.
        token = one.address.partition("token=")[2]
        assert httpx2.get(f"{base}/?token={token}", trust_env=False).status_code == 401
        assert one.end(signal.SIGINT)[0] == 130


@pytest.mark.parametrize("lan", [True, False])
def test_s15_root_lets_no_class_in_unless_told_so(
    lan: bool, page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Reached(Exception):
        pass

    def stop(*_: Any, **__: Any) -> Any:
        raise Reached

    warned: list[str] = []
    monkeypatch.setattr(static_files, "FOLDER", page)
    monkeypatch.setattr(room, "listen", stop)

    def start(*, root: bool, allow_root: bool) -> None:
        monkeypatch.setattr(os, "geteuid", lambda: 0 if root else 1000)
        shared = Studio(tmp_path, tmp_path, lan=lan)
        serve(shared, port=0, browser=False, allow_root=allow_root, say=print, warn=warned.append)

    for root, allow_root in ((False, False), (False, True), (True, True)):
        with pytest.raises(Reached):
            start(root=root, allow_root=allow_root)
    assert warned == []
    if lan:
        with pytest.raises(UsageError) as caught:
            start(root=True, allow_root=False)
        assert (caught.value.code, caught.value.exit_code) == ("root-refused", 2)
        assert "--allow-root" in caught.value.hint
    else:
        with pytest.raises(Reached):
            start(root=True, allow_root=False)
        assert len(warned) == 1


def test_s04_a_name_that_is_rebound_to_this_machine(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """A page of evil.example has its name lead to 127.0.0.1, and asks: same origin to the browser, but not to the guard."""
    real = socket.getaddrinfo

    def resolve(host: Any, *arguments: Any, **options: Any) -> Any:
        name = host.decode() if isinstance(host, bytes) else host
        return real("127.0.0.1" if name == "evil.example" else name, *arguments, **options)

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    evil = f"http://evil.example:{served.port}"
    token = served.sessions.owner_token
    headers = {"cookie": served.cookie(), "origin": evil}
    with httpx2.Client(base_url=evil, headers=headers, trust_env=False) as client:
        for path in ("/", f"/?token={token}", "/api/session", "/api/runs", "/assets/index-1a.js"):
            answer = client.get(path)
            assert answer.status_code == 403
            assert "set-cookie" not in answer.headers
        assert client.post("/api/convolve", json={}).status_code == 403
    with pytest.raises(InvalidStatus) as caught:
        connect(
            f"ws://evil.example:{served.port}/api/live", proxy=None, additional_headers={"cookie": headers["cookie"]}
        )
    assert caught.value.response.status_code == 403


def test_s02_hosts_on_the_wire(served: Served) -> None:
    """Also those that no library would send: none, and two."""
    cookie = served.cookie()
    good = f"host: 127.0.0.1:{served.port}\r\n"
    for version, hosts, expected in (
        ("1.1", good, 200), ("1.0", good, 200), ("1.0", "", 403), ("1.1", "", 400), ("1.1", good * 2, 400),
        ("1.0", good * 2, 400), ("1.1", "host: 127.0.0.1\r\n", 403), ("1.1", f"host: 127.0.0.1.evil.com:{served.port}\r\n", 403),
        ("1.1", f"host: 127.0.0.1:{served.port + 1}\r\n", 403), ("1.1", f"host : 127.0.0.1:{served.port}\r\n", 400),
    ):  # fmt: skip
        with socket.create_connection(("127.0.0.1", served.port)) as one:
            one.settimeout(10)
            one.sendall(
                f"GET /api/session HTTP/{version}\r\n{hosts}cookie: {cookie}\r\nconnection: close\r\n\r\n".encode()
            )
            answer = one.recv(65_536)
        assert answer.split(b" ")[1] == str(expected).encode(), (version, hosts)


def test_only_the_connection_says_where_a_request_comes_from(served: Served) -> None:
    """Were a forwarding header believed, one of 127.0.0.1 would make any machine this one."""
    with served.client() as client:
        for name in ("x-forwarded-for", "x-real-ip", "forwarded"):
            value = "for=192.168.1.7" if name == "forwarded" else "192.168.1.7"
            assert client.get("/api/session", headers={name: value}).json()["role"] == "owner"


def test_an_absolute_address_in_the_request_is_no_way_round(served: Served) -> None:
    with socket.create_connection(("127.0.0.1", served.port)) as one:
        one.settimeout(10)
        one.sendall(
            f"GET http://127.0.0.1:{served.port}/api/session HTTP/1.1\r\nhost: evil.example\r\ncookie: {served.cookie()}\r\n\r\n".encode()
        )
        assert one.recv(100).split(b" ")[1] == b"403"


def test_s03_r14_websockets_from_elsewhere(served: Served) -> None:
    headers = served.headers()
    with live(served.port, headers) as stream:
        assert json.loads(stream.recv(timeout=10))["kind"] == "models"
    for changes, status in (
        ({"origin": "null"}, 403), ({"origin": None}, 403), ({"origin": "http://evil.example"}, 403),
        ({"origin": f"http://127.0.0.1:{served.port + 1}"}, 403), ({"origin": f"http://localhost:{served.port}"}, 403),
        ({"additional_headers": {}}, 401), ({"additional_headers": {"cookie": f"convoscope-{served.port}=x"}}, 401),
    ):  # fmt: skip
        with pytest.raises(InvalidStatus) as caught:
            live(served.port, headers, **changes)
        assert caught.value.response.status_code == status
        assert caught.value.response.headers["x-content-type-options"] == "nosniff"


def test_r14_frames_that_are_too_much(served: Served) -> None:
    def closed_with(*frames: str | bytes) -> int:
        with live(served.port, served.headers(), compression=None) as stream:
            with contextlib.suppress(ConnectionClosed):
                for frame in frames:
                    stream.send(frame)
            with pytest.raises(ConnectionClosed) as caught:
                while True:
                    stream.recv(timeout=10)
            assert caught.value.rcvd is not None
            return caught.value.rcvd.code

    assert closed_with("x" * 1_000_000) == 1009
    assert closed_with(b"binary") == 1003
    assert closed_with(*["hello"] * 1000) == 1008
    assert served.faults == []


def test_s10_no_request_makes_the_server_open_an_address(served: Served) -> None:
    """S10. Every text that a request can hold is an address; whatever the server's threads connect to or resolve is noted."""
    opened: list[tuple[str, Any]] = []
    watching = True
    ours = threading.current_thread()

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        watched = ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "urllib.Request")
        if watching and event in watched and threading.current_thread() is not ours:
            opened.append((event, arguments))

    sys.addaudithook(hook)
    target = "http://example.com:81/x"
    quoted = "http:%2f%2fexample.com:81%2fx"
    try:
        with served.client() as client:
            for path in (
                "/", f"/{target}", f"/assets/{quoted}", f"/api/tiny/{quoted}", f"/api/samples/{quoted}", f"/api/runs/{quoted}/filters",
                f"/api/runs/{quoted}/filters/{quoted}/0", f"/api/draw/models/{quoted}", f"/api/session?url={quoted}", f"/?token={quoted}",
            ):  # fmt: skip
                client.get(
                    path,
                    headers={"referer": target, "x-forwarded-host": "example.com", "forwarded": "host=example.com"},
                )
            client.post(
                f"/api/draw/guess?model={quoted}",
                content=bytes(65_536),
                headers={"content-type": "application/octet-stream"},
            )
            client.post(f"/api/draw/models/{quoted}/make")
            client.post("/api/convolve", json={"image": target, "steps": [target]})
            for content in (
                f'<svg xmlns="http://www.w3.org/2000/svg"><image href="{target}"/></svg>',
                f'<?xml version="1.0"?><!DOCTYPE x [<!ENTITY y SYSTEM "{target}">]><x>&y;</x>',
                f'<html><img src="{target}"></html>', f"{target}\n", f"version https://git-lfs.github.com/spec/v1\n{target}",
            ):  # fmt: skip
                answer = client.post("/api/images", content=content.encode(), headers={"content-type": "image/png"})
                assert answer.status_code == 422
    finally:
        watching = False
    assert opened == []


def test_r07_paths_on_the_wire(served: Served, tmp_path: Path) -> None:
    """As they are typed, without a client that tidies them up."""
    headers = served.headers()
    for path in (
        "/../../etc/passwd",
        "/assets/../../../etc/passwd",
        "/assets/..%2f..%2fetc%2fpasswd",
        "//etc/passwd",
        "/assets//x",
        "/%2e%2e/",
    ):
        connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=10)
        connection.putrequest("GET", path, skip_host=False)
        connection.putheader("cookie", headers["cookie"])
        connection.endheaders()
        answer = connection.getresponse()
        assert answer.status == 404, path
        assert b"root:" not in answer.read()
        connection.close()


def test_our_own_faults_are_written_down_and_named_in_the_terminal_only(tmp_path: Path) -> None:
    said: list[str] = []
    log = FaultLog(said.append)
    door = make_door(tmp_path, on_fault=log)
    answer = door.ask("/api/draw/models")  # nothing was started, so there is nothing to draw with
    door.ask("/api/draw/models")
    try:
        assert log.path is not None
        assert (answer.status, answer.code) == (500, "internal-error")
        assert str(log.path) not in answer.body.decode()
        assert [str(log.path) in line for line in said] == [True, True]
        assert stat.S_IMODE(log.path.stat().st_mode) == 0o600
        text = log.path.read_text()
        assert text.count("Traceback") >= 2
        assert door.sessions.owner_token not in text
    finally:
        if log.path is not None:
            log.path.unlink()


def test_a_start_that_fails_says_why(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def start(self: DrawState) -> None:
        raise MachineError("models", "the disk is full", code="disk-full")

    monkeypatch.setattr(static_files, "FOLDER", page)
    monkeypatch.setattr(DrawState, "start", start)
    said: list[str] = []
    with pytest.raises(MachineError, match="models: the disk is full"):
        serve(Studio(tmp_path, tmp_path), port=0, browser=False, allow_root=True, say=said.append, warn=said.append)
    assert said == []
