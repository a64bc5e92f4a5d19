"""`convoscope studio`: the browser studio, until it is stopped."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from .output import warn


def studio(
    *,
    runs: Annotated[Path, Parameter(help="The folder whose runs are shown.")] = Path("runs"),
    port: Annotated[int, Parameter(show_default=False, help="Where to listen; by default a free port.")] = 0,
    no_browser: Annotated[bool, Parameter(show_default=False, help="Only print the address.")] = False,
    lan: Annotated[
        bool, Parameter(show_default=False, help="Let others on this network watch and try it, as students.")
    ] = False,
    allow_root: Annotated[
        bool, Parameter(show_default=False, help="With --lan: start even though you are root.")
    ] = False,
) -> None:
    """Open the browser studio: Tiny, Convolve and Draw. Nothing leaves this machine.

    The address holds a token; without it the page does not open. Only this machine can reach it unless you give --lan:
    then the class's address and its QR code are printed too. Students see no files and no runs, and change nothing.

    Ctrl-C stops it.
    """
    from ..data import cache
    from ..studio import Studio, serve

    def say(line: str) -> None:
        # The reader may have gone; and a QR code that cannot be printed is no reason to fail.
        with contextlib.suppress(OSError, ValueError):
            print(line, flush=True)

    shared = Studio(runs=runs, models=cache.cache_folder() / "studio", lan=lan)
    code = serve(shared, port=port, browser=not no_browser, allow_root=allow_root, say=say, warn=warn)
    say("the studio has stopped")
    raise SystemExit(code)
