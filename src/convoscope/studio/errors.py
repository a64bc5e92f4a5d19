"""How every failure becomes an answer: a status and a `Refusal`, in plain words and without a path of this machine."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import Response

from ..errors import ConvoscopeError, DataError, InUseError, ModelFileError, UsageError, printable
from .messages.common import Refusal
from .state import Studio


class RequestRefused(Exception):
    """A request that is answered with a `Refusal` of this status."""

    def __init__(self, status: int, code: str, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = printable(message)
        self.hint = printable(hint)


INTERNAL_ERROR: Final = RequestRefused(
    500,
    "internal-error",
    "internal error (a bug in convoscope)",
    "please report it; the studio's terminal names a file with the details",
)


def refusal(refused: RequestRefused, headers: dict[str, str] | None = None) -> Response:
    """The answer to a refused request."""
    body = Refusal(code=refused.code, message=refused.message, hint=refused.hint)
    return Response(body.model_dump_json(), refused.status, headers, "application/json")


def not_found(path: str) -> RequestRefused:
    """The refusal of a path that leads to nothing."""
    return RequestRefused(404, "not-found", f"there is no {path[:200]}")


def from_error(error: ConvoscopeError, folders: Sequence[Path] = ()) -> RequestRefused:
    """An error of the package as the answer to a request.

    Args:
        folders: folders of this machine whose names are removed from the text.
    """
    if isinstance(error, (UsageError, DataError, ModelFileError)):
        status = 422
    elif isinstance(error, InUseError):
        status = 409
    else:
        status = 507 if error.code == "disk-full" else 503
    return RequestRefused(
        status, error.code, without_folders(str(error), folders), without_folders(error.hint, folders)
    )


_ABSOLUTE: Final = re.compile(r"""(?<![\w.:/\\])(?:[A-Za-z]:\\|/)[^\s'":,;]*[/\\](?=[^\s'"/\\])""")


def without_folders(text: str, folders: Iterable[Path] = ()) -> str:
    """`text` with every absolute path shortened to its last part, so that a browser learns nothing of the server's
    folders.

    >>> without_folders("/home/anna/runs/a-1/best.safetensors: damaged")
    'best.safetensors: damaged'
    """
    known = {str(folder) for folder in folders} | {str(folder.absolute()) for folder in folders}
    known |= {str(Path.home()), tempfile.gettempdir()}
    for folder in sorted((printable(name) for name in known if len(name) > 1), key=len, reverse=True):
        text = text.replace(folder + "/", "").replace(folder, "the studio's folder")
    return _ABSOLUTE.sub("", text)


def validation_text(errors: Sequence[Any]) -> str:
    """What pydantic found wrong with a request: the first field by name, and how many more there are."""
    first = errors[0]
    field = ".".join(str(part) for part in first["loc"][1:]) or "the request"
    reason = str(first["msg"])
    text = f"{printable(field)[:200]}: {reason[:1].lower()}{reason[1:]}"
    received = first.get("input")
    if isinstance(received, (str, int, float)) and first["type"] != "missing":
        shown = repr(received[:60]) if isinstance(received, str) else _number_text(received)
        text += f"; received {shown}"
    return text + (f" (and {len(errors) - 1} more)" if len(errors) > 1 else "")


def _number_text(number: float) -> str:
    # Python writes no whole number of more than 4,300 digits.
    return "a very large number" if isinstance(number, int) and number.bit_length() > 200 else repr(number)


def install(app: FastAPI) -> None:
    """Answer every failure of `app`'s routes with a `Refusal`."""
    app.add_exception_handler(RequestRefused, _refused)
    app.add_exception_handler(ConvoscopeError, _package_error)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _unrouted)
    app.add_exception_handler(ClientDisconnect, _disconnected)
    app.add_exception_handler(Exception, _internal_error)


async def _refused(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestRefused)
    return refusal(error)


async def _package_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, ConvoscopeError)
    studio: Studio = request.app.state.studio
    return refusal(from_error(error, [studio.runs, studio.models]))


async def _invalid(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    return refusal(RequestRefused(422, "request-invalid", validation_text(error.errors())))


async def _unrouted(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    path = request.url.path[:200]
    if error.status_code == 404:
        answer = not_found(path)
    elif error.status_code == 405:
        answer = RequestRefused(405, "method-not-allowed", f"{request.method} is not possible on {path}")
    else:
        answer = RequestRefused(error.status_code, "request-refused", str(error.detail))
    return refusal(answer, dict(error.headers or {}))


async def _disconnected(_: Request, __: Exception) -> Response:
    return Response(status_code=400)  # nobody is left to read it


async def _internal_error(_: Request, __: Exception) -> Response:
    return refusal(INTERNAL_ERROR)
