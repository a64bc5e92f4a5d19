"""`repeat`: the same training several times, each with a seed of its own, on one split.

How far the runs differ shows how much chance there is in first weights, order and augmentation. The split stays: how
much chance there is in the choice of test images, the interval of each accuracy tells.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from ... import data
from ...errors import DataError, Interrupted, UsageError, shell_word
from ...files import write_json
from ...parsing import parse_json, read_bytes
from ..core.reporter import Reporter
from ..runs.folder import check_output, ended_early, new_folder
from ..runs.run import Run
from ..runs.saved import CHECKPOINTS
from .keywords import ReadingKeywords, take
from .resumption import resume
from .train import train

REPEAT_FILE: Final = "repeat.json"
_MOST: Final = 100


def repeat(
    source: str | os.PathLike[str],
    model: str = "auto",
    *,
    times: int,
    output: str | os.PathLike[str] | None = None,
    seed: int = 0,
    after: Callable[[Run], None] | None = None,
    reporter: Reporter | None = None,
    **options: Any,
) -> list[Run]:
    """Train a model several times on the same images, with the split of `seed` and the seeds `seed`, `seed + 1`, ...

    The runs are folders of `output`, `seed-0` and so on. If it is stopped or killed, the same call with that folder
    goes on where it stood: runs that are tested are kept, one with a checkpoint is resumed.

    Args:
        source: see `train`; not in memory.
        model: a text or a name, see `train`.
        times: how many runs, 2 to 100.
        output: their folder; by default a new one under `runs/`.
        seed: of the split, and the first of the seeds.
        after: called with each run when it is trained, such as to test it.
        reporter: listens to what happens.
        **options: see `train`.

    Raises:
        UsageError: `repeat-times`; `repeat-differs`, if the folder holds the repeats of something else; see `train`.
        Interrupted: a signal came; the same call goes on.
    """
    if isinstance(times, bool) or not isinstance(times, int) or not 2 <= times <= _MOST:
        raise UsageError("repeat", f"expected 2 to {_MOST} runs; received {times}", code="repeat-times")
    reporter = reporter or Reporter()
    reading = take(options, ReadingKeywords)
    listed = {name: value for name, value in reading.items() if name != "strict"}
    dataset = data.load(source, seed=seed, **listed)
    folder = _folder(output, dataset.source, model)
    asked = {
        "source": dataset.source,
        "model": model,
        "seed": seed,
        "options": {k: repr(v) for k, v in options.items()},
    }
    _settle(folder, asked)
    training = {name: value for name, value in options.items() if name not in listed}
    runs = []
    for number in range(times):
        place = folder / f"seed-{seed + number}"
        reporter.say(f"run {number + 1} of {times}, seed {seed + number}, on the split of seed {seed}: {place}")
        try:
            if (place / "test" / "scores.json").exists():
                run = Run.open(place)
            else:
                run = _trained(place, dataset, model, seed + number, training, reporter)
                if after is not None:
                    after(run)
        except Interrupted as error:
            error.hint = f"go on with: the same command with --output {shell_word(folder)}"
            raise
        runs.append(run)
    return runs


def _folder(output: str | os.PathLike[str] | None, source: str, model: str) -> Path:
    """The folder of all runs: a new one, or that of repeats which go on."""
    if output is not None and (Path(output) / REPEAT_FILE).exists():
        return Path(output)
    check_output(output, source)
    return new_folder(output, source, f"{model}-repeat")


def _settle(folder: Path, asked: dict[str, Any]) -> None:
    """Write down what is repeated, or compare it with what was.

    Raises:
        UsageError: `repeat-differs`.
    """
    path = folder / REPEAT_FILE
    if path.exists():
        try:
            known = parse_json(read_bytes(path, 1_000_000))
        except ValueError as error:
            raise DataError(
                path, f"cannot be read ({error})", hint="choose another folder", code="repeat-differs"
            ) from None
        if known != asked:
            raise UsageError(
                folder,
                "holds the repeats of another training",
                hint="use the same source, model, seed and settings as before, or choose another folder",
                code="repeat-differs",
            )
        return
    write_json(path, asked)


def _trained(
    place: Path, dataset: data.Dataset, model: str, seed: int, options: dict[str, Any], reporter: Reporter
) -> Run:
    """One run: begun, or gone on with."""
    if any((place / name).exists() for name in CHECKPOINTS):
        return resume(place, reporter=reporter)
    if ended_early(place):  # it holds nothing but what it was asked for
        shutil.rmtree(place)
    return train(dataset, model, output=place, seed=seed, reporter=reporter, **options)
