"""The studio's application: all routes, behind the guard."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from importlib.metadata import version
from typing import Final

from fastapi import APIRouter, FastAPI, Request
from starlette.responses import Response
from starlette.types import ASGIApp

from . import decoder, errors
from .guard import Guard
from .messages.common import Refusal, Session
from .request_limits import IDLE_SECONDS, Bodies, Lingering
from .routes import draw, tiny
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
        port: on which it will listen; part of what a request's Host must be.
        page: the built page; without it there are only the routes under `/api/`.
        on_fault: told of every exception that is a bug of ours, after the client got its 500; without it they are
            raised.
        idle_seconds: how long a sender may fall silent within a body.
    """
    api = routes()
    api.state.studio = studio
    api.state.on_fault = on_fault
    if page is not None:
        api.include_router(_page_routes(page))
    bodies = Bodies(api, idle_seconds=idle_seconds)
    return Lingering(Guard(bodies, sessions, port=port, lan=studio.lan, on_fault=on_fault))


def routes() -> FastAPI:
    """All routes under `/api/`, with nothing in front of them and nothing started: for `create_app` and for the schema."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        app.state.decoding = decoder.Decoding()
        async with AsyncExitStack() as stack:
            app.state.decoding.start()
            stack.push_async_callback(app.state.decoding.stop)
            await draw.start(app)
            stack.push_async_callback(draw.stop, app)
            yield

    api = FastAPI(
        title="convoscope studio",
        version="1",
        openapi_url="/api/openapi.json",
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        lifespan=lifespan,
        generate_unique_id_function=lambda route: route.name,
        responses={
            "4XX": {"model": Refusal, "description": _REFUSED},
            "5XX": {"model": Refusal, "description": _REFUSED},
        },
    )
    api.state.on_fault = None
    errors.install(api)
    api.include_router(_session)
    api.include_router(decoder.router)
    api.include_router(tiny.router)
    api.include_router(draw.router)
    return api


_session = APIRouter()


@_session.get("/api/session")
async def session(request: Request) -> Session:
    """Who asks, and which convoscope answers."""
    return Session(version=version("convoscope"), role=request.state.role)


def _page_routes(page: Page) -> APIRouter:
    router = APIRouter(include_in_schema=False)

    @router.get("/")
    async def index() -> Response:
        return page.answer("index.html")

    @router.get("/assets/{name}")
    async def asset(name: str) -> Response:
        return page.answer(f"assets/{name}")

    return router
