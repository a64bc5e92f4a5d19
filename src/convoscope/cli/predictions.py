"""What `predict` reads and prints: from the names given to a list of images, and from predictions to text."""

from __future__ import annotations

import csv
import glob
import io
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from ..data import Skipped, escape_cell, pictures_below
from ..errors import DataError, printable
from ..files import json_bytes
from .output import print_plain
from .tables import print_prediction_table

if TYPE_CHECKING:
    from rich.console import Console

    from ..training import Prediction, Run

_STANDARD_INPUT = ("-", "/dev/stdin")


def collect(names: list[str], say: Callable[[str], object]) -> tuple[list[str], list[Skipped]]:
    """Files, which are tried whatever their names; folders (all images below them, in order, by the rules of training);
    patterns; and `-` for a list of these on standard input.

    Args:
        names: what was typed.
        say: told which files in the folders are no pictures.

    Returns:
        The images' paths, and the names of which nothing was found.

    Raises:
        DataError: nothing was named or found (`nothing-to-predict`).
    """
    images: list[str] = []
    skipped: list[Skipped] = []
    for name in names:
        listed: list[str] = []
        if name in _STANDARD_INPUT:
            lines = [os.fsdecode(line.rstrip(b"\r\n")) for line in sys.stdin.buffer]
            listed = [line for line in lines if line and line not in _STANDARD_INPUT]
            if lines and not listed:
                raise _nothing_named()
        elif Path(name).is_dir():
            found, left_out = _in_folder(name, say)
            images += found
            skipped += left_out
        elif os.path.lexists(name):
            images.append(name)
        else:
            listed = sorted(glob.glob(name, recursive=True)) if glob.has_magic(name) else []
            if not listed:
                skipped.append(Skipped(name, "there is no such file or folder"))
        if listed:
            more, less = collect(listed, say)
            images += dict.fromkeys(more)  # a pattern may name a folder and what is in it
            skipped += less
    if not images and not skipped:
        raise _nothing_named()
    return images, skipped


def _in_folder(folder: str, say: Callable[[str], object]) -> tuple[list[str], list[Skipped]]:
    """The images below a folder, and what is skipped of it."""

    def whole(path: str) -> str:
        return os.path.join(folder, path)  # noqa: PTH118 - keeps undecodable names and a leading ./ as they are

    try:
        found = pictures_below(folder)
    except OSError as error:
        return [], [Skipped(folder, f"cannot be listed: {error.strerror or error}")]
    for note in found.ignored.notes():
        say(f"{printable(folder)}: {note}")
    skipped = [Skipped(whole(bad.path), bad.reason) for bad in found.skipped]
    if not found.files:
        skipped.append(Skipped(folder, f"no images in this folder{found.looked_for()}"))
    return [whole(file) for file in found.files], skipped


def _nothing_named() -> DataError:
    return DataError("", "no images were named", hint="give files, folders or patterns", code="nothing-to-predict")


def print_predictions(
    console: Console, errors: Console, run: Run, predictions: list[Prediction], skipped: list[Skipped], form: str
) -> None:
    """Print as a table, CSV or JSON; what could not be read goes to standard error."""
    if form == "json":
        sys.stdout.buffer.write(json_bytes([each.to_json() for each in predictions]))
    elif form == "csv":
        table = io.StringIO()
        writer = csv.writer(table, lineterminator="\n")
        detector = any(each.distance is not None for each in predictions)
        writer.writerow(
            ["path", "label", "confidence", *(["distance"] if detector else []), *map(escape_cell, run.classes)]
        )
        for each in predictions:
            numbers = [f"{value:.6g}" for value in each.scores.values()]
            confidence = "" if each.confidence is None else f"{each.confidence:.6g}"
            far = [f"{each.distance:.6g}"] if each.distance is not None else []
            writer.writerow([escape_cell(each.path), escape_cell(each.label), confidence, *far, *numbers])
        sys.stdout.buffer.write(table.getvalue().encode("utf-8", "surrogateescape"))
    else:
        print_prediction_table(console, predictions)
    sys.stdout.flush()
    for item in skipped:
        print_plain(errors, f"skipped: {printable(item.path)}: {item.reason}", style="yellow")
