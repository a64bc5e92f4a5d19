"""The building blocks of a page: every text is escaped, and images are inside."""

import base64
import io

import numpy as np
from PIL import Image

from convoscope.render import Section, code, data_uri, page, paragraph, picture, sheet, table, text

NASTY = "<script>\x1b&\"'"


def test_every_text_is_escaped() -> None:
    for markup in (
        text(NASTY),
        paragraph(NASTY, "big"),
        code(NASTY),
        table([NASTY], [[NASTY]], total=[NASTY]),
        page(NASTY, "", [Section("a", NASTY, "")], NASTY),
    ):
        assert "<script" not in markup and "\x1b" not in markup
        assert "&lt;script&gt;" in markup


def test_a_percent_sign_stays_with_its_number() -> None:
    assert text("5 %") == "5&nbsp;%"


def test_a_page_names_its_sections_and_asks_for_nothing() -> None:
    made = page("Title", "<h1>Head</h1>", [Section("one", "First", "<p>1</p>"), Section("two", "Second", "")], "foot")
    assert '<a href="#one">First</a><a href="#two">Second</a>' in made
    assert '<section id="one"><h2>First</h2><p>1</p></section>' in made
    assert "default-src 'none'" in made and "http" not in made.replace("http-equiv", "")


def test_photographs_are_jpeg_and_exact_sheets_png() -> None:
    photo = Image.fromarray(np.random.default_rng(0).integers(0, 256, (80, 90, 3), np.uint8))
    assert data_uri(photo).startswith("data:image/jpeg;base64,")
    assert data_uri(photo.resize((64, 64))).startswith("data:image/png;base64,")
    kind, _, body = data_uri(photo, exact=True).partition(",")
    assert kind == "data:image/png;base64"
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(base64.b64decode(body)))), np.asarray(photo))


def test_images_have_their_size_and_their_description() -> None:
    image = Image.new("RGB", (7, 5))
    assert 'width="7" height="5" alt="a &lt;b&gt;" class="pixels">' in picture(image, "a <b>", sharp=True)
    assert picture(image, "a", sharp=False).endswith('alt="a">')
    assert 'class="scroll sheet"' in sheet(image, "a")
    assert 'class="scroll sheet tall"' in sheet(Image.new("RGB", (1, 1601)), "a")
