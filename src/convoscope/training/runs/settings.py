"""A run's settings: what was asked for and what was decided. Read from its files, they are checked first."""

from __future__ import annotations

import contextlib
import datetime
import platform
import re
from collections.abc import Iterator
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    FailFast,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from ... import data
from ...data import TARGET_NOUNS, Dataset, InputFormat, SourceKeywords, TableOptions, Task
from ...errors import DataError, ModelFileError, UsageError
from ...parsing import faults_of
from ..core.hooks import NO_HOOKS, Hooks, OwnCode
from ..core.machine import machine_facts, processor_name
from ..core.recipe import EngineSettings, Recipe

if TYPE_CHECKING:
    from torch import nn

    from ...models import ModuleMaker


def _writable(text: str) -> str:
    """Text that can be in a file's name and be written down. Bytes of file names that are not text can, too."""
    if "\0" in text:
        raise ValueError("holds a zero byte")
    text.encode("utf-8", "surrogateescape")
    return text


Text = Annotated[str, AfterValidator(_writable)]
Texts = Annotated[tuple[Text, ...], FailFast()]
Numbers = Annotated[tuple[float, ...], FailFast()]
Count = Annotated[int, Field(ge=0, le=10**15)]


class Relearned(BaseModel):
    """Which backbone a run uses and how its head was made, see `relearn`.

    Attributes:
        backbone: as it was named: `imagenet`, `timm:NAME`, a run's folder, ...
        digest: a hash of the backbone as it was then, its text and every weight.
        head: `linear`, `mean` or `mlp`.
        layers: the paths of the head's dense layers in the network.
        augmented_views: how many versions of each training image the head learned from; the first is the image itself.
        l2: the L2 penalty on the head's weights that served the validation images best; 0 where there is none.
        coverage: the share of new images of the classes that are to be known; with few validation images it is less,
            see `ood.rank`.
        threshold: images farther than this from all training images are not known; None: the run has no
            out-of-distribution detector.
        neighbours: the distance is that to the training image of this rank.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)

    backbone: Text
    digest: Text
    head: Text
    layers: tuple[Text, ...] = Field(min_length=1, max_length=10)
    augmented_views: int = Field(1, ge=1, le=1000)
    l2: float = Field(0.0, ge=0)
    coverage: float = Field(0.99, gt=0, le=1)
    threshold: float | None = Field(None, ge=-1, le=3)
    neighbours: int = Field(1, ge=1, le=1_000_000)


class Settings(BaseModel):
    """What a run was asked for and what was decided, resolved. It is in every checkpoint, and in `run.toml` for people.

    Anybody can write and seal a checkpoint, so whatever is used later is bounded here.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)

    source: Text
    layout: Text
    added: Annotated[tuple[tuple[Text, Text], ...], FailFast()] = ()
    """Further sources whose images belong to the run, each with its layout."""
    table: TableOptions | None = None
    """How the source was read, if it is a table."""
    added_tables: Annotated[tuple[TableOptions | None, ...], FailFast()] = ()
    """The same for each of `added`."""
    group_pattern: Text | None = None
    """What finds groups of images in their names: they stay in one part."""
    dedupe: bool = False
    """Whether equal images count once."""
    task: Task
    classes: Texts = Field(min_length=1)
    model: Text
    outputs: int = Field(ge=1, le=1_000_000)
    parameters: Count
    input: InputFormat
    mean: Numbers
    std: Numbers
    target_mean: Numbers = ()
    target_std: Numbers = ()
    recipe: Recipe
    seed: int = Field(ge=0, lt=2**63)
    engine: dict[str, Any]
    images: dict[Text, Count] = Field(max_length=1000)
    notes: Texts = ()
    versions: dict[Text, Text] = Field(max_length=1000)
    machine: dict[Text, Text] = Field(default_factory=dict, max_length=100)
    """What it was made on: system, cores, memory. Nothing depends on it."""
    started: Text
    relearned: Relearned | None = None
    own: Annotated[tuple[OwnCode, ...], FailFast()] = ()
    """The user's own code that the run was made with, by name; see `core/hooks.py`."""
    temperature: float | None = Field(None, gt=0, le=1000)
    """Of the weights beside these settings: what raw scores are divided by before they become probabilities, see
    `fit_temperature`. None: it was not fitted.
    """

    @classmethod
    def fresh(cls, dataset: Dataset, **decided: Any) -> Settings:
        """Those of a new run.

        Args:
            dataset: the run's images.
            **decided: the fields that the images do not decide; they also replace those that they do.

        Raises:
            DataError: the images have names that no run can hold (`run-impossible`).
        """
        values: dict[str, Any] = {
            "source": recorded(dataset),
            "layout": dataset.layout,
            "table": dataset.table,
            "group_pattern": dataset.group_pattern,
            "dedupe": dataset.dedupe,
            "task": dataset.task,
            "classes": dataset.classes,
            "images": _counts(dataset),
            "notes": dataset.notes,
            "versions": versions(),
            "machine": machine_facts(),
            "started": started().isoformat(timespec="seconds"),
        }
        with settling(dataset.source):
            return cls(**values | decided)

    def continued(self, dataset: Dataset, **changed: Any) -> Settings:
        """Those of the same run when it goes on, with its images and versions as they are now. What was decided stays.

        Args:
            dataset: the run's images.
            **changed: fields that are different from now on.
        """
        values = {
            "source": recorded(dataset),
            "table": dataset.table,
            "images": _counts(dataset),
            "notes": (*self.notes, *(f"resumed with {change}" for change in self.version_changes())),
            "versions": versions(),
        }
        return self.model_copy(update=values | changed)

    def version_changes(self) -> list[str]:
        """What of the versions is different now, each in words."""
        return [
            f"{name} {version} now, {self.versions.get(name)} before"
            for name, version in versions().items()
            if self.versions.get(name) != version
        ]

    def decoding_changes(self) -> tuple[str, ...]:
        """That another generation of Pillow decoded the images that were trained on, in a sentence, or nothing."""
        now, then = versions()["pillow"], self.versions.get("pillow", "")
        if not then or now.partition(".")[0] == then.partition(".")[0]:
            return ()
        return (f"the run was trained with Pillow {then}; this is {now}, which may decode some pixels otherwise",)

    def on_engine(self, engine: EngineSettings) -> Settings:
        """The same, computed on this engine: it becomes part of the recipe, so that the recipe gives the same again."""
        chosen = engine.model_dump()
        recipe = self.recipe.model_copy(update=engine.model_dump(exclude={"reason", "threads_fixed"}))
        return self.model_copy(update={"engine": chosen, "recipe": recipe})

    def to_json(self) -> dict[str, Any]:
        """As they are in checkpoints and in `run.toml`."""
        return self.model_dump(mode="json", exclude_none=True)

    @field_validator("input")
    @classmethod
    def _input_is_possible(cls, form: InputFormat) -> InputFormat:
        try:
            data.check_format(form)
        except UsageError as error:
            raise ValueError(error.reason) from None
        return form

    @field_validator("engine")
    @classmethod
    def _engine_is_possible(cls, engine: dict[str, Any]) -> dict[str, Any]:
        try:
            return EngineSettings.model_validate(engine).model_dump()
        except ValidationError as error:
            raise ValueError(faults_of(error)) from None

    @field_validator("std", "target_std")
    @classmethod
    def _std_is_positive(cls, std: tuple[float, ...]) -> tuple[float, ...]:
        if not all(value > 0 for value in std):
            raise ValueError("a standard deviation must be greater than 0")
        return std

    @model_validator(mode="after")
    def _all_goes_together(self) -> Self:
        names, channels = len(self.classes), self.input.channels
        scale = names if self.task == "regression" else 0
        conditions = [
            ("one class or number has another's name", len(set(self.classes)) == names),
            (
                f"{self.outputs} outputs do not suit {names} {TARGET_NOUNS[self.task]}",
                self.outputs == names or (self.outputs, names, self.task) == (1, 2, "classification"),
            ),
            (
                f"expected a mean and a standard deviation for each of {channels} channels",
                len(self.mean) == len(self.std) == channels,
            ),
            (
                f"expected a mean and a standard deviation for each of {scale} numbers to predict",
                len(self.target_mean) == len(self.target_std) == scale,
            ),
            ("only a run of classes has a new head", self.relearned is None or self.task == "classification"),
            ("no such device", re.fullmatch(r"auto|cpu|cuda(:\d{1,3})?|mps", self.recipe.device) is not None),
        ]
        for fault, holds in conditions:
            if not holds:
                raise ValueError(fault)
        return self

    @property
    def sources(self) -> str:
        """All sources of the run's images, in words: `photos and zebras`."""
        return " and ".join([self.source, *(source for source, _ in self.added)])

    @property
    def further(self) -> list[tuple[str, str, TableOptions | None]]:
        """Each of `added` with how its table was read."""
        tables = (*self.added_tables, *[None] * len(self.added))
        return [(source, layout, table) for (source, layout), table in zip(self.added, tables, strict=False)]

    @property
    def reading(self) -> SourceKeywords:
        """How its source is read, as `load` takes it."""
        return {"like": self.table, "group_pattern": self.group_pattern, "dedupe": self.dedupe}

    @property
    def in_memory(self) -> bool:
        """Whether some of its images were handed over in memory and cannot be read again."""
        return data.MEMORY in (self.layout, *(layout for _, layout in self.added))

    @property
    def solved(self) -> bool:
        """Whether `relearn` has made a head and nothing was trained in steps."""
        return self.relearned is not None and self.recipe.epochs == 1

    @property
    def backbone_learns(self) -> bool:
        """Whether, in a relearned run, the backbone is fine-tuned."""
        blocks = self.recipe.trained_blocks
        return self.relearned is not None and not self.solved and (not blocks or blocks > len(self.relearned.layers))


_STARTED: ContextVar[datetime.datetime | None] = ContextVar("when the command that runs was started", default=None)


@contextlib.contextmanager
def starting_now() -> Iterator[None]:
    """While this is open, new runs say that they were started at this moment, however long it takes to decide all."""
    token = _STARTED.set(datetime.datetime.now().astimezone())
    try:
        yield
    finally:
        _STARTED.reset(token)


def started() -> datetime.datetime:
    """When the command that runs was started, in local time with its distance from UTC."""
    return _STARTED.get() or datetime.datetime.now().astimezone()


def _counts(dataset: Dataset) -> dict[str, int]:
    return {split: len(dataset.indices(split)) for split in data.SPLITS}


def read_settings(state: dict[str, Any], path: Path) -> Settings:
    """The settings in a checkpoint's state.

    Raises:
        ModelFileError: they are missing or impossible.
    """
    try:
        return Settings.model_validate(state.get("settings"))
    except ValidationError as error:
        raise impossible(path, f"its settings cannot be read: {faults_of(error)}") from None


def impossible(path: Path, reason: str) -> ModelFileError:
    return ModelFileError(path, reason, hint="train again, or restore it from a copy", code="settings-unreadable")


@contextlib.contextmanager
def settling(source: str) -> Iterator[None]:
    """For making settings from a dataset: what they cannot hold, such as a class whose name has a zero byte, is the
    data's fault.

    Raises:
        DataError: `run-impossible`.
    """
    try:
        yield
    except ValidationError as error:
        raise DataError(
            source,
            f"no run can be made of it: {faults_of(error)}",
            hint="rename what is named here",
            code="run-impossible",
        ) from None


def recorded(dataset: Dataset) -> str:
    """The source as a path that is valid from any working folder. Names of built-in sets, of downloads and of images in
    memory stay.
    """
    source = dataset.source
    return str(Path(source).absolute()) if dataset.layout != data.MEMORY and Path(source).exists() else source


def model_name(model: str | nn.Module | ModuleMaker, hooks: Hooks = NO_HOOKS) -> str:
    """How a run's settings name its model: its text, or of a module of the user's own its class."""
    if isinstance(model, str):
        if hooks.head is None or model.startswith("custom:"):
            return model
        return f"custom:{model} with {OwnCode.of('head', hooks.head).name}"
    module, _, name = OwnCode.of("model", model).name.rpartition(":")
    return f"custom:{Path(module).name}:{name}" if module.endswith(".py") else f"custom:{module}.{name}"


def own_code(model: str | nn.Module | ModuleMaker, hooks: Hooks) -> tuple[OwnCode, ...]:
    """The user's own code of a run, as its settings name it."""
    own = () if isinstance(model, str) else (OwnCode.of("model", model),)
    return (*own, *hooks.described(model if isinstance(model, str) else ""))


def versions() -> dict[str, str]:
    """What a result depends on."""
    from importlib.metadata import version

    import numpy as np
    import PIL
    import torch

    return {
        "convoscope": version("convoscope"),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "pillow": PIL.__version__,
        "processor": processor_name(),
    }
