"""The studio's routes without the guard in front of them, and what they are asked and answer in tests."""

import base64
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from fastapi.testclient import TestClient
from numpy.typing import NDArray
from starlette.types import ASGIApp, Receive, Scope, Send

from convoscope.studio.app import routes
from convoscope.studio.messages.common import Maps
from convoscope.studio.state import Studio


class Role:
    """In the guard's place: every request has this role."""

    def __init__(self, app: ASGIApp, role: str) -> None:
        self._app, self._role = app, role

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan":
            scope.setdefault("state", {})["role"] = self._role
        await self._app(scope, receive, send)


def routes_client(studio: Studio, role: str = "owner", faults: list[Exception] | None = None) -> TestClient:
    """A client of all routes. Used as a context manager, it also starts what runs in the background."""
    app = routes()
    app.state.studio = studio
    if faults is not None:
        app.state.on_fault = faults.append
    app.add_middleware(Role, role=role)
    return TestClient(app)


def numbers(message: dict[str, Any], dtype: str = "u1") -> NDArray[Any]:
    """The array in a `Pixels` or, with `<f8`, in a `Maps`."""
    shape = message["height"], message["width"], message["channels"]
    return np.frombuffer(base64.b64decode(message["values"]), dtype).reshape(shape)


def chain_result(client: TestClient, image: NDArray[Any], *steps: dict[str, Any]) -> dict[str, Any]:
    """What `/api/convolve` answers."""
    answer = client.post("/api/convolve", json={"image": Maps.of(image).model_dump(), "steps": steps})
    assert answer.status_code == 200, answer.text
    result: dict[str, Any] = answer.json()
    return result


def copied(source: Path, target: Path) -> Path:
    """A copy of a run's folder that a test may change."""
    shutil.copytree(source, target)
    return target
