"""The training loop, readable from top to bottom.

Everything random in it is a function of (seed, epoch, image) or (seed, step), see `chance.py`; so a checkpoint holds
weights, the optimiser's moments and a few counters, and a resumed training ends at the very same weights.
"""

from __future__ import annotations

import contextlib
import math
import time
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, FailFast, Field, ValidationError, model_validator
from torch import Tensor, nn

from ...data import MEMORY
from ...errors import DataError, Interrupted, MachineError, ModelFileError, UsageError, shell_word
from ...free_memory import memory_for
from ...models import eval_mode
from ...models import memory as footprint
from ...parsing import faults_of
from ..core import checkpoint
from ..core.augment import augment, resize
from ..core.engine import Engine
from ..core.event_log import Journal
from ..core.malloc import StepMemory
from ..core.objective import Objective
from ..core.optimizer import Optimizer, lr_factor, training_mode
from ..core.recipe import Recipe
from ..core.reporter import EpochMetrics, Finite, HistoryRow, Reporter, best_epoch, value_of_row
from ..core.rng import balanced_order, image_order, step_seed, uniforms
from ..core.signals import StopSignals


@dataclass(frozen=True, kw_only=True)
class Split:
    """One part of a prepared dataset, ready for batches.

    Attributes:
        pixels: uint8 `(N, H, W, C)`, all images of the dataset, memory-mapped.
        rows: the part's rows in `pixels`.
        targets: the loss's targets of those rows, see `Objective.targets`.
    """

    pixels: NDArray[np.uint8]
    rows: NDArray[np.int64]
    targets: Tensor

    def __len__(self) -> int:
        return len(self.rows)


@dataclass(frozen=True, kw_only=True)
class Scaling:
    """Normalisation: from 0..255 to mean 0 and spread 1 for each channel, measured on the training part."""

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __call__(self, images: Tensor) -> Tensor:
        """`(N, C, H, W)` in 0..255 to the network's input."""
        mean = images.new_tensor(self.mean)[None, :, None, None] * 255
        factor = 1 / (images.new_tensor(self.std)[None, :, None, None] * 255)
        return (images - mean) * factor


@dataclass(frozen=True, kw_only=True)
class Job:
    """All that a training needs, resolved."""

    folder: Path
    network: nn.Module
    recipe: Recipe
    seed: int
    engine: Engine
    objective: Objective
    scaling: Scaling
    memory: StepMemory
    train: Split
    validation: Split
    settings: dict[str, Any]
    """Goes into each checkpoint: enough to predict with it."""

    def validation_arithmetic(self) -> contextlib.AbstractContextManager[Any]:
        """That of training; after `relearn` float32, in which the first epoch's figures, the head's, were measured."""
        return contextlib.nullcontext() if self.settings.get("relearned") else self.engine.autocast()


@dataclass
class Progress:
    """How far a training is. Saved with each checkpoint."""

    epoch: int = 0
    step: int = 0
    loss_sum: float = 0.0
    right_sum: float = 0.0
    images: int = 0
    seconds: float = 0.0
    best_value: list[float] = field(default_factory=list)
    stale: int = 0
    history: list[EpochMetrics] = field(default_factory=list)
    events_bytes: int = 0


class _SavedProgress(BaseModel):
    """What a checkpoint may say of `Progress`."""

    model_config = ConfigDict(strict=True, extra="ignore")

    epoch: int = Field(ge=0, le=100_000)
    step: int = Field(ge=0, le=2**40)
    loss_sum: Finite
    right_sum: Finite
    images: int = Field(ge=0, le=2**40)
    seconds: float = Field(ge=0, le=1e10, allow_inf_nan=False)
    best_value: list[float] = Field(max_length=3)
    stale: int = Field(ge=0, le=100_000)
    history: Annotated[list[HistoryRow], FailFast()]
    events_bytes: int = Field(ge=0, le=2**53)

    @model_validator(mode="after")
    def _history_is_whole(self) -> Self:
        if [row.epoch for row in self.history] != list(range(1, self.epoch + 1)):
            raise ValueError(f"expected the figures of epochs 1 to {self.epoch}, in order")
        return self


def read_progress(state: dict[str, Any], path: Path) -> Progress:
    """How far a training is, from a checkpoint's state.

    Raises:
        ModelFileError: it holds none (`checkpoint-without-progress`), or an impossible one (`progress-unreadable`).
    """
    if "progress" not in state:
        raise ModelFileError(
            path,
            "holds weights to predict with, but not what is needed to go on",
            hint="restore it from a copy, or train again",
            code="checkpoint-without-progress",
        )
    try:
        return Progress(**_SavedProgress.model_validate(state["progress"]).model_dump())
    except ValidationError as error:
        raise ModelFileError(
            path,
            f"its progress cannot be read: {faults_of(error)}",
            hint="restore it from a copy, or train again",
            code="progress-unreadable",
        ) from None


def fit(job: Job, resumed: tuple[dict[str, Tensor], Progress] | None, signals: StopSignals, reporter: Reporter) -> None:
    """Train until the recipe's last epoch, or early if it says so; write checkpoints and the journal on the way.

    Args:
        resumed: a checkpoint of this job to go on from.

    Raises:
        Interrupted: a signal came; the state is saved.
        DataError: the loss is not finite any more; the last checkpoint is kept.
        MachineError: disk, rights or memory; the last checkpoint is kept.
    """
    recipe, engine = job.recipe, job.engine
    network = engine.place(job.network)
    optimizer = Optimizer(network, recipe)
    average = WeightAverage(network, recipe.ema, steps_in_epoch(job)) if recipe.ema else None
    progress = Progress()
    if resumed is not None:
        tensors, progress = resumed
        where = job.folder / "last.safetensors"
        checkpoint.load_weights(network, section(tensors, "model."), where)
        # The first epoch of a relearned run is the head's, which no optimiser has made.
        begun = progress.step > 0 or progress.epoch > ("relearned" in job.settings)
        optimizer.restore(tensors, where, begun=begun)
        if average is not None:
            checkpoint.load_weights(average.network, section(tensors, "average."), where)
    steps = steps_in_epoch(job)
    keeper = CheckpointWriter(job, network, optimizer, average, replace(progress) if resumed is not None else None)
    signals.defer()

    def too_large(free: int | None) -> MachineError:
        return job.memory.error(free, saved=(job.folder / "last.safetensors").exists())

    with (
        engine.thread_count(),
        memory_for(too_large, job.memory.free),
        Journal(job.folder, progress.history, progress.events_bytes) as journal,
    ):
        reporter.start(job.folder, recipe.epochs)
        journal.event("start" if resumed is None else "resume", epoch=progress.epoch + 1, step=progress.step)
        try:
            while progress.epoch < recipe.epochs and not exhausted(recipe, progress):
                begin = time.perf_counter() - progress.seconds
                order = epoch_order(job, progress.epoch)
                training_mode(network, recipe)
                while progress.step < steps:
                    batch = order[progress.step * recipe.batch_size : (progress.step + 1) * recipe.batch_size]
                    overall = progress.epoch * steps + progress.step
                    share = lr_factor(recipe, overall, recipe.epochs * steps)
                    loss, right = train_step(job, network, optimizer, batch, progress.epoch, overall, share)
                    if not math.isfinite(loss):
                        raise not_finite(job, progress)
                    if average is not None:
                        average.update(overall)
                    progress.step += 1
                    progress.loss_sum += loss * len(batch)
                    progress.right_sum += right
                    progress.images += len(batch)
                    progress.seconds = time.perf_counter() - begin
                    if overall % max(1, steps // 50) == 0:
                        journal.step(overall + 1, progress.epoch + 1, loss, share * recipe.learning_rate)
                    reporter.step(progress.epoch + 1, progress.step, steps, loss)
                    if signals.number or keeper.due():
                        keeper.save(progress, journal, reporter, final=bool(signals.number))
                    if signals.number:
                        raise stopped(job, signals.number)
                # The step counter stands at the epoch's end while validating: a stop here validates again on resume.
                judged = average.network if average is not None else network
                val_loss, val_accuracy = evaluate(
                    job, judged, job.validation, validation_size(job, progress.epoch), signals
                )
                if signals.number:
                    keeper.save(progress, journal, reporter, final=True)
                    raise stopped(job, signals.number)
                progress.seconds = time.perf_counter() - begin
                row = epoch_row(job, progress, val_loss, val_accuracy, rate_now(job, progress, steps))
                best = not progress.best_value or value_of_row(row) > progress.best_value
                if best:
                    progress.best_value, progress.stale = value_of_row(row), 0
                    keeper.remember_best(row)
                else:
                    progress.stale += 1
                progress.history.append(row)
                journal.epoch(row)
                reporter.epoch(row, best)
                progress.epoch, progress.step, progress.seconds = row["epoch"], 0, 0.0
                progress.loss_sum = progress.right_sum = 0.0
                progress.images = 0
            if progress.epoch < recipe.epochs:
                reporter.say(
                    f"ended after {progress.epoch} of {recipe.epochs} epochs: none of the last {progress.stale} was better than "
                    f"epoch {best_epoch(progress.history)}"
                )
            journal.event("end", epoch=progress.epoch, best_epoch=best_epoch(progress.history))
            keeper.save(progress, journal, reporter, final=True)
            if signals.number:  # it came too late to stop anything, but for what is to follow
                raise stopped(job, signals.number, ended="relearned" not in job.settings)
        except MachineError as error:
            if error.code == "out-of-memory":
                raise  # it has a hint of its own
            raise lost_machine(job, error, keeper.saved) from error
        finally:
            reporter.end()


def train_step(
    job: Job, network: nn.Module, optimizer: Optimizer, batch: NDArray[np.int64], epoch: int, step: int, share: float
) -> tuple[float, float]:
    """One step: forward, loss, backward, update. Returns the batch's mean loss and how many images were right."""
    engine = job.engine
    reseed(step_seed(job.seed, step), engine.device)
    images, targets = load_batch(job.train, batch, engine.device)
    size = train_size(job, epoch)
    images = augment(images, job.train.rows[batch], seed=job.seed, epoch=epoch, recipe=job.recipe, size=size)
    own = blend_share(job, epoch, step)
    if own < 1:
        images = torch.lerp(images.roll(1, 0), images, own)
    images = engine.arrange(job.scaling(images))
    network.zero_grad(set_to_none=True)
    with engine.autocast():
        scores = network(images)
    loss = job.objective.loss(scores, targets)
    if own < 1:
        loss = own * loss + (1 - own) * job.objective.loss(scores, targets.roll(1, 0))
    loss.backward()
    optimizer.step(share)
    return float(loss.detach()), job.objective.right(scores.detach(), targets)


def blend_share(job: Job, epoch: int, step: int) -> float:
    """Mixup (Zhang et al. 2018, https://arxiv.org/abs/1710.09412): how much of its own each image of this step keeps,
    0.5..1; the rest is the image before it in the batch. A function of (seed, step). The last 15 % of the epochs see
    images as they are.
    """
    recipe = job.recipe
    if not recipe.mixup or epoch >= 0.85 * recipe.epochs:
        return 1.0
    chosen, share = uniforms(job.seed, -1, np.array([step]), 2)[0]
    return 0.5 + float(share) / 2 if chosen < recipe.mixup else 1.0


def reseed(seed: int, device: str) -> None:
    """Seed the generator that dropout draws from. `torch.manual_seed` does the same for all devices, in half a
    millisecond.
    """
    torch.default_generator.manual_seed(seed)
    if device.startswith("cuda"):
        torch.cuda.manual_seed(seed)


def load_batch(part: Split, batch: NDArray[np.int64], device: str) -> tuple[Tensor, Tensor]:
    """The uint8 images `(n, H, W, C)` and targets of the part's positions `batch`."""
    images = torch.from_numpy(np.take(part.pixels, part.rows[batch], axis=0))
    return images.to(device), part.targets[torch.from_numpy(batch)].to(device)


def evaluate(
    job: Job, network: nn.Module, part: Split, size: tuple[int, int], signals: StopSignals
) -> tuple[float | None, float | None]:
    """Loss and accuracy on a part, without augmentation; (None, None) for an empty part. Leaves early on a signal."""
    if not len(part):
        return None, None
    # What the batches of training took, these take too: nothing is kept for a way back.
    count = job.recipe.batch_size
    most = max(32, min(256, 2 * count))
    if count < min(most, len(part)):
        count = max(count, footprint(network, (job.train.pixels.shape[3], *size)).at_once(most=most))
    count = min(count, most)
    loss_sum = right_sum = weight_sum = 0.0
    with eval_mode(network), torch.inference_mode():
        for begin in range(0, len(part), count):
            images, targets = load_batch(part, np.arange(begin, min(begin + count, len(part))), job.engine.device)
            with job.validation_arithmetic():
                scores = network(job.engine.arrange(job.scaling(resize(images.permute(0, 3, 1, 2), size))))
            weight = job.objective.weight(targets)
            loss_sum += float(job.objective.loss(scores, targets, smoothing=False)) * weight
            weight_sum += weight
            right_sum += job.objective.right(scores, targets)
            if signals.number:
                break
    loss = loss_sum / weight_sum
    if job.objective.task == "regression":
        variance = float(part.targets.var(0, correction=0).mean())
        return loss, 1 - loss / variance if variance > 0 else 0.0
    return loss, job.objective.accuracy(right_sum, loss, len(part))


def train_size(job: Job, epoch: int) -> tuple[int, int]:
    """Height and width of the training images in an epoch (from 0): small at first, larger in the last 30 % of the
    epochs, at least the last one.

    Small images cost less, and a network sees things somewhat larger when trained on parts of images than when tested
    on whole ones, so that the input for testing may be the largest (Touvron et al. 2019,
    https://arxiv.org/abs/1906.06423).
    """
    return _scaled(job, job.recipe.start_size if _early(job, epoch) else job.recipe.end_size)


def validation_size(job: Job, epoch: int) -> tuple[int, int]:
    """Height and width for validation: the full input at the end, before that smaller in proportion to the training
    images.
    """
    return _scaled(job, min(1.0, job.recipe.start_size / job.recipe.end_size) if _early(job, epoch) else 1.0)


def _early(job: Job, epoch: int) -> bool:
    return epoch < min(math.ceil(0.7 * job.recipe.epochs), job.recipe.epochs - 1)


def _scaled(job: Job, share: float) -> tuple[int, int]:
    """The input's height and width times `share`, in multiples of 8 where that is less."""
    height, width = job.train.pixels.shape[1:3]
    if share == 1:
        return height, width
    return max(8, round(height * share / 8) * 8), max(8, round(width * share / 8) * 8)


def steps_in_epoch(job: Job) -> int:
    """Batches in an epoch. A last batch of one image is dropped where batch norm could not measure a spread."""
    images, size = len(job.train), job.recipe.batch_size
    full, rest = divmod(images, size)
    return full + (1 if rest and not (rest == 1 and full and has_batch_norm(job.network)) else 0)


def has_batch_norm(network: nn.Module) -> bool:
    """Whether a layer measures mean and spread over the images of a batch."""
    return any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in network.modules())


def epoch_order(job: Job, epoch: int) -> NDArray[np.int64]:
    """The positions in the training part, in the order of this epoch."""
    if job.recipe.sampling == "balanced":
        if job.objective.task != "classification":
            raise UsageError(
                "sampling",
                "balanced sampling needs one class for each image",
                hint="use --set sampling=all",
                code="sampling-task",
            )
        return balanced_order(job.seed, epoch, job.train.targets.numpy())
    return image_order(job.seed, epoch, len(job.train))


def epoch_row(
    job: Job, progress: Progress, val_loss: float | None, val_accuracy: float | None, rate: float
) -> EpochMetrics:
    """The figures of the epoch that just ended."""
    loss = progress.loss_sum / max(progress.images, 1)
    return EpochMetrics(
        epoch=progress.epoch + 1,
        train_loss=loss,
        train_accuracy=job.objective.accuracy(progress.right_sum, loss, progress.images),
        val_loss=val_loss,
        val_accuracy=val_accuracy,
        seconds=progress.seconds,
        learning_rate=rate,
        size=train_size(job, progress.epoch)[0],
    )


def rate_now(job: Job, progress: Progress, steps: int) -> float:
    """The rate of the epoch's last step."""
    share = lr_factor(job.recipe, progress.epoch * steps + progress.step - 1, job.recipe.epochs * steps)
    return share * job.recipe.learning_rate


def exhausted(recipe: Recipe, progress: Progress) -> bool:
    """Whether the recipe's patience is at its end."""
    return recipe.patience > 0 and progress.stale >= recipe.patience


class WeightAverage:
    """An exponential moving average of the weights and buffers, on which validation looks and which is kept as the
    best.

    `share`: over about this share of an epoch; the first steps count fully, so that the start is forgotten soon.
    """

    def __init__(self, network: nn.Module, share: float, steps: int) -> None:
        import copy

        self.network = copy.deepcopy(network)
        pairs = list(zip(self.network.state_dict().values(), network.state_dict().values(), strict=True))
        self._own = [own for own, _ in pairs if own.is_floating_point()]
        self._new = [new for own, new in pairs if own.is_floating_point()]
        self._counters = [(own, new) for own, new in pairs if not own.is_floating_point()]
        self._decay = math.exp(-1 / max(share * steps, 1))

    def update(self, step: int) -> None:
        """Move the average towards the network after step `step`."""
        decay = min(self._decay, (1 + step) / (10 + step))
        with torch.no_grad():
            torch._foreach_lerp_(self._own, self._new, 1 - decay)
            for own, new in self._counters:
                own.copy_(new)


class CheckpointWriter:
    """Writes the checkpoints: `best.safetensors` for prediction, `last.safetensors` to go on, `previous.safetensors`
    behind it.

    `saved`: how far the training was at the last of them.
    """

    def __init__(
        self, job: Job, network: nn.Module, optimizer: Optimizer, average: WeightAverage | None, saved: Progress | None
    ) -> None:
        self.saved = saved
        self._job = job
        self._network = network
        self._optimizer = optimizer
        self._average = average
        self._best: tuple[dict[str, Tensor], EpochMetrics] | None = None
        self._interval = job.recipe.save_every
        self._saved_at = time.monotonic()
        self._failures = 0

    def due(self) -> bool:
        """Whether it is time for a checkpoint."""
        return time.monotonic() - self._saved_at >= self._interval

    def remember_best(self, row: EpochMetrics) -> None:
        """Hold the weights of the epoch that just proved best until the next save."""
        judged = self._average.network if self._average is not None else self._network
        self._best = ({name: value.detach().clone() for name, value in judged.state_dict().items()}, row)

    def save(self, progress: Progress, journal: Journal, reporter: Reporter, *, final: bool) -> None:
        """Write what there is to keep. One failure on the way is a warning and the next save tries again; a second, or
        the last save's, is an error.
        """
        begin = time.monotonic()
        try:
            self._write(progress, journal)
            self._failures = 0
        except MachineError as error:
            self._failures += 1
            if final or self._failures > 1:
                raise
            reporter.warn(f"a checkpoint could not be written ({error}); the next one tries again")
        self._saved_at = time.monotonic()
        # A large network on a slow disk: never spend more than a twentieth of the time on saving.
        self._interval = max(
            self._job.recipe.save_every, 20 * (self._saved_at - begin) if self._job.recipe.save_every else 0
        )

    def _write(self, progress: Progress, journal: Journal) -> None:
        folder, settings = self._job.folder, self._job.settings
        if self._best is not None:
            weights, row = self._best
            tensors = {f"model.{name}": value for name, value in weights.items()}
            checkpoint.save(folder / "best.safetensors", tensors, {"settings": settings, "epoch": row})
            self._best = None
        progress.events_bytes = journal.bytes_written
        tensors = {f"model.{name}": value for name, value in self._network.state_dict().items()}
        tensors |= self._optimizer.tensors()
        if self._average is not None:
            tensors |= {f"average.{name}": value for name, value in self._average.network.state_dict().items()}
        checkpoint.keep_previous(folder)
        checkpoint.save(folder / "last.safetensors", tensors, {"settings": settings, "progress": asdict(progress)})
        self.saved = replace(progress)


def section(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors whose names begin so, without that beginning."""
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def stopped(job: Job, signal: int, *, ended: bool = False) -> Interrupted:
    """The error that ends a training on request; `ended`: it was done already."""
    hint = f"go on with: convoscope train --resume {shell_word(job.folder)}"
    if ended:
        hint = f"test it with: convoscope test {shell_word(job.folder)}"
    if in_memory(job):
        hint = "its images were handed over in memory: what is saved can be used, but not gone on with"
    return Interrupted(
        job.folder,
        "stopped; the training is done and saved" if ended else "stopped; the state is saved",
        hint=hint,
        code="interrupted",
        signal=signal,
    )


def in_memory(job: Job) -> bool:
    """Whether some images were handed over in memory, so that nobody can read them again."""
    return MEMORY in (job.settings["layout"], *(layout for _, layout in job.settings.get("added", ())))


def lost_machine(job: Job, error: MachineError, saved: Progress | None) -> MachineError:
    """The error of a disk, a share or a right that went away in the middle, with what is saved of the training."""
    if saved is None:
        told, hint = "nothing of the training is saved yet", "mend that, then start again"
    else:
        told = f"the training is saved up to epoch {saved.epoch + 1}, step {saved.step}"
        hint = f"mend that, then go on with: convoscope train --resume {shell_word(job.folder)}"
        if in_memory(job):
            hint = (
                "mend that; what is saved can be used, but not gone on with, as its images were handed over in memory"
            )
    return MachineError(error.path, f"{error.reason}; {told}", hint=hint, code=error.code)


def not_finite(job: Job, progress: Progress) -> DataError:
    """The error of a loss that is NaN or infinite."""
    kept = "last.safetensors" if (job.folder / "last.safetensors").exists() else "no checkpoint yet"
    return DataError(
        job.folder,
        f"the loss is not finite in epoch {progress.epoch + 1}, step {progress.step + 1}; the last finite state is kept ({kept})",
        hint=f"train again with a lower rate: --set learning_rate={job.recipe.learning_rate / 10:g}",
        code="loss-not-finite",
    )
