"""The page Convolve, as somebody uses it: every number is read from the page, and checked by arithmetic or by PyTorch."""

from __future__ import annotations

import io
import math
import re
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from playwright.sync_api import Locator, Page, Route, expect

from .conftest import OpenPage, Studio, drag, middle_of, pixels_of, start_studio, stop_studio, wait_for

# --- reading the page --------------------------------------------------------------------------------------------------


def number(text: str) -> float:
    """A number as the page writes it."""
    return float(text.strip().strip("()").replace("−", "-").replace(",", "."))


def digits(text: str) -> int:
    """How many there are behind the decimal sign."""
    return len(re.split("[.,]", text.strip().strip("()"))[1]) if re.search("[.,]", text) else 0


def pane(page: Page, which: str) -> Locator:
    return page.get_by_role("group", name=re.compile(rf"^{which} of the step\. "))


def title(page: Page, which: str) -> Locator:
    return pane(page, which).locator("xpath=..").locator("figcaption")


def size(page: Page, which: str) -> tuple[int, int]:
    """Height and width in a pane's title."""
    found = re.search(r"(\d+) × (\d+)", title(page, which).inner_text())
    assert found, title(page, which).inner_text()
    return int(found[1]), int(found[2])


def result_text(page: Page) -> str:
    found = re.match(r"= (\S+)", page.locator("[data-test=result]").inner_text())
    assert found
    return found[1]


def place(page: Page) -> Locator:
    return page.get_by_role("heading", name=re.compile(r"^Row \d+, column \d+$"))


def settled(page: Page) -> None:
    """Until the results are those of what is set."""
    expect(page.locator("figure").first).to_be_visible()
    expect(page.locator("figure[aria-busy=true]")).to_have_count(0)


def cell_centre(page: Page, which: str, row: int, column: int, border: int = 0) -> tuple[float, float]:
    """Where a cell of a pane that shows the whole image is, in the window; `border` cells are drawn around it."""
    box = pane(page, which).bounding_box()
    assert box is not None
    height, width = (length + 2 * border for length in size(page, which))
    cell = box["width"] / max(height, width)
    left = box["x"] + (box["width"] - width * cell) / 2
    top = box["y"] + (box["height"] - height * cell) / 2
    return left + (column + border + 0.5) * cell, top + (row + border + 0.5) * cell


def point_at(page: Page, which: str, row: int, column: int, border: int = 0) -> None:
    pane(page, which).scroll_into_view_if_needed()
    page.mouse.move(*cell_centre(page, which, row, column, border))


def marked(page: Page, which: str) -> tuple[float, float, float, float] | None:
    """The box around what is lit in a pane, in shares of its side: left, top, right, bottom."""
    opacity = pixels_of(pane(page, which).locator("canvas").nth(1))[..., 3]
    rows, columns = (np.flatnonzero((opacity > 60).any(axis)) for axis in (1, 0))
    if not len(rows):
        return None
    height, width = opacity.shape
    return columns[0] / width, rows[0] / height, (columns[-1] + 1) / width, (rows[-1] + 1) / height


def expect_marked(page: Page, which: str, cells: tuple[int, int, int, int], of: int) -> None:
    """Lit are the columns and rows `cells` (left, top, right, bottom; the last two not included) of a square of `of` cells."""
    wanted = [edge / of for edge in cells]

    def lit() -> bool:
        found = marked(page, which)
        # The line has a width of 5 pixels, half of which may lie outside.
        return found is not None and all(abs(a - b) < 0.03 for a, b in zip(found, wanted, strict=True))

    wait_for(page, lit)


def colour(page: Page, which: str, row: int, column: int) -> tuple[int, int, int]:
    """Of a cell, in its upper left part, where no number stands; the whole image must be shown."""
    drawn = pixels_of(pane(page, which).locator("canvas").nth(0))
    cell = drawn.shape[1] / max(size(page, which))
    down, across = ((side - length * cell) / 2 for side, length in zip(drawn.shape, size(page, which), strict=False))
    red, green, blue, _ = drawn[int(down + (row + 0.12) * cell), int(across + (column + 0.12) * cell)]
    return int(red), int(green), int(blue)


def choose_example(page: Page, name: str, sample: str) -> None:
    page.get_by_role("combobox", name="Worked examples").select_option(label=name)
    expect(page.get_by_role("button", name=sample, exact=True)).to_have_attribute("aria-pressed", "true")
    expect(page.get_by_role("button", name="Pinned (Esc)")).to_be_visible()
    settled(page)


def check_arithmetic(page: Page) -> str:
    """The shown terms come to the shown result, to the shown digits. Gives the result as it is shown."""
    shown = result_text(page)
    products = page.get_by_role("group", name="Products")
    cells = (
        products.locator("> div")
        if products.count()
        else page.get_by_role("group", name="Numbers in the window").locator("> div")
    )
    texts = [text.strip().splitlines()[-1] for text in cells.all_inner_texts()]
    values = [number(text) for text in texts]
    told = page.locator("[data-test=sum]").inner_text()
    if told.startswith("max"):
        assert max(values) == number(shown)
        return shown
    places = max(digits(text) for text in texts)
    # Nothing is lost where all terms are shown whole.
    rounded = "rounded" in page.locator("[data-test=result]").inner_text()
    tolerance = (len(values) * 0.5 * 10**-places + 0.5 * 10 ** -digits(shown)) * 1.001 if rounded else 1e-9
    assert abs(sum(values) - number(shown)) <= tolerance, (texts, shown)
    if products.count():
        for text, hint in zip(texts, cells.evaluate_all("(all) => all.map((each) => each.title)"), strict=True):
            value, weight = hint.split(" × ")
            # Weights are shown with four digits behind the decimal sign.
            slack = (
                0.5 * 10**-places + abs(number(value)) * 0.5e-4 + abs(number(weight)) * 0.5 * 10 ** -digits(value)
                if rounded
                else 1e-9
            )
            assert abs(number(value) * number(weight) - number(text)) <= slack, (hint, text)
    return shown


# --- worked examples ---------------------------------------------------------------------------------------------------

EXAMPLES = {
    # The tutorial's pooling, and its image under a kernel: 1·2 + 2·5 + 1·4 + 2·13 + 1·25 + 2·15 + 1·8 + 1·6 + 2·6.
    "Worked example: max pooling, 3×3, stride 3": ("Numbers, 6 × 6", "25"),
    "Worked example: a kernel over the pixel 25": ("Numbers, 6 × 6", "123"),
    # 1·1 + 2·0 + 1·8 + 2·2; five of the nine are zeros of the border.
    "Worked example: zeros around the image": ("Numbers, 6 × 6", "13"),
    "A detector of vertical lines": ("A line, 5 × 5", None),
    "The edges of a photograph": ("Photograph in grey", None),
    "A photograph, blurred": ("Photograph in colour", None),
    "The outline of a disc": ("Disc", None),
    "Convolve, ReLU, pool, convolve": ("Drawing: cat", None),
}


def test_each_worked_example_is_one_click_away_and_adds_up(open_page: OpenPage) -> None:
    page = open_page("#/convolve")
    settled(page)
    choices = page.get_by_role("combobox", name="Worked examples").locator("option:not([disabled])")
    assert sorted(choices.all_inner_texts()) == sorted(EXAMPLES)
    for example, (sample, result) in EXAMPLES.items():
        choose_example(page, example, sample)
        if result is not None:
            expect(page.locator("[data-test=result]")).to_have_text(f"= {result}")
        check_arithmetic(page)
        expect(page.get_by_text("They differ.")).to_have_count(0)


def test_the_arithmetic_holds_wherever_the_window_is(open_page: OpenPage) -> None:
    page = open_page("#/convolve?sample=photograph-grey&side=32&steps=conv:gaussian:reflect;relu;pool:mean:3:2")
    for step, cells in ((1, (0, 33, 863)), (2, (40,)), (3, (0, 7, 194))):
        page.get_by_role("button", name=re.compile(f"^Step {step}: ")).click()
        slider = page.get_by_role("group", name="Slide the window").get_by_role("slider", name="Position")
        for position in cells:
            slider.fill(str(position))
            expect(slider).to_have_value(str(position))
            if step == 2:
                term = re.search(r"max\(0, (\S+)\)", page.locator("[data-test=sum]").inner_text())
                assert term and max(0.0, number(term[1])) == number(result_text(page))
            elif step == 1:
                check_arithmetic(page)
            else:
                told = page.locator("[data-test=sum]").inner_text()
                terms = [number(text.replace("+", "")) for text in re.findall(r"[+−]? ?[\d.]+", told.partition(")")[0])]
                assert len(terms) == 9
                assert abs(sum(terms) / 9 - number(result_text(page))) <= 0.01


# --- the window --------------------------------------------------------------------------------------------------------


def test_a_cell_of_the_result_lights_its_window_and_the_other_way_round(open_page: OpenPage) -> None:
    page = open_page("#/convolve?sample=numbers&steps=conv:sobel_x")
    settled(page)
    point_at(page, "Result", 2, 1)
    expect(place(page)).to_have_text("Row 3, column 2")
    expect_marked(page, "Input", (1, 2, 4, 5), 6)
    expect_marked(page, "Result", (1, 2, 2, 3), 4)
    check_arithmetic(page)

    # A cell of the image: the window goes there, and of the result all cells are lit that it feeds.
    point_at(page, "Input", 0, 0)
    expect(place(page)).to_have_text("Row 1, column 1")
    expect(page.get_by_text("row 1, column 1: 1", exact=True).last).to_be_visible()
    expect_marked(page, "Result", (0, 0, 1, 1), 4)
    point_at(page, "Input", 3, 3)
    expect(place(page)).to_have_text("Row 3, column 3")
    expect_marked(page, "Result", (1, 1, 4, 4), 4)
    # The window's middle is under the pointer; it is lit in the kernel and among the products.
    expect(page.get_by_role("group", name="Products").locator("> .lit")).to_have_text(re.compile(r"^6 × 0\s+0$"))
    expect(page.get_by_label("Kernel, row 2, column 2")).to_have_class(re.compile(r"\blit\b"))

    # A cell of the kernel: its product, and the pixel that it is multiplied with.
    page.get_by_label("Kernel, row 1, column 3").hover()
    lit = page.get_by_role("group", name="Products").locator("> .lit")
    expect(lit).to_have_count(1)
    assert lit.get_attribute("title") == "240 × 1"
    lit.hover()
    expect(page.get_by_label("Kernel, row 1, column 3")).to_have_class(re.compile(r"\blit\b"))


def test_arrow_keys_slide_the_window_and_escape_frees_it(open_page: OpenPage) -> None:
    page = open_page("#/convolve?sample=numbers&steps=conv:sobel_x")
    settled(page)
    pane(page, "Result").focus()
    for key, wanted in (
        ("ArrowRight", (1, 2)),
        ("ArrowDown", (2, 2)),
        ("ArrowDown", (3, 2)),
        ("ArrowLeft", (3, 1)),
        ("End", (3, 4)),
        ("ArrowUp", (2, 4)),
        ("ArrowRight", (2, 4)),
    ):
        page.keyboard.press(key)
        expect(place(page)).to_have_text(f"Row {wanted[0]}, column {wanted[1]}")
    expect_marked(page, "Input", (3, 1, 6, 4), 6)
    expect(page.get_by_role("button", name="Pinned (Esc)")).to_be_visible()
    point_at(page, "Result", 0, 0)
    expect(place(page)).to_have_text("Row 2, column 4")
    page.keyboard.press("Escape")
    point_at(page, "Result", 0, 1)
    expect(place(page)).to_have_text("Row 1, column 2")


def test_a_click_pins_the_window_and_a_second_one_frees_it(open_page: OpenPage) -> None:
    page = open_page("#/convolve?sample=numbers&steps=conv:sobel_x")
    settled(page)
    point_at(page, "Result", 1, 1)
    page.mouse.down()
    page.mouse.up()
    expect(page.get_by_role("button", name="Pinned (Esc)")).to_have_attribute("aria-pressed", "true")
    point_at(page, "Result", 3, 3)
    expect(place(page)).to_have_text("Row 2, column 2")
    point_at(page, "Result", 1, 1)
    page.mouse.down()
    page.mouse.up()
    expect(page.get_by_role("button", name="Pin window")).to_have_attribute("aria-pressed", "false")
    point_at(page, "Result", 3, 3)
    expect(place(page)).to_have_text("Row 4, column 4")


def test_play_slides_over_every_place_step_by_step(open_page: OpenPage) -> None:
    page = open_page("#/convolve?sample=numbers&steps=conv:sobel_x")
    settled(page)
    player = page.get_by_role("group", name="Slide the window")
    position = player.get_by_role("slider", name="Position")
    player.get_by_role("button", name="One step forward").click()
    expect(position).to_have_value("1")
    player.get_by_role("button", name="One step back").click()
    expect(position).to_have_value("0")
    player.get_by_role("slider", name="Speed").fill("1")
    player.get_by_role("button", name="Play").click()
    player.get_by_role("button", name="Pause").click()
    expect(player.get_by_role("button", name="Play")).to_be_visible()
    reached = int(position.input_value())
    player.get_by_role("button", name="Play").click()
    expect(position).to_have_value("15")
    assert reached < 15
    expect(player.get_by_role("button", name="Play")).to_be_visible()
    expect(place(page)).to_have_text("Row 4, column 4")
    player.get_by_role("button", name="Back to the start").click()
    expect(place(page)).to_have_text("Row 1, column 1")


def test_the_numbers_stand_in_the_pixels_when_it_is_large_enough(open_page: OpenPage) -> None:
    page = open_page("#/convolve?sample=photograph-grey&side=64&steps=conv:sobel_x")
    settled(page)
    assert float(pane(page, "Input").get_attribute("data-cell") or 0) < 10
    pane(page, "Input").locator("xpath=..").get_by_role("button", name="123: Show the numbers").click()
    expect(pane(page, "Input")).to_have_attribute("data-cell", re.compile(r"^[3-9]\d"))
    expect(pane(page, "Result")).to_have_attribute("data-cell", re.compile(r"^[3-9]\d"))
    pane(page, "Input").focus()
    page.keyboard.press("0")
    expect(pane(page, "Input")).to_have_attribute("data-cell", re.compile(r"^\d\.\d"))


# --- border, stride, size ----------------------------------------------------------------------------------------------


def test_border_cells_are_shown_as_real_cells(open_page: OpenPage) -> None:
    page = open_page("#/convolve?sample=numbers&steps=conv:sobel_x")
    settled(page)
    side = float(pane(page, "Input").get_attribute("data-cell") or 0) * 6
    border = page.get_by_role("combobox", name="Border")
    # The image's corner is 1 0 / 8 2.
    for choice, corner in (("zeros", "0"), ("reflected", "2"), ("edge repeated", "1")):
        border.select_option(label=choice)
        settled(page)
        expect(title(page, "Result")).to_have_text("Result of step 1, 6 × 6")
        assert abs(float(pane(page, "Input").get_attribute("data-cell") or 0) * 8 - side) < 1
        point_at(page, "Input", -1, -1, border=1)
        expect(page.get_by_text(f"in the border: {corner}", exact=True)).to_be_visible()
        expect_marked(page, "Input", (0, 0, 3, 3), 8)
        check_arithmetic(page)
        page.mouse.move(2, 2)


@pytest.mark.parametrize(
    ("steps", "wanted"),
    [
        ("conv:sobel_x", (4, 4)),
        ("conv:sobel_x:zeros:2", (3, 3)),
        ("conv:gaussian5:reflect:1:1", (6, 6)),
        ("conv:sobel_x:none:1:2", (2, 2)),
        ("conv:1,2:none:2", (3, 3)),
        ("pool:max:3:3", (2, 2)),
        ("pool:sum:2:1", (5, 5)),
    ],
)
def test_the_size_formula_comes_to_the_size_that_is_shown(
    open_page: OpenPage, steps: str, wanted: tuple[int, int]
) -> None:
    page = open_page(f"#/convolve?sample=numbers&steps={steps}")
    settled(page)
    expect(title(page, "Result")).to_have_text(f"Result of step 1, {wanted[0]} × {wanted[1]}")
    text = page.locator("[data-test=size]").inner_text()
    formulas = [part.strip() for part in re.split(r"(?:Size|Height|Width):", text) if part.strip()]
    assert formulas
    for formula, length in zip(formulas * (3 - len(formulas)), wanted, strict=True):
        left, _, right = formula.rpartition("=")
        assert int(right) == length
        assert evaluated(left) == length, formula


def evaluated(formula: str) -> int:
    """A formula of numbers, + − · / and floor, worked out."""
    plain = formula.replace("−", "-").replace("·", "*").strip()
    assert set(re.findall(r"[A-Za-z_]+", plain)) <= {"floor"} and re.fullmatch(r"[\w\s+\-*/().]+", plain), formula
    return int(eval(plain, {"__builtins__": {}, "floor": math.floor}))


def test_a_kernel_that_does_not_fit_is_refused_in_a_sentence(open_page: OpenPage) -> None:
    page = open_page("#/convolve?sample=lines&steps=conv:gaussian5")
    settled(page)
    expect(title(page, "Result")).to_have_text("Result of step 1, 1 × 1")
    page.get_by_role("group", name="Size of the kernel").get_by_text("7", exact=True).click()
    expect(page.get_by_role("alert")).to_contain_text("Step 1 cannot be done:")
    page.get_by_role("combobox", name="Border").select_option(label="zeros")
    expect(title(page, "Result")).to_have_text("Result of step 1, 5 × 5")
    expect(page.get_by_role("alert")).to_have_count(0)


# --- kernels and chains ------------------------------------------------------------------------------------------------


def test_a_kernel_of_own_numbers_by_typing_dragging_and_keys(open_page: OpenPage) -> None:
    page = open_page("#/convolve?sample=numbers&steps=conv:identity")
    settled(page)
    pane(page, "Result").focus()
    page.keyboard.press("Home")
    expect(page.locator("[data-test=result]")).to_have_text("= 2")
    cell = page.get_by_label("Kernel, row 1, column 1")
    cell.fill("-1.5")
    expect(page.locator("[data-test=result]")).to_contain_text("= 0.5")
    check_arithmetic(page)
    expect(page.get_by_role("combobox", name="Kernel", exact=True)).to_have_value("")
    cell.press("ArrowRight")
    expect(page.get_by_label("Kernel, row 1, column 2")).to_be_focused()
    page.get_by_label("Kernel, row 3, column 3").focus()
    page.keyboard.press("PageUp")
    expect(page.locator("[data-test=result]")).to_contain_text("= 25.5")
    x, y = middle_of(page.get_by_label("Kernel, row 2, column 2"))
    drag(page, (x, y), (x, y + 20), steps=1)
    settled(page)
    expect(page.get_by_label("Kernel, row 2, column 2")).not_to_have_value("1")
    check_arithmetic(page)


def test_steps_are_added_chosen_moved_and_removed(open_page: OpenPage) -> None:
    page = open_page("#/convolve?sample=numbers&steps=none")
    expect(page.get_by_text("Add a step to begin.")).to_be_visible()
    adders = page.get_by_role("group", name="Add a step")
    chain = page.get_by_role("group", name="Chain of steps")
    for kind in ("Convolve", "ReLU", "Pool"):
        adders.get_by_role("button", name=f"+ {kind}").click()
    expect(chain.get_by_role("button", name=re.compile("^Step"))).to_have_text(
        [re.compile("Sobel x"), re.compile("ReLU"), re.compile("max 2×2")]
    )
    expect(title(page, "Result")).to_have_text("Result of step 3, 2 × 2")
    check_arithmetic(page)
    page.get_by_role("button", name="Move one step earlier").click()
    expect(chain.get_by_role("button", name=re.compile("^Step 2: "))).to_have_attribute("aria-pressed", "true")
    expect(title(page, "Result")).to_have_text("Result of step 2, 2 × 2")
    chain.get_by_role("button", name=re.compile("^Step 1: ")).click()
    expect(title(page, "Result")).to_have_text("Result of step 1, 4 × 4")
    expect(title(page, "Input")).to_have_text("Image, 6 × 6")
    page.get_by_role("button", name="Remove this step").click()
    expect(chain.get_by_role("button", name=re.compile("^Step"))).to_have_count(2)
    expect(title(page, "Result")).to_have_text("Result of step 1, 3 × 3")
    check_arithmetic(page)
    for _ in range(2):
        page.get_by_role("button", name="Remove this step").click()
    expect(page.get_by_text("Add a step to begin.")).to_be_visible()
    for _ in range(8):
        adders.get_by_role("button", name="+ ReLU").click()
    expect(adders.get_by_role("button", name="+ ReLU")).to_be_disabled()


def test_negative_results_keep_their_sign_and_colour_and_the_scale_its_true_range(open_page: OpenPage) -> None:
    page = open_page("#/convolve?sample=numbers&steps=conv:laplacian")
    settled(page)
    slider = page.get_by_role("group", name="Slide the window").get_by_role("slider", name="Position")
    values = {}
    for position in range(16):
        slider.fill(str(position))
        expect(place(page)).to_have_text(f"Row {position // 4 + 1}, column {position % 4 + 1}")
        values[position] = number(check_arithmetic(page))
    most = max(abs(value) for value in values.values())
    assert min(values.values()) < 0 < max(values.values())
    legend = pane(page, "Result").locator("xpath=..").locator(".legend")
    expect(legend).to_have_text(re.compile(rf"^−{most:g}\s.*{most:g}$", re.DOTALL))
    for position, value in values.items():
        red, _, blue = colour(page, "Result", position // 4, position % 4)
        if abs(value) > 0.2 * most:
            assert (red < blue) == (value < 0), (position, value, red, blue)


def test_a_filter_of_a_run_becomes_the_kernel(open_page: OpenPage, studio: Studio, own_run: str) -> None:
    page = open_page("#/convolve?sample=banana&steps=conv:identity")
    settled(page)
    page.get_by_role("button", name="Filter from a run…").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_role("combobox", name="Run").select_option(own_run)
    dialog.get_by_role("combobox", name="Layer").select_option(index=1)
    dialog.get_by_role("combobox", name="Filter").select_option(label="2")
    dialog.get_by_role("combobox", name="Channel").select_option(label="3")
    dialog.get_by_role("button", name=re.compile("^Use it")).click()
    expect(dialog).to_have_count(0)
    settled(page)

    from convoscope.training import Run

    network = Run.open(studio.folder / "runs" / own_run).network()
    second = [module for module in network.modules() if isinstance(module, torch.nn.Conv2d)][1]
    for (row, column), weight in np.ndenumerate(second.weight.detach().numpy()[1, 2]):
        shown = page.get_by_label(f"Kernel, row {row + 1}, column {column + 1}").input_value()
        assert abs(number(shown) - weight) <= 0.5 * 10 ** -digits(shown) + 1e-6
    check_arithmetic(page)


# --- the script --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "view",
    [
        "sample=numbers&steps=conv:sobel_x:reflect:2;relu;pool:mean:2:1&cell=2,1,0",
        "sample=disc&side=16&full=1&steps=conv:gaussian5:replicate;conv:1,2,3/4,5,6:zeros:1:2&cell=1,4,7",
        "sample=photograph&side=16&view=colour&steps=conv:emboss:zeros;pool:max:3:2&cell=1,2,3",
    ],
)
def test_the_copied_script_prints_the_number_on_the_page(open_page: OpenPage, view: str) -> None:
    page = open_page(f"#/convolve?{view}")
    settled(page)
    expect(page.get_by_role("button", name="Pinned (Esc)")).to_be_visible()
    shown = result_text(page)
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.get_by_role("button", name="Copy as PyTorch").click()
    dialog = page.get_by_role("dialog")
    text = dialog.get_by_role("textbox", name="The same in PyTorch").input_value()
    dialog.get_by_role("button", name="Copy", exact=True).click()
    expect(dialog.get_by_text("Copied.")).to_be_visible()
    assert page.evaluate("navigator.clipboard.readText()") == text
    page.keyboard.press("Escape")
    expect(dialog).to_have_count(0)
    printed = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=True).stdout
    assert abs(float(printed) - number(shown)) <= 0.5 * 10 ** -digits(shown) + 1e-9


# --- images ------------------------------------------------------------------------------------------------------------


OpenFile = Callable[[Page, str, bytes], None]


@pytest.fixture
def open_file(tmp_path: Path) -> OpenFile:
    """Choose a file with this name and content in the browser's dialog."""

    def opened(page: Page, name: str, content: bytes) -> None:
        file = tmp_path / name
        file.write_bytes(content)
        with page.expect_file_chooser() as chosen:
            page.get_by_role("button", name="Open image").click()
        chosen.value.set_files(file)

    return opened


def picture(kind: str, pixels: np.ndarray) -> bytes:
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind)
    return file.getvalue()


def png_bomb(side: int = 30_000) -> bytes:
    """A small file that is 900,000,000 pixels of one bit."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    packer = zlib.compressobj(9)
    row = bytes(1 + math.ceil(side / 8))
    packed = b"".join(packer.compress(row) for _ in range(side)) + packer.flush()
    header = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", packed) + chunk(b"IEND", b"")


def test_an_image_file_is_opened_and_its_numbers_are_the_files(open_page: OpenPage, open_file: OpenFile) -> None:
    page = open_page("#/convolve?sample=numbers&steps=conv:identity:zeros")
    settled(page)
    pixels = np.arange(20, dtype=np.uint8).reshape(4, 5) * 12
    open_file(page, "own.png", picture("PNG", pixels))
    expect(title(page, "Input")).to_have_text("Image, 4 × 5")
    settled(page)
    for row, column in ((0, 0), (3, 4), (1, 2)):
        point_at(page, "Result", row, column)
        expect(page.locator("[data-test=result]")).to_have_text(f"= {pixels[row, column]}")

    colours = np.zeros((40, 60, 3), np.uint8)
    colours[:, :30] = (250, 10, 20)
    colours[:, 30:] = (20, 30, 240)
    page.get_by_role("combobox", name="Size").select_option(label="up to 64")
    open_file(page, "own.jpg", picture("JPEG", colours))
    expect(title(page, "Input")).to_have_text(re.compile("^Image, 40 × 60"))
    page.get_by_role("combobox", name="View as").select_option(label="blue channel")
    settled(page)
    point_at(page, "Result", 20, 50)
    assert abs(number(result_text(page)) - 240) <= 4  # JPEG is not exact
    page.get_by_role("combobox", name="View as").select_option(label="red channel")
    settled(page)
    assert abs(number(result_text(page)) - 20) <= 4


def test_an_image_is_made_smaller_and_one_is_dropped_on_the_page(open_page: OpenPage) -> None:
    page = open_page("#/convolve?side=64&steps=conv:identity:zeros")
    settled(page)
    big = picture("PNG", np.tile(np.arange(200, dtype=np.uint8), (100, 1)))
    dropped = page.evaluate_handle(
        "(bytes) => { const data = new DataTransfer(); data.items.add(new File([new Uint8Array(bytes)], 'dropped.png')); return data; }",
        list(big),
    )
    page.dispatch_event("main h1", "drop", {"dataTransfer": dropped})
    expect(title(page, "Input")).to_have_text("Image, 32 × 64")
    page.get_by_role("combobox", name="Size").select_option(label="up to 256")
    expect(title(page, "Input")).to_have_text("Image, 100 × 200")


def test_a_wrong_upload_is_told_in_a_plain_sentence_and_the_page_goes_on(
    open_page: OpenPage, open_file: OpenFile
) -> None:
    page = open_page("#/convolve?sample=numbers&steps=conv:identity:zeros", refusals=True)
    settled(page)
    wrong = {
        "page.jpg": b"<!doctype html><html><body>Not found</body></html>",
        "bomb.png": png_bomb(),
        "large.png": picture("PNG", np.zeros((4, 4), np.uint8)) + bytes(40_000_000),
        "notes.txt": b"Nothing but words.",
        "torn.jpg": picture("JPEG", np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8))[:900],
    }
    for name, content in wrong.items():
        open_file(page, name, content)
        alert = page.get_by_role("alert")
        expect(alert).to_be_visible()
        told = alert.locator("p").inner_text()
        # A sentence for people: no codes, no paths, no types of Python.
        assert len(told.split()) >= 4 and not re.search(r"Traceback|Error\b|errno|/tmp|\{|\b(?:4|5)\d\d\b", told), (
            name,
            told,
        )
        expect(title(page, "Input")).to_have_text("Image, 6 × 6")
        check_arithmetic(page)
        open_file(page, "good.png", picture("PNG", np.full((6, 6), 7, np.uint8)))
        expect(alert).to_have_count(0)
        expect(title(page, "Input")).to_have_text("Image, 6 × 6")


def test_a_drawing_of_ones_own_by_pointer_and_keys(open_page: OpenPage) -> None:
    page = open_page("#/convolve?sample=numbers&steps=conv:identity:zeros")
    settled(page)
    page.get_by_role("button", name="Draw an image").click()
    dialog = page.get_by_role("dialog")
    pad = dialog.get_by_role("group", name=re.compile("^Drawing"))
    pad.focus()
    for key in ("ArrowDown", "ArrowRight", "ArrowRight", "Space"):
        page.keyboard.press(key)
    box = pad.locator("canvas").bounding_box()
    assert box is not None
    bottom = box["y"] + box["height"] - 5
    drag(page, (box["x"] + 5, bottom), (box["x"] + box["width"] - 5, bottom), steps=1)
    dialog.get_by_role("button", name="Use it").click()
    expect(title(page, "Input")).to_have_text("Image, 16 × 16")
    settled(page)
    for (row, column), wanted in {(1, 2): "255", (1, 3): "0", (15, 0): "255", (15, 15): "255", (14, 7): "0"}.items():
        point_at(page, "Result", row, column)
        expect(page.locator("[data-test=result]")).to_have_text(f"= {wanted}")


# --- address, language, server -----------------------------------------------------------------------------------------


def test_what_is_looked_at_stands_in_the_address_and_survives_a_reload(open_page: OpenPage) -> None:
    page = open_page("#/convolve")
    settled(page)
    page.get_by_role("button", name="Numbers, 6 × 6").click()
    expect(title(page, "Input")).to_have_text("Image, 6 × 6")
    page.get_by_role("button", name="Remove this step").click()
    page.get_by_role("group", name="Chain of steps").get_by_role("button", name=re.compile("^Step 2: ")).click()
    page.get_by_role("group", name="What is kept of each window").get_by_text("sum").click()
    page.get_by_role("combobox", name="Numbers").select_option(label="0 to 1")
    pane(page, "Result").focus()
    page.keyboard.press("ArrowRight")
    expect(place(page)).to_have_text("Row 1, column 2")
    settled(page)
    expect(page).to_have_url(re.compile(r"sample=numbers.*steps=relu;pool:sum:2:2.*cell=1,0,1"))
    before = (page.url, result_text(page), title(page, "Result").inner_text())
    page.reload()
    settled(page)
    expect(place(page)).to_have_text("Row 1, column 2")
    assert (page.url, result_text(page), title(page, "Result").inner_text()) == before
    # The other pages and back: everything is as it was left.
    page.get_by_role("link", name="Draw").click()
    page.get_by_role("link", name="Convolve").click()
    expect(place(page)).to_have_text("Row 1, column 2")
    assert result_text(page) == before[1]


def test_nonsense_in_the_address_is_the_first_view(open_page: OpenPage) -> None:
    page = open_page("#/convolve?sample=../etc&side=7&steps=conv:1,2/3;pool:most&view=infrared&cell=9,9,9&full=2")
    settled(page)
    expect(
        page.get_by_role("group", name="Chain of steps").get_by_role("button", name=re.compile("^Step"))
    ).to_have_count(3)
    check_arithmetic(page)


def test_what_is_chosen_before_the_samples_came_stays(open_page: OpenPage) -> None:
    page = open_page()
    held: list[Route] = []

    def hold(route: Route) -> None:
        held.append(route)

    page.route("**/api/kernels", hold)
    page.evaluate("location.hash = '#/convolve?sample=numbers&steps=conv:blur'")
    with page.expect_response("**/api/samples/numbers*"):
        page.get_by_role("combobox", name="Worked examples").select_option(
            label="Worked example: a kernel over the pixel 25"
        )
    expect(page.locator("[data-test=result]")).to_have_text("= 123")
    (kernels,) = held
    kernels.continue_()
    expect(page).to_have_url(re.compile(r"steps=conv:1,2,1/2,1,2/1,1,2"))
    settled(page)
    assert result_text(page) == "123"


def test_german_numbers_have_a_comma(open_page: OpenPage) -> None:
    page = open_page("#/convolve?sample=numbers&steps=conv:blur", language="de")
    settled(page)
    page.get_by_role("combobox", name="Rechenbeispiele").select_option(
        label="Rechenbeispiel: ein Kern über dem Pixel 25"
    )
    expect(page.locator("[data-test=result]")).to_have_text("= 123")
    expect(page.get_by_role("heading", name="Zeile 2, Spalte 2")).to_be_visible()
    page.get_by_label("Kern, Zeile 1, Spalte 1").fill("0,5")
    # Half of the pixel 2 less.
    expect(page.locator("[data-test=result]")).to_contain_text("= 122")
    page.get_by_label("Kern, Zeile 1, Spalte 1").fill("0,25")
    expect(page.locator("[data-test=result]")).to_contain_text("= 121,5")


def test_a_server_that_is_gone_is_told_and_missed_only_while_it_is(open_page: OpenPage, tmp_path: Path) -> None:
    own = start_studio(tmp_path)
    try:
        page = open_page("#/convolve?sample=numbers&steps=conv:identity", refusals=True, at=own)
        settled(page)
    finally:
        stop_studio(own)
    page.get_by_role("combobox", name="Border").select_option(label="zeros")
    expect(page.get_by_role("alert")).to_contain_text(
        "The studio does not answer. Is it still running in the terminal?"
    )
    # What is on the page stays and goes on by itself.
    check_arithmetic(page)
