"""Which model and which recipe suit a dataset, where the user does not choose.

There are three kinds of sets, by the size and the number of the images; docs/training.md has each recipe's figures.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from ... import models
from ...data import Dataset, InputFormat, Prepared, Task
from ...errors import UsageError
from ..core.recipe import Recipe

TINY_SIDE = 8
"""Images up to this side are patterns of single pixels."""
SMALL_SIDE = 40
"""Images up to this side are digits, drawings, icons; larger ones are photographs."""
MANY = 10_000
"""From this many training images on, a few epochs are enough."""
SHOWN = 80_000
"""How many images, repeats included, a training on a small set of photographs shows."""
SMALL_SHOWN = 40_000
"""How many a training on a small set of small images shows."""
ALIKE = 0.6
"""From this similarity of the classes to their mirror images on, training mirrors images."""


def choose_model(dataset: Dataset, form: InputFormat) -> str:
    """A preset for these images."""
    side = max(form.height, form.width)
    if side <= TINY_SIDE:
        return "tiny"
    return "vgg-small" if side <= SMALL_SIDE else "small"


def choose_recipe(prepared: Prepared, network: nn.Module, asked: Recipe, named: set[str]) -> tuple[Recipe, list[str]]:
    """What the user named, and for all other fields what suits the images, their number and the model.

    Args:
        prepared: the images.
        network: the model, built for them.
        asked: the user's values.
        named: which fields of `asked` the user named.

    Returns:
        The recipe, and what was chosen and why, in plain sentences.
    """
    form, dataset = prepared.form, prepared.dataset
    side = max(form.height, form.width)
    images = len(dataset.indices("train"))
    notes: list[str] = []
    if side <= TINY_SIDE:
        chosen = _patterns(images)
    elif side <= SMALL_SIDE:
        chosen = _small_images(images, network)
    else:
        chosen = _photographs(images, form, network, len(dataset.classes), dataset.task)
    if dataset.task == "regression" and "flip" not in named:
        chosen["flip"] = False
        notes.append(
            "images are not mirrored in training: numbers may depend on left and right; --set flip=true if not"
        )
    elif side > TINY_SIDE and "flip" not in named:
        likeness = mirror_likeness(prepared)
        alike = likeness >= ALIKE
        chosen["flip"] = alike and _convolves(network)
        kinds = "labels' images" if dataset.task == "multi-label" else "classes"
        looks = f"{'the' if alike else 'not all'} {kinds} look like their mirror images (r = {likeness:.2f})"
        if chosen["flip"]:
            notes.append(f"images are mirrored in training: {looks}")
        elif alike:
            notes.append(
                f"images are not mirrored in training: {looks}, but a network without convolution gains nothing by it"
            )
        else:
            notes.append(f"images are not mirrored in training: {looks}")
            if side <= SMALL_SIDE:
                chosen.setdefault("shift", 0.07)
    recipe = Recipe.read(chosen | {name: getattr(asked, name) for name in named})
    epochs = "1 epoch" if recipe.epochs == 1 else f"{recipe.epochs} epochs"
    notes.append(
        f"recipe: {epochs}, batches of {recipe.batch_size}, {recipe.optimizer}; --set key=value changes any of it"
    )
    return recipe, notes


def _patterns(images: int) -> dict[str, Any]:
    """A few dozen images of 5x5 pixels: many small steps, no tricks."""
    return {
        "epochs": max(20, min(200, 6000 // max(images, 1))),
        "batch_size": 16,
        "optimizer": "adam",
        "learning_rate": 0.03,
        "weight_decay": 0.0,
        "schedule": "linear",
        "warmup": 0.0,
    }


def _small_images(images: int, network: nn.Module) -> dict[str, Any]:
    """Digits, clothes, drawings of about 28x28 pixels."""
    if images >= MANY:
        chosen: dict[str, Any] = {
            "epochs": 10,
            "batch_size": 64,
            "learning_rate": 2e-3,
            "weight_decay": 0.05,
            "schedule": "linear",
            "warmup": 0.1,
            "ema": 0.3,
        }
        if _convolves(network):
            chosen |= {"batch_size": 128, "learning_rate": 6e-3, "label_smoothing": 0.1, "erase": 0.3}
        return chosen
    chosen = {
        "epochs": max(30, min(150, SMALL_SHOWN // max(images, 1))),
        "batch_size": 16 if images < 500 else 32,
        "learning_rate": 5e-3,
        "beta2": 0.99,
        "weight_decay": 0.01,
        "schedule": "linear",
        "warmup": 0.15,
        "label_smoothing": 0.05,
        "rotate": 15.0,
        "shear": 10.0,
        "zoom": 0.15,
        "shift": 0.07,
    }
    if _normalises(network):
        chosen |= {"optimizer": "muon", "learning_rate": 3e-3, "weight_decay": 0.1, "label_smoothing": 0.1}
    return chosen


def _photographs(images: int, form: InputFormat, network: nn.Module, classes: int, task: Task) -> dict[str, Any]:
    """Photographs: strong augmentation, and small images first where the model takes any size."""
    chosen: dict[str, Any] = {
        "epochs": max(12, min(80, round(SHOWN / max(images, 1)))),
        "batch_size": 32 if images < MANY else 64,
        "learning_rate": 3e-3 if _normalises(network) else 1e-3,
        "beta2": 0.99,
        "weight_decay": 0.1,
        "schedule": "linear",
        "warmup": 0.15,
        "label_smoothing": 0.1,
        "crop": 0.35,
        "rotate": 15.0,
        "colour": 0.4,
        "erase": 0.4,
        "mixup": 0.5 if images < MANY and task != "regression" else 0.0,
    }
    if _normalises(network):
        chosen["optimizer"] = "muon"
    if _takes_any_size(network, form, classes):
        chosen |= {"start_size": 4 / 7, "end_size": 6 / 7}
    return chosen


def small(prepared: Prepared) -> bool:
    """Whether these are digits, drawings, icons and not photographs."""
    return max(prepared.form.height, prepared.form.width) <= SMALL_SIDE


def view_recipe(prepared: Prepared) -> Recipe:
    """How the augmented views of an image differ from it, where a head learns from several."""
    flip = mirror_likeness(prepared) >= ALIKE
    if small(prepared):
        return Recipe.read({"flip": flip, "rotate": 10.0, "shear": 10.0, "zoom": 0.15, "shift": 0.05})
    return Recipe.read({"flip": flip, "crop": 0.6, "colour": 0.2, "rotate": 5.0})


def mirror_likeness(prepared: Prepared, *, at_most: int = 500) -> float:
    """How much each class's mean image resembles its own mirror image: the mean correlation, -1..1.

    Taken from each class's difference to the mean of all classes, over up to `at_most` training images of a class.
    Clothes and most things are alike, digits and letters are not. Of several labels the images of each are a class
    here, and so are those without any.
    """
    dataset = prepared.dataset
    rows = dataset.indices("train")
    groups: list[NDArray[np.int64]] = [rows]
    if dataset.task == "classification":
        targets = dataset.targets[rows]
        groups = [rows[targets == label] for label in np.unique(targets)]
    elif dataset.task == "multi-label":
        given = dataset.targets[rows] > 0
        groups = [rows[chosen] for chosen in (*given.T, ~given.any(axis=1)) if chosen.any()]
    means = [np.take(prepared.pixels, group[:at_most], axis=0).mean(0, dtype=np.float64) for group in groups]
    common = np.mean(means, 0) if len(means) > 1 else 0.0
    likenesses = []
    for mean in means:
        own, mirrored = (mean - common).ravel(), (mean - common)[:, ::-1].ravel()
        scale = own.std() * mirrored.std()
        likenesses.append(((own - own.mean()) * (mirrored - mirrored.mean())).mean() / scale if scale > 1e-9 else 1.0)
    return float(np.mean(likenesses))


def _normalises(network: nn.Module) -> bool:
    return any(
        isinstance(module, nn.modules.batchnorm._BatchNorm | nn.LayerNorm | nn.GroupNorm)
        for module in network.modules()
    )


def _convolves(network: nn.Module) -> bool:
    return any(isinstance(module, nn.Conv2d) for module in network.modules())


def _takes_any_size(network: nn.Module, form: InputFormat, classes: int) -> bool:
    """Whether the network also works on images of about half the side."""
    small = (max(8, form.height // 2), max(8, form.width // 2), form.channels)
    try:
        models.check(network, small, classes)
    except UsageError:
        return False
    return True
