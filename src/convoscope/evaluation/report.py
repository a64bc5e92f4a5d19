"""RUN/report.html: all that is known about a run on one page that needs nothing but itself."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from .. import geometry
from ..data.dataset import SPLITS
from ..errors import ConvoscopeError, MachineError, printable
from ..files import check_plain, open_plain, write_text
from ..render import (
    Section,
    beside,
    code,
    enlarge,
    facts,
    figure,
    figures,
    filter_image,
    note,
    page,
    pairs,
    paragraph,
    picture,
    table,
    text,
    to_image,
)
from . import charts, pictures
from .assessment import caption, gap_of, part_name, range_text, read_scores, shape_of, table_of, test_command, varies
from .charts import Curve, line_chart
from .measures import Scores, finite, number_text, percent, wilson

if TYPE_CHECKING:
    from ..data import Prepared
    from ..training import Run

SAMPLES = 12
MOST_CLASSES_SHOWN = 24
MOST_FILTERS_SHOWN = 64


def write_report(run: Run, *, chapters: Callable[[Run], Sequence[Section]] | None = None, inside: bool = True) -> Path:
    """Write the run's page from its files, its images and, if it was tested, its scores.

    Args:
        run: the run.
        chapters: gives further sections, which stand behind the first layer's filters.
        inside: whether the network itself is looked at: its table of layers and first filters. Without it the page is
            written in a moment.

    Returns:
        The path of `report.html` in the run's folder.

    Raises:
        DataError: the result of the test is damaged (`scores-unreadable`). Images that are gone are no error: the page
            says so.
        MachineError: the run's folder cannot be written to, or something there is no plain file (`not-a-plain-file`).
    """
    path = Path(run.folder) / "report.html"
    check_plain(path)
    for folder in ("test", "test/worst"):  # whose pictures would be shown?
        check_plain(Path(run.folder) / folder, folder=True)
    scores = read_scores(run.folder)
    prepared, missing = _prepared(run)
    sections = [
        Section("data", "Images", _data(run, prepared, missing)),
        Section("model", "Model", _model(run, inside)),
        Section("learning", "Learning", _learning(run)),
    ]
    if scores is None:
        sections.append(Section("test", "Test", _untested(run)))
    else:
        sections += _tested(run, scores, prepared)
    filters = _filters(run) if inside else ""
    if filters:
        sections.append(Section("filters", "First layer", filters))
    if chapters is not None:
        sections += chapters(run)
    sections += [
        Section("training", "How it was made" if run.settings.solved else "How it was trained", _training(run)),
        Section("use", "Use it again", _use(run)),
    ]
    version = run.settings.versions.get("convoscope", "")
    markup = page(
        f"{_name(run)} – convoscope",
        _head(run, scores),
        sections,
        f"Made by convoscope{' ' + version if version else ''}. This page fetches nothing and runs nothing.",
    )
    write_text(path, markup)
    return path


def _prepared(run: Run) -> tuple[Prepared | None, str]:
    try:
        return run.prepared(), ""
    except ConvoscopeError as error:
        return None, str(error)


def _name(run: Run) -> str:
    return " and ".join(map(_short, (run.settings.source, *(source for source, _ in run.settings.added))))


def _short(source: str) -> str:
    parts = Path(source).parts
    # The last folder alone would often read just "train" or "data".
    generic = len(parts) > 1 and parts[-1].lower() in ("train", "training", "data", "images", "dataset")
    return printable("/".join(parts[-2:] if generic else parts[-1:]) or source)


def model_name(run: Run, length: int = 60) -> str:
    """The model's text on one line, cut where it grows long."""
    words = " ".join(run.settings.model.split())
    return printable(words if len(words) <= length else words[: length - 1] + "…")


def seconds_text(seconds: float) -> str:
    """A duration for people: `48 s`, `3 min 12 s`, `2 h 5 min`."""
    if seconds < 1:
        return f"{seconds:.2f} s"
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def _count(run: Run, split: str) -> int:
    return int(run.settings.images.get(split, 0))


def _kinds(run: Run) -> str:
    count = len(run.classes)
    word = {"classification": "classes", "multi-label": "labels", "regression": "numbers each"}[run.task]
    if count == 1:
        word = {"classification": "class", "multi-label": "label", "regression": "number each"}[run.task]
    return f"{count} {word}"


def _head(run: Run, scores: Scores | None) -> str:
    from_images = f"{_count(run, 'train'):,} images {'with' if run.task == 'regression' else 'of'} {_kinds(run)}"
    trained = f"A network of {run.parameters:,} parameters, "
    if run.settings.solved:
        trained += (
            f"the {_head_parameters(run):,} of its head learned from {from_images} in {seconds_text(run.seconds)},"
        )
    else:
        trained += f"trained on {from_images} in {seconds_text(run.seconds)},"
    big: list[tuple[str, str, str]] = []
    if scores is None:
        sentence = f"{trained} has not been tested yet."
    else:
        unseen = {
            "test": " that it has not seen",
            "validation": " of its validation part",
            "train": " that it was trained on",
        }
        if scores.source != run.settings.sources:
            unseen = {part: f" of the {part} part of {printable(scores.source)}" for part in unseen}
        elif any("were used in training: the" in sentence for sentence in scores.notes):
            unseen["test"] = " of its test part"
        images = f"{scores.images:,} images{unseen.get(scores.split, '')}"
        if scores.split == "all":
            images = f"{scores.images:,} images from {printable(scores.source)}"
        between = scores.interval and f" (95 % interval {percent(scores.interval[0])} to {percent(scores.interval[1])})"
        if scores.task == "regression":
            sentence = f"{trained} explains {percent(scores.accuracy)} of the variance (R²) of {images}."
            big.append(("R²", f"{scores.accuracy:.3f}", "1 is perfect, 0 is the mean"))
            big.append(("Mean absolute error", number_text(scores.mae), "in the numbers' own unit"))
        else:
            what = "answers" if scores.task == "classification" else "gets"
            right = "of the labels right on" if scores.task == "multi-label" else "right of"
            if scores.task == "classification":
                sentence = f"{trained} correctly answers {percent(scores.accuracy)} of {images}{between or ''}."
            else:
                sentence = f"{trained} {what} {percent(scores.accuracy)} {right} {images}{between or ''}."
            sentence += f" Always giving the commonest answer would reach {percent(scores.chance)}."
            interval = f"{percent(scores.interval[0])} to {percent(scores.interval[1])}" if scores.interval else ""
            big.append(
                (
                    f"{scores.split.capitalize()} accuracy" if scores.split != "all" else "Accuracy",
                    percent(scores.accuracy),
                    interval,
                )
            )
            if scores.exact_match is not None:
                big.append(("All labels right", percent(scores.exact_match), "of the images"))
        big.append(
            ("Loss", f"{scores.loss:,.3f}", "squared error" if scores.task == "regression" else "cross-entropy, nats")
        )
    gap = gap_of(run)
    if gap is not None and run.task != "regression":
        points = f"{100 * gap['difference']:+.1f}".replace("-", "−")
        big.append(("Gap to training", points, "points, training − validation"))
    big.append(("Parameters", f"{run.parameters:,}", ""))
    remark = (
        "with the images' features" if run.settings.solved else f"best epoch {run.best_epoch} of {len(run.history)}"
    )
    big.append(("Learning" if run.settings.solved else "Training", seconds_text(run.seconds), remark))
    notes = "".join(
        note(sentence, warn="used in training" in sentence) for sentence in (scores.notes if scores else ())
    )
    return (
        f'<p class="eyebrow">convoscope report · {text(Path(run.folder).name)}</p><h1>{text(_name(run))}: {text(_kinds(run))}</h1>'
        f'<p class="lead">{text(sentence)}</p>{notes}{facts(big)}'
    )


def _head_parameters(run: Run) -> int:
    """How many parameters a relearned run's head has."""
    assert run.settings.relearned is not None
    layers = tuple(f"{name}." for name in run.settings.relearned.layers)
    return sum(value.numel() for name, value in run.weights().items() if name.startswith(layers))


def _data(run: Run, prepared: Prepared | None, missing: str) -> str:
    form = run.settings.input
    kind = {1: "grey", 3: "colour"}.get(form.channels, f"{form.channels} channels")
    words = {
        "fit": "fitted whole into the frame, the rest filled with the background",
        "crop": "cut to fill the frame",
        "stretch": "stretched to the frame",
    }
    purpose = _PURPOSE | ({"validation": "validation (choosing the head)"} if run.settings.solved else {})
    parts = ", ".join(f"{_count(run, split):,} for {purpose[split]}" for split in SPLITS if _count(run, split))
    read = ", and ".join(
        f"{source}, read as {layout}"
        for source, layout in ((run.settings.source, run.settings.layout), *run.settings.added)
    )
    result = paragraph(
        f"{read}: {parts}. Each image is {words[form.resize]}: {form.height} × {form.width} pixels, {kind}."
    )
    if prepared is None:
        return result + note(f"The images are not where they were, so none are shown here: {missing}")
    dataset = prepared.dataset
    result += _samples(run, prepared)
    counts = dataset.counts()
    if run.task != "regression":
        shown = [split for split in SPLITS if _count(run, split) or sum(counts[split].values())]
        rows = [
            [name, *(f"{counts[split][name]:,}" for split in shown), f"{sum(counts[split][name] for split in shown):,}"]
            for name in run.classes
        ]
        rows_total = None
        if run.task == "classification":
            sums = [sum(counts[split].values()) for split in shown]
            rows_total = ["all", *(f"{number:,}" for number in sums), f"{sum(sums):,}"]
        grid = table(
            ["class" if run.task == "classification" else "label", *shown, "all"], rows, wrapped=[0], total=rows_total
        )
        result += f"<details{' open' if len(rows) <= 12 else ''}><summary>Images in each class and part</summary>{grid}</details>"
    if dataset.skipped:
        most = 200
        rows = [[item.path, item.reason] for item in dataset.skipped[:most]]
        more = f" The first {most} are listed." if len(dataset.skipped) > most else ""
        grid = table(["file", "reason"], rows, texts=[1], wrapped=[0, 1])
        title = (
            f"{len(dataset.skipped):,} file{'s' if len(dataset.skipped) != 1 else ''} left out, with the reason.{more}"
        )
        result += f"<details><summary>{text(title)}</summary>{grid}</details>"
    return result


_PURPOSE = {"train": "training", "validation": "validation (choosing the best epoch)", "test": "the test"}


def _samples(run: Run, prepared: Prepared) -> str:
    """Some training images of each class, as the network gets them."""
    dataset = prepared.dataset
    train = dataset.indices("train")
    groups: list[tuple[str, np.ndarray[Any, Any]]] = []
    if run.task == "regression":
        groups.append(("examples", train))
    else:
        for k, name in enumerate(run.classes[:MOST_CLASSES_SHOWN]):
            chosen = dataset.targets[train] == k if run.task == "classification" else dataset.targets[train, k] > 0
            groups.append((name, train[chosen]))
    rows = []
    for name, members in groups:
        images = [prepared.pixels[row] for row in _spread(members, SAMPLES)]
        if images:
            cells = "".join(thumbnail(image, name, 112) for image in images)
            count = "" if run.task == "regression" else f"<small>{len(members):,} to train on</small>"
            rows.append(f'<span>{text(name)}{count}</span><div class="row">{cells}</div>')
    more = ""
    if run.task != "regression" and len(run.classes) > MOST_CLASSES_SHOWN:
        more = paragraph(f"The first {MOST_CLASSES_SHOWN} of {len(run.classes)} are shown.", "quiet")
    return f'<div class="classes">{"".join(rows)}</div>{more}'


def _spread(rows: np.ndarray[Any, Any], count: int) -> np.ndarray[Any, Any]:
    """Up to `count` rows, evenly from all of them."""
    if len(rows) <= count:
        return rows
    return rows[np.linspace(0, len(rows) - 1, count).astype(np.int64)]


def thumbnail(pixels: np.ndarray[Any, Any], description: str, side: int) -> str:
    """One image on a page, at most `side` pixels large in the file."""
    image = to_image(pixels)
    small = image if max(image.size) <= side else enlarge(image, side)
    return picture(small, description, sharp=max(image.size) <= 64)


def _model(run: Run, inside: bool) -> str:
    layers = table_of(run) if inside else None
    height, width, channels = shape_of(run.settings.input)
    written = run.settings.model.strip()
    result = code(written)
    if layers is not None and layers.model.strip() != written:
        result = paragraph(f"{written}, which stands for:") + code(layers.model.strip())
    if run.settings.relearned is not None:
        result += _taken_over(run)
    if not inside:
        again = test_command(run)
        return result + paragraph(
            f"{run.parameters:,} parameters. The table of layers, the filters and a look inside: {again}", "quiet"
        )
    if layers is None:
        return result + paragraph(f"{run.parameters:,} parameters; no table of layers for a module of your own.")
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
    header = ["layer", "output", "parameters", "which are", "multiply-adds", "sees pixels"]
    grid = table(header, rows, texts=[3], total=total)
    if len(rows) > 30:
        return f"{result}<details><summary>{len(rows)} layers</summary>{grid}</details>"
    return result + grid


def _taken_over(run: Run) -> str:
    relearned = run.settings.relearned
    assert relearned is not None
    head = {"linear": "logistic regression", "mean": "the nearest class mean", "mlp": "one hidden layer"}.get(
        relearned.head, relearned.head
    )
    pull = f", its weights pulled towards zero by {relearned.l2:.2g}" if relearned.l2 else ""
    views = f", each looked at {relearned.augmented_views} times" if relearned.augmented_views > 1 else ""
    learned = ""
    if run.settings.backbone_learns:
        learned = " That was the first epoch; from the second on the backbone learned too."
    elif not run.settings.solved:
        learned = " That was the first epoch; from the second on the head was trained further, in steps. The backbone stayed as it was."
    return paragraph(
        f"Relearned: the backbone was taken over from {relearned.backbone}, the head is new: {head}{pull}, on the features of the training "
        f"images{views}.{learned}"
    )


def _size(value: object) -> str:
    if isinstance(value, list | tuple):
        return " × ".join(str(part) for part in value)
    return "" if value is None else str(value).replace("x", " × ")


def _square(side: object) -> str:
    return f"{side} × {side}" if isinstance(side, int) else _size(side)


def learning_charts(run: Run) -> list[str]:
    """Loss and accuracy of training and validation, epoch by epoch."""
    rows: list[dict[str, Any]] = [dict(row) for row in run.history]
    best = (float(run.best_epoch), "best epoch") if run.best_epoch else None
    measure = "R²" if run.task == "regression" else "Accuracy"
    result = []
    for key, title in (("loss", "Loss"), ("accuracy", measure)):
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
        values = [y for curve in curves for _, y in curve.points]
        share = key == "accuracy" and run.task != "regression"
        drawing = line_chart(
            [curve for curve in curves if curve.points],
            title=title,
            x_label="epoch",
            x_ticks=_epochs(len(rows)),
            y_text=(lambda value: f"{100 * value:.0f} %") if share else number_text,
            y_range=(charts.accuracy_floor(values), 1.0) if share and values else None,
            marker=best,
        )
        result.append(figure(drawing))
    return result


def _epochs(count: int) -> list[float]:
    if count <= 12:
        return [float(epoch) for epoch in range(1, count + 1)]
    return [tick for tick in charts.ticks(1, count, 6) if tick == int(tick)]


def _learning(run: Run) -> str:
    if not run.history:
        return paragraph("No epoch is done yet.")
    gap = gap_of(run)
    words = paragraph(gap["sentence"]) if gap is not None else paragraph("There is no validation part to compare with.")
    if run.settings.solved:
        row: dict[str, Any] = dict(run.history[-1])
        rows = [
            [name, number_text(row[f"{part}_loss"]), percent(row[f"{part}_accuracy"])]
            for part, name in (("train", "training"), ("val", "validation"))
            if row[f"{part}_loss"] is not None
        ]
        about = "Measured once, with the finished head, on images as they are."
        return words + table(["", "loss", "accuracy"], rows) + paragraph(about, "quiet")
    recipe = run.settings.recipe.model_dump()
    epochs = recipe["epochs"]
    late = epochs - min(math.ceil(0.7 * epochs), epochs - 1)
    early = ""
    if recipe.get("start_size", 1) < recipe.get("end_size", 1) and late < epochs:
        early = f", before the last {'one' if late == 1 else f'{late} epochs'} on smaller ones"
    about = f"Training figures are means over the epoch, while the weights still change{' and the images are varied' if varies(run) else ''}"
    if _count(run, "validation"):
        about += f"; validation figures are measured after the epoch on images as they are{early}"
    about += "."
    return words + figures(learning_charts(run)) + paragraph(about, "quiet")


def _untested(run: Run) -> str:
    return paragraph("This run has not been tested yet. One command does it:") + code(test_command(run))


def _tested(run: Run, scores: Scores, prepared: Prepared | None) -> list[Section]:
    tested = f"{scores.images:,} images, {part_name(scores.split)} of {printable(scores.source)}."
    sections = []
    if scores.task == "classification" and scores.confusion:
        sections.append(Section("confusion", "What is taken for what", paragraph(tested, "quiet") + _confusion(scores)))
    elif scores.pairs is not None:
        drawings = [figure(charts.pairs_chart(name, entries)) for name, entries in scores.pairs.items()]
        sections.append(Section("numbers", "Predicted against true", paragraph(tested, "quiet") + figures(drawings)))
    sections.append(
        Section(
            "classes",
            {"classification": "Class by class", "multi-label": "Label by label", "regression": "Number by number"}[
                scores.task
            ],
            _per_class(scores),
        )
    )
    if scores.calibration is not None:
        sections.append(Section("calibration", "Can its confidence be believed?", _calibration(scores)))
    if scores.unknown is not None:
        sections.append(Section("unknown", "None of these", _unknown(run, scores)))
    sections.append(Section("mistakes", "Worst mistakes", _mistakes(scores)))
    if scores.invariance is not None:
        sections.append(Section("invariance", "Shifted, turned, scaled", _invariance(run, scores, prepared)))
    return sections


def _confusion(scores: Scores) -> str:
    named = charts.confused_pairs(scores.confusion, scores.classes)
    if len(scores.classes) <= charts.LARGEST_NUMBERED:
        drawing = charts.confusion_chart(scores.confusion, scores.classes)
        under = "Rows are the true class, columns the answer. The shade is the share of the row: blue right, red wrong."
        result = figure(drawing, under, scroll=True)
    else:
        heat = charts.confusion_image(scores.confusion)
        description = f"Confusion matrix of {len(scores.classes)} classes as a picture"
        result = (
            f'<div class="heat">{picture(heat, description, sharp=True)}</div>'
            + paragraph(
                f"{len(scores.classes)} classes, one cell for each pair, rows the true class, columns the answer, in the order of the "
                "table below. Blue right, red wrong; the shade is the square root of the share of the row.",
                "quiet",
            )
        )  # fmt: skip
    if named and len(scores.classes) > 2:
        rows = [[true, answer, f"{number:,}", percent(share)] for true, answer, number, share in named]
        grid = table(["true class", "taken for", "images", "of the class"], rows, texts=[0, 1], wrapped=[0, 1])
        return beside([result, f"<h3>The commonest confusions</h3>{grid}"])
    return result


def _per_class(scores: Scores) -> str:
    header, rows = scores.rows()
    order = range(len(rows))
    hint = ""
    if scores.task != "regression" and len(rows) > 2:
        values = list(scores.per_class.values())
        order = sorted(order, key=lambda k: (values[k]["f1"] is None, values[k]["f1"] or 0.0))  # type: ignore[assignment]
        hint = "The weakest class first. "
    if scores.task == "multi-label":
        hint += "A label counts as given from a probability of 0.5 on. "
    total = None
    if scores.task == "classification":
        total = ["all", "", "", percent(scores.macro_f1), f"{scores.images:,}"]
    elif scores.task == "multi-label":
        total = ["all", "", "", percent(scores.macro_f1), "", f"{scores.images:,}"]
        hint += f"Micro F1, over all labels of all images, is {percent(scores.micro_f1)}. "
    extra = f"Top-5 accuracy {percent(scores.top5)}. " if scores.top5 is not None else ""
    explain = {
        "classification": "Precision: how many of its answers for the class are right. Recall: how many of the class's images it finds. "
        "F1: their harmonic mean; the last row has its mean over the classes. A dash: the class never occurs or is never answered.",
        "multi-label": "Precision: how many of the images given the label have it. Recall: how many that have it are found. "
        "F1: their harmonic mean; the last row has its mean over the labels. Average precision: over all thresholds.",
        "regression": "MAE and RMSE: mean absolute error and root of the mean squared error, in the number's own unit. R²: share of the "
        "variance explained.",
    }[scores.task]
    return paragraph(f"{hint}{extra}{explain}") + table(header, [rows[k] for k in order], wrapped=[0], total=total)


def _calibration(scores: Scores) -> str:
    assert scores.calibration is not None
    bins = [entry for entry in scores.calibration["bins"] if entry["images"]]
    lean = sum(entry["images"] * (entry["confidence"] - entry["accuracy"]) for entry in bins)
    lean /= sum(entry["images"] for entry in bins)
    error = scores.calibration["ece"]
    if scores.task == "multi-label":
        words = f"Probabilities of labels are off by {100 * error:.1f} percentage points on average."
    elif error < 0.02:
        words = f"Yes: its confidence is off by {100 * error:.1f} percentage points on average."
    elif lean > 0:
        words = f"Not quite: its confidence is off by {100 * error:.1f} percentage points on average, and on the whole it is too sure."
    else:
        words = f"Not quite: its confidence is off by {100 * error:.1f} percentage points on average, and on the whole it is too modest."
    what = "the share of images that have the label" if scores.task == "multi-label" else "how often it is right"
    chart = figure(
        charts.calibration_chart(scores.calibration, labels=scores.task == "multi-label"),
        f"Across: how sure it is. Up: {what} at that confidence. On the dashed line both agree. Below: how many images.",
    )
    return paragraph(words) + f'<div style="max-width:480px">{chart}</div>'


def _unknown(run: Run, scores: Scores) -> str:
    assert scores.unknown is not None
    found = scores.unknown
    accepted = scores.images - found["refused"]
    count = _count(run, "validation")
    asked, most = found["coverage"], count / (count + 1)
    promise = f"{100 * asked:.4g} % of new images of the classes are accepted in the mean"
    if asked > most:
        promise = f"at most {percent(most)} of new images of the classes are accepted in the mean, as many as {count:,} images can tell of the {100 * asked:.4g} % asked for"
    own = (
        " These images have set the threshold themselves, so new ones may be refused more often."
        if scores.split == "validation"
        else ""
    )
    words = (
        f"Images farther than {found['threshold']:.3f} from the training images are answered with <b>unknown</b>. The validation "
        f"images set this threshold so that {promise}. What that costs here: {found['refused']:,} of "
        f"{scores.images:,} images, all of them of known classes, would be refused; {found['refused_right']:,} of these had the right label.{own}"
    )
    if found["accuracy_accepted"] is not None:
        words += f" Of the {accepted:,} accepted {percent(found['accuracy_accepted'])} are right, of all {percent(scores.accuracy)}."
    chart = figure(
        charts.distances_chart(found),
        "Across: an image's distance, 1 - cosine to its nearest training images among the backbone's features. Strangers lie to the right.",
    )
    return f'<p>{words}</p><div style="max-width:620px">{chart}</div>'


def _mistakes(scores: Scores) -> str:
    if not scores.worst:
        return paragraph("It made none.")
    tiles = []
    for mistake in scores.worst:
        image = _stored(scores, mistake["image"])
        if image is None:
            continue
        truth, answer = caption(mistake, scores.task)
        small = image if max(image.size) <= 240 else enlarge(image, 240)
        shown = picture(small, f"{truth}; {answer}", sharp=max(image.size) <= 64)
        tiles.append(
            f'<figure title="{text(mistake["path"])}">{shown}<figcaption>{text(truth)}<br><b>{text(answer)}</b></figcaption></figure>'
        )
    words = {
        "classification": "Where it was wrong and surest of it. Some may be mistakes in the labels: have a look.",
        "multi-label": "Where it was wrong about a label and surest of it. Some may be mistakes in the labels: have a look.",
        "regression": "The largest errors.",
    }[scores.task]
    return paragraph(words) + f'<div class="tiles">{"".join(tiles)}</div>'


def _stored(scores: Scores, name: str) -> Image.Image | None:
    """An image of the test's folder, decoded here: whatever lies there, only its pixels reach the page."""
    if scores.folder is None or ".." in name or name.startswith("/"):
        return None
    try:
        check_plain(scores.folder / name)
        with (
            open(scores.folder / name, "rb", opener=open_plain) as file,
            Image.open(file, formats=["PNG"]) as image,
        ):
            image.load()
            return image if image.mode in ("L", "RGB") else image.convert("RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError, MachineError):
        return None


def _invariance(run: Run, scores: Scores, prepared: Prepared | None) -> str:
    entry = scores.invariance
    assert entry is not None
    kept = percent(entry["kept"], 0)
    measure = "R²" if scores.task == "regression" else "accuracy"
    drawings = charts.invariance_charts([(measure, entry)], ["blue"], [""], legend=False)
    strips = _moved(entry, prepared, scores)
    parts = [figure(drawing) + (strips[position] if strips else "") for position, drawing in enumerate(drawings)]
    rows = [
        [name, range_text(kind, entry["ranges"])]
        for kind, name in (("shift", "shift"), ("turn", "turn"), ("scale", "size"))
    ]
    untouched = f"{entry['untouched']:.3f}" if scores.task == "regression" else percent(entry["untouched"])
    doubt = ""
    if min(row["accuracy"] for kind in ("shift", "turn", "scale") for row in entry[kind]) < -1:
        doubt = " R² below −1 is drawn at −1."
    if scores.task == "classification":
        share = entry["untouched"]
        low, high = wilson(round(share * entry["images"]), entry["images"])
        points = 50 * (high - low)
        doubt = f" With so many images a point is uncertain by about {points:.1f} percentage points."
    return (
        paragraph(
            f"The same {entry['images']:,} images, moved before the network gets them. Untouched, {measure} is {untouched} on them. "
            f"Shifts are the mean of sideways and up or down; what comes in from outside is the image's own background (the median of its edge).{doubt}"
        )
        + figures([f"<div>{part}</div>" for part in parts])
        + f"<h3>How far it keeps {kept} of its {measure}</h3>"
        + table(["", "keeps up over"], rows, texts=[1])
    )  # fmt: skip


def _moved(entry: dict[str, Any], prepared: Prepared | None, scores: Scores) -> list[str] | None:
    """One test image as it looks under each curve."""
    if prepared is None:
        return None
    rows = prepared.dataset.indices("test")
    if not len(rows):
        rows = prepared.dataset.indices("validation")
    if not len(rows):
        return None
    image = np.array(prepared.pixels[rows[:1]])
    reach = max(row["pixels"] for row in entry["shift"])
    moved = (
        [geometry.shift(image, right=step) for step in (-reach, -(reach // 2), 0, reach // 2, reach)],
        [geometry.turn(image, degrees) for degrees in (-180, -90, 0, 90, 180)],
        [geometry.scale(image, factor) for factor in (0.5, 0.75, 1.0, 1.25, 1.5)],
    )
    return [
        '<div class="moved">' + "".join(thumbnail(step[0], "a test image, moved", 96) for step in steps) + "</div>"
        for steps in moved
    ]


def _filters(run: Run) -> str:
    try:
        found = pictures.first_filters(run.network(), shape_of(run.settings.input))
    except ConvoscopeError as error:
        return note(f"The weights cannot be shown: {error}")
    if found is None:
        return ""
    kind, weights = found
    reach = float(np.abs(weights).max())
    count, channels, height, width = weights.shape
    most = MOST_FILTERS_SHOWN if kind == "convolution" else MOST_FILTERS_SHOWN // 2
    images = "".join(
        picture(filter_image(filter_weights, reach), f"filter {position}", sharp=True)
        for position, filter_weights in enumerate(weights[:most], 1)
    )
    if kind == "convolution":
        words = f"{count} filter{'' if count == 1 else 's'} of {height} × {width}"
        words += (
            f", each of {channels} kernels, one for each channel of the image, side by side." if channels > 1 else "."
        )
    else:
        words = f"{count} neurons, each with one weight for each pixel" + (" and channel." if channels > 1 else ".")
    if count > most:
        words += f" The first {most} are shown."
    large = " large" if max(height, width) > 7 else ""
    bar = f'<div class="scale"><span>−{reach:.3g}</span><i></i><span>{reach:.3g}</span><span>blue negative, red positive</span></div>'
    return paragraph(words) + bar + f'<div class="filters{large}">{images}</div>'


def _training(run: Run) -> str:
    settings = run.settings
    engine = dict(settings.engine)
    reason = str(engine.pop("reason", ""))
    machine = ", ".join(f"{key.replace('_', ' ')} {_plain(value)}" for key, value in engine.items())
    seconds = run.seconds
    epochs = len(run.history)
    each = f", {seconds / epochs:.2f} s an epoch" if epochs else ""
    duration = f"{seconds_text(seconds)} for {epochs} epoch{'s' if epochs != 1 else ''}{each}, validation included"
    if settings.solved:
        duration = f"{seconds_text(seconds)}, features, head and validation together"
    entries = [
        ("started", str(settings.started)),
        ("time", duration),
        ("computed with", machine),
        *([("because", reason)] if reason else []),
        ("seed", str(settings.seed)),
        (
            "normalisation",
            f"mean {', '.join(f'{value:.4f}' for value in settings.mean)}; spread {', '.join(f'{value:.4f}' for value in settings.std)}, "
            + ("as the backbone was trained" if settings.relearned is not None else "measured on the training part"),
        ),
        ("versions", ", ".join(f"{name} {version}" for name, version in settings.versions.items())),
    ]
    used = settings.recipe.model_dump()
    if settings.solved:  # the others have no say where only a head is made
        assert settings.relearned is not None
        used = {
            key: getattr(settings.relearned, key) for key in ("head", "augmented_views", "l2", "coverage", "neighbours")
        }
        used["class_weights"] = settings.recipe.class_weights
    recipe = [(key.replace("_", " "), _plain(value)) for key, value in used.items()]
    notes = "".join(paragraph(sentence, "quiet") for sentence in settings.notes)
    return pairs(entries) + notes + "<h3>Recipe</h3>" + f'<div class="columns">{pairs(recipe)}</div>'


def _plain(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _shell(path: object) -> str:
    import shlex

    return shlex.quote(printable(path))


def _use(run: Run) -> str:
    folder = _shell(run.folder)
    return (
        paragraph(
            "Ask it about other images, as a table, CSV or JSON; they go through the same preparation as in training:"
        )
        + code(f"convoscope predict {folder} photo.jpg more-photos/")
        + paragraph("The same in Python:")
        + code(f'from convoscope import Run\n\nRun.open({printable(run.folder)!r}).predict("photo.jpg")')
        + paragraph("Test it on other images of the same classes, and lay it beside other runs:")
        + code(f"convoscope test {folder} SOURCE\nconvoscope compare {folder} OTHER-RUN")
    )


__all__: Sequence[str] = ["write_report"]
