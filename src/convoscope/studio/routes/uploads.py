"""Images that the page sends: written to a file without a name, decoded in a child process with limits, never kept.

The client's file name is not asked for, so it cannot do harm.
"""

from __future__ import annotations

import errno
import tempfile
from typing import Annotated, Final

from fastapi import APIRouter, Query, Request

from ..decoder import Decoder
from ..errors import RequestRefused
from ..lifespans import keeps
from ..messages.common import Pixels
from ..policy import POLICY
from ..state import client_of

router = APIRouter(prefix="/api", lifespan=keeps("decoder", lambda _: Decoder()))

_LIMIT: Final = POLICY["POST /api/images"].limit
_BODY: Final = {"schema": {"type": "string", "format": "binary", "maxLength": _LIMIT}}


@router.post(
    "/images",
    openapi_extra={
        "requestBody": {
            "required": True,
            "description": f"The bytes of a JPEG, PNG, WEBP, BMP or GIF file, at most {_LIMIT // 1_000_000} MB.",
            "content": {"application/octet-stream": _BODY, "image/*": _BODY},
        }
    },
)
async def decode_upload(request: Request, side: Annotated[int, Query(ge=8, le=512)] = 128) -> Pixels:
    """Decode an image file; its longest side is scaled down to `side` pixels, never up."""
    decoder: Decoder = request.app.state.decoder
    async with decoder.place(client_of(request)) as turn:
        try:
            with tempfile.TemporaryFile(buffering=0) as file:
                async for chunk in request.stream():
                    file.write(chunk)
                async with turn:
                    return await decoder.decode(file, side)
        except OSError as error:
            raise _machine_error(error) from error


def _machine_error(error: OSError) -> RequestRefused:
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return RequestRefused(
            507,
            "disk-full",
            "the disk of the studio's machine is full; nothing was stored",
            "free some space on that disk",
        )
    return RequestRefused(
        503, "upload-failed", f"the studio's machine reports: {error.strerror or 'an error without a name'}"
    )
