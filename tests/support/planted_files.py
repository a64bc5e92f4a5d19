"""What somebody else may have put where a run's own files are expected, beside a victim that must stay as it is."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path


class Victim:
    """A folder with a file, outside of every run. `untouched` compares all that can be seen of it."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        (folder / "worst").mkdir()
        self.folder = folder
        self.file = folder / "scores.json"
        self.file.write_bytes(b"precious")
        self._before = self._seen()

    def _seen(self) -> list[tuple[str, int, int, bytes]]:
        return [
            (str(path), (status := path.lstat()).st_mode, status.st_ino, path.read_bytes() if path.is_file() else b"")
            for path in sorted(self.folder.rglob("*"))
        ]

    def untouched(self) -> bool:
        """Whether every name, file and byte is as at first."""
        return self._seen() == self._before


def clear(place: Path) -> None:
    """Make room for something else."""
    if place.is_dir() and not place.is_symlink():
        import shutil

        shutil.rmtree(place)
    place.unlink(missing_ok=True)
    place.parent.mkdir(exist_ok=True)


def link(place: Path, victim: Victim) -> None:
    place.symlink_to(victim.file)


def dangling_link(place: Path, victim: Victim) -> None:
    place.symlink_to(victim.folder / "new")


def hard_link(place: Path, victim: Victim) -> None:
    place.hardlink_to(victim.file)


def pipe(place: Path, _: Victim) -> None:
    os.mkfifo(place)


def folder(place: Path, _: Victim) -> None:
    place.mkdir()


def folder_link(place: Path, victim: Victim) -> None:
    place.symlink_to(victim.folder, target_is_directory=True)


Plant = Callable[[Path, Victim], None]
REPLACED: tuple[Plant, ...] = (link, dangling_link, pipe, folder)
"""In the place of a file that is replaced as a whole; a hard link's other name then keeps its content."""
CHANGED: tuple[Plant, ...] = (*REPLACED, hard_link)
"""In the place of a file that is changed where it lies."""
FOLDERS: tuple[Plant, ...] = (folder_link, dangling_link, link, pipe)
"""In the place of a folder."""
