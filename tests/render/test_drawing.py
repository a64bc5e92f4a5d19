"""Drawings are well-formed SVG and the same thing as PNG."""

import hashlib
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pytest

import convoscope.render
from convoscope.render import COLOURS, Drawing, fitting, font


def test_svg_and_png_show_the_same() -> None:
    sheet = Drawing(40, 20, "a <test> & more")
    sheet.box(0, 0, 20, 20, "red")
    sheet.box(20, 0, 20, 20, "blue", opacity=0.5, hint="<b>")
    root = ElementTree.fromstring(sheet.svg())
    assert root.attrib["aria-label"] == "a <test> & more"
    assert [child.attrib["fill"] for child in root] == ["var(--red)", "var(--blue)"]
    assert root[1][0].text == "<b>"
    pixels = np.asarray(sheet.image(1))
    assert pixels.shape == (20, 40, 3)
    assert tuple(pixels[10, 10]) == tuple(bytes.fromhex(COLOURS["red"][0][1:]))
    wanted = (np.frombuffer(bytes.fromhex(COLOURS["blue"][0][1:]), np.uint8).astype(int) + 255) / 2
    assert np.abs(pixels[10, 30] - wanted).max() <= 1


def test_dashes_cover_their_share() -> None:
    sheet = Drawing(400, 10, "dashes")
    sheet.line([(0, 5), (150, 5), (400, 5)], "ink", width=2, dash="6 2")
    dark = (np.asarray(sheet.image(1).convert("L"))[5] < 128).mean()
    assert dark == pytest.approx(0.75, abs=0.05)


def test_captions_fit() -> None:
    assert fitting("short", 100, 15) == "short"
    assert font(15).getlength(fitting("w" * 90, 100, 15)) <= 100


@pytest.mark.parametrize(
    ("bold", "name", "digest"),
    [
        (False, "DejaVuSans.ttf", "3fdf69cabf06049ea70a00b5919340e2ce1e6d02b0cc3c4b44fb6801bd1e0d22"),
        (True, "DejaVuSans-Bold.ttf", "b184b89e3c1075f22f6b71575b6fc20d4972b3cfd3b23322ca6fd596dcaef167"),
    ],
)
def test_the_font_is_dejavu_sans_unchanged_with_its_licence(bold: bool, name: str, digest: str) -> None:
    folder = Path(convoscope.render.__file__).parent / "fonts"
    assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest
    assert font(12, bold).getname() == ("DejaVu Sans", "Bold" if bold else "Book")
    assert "Permission is hereby granted, free of charge" in (folder / "LICENSE").read_text("utf-8")
    for letters in ("äßéøŁ", "Ωλ", "Жя", "ჰ", "←→✓≤"):  # a letter that a font lacks is drawn as one box for all
        shapes = {bytes(font(20, bold).getmask(letter)) for letter in [*letters, "\uffff"]}
        assert len(shapes) == len(letters) + 1
