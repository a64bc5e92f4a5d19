"""What `predict` reads: from the names given to a list of images."""

from __future__ import annotations

import glob
import os
import sys
from collections.abc import Callable
from pathlib import Path

from ..data import Skipped, pictures_below
from ..errors import DataError, printable

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
