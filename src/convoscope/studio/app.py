"""The studio's application: all routes behind the guard and the request limits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from fastapi import FastAPI
from starlette.types import ASGIApp

from . import errors
from .guard import Guard
from .messages.common import Refusal
from .request_limits import IDLE_SECONDS, LingeringClose, RequestLimits
from .routes import ROUTERS
from .sessions import Sessions
from .state import Studio
from .static_files import Page

_REFUSED: Final = "Refused, with the reason."


def create_app(
    studio: Studio,
    sessions: Sessions,
    *,
    port: int,
    page: Page | None = None,
    on_fault: Callable[[Exception], None] | None = None,
    idle_seconds: float = IDLE_SECONDS,
) -> ASGIApp:
    """The whole server as one ASGI application.

    Args:
        port: the port on which it will listen; the Host of a request must name it.
        page: the built page; without it there are only the routes under `/api/`.
        on_fault: called with every exception that is a bug of ours, after the client got its 500; without it they are
            raised.
        idle_seconds: how long a sender may be silent in the middle of a body.
    """
    api = routes()
    api.state.studio = studio
    api.state.on_fault = on_fault
    if page is not None:
        api.include_router(page.router())
    limited = RequestLimits(api, idle_seconds=idle_seconds)
    return LingeringClose(Guard(limited, sessions, port=port, lan=studio.lan, on_fault=on_fault))


def routes() -> FastAPI:
    """All routes under `/api/`, with nothing in front of them and nothing started: for `create_app` and the schema."""
    api = FastAPI(
        title="convoscope studio",
        version="1",
        openapi_url="/api/openapi.json",
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        generate_unique_id_function=lambda route: route.name,
        responses={
            "4XX": {"model": Refusal, "description": _REFUSED},
            "5XX": {"model": Refusal, "description": _REFUSED},
        },
    )
    api.state.on_fault = None
    errors.install(api)
    for router in ROUTERS:
        api.include_router(router)
    return api
