"""From a dataset, a model and a recipe to a run: everything is decided here, said aloud and written down, then `fit`
trains.
"""

from __future__ import annotations

import contextlib
import copy
import datetime
import numbers
import operator
import os
import platform
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from .. import data, models
from ..data import TARGET_NOUNS, Dataset, InputFormat, Prepared
from ..errors import DataError, InUseError, MachineError, ModelFileError, UsageError, printable, shell_word
from ..files import FolderLock, check_plain, clear_leftovers, lies_in, machine_error, size_text, write_text
from ..free_memory import memory_for
from . import checkpoint
from .augment import augment
from .defaults import choose_model, choose_recipe
from .engine import Engine, choose_engine, pick_device
from .loop import (
    Job,
    Scaling,
    Split,
    fit,
    has_batch_norm,
    load_batch,
    read_progress,
    section,
    steps_in_epoch,
    stopped,
)
from .memory import StepMemory, freed_memory_kept
from .objective import Objective, balanced_weights
from .optimizer import freeze
from .recipe import Recipe
from .report import Reporter
from .run import Run, Settings, blank_network, check_head, read_dataset, read_settings, settling, start_again
from .signals import StopSignals

if TYPE_CHECKING:
    from ..data import Resize

_MEASURED = 1 << 22
"""So many numbers are measured at once."""


def train(
    source: str | os.PathLike[str] | Dataset,
    model: str | nn.Module = "auto",
    *,
    output: str | os.PathLike[str] | None = None,
    layout: str = "auto",
    seed: int = 0,
    size: int | tuple[int, int] | None = None,
    channels: int | None = None,
    resize: Resize | None = None,
    validation: float | None = None,
    test: float | None = None,
    strict: bool = False,
    reporter: Reporter | None = None,
    **recipe: Any,
) -> Run:
    """Train a model on images.

    Args:
        source: a folder, a file, a built-in name or a dataset; see `load`.
        model: a model text, a preset's name, `torchvision:NAME`, `timm:NAME`, a module of your own, or `auto`.
        output: the run's folder, which must not exist or be empty; by default a new one under `runs/`.
        layout: how to read the source, if the guess is wrong.
        seed: decides the split, the first weights, the order and the augmentation.
        size: height and width of the network's input, or the side of a square; by default as suits the images and the
            model.
        channels: 1 for grey, 3 for colour; by default as suits the images.
        resize: `fit`, `crop` or `stretch`.
        validation: share of the images for validation where the source has no such part.
        test: share of the images for the test where the source has no such part.
        strict: an image that cannot be read is an error.
        reporter: listens to what happens.
        **recipe: any field of `Recipe`; the others are chosen to suit.

    Returns:
        The finished run.

    Raises:
        UsageError, DataError, MachineError, InUseError: see each one's `code`.
        Interrupted: a signal came; `resume` goes on.
    """
    reporter = reporter or Reporter()
    # Faults are told before anything long begins.
    asked = Recipe.read(recipe)
    seed = data.check_seed(seed)
    pick_device(asked.device)
    with StopSignals() as signals, freed_memory_kept():
        dataset = data.load(source, layout=layout, seed=seed, validation=validation, test=test)
        check_output(output, dataset.source)
        form, why = data.suggest_format(dataset)
        text = choose_model(dataset, form) if isinstance(model, str) and model == "auto" else model
        own = form
        form = _input_format(form, text, size, channels, resize)
        if (form.height, form.width) != (own.height, own.width):
            why = f"images at {form.height}x{form.width}, for which the model is made ({why})"
        for note in (*dataset.notes, *([why] if size is None else [])):
            reporter.say(note)
        if isinstance(model, str) and model == "auto":
            reporter.say(f"model: {text}, chosen by the images' number and size; --model overrules")
        shape = (form.height, form.width, form.channels)
        torch.manual_seed(seed)
        network = models.build(text, shape, len(dataset.classes))  # too small an image is told before decoding
        prepared = data.prepare(
            dataset, form, strict=strict, progress=lambda done, total: reporter.progress("decoding", done, total)
        )
        for note in prepared.dataset.notes[len(dataset.notes) :]:
            reporter.say(note)
        tell_skipped(prepared, reporter)
        for concern in data.concerns(prepared):
            reporter.warn(concern)
        resolved, notes = choose_recipe(prepared, network, asked, set(recipe))
        for note in notes:
            reporter.say(note)
        folder = new_folder(output, dataset.source, text)
        try:
            with FolderLock(folder):
                clear_leftovers(folder)
                check_room(folder, network.state_dict())
                job = _make_job(folder, prepared, form, text, network, resolved, seed, reporter, resumed=None)
                data.write_split(folder / "split.csv", prepared)
                write_skipped(folder, prepared)
                write_toml(folder, job.settings)
                fit(job, None, signals, reporter)
        except InUseError:
            raise  # the folder is another process's
        except BaseException:
            drop_if_unbegun(folder)
            raise
    run = Run.open(folder, model=None if isinstance(text, str) else text)
    if isinstance(source, Dataset):
        run.cache_features(prepared)
    return run


def resume(
    folder: str | os.PathLike[str],
    *,
    epochs: int | None = None,
    accept_data_change: bool = False,
    model: nn.Module | None = None,
    reporter: Reporter | None = None,
) -> Run:
    """Go on with a training that was stopped, killed, or is to be made longer, from its last checkpoint.

    On the same machine with the same versions and number of threads the final weights are bit for bit those of an
    undisturbed training. If `epochs` is raised, the schedule stretches from here on.

    Args:
        folder: the run.
        epochs: a new total number of epochs, not smaller than those done.
        accept_data_change: go on although images have come, gone or changed since.
        model: the module of your own that the run trains, if it does.
        reporter: listens to what happens.

    Raises:
        ModelFileError: there is no valid checkpoint, or the data differ (`data-changed`).
        InUseError: another process trains there.
    """
    return go_on(
        Path(folder), epochs=epochs, accept_data_change=accept_data_change, model=model, reporter=reporter or Reporter()
    )


def go_on(
    place: Path,
    *,
    reporter: Reporter,
    epochs: int | None = None,
    accept_data_change: bool = False,
    model: nn.Module | None = None,
    prepared: Prepared | None = None,
) -> Run:
    """See `resume`. `prepared`: the run's images, if they are at hand; else they are read again."""
    if epochs is not None:
        epochs = Recipe.read({"epochs": epochs}).epochs
    if not place.is_dir():
        raise ModelFileError(place, "there is no such run", hint="list the runs with: ls runs", code="run-missing")
    _check_own(place)
    with StopSignals() as signals, freed_memory_kept(), FolderLock(place):
        clear_leftovers(place)
        kept = any((place / name).exists() for name in ("last.safetensors", "previous.safetensors"))
        if not kept and (place / "run.toml").exists():
            raise ModelFileError(
                place,
                "it was ended before its first checkpoint",
                hint=start_again(place),
                code="run-empty",
            )
        tensors, state, passed_over = checkpoint.newest_valid(place)
        for fault in passed_over:
            reporter.warn(f"{fault}; going on from previous.safetensors, some steps are repeated")
        settings = read_settings(state, place / "last.safetensors")
        if settings.relearned is not None:
            check_head(settings.relearned, tensors, place / "last.safetensors")
        progress = read_progress(state, place / "last.safetensors")
        done = progress.epoch
        recipe = settings.recipe
        if epochs is not None:
            if epochs < done:
                raise UsageError("epochs", f"{done} epochs are done already; received {epochs}", code="epochs-done")
            recipe = recipe.model_copy(update={"epochs": epochs})
            if recipe.patience:
                progress.stale = 0
        if done >= recipe.epochs:
            ended = "its one epoch is done" if done == 1 else f"all its {done} epochs are done"
            reporter.say(f"{ended}; --epochs {2 * done} would go on to twice as many")
        at_hand = prepared is not None
        if prepared is None:
            dataset = read_dataset(place, settings)
            prepared = data.prepare(dataset, settings.input, progress=lambda d, t: reporter.progress("decoding", d, t))
            prepared = _check_unchanged(place, prepared, accept_data_change, reporter)
        form = settings.input
        network = blank_network(settings, section(tensors, "model."), place / "last.safetensors", model)
        try:
            job = _make_job(
                place,
                prepared,
                form,
                model or settings.model,
                network,
                recipe,
                settings.seed,
                reporter,
                resumed=settings,
            )
        except UsageError as error:
            if model is not None:
                raise
            raise ModelFileError(place, str(error), hint=error.hint, code=error.code) from None
        if _broken(tensors):
            raise ModelFileError(
                place / "last.safetensors",
                "its weights are not finite",
                hint="train again with a lower rate",
                code="checkpoint-not-finite",
            )
        write_toml(place, job.settings)
        fit(job, (tensors, progress), signals, reporter)
        if settings.relearned is not None:
            from .relearning import finish

            finish(job, prepared, signals, reporter)
            if signals.number:
                raise stopped(job, signals.number, ended=True)
    run = Run.open(place, model=model)
    if at_hand:
        run.cache_features(prepared)
    return run


def _check_own(folder: Path) -> None:
    """Refuse a run's folder in which something else stands in the place of what a training, its test and its report
    write.

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


def _make_job(
    folder: Path,
    prepared: Prepared,
    form: InputFormat,
    text: str | nn.Module,
    network: nn.Module,
    recipe: Recipe,
    seed: int,
    reporter: Reporter,
    *,
    resumed: Settings | None,
) -> Job:
    """Everything `fit` needs; for a resumed run what was decided at its start stays decided."""
    dataset = prepared.dataset
    rows = {split: dataset.indices(split) for split in data.SPLITS}
    if not len(rows["train"]):
        raise DataError(
            dataset.source,
            "no images to train on",
            hint="look at it with: convoscope data SOURCE",
            code="no-training-images",
        )
    shape = (form.height, form.width, form.channels)
    memory = StepMemory.of(
        network, shape, min(recipe.batch_size, len(rows["train"])), recipe, pick_device(recipe.device)
    )
    memory.check(reporter)
    outputs = models.check(network, shape, len(dataset.classes))
    if outputs != len(dataset.classes) and dataset.task != "classification":
        raise UsageError(
            "model",
            f"one output stands for two classes; here {len(dataset.classes)} {TARGET_NOUNS[dataset.task]} are to be predicted",
            hint="let the model's text end with a bare `dense`",
            code="one-output-task",
        )
    _check_batch(network, form, min(recipe.batch_size, len(rows["train"])))
    train_targets = dataset.targets[rows["train"]]
    target_mean, target_std = _target_scale(dataset, train_targets)
    weights = None
    if recipe.class_weights == "balanced":
        if dataset.task != "classification":
            raise UsageError(
                "class_weights",
                "balanced weights need one class for each image",
                hint="use class_weights=none",
                code="class-weights-task",
            )
        weights = balanced_weights(train_targets, len(dataset.classes))
    objective = Objective(
        task=dataset.task,
        outputs=outputs,
        label_smoothing=recipe.label_smoothing,
        class_weights=weights,
        target_mean=resumed.target_mean if resumed else target_mean,
        target_std=resumed.target_std if resumed else target_std,
    )
    scaling = (
        Scaling(mean=resumed.mean, std=resumed.std) if resumed else measure_scaling(prepared.pixels, rows["train"])
    )
    parts = {
        split: Split(pixels=prepared.pixels, rows=rows[split], targets=objective.targets(dataset.targets[rows[split]]))
        for split in ("train", "validation")
    }
    models.pool_first(network)
    freeze(network, recipe)
    if recipe.batch_size > len(rows["train"]):
        reporter.say(
            f"batch_size {recipe.batch_size} is more than the {len(rows['train'])} training images: one batch is an epoch"
        )
    if resumed:
        engine = Engine.model_validate(resumed.engine)
        pick_device(engine.device)
    else:
        with memory_for(memory.error, memory.free):
            engine = _probe(network, parts["train"], scaling, objective, recipe, seed)
        recipe = recipe.model_copy(update=engine.model_dump(exclude={"reason"}))
        reporter.say(f"computing on {engine.device} in {engine.reason}")
    if engine.threads > (os.cpu_count() or 1):
        reporter.warn(f"{engine.threads} threads on {os.cpu_count()} cores: training will be slow")
    for split in ("train", "validation"):
        if not len(rows[split]) and split == "validation":
            reporter.warn("there is no validation part: the epoch with the least training loss is kept as the best")
    changed = [
        f"{name} {version} now, {resumed.versions.get(name)} before"
        for name, version in versions().items()
        if resumed and resumed.versions.get(name) != version
    ]
    for change in changed:
        reporter.warn(f"{change}: the result may differ in the last digits")
    model_name = text if isinstance(text, str) else f"custom:{type(text).__module__}.{type(text).__qualname__}"
    with settling(dataset.source):
        settings = Settings(
            source=recorded(dataset),
            layout=dataset.layout,
            added=resumed.added if resumed else (),
            task=dataset.task,
            classes=dataset.classes,
            model=model_name,
            outputs=outputs,
            parameters=sum(parameter.numel() for parameter in network.parameters()),
            input=form,
            mean=scaling.mean,
            std=scaling.std,
            target_mean=objective.target_mean,
            target_std=objective.target_std,
            recipe=recipe,
            seed=seed,
            engine=engine.model_dump(),
            images={split: len(rows[split]) for split in data.SPLITS},
            notes=(*resumed.notes, *(f"resumed with {change}" for change in changed)) if resumed else dataset.notes,
            versions=versions(),
            started=resumed.started if resumed else datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            relearned=resumed.relearned if resumed else None,
        )
    job = Job(
        folder=folder,
        network=network,
        recipe=recipe,
        seed=seed,
        engine=engine,
        objective=objective,
        scaling=scaling,
        memory=memory,
        train=parts["train"],
        validation=parts["validation"],
        settings=settings.model_dump(mode="json", exclude_none=True),
    )
    if steps_in_epoch(job) * recipe.batch_size < len(rows["train"]):
        reporter.say(
            "one image, each time another, is left out of an epoch: batch norm cannot learn from a batch of one"
        )
    return job


def _check_batch(network: nn.Module, form: InputFormat, size: int) -> None:
    """Batch norm has no spread to divide by where a whole batch gives one number a channel."""
    if size > 1 or not has_batch_norm(network):
        return
    image = torch.zeros(1, form.channels, form.height, form.width)
    try:
        with torch.no_grad():
            copy.deepcopy(network).train()(image)
    except ValueError as error:
        raise UsageError(
            "batch_size",
            f"batch norm needs more than one image in a batch here ({printable(error)})",
            hint="use --set batch_size=2 or more, or a model without norm",
            code="batch-too-small",
        ) from None


def _probe(
    network: nn.Module, part: Split, scaling: Scaling, objective: Objective, recipe: Recipe, seed: int
) -> Engine:
    """Choose the engine on the first batch that training will see."""
    device = pick_device(recipe.device)
    batch = np.arange(min(recipe.batch_size, len(part)))
    pixels, targets = load_batch(part, batch, device)
    images = scaling(augment(pixels, part.rows[batch], seed=seed, epoch=0, recipe=recipe))
    return choose_engine(network.to(device), images, lambda scores: objective.loss(scores, targets), recipe)


def measure_scaling(pixels: NDArray[np.uint8], rows: NDArray[np.int64], *, at_most: int = 10_000) -> Scaling:
    """Mean and standard deviation of each channel in 0..1 over the training part, of at most `at_most` images spread
    evenly.
    """
    chosen = rows if len(rows) <= at_most else rows[np.linspace(0, len(rows) - 1, at_most).astype(np.int64)]
    channels = pixels.shape[3]
    total, squares, count = np.zeros(channels), np.zeros(channels), 0
    together = max(1, _MEASURED // max(pixels[:1].size, 1))
    for begin in range(0, len(chosen), together):
        chunk = np.take(pixels, chosen[begin : begin + together], axis=0).reshape(-1, channels).astype(np.float64)
        total += chunk.sum(0)
        squares += (chunk * chunk).sum(0)
        count += len(chunk)
    mean = total / count
    std = np.sqrt(np.maximum(squares / count - mean * mean, 0))
    std[std < 1e-3] = 255  # a channel of one value: only its mean is taken off
    return Scaling(mean=tuple(map(float, mean / 255)), std=tuple(map(float, std / 255)))


def _target_scale(dataset: Dataset, targets: NDArray[Any]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and spread of each number on the training part; nothing for other tasks."""
    if dataset.task != "regression":
        return (), ()
    spread = targets.astype(np.float64).std(0)
    spread[spread == 0] = 1
    return tuple(map(float, targets.astype(np.float64).mean(0))), tuple(map(float, spread))


def _input_format(
    form: InputFormat,
    model: str | nn.Module,
    size: int | tuple[int, int] | None,
    channels: int | None,
    resize: Resize | None,
) -> InputFormat:
    """The suggested format, with what the model was made for and what the user asked for put in."""
    preset = models.PRESETS.get(model) if isinstance(model, str) else None
    made_for = preset.input if preset is not None else None
    sides: Any = size
    if size is None:
        sides = made_for[:2] if made_for else (form.height, form.width)
    elif isinstance(size, numbers.Integral) and not isinstance(size, bool):
        sides = (size, size)
    try:
        height, width = (operator.index(side) for side in sides)
        fits = all(1 <= side <= 4096 for side in (height, width))
    except (TypeError, ValueError):
        fits = False
    if not fits:
        received = "x".join(map(str, sides)) if isinstance(sides, tuple) else printable(repr(sides))
        raise UsageError(
            "size",
            f"expected a side, or height and width, of 1 to 4096 pixels; received {received}",
            hint="use --size 96",
            code="size-out-of-range",
        )
    allowed = (1, 3) if form.channels in (1, 3) else (1, 3, form.channels) if form.channels < 5 else (form.channels,)
    if channels is not None and channels not in allowed:
        raise UsageError(
            "channels",
            f"the images have {form.channels}, which can become {' or '.join(map(str, allowed))}; received {channels}",
            hint="1 is grey, 3 is colour",
            code="channels-out-of-range",
        )
    return InputFormat(height=height, width=width, channels=channels or form.channels, resize=resize or form.resize)


def recorded(dataset: Dataset) -> str:
    """The source as a path that holds from any working folder; names of built-in sets, of downloads and of what lay in
    memory stay.
    """
    source = dataset.source
    return str(Path(source).absolute()) if dataset.layout != data.MEMORY and Path(source).exists() else source


def check_output(output: str | os.PathLike[str] | None, source: str) -> None:
    """Refuse a run's folder that holds something already, that would lie among the images and be taken for a class, or
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
            hint="say where else: --output FOLDER",
            code="run-unwritable",
        )
    if lies_in(folder, source):
        raise UsageError(
            folder,
            "the run would lie inside the data",
            hint="say where else: --output FOLDER, or start from another folder",
            code="output-inside-data",
        )
    if output is None or not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return
    reason, hint = "it exists already and is not empty", "choose another folder"
    if not folder.is_dir():
        reason = "is a file; expected a new folder"
    elif (folder / "last.safetensors").exists():
        hint = f"go on with it: convoscope train --resume {shell_word(folder)}, or choose another folder"
    raise InUseError(folder, reason, hint=hint, code="output-exists")


def new_folder(output: str | os.PathLike[str] | None, source: str, model: str | nn.Module) -> Path:
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


def drop_if_unbegun(folder: Path) -> None:
    """A run that was stopped or failed before its training began leaves no folder behind."""
    with contextlib.suppress(OSError):
        ours = {".lock", "split.csv", "skipped.csv", "run.toml"}
        if {entry.name for entry in folder.iterdir()} <= ours:
            for name in ours:
                (folder / name).unlink(missing_ok=True)
            folder.rmdir()


def check_room(folder: Path, weights: Mapping[str, torch.Tensor]) -> None:
    """Room for three checkpoints on the run's disk: weights and two moments each, twice, and the best."""
    size = sum(value.numel() * value.element_size() for value in weights.values())
    needed = 3 * 3 * size + 1_000_000
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise MachineError(
            folder,
            f"needs {size_text(needed)} for its checkpoints, {size_text(free)} are free on that disk",
            hint="make room, or choose a folder on another disk with --output",
            code="disk-full",
        )


def tell_skipped(prepared: Prepared, reporter: Reporter) -> None:
    skipped = prepared.dataset.skipped
    if skipped:
        examples = "; ".join(f"{printable(item.path)}: {item.reason}" for item in skipped[:5])
        more = f"; and {len(skipped) - 5} more, all in skipped.csv" if len(skipped) > 5 else ""
        reporter.warn(f"{len(skipped)} of {len(skipped) + len(prepared.dataset)} images skipped: {examples}{more}")


def write_skipped(folder: Path, prepared: Prepared) -> None:
    """`skipped.csv`: path and reason of each image left out."""
    import csv
    import io

    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["path", "reason"])
    writer.writerows([data.escape_cell(item.path), data.escape_cell(item.reason)] for item in prepared.dataset.skipped)
    write_text(folder / "skipped.csv", text.getvalue())


def write_toml(folder: Path, settings: dict[str, Any]) -> None:
    """`run.toml`: what `train --config` takes on top, and what was decided and found under `[record]`."""
    import tomli_w

    asked = {key: settings[key] for key in ("source", "layout", "model", "seed")}
    form = settings["input"]
    asked |= {"size": f"{form['height']}x{form['width']}", "channels": form["channels"], "resize": form["resize"]}
    told = (*asked, "input", "recipe")
    record = {key: value for key, value in settings.items() if key not in told and value is not None}
    content = tomli_w.dumps({**asked, "recipe": settings["recipe"], "record": record}, multiline_strings=True)
    # TOML has no way to write bytes of file names that are no text.
    content = re.sub("[\ud800-\udfff]", lambda match: f"\\\\u{ord(match[0]):x}", content)
    write_text(folder / "run.toml", content)


def _check_unchanged(folder: Path, prepared: Prepared, accept: bool, reporter: Reporter) -> Prepared:
    """Compare the images with those the run began with."""
    new, missing, altered = data.changed(prepared, folder / "split.csv")
    if not (new or missing or altered):
        return prepared
    words = f"{len(new)} new, {len(missing)} missing, {len(altered)} altered"
    if not accept:
        example = printable((altered or missing or new)[0])
        raise ModelFileError(
            folder,
            f"the images have changed since the run began: {words} (such as {example})",
            hint="bring them back, or go on with --accept-data-change",
            code="data-changed",
        )
    reporter.warn(f"the images have changed since the run began: {words}; going on as asked")
    return prepared


def _broken(tensors: dict[str, torch.Tensor]) -> bool:
    # Numbers of one byte have no place in a training; the optimiser and the network refuse them.
    floats = (value for value in tensors.values() if value.is_floating_point() and value.element_size() > 1)
    return any(not bool(value.isfinite().all()) for value in floats)


def versions() -> dict[str, str]:
    """What a result depends on."""
    from importlib.metadata import version

    import PIL

    return {
        "convoscope": version("convoscope"),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "pillow": PIL.__version__,
        "processor": _processor(),
    }


def _processor() -> str:
    """The processor's model name."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            return next(
                (line.split(":", 1)[1].strip() for line in file if line.startswith("model name")), platform.machine()
            )
    except OSError:
        return platform.machine()
