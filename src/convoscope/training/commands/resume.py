"""Going on with a training from its last checkpoint, or from its first step if it has none yet."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from ... import data
from ...data import Prepared
from ...errors import ModelFileError, UsageError, shell_word
from ...files import FolderLock, clear_leftovers
from ...models import ModuleMaker
from ..backbone.recalibrate import recalibrate
from ..core import checkpoint
from ..core.engine import pick_device
from ..core.hooks import NO_HOOKS, Hooks
from ..core.recipe import Recipe
from ..core.reporter import Reporter
from ..fit.errors import stopped
from ..fit.job import Job, check_trainable
from ..fit.learner import section
from ..fit.loop import fit
from ..fit.state import Progress, read_progress
from ..fit.trial import try_hooks
from ..runs.folder import check_own, ended_early, go_on_hint, write_toml
from ..runs.run import Run
from ..runs.saved import blank_network, check_head, find_again, read_dataset, read_described, record_place
from ..runs.settings import Settings, model_name, read_settings
from .images import check_unchanged
from .session import session


def go_on(
    place: Path,
    *,
    reporter: Reporter,
    epochs: int | None = None,
    accept_data_change: bool = False,
    source: str | os.PathLike[str] | None = None,
    model: nn.Module | ModuleMaker | None = None,
    hooks: Hooks = NO_HOOKS,
    prepared: Prepared | None = None,
) -> Run:
    """See `resumption.resume`. `prepared`: the run's images, if they are in memory; otherwise they are read again."""
    if epochs is not None:
        epochs = Recipe.read({"epochs": epochs}).epochs
    if not place.is_dir():
        raise ModelFileError(place, "there is no such run", hint="list the runs with: ls runs", code="run-missing")
    check_own(place)
    at_hand = prepared is not None
    with session() as signals, FolderLock(place):
        clear_leftovers(place)
        checkpoint.finish_first(place)
        saved = _Saved.read(place, reporter)
        recipe = saved.recipe_for(epochs, reporter)
        for changed in hooks.check_same(saved.settings.own, place):
            reporter.warn(changed)
        if prepared is None:
            prepared = _images(place, saved.settings, source, accept_data_change, reporter)
        job = _continued_job(place, saved, prepared, recipe, (model, hooks), reporter)
        _check_finite(saved.tensors or {}, saved.path)
        write_toml(place, job.settings)
        fit(job, None if saved.tensors is None else (saved.tensors, saved.progress), signals, reporter)
        if job.settings.relearned is not None:
            recalibrate(job, prepared, signals, reporter)
            if signals.number:
                raise stopped(job, signals.number, ended=True)
        reporter.finished(place)
    run = Run.open(place, model=model, head=hooks.head, metrics=hooks.metrics)
    if at_hand:
        run.cache_features(prepared)
    return run


def _images(
    folder: Path, settings: Settings, source: str | os.PathLike[str] | None, accept: bool, reporter: Reporter
) -> Prepared:
    """The run's images as they are now, or where they are now.

    Raises:
        ModelFileError: they are not those that the run began with (`data-changed`).
    """
    moved = None if source is None else find_again(folder, settings, source)
    dataset = read_dataset(folder, settings) if moved is None else moved.dataset
    prepared = data.prepare(
        dataset, settings.input, progress=lambda done, total: reporter.progress("decoding", done, total)
    )
    if moved is not None:
        reporter.say(moved.dataset.notes[0])
    check_unchanged(folder, prepared, accept, reporter)
    if moved is None or moved.names is None:
        if moved is not None:
            reporter.warn(
                "the new place cannot be read as the old one was, so it is not recorded: name it next time too"
            )
        return prepared
    # Written down first: whatever happens next, the images are where the run says.
    record_place(folder, dataset)
    kept = dict(zip(dataset.names, moved.names, strict=True))
    named = replace(prepared.dataset, names=[kept[name] for name in prepared.dataset.names])
    prepared = replace(prepared, dataset=named)
    if list(kept) != list(kept.values()):
        data.write_split(folder / "split.csv", prepared)
    return prepared


@dataclass(frozen=True)
class _Saved:
    """What a run's newest whole checkpoint holds; of one that has none yet, what its run.toml says, and no tensors."""

    path: Path
    tensors: dict[str, Tensor] | None
    settings: Settings
    progress: Progress

    @classmethod
    def read(cls, folder: Path, reporter: Reporter) -> _Saved:
        if ended_early(folder):
            settings = read_described(folder)
            if settings.relearned is not None:
                raise ModelFileError(
                    folder, "it was ended before its first checkpoint", hint=go_on_hint(folder), code="run-empty"
                )
            reporter.say("it was ended before its first checkpoint: it begins anew")
            return cls(folder / "run.toml", None, settings, Progress())
        _check_begun(folder)
        tensors, state, passed_over = checkpoint.newest_valid(folder)
        for fault in passed_over:
            reporter.warn(f"{fault}; going on from previous.safetensors, some steps are repeated")
        path = folder / "last.safetensors"
        settings = read_settings(state, path)
        if settings.relearned is not None:
            check_head(settings.relearned, tensors, path)
        return cls(path, tensors, settings, read_progress(state, path))

    def recipe_for(self, epochs: int | None, reporter: Reporter) -> Recipe:
        """The run's recipe, for this total number of epochs if one is given: then its patience begins anew."""
        done, recipe = self.progress.epoch, self.settings.recipe
        if epochs is not None:
            if epochs < done:
                raise UsageError("epochs", f"{done} epochs are done already; received {epochs}", code="epochs-done")
            recipe = recipe.model_copy(update={"epochs": epochs})
            if recipe.patience:
                self.progress.stale = 0
        if done >= recipe.epochs:
            ended = "its one epoch is done" if done == 1 else f"all its {done} epochs are done"
            reporter.say(f"{ended}; --epochs {2 * done} would go on to twice as many")
        return recipe


def _continued_job(
    place: Path,
    saved: _Saved,
    prepared: Prepared,
    recipe: Recipe,
    own: tuple[nn.Module | ModuleMaker | None, Hooks],
    reporter: Reporter,
) -> Job:
    """The run's training once more. What was decided at its start stays decided. `own`: the user's own code."""
    settings, (model, hooks) = saved.settings, own
    weights = None if saved.tensors is None else section(saved.tensors, "model.")
    torch.manual_seed(settings.seed)  # of the first weights, as in a new run
    network = blank_network(settings, weights, saved.path, model, hooks.head)
    try:
        memory, outputs = check_trainable(network, prepared, recipe, reporter)
        pick_device(str(settings.engine["device"]))
    except UsageError as error:
        if model is not None:
            raise
        # Without a module of the user's own, what is wrong was read from the run's files.
        raise ModelFileError(place, str(error), hint=error.hint, code=error.code) from None
    for change in settings.version_changes():
        reporter.warn(f"{change}: the result may differ in the last digits")
    named = model_name(settings.model if model is None else model, hooks)
    job = Job.of(
        settings.continued(prepared.dataset, model=named, outputs=outputs, recipe=recipe),
        place,
        network,
        prepared,
        memory,
        hooks,
    )
    try_hooks(job)
    job.say_limits(reporter)
    return job


def _check_begun(folder: Path) -> None:
    """Refuse a folder in which no training has left anything to go on from."""
    if any((folder / name).exists() for name in ("last.safetensors", "previous.safetensors")):
        return
    if (folder / "best.safetensors").exists():
        raise ModelFileError(
            folder,
            "holds weights to predict with, but not what is needed to go on",
            hint="restore last.safetensors from a copy, or train again into another folder: "
            f"convoscope train --config {shell_word(folder / 'run.toml')}",
            code="checkpoint-without-progress",
        )
    raise ModelFileError(folder, "no training was begun in it", hint=go_on_hint(folder), code="run-empty")


def _check_finite(tensors: dict[str, Tensor], path: Path) -> None:
    """Refuse to go on from weights that are NaN or infinite."""
    # Numbers of one byte have no place in a training; the optimiser and the network refuse them.
    floats = (value for value in tensors.values() if value.is_floating_point() and value.element_size() > 1)
    if not all(bool(value.isfinite().all()) for value in floats):
        raise ModelFileError(
            path, "its weights are not finite", hint="train again with a lower rate", code="checkpoint-not-finite"
        )
