"""All that a training needs, decided and checked."""

from __future__ import annotations

import contextlib
import copy
import os
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from ... import models
from ...data import TARGET_NOUNS, Dataset, InputFormat, Prepared
from ...errors import DataError, UsageError, printable
from ...free_memory import memory_for
from ..core.augment import augment
from ..core.engine import Engine, pick_device
from ..core.engine_choice import choose_engine
from ..core.hooks import NO_HOOKS, Hooks
from ..core.normalisation import Normalisation
from ..core.objective import Objective, balanced_weights
from ..core.optimizer import freeze, has_batch_norm
from ..core.recipe import Recipe
from ..core.reporter import Reporter
from ..core.step_memory import StepMemory
from ..runs.settings import Settings
from .pace import Pace
from .split import Split, load_batch


@dataclass(frozen=True, kw_only=True)
class Job:
    """All that a training needs.

    Attributes:
        folder: the run's folder.
        settings: what was asked for and decided. They go into each checkpoint: enough to predict with it.
        network: what learns; its frozen blocks are marked.
        objective: the loss.
        train, validation: the images.
        memory: what a step takes.
        hooks: the user's own functions.
        pace: how long its parts take, once that is measured.
    """

    folder: Path
    settings: Settings
    network: nn.Module
    objective: Objective
    train: Split
    validation: Split
    memory: StepMemory
    hooks: Hooks = NO_HOOKS
    pace: Pace | None = None

    @classmethod
    def of(
        cls,
        settings: Settings,
        folder: Path,
        network: nn.Module,
        prepared: Prepared,
        memory: StepMemory,
        hooks: Hooks = NO_HOOKS,
    ) -> Job:
        """Put a run's settings, images and network together. Freezes the blocks that do not learn."""
        dataset, recipe = prepared.dataset, settings.recipe
        rows = {split: dataset.indices(split) for split in ("train", "validation")}
        weights = None
        if recipe.class_weights == "balanced":
            weights = balanced_weights(dataset.targets[rows["train"]], len(dataset.classes))
        objective = Objective(
            task=settings.task,
            outputs=settings.outputs,
            label_smoothing=recipe.label_smoothing,
            class_weights=weights,
            target_mean=settings.target_mean,
            target_std=settings.target_std,
            own_loss=hooks.loss,
        )
        train, validation = (
            Split(pixels=prepared.pixels, rows=part, targets=objective.targets(dataset.targets[part]))
            for part in rows.values()
        )
        models.pool_first(network)
        freeze(network, recipe)
        return cls(
            folder=folder,
            settings=settings,
            network=network,
            objective=objective,
            train=train,
            validation=validation,
            memory=memory,
            hooks=hooks,
        )

    @property
    def recipe(self) -> Recipe:
        return self.settings.recipe

    @property
    def seed(self) -> int:
        return self.settings.seed

    @cached_property
    def engine(self) -> Engine:
        return Engine.model_validate(self.settings.engine)

    @cached_property
    def normalisation(self) -> Normalisation:
        return Normalisation(mean=self.settings.mean, std=self.settings.std)

    @cached_property
    def steps_in_epoch(self) -> int:
        """Batches in an epoch. A last batch of one image is dropped where batch norm needs more than one."""
        full, rest = divmod(len(self.train), self.recipe.batch_size)
        return full + (1 if rest and not (rest == 1 and full and has_batch_norm(self.network)) else 0)

    def validation_arithmetic(self) -> contextlib.AbstractContextManager[Any]:
        """That of training; after `relearn` float32, in which the first epoch's figures, the head's, were measured."""
        return contextlib.nullcontext() if self.settings.relearned else self.engine.autocast()

    def on_fastest_engine(self) -> Job:
        """The same job on the engine that suits it best, chosen on the first batch that it will see."""
        with memory_for(self.memory.error, self.memory.free):
            device = pick_device(self.recipe.device)
            batch = np.arange(min(self.recipe.batch_size, len(self.train)))
            pixels, targets = load_batch(self.train, batch, device)
            images = augment(
                pixels, self.train.rows[batch], seed=self.seed, epoch=0, recipe=self.recipe, own=self.hooks.augment
            )
            engine = choose_engine(
                self.network.to(device),
                self.normalisation(images),
                lambda scores: self.objective.loss(scores, targets),
                self.recipe,
            )
        return replace(self, settings=self.settings.on_engine(engine))

    def say_limits(self, reporter: Reporter) -> None:
        """Say what about these images or this machine makes the training slower or worse."""
        if self.engine.threads > (os.cpu_count() or 1):
            reporter.warn(f"{self.engine.threads} threads on {os.cpu_count()} cores: training will be slow")
        if not len(self.validation):
            reporter.warn("there is no validation part: the epoch with the least training loss is kept as the best")
        if self.steps_in_epoch * self.recipe.batch_size < len(self.train):
            reporter.say(
                "one image, a different one each time, is left out of an epoch: "
                "batch norm cannot learn from a batch of one"
            )


def check_trainable(
    network: nn.Module, prepared: Prepared, recipe: Recipe, reporter: Reporter
) -> tuple[StepMemory, int]:
    """Refuse what cannot be trained, before anything is measured or written.

    Returns:
        What a step takes, and the network's number of outputs.

    Raises:
        DataError, UsageError, MachineError: see each one's `code`.
    """
    dataset, form = prepared.dataset, prepared.form
    count = len(dataset.indices("train"))
    if not count:
        raise DataError(
            dataset.source,
            "no images to train on",
            hint="inspect it with: convoscope data SOURCE",
            code="no-training-images",
        )
    shape = (form.height, form.width, form.channels)
    memory = StepMemory.of(network, shape, min(recipe.batch_size, count), recipe, pick_device(recipe.device))
    memory.check(reporter)
    outputs = models.check(network, shape, len(dataset.classes))
    if outputs != len(dataset.classes) and dataset.task != "classification":
        raise UsageError(
            "model",
            f"one output is for two classes; here {len(dataset.classes)} {TARGET_NOUNS[dataset.task]} are to be "
            "predicted",
            hint="let the model's text end with a bare `dense`",
            code="one-output-task",
        )
    _check_batch(network, form, min(recipe.batch_size, count))
    _check_balance(dataset, recipe)
    if recipe.batch_size > count:
        reporter.say(f"batch_size {recipe.batch_size} is more than the {count} training images: one batch is an epoch")
    return memory, outputs


def _check_batch(network: nn.Module, form: InputFormat, size: int) -> None:
    """Batch norm has no standard deviation to divide by where a whole batch gives one number a channel."""
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


def _check_balance(dataset: Dataset, recipe: Recipe) -> None:
    """Classes can only be balanced where each image has one."""
    if recipe.class_weights == "balanced" and dataset.task != "classification":
        raise UsageError(
            "class_weights",
            "balanced weights need one class for each image",
            hint="use class_weights=none",
            code="class-weights-task",
        )
