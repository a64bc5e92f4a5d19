"""`convoscope compare`: tested runs side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from ..errors import printable
from .options import Json
from .output import console, print_json, print_plain


def compare(
    runs: Annotated[list[Path], Parameter(help="Folders of tested runs.")],
    /,
    *,
    html: Annotated[Path | None, Parameter(help="Write the comparison with its curves as one HTML file.")] = None,
    json: Json = False,
) -> None:
    """Put tested runs side by side: scores, parameters, seconds, how far images may be shifted, turned and scaled."""
    from .. import evaluation
    from ..training import Run
    from .tables import print_comparison

    comparison = evaluation.compare([Run.open(run) for run in runs])
    if html is not None:
        evaluation.write_comparison(comparison, html)
    if json:
        print_json(comparison.to_json())
    else:
        print_comparison(console(), comparison)
        if html is not None:
            print_plain(console(), f"page: {printable(html)}")
