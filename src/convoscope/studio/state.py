"""What all routes of one server share."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from starlette.requests import HTTPConnection

from ..errors import printable
from .run_folders import PassedOver


@dataclass(frozen=True)
class Studio:
    """One studio.

    Attributes:
        runs: the folder whose runs it shows.
        models: the folder in which the ready-made models are kept.
        lan: others on this network may look on, as students.
        passed_over: is told which folders of runs could not be read.
    """

    runs: Path
    models: Path
    lan: bool = False
    passed_over: PassedOver = field(default_factory=PassedOver, repr=False, compare=False)


def client_of(connection: HTTPConnection) -> str:
    """Who asks, where what one may have at a time is bounded: the owner, in whichever browsers; students by their
    addresses.
    """
    if connection.state.role == "owner":
        return "owner"
    return connection.client.host if connection.client else ""


class RequestRefused(Exception):
    """A request that is answered with a `Refusal` of this status."""

    def __init__(self, status: int, code: str, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = printable(message)
        self.hint = printable(hint)
