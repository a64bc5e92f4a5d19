"""`convoscope predict`: images to labels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from ..errors import DataError, MachineError, UsageError
from .options import RunPath
from .output import console, print_plain

if TYPE_CHECKING:
    from ..training import Prediction


def predict(
    run: RunPath,
    images: Annotated[
        list[str], Parameter(help="Images, folders, patterns such as 'new/*.jpg', or - for a list on standard input.")
    ],
    /,
    *,
    format: Annotated[
        Literal["table", "csv", "json"] | None, Parameter(help="How to print them; by default as a table.")
    ] = None,
    json: Annotated[bool, Parameter(name="--json", show_default=False, help="The same as --format json.")] = False,
) -> None:
    """Label images with RUN: the label, its confidence and the scores of all classes."""
    if json and format not in (None, "json"):
        raise UsageError("--json", f"contradicts --format {format}", hint="leave one of them out", code="option-twice")
    from ..training import Run
    from .predictions import collect, print_predictions

    opened = Run.open(run)
    found, skipped = collect(images, lambda line: print_plain(console(error=True), line))
    predictions: list[Prediction] = []
    form = "json" if json else format or "table"
    fault: MachineError | None = None
    try:
        opened.predict(found, skipped=skipped, done=predictions)
    except MachineError as error:  # the answers so far are still given out
        fault = error
    print_predictions(console(), console(error=True), opened, predictions, skipped, form)
    if fault is not None:
        raise fault
    if not predictions:
        raise DataError(
            "",
            f"none of {len(skipped)} images could be read",
            hint="the reasons are listed above",
            code="nothing-to-predict",
        )
