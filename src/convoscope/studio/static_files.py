"""The page as Vite built it, kept in memory. A file is found by its exact name; no path is ever put together."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from fastapi import APIRouter
from starlette.responses import Response

from ..errors import MachineError
from .errors import not_found

FOLDER: Final = Path(__file__).parent / "page"

_TYPES: Final = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".json": "application/json",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".webp": "image/webp",
    ".jpg": "image/jpeg",
    ".ico": "image/x-icon",
    ".woff2": "font/woff2",
    ".txt": "text/plain; charset=utf-8",
}


@dataclass(frozen=True)
class Page:
    """The built files: from the name in the address, such as `assets/index-1a2b.js`, to the content."""

    files: dict[str, bytes]

    @classmethod
    def read(cls, folder: Path | None = None) -> Page:
        """Read all built files, by default those of the package.

        Raises:
            MachineError: the page has not been built (`page-missing`).
        """
        folder = folder or FOLDER
        files = {
            path.relative_to(folder).as_posix(): path.read_bytes()
            for path in sorted(folder.rglob("*"))
            if path.is_file() and path.suffix in _TYPES
        }
        if "index.html" not in files:
            raise MachineError(
                "the studio's page",
                "has not been built",
                hint="in a checkout, build it with make run or pip install .",
                code="page-missing",
            )
        return cls(files)

    def answer(self, name: str) -> Response:
        """One file.

        Raises:
            RequestRefused: 404, there is no file with this name.
        """
        content = self.files.get(name)
        if content is None:
            raise not_found(f"/{name}")
        # The name of an asset contains a hash of its content.
        headers = {"cache-control": "private, max-age=31536000, immutable"} if name.startswith("assets/") else {}
        return Response(content, headers=headers, media_type=_TYPES[Path(name).suffix])

    def router(self) -> APIRouter:
        """The routes to all files of the page."""
        router = APIRouter(include_in_schema=False)

        @router.get("/")
        async def index() -> Response:
            return self.answer("index.html")

        @router.get("/assets/{name}")
        async def asset(name: str) -> Response:
            return self.answer(f"assets/{name}")

        return router
