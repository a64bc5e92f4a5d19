"""From a drawing pad to the small image that a network was trained on."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from PIL import Image, ImageDraw

from convoscope.data import InputFormat, PadForm, Task, load, pad_form, pad_image
from convoscope.data.builtin import normalise_drawing
from convoscope.errors import DataError

DIGITS = tuple(str(digit) for digit in range(10))


@pytest.fixture
def digits(shared_data: Path) -> np.ndarray:
    """300 of MNIST's test images, 0 paper and 255 ink."""
    dataset = load(shared_data / "mnist")
    form = InputFormat(height=28, width=28, channels=1)
    rows = dataset.indices("test")[:300]
    return np.stack([dataset.images.decode(int(row), form)[..., 0] for row in rows])


def seven(side: int = 256, pen: int = 10, *, shift: tuple[int, int] = (0, 0)) -> np.ndarray:
    sheet = Image.new("L", (side, side))
    points = [(0.3, 0.2), (0.7, 0.2), (0.42, 0.8)]
    drawn = [(x * side + shift[0], y * side + shift[1]) for x, y in points]
    ImageDraw.Draw(sheet).line(drawn, fill=255, width=pen, joint="curve")
    return np.asarray(sheet)


def middle(image: np.ndarray) -> tuple[float, float]:
    """The centre of mass, row and column."""
    rows, columns = np.indices(image.shape)
    return float((image * rows).sum() / image.sum()), float((image * columns).sum() / image.sum())


def stroke_width(image: np.ndarray) -> float:
    """The usual one, in pixels: half of the stroke's pixels lie nearer than a quarter of it to the paper."""
    from scipy.ndimage import distance_transform_edt

    large = np.asarray(Image.fromarray(image).resize((280, 280), Image.Resampling.BICUBIC)) >= 128
    return float(np.median(distance_transform_edt(large)[large])) * 4 / 10


@given(arrays(np.uint8, array_shapes(min_dims=2, max_dims=2, max_side=70)), st.sampled_from(["drawings", "digits"]))
def test_any_sheet_becomes_28x28(sheet: np.ndarray, form: PadForm) -> None:
    image = pad_image(sheet, form)
    assert image.shape == (28, 28) and image.dtype == np.uint8
    if not (sheet >= 32).any():
        assert not image.any()
    if (sheet >= 128).any():
        assert image.any()


def test_drawings_take_the_form_of_the_built_in_ones() -> None:
    assert np.array_equal(pad_image(seven(), "drawings"), normalise_drawing(seven()))


@pytest.mark.parametrize("pen", [4, 10, 24])
def test_a_digit_is_twenty_pixels_high_and_lies_with_its_mass_in_the_middle(pen: int) -> None:
    image = pad_image(seven(pen=pen), "digits")
    rows, columns = np.flatnonzero(image.any(axis=1)), np.flatnonzero(image.any(axis=0))
    assert 19 <= rows[-1] - rows[0] + 1 <= 21 and columns[-1] - columns[0] + 1 < 20
    assert np.allclose(middle(image), 14, atol=0.51)


@given(st.integers(-60, 60), st.integers(-40, 40))
def test_where_a_digit_was_drawn_does_not_matter(right: int, down: int) -> None:
    assert np.array_equal(pad_image(seven(shift=(right, down)), "digits"), pad_image(seven(), "digits"))


def test_a_fine_pen_is_widened_and_a_broad_one_is_not_thinned() -> None:
    fine, usual, broad = (stroke_width(pad_image(seven(pen=pen), "digits")) for pen in (3, 10, 40))
    assert 1.6 <= fine <= 2.6 and 1.6 <= usual <= 2.6
    assert broad > 4


@pytest.mark.shared_data
@pytest.mark.parametrize("resampling", [Image.Resampling.NEAREST, Image.Resampling.BICUBIC])
@pytest.mark.parametrize("side", [256, 500])
def test_enlarged_digits_of_mnist_come_back_nearly_as_they_were(
    digits: np.ndarray, resampling: Image.Resampling, side: int
) -> None:
    """A pixel further on, where the middle lies between two; and no more, as the correlations say."""
    likenesses, moved = [], 0
    for digit in digits:
        back = pad_image(np.asarray(Image.fromarray(digit).resize((side, side), resampling)), "digits")
        found = {
            (down, right): np.corrcoef(digit.ravel(), np.roll(back, (down, right), (0, 1)).ravel())[0, 1]
            for down in (-1, 0, 1)
            for right in (-1, 0, 1)
        }
        best = max(found, key=lambda step: found[step])
        moved += best != (0, 0)
        likenesses.append(found[best])
    exact = resampling is Image.Resampling.NEAREST
    assert np.median(likenesses) > (0.998 if exact else 0.96)
    assert np.percentile(likenesses, 5) > (0.95 if exact else 0.90)
    assert moved <= len(digits) * (0.1 if exact else 0.25)


@pytest.mark.shared_data
def test_strokes_of_the_pad_are_about_as_wide_as_mnists(digits: np.ndarray) -> None:
    usual = [stroke_width(digit) for digit in digits[:100]]
    for pen in (3, 10, 16):
        assert np.percentile(usual, 5) <= stroke_width(pad_image(seven(pen=pen), "digits")) <= np.percentile(usual, 95)


@pytest.mark.parametrize("sheet", [np.zeros((28, 28, 3), np.uint8), np.zeros((28, 28)), np.zeros((0, 5), np.uint8)])
@pytest.mark.parametrize("form", ["drawings", "digits"])
def test_what_is_no_drawing_is_refused(sheet: np.ndarray, form: PadForm) -> None:
    with pytest.raises(DataError, match=r"expected a uint8 array \(height, width\)") as refused:
        pad_image(sheet, form)
    assert refused.value.code == "bad-drawing"


@pytest.mark.parametrize(
    ("source", "layout", "classes", "size", "task", "expected"),
    [
        ("builtin:drawings", "builtin", ("apple", "cat"), (28, 28, 1), "classification", "drawings"),
        ("builtin:drawings/apple,banana", "builtin", ("apple", "banana"), (28, 28, 1), "classification", "drawings"),
        ("quickdraw:apple,fish", "quickdraw", ("apple", "fish"), (28, 28, 1), "classification", "drawings"),
        ("/data/mine", "quickdraw", ("a", "b"), (28, 28, 1), "classification", "drawings"),
        ("mnist", "idx", DIGITS, (28, 28, 1), "classification", "digits"),
        ("/data/own digits", "folders", DIGITS[::-1], (28, 28, 1), "classification", "digits"),
        ("fashion-mnist", "idx", ("bag", "coat"), (28, 28, 1), "classification", None),
        ("mnist", "idx", DIGITS[:9], (28, 28, 1), "classification", None),
        ("mnist", "idx", DIGITS, (32, 32, 1), "classification", None),
        ("mnist", "idx", DIGITS, (28, 28, 3), "classification", None),
        ("mnist", "csv", DIGITS, (28, 28, 1), "multi-label", None),
        ("builtin:drawings", "builtin", ("apple", "cat"), (56, 56, 1), "classification", None),
        ("builtin:lines", "builtin", ("horizontal", "vertical"), (5, 5, 1), "classification", None),
    ],
)
def test_which_runs_can_be_drawn_for(
    source: str, layout: str, classes: tuple[str, ...], size: tuple[int, int, int], task: Task, expected: PadForm | None
) -> None:
    assert pad_form(source, layout, classes, *size, task) == expected
