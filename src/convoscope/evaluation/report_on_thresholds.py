"""The report's sections on what can be had by choosing a threshold, and on how confident the network may be taken."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..render import Drawing, figure, figures, legend, paragraph, table
from . import charts
from .charts import Axis, Curve, line_chart
from .results import Scores
from .run_facts import image_count
from .text import area_text, percent

if TYPE_CHECKING:
    from ..training import Run

STYLES = [(colour, dash) for dash in ("", "6 3") for colour in ("blue", "orange", "green", "purple", "red", "brown")]
"""Colour and dash of each class's curve."""


def thresholds(scores: Scores) -> str:
    """Curves of the classes, and the table to choose a threshold by."""
    result = figures([figure(drawing) for drawing in curve_charts(scores)]) if scores.curves else ""
    if len(scores.curves) > 1:
        result += legend([(_swatch(*style), name) for name, style in zip(scores.curves, STYLES, strict=False)])
    if len(scores.curves) < len(scores.classes) and len(scores.classes) > 2:
        result += paragraph(f"The {len(scores.curves)} classes that are hardest to find are shown.", "quiet")
    if scores.thresholds:
        name = scores.classes[1]
        words = (
            f"An image counts as {name} from a probability on. A low threshold finds more of them, a high one raises "
        )
        words += (
            f"fewer false alarms; the answers above use 50 %. ROC curve and precision-recall curve are those of {name}."
        )
        rows = [
            [
                percent(row.threshold, 0), f"{row.chosen:,}", percent(row.recall), percent(row.precision),
                percent(row.false_alarms), percent(row.accuracy),
            ]
            for row in scores.thresholds
        ]  # fmt: skip
        header = ["from", f"taken for {name}", "of them found (recall)", "of these right (precision)"]
        result = (
            paragraph(words) + result + table([*header, f"false alarms among {scores.classes[0]}", "accuracy"], rows)
        )
    if scores.coverage:
        words = "If only answers of at least this confidence are used and the other images are given to a person:"
        rows = [
            [percent(row.confidence, 1 if row.confidence * 100 % 1 else 0), percent(row.coverage), f"{row.images:,}",
             percent(row.accuracy)]
            for row in scores.coverage
        ]  # fmt: skip
        header = ["confidence from", "coverage", "images", "accuracy on them"]
        result += "<h3>Accuracy against coverage</h3>" + paragraph(words) + table(header, rows)
    return result


def _swatch(colour: str, dash: str) -> Drawing:
    sheet = Drawing(22, 10, "")
    sheet.line([(0, 5), (22, 5)], colour, width=2.5, dash=dash)
    return sheet


def curve_charts(scores: Scores) -> list[Drawing]:
    """ROC and precision-recall curves of all classes that have them, with their areas."""
    share = Axis(text=lambda value: f"{100 * value:.0f} %", ticks=(0, 0.25, 0.5, 0.75, 1), range=(0.0, 1.0))

    def chart(kind: str, title: str, across: str, up: str, area: str) -> Drawing:
        curves = [
            Curve(name=name, points=[(0.0, points[0][1]), *points], colour=colour, dash=dash)
            for (name, curve), (colour, dash) in zip(scores.curves.items(), STYLES, strict=False)
            for points in [getattr(curve, kind)]
        ]
        areas = [scores.per_class[name].get(area) for name in scores.curves]
        found = [value for value in areas if value is not None]
        said = f"area {area_text(min(found))}" if found else ""
        said += f" to {area_text(max(found))}" if len(found) > 1 else ""
        x = Axis(label=f"{across} (across), {up} (up)", text=share.text, ticks=share.ticks)
        return line_chart(curves, title=f"{title}, {said}", x=x, y=share, legend=False)

    return [
        chart("roc", "ROC curve", "false positive rate", "recall", "roc_auc"),
        chart("precision_recall", "Precision-recall", "recall", "precision", "average_precision"),
    ]


def calibration(run: Run, scores: Scores) -> str:
    """Whether confidence agrees with accuracy, before and after the temperature, and how sure mistakes are."""
    assert scores.calibration is not None
    bins = scores.calibration.filled()
    lean = sum(entry.images * (confidence - accuracy) for entry, confidence, accuracy in bins)
    error = scores.calibration.ece
    off = f"off by {100 * error:.1f} percentage points on average"
    if scores.task == "multi-label":
        words = f"The probabilities of labels are {off}."
    elif error < 0.02:
        words = f"Yes: its confidence is {off}."
    else:
        words = f"Not quite: its confidence is {off}, and mostly too {'high' if lean > 0 else 'low'}."
    what = "the share of images that have the label" if scores.task == "multi-label" else "how often it is right"
    chart = figure(
        charts.calibration_chart(scores.calibration, labels=scores.task == "multi-label"),
        f"Across: its confidence. Up: {what} at that confidence. On the dashed line both agree. "
        "Below: how many images have that confidence.",
    )
    drawings = [chart]
    if scores.task == "classification":
        under = (
            "How many right and wrong answers have which confidence; the height is a square root, so that few are seen."
        )
        drawings.append(figure(charts.confidence_chart(scores.calibration), under))
    drawn = figures(drawings) if len(drawings) > 1 else f'<div style="max-width:480px">{chart}</div>'
    return paragraph(words) + _temperature(run, scores) + drawn


def _temperature(run: Run, scores: Scores) -> str:
    """What the temperature has changed, or why there is none."""
    before = scores.uncalibrated
    if before is None:
        count = image_count(run, "validation")
        few = f"{count:,} validation images are too few" if count < 30 else "the run is older than that"
        return paragraph(f"No temperature was fitted to the validation images: {few}.", "quiet")
    after = scores.calibration
    rows = [
        ["expected calibration error", percent(before.ece), percent(after.ece if after else None)],
        ["negative log-likelihood", f"{before.loss:.4f}", f"{scores.loss:.4f}"],
    ]
    words = (
        f"All raw scores are divided by a temperature of {before.temperature:.3f}, fitted to the validation images. On "
        "the tested images, without it and with it:"
    )
    brier = "" if scores.brier is None else f"The Brier score is {scores.brier:.4f}; 0 is perfect."
    return paragraph(words) + table(["", "without", "with"], rows) + paragraph(brier, "quiet")
