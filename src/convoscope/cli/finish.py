"""What follows a training: its test, its report, and the lines that say where they are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from ..errors import DataError, Interrupted, MachineError, ModelFileError, printable, shell_word
from .options import Afterwards
from .output import console, print_json, print_plain

if TYPE_CHECKING:
    from ..training import Reporter, Run


def finish(run: Run, reporter: Reporter, wanted: Afterwards, *, quick: bool = False) -> None:
    """Test the run and write its report, unless nobody wants them, and print the result.

    `quick`: test from the cached features alone, without running the network again.
    """
    if not wanted.no_test:
        evaluate(run, reporter, quiet=wanted.json, quick=quick)
    if wanted.json:
        print_json({
            "run": str(run.folder),
            "best_epoch": run.best_epoch,
            "val_accuracy": run.history[run.best_epoch - 1]["val_accuracy"],
            "seconds": run.seconds,
        })  # fmt: skip
    elif wanted.no_test:
        print_plain(console(), f"run: {printable(run.folder)}")


def evaluate(run: Run, reporter: Reporter, *, quiet: bool, quick: bool = False) -> None:
    """Test and report.

    Raises:
        MachineError: that failed, while the training is saved (`untested`).
        Interrupted: Ctrl-C came, while the training is saved (`interrupted-test`).
    """
    hint = f"test it with: convoscope test {shell_word(run.folder)}"
    try:
        _evaluate(run, reporter, quiet=quiet, quick=quick)
    except KeyboardInterrupt:
        reporter.end()
        reason = "the training is done and saved; its test was interrupted"
        raise Interrupted(run.folder, reason, hint=hint, code="interrupted-test") from None
    except (DataError, ModelFileError, MachineError) as error:
        if error.code == "scores-not-finite":
            raise
        # Everything could be read a moment ago: a network drive or a disk has gone since.
        raise MachineError(
            run.folder,
            f"the training is done and saved, but its test or its report failed: {error}",
            hint=f"fix that, then {hint}",
            code="untested",
        ) from error


def _evaluate(run: Run, reporter: Reporter, *, quiet: bool, quick: bool) -> None:
    from .. import evaluation
    from .tables import print_scores

    split: Literal["test", "validation"] = "test" if run.settings.images.get("test") else "validation"
    scores = None
    if run.settings.images.get(split):
        scores = evaluation.test(
            run,
            split=split,
            invariance=not quick,
            progress=lambda done, total: reporter.progress("testing", done, total),
        )
        reporter.end()
        reporter.tested(run.folder, split, scores.figures())
    if quick:
        report = evaluation.write_report(run, inside=False)
    else:
        from ..explain import chapters

        report = evaluation.write_report(run, chapters=chapters)
    if quiet:
        return
    output = console()
    if scores is not None:
        print_scores(output, scores)
    print_plain(output, f"run: {printable(run.folder)}\nreport: {printable(report)}")
    if quick:
        own = "" if run.settings.images.get(split) else " SOURCE"
        print_plain(output, f"shift, turn, scale and a look inside: convoscope test {shell_word(run.folder)}{own}")
