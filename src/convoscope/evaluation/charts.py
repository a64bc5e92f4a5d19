"""The figures of a test: curves, the confusion matrix, the calibration diagram. Numbers in, drawings out."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from ..render import COLOURS, Anchor, Drawing, shorten, text_width
from .results import KINDS, Calibration, Invariance, Kind, Unknown
from .text import number_text, percent

BALANCE = ("blue", "green", "orange")
"""Colours of the parts in the bars of classes."""

LARGEST_NUMBERED = 25
"""Confusion matrices with more classes than this are shown as a picture, without numbers."""

if TYPE_CHECKING:
    from ..training import LearningRates


@dataclass(frozen=True, kw_only=True)
class Curve:
    """One line of a chart."""

    name: str
    points: Sequence[tuple[float, float]]
    colour: str
    dash: str = ""
    dots: bool = False


@dataclass(frozen=True, kw_only=True)
class Axis:
    """One axis of a chart: its label, where it begins and ends, where its ticks are and how they are written.

    What is None follows from the curves.
    """

    label: str = ""
    text: Callable[[float], str] = number_text
    ticks: Sequence[float] | None = None
    range: tuple[float, float] | None = None


DEFAULT = Axis()


def epoch_axis(last: float) -> Axis:
    """The axis of epochs, with whole numbers only."""
    if last <= 12:
        return Axis(label="epoch", ticks=[float(epoch) for epoch in range(1, int(last) + 1)])
    return Axis(label="epoch", ticks=[tick for tick in ticks(1, last, 6) if tick == int(tick)])


def share_axis(values: Sequence[float]) -> Axis:
    """The axis of accuracies: percent, from a round tenth below the lowest of `values` to 100 %."""
    return Axis(text=_whole_percent, range=(accuracy_floor(values), 1.0) if values else None)


def _whole_percent(value: float) -> str:
    return f"{100 * value:.0f} %"


def ticks(low: float, high: float, about: int = 5) -> list[float]:
    """Round numbers that cover low..high: steps of 1, 2, 2.5 or 5 times a power of ten."""
    span = high - low
    if not span > 0:
        return [low]
    rough = span / about
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= rough * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [round(index * step, 12) for index in range(first, math.floor(high / step + 1e-9) + 1)]


def line_chart(
    curves: Sequence[Curve],
    *,
    title: str,
    x: Axis,
    y: Axis = DEFAULT,
    level: tuple[float, str] | None = None,
    marker: tuple[float, str] | None = None,
    size: tuple[float, float] = (420, 270),
    legend: bool = True,
) -> Drawing:
    """Curves over one x axis, with a legend above.

    `level` is a horizontal line and its name, such as chance; `marker` a vertical one, such as the best epoch.
    """
    width, height = size
    sheet = Drawing(width, height, title)
    left, right, top, bottom = 52.0, width - 18, 48.0, height - 40
    if not legend:
        top = 30.0
    every = [point for curve in curves for point in curve.points]
    xs, ys = [place for place, _ in every] or [0.0], [value for _, value in every] or [0.0]
    x0, x1 = min(xs), max(xs)
    if x0 == x1:
        x0, x1 = x0 - 0.5, x1 + 0.5
    y0, y1 = y.range if y.range is not None else _padded(min(ys), max(ys))

    def across(place: float) -> float:
        return left + (place - x0) / (x1 - x0) * (right - left)

    def up(value: float) -> float:
        return bottom - (min(max(value, y0), y1) - y0) / (y1 - y0) * (bottom - top)

    sheet.words(left, 14, title, colour="ink", size=13, bold=True)
    for tick in y.ticks if y.ticks is not None else ticks(y0, y1):
        sheet.line([(left, up(tick)), (right, up(tick))], "faint")
        sheet.words(left - 8, up(tick) + 4, y.text(tick), anchor="end")
    for tick in x.ticks if x.ticks is not None else ticks(x0, x1, 6):
        if x0 <= tick <= x1:
            sheet.line([(across(tick), bottom), (across(tick), bottom + 4)], "soft")
            sheet.words(across(tick), bottom + 18, x.text(tick), anchor="middle")
    sheet.line([(left, bottom), (right, bottom)], "soft")
    sheet.words((left + right) / 2, height - 6, x.label, anchor="middle")
    if marker is not None:
        place = across(marker[0])
        sheet.line([(place, top), (place, bottom)], "soft", dash="2 3")
        near_end = place > right - text_width(marker[1], 11) - 8
        sheet.words(place + (-4 if near_end else 4), top + 9, marker[1], size=11, anchor="end" if near_end else "start")
    if level is not None and y0 <= level[0] <= y1:
        sheet.line([(left, up(level[0])), (right, up(level[0]))], "muted", dash="5 4")
        sheet.words(right, 14, level[1], size=11, anchor="end")
        start = right - text_width(level[1], 11) - 24
        sheet.line([(start, 10), (start + 18, 10)], "muted", dash="5 4")
    for curve in curves:
        places = [(across(place), up(value)) for place, value in curve.points]
        if len(places) > 1:
            sheet.line(places, curve.colour, width=2, dash=curve.dash)
        if curve.dots or len(places) == 1:
            for (place, value), dot in zip(curve.points, places, strict=True):
                sheet.dot(*dot, 2.6, curve.colour, hint=f"{curve.name} {x.text(place)}: {y.text(value)}")
    if legend:
        start = left
        for curve in curves:
            sheet.line([(start, 30), (start + 18, 30)], curve.colour, width=2.5, dash=curve.dash)
            sheet.words(start + 23, 34, curve.name)
            start += 23 + text_width(curve.name, 12) + 16
    return sheet


def rates_chart(found: LearningRates) -> Drawing:
    """The loss of each step against its learning rate, and the suggestion."""
    places = [math.log10(rate) for rate in found.rates]
    curves = [
        Curve(name="loss of a batch", points=list(zip(places, found.losses, strict=True)), colour="faint"),
        Curve(name="smoothed", points=list(zip(places, found.smoothed, strict=True)), colour="blue"),
    ]
    top = 1.3 * max(found.smoothed[0], min(found.smoothed))
    low = min(0.0, *found.losses)
    powers = range(math.ceil(places[0] - 1e-9), math.floor(places[-1] + 1e-9) + 1)
    return line_chart(
        curves,
        title="Loss at rising learning rates",
        x=Axis(label="learning rate", text=lambda place: f"1e{place:.0f}" if place else "1", ticks=list(powers)),
        y=Axis(range=(low, top)),
        marker=(math.log10(found.suggestion), f"falls fastest at {found.suggestion:g}"),
        size=(560, 320),
    )


def _padded(low: float, high: float) -> tuple[float, float]:
    """A little room above and below; from zero where the numbers come near it."""
    span = (high - low) or abs(high) or 1.0
    base = 0.0 if 0 <= low < span else low - 0.06 * span
    return base, high + 0.06 * span


def accuracy_floor(values: Sequence[float]) -> float:
    """Where an axis of accuracies begins: a round tenth below the lowest, at most 0.9."""
    return min(0.9, max(0.0, math.floor(min(values) * 10 - 0.2) / 10)) if values else 0.0


def confusion_chart(confusion: Sequence[Sequence[int]], classes: Sequence[str]) -> Drawing:
    """Counts with shades: each row is shaded by its share, right answers in blue, mistakes in red."""
    count = len(classes)
    cell = 44 if count <= 8 else 36 if count <= 14 else 28
    size = 12 if cell >= 36 else 10
    names = [shorten(name, 16) for name in classes]
    longest = max(text_width(name, 12) for name in names)
    upright = longest > cell - 4
    left = longest + 34
    top = (longest + 44) if upright else 58.0
    sheet = Drawing(left + cell * count + 8, top + cell * count + 8, f"Confusion matrix of {count} classes")
    sheet.words(left + cell * count / 2, 13, "predicted", anchor="middle")
    sheet.words(13, top + cell * count / 2, "true", anchor="middle", upright=True)
    for column, name in enumerate(names):
        x = left + cell * (column + 0.5)
        if upright:
            sheet.words(x + 4, top - 8, name, colour="ink", upright=True)
        else:
            sheet.words(x, top - 10, name, colour="ink", anchor="middle")
    for row, name in enumerate(names):
        total = sum(confusion[row])
        sheet.words(left - 8, top + cell * (row + 0.5) + 4, name, colour="ink", anchor="end")
        for column in range(count):
            number = int(confusion[row][column])
            share = number / total if total else 0.0
            x, y = left + cell * column, top + cell * row
            sheet.box(x, y, cell - 1, cell - 1, "panel")
            if number:
                sheet.box(
                    x, y, cell - 1, cell - 1,
                    "blue" if row == column else "red",
                    opacity=0.12 + 0.88 * share,
                    hint=f"{classes[row]} taken for {classes[column]}: {number} of {total} ({percent(share)})",
                )  # fmt: skip
                text = f"{number:,}" if number < 10_000 else f"{number / 1000:.0f}k"
                sheet.words(
                    x + cell / 2 - 0.5, y + cell / 2 + size * 0.36, text,
                    colour="ground" if share > 0.45 else "ink", size=size, anchor="middle",
                )  # fmt: skip
    return sheet


def confusion_image(confusion: Sequence[Sequence[int]]) -> Image.Image:
    """Any number of classes as an RGBA image, one pixel a cell: opacity is the share of the row, blue right, red wrong.

    Small shares of mistakes are lifted (square root), so that they can be seen at all.
    """
    counts = np.asarray(confusion, dtype=np.float64)
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    result = np.zeros((*share.shape, 4), np.uint8)
    result[..., :3] = tuple(bytes.fromhex(COLOURS["red"][0][1:]))
    diagonal = np.arange(len(share))
    result[diagonal, diagonal, :3] = tuple(bytes.fromhex(COLOURS["blue"][0][1:]))
    result[..., 3] = np.round(np.sqrt(share) * 255)
    return Image.fromarray(result, "RGBA")


def confused_pairs(
    confusion: Sequence[Sequence[int]], classes: Sequence[str], most: int = 12
) -> list[tuple[str, str, int, float]]:
    """The commonest mistakes: true class, predicted class, number, share of the true class; most frequent first."""
    counts = np.asarray(confusion, dtype=np.int64).copy()
    totals = counts.sum(axis=1)
    np.fill_diagonal(counts, 0)
    order = np.argsort(-counts, axis=None, kind="stable")[:most]
    pairs = []
    for row, column in zip(*np.unravel_index(order, counts.shape), strict=True):
        number = int(counts[row, column])
        if number:
            pairs.append((classes[row], classes[column], number, number / int(totals[row])))
    return pairs


def calibration_chart(calibration: Calibration, *, labels: bool = False) -> Drawing:
    """Accuracy in each bin of confidence, beside the diagonal on which both agree; below, how many images are in it."""
    width, height = 420.0, 345.0
    sheet = Drawing(width, height, "Calibration: how confidence and accuracy agree")
    left, right, top, bottom = 52.0, width - 18, 30.0, 240.0
    floor, under = 304.0, 256.0
    bins = calibration.filled()
    total = sum(entry.images for entry, _, _ in bins)
    sheet.words(left, 14, "Calibration", colour="ink", size=13, bold=True)
    sheet.words(right, 14, f"expected error {percent(calibration.ece)}", anchor="end")

    def across(x: float) -> float:
        return left + x * (right - left)

    def up(y: float) -> float:
        return bottom - y * (bottom - top)

    for tick in (0.0, 0.25, 0.5, 0.75, 1.0):
        sheet.line([(left, up(tick)), (right, up(tick))], "faint")
        sheet.words(left - 8, up(tick) + 4, f"{100 * tick:.0f} %", anchor="end")
        sheet.words(across(tick), floor + 15, f"{100 * tick:.0f} %", anchor="middle" if tick < 1 else "end")
    sheet.line([(left, bottom), (right, top)], "muted", dash="5 4")
    most = max((entry.images for entry, _, _ in bins), default=1)
    for entry, _, _ in bins:
        x, wide = across(entry.start) + 1, (right - left) * (entry.to - entry.start) - 2
        tall = max(1.0, (floor - under) * entry.images / most)
        sheet.box(x, floor - tall, wide, tall, "soft", hint=f"{entry.images:,} of {total:,}")
    places = [(across(confidence), up(accuracy)) for _, confidence, accuracy in bins]
    if len(places) > 1:
        sheet.line(places, "blue", width=2)
    for (entry, confidence, accuracy), (x, y) in zip(bins, places, strict=True):
        hint = f"confidence {percent(confidence)}, accuracy {percent(accuracy)}, {entry.images:,} images"
        sheet.dot(x, y, 2.5 + 3 * math.sqrt(entry.images / most), "blue", hint=hint)
    sheet.line([(left, floor), (right, floor)], "soft")
    sheet.words((left + right) / 2, height - 6, "probability of the label" if labels else "confidence", anchor="middle")
    return sheet


def confidence_chart(calibration: Calibration) -> Drawing:
    """How sure right and wrong answers are: above the line the right ones, below it the wrong ones."""
    width, height = 420.0, 270.0
    sheet = Drawing(width, height, "Confidence of right and of wrong answers")
    left, right, top, bottom, middle = 52.0, width - 18, 40.0, 230.0, 160.0
    bins = [(entry, round(entry.images * accuracy)) for entry, _, accuracy in calibration.filled()]
    most = max(max(good, entry.images - good) for entry, good in bins) or 1
    sheet.words(left, 14, "Confidence", colour="ink", size=13, bold=True)
    sheet.words(left, 32, f"{sum(good for _, good in bins):,} right", colour="blue")
    sheet.words(left, bottom + 4, f"{sum(entry.images - good for entry, good in bins):,} wrong", colour="red")
    for entry, good in bins:
        x = left + entry.start * (right - left) + 1
        wide = (right - left) * (entry.to - entry.start) - 2
        for count, colour, down in ((good, "blue", False), (entry.images - good, "red", True)):
            if count:
                tall = max(2.0, (middle - top if not down else bottom - middle - 14) * math.sqrt(count / most))
                hint = (
                    f"{count:,} {'wrong' if down else 'right'} at {percent(entry.start, 0)} to {percent(entry.to, 0)}"
                )
                sheet.box(x, middle if down else middle - tall, wide, tall, colour, hint=hint)
    sheet.line([(left, middle), (right, middle)], "soft")
    for tick in (0.0, 0.25, 0.5, 0.75, 1.0):
        anchor: Anchor = "middle" if tick < 1 else "end"
        sheet.words(left + tick * (right - left), height - 18, f"{100 * tick:.0f} %", anchor=anchor)
    sheet.words((left + right) / 2, height - 3, "confidence", anchor="middle")
    return sheet


def balance_chart(counts: Sequence[tuple[str, Sequence[int]]], parts: Sequence[str]) -> Drawing:
    """How many images each class has in each part, as bars."""
    line, width, left = 22.0, 560.0, 150.0
    sheet = Drawing(width, 34 + line * len(counts), "Images in each class")
    most = max((sum(numbers) for _, numbers in counts), default=1) or 1
    start = left
    for part, colour in zip(parts, BALANCE, strict=False):
        sheet.box(start, 6, 12, 12, colour)
        sheet.words(start + 17, 16, part)
        start += 17 + text_width(part, 12) + 18
    for row, (name, numbers) in enumerate(counts):
        top, x = 30 + line * row, left
        sheet.words(left - 8, top + 12, shorten(name, 20), colour="ink", anchor="end")
        for part, colour, number in zip(parts, BALANCE, numbers, strict=False):
            wide = (width - left - 60) * number / most
            if number:
                sheet.box(x, top, max(0.5, wide), line - 8, colour, hint=f"{name}, {part}: {number:,}")
            x += wide
        sheet.words(x + 6, top + 12, f"{sum(numbers):,}", size=11)
    return sheet


def distances_chart(unknown: Unknown) -> Drawing:
    """How far the images are from the training images, those with right and wrong answers, and the threshold."""
    width, height = 520.0, 250.0
    sheet = Drawing(width, height, "How far the images are from the training images")
    left, right, top, floor = 44.0, width - 18, 40.0, 204.0
    edges = unknown.edges
    counts = list(zip(unknown.right, unknown.wrong, strict=True))
    most = max((sum(pair) for pair in counts), default=1) or 1
    sheet.words(left, 14, "Distance to the training images", colour="ink", size=13, bold=True)
    sheet.words(left, 30, "right", colour="blue")
    sheet.words(left + 40, 30, "wrong", colour="red")

    def across(x: float) -> float:
        return left + x / edges[-1] * (right - left)

    for share in (0.5, 1.0):
        tick = round(most * share)
        y = floor - (floor - top) * tick / most
        sheet.line([(left, y), (right, y)], "faint")
        sheet.words(left - 8, y + 4, f"{tick:,}", anchor="end")
    for begin, end, (good, bad) in zip(edges, edges[1:], counts, strict=False):
        x, wide = across(begin) + 0.5, across(end) - across(begin) - 1
        hint = f"{begin:.3f} to {end:.3f}: {good:,} right, {bad:,} wrong"
        tall, more = ((floor - top) * count / most for count in (good, bad))
        if good:
            sheet.box(x, floor - tall, wide, tall, "blue", hint=hint)
        if bad:
            sheet.box(x, floor - tall - more, wide, more, "red", hint=hint)
    limit = across(unknown.threshold)
    sheet.line([(limit, top - 8), (limit, floor)], "ink", dash="5 4")
    late = limit > (left + right) / 2
    sheet.words(limit + (-6 if late else 6), top - 4, "not known from here on", anchor="end" if late else "start")
    sheet.line([(left, floor), (right, floor)], "soft")
    for mark in ticks(0, edges[-1], 8):
        sheet.words(across(mark), floor + 16, number_text(mark), anchor="middle" if mark else "start")
    sheet.words((left + right) / 2, height - 8, "distance: 1 - cosine of the features", anchor="middle")
    return sheet


def invariance_charts(
    named: Sequence[tuple[str, Invariance]], styles: Sequence[tuple[str, str]] = (("blue", ""),)
) -> list[Drawing]:
    """The curves of shift, turn and scale of one or several runs: name and invariance of each, colour and dash."""
    chance = max(float(entry.chance) for _, entry in named)
    regression = any(entry.measure == "R2" for _, entry in named)
    lowest = min(accuracy for _, entry in named for kind in KINDS for _, accuracy in entry.curve(kind))
    axes: dict[Kind, Axis] = {
        "shift": Axis(label="shift in pixels, sideways and up or down"),
        "turn": Axis(label="turn in degrees, positive is anticlockwise", ticks=(-180, -90, 0, 90, 180), text=_degrees),
        "scale": Axis(label="size, 1 is unchanged", ticks=(0.5, 0.75, 1.0, 1.25, 1.5), text=_times),
    }
    y = Axis(text=number_text if regression else _whole_percent, range=(min(0.0, max(lowest, -1.0)), 1.0))
    level = "mean" if regression else f"chance {percent(chance, 0)}"
    return [
        line_chart(
            [
                Curve(
                    name=name,
                    points=entry.curve(kind),
                    colour=colour,
                    dash=dash,
                    dots=True,
                )
                for (name, entry), (colour, dash) in zip(named, styles, strict=True)
            ],
            title=kind.capitalize(),
            x=axes[kind],
            y=y,
            level=(chance, level),
            marker=((1.0 if kind == "scale" else 0.0), ""),
            size=(360, 250),
            legend=False,
        )
        for kind in KINDS
    ]


def _times(value: float) -> str:
    return f"{value:g}×"


def _degrees(value: float) -> str:
    return f"{number_text(value)}°"


def stacked(drawings: Sequence[Drawing], *, columns: int = 1) -> Image.Image:
    """Several drawings on one white sheet, for a PNG file."""
    images = [drawing.image() for drawing in drawings]
    wide, tall = max(image.width for image in images), max(image.height for image in images)
    rows = math.ceil(len(images) / columns)
    sheet = Image.new("RGB", (wide * columns, tall * rows), COLOURS["ground"][0])
    for position, image in enumerate(images):
        sheet.paste(image, (wide * (position % columns), tall * (position // columns)))
    return sheet


def pairs_chart(name: str, pairs: Sequence[Sequence[float]]) -> Drawing:
    """Predicted against true numbers of one column, with the line where they agree."""
    sheet = Drawing(420, 330, f"Predicted against true {name}")
    left, right, top, bottom = 58.0, 402.0, 30.0, 284.0
    values = [value for pair in pairs for value in pair]
    low, high = _padded(min(values), max(values))

    def across(x: float) -> float:
        return left + (x - low) / (high - low) * (right - left)

    def up(y: float) -> float:
        return bottom - (y - low) / (high - low) * (bottom - top)

    sheet.words(left, 14, shorten(name, 40), colour="ink", size=13, bold=True)
    for tick in ticks(low, high):
        sheet.line([(left, up(tick)), (right, up(tick))], "faint")
        sheet.words(left - 8, up(tick) + 4, number_text(tick), anchor="end")
        sheet.words(across(tick), bottom + 18, number_text(tick), anchor="middle")
    sheet.line([(left, up(low)), (right, up(high))], "muted", dash="5 4")
    for truth, answer in pairs:
        sheet.dot(
            across(truth), up(answer), 2.2, "blue", hint=f"true {number_text(truth)}, predicted {number_text(answer)}"
        )
    sheet.words((left + right) / 2, 324, "true (across), predicted (up)", anchor="middle")
    return sheet
