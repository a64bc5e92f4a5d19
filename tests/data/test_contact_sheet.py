"""The contact sheet: a PNG for every kind of dataset and every name, with pixels kept sharp."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageFont

from convoscope.data.builtin import load_builtin
from convoscope.data.contact_sheet import _MORE_FONTS, _fonts, contact_sheet
from convoscope.data.dataset import Dataset, InputFormat
from convoscope.data.sources import ArrayImages, Stack
from convoscope.data.store import Prepared, prepare
from convoscope.errors import DataError, MachineError
from convoscope.render import font


def of_pixels(pixels: np.ndarray, **more: Any) -> Prepared:
    count, height, width, channels = pixels.shape
    dataset = Dataset(
        **{
            "source": "an array",
            "layout": "npy",
            "task": "classification",
            "classes": ("a", "b"),
            "names": [str(row) for row in range(count)],
            "targets": np.arange(count, dtype=np.int64) % 2,
            "splits": np.zeros(count, np.int8),
            "images": ArrayImages([Stack(pixels, "pixels", axes="NHWC")]),
            **more,
        }
    )
    return Prepared(dataset, pixels, [""] * count, InputFormat(height=height, width=width, channels=channels))


def noise(count: int, height: int = 8, width: int = 8, channels: int = 1) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, height, width, channels), dtype=np.uint8)


def test_each_pixel_of_a_tiny_image_is_a_sharp_square(tmp_path: Path) -> None:
    prepared = prepare(load_builtin("builtin:lines"), InputFormat(height=5, width=5, channels=1))
    path = contact_sheet(prepared, tmp_path / "sheet.png", per_class=3, cell=84)
    sheet = np.asarray(Image.open(path))
    # 84 / 5 rounds to 17: the first image lies in its row beside the labels.
    first = sheet[76 : 76 + 85, 24 + 190 : 24 + 190 + 85, 0].reshape(5, 17, 5, 17)
    assert (first == first[:, :1, :, :1]).all(), "every pixel a square of 17 x 17"
    shown = first[:, 0, :, 0]
    assert any(np.array_equal(shown, image[..., 0]) for image in prepared.pixels[prepared.dataset.targets == 0])


def test_the_same_seed_gives_the_same_sheet(tmp_path: Path) -> None:
    prepared = of_pixels(noise(80))
    one, two, other = (
        contact_sheet(prepared, tmp_path / f"{name}.png", seed=seed).read_bytes()
        for name, seed in (("one", 1), ("two", 1), ("other", 2))
    )
    assert one == two != other


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 5])
@pytest.mark.parametrize(("height", "width"), [(1, 1), (28, 28), (300, 20), (20, 300), (128, 128)])
def test_any_shape_and_number_of_channels(tmp_path: Path, height: int, width: int, channels: int) -> None:
    path = contact_sheet(of_pixels(noise(6, height, width, channels)), tmp_path / "sheet.png")
    with Image.open(path) as sheet:
        assert sheet.mode == "RGB" and sheet.width <= 3000 and sheet.height <= 1000


def test_many_classes_are_bounded_and_said(tmp_path: Path) -> None:
    count = 345
    prepared = of_pixels(
        noise(count), classes=tuple(f"class {k}" for k in range(count)), targets=np.arange(count, dtype=np.int64)
    )
    with Image.open(contact_sheet(prepared, tmp_path / "sheet.png", max_classes=40)) as sheet:
        assert sheet.height == 2 * 24 + 52 + 40 * (80 + 4)


@pytest.mark.parametrize(
    "name",
    [
        "кошка",
        "猫",
        "قطة",
        "🐈",
        "-dash",
        "a\x1b[31mred\n",
        "x" * 5000,
        "<img onerror>",
        "\udce9\udcff",
        "",
        " ",
        "e\u0301",
        "\u202eabc",
    ],
)
def test_any_name_can_be_written(tmp_path: Path, name: str) -> None:
    prepared = of_pixels(noise(4), classes=(name, "b"), source=name)
    with Image.open(contact_sheet(prepared, tmp_path / "sheet.png")) as sheet:
        assert sheet.width < 1000
        assert (np.asarray(sheet)[:, 24:214] < 100).any(), "something is written"


def test_labels_and_numbers_have_rows_too(tmp_path: Path) -> None:
    labels = of_pixels(noise(9), task="multi-label", targets=(np.arange(18).reshape(9, 2) % 3 == 0).astype(np.uint8))
    with Image.open(contact_sheet(labels, tmp_path / "labels.png")) as sheet:
        assert sheet.height == 2 * 24 + 52 + 3 * 84  # a, b, (no label)
    numbers = of_pixels(noise(9), task="regression", targets=np.arange(18, dtype=np.float32).reshape(9, 2))
    with Image.open(contact_sheet(numbers, tmp_path / "numbers.png")) as sheet:
        assert sheet.height == 2 * 24 + 52 + 5 * 84


def test_a_class_without_images_keeps_its_row(tmp_path: Path) -> None:
    path = contact_sheet(of_pixels(noise(3), targets=np.zeros(3, np.int64)), tmp_path / "sheet.png")
    with Image.open(path) as sheet:
        assert sheet.height == 2 * 24 + 52 + 2 * 84
        rows = np.asarray(sheet)[24 + 52 :].reshape(-1, sheet.width, 3)
    pictures = rows[:, 24 + 190 :]
    assert (pictures[:84] < 255).any() and (pictures[84 : 2 * 84] == 255).all(), "its row is empty"
    assert (rows[84 : 2 * 84, 24:200] < 100).any(), "its name is there"


def test_no_images_no_sheet(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no images") as caught:
        contact_sheet(of_pixels(noise(0)), tmp_path / "sheet.png")
    assert caught.value.code == "no-images"


def test_a_place_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(MachineError):
        contact_sheet(of_pixels(noise(2)), tmp_path / "nowhere" / "sheet.png")


def test_no_font_is_taken_from_the_working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own, before = font(13), len(_fonts(13))
    assert isinstance(own, ImageFont.FreeTypeFont)
    for name in _MORE_FONTS:
        shutil.copy(str(own.path), tmp_path / name)
    monkeypatch.chdir(tmp_path)
    _fonts.cache_clear()
    assert len(_fonts(13)) == before
