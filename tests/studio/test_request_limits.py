"""Bodies: how much, how fast, and which JSON. R cases of the catalogue."""

import asyncio
import contextlib
import json
import select
import socket
import threading
from pathlib import Path
from typing import Any

import pytest
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from convoscope.studio import request_limits
from convoscope.studio.decoder import READ_AT_ONCE, WAITING
from convoscope.studio.guard import Guard
from convoscope.studio.request_limits import IDLE_SECONDS, LingeringClose, RequestLimits
from convoscope.studio.sessions import Sessions
from tests.support.clocks import SkippingLoop
from tests.support.studios import Door, Served, serving, until

JSON = {"content-type": "application/json", "transfer-encoding": "chunked"}
LIMITS = {
    "/api/convolve": 9_000_000,
    "/api/images": 20_000_000,
    "/api/draw/guess": 65_536,
    "/api/draw/models/x/make": 4_096,
}


async def reader(scope: Scope, receive: Receive, send: Send) -> None:
    """An application that reads every body to its end."""
    request = Request(scope, receive)
    count = 0
    async for piece in request.stream():
        count += len(piece)
    await Response(str(count))(scope, receive, send)


def reading_door(**options: Any) -> Door:
    """The guard and the counting before `reader`."""
    sessions = Sessions()
    return Door(LingeringClose(Guard(RequestLimits(reader, **options), sessions, port=8000)), sessions)


def kind(path: str) -> str:
    return "application/json" if path.endswith("convolve") else "application/octet-stream"


@pytest.mark.parametrize("path", LIMITS)
def test_r03_a_body_that_says_it_is_too_large_is_not_read(door: Door, path: str) -> None:
    asked = 0

    async def more() -> Any:
        nonlocal asked
        asked += 1
        return {"type": "http.request", "body": b"", "more_body": False}

    size = LIMITS[path] + 1
    answer = door.ask(path, method="POST", headers={"content-type": kind(path), "content-length": str(size)}, body=more)
    assert (answer.status, answer.code) == (413, "body-too-large")
    assert "the limit is" in answer.json()["message"]
    assert asked <= 1  # the lingering for what is on its way


@pytest.mark.parametrize("path", LIMITS)
@pytest.mark.parametrize("piece", [65_536, 1_000_003])
def test_r03_a_body_that_grows_too_large_is_refused_there(path: str, piece: int) -> None:
    sent, answered_at = 0, 0

    async def more() -> Any:
        nonlocal sent
        sent += piece
        return {"type": "http.request", "body": bytes(piece), "more_body": sent < LIMITS[path] + 5_000_000}

    door = reading_door()
    app = door.app

    async def watched(scope: Scope, receive: Receive, send: Send) -> None:
        async def noted(message: Any) -> None:
            nonlocal answered_at
            answered_at = answered_at or sent
            await send(message)

        await app(scope, receive, noted)

    door.app = watched
    answer = door.ask(path, method="POST", headers={**JSON, "content-type": kind(path)}, body=more)
    assert (answer.status, answer.code) == (413, "body-too-large")
    assert answer.headers["connection"] == "close"
    assert LIMITS[path] < answered_at <= LIMITS[path] + piece
    assert sent >= LIMITS[path] + 5_000_000  # what followed was still taken off the line


@pytest.mark.parametrize("path", LIMITS)
def test_a_body_of_just_the_limit_passes(path: str) -> None:
    body = b'"' + bytes(LIMITS[path] - 2).replace(b"\0", b"a") + b'"'
    answer = reading_door().ask(
        path, method="POST", headers={**JSON, "content-type": kind(path)}, body=[body[:9], body[9:]]
    )
    assert (answer.status, int(answer.body)) == (200, LIMITS[path])


def test_r03_single_bytes_are_counted_too(served: Served) -> None:
    path = "/api/draw/guess?model=apple-banana"
    with served.post(path, "application/octet-stream", "transfer-encoding: chunked", b"1\r\nx\r\n" * 65_537) as one:
        assert one.recv(65_536).startswith(b"HTTP/1.1 413"), "before the body has ended"


def test_the_number_in_the_answer_is_the_one_sent(door: Door) -> None:
    headers = {"content-type": "image/jpeg", "content-length": "39900000"}
    message = door.ask("/api/images", method="POST", headers=headers).json()["message"]
    assert message == "39.9 MB were sent; the limit is 20 MB"
    headers = {"content-type": "application/octet-stream", "content-length": "65537"}
    message = door.ask("/api/draw/guess", method="POST", headers=headers).json()["message"]
    assert message == "65,537 bytes were sent; the limit is 65,536 bytes"


def test_a_length_of_a_thousand_digits_is_too_large(door: Door) -> None:
    headers = {"content-type": "image/jpeg", "content-length": "9" * 1000}
    assert door.ask("/api/images", method="POST", headers=headers).code == "body-too-large"


# --- JSON --------------------------------------------------------------------------------------------------------------

CHAIN: dict[str, Any] = {
    "image": {"height": 1, "width": 1, "channels": 1, "values": "AAAAAAAA8D8="},
    "steps": [{"kind": "relu"}],
}


def convolve(door: Door, body: bytes) -> Any:
    return door.ask("/api/convolve", method="POST", headers=JSON, body=[body[:7], body[7:]])


def test_a_good_body_arrives_whole(door: Door) -> None:
    answer = convolve(door, json.dumps(CHAIN).encode())
    assert answer.status == 200, answer.body
    assert answer.json()["steps"][0]["maps"]["values"] == "AAAAAAAA8D8="


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "line 1, column 1"),
        (b"{", "line 1, column 2"),
        (b"{]", "line 1"),
        (b"nothing", "line 1"),
        (b"{}{}", "line 1, column 3: Extra data"),
        (b"\xff\xfe{}", "byte 0 is not UTF-8"),
        ('{"a": "ä"}'.encode("latin-1"), "byte 7 is not UTF-8"),
        ("{}".encode("utf-16"), "byte 0 is not UTF-8"),
        (b"\xef\xbb\xbf{}", "BOM"),
        (b"[" * 10_000, "nested too deeply"),
        (b'{"a":' * 10_000, "nested too deeply"),
        (b"[" * 10_000 + b"]" * 10_000, "nested too deeply"),
        (b'{"image": 1, "image": 2}', "'image' appears twice in one object"),
        (b'{"image": {"a": 1, "b": [{"c": 1, "c": 1}]}}', "'c' appears twice in one object"),
        (b'{"a": NaN}', "NaN is not a JSON number"),
        (b'[-Infinity]', "-Infinity is not a JSON number"),
        (b"[" + b"9" * 5_000 + b"]", "a number has too many digits"),
    ],
)  # fmt: skip
def test_r06_json_that_cannot_be_read(door: Door, body: bytes, reason: str) -> None:
    answer = convolve(door, body)
    assert (answer.status, answer.code) == (400, "json-malformed")
    assert reason in answer.json()["message"]


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"image": 7}, "image: "),
        ({"more": 1}, "more: extra inputs are not permitted"),
        ({"steps": []}, "steps: "),
        ({"steps": [{"kind": "fly"}]}, "steps.0: "),
        ({"steps": [{"kind": "convolve", "kernel": [[1]], "stride": 10**400}]}, "steps.0.convolve.stride: "),
        ({"steps": [{"kind": "convolve", "kernel": [[1]], "stride": 0}]}, "greater than or equal to 1; received 0"),
        ({"steps": [{"kind": "pool", "pool": "\ud800"}]}, "steps.0.pool.pool: "),
        ({"steps": [{"kind": "pool", "size": "many"}]}, "received 'many'"),
        ({"image": {**CHAIN["image"], "values": "\ud800"}}, "base64"),
        ({"image": {**CHAIN["image"], "height": 1e300}}, "image.height: "),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_named(door: Door, change: dict[str, Any], field: str) -> None:
    answer = convolve(door, json.dumps({**CHAIN, **change}).encode())
    assert answer.status == 422
    assert field in answer.json()["message"]


def test_a_number_beyond_float64_is_no_infinity(door: Door) -> None:
    body = (
        json.dumps({**CHAIN, "steps": [{"kind": "convolve", "kernel": [[1]]}]}).replace("[[1]]", "[[1e999]]").encode()
    )
    answer = convolve(door, body)
    assert (answer.status, answer.code) == (422, "request-invalid")


@pytest.mark.parametrize(
    "kind", ["", "text/plain", "application/x-www-form-urlencoded", "application/jsonx", "image/png", "text/json"]
)
def test_r09_wrong_content_types(door: Door, kind: str) -> None:
    answer = door.ask("/api/convolve", method="POST", headers={**JSON, "content-type": kind}, body=b"{}")
    assert (answer.status, answer.code) == (415, "content-type-wrong")
    assert "expected application/json" in answer.json()["message"]


def test_a_charset_changes_nothing(door: Door) -> None:
    headers = {**JSON, "content-type": "Application/JSON; charset=utf-8"}
    assert door.ask("/api/convolve", method="POST", headers=headers, body=json.dumps(CHAIN).encode()).status == 200


# --- slow and gone -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", LIMITS)
def test_l06_a_sender_that_falls_silent_is_cut(path: str) -> None:
    calls = 0

    async def silent() -> Any:
        nonlocal calls
        calls += 1
        if calls > 1:
            await asyncio.Event().wait()
        return {"type": "http.request", "body": b"x", "more_body": True}

    headers = {**JSON, "content-type": kind(path)}
    loop = SkippingLoop()
    answer = reading_door().ask(path, method="POST", headers=headers, body=silent, loop=lambda: loop)
    assert (answer.status, answer.code) == (408, "body-idle")
    # The limit, and the time in which a refused sender is still listened to.
    assert loop.time() == pytest.approx(IDLE_SECONDS + request_limits._LINGER_SECONDS)


@pytest.mark.parametrize("path", LIMITS)
@pytest.mark.parametrize(("pause", "piece", "whole"), [(6.0, b"x", False), (6.0, b"x" * 400, True)])
def test_l06_a_sender_that_drips_is_cut(
    path: str, pause: float, piece: bytes, whole: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Never silent, and never done: a byte now and then. 66 bytes a second are more than the 50 that are asked for."""
    sent = 0

    async def drip() -> Any:
        nonlocal sent
        await asyncio.sleep(pause)
        sent += 1
        return {"type": "http.request", "body": piece, "more_body": sent < 10}

    monkeypatch.setattr(request_limits, "BYTES_A_SECOND", 50)
    headers = {**JSON, "content-type": kind(path)}
    answer = reading_door().ask(path, method="POST", headers=headers, body=drip, loop=SkippingLoop)
    if whole:
        assert answer.status == (400 if "json" in kind(path) else 200)
    else:
        assert (answer.status, answer.code) == (408, "body-slow")
        assert answer.json()["message"].endswith("; the body is incomplete")
        assert sent < 10


def test_a_body_that_was_not_asked_for_yet_is_not_slow() -> None:
    """An upload that waits for its turn."""

    async def late(scope: Scope, receive: Receive, send: Send) -> None:
        await asyncio.sleep(IDLE_SECONDS + 10)
        await reader(scope, receive, send)

    door = Door(Guard(RequestLimits(late), sessions := Sessions(), port=8000), sessions)
    headers = {**JSON, "content-type": "image/png"}
    answer = door.ask("/api/images", method="POST", headers=headers, body=[b"x"] * 5, loop=SkippingLoop)
    assert answer.status == 200


def test_l06_200_slow_senders_hold_nobody_up(tmp_path: Path) -> None:
    """All of one client: a few at a time are listened to, some wait, the others are refused."""
    taken = READ_AT_ONCE + WAITING
    with serving(tmp_path) as served, contextlib.ExitStack() as stack:
        slow = [
            stack.enter_context(served.post("/api/images", "image/png", "content-length: 1000000", b"some"))
            for _ in range(200)
        ]
        refused: list[socket.socket] = []
        while len(refused) < 200 - taken:
            answered, _, _ = select.select([one for one in slow if one not in refused], [], [], 30)
            assert answered, "no more answers"
            assert {one.recv(20)[9:12] for one in answered} == {b"429"}
            refused += answered
        with served.client() as client:
            for _ in range(40):
                assert client.get("/api/session").status_code == 200
        assert len(refused) == 200 - taken
        assert served.faults == []


def test_l06_a_silent_sender_is_cut_by_the_server_too(tmp_path: Path) -> None:
    with serving(tmp_path, idle_seconds=0.3) as served:
        with served.post("/api/images", "image/png", "content-length: 1000000", b"some") as silent:
            assert silent.recv(20)[9:12] == b"408"
        assert served.faults == []


def test_a_refused_sender_can_still_read_why(served: Served) -> None:
    """A connection closed while the other side is sending is reset, and the answer lost: what browsers call a network error."""
    content = bytes(39_900_000)
    for extra in ({}, {"transfer-encoding": "chunked"}):
        with served.client() as client:
            body = iter([content[: 1 << 20]] * 38) if extra else content
            answer = client.post("/api/images", content=body, headers={"content-type": "image/jpeg"})
        assert answer.status_code == 413


def test_whoever_sends_without_end_is_cut(served: Served) -> None:
    """R04, in little: a body without end is neither kept nor listened to for ever."""
    with served.post("/api/images", "image/png", "transfer-encoding: chunked") as one:
        piece = b"100000\r\n" + bytes(0x100000) + b"\r\n"
        sent = 0
        with pytest.raises(OSError):
            while sent < 1000:
                one.sendall(piece)
                sent += 1
        assert 20 <= sent < 150


def test_a_client_that_leaves_is_no_fault(served: Served) -> None:
    before = threading.active_count()
    for path, content in (("/api/convolve", "application/json"), ("/api/images", "image/png")):
        served.post(path, content, "content-length: 1000", b"{").close()
    with served.client() as client:
        assert client.get("/api/session").status_code == 200
    until(lambda: threading.active_count() <= before + 40, seconds=5)
    assert served.faults == []
