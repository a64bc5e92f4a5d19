"""The frame around the pages: pages, languages, light and dark, keyboard, first view."""

from __future__ import annotations

import gzip
import re
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from .conftest import PAGES, SIZES, OpenPage, Studio, frames


def test_the_pages_are_reached_by_name_and_stand_in_the_address(open_page: OpenPage) -> None:
    page = open_page()
    links = page.get_by_role("navigation").get_by_role("link")
    expect(links).to_have_count(len(PAGES))
    assert PAGES[0] == "tiny"
    for at in range(len(PAGES) - 1, -1, -1):
        link = links.nth(at)
        link.click()
        expect(link).to_have_attribute("aria-current", "page")
        expect(page).to_have_title(f"{link.inner_text()} · convoscope")
        assert re.search(rf"#/{PAGES[at]}", page.url)


def test_an_unknown_page_is_the_first_one(open_page: OpenPage) -> None:
    page = open_page("#/nothing?x=1")
    expect(page.get_by_role("link", name="Tiny")).to_have_attribute("aria-current", "page")


def test_languages_are_chosen_kept_and_begin_with_the_browsers(open_page: OpenPage) -> None:
    page = open_page(language="de")
    expect(page.get_by_role("link", name="Zeichnen")).to_be_visible()
    assert page.evaluate("document.documentElement.lang") == "de"
    page.get_by_label("Sprache").select_option("English")
    expect(page.get_by_role("link", name="Draw")).to_be_visible()
    page.reload()
    expect(page.get_by_role("link", name="Draw")).to_be_visible()


def test_light_and_dark_follow_the_system_until_chosen(open_page: OpenPage) -> None:
    page = open_page(dark=True)
    assert ground(page) == "rgb(19, 20, 22)"
    page.get_by_label("Light or dark").select_option("Light")
    assert ground(page) == "rgb(255, 255, 255)"
    page.reload()
    expect(page.get_by_label("Light or dark")).to_have_value("light")
    assert ground(page) == "rgb(255, 255, 255)"


def ground(page: Page) -> str:
    page.wait_for_function("document.documentElement.dataset.theme")
    return str(page.evaluate("getComputedStyle(document.documentElement).backgroundColor"))


def test_the_keyboard_skips_to_the_page(open_page: OpenPage) -> None:
    page = open_page()
    expect(page.get_by_role("heading", level=1)).to_be_visible()
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the page")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.get_by_role("main")).to_be_focused()


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", PAGES)
def test_no_page_scrolls_sideways(open_page: OpenPage, name: str, size: str) -> None:
    page = open_page(f"#/{name}", size=size)
    expect(page.get_by_role("heading", level=1)).to_be_visible()
    frames(page, 20)
    assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0


def test_the_first_view_fetches_less_than_300_kilobytes_of_script(open_page: OpenPage, studio: Studio) -> None:
    import convoscope.studio

    sizes: dict[str, int] = {}
    page = open_page("#/tiny")
    expect(page.get_by_role("heading", level=1)).to_be_visible()
    names = page.evaluate("performance.getEntriesByType('resource').map((each) => new URL(each.name).pathname)")
    built = Path(convoscope.studio.__file__).parent / "page"
    for name in names:
        if name.endswith(".js"):
            sizes[name] = len(gzip.compress((built / name.lstrip("/")).read_bytes()))
    assert sizes
    assert sum(sizes.values()) < 300_000
