"""The `look` command's edges: images into a folder, numbers into text."""

from __future__ import annotations

import io
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import printable
from ..files import machine_error, make_own_folder, write_bytes

if TYPE_CHECKING:
    from PIL import Image
    from rich.console import Console

    from ..explain import Look, Why


def save_sheets(sheets: Iterable[tuple[str, Image.Image]], folder: Path) -> list[Path]:
    """Write images as PNG, each atomically, and give their paths. While one is packed the next is drawn.

    Raises:
        MachineError: the folder cannot be written to, or something in it is no plain file (`not-a-plain-file`).
    """

    def save(name: str, image: Image.Image) -> Path:
        path = folder / name
        try:
            folder.mkdir(
                parents=True, exist_ok=True
            )  # not before there is something to save: what was asked for may be refused
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
    _say(errors, seen)
    console.print(why.text(all=all), markup=False, highlight=False, soft_wrap=True)
    for path in files:
        console.print(f"image: {printable(path)}", markup=False, highlight=False)


def print_look(console: Console, errors: Console, seen: Look, folder: Path, files: list[Path]) -> None:
    """The answer, the table of layers, and where the images are."""
    from .tables import print_rows

    _say(errors, seen)
    answer = seen.prediction
    sure = "" if answer.confidence is None else f" ({100 * answer.confidence:.1f} %)"
    detector = seen.run.ood_detector()
    if answer.confidence is None and answer.distance is not None and detector is not None:
        sure = f" (its distance {answer.distance:.3f} is above the threshold {detector.threshold:.3f})"
    console.print(
        f"{printable(seen.name)}: {printable(answer.label) or '(no label)'}{sure}", markup=False, highlight=False
    )
    header, rows = seen.rows()
    print_rows(console, header, rows)
    console.print(f"images: {printable(folder)} ({len(files)})", markup=False, highlight=False)
    largest = next((step for step in reversed(seen.layers()) if step.kind == "conv"), seen.layers()[-1])
    place = ",".join(str(size // 2) for size in largest.shape)
    console.print(
        f"any number opens: --why {printable(largest.name)}:{place}", markup=False, highlight=False, style="dim"
    )


def _say(errors: Console, seen: Look) -> None:
    for sentence in seen.notes:
        errors.print(sentence, markup=False, highlight=False, style="dim")
