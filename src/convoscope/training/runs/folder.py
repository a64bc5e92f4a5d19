"""A run's folder: where it may be, how it is made, and the files in it that are for people."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ... import data, files
from ...data import Prepared
from ...errors import InUseError, MachineError, UsageError, printable, shell_word
from ...files import FolderLock, check_plain, clear_leftovers, lies_in, machine_error, write_text
from ...parsing import read_toml
from .settings import Settings

if TYPE_CHECKING:
    from torch import Tensor, nn

    from ...models import ModuleMaker


def ended_early(folder: Path) -> bool:
    """Whether it is a run that ended before its first checkpoint was whole."""
    written = any((folder / f"{name}.safetensors").exists() for name in ("best", "last", "previous"))
    return not written and (folder / "run.toml").exists()


def go_on_hint(folder: Path) -> str:
    """How to go on with a run that has no checkpoint yet."""
    try:
        values = read_toml(folder / "run.toml")
        if "relearned" not in values.get("record", {}):
            return f"begin it anew, to the same weights: convoscope train --resume {shell_word(folder)}"
        asked = values["record"]
        backbone, added = asked["relearned"]["backbone"], asked.get("added")
        source, option = (added[-1][0], " --add") if added else (values["source"], "")
        return f"start it again: convoscope relearn {shell_word(backbone)} {shell_word(source)}{option}"
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return f"start it again: convoscope train SOURCE --output {shell_word(folder)}"


def check_output(output: str | os.PathLike[str] | None, source: str) -> None:
    """Refuse a run's folder that holds something already, that would be among the images and be taken for a class, or
    that cannot be made.

    Raises:
        InUseError: `output-exists`.
        UsageError: `output-inside-data`.
        MachineError: `run-unwritable`.
    """
    folder = Path("runs" if output is None else output)
    above = next(place for place in (folder, *folder.absolute().parents) if os.access(place, os.F_OK))
    if above != folder and not above.is_dir():
        raise MachineError(folder, f"cannot be made: {printable(above)} is a file", code="run-unwritable")
    if above.is_dir() and not os.access(above, os.W_OK | os.X_OK):
        raise MachineError(
            folder,
            f"cannot be made: {printable(above)} may not be written to",
            hint="choose another place: --output FOLDER",
            code="run-unwritable",
        )
    if lies_in(folder, source):
        raise UsageError(
            folder,
            "the run would be inside the data",
            hint="choose another place: --output FOLDER, or start from another folder",
            code="output-inside-data",
        )
    if output is None or not folder.exists() or (folder.is_dir() and not any(map(_counts, folder.iterdir()))):
        return
    reason, hint = "it exists already and is not empty", "choose another folder"
    if not folder.is_dir():
        reason = "is a file; expected a new folder"
    elif (folder / "last.safetensors").exists() or ended_early(folder):
        hint = f"go on with it: convoscope train --resume {shell_word(folder)}, or choose another folder"
    raise InUseError(folder, reason, hint=hint, code="output-exists")


def _counts(entry: Path) -> bool:
    """Whether a file makes a folder one that is not empty: not what is left of a start that was killed at once."""
    return entry.name != ".lock" and not (entry.name.startswith(".") and entry.suffix == ".tmp")


def new_folder(output: str | os.PathLike[str] | None, source: str, model: str | nn.Module | ModuleMaker) -> Path:
    """Make the run's folder; of many starts in one moment each gets its own."""
    try:
        check_output(output, source)
        if output is not None:
            folder = Path(output)
            folder.mkdir(parents=True, exist_ok=True)
            return folder
        runs = Path("runs")
        runs.mkdir(exist_ok=True)
        kind = model if isinstance(model, str) and re.fullmatch(r"[\w:.-]+", model) else "custom"
        stem = re.sub(
            r"[^\w-]+", "-", f"{Path(source).resolve().name if Path(source).exists() else source}-{kind}"
        ).strip("-")[:60]
        number = 1
        while True:
            folder = runs / f"{stem}-{number}"
            try:
                folder.mkdir()
            except FileExistsError:
                number += 1
            else:
                return folder
    except OSError as error:
        raise machine_error(output or "runs", error) from error


@contextlib.contextmanager
def claimed(folder: Path, tidy: Callable[[Path], None]) -> Iterator[None]:
    """While this is open, no other process writes into the new run's folder. After an error it is tidied up.

    Raises:
        InUseError: another process was first. The folder is its, and nothing is tidied up.
    """
    try:
        with FolderLock(folder):
            clear_leftovers(folder)
            yield
    except InUseError:
        raise
    except BaseException:
        tidy(folder)
        raise


def drop_if_unbegun(folder: Path) -> None:
    """A run that was stopped or failed before its training began leaves no folder behind."""
    with contextlib.suppress(OSError):
        ours = {".lock", "split.csv", "skipped.csv", "run.toml"}
        if {entry.name for entry in folder.iterdir()} <= ours:
            for name in ours:
                (folder / name).unlink(missing_ok=True)
            folder.rmdir()


def drop_without_checkpoint(folder: Path) -> None:
    """A run that was stopped or failed before its first checkpoint leaves no folder behind."""
    if not any(folder.glob("*.safetensors")):
        shutil.rmtree(folder, ignore_errors=True)


def check_own(folder: Path) -> None:
    """Refuse a run's folder in which something else is in the place of what a training, its test and its report write.

    Raises:
        MachineError: `not-a-plain-file`.
    """
    for name in (
        "best.safetensors",
        "last.safetensors",
        "previous.safetensors",
        "run.toml",
        "metrics.csv",
        "report.html",
    ):
        check_plain(folder / name)
    check_plain(folder / "events.jsonl", in_place=True)
    for name in ("tensorboard", "test"):
        check_plain(folder / name, folder=True)


def check_room(folder: Path, weights: Mapping[str, Tensor]) -> None:
    """Room for three checkpoints on the run's disk: weights and two moments each, twice, and the best."""
    size = sum(value.numel() * value.element_size() for value in weights.values())
    needed = 3 * 3 * size + 1_000_000
    hint = "make room, or choose a folder on another disk with --output"
    files.check_room(folder, needed, "its checkpoints", hint)


def write_images(folder: Path, prepared: Prepared) -> None:
    """A new run's images: `split.csv` and `skipped.csv`."""
    data.write_split(folder / "split.csv", prepared)
    write_skipped(folder, prepared)


def write_skipped(folder: Path, prepared: Prepared) -> None:
    """`skipped.csv`: path and reason of each image left out."""
    import csv
    import io

    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["path", "reason"])
    writer.writerows([data.escape_cell(item.path), data.escape_cell(item.reason)] for item in prepared.dataset.skipped)
    write_text(folder / "skipped.csv", text.getvalue())


def write_toml(folder: Path, settings: Settings) -> None:
    """`run.toml`: what `train --config` takes on top, and what was decided and found under `[record]`."""
    content = settings.to_json()
    asked = {key: content[key] for key in ("source", "layout", "model", "seed")}
    form = content["input"]
    if settings.table is not None:
        asked |= settings.table.keywords()
    asked |= {name: content[name] for name in ("group_pattern", "dedupe") if content.get(name)}
    asked |= {"size": f"{form['height']}x{form['width']}", "channels": form["channels"], "resize": form["resize"]}
    above = (*asked, "input", "recipe", "table", "dedupe")
    record = {key: value for key, value in content.items() if key not in above or key == "task"}
    if "white" in form:
        record["white"] = form["white"]
    if not record["own"]:
        record.pop("own")
    if not any(record.get("added_tables", ())):
        record.pop("added_tables", None)
    write_text(folder / "run.toml", toml_text({**asked, "recipe": content["recipe"], "record": record}))


def toml_text(content: dict[str, Any]) -> str:
    """TOML. It has no way to write bytes of file names that are not text: they are escaped."""
    import tomli_w

    text = tomli_w.dumps(content, multiline_strings=True)
    return re.sub("[\ud800-\udfff]", lambda match: f"\\\\u{ord(match[0]):x}", text)
