"""Predictions as a table, CSV or JSON, written batch by batch, so that what is answered is also given out, and a large
folder takes no more memory than a small one.
"""

from __future__ import annotations

import csv
import io
import json
import sys
import textwrap
from typing import TYPE_CHECKING, Protocol

from ..data import escape_cell
from .output import Form
from .tables import column_widths, prediction_table

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from rich.console import Console

    from ..training import Prediction, Run


class PredictionWriter(Protocol):
    """Writes to standard output: `begin` once, `write` for each batch, `end` once, whatever happened in between."""

    def begin(self) -> None:
        """What comes before the first prediction."""

    def write(self, predictions: Sequence[Prediction]) -> None:
        """The next predictions."""

    def end(self) -> None:
        """What comes after the last one."""


class CsvWriter:
    """One line for each image.

    The columns are path, label, confidence, with an out-of-distribution detector distance and known, and then one for
    each class, in the run's order. Those have `score ` in front (`predicted ` where numbers are predicted), so that a
    class may be called like one of the others.
    """

    def __init__(self, run: Run, *, header: bool) -> None:
        self._detector = run.ood_detector() is not None
        kind = "predicted" if run.task == "regression" else "score"
        own = ["path", "label", "confidence", *(["distance", "known"] if self._detector else [])]
        self._header = [*own, *(escape_cell(f"{kind} {name}") for name in run.classes)] if header else None

    def begin(self) -> None:
        if self._header is not None:
            self._lines([self._header])

    def write(self, predictions: Sequence[Prediction]) -> None:
        self._lines(map(self._cells, predictions))

    def end(self) -> None:
        pass

    def _cells(self, each: Prediction) -> list[str]:
        confidence = "" if each.confidence is None else f"{each.confidence:.6g}"
        far = [] if each.distance is None else [f"{each.distance:.6g}", "yes" if each.known else "no"]
        numbers = [f"{value:.6g}" for value in each.scores.values()]
        return [escape_cell(each.path), escape_cell(each.label), confidence, *far, *numbers]

    @staticmethod
    def _lines(rows: Iterable[list[str]]) -> None:
        table = io.StringIO()
        csv.writer(table, lineterminator="\n").writerows(rows)
        sys.stdout.buffer.write(table.getvalue().encode("utf-8", "surrogateescape"))
        sys.stdout.flush()


class JsonWriter:
    """One list, which is closed even where an error ends it early."""

    def __init__(self) -> None:
        self._some = False

    def begin(self) -> None:
        self._text("[")

    def write(self, predictions: Sequence[Prediction]) -> None:
        for each in predictions:
            text = json.dumps(each.to_json(), indent=2, ensure_ascii=False, allow_nan=False)
            self._text((",\n" if self._some else "\n") + textwrap.indent(text, "  "))
            self._some = True
        sys.stdout.flush()

    def end(self) -> None:
        self._text("\n]\n" if self._some else "]\n")
        sys.stdout.flush()

    @staticmethod
    def _text(text: str) -> None:
        sys.stdout.buffer.write(text.encode("utf-8", "backslashreplace"))


class TableWriter:
    """A table. Where it comes in several batches, its columns keep the widths of the first one, with room for the
    longest path and the longest class.
    """

    def __init__(self, console: Console, run: Run, paths: Sequence[str], batch: int) -> None:
        self._console = console
        self._detector = run.ood_detector() is not None
        several, classes = len(paths) > batch, run.classes if run.task == "classification" else ()
        self._later = {0: [max(paths, key=len)], 1: classes} if several else {}
        self._widths: list[int] = []

    def begin(self) -> None:
        pass

    def write(self, predictions: Sequence[Prediction]) -> None:
        if not predictions:
            return
        table = prediction_table(predictions, detector=self._detector)
        table.show_header = not self._widths
        if not self._widths:
            last = len(table.columns) - 1
            self._widths = column_widths(self._console, table, self._later, {last: 14, 0: 14, 1: 8})
        for column, width in zip(table.columns, self._widths, strict=True):
            column.width, column.overflow = width, "fold"
        self._console.print(table)
        sys.stdout.flush()

    def end(self) -> None:
        pass


def prediction_writer(
    form: Form, console: Console, run: Run, paths: Sequence[str], *, batch: int, header: bool
) -> PredictionWriter:
    """The writer for this form.

    Args:
        form: table, csv or json.
        console: where a table is printed.
        run: gives the answers.
        paths: all images.
        batch: how many come at once.
        header: whether CSV begins with the names of its columns.
    """
    if form == "csv":
        return CsvWriter(run, header=header)
    return JsonWriter() if form == "json" else TableWriter(console, run, paths, batch)
