"""Figures: every shape and number has a picture, the colours mean what the legend says, and what is promised stands there."""

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw
from torch import nn

from convoscope import explain as figures
from convoscope.errors import UsageError
from convoscope.explain import Trace, trace
from convoscope.explain.drawings import attributions, blocks, cells, numerals
from convoscope.explain.drawings import scatter as points
from convoscope.models import build
from convoscope.render import font
from convoscope.training import Normalisation

RED, BLUE, WHITE = (0xC2, 0x2A, 0x35), (0x1F, 0x5F, 0xBF), (255, 255, 255)
random = np.random.default_rng(0)


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


def is_sheet(image: Image.Image) -> bool:
    """RGB, white all round."""
    pixels = np.asarray(image)
    edges = [pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]]
    return image.mode == "RGB" and all((edge == 255).all() for edge in edges) and bool((pixels < 255).any())


def has(image: Image.Image, colour: tuple[int, int, int]) -> bool:
    return bool((np.asarray(image) == colour).all(2).any())


def colour_of(block: Image.Image, x: float, y: float) -> tuple[int, int, int]:
    """At a share of the width and the height."""
    found = block.getpixel((round(x * (block.width - 1)), round(y * (block.height - 1))))
    assert isinstance(found, tuple) and len(found) == 3
    return found


def net(*layers: nn.Module, channels: int = 1, side: int = 6, pixels: bool = True) -> Trace:
    torch.manual_seed(0)
    image = torch.randint(0, 256, (1, channels, side, side)).float()
    how = Normalisation(mean=(0.5,) * channels, std=(0.25,) * channels)
    return trace(nn.Sequential(*layers), how(image), pixels=image if pixels else None, normalisation=how)


# --- every shape, every number -----------------------------------------------------------------------------------------

SHAPES = [
    (1, 1, 1), (1, 5, 5), (3, 5, 5), (64, 5, 5), (512, 1, 1), (512, 7, 7), (3, 28, 28), (64, 28, 28), (512, 14, 14),
    (1, 224, 224), (3, 224, 224), (64, 56, 56), (2, 3, 400), (2, 400, 3), (2, 1, 3000), (197, 96), (4, 3, 9, 9), (1,), (10,), (24,), (25,), (160,), (512,), (5000,),
]  # fmt: skip


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("statistics", [False, True])
def test_a_sheet_for_every_shape(shape: Any, statistics: bool, written: list[str]) -> None:
    values = random.normal(size=shape)
    sheet = figures.map_sheet(values, title="a layer", statistics=statistics)
    assert is_sheet(sheet) and sheet.width < 2600 and sheet.height < 4000
    assert written[0] == "a layer"
    assert f"min {numerals.number(values.min())}, max {numerals.number(values.max())}" in written or values.size == 1


AWKWARD = {
    "zeros": np.zeros((3, 5, 5)),
    "constant": np.full((3, 5, 5), 2.5),
    "negative": np.full((3, 9, 9), -2.5),
    "NaN": np.full((3, 5, 5), np.nan),
    "one NaN": np.where(np.arange(75).reshape(3, 5, 5) == 7, np.nan, 1.0),
    "large with NaN": np.where(np.arange(3 * 224 * 224).reshape(3, 224, 224) == 7, np.nan, 1.0),
    "infinite": np.where(np.arange(75).reshape(3, 5, 5) % 2 == 0, np.inf, -np.inf),
    "tiny": np.full((2, 3, 3), 5e-324),
    "huge": np.array([[[1e300, -1e300]]]),
    "mixed": np.array([[[1e30, -1e-30, 0.0]]]),
    "float32": np.full((2, 3, 3), 3e38, np.float32),
    "whole": np.arange(-9, 9).reshape(2, 3, 3),
    "boolean": np.eye(4)[None] > 0,
    "NaN vector": np.full(7, np.nan),
    "infinite vector": np.array([np.inf, -np.inf, 1.0]),
}


@pytest.mark.parametrize("name", AWKWARD)
def test_every_number_has_a_picture(name: str, written: list[str]) -> None:
    values = AWKWARD[name]
    assert is_sheet(figures.map_sheet(values))
    assert is_sheet(figures.map_sheet(values, order="strength", statistics=True))
    flat = values.reshape(values.shape[0], -1) if values.ndim == 3 else values[None]
    assert is_sheet(figures.scores_bars(flat[0]))
    assert is_sheet(figures.filter_sheet(flat[:, None, None]))
    assert is_sheet(figures.attribution_sheet(np.zeros((6, 6), np.uint8), [("a", flat)], [(flat, float("nan"))]))
    assert max(len(text) for text in numerals.cell_texts(values)) <= 8


@pytest.mark.parametrize(
    "shape", [(5, 5), (5, 5, 1), (1, 1, 3), (28, 28, 1), (28, 28, 3), (28, 3, 2), (224, 224, 3), (9, 9, 4), (300, 7, 5)]
)
@pytest.mark.parametrize("unit", [False, True])
def test_image_sheets(shape: Any, unit: Any, written: list[str]) -> None:
    pixels = random.integers(0, 256, shape).astype(np.uint8)
    assert is_sheet(figures.image_sheet(pixels, unit=unit))
    channels = shape[2] if len(shape) == 3 else 1
    assert ("red" in written) == (channels in (3, 4))
    assert "image" in written and ("grey" in written or channels > 4)
    small = max(shape[:2]) <= 28
    first = pixels.reshape(-1)[0]
    assert (f"{first / 255:.2f}" if unit else str(first)) in written or not small


@pytest.mark.parametrize(
    "shape",
    [
        (1, 1, 1, 1),
        (4, 1, 3, 3),
        (32, 1, 3, 3),
        (64, 3, 7, 7),
        (512, 512, 3, 3),
        (8, 3, 11, 11),
        (6, 40, 1, 1),
        (2, 3, 16, 4),
    ],
)
def test_filter_sheets(shape: Any, written: list[str]) -> None:
    weights = random.normal(size=shape)
    sheet = figures.filter_sheet(weights, "conv")
    assert is_sheet(sheet) and sheet.width < 2600 and sheet.height < 4000
    assert "conv" in written and "filter 0" in written
    said = " ".join(written)
    assert ("the first 64 of 512 filters shown" in said) == (shape[0] == 512)
    assert ("of each the first 16 of" in said) == (shape[1] > 16)


# --- colours -----------------------------------------------------------------------------------------------------------


def test_blue_is_negative_red_is_positive_white_is_zero() -> None:
    values = np.array([[-1.0, 0.0, 0.5, 1.0, np.nan]])
    for block in (cells.coloured(values, 1.0), cells.tile(values, 1.0, 50)):
        negative, zero, half, positive, missing = (colour_of(block, x, 0.5) for x in (0.1, 0.3, 0.5, 0.7, 0.9))
        assert negative == BLUE and positive == RED and zero == WHITE
        assert half[0] > half[2] and RED[1] < half[1] < 255
        assert missing[0] == pytest.approx(missing[1], abs=12) and missing != WHITE
    numbered = cells.cells(cells.coloured(values, 1.0), ["", "", "", "", ""])
    assert [numbered.getpixel((x * 34 + 5, 5)) for x in (0, 1, 3)] == [BLUE, WHITE, RED]


@pytest.mark.parametrize("side", [5, 20, 300])
def test_the_sheets_keep_the_colours(side: int) -> None:
    values = np.zeros((3, side, side))
    values[1], values[2] = -1, 1
    for sheet in (figures.map_sheet(values), figures.filter_sheet(values[None])):
        assert has(sheet, BLUE) and has(sheet, RED)
    legend = cells.scale_bar(np.ones(1), 1.0).height  # the scale itself has both colours
    only_zero = np.asarray(figures.map_sheet(np.zeros((2, side, side))))
    assert legend and not (only_zero[160:] == RED).all(2).any() and not (only_zero[160:] == BLUE).all(2).any()


def test_reducing_keeps_means() -> None:
    values = random.normal(size=(224, 224))
    small = cells.resampled(values, (56, 56))
    assert small == pytest.approx(values.reshape(56, 4, 56, 4).mean((1, 3)), abs=1e-5)
    values[100, 100] = np.inf
    assert np.flatnonzero(~np.isfinite(cells.resampled(values, (56, 56)))).tolist() == [25 * 56 + 25]


def test_pixels_are_grey(written: list[str]) -> None:
    sheet = figures.map_sheet(net(nn.Conv2d(1, 2, 3))["pixels"])
    pixels = np.asarray(sheet).astype(int)
    assert np.ptp(pixels, axis=2).max() < 16  # the greys of type are slightly blue
    assert "pixels as they are" in written


def test_channels_have_their_own_colour() -> None:
    pixels = np.full((40, 40, 3), 255, np.uint8)
    sheet = figures.image_sheet(pixels)
    assert all(has(sheet, colour) for colour in ((255, 0, 0), (0, 255, 0), (0, 0, 255)))


@pytest.mark.parametrize(
    ("colour", "dark"), [("white", False), ("black", True), ("#c22a35", True), ("#1f5fbf", True), ("#e5a9ae", False)]
)
def test_type_reads_on_every_cell(colour: tuple[int, int, int], dark: bool) -> None:
    assert cells._dark(Image.new("RGB", (1, 1), colour))[0, 0] == dark


# --- what is written ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"), (-0.0, "0"), (3.0, "3"), (-1234567.0, "−1234567"), (0.123456, "0.1235"), (-12.3456, "−12.35"), (1e-7, "1e−7"),
        (-1.23456e-9, "−1.235e−9"), (1.5e12, "1.5e12"), (float("nan"), "NaN"), (float("inf"), "∞"), (float("-inf"), "−∞"),
    ],
)  # fmt: skip
def test_numbers(value: float, text: str) -> None:
    assert numerals.number(value) == text


def test_numbers_in_cells_are_short_and_alike() -> None:
    assert numerals.cell_texts(np.array([0.0, 1.23456, -0.5, 0.0001])) == ["0", "1.23", "−0.50", "0.00"]
    assert numerals.cell_texts(np.array([12.0, -255.0])) == ["12", "−255"]
    assert numerals.cell_texts(np.array([0.00123, 0.0])) == ["1.2e−3", "0"]
    assert numerals.cell_texts(np.array([123.4, np.nan])) == ["123", "NaN"]
    assert numerals.aligned_texts([1.5, -0.25], 4) == ["1.500", "−0.250"]


def test_figures_stand_below_one_another() -> None:
    assert len({font(12).getlength(digit) for digit in "0123456789"}) == 1


def test_long_words_are_shortened() -> None:
    assert blocks.words("w" * 500, width=90).width == 90
    assert blocks.paragraph("many words " * 30 + "w" * 200, 200).width <= 200
    assert figures.map_sheet(np.ones((1, 5, 5)), title="w" * 500).width < 1100


def test_the_range_is_the_data_s(written: list[str]) -> None:
    figures.map_sheet(np.array([[[-0.25, 0.75]]]), title="conv1")
    assert {"min −0.25, max 0.75", "−0.75", "0.75", "blue negative, white zero, red positive"} <= set(written)


def test_what_is_not_shown_is_said(written: list[str]) -> None:
    figures.map_sheet(random.normal(size=(512, 9, 9)))
    assert any("the first 64 of 512 channels shown" in text for text in written)
    assert "63" in written and "64" not in written


def test_the_strongest_come_first(written: list[str]) -> None:
    values = np.ones((20, 9, 9)) * np.arange(20)[:, None, None] * np.where(np.arange(20) % 2, 1, -1)[:, None, None]
    figures.map_sheet(values, order="strength", limit=3)
    assert [text for text in written if text in ("19", "18", "17", "16")][:3] == ["19", "18", "17"]
    assert any("3 of 20 channels shown, the strongest first" in text for text in written)


def test_small_maps_show_their_numbers(written: list[str]) -> None:
    figures.map_sheet(np.arange(49).reshape(1, 7, 7) + 100)
    assert {str(number) for number in range(100, 149)} <= set(written)
    written.clear()
    figures.map_sheet(np.arange(64).reshape(1, 8, 8) + 100)
    assert "120" not in written


def test_silent_channels_are_named(written: list[str]) -> None:
    maps = np.stack([np.zeros((9, 9)), np.ones((9, 9))])
    figures.map_sheet(maps, statistics=True)
    assert written.count("never fires") == 1 and "0 % ≤ 0" in written


@pytest.mark.parametrize("values", [np.zeros((0, 3, 3)), np.zeros(0)])
def test_nothing_is_no_figure(values: Any) -> None:
    with pytest.raises(UsageError, match="expected numbers") as caught:
        figures.map_sheet(values)
    assert caught.value.code == "figure-values"


def test_wrong_shapes_are_named() -> None:
    with pytest.raises(UsageError, match=r"expected filters .* received shape \(3, 3\)"):
        figures.filter_sheet(np.ones((3, 3)))
    with pytest.raises(UsageError, match=r"expected uint8 .* received float64"):
        figures.image_sheet(np.ones((3, 3)))
    with pytest.raises(UsageError, match="saliency: expected a map"):
        figures.attribution_sheet(np.zeros((3, 3), np.uint8), [("saliency", np.ones(3))])
    with pytest.raises(UsageError, match="expected points"):
        figures.scatter(np.ones((3, 3)), [0, 0, 0], ["a"])
    with pytest.raises(UsageError, match="expected labels 0 to 0; received 0 to 1"):
        figures.scatter(np.ones((2, 2)), [0, 1], ["a"])


# --- networks ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "size", "outputs"),
    [("tiny", (5, 5, 1), 2), ("fashion", (28, 28, 1), 10), ("resnet-small", (64, 64, 3), 3)],
)
def test_overview(model: str, size: Any, outputs: int, written: list[str]) -> None:
    torch.manual_seed(0)
    found = trace(
        build(model, size, outputs), torch.randn(1, size[2], size[0], size[1]), classes=["a", "b", "c"][:outputs]
    )
    sheet = figures.overview(found, title=model)
    assert is_sheet(sheet)
    shown = [step for step in found.steps if step.kind not in ("flatten", "reshape", "dropout")]
    assert all(step.name in written for step in shown)
    assert any(text.startswith("Not shown: ") and "flatten" in text for text in written) or model == "resnet-small"
    values = shown[1].output.numpy()
    assert f"min {numerals.number(values.min())}, max {numerals.number(values.max())}" in written


def test_overview_of_a_deep_network(written: list[str]) -> None:
    layers = [part for _ in range(60) for part in (nn.Conv2d(2, 2, 3, padding=1), nn.BatchNorm2d(2), nn.ReLU())]
    found = net(*layers, channels=2)
    assert len(found.steps) == 182
    sheet = figures.overview(found, limit=150)
    assert is_sheet(sheet) and sheet.height < 20_000
    assert "Not shown: 60 × norm." in written
    written.clear()
    figures.overview(found, limit=20)
    said = " ".join(written)
    assert "60 × relu" in said and "The first 19 of the other 62 steps are shown, and the last." in said


def test_overview_says_what_could_not_be_followed(written: list[str]) -> None:
    class Foreign(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.from_numpy(x.numpy() * 2)

    figures.overview(net(Foreign(), nn.Conv2d(1, 1, 3)))
    assert any("outside torch's operations" in text for text in written)


CASES = [
    ("conv of pixels' own scale", (nn.Conv2d(1, 2, 3, padding=1),), "0", (1, 0, 0), "hatched: 5 beyond the border"),
    ("conv of many channels", (nn.Conv2d(1, 12, 1), nn.Conv2d(12, 2, 3)), "1", (1, 2, 2), "the other 7 channels together"),
    ("conv without bias", (nn.Conv2d(1, 2, 3, bias=False),), "0", (1, 0, 0), "products"),
    ("large kernel", (nn.Conv2d(1, 2, 9, padding=4),), "0", (1, 0, 0), "weights"),
    ("1x1 conv", (nn.Conv2d(1, 40, 1), nn.Conv2d(40, 1, 1)), "1", (0, 0, 0), "the other 25 terms together"),
    ("transposed conv", (nn.ConvTranspose2d(1, 2, 2, 2),), "0", (0, 1, 1), "came in"),
    ("max pool", (nn.MaxPool2d(3, 2, 1),), "0", (0, 0, 0), "framed: the largest"),
    ("mean pool", (nn.AvgPool2d(2),), "0", (0, 1, 1), "each ÷ 4"),
    ("global mean", (nn.AdaptiveAvgPool2d(1),), "0", (0, 0, 0), "each ÷ 36"),
    ("norm", (nn.BatchNorm2d(1),), "0", (0, 1, 1), "− mean 0"),
    ("relu", (nn.ReLU(),), "0", (0, 1, 1), "came in"),
    ("gelu", (nn.GELU(),), "0", (0, 1, 1), "came in"),
    ("leaky relu", (nn.LeakyReLU(0.1),), "0", (0, 1, 1), "came in"),
    ("dense", (nn.Flatten(), nn.Linear(36, 4)), "1", (2,), "the other 21 terms together"),
    ("few terms", (nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(4, 3)), "2", (2,), "that is 0[0, 1, 1]"),
    ("flatten", (nn.Flatten(),), "0", (7,), "image[0, 1, 1]"),
    ("softmax", (nn.Flatten(), nn.Softmax(1)), "1", (35,), "divided by the sum of them all"),
    ("log softmax", (nn.Flatten(), nn.LogSoftmax(1)), "1", (3,), "and the logarithm of that"),
    ("layer norm", (nn.LayerNorm([1, 6, 6]),), "0", (0, 1, 1), "+ shift 0"),
    ("up", (nn.Upsample(scale_factor=2, mode="bilinear"),), "0", (0, 3, 3), "weight"),
    ("normalise", (nn.ReLU(),), "image", (0, 1, 1), "÷ standard deviation 63.75"),
    ("the pixels", (nn.ReLU(),), "pixels", (0, 1, 1), "value"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("layers", "name", "index", "said"), [case[1:] for case in CASES], ids=[case[0] for case in CASES]
)
def test_why_figures(
    layers: tuple[nn.Module, ...], name: str, index: tuple[int, ...], said: str, written: list[str]
) -> None:
    found = net(*layers)
    why = found.why(name, *index)
    sheet = why.figure()
    assert is_sheet(sheet) and sheet.width < 2400 and sheet.height < 2000
    assert said in written
    assert any(text.startswith(name) for text in written)
    assert any(text.startswith("difference ") for text in written) or name == "pixels"
    assert "it does not agree" not in " ".join(written)


def test_every_step_of_a_network_has_its_figure() -> None:
    class Mixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.big = nn.Conv2d(3, 6, 4, 4), nn.Conv2d(6, 3, 3, padding=1, groups=3)
            self.query, self.norm = nn.Linear(6, 6), nn.LayerNorm(6)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            maps = self.conv(x)
            tokens = maps.flatten(2).transpose(1, 2)
            share = torch.softmax(self.query(self.norm(tokens)) @ tokens.transpose(1, 2) / 6**0.5, -1)
            back = (share @ tokens).transpose(1, 2).reshape(maps.shape)
            gate = torch.cat([back[:, :3], maps[:, 3:] * torch.sigmoid(maps[:, :3])], 1)
            larger: torch.Tensor = self.big(gate - 0.5 * maps)
            return larger.amax((2, 3)).cumsum(1)

    found = net(Mixed(), channels=3, side=16, pixels=False)
    for step in found.steps:
        assert is_sheet(found.why(step.name, *(n // 2 for n in step.shape)).figure())
        assert is_sheet(figures.map_sheet(step))


def test_a_sum_adds_up_as_written(written: list[str]) -> None:
    why = net(nn.Conv2d(1, 12, 1), nn.Conv2d(12, 2, 3)).why("1", 1, 2, 2)
    why.figure()
    bias = written.index("bias")
    numbers = [
        float(text.replace("−", "-")) for text in written if len(text.partition(".")[2]) >= 7 and " " not in text
    ]
    assert "sum" in written[bias:] and len(numbers) == 9  # five channels, the others, bias, sum, recorded
    assert sum(numbers[:7]) == pytest.approx(numbers[7], abs=1e-6)
    assert numbers[7] == pytest.approx(why.sum, rel=1e-5) and numbers[8] == pytest.approx(why.recorded, rel=1e-5)


def test_the_class_stands_in_the_title(written: list[str]) -> None:
    image = torch.randn(1, 1, 5, 5)
    found = trace(build("tiny", (5, 5, 1), 2), image, classes=["line", "ring"])
    found.why("dense1", 1).figure()
    assert written[0] == "dense1, unit 1 (ring)" or "dense1, unit 1 (ring)" in written


# --- attributions, patches, points, scores -----------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(5, 5, 1), (28, 28), (224, 224, 3), (300, 100, 3), (1, 1, 1)])
def test_attributions(shape: Any, written: list[str]) -> None:
    image = random.integers(0, 256, shape).astype(np.uint8)
    maps = [
        ("grad_cam", random.random((7, 7))),
        ("gradients", random.normal(size=shape[:2])),
        ("same", np.zeros(shape[:2])),
    ]
    controls = [(random.random((7, 7)), 0.83), (random.normal(size=shape[:2]), -0.6), None]
    sheet = figures.attribution_sheet(image, maps, controls)
    assert is_sheet(sheet)
    assert written.count("with shuffled weights") == 2
    said = " ".join(written)
    assert "Similarity 0.83: much the same" in said and "Similarity −0.60: quite different" in said


def test_a_map_without_negative_numbers_is_red_over_the_image() -> None:
    image = np.full((64, 64), 128, np.uint8)
    values = np.zeros((64, 64))
    values[:, 32:] = 1
    left, right = (
        np.array(colour_of(attributions._overlay(image[..., None], values, 128), x, 0.5), int) for x in (0.25, 0.75)
    )
    assert np.ptp(left) == 0  # zero: the image alone, in grey
    assert right[0] > right[1] + 60 and right[0] > right[2] + 60
    blue = np.array(colour_of(attributions._overlay(image[..., None], -values, 128), 0.75, 0.5), int)
    assert blue[2] > blue[0] + 60


def test_full_colour_of_large_maps_leaves_out_the_very_largest() -> None:
    values = np.concatenate([np.linspace(0, 1, 9999), [1000.0]]).reshape(100, 100)
    assert attributions._full_from(values) == pytest.approx(0.995, abs=0.001)
    assert attributions._full_from(np.zeros((100, 100))) == 0
    spike = np.zeros((100, 100))
    spike[0, 0] = 5
    assert attributions._full_from(spike) == 5


def test_patches(written: list[str]) -> None:
    patches = [(random.integers(0, 256, (side, 9, 3)).astype(np.uint8), value) for side, value in ((9, 2.0), (5, 1.25))]
    sheet = figures.patches_sheet([("conv1, channel 3", patches), ("none here", []), ("w" * 99, patches[:1])])
    assert is_sheet(sheet) and sheet.width < 800
    assert {"conv1, channel 3", "2.00", "1.25", "none"} <= set(written)
    assert is_sheet(figures.patches_sheet([]))


@pytest.mark.parametrize("classes", [1, 2, 10, 20, 70])
def test_scatter(classes: int, written: list[str]) -> None:
    labels = np.arange(300) % classes
    sheet = figures.scatter(random.normal(size=(300, 2)), labels, [f"class {n}" for n in range(classes)], [0.5, 0.25])
    assert is_sheet(sheet) and sheet.width < 1600 and sheet.height < 1000
    assert "class 0" in written and "first axis: 50.0 % of the variance" in written
    assert any("marks repeat" in text for text in written) == (classes > 28)


def test_marks_of_classes_differ() -> None:
    marks = {points._legend_mark(kind).tobytes() for kind in range(28)}
    assert len(marks) == 28


@pytest.mark.parametrize(
    "points",
    [
        np.zeros((4, 2)),
        np.full((4, 2), np.nan),
        np.array([[0.0, 1.0]] * 3 + [[np.inf, 0.0]]),
        np.array([[0.0, 0.0], [1e9, 1e-9]]),
    ],
)
def test_scatter_of_degenerate_points(points: Any, written: list[str]) -> None:
    assert is_sheet(figures.scatter(points, np.zeros(len(points)), ["a"]))
    assert any("left out" in text for text in written) == (not np.isfinite(points).all())


def test_scores(written: list[str]) -> None:
    sheet = figures.scores_bars(
        torch.tensor([[2.0, -1.0, 0.5]]), ["cat", "dog", "w" * 99], probabilities=[0.9, 0.0004, 0.0996]
    )
    assert is_sheet(sheet) and has(sheet, RED) and has(sheet, BLUE)
    assert {"cat", "dog", "2.000", "−1.000", "90.0 %", "< 0.1 %", "10.0 %"} <= set(written)
    written.clear()
    figures.scores_bars(np.arange(1000.0))
    assert "1,000 classes · the 20 highest shown" in written and "999" in written and "979" not in written
    written.clear()
    figures.scores_bars([-1.5], ["cat", "dog"])
    assert {"dog (below zero: cat)", "−1.500"} <= set(written)
