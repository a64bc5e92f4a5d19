"""The guard in front of everything, HTTP and websockets: it checks the Host, the session, the Origin and the role.

What is not allowed is refused. Without a session nothing behind the guard can be reached: no route, no method, no file
of the page. The list of Hosts keeps out other sites whose names lead to this machine (DNS rebinding). The cookie keeps
out everybody who was not given an address with a token. The Origin keeps out other pages in the same browser, including
those that other programs on this machine serve on other ports: browsers share cookies between ports. What each role may
do is in `policy.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final
from urllib.parse import parse_qs

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..errors import printable
from .errors import INTERNAL_ERROR, RequestRefused, not_found, refusal
from .policy import rule_for
from .sessions import Role, Sessions
from .sign_in_page import sign_in_page

_HEADERS: Final = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; "
    "connect-src 'self'; worker-src 'self' blob:; font-src 'self'; media-src 'self' blob:; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(self), microphone=(), geolocation=(), display-capture=(), usb=(), serial=(), "
    "hid=(), midi=(), payment=()",
}

_NO_SESSION: Final = RequestRefused(
    401,
    "no-session",
    "This studio opens with the address that is printed in the terminal where it was started.",
    "Copy the whole address, with its token, into this browser.",
)
_WRONG_TOKEN: Final = RequestRefused(
    401,
    "token-wrong",
    "The token in this address is not valid, or no longer valid.",
    "Copy the whole address from the terminal where the studio was started.",
)


class Guard:
    """Lets through what is allowed, and puts the security headers on every answer.

    Behind it `scope["state"]["role"]` is "owner" or "student".

    Args:
        port: the port on which the server listens.
        lan: also accept this machine's own addresses as Hosts.
        on_fault: called with every exception that is a bug of ours; without it they are raised.
    """

    def __init__(
        self,
        app: ASGIApp,
        sessions: Sessions,
        *,
        port: int,
        lan: bool = False,
        on_fault: Callable[[Exception], None] | None = None,
    ) -> None:
        self._app = app
        self._sessions = sessions
        self._port = port
        self._lan = lan
        self._on_fault = on_fault
        # Browsers share cookies between the ports of one machine, so the names contain the port. Each role has its own:
        # when a link on another page leads to the class's address, the browser does not send the owner's cookie, and a
        # new cookie with the same name would replace it.
        self._cookies: dict[Role, str] = {"owner": f"convoscope-{port}", "student": f"convoscope-{port}-class"}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        started = False

        async def guarded_send(message: Message) -> None:
            nonlocal started
            started = started or message["type"] in ("http.response.start", "websocket.accept", "websocket.close")
            if message["type"] in ("http.response.start", "websocket.http.response.start"):
                started = True
                headers = MutableHeaders(scope=message)
                headers.update(_HEADERS)
                headers.setdefault("cache-control", "no-store")
            await send(message)

        try:
            answer = self._checked(scope)
            if answer is None:
                await self._app(scope, receive, guarded_send)
            else:
                await _answer(answer, scope, receive, guarded_send)
        except RequestRefused as refused:
            if not started:
                await _answer(self._refusal(refused, scope), scope, receive, guarded_send)
        except Exception as error:
            if not started:
                await _answer(refusal(INTERNAL_ERROR), scope, receive, guarded_send)
            if self._on_fault is None:
                raise
            self._on_fault(error)

    def _checked(self, scope: Scope) -> Response | None:
        """The answer to a request that goes no further; None if it may pass.

        Raises:
            RequestRefused: it may not pass.
        """
        headers = Headers(scope=scope)
        host = self._checked_host(headers, scope)
        client = scope["client"][0] if scope.get("client") else ""
        held = self._held(headers, client)
        role: Role | None = "owner" if "owner" in held else "student" if "student" in held else None
        if scope["type"] == "http" and scope["method"] == "GET" and scope["path"] == "/":
            token = parse_qs(scope["query_string"].decode("latin-1"), keep_blank_values=True).get("token")
            if token is not None:
                return self._traded(token[0], client, held)
        if role is None:
            raise _NO_SESSION
        self._check_origin(headers, scope, host)
        _check_role(role, scope)
        if headers.get("range", "").count(","):
            raise RequestRefused(416, "ranges-refused", "a request may ask for one range of bytes only")
        scope.setdefault("state", {})["role"] = role
        return None

    def _checked_host(self, headers: Headers, scope: Scope) -> str:
        given = headers.getlist("host")
        names = ["127.0.0.1", "localhost", "[::1]"]
        if self._lan and scope.get("server"):
            # The address through which this connection arrived is an address of this machine.
            own = scope["server"][0]
            names.append(f"[{own}]" if ":" in own else own)
        hosts = {f"{name}:{self._port}" for name in names} | (set(names) if self._port == 80 else set())
        if len(given) == 1 and given[0].lower() in hosts:
            return given[0].lower()
        raise RequestRefused(
            403,
            "host-unknown",
            f"the Host of this request is {_shown(given)}, which is not this studio's; another site may have sent it",
            "open the address that is printed in the studio's terminal",
        )

    def _held(self, headers: Headers, client: str) -> dict[Role, str]:
        """The sessions of a request, as their cookies."""
        held: dict[Role, str] = {}
        for name in self._cookies.values():
            for cookie in _cookies(headers, name):
                role = self._sessions.role(cookie, client)
                if role is not None:
                    held.setdefault(role, cookie)
        return held

    def _traded(self, token: str, client: str, held: dict[Role, str]) -> Response:
        """Exchange the token for a cookie at once, so that it disappears from the address.

        An owner who opens the class's address stays the owner.
        """
        answer = RedirectResponse("/", 303)
        try:
            made = self._sessions.trade(token, client)
        except RequestRefused:
            if not held:
                raise
            made = None
        if made is None:
            if not held:
                raise _WRONG_TOKEN
            return answer  # an old address in a browser that already has a session
        cookie, role = made
        if role == "student" and "owner" in held:
            self._sessions.end(cookie)
            return answer
        for old in held.values():
            self._sessions.end(old)
        answer.set_cookie(self._cookies[role], cookie, path="/", httponly=True, samesite="strict")
        return answer

    def _check_origin(self, headers: Headers, scope: Scope, host: str) -> None:
        origins = headers.getlist("origin")
        writes = scope["type"] == "websocket" or scope["method"] not in ("GET", "HEAD")
        if (origins or writes) and [origin.lower() for origin in origins] != [f"http://{host}"]:
            text = f"the Origin of this request is {_shown(origins)}, which is not this studio's page"
            raise RequestRefused(403, "origin-foreign", text, "only the studio's own page may do this")

    @staticmethod
    def _refusal(refused: RequestRefused, scope: Scope) -> Response:
        """A page where a person is likely to see it, otherwise JSON."""
        if scope["type"] == "http" and scope["method"] == "GET" and scope["path"] == "/":
            answer = sign_in_page(refused)
        else:
            answer = refusal(refused)
        if refused.status == 429:
            answer.headers["retry-after"] = "60"
        return answer


def _check_role(role: Role, scope: Scope) -> None:
    rule = rule_for(scope)
    if role == "owner" or (rule is not None and rule.students):
        return
    if rule is None and scope["type"] == "http" and scope["method"] in ("GET", "HEAD"):
        raise not_found(scope["path"])
    raise RequestRefused(403, "owner-only", "only the studio's owner may do this")


def _shown(given: list[str]) -> str:
    return " and ".join(repr(printable(one)[:100]) for one in given[:2]) or "missing"


def _cookies(headers: Headers, name: str) -> list[str]:
    """Every value of a cookie: another program on this machine may have set one with the same name."""
    pairs = (pair.partition("=") for line in headers.getlist("cookie") for pair in line.split(";"))
    return [value.strip() for key, _, value in pairs if key.strip() == name][:10]


async def _answer(answer: Response, scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "websocket" and "websocket.http.response" not in scope.get("extensions", {}):
        await send({"type": "websocket.close", "code": 1008})
        return
    await answer(scope, receive, send)
