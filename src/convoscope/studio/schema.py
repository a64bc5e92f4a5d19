"""The OpenAPI description; the page's types are made of it: `python -m convoscope.studio.schema > FILE`."""

from __future__ import annotations

import sys
from typing import Any

from ..files import json_bytes
from .app import routes


def document() -> dict[str, Any]:
    """OpenAPI 3.1 of all routes under `/api/`. Starts nothing, and contains nothing about this machine."""
    return routes().openapi()


if __name__ == "__main__":
    sys.stdout.buffer.write(json_bytes(document()))
