"""The page Draw, as somebody uses it: real drawings that the networks have not seen are drawn again with the mouse."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from playwright.sync_api import Locator, Page, expect

from convoscope.data import pad_image
from convoscope.studio.startup_networks import READY_MADE
from convoscope.training import Run
from tests.browser.conftest import (
    MAKING_MS,
    OpenPage,
    Studio,
    open_pad,
    pad_of,
    pixels_of,
    replay,
    start_studio,
    stop_studio,
    wait_for,
    wait_for_guess,
)
from tests.support.strokes import drawn, strokes

Line = list[tuple[float, float]]
RING: Line = [(0.5 + 0.3 * np.cos(turn), 0.5 + 0.3 * np.sin(turn)) for turn in np.linspace(0, 2 * np.pi, 33)]
DASH: Line = [(0.2, 0.5), (0.8, 0.5)]


def unseen(name: str) -> Iterator[tuple[str, list[Line]]]:
    """The drawings of a ready-made network's test part, as class and strokes; only after the studio has made it."""
    recipe = next(each for each in READY_MADE if each.name == name)
    run = Run.open(Path(os.environ["CONVOSCOPE_CACHE"]) / "studio" / recipe.folder)
    prepared = run.prepared()
    for row in prepared.dataset.indices("test"):
        label = prepared.dataset.classes[int(prepared.dataset.targets[row])]
        lines = strokes(np.array(prepared.pixels[row][..., 0]))
        # Every fourth point: the browser takes one movement of the mouse a frame.
        yield label, [[*line[:1], *line[4:-1:4], *line[-1:]] for line in lines]


def bars(page: Page) -> Locator:
    return page.get_by_role("group", name="What the network says").get_by_role("meter")


def answers(page: Page) -> dict[str, float]:
    """The bars: name and length in percent."""
    return {
        str(name): float(value)
        for name, value in bars(page).evaluate_all(
            "(all) => all.map((each) => [each.ariaLabel, each.getAttribute('aria-valuenow')])"
        )
    }


def tool(page: Page, name: str) -> Locator:
    return page.get_by_role("toolbar", name="Tools").get_by_role("button", name=name, exact=True)


def ink_on(page: Page) -> int:
    """How many pixels of the pad are drawn on."""
    return int((pixels_of(pad_of(page).locator("canvas"))[..., 3] > 128).sum())


def shown_image(page: Page) -> NDArray[np.float64]:
    """The small image that the network receives, as it is shown in the light theme: 0 paper, 255 ink."""
    canvas = page.get_by_role("img", name="The image that the network receives").locator("canvas")
    red = pixels_of(canvas)[..., 0]
    centres = ((np.arange(28) + 0.5) * red.shape[0] / 28).astype(int)
    ink = float(page.evaluate("getComputedStyle(document.body).color.match(/\\d+/)[0]"))
    return (255 - red[np.ix_(centres, centres)].astype(float)) / (255 - ink) * 255


# --- recognising -------------------------------------------------------------------------------------------------------


def test_nine_of_ten_unseen_drawings_are_recognised_when_they_are_drawn_again(open_page: OpenPage) -> None:
    page = open_pad(open_page)
    expect(page.get_by_role("heading", level=1)).to_have_text("Draw an apple or a banana")
    right: list[bool] = []
    for label, lines in unseen("apple-banana"):
        if right:
            tool(page, "Empty sheet").click()
            expect(bars(page)).to_have_count(0)
        wait_for_guess(page, replay(page, lines))
        found = answers(page)
        assert abs(sum(found.values()) - 100) <= 1
        right.append(max(found, key=lambda name: found[name]) == label)
    assert len(right) == 40
    assert np.mean(right) >= 0.9


def test_the_other_network_knows_twenty_things(open_page: OpenPage) -> None:
    page = open_pad(open_page, "twenty")
    expect(page.get_by_role("heading", level=1)).to_have_text("Draw one of 20 things")
    expect(page.get_by_role("list").filter(has_text="bicycle").get_by_role("listitem")).to_have_count(20)
    right: list[bool] = []
    first: dict[str, list[Line]] = {}
    for label, lines in unseen("twenty"):
        first.setdefault(label, lines)
    for label, lines in first.items():
        if right:
            tool(page, "Empty sheet").click()
            expect(bars(page)).to_have_count(0)
        wait_for_guess(page, replay(page, lines))
        found = answers(page)
        assert len(found) == 9 and "all others" in found
        assert abs(sum(found.values()) - 100) <= 5  # nine rounded numbers
        del found["all others"]
        right.append(max(found, key=lambda name: found[name]) == label)
    assert len(right) == 20
    assert np.mean(right) >= 0.6


def test_the_image_that_is_shown_is_exactly_what_the_network_receives(open_page: OpenPage) -> None:
    page = open_pad(open_page)
    sent: list[bytes] = []
    page.on(
        "request",
        lambda request: sent.append(request.post_data_buffer or b"") if "/draw/guess" in request.url else None,
    )
    lines = [RING, [(0.5, 0.2), (0.6, 0.1)]]
    wait_for_guess(page, replay(page, lines))
    pad = np.frombuffer(sent[-1], np.uint8).reshape(256, 256)
    # What is sent is what was drawn; both pens are antialiased, each in its own way.
    assert np.abs(pad.astype(float) - drawn(lines)).mean() < 2.5
    received = pad_image(pad, "drawings").astype(float)
    assert np.abs(shown_image(page) - received).max() <= 1.5
    assert received.max() > 200


def test_the_maps_of_both_layers_are_shown_and_follow_the_drawing(open_page: OpenPage) -> None:
    page = open_pad(open_page)
    wait_for_guess(page, replay(page, [RING]))
    expect(page.get_by_role("heading", name="Layer 1: 4 filters")).to_be_visible()
    expect(page.get_by_role("heading", name="Layer 2: 8 filters")).to_be_visible()
    expect(page.get_by_text("4 feature maps, 28 × 28")).to_be_visible()
    expect(page.get_by_text("8 feature maps, 14 × 14")).to_be_visible()
    maps = [page.get_by_role("img", name=f"feature maps of layer {layer}").locator("canvas") for layer in (1, 2)]
    before = [pixels_of(each) for each in maps]
    assert all(len(np.unique(each)) > 30 for each in before)
    wait_for_guess(page, replay(page, [DASH]))
    assert all((pixels_of(each) != one).any() for each, one in zip(maps, before, strict=True))

    page.get_by_role("region", name="The whole network").scroll_into_view_if_needed()
    expect(page.get_by_role("heading", name="The whole network")).to_be_visible()
    steps = page.get_by_role("region", name="The whole network").get_by_role("listitem")
    told = " ".join(steps.all_inner_texts())
    for part in ("4 filters", "8 filters", "16 neurons", "8 neurons", "2 answers"):
        assert part in told
    learned = re.search(r"([\d,]+) parameters", page.locator("main").inner_text())
    parts = [int(text.replace(",", "")) for text in re.findall(r"([\d,]+) parameters", told)]
    assert learned and sum(parts) == int(learned[1].replace(",", ""))


# --- the pad -----------------------------------------------------------------------------------------------------------


def test_an_empty_pad_has_no_bars(open_page: OpenPage) -> None:
    page = open_pad(open_page)
    expect(bars(page)).to_have_count(0)
    expect(page.get_by_role("img", name="The image that the network receives")).to_have_count(0)
    for name in ("Undo", "Redo", "Empty sheet"):
        expect(tool(page, name)).to_be_disabled()


def test_bars_come_while_the_stroke_is_still_drawn(open_page: OpenPage) -> None:
    page = open_pad(open_page)
    box = pad_of(page).bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + 80, box["y"] + 80)
    page.mouse.down()
    page.mouse.move(box["x"] + 200, box["y"] + 220, steps=8)
    expect(bars(page)).to_have_count(2)
    page.mouse.up()


def test_undo_redo_and_an_empty_sheet(open_page: OpenPage) -> None:
    page = open_pad(open_page)
    wait_for_guess(page, replay(page, [RING]))
    one, seen = ink_on(page), answers(page)
    assert one > 1000
    wait_for_guess(page, replay(page, [DASH]))
    two = ink_on(page)
    assert two > one
    tool(page, "Undo").click()
    wait_for(page, lambda: ink_on(page) == one)
    wait_for(page, lambda: answers(page) == seen)
    tool(page, "Redo").click()
    wait_for(page, lambda: ink_on(page) == two)
    tool(page, "Empty sheet").click()
    expect(bars(page)).to_have_count(0)
    assert ink_on(page) == 0
    expect(tool(page, "Empty sheet")).to_be_disabled()
    tool(page, "Undo").click()
    wait_for(page, lambda: ink_on(page) == two)
    expect(bars(page)).to_have_count(2)
    for _ in range(2):
        pad_of(page).press("Control+z")
    expect(bars(page)).to_have_count(0)
    expect(tool(page, "Undo")).to_be_disabled()


def test_the_eraser_takes_ink_away(open_page: OpenPage) -> None:
    page = open_pad(open_page)
    wait_for_guess(page, replay(page, [RING, DASH]))
    before = ink_on(page)
    page.get_by_role("group", name="Tool", exact=True).get_by_text("Eraser").click()
    wait_for_guess(page, replay(page, [DASH]))
    assert ink_on(page) < before - 500
    wait_for_guess(page, replay(page, [RING]))
    wait_for(page, lambda: ink_on(page) == 0)
    expect(bars(page)).to_have_count(0)


def test_the_keyboard_draws(open_page: OpenPage) -> None:
    page = open_pad(open_page)
    pad_of(page).focus()
    page.keyboard.press("Shift+ArrowLeft")
    page.keyboard.press("Shift+ArrowUp")
    expect(page.get_by_text("Pen up, 40 across, 40 down")).to_have_count(1)
    page.keyboard.press("Space")
    for key in ("Shift+ArrowRight", "Shift+ArrowDown", "ArrowDown"):
        page.keyboard.press(key)
    expect(page.get_by_text("Pen down, 50 across, 53 down")).to_have_count(1)
    page.keyboard.press("Space")
    expect(bars(page)).to_have_count(2)
    assert ink_on(page) > 500
    page.keyboard.press("Delete")
    expect(bars(page)).to_have_count(0)
    assert ink_on(page) == 0


def test_a_finger_draws(open_page: OpenPage) -> None:
    page = open_pad(open_page, size="narrow", touch=True)
    pad = pad_of(page)
    pad.scroll_into_view_if_needed()
    box = pad.bounding_box()
    assert box is not None
    hand = page.context.new_cdp_session(page)

    def touch(kind: str, *points: tuple[float, float]) -> None:
        at = [{"x": box["x"] + x * box["width"], "y": box["y"] + y * box["height"]} for x, y in points]
        hand.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": at})

    before = page.evaluate("scrollY")
    touch("touchStart", RING[0])
    for point in RING[1:]:
        touch("touchMove", point)
    touch("touchEnd")
    expect(bars(page)).to_have_count(2)
    assert ink_on(page) > 500
    assert page.evaluate("scrollY") == before, "the page does not scroll away under the finger"


# --- networks ----------------------------------------------------------------------------------------------------------


def test_another_network_answers_to_the_same_drawing(open_page: OpenPage) -> None:
    open_pad(open_page, "twenty").close()
    page = open_pad(open_page)
    wait_for_guess(page, replay(page, [RING]))
    assert list(answers(page)) == ["apple", "banana"]
    page.get_by_role("group", name="Network").get_by_text("20 things").click()
    expect(bars(page)).to_have_count(9)
    expect(page).to_have_url(re.compile("model=twenty"))
    expect(page.get_by_role("heading", name="Layer 1: 16 filters")).to_be_visible()
    page.reload()
    expect(page.get_by_role("heading", level=1)).to_have_text("Draw one of 20 things")
    page.get_by_role("group", name="Network").get_by_text("Apple or banana").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Draw an apple or a banana")


def test_a_run_of_ones_own_can_be_chosen(open_page: OpenPage, own_run: str) -> None:
    page = open_pad(open_page)
    page.get_by_role("combobox", name="Your networks").select_option(label=own_run)
    expect(page).to_have_url(re.compile(f"model=run(:|%3A){own_run}"))
    wait_for_guess(page, replay(page, [RING]))
    assert sorted(answers(page)) == ["apple", "banana"]
    expect(page.get_by_role("heading", name="The whole network")).to_be_visible()


def test_german(open_page: OpenPage) -> None:
    open_pad(open_page).close()
    page = open_page("#/draw", language="de")
    expect(page.get_by_role("heading", level=1)).to_have_text("Zeichne einen Apfel oder eine Banane")
    page.get_by_role("application", name="Zeichenblatt").focus()
    page.keyboard.press("Space")
    page.keyboard.press("Shift+ArrowRight")
    page.keyboard.press("Space")
    expect(page.get_by_role("meter", name="Apfel")).to_be_visible()
    expect(page.get_by_role("meter", name="Banane")).to_be_visible()


# --- the game ----------------------------------------------------------------------------------------------------------


def test_a_game_of_six_words(open_page: OpenPage) -> None:
    open_pad(open_page, "twenty").close()
    drawings: dict[str, list[list[Line]]] = {}
    for label, lines in unseen("twenty"):
        drawings.setdefault(label, []).append(lines)
    page = open_page("#/draw")
    # The same words each time: the line that is drawn for the second one must not be taken for it.
    page.evaluate("Math.random = () => 0.999")
    page.clock.install()
    page.get_by_role("button", name="Play").click()
    expect(page).to_have_url(re.compile("model=twenty.*panel=game|panel=game.*model=twenty"))
    words: list[str] = []
    for turn in range(1, 7):
        expect(page.get_by_role("heading", level=1)).to_contain_text(f"Word {turn} of 6")
        words.append(asked(page))
        expect(page.get_by_role("timer", name="Seconds left")).to_have_text("20 s")
        start = page.get_by_role("button", name="Start", exact=True)
        expect(start).to_be_visible()
        if turn == 1:
            expect(start).to_be_focused()
        page.clock.pause_at(page.evaluate("Date.now() / 1000") + 1)
        start.press("Enter")
        expect(start).to_have_count(0)
        calls = page.get_by_role("log", name="What the network calls out")
        if turn == 1:
            draw_until_known(page, drawings[words[0]], calls)
        else:
            page.clock.run_for(3_000)
            expect(page.get_by_role("timer", name="Seconds left")).to_have_text("17 s")
            if turn == 2:
                replay(page, [[(0.3, 0.3), (0.7, 0.7)]])
            page.clock.run_for(17_500)
            expect(calls).to_contain_text("Time is up.")
        page.clock.run_for(3_000)
        page.clock.resume()

    assert len(set(words)) == 6
    expect(page.get_by_role("heading", level=1)).to_have_text("1 of 6 recognised")
    rounds = page.get_by_role("main").get_by_role("listitem")
    expect(rounds).to_have_count(6)
    for word, line in zip(words, rounds.all_inner_texts(), strict=True):
        assert word in line
    expect(rounds.nth(0)).to_contain_text(re.compile(r"recognised after \d+\.\d s"))
    expect(rounds.nth(5)).to_contain_text("nothing drawn")
    expect(page.get_by_role("img", name=f"Your drawing: {words[0]}")).to_be_visible()
    page.get_by_role("button", name="Play again").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("Word 1 of 6")
    page.keyboard.press("Escape")
    expect(page.get_by_role("heading", level=1)).to_have_text("Draw one of 20 things")
    expect(page.get_by_role("button", name="Play")).to_be_visible()


def asked(page: Page) -> str:
    """The word that is to be drawn."""
    found = re.search(r"Draw: (?:an? )?(.+)", page.get_by_role("heading", level=1).inner_text())
    assert found
    return found[1].strip()


def draw_until_known(page: Page, drawings: list[list[Line]], calls: Locator) -> None:
    """The network recognises most unseen drawings, not all: one after the other, until it knows one."""
    known = calls.get_by_text("Oh, I know:")
    for lines in drawings:
        with page.expect_response(lambda answer: "/draw/guess" in answer.url):
            replay(page, lines)
        page.clock.run_for(200)
        page.wait_for_load_state("networkidle")
        if known.count():
            return
        tool(page, "Empty sheet").click()
    raise AssertionError(f"none of {len(drawings)} drawings was recognised")


# --- the server --------------------------------------------------------------------------------------------------------


def test_a_server_that_is_gone_is_told_and_the_page_goes_on_when_it_is_back(
    open_page: OpenPage, tmp_path: Path
) -> None:
    open_pad(open_page).close()  # what the one studio has made, the other need not
    own = start_studio(tmp_path)
    page = open_pad(open_page, refusals=True, at=own)
    wait_for_guess(page, replay(page, [RING]))
    own.process.kill()
    stop_studio(own)
    alert = page.get_by_role("alert")
    expect(alert).to_contain_text("The studio does not answer. Is it still running in the terminal?")
    replay(page, [DASH])
    expect(alert).to_be_visible()

    port = own.origin.rpartition(":")[2]
    again = start_studio(tmp_path, "--port", port)
    try:
        # A studio that was started anew knows no old sessions.
        expect(alert).to_contain_text("This page's session has ended. Open the address that the terminal shows.")
        page.goto(again.address)
        page.goto(f"{again.origin}/#/draw")
        wait_for_guess(page, replay(page, [RING]))
        expect(bars(page)).to_have_count(2)
        expect(alert).to_have_count(0)
    finally:
        stop_studio(again)


def test_a_network_that_is_being_made_says_how_far_it_is(
    open_page: OpenPage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CONVOSCOPE_CACHE", str(tmp_path / "fresh"))
    own: Studio = start_studio(tmp_path)
    try:
        page = open_page("#/draw?model=twenty", at=own)
        state = page.get_by_role("region", name="State of the network")
        expect(state.get_by_role("heading", name="will be trained on this computer")).to_be_visible()
        expect(state).to_contain_text("“Apple or banana” comes first.")
        page.get_by_role("group", name="Network").get_by_text("Apple or banana").click()
        expect(state.get_by_role("progressbar", name="Progress of the training")).to_be_visible()
        expect(state.get_by_text(re.compile(r"Epoch [1-9]\d* of 120\."))).to_be_visible(timeout=MAKING_MS)
        # There can be drawn already.
        replay(page, [RING])
        assert ink_on(page) > 1000
        expect(bars(page)).to_have_count(0)
        state.get_by_role("button", name="Stop the training").click()
        expect(state.get_by_role("heading", name="was stopped")).to_be_visible()
        state.get_by_role("button", name="Continue the training").click()
        expect(bars(page)).to_have_count(2, timeout=MAKING_MS)
        page.close()
    finally:
        stop_studio(own)
