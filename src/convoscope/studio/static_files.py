"""The page as Vite built it, held in memory: files are found by their exact names, never by joining paths."""

from __future__ import annotations

import html
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from starlette.responses import Response

from ..errors import MachineError
from .state import RequestRefused

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
    """The built files: name as in the address, such as `assets/index-1a2b.js`, to content."""

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
                "is not there: it is built when convoscope is installed",
                hint="in a checkout: make run, or pip install .",
                code="page-missing",
            )
        return cls(files)

    def answer(self, name: str) -> Response:
        """One file.

        Raises:
            RequestRefused: 404, there is none of this name.
        """
        content = self.files.get(name)
        if content is None:
            raise RequestRefused(404, "not-found", f"there is no /{name[:200]}")
        # The names of assets hold a hash of their content.
        headers = {"cache-control": "private, max-age=31536000, immutable"} if name.startswith("assets/") else {}
        return Response(content, headers=headers, media_type=_TYPES[Path(name).suffix])


def door(refused: RequestRefused) -> Response:
    """What a person sees who is not let in: one plain page without script."""
    # A cookie that keeps to its own site does not come along when a link on another page led here; it does from this
    # page.
    text = f"""<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<meta name="color-scheme" content="light dark">
<title>convoscope studio</title>
<h1>convoscope studio</h1>
<p>{html.escape(refused.message)}</p>
<p>{html.escape(refused.hint)}</p>
<p>If a link on another page has led you here, <a href="/">go on to the studio</a>.</p>
</html>
"""
    return Response(text, refused.status, media_type="text/html; charset=utf-8")
