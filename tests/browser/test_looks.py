"""Each page in its main states: axe, no sideways scroll, every control reached by Tab, targets large enough for a finger."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable
from typing import Protocol, Unpack

import pytest
from playwright.sync_api import Page, expect

from .conftest import SIZES, OpenPage, View, open_pad, replay, wait_for_guess

RING = [(0.3, 0.4), (0.5, 0.25), (0.7, 0.4), (0.65, 0.7), (0.4, 0.75), (0.3, 0.4)]


# --- states: each opens a page and brings it there -----------------------------------------------------------------------


def tiny(open_page: OpenPage, **options: Unpack[View]) -> Page:
    page = open_page("#/tiny", **options)
    expect(page.get_by_role("heading", level=1)).to_be_attached()
    expect(page.get_by_role("group", name="Test images").get_by_role("button")).not_to_have_count(0)
    return page


def tiny_calculation(open_page: OpenPage, **options: Unpack[View]) -> Page:
    page = tiny(open_page, **options)
    page.locator("main").get_by_role("button", name=re.compile(r"^(?:horizontal|vertical) \d")).last.click()
    expect(page.get_by_role("button", name="Hide")).to_be_visible()
    return page


def convolve(open_page: OpenPage, **options: Unpack[View]) -> Page:
    page = open_page("#/convolve", **options)
    expect(page.locator("[data-test=result]")).to_be_visible()
    expect(page.get_by_role("group", name="Sample images").locator("canvas")).to_have_count(15)
    return page


def convolve_numbers(open_page: OpenPage, **options: Unpack[View]) -> Page:
    page = open_page("#/convolve?sample=numbers&steps=conv:laplacian:zeros;relu;pool:max:2:2&cell=0,1,1", **options)
    expect(page.locator("[data-test=result]")).to_be_visible()
    return page


def convolve_refused(open_page: OpenPage, **options: Unpack[View]) -> Page:
    page = open_page("#/convolve?sample=lines&steps=pool:max:9:1", **options)
    expect(page.get_by_role("alert")).to_be_visible()
    return page


def convolve_script(open_page: OpenPage, **options: Unpack[View]) -> Page:
    page = convolve_numbers(open_page, **options)
    page.get_by_role("button", name="Copy as PyTorch").click()
    expect(page.get_by_role("dialog")).to_be_visible()
    return page


def convolve_drawing(open_page: OpenPage, **options: Unpack[View]) -> Page:
    page = convolve(open_page, **options)
    page.get_by_role("button", name="Draw an image").click()
    expect(page.get_by_role("dialog")).to_be_visible()
    return page


def draw(open_page: OpenPage, **options: Unpack[View]) -> Page:
    return open_pad(open_page, **options)


def draw_answer(open_page: OpenPage, **options: Unpack[View]) -> Page:
    page = open_pad(open_page, **options)
    wait_for_guess(page, replay(page, [RING]))
    return page


def draw_twenty(open_page: OpenPage, **options: Unpack[View]) -> Page:
    page = open_pad(open_page, "twenty", **options)
    wait_for_guess(page, replay(page, [RING]))
    return page


def draw_game(open_page: OpenPage, **options: Unpack[View]) -> Page:
    page = open_pad(open_page, "twenty", **options)
    page.get_by_role("button", name="Play").click()
    expect(page.get_by_role("button", name="Start", exact=True)).to_be_visible()
    return page


class State(Protocol):
    def __call__(self, open_page: OpenPage, **options: Unpack[View]) -> Page: ...


MAIN: dict[str, State] = {"tiny": tiny_calculation, "convolve": convolve, "draw": draw_answer}
OTHER: dict[str, State] = {
    "tiny": tiny,
    "convolve-numbers": convolve_numbers,
    "convolve-refused": convolve_refused,
    "convolve-script": convolve_script,
    "convolve-drawing": convolve_drawing,
    "draw": draw,
    "draw-twenty": draw_twenty,
    "draw-game": draw_game,
}


# --- axe and width -------------------------------------------------------------------------------------------------------


def check(page: Page, serious_faults: Callable[[Page], list[str]]) -> None:
    assert serious_faults(page) == []
    assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", MAIN)
def test_a_page_in_each_size_light_and_dark(
    open_page: OpenPage, serious_faults: Callable[[Page], list[str]], name: str, size: str, dark: bool
) -> None:
    check(MAIN[name](open_page, size=size, dark=dark), serious_faults)


@pytest.mark.parametrize("name", OTHER)
def test_a_page_in_its_other_states(
    open_page: OpenPage, serious_faults: Callable[[Page], list[str]], name: str
) -> None:
    """The narrowest is the hardest; the colours of the dark theme are seen above."""
    check(OTHER[name](open_page, size="narrow"), serious_faults)


# --- keyboard --------------------------------------------------------------------------------------------------------------

# All that can be operated: one of a radio group, and of a group with roving focus, stands for all of it.
CONTROLS = """() => {
  const shown = (each) => each.checkVisibility({visibilityProperty: true, opacityProperty: false}) && !each.closest('[inert], [aria-hidden=true]');
  const open = document.querySelector('dialog[open]');
  const radios = new Set();
  return [...(open ?? document).querySelectorAll('a[href], button, input, select, textarea, [role=application], [role=slider], [tabindex="0"]')]
    .filter((each) => shown(each) && !each.disabled && each.tabIndex >= 0)
    .filter((each) => each.type !== 'radio' || (!radios.has(each.name) && (radios.add(each.name), true)));
}"""
NAME = """(each) => each.type === 'radio' ? `radio ${each.name}`
  : [each.localName, each.getAttribute('role'), each.ariaLabel ?? each.title, (each.innerText ?? '').slice(0, 30), each.id,
     each.ariaLabel ? null : [...document.querySelectorAll(each.localName)].indexOf(each)].filter((part) => part !== null && part !== '').join(' ')"""


EACH = MAIN | OTHER


@pytest.mark.parametrize("name", EACH)
def test_every_control_is_reached_by_tab_and_left_again(open_page: OpenPage, name: str) -> None:
    page = EACH[name](open_page)
    wanted = set(page.evaluate(f"() => ({CONTROLS})().map({NAME})"))
    assert len(wanted) >= 3
    # From the very beginning of the page, or of the dialog that is open.
    page.evaluate("() => { document.activeElement?.blur(); getSelection()?.removeAllRanges(); }")
    reached: list[str] = []
    for _ in range(2 * len(wanted) + 10):
        page.keyboard.press("Tab")
        at = page.evaluate(f"() => document.activeElement === document.body ? '' : ({NAME})(document.activeElement)")
        if at in reached and wanted <= set(reached):
            break
        if at != "":
            reached.append(at)
    assert wanted - set(reached) == set()
    # No trap: going on from anywhere leads somewhere else.
    assert all(one != two for one, two in itertools.pairwise(reached)), reached


def test_whatever_has_the_focus_shows_it(open_page: OpenPage) -> None:
    page = convolve_numbers(open_page)
    for _ in range(12):
        page.keyboard.press("Tab")
        style = page.evaluate(
            """() => {
              const at = document.activeElement;
              const outer = at.type === 'radio' ? at.closest('label') : at;
              const style = getComputedStyle(outer);
              return [outer.outerHTML.slice(0, 80), style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) >= 1.5];
            }"""
        )
        assert style[1], style[0]


# --- touch -----------------------------------------------------------------------------------------------------------------

# WCAG 2.2, 2.5.8: 24 by 24 CSS pixels. A slider's own thumb is the browser's; a link within a sentence is as high as its line.
SMALL = """() => [...document.querySelectorAll('main button, main select, header a, header select, main input:not([type=range])')]
  .filter((each) => each.checkVisibility({visibilityProperty: true}) && !each.closest('[aria-hidden=true]'))
  .map((each) => each.type === 'radio' || each.type === 'checkbox' ? each.closest('label') ?? each : each)
  .map((each) => [each.outerHTML.slice(0, 120), each.getBoundingClientRect()])
  .filter(([, box]) => box.width > 2 && (box.width < 24 || box.height < 24))
  .map(([html, box]) => `${Math.round(box.width)} x ${Math.round(box.height)}: ${html}`)"""


@pytest.mark.parametrize("name", MAIN)
def test_targets_are_large_enough_for_a_finger(open_page: OpenPage, name: str) -> None:
    page = MAIN[name](open_page, size="narrow", touch=True)
    assert page.evaluate(SMALL) == []


# --- words of the field ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", ["narrow", "laptop"])
def test_a_word_of_the_field_shows_its_sentence(open_page: OpenPage, size: str) -> None:
    page = tiny(open_page, size=size)
    words = page.get_by_role("heading", level=1).locator("dfn")
    sentence = page.get_by_role("tooltip")
    expect(sentence).to_have_count(0)
    words.nth(0).focus()
    expect(sentence).to_have_text(re.compile("^A filter is a small grid of weights"))
    expect(sentence).to_be_in_viewport(ratio=1)
    page.keyboard.press("Escape")
    expect(sentence).to_have_count(0)
    words.nth(2).hover()
    expect(sentence).to_have_text(re.compile("^A bias is a learned number"))
    expect(sentence).to_be_in_viewport(ratio=1)
    page.mouse.move(2, 2)
    expect(sentence).to_have_count(0)
    described = words.nth(0).get_attribute("aria-describedby")
    assert (page.locator(f"#{described}").text_content() or "").startswith("A filter is")
