"""A drawing made of lines, boxes and words, written as SVG for a page or painted as PNG for a file.

Colours are names from `COLOURS`. In SVG they are CSS variables, so that the same drawing suits light and dark; in PNG
they are the light ones.
"""

from __future__ import annotations

import functools
import io
import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import Any, Literal

from PIL import Image, ImageDraw, ImageFont

from ..errors import printable

COLOURS: dict[str, tuple[str, str]] = {
    # One neutral grey family.
    "ground": ("#ffffff", "#131416"),
    "panel": ("#f5f5f6", "#1c1d20"),
    "faint": ("#e2e3e6", "#303237"),
    "soft": ("#b9bbc1", "#565960"),
    "muted": ("#62656d", "#a0a3ab"),
    "ink": ("#1a1b1e", "#ededef"),
    # Accents; every kind of colour vision distinguishes blue and orange.
    "blue": ("#1769aa", "#62b0f0"),
    "orange": ("#c4570a", "#f5a04c"),
    "red": ("#bd2a3a", "#f4737f"),
    "green": ("#0b7d5b", "#3fc296"),
    "purple": ("#8a4f9e", "#c893da"),
    "brown": ("#7a5a2b", "#c9a873"),
}
"""Name to (light, dark)."""

SERIES = ("blue", "orange", "green", "purple", "red", "brown", "muted", "ink")
"""Colours of curves laid over one another, in order; past these the dashes change."""

_FONTS = Path(__file__).parent / "fonts"

DASHES = ("", "6 3", "2 3", "8 3 2 3")

Anchor = Literal["start", "middle", "end"]


@dataclass(frozen=True)
class _Shape:
    kind: str
    values: dict[str, Any]


@dataclass
class Drawing:
    """Shapes on a sheet, in the order in which they are drawn.

    Args:
        width, height: in units; one unit is a CSS pixel at full size.
        title: what it shows, for screen readers.
    """

    width: float
    height: float
    title: str
    _shapes: list[_Shape] = field(default_factory=list)

    def box(
        self, x: float, y: float, width: float, height: float, fill: str, *, opacity: float = 1.0, hint: str = ""
    ) -> None:
        """A filled rectangle; `hint` is shown under the pointer."""
        self._add("box", x=x, y=y, width=width, height=height, fill=fill, opacity=opacity, hint=hint)

    def line(self, points: Sequence[tuple[float, float]], colour: str, *, width: float = 1.0, dash: str = "") -> None:
        """Straight lines from point to point."""
        self._add("line", points=list(points), colour=colour, width=width, dash=dash)

    def dot(self, x: float, y: float, radius: float, colour: str, *, hint: str = "") -> None:
        """A filled circle; `hint` is shown under the pointer."""
        self._add("dot", x=x, y=y, radius=radius, colour=colour, hint=hint)

    def words(
        self,
        x: float,
        y: float,
        text: str,
        *,
        colour: str = "muted",
        size: float = 12,
        anchor: Anchor = "start",
        bold: bool = False,
        upright: bool = False,
    ) -> None:
        """Text whose base line is at y; `upright` reads from below to above."""
        self._add(
            "words", x=x, y=y, text=printable(text), colour=colour, size=size, anchor=anchor, bold=bold, upright=upright
        )

    def _add(self, kind: str, **values: Any) -> None:
        self._shapes.append(_Shape(kind, values))

    def svg(self) -> str:
        """The drawing as an `<svg>` element whose colours are CSS variables such as `--blue`."""
        parts = [
            f'<svg viewBox="0 0 {_short(self.width)} {_short(self.height)}" width="{_short(self.width)}" '
            f'height="{_short(self.height)}" role="img" aria-label="{escape(printable(self.title))}">'
        ]
        for shape in self._shapes:
            v = shape.values
            hint = f"<title>{escape(printable(v['hint']))}</title>" if v.get("hint") else ""
            if shape.kind == "box":
                opacity = f' fill-opacity="{v["opacity"]:.3g}"' if v["opacity"] < 1 else ""
                parts.append(
                    f'<rect x="{_short(v["x"])}" y="{_short(v["y"])}" width="{_short(v["width"])}" '
                    f'height="{_short(v["height"])}" fill="var(--{v["fill"]})"{opacity}>{hint}</rect>'
                )
            elif shape.kind == "line":
                points = " ".join(f"{_short(x)},{_short(y)}" for x, y in v["points"])
                dash = f' stroke-dasharray="{v["dash"]}"' if v["dash"] else ""
                parts.append(
                    f'<polyline points="{points}" fill="none" stroke="var(--{v["colour"]})" '
                    f'stroke-width="{_short(v["width"])}" stroke-linejoin="round"{dash}/>'
                )
            elif shape.kind == "dot":
                parts.append(
                    f'<circle cx="{_short(v["x"])}" cy="{_short(v["y"])}" r="{_short(v["radius"])}" '
                    f'fill="var(--{v["colour"]})">{hint}</circle>'
                )
            else:
                place = f'x="{_short(v["x"])}" y="{_short(v["y"])}"'
                if v["upright"]:
                    place = f'transform="translate({_short(v["x"])} {_short(v["y"])}) rotate(-90)"'
                anchor = f' text-anchor="{v["anchor"]}"' if v["anchor"] != "start" else ""
                bold = ' font-weight="600"' if v["bold"] else ""
                parts.append(
                    f'<text {place} font-size="{_short(v["size"])}" fill="var(--{v["colour"]})"{anchor}{bold}>'
                    f"{escape(v['text'])}</text>"
                )
        parts.append("</svg>")
        return "".join(parts)

    def image(self, scale: int = 2) -> Image.Image:
        """The drawing as an RGB image on white, `scale` pixels for each unit."""
        fine = 2 * scale  # drawn twice as large and reduced: Pillow's lines have no smooth edges
        sheet = Image.new("RGB", (round(self.width * fine), round(self.height * fine)), COLOURS["ground"][0])
        pen = ImageDraw.Draw(sheet)
        for shape in self._shapes:
            v = shape.values
            if shape.kind == "box":
                corners = (
                    v["x"] * fine,
                    v["y"] * fine,
                    (v["x"] + v["width"]) * fine - 1,
                    (v["y"] + v["height"]) * fine - 1,
                )
                if corners[2] >= corners[0] and corners[3] >= corners[1]:
                    pen.rectangle(corners, fill=_blend(v["fill"], v["opacity"]))
            elif shape.kind == "line":
                for piece in _dashed(v["points"], v["dash"]):
                    pen.line(
                        [(x * fine, y * fine) for x, y in piece],
                        COLOURS[v["colour"]][0],
                        round(v["width"] * fine),
                        "curve",
                    )
            elif shape.kind == "dot":
                pen.circle((v["x"] * fine, v["y"] * fine), v["radius"] * fine, COLOURS[v["colour"]][0])
            else:
                _paint_words(sheet, pen, v, fine)
        return sheet.resize((round(self.width * scale), round(self.height * scale)), Image.Resampling.BOX)

    def png(self, scale: int = 2) -> bytes:
        """`image` as the bytes of a PNG file."""
        return png_bytes(self.image(scale))


def png_bytes(image: Image.Image) -> bytes:
    """An image as the bytes of a PNG file."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


@functools.cache
def font(size: int, bold: bool = False) -> ImageFont.FreeTypeFont:
    """DejaVu Sans, which knows many scripts."""
    return ImageFont.truetype(_FONTS / ("DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"), size)


def shorten(text: str, length: int) -> str:
    """At most `length` characters in one safe line; what is cut is marked."""
    text = printable(text)
    return text if len(text) <= length else text[: max(1, length - 1)] + "…"


def fitting(text: str, width: float, size: int, bold: bool = False) -> str:
    """As much of a text as fits into `width` pixels, in one safe line."""
    text = printable(text)
    face = font(size, bold)
    if face.getlength(text) <= width:
        return text
    while text and face.getlength(text + "…") > width:
        text = text[:-1]
    return text + "…"


def text_width(text: str, size: float) -> float:
    """About how wide a text will be, in units."""
    return float(font(round(size * 4)).getlength(printable(text))) / 4


def _short(value: float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".")


def _blend(colour: str, opacity: float) -> tuple[int, int, int]:
    top, ground = (bytes.fromhex(COLOURS[name][0][1:]) for name in (colour, "ground"))
    mixed = [round(opacity * a + (1 - opacity) * b) for a, b in zip(top, ground, strict=True)]
    return mixed[0], mixed[1], mixed[2]


def _dashed(points: list[tuple[float, float]], dash: str) -> list[list[tuple[float, float]]]:
    """A line cut into its dashes."""
    if not dash:
        return [points]
    lengths = [float(part) for part in dash.split()]
    pieces: list[list[tuple[float, float]]] = [[]]
    turn, left = 0, lengths[0]
    for (x0, y0), (x1, y1) in itertools.pairwise(points):
        length = ((x1 - x0) ** 2 + (y1 - y0) ** 2) ** 0.5
        gone = 0.0
        pieces[-1] = pieces[-1] or ([(x0, y0)] if turn % 2 == 0 else [])
        while length - gone > left:
            gone += left
            place = (x0 + (x1 - x0) * gone / length, y0 + (y1 - y0) * gone / length)
            if turn % 2 == 0:
                pieces[-1].append(place)
            else:
                pieces.append([place])
            turn += 1
            left = lengths[turn % len(lengths)]
        left -= length - gone
        if turn % 2 == 0:
            pieces[-1].append((x1, y1))
    return [piece for piece in pieces if len(piece) > 1]


def _paint_words(sheet: Image.Image, pen: ImageDraw.ImageDraw, v: dict[str, Any], fine: int) -> None:
    face = font(round(v["size"] * fine), v["bold"])
    ink = COLOURS[v["colour"]][0]
    x, y = v["x"] * fine, v["y"] * fine
    if not v["upright"]:
        pen.text((x, y), v["text"], ink, face, anchor={"start": "ls", "middle": "ms", "end": "rs"}[v["anchor"]])
        return
    left, top, right, bottom = pen.textbbox((0, 0), v["text"], face, anchor="ls")
    mask = Image.new("L", (max(1, int(right - left) + 2), max(1, int(bottom - top) + 2)))
    ImageDraw.Draw(mask).text((-left, -top), v["text"], 255, face, anchor="ls")
    mask = mask.rotate(90, expand=True)
    start = {"start": y, "middle": y + (right - left) / 2, "end": y + (right - left)}[v["anchor"]]
    sheet.paste(Image.new("RGB", mask.size, ink), (round(x + top), round(start - mask.height)), mask)
