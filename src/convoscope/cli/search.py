"""`convoscope search`: the settings of the recipe that suit some images best, as far as the time allows."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from ..errors import printable, shell_word
from .options import SOURCE, Parts, RecipeOptions, Seed
from .output import console, print_plain

_MOST_SHOWN = 15


def search(
    source: Annotated[str, SOURCE],
    /,
    *,
    minutes: Annotated[float, Parameter(help="How long the search takes, in all.")] = 20.0,
    keys: Annotated[
        str | None, Parameter(help="Which settings of the recipe are searched, such as learning_rate,rotate.")
    ] = None,
    model: Annotated[str | None, Parameter(help="As for train; by default chosen to suit the images.")] = None,
    output: Annotated[Path | None, Parameter(help="The search's folder; by default a new one in runs/.")] = None,
    seed: Seed = None,
    parts: Parts = Parts(),
    recipe: RecipeOptions = RecipeOptions(),
) -> None:
    """Search the settings of the recipe that suit SOURCE best: many trainings, of which validation chooses one.

    Ctrl-C stops; with the search's folder in place of SOURCE it goes on. The best trial alone is tested.
    """
    from ..search import search as start
    from ..terminal import TerminalReporter

    found = start(
        source,
        model,
        minutes=minutes,
        keys=None if keys is None else [key.strip().replace("-", "_") for key in keys.split(",")],
        output=output,
        seed=seed or 0,
        reporter=TerminalReporter(console(error=True)),
        **parts.given(),
        **recipe.read(None),
    )
    from rich import box
    from rich.table import Table

    out = console()
    header, rows = found.rows()
    grid = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for name in header:
        grid.add_column(name, justify="left" if name in ("trial", "state") else "right")
    for row in rows[:_MOST_SHOWN]:
        grid.add_row(*row)
    out.print(grid)
    if len(rows) > _MOST_SHOWN:
        print_plain(out, f"and {len(rows) - _MOST_SHOWN:,} more")
    for note in found.notes:
        print_plain(out, note, style="dim")
    if found.scores is not None:
        print_plain(out, f"test of the best: {found.scores.headline}")
    print_plain(out, f"best run: {printable(found.best.run)}")
    print_plain(out, f"train it in full: convoscope train --config {shell_word(found.folder / 'best.toml')}")
    print_plain(out, f"go on: convoscope search {shell_word(found.folder)} --minutes 10")
