"""New classes on a backbone that has learned already: its features once for each image, a new head on them, then, if
asked, the backbone too.

The result is a run like any other. Its first epoch is the head's: the frozen backbone and the new head, written as a
checkpoint. Where the backbone learns too, that checkpoint is what a resumed training goes on from (linear probing, then
fine-tuning: Kumar et al. 2022, https://arxiv.org/abs/2202.10054), so it can be stopped and killed like any other.
"""

from __future__ import annotations

import datetime
import numbers
import os
import shutil
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from .. import data, models
from ..data import TARGET_NOUNS, Dataset, Prepared
from ..errors import DataError, Interrupted, InUseError, ModelFileError, UsageError, printable, shell_word
from ..files import FolderLock, clear_leftovers
from ..free_memory import memory_for
from . import checkpoint, start
from .backbone import Backbone, adapted, open_backbone
from .defaults import small, view_recipe
from .engine import Engine, all_threads, choose_engine, pick_device
from .feature_layer import choose_feature_layer, feature_layer_at
from .features import ComputeMode, Features
from .head import HIDDEN, Examples, Head, linear, mlp, nearest_mean
from .journal import Journal
from .loop import Job, Progress, Split, load_batch, stopped
from .memory import StepMemory, freed_memory_kept
from .objective import Objective, balanced_weights
from .ood import OodDetector, fit_ood_detector
from .optimizer import freeze
from .recipe import Recipe
from .report import EpochMetrics, Reporter, value_of_row
from .run import Relearned, Run, Settings, read_settings, settling
from .signals import StopSignals
from .whitening import Whitening, own_images, whitening_of

HeadKind = Literal["linear", "mean", "mlp"]
_KINDS = ("linear", "mean", "mlp")
_MOST_VIEWS = 100
_VIEWS = 8
"""Looks at each image where images are small and few. More bring hardly more."""
_FEW = 2_000
"""Up to so many training images are few."""
_FROZEN = ("class_weights", "device", "precision", "threads")
"""The recipe's settings that a frozen backbone's head and features know."""
_SHOWN = 6_500
"""So many images, repeats included, the backbone is shown when it learns too."""


def relearn(
    backbone: str | os.PathLike[str] | Run,
    images: str | os.PathLike[str] | Dataset,
    *,
    output: str | os.PathLike[str] | None = None,
    head: HeadKind | None = None,
    augmented_views: int | None = None,
    feature_layer: str | None = None,
    unfreeze: int | Literal["all"] = 0,
    coverage: float | None = None,
    add: bool = False,
    model: str | None = None,
    layout: str = "auto",
    seed: int = 0,
    validation: float | None = None,
    test: float | None = None,
    strict: bool = False,
    reporter: Reporter | None = None,
    **recipe: Any,
) -> Run:
    """Teach a network that has learned already new classes.

    Args:
        backbone: `imagenet`, `timm:NAME`, `torchvision:NAME`, a run, its folder, or a `.safetensors` file.
        images: a folder, a file, a built-in name or a dataset; see `load`. Each image has one class.
        output: the run's folder, which must not exist or be empty; by default a new one under `runs/`.
        head: `linear` (logistic regression), `mean` (the nearest class mean) or `mlp` (one hidden layer of 64 units).
        views: how often each training image is looked at: once as it is, then each time mirrored, cut and coloured
            differently. By default 8 times for up to 2,000 small images (40 pixels), else once.
        feature_layer: the layer behind which a backbone with a text ends; by default the one that does best in
            cross-validation on training and validation images, or with `unfreeze` and `add` the last one.
        unfreeze: how many of the backbone's last blocks learn too once the head has; `all`: the whole backbone.
        coverage: the share of known images that shall not be called unknown; it sets the threshold.
        add: `backbone` is a run, and `images` are added to its own: new classes, or more images of those it has.
        model: the library's network, `timm:NAME` or `torchvision:NAME`, that a safetensors file not of convoscope's
            belongs to.
        layout, validation, test, strict: as for `train`.
        seed: decides the split, and chance in heads and training.
        reporter: listens to what happens.
        **recipe: fields of `Recipe`. With a frozen backbone these are `class_weights`, `device`, `precision` and
            `threads`; the others say how it learns, `epochs` for how long.

    Returns:
        The finished run.

    Raises:
        UsageError, DataError, ModelFileError, MachineError, InUseError: see each one's `code`.
        Interrupted: a signal came; features that were computed are kept. Once the backbone learns, `resume` goes on.
    """
    reporter = reporter or Reporter()
    asked = Recipe.read(recipe)
    blocks = _blocks(unfreeze)
    if blocks and asked.epochs >= 100_000:  # the head's comes in addition
        raise UsageError(
            "epochs",
            f"expected less than 100,000 where the backbone learns; received {asked.epochs}",
            code="recipe-invalid",
        )
    seed = data.check_seed(seed)
    device = pick_device(asked.device)
    begin = time.perf_counter()
    threads = Engine(threads=asked.threads or all_threads())
    with StopSignals() as signals, freed_memory_kept(), threads.thread_count():
        _check_settings(set(recipe), blocks, add, feature_layer)
        taken = open_backbone(backbone, model=model, say=reporter.say)
        if feature_layer is not None:
            taken = feature_layer_at(taken, feature_layer, whole=bool(blocks))
        before = _before(taken, add)
        wish = TransferOptions.of(head, augmented_views, coverage, blocks, before)
        _check_blocks(taken, wish)
        dataset = data.load(
            images, layout=layout, seed=seed, validation=validation, test=test, fewest_classes=1 if add else 2
        )
        start.check_output(output, dataset.source)
        if dataset.task != "classification":
            raise DataError(
                dataset.source,
                f"has {TARGET_NOUNS[dataset.task]}; a new head learns images with one class each",
                hint="train a whole network: convoscope train SOURCE",
                code="relearn-task",
            )
        changes = adapted(dataset, taken)
        added: tuple[tuple[str, str], ...] = ()
        settings_of = dataset
        if add:
            assert taken.run is not None
            added = (*taken.run.settings.added, (start.recorded(dataset), dataset.layout))
            settings_of = _own(taken.run)
            dataset = data.joined(settings_of, dataset)
        notes = (*dataset.notes, f"backbone: {printable(taken.name)}, {wish.words}", *changes)
        for note in notes:
            reporter.say(note)
        prepared = data.prepare(
            dataset, taken.form, strict=strict, progress=lambda done, total: reporter.progress("decoding", done, total)
        )
        for note in prepared.dataset.notes[len(dataset.notes) :]:
            reporter.say(note)
        start.tell_skipped(prepared, reporter)
        if add:
            assert taken.run is not None
            _compare(taken.run, prepared, added[-1][0], reporter)
        for concern in data.concerns(prepared):
            reporter.warn(concern)
        augmented_views = wish.augmented_views or (
            _VIEWS if small(prepared) and len(prepared.dataset.indices("train")) <= _FEW else 1
        )
        own, told = own_images(taken)
        if told:
            reporter.say(told)
            notes += (told,)
        if feature_layer is None and not add and not wish.unfreeze:
            source, found = choose_feature_layer(
                taken,
                prepared,
                own=own,
                augmented_views=augmented_views,
                device=device,
                precision=asked.precision,
                seed=seed,
                reporter=reporter,
            )
            taken = source.backbone
            for note in found:
                reporter.say(note)
            notes += found
        else:
            source = Features(taken, device=device, precision=asked.precision)
        whitening = whitening_of(source.backbone, own, device)
        lesson = _learn(source, prepared, whitening, wish, augmented_views, asked, seed, reporter)
        folder = start.new_folder(output, dataset.source, Path(taken.name).name.removesuffix(".safetensors"))
        try:
            with FolderLock(folder):
                clear_leftovers(folder)
                settings = _settings(
                    taken, prepared, settings_of, added, notes, wish, lesson, asked, set(recipe), seed, device
                )
                settings = _with_engine(settings, taken, prepared, lesson, wish, reporter)
                signals.defer()
                _write(folder, prepared, settings, taken, lesson, time.perf_counter() - begin, reporter)
        except InUseError:
            raise  # the folder is another process's
        except BaseException:
            if not any(folder.glob("*.safetensors")):
                shutil.rmtree(folder, ignore_errors=True)
            raise
    if signals.number:
        raise Interrupted(
            folder,
            "stopped; the head is made and saved",
            hint=f"go on with: convoscope train --resume {shell_word(folder)}"
            if wish.unfreeze and not settings.in_memory
            else f"test it with: convoscope test {shell_word(folder)}",
            code="interrupted",
            signal=signals.number,
        )
    if wish.unfreeze:
        return start.go_on(folder, reporter=reporter, prepared=prepared)
    run = Run.open(folder)
    run.cache_features(prepared, lesson.features, exact=lesson.exact)
    return run


@dataclass(frozen=True)
class TransferOptions:
    """What was asked for, resolved."""

    head: HeadKind
    augmented_views: int | None
    """None: as suits the images."""
    coverage: float
    unfreeze: int
    """Blocks of the backbone that learn; -1: all."""

    @classmethod
    def of(
        cls,
        head: HeadKind | None,
        augmented_views: int | None,
        coverage: float | None,
        unfreeze: int,
        before: Relearned | None,
    ) -> TransferOptions:
        """What is not said is as in the run that is added to, or the usual."""
        kind = head if head is not None else before.head if before else "linear"
        if kind not in _KINDS:
            raise UsageError("head", f"expected linear, mean or mlp; received {printable(kind)!r}", code="relearn-head")
        looks = augmented_views if augmented_views is not None or before is None else before.augmented_views
        if looks is not None and (not _whole(looks) or not 1 <= looks <= _MOST_VIEWS):
            raise UsageError(
                "augmented_views",
                f"expected a whole number from 1 to {_MOST_VIEWS}; received {looks!r}",
                code="relearn-augmented-views",
            )
        share = coverage if coverage is not None else (before.coverage if before else 0.95)
        if isinstance(share, bool) or not isinstance(share, numbers.Real) or not 0 < share <= 1:
            raise UsageError(
                "coverage",
                f"expected a share above 0, at most 1; received {share}",
                hint="0.95 lets one known image in twenty be called unknown",
                code="relearn-coverage",
            )
        return cls(kind, None if looks is None else int(looks), float(share), unfreeze)

    @property
    def words(self) -> str:
        """What becomes of the backbone."""
        if self.unfreeze == -1:
            return "which learns too once the head has"
        blocks = "block learns" if self.unfreeze == 1 else f"{self.unfreeze} blocks learn"
        return f"whose last {blocks} too once the head has" if self.unfreeze else "frozen"

    @property
    def hidden(self) -> tuple[int, ...]:
        """Units of the head's hidden layers."""
        return (HIDDEN,) if self.head == "mlp" else ()


def _check_settings(named: set[str], unfreeze: int, add: bool, feature_layer: str | None) -> None:
    """Refuse what would have no effect, or contradicts."""
    idle = sorted(named - set(_FROZEN))
    if idle and not unfreeze:
        raise UsageError(
            idle[0],
            "has no effect: the backbone is frozen, and its head is not trained in steps",
            hint=f"let the backbone learn too: --unfreeze all; else the recipe's {', '.join(_FROZEN[:-1])} and {_FROZEN[-1]} are free",
            code="relearn-idle",
        )
    if unfreeze and "trained_blocks" in named:
        raise UsageError(
            "trained_blocks", "is what --unfreeze says; both were given", hint="leave one out", code="option-twice"
        )
    if add and feature_layer is not None:
        raise UsageError(
            "feature_layer",
            "with --add the backbone ends where it does",
            hint="leave --feature-layer or --add out",
            code="relearn-feature-layer",
        )


def _check_blocks(backbone: Backbone, wish: TransferOptions) -> None:
    """Refuse to let more blocks learn than there are."""
    if wish.unfreeze <= 0:
        return
    heads = len(backbone.layers(wish.hidden, 2))
    count = len(models.blocks(backbone.network(wish.hidden, 2))) - heads
    if wish.unfreeze > count:
        raise UsageError(
            "unfreeze",
            f"the backbone has {count} block{'' if count == 1 else 's'} that can learn; received {wish.unfreeze}",
            hint="all of them: --unfreeze all",
            code="relearn-unfreeze",
        )


def _own(run: Run) -> Dataset:
    """The images of the run that is added to."""
    try:
        return run.dataset()
    except ModelFileError as error:
        if error.code == "classes-changed":
            error.hint = "put the new class into a folder of its own, and add that"
        raise


def _compare(run: Run, prepared: Prepared, source: str, reporter: Reporter) -> None:
    """Say how the old run's images differ from what they were, and refuse an addition that adds nothing."""
    new, missing, altered = data.changed(prepared, run.folder / "split.csv")
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


def _blocks(unfreeze: object) -> int:
    """How many of the backbone's blocks learn; -1: all."""
    if isinstance(unfreeze, str) and unfreeze == "all":
        return -1
    if not isinstance(unfreeze, numbers.Integral) or not _whole(unfreeze) or unfreeze < 0:
        raise UsageError(
            "unfreeze",
            f"expected all, or how many of the backbone's last blocks learn; received {printable(unfreeze)!r}",
            code="relearn-unfreeze",
        )
    return int(unfreeze)


def _whole(value: object) -> bool:
    """Whether it is a whole number, NumPy's included."""
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)


def _before(backbone: Backbone, add: bool) -> Relearned | None:
    """How the run that is added to made its head."""
    if not add:
        return None
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


@dataclass(frozen=True)
class HeadFit:
    """A head and what it was made from."""

    head: Head
    features: NDArray[np.float32]
    exact: NDArray[np.bool_]
    """Which of these are as the run's network gives them."""
    detector: OodDetector | None
    row: EpochMetrics
    way: ComputeMode
    augmented_views: int
    notes: tuple[str, ...]


def _learn(
    source: Features,
    prepared: Prepared,
    whitening: Whitening | None,
    wish: TransferOptions,
    augmented_views: int,
    asked: Recipe,
    seed: int,
    reporter: Reporter,
) -> HeadFit:
    dataset = prepared.dataset
    classes = len(dataset.classes)
    train, validation = dataset.indices("train"), dataset.indices("validation")
    if not len(train):
        raise DataError(dataset.source, "no images to train on", code="no-training-images")
    counts = np.bincount(dataset.targets[train], minlength=classes)
    if not counts.all():
        name = printable(dataset.classes[int(counts.argmin())])
        raise DataError(dataset.source, f"class {name!r} has no training image", code="class-empty")

    def progress(done: int, total: int) -> None:
        reporter.progress("features", done, total)

    features = np.empty((len(dataset), source.width), np.float32)
    for rows, exact in ((train, False), (np.flatnonzero(dataset.splits != data.SPLITS.index("train")), True)):
        if len(rows):
            features[rows] = source.of(prepared, rows, exact=exact, progress=progress)
    _check_features(source.backbone, prepared, features, train)
    asked_for = source.found + source.computed
    kept = f"; {source.found:,} of {asked_for:,} were kept from before" if source.found else ""
    reporter.say(f"{source.way.reason}{kept}")
    targets = torch.from_numpy(np.ascontiguousarray(dataset.targets, np.int64))
    every = torch.from_numpy(features)
    looks, labels = [every[train]], [targets[train]]
    notes: tuple[str, ...] = ()
    if augmented_views > 1:
        recipe = view_recipe(prepared)
        how = "turned, slanted, zoomed and shifted a little" if small(prepared) else "cut and coloured differently"
        notes = (f"each training image is looked at {augmented_views} times, {how}",)
        reporter.say(notes[0])
        for view in range(1, augmented_views):
            more = source.of(prepared, train, views=recipe, view=view, progress=progress)
            looks.append(torch.from_numpy(more))
            labels.append(targets[train])
    weights = None
    if asked.class_weights == "balanced":
        weights = torch.tensor(balanced_weights(dataset.targets[train], classes))
    examples = Examples.of(
        torch.cat(looks), torch.cat(labels), every[validation], targets[validation], weights, whitening
    )
    objective = Objective(task="classification", outputs=classes)
    mean = nearest_mean(examples, classes)
    if len(validation):
        right = objective.right(mean.scores(every[validation]), targets[validation])
        reporter.say(f"nearest class mean: {100 * right / len(validation):.1f} % of the validation images right")
    else:
        reporter.warn("there is no validation part: the head's strength is not chosen, and no image will be unknown")
    head = mean
    if wish.head == "linear":
        head = linear(examples, classes)
    elif wish.head == "mlp":
        head = mlp(examples, classes, seed)
    detector = fit_ood_detector(features, dataset.targets.astype(np.int64), train, validation, wish.coverage)
    if detector is None and len(validation):
        reporter.warn(
            f"{len(validation)} validation images are too few for an out-of-distribution detector: no image will be unknown"
        )
    elif len(validation) and wish.coverage * (len(validation) + 1) > len(validation):
        most = len(validation) / (len(validation) + 1)
        reporter.warn(
            f"by {len(validation)} validation images no threshold accepts more than {100 * most:.1f} % of new images, in the mean"
        )

    def figures(part: NDArray[np.int64]) -> tuple[float | None, float | None]:
        if not len(part):
            return None, None
        scores = head.scores(every[part])
        right = objective.right(scores, targets[part]) / len(part)
        return float(objective.loss(scores, targets[part])), right

    train_loss, train_accuracy = figures(train)
    val_loss, val_accuracy = figures(validation)
    assert train_loss is not None
    assert train_accuracy is not None
    row = EpochMetrics(
        epoch=1,
        train_loss=train_loss,
        train_accuracy=train_accuracy,
        val_loss=val_loss,
        val_accuracy=val_accuracy,
        seconds=0.0,
        learning_rate=0.0,
        size=prepared.form.height,
    )
    as_given = np.ones(len(dataset), bool)
    as_given[train] = source.way.precision == "float32"
    return HeadFit(head, features, as_given, detector, row, source.way, augmented_views, notes)


def _check_features(
    backbone: Backbone, prepared: Prepared, features: NDArray[np.float32], train: NDArray[np.int64]
) -> None:
    """Refuse a backbone that gives different images the same features."""
    several = len({prepared.digests[row] for row in train.tolist()}) > 1
    if several and not np.ptp(features[train], axis=0).any():
        raise ModelFileError(
            backbone.name,
            "the backbone gives all images the same features, so nothing can be learned from them",
            hint="its weights are damaged, or were never trained",
            code="backbone-blind",
        )


def _settings(
    backbone: Backbone,
    prepared: Prepared,
    own: Dataset,
    added: tuple[tuple[str, str], ...],
    notes: Sequence[str],
    wish: TransferOptions,
    lesson: HeadFit,
    asked: Recipe,
    named: set[str],
    seed: int,
    device: str,
) -> Settings:
    dataset = prepared.dataset
    layers = backbone.layers(wish.hidden, len(dataset.classes))
    recipe = asked
    if wish.unfreeze:
        recipe = _unfrozen(prepared, wish, len(layers), asked, named)
    else:
        recipe = asked.model_copy(update={"epochs": 1, "trained_blocks": len(layers), "freeze_norm": True})
    parameters = sum(value.numel() for name, value in backbone.tensors.items() if not _is_buffer(name))
    parameters += sum(value.numel() for pair in lesson.head.layers for value in pair)
    detector = lesson.detector
    with settling(dataset.source):
        return Settings(
            source=start.recorded(own),
            layout=own.layout,
            added=added,
            task="classification",
            classes=dataset.classes,
            model=backbone.model(wish.hidden),
            outputs=len(dataset.classes),
            parameters=parameters,
            input=backbone.form,
            mean=backbone.scaling.mean,
            std=backbone.scaling.std,
            recipe=recipe,
            seed=seed,
            engine=Engine(
                device=device,
                precision=lesson.way.precision,
                memory_format="channels_last",
                threads=all_threads(),
                reason=lesson.way.reason,
            ).model_dump(),
            images={split: len(dataset.indices(split)) for split in data.SPLITS},
            notes=(*notes, *prepared.dataset.notes[len(dataset.notes) :], *lesson.notes),
            versions=start.versions(),
            started=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            relearned=Relearned(
                backbone=backbone.name,
                digest=backbone.digest,
                head=wish.head,
                layers=tuple(layers),
                augmented_views=lesson.augmented_views,
                l2=lesson.head.l2,
                coverage=wish.coverage,
                threshold=None if detector is None else detector.threshold,
                neighbours=1 if detector is None else detector.neighbours,
            ),
        )


def _is_buffer(name: str) -> bool:
    return name.endswith((".running_mean", ".running_var", ".num_batches_tracked"))


def _unfrozen(prepared: Prepared, wish: TransferOptions, layers: int, asked: Recipe, named: set[str]) -> Recipe:
    """The recipe by which the backbone learns too. Its first epoch is the head's."""
    images = len(prepared.dataset.indices("train"))
    epochs = asked.epochs if "epochs" in named else max(4, min(20, round(_SHOWN / max(images, 1))))
    chosen: dict[str, Any] = {
        "batch_size": 32 if images >= 320 else 16,
        "learning_rate": 2e-4,
        "beta2": 0.99,
        "weight_decay": 0.05,
        "warmup": min(0.5, 1.5 / (epochs + 1)),
        "ema": 0.3,
        "trained_blocks": 0 if wish.unfreeze == -1 else layers + wish.unfreeze,
        "block_decay": 0.8,
        "freeze_norm": True,
    }
    looks = view_recipe(prepared).model_dump()
    if not small(prepared):  # gentler than for views, which change nothing but the head
        looks |= {"crop": 0.85, "colour": 0.1}
    chosen |= {name: looks[name] for name in ("flip", "rotate", "shear", "zoom", "shift", "crop", "colour")}
    return Recipe.read(chosen | {name: getattr(asked, name) for name in named} | {"epochs": epochs + 1})


def _with_engine(
    settings: Settings,
    backbone: Backbone,
    prepared: Prepared,
    lesson: HeadFit,
    wish: TransferOptions,
    reporter: Reporter,
) -> Settings:
    """Where the backbone learns too, how it is trained fastest: a probe of the real network on a real batch."""
    if not wish.unfreeze:
        return settings
    assert settings.relearned is not None
    recipe = settings.recipe
    network = backbone.network(wish.hidden, settings.outputs)
    network.load_state_dict(lesson.head.tensors(settings.relearned.layers), strict=False)
    freeze(network, recipe)
    objective = Objective(task="classification", outputs=settings.outputs, label_smoothing=recipe.label_smoothing)
    rows = prepared.dataset.indices("train")
    part = Split(pixels=prepared.pixels, rows=rows, targets=objective.targets(prepared.dataset.targets[rows]))
    device = pick_device(recipe.device)
    count = min(recipe.batch_size, len(part))
    memory = StepMemory.of(network, backbone.input, count, recipe, device)
    memory.check(reporter)
    with memory_for(memory.error, memory.free):
        pixels, targets = load_batch(part, np.arange(count), device)
        images = backbone.scaling(pixels.permute(0, 3, 1, 2).float())
        engine = choose_engine(network.to(device), images, lambda scores: objective.loss(scores, targets), recipe)
    reporter.say(f"the backbone learns too, computing on {engine.device} in {engine.reason}")
    resolved = recipe.model_copy(update=engine.model_dump(exclude={"reason"}))
    return settings.model_copy(update={"engine": engine.model_dump(), "recipe": resolved})


def _write(
    folder: Path,
    prepared: Prepared,
    settings: Settings,
    backbone: Backbone,
    lesson: HeadFit,
    seconds: float,
    reporter: Reporter,
) -> None:
    """The run's folder with the head's epoch: all that `Run`, `test` and `resume` need."""
    assert settings.relearned is not None
    content = settings.model_dump(mode="json", exclude_none=True)
    weights = backbone.tensors | lesson.head.tensors(settings.relearned.layers)
    start.check_room(folder, weights)
    data.write_split(folder / "split.csv", prepared)
    start.write_skipped(folder, prepared)
    start.write_toml(folder, content)
    row = lesson.row
    row["seconds"] = seconds
    with Journal(folder, [], 0) as journal:
        journal.event("start", epoch=1, step=0)
        journal.epoch(row)
        reporter.head(row)
        if settings.recipe.epochs == 1:
            journal.event("end", epoch=1, best_epoch=1)
        progress = Progress(epoch=1, best_value=value_of_row(row), history=[row], events_bytes=journal.bytes_written)
    tensors = {f"model.{name}": value for name, value in weights.items()}
    known = {} if lesson.detector is None else lesson.detector.tensors()
    checkpoint.save(folder / "best.safetensors", tensors | known, {"settings": content, "epoch": row})
    if settings.recipe.ema:
        tensors |= {f"average.{name}": value.clone() for name, value in weights.items()}
    checkpoint.save(folder / "last.safetensors", tensors, {"settings": content, "progress": asdict(progress)})
    reporter.end()


def finish(job: Job, prepared: Prepared, signals: StopSignals, reporter: Reporter) -> None:
    """After the backbone has learned too: its features are others now, so the threshold is set anew, in the best
    checkpoint.

    Does nothing if that is done already, so that a start after a kill may call it again.
    """
    best = job.folder / "best.safetensors"
    tensors, state = checkpoint.load(best)
    settings = read_settings(state, best)
    relearned = settings.relearned
    if relearned is None:
        return
    if any(name.startswith("ood.") for name in tensors):
        start.write_toml(job.folder, job.settings | {"relearned": state["settings"]["relearned"]})
        return

    def progress(done: int, total: int) -> None:
        if signals.number:
            raise stopped(job, signals.number)
        reporter.progress("features", done, total)

    dataset = prepared.dataset
    train, validation = dataset.indices("train"), dataset.indices("validation")
    backbone = open_backbone(Run.open(best), say=reporter.say)
    source = Features(backbone, device=pick_device(settings.recipe.device), precision=settings.recipe.precision)
    features = np.zeros((len(dataset), source.width), np.float32)
    for rows in (train, validation):
        features[rows] = source.of(prepared, rows, exact=rows is validation, progress=progress)
    reporter.end()
    detector = fit_ood_detector(features, dataset.targets.astype(np.int64), train, validation, relearned.coverage)
    if detector is None:
        return
    update = {"threshold": detector.threshold, "neighbours": detector.neighbours}
    settings = settings.model_copy(update={"relearned": relearned.model_copy(update=update)})
    content = settings.model_dump(mode="json", exclude_none=True)
    checkpoint.save(best, tensors | detector.tensors(), state | {"settings": content})
    start.write_toml(job.folder, job.settings | {"relearned": content["relearned"]})
