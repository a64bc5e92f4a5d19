"""How to train: every setting with its meaning and unit. The same sentences are the command line's help."""

from __future__ import annotations

import reprlib
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ...errors import UsageError, printable
from ...suggestions import did_you_mean

_MOST_FAULTS = 20
"""How many faults one message names."""
MOST_THREADS = 1024


class Recipe(BaseModel):
    """One training's settings. Frozen; an unknown or impossible value is refused with the key's name.

    `Recipe()` holds neutral values; `choose_recipe` in `fit/defaults.py` fills in what suits a dataset and a model.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    epochs: int = Field(10, ge=1, le=100_000, description="how often every training image is shown")
    batch_size: int = Field(64, ge=1, le=1_000_000, description="images in one step")
    optimizer: Literal["sgd", "adam", "adamw", "muon"] = Field(
        "adamw",
        description="sgd (with Nesterov momentum), adam, adamw (weight decay apart from the gradient), "
        "or muon (orthogonalised momentum for convolutions, adamw for the rest)",
    )
    learning_rate: float = Field(2e-3, gt=0, le=100, description="the highest rate of the schedule")
    muon_learning_rate: float = Field(
        0.01,
        gt=0,
        le=100,
        description="with muon: the highest rate of the convolutions; learning_rate is that of the rest",
    )
    momentum: float = Field(0.9, ge=0, lt=1, description="sgd's momentum; adam's and adamw's beta1")
    beta2: float = Field(0.999, ge=0, lt=1, description="adam's and adamw's memory of squared gradients")
    weight_decay: float = Field(
        0.01, ge=0, le=10, description="how fast weights (not biases, not norms) shrink towards zero"
    )
    schedule: Literal["constant", "linear", "cosine"] = Field(
        "cosine", description="how the rate falls to zero after the warm-up"
    )
    warmup: float = Field(0.1, ge=0, lt=1, description="share of all steps in which the rate rises from zero")
    label_smoothing: float = Field(0.0, ge=0, lt=1, description="probability mass spread evenly over all classes")
    class_weights: Literal["none", "balanced"] = Field(
        "none", description="balanced: a mistake counts more in a rare class (total / classes / count)"
    )
    sampling: Literal["all", "balanced"] = Field("all", description="balanced: each class equally often in an epoch")
    flip: bool = Field(False, description="mirror left and right, every other image")
    rotate: float = Field(0.0, ge=0, le=180, description="rotate by up to this many degrees either way")
    shift: float = Field(0.0, ge=0, le=1, description="move by up to this share of the side either way")
    shear: float = Field(0.0, ge=0, le=60, description="shear by up to this many degrees either way")
    zoom: float = Field(0.0, ge=0, lt=1, description="enlarge or shrink by up to this share: 0.2 is factor 0.8 to 1.25")
    crop: float = Field(
        1.0, gt=0, le=1, description="cut out a random part of at least this share of the area; 1: the whole image"
    )
    erase: float = Field(0.0, ge=0, lt=1, description="grey out a square whose side is up to this share of the image's")
    colour: float = Field(0.0, ge=0, lt=1, description="change brightness, contrast and saturation by up to this share")
    mixup: float = Field(
        0.0,
        ge=0,
        le=1,
        description="share of batches in which every image is blended with another one, and their answers too",
    )
    cutmix: float = Field(
        0.0,
        ge=0,
        le=1,
        description="share of the batches without mixup in which a rectangle of every image comes from another one, "
        "and its share of the answer too",
    )
    randaugment: float = Field(
        0.0,
        ge=0,
        le=1,
        description="how strongly each image is changed by two operations drawn from 14 (RandAugment); 0: not at all",
    )
    start_size: float = Field(
        1.0, gt=0, le=1, description="train on images of this share of the network's input side at first"
    )
    end_size: float = Field(
        1.0,
        gt=0,
        le=1,
        description="train on images of this share of the input side in the last 30 % of the epochs, "
        "and in any case in the last one",
    )
    trained_blocks: int = Field(
        0,
        ge=0,
        le=100_000,
        description="only this many of the network's last blocks (convolution with norm, residual, dense layer) learn; "
        "0: all",
    )
    block_decay: float = Field(
        1.0, gt=0, le=1, description="each block's rates are this share of those of the block behind it"
    )
    freeze_norm: bool = Field(
        False, description="batch norm keeps its mean and standard deviation; its scale and shift learn"
    )
    ema: float = Field(0.0, ge=0, lt=1, description="average of the weights over about this share of an epoch; 0: none")
    patience: int = Field(
        0, ge=0, description="stop after this many epochs without a better validation value; 0: never"
    )
    save_every: float = Field(10.0, ge=0, le=86_400, description="seconds between two checkpoints; 0: after every step")
    device: str = Field("auto", description="auto, cpu, cuda, cuda:N or mps")
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "auto",
        description="auto: what a timed probe of the network finds fastest, if its gradients agree with float32's",
    )
    memory_format: Literal["auto", "contiguous", "channels_last"] = Field(
        "auto",
        description="order of the numbers in memory; auto: as the probe finds, or what suits a precision that is given",
    )
    threads: int = Field(
        0, ge=0, le=MOST_THREADS, description="of the processor; 0: as the probe finds, or all if a precision is given"
    )

    @classmethod
    def read(cls, values: dict[str, Any]) -> Recipe:
        """A recipe from plain values; text is converted where it can be, and words may be written in any case.

        Raises:
            UsageError: one error that names every wrong key (`recipe-invalid`).
        """
        try:
            return cls.model_validate(
                {key: value.lower() if isinstance(value, str) else value for key, value in values.items()}
            )
        except ValidationError as error:
            raise recipe_error(error) from None


class EngineSettings(BaseModel):
    """How a network is run, as a run records it. `Engine` does it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    device: Annotated[str, Field(pattern=r"^(cpu|cuda(:\d{1,3})?|mps)$")] = "cpu"
    precision: Literal["float32", "bfloat16"] = "float32"
    memory_format: Literal["contiguous", "channels_last"] = "contiguous"
    threads: int = Field(1, ge=1, le=MOST_THREADS)
    threads_fixed: bool = False
    """Whether the user named precision or threads, so that no busy processor changes their number."""
    reason: str = ""


def recipe_error(error: ValidationError) -> UsageError:
    """All faults of a configuration in one message, each with its key, what came and, for a typo, the nearest key."""
    faults, meanings, unknown = [], [], False
    found = error.errors(include_url=False)
    for fault in found[:_MOST_FAULTS]:
        key = printable(".".join(str(part) for part in fault["loc"]))[:80]
        if fault["type"] == "extra_forbidden":
            unknown = True
            meant = did_you_mean(key, Recipe.model_fields)
            faults.append(f"{key}: no such setting" + (f"; {meant}" if meant else ""))
        else:
            message = fault["msg"][0].lower() + fault["msg"][1:]
            faults.append(f"{key}: {message}; received {reprlib.repr(fault['input'])}")
            if key in Recipe.model_fields:
                meanings.append(f"{key}: {Recipe.model_fields[key].description}")
    if len(found) > _MOST_FAULTS:
        faults.append(f"and {len(found) - _MOST_FAULTS} more")
    hint = "settings: " + ", ".join(Recipe.model_fields) if unknown else "; ".join(meanings)
    return UsageError("recipe", "; ".join(faults), hint=hint, code="recipe-invalid")
