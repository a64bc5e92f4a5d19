"""`convoscope data`: what is in a folder, a file or a name of images."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from ..errors import DataError, printable
from ..files import check_plain, lies_in
from ..posix import portable_stem
from .options import LAYOUT, Json, Table, Together
from .output import console, print_json, print_plain

if TYPE_CHECKING:
    from ..data import Dataset


def data(
    source: Annotated[str, Parameter(help="A folder, a file or a name of images.")],
    /,
    *,
    layout: Annotated[str, LAYOUT] = "auto",
    table: Table = Table(),
    together: Together = Together(),
    seed: Annotated[int, Parameter(help="Determines the split where SOURCE does not give one.")] = 0,
    sheet: Annotated[
        Path | None, Parameter(help="Where to write the contact sheet; by default contact-sheets/NAME.png.")
    ] = None,
    json: Json = False,
) -> None:
    """Show what is in SOURCE: classes, counts, sizes, files that cannot be read, duplicates, leaks; and draw a contact
    sheet.

    None of your files is changed. Layouts that are recognised: folders (one folder for each class, with or without
    train, val and test folders around them), flat (cat.0.jpg), idx (MNIST's files), arrays (.npy, .npz), quickdraw (one
    .npy for each class), csv (a table, CSV, TSV or JSON lines: path and label, labels or numbers).
    Names: builtin:lines, builtin:shapes, builtin:fruits, builtin:drawings, builtin:drawings/apple,banana, mnist,
    fashion-mnist, quickdraw:apple,banana.
    """
    from .. import data as room
    from ..terminal import TerminalReporter

    reporter = TerminalReporter(console(error=True))
    dataset = room.load(source, layout=layout, seed=seed, **table.given(), **together.given())
    inspection = room.inspect(dataset, progress=lambda done, total: reporter.progress("reading", done, total))
    reporter.end()
    drawn: Path | None = None
    fault: DataError | None = None
    line = "no contact sheet: it would be among the images; choose another place with --sheet FILE.png"
    path = sheet or Path("contact-sheets") / f"{_file_stem(source)}.png"
    if sheet is not None or not lies_in(path, source):
        try:
            # A path of its own may have come with the images.
            _draw(dataset, path, checked=sheet is None)
            drawn, line = path, f"contact sheet: {printable(path)}"
        except DataError as error:  # too many bad images: now above all they are to be listed
            line, fault = "no contact sheet: too few good images", error
    if json:
        print_json(inspection.to_json() | {"contact_sheet": None if drawn is None else str(drawn)})
    else:
        from .tables import print_inspection

        output = console()
        print_inspection(output, inspection)
        print_plain(output, line)
    if fault is not None:
        sys.stdout.flush()
        raise fault


def _draw(dataset: Dataset, path: Path, *, checked: bool) -> None:
    from .. import data as room

    form, _ = room.suggest_format(dataset)
    prepared = room.prepare(dataset, form)
    if checked:
        check_plain(path.parent, folder=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    room.contact_sheet(prepared, path)


def _file_stem(source: str) -> str:
    name = Path(source).resolve().name if Path(source).exists() else source
    return portable_stem(re.sub(r"[^\w-]+", "-", name).strip("-")[:80] or "images")
