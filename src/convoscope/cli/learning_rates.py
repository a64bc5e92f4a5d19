"""`convoscope train SOURCE --find-learning-rate`: the curve, the suggestion and the command that uses it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import printable
from ..files import check_plain, write_bytes
from .output import console, print_json, print_plain

if TYPE_CHECKING:
    from ..training import Reporter

_PICTURE = Path("learning-rate.png")
_ROWS = 12
_BAR = 40


def show_learning_rates(source: str, model: Any, options: dict[str, Any], reporter: Reporter, *, as_json: bool) -> None:
    """Measure, print and draw."""
    from ..evaluation import rates_chart
    from ..render import png_bytes
    from ..training import find_learning_rate

    check_plain(_PICTURE)
    found = find_learning_rate(source, model, reporter=reporter, **options)
    if as_json:
        print_json(found.to_json())
        return
    write_bytes(_PICTURE, png_bytes(rates_chart(found).image()))
    chosen = sorted({round(k * (len(found.rates) - 1) / (_ROWS - 1)) for k in range(_ROWS)})
    most = max(found.smoothed[0], min(found.smoothed)) * 1.3
    output = console()
    print_plain(output, "learning rate    loss")
    for k in chosen:
        bar = "█" * round(_BAR * min(1.0, found.smoothed[k] / most))
        print_plain(output, f"{found.rates[k]:>13.1e}  {found.smoothed[k]:>6.3f}  {bar}")
    print_plain(output, f"the loss falls fastest at a learning rate of {found.suggestion:g}", style="bold")
    settings = " ".join(f"--set {name}={value:g}" for name, value in found.recipe.items())
    print_plain(output, f"train with it: the same command with {settings} instead of --find-learning-rate")
    print_plain(output, f"picture: {printable(_PICTURE)}")
