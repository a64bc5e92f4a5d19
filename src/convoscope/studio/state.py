"""What all routes of one server share."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from starlette.requests import HTTPConnection

from .run_folders import SkippedFolders


@dataclass(frozen=True)
class Studio:
    """One studio.

    Attributes:
        runs: the folder whose runs it shows.
        models: the folder in which the ready-made models are kept.
        lan: whether others on this network may join, as students.
        skipped: reports the folders of runs that could not be read.
    """

    runs: Path
    models: Path
    lan: bool = False
    skipped: SkippedFolders = field(default_factory=SkippedFolders, repr=False, compare=False)


def client_of(connection: HTTPConnection) -> str:
    """Who a request counts for where each client has a limit: all the owner's browsers are one client, and so are all
    students with the same address.
    """
    if connection.state.role == "owner":
        return "owner"
    return connection.client.host if connection.client else ""
