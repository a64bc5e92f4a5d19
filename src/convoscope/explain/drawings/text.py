"""The arithmetic of one number in words: for a terminal, and as a PyTorch program that prints it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ...errors import printable
from ..arithmetic.gradients import Descent
from ..arithmetic.terms import Arithmetic, GradientSum

_CHANNELS = 4
"""Input channels in a short answer: those that count most."""
_TERMS = 12
"""Single terms in a short answer."""
_BESIDE = 7
"""Widest window whose cells are printed beside its weights and products."""


def why_text(why: Arithmetic, *, all: bool = False) -> str:
    """The arithmetic of one unit: the channels or terms that count most, or `all` products in full precision."""
    head = f"{printable(why.layer)}  {why.unit.words}"
    lines = [head, f"  {why.words}"]
    if len(why):
        lines.append("")
        lines += _windows(why, all) if len(why.shape) == 3 else _list(why, all)
    lines += ["", *_totals(why)]
    return "\n".join(line.rstrip() for line in lines)


def number(value: float, all: bool = False) -> str:
    """Short: five digits; in full: nine, which is every digit of float32."""
    value += 0.0  # no minus before a zero
    return f"{value:.9g}" if all else f"{value:.5g}"


def _windows(why: Arithmetic, all: bool) -> list[str]:
    """Channel by channel: what came in, the weights and the products as small tables."""
    channels, height, width = why.shape
    inputs, products = why.inputs.reshape(why.shape), why.products.reshape(why.shape)
    weights = None if why.weights is None else why.weights.reshape(why.shape)
    padding = why.padding.reshape(why.shape)
    subtotals = products.reshape(channels, -1).sum(1)
    order = list(range(channels)) if all else _largest(subtotals, _CHANNELS)
    lines = []
    first_unit = next((term.source for term in map(why.term, range(len(why))) if term.source), None)
    for channel in order:
        first = next((why.term(channel * height * width + k).source for k in range(height * width)
                      if not padding[channel].flat[k]), None)  # fmt: skip
        name = (
            f"{printable(first.layer)} channel {first.place[0]}"
            if first and first.place is not None
            else f"part {channel}"
        )
        lines.append(f"  {name}" if first else f"  channel {channel}, all beyond the border")
        if width <= _BESIDE or all:
            lines += _tables(inputs[channel], None if weights is None else weights[channel], products[channel],
                             padding[channel], why.winner - channel * height * width, all)  # fmt: skip
        if channels > 1:
            lines.append(f"    {'subtotal':>10} {number(subtotals[channel], all)}")
    rest = channels - len(order)
    if rest:
        left = float(np.delete(subtotals, order).sum())
        whose = printable(first_unit.layer if first_unit else "the input")
        lines.append(f"  and {rest} more channels of {whose}: {number(left, all)}")
    return lines


def _largest(values: NDArray[np.float64], count: int) -> list[int]:
    """The places of the `count` numbers of largest size, in their order."""
    return sorted(np.argsort(-np.abs(values), kind="stable")[:count].tolist())


def _tables(
    inputs: NDArray[np.float64],
    weights: NDArray[np.float64] | None,
    products: NDArray[np.float64],
    padding: NDArray[np.bool_],
    winner: int,
    all: bool,
) -> list[str]:
    blocks = [("what came in", _cells(inputs, all, padding, winner))]
    if weights is not None and winner < 0:
        blocks += [("weights", _cells(weights, all)), ("products", _cells(products, all, padding))]
    wide = [max(len(cell) for row in rows for cell in row) for _, rows in blocks]
    lines = [
        "    " + "   ".join(title.ljust(len(rows[0]) * (w + 1)) for (title, rows), w in zip(blocks, wide, strict=True))
    ]
    for y in range(inputs.shape[0]):
        parts = [" ".join(cell.rjust(w) for cell in rows[y]) for (_, rows), w in zip(blocks, wide, strict=True)]
        parts = [part.ljust(len(rows[0]) * (w + 1)) for part, (_, rows), w in zip(parts, blocks, wide, strict=True)]
        lines.append("    " + "   ".join(parts))
    return lines


def _cells(
    values: NDArray[np.float64], all: bool, padding: NDArray[np.bool_] | None = None, winner: int = -1
) -> list[list[str]]:
    """Numbers as text; cells beyond the border as a dot, the winner of a pooling in brackets."""
    rows = []
    for y in range(values.shape[0]):
        row = []
        for x in range(values.shape[1]):
            text = "·" if padding is not None and padding[y, x] else number(float(values[y, x]), all)
            row.append(f"[{text}]" if y * values.shape[1] + x == winner else text)
        rows.append(row)
    return rows


def _list(why: Arithmetic, all: bool) -> list[str]:
    """Term by term, the largest first if not all are shown."""
    order = list(range(len(why))) if all else _largest(why.products, _TERMS)
    rows = []
    for place in order:
        term = why.term(place)
        name = "beyond the border" if term.padding else str(term.source) if term.source else "a constant"
        row = [printable(name), number(term.input, all)]
        if term.weight is not None:
            row += ["×", number(term.weight, all), "=", number(term.product, all)]
        elif len(why) == 1 or why.form == "softmax":
            row += ["→", number(term.product, all)]
        if term.weight_source is not None:
            row.append(f"(times {printable(str(term.weight_source))})")
        rows.append(row)
    lines = _in_columns(rows, left=1)
    rest = len(why) - len(order)
    if rest:
        left = float(np.delete(why.products, order).sum())
        lines.append(f"  and {rest:,} smaller terms: {number(left, all)}")
    return lines


def _in_columns(rows: Sequence[Sequence[str]], *, left: int, gap: str = "  ") -> list[str]:
    """Lines with their cells below one another: the first `left` columns from the left, the others, numbers, right."""
    widths = [max(len(row[k]) if k < len(row) else 0 for row in rows) for k in range(max(map(len, rows), default=0))]
    lines = []
    for row in rows:
        padded = [
            cell.ljust(width) if k < left else cell.rjust(width)
            for k, (cell, width) in enumerate(zip(row, widths, strict=False))
        ]
        lines.append("  " + gap.join(padded))
    return lines


def _totals(why: Arithmetic) -> list[str]:
    rows = [(name, f"{value:.9g}") for name, value in why.constants.items()]
    if len(why) and why.bias is not None:
        rows.append(("bias", f"{why.bias:.9g}"))
    if len(why) or not why.opened:
        rows.append(("sum" if len(why) > 1 and why.winner < 0 else "result", f"{why.sum:.17g}"))
    rows.append(("recorded", f"{why.recorded:.9g}"))
    if len(why) or not why.opened:
        bound = f"rounding in float32 allows {why.bound:.2g}" if why.bound else "nothing is rounded here"
        rows.append(("difference", f"{why.difference:.2g} ({bound})"))
    width = max(len(name) for name, _ in rows)
    return [f"  {name:<{width}}  {text}" for name, text in rows]


def why_snippet(why: Arithmetic) -> str:
    """A program of a few lines that prints `why.sum`, every number of it written out."""

    def listed(values: NDArray[np.float64]) -> str:
        return "[" + ", ".join(repr(float(value)) for value in values) + "]"

    lines = [f"# {why.layer}, {why.unit.words}: {why.words}", "import torch", ""]
    if why.form == "convolution" and why.weights is not None:
        shape = ", ".join(map(str, why.shape))
        lines += [
            f"x = torch.tensor({listed(why.inputs)}, dtype=torch.float64).reshape(1, {shape})",
            f"w = torch.tensor({listed(why.weights)}, dtype=torch.float64).reshape(1, {shape})",
            f"print(torch.nn.functional.conv{len(why.shape) - 1}d(x, w).item() + {why.bias or 0.0!r})",
        ]
    elif why.winner >= 0:
        kept = why.inputs[~why.padding]
        lines += [f"x = torch.tensor({listed(kept)}, dtype=torch.float64)", "print(x.max().item())"]
    elif why.form == "softmax":
        place = int(np.argmin(np.abs(why.products / why.products.sum() - why.sum)))
        lines += [
            f"x = torch.tensor({listed(why.inputs)}, dtype=torch.float64)",
            f"print(torch.softmax(x, 0)[{place}].item())",
        ]
    elif why.form == "norm":
        c = why.constants
        lines += [
            f"x, mean, variance = {float(why.inputs[0])!r}, {c['mean']!r}, {c['variance']!r}",
            f"print((x - mean) / (variance + {c['epsilon']!r}) ** 0.5 * {c['scale']!r} + {c['shift']!r})",
        ]
    elif why.weights is not None and len(why):
        lines += [
            f"x = torch.tensor({listed(why.inputs)}, dtype=torch.float64)",
            f"w = torch.tensor({listed(why.weights)}, dtype=torch.float64)",
            f"print((x * w).sum().item() + {why.bias or 0.0!r})",
        ]
    elif why.opened and len(why) == 1 and why.function is not None:
        return "\n".join([*lines, *_function_lines(why)]) + "\n"
    else:
        lines += [f"print({why.sum!r})  # {why.words}"]
    return "\n".join(lines) + "\n"


def _function_lines(why: Arithmetic) -> list[str]:
    name, settings, named = why.function or ("", (), {})
    extra = "".join(f", {value!r}" for value in settings) + "".join(
        f", {key}={value!r}" for key, value in named.items()
    )
    return [
        f"x = torch.tensor([{float(why.inputs[0])!r}], dtype=torch.float64)",
        f"print(torch.ops.aten.{name}(x{extra}).item())",
    ]


def gradient_text(why: GradientSum, *, all: bool = False) -> str:
    """The gradient of one weight: what came in times delta, place by place."""
    place = ", ".join(map(str, why.index))
    lines = [f"gradient of the loss by {printable(why.parameter)}[{place}]", f"  {why.words}: {len(why):,} in all", ""]
    order = list(range(len(why))) if all else _largest(why.products, _TERMS)
    rows = []
    for each in order:
        term = why.term(each)
        name = "beyond the border" if term.padding else printable(str(term.source)) if term.source else ""
        where = f"cell {', '.join(map(str, term.cell))}" if term.cell else "its one cell"
        where = f"image {term.image}, {where}" if int(why.cells[:, 0].max()) else where
        rows.append(
            (where, name, number(term.input, all), "×", number(term.delta, all), "=", number(term.product, all))
        )
    if rows:
        wide, wider = (max(len(row[k]) for row in rows) for k in (0, 1))
        lines.append("  " + "  ".join(["place".ljust(wide), "what came in".ljust(wider), "", "times delta"]))
        lines += _in_columns(rows, left=2)
    rest = len(why) - len(order)
    if rest:
        lines.append(f"  and {rest:,} smaller terms: {number(float(np.delete(why.products, order).sum()), all)}")
    lines += [
        "",
        f"  sum         {why.sum:.17g}",
        f"  recorded    {why.recorded:.9g}",
        f"  difference  {why.difference:.2g} (rounding in float32 allows {why.bound:.2g})",
    ]
    return "\n".join(line.rstrip() for line in lines)


def step_text(step: Descent) -> str:
    """Every number of a training step: prediction, loss, gradients, update."""
    scores, chances = step.backward.scores, step.probabilities
    lines = ["prediction"]
    for image in range(len(scores)):
        raw = "  ".join(f"{float(v):.6g}" for v in scores[image])
        share = "  ".join(f"{float(v):.6g}" for v in chances[image])
        lines.append(f"  image {image}: scores {raw}   probabilities {share}")
    lines += [f"loss {step.backward.loss:.9g}", f"update: new = old - {step.learning_rate:g} x gradient"]
    for name, before in step.before.items():
        gradient = step.backward.gradients.get(name)
        lines.append(f"{printable(name)} {'x'.join(map(str, before.shape)) or 'one number'}")
        if gradient is None:
            lines.append("  is not learned")
            continue
        rows = [
            (f"{float(old):.6g}", "-", f"{step.learning_rate:g}", "x", f"{float(slope):.6g}", "=", f"{float(new):.6g}")
            for old, slope, new in zip(before.flatten(), gradient.flatten(), step.after[name].flatten(), strict=True)
        ]
        lines += _in_columns(rows, left=0, gap=" ")
    lines.append(f"loss afterwards {step.loss_after:.9g}")
    return "\n".join(lines)
