"""The training loop, readable from top to bottom.

Everything random in it is a function of (seed, epoch, image) or (seed, step), see `core/rng.py`. So a checkpoint holds
weights, the optimiser's moments and a few counters, and a resumed training ends at the very same weights.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ...errors import MachineError
from ...free_memory import memory_for
from ...models import eval_mode, footprint
from ..core.augment import augment, resize
from ..core.event_log import EventLog
from ..core.hooks import own_metrics
from ..core.optimizer import Optimizer, training_mode
from ..core.reporter import EpochMetrics, Reporter, best_epoch, value_of_row
from ..core.rng import reseed, step_seed
from ..core.signals import StopSignals
from ..core.temperature import fit_temperature
from .checkpoints import CheckpointWriter
from .clock import TrainingClock
from .errors import lost_machine, not_finite, stopped
from .job import Job
from .learner import Learner
from .pace import EpochPace, Pace, timed
from .schedule import blend_share, cut_box, epoch_order, exhausted, lr_factor_at, train_size, validation_size
from .split import Split, load_batch
from .state import Progress


class Figures(NamedTuple):
    """Loss and accuracy of a part, None of an empty one, and the user's own metrics of it."""

    loss: float | None = None
    accuracy: float | None = None
    metrics: Mapping[str, float | None] = MappingProxyType({})


def fit(job: Job, resumed: tuple[dict[str, Tensor], Progress] | None, signals: StopSignals, reporter: Reporter) -> None:
    """Train until the recipe's last epoch, or early if it says so; write checkpoints and events on the way.

    Args:
        job: what is trained.
        resumed: a checkpoint of this job to go on from.
        signals: they stop the training after the current batch.
        reporter: listens to what happens.

    Raises:
        Interrupted: a signal came; the state is saved.
        DataError: the loss is not finite any more; the last checkpoint is kept.
        MachineError: disk, rights or memory; the last checkpoint is kept.
    """
    learner, progress, saved = Learner.of(job), Progress(), None
    if resumed is not None:
        tensors, progress = resumed
        saved = replace(progress)
        # The first epoch of a relearned run is the head's, which no optimiser has made.
        begun = progress.step > 0 or progress.epoch > (job.settings.relearned is not None)
        learner.restore(tensors, job.folder / "last.safetensors", begun=begun)
    writer = CheckpointWriter(job, learner, saved)
    signals.defer()

    def too_large(free: int | None) -> MachineError:
        return job.memory.error(free, saved=(job.folder / "last.safetensors").exists())

    with (
        job.engine.thread_count(),
        memory_for(too_large, job.memory.free),
        EventLog(job.folder, progress.history, progress.events_bytes, list(job.hooks.metrics)) as log,
    ):
        clock = TrainingClock(job, job.pace or measure_pace(job, progress, signals), progress, log, reporter)
        reporter.start(job.folder, job.recipe.epochs)
        clock.tell()
        log.event("start" if resumed is None else "resume", epoch=progress.epoch + 1, step=progress.step)
        try:
            while progress.epoch < job.recipe.epochs and not exhausted(job.recipe, progress):
                begin = time.perf_counter() - progress.seconds
                for loss in train_epoch(job, learner, progress, clock):
                    progress.seconds = time.perf_counter() - begin
                    report_step(job, progress, loss, log, reporter)
                    if signals.number or writer.due():
                        writer.save(progress, log, reporter, final=bool(signals.number))
                    if signals.number:
                        raise stopped(job, signals.number)
                # The step counter is at the epoch's end while validating: a stop here validates again on resume.
                scores: list[Tensor] = []
                size = validation_size(job, progress.epoch)
                with clock.validation():
                    figures = evaluate(job, learner.measured, job.validation, size, signals, scores)
                if signals.number:
                    writer.save(progress, log, reporter, final=True)
                    raise stopped(job, signals.number)
                progress.seconds = time.perf_counter() - begin
                finish_epoch(job, progress, figures, scores, writer, log, reporter)
            if progress.epoch < job.recipe.epochs:
                reporter.say(
                    f"ended after {progress.epoch} of {job.recipe.epochs} epochs: none of the last {progress.stale} "
                    f"was better than epoch {best_epoch(progress.history)}"
                )
            log.event("end", epoch=progress.epoch, best_epoch=best_epoch(progress.history))
            writer.save(progress, log, reporter, final=True)
            if signals.number:  # it came too late to stop anything, but for what is to follow
                raise stopped(job, signals.number, ended=job.settings.relearned is None)
        except MachineError as error:
            if error.code == "out-of-memory":
                raise  # it has a hint of its own
            raise lost_machine(job, error, writer.saved) from error
        finally:
            reporter.end()


def measure_pace(job: Job, progress: Progress, signals: StopSignals) -> Pace:
    """Time a few steps, and the validation of a few images, at each size that they will have. A copy learns by it."""
    if progress.epoch >= job.recipe.epochs:  # nothing is left to be timed
        return Pace(EpochPace(0, 0), EpochPace(0, 0), job.steps_in_epoch)
    network = copy.deepcopy(job.engine.place(job.network))
    optimizer = Optimizer(network, job.recipe)
    batch = np.arange(min(job.recipe.batch_size, len(job.train)))
    count = min(len(job.validation), max(32, job.recipe.batch_size))
    some = replace(job.validation, rows=job.validation.rows[:count], targets=job.validation.targets[:count])
    paces: dict[int, EpochPace] = {}
    took = measured = 0.0
    for epoch in sorted({0, job.recipe.epochs - 1}):
        if epoch and train_size(job, epoch) == train_size(job, 0):
            paces[epoch] = paces[0]
            continue
        training_mode(network, job.recipe)
        parts = [
            timed(job.engine.device, partial(train_step, job, network, optimizer, batch, epoch, epoch, 1.0)),
            timed(job.engine.device, partial(evaluate, job, network, some, validation_size(job, epoch), signals, [])),
        ]
        step, validation = (times.seconds for times in parts)
        paces[epoch] = EpochPace(step, validation * len(job.validation) / max(count, 1))
        took += sum(times.total for times in parts)
        measured += sum(times.seconds * len(times) for times in parts)
    return Pace(paces[0], paces[job.recipe.epochs - 1], job.steps_in_epoch, max(1.0, took / max(measured, 1e-9)))


def train_epoch(job: Job, learner: Learner, progress: Progress, clock: TrainingClock) -> Iterator[float]:
    """The steps of an epoch that are still to be made. Gives each one's mean loss once it is made and counted."""
    order = epoch_order(job, progress.epoch)
    training_mode(learner.network, job.recipe)
    size = job.recipe.batch_size
    while progress.step < job.steps_in_epoch:
        begin = time.perf_counter()
        batch = order[progress.step * size : (progress.step + 1) * size]
        step = progress.epoch * job.steps_in_epoch + progress.step
        factor = lr_factor_at(job, step)
        loss, right = train_step(job, learner.network, learner.optimizer, batch, progress.epoch, step, factor)
        if not math.isfinite(loss):
            raise not_finite(job, progress)
        if learner.average is not None:
            learner.average.update(step)
        progress.step += 1
        progress.loss_sum += loss * len(batch)
        progress.right_sum += right
        progress.images += len(batch)
        clock.step(time.perf_counter() - begin)
        yield loss


def train_step(
    job: Job,
    network: nn.Module,
    optimizer: Optimizer,
    batch: NDArray[np.int64],
    epoch: int,
    step: int,
    lr_factor: float,
) -> tuple[float, float]:
    """One step: forward, loss, backward, update. Returns the batch's mean loss and how many images were right."""
    engine = job.engine
    reseed(step_seed(job.seed, step), engine.device)
    images, targets = load_batch(job.train, batch, engine.device)
    size = train_size(job, epoch)
    rows, changed = job.train.rows[batch], job.hooks.augment
    images = augment(images, rows, seed=job.seed, epoch=epoch, recipe=job.recipe, size=size, own=changed)
    own = blend_share(job, epoch, step)
    if own < 1:
        images = torch.lerp(images.roll(1, 0), images, own)
    elif box := cut_box(job, epoch, step, size):
        images[:, :, *box] = images.roll(1, 0)[:, :, *box]
        own = 1 - (box[0].stop - box[0].start) * (box[1].stop - box[1].start) / (size[0] * size[1])
    images = engine.arrange(job.normalisation(images))
    network.zero_grad(set_to_none=True)
    with engine.autocast():
        scores = network(images)
    loss = job.objective.loss(scores, targets)
    if own < 1:
        loss = own * loss + (1 - own) * job.objective.loss(scores, targets.roll(1, 0))
    loss.backward()
    optimizer.step(lr_factor)
    return float(loss.detach()), job.objective.right(scores.detach(), targets)


def report_step(job: Job, progress: Progress, loss: float, log: EventLog, reporter: Reporter) -> None:
    """Log about fifty steps of an epoch, and let the reporter hear of each."""
    step = progress.epoch * job.steps_in_epoch + progress.step - 1
    if step % max(1, job.steps_in_epoch // 50) == 0:
        log.step(step + 1, progress.epoch + 1, loss, lr_factor_at(job, step) * job.recipe.learning_rate)
    reporter.step(progress.epoch + 1, progress.step, job.steps_in_epoch, loss)


def evaluate(
    job: Job, network: nn.Module, part: Split, size: tuple[int, int], signals: StopSignals, raw: list[Tensor]
) -> Figures:
    """Loss, accuracy and own metrics on a part, without augmentation; empty for an empty part. Leaves early on a
    signal. The raw scores of each batch are added to `raw`.
    """
    if not len(part):
        return Figures()
    # What the batches of training took, these take too: nothing is kept for a way back.
    count = job.recipe.batch_size
    most = max(32, min(256, 2 * count))
    if count < min(most, len(part)):
        count = max(count, footprint(network, (job.train.pixels.shape[3], *size)).at_once(most=most))
    count = min(count, most)
    loss_sum = right_sum = weight_sum = 0.0
    answers: list[NDArray[np.float32]] = []
    with eval_mode(network), torch.inference_mode():
        for begin in range(0, len(part), count):
            images, targets = load_batch(part, np.arange(begin, min(begin + count, len(part))), job.engine.device)
            with job.validation_arithmetic():
                scores = network(job.engine.arrange(job.normalisation(resize(images.permute(0, 3, 1, 2), size))))
            raw.append(scores.float().cpu())
            weight = job.objective.weight(targets)
            loss_sum += float(job.objective.loss(scores, targets, smoothing=False)) * weight
            weight_sum += weight
            right_sum += job.objective.right(scores, targets)
            if job.hooks.metrics:
                answers.append(job.objective.answers(scores.cpu()).numpy())
            if signals.number:
                break
    metrics = {} if signals.number else own_metrics_of(job, answers, part)
    loss, accuracy = loss_sum / weight_sum, job.objective.accuracy(right_sum, len(part))
    if job.objective.task == "regression":
        variance = float(part.targets.var(0, correction=0).mean())
        accuracy = 1 - (1 - accuracy) / variance if variance > 0 else 0.0
    return Figures(loss, accuracy, metrics)


def own_metrics_of(job: Job, answers: Sequence[NDArray[np.float32]], part: Split) -> dict[str, float | None]:
    """The user's own metrics of a part; numbers in their own unit."""
    if not job.hooks.metrics:
        return {}
    targets = job.objective.answers(part.targets) if job.objective.task == "regression" else part.targets
    return own_metrics(job.hooks.metrics, np.concatenate(answers), targets.numpy())


def finish_epoch(
    job: Job,
    progress: Progress,
    figures: Figures,
    scores: list[Tensor],
    writer: CheckpointWriter,
    log: EventLog,
    reporter: Reporter,
) -> None:
    """Note the epoch's figures, keep its weights if they are the best so far, and set the counters for the next one.
    `scores`: raw ones of the validation part, to which the temperature is fitted.
    """
    row = epoch_row(job, progress, figures)
    best = not progress.best_value or value_of_row(row) > progress.best_value
    if best:
        progress.best_value, progress.stale = value_of_row(row), 0
        temperature = None
        if scores:
            temperature = fit_temperature(job.objective.task, torch.cat(scores), job.validation.targets)
        writer.remember_best(row, temperature)
    else:
        progress.stale += 1
    progress.history.append(row)
    log.epoch(row)
    reporter.epoch(row, best)
    progress.epoch, progress.step, progress.seconds = row["epoch"], 0, 0.0
    progress.loss_sum = progress.right_sum = 0.0
    progress.images = progress.threads = 0


def epoch_row(job: Job, progress: Progress, figures: Figures) -> EpochMetrics:
    """The figures of the epoch that just ended."""
    last_step = progress.epoch * job.steps_in_epoch + progress.step - 1
    loss = progress.loss_sum / max(progress.images, 1)
    row = EpochMetrics(
        epoch=progress.epoch + 1,
        train_loss=loss,
        train_accuracy=job.objective.accuracy(progress.right_sum, progress.images),
        val_loss=figures.loss,
        val_accuracy=figures.accuracy,
        seconds=progress.seconds,
        learning_rate=lr_factor_at(job, last_step) * job.recipe.learning_rate,
        size=train_size(job, progress.epoch)[0],
        threads=progress.threads or job.engine.threads,
    )
    if figures.metrics:
        row["metrics"] = dict(figures.metrics)
    return row
