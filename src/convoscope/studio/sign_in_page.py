"""What a person sees who has no session: one plain page without script."""

from __future__ import annotations

import html

from starlette.responses import Response

from .errors import RequestRefused


def sign_in_page(refused: RequestRefused) -> Response:
    """The page that says why nobody is signed in, and what to do."""
    # Browsers leave a SameSite=Strict cookie out when a link on another page led here, but send it when a link on this
    # page is followed.
    text = f"""<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<meta name="color-scheme" content="light dark">
<title>convoscope studio</title>
<h1>convoscope studio</h1>
<p>{html.escape(refused.message)}</p>
<p>{html.escape(refused.hint)}</p>
<p>If a link on another page brought you here, <a href="/">continue to the studio</a>.</p>
</html>
"""
    return Response(text, refused.status, media_type="text/html; charset=utf-8")
