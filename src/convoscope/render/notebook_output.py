"""What a result looks like in a notebook: a little HTML that fetches nothing, runs nothing, and suits light and dark.

JupyterLab, VS Code, Colab and pages made by nbconvert each say in their own way whether they are dark; where none does,
the colours are the light ones. Texts take the notebook's own colour, so that they can be read in any case.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from PIL import Image

from ..errors import printable
from .drawing import COLOURS, Drawing, text_width
from .html import data_uri, text
from .pixels import Pixels, enlarge, to_image

THUMBNAIL = 40
"""The longest side of a small picture, in CSS pixels."""

_DARK = ('[data-jp-theme-light="false"]', ".vscode-dark", "html[theme=dark]", '[data-theme="dark"]')
_SCOPE = ".convoscope"
_RULES = {
    "": "font:13px/1.5 system-ui,sans-serif;font-variant-numeric:tabular-nums;max-width:900px",
    " p": "margin:0 0 6px",
    " .muted": "color:var(--muted)",
    " .warning": "color:var(--orange)",
    " .bar": "height:4px;width:340px;max-width:100%;background:var(--faint);border-radius:2px;margin:6px 0 2px",
    " .bar div": "height:4px;background:var(--blue);border-radius:2px",
    " .panels": "display:flex;flex-wrap:wrap;gap:8px 20px;margin:8px 0",
    " svg": "font-family:system-ui,sans-serif;max-width:100%;height:auto",
    " .wide": "overflow-x:auto;max-height:420px;overflow-y:auto;margin:4px 0",
    " table": "border-collapse:collapse;font-size:13px;margin:0;border:0",
    " tr": "background:none!important",
    " th,.convoscope td": "text-align:right!important;padding:2px 10px 2px 0!important;border:0;"
    "border-bottom:1px solid var(--faint);white-space:nowrap;vertical-align:middle;max-width:none",
    " th": "font-weight:600;color:var(--muted)",
    " .text": "text-align:left!important",
    " img": "display:inline-block;vertical-align:middle;margin:0 2px 0 0;max-width:none",
    " img.sharp": "image-rendering:pixelated",
    " img.sheet": "display:block;max-width:100%;height:auto;background:#fff",
    " pre": "font:12.5px/1.45 ui-monospace,Menlo,Consolas,'DejaVu Sans Mono',monospace;white-space:pre;"
    "overflow-x:auto;margin:0;padding:0;background:none;color:inherit",
}


def notebook(*markups: str) -> str:
    """Pieces of markup as one output, with the style that they need."""
    names = ("faint", "soft", "muted", "ink", "blue", "orange", "red", "green", "purple", "brown")
    light, dark = (";".join(f"--{name}:{COLOURS[name][tone]}" for name in names) for tone in (0, 1))
    style = f"{_SCOPE}{{{light}}}" + ",".join(f"{host} {_SCOPE}" for host in _DARK) + f"{{{dark}}}"
    style += "".join(f"{_SCOPE}{name}{{{rule}}}" for name, rule in _RULES.items())
    return f'<style>{style}</style><div class="convoscope">{"".join(markups)}</div>'


def heading(title: object, *remarks: object) -> str:
    """What it is, in bold, and a few words on it, each on a line of its own."""
    more = "".join(f'<p class="muted">{text(remark)}</p>' for remark in remarks if remark)
    return f"<p><b>{text(title)}</b></p>{more}"


def calls(*lines: str) -> str:
    """Python that goes on from here."""
    return f"<pre>{escape(chr(10).join(map(printable, lines)))}</pre>"


def columns(value: str) -> str:
    """Text whose columns stand under one another."""
    lines = "\n".join(printable(line) for line in value.split("\n"))
    return f"<pre>{escape(lines)}</pre>"


def grid(
    header: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    texts: Sequence[int] = (0,),
    pictures: Sequence[str] | None = None,
    more: int = 0,
) -> str:
    """A table, in a frame that scrolls by itself.

    Args:
        header, rows: as text.
        texts: columns that are set to the left.
        pictures: markup of one picture a row, before its first cell.
        more: how many further rows there are, which is said under it.
    """

    def cell(tag: str, column: int, value: str) -> str:
        kind = ' class="text"' if column in texts else ""
        return f"<{tag}{kind}>{text(value)}</{tag}>"

    first = "<th></th>" if pictures is not None else ""
    lines = ["<tr>" + first + "".join(cell("th", k, value) for k, value in enumerate(header)) + "</tr>"]
    for number, row in enumerate(rows):
        first = f'<td class="text">{pictures[number]}</td>' if pictures is not None else ""
        lines.append("<tr>" + first + "".join(cell("td", k, value) for k, value in enumerate(row)) + "</tr>")
    under = f'<p class="muted">and {more:,} more</p>' if more > 0 else ""
    return f'<div class="wide"><table>{"".join(lines)}</table></div>{under}'


def thumbnail(pixels: Pixels, description: str) -> str:
    """A small picture of an image `(H, W, C)`."""
    image = to_image(pixels)
    small = enlarge(image, 2 * THUMBNAIL) if max(image.size) > 2 * THUMBNAIL else image
    scale = THUMBNAIL / max(small.size)
    width, height = (max(1, round(side * scale)) for side in small.size)
    sharp = ' class="sharp"' if max(image.size) <= THUMBNAIL else ""
    return f'<img src="{data_uri(small)}" width="{width}" height="{height}" alt="{text(description)}"{sharp}>'


def small_sheet(image: Image.Image, description: str) -> str:
    """A drawn sheet on its own white ground, with few colours, as a notebook holds many of them."""
    few = image.convert("RGB").quantize(48, dither=Image.Dither.NONE)
    uri, size = data_uri(few, exact=True), f'width="{few.width}" height="{few.height}"'
    return f'<div class="wide"><img class="sheet" src="{uri}" {size} alt="{text(description)}"></div>'


def panels(drawings: Sequence[Drawing]) -> str:
    """Small drawings beside one another."""
    return f'<div class="panels">{"".join(drawing.svg() for drawing in drawings)}</div>'


@dataclass(frozen=True, kw_only=True)
class Series:
    """One curve: its name, a colour of `COLOURS`, and its points from left to right."""

    name: str
    colour: str
    points: Sequence[tuple[float, float]]


def curve_panel(
    title: str, series: Sequence[Series], *, last: int, percent: bool = False, marked: int | None = None
) -> Drawing:
    """A small chart of curves over the epochs.

    Args:
        title: what goes up and down.
        series: the curves.
        last: the last epoch of the axis, which begins at 1.
        percent: the values are shares 0..1, written in percent.
        marked: an epoch to point out.
    """
    sheet = Drawing(340, 170, title)
    left, right, top, bottom = 46.0, 330.0, 40.0, 146.0
    values = [value for curve in series for _, value in curve.points] or [0.0, 1.0]
    low, high = min(values), max(values)
    if percent:
        low, high = min(low, 0.9), 1.0
    elif low == high:
        low, high = low - 0.5, high + 0.5

    def across(epoch: float) -> float:
        return left + (epoch - 1) / max(last - 1, 1) * (right - left)

    def up(value: float) -> float:
        return bottom - (value - low) / (high - low) * (bottom - top)

    sheet.words(left, 12, title, colour="ink", size=12, bold=True)
    for value in (low, (low + high) / 2, high):
        sheet.line([(left, up(value)), (right, up(value))], "faint")
        written = f"{100 * value:.0f} %" if percent else f"{value:.3g}"
        sheet.words(left - 6, up(value) + 4, written, size=11, anchor="end")
    for epoch, anchor in ((1, "start"), (last, "end")):
        if epoch == 1 or last > 1:
            words = f"epoch {epoch}" if epoch == 1 else f"{epoch}"
            sheet.words(across(epoch), bottom + 16, words, size=11, anchor="start" if anchor == "start" else "end")
    if marked is not None:
        sheet.line([(across(marked), top), (across(marked), bottom)], "soft", dash="2 3")
    start = left
    for curve in series:
        places = [(across(epoch), up(value)) for epoch, value in curve.points]
        if len(places) > 1:
            sheet.line(places, curve.colour, width=1.8)
        elif places:
            sheet.dot(*places[0], 2.6, curve.colour)
        sheet.line([(start, 25), (start + 14, 25)], curve.colour, width=2)
        sheet.words(start + 18, 29, curve.name, size=11)
        start += 18 + text_width(curve.name, 11) + 14
    return sheet
