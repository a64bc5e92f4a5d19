"""Reads a page that the package wrote, and checks that it fetches nothing and runs nothing."""

import base64
import io
import re
from html.parser import HTMLParser
from pathlib import Path

from PIL import Image

HOSTILE = "<img src=x onerror=alert(1)>"
VOID = {"meta", "img", "br", "link", "input", "hr"}
Attributes = list[tuple[str, str | None]]


class Page(HTMLParser):
    """Reads a page strictly: every element closed in order; collects tags, attributes, texts and images."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.source = path.read_text("utf-8")
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.attributes: list[tuple[str, str, str | None]] = []
        self.images: list[dict[str, str]] = []
        self.words: list[str] = []
        self.feed(self.source)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: Attributes) -> None:
        self.tags.add(tag)
        self.attributes += [(tag, name, value) for name, value in attrs]
        if tag == "img":
            self.images.append({name: value or "" for name, value in attrs})
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: Attributes) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.words.append(data)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", " ".join(self.words).replace("\xa0", " "))


def read(path: Path) -> Page:
    page = Page(path)
    assert not page.tags & {"script", "iframe", "object", "embed", "link", "form", "base", "foreignobject", "use"}
    for tag, name, value in page.attributes:
        assert not name.startswith("on"), (tag, name)
        if name in ("src", "href", "xlink:href", "action", "srcset", "data"):
            assert value is not None
            if tag == "a" and not value.startswith("#"):  # a file of the run, beside the page
                assert re.fullmatch(r"[\w./-]+", value) and ".." not in value and not value.startswith("/"), value
                assert (path.parent / value).is_file(), value
                continue
            assert value.startswith(("data:image/png;base64,", "data:image/jpeg;base64,", "#")), value
    found = re.search(r"<style>(.*?)</style>", page.source, re.DOTALL)
    assert found is not None
    style = found[1]
    assert "url(" not in style and "@import" not in style
    assert "prefers-color-scheme:dark" in style and "@media print" in style and "max-width: 560px" in style
    for image in page.images:
        assert image["alt"]
        with Image.open(io.BytesIO(base64.b64decode(image["src"].split(",")[1]))) as decoded:
            assert decoded.size == (int(image["width"]), int(image["height"]))
    return page
