"""`relearn`: new classes on a trained backbone (transfer learning). Its features are computed once for each image, and
a new head is made of them. Then, if asked for, the backbone is fine-tuned.

The result is a run like any other. Its first epoch is the head's: the frozen backbone and the new head, written as a
checkpoint. Where the backbone is fine-tuned, that checkpoint is what a resumed training goes on from (linear probing,
then fine-tuning: Kumar et al. 2022, https://arxiv.org/abs/2202.10054), so it can be stopped and killed like any other.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Unpack

from ... import data
from ...data import TARGET_NOUNS, Dataset, Prepared, TableOptions
from ...errors import DataError, Interrupted, ModelFileError, UsageError, printable, shell_word
from ..backbone.backbone import Backbone, adapted
from ..backbone.feature_layer import feature_layer_at
from ..backbone.sources import open_backbone
from ..core.engine import Engine, all_threads
from ..core.reporter import Reporter
from ..core.reporters import Listening, one_reporter
from ..runs.folder import check_output, drop_without_checkpoint
from ..runs.request import Request, begun, begun_anew
from ..runs.run import Run
from ..runs.saved import find_again
from ..runs.settings import Relearned, Settings, recorded
from .head_fit import choose_features, fit_head
from .images import prepare_images, warn_of_concerns
from .keywords import ReadingKeywords, TransferChoices, TransferKeywords, take, take_recipe
from .resume import go_on
from .session import session
from .transfer_options import TransferOptions
from .transfer_run import on_fastest_engine, transfer_settings, write_run


def relearn(
    backbone: str | os.PathLike[str] | Run,
    images: str | os.PathLike[str] | Dataset,
    *,
    output: str | os.PathLike[str] | None = None,
    seed: int = 0,
    reporter: Listening = None,
    **options: Unpack[TransferKeywords],
) -> Run:
    """Teach a trained network new classes.

    Args:
        backbone: `imagenet`, `timm:NAME`, `torchvision:NAME`, a run, its folder, or a `.safetensors` file.
        images: a folder, a file, a built-in name or a dataset; see `load`. Each image has one class.
        output: the run's folder, which must not exist or be empty; by default a new one under `runs/`.
        seed: decides the split, and chance in heads and training.
        reporter: listens to what happens.
        head: `linear` (logistic regression, the default), `mean` (the nearest class mean) or `mlp` (one hidden layer of
            64 units).
        augmented_views: how many versions of each training image the head learns from: the image as it is, and further
            ones that are mirrored, cropped and recoloured. By default 8 for up to 2,000 small images (40 pixels), else
            1.
        feature_layer: the layer behind which a backbone with a text ends; by default the one that does best in
            cross-validation on training and validation images, or with `unfreeze` and `add` the last one.
        unfreeze: how many of the backbone's last blocks are fine-tuned once the head has learned; `all`: the whole
            backbone.
        coverage: the share of new images of the classes that are to be known, by default 0.99; it sets the threshold.
            Fewer than 99 validation images allow less; the run's notes say how much.
        add: `backbone` is a run, and `images` are added to its own: new classes, or more images of those it has.
        model: the library's network, `timm:NAME` or `torchvision:NAME`, that a safetensors file not of convoscope's
            belongs to.
        source: with `add`, where the images of the run are now, if they were moved; they are found by their content.
        **options: these last eight; `layout`, `validation`, `test`, `strict` and how a table is read as for `train`;
            and fields of `Recipe`. With a frozen backbone these are `class_weights`, `device`, `precision` and
            `threads`; the others say how the backbone is fine-tuned, `epochs` for how long.

    Returns:
        The finished run.

    Raises:
        UsageError, DataError, ModelFileError, MachineError, InUseError: see each one's `code`.
        Interrupted: a signal came; features that were computed are kept. Once fine-tuning has begun, `resume` goes on.
    """
    return _relearn(backbone, images, seed, options, output, None, one_reporter(reporter))


def relearn_anew(folder: Path, request: Request, reporter: Reporter) -> Run:
    """Relearn a run that was ended before its head was saved, as it was asked for then. What was computed is cached."""
    choices = dict(request.relearn or {})
    options = {**take(request.reading, ReadingKeywords), **take(choices, TransferChoices), **request.recipe}
    return _relearn(str(choices.get("backbone", "")), request.source, request.seed, options, None, folder, reporter)


def _request(
    backbone: str | os.PathLike[str] | Run, dataset: Dataset, seed: int, options: Mapping[str, Any]
) -> Request:
    """What was asked for, for the run's folder."""
    path = backbone.folder if isinstance(backbone, Run) else Path(backbone)
    return Request.of(
        recorded(dataset),
        seed,
        take(options, ReadingKeywords),
        take_recipe(options, ReadingKeywords, TransferChoices),
        relearn={"backbone": path.absolute() if path.exists() else path, **take(options, TransferChoices)},
    )


def _relearn(
    backbone: str | os.PathLike[str] | Run,
    images: str | os.PathLike[str] | Dataset,
    seed: int,
    options: Mapping[str, Any],
    output: str | os.PathLike[str] | None,
    anew: Path | None,
    reporter: Reporter,
) -> Run:
    """See `relearn`. `anew`: the folder of a run that begins anew."""
    begin = time.perf_counter()
    # What needs neither backbone nor images is checked first, before anything long begins.
    reading, choices = take(options, ReadingKeywords), take(options, TransferChoices)
    wish = TransferOptions.of(choices, take_recipe(options, ReadingKeywords, TransferChoices), seed)
    strict = reading.pop("strict", False)
    threads = Engine(threads=wish.recipe.threads or all_threads())
    with session() as signals, threads.thread_count(), contextlib.ExitStack() as held:
        opened = open_backbone(backbone, model=choices.get("model"), say=reporter.say)
        if wish.feature_layer is not None:
            opened = feature_layer_at(opened, wish.feature_layer, whole=bool(wish.unfreeze))
        if wish.add:
            wish = wish.like(_settings_added_to(opened))
        wish.check_blocks(opened)
        known = opened.run.classes if wish.add and opened.run is not None else None
        dataset = _listed(images, wish.seed, known, reading, opened.run if wish.add else None)
        if anew is None:
            check_output(output, dataset.source)
            request = None if isinstance(images, Dataset) else _request(backbone, dataset, wish.seed, options)
            stem = Path(opened.name).name.removesuffix(".safetensors")
            place = begun(request, output, dataset.source, stem, tidy=drop_without_checkpoint)
        else:
            place = begun_anew(anew)
        folder = held.enter_context(place)
        if not wish.add:  # else the images have to be brought to the form of those that are there
            opened = replace(opened, form=replace(opened.form, white=data.white_in(dataset)))
        plan = plan_images(dataset, opened, wish, reporter, strict=strict, moved_to=choices.get("source"))
        features = choose_features(opened, plan.prepared, wish, reporter)
        fitted = fit_head(features, plan.prepared, wish, reporter)
        taken = features.source.backbone  # it may end earlier than the one that was opened
        settings = transfer_settings(
            taken,
            plan.prepared,
            features.augmented_views,
            fitted,
            wish,
            source=recorded(plan.own),
            layout=plan.own.layout,
            table=plan.own.table,
            added=plan.added,
            added_tables=plan.added_tables,
            notes=(*plan.notes, *features.notes, *fitted.notes),
        )
        if wish.unfreeze:
            settings = on_fastest_engine(settings, folder, taken, plan.prepared, fitted, wish.hidden, reporter)
        # From here on the run is soon whole: a signal waits until it is.
        signals.defer()
        write_run(folder, settings, taken, plan.prepared, fitted, time.perf_counter() - begin, reporter)
    if signals.number:
        raise _stopped(folder, settings, signals.number)
    if wish.unfreeze:
        return go_on(folder, reporter=reporter, prepared=plan.prepared)
    reporter.finished(folder)
    run = Run.open(folder)
    run.cache_features(plan.prepared, fitted.features, exact=fitted.exact)
    return run


def _listed(
    images: str | os.PathLike[str] | Dataset,
    seed: int,
    known: tuple[str, ...] | None,
    reading: dict[str, Any],
    added_to: Run | None,
) -> Dataset:
    """The images, listed. Where they are added to a run, they are in its groups if their names say so."""
    pattern = None if added_to is None else added_to.settings.group_pattern
    if pattern is not None and reading.get("group_pattern") is None:
        try:
            return data.load(images, seed=seed, classes=known, **reading | {"group_pattern": pattern})
        except UsageError as error:
            if error.code not in ("group-pattern-unmatched", "grouping-elsewhere", "option-twice"):
                raise
    return data.load(images, seed=seed, classes=known, **reading)


@dataclass(frozen=True)
class TransferImages:
    """The images of a run that is relearned.

    Attributes:
        prepared: all of them, in the backbone's form.
        own: those whose source the run names first: with `add`, those of the run that is added to.
        added: the further sources, each with its layout.
        added_tables: how each of them was read, if it is a table.
        notes: what was found, in plain sentences.
    """

    prepared: Prepared
    own: Dataset
    added: tuple[tuple[str, str], ...]
    added_tables: tuple[TableOptions | None, ...]
    notes: tuple[str, ...]


def plan_images(
    dataset: Dataset,
    backbone: Backbone,
    wish: TransferOptions,
    reporter: Reporter,
    *,
    strict: bool,
    moved_to: str | os.PathLike[str] | None = None,
) -> TransferImages:
    """Decode the images in the backbone's form, with those of the run that they are added to.

    Raises:
        UsageError: a new place is named for images of a run that none are added to (`option-without-add`).
        DataError: they have no classes (`relearn-task`), or add nothing (`relearn-nothing-new`).
    """
    if moved_to is not None and not wish.add:
        raise UsageError(
            "--source",
            "says where the images of the run are that images are added to; it goes with --add",
            hint="leave it out, or use --add",
            code="option-without-add",
        )
    if dataset.task != "classification":
        raise DataError(
            dataset.source,
            f"has {TARGET_NOUNS[dataset.task]}; a new head learns images with one class each",
            hint="train a whole network: convoscope train SOURCE",
            code="relearn-task",
        )
    own = dataset
    added: tuple[tuple[str, str], ...] = ()
    tables: tuple[TableOptions | None, ...] = ()
    changes = adapted(dataset, backbone)
    if wish.add:
        assert backbone.run is not None
        added = (*backbone.run.settings.added, (recorded(dataset), dataset.layout))
        tables = (*(table for *_, table in backbone.run.settings.further), dataset.table)
        # TOML has nothing to say that one of them is no table, but for the options of which none is given.
        tables = tuple(table or TableOptions() for table in tables) if any(tables) else ()
        moved = None if moved_to is None else find_again(backbone.run.folder, backbone.run.settings, moved_to)
        own = _images_of(backbone.run) if moved is None else moved.renamed()
        dataset = data.joined(own, dataset)
    notes = (*dataset.notes, f"backbone: {printable(backbone.name)}, {wish.words}", *changes)
    for note in notes:
        reporter.say(note)
    prepared = prepare_images(dataset, backbone.form, reporter, strict=strict)
    if wish.add:
        assert backbone.run is not None
        missing = None if moved is None else moved.missing
        _compare(backbone.run, prepared, added[-1][0], missing, reporter)
    warn_of_concerns(prepared, reporter)
    return TransferImages(prepared, own, added, tables, notes)


def _settings_added_to(backbone: Backbone) -> Relearned | None:
    """How the run that is added to made its head."""
    if backbone.run is None:
        raise UsageError(
            "backbone",
            f"--add adds images to those of a run; {printable(backbone.name)} has none",
            hint="name the run: convoscope relearn RUN SOURCE --add",
            code="relearn-add",
        )
    if not (backbone.run.folder / "split.csv").exists():
        raise UsageError(
            "backbone",
            f"--add needs the whole run; beside {printable(backbone.name)} there is no split.csv",
            hint="name the run's folder",
            code="relearn-add",
        )
    return backbone.run.settings.relearned


def _images_of(run: Run) -> Dataset:
    """The images of the run that is added to."""
    try:
        return run.dataset()
    except ModelFileError as error:
        if error.code == "classes-changed":
            error.hint = "put the new class into a folder of its own, and add that"
        raise


def _compare(run: Run, prepared: Prepared, source: str, not_found: Sequence[str] | None, reporter: Reporter) -> None:
    """Say how the old run's images differ from what they were, and refuse an addition that adds nothing. `not_found`:
    those that were looked for in a new place in vain; None: they are where they were.
    """
    rows = data.read_split(run.folder / "split.csv")
    new, missing, altered = data.changed(prepared, rows)
    if not_found is not None:  # they may have other names there
        missing, altered = list(not_found), []
        if len(prepared.dataset) == len(rows) - len(missing):
            new = []
    if not new:
        raise DataError(
            source,
            "adds nothing: the run has all of its images already",
            hint="another head for them: relearn from the run without --add",
            code="relearn-nothing-new",
        )
    if missing or altered:
        example = printable((altered or missing)[0])
        reporter.warn(
            f"the run's own images have changed: {len(missing)} missing, {len(altered)} altered (such as {example}); "
            "the head learns from them as they are now"
        )


def _stopped(folder: Path, settings: Settings, signal: int) -> Interrupted:
    """The error that ends a relearning on request once its head is made."""
    hint = f"test it with: convoscope test {shell_word(folder)}"
    if settings.recipe.epochs > 1 and not settings.in_memory:
        hint = f"go on with: convoscope train --resume {shell_word(folder)}"
    return Interrupted(folder, "stopped; the head is made and saved", hint=hint, code="interrupted", signal=signal)
