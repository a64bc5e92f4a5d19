"""What is painted, as text."""

from typing import Any

import pytest
from PIL import ImageDraw


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every text that is painted, in order, with its place in the sheet it was painted on."""
    texts: list[str] = []
    paint = ImageDraw.ImageDraw.text

    def note(pen: ImageDraw.ImageDraw, place: tuple[float, float], text: str, *more: Any, **named: Any) -> None:
        # Nothing is cut off: what is painted fits the block that it is painted on.
        left, top, right, bottom = pen.textbbox(place, text, more[1], anchor=named["anchor"])
        assert left >= -1 and right <= pen.im.size[0] + 1, text
        assert top >= -1 and bottom <= pen.im.size[1] + 1, text
        texts.append(text)
        paint(pen, place, text, *more, **named)

    monkeypatch.setattr(ImageDraw.ImageDraw, "text", note)
    return texts
