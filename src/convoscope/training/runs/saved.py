"""What a run has written, read back and checked: its history, its images, its network."""

from __future__ import annotations

import contextlib
import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ... import data
from ...data import Dataset, Found, told_apart
from ...errors import ConvoscopeError, DataError, ModelFileError, UsageError, printable, shell_word
from ...parsing import read_bytes, read_toml
from ..core.hooks import OwnCode
from ..core.reporter import COLUMNS, EpochMetrics, HistoryRow
from .settings import Relearned, Settings, impossible, read_settings, recorded

if TYPE_CHECKING:
    from torch import Tensor, nn

    from ...models import ModuleMaker


_MAX_METRICS_BYTES = 40_000_000
CHECKPOINTS = ("best.safetensors", "last.safetensors", "previous.safetensors")


def read_summary(folder: str | os.PathLike[str]) -> tuple[Settings, list[EpochMetrics]]:
    """A run's settings and history from `run.toml` and `metrics.csv` alone: quick, without reading its weights.

    Bytes of file names that are not text are escaped in the settings; otherwise they are those of `Run.open`.

    Raises:
        ModelFileError: the folder holds no checkpoint (`run-empty`), or its `run.toml` cannot be read
            (`settings-unreadable`).
    """
    place = Path(folder)
    if not any((place / name).is_file() for name in CHECKPOINTS):
        raise ModelFileError(place, "no checkpoint in this folder", code="run-empty")
    return read_described(place), read_history(place / "metrics.csv")


def read_described(place: Path) -> Settings:
    """A run's settings from its `run.toml`; bytes of file names that are not text are escaped.

    Raises:
        ModelFileError: it cannot be read (`settings-unreadable`).
    """
    path = place / "run.toml"
    try:
        values = read_toml(path)
        height, width = values.pop("size").split("x")
        form = {"height": height, "width": width, "channels": values.pop("channels"), "resize": values.pop("resize")}
        table = {key: values.pop(key) for key in data.TABLE_KEYS if key in values}
        record = values.pop("record") | ({"table": asdict(data.TableOptions.of(table))} if table else {})
        form["white"] = record.pop("white", None)
        state = {"settings": {**record, **values, "input": form}}
    except KeyError as error:
        raise impossible(path, f"its settings cannot be read: {printable(error)} is missing") from None
    except (OSError, ValueError, TypeError, AttributeError, UsageError) as error:
        raise impossible(path, f"its settings cannot be read: {printable(error)[:300]}") from None
    return read_settings(state, path)


def read_history(path: Path) -> list[EpochMetrics]:
    """The rows of a `metrics.csv`. A torn last line is left out; of a damaged file the rows before the damage are kept,
    with a warning.
    """
    try:
        text = read_bytes(path, _MAX_METRICS_BYTES).decode("utf-8", "replace")
    except FileNotFoundError:
        return []
    except ValueError as error:
        warnings.warn(f"{printable(path)}: cannot be read ({error}); no epochs are shown", stacklevel=2)
        return []
    lines = text.splitlines(keepends=True)
    if lines and not lines[-1].endswith("\n"):
        lines.pop()
    header, *table = [line.strip().split(",") for line in lines] or [[]]
    rows: list[EpochMetrics] = []
    for cells in table:
        try:
            rows.append(_history_row(dict(zip(header, cells, strict=False))))
        except ValueError:
            place = f"{printable(path)}, line {len(rows) + 2}"
            warnings.warn(f"{place}: cannot be read; epochs from there on are not shown", stacklevel=2)
            break
    return rows


def _history_row(cells: dict[str, str]) -> EpochMetrics:
    # Where a figure of the validation part is empty, there is no such part; earlier versions noted no threads.
    may_be_empty = ("val_loss", "val_accuracy", "threads")
    given: dict[str, Any] = {
        key: text for key, text in cells.items() if key in COLUMNS and (text or key not in may_be_empty)
    }
    own = {key[4:]: text or None for key, text in cells.items() if key.startswith("val_") and key not in COLUMNS}
    return HistoryRow.model_validate(given | ({"metrics": own} if own else {})).row()


def read_dataset(folder: Path, settings: Settings) -> Dataset:
    """A run's images as they are now, with the run's own split.

    Raises:
        ModelFileError: they have other classes than the run.
    """
    manifest = folder / "split.csv"
    try:
        own = None if settings.added else manifest
        dataset = data.load(settings.source, layout=settings.layout, manifest=own, **settings.reading)
        for source, layout, table in settings.further:
            more = data.load(source, layout=layout, classes=settings.classes, like=table)
            dataset = data.joined(dataset, more)
    except UsageError as error:
        raise impossible(folder, f"its images cannot be read: {error}") from None
    except DataError as error:
        if error.code == "data-missing":
            error.hint = "if the run's images were moved, say where they are now: the same command with --source NEW"
        raise
    if settings.added:
        dataset = data.with_manifest(dataset, manifest)
    if (dataset.task, dataset.classes) != (settings.task, settings.classes):
        both = (dataset.classes, settings.classes)
        now, then = (", ".join(told_apart(one, other)) for one, other in (both, both[::-1]))
        raise ModelFileError(
            folder,
            f"the images have other classes now: {now}; the run knows: {then}",
            hint="bring the images back as they were, or train a new run",
            code="classes-changed",
        )
    return dataset


def find_again(folder: Path, settings: Settings, place: str | os.PathLike[str]) -> Found:
    """A run's images in a new place, found by the content that `split.csv` says they have.

    Raises:
        UsageError, DataError: they are not there, or have no place; see `find_moved`.
    """
    added = []
    for source, layout, table in settings.further:
        # Where one of these has moved too, its images may be in the new place as well.
        with contextlib.suppress(ConvoscopeError):
            added.append(data.load(source, layout=layout, classes=settings.classes, like=table))
    return data.find_moved(
        place,
        data.read_split(folder / "split.csv"),
        source=settings.source,
        layout=settings.layout,
        task=settings.task,
        classes=settings.classes,
        table=settings.table,
        added=added,
    )


def record_place(folder: Path, dataset: Dataset) -> None:
    """Write the images' new place into the settings of a run's checkpoints, which otherwise stay what they are.

    Raises:
        MachineError: the folder cannot be written to.
    """
    from ..core import checkpoint

    table = None if dataset.table is None else asdict(dataset.table)
    for path in (folder / name for name in CHECKPOINTS):
        with contextlib.suppress(ModelFileError):  # a damaged one stays, for whoever looks at it next to say so
            tensors, state = checkpoint.load(path)
            settings = {**state["settings"], "source": recorded(dataset)}
            if table is not None:
                settings["table"] = {key: value for key, value in table.items() if value is not None}
            checkpoint.save(path, tensors, {**state, "settings": settings})


def blank_network(
    settings: Settings,
    weights: Mapping[str, Tensor] | None,
    path: Path,
    module: nn.Module | ModuleMaker | None = None,
    head: ModuleMaker | None = None,
) -> nn.Module:
    """The run's network with random weights, built once it is known that `weights` can be its own, so that no file can
    claim memory that its weights do not fill.

    Args:
        weights: its weights and buffers; None: it has none yet.
        path: their file, for messages.
        module: the module of the user's own that the run trains, if it does, or what makes it.
        head: what makes the head of the user's own that the run trains, if it does.

    Raises:
        ModelFileError: the model cannot be built, is larger than its weights, or is a module that is not given.
    """
    from ... import models

    form = settings.input
    shape = (form.height, form.width, form.channels)
    if module is not None:
        return models.build(module, shape, len(settings.classes))
    own = {each.kind: each for each in settings.own}
    if "head" in own and head is not None:
        return _with_own_head(settings, own["head"].label, head, weights, path)
    if settings.model.startswith("custom:"):
        raise needs_module(path.parent, settings.model, settings.own)
    try:
        wanted = models.count_parameters(settings.model, shape, len(settings.classes)) if weights is not None else 0
        held = sum(value.numel() for value in (weights or {}).values())
        if wanted > held:
            raise ModelFileError(
                path,
                f"its weights do not fit this model: it has {held:,} numbers, the model {wanted:,} parameters",
                hint="build the model whose text is in the run's run.toml",
                code="weights-do-not-fit",
            )
        network = models.build(settings.model, shape, len(settings.classes))
    except UsageError as error:
        raise impossible(path, f"its model cannot be built: {error}") from None
    if getattr(network, "outputs", settings.outputs) != settings.outputs:
        raise impossible(path, f"its model has {network.outputs} outputs, its settings say {settings.outputs}")
    return network


def _with_own_head(
    settings: Settings, text: str, head: ModuleMaker, weights: Mapping[str, Tensor] | None, path: Path
) -> nn.Module:
    """The network of a run with a head of the user's own. Its backbone is built only if its weights can be there."""
    from ... import models

    form = settings.input
    shape = (form.height, form.width, form.channels)
    try:
        if weights is not None:
            least = models.count_parameters(models.with_head(models.backbone_text(text)), shape, 1)
            held = sum(value.numel() for value in weights.values())
            if least > 2 * held + 1_000_000:  # with another head than its own it may have a few more than there are
                raise impossible(path, f"it has {held:,} numbers, the backbone of its model {least:,} parameters")
        return models.with_own_head(text, head, shape, len(settings.classes))
    except UsageError as error:
        raise ModelFileError(path, str(error), hint=error.hint, code=error.code) from None


def needs_module(folder: Path, model: str, own: Sequence[OwnCode] = ()) -> ModelFileError:
    """The error of a run that cannot be opened or gone on with without the user's own module or head."""
    kinds = {each.kind: each for each in own}
    if "head" in kinds:
        reason = f"this run trained {kinds['head'].words}"
        hint = "open it in Python: Run.open(folder, head=your_head), or go on with resume(folder, head=your_head)"
        return ModelFileError(folder, reason, hint=hint, code="run-needs-module")
    hint = "open it with Run.open(folder, model=your_module), or go on with resume(folder, model=your_module)"
    name = printable(model)[:200]
    if "model" in kinds:
        name = printable(kinds["model"].name)[:200]
        if name.rpartition(":")[0].endswith(".py"):
            hint = f"if you trust that file: the same command with --module {shell_word(name)}"
    return ModelFileError(folder, f"this run trained a module of your own ({name})", hint=hint, code="run-needs-module")


def check_head(relearned: Relearned, tensors: Mapping[str, Tensor], path: Path) -> None:
    """Refuse a relearned run whose head, or whose out-of-distribution detector, is not what its settings say.

    Raises:
        ModelFileError: `settings-unreadable`.
    """
    from ..heads.ood import OodDetector

    width = None
    for layer in relearned.layers:
        weight, bias = (tensors.get(f"model.{layer}.{kind}") for kind in ("weight", "bias"))
        if weight is None or bias is None or weight.ndim != 2 or bias.shape != weight.shape[:1]:
            raise impossible(path, f"it has no dense layer {printable(layer)[:80]!r}, which its settings call its head")
        if width is not None and weight.shape[1] != width:
            raise impossible(path, "the layers that its settings call its head do not follow each other")
        width = weight.shape[0]
    detector = OodDetector.read(tensors, relearned.threshold, relearned.neighbours)
    if detector is not None:
        known, features = detector.features, int(tensors[f"model.{relearned.layers[0]}.weight"].shape[1])
        sound = known.is_floating_point() and known.ndim == 2 and known.shape[1] == features
        if not sound or detector.neighbours > len(known) or not bool(known.float().isfinite().all()):
            raise impossible(path, "the features of its out-of-distribution detector do not suit its head")
