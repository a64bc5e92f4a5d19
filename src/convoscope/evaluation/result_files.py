"""The files of a test: what `RUN/test/` holds, and how it gets there.

`scores.json`, `confusion.csv`, `predictions.csv`, figures as PNG, and the worst mistakes in `worst/`. All of it is
written into a folder of its own first and moved into place at the end, `scores.json` last: after a full disk or a kill
the earlier test is still there.
"""

from __future__ import annotations

import contextlib
import csv
import io
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ..data import escape_cell
from ..errors import DataError, printable
from ..files import FolderLock, check_plain, machine_error, make_own_folder, write_bytes, write_json, write_text
from ..parsing import read_json
from ..posix import replace_file
from ..render import png_bytes, to_image
from . import charts, pictures
from .answers import WORST, Answers
from .results import Scores


def read_scores(folder: str | os.PathLike[str]) -> Scores | None:
    """The result of the run's last test; None if it was not tested.

    Raises:
        DataError: the file cannot be read (`scores-unreadable`).
    """
    path = Path(folder) / "test" / "scores.json"
    try:
        return Scores.from_json(read_json(path), path.parent)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise machine_error(path, error) from error
    except ValueError as error:
        raise DataError(
            path,
            f"not a test result, or a damaged one: {printable(error)[:400]}",
            hint=f"test again: convoscope test {printable(folder)}",
            code="scores-unreadable",
        ) from None


def write_result(folder: Path, scores: Scores, answers: Answers, worst: Sequence[int]) -> None:
    """Write all files of `RUN/test/`; `worst` are the rows of `scores.worst`."""
    make_own_folder(folder)
    with FolderLock(folder), _staged(folder) as stage:
        write_text(stage / "predictions.csv", _predictions(answers))
        if scores.confusion:
            write_text(stage / "confusion.csv", _confusion(scores))
        for name, picture in figures(scores).items():
            write_bytes(stage / name, png_bytes(picture))
        pixels = [answers.images.pixels[answers.images.rows[row]] for row in worst]
        for mistake, image in zip(scores.worst, pixels, strict=True):
            write_bytes(stage / mistake.image, png_bytes(to_image(image)))
        if pixels:
            captions = [mistake.caption(scores.task) for mistake in scores.worst]
            write_bytes(stage / "worst" / "sheet.png", png_bytes(pictures.mistakes_sheet(pixels, captions)))
        write_json(stage / "scores.json", printable_json(scores.to_json()))


def printable_json(content: Any) -> Any:
    """The same content with undecodable bytes of file names written as escapes, so that it is valid UTF-8."""
    if isinstance(content, dict):
        return {printable_json(key): printable_json(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [printable_json(value) for value in content]
    if isinstance(content, str) and any("\ud800" <= character <= "\udfff" for character in content):
        return printable(content)
    return content


OWN_FILES = ("predictions.csv", "confusion.csv", "confusion.png", "calibration.png", "invariance.png", "numbers.png")


_KNOWN = (
    *map(Path, OWN_FILES),
    *(Path("worst") / f"{rank:02d}.png" for rank in range(1, WORST + 1)),
    Path("worst/sheet.png"),
)


def check_own(target: Path) -> None:
    """Refuse a folder in which something else has the name of a file that a test writes."""
    for folder in (target, target / "worst"):
        check_plain(folder, folder=True)
    for path in (*_KNOWN, Path("scores.json")):
        check_plain(target / path)


@contextlib.contextmanager
def _staged(target: Path) -> Iterator[Path]:
    """A folder inside `target` to write into. At the end its files replace the earlier test's, `scores.json` last."""
    for leftover in target.glob(".stage.*"):
        shutil.rmtree(leftover, ignore_errors=True)
        with contextlib.suppress(OSError):
            leftover.unlink()  # a link, which is not followed
    stage = target / f".stage.{os.getpid()}"
    try:
        stage.mkdir()  # and never takes what is there already
        (stage / "worst").mkdir()
        yield stage
        check_own(target)
        make_own_folder(target / "worst")
        made = {path.relative_to(stage) for path in stage.rglob("*") if path.is_file()}
        for path in sorted(made - {Path("scores.json")}):
            replace_file(stage / path, target / path)
        for path in set(_KNOWN) - made:
            (target / path).unlink(missing_ok=True)
        replace_file(stage / "scores.json", target / "scores.json")
    except OSError as error:
        raise machine_error(target, error) from error
    finally:
        shutil.rmtree(stage, ignore_errors=True)


def _predictions(answers: Answers) -> str:
    """As CSV. With an out-of-distribution detector also each image's distance and whether it is known. The columns of
    classes come last and have a word in front, so that a class may be called like one of the others.
    """
    known, distances = answers.known(), answers.distances
    more: tuple[str, ...] = ()
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    kind = {"classification": "score", "multi-label": "score", "regression": "predicted"}[answers.task]
    writer.writerow(
        ["path", "label", "predicted", "confidence", "correct", *(["distance", "known"] if known is not None else [])]
        + [escape_cell(f"{kind} {name}") for name in answers.classes]
    )
    cells = {name: escape_cell(name) for name in answers.classes}
    rounded = answers.scores.astype(np.float64).round(6).tolist()
    for row, values in enumerate(rounded):
        label, predicted, confidence, correct = answers.in_words(row)
        if answers.task != "regression":
            label, predicted = (cells[t] if t in cells else escape_cell(t) for t in (label, predicted))
        if known is not None and distances is not None:
            more = (str(round(float(distances[row]), 6)), "yes" if known[row] else "no")
        writer.writerow(
            [
                escape_cell(answers.images.name(row)),
                label,
                predicted,
                "" if confidence is None else round(confidence, 6),
                "" if correct is None else ("yes" if correct else "no"),
                *more,
                *values,
            ]
        )
    return buffer.getvalue()


def _confusion(scores: Scores) -> str:
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    names = [escape_cell(name) for name in scores.classes]
    if scores.task == "multi-label":
        writer.writerow(["label", "true negative", "false positive", "false negative", "true positive"])
        for name, matrix in zip(names, scores.confusion, strict=True):
            writer.writerow([name, *matrix[0], *matrix[1]])
    else:
        writer.writerow(["true class", *(escape_cell(f"predicted {name}") for name in scores.classes)])
        for name, row in zip(names, scores.confusion, strict=True):
            writer.writerow([name, *row])
    return buffer.getvalue()


def figures(scores: Scores) -> dict[str, Image.Image]:
    """File name to picture: confusion, calibration, invariance, or predicted against true numbers."""
    result: dict[str, Image.Image] = {}
    if scores.task == "classification":
        if len(scores.classes) <= charts.LARGEST_NUMBERED:
            result["confusion.png"] = charts.confusion_chart(scores.confusion, scores.classes).image()
        else:
            heat = charts.confusion_image(scores.confusion)
            white = Image.new("RGBA", heat.size, "white")
            factor = max(1, 800 // heat.width)
            size = (heat.width * factor, heat.height * factor)
            result["confusion.png"] = (
                Image.alpha_composite(white, heat).convert("RGB").resize(size, Image.Resampling.NEAREST)
            )
    if scores.calibration is not None:
        result["calibration.png"] = charts.calibration_chart(
            scores.calibration, labels=scores.task == "multi-label"
        ).image()
    if scores.pairs is not None:
        drawings = [charts.pairs_chart(name, pairs) for name, pairs in list(scores.pairs.items())[:12]]
        result["numbers.png"] = charts.stacked(drawings, columns=min(3, len(drawings)))
    if scores.invariance is not None:
        result["invariance.png"] = charts.stacked(charts.invariance_charts([("", scores.invariance)]), columns=3)
    return result
