"""The layouts that a dataset may have. Each reader registers itself with `@layout`; names, help, the guess and the
handbook's table follow from what it says.

A new layout is one module beside this one, named `layout_*.py`, which is found by its name, and one test.
"""

from __future__ import annotations

import importlib
import os
import pkgutil
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from typing import Final

from ..errors import DataError
from ..files import machine_error
from .listing import CLASS_FOLDERS, ENDINGS, SPLIT_NAMES, Listing, is_clutter
from .table_options import TableOptions

# ruff: noqa: PTH122

TABLE_ENDINGS: Final = (".csv", ".tsv", ".jsonl", ".ndjson")
ARRAY_ENDINGS: Final = (".npy", ".npz")

AUTO: Final = "auto"
"""The name that asks for a guess."""
TABLE: Final = "csv"
"""The layout that `TableOptions` are for."""
USUAL: Final = "folders"
"""The layout that is meant where none claims a path. It comes first in lists."""


@dataclass(frozen=True)
class ReadOptions:
    """What a reader gets besides the path.

    Attributes:
        tiff: whether TIFF pictures are read as well.
        variant: what follows the colon of the layout's name (`labels` of `csv:labels`), or empty.
        classes: the classes, labels or numbers that a run knows already, where images are read for it; None: nothing
            is known. A source may then hold any of them: one class, a class without images.
        table: what was said about a table.
        like: how another table was read; it holds, where it fits, for what `table` leaves open.
    """

    tiff: bool = False
    variant: str = ""
    classes: tuple[str, ...] | None = None
    table: TableOptions = field(default_factory=TableOptions)
    like: TableOptions | None = None


Reader = Callable[[Path, ReadOptions], Listing]


@dataclass(frozen=True)
class Contents:
    """What is at a path: the names in a folder, without looking further, or the one file. Enough for most guesses.

    Attributes:
        path: where.
        files: names of the files, clutter left out.
        folders: whether there are folders among them.
    """

    path: Path
    files: tuple[str, ...]
    folders: bool = False
    endings: Counter[str] = field(default_factory=Counter)

    @staticmethod
    def of(path: Path) -> Contents:
        """Look at a path.

        Raises:
            MachineError: the folder may not be listed.
        """
        names, folders = [path.name], False
        if path.is_dir():
            names = []
            try:
                with os.scandir(path) as entries:
                    for entry in entries:
                        if is_clutter(entry.name):
                            continue
                        if entry.is_dir(follow_symlinks=True):
                            folders = True
                        else:
                            names.append(entry.name)
            except PermissionError as error:
                raise machine_error(path, error) from error
        return Contents(path, tuple(names), folders, Counter(os.path.splitext(name)[1].lower() for name in names))

    def count(self, *endings: str) -> int:
        """How many files have one of these endings."""
        return sum(self.endings[ending] for ending in endings)

    @cached_property
    def tables(self) -> int:
        """How many files are named as tables are."""
        return self.count(*TABLE_ENDINGS)

    @cached_property
    def arrays(self) -> int:
        """How many files are named as NumPy arrays are."""
        return self.count(*ARRAY_ENDINGS)

    @cached_property
    def pictures(self) -> int:
        """How many files are named as pictures are."""
        return self.count(*ENDINGS)

    @cached_property
    def class_folders(self) -> bool:
        """Whether two or more sub-folders hold pictures, or a split folder holds folders."""
        return self.folders and _has_class_folders(self.path)


def _has_class_folders(path: Path) -> bool:
    found = 0
    with os.scandir(path) as entries:
        for entry in entries:
            if is_clutter(entry.name) or not entry.is_dir(follow_symlinks=False):
                continue
            with os.scandir(entry.path) as inner:
                if entry.name.lower() in SPLIT_NAMES:
                    if any(sub.is_dir(follow_symlinks=False) and not is_clutter(sub.name) for sub in inner):
                        return True
                    continue
                found += any(os.path.splitext(sub.name)[1].lower() in ENDINGS for sub in inner)
            if found >= 2:
                return True
    return False


@dataclass(frozen=True)
class Layout:
    """One way to lay out images and labels. The fields are the arguments of `layout`."""

    name: str
    about: str
    looks_like: str
    order: int
    claims: Callable[[Contents], bool]
    read: Reader
    folder_only: bool
    variants: tuple[str, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """What `--layout` takes: the name, and the name with each variant."""
        return (self.name, *(f"{self.name}:{variant}" for variant in self.variants))


_REGISTERED: Final[list[Layout]] = []


def layout(
    name: str,
    *,
    about: str,
    looks_like: str,
    order: int,
    claims: Callable[[Contents], bool],
    folder_only: bool = False,
    variants: tuple[str, ...] = (),
) -> Callable[[Reader], Reader]:
    """Register a reader.

    Args:
        name: what `--layout` calls it.
        about: a few plain words, for messages and help.
        looks_like: the same for the handbook's table, in Markdown.
        order: the guess asks the layouts by this number, smallest first.
        claims: whether a path looks like this layout; earlier layouts have not claimed it.
        folder_only: whether it reads folders only, not a single file.
        variants: endings after a colon that say more, such as `csv:labels`.
    """

    def register(read: Reader) -> Reader:
        _REGISTERED.append(Layout(name, about, looks_like, order, claims, read, folder_only, variants))
        return read

    return register


@cache
def layouts() -> tuple[Layout, ...]:
    """All layouts, the usual one first, then in their order. Imports the modules named `layout_*.py`."""
    package = __name__.rpartition(".")[0]
    for module in pkgutil.iter_modules([str(Path(__file__).parent)]):
        if module.name.startswith("layout_"):
            importlib.import_module(f"{package}.{module.name}")
    return tuple(sorted(_REGISTERED, key=lambda one: (one.name != USUAL, one.order)))


def layout_names() -> tuple[str, ...]:
    """What `--layout` takes."""
    return (AUTO, *(name for one in layouts() for name in one.names))


def layout_called(name: str) -> Layout:
    """The layout with this name, `csv` for `csv:labels`."""
    return next(one for one in layouts() if one.name == name.partition(":")[0])


def guess(path: Path) -> Layout:
    """The first layout that claims the path; class folders if none does, as it is then easy to say what is missing.

    Raises:
        MachineError: the folder may not be listed.
    """
    contents = Contents.of(path)
    asked = sorted(layouts(), key=lambda one: one.order)
    return next((one for one in asked if one.claims(contents)), layout_called(USUAL))


def layout_table() -> str:
    """The handbook's table of layouts."""
    rows = "".join(f"| `{one.name}` | {one.looks_like} |\n" for one in layouts())
    return f"| layout | looks like |\n| --- | --- |\n{rows}"


def accepted() -> str:
    """What can be read, for messages: class folders as a drawing, the others by name."""
    others = ", ".join(one.about for one in layouts() if one.name != USUAL)
    return f"a folder of class folders:{CLASS_FOLDERS}also read: {others}"


def not_a_folder(path: Path) -> DataError:
    """The error of a single file that no layout reads."""
    return DataError(path, f"is a file; expected {accepted()}", code="not-a-folder")
