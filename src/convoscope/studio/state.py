"""What all routes of one server share."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ..errors import printable


@dataclass(frozen=True)
class Studio:
    """One studio.

    Attributes:
        runs: the folder whose runs it shows.
        models: the folder in which the ready-made models are kept.
        lan: others on this network may look on, as students.
    """

    runs: Path
    models: Path
    lan: bool = False


class RequestRefused(Exception):
    """A request that is answered with a `Refusal` of this status."""

    def __init__(self, status: int, code: str, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = printable(message)
        self.hint = printable(hint)
