"""Which folders may be runs. What a request names is looked up here by name, and never made into a path."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

WEIGHTS: Final = ("best.safetensors", "last.safetensors", "previous.safetensors")
FIGURES: Final = ("run.toml", "metrics.csv", "test/scores.json")
"""What the studio reads of a run besides its weights."""


def run_folders(runs: Path) -> dict[str, Path]:
    """The folders in `runs` by name, sorted.

    A folder is passed over if it, or anything that is read in it, is a link that leads out of `runs`, or no file.
    """
    try:
        root = runs.resolve(strict=True)
        names = sorted(os.listdir(root))
    except OSError:
        return {}
    found = {}
    for name in names:
        folder = root / name
        if _is_text(name) and _lies_in(folder, root) and folder.is_dir() and _has_plain_files(folder, root):
            found[name] = folder
    return found


def _lies_in(path: Path, root: Path) -> bool:
    """Whether `path`, links followed, lies in the folder `root`, which is no link itself."""
    return Path(os.path.realpath(path)).is_relative_to(root)


def _has_plain_files(folder: Path, root: Path) -> bool:
    """Whether what is read of a run are files within `root`, as far as they are there."""
    parts = [folder / part for part in (*WEIGHTS, *FIGURES)]
    return all(_lies_in(part, root) and (part.is_file() or not part.exists()) for part in parts)


def _is_text(name: str) -> bool:
    """Whether a file's name can be said in JSON."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
