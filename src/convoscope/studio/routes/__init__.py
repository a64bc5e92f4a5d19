"""What the server answers, one module a page; each has one `router`, which also starts what works in the background."""

from typing import Final

from . import convolve, draw, runs, session, tiny, uploads

ROUTERS: Final = (session.router, uploads.router, tiny.router, convolve.router, runs.router, draw.router)
"""All of them; `policy.py` has a rule for each of their routes."""
