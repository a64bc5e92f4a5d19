"""The arithmetic of one unit as a picture, as on paper: what came in, the weights, the products and the sum."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ...render import shorten
from ..arithmetic.solve import follow
from ..arithmetic.terms import Arithmetic, Form, Term
from ..capture.records import PIXELS
from .bars import axis_of, bar
from .blocks import (
    GROUND,
    SMALL,
    TEXT,
    TITLE,
    Align,
    column,
    framed,
    ink,
    margin,
    paragraph,
    row,
    table,
    title_line,
    words,
)
from .cells import NUMBERED, cell_side, cells, coloured, flat_cell, greys, reach_of, tile
from .numerals import Floats, aligned_texts, cell_texts, number

_MOST_CHANNELS = 6
_MOST_TERMS = 16
_LABEL = 250
_WIDE = 860
_NORMS: tuple[Form, ...] = ("norm", "scaling")
_SOFTMAXES: tuple[Form, ...] = ("softmax", "log-softmax")


@dataclass
class _Line:
    """One line: what it is, pictures, and the number in the right column."""

    label: Image.Image
    pictures: list[Image.Image] = field(default_factory=list)
    value: float | None = None
    rule: bool = False
    """Whether a rule is drawn above, as above a sum."""


def why_figure(why: Arithmetic) -> Image.Image:
    """The arithmetic of one unit, down to the recorded value and the difference.

    Windows (convolution, pooling) are grids, channel by channel; of more than 6 channels the 5 with the largest
    subtotals, the others as one line. Norms go step by step. Everything else is a list of terms, of many the largest.
    Padding is hatched, the cell that a max pooling took is framed.
    """
    heading = [
        title_line(_title(why)),
        paragraph(f"{why.kind}: {why.words}", _WIDE, size=TEXT),
    ]
    lines = _lines(why)
    adds = why.form not in (*_NORMS, *_SOFTMAXES) and any(line.value is not None for line in lines)
    if why.bias is not None and why.form not in _NORMS:
        lines.append(_Line(words("bias" if len(why) else "a number of the network's own"), value=why.bias))
        adds = True
    total = "sum" if adds else "result" if len(why) or not why.opened else "value"
    lines.append(_Line(words(total, bold=True), value=why.sum, rule=bool(lines)))
    if len(why) or not why.opened:
        lines.append(_Line(words("recorded by the network"), value=why.recorded))
    parts = [column(heading, gap=2), _laid_out(lines)]
    return margin(column(parts + ([_verdict(why)] if len(lines) > 1 else []), gap=18))


def _lines(why: Arithmetic) -> list[_Line]:
    """How the terms are drawn."""
    if not why.opened or not len(why):
        return []
    if why.form in _NORMS:
        return _running(why)
    if why.form in _SOFTMAXES:
        return _softmax(why)
    return _terms(why) if _window(why) is None else _windows(why)


def _title(why: Arithmetic) -> str:
    place = why.unit.words
    classes, last = why.recording.classes, why.recording.steps[-1]
    if why.unit.layer == last.name and len(why.unit.index) == 1 and len(classes) == last.output.numel():
        place += f" ({classes[why.unit.index[0]]})"
    return f"{shorten(why.unit.layer, 60)}, {place}"


def _laid_out(lines: Sequence[_Line]) -> Image.Image:
    """Lines in columns, the numbers below one another."""
    numbers = [line.value for line in lines if line.value is not None]
    texts = iter(aligned_texts(numbers))
    values = [words(next(texts)) if line.value is not None else Image.new("RGB", (1, 1), GROUND) for line in lines]
    widest = max(value.width for value in values)
    most = max(len(line.pictures) for line in lines)
    empty = Image.new("RGB", (1, 1), GROUND)
    rows = []
    for line, value in zip(lines, values, strict=True):
        if line.rule:
            rule = Image.new("RGB", (widest, 1), ink("muted"))
            rows.append([empty] * (most + 1) + [rule])
        rows.append([line.label, *line.pictures, *[empty] * (most - len(line.pictures)), value])
    starts: list[Align] = ["start"] * (most + 1)
    return table(rows, gap=(10, 6), align=[*starts, "end"])


def _verdict(why: Arithmetic) -> Image.Image:
    """How far the recorded value is from the sum, and what rounding explains."""
    if why.recorded == why.sum:
        return words("difference 0: the recorded value, exactly", colour="muted")
    text = f"difference {number(why.difference, 2)}; rounding on the way explains up to {number(why.bound, 2)}"
    return words(text, colour="muted") if why.agrees else words(f"{text}: it does not agree", colour="red", bold=True)


# --- windows ----------------------------------------------------------------------------------------------------------


def _window(why: Arithmetic) -> tuple[int, int, int] | None:
    """Channels, rows and columns of what came in, where it is more than a cell of each channel."""
    shape = why.shape
    if len(shape) == 2:
        shape = (shape[0], 1, shape[1])
    if len(shape) != 3 or math.prod(shape) != len(why) or shape[1] * shape[2] == 1:
        return None
    return shape


def _windows(why: Arithmetic) -> list[_Line]:
    window = _window(why)
    assert window is not None
    channels, height, width = window
    subtotals = why.subtotals()
    shown = list(range(channels))
    if channels > _MOST_CHANNELS:
        shown = [int(channel) for channel in np.argsort(-np.abs(subtotals), kind="stable")[: _MOST_CHANNELS - 1]]
    inputs, products = why.inputs.reshape(window)[shown], why.products.reshape(window)[shown]
    beyond = why.padding.reshape(window)[shown]
    each = height * width
    grey = _is_pixel(why, shown[0] * each, each)
    weights = None
    if why.weights is not None and np.ptp(why.weights) > 0 and why.winner < 0:
        weights = why.weights.reshape(window)[shown]
    large = max(height, width) > NUMBERED
    side = 0 if large else max(cell_side(cell_texts(part)) for part in (inputs, weights, products) if part is not None)
    columns = [_grids(inputs, 255.0 if grey else reach_of(inputs), side, grey, beyond, why.winner)]
    head = [words("came in", size=SMALL, colour="muted")]
    if weights is not None:
        signs = [words(sign, size=TITLE, colour="muted") for sign in "×="]
        columns += [
            [signs[0]] * len(shown),
            _grids(weights, reach_of(weights), side),
            [signs[1]] * len(shown),
            _grids(products, reach_of(products), side, beyond=beyond),
        ]
        head += [words(text, size=SMALL, colour="muted") for text in (" ", "weights", " ", "products")]
    elif why.winner < 0 and why.weights is not None:
        columns.append([words(_each(float(why.weights[0])), colour="muted")] * len(shown))
    lines = [_Line(words(_of_all(channels, len(shown)), size=SMALL, colour="muted"), head)]
    for position, channel in enumerate(shown):
        label = _window_label(why, channel * each, each)
        if why.winner >= 0:
            label = column([label, words("framed: the largest", size=SMALL, colour="muted")], gap=0)
        value = None if why.winner >= 0 else float(subtotals[channel])
        lines.append(_Line(label, [grids[position] for grids in columns], value))
    if len(shown) < channels:
        rest = math.fsum(np.delete(subtotals, shown))
        lines.append(_Line(words(f"the other {channels - len(shown):,} channels together"), value=rest))
    return lines


def _each(weight: float) -> str:
    """What every cell of a mean or a sum is multiplied by."""
    if weight == 1:
        return "added up"
    count = round(1 / weight) if weight else 0
    return f"each ÷ {count}" if count and abs(weight * count - 1) < 1e-9 else f"each × {number(weight)}"


def _of_all(count: int, shown: int) -> str:
    return f"{shown} of {count:,} channels, the largest first" if shown < count else " "


def _grids(
    values: Floats,
    reach: float,
    side: int,
    grey: bool = False,
    beyond: NDArray[np.bool_] | None = None,
    winner: int = -1,
) -> list[Image.Image]:
    """One grid for each channel, with numbers of the same digits in cells of `side`; of many cells colour only."""
    if max(values.shape[1:]) > NUMBERED:
        return [framed(greys(part).resize((160, 160))) if grey else tile(part, reach, 160) for part in values]
    each = values[0].size
    texts = cell_texts(values)
    if beyond is not None:
        texts = ["0" if flag else text for flag, text in zip(beyond.ravel().tolist(), texts, strict=True)]
    return [
        cells(
            greys(part) if grey else coloured(part, reach),
            texts[at * each : (at + 1) * each],
            beyond=None if beyond is None else beyond[at],
            winner=winner if at == 0 else -1,
            side=side,
        )
        for at, part in enumerate(values)
    ]


def _is_pixel(why: Arithmetic, start: int, count: int) -> bool:
    sources = (why.term(at).source for at in range(start, start + count))
    return next((source.layer == PIXELS for source in sources if source is not None), False)


def _window_label(why: Arithmetic, start: int, count: int) -> Image.Image:
    """Whose cells these are: layer, channel, rows and columns; a line on those beyond the border."""
    sources = [why.term(at).source for at in range(start, start + count)]
    inside = [source for source in sources if source is not None]
    if not inside:
        return words("all beyond the border", colour="muted", width=_LABEL)
    lines = [words(inside[0].layer, bold=True, width=_LABEL)]
    if len(inside[0].index) == 4 or len(inside[0].index) == 3:
        channel, *_ = inside[0].index[-3:]
        spans = [
            f"{axis} {low} to {high}" if low != high else f"{axis} {low}"
            for axis, low, high in (
                (axis, min(source.index[at] for source in inside), max(source.index[at] for source in inside))
                for axis, at in (("y", -2), ("x", -1))
            )
        ]
        lines.append(words(f"channel {channel}", size=SMALL, colour="muted", width=_LABEL))
        lines.append(words(", ".join(spans), size=SMALL, colour="muted", width=_LABEL))
    missing = count - len(inside)
    if missing:
        lines.append(words(f"hatched: {missing} beyond the border", size=SMALL, colour="muted", width=_LABEL))
    return column(lines, gap=0)


# --- lists of terms ---------------------------------------------------------------------------------------------------


def _terms(why: Arithmetic) -> list[_Line]:
    count = len(why)
    shown = list(range(count))
    if count > _MOST_TERMS:
        shown = [int(at) for at in np.argsort(-np.abs(why.products), kind="stable")[: _MOST_TERMS - 1]]
    terms = [why.term(at) for at in shown]
    products = why.products[shown]
    alone = count == 1 and why.bias is None
    columns = [_flat_cells(why.inputs[shown], terms)]
    head = ["came in"]
    if why.form == "quotient":
        columns.append([words(f"÷ {number(why.constants['divisor'])}")] * len(shown))
        head.append(" ")
    elif why.weights is not None and not (alone and why.weights[0] == 0) and np.any(why.weights != 1):
        columns += [[words("×", size=TITLE, colour="muted")] * len(shown), _flat_cells(why.weights[shown])]
        head += [" ", "weight"]
    if why.weights is not None and not alone:
        low, high = axis_of(products.tolist())
        columns.append([bar(product, low, high, width=200) for product in products.tolist()])
        head.append("product" if len(head) > 1 else " ")
    about = f"{len(shown)} of {count:,} terms, the largest first" if len(shown) < count else " "
    lines = [
        _Line(words(about, size=SMALL, colour="muted"), [words(text, size=SMALL, colour="muted") for text in head])
    ]
    for position, (at, term) in enumerate(zip(shown, terms, strict=True)):
        value = None if alone or why.weights is None else float(products[position])
        lines.append(_Line(_term_label(why, at, term), [blocks[position] for blocks in columns], value))
    if len(shown) < count:
        rest = math.fsum(np.delete(why.products, shown))
        lines.append(_Line(words(f"the other {count - len(shown):,} terms together"), value=rest))
    return lines


def _flat_cells(values: Floats, terms: Sequence[Term] = ()) -> list[Image.Image]:
    """One low cell for each number, on a common scale; a single number has a pale colour for its sign."""
    texts = cell_texts(values)
    width = max(52, cell_side(texts))
    reach = reach_of(values) * (2 if len(values) == 1 else 1)
    pixels = [at < len(terms) and _from_pixels(terms[at]) for at in range(len(values))]
    return [
        cells(greys(np.array([[value]])), [text], side=max(34, cell_side([text])))
        if pixel
        else flat_cell(value, reach, text, width)
        for value, text, pixel in zip(values.tolist(), texts, pixels, strict=True)
    ]


def _from_pixels(term: Term) -> bool:
    return term.source is not None and term.source.layer == PIXELS


def _term_label(why: Arithmetic, at: int, term: Term) -> Image.Image:
    """Where a term comes from; after a flattening also which cell of a map that is."""
    if term.source is None:
        return words("beyond the border" if term.padding else "a constant", colour="muted", width=_LABEL)
    lines = [words(str(term.source), width=_LABEL)]
    more = [] if term.weight_source is None else [f"× {term.weight_source}"]
    if why.recording[term.source.layer].kind in ("flatten", "reshape") and len(term.source.index) == 1:
        origin = follow(why, at)
        more += [f"that is {origin.term(0).source}"] if len(origin) == 1 else []
    lines += [words(text, size=SMALL, colour="muted", width=_LABEL) for text in more]
    return column(lines, gap=0)


def _softmax(why: Arithmetic) -> list[_Line]:
    """Exponentials as bars; the unit's own in bold."""
    own = next((at for at in range(len(why)) if _is_own(why, at)), -1)
    shown = list(range(len(why)))
    if len(shown) > _MOST_TERMS:
        largest = [int(at) for at in np.argsort(-why.products, kind="stable")[: _MOST_TERMS - 1]]
        shown = sorted({*largest, *([own] if own >= 0 else [])}, key=lambda at: -why.products[at])
    low, high = axis_of(why.products[shown].tolist())
    came = _flat_cells(why.inputs[shown])
    head = [words(text, size=SMALL, colour="muted") for text in ("came in", "exp(own − largest)")]
    about = f"{len(shown)} of {len(why):,} terms, the largest first" if len(shown) < len(why) else " "
    lines = [_Line(words(about, size=SMALL, colour="muted"), head)]
    for position, at in enumerate(shown):
        source = why.term(at).source
        label = words(str(source) if source else "a constant", bold=at == own, width=_LABEL)
        power = row(
            [
                bar(float(why.products[at]), low, high, width=200),
                words(number(float(why.products[at])), bold=at == own),
            ],
            gap=10,
        )
        lines.append(_Line(label, [came[position], power]))
    if own >= 0:
        lines.append(_Line(words("its own exp(own − largest)"), value=float(why.products[own])))
    lines.append(_Line(words("divided by the sum of them all"), value=why.constants["total"]))
    if why.form == "log-softmax":
        lines.append(_Line(words("and the logarithm of that")))
    return lines


def _is_own(why: Arithmetic, at: int) -> bool:
    source = why.term(at).source
    return source is not None and source.index[-len(why.unit.index) :] == why.unit.index


# --- norms ------------------------------------------------------------------------------------------------------------


def _running(why: Arithmetic) -> list[_Line]:
    """(x - mean) / standard deviation * scale + shift, with the number after each step."""
    given = why.constants
    term = why.term(0)
    value = float(why.inputs[0])
    (came,) = _flat_cells(why.inputs, [term])
    lines = [_Line(_term_label(why, 0, term), [came], value)]
    value -= given["mean"]
    lines.append(_Line(words(f"− mean {number(given['mean'])}"), value=value))
    if why.form == "scaling":
        label = words(f"÷ standard deviation {number(given['std'])}")
        return [*lines, _Line(label, value=value / given["std"])]
    value /= math.sqrt(given["variance"] + given["epsilon"])
    root = f"÷ √(variance {number(given['variance'])} + epsilon {number(given['epsilon'])})"
    lines.append(_Line(words(root), value=value))
    value *= given["scale"]
    lines.append(_Line(words(f"× scale {number(given['scale'])}"), value=value))
    lines.append(_Line(words(f"+ shift {number(given['shift'])}"), value=value + given["shift"]))
    return lines
