"""`convoscope test`: a run on images it has not seen."""

from __future__ import annotations

from typing import Annotated, Literal

from cyclopts import Parameter

from ..errors import printable
from .options import LAYOUT, Json, MovedTo, Opening, RunPath, Table
from .output import console, print_json, print_plain


def test(
    run: RunPath,
    source: Annotated[str | None, Parameter(help="Other images of the same classes; by default the run's own.")] = None,
    /,
    *,
    split: Annotated[
        Literal["test", "validation", "train"], Parameter(help="Which part of the images to test on.")
    ] = "test",
    layout: Annotated[str, LAYOUT] = "auto",
    table: Table = Table(),
    moved_to: MovedTo = None,
    opening: Opening = Opening(),
    json: Json = False,
) -> None:
    """Test RUN on its test part, or on SOURCE: accuracy, per class, confusion, calibration, worst mistakes,
    invariance.

    A table as SOURCE is read as the run's own table was, as far as it has the same columns.
    """
    from .. import evaluation
    from ..explain import chapters
    from ..terminal import TerminalReporter
    from ..training import freed_memory_kept
    from .tables import print_scores

    reporter = TerminalReporter(console(error=True))
    opened = opening.open(run)
    with freed_memory_kept():
        scores = evaluation.test(
            opened,
            source,
            layout=layout,
            split=split,
            moved_to=moved_to,
            progress=lambda done, total: reporter.progress("testing", done, total),
            **table.given(),
        )
        reporter.end()
        report = evaluation.write_report(opened, chapters=chapters)
    if json:
        print_json(scores.to_json())
        return
    print_scores(console(), scores)
    print_plain(console(), f"report: {printable(report)}")
