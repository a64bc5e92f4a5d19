"""What each request may be: one rule for each route. A request without a rule is open to the owner only.

The guard asks it who may send a request, and the request limits ask it which body may come with it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from starlette.routing import compile_path
from starlette.types import Scope


@dataclass(frozen=True, kw_only=True)
class Rule:
    """What a request to one route may be.

    Attributes:
        students: whether students may send it; the owner may send every request.
        types: the content types that a body may have, where `image/` means all images; empty means any.
        limit: the most bytes that a body may have.
    """

    students: bool
    types: tuple[str, ...] = ()
    limit: int = 4_096


_EVERYBODY: Final = Rule(students=True)
OWNER_ONLY: Final = Rule(students=False)

POLICY: Final[Mapping[str, Rule]] = {
    # The page's files
    "GET /": _EVERYBODY,
    "GET /assets/{name}": _EVERYBODY,
    # All pages
    "GET /api/openapi.json": _EVERYBODY,
    "GET /api/session": _EVERYBODY,
    "POST /api/images": Rule(students=True, types=("application/octet-stream", "image/"), limit=20_000_000),
    # Tiny
    "GET /api/tiny/{name}": _EVERYBODY,
    # Convolve
    "GET /api/samples": _EVERYBODY,
    "GET /api/samples/{name}": _EVERYBODY,
    "GET /api/kernels": _EVERYBODY,
    # 512 x 512 x 3 numbers of 8 bytes are 8.4 MB as base64.
    "POST /api/convolve": Rule(students=True, types=("application/json",), limit=9_000_000),
    # Runs: for students the list is empty.
    "GET /api/runs": _EVERYBODY,
    "GET /api/runs/{name}/filters": OWNER_ONLY,
    "GET /api/runs/{name}/filters/{layer}/{index}": OWNER_ONLY,
    # Draw: students see only the networks that come with the studio.
    "GET /api/draw/models": _EVERYBODY,
    "GET /api/draw/models/{model}": _EVERYBODY,
    "POST /api/draw/models/{model}/make": OWNER_ONLY,
    "POST /api/draw/models/{model}/stop": OWNER_ONLY,
    "POST /api/draw/guess": Rule(students=True, types=("application/octet-stream",), limit=65_536),
    "WEBSOCKET /api/live": _EVERYBODY,
}
"""Method and path of a route -> its rule. The paths are written as the routes write them."""

# The patterns are the router's own, so that rule and route always match the same requests.
_PATTERNS: Final = [
    (method, compile_path(path)[0], rule)
    for route, rule in POLICY.items()
    for method, _, path in [route.partition(" ")]
]


def rule_for(scope: Scope) -> Rule | None:
    """The rule for an HTTP request or a websocket; None if there is none. HEAD counts as GET."""
    method = "WEBSOCKET" if scope["type"] == "websocket" else scope["method"]
    method = "GET" if method == "HEAD" else method
    for its_method, pattern, rule in _PATTERNS:
        if its_method == method and pattern.match(scope["path"]):
            return rule
    return None
