"""One self-contained HTML page: nothing is fetched, nothing runs, and every text from outside is escaped.

The pieces are plain functions from texts to markup. What they take is text unless its name says `markup`.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape as _escape
from importlib import resources

from PIL import Image

from ..errors import printable
from .drawing import COLOURS, Drawing, png_bytes


@dataclass(frozen=True)
class Section:
    """One part of a page: an anchor, a heading and its content."""

    anchor: str
    heading: str
    markup: str


def text(value: object) -> str:
    """Any text as markup: escaped, control characters and undecodable bytes written out."""
    # A percent sign stays on the line of its number.
    return _escape(printable(value), quote=True).replace(" %", "&nbsp;%")


def page(title: str, head_markup: str, sections: Sequence[Section], foot: str) -> str:
    """The whole page. Its security policy forbids scripts and every request."""
    styles = resources.files(__package__).joinpath("page.css").read_text("utf-8")
    light, dark = (";".join(f"--{name}:{pair[tone]}" for name, pair in COLOURS.items()) for tone in (0, 1))
    variables = (
        f":root{{{light}}}@media (prefers-color-scheme:dark){{:root{{{dark}}}}}"
        f"@media print{{:root{{color-scheme:light;{light}}}}}"
    )
    links = "".join(f'<a href="#{section.anchor}">{text(section.heading)}</a>' for section in sections)
    body = "".join(
        f'<section id="{section.anchor}"><h2>{text(section.heading)}</h2>{section.markup}</section>\n'
        for section in sections
    )
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta http-equiv="Content-Security-Policy" '
        "content=\"default-src 'none'; img-src data:; style-src 'unsafe-inline'; "
        "base-uri 'none'; form-action 'none'\">\n"
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="referrer" content="no-referrer">\n'
        f"<title>{text(title)}</title>\n<style>\n{variables}\n{styles}</style>\n</head>\n<body>\n<main>\n"
        f"<header>{head_markup}<nav>{links}</nav></header>\n{body}"
        f"<footer>{text(foot)}</footer>\n</main>\n</body>\n</html>\n"
    )


def paragraph(value: object, kind: str = "") -> str:
    """A paragraph, with a class of the style sheet if one is named."""
    return f'<p class="{kind}">{text(value)}</p>' if kind else f"<p>{text(value)}</p>"


def note(value: object, *, warn: bool = False) -> str:
    """A sentence that must not be overlooked."""
    return f'<p class="note{" warn" if warn else ""}">{text(value)}</p>'


def facts(entries: Sequence[tuple[str, str, str]]) -> str:
    """Large figures: name, value, and a small remark under it."""
    cells = "".join(
        f"<div><dt>{text(name)}</dt><dd>{text(value)}{f'<small>{text(remark)}</small>' if remark else ''}</dd></div>"
        for name, value, remark in entries
    )
    return f'<dl class="facts">{cells}</dl>'


def pairs(entries: Sequence[tuple[str, str]]) -> str:
    """Names and values, one pair a line."""
    return (
        '<dl class="list">'
        + "".join(f"<dt>{text(name)}</dt><dd>{text(value)}</dd>" for name, value in entries)
        + "</dl>"
    )


def table(
    header: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    texts: Sequence[int] = (),
    wrapped: Sequence[int] = (),
    total: Sequence[str] | None = None,
    best: Sequence[Sequence[bool]] | None = None,
) -> str:
    """A table that scrolls by itself when it is too wide.

    `texts` and `wrapped` are columns set as text, to the left; `total` is a last row; `best` marks cells to stand out.
    """

    def kind(column: int, *, bold: bool = False) -> str:
        names = (
            (["text"] if column in texts else []) + (["wrap"] if column in wrapped else []) + (["best"] if bold else [])
        )
        return f' class="{" ".join(names)}"' if names else ""

    head = "".join(f'<th scope="col"{kind(column)}>{text(cell)}</th>' for column, cell in enumerate(header))
    lines = []
    for position, row in enumerate(rows):
        marks = best[position] if best is not None else [False] * len(row)
        cells = "".join(f"<td{kind(column, bold=marks[column])}>{text(cell)}</td>" for column, cell in enumerate(row))
        lines.append(f"<tr>{cells}</tr>")
    if total is not None:
        cells = "".join(f"<td{kind(column)}>{text(cell)}</td>" for column, cell in enumerate(total))
        lines.append(f'<tr class="total">{cells}</tr>')
    return (
        f'<div class="scroll" tabindex="0"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(lines)}</tbody></table></div>"
    )


def figure(drawing: Drawing, caption: str = "", *, scroll: bool = False) -> str:
    """A drawing with words under it; with `scroll` it keeps its size and scrolls on a narrow screen."""
    under = f"<figcaption>{text(caption)}</figcaption>" if caption else ""
    inside = f'<div class="scroll" tabindex="0">{drawing.svg()}</div>' if scroll else drawing.svg()
    return f"<figure>{inside}{under}</figure>"


def figures(markups: Sequence[str]) -> str:
    """Figures beside one another where there is room."""
    return f'<div class="figures">{"".join(markups)}</div>'


def data_uri(image: Image.Image, *, exact: bool = False) -> str:
    """An image inside a page: PNG where that is small or must be `exact`, JPEG for photographs."""
    if image.mode == "RGB" and image.width * image.height > 64 * 64 and not exact:
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=88)
        return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
    return "data:image/png;base64," + base64.b64encode(png_bytes(image)).decode()


def picture(image: Image.Image, description: str, *, sharp: bool) -> str:
    """An image inside the page; `sharp` keeps its pixels square when it is enlarged."""
    return _img(image, description, more=' class="pixels"' if sharp else "")


def _img(image: Image.Image, description: str, *, exact: bool = False, more: str = "") -> str:
    uri, size = data_uri(image, exact=exact), f'width="{image.width}" height="{image.height}"'
    return f'<img src="{uri}" {size} alt="{text(description)}"{more}>'


def sheet(image: Image.Image, description: str) -> str:
    """A drawn sheet on its own white ground, exact. It scrolls where it is very tall or the screen is narrow."""
    shown = _img(image, description, exact=True)
    tall = " tall" if image.height > 1600 else ""
    return f'<div class="scroll sheet{tall}" tabindex="0">{shown}</div>'


def beside(markups: Sequence[str]) -> str:
    """Blocks of their own width beside one another where there is room."""
    return f'<div class="beside">{"".join(f"<div>{markup}</div>" for markup in markups)}</div>'


def code(value: str) -> str:
    """A command or a text to be copied."""
    lines = "\n".join(_escape(printable(line)) for line in value.split("\n"))
    return f"<pre><code>{lines}</code></pre>"
