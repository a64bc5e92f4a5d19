"""Drawings are well-formed SVG and the same thing as PNG."""

import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

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
