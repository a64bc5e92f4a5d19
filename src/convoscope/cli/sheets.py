"""What `look` writes and prints: images into a folder, numbers as text."""

from __future__ import annotations

import io
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import printable
from ..files import machine_error, make_own_folder, write_bytes
from ..render import percent
from .output import print_plain
from .tables import print_rows

if TYPE_CHECKING:
    from PIL import Image
    from rich.console import Console

    from ..explain import Look, Why


def save_sheets(sheets: Iterable[tuple[str, Image.Image]], folder: Path) -> list[Path]:
    """Write images as PNG, each atomically, and give their paths. While one is packed the next is drawn.

    Raises:
        MachineError: the folder cannot be written to, or something in it is not a plain file (`not-a-plain-file`).
    """

    def save(name: str, image: Image.Image) -> Path:
        path = folder / name
        try:
            # Not before there is something to save: what was asked for may be refused.
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise machine_error(folder, error) from error
        if path.parent != folder:
            make_own_folder(path.parent)
        buffer = io.BytesIO()
        image.save(buffer, "PNG", compress_level=3)
        write_bytes(path, buffer.getvalue())
        return path

    with ThreadPoolExecutor(2) as pool:
        return [task.result() for task in [pool.submit(save, name, image) for name, image in sheets]]


def print_why(console: Console, errors: Console, seen: Look, why: Why, *, all: bool, files: list[Path]) -> None:
    """The arithmetic of one number."""
    _print_notes(errors, seen)
    print_plain(console, why.text(all=all), soft_wrap=True)
    for path in files:
        print_plain(console, f"image: {printable(path)}")


def print_look(console: Console, errors: Console, seen: Look, folder: Path, files: list[Path]) -> None:
    """The answer, the table of layers, and where the images are."""
    _print_notes(errors, seen)
    answer = seen.prediction
    sure = "" if answer.confidence is None else f" ({percent(answer.confidence)})"
    detector = seen.run.ood_detector()
    if answer.known is False and detector is not None:
        sure += f", not known: its distance {answer.distance:.3f} is above the threshold {detector.threshold:.3f}"
    print_plain(console, f"{printable(seen.name)}: {printable(answer.label) or '(no label)'}{sure}", soft_wrap=True)
    header, rows = seen.rows()
    print_rows(console, header, rows)
    print_plain(console, f"images: {printable(folder)} ({len(files)})")
    largest = next((step for step in reversed(seen.layers()) if step.kind == "conv"), seen.layers()[-1])
    place = ",".join(str(size // 2) for size in largest.shape)
    print_plain(console, f"see how any number is computed: --why {printable(largest.name)}:{place}", style="dim")


def _print_notes(errors: Console, seen: Look) -> None:
    for sentence in seen.notes:
        print_plain(errors, sentence, style="dim")
