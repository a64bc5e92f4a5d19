"""From a path or a name to a dataset, and from a dataset to decoded pixels.

Needs NumPy and Pillow only. What other rooms may use:
"""

from .contact_sheet import contact_sheet
from .dataset import SPLITS, Dataset, InputFormat, Resize, Skipped, SplitName, Task
from .decode import open_image, picture_size
from .form import suggest_format
from .inspection import Inspection, concerns, inspect
from .layouts import LAYOUTS, from_arrays, load
from .split import SplitRow, changed, check_seed, escape_cell, read_split, write_split
from .store import Prepared, prepare

__all__ = [
    "LAYOUTS",
    "SPLITS",
    "Dataset",
    "InputFormat",
    "Inspection",
    "Prepared",
    "Resize",
    "Skipped",
    "SplitName",
    "SplitRow",
    "Task",
    "changed",
    "check_seed",
    "concerns",
    "contact_sheet",
    "escape_cell",
    "from_arrays",
    "inspect",
    "load",
    "open_image",
    "picture_size",
    "prepare",
    "read_split",
    "suggest_format",
    "write_split",
]
