"""Limits on request bodies: their content type, size and speed, checked while they arrive. See `policy.py`.

This happens outside FastAPI, because a limit that is checked when the body is complete limits nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import Any, Final

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .errors import RequestRefused
from .policy import OWNER_ONLY, Rule, rule_for

IDLE_SECONDS: Final = 30.0
BYTES_A_SECOND: Final = 10_000
"""The slowest speed at which a body may arrive after the first `IDLE_SECONDS`. A phone with a bad connection is several
times faster.
"""

_LINGER_BYTES: Final = 64_000_000
_LINGER_SECONDS: Final = 5.0


class RequestLimits:
    """Counts the bytes of every body, cuts off senders that fall silent or send too slowly, and refuses ambiguous JSON.

    Raises:
        RequestRefused: 408 silent for `idle_seconds` or slower than `BYTES_A_SECOND` on average, 413 too large, 415
            wrong content type, 400 not valid JSON.
    """

    def __init__(self, app: ASGIApp, *, idle_seconds: float = IDLE_SECONDS) -> None:
        self._app = app
        self._idle_seconds = idle_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not has_body(Headers(scope=scope)):
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        rule = rule_for(scope) or OWNER_ONLY  # with the smallest limit
        _check_type(headers.get("content-type", ""), rule)
        length = headers.get("content-length", "")
        if length.isdecimal() and int(length[:20]) > rule.limit:
            raise _too_large(int(length[:20]), rule.limit)
        counted = _Counted(receive, rule.limit, self._idle_seconds)
        if rule.types != ("application/json",):
            await self._app(scope, counted, send)
            return
        content = bytearray()
        more = True
        while more:
            message = await counted()
            if message["type"] != "http.request":
                return
            content += message.get("body", b"")
            more = message.get("more_body", False)
        read_json(bytes(content))
        await self._app(scope, _Replayed(bytes(content), receive), send)


def has_body(headers: Headers) -> bool:
    """Whether a request has a body."""
    return "transfer-encoding" in headers or headers.get("content-length", "0").strip("0 ") != ""


def _check_type(given: str, rule: Rule) -> None:
    kind = given.partition(";")[0].strip().lower()
    if rule.types and not any(kind == one or (one.endswith("/") and kind.startswith(one)) for one in rule.types):
        expected = " or ".join(f"{one}*" if one.endswith("/") else one for one in rule.types)
        raise RequestRefused(
            415, "content-type-wrong", f"expected {expected}; received {kind[:100] or 'no content type'}"
        )


def _too_large(count: int | None, limit: int) -> RequestRefused:
    has = f"{_bytes_text(count)} were sent" if count else f"more than {_bytes_text(limit)} were sent"
    return RequestRefused(413, "body-too-large", f"{has}; the limit is {_bytes_text(limit)}")


def _bytes_text(count: int) -> str:
    return f"{count / 1e6:.1f} MB".replace(".0 ", " ") if count >= 1_000_000 else f"{count:,} bytes"


class _Counted:
    """A `receive` that counts bytes and does not wait for ever."""

    def __init__(self, receive: Receive, limit: int, idle_seconds: float) -> None:
        self._receive = receive
        self._limit = limit
        self._idle_seconds = idle_seconds
        self._count = 0
        self._waited = 0.0
        self._complete = False

    async def __call__(self) -> Message:
        if self._complete:
            return await self._receive()
        clock = asyncio.get_running_loop().time
        # Only the time spent waiting counts: it is not the sender's fault when the body is not asked for at once.
        left = self._idle_seconds + self._count / BYTES_A_SECOND - self._waited
        begun = clock()
        try:
            async with asyncio.timeout(min(self._idle_seconds, left)):
                message = await self._receive()
        except TimeoutError:
            if left > self._idle_seconds / 2:
                reason = f"nothing arrived for {min(self._idle_seconds, left):.3g} seconds; the body is incomplete"
                raise RequestRefused(408, "body-idle", reason) from None
            waited = self._waited + clock() - begun
            reason = f"only {self._count:,} bytes arrived in {waited:.0f} seconds; the body is incomplete"
            raise RequestRefused(408, "body-slow", reason, "use a better connection") from None
        self._waited += clock() - begun
        self._count += len(message.get("body", b""))
        self._complete = not message.get("more_body", False)
        if self._count > self._limit:
            raise _too_large(None, self._limit)
        return message


class _Replayed:
    """A `receive` that gives again a body that has been read."""

    def __init__(self, content: bytes, receive: Receive) -> None:
        self._content: bytes | None = content
        self._receive = receive

    async def __call__(self) -> Message:
        if self._content is None:
            return await self._receive()
        content, self._content = self._content, None
        return {"type": "http.request", "body": content, "more_body": False}


def read_json(content: bytes) -> Any:
    """Parse JSON in UTF-8 without repeated names and without NaN, nested no deeper than Python reads.

    Raises:
        RequestRefused: 400 `json-malformed`, with the position if it is known.
    """
    try:
        return json.loads(content.decode("utf-8"), object_pairs_hook=_once_each, parse_constant=_no_constant)
    except UnicodeDecodeError as error:
        reason = f"byte {error.start} is not UTF-8"
    except json.JSONDecodeError as error:
        reason = f"line {error.lineno}, column {error.colno}: {error.msg}"
    except RecursionError:
        reason = "it is nested too deeply"
    except ValueError as error:
        reason = str(error) if isinstance(error, _Ambiguous) else "a number has too many digits"
    raise RequestRefused(400, "json-malformed", f"the body is not valid JSON: {reason}")


class _Ambiguous(ValueError):
    """JSON that different readers understand differently."""


def _once_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    names = dict(pairs)
    if len(names) < len(pairs):
        seen: set[str] = set()
        for name, _ in pairs:
            if name in seen:
                raise _Ambiguous(f"{name[:60]!r} appears twice in one object")
            seen.add(name)
    return names


def _no_constant(name: str) -> Any:
    raise _Ambiguous(f"{name} is not a JSON number")


class LingeringClose:
    """Answers at once, but keeps reading for a short time what a refused client still sends.

    Browsers read an answer only when they have sent everything. If the connection is closed before, they see a reset
    and lose the answer. Senders that go on for longer are cut off.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not has_body(Headers(scope=scope)):
            await self._app(scope, receive, send)
            return
        complete = False

        async def watched() -> Message:
            nonlocal complete
            message = await receive()
            complete = complete or not message.get("more_body", False)
            return message

        async def linger() -> None:
            count = 0
            while not complete and count < _LINGER_BYTES:
                count += len((await watched()).get("body", b""))

        async def lingering(message: Message) -> None:
            if complete:
                await send(message)
            elif message["type"] == "http.response.start":
                await send({**message, "headers": [*message["headers"], (b"connection", b"close")]})
            elif message.get("more_body", False):
                await send(message)
            else:
                await send({**message, "more_body": True})
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_LINGER_SECONDS):
                        await linger()
                await send({"type": "http.response.body", "body": b"", "more_body": False})

        await self._app(scope, watched, lingering)
