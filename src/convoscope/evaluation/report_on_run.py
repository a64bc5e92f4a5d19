"""The report's sections on the run itself: its images, its model, how it learned, how to use it."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..data import SPLITS
from ..errors import ConvoscopeError, printable, shell_word
from ..render import (
    code,
    enlarge,
    figure,
    figures,
    filter_image,
    fold,
    links,
    note,
    pairs,
    paragraph,
    picture,
    table,
    text,
    to_image,
)
from . import pictures
from .charts import Axis, Curve, balance_chart, epoch_axis, line_chart, share_axis
from .overfitting import augments, gap_of
from .run_facts import image_count, shape_of, table_of, test_command
from .text import counted, finite, number_text, percent, seconds_text

if TYPE_CHECKING:
    from ..data import Prepared
    from ..training import Run

SAMPLES = 12
MOST_CLASSES_SHOWN = 24
MOST_FILTERS_SHOWN = 64
MOST_SKIPPED_SHOWN = 200
LONG_TABLE = 20
"""Tables of layers with more rows than this are folded."""


def images(run: Run, prepared: Prepared | None, missing: str) -> str:
    """What it was trained and tested on; `missing`: why the images cannot be shown."""
    form = run.settings.input
    kind = {1: "grey", 3: "colour"}.get(form.channels, f"{form.channels} channels")
    resized = {
        "fit": "scaled to fit into the frame as a whole, the rest filled with the background",
        "crop": "scaled to fill the frame, and what is outside cut off",
        "stretch": "stretched to the frame",
    }[form.resize]
    purpose = {
        "train": "training",
        "validation": f"validation (choosing the {'head' if run.settings.solved else 'best epoch'})",
        "test": "the test",
    }
    parts = ", ".join(
        f"{image_count(run, split):,} for {purpose[split]}" for split in SPLITS if image_count(run, split)
    )
    sources = ((run.settings.source, run.settings.layout), *run.settings.added)
    read = ", and ".join(f"{source}, read as {layout}" for source, layout in sources)
    size = f"{form.height} × {form.width} pixels, {kind}"
    result = paragraph(f"{read}: {parts}. Each image is {resized}: {size}.")
    if prepared is None:
        return result + note(f"The images are no longer where they were, so none are shown here: {missing}")
    result += _samples(run, prepared) + _augmented(run, prepared)
    if run.task != "regression":
        result += _class_counts(run, prepared)
    return result + _left_out(prepared)


def _class_counts(run: Run, prepared: Prepared) -> str:
    counts = prepared.dataset.counts()
    shown = [split for split in SPLITS if image_count(run, split) or sum(counts[split].values())]
    rows = []
    for name in run.classes:
        numbers = [counts[split][name] for split in shown]
        rows.append([name, *(f"{number:,}" for number in numbers), f"{sum(numbers):,}"])
    total = None
    if run.task == "classification":
        sums = [sum(counts[split].values()) for split in shown]
        total = ["all", *(f"{number:,}" for number in sums), f"{sum(sums):,}"]
    header = ["class" if run.task == "classification" else "label", *shown, "all"]
    grid = table(header, rows, wrapped=[0], total=total)
    bars = [(name, [counts[split][name] for split in shown]) for name in run.classes]
    note_on_more = ""
    if len(bars) > MOST_CLASSES_SHOWN:
        half = MOST_CLASSES_SHOWN // 2
        bars = sorted(bars, key=lambda entry: -sum(entry[1]))
        bars = [*bars[:half], *bars[-half:]]
        note_on_more = f"The {half} largest and the {half} smallest are drawn."
    drawing = figure(balance_chart(bars, shown), note_on_more, scroll=True)
    return "<h3>Balance</h3>" + drawing + fold("Images in each class and part", grid)


def _augmented(run: Run, prepared: Prepared) -> str:
    """A few training images, and what the training made of them in some epochs."""
    from ..training import augmented_images

    train = prepared.dataset.indices("train")
    if run.settings.solved or not augments(run) or not len(train) or not run.history:
        return ""
    rows = _evenly(train, 4)
    last = len(run.history)
    epochs = sorted({max(1, round(last * share)) for share in (0, 0.2, 0.4, 0.6, 0.8, 1)})
    recipe, seed = run.settings.recipe, run.settings.seed
    pixels = prepared.pixels[rows]
    made = {
        epoch: augmented_images(pixels, rows.astype(np.int64), recipe=recipe, seed=seed, epoch=epoch)
        for epoch in epochs
    }
    lines = []
    for place, row in enumerate(rows):
        images = [pixels[place], *(made[epoch][place] for epoch in epochs)]
        cells = "".join(thumbnail(image, "a training image, augmented", 112) for image in images)
        lines.append(f'<span>{text(prepared.dataset.names[row])}</span><div class="row">{cells}</div>')
    mixed = " Some batches were also blended with others (mixup), which is not shown." if recipe.mixup else ""
    which = ", ".join(map(str, epochs))
    words = f"First the image itself, then as the training made it in epochs {which}.{mixed}"
    return "<h3>Augmented as in training</h3>" + paragraph(words) + f'<div class="classes">{"".join(lines)}</div>'


def _left_out(prepared: Prepared) -> str:
    skipped = prepared.dataset.skipped
    if not skipped:
        return ""
    rows = [[item.path, item.reason] for item in skipped[:MOST_SKIPPED_SHOWN]]
    more = f" The first {MOST_SKIPPED_SHOWN} are listed." if len(skipped) > MOST_SKIPPED_SHOWN else ""
    title = f"{counted(len(skipped), 'file')} left out, with the reason.{more}"
    grid = table(["file", "reason"], rows, texts=[1], wrapped=[0, 1])
    return fold(title, grid)


def _samples(run: Run, prepared: Prepared) -> str:
    """Some training images of each class, as the network gets them."""
    dataset = prepared.dataset
    train = dataset.indices("train")
    groups: list[tuple[str, NDArray[Any]]] = []
    if run.task == "regression":
        groups.append(("examples", train))
    else:
        for k, name in enumerate(run.classes[:MOST_CLASSES_SHOWN]):
            chosen = dataset.targets[train] == k if run.task == "classification" else dataset.targets[train, k] > 0
            groups.append((name, train[chosen]))
    rows = []
    for name, members in groups:
        images = [prepared.pixels[row] for row in _evenly(members, SAMPLES)]
        if images:
            cells = "".join(thumbnail(image, name, 112) for image in images)
            count = "" if run.task == "regression" else f"<small>{len(members):,} to train on</small>"
            rows.append(f'<span>{text(name)}{count}</span><div class="row">{cells}</div>')
    more = ""
    if run.task != "regression" and len(run.classes) > MOST_CLASSES_SHOWN:
        more = paragraph(f"The first {MOST_CLASSES_SHOWN} of {len(run.classes)} are shown.", "quiet")
    return f'<div class="classes">{"".join(rows)}</div>{more}'


def _evenly(rows: NDArray[Any], count: int) -> NDArray[Any]:
    """Up to `count` rows, evenly from all of them."""
    if len(rows) <= count:
        return rows
    return rows[np.linspace(0, len(rows) - 1, count).astype(np.int64)]


def thumbnail(pixels: NDArray[Any], description: str, side: int) -> str:
    """One image on a page, at most `side` pixels large in the file."""
    image = to_image(pixels)
    small = image if max(image.size) <= side else enlarge(image, side)
    return picture(small, description, sharp=max(image.size) <= 64)


def model(run: Run, inside: bool) -> str:
    """The network's text and, with `inside`, its table of layers."""
    layers = table_of(run) if inside else None
    height, width, channels = shape_of(run.settings.input)
    written = run.settings.model.strip()
    result = code(written)
    if layers is not None and layers.model.strip() != written:
        result = paragraph(f"{written}, which stands for:") + code(layers.model.strip())
    if run.settings.relearned is not None:
        result += _taken_over(run)
    if not inside:
        more = f"For the table of layers, the filters and a look inside: {test_command(run)}"
        return result + paragraph(f"{run.parameters:,} parameters. {more}", "quiet")
    if layers is None:
        return result + paragraph(
            f"{run.parameters:,} parameters. There is no table of layers for a module of your own."
        )
    result += paragraph(
        f"Input {height} × {width} × {channels}; {layers.parameters:,} parameters; "
        f"{layers.multiply_adds:,} multiply-adds for one image."
    )
    rows = [
        [
            layer.name,
            _size(layer.output),
            f"{layer.parameters:,}" if layer.parameters else "",
            _size(layer.formula),
            f"{layer.multiply_adds:,}" if layer.multiply_adds else "",
            _square(layer.receptive_field),
        ]
        for layer in layers.layers
    ]
    total = ["all", "", f"{layers.parameters:,}", "", f"{layers.multiply_adds:,}", ""]
    header = ["layer", "output", "parameters", "computed as", "multiply-adds", "receptive field"]
    grid = table(header, rows, texts=[3], total=total)
    if len(rows) > LONG_TABLE:
        return result + fold(f"{len(rows)} layers", grid)
    return result + grid


def _taken_over(run: Run) -> str:
    relearned = run.settings.relearned
    assert relearned is not None
    head = {"linear": "logistic regression", "mean": "the nearest class mean", "mlp": "one hidden layer"}.get(
        relearned.head, relearned.head
    )
    penalty = f" with an L2 penalty of {relearned.l2:.2g}" if relearned.l2 else ""
    views = f", {relearned.augmented_views} augmented views of each" if relearned.augmented_views > 1 else ""
    after = ""
    if run.settings.backbone_learns:
        after = " That was the first epoch; from the second on the backbone was fine-tuned as well."
    elif not run.settings.solved:
        after = (
            " That was the first epoch; from the second on the head was trained further by gradient descent, "
            "while the backbone stayed as it was."
        )
    return paragraph(
        f"Transfer learning: the backbone was taken over from {relearned.backbone}. The head is new: {head}{penalty}, "
        f"fitted to the features of the training images{views}.{after}"
    )


def _size(value: object) -> str:
    if isinstance(value, list | tuple):
        return " × ".join(str(part) for part in value)
    return "" if value is None else str(value).replace("x", " × ")


def _square(side: object) -> str:
    return f"{side} × {side}" if isinstance(side, int) else _size(side)


def learning(run: Run) -> str:
    """Whether it overfits, and the curves of training and validation."""
    if not run.history:
        return paragraph("No epoch has been completed yet.")
    gap = gap_of(run)
    result = paragraph(gap.sentence if gap is not None else "There is no validation part to compare with.")
    if run.settings.solved:
        row: dict[str, Any] = dict(run.history[-1])
        rows = [
            [name, number_text(row[f"{part}_loss"]), percent(row[f"{part}_accuracy"])]
            for part, name in (("train", "training"), ("val", "validation"))
            if row[f"{part}_loss"] is not None
        ]
        about = "Measured once, with the finished head, on images that are not augmented."
        return result + table(["", "loss", "accuracy"], rows) + paragraph(about, "quiet")
    recipe = run.settings.recipe.model_dump()
    epochs = recipe["epochs"]
    late = epochs - min(math.ceil(0.7 * epochs), epochs - 1)
    early = ""
    if recipe.get("start_size", 1) < recipe.get("end_size", 1) and late < epochs:
        early = f", on smaller ones before the last {'epoch' if late == 1 else f'{late} epochs'}"
    augmented = " and the images are augmented" if augments(run) else ""
    about = f"Training figures are averaged over the epoch, while the weights still change{augmented}"
    if image_count(run, "validation"):
        about += f"; validation figures are measured after the epoch on images that are not augmented{early}"
    return result + figures(learning_charts(run)) + paragraph(f"{about}.", "quiet")


def learning_charts(run: Run) -> list[str]:
    """Loss and accuracy of training and validation, epoch by epoch."""
    rows: list[dict[str, Any]] = [dict(row) for row in run.history]
    result = []
    for key, title in (("loss", "Loss"), ("accuracy", "R²" if run.task == "regression" else "Accuracy")):
        curves = [
            Curve(
                name=name,
                points=[
                    (float(row["epoch"]), float(row[f"{part}_{key}"]))
                    for row in rows
                    if finite(row.get(f"{part}_{key}")) is not None
                ],
                colour=colour,
                dash=dash,
                dots=len(rows) <= 30,
            )
            for part, name, colour, dash in (("train", "training", "orange", "6 3"), ("val", "validation", "blue", ""))
        ]
        share = key == "accuracy" and run.task != "regression"
        drawing = line_chart(
            [curve for curve in curves if curve.points],
            title=title,
            x=epoch_axis(len(rows)),
            y=share_axis([value for curve in curves for _, value in curve.points]) if share else Axis(),
            marker=(float(run.best_epoch), "best epoch") if run.best_epoch else None,
        )
        result.append(figure(drawing))
    if len(rows) > 1:
        points = [(float(row["epoch"]), float(row["learning_rate"])) for row in rows]
        rate = [Curve(name="learning rate", points=points, colour="green", dots=len(rows) <= 30)]
        drawing = line_chart(
            rate, title="Learning rate at the end of each epoch", x=epoch_axis(len(rows)), legend=False
        )
        result.append(figure(drawing))
    return result


def first_filters(run: Run) -> str:
    """The weights of the first layer as images; nothing if it has none that can be shown so."""
    try:
        found = pictures.first_filters(run.network(), shape_of(run.settings.input))
    except ConvoscopeError as error:
        return note(f"The weights cannot be shown: {error}")
    if found is None:
        return ""
    kind, weights = found
    reach = float(np.abs(weights).max())
    count, channels, height, width = weights.shape
    if kind == "convolution":
        most = MOST_FILTERS_SHOWN
        kernels = f", each of {channels} kernels, one for each channel of the image, side by side"
        words = f"{counted(count, 'filter')} of {height} × {width}{kernels if channels > 1 else ''}."
    else:
        most = MOST_FILTERS_SHOWN // 2
        words = (
            f"{counted(count, 'neuron')}, each with one weight for each pixel{' and channel' if channels > 1 else ''}."
        )
    if count > most:
        words += f" The first {most} are shown."
    images = "".join(
        picture(filter_image(filter_weights, reach), f"filter {position}", sharp=True)
        for position, filter_weights in enumerate(weights[:most], 1)
    )
    large = " large" if max(height, width) > 7 else ""
    ends = f"<span>−{reach:.3g}</span><i></i><span>{reach:.3g}</span>"
    bar = f'<div class="scale">{ends}<span>blue negative, red positive</span></div>'
    return paragraph(words) + bar + f'<div class="filters{large}">{images}</div>'


def phases(run: Run) -> list[tuple[str, str]]:
    """How long the head and the fine-tuning of a relearned run took."""
    if run.settings.relearned is None or len(run.history) < 2:
        return []
    head, later = run.history[0]["seconds"], sum(row["seconds"] for row in run.history[1:])
    return [("features and head", seconds_text(head)), ("fine-tuning", seconds_text(later))]


def making(run: Run, test_seconds: float | None) -> str:
    """When, on what machine and with which settings it was made; `test_seconds`: how long its last test took."""
    settings = run.settings
    engine = dict(settings.engine)
    reason = str(engine.pop("reason", ""))
    machine = ", ".join(f"{key.replace('_', ' ')} {_plain(value)}" for key, value in engine.items())
    epochs = len(run.history)
    each = f", {run.seconds / epochs:.2f} s an epoch" if epochs else ""
    duration = f"{seconds_text(run.seconds)} for {counted(epochs, 'epoch')}{each}, validation included"
    if settings.solved:
        duration = f"{seconds_text(run.seconds)} for features, head and validation together"
    mean, deviation = (", ".join(f"{value:.4f}" for value in values) for values in (settings.mean, settings.std))
    measured = "as the backbone was trained" if settings.relearned is not None else "measured on the training part"
    entries = [
        ("started", str(settings.started)),
        ("time", duration),
        *phases(run),
        *([("test", seconds_text(test_seconds))] if test_seconds is not None else []),
        ("computed with", machine),
        *(
            [("machine", ", ".join(f"{name} {value}" for name, value in settings.machine.items()))]
            if settings.machine
            else []
        ),
        *([("reason", reason)] if reason else []),
        ("seed", str(settings.seed)),
        ("normalisation", f"mean {mean}; standard deviation {deviation}; {measured}"),
        ("versions", ", ".join(f"{name} {version}" for name, version in settings.versions.items())),
    ]
    used = settings.recipe.model_dump()
    if settings.solved:  # where only a head is fitted, the other settings have no effect
        assert settings.relearned is not None
        head = ("head", "augmented_views", "l2", "coverage", "neighbours")
        used = {key: getattr(settings.relearned, key) for key in head}
        used["class_weights"] = settings.recipe.class_weights
    recipe = [(key.replace("_", " "), _plain(value)) for key, value in used.items()]
    notes = "".join(paragraph(sentence, "quiet") for sentence in settings.notes)
    return pairs(entries) + notes + "<h3>Recipe</h3>" + f'<div class="columns">{pairs(recipe)}</div>'


def _plain(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:g}" if isinstance(value, float) else str(value)


FILES = {
    "run.toml": "what was asked for and decided",
    "metrics.csv": "the figures of the training",
    "split.csv": "every image and its part",
    "test/scores.json": "every number of the test",
    "test/predictions.csv": "each tested image with its answer",
    "test/confusion.csv": "the confusion matrix",
    "test/worst/sheet.png": "the worst mistakes as one picture",
}


def files(run: Run) -> list[tuple[str, str]]:
    """The run's files that are there, relative to the report, and what they hold."""
    return [(name, words) for name, words in FILES.items() if (Path(run.folder) / name).is_file()]


def use(run: Run) -> str:
    """The commands that go on from here, and the run's files."""
    folder = shell_word(run.folder)
    found = files(run)
    listed = "<h3>Files beside this page</h3>" + links(found) if found else ""
    return listed + (
        paragraph("Classify other images and print a table, CSV or JSON; they are prepared as in training:")
        + code(f"convoscope predict {folder} photo.jpg more-photos/")
        + paragraph("The same in Python:")
        + code(f'from convoscope import Run\n\nRun.open({printable(run.folder)!r}).predict("photo.jpg")')
        + paragraph("Test it on other images of the same classes, and compare it with other runs:")
        + code(f"convoscope test {folder} SOURCE\nconvoscope compare {folder} OTHER-RUN")
    )
