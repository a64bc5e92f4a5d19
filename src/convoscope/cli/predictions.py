"""The `predict` command's edges: from what the user names to a list of images, and from predictions to text."""

from __future__ import annotations

import csv
import glob
import io
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from ..data import Skipped, escape_cell
from ..errors import DataError, printable
from ..files import json_bytes

if TYPE_CHECKING:
    from rich.console import Console

    from ..training import Prediction, Run

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".jfif", ".png", ".webp", ".bmp", ".gif")


def collect(names: list[str]) -> tuple[list[str], list[Skipped]]:
    """Files, folders (all images below them, in order), patterns, and `-` for a list of these on standard input.

    Returns:
        The images' paths, and what is not there.

    Raises:
        DataError: nothing was named or found (`nothing-to-predict`).
    """
    images: list[str] = []
    skipped: list[Skipped] = []
    for name in names:
        if name in ("-", "/dev/stdin"):
            lines = [os.fsdecode(line.rstrip(b"\r\n")) for line in sys.stdin.buffer]
            more, less = (
                collect([line for line in lines if line and line not in ("-", "/dev/stdin")]) if lines else ([], [])
            )
            images += more
            skipped += less
        elif Path(name).is_dir():
            found = [
                os.path.join(folder, file)  # noqa: PTH118 - keeps undecodable names and a leading ./ as they are
                for folder, _, files in sorted(os.walk(name))
                for file in sorted(files)
                if file.lower().endswith(IMAGE_SUFFIXES) and not file.startswith(".")
            ]
            if not found:
                skipped.append(Skipped(name, f"no images in this folder ({', '.join(IMAGE_SUFFIXES)})"))
            images += found
        elif os.path.lexists(name):
            images.append(name)
        else:
            matches = sorted(glob.glob(name, recursive=True)) if glob.has_magic(name) else []
            if not matches:
                skipped.append(Skipped(name, "there is no such file or folder"))
            more, less = collect(matches) if matches else ([], [])
            images += more
            skipped += less
    if not names or (not images and not skipped):
        raise DataError("", "no images were named", hint="give files, folders or patterns", code="nothing-to-predict")
    return images, skipped


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
        from .tables import print_prediction_table

        print_prediction_table(console, predictions)
    sys.stdout.flush()
    for item in skipped:
        errors.print(f"skipped: {printable(item.path)}: {item.reason}", markup=False, highlight=False, style="yellow")
