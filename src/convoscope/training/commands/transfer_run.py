"""The run that `relearn` writes: its settings, and its first epoch, which is the head's."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from ...data import Prepared
from ..backbone.backbone import Backbone
from ..core import checkpoint
from ..core.engine import Engine, all_threads
from ..core.event_log import EventLog
from ..core.optimizer import freeze
from ..core.recipe import Recipe
from ..core.reporter import Reporter, value_of_row
from ..core.step_memory import StepMemory
from ..fit.defaults import small, view_recipe
from ..fit.job import Job
from ..fit.state import Progress
from ..runs.folder import check_room, write_images, write_toml
from ..runs.settings import Relearned, Settings
from .head_fit import HeadFit
from .transfer_options import ALL_BLOCKS, TransferOptions

_SHOWN = 6_500
"""How many images, repeats included, the backbone is shown when it is fine-tuned."""


def transfer_settings(
    backbone: Backbone, prepared: Prepared, augmented_views: int, fitted: HeadFit, wish: TransferOptions, **more: Any
) -> Settings:
    """The settings of the run. `more`: those that neither of the others decides.

    Raises:
        DataError: the images have names that no run can hold (`run-impossible`).
    """
    dataset = prepared.dataset
    layers = backbone.layers(wish.hidden, len(dataset.classes))
    if wish.unfreeze:
        recipe = _fine_tuning_recipe(prepared, wish, len(layers))
    else:
        recipe = wish.recipe.model_copy(update={"epochs": 1, "trained_blocks": len(layers), "freeze_norm": True})
    parameters = sum(value.numel() for name, value in backbone.tensors.items() if not _is_buffer(name))
    parameters += sum(value.numel() for pair in fitted.head.layers for value in pair)
    engine = Engine(
        device=wish.device,
        precision=fitted.mode.precision,
        memory_format="channels_last",
        threads=all_threads(),
        reason=fitted.mode.reason,
    )
    detector = fitted.detector
    relearned = Relearned(
        backbone=backbone.name,
        digest=backbone.digest,
        head=wish.head,
        layers=tuple(layers),
        augmented_views=augmented_views,
        l2=fitted.head.l2,
        coverage=wish.coverage,
        threshold=None if detector is None else detector.threshold,
        neighbours=1 if detector is None else detector.neighbours,
    )
    return Settings.fresh(
        dataset,
        model=backbone.model(wish.hidden),
        outputs=len(dataset.classes),
        parameters=parameters,
        input=backbone.form,
        **asdict(backbone.normalisation),
        recipe=recipe,
        seed=wish.seed,
        engine=engine.model_dump(),
        relearned=relearned,
        temperature=fitted.temperature,
        **more,
    )


def _is_buffer(name: str) -> bool:
    return name.endswith((".running_mean", ".running_var", ".num_batches_tracked"))


def _fine_tuning_recipe(prepared: Prepared, wish: TransferOptions, layers: int) -> Recipe:
    """The recipe by which the backbone learns too. Its first epoch is the head's."""
    images = len(prepared.dataset.indices("train"))
    epochs = wish.recipe.epochs if "epochs" in wish.named else max(4, min(20, round(_SHOWN / max(images, 1))))
    chosen: dict[str, Any] = {
        "batch_size": 32 if images >= 320 else 16,
        "learning_rate": 2e-4,
        "beta2": 0.99,
        "weight_decay": 0.05,
        "warmup": min(0.5, 1.5 / (epochs + 1)),
        "ema": 0.3,
        "trained_blocks": 0 if wish.unfreeze == ALL_BLOCKS else layers + wish.unfreeze,
        "block_decay": 0.8,
        "freeze_norm": True,
    }
    looks = view_recipe(prepared).model_dump()
    if not small(prepared):  # gentler than for the head's views: here they change the backbone, too
        looks |= {"crop": 0.85, "colour": 0.1}
    chosen |= {name: looks[name] for name in ("flip", "rotate", "shear", "zoom", "shift", "crop", "colour")}
    named = {name: getattr(wish.recipe, name) for name in wish.named}
    return Recipe.read(chosen | named | {"epochs": epochs + 1})


def on_fastest_engine(
    settings: Settings,
    folder: Path,
    backbone: Backbone,
    prepared: Prepared,
    fitted: HeadFit,
    hidden: tuple[int, ...],
    reporter: Reporter,
) -> Settings:
    """The settings of a run whose backbone is fine-tuned, on the engine that a probe of the real network finds best."""
    assert settings.relearned is not None
    network = backbone.network(hidden, settings.outputs)
    network.load_state_dict(fitted.head.tensors(settings.relearned.layers), strict=False)
    freeze(network, settings.recipe)
    count = min(settings.recipe.batch_size, len(prepared.dataset.indices("train")))
    memory = StepMemory.of(network, backbone.input, count, settings.recipe, str(settings.engine["device"]))
    memory.check(reporter)
    job = Job.of(settings, folder, network, prepared, memory).on_fastest_engine()
    reporter.say(f"the backbone is fine-tuned, computing on {job.engine.device} in {job.engine.reason}")
    return job.settings


def write_run(
    folder: Path,
    settings: Settings,
    backbone: Backbone,
    prepared: Prepared,
    fitted: HeadFit,
    seconds: float,
    reporter: Reporter,
) -> None:
    """The run's folder with the head's epoch: all that `Run`, `test` and `resume` need."""
    assert settings.relearned is not None
    content = settings.to_json()
    weights = backbone.tensors | fitted.head.tensors(settings.relearned.layers)
    check_room(folder, weights)
    write_images(folder, prepared)
    row = fitted.row
    row["seconds"] = seconds
    with EventLog(folder, [], 0) as log:
        log.event("start", epoch=1, step=0)
        log.epoch(row)
        reporter.head(row)
        if settings.recipe.epochs == 1:
            log.event("end", epoch=1, best_epoch=1)
        progress = Progress(epoch=1, best_value=value_of_row(row), history=[row], events_bytes=log.bytes_written)
    tensors = {f"model.{name}": value for name, value in weights.items()}
    known = {} if fitted.detector is None else fitted.detector.tensors()
    best = tensors | known, {"settings": content, "epoch": row}
    if settings.recipe.ema:
        tensors |= {f"average.{name}": value.clone() for name, value in weights.items()}
    checkpoint.save_both(folder, best, (tensors, {"settings": content, "progress": asdict(progress)}))
    # Last: without its checkpoint the run can only begin anew, by what its run.toml says it was asked for.
    write_toml(folder, settings)
    reporter.end()
