"""Who may use the studio: tokens in addresses, and the cookies they are exchanged for. All last as long as the server.

Three tokens of 128 bits open the page. The owner's token is printed in the terminal and is valid as long as the server
runs, so that a second browser can be opened; each use makes a new session. The token that the browser is started with
is valid once, because others on this machine can read it in the list of processes. With `lan` there is also the class's
token, which makes students. The owner's token and cookie are accepted from this machine only, so that a token read from
a projected terminal or a cookie read on the network is worth nothing elsewhere. A new server knows no session of the
old one.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import secrets
import time
from collections import Counter
from collections.abc import Callable
from typing import Final, Literal

from .errors import RequestRefused

Role = Literal["owner", "student"]

WRONG_TOKENS: Final = 10
LOCKED_SECONDS: Final = 60.0
_MOST_SESSIONS: Final = 1_000
"""For each role. One more removes the oldest session of the address that has the most."""


class Sessions:
    """The tokens of one server and the sessions made with them."""

    def __init__(self, *, lan: bool = False, clock: Callable[[], float] = time.monotonic) -> None:
        self.owner_token: Final = new_token()
        self.class_token: Final = new_token() if lan else None
        self._once: str | None = None
        self._clock = clock
        # Hash of a cookie -> the address that it was made for. The time that a search takes says nothing about a hash's
        # cookie.
        self._sessions: dict[Role, dict[bytes, str]] = {"owner": {}, "student": {}}
        self._wrong: dict[str, list[float]] = {}

    def token_for_once(self) -> str:
        """A token of the owner that is valid for one use. The one before it becomes invalid."""
        self._once = new_token()
        return self._once

    def trade(self, token: str, client: str) -> tuple[str, Role] | None:
        """The cookie and role of a new session in exchange for a token; None if the token is wrong.

        Args:
            client: the address that asks.

        Raises:
            RequestRefused: 429, the token is wrong, and so were ten others from there within a minute. A right one is
                accepted all the same: any page in the owner's browser can send wrong ones from there, and nobody
                guesses 128 bits.
        """
        role = self._role_of_token(token, client)
        if role is None:
            self._count_wrong(client)
            return None
        cookie = new_token()
        sessions = self._sessions[role]
        sessions[_hash(cookie)] = client
        if len(sessions) > _MOST_SESSIONS:
            most, _ = Counter(sessions.values()).most_common(1)[0]
            del sessions[next(key for key, address in sessions.items() if address == most)]
        return cookie, role

    def _count_wrong(self, client: str) -> None:
        now = self._clock()
        wrong = [moment for moment in self._wrong.get(client, ()) if now - moment < LOCKED_SECONDS]
        if len(wrong) >= WRONG_TOKENS:
            raise RequestRefused(
                429,
                "too-many-tokens",
                f"wrong token, like {WRONG_TOKENS} others from this address within {LOCKED_SECONDS:.0f} seconds",
                "open the address that is printed in the studio's terminal",
            )
        self._wrong[client] = [*wrong, now]
        while len(self._wrong) > _MOST_SESSIONS:
            del self._wrong[next(iter(self._wrong))]

    def _role_of_token(self, token: str, client: str) -> Role | None:
        # All comparisons are made, so that the time taken does not depend on the result of one.
        owner = _same(token, self.owner_token)
        once = _same(token, self._once)
        student = _same(token, self.class_token)
        if (owner or once) and is_this_machine(client):
            if once:
                self._once = None
            return "owner"
        return "student" if student else None

    def role(self, cookie: str, client: str) -> Role | None:
        """The role that a cookie stands for; None if there is no such session."""
        key = _hash(cookie)
        if key in self._sessions["owner"] and is_this_machine(client):
            return "owner"
        return "student" if key in self._sessions["student"] else None

    def end(self, cookie: str) -> None:
        """Forget a session."""
        for sessions in self._sessions.values():
            sessions.pop(_hash(cookie), None)


def new_token() -> str:
    """128 random bits, as 22 letters, digits, `-` and `_`."""
    return secrets.token_urlsafe(16)


def is_this_machine(client: str) -> bool:
    """Whether an address is a loopback one."""
    try:
        return ipaddress.ip_address(client).is_loopback
    except ValueError:
        return False


def _same(token: str, right: str | None) -> bool:
    return hmac.compare_digest(token.encode("utf-8", "replace"), (right or new_token()).encode())


def _hash(cookie: str) -> bytes:
    return hashlib.sha256(cookie.encode("utf-8", "replace")).digest()
