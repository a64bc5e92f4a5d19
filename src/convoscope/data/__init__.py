"""From a path or a name to a dataset, and from a dataset to decoded pixels.

Needs NumPy and Pillow only. What other rooms may use:
"""

from . import cache
from .builtin import DRAWING_SIDE, drawing_classes
from .contact_sheet import contact_sheet
from .dataset import SPLITS, TARGET_NOUNS, Dataset, InputFormat, Resize, Skipped, SplitName, Task
from .decode import DECODE_RULES, check_format, open_image, picture_size
from .download import fetch
from .form import suggest_format, white_in, white_note
from .inspection import Inspection, concerns, inspect
from .layouts import LAYOUTS, MEMORY, from_arrays, load, with_manifest
from .levels import even_toned, told_even
from .listing import told_apart
from .lookahead import images_in, opened
from .moved import Found, find_moved
from .pad import PadForm, pad_form, pad_image
from .scan import pictures_below
from .split import SplitRow, changed, check_seed, escape_cell, read_split, write_split
from .store import MACHINE_ERRORS_IN_A_ROW, Prepared, prepare, unreachable
from .table_options import TABLE_KEYS, SourceKeywords, TableKeywords, TableOptions
from .union import joined

__all__ = [
    "DECODE_RULES",
    "DRAWING_SIDE",
    "LAYOUTS",
    "MACHINE_ERRORS_IN_A_ROW",
    "MEMORY",
    "SPLITS",
    "TABLE_KEYS",
    "TARGET_NOUNS",
    "Dataset",
    "Found",
    "InputFormat",
    "Inspection",
    "PadForm",
    "Prepared",
    "Resize",
    "Skipped",
    "SourceKeywords",
    "SplitName",
    "SplitRow",
    "TableKeywords",
    "TableOptions",
    "Task",
    "cache",
    "changed",
    "check_format",
    "check_seed",
    "concerns",
    "contact_sheet",
    "drawing_classes",
    "escape_cell",
    "even_toned",
    "fetch",
    "find_moved",
    "from_arrays",
    "images_in",
    "inspect",
    "joined",
    "load",
    "open_image",
    "opened",
    "pad_form",
    "pad_image",
    "picture_size",
    "pictures_below",
    "prepare",
    "read_split",
    "suggest_format",
    "told_apart",
    "told_even",
    "unreachable",
    "white_in",
    "white_note",
    "with_manifest",
    "write_split",
]
