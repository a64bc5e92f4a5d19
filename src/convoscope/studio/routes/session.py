"""Who is signed in."""

from __future__ import annotations

from importlib.metadata import version

from fastapi import APIRouter, Request

from ..messages.common import Session

router = APIRouter(prefix="/api")


@router.get("/session")
async def session(request: Request) -> Session:
    """The role of the client, and the version of convoscope."""
    return Session(version=version("convoscope"), role=request.state.role)
