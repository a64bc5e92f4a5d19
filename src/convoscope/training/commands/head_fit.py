"""A new head on a backbone's features."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ... import data
from ...data import Dataset, Prepared
from ...errors import DataError, ModelFileError, printable
from ...render import percent
from ..backbone.backbone import Backbone
from ..backbone.feature_layer import choose_feature_layer
from ..backbone.features import ComputeMode, Features
from ..backbone.source_images import own_images, whitening_of
from ..core.objective import Objective, balanced_weights
from ..core.reporter import EpochMetrics, Reporter
from ..core.temperature import fit_temperature
from ..fit.defaults import small, view_recipe
from ..heads.head import Examples, Head, linear, mlp, nearest_mean
from ..heads.ood import OodDetector, enough_for, fit_ood_detector
from ..heads.whitening import Whitening
from .transfer_options import TransferOptions

_VIEWS = 8
"""Augmented views of each image where images are small and few. More bring hardly more."""
_FEW = 2_000
"""Up to this many training images are few."""


@dataclass(frozen=True)
class FeaturePlan:
    """Which features a head learns from.

    Attributes:
        source: gives the features; its backbone ends where it shall.
        whitening: what of the features counts less, if that is known.
        augmented_views: how many versions of each training image the head learns from.
        notes: what was found, in plain sentences.
    """

    source: Features
    whitening: Whitening | None
    augmented_views: int
    notes: tuple[str, ...]


@dataclass(frozen=True)
class HeadFit:
    """A head and what it was made from.

    Attributes:
        features: of all images, `(N, D)`.
        exact: which of these are as the run's network gives them, `(N,)`.
        detector: finds images of none of the classes; None: there were too few images to fit it.
        row: the head's figures, those of the run's first epoch.
        temperature: of its scores; None: there were too few validation images to fit it.
        mode: how the training images' features were computed.
    """

    head: Head
    features: NDArray[np.float32]
    exact: NDArray[np.bool_]
    detector: OodDetector | None
    row: EpochMetrics
    temperature: float | None
    mode: ComputeMode
    notes: tuple[str, ...]


def choose_features(backbone: Backbone, prepared: Prepared, wish: TransferOptions, reporter: Reporter) -> FeaturePlan:
    """Decide where the backbone ends, how often the images are augmented, and what of the features counts less."""
    few = small(prepared) and len(prepared.dataset.indices("train")) <= _FEW
    augmented_views = wish.augmented_views or (_VIEWS if few else 1)
    own, remark = own_images(backbone)
    notes: tuple[str, ...] = (remark,) if remark else ()
    for note in notes:
        reporter.say(note)
    if wish.feature_layer is None and not wish.add and not wish.unfreeze:
        source, found = choose_feature_layer(
            backbone,
            prepared,
            own=own,
            augmented_views=augmented_views,
            device=wish.device,
            precision=wish.recipe.precision,
            seed=wish.seed,
            reporter=reporter,
        )
        for note in found:
            reporter.say(note)
        notes += found
    else:
        source = Features(backbone, device=wish.device, precision=wish.recipe.precision)
    return FeaturePlan(source, whitening_of(source.backbone, own, wish.device), augmented_views, notes)


def fit_head(plan: FeaturePlan, prepared: Prepared, wish: TransferOptions, reporter: Reporter) -> HeadFit:
    """Compute the features, and make a head of them.

    Raises:
        DataError: a class has no training image (`class-empty`), or there is none at all (`no-training-images`).
        ModelFileError: the backbone gives nothing to learn from (`backbone-blind`, `backbone-not-finite`).
    """
    dataset = prepared.dataset
    train, validation = dataset.indices("train"), dataset.indices("validation")
    _check_classes(dataset, train)

    def progress(done: int, total: int) -> None:
        reporter.progress("features", done, total)

    features = _features(plan.source, prepared, train, progress)
    _check_features(plan.source.backbone, prepared, features, train)
    found, computed = plan.source.found, plan.source.computed
    cached = f"; {found:,} of {found + computed:,} were cached" if found else ""
    reporter.say(f"{plan.source.mode.reason}{cached}")
    every = torch.from_numpy(features)
    targets = torch.from_numpy(np.ascontiguousarray(dataset.targets, np.int64))
    notes: tuple[str, ...] = ()
    if plan.augmented_views > 1:
        how = "rotated, sheared, zoomed and shifted a little" if small(prepared) else "cropped and recoloured"
        notes = (f"{plan.augmented_views} augmented views of each training image, {how}",)
        reporter.say(notes[0])
    views = [every[train], *_augmented(plan, prepared, train, progress)]
    weights = None
    if wish.recipe.class_weights == "balanced":
        weights = torch.tensor(balanced_weights(dataset.targets[train], len(dataset.classes)))
    examples = Examples.of(
        torch.cat(views),
        targets[train].repeat(len(views)),
        every[validation],
        targets[validation],
        weights,
        plan.whitening,
    )
    objective = Objective(task="classification", outputs=len(dataset.classes))
    head = _make_head(examples, objective, wish, reporter, every[validation])
    detector = fit_ood_detector(features, dataset.targets.astype(np.int64), train, validation, wish.coverage)
    if len(validation):
        notes += _notes_on_few(len(validation), wish, detector, reporter)
    row = _first_row(head, objective, every, targets, (train, validation), prepared.form.height)
    temperature = fit_temperature("classification", head.scores(every[validation]), targets[validation])
    exact = np.ones(len(dataset), bool)
    exact[train] = plan.source.mode.precision == "float32"
    return HeadFit(head, features, exact, detector, row, temperature, plan.source.mode, notes)


def _check_classes(dataset: Dataset, train: NDArray[np.int64]) -> None:
    """Refuse classes that have no training image."""
    if not len(train):
        raise DataError(dataset.source, "no images to train on", code="no-training-images")
    counts = np.bincount(dataset.targets[train], minlength=len(dataset.classes))
    if not counts.all():
        name = printable(dataset.classes[int(counts.argmin())])
        raise DataError(dataset.source, f"class {name!r} has no training image", code="class-empty")


def _features(
    source: Features, prepared: Prepared, train: NDArray[np.int64], progress: Callable[[int, int], None]
) -> NDArray[np.float32]:
    """The features of all images as they are: the training images' as is quickest, the others' in float32."""
    dataset = prepared.dataset
    features = np.empty((len(dataset), source.width), np.float32)
    for rows, exact in ((train, False), (np.flatnonzero(dataset.splits != data.SPLITS.index("train")), True)):
        if len(rows):
            features[rows] = source.of(prepared, rows, exact=exact, progress=progress)
    return features


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


def _augmented(
    plan: FeaturePlan, prepared: Prepared, train: NDArray[np.int64], progress: Callable[[int, int], None]
) -> list[Tensor]:
    """The features of the further views of the training images."""
    recipe = view_recipe(prepared) if plan.augmented_views > 1 else None
    return [
        torch.from_numpy(plan.source.of(prepared, train, views=recipe, view=view, progress=progress))
        for view in range(1, plan.augmented_views)
    ]


def _make_head(
    examples: Examples, objective: Objective, wish: TransferOptions, reporter: Reporter, validation: Tensor
) -> Head:
    """The head that was asked for. The nearest class mean is always made: it says what the features are worth."""
    mean = nearest_mean(examples, objective.outputs)
    if len(validation):
        right = objective.right(mean.scores(validation), examples.validation_targets)
        reporter.say(f"nearest class mean: {percent(right / len(validation))} of the validation images right")
    else:
        reporter.warn(
            "there is no validation part: the head's L2 penalty is not chosen, and every image counts as known"
        )
    if wish.head == "linear":
        return linear(examples, objective.outputs)
    return mlp(examples, objective.outputs, wish.seed) if wish.head == "mlp" else mean


def _notes_on_few(
    validation: int, wish: TransferOptions, detector: OodDetector | None, reporter: Reporter
) -> tuple[str, ...]:
    """Say where there are too few validation images for the detector, or for the coverage asked for, and warn of it if
    the user named one.
    """
    enough = enough_for(wish.coverage)
    if detector is None:
        note = (
            f"{validation} validation images are too few for an out-of-distribution detector: "
            "every image counts as known"
        )
    elif enough is None or validation < enough:
        most = 100 * validation / (validation + 1)
        need = "" if enough is None else f"; {100 * wish.coverage:.4g} % takes {enough:,} of them"
        note = (
            f"with {validation} validation images {most:.4g} % of new images of the classes are known on average" + need
        )
    else:
        return ()
    (reporter.warn if detector is None or "coverage" in wish.given else reporter.say)(note)
    return (note,)


def _first_row(
    head: Head,
    objective: Objective,
    features: Tensor,
    targets: Tensor,
    parts: tuple[NDArray[np.int64], NDArray[np.int64]],
    size: int,
) -> EpochMetrics:
    """The head's figures on the training and the validation part, as those of an epoch."""
    figures: list[tuple[float | None, float | None]] = []
    for rows in parts:
        if not len(rows):
            figures.append((None, None))
            continue
        scores = head.scores(features[rows])
        right = objective.right(scores, targets[rows]) / len(rows)
        figures.append((float(objective.loss(scores, targets[rows])), right))
    (train_loss, train_accuracy), (val_loss, val_accuracy) = figures
    assert train_loss is not None
    assert train_accuracy is not None
    return EpochMetrics(
        epoch=1,
        train_loss=train_loss,
        train_accuracy=train_accuracy,
        val_loss=val_loss,
        val_accuracy=val_accuracy,
        seconds=0.0,
        learning_rate=0.0,
        size=size,
    )
