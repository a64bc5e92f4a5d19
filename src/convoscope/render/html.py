"""One self-contained HTML page: nothing is fetched, nothing runs, and every text from outside is escaped.

The pieces are plain functions from texts to markup, each a macro of `templates/parts.html`. What they take is text
unless its name says `markup`: jinja2 escapes all that is not marked as safe there.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from html import escape as _escape
from importlib import resources
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
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


@cache
def _templates() -> Environment:
    return Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        finalize=lambda value: value if hasattr(value, "__html__") else Markup(text(value)),  # noqa: S704 - text escapes
        keep_trailing_newline=True,
        lstrip_blocks=True,
        trim_blocks=True,
        undefined=StrictUndefined,
    )


def _part(macro: str, *arguments: Any) -> str:
    """The markup of one macro of `templates/parts.html`."""
    return str(getattr(_templates().get_template("parts.html").module, macro)(*arguments))


def page(title: str, head_markup: str, sections: Sequence[Section], foot: str) -> str:
    """The whole page. Its security policy forbids scripts and every request."""
    styles = resources.files(__package__).joinpath("page.css").read_text("utf-8")
    light, dark = (";".join(f"--{name}:{pair[tone]}" for name, pair in COLOURS.items()) for tone in (0, 1))
    variables = (
        f":root{{{light}}}@media (prefers-color-scheme:dark){{:root{{{dark}}}}}"
        f"@media print{{:root{{color-scheme:light;{light}}}}}"
    )
    return (
        _templates()
        .get_template("page.html")
        .render(title=title, styles=f"{variables}\n{styles}", head=head_markup, sections=sections, foot=foot)
    )


def paragraph(value: object, kind: str = "") -> str:
    """A paragraph, with a class of the style sheet if one is named."""
    return _part("paragraph", value, kind)


def note(value: object, *, warn: bool = False) -> str:
    """A sentence that must not be overlooked."""
    return _part("note", value, warn)


def facts(entries: Sequence[tuple[str, str, str]]) -> str:
    """Large figures: name, value, and a small remark under it."""
    return _part("facts", entries)


def pairs(entries: Sequence[tuple[str, str]]) -> str:
    """Names and values, one pair a line."""
    return _part("pairs", entries)


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
    return _part("table", header, rows, texts, wrapped, total, best)


def figure(drawing: Drawing, caption: str = "", *, scroll: bool = False) -> str:
    """A drawing with words under it; with `scroll` it keeps its size and scrolls on a narrow screen."""
    return _part("figure", drawing.svg(), caption, scroll)


def figures(markups: Sequence[str]) -> str:
    """Figures beside one another where there is room."""
    return _part("group", "figures", markups)


def fold(summary: object, markup: str, *, unfolded: bool = False) -> str:
    """Content that opens with a click on its summary."""
    return _part("fold", summary, markup, unfolded)


def steps(entries: Sequence[tuple[str, str]]) -> str:
    """A numbered list: what to do, in words, and the command that does it, or nothing."""
    return _part("steps", [(words, code(command) if command else "") for words, command in entries])


def legend(entries: Sequence[tuple[Drawing, str]]) -> str:
    """What the lines of a chart are: a sample of each, and its name."""
    return _part("legend", [(drawing.svg(), words) for drawing, words in entries])


def links(entries: Sequence[tuple[str, str]]) -> str:
    """A list of files beside the page: relative address, and what it holds."""
    return _part("links", entries)


def tiles(entries: Sequence[tuple[str, str, str, str]]) -> str:
    """Small pictures with captions: markup, truth, answer, name."""
    return _part("tiles", entries)


def data_uri(image: Image.Image, *, exact: bool = False) -> str:
    """An image inside a page: PNG where that is small or must be `exact`, JPEG for photographs."""
    if image.mode == "RGB" and image.width * image.height > 64 * 64 and not exact:
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=88)
        return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
    return "data:image/png;base64," + base64.b64encode(png_bytes(image)).decode()


def picture(image: Image.Image, description: str, *, sharp: bool) -> str:
    """An image inside the page; `sharp` keeps its pixels square when it is enlarged."""
    return _image(image, description, sharp=sharp)


def _image(image: Image.Image, description: str, *, exact: bool = False, sharp: bool = False) -> str:
    return _part("image", data_uri(image, exact=exact), image.width, image.height, description, sharp)


def sheet(image: Image.Image, description: str) -> str:
    """A drawn sheet on its own white ground, exact. It scrolls where it is very tall or the screen is narrow."""
    return _part("sheet", _image(image, description, exact=True), image.height > 1600)


def beside(markups: Sequence[str]) -> str:
    """Blocks of their own width beside one another where there is room."""
    return _part("beside", markups)


def code(value: str) -> str:
    """A command or a text to be copied."""
    lines = "\n".join(_escape(printable(line)) for line in value.split("\n"))
    return f"<pre><code>{lines}</code></pre>"
