"""What works in the background of a page's routes, from the start of the server to its end."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Protocol

from fastapi import FastAPI


class Background(Protocol):
    """Something that is started with the server and stopped with it."""

    def start(self) -> None: ...

    async def stop(self) -> None: ...


def keeps(name: str, make: Callable[[FastAPI], Background]) -> Callable[[FastAPI], AbstractAsyncContextManager[None]]:
    """The `lifespan` of a router whose routes find what `make` gives in `app.state` under this name."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        one = make(app)
        setattr(app.state, name, one)
        one.start()
        try:
            yield
        finally:
            await one.stop()

    return lifespan
