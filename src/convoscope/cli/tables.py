"""Results as tables for the terminal."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.table import Table

from ..errors import printable
from .output import print_plain

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


def print_inspection(console: Console, found: Inspection) -> None:
    """What `convoscope data` found."""
    print_plain(console, f"{printable(found.source)}: {found.layout}", style="bold")
    for note in found.notes:
        print_plain(console, f"  {printable(note)}", style="dim")
    _print_counts(console, found)
    for name, (least, mean, largest) in found.numbers.items():
        print_plain(console, f"{printable(name)}: {least:g} to {largest:g}, mean {mean:.4g}")
    if found.sizes:
        _print_sizes(console, found)
    _print_groups(console, "same image more than once", found.duplicates)
    _print_groups(console, "look the same", found.near_duplicates)
    for title, leaks in (
        ("the same image in two splits", found.leaks),
        ("look the same in two splits", found.near_leaks),
    ):
        _print_groups(console, title, [_named(group) for group in leaks])
    _print_groups(console, "the same image under two classes", [_named(group) for group in found.conflicts])
    if found.skipped:
        print_plain(console, f"{len(found.skipped):,} images skipped:", style="yellow")
        for one in found.skipped[:_FEW]:
            print_plain(console, f"  {printable(one.path)}: {one.reason}")
        if len(found.skipped) > _FEW:
            print_plain(console, f"  and {len(found.skipped) - _FEW:,} more, all in --json", style="dim")
    for warning in found.warnings:
        print_plain(console, f"warning: {printable(warning)}", style="yellow")


def _print_counts(console: Console, found: Inspection) -> None:
    splits = [split for split, counts in found.counts.items() if sum(counts.values())]
    names = list(next(iter(found.counts.values())))
    first = {"regression": "", "multi-label": "label"}.get(found.task, "class")
    table = _table(first, *splits, "all", right=range(1, len(splits) + 2))
    for name in names[:_MANY]:
        numbers = [found.counts[split].get(name, 0) for split in splits]
        table.add_row(_cell(name), *(f"{number:,}" for number in numbers), f"{sum(numbers):,}")
    if len(names) > 1 and found.task == "classification":
        sums = [sum(found.counts[split].values()) for split in splits]
        table.add_section()
        table.add_row(f"{len(names)} classes", *(f"{number:,}" for number in sums), f"{sum(sums):,}")
    console.print(table)
    if len(names) > _MANY:
        print_plain(console, f"and {len(names) - _MANY} more, all in --json", style="dim")


def _print_sizes(console: Console, found: Inspection) -> None:
    summary = found.size_summary()
    (w0, h0), (w1, h1), (w2, h2) = summary["min"], summary["median"], summary["max"]
    sizes = f"{w0}x{h0} to {w2}x{h2}, median {w1}x{h1} (width x height)" if len(found.sizes) > 1 else f"all {w0}x{h0}"
    modes = ", ".join(f"{number:,} {mode}" for mode, number in found.modes.items())
    print_plain(console, f"sizes: {sizes}\nmodes: {modes}")


def _named(group: Mapping[str, Sequence[str]]) -> list[str]:
    """Images with the split or the class they are in."""
    return [f"{name} ({place})" for place, names in group.items() for name in names]


def _print_groups(console: Console, title: str, groups: Sequence[Sequence[str]]) -> None:
    if not groups:
        return
    print_plain(console, f"{title}: {len(groups):,} groups" if len(groups) != 1 else f"{title}: one group")
    for group in groups[:3]:
        print_plain(
            console,
            "  " + " = ".join(printable(name) for name in group[:4]) + (" = ..." if len(group) > 4 else ""),
            style="dim",
        )
    if len(groups) > 3:
        print_plain(console, f"  and {len(groups) - 3:,} more, all in --json", style="dim")


def print_model(
    console: Console, name: str, text: str | None, shape: tuple[int, int, int], outputs: int, table: ModelTable
) -> None:
    """A network's layers."""
    if text is not None:
        print_plain(console, f"{name}: {text}")
    rows = _table("layer", "output", "parameters", "", "multiply-adds", "receptive field", right=(1, 2, 4, 5))
    rows.add_row("input", "x".join(map(str, shape)), "", "", "", "")
    for layer in table.layers:
        rows.add_row(
            _cell(layer.name),
            "x".join(map(str, layer.output)),
            f"{layer.parameters:,}" if layer.parameters else "",
            f"= {layer.formula}" if layer.parameters and layer.formula else "",
            f"{layer.multiply_adds:,}" if layer.multiply_adds else "",
            _field_text(layer.receptive_field),
        )
    console.print(rows)
    print_plain(
        console,
        f"{table.parameters:,} parameters, {table.multiply_adds:,} multiply-adds for an image, {outputs} classes",
    )


def _field_text(field: object) -> str:
    if field is None:
        return ""
    return "x".join(map(str, field)) if isinstance(field, (list, tuple)) else f"{field}x{field}"


def print_scores(console: Console, scores: Scores) -> None:
    """What a test found."""
    part = "all images" if scores.split == "all" else f"{scores.split} part"
    print_plain(console, f"{part}: {scores.headline}", style="bold")
    if scores.metrics:
        print_plain(console, scores.metrics_text)
    headers, rows = scores.rows()
    table = _table(*headers, right=range(1, len(headers)))
    for row in rows[:_MANY]:
        table.add_row(_cell(row[0]), *row[1:])
    console.print(table)
    if len(rows) > _MANY:
        print_plain(console, f"and {len(rows) - _MANY} more, all in test/scores.json", style="dim")
    if scores.unknown is not None:
        print_plain(console, unknown_line(scores))
    for note in scores.notes:
        print_plain(console, note, style="dim")


def unknown_line(scores: Scores) -> str:
    """How many images of the classes are marked as not known, in one line."""
    from ..evaluation import percent

    assert scores.unknown is not None
    count, right = scores.unknown.not_known, scores.unknown.not_known_right
    share = percent(count / max(scores.images, 1))
    chosen = ", which was set on these same images" if scores.split == "validation" else ""
    return (
        f"not known: {count:,} of these {scores.images:,} images ({share}), farther than the threshold{chosen}; "
        f"{right:,} of them with the right label"
    )


def print_rows(console: Console, headers: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A plain table; all columns after the second are aligned to the right."""
    table = _table(*headers, right=range(2, len(headers)))
    for row in rows:
        table.add_row(*map(_cell, row))
    console.print(table)


def prediction_table(predictions: Sequence[Prediction], *, detector: bool) -> Table:
    """Labels of images, with the two next most likely; with a detector also the distance and whether it is known."""
    from ..evaluation import percent

    names = ["image", "label", "confidence", *(("distance", "known") if detector else ()), "next"]
    table = _table(*names, right=(2, 3) if detector else (2,))
    for each in predictions:
        others = sorted(((value, name) for name, value in each.scores.items() if name != each.label), reverse=True)[:2]
        following = ", ".join(f"{name} {percent(value)}" for value, name in others)
        confidence = "" if each.confidence is None else percent(each.confidence)
        known = "yes" if each.known else "[yellow]no[/yellow]"
        far = () if each.distance is None else (f"{each.distance:.3f}", known)
        label = _cell(each.label or "(no label)")
        table.add_row(_cell(each.path), label, confidence, *far, _cell(following if confidence else ""))
    return table


_GAP = 3
"""Between two columns."""


def column_widths(
    console: Console, table: Table, texts: Mapping[int, Sequence[str]], least: Mapping[int, int]
) -> list[int]:
    """How wide a table's columns are to be, so that further tables below it can have the same.

    Args:
        console: where it is printed.
        table: its rows so far.
        texts: by a column's position, further texts that it must hold.
        least: which columns become narrower where the console is too narrow, in this order, and down to what.
    """
    from rich.cells import cell_len
    from rich.text import Text

    widths = []
    for position, column in enumerate(table.columns):
        cells = [Text.from_markup(str(cell)).cell_len for cell in (column.header, *column.cells)]
        widths.append(max(*cells, *(cell_len(printable(text)) for text in texts.get(position, ())), 0))
    over = sum(widths) + _GAP * (len(widths) - 1) - console.width
    for position, most in least.items():
        less = max(0, min(over, widths[position] - most))
        widths[position] -= less
        over -= less
    return widths


def print_comparison(console: Console, comparison: Comparison) -> None:
    """Runs side by side, one column each."""
    headers, rows = comparison.rows()
    table = _table(headers[0], *(_cell(row[0]) for row in rows))
    for position, header in enumerate(headers[1:], 1):
        table.add_row(header, *(_cell(row[position]) for row in rows))
    console.print(table)
    for pair in comparison.pairs:
        print_plain(console, pair.sentence)
    for note in comparison.notes:
        print_plain(console, note, style="dim")
