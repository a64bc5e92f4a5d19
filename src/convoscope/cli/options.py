"""Options that several commands share, each written once. Cyclopts makes options of a dataclass's fields."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from ..errors import UsageError, printable

if TYPE_CHECKING:
    from ..training import Run
from .log_option import Log

TABLE_KEYS = ("path_column", "label_column", "task", "separator", "label_separator", "root", "encoding")
SOURCE = Parameter(help="A folder, a file or a name of images; `convoscope data --help` says what can be read.")
RunPath = Annotated[Path, Parameter(help="A run's folder, or one of its .safetensors files.")]
LAYOUT = Parameter(
    help="How to read SOURCE if the guess is wrong: folders, flat, idx, arrays, quickdraw, csv, csv:classes, "
    "csv:labels or csv:numbers."
)
Output = Annotated[Path | None, Parameter(help="The run's folder; by default a new one in runs/.")]
Seed = Annotated[int | None, Parameter(help="Determines the split and everything random in training; 0 if not given.")]
Strict = Annotated[bool, Parameter(show_default=False, help="Stop at an image that cannot be read.")]
MovedTo = Annotated[
    str | None,
    Parameter(
        name="--source", help="Where the run's own images are now, if they were moved; they are found by their content."
    ),
]
ModuleFile = Annotated[
    str | None,
    Parameter(
        name="--module",
        help="A network of your own, as FILE.py:NAME. The file is executed; NAME(channels, classes) gives the network.",
    ),
]
AnswersOn = Annotated[
    str,
    Parameter(
        name="--device",
        help="Where the network runs: auto (a graphics card if there is one), cpu, cuda, cuda:N or mps.",
    ),
]
Json = Annotated[bool, Parameter(name="--json", show_default=False, help="Print one JSON value and nothing else.")]


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Opening:
    """How a run is opened."""

    module: ModuleFile = None
    device: AnswersOn = "auto"

    def open(self, path: Path) -> Run:
        """The run.

        Raises:
            UsageError, DataError, ModelFileError, MachineError: as of `read_module` and `Run.open`.
        """
        from ..training import Run
        from .module_file import read_module

        return Run.open(path, model=read_module(self.module), device=self.device)


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Table:
    """How a table (CSV, TSV, JSON lines) is read. What you leave out is found from its content, and printed."""

    path_column: Annotated[str | None, Parameter(help="Of a table: the column with the pictures' paths.")] = None
    label_column: Annotated[
        list[str] | None,
        Parameter(help="Of a table: a column with what is to be predicted; may be repeated.", negative=()),
    ] = None
    task: Annotated[
        Literal["classification", "multi-label", "regression"] | None,
        Parameter(help="Of a table: one class, any number of labels, or numbers for each image."),
    ] = None
    separator: Annotated[
        str | None, Parameter(help="Of a table: the character between two cells, such as ';' or tab.")
    ] = None
    label_separator: Annotated[
        str | None, Parameter(help="Of a table: what stands between two labels in one cell, such as '|' or space.")
    ] = None
    root: Annotated[
        str | None,
        Parameter(help="Of a table: the folder from which its paths count; by default the folder of the table."),
    ] = None
    encoding: Annotated[str | None, Parameter(help="Of a table: its text's encoding, such as utf-8 or cp1252.")] = None
    group: Annotated[
        str | None,
        Parameter(help="Of a table: the column whose equal cells are images that stay in one part, such as patients."),
    ] = None

    def given(self) -> dict[str, Any]:
        """The options that were typed, as `load` takes them."""
        options = {name: getattr(self, name) for name in TABLE_KEYS}
        return {name: value for name, value in options.items() if value is not None}


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Together:
    """Which images stay in one part, and which count."""

    group_pattern: Annotated[
        str | None,
        Parameter(
            help="A regular expression with one group in parentheses: images in whose paths it finds the same text, "
            r"such as a patient, stay in one part. For P017 of P017_left.jpg: '([^/]+)_[^/]*$'"
        ),
    ] = None
    dedupe: Annotated[
        bool, Parameter(show_default=False, help="Equal images count once; which are left out is said.")
    ] = False

    def given(self) -> dict[str, Any]:
        """The options that were typed, as `load` takes them."""
        options = {"group_pattern": self.group_pattern, "dedupe": self.dedupe or None}
        return {name: value for name, value in options.items() if value is not None}


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Parts:
    """How SOURCE is read and divided."""

    layout: Annotated[str | None, LAYOUT] = None
    table: Table = Table()
    together: Together = Together()
    validation: Annotated[
        float | None,
        Parameter(help="Share of the images for validation, such as 0.1, if SOURCE has no validation part."),
    ] = None
    test: Annotated[
        float | None, Parameter(help="Share of the images for the test, such as 0.1, if SOURCE has no test part.")
    ] = None

    def given(self) -> dict[str, Any]:
        """The options that were typed, as `train`, `relearn` and `search` take them."""
        options = {"layout": self.layout, "validation": self.validation, "test": self.test}
        typed = {name: value for name, value in options.items() if value is not None}
        return typed | self.table.given() | self.together.given()


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class RecipeOptions:
    """Settings of the recipe."""

    device: Annotated[str | None, Parameter(help="auto, cpu, cuda, cuda:N or mps.")] = None
    set: Annotated[
        list[str] | None,
        Parameter(
            name="--set",
            help="A setting of the recipe as key=value, such as flip=true; may be repeated. "
            "`convoscope train --help` lists the settings.",
        ),
    ] = None

    def read(self, epochs: int | None) -> dict[str, Any]:
        """The recipe's settings by name, those with an option of their own included.

        Raises:
            UsageError: one is given twice (`option-twice`), or is not `key=value` (`set-malformed`).
        """
        from ..config import read_assignments

        recipe = read_assignments(self.set or [])
        for key, value in (("epochs", epochs), ("device", self.device)):
            if value is not None and key in recipe:
                reason = f"given twice: --{key} {value} and --set {key}={recipe[key]}"
                raise UsageError(f"--{key}", reason, code="option-twice")
            if value is not None:
                recipe[key] = value
        return recipe


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Afterwards:
    """What happens once a run is made."""

    no_test: Annotated[bool, Parameter(show_default=False, help="Stop after training: no test, no report.")] = False
    log: Log = None
    json: Json = False


def read_input(text: str) -> tuple[int, int, int]:
    """`28x28x1`, `96x96` (colour) or `28`."""
    parts = _whole_numbers(text, "--input", "height x width x channels, such as 28x28x1")
    if len(parts) == 3:
        return parts[0], parts[1], parts[2]
    height, width = read_size(text)
    return height, width, 3


def read_size(text: str) -> tuple[int, int]:
    """Height and width: `96` or `96x128`."""
    parts = _whole_numbers(text, "--size", "pixels such as 96 or 96x128 (height x width)")
    if len(parts) > 2:
        raise UsageError(
            "--size", f"expected pixels such as 96 or 96x128; received {printable(text)}", code="size-malformed"
        )
    return (parts[0], parts[0]) if len(parts) == 1 else (parts[0], parts[1])


def _whole_numbers(text: str, option: str, expected: str) -> list[int]:
    parts = text.lower().replace("×", "x").split("x")
    if not 1 <= len(parts) <= 3 or not all(part.strip().isascii() and part.strip().isdigit() for part in parts):
        raise UsageError(option, f"expected {expected}; received {printable(text)}", code="size-malformed")
    return [int(part) for part in parts]
