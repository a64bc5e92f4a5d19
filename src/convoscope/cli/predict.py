"""`convoscope predict`: images to labels."""

from __future__ import annotations

import contextlib
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from ..errors import DataError, Interrupted, UsageError, printable, shell_word
from .options import Opening, RunPath
from .output import Form, console, print_plain, reader_gone

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from rich.console import Console

    from ..data import Skipped
    from ..training import Prediction, Run
    from .prediction_writers import PredictionWriter

_BATCH = 32
"""Images that are answered and given out together: enough for the network to be quick, and a second or two at most."""
_UNKNOWN = "unknown"


def predict(
    run: RunPath,
    images: Annotated[
        list[str], Parameter(help="Images, folders, patterns such as 'new/*.jpg', or - for a list on standard input.")
    ],
    /,
    *,
    format: Annotated[Form | None, Parameter(help="How to print them; by default as a table.")] = None,
    json: Annotated[bool, Parameter(name="--json", show_default=False, help="The same as --format json.")] = False,
    unknown: Annotated[
        bool,
        Parameter(
            name="--unknown", show_default=False, help="Print unknown as the label of images that are not known."
        ),
    ] = False,
    after: Annotated[
        str | None, Parameter(help="Begin after this one of the images, where an interrupted command stopped.")
    ] = None,
    opening: Opening = Opening(),
) -> None:
    """Label images with RUN: the label, its confidence and the scores of all classes.

    A run of relearn also says which images are probably none of its classes: they are marked as not known.
    """
    if json and format not in (None, "json"):
        raise UsageError("--json", f"contradicts --format {format}", hint="leave one of them out", code="option-twice")
    from .prediction_writers import prediction_writer
    from .predictions import collect

    opened = opening.open(run)
    if unknown:
        _check_unknown(opened, run)
    found, skipped = collect(images, lambda line: print_plain(console(error=True), line))
    if after is not None:
        found, skipped = _later(found, after), []
    form: Form = "json" if json else format or "table"
    writer = prediction_writer(form, console(), opened, found, batch=_BATCH, header=after is None)

    def go_on(last: str) -> str:
        words = ["convoscope predict", shell_word(run), *map(shell_word, images)]
        words += [f"--module {shell_word(opening.module)}"] if opening.module is not None else []
        words += [f"--format {form}", *(["--unknown"] if unknown else [])]
        words += [*([f"--device {opening.device}"] if opening.device != "auto" else []), f"--after {shell_word(last)}"]
        return f"go on with: {' '.join(words)}" if len(images) <= 3 else f"run it again with {words[-1]} to go on"

    answered = _answer(opened, found, skipped, writer, go_on, unknown=unknown)
    if not answered and skipped:
        raise DataError(
            "",
            f"none of {len(skipped)} images could be read",
            hint="the reasons are listed above",
            code="nothing-to-predict",
        )


def _check_unknown(run: Run, path: Path) -> None:
    """Refuse `--unknown` where it could not be told what it means, or would change nothing."""
    if run.ood_detector() is None:
        raise UsageError(
            "--unknown",
            f"{printable(path)} has no out-of-distribution detector, so it cannot say which images are not known",
            hint="make a run that has one: convoscope relearn imagenet SOURCE",
            code="unknown-without-detector",
        )
    if _UNKNOWN in run.classes:
        raise UsageError(
            "--unknown",
            f"{printable(path)} has a class called {_UNKNOWN}, so the label would have two meanings",
            hint="leave it out; the column known of --format csv tells which images are not known",
            code="unknown-is-a-class",
        )


def _later(found: Sequence[str], last: str) -> list[str]:
    """The images after this one."""
    if last not in found:
        raise UsageError(
            "--after",
            f"{printable(last)} is not one of the {len(found):,} images",
            hint="give a path as it was printed, and the same images as before",
            code="after-unknown",
        )
    return list(found[found.index(last) + 1 :])


def _answer(
    run: Run,
    found: Sequence[str],
    skipped: list[Skipped],
    writer: PredictionWriter,
    go_on: Callable[[str], str],
    *,
    unknown: bool,
) -> int:
    """Answer the images and write the answers, batch by batch, and say what is skipped. Returns how many there are.

    Raises:
        Interrupted: a signal came; `go_on` says how the images after the last one are answered.
        MachineError: the images cannot be read any longer. What was answered before is written.
    """
    from ..terminal import TerminalReporter
    from ..training import StopSignals, freed_memory_kept

    errors = console(error=True)
    reporter = TerminalReporter(errors)
    # On a terminal the answers themselves show how far it is.
    lively = len(found) > _BATCH and not sys.stdout.isatty()
    done = answered = 0
    _say_skipped(errors, skipped)
    with StopSignals() as signals, freed_memory_kept(), _whole(writer):
        signals.defer()  # so that no line is half written
        while done < len(found) and not signals.number and not reader_gone():
            batch: list[Prediction] = []
            bad: list[Skipped] = []
            try:
                run.predict(found[done : done + _BATCH], skipped=bad, done=batch)
            finally:
                answered += len(batch)
                writer.write([replace(each, label=_UNKNOWN) if unknown and not each.known else each for each in batch])
                _say_skipped(errors, bad)
                skipped += bad
            done = min(done + _BATCH, len(found))
            if lively:
                reporter.progress("predicting", done, len(found))
        reporter.end()
    if signals.number and done < len(found):
        words = f"stopped; {done:,} of {len(found):,} images are done, and their answers are written"
        raise Interrupted("", words, hint=go_on(found[done - 1]), code="interrupted", signal=signals.number)
    return answered


@contextlib.contextmanager
def _whole(writer: PredictionWriter) -> Iterator[None]:
    """What is written is whole, however it ends."""
    writer.begin()
    try:
        yield
    finally:
        writer.end()


def _say_skipped(errors: Console, skipped: Sequence[Skipped]) -> None:
    for item in skipped:
        print_plain(errors, f"skipped: {printable(item.path)}: {item.reason}", style="yellow")
