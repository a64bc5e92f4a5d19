"""The page Tiny, as somebody uses it. What is shown must add up: sums, products, gradients and updates are checked in the digits on the screen."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Unpack

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from playwright.sync_api import Locator, Page, expect
from torch.nn.utils import vector_to_parameters

from convoscope import explain, models

from .conftest import OpenPage, View, drag, frames, middle_of, wait_for

SETS = {
    "Lines": ("horizontal", "vertical"),
    "Squares and crosses": ("cross", "square"),
    "Apples and bananas": ("apple", "banana"),
}
PARAMETERS = [
    *(f"filter:0:{at}" for at in range(9)),
    *(f"weight:{output}:{at}" for output in range(2) for at in range(4)),
    *(f"bias:{output}" for output in range(2)),
]

# --- reading the page --------------------------------------------------------------------------------------------------


def number(text: str) -> float:
    """A number as the page writes it: a real minus, brackets behind a sign, the language's decimal sign, a percent sign."""
    return float(text.strip(" ()%\u00a0").replace("−", "-").replace(",", "."))


def half(text: str) -> float:
    """Half a unit of the last digit shown."""
    decimals = re.search(r"[.,](\d+)", text)
    return 0.5 * 10.0 ** -(len(decimals[1]) if decimals else 0)


def cell(page: Page, place: str) -> Locator:
    return page.locator(f"svg [data-place='{place}']")


def shown(page: Page, place: str) -> str:
    """The digits in a cell of the figure."""
    return cell(page, place).locator("text").text_content() or ""


def values(page: Page, places: list[str]) -> list[float]:
    """Numbers that can be changed, with all their digits, as a screen reader has them."""
    found = page.evaluate(
        "(places) => places.map((place) => document.querySelector(`svg [data-place='${place}']`).getAttribute('aria-valuenow'))",
        places,
    )
    return [float(value) for value in found]


def reading(page: Page, name: str) -> Locator:
    return page.locator(f"[data-reading={name}]")


def opened(open_page: OpenPage, view: str = "#/tiny", **options: Unpack[View]) -> Page:
    page = open_page(view, **options)
    expect(page.locator(".test canvas")).to_have_count(20)
    expect(reading(page, "count")).to_have_text(re.compile(r"= \d+"))
    return page


def choose(page: Page, index: int = 0) -> None:
    """Press a test image."""
    page.get_by_role("group", name="Test images").get_by_role("button").nth(index).click()
    expect(page.get_by_role("button", name="Hide")).to_be_visible()


def open_tab(page: Page, name: str) -> Locator:
    page.get_by_role("tab", name=name, exact=True).click()
    expect(page.get_by_role("tab", name=name, exact=True)).to_have_attribute("aria-selected", "true")
    return page.get_by_role("tabpanel")


def train(page: Page, press: Callable[[Locator], None] = Locator.click) -> None:
    """Press Train, as fast as it goes, until it stops by itself; once more from other random numbers where a start runs dead."""
    page.get_by_role("slider", name="Pace").fill("1")
    for _ in range(4):
        press(page.get_by_role("button", name=re.compile(r"^Train( on)?$")))
        expect(page.get_by_role("button", name="Pause", exact=True)).to_have_count(0)
        if reading(page, "train").inner_text() == "100 %":
            return
        press(page.get_by_role("button", name="Reset"))
        expect(reading(page, "epoch")).to_have_text("0")
    raise AssertionError("four starts in a row learnt nothing")


def pictures(page: Page) -> list[str]:
    """All images of the set, as drawn."""
    found: list[str] = page.evaluate(
        "() => [...document.querySelectorAll('.thumbs canvas')].map((each) => each.toDataURL())"
    )
    return found


# --- arithmetic on the screen --------------------------------------------------------------------------------------------


@dataclass
class Written:
    """A sum as it is written out: the word in front, the signs, factors and products of its terms, the result."""

    place: str
    word: str
    signs: list[str]
    factors: list[list[str]]
    products: list[str]
    winners: list[bool]
    result: str


READ = """() => [...document.querySelectorAll('#panel [data-sum]')].map((sum) => {
  const terms = [...sum.querySelectorAll('[data-term]')];
  return {
    place: sum.dataset.sum,
    word: sum.querySelector('.word')?.textContent.trim() ?? '',
    signs: terms.map((term) => term.querySelector('.sign')?.textContent.trim() ?? '+'),
    factors: terms.map((term) => [...term.querySelectorAll('[data-place]')].map((each) => each.textContent)),
    products: terms.map((term) => term.dataset.product),
    winners: terms.map((term) => term.classList.contains('winner')),
    result: sum.querySelector('[data-result]').textContent,
  };
})"""
# The nine products, or the four candidates, as they lie beside the sum.
BESIDE = """() => [...document.querySelectorAll('#panel [role=group] > [data-term]')].map((each) => ({
  product: each.dataset.product,
  text: each.querySelector('.value').textContent.trim(),
}))"""


def sums(page: Page) -> list[Written]:
    found: list[dict[str, Any]] = page.evaluate(READ)
    return [Written(**each) for each in found]


def check(sum_: Written) -> None:
    """Whoever calculates with the numbers that stand there gets the result that stands there."""
    result = number(sum_.result)
    terms = [number(product) for product in sum_.products]
    for factors, product in zip(sum_.factors, sum_.products, strict=True):
        if len(factors) == 1:
            assert number(factors[0]) == number(product), sum_
        else:
            # Zeros at the end of a factor are not shown: three digits at least.
            one, two = (number(factor) for factor in factors)
            slack = (abs(one) + abs(two)) * 0.5e-3 + half(product)
            assert abs(one * two - number(product)) <= slack, (sum_, factors, product)
    total = sum(-term if sign == "−" else term for sign, term in zip(sum_.signs, terms, strict=True))
    tolerance = half(sum_.result) * 1.000001
    if sum_.word.startswith("largest"):
        assert result == max(terms), sum_
        assert [at for at, won in enumerate(sum_.winners) if won] != [], sum_
        assert sum(sum_.winners) == 1 and terms[sum_.winners.index(True)] == max(terms), sum_
    elif sum_.word.startswith("max"):
        assert result == max(0.0, terms[0]), sum_
    elif sum_.word.startswith("e"):
        slack = sum(half(product) for product in sum_.products) * math.exp(total)
        assert abs(math.exp(total) - result) <= tolerance + 1.1 * slack, sum_
    elif "ln" in sum_.word:
        assert abs(-math.log(terms[0]) - result) <= tolerance + 1.1 * half(sum_.products[0]) / terms[0], sum_
    elif "/" in sum_.signs:
        slack = (half(sum_.products[0]) + half(sum_.products[1])) / terms[1]
        assert abs(terms[0] / terms[1] - result) <= tolerance + 1.1 * slack, sum_
    else:
        assert abs(total - result) <= tolerance, sum_


def walk(page: Page, frames: int) -> list[list[Written]]:
    """Step through all frames by the player's button; at each, everything that is written out is checked."""
    panel = page.get_by_role("tabpanel")
    count = panel.locator(".count")
    seen = []
    for frame in range(1, frames + 1):
        expect(count).to_have_text(f"{frame}/{frames}")
        found = sums(page)
        assert found
        for each in found:
            check(each)
        for each in page.evaluate(BESIDE):
            assert number(re.sub(r"^− (?=[\d−])| ✓$", "", each["text"])) == number(each["product"])
        seen.append(found)
        forward = panel.get_by_role("button", name="One step forward")
        if frame < frames:
            forward.click()
        else:
            expect(forward).to_be_disabled()
    return seen


# --- training ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SETS)
def test_each_set_is_trained_until_every_training_image_is_right(open_page: OpenPage, name: str) -> None:
    page = opened(open_page)
    if name != "Lines":  # which is there already, and would be dealt anew
        page.get_by_role("radio", name=name).click()
    for label in SETS[name]:
        expect(page.get_by_role("group", name=f"Training images: {label}").get_by_role("button")).to_have_count(20)
    before = values(page, PARAMETERS)
    train(page)
    expect(reading(page, "train")).to_have_text("100 %")
    assert number(reading(page, "error").inner_text()) < 0.1
    assert number(reading(page, "test").inner_text()) >= 80
    moved = [abs(old - new) for old, new in zip(before, values(page, PARAMETERS), strict=True)]
    assert min(moved) > 0 and max(moved) > 0.1
    wrong = page.get_by_role("region", name="Training images").get_by_role("button", name="answered wrongly")
    expect(wrong).to_have_count(0)
    # The answer to a training image is then its class.
    page.get_by_role("button", name=f"{SETS[name][1]} 3", exact=True).first.click()
    expect(page.get_by_role("status").get_by_text(re.compile(rf"^{SETS[name][1]}, \d+ %$"))).to_be_visible()
    expect(page.get_by_role("status").get_by_text("✓ right")).to_be_visible()


def test_train_goes_on_and_stops_when_somebody_says_so(open_page: OpenPage) -> None:
    page = opened(open_page)
    page.get_by_role("button", name="One step").click()
    expect(reading(page, "epoch")).to_have_text(re.compile(r"^0\s+\+ 1 of 40 steps$"))
    page.get_by_role("button", name="One epoch").click()
    expect(reading(page, "epoch")).to_have_text("1")
    page.get_by_role("radio", name="1,000 epochs").click()
    page.get_by_role("button", name="Train on").click()
    page.get_by_role("button", name="Pause", exact=True).click()
    at = reading(page, "epoch").inner_text()
    frames(page, 20)
    assert reading(page, "epoch").inner_text() == at
    page.get_by_role("slider", name="Pace").fill("1")
    page.get_by_role("button", name="Train on").click()
    expect(page.get_by_role("button", name="Pause", exact=True)).to_have_count(0)
    assert int(reading(page, "epoch").inner_text().replace(",", "")) == int(at) + 1000
    page.get_by_role("button", name="Reset").click()
    expect(reading(page, "epoch")).to_have_text("0")


def test_the_time_machine_gives_back_the_numbers_of_an_epoch_and_training_goes_on_from_there(
    open_page: OpenPage,
) -> None:
    page = opened(open_page)
    choose(page)
    time = page.get_by_role("slider", name="Time machine")

    def everything() -> tuple[list[float], list[str]]:
        texts = [reading(page, name).inner_text() for name in ("error", "train", "test")]
        return values(page, PARAMETERS), [*texts, shown(page, "score:0"), shown(page, "score:1")]

    seen = [everything()]
    for epoch in range(1, 6):
        page.get_by_role("button", name="One epoch").click()
        expect(reading(page, "epoch")).to_have_text(str(epoch))
        seen.append(everything())
    assert len({tuple(numbers) for numbers, _ in seen}) == 6
    for epoch in (2, 0, 4, 3):
        time.fill(str(epoch))
        expect(reading(page, "epoch")).to_have_text(str(epoch))
        assert everything() == seen[epoch]
    # The order of the images follows from seed and epoch alone: the same epoch comes again, and what lay ahead is gone.
    page.get_by_role("button", name="One epoch").click()
    expect(reading(page, "epoch")).to_have_text("4")
    assert everything() == seen[4]
    time.fill("5")
    expect(reading(page, "epoch")).to_have_text("4")
    # The curve itself can be dragged, too.
    curve = page.get_by_role("img", name=re.compile("^The error over the epochs"))
    box = curve.bounding_box()
    assert box
    drag(page, (box["x"] + box["width"] * 0.4, box["y"] + 50), (box["x"] + 20, box["y"] + 50))
    expect(reading(page, "epoch")).to_have_text("0")
    assert everything() == seen[0]


def test_a_training_that_leaves_all_bounds_is_told_and_drawn_without_a_fault(open_page: OpenPage) -> None:
    # From these random numbers the largest learning rate goes well for fifty epochs, and then astray.
    page = opened(open_page, "#/tiny?start=6")
    page.get_by_role("combobox", name="Learning rate").select_option("1")
    page.get_by_role("slider", name="Pace").fill("1")
    page.get_by_role("radio", name="1,000 epochs").click()
    page.get_by_role("button", name="Train", exact=True).click()
    expect(page.get_by_text("The numbers have grown beyond all bounds")).to_be_visible()
    open_tab(page, "Landscape")
    expect(page.get_by_role("application", name=re.compile("^The error over two numbers"))).to_be_visible()
    expect(page.get_by_text("The numbers have grown beyond all bounds")).to_be_visible()
    for name in ("Zoom in", "Zoom out", "Zoom out", "Whole path"):
        page.get_by_role("button", name=name).click()
    choose(page)
    for name in ("Flip test", "Animation", "One training step", "Own images", "Train"):
        open_tab(page, name)
    page.get_by_role("button", name="Reset").click()
    assert all(math.isfinite(value) for value in values(page, PARAMETERS))


# --- the calculation, every number -----------------------------------------------------------------------------------------


def test_the_whole_animation_adds_up_in_the_digits_shown(open_page: OpenPage) -> None:
    page = opened(open_page)
    train(page)
    choose(page, 1)
    final = [shown(page, f"score:{output}") for output in range(2)]
    open_tab(page, "Animation")
    assert cell(page, "map:0:5").locator("text").count() == 0
    frames = walk(page, 16)
    places = [each.place for frame in frames for each in frame]
    assert places[:9] == [f"map:0:{at}" for at in range(9)]
    assert places[9:13] == [f"pooled:0:{at}" for at in range(4)]
    assert places[13:15] == ["score:0", "score:1"]
    by_place = {each.place: each for frame in frames for each in frame}
    for place in places[:15]:
        assert shown(page, place) == by_place[place].result
    # What goes into the pooling and the scores is what came out before.
    for at in range(4):
        window = [f"map:0:{(at // 2 + row) * 3 + at % 2 + column}" for row in range(2) for column in range(2)]
        assert by_place[f"pooled:0:{at}"].products == [by_place[place].result for place in window]
    assert [by_place[f"score:{output}"].result for output in range(2)] == final
    softmax = [number(by_place[f"probability:{output}"].result) for output in range(2)]
    assert abs(sum(softmax) - 1) < 0.0011
    percents = [number(text) for text in page.locator("svg text.percent").all_text_contents()]
    assert abs(sum(percents) - 100) < 0.5
    for share, percent in zip(softmax, percents, strict=True):
        assert abs(100 * share - percent) <= 0.55


def test_two_filters_in_a_row_add_up_as_well(open_page: OpenPage) -> None:
    page = opened(open_page, "#/tiny?set=shapes&filters=row&tab=animation")
    kinds = [frame[0].place.split(":")[0] for frame in walk(page, 26)]
    assert kinds == ["first"] * 9 + ["relu"] + ["map"] * 9 + ["pooled"] * 4 + ["score"] * 2 + ["exponential"]


def test_the_animation_plays_scrubs_and_goes_back(open_page: OpenPage) -> None:
    page = opened(open_page)
    choose(page)
    panel = open_tab(page, "Animation")
    count = panel.locator(".count")
    panel.get_by_role("slider", name="Speed").fill("1")
    panel.get_by_role("button", name="Play").click()
    expect(count).to_have_text("16/16")
    expect(panel.get_by_role("button", name="Play")).to_be_visible()
    panel.get_by_role("slider", name="Position").fill("4")
    expect(count).to_have_text("5/16")
    expect(cell(page, "map:0:4").locator("text")).to_have_count(1)
    expect(cell(page, "map:0:5").locator("text")).to_have_count(0)
    panel.get_by_role("button", name="One step back").click()
    expect(cell(page, "map:0:4").locator("text")).to_have_count(0)
    panel.get_by_role("button", name="Back to the start").click()
    expect(count).to_have_text("1/16")


def test_a_training_step_opened_adds_up_and_applying_it_moves_every_number_against_its_gradient(
    open_page: OpenPage,
) -> None:
    page = opened(open_page)
    for _ in range(2):
        page.get_by_role("button", name="One epoch").click()
    rate = 0.2
    page.get_by_role("combobox", name="Learning rate").select_option(str(rate))
    panel = open_tab(page, "One training step")
    panel.get_by_role("button", name="Next training image").click()
    before = dict(zip(PARAMETERS, values(page, PARAMETERS), strict=True))
    frames = walk(page, 22)
    by_place = {each.place: each for frame in frames for each in frame}
    assert {place for place in by_place if place.startswith("gradient:")} == {f"gradient:{each}" for each in PARAMETERS}
    shares = [number(by_place[f"delta:score:{output}"].result) for output in range(2)]
    assert abs(sum(shares)) <= 1.01e-4
    panel.get_by_role("button", name="Apply this step").click()
    expect(panel.get_by_text("Applied")).to_be_visible()
    after = dict(zip(PARAMETERS, values(page, PARAMETERS), strict=True))
    for place in PARAMETERS:
        gradient = number(by_place[f"gradient:{place}"].result)
        assert abs(after[place] - (before[place] - rate * gradient)) <= rate * 0.51e-4, place
        assert abs(after[place] - number(by_place[f"new:{place}"].result)) <= 0.51e-4, place
    assert after["bias:0"] != before["bias:0"] and after["filter:0:4"] != before["filter:0:4"]


def test_the_numbers_are_those_of_the_package(open_page: OpenPage) -> None:
    page = opened(open_page, "#/tiny?set=fruits&seed=5")
    typed = np.round(np.random.default_rng(0).normal(size=19), 2)
    cell(page, "filter:0:0").focus()
    for at, value in enumerate(typed):
        if at in (9, 13, 17):
            cell(page, PARAMETERS[at]).focus()
        page.keyboard.type(f"{value:.2f}")
        page.keyboard.press("Enter")
        expect(cell(page, PARAMETERS[at])).to_be_focused()
        if at < 18:
            page.keyboard.press("ArrowRight")
    assert values(page, PARAMETERS) == typed.tolist()
    network = models.build("tiny", (5, 5, 1), 2).double()
    vector_to_parameters(torch.from_numpy(typed), network.parameters())
    handed_out = page.request.get(f"{page.url.split('#')[0]}api/tiny/fruits?seed=5").json()["test"]
    for index in (0, 1, 7):
        choose(page, index)
        image: NDArray[np.float64] = np.array(handed_out[index]["pixels"]).reshape(1, 5, 5)
        assert values(page, [f"pixel:{at}" for at in range(25)]) == image.ravel().tolist()
        steps = {step.name: step.output for step in explain.trace(network, torch.from_numpy(image)).steps}
        wanted = {f"map:0:{at}": value for at, value in enumerate(steps["conv1"].flatten().tolist())}
        wanted |= {f"pooled:0:{at}": value for at, value in enumerate(steps["maxpool1"].flatten().tolist())}
        scores = steps["dense1"].flatten()
        wanted |= {f"score:{at}": value for at, value in enumerate(scores.tolist())}
        for place, value in wanted.items():
            text = shown(page, place)
            assert abs(number(text) - value) <= half(text) * 1.000001, (place, text, value)
        for output, share in enumerate(scores.softmax(0).tolist()):
            cell(page, f"probability:{output}").hover()
            told = page.get_by_role("status").locator("output")
            expect(told).to_be_visible()
            assert abs(number(told.inner_text()) - share) <= 0.5001e-3
            percent = page.locator("svg text.percent").nth(output).text_content() or ""
            assert abs(number(percent) - 100 * share) <= 0.5001
        page.mouse.move(2, 2)


# --- looking and changing ------------------------------------------------------------------------------------------------


def test_an_image_is_hidden_by_escape_and_by_a_click_beside_it(open_page: OpenPage) -> None:
    page = opened(open_page)
    figure = page.get_by_role("group", name="The network")
    ways: list[Callable[[], None]] = [
        lambda: page.keyboard.press("Escape"),
        lambda: figure.click(position={"x": 3, "y": 3}),
        lambda: page.get_by_role("button", name="Hide").click(),
    ]
    for hide in ways:
        choose(page)
        expect(cell(page, "map:0:0").locator("text")).to_have_count(1)
        hide()
        expect(cell(page, "map:0:0").locator("text")).to_have_count(0)
        expect(page.get_by_role("button", name="Hide")).to_have_count(0)
        expect(cell(page, "filter:0:0").locator("text")).to_have_count(1)


def test_escape_frees_what_is_pinned_before_it_hides_the_image(open_page: OpenPage) -> None:
    page = opened(open_page)
    choose(page)
    cell(page, "map:0:4").click()
    page.mouse.move(2, 2)
    told = page.get_by_role("status").locator("[data-sum='map:0:4']")
    expect(told).to_be_visible()
    expect(cell(page, "map:0:4")).to_have_attribute("aria-pressed", "true")
    page.keyboard.press("Escape")
    expect(told).to_have_count(0)
    expect(cell(page, "map:0:4").locator("text")).to_have_count(1)
    page.keyboard.press("Escape")
    expect(cell(page, "map:0:4").locator("text")).to_have_count(0)


def test_the_same_set_pressed_again_is_dealt_anew(open_page: OpenPage) -> None:
    page = opened(open_page)
    first = pictures(page)
    assert len(first) == 60
    page.get_by_role("radio", name="Lines").click()
    expect(page).to_have_url(re.compile(r"[?&]seed=1\b"))
    wait_for(page, lambda: pictures(page) != first)
    assert len(pictures(page)) == 60


def test_a_number_is_dragged_typed_and_moved_by_keys_and_everything_follows(open_page: OpenPage) -> None:
    page = opened(open_page)
    choose(page)
    for place in ("weight:0:0", "filter:0:4", "bias:1"):
        scores = [shown(page, "score:0"), shown(page, "score:1")]
        errors = reading(page, "error").inner_text()
        before = values(page, [place])[0]
        x, y = middle_of(cell(page, place))
        drag(page, (x, y), (x, y - 150))
        assert values(page, [place])[0] == pytest.approx(round(before, 2) + 1.5, abs=0.0051)
        if place != "filter:0:4":
            assert [shown(page, "score:0"), shown(page, "score:1")] != scores
        expect(reading(page, "error")).not_to_have_text(errors)
        expect(cell(page, place).locator("text")).to_have_text(re.compile(r"^−?\d"))
        page.keyboard.press("Escape")

    place = "weight:1:2"
    cell(page, place).click()
    field = page.get_by_role("textbox", name="New value: weight from input 3 to")
    expect(field).to_be_focused()
    field.fill("-0.5")
    page.keyboard.press("Enter")
    assert values(page, [place]) == [-0.5]
    expect(cell(page, place)).to_be_focused()
    page.keyboard.press("ArrowUp")
    page.keyboard.press("ArrowUp")
    page.keyboard.press("Shift+ArrowUp")
    assert values(page, [place]) == [-0.29]
    page.keyboard.press("ArrowDown")
    assert values(page, [place]) == [-0.39]
    page.keyboard.type("2,25")
    page.keyboard.press("Enter")
    assert values(page, [place]) == [2.25]
    # What is no number changes nothing, nor does Escape.
    page.keyboard.press("Enter")
    page.get_by_role("textbox").fill("x")
    page.keyboard.press("Enter")
    page.keyboard.type("7")
    page.keyboard.press("Escape")
    assert values(page, [place]) == [2.25]


def test_a_number_that_is_open_for_typing_can_still_be_dragged(open_page: OpenPage) -> None:
    page = opened(open_page)
    cell(page, "filter:0:0").click()
    field = page.get_by_role("textbox", name="New value: filter, row 1, column 1")
    field.fill("0.25")
    field.select_text()
    x, y = middle_of(field)
    drag(page, (x, y), (x, y - 100))
    expect(field).to_have_count(0)
    assert values(page, ["filter:0:0"]) == [1.25]


def test_a_pixel_of_the_image_is_changed_and_the_calculation_follows(open_page: OpenPage) -> None:
    page = opened(open_page)
    choose(page)
    place = "pixel:12"
    before = [shown(page, f"map:0:{at}") for at in range(9)]
    value = 0 if values(page, [place])[0] > 0 else 1
    cell(page, place).click()
    page.keyboard.press("Control+A")
    page.keyboard.type(str(value))
    page.keyboard.press("Enter")
    assert values(page, [place]) == [value]
    assert [shown(page, f"map:0:{at}") for at in range(9)] != before


def test_filters_are_counted_in_view(open_page: OpenPage) -> None:
    page = opened(open_page)
    for name, count in (("1", 19), ("2", 36), ("3", 53), ("4", 70), ("2 in a row", 28)):
        page.get_by_role("radio", name=name, exact=True).click()
        expect(reading(page, "count")).to_have_text(re.compile(rf"= {count} numbers$"))
        expect(reading(page, "count")).to_be_in_viewport(ratio=1)
        learnt = page.locator("svg [role=spinbutton]")
        expect(learnt).to_have_count(count)


def test_figure_and_controls_fit_a_laptop_together(open_page: OpenPage) -> None:
    page = opened(open_page)
    choose(page)
    for filters in ("1", "2", "3", "4", "2 in a row"):
        page.get_by_role("radio", name=filters, exact=True).click()
        for name, control in (("Flip test", None), ("Animation", "Play"), ("One training step", "Apply this step")):
            panel = open_tab(page, name)
            frames(page, 6)  # the second one knows how large the panel became
            if control is not None:
                expect(panel.get_by_role("button", name=control)).to_be_in_viewport(ratio=1)
            figure = page.get_by_role("group", name="The network").bounding_box()
            head = page.locator("header").bounding_box()
            assert figure and head
            assert figure["y"] >= head["y"] + head["height"] - 1, (filters, name)


def test_no_digit_is_smaller_than_twelve_pixels(open_page: OpenPage) -> None:
    page = opened(open_page)
    choose(page)
    for filters in ("1", "4", "2 in a row"):
        page.get_by_role("radio", name=filters, exact=True).click()
        # The narrowest windows for the figure from left to right, alone and beside the training images.
        for width in (1064, 1279, 1280, 1366):
            page.set_viewport_size({"width": width, "height": 768})
            smallest = page.evaluate(
                """() => Math.min(...[...document.querySelectorAll('.figure svg text')].map((text) =>
                     parseFloat(getComputedStyle(text).fontSize) * text.getScreenCTM().a))"""
            )
            assert smallest >= 12, (filters, width, smallest)


# --- panels ------------------------------------------------------------------------------------------------------------


def test_a_marked_pixel_turns_the_answer(open_page: OpenPage) -> None:
    page = opened(open_page)
    train(page)
    panel = open_tab(page, "Flip test")
    told = page.locator(".prediction")
    for index in range(20):
        choose(page, index)
        expect(panel.get_by_text("As it is")).to_be_visible()
        marked = panel.get_by_role("button", name="the answer becomes")
        if marked.count():
            break
    before = told.inner_text().split(",")[0]
    name = marked.first.get_attribute("aria-label") or ""
    wanted = re.search(r"flipped: (\w+) (\d+) %, the answer becomes (\w+)", name)
    assert wanted and wanted[1] == before and int(wanted[2]) <= 50 and wanted[3] != before
    marked.first.click()
    expect(told).to_have_text(re.compile(rf"^{wanted[3]}, \d+ %"))
    assert abs(int(told.inner_text().split(", ")[1].split(" ")[0]) + int(wanted[2]) - 100) <= 1


def test_a_point_of_the_landscape_sets_the_two_numbers(open_page: OpenPage) -> None:
    page = opened(open_page)
    train(page)
    panel = open_tab(page, "Landscape")
    panel.get_by_role("button", name="The two that moved most").click()
    plane = page.get_by_role("application", name=re.compile("^The error over two numbers"))
    expect(panel.get_by_text("now", exact=True)).to_be_visible()
    places = {}
    for at, axis in enumerate(("Across", "Upwards")):
        chosen = panel.get_by_role("combobox", name=axis)
        places[axis] = PARAMETERS[int(chosen.input_value())]
        assert panel.locator("dt").nth(at).inner_text() == chosen.locator("option:checked").inner_text()
    before = values(page, PARAMETERS)
    error = reading_of_landscape(page)
    plane.click(position={"x": 60, "y": 40})
    told = [number(panel.locator("dd").nth(at).inner_text()) for at in range(2)]
    assert values(page, list(places.values())) == pytest.approx(told)
    assert reading_of_landscape(page) != error
    others = [place for place in PARAMETERS if place not in places.values()]
    assert values(page, others) == [before[PARAMETERS.index(place)] for place in others]
    # By keyboard: the cross moves, Enter sets.
    page.mouse.move(2, 2)
    plane.focus()
    for key in ("ArrowRight", "ArrowRight", "ArrowUp", "Enter"):
        page.keyboard.press(key)
    moved = values(page, list(places.values()))
    assert moved[0] > told[0] and moved[1] > told[1]


def reading_of_landscape(page: Page) -> str:
    return page.get_by_role("tabpanel").locator(".error dd").inner_text()


def test_an_own_image_is_drawn_and_learnt(open_page: OpenPage) -> None:
    page = opened(open_page)
    panel = open_tab(page, "Own images")
    first = panel.get_by_role("button", name=re.compile("^Row 2, column 1: ")).bounding_box()
    last = panel.get_by_role("button", name=re.compile("^Row 2, column 5: ")).bounding_box()
    assert first and last
    y = first["y"] + first["height"] / 2
    drag(page, (first["x"] + 10, y), (last["x"] + 10, y), steps=8)
    for column in range(1, 6):
        expect(panel.get_by_role("button", name=f"Row 2, column {column}: 1")).to_be_visible()
    assert values(page, [f"pixel:{at}" for at in range(4, 11)]) == [0, 1, 1, 1, 1, 1, 0]
    mine = page.get_by_role("group", name="Training images: horizontal").get_by_role("button")
    panel.get_by_role("button", name="Learn it as horizontal").click()
    expect(mine).to_have_count(21)
    expect(panel.get_by_text("It is now among the training images: horizontal.")).to_be_visible()
    # By keyboard, too.
    panel.get_by_role("button", name="Clear").click()
    panel.get_by_role("button", name="Row 3, column 3: 0").focus()
    page.keyboard.press("Space")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Space")
    assert [value for value in values(page, [f"pixel:{at}" for at in range(25)]) if value] == [1, 1]
    panel.get_by_role("button", name="Learn it as vertical").click()
    expect(page.get_by_role("group", name="Training images: vertical").get_by_role("button")).to_have_count(21)
    open_tab(page, "Train")
    page.get_by_role("button", name="One step").click()
    expect(reading(page, "epoch")).to_contain_text("1 of 42 steps")
    train(page)
    mine.last.click()
    expect(page.locator(".prediction")).to_have_text(re.compile("^horizontal"))


# --- the tour, languages, addresses, phones ---------------------------------------------------------------------------------


def test_the_tour_goes_from_its_first_stop_to_its_last(open_page: OpenPage) -> None:
    page = opened(open_page, "#/tiny?set=fruits&filters=3")
    page.get_by_role("button", name="Guided tour").click()
    card = page.get_by_role("dialog", name="Guided tour")
    titles = []
    for stop in range(1, 14):
        expect(card.get_by_text(f"{stop} of 13")).to_be_visible()
        title = card.get_by_role("heading")
        titles.append(title.inner_text())
        frame = page.locator(".frame[aria-hidden]")
        expect(frame).to_be_in_viewport()
        expect(card.get_by_role("button", name="Done" if stop == 13 else "Next")).to_be_in_viewport(ratio=1)
        if stop == 1:
            expect(page.get_by_role("radio", name="Lines")).to_be_checked()
            expect(reading(page, "count")).to_have_text(re.compile("= 19 numbers$"))
        if stop == 7:
            expect(reading(page, "epoch")).not_to_have_text("0")
        card.get_by_role("button", name="Done" if stop == 13 else "Next").click()
    assert len(set(titles)) == 13
    expect(card).to_have_count(0)
    expect(page.get_by_role("button", name="Guided tour")).to_be_focused()


def test_the_tour_is_left_in_the_middle(open_page: OpenPage) -> None:
    page = opened(open_page)
    page.get_by_role("button", name="Guided tour").click()
    card = page.get_by_role("dialog", name="Guided tour")
    for _ in range(4):
        card.get_by_role("button", name="Next").click()
    expect(card.get_by_text("5 of 13")).to_be_visible()
    page.keyboard.press("Escape")
    expect(card).to_have_count(0)
    # Only the tour: what it opened stays, and goes on to work.
    expect(page.get_by_role("button", name="Hide")).to_be_visible()
    page.get_by_role("tabpanel").get_by_role("button", name="One step forward").click()
    page.keyboard.press("Escape")
    expect(page.get_by_role("button", name="Hide")).to_have_count(0)


def test_german(open_page: OpenPage) -> None:
    page = opened(open_page, language="de")
    expect(reading(page, "count")).to_have_text(re.compile("= 19 Zahlen$"))
    page.get_by_role("slider", name="Tempo").fill("1")
    page.get_by_role("button", name="Trainieren", exact=True).click()
    expect(page.get_by_role("button", name="Weiter trainieren")).to_be_visible()
    page.get_by_role("group", name="Testbilder").get_by_role("button").first.click()
    expect(page.locator(".prediction")).to_have_text(re.compile(r"^(waagerecht|senkrecht), \d+ %$"))
    expect(cell(page, "score:0").locator("text")).to_have_text(re.compile(r"^−?\d+,\d+$"))
    cell(page, "bias:0").click()
    page.get_by_role("textbox", name="Neuer Wert: Schwellenwert von waagerecht").fill("−0,5")
    page.keyboard.press("Enter")
    assert values(page, ["bias:0"]) == [-0.5]
    page.get_by_role("tab", name="Animation").click()
    panel = page.get_by_role("tabpanel")
    for _ in range(3):
        for each in sums(page):
            check(each)
        panel.get_by_role("button", name="Einen Schritt weiter").click()


def test_an_address_shows_the_same_to_somebody_else(open_page: OpenPage) -> None:
    page = opened(open_page)
    page.get_by_role("radio", name="Apples and bananas").click()
    expect(page.get_by_role("group", name="Training images: apple")).to_be_visible()
    page.get_by_role("radio", name="Apples and bananas").click()
    page.get_by_role("radio", name="2", exact=True).click()
    open_tab(page, "Flip test")
    expect(page).to_have_url(re.compile("seed=1.*tab=flips"))
    expect(page.get_by_role("tabpanel").get_by_text("As it is")).to_be_visible()
    learnt = [f"filter:1:{at}" for at in range(9)] + [f"weight:1:{at}" for at in range(8)]

    other = opened(open_page, page.url[page.url.index("#") :], size="wide")
    expect(other.get_by_role("radio", name="Apples and bananas")).to_be_checked()
    expect(other.get_by_role("radio", name="2", exact=True)).to_be_checked()
    expect(other.get_by_role("tab", name="Flip test")).to_have_attribute("aria-selected", "true")
    wait_for(other, lambda: pictures(other) == pictures(page))
    assert values(other, learnt) == values(page, learnt)
    expect(other.locator(".prediction")).to_have_text(page.locator(".prediction").inner_text())


def test_on_a_phone_somebody_trains_chooses_and_sees_the_answer(open_page: OpenPage) -> None:
    page = opened(open_page, size="narrow", touch=True)
    train(page, Locator.tap)
    page.get_by_role("group", name="Test images").get_by_role("button").nth(3).tap()
    answer = page.locator(".prediction")
    expect(answer).to_have_text(re.compile(r"^(horizontal|vertical), \d+ %$"))
    expect(answer).to_be_in_viewport()
    cell(page, "map:0:4").tap()
    expect(page.get_by_role("status").locator("[data-sum='map:0:4']")).to_be_visible()
    cell(page, "bias:0").tap()
    page.get_by_role("textbox").fill("1")
    page.keyboard.press("Enter")
    assert values(page, ["bias:0"]) == [1]
    assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
