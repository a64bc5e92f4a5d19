"""Results as tables for the terminal."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Console
from rich.table import Table

from ..errors import printable

if TYPE_CHECKING:
    from ..data import Inspection
    from ..evaluation import Comparison, Scores
    from ..models import ModelTable
    from ..training import Prediction

_MANY = 40
_FEW = 10


def _table(*headers: str, right: Iterable[int] = ()) -> Table:
    numbers = set(right)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for position, header in enumerate(headers):
        table.add_column(header, justify="right" if position in numbers else "left", no_wrap=position in numbers)
    return table


def _cell(value: object) -> str:
    """Text for a table: safe to print, and no markup."""
    return printable(unicodedata.normalize("NFC", str(value))).replace("[", "\\[")


def _say(console: Console, text: str, **style: Any) -> None:
    console.print(text, markup=False, highlight=False, **style)


def print_inspection(console: Console, found: Inspection) -> None:
    """What `convoscope data` found."""
    _say(console, f"{printable(found.source)}: {found.layout}", style="bold")
    for note in found.notes:
        _say(console, f"  {printable(note)}", style="dim")
    splits = [split for split, counts in found.counts.items() if sum(counts.values())]
    names = list(next(iter(found.counts.values())))
    table = _table(
        {"regression": "", "multi-label": "label"}.get(found.task, "class"),
        *splits,
        "all",
        right=range(1, len(splits) + 2),
    )
    for name in names[:_MANY]:
        numbers = [found.counts[split].get(name, 0) for split in splits]
        table.add_row(_cell(name), *(f"{number:,}" for number in numbers), f"{sum(numbers):,}")
    if len(names) > 1 and found.task == "classification":
        sums = [sum(found.counts[split].values()) for split in splits]
        table.add_section()
        table.add_row(f"{len(names)} classes", *(f"{number:,}" for number in sums), f"{sum(sums):,}")
    console.print(table)
    if len(names) > _MANY:
        _say(console, f"and {len(names) - _MANY} more, all in --json", style="dim")
    for name, (least, mean, largest) in found.numbers.items():
        _say(console, f"{printable(name)}: {least:g} to {largest:g}, mean {mean:.4g}")
    if found.sizes:
        summary = found.size_summary()
        (w0, h0), (w1, h1), (w2, h2) = summary["min"], summary["median"], summary["max"]
        sizes = (
            f"all {w0}x{h0}" if len(found.sizes) == 1 else f"{w0}x{h0} to {w2}x{h2}, median {w1}x{h1} (width x height)"
        )
        modes = ", ".join(f"{number:,} {mode}" for mode, number in found.modes.items())
        _say(console, f"sizes: {sizes}\nmodes: {modes}")
    _print_groups(console, "same image more than once", found.duplicates)
    _print_groups(console, "look the same", found.near_duplicates)
    for title, groups in (
        ("the same image in two splits", found.leaks),
        ("look the same in two splits", found.near_leaks),
    ):
        _print_groups(
            console,
            title,
            [[f"{name} ({split})" for split, names in group.items() for name in names] for group in groups],
        )
    conflicts = [[f"{name} ({label})" for label, names in group.items() for name in names] for group in found.conflicts]
    _print_groups(console, "the same image under two classes", conflicts)
    if found.skipped:
        _say(console, f"{len(found.skipped):,} images skipped:", style="yellow")
        for one in found.skipped[:_FEW]:
            _say(console, f"  {printable(one.path)}: {one.reason}")
        if len(found.skipped) > _FEW:
            _say(console, f"  and {len(found.skipped) - _FEW:,} more, all in --json", style="dim")
    for warning in found.warnings:
        _say(console, f"warning: {printable(warning)}", style="yellow")


def _print_groups(console: Console, title: str, groups: Sequence[Sequence[str]]) -> None:
    if not groups:
        return
    _say(console, f"{title}: {len(groups):,} groups" if len(groups) != 1 else f"{title}: one group")
    for group in groups[:3]:
        _say(
            console,
            "  " + " = ".join(printable(name) for name in group[:4]) + (" = ..." if len(group) > 4 else ""),
            style="dim",
        )
    if len(groups) > 3:
        _say(console, f"  and {len(groups) - 3:,} more, all in --json", style="dim")


def print_model(
    console: Console, name: str, text: str | None, shape: tuple[int, int, int], outputs: int, table: ModelTable
) -> None:
    """A network's layers."""
    if text is not None:
        _say(console, f"{name}: {text}")
    rows = _table("layer", "output", "parameters", "", "multiply-adds", "sees", right=(1, 2, 4, 5))
    rows.add_row("input", "x".join(map(str, shape)), "", "", "", "")
    for layer in table.layers:
        field = layer.receptive_field
        rows.add_row(
            _cell(layer.name),
            "x".join(map(str, layer.output)),
            f"{layer.parameters:,}" if layer.parameters else "",
            f"= {layer.formula}" if layer.parameters and layer.formula else "",
            f"{layer.multiply_adds:,}" if layer.multiply_adds else "",
            ""
            if field is None
            else ("x".join(map(str, field)) if isinstance(field, (list, tuple)) else f"{field}x{field}"),
        )
    console.print(rows)
    _say(
        console,
        f"{table.parameters:,} parameters, {table.multiply_adds:,} multiply-adds for an image, {outputs} classes",
    )


def print_scores(console: Console, scores: Scores) -> None:
    """What a test found."""
    part = "all images" if scores.split == "all" else f"{scores.split} part"
    _say(console, f"{part}: {scores.headline}", style="bold")
    headers, rows = scores.rows()
    table = _table(*headers, right=range(1, len(headers)))
    for row in rows[:_MANY]:
        table.add_row(_cell(row[0]), *row[1:])
    console.print(table)
    if len(rows) > _MANY:
        _say(console, f"and {len(rows) - _MANY} more, all in test/scores.json", style="dim")
    if scores.unknown is not None:
        _say(console, unknown_line(scores))
    for note in scores.notes:
        _say(console, note, style="dim")


def unknown_line(scores: Scores) -> str:
    """What it costs to call far images unknown, in one line."""
    from ..evaluation import percent

    assert scores.unknown is not None
    refused, right = scores.unknown.refused, scores.unknown.refused_right
    share = percent(refused / max(scores.images, 1))
    chosen = ", which these images have set themselves" if scores.split == "validation" else ""
    return (
        f"unknown: {refused:,} of these {scores.images:,} images ({share}) are farther than the threshold{chosen}; "
        f"{right:,} of them had the right label"
    )


def print_rows(console: Console, headers: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A plain table, everything behind the second column to the right."""
    table = _table(*headers, right=range(2, len(headers)))
    for row in rows:
        table.add_row(*map(_cell, row))
    console.print(table)


def print_prediction_table(console: Console, predictions: Sequence[Prediction]) -> None:
    """Labels of images, with the two next most likely."""
    from ..evaluation import percent

    detector = any(each.distance is not None for each in predictions)
    table = _table(
        "image",
        "label",
        "confidence",
        *(("distance",) if detector else ()),
        "next",
        right=(2, 3) if detector else (2,),
    )
    for each in predictions:
        others = sorted(((value, name) for name, value in each.scores.items() if name != each.label), reverse=True)[:2]
        graded = each.confidence is not None or each.distance is not None
        following = ", ".join(f"{name} {percent(value)}" for value, name in others) if graded else ""
        confidence = "" if each.confidence is None else percent(each.confidence)
        far = (f"{each.distance:.3f}",) if each.distance is not None else ()
        table.add_row(_cell(each.path), _cell(each.label or "(no label)"), confidence, *far, _cell(following))
    if predictions:
        console.print(table)


def print_comparison(console: Console, comparison: Comparison) -> None:
    """Runs side by side, one column each."""
    headers, rows = comparison.rows()
    table = _table(headers[0], *(_cell(row[0]) for row in rows))
    for position, header in enumerate(headers[1:], 1):
        table.add_row(header, *(_cell(row[position]) for row in rows))
    console.print(table)
    for note in comparison.notes:
        _say(console, note, style="dim")
