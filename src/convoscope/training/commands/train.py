"""`train`: from images, a model and a recipe to a run. Everything is decided here, said and written down; then `fit`
trains.
"""

from __future__ import annotations

import numbers
import operator
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Unpack

import torch
from torch import nn

from ... import data, models
from ...data import Dataset, InputFormat, Prepared
from ...errors import UsageError, printable
from ..core.engine import pick_device
from ..core.hooks import Hooks
from ..core.normalisation import Normalisation
from ..core.objective import target_scale
from ..core.recipe import EngineSettings, Recipe
from ..core.reporter import Reporter
from ..core.reporters import Listening, one_reporter
from ..core.signals import StopSignals
from ..fit.budget import check_minutes, within_minutes
from ..fit.defaults import choose_model, choose_recipe
from ..fit.job import Job, check_trainable
from ..fit.loop import fit
from ..fit.trial import try_hooks
from ..runs.folder import check_output, check_room, write_images, write_toml
from ..runs.request import Request, begun, begun_anew
from ..runs.run import Run
from ..runs.saved import needs_module
from ..runs.settings import Settings, model_name, own_code, recorded
from .images import check_unchanged, prepare_images, warn_of_concerns
from .keywords import HookKeywords, ReadingKeywords, TrainKeywords, take, take_recipe
from .session import session

if TYPE_CHECKING:
    from ...data import Resize
    from ...models import ModuleMaker


def train(
    source: str | os.PathLike[str] | Dataset,
    model: str | nn.Module | ModuleMaker = "auto",
    *,
    output: str | os.PathLike[str] | None = None,
    seed: int = 0,
    size: int | tuple[int, int] | None = None,
    channels: int | None = None,
    resize: Resize | None = None,
    minutes: float | None = None,
    reporter: Listening = None,
    **options: Unpack[TrainKeywords],
) -> Run:
    """Train a model on images.

    Args:
        source: a folder, a file, a built-in name or a dataset; see `load`.
        model: a model text, a preset's name, `torchvision:NAME`, `timm:NAME`, `auto`, a module of your own, or a class
            or function that makes one of the numbers of channels and classes.
        output: the run's folder, which must not exist or be empty; by default a new one under `runs/`.
        seed: decides the split, the first weights, the order and the augmentation.
        size: height and width of the network's input, or the side of a square; by default as suits the images and the
            model.
        channels: 1 for grey, 3 for colour; by default as suits the images.
        resize: `fit`, `crop` or `stretch`.
        minutes: the number of epochs is chosen so that the training takes at most about this long, by steps that are
            measured before it begins.
        reporter: listens to what happens; or several, or None.
        layout: how to read the source, if the guess is wrong.
        validation: share of the images for validation where the source has no such part.
        test: share of the images for the test where the source has no such part.
        strict: an image that cannot be read is an error.
        loss: a function of the scores `(N, K)` and the targets of a batch; it gives one number to be made small.
        metrics: functions of answers and true targets, by name; they are measured on the validation part and in tests.
        augment: a function that changes a batch of images after all other augmentation: it gets them, float32
            `(N, C, H, W)` in 0..255, and a seed for each, and gives such images.
        head: a function of the numbers of features and classes that makes the module behind the model's features.
        **options: these last eight, how a table is read (see `load`), and any field of `Recipe`; the other fields are
            chosen to suit.

    Returns:
        The finished run.

    Raises:
        UsageError, DataError, MachineError, InUseError: see each one's `code`.
        Interrupted: a signal came; `resume` goes on.
    """
    asked = _Asked.of(source, model, seed, AskedInput(size, channels, resize), options, minutes)
    told = one_reporter(reporter)
    with session() as signals:
        dataset = asked.images()
        check_output(output, dataset.source)
        plan = _plan(asked, dataset, told)
        with begun(asked.request(dataset), output, dataset.source, plan.model) as folder:
            prepared = _train(folder, asked, plan, signals, told)
    own = None if isinstance(model, str) else model
    run = Run.open(folder, model=own, head=asked.hooks.head, metrics=asked.hooks.metrics)
    if isinstance(source, Dataset):
        run.cache_features(prepared)
    return run


def train_anew(
    folder: Path,
    request: Request,
    *,
    model: nn.Module | ModuleMaker | None,
    hooks: HookKeywords,
    accept_data_change: bool,
    reporter: Reporter,
) -> Run:
    """Train a run that was ended before its training began, as it was asked for then.

    Args:
        folder: the run's.
        request: what it was asked for.
        model: the module of the user's own that it trains, if it does.
        hooks: the user's own functions that it was asked to use, if it was.
        accept_data_change: train although images have changed since they were first decoded.
        reporter: listens to what happens.

    Raises:
        ModelFileError: it trains a module that is not given (`run-needs-module`), was asked to use own functions that
            are not given (`run-needs-own-code`), or the images differ (`data-changed`).
    """
    for changed in Hooks.of(hooks).check_same(request.own, folder):
        reporter.warn(changed)
    named = model if model is not None else request.model or "auto"
    if isinstance(named, str) and named.startswith("custom:"):
        raise needs_module(folder, named, request.own)
    reading = take(request.reading, ReadingKeywords)
    shape = AskedInput(request.sides, request.channels, request.resize)
    asked = _Asked.of(
        request.source, named, request.seed, shape, {**reading, **request.recipe, **hooks}, request.minutes
    )
    with session() as signals, begun_anew(folder):
        plan = _plan(asked, asked.images(), reporter)
        _train(folder, asked, plan, signals, reporter, accept_data_change=accept_data_change)
    return Run.open(folder, model=model, head=asked.hooks.head, metrics=asked.hooks.metrics)


class AskedInput(NamedTuple):
    """The network's input, as far as the user named it; see `train`."""

    size: int | tuple[int, int] | None
    channels: int | None
    resize: Resize | None


@dataclass(frozen=True, kw_only=True)
class _Asked:
    """What `train` was asked for, checked as far as that needs no images."""

    source: str | os.PathLike[str] | Dataset
    model: str | nn.Module | ModuleMaker
    seed: int
    input: AskedInput
    reading: dict[str, Any]
    recipe: Recipe
    named: set[str]
    hooks: Hooks
    minutes: float | None

    @classmethod
    def of(
        cls,
        source: str | os.PathLike[str] | Dataset,
        model: str | nn.Module | ModuleMaker,
        seed: int,
        shape: AskedInput,
        options: Mapping[str, Any],
        minutes: float | None = None,
    ) -> _Asked:
        """Mistakes are reported before anything long begins."""
        reading, named = take(options, ReadingKeywords), take_recipe(options, ReadingKeywords, HookKeywords)
        recipe, hooks = Recipe.read(named), Hooks.of(options)
        pick_device(recipe.device)
        if minutes is not None:
            check_minutes(minutes, named)
        _check_hooks(hooks, model, set(named))
        return cls(
            source=source,
            model=model,
            seed=data.check_seed(seed),
            input=shape,
            reading=reading,
            recipe=recipe,
            named=set(named),
            hooks=hooks,
            minutes=minutes,
        )

    def images(self) -> Dataset:
        """The images, listed."""
        reading = {name: value for name, value in self.reading.items() if name != "strict"}
        return data.load(self.source, seed=self.seed, **reading)

    def request(self, dataset: Dataset) -> Request | None:
        """The same for the run's folder; None for images in memory."""
        if isinstance(self.source, Dataset):
            return None
        size, channels, resize = self.input
        sides = size if size is None or isinstance(size, tuple) else (size, size)
        return Request.of(
            recorded(dataset),
            self.seed,
            self.reading,
            {name: getattr(self.recipe, name) for name in self.named},
            model=model_name(self.model),
            own=[own.model_dump() for own in own_code(self.model, self.hooks)],
            size=None if sides is None else "x".join(map(str, sides)),
            channels=channels,
            resize=resize,
            minutes=self.minutes,
        )


def _check_hooks(hooks: Hooks, model: str | nn.Module | ModuleMaker, named: set[str]) -> None:
    """Refuse what would have no effect beside the user's own functions, and a name in the place of a module.

    Raises:
        UsageError: `hook-without-effect`, `model-own-code`.
    """
    if isinstance(model, str) and model.startswith("custom:"):
        raise UsageError(
            "model",
            f"{printable(model)[:200]} names a module of your own, which a run does not hold",
            hint="give it once more: --module FILE.py:NAME, or in Python the module itself",
            code="model-own-code",
        )
    idle = sorted(named & {"label_smoothing", "class_weights"}) if hooks.loss is not None else []
    if idle:
        raise UsageError(
            idle[0],
            "has no effect on a loss of your own",
            hint="leave it out, and let the loss do it",
            code="hook-without-effect",
        )
    if hooks.head is not None and not isinstance(model, str):
        raise UsageError(
            "head",
            "goes behind the model of a text or a name; a module of your own has its own head",
            hint="leave it out, and put it into the module",
            code="hook-without-effect",
        )


class _Plan(NamedTuple):
    """What is decided before the images are decoded."""

    dataset: Dataset
    form: InputFormat
    model: str | nn.Module | ModuleMaker
    network: nn.Module


def _plan(asked: _Asked, dataset: Dataset, reporter: Reporter) -> _Plan:
    """Choose the input and build the network: it may turn out that the images are too small for it."""
    form, model = _choose_input(dataset, asked.model, asked.input, reporter)
    torch.manual_seed(asked.seed)
    shape, outputs = (form.height, form.width, form.channels), len(dataset.classes)
    if asked.hooks.head is not None and isinstance(model, str):
        return _Plan(dataset, form, model, models.with_own_head(model, asked.hooks.head, shape, outputs))
    return _Plan(dataset, form, model, models.build(model, shape, outputs))


def _train(
    folder: Path,
    asked: _Asked,
    plan: _Plan,
    signals: StopSignals,
    reporter: Reporter,
    *,
    accept_data_change: bool = False,
) -> Prepared:
    """Decode the images, decide the rest, write it down, and train. Returns the images."""
    prepared = prepare_images(plan.dataset, plan.form, reporter, strict=asked.reading.get("strict", False))
    warn_of_concerns(prepared, reporter)
    resolved = _resolved(asked, plan, prepared, reporter)
    check_room(folder, plan.network.state_dict())
    if (folder / "split.csv").exists():
        check_unchanged(folder, prepared, accept_data_change, reporter)
    write_images(folder, prepared)
    job = _new_job(folder, prepared, plan, resolved, asked, reporter)
    if asked.minutes is not None:
        job = within_minutes(job, asked.minutes, signals, reporter)
    write_toml(folder, job.settings)
    fit(job, None, signals, reporter)
    reporter.finished(folder)
    return prepared


def _resolved(asked: _Asked, plan: _Plan, prepared: Prepared, reporter: Reporter) -> Recipe:
    """The recipe, chosen where the user did not name it. Says what was chosen."""
    resolved, notes = choose_recipe(prepared, plan.network, asked.recipe, asked.named)
    if asked.hooks.loss is not None:  # which takes the place of the loss that smooths labels
        resolved = resolved.model_copy(update={"label_smoothing": 0.0})
    for note in notes:
        reporter.say(note)
    return resolved


def plan_job(
    source: str | os.PathLike[str] | Dataset,
    model: str | nn.Module | ModuleMaker,
    folder: Path,
    *,
    seed: int,
    shape: AskedInput,
    options: Mapping[str, Any],
    reporter: Reporter,
) -> Job:
    """The training that `train` would begin in `folder`, of which nothing is written."""
    asked = _Asked.of(source, model, seed, shape, options)
    plan = _plan(asked, asked.images(), reporter)
    prepared = prepare_images(plan.dataset, plan.form, reporter, strict=asked.reading.get("strict", False))
    return _new_job(folder, prepared, plan, _resolved(asked, plan, prepared, reporter), asked, reporter)


def _choose_input(
    dataset: Dataset, model: str | nn.Module | ModuleMaker, asked: AskedInput, reporter: Reporter
) -> tuple[InputFormat, str | nn.Module | ModuleMaker]:
    """The network's input, and the model, chosen where it is `auto`. Says why."""
    own, why = data.suggest_format(dataset)
    automatic = isinstance(model, str) and model == "auto"
    text = choose_model(dataset, own) if automatic else model
    form = _input_format(own, text, asked)
    if (form.height, form.width) != (own.height, own.width):
        why = f"images at {form.height}x{form.width}, for which the model is made ({why})"
    for note in (*dataset.notes, *([why] if asked.size is None else [])):
        reporter.say(note)
    if automatic:
        reporter.say(f"model: {text}, chosen by the images' number and size; --model overrides it")
    return form, text


def _new_job(
    folder: Path,
    prepared: Prepared,
    plan: _Plan,
    recipe: Recipe,
    asked: _Asked,
    reporter: Reporter,
) -> Job:
    """A new training: checked, its images measured, and its engine chosen."""
    dataset, network = prepared.dataset, plan.network
    memory, outputs = check_trainable(network, prepared, recipe, reporter)
    train_rows = dataset.indices("train")
    normalisation = Normalisation.of(prepared.pixels, train_rows)
    target_mean, target_std = target_scale(dataset.targets[train_rows]) if dataset.task == "regression" else ((), ())
    settings = Settings.fresh(
        dataset,
        model=model_name(plan.model, asked.hooks),
        own=own_code(plan.model, asked.hooks),
        outputs=outputs,
        parameters=sum(parameter.numel() for parameter in network.parameters()),
        input=prepared.form,
        **asdict(normalisation),
        target_mean=target_mean,
        target_std=target_std,
        recipe=recipe,
        seed=asked.seed,
        engine=EngineSettings().model_dump(),
    )
    job = Job.of(settings, folder, network, prepared, memory, asked.hooks)
    try_hooks(job)
    job = job.on_fastest_engine()
    reporter.say(f"computing on {job.engine.device} in {job.engine.reason}")
    if recipe.precision == "auto":
        reporter.say(f"to compute in the same way on any machine: {job.engine.assignments}")
    job.say_limits(reporter)
    return job


def _input_format(form: InputFormat, model: str | nn.Module | ModuleMaker, asked: AskedInput) -> InputFormat:
    """The suggested format, with what the model was made for and what the user asked for put in."""
    size, channels = asked.size, asked.channels
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
    return InputFormat(
        height=height,
        width=width,
        channels=channels or form.channels,
        resize=asked.resize or form.resize,
        white=form.white,
    )
