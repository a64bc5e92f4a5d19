"""The keyword options that the commands share. The commands say what each one means."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, Literal, TypedDict

from ...data import SourceKeywords
from ...models import ModuleMaker
from ..core.hooks import Augmentation, Loss, Metric


class ReadingKeywords(SourceKeywords, total=False):
    """How images are read, see `load` and `prepare`."""

    layout: str
    validation: float | None
    test: float | None
    strict: bool


class RecipeKeywords(TypedDict, total=False):
    """The fields of `Recipe`, which says what each one means. A test compares the two."""

    epochs: int
    batch_size: int
    optimizer: Literal["sgd", "adam", "adamw", "muon"]
    learning_rate: float
    muon_learning_rate: float
    momentum: float
    beta2: float
    weight_decay: float
    schedule: Literal["constant", "linear", "cosine"]
    warmup: float
    label_smoothing: float
    class_weights: Literal["none", "balanced"]
    sampling: Literal["all", "balanced"]
    flip: bool
    rotate: float
    shift: float
    shear: float
    zoom: float
    crop: float
    erase: float
    colour: float
    mixup: float
    cutmix: float
    randaugment: float
    start_size: float
    end_size: float
    trained_blocks: int
    block_decay: float
    freeze_norm: bool
    ema: float
    patience: int
    save_every: float
    device: str
    precision: Literal["auto", "float32", "bfloat16"]
    memory_format: Literal["auto", "contiguous", "channels_last"]
    threads: int


class HookKeywords(TypedDict, total=False):
    """Functions of the user's own, see `core/hooks.py`."""

    loss: Loss | None
    metrics: Mapping[str, Metric] | None
    augment: Augmentation | None
    head: ModuleMaker | None


class TrainKeywords(ReadingKeywords, RecipeKeywords, HookKeywords, total=False):
    """The further options of `train`."""


class TransferChoices(TypedDict, total=False):
    """What `relearn` alone is asked for."""

    head: Literal["linear", "mean", "mlp"] | None
    augmented_views: int | None
    feature_layer: str | None
    unfreeze: int | Literal["all"]
    coverage: float | None
    add: bool
    model: str | None
    source: str | os.PathLike[str] | None


class TransferKeywords(TransferChoices, ReadingKeywords, RecipeKeywords, total=False):
    """The further options of `relearn`."""


def take(options: Mapping[str, Any], kind: type) -> dict[str, Any]:
    """Those of the options that belong to such a dictionary."""
    return {name: value for name, value in options.items() if name in kind.__annotations__}


def take_recipe(options: Mapping[str, Any], *others: type) -> dict[str, Any]:
    """The options that belong to none of the others: the recipe's, and misspelled ones, which `Recipe.read` names."""
    return {name: value for name, value in options.items() if not any(name in kind.__annotations__ for kind in others)}
