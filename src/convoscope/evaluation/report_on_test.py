"""The report's sections on the run's last test."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from .. import geometry
from ..errors import MachineError, printable
from ..files import check_plain, open_plain
from ..render import Section, beside, code, enlarge, figure, figures, fold, paragraph, picture, table, tiles
from . import charts, report_on_thresholds
from .measures import wilson
from .report_on_run import LONG_TABLE, thumbnail
from .results import KINDS, Invariance, Scores
from .run_facts import image_count, test_command
from .text import area_text, part_name, percent

if TYPE_CHECKING:
    from ..data import Prepared
    from ..training import Run


def untested(run: Run) -> Section:
    """What is there instead, as long as nothing was tested."""
    return Section("test", "Test", paragraph("This run has not been tested yet. To test it:") + code(test_command(run)))


def tested(run: Run, scores: Scores, prepared: Prepared | None) -> list[Section]:
    """All sections on the test."""
    what = paragraph(f"{scores.images:,} images, {part_name(scores.split)} of {printable(scores.source)}.", "quiet")
    sections = []
    if scores.task == "classification" and scores.confusion:
        sections.append(Section("confusion", "What is mistaken for what", what + _confusion(scores)))
    elif scores.pairs is not None:
        drawings = [figure(charts.pairs_chart(name, entries)) for name, entries in scores.pairs.items()]
        sections.append(Section("numbers", "Predicted against true", what + figures(drawings)))
    each = {"classification": "Class by class", "multi-label": "Label by label", "regression": "Number by number"}[
        scores.task
    ]
    own = paragraph(f"Metrics of your own: {scores.metrics_text}.") if scores.metrics else ""
    sections.append(Section("classes", each, own + _per_class(scores)))
    if scores.curves or scores.coverage:
        sections.append(Section("thresholds", "Thresholds", report_on_thresholds.thresholds(scores)))
    if scores.calibration is not None:
        trusted = report_on_thresholds.calibration(run, scores)
        sections.append(Section("calibration", "Can its confidence be trusted?", trusted))
    if scores.unknown is not None:
        sections.append(Section("unknown", "None of these", _unknown(run, scores)))
    sections.append(Section("mistakes", "Worst mistakes", _mistakes(scores)))
    if scores.invariance is not None:
        sections.append(Section("invariance", "Shifted, turned, scaled", _invariance(scores, prepared)))
    return sections


def _confusion(scores: Scores) -> str:
    count = len(scores.classes)
    named = charts.confused_pairs(scores.confusion, scores.classes)
    if count <= charts.LARGEST_NUMBERED:
        drawing = charts.confusion_chart(scores.confusion, scores.classes)
        under = (
            "Rows are the true class, columns the answer. The stronger the colour, the larger the share of the row. "
            "Blue is right, red is wrong."
        )
        result = figure(drawing, under, scroll=True)
    else:
        heat = picture(
            charts.confusion_image(scores.confusion), f"Confusion matrix of {count} classes as a picture", sharp=True
        )
        under = (
            f"{count} classes, one cell for each pair: rows are the true class, columns the answer, in the order of "
            "the table below. Blue is right, red is wrong; the shade is the square root of the share of the row."
        )
        result = f'<div class="heat">{heat}</div>' + paragraph(under, "quiet")
    if named and count > 2:
        rows = [[true, answer, f"{number:,}", percent(share)] for true, answer, number, share in named]
        grid = table(["true class", "mistaken for", "images", "of the class"], rows, texts=[0, 1], wrapped=[0, 1])
        return beside([result, f"<h3>The most frequent confusions</h3>{grid}"])
    return result


_MEASURES = {
    "classification": "Precision: how many of its answers for the class are right. Recall: how many of the "
    "class's images it "
    "finds. F1: their harmonic mean; the last row has its mean over the classes. A dash: the class never occurs or is "
    "never given as an answer.",
    "multi-label": "Precision: how many of the images given the label have it. Recall: how many of those that "
    "have it are "
    "found. F1: their harmonic mean; the last row has its mean over the labels. Average precision: over all "
    "thresholds.",
    "regression": "MAE and RMSE: mean absolute error and root of the mean squared error, in the number's own unit. "
    "R²: share of the variance explained.",
}


def _per_class(scores: Scores) -> str:
    header, rows = scores.rows()
    words = ""
    if scores.task == "classification":
        header = ("class", "recall", "95 % interval", "precision", "F1", "average precision", "ROC AUC", "images")
    elif scores.task == "multi-label":
        header = ("label", "recall", "95 % interval", "precision", "F1", "average precision", "ROC AUC", "images")
    if scores.task != "regression":
        rows = [_class_row(name, figures) for name, figures in scores.per_class.items()]
    if scores.task != "regression" and len(rows) > 2:
        f1 = [figures["f1"] for figures in scores.per_class.values()]
        rows = [rows[k] for k in sorted(range(len(rows)), key=lambda k: (f1[k] is None, f1[k] or 0.0))]
        words += "The weakest class comes first. "
    total = None
    if scores.task != "regression":
        total = ["all", "", "", "", percent(scores.macro_f1), "", "", f"{scores.images:,}"]
    if scores.task == "multi-label":
        words += (
            "A label counts as given if its probability is at least 0.5. "
            f"Micro F1, over all labels of all images, is {percent(scores.micro_f1)}. "
        )
    if scores.top5 is not None:
        words += f"Top-5 accuracy {percent(scores.top5)}. "
    grid = table(header, rows, wrapped=[0], total=total)
    if len(rows) > LONG_TABLE:
        weakest = table(header, rows[:LONG_TABLE], wrapped=[0])
        grid = weakest + fold(f"All {len(rows)}", grid)
    return paragraph(words + _MEASURES[scores.task]) + grid


def _class_row(name: str, figures: Mapping[str, Any]) -> tuple[str, ...]:
    """One class's line, with Wilson's interval of its recall."""
    recall, support = figures["recall"], figures["support"]
    low, high = wilson(round(recall * support), support) if recall is not None and support else (None, None)
    return (
        name,
        percent(recall),
        "–" if low is None else f"{percent(low)} to {percent(high)}",
        percent(figures["precision"]),
        percent(figures["f1"]),
        percent(figures.get("average_precision")),
        area_text(figures.get("roc_auc")),
        f"{support:,}",
    )


def _unknown(run: Run, scores: Scores) -> str:
    found = scores.unknown
    assert found is not None
    count = image_count(run, "validation")
    asked, most = found.coverage, count / (count + 1)
    promise = f"on average {100 * asked:.4g} % of new images of the classes are known"
    if asked > most:
        promise = (
            f"on average {100 * most:.4g} % of new images of the classes are known; {count:,} images are too few "
            f"for {100 * asked:.4g} %"
        )
    marked = "none is marked."
    if found.not_known:
        marked = f"{found.not_known:,} {'is' if found.not_known == 1 else 'are'} marked; the label of "
        marked += f"{found.not_known_right:,} of these is right."
    words = (
        f"Images farther than {found.threshold:.3f} from the training images are marked as <b>not known</b>: they "
        "probably show none of the classes. Their label is the most likely class all the same. "
        f"The threshold was set on the validation images so that {promise}. Here, of {scores.images:,} images, all of "
        f"the run's classes, {marked}"
    )
    if scores.split == "validation":
        words += " These are the images that set the threshold, so new ones may be marked more often."
    if found.not_known and found.accuracy_known is not None:
        words += (
            f" The accuracy on the other {scores.images - found.not_known:,} is {percent(found.accuracy_known)}, "
            f"on all {percent(scores.accuracy)}."
        )
    chart = figure(
        charts.distances_chart(found),
        "Across: an image's distance, 1 - cosine similarity of its features to those of the nearest training images. "
        "Images of other things are usually on the right.",
    )
    return f'<p>{words}</p><div style="max-width:620px">{chart}</div>'


def _mistakes(scores: Scores) -> str:
    if not scores.worst:
        return paragraph("It made none.")
    shown = []
    for mistake in scores.worst:
        image = stored_image(scores, mistake.image)
        if image is None:
            continue
        truth, answer = mistake.caption(scores.task)
        small = image if max(image.size) <= 240 else enlarge(image, 240)
        markup = picture(small, f"{truth}; {answer}", sharp=max(image.size) <= 64)
        shown.append((markup, truth, answer, mistake.path))
    words = {
        "classification": "The wrong answers with the highest confidence. Some of the labels may be wrong: "
        "have a look.",
        "multi-label": "The most confident wrong answers about a label. Some of the labels may be wrong: have a look.",
        "regression": "The largest errors.",
    }[scores.task]
    return paragraph(words) + tiles(shown)


def stored_image(scores: Scores, name: str) -> Image.Image | None:
    """An image of the test's folder, decoded here: whatever the file holds, only its pixels reach the page."""
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


def _invariance(scores: Scores, prepared: Prepared | None) -> str:
    found = scores.invariance
    assert found is not None
    regression = scores.task == "regression"
    measure = "R²" if regression else "accuracy"
    drawings = charts.invariance_charts([(measure, found)])
    strips = _moved(found, prepared)
    parts = [figure(drawing) + (strips[position] if strips else "") for position, drawing in enumerate(drawings)]
    names = {"shift": "shift", "turn": "turn", "scale": "size"}
    rows = [[names[kind], found.ranges.text(kind)] for kind in KINDS]
    untouched = f"{found.untouched:.3f}" if regression else percent(found.untouched)
    doubt = ""
    if min(accuracy for kind in KINDS for _, accuracy in found.curve(kind)) < -1:
        doubt = " R² below −1 is drawn at −1."
    if scores.task == "classification":
        low, high = wilson(round(found.untouched * found.images), found.images)
        doubt = f" With this many images each point is uncertain by about {50 * (high - low):.1f} percentage points."
    words = (
        f"The same {found.images:,} images, moved before they reach the network. Unmoved, its {measure} on them is "
        f"{untouched}. Shifts are the mean of sideways and up or down. What moves in from outside is filled with the "
        f"image's own background, the median of its edge.{doubt}"
    )
    return (
        paragraph(words)
        + figures([f"<div>{part}</div>" for part in parts])
        + f"<h3>How far it keeps {percent(found.kept, 0)} of its {measure}</h3>"
        + table(["", "from … to"], rows, texts=[1])
    )


def _moved(found: Invariance, prepared: Prepared | None) -> list[str] | None:
    """One test image as it looks under each curve."""
    if prepared is None:
        return None
    rows = prepared.dataset.indices("test")
    if not len(rows):
        rows = prepared.dataset.indices("validation")
    if not len(rows):
        return None
    image = np.array(prepared.pixels[rows[:1]])
    reach = max(point.pixels for point in found.shift)
    moved = (
        [geometry.shift(image, right=step) for step in (-reach, -(reach // 2), 0, reach // 2, reach)],
        [geometry.turn(image, degrees) for degrees in (-180, -90, 0, 90, 180)],
        [geometry.scale(image, factor) for factor in (0.5, 0.75, 1.0, 1.25, 1.5)],
    )
    return [
        '<div class="moved">' + "".join(thumbnail(step[0], "a test image, moved", 96) for step in steps) + "</div>"
        for steps in moved
    ]
