"""Numbers of other kinds than 8 bits: what stands for white, and images on which nothing is to be seen."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from convoscope.data import (
    Dataset,
    InputFormat,
    concerns,
    from_arrays,
    inspect,
    load,
    open_image,
    prepare,
    suggest_format,
)
from convoscope.data.decode import decode_bytes
from convoscope.data.levels import even_toned, to_uint8, white_of
from convoscope.errors import DataError, UsageError
from tests.support.pictures import colourful, encoded


def deep(top: int, seed: int = 0) -> np.ndarray:
    """A grey picture (20, 24) whose numbers reach from 0 to `top`."""
    return np.asarray(np.rint(colourful(20, 24, seed)[:, :, 0] * (top / 255)), np.uint16)


def folder(root: Path, top: int, ending: str = "png") -> Path:
    for kind in ("a", "b"):
        (root / kind).mkdir(parents=True)
        for row in range(6):
            levels = deep(top, row + 10 * (kind == "b"))
            Image.fromarray(levels).save(root / kind / f"{row}.{ending}")
    return root


@pytest.mark.parametrize(("most", "white"), [(1, 1), (100, 127), (255, 255), (2000, 2047), (4095, 4095), (4096, 8191)])
def test_white_is_the_largest_number_of_as_many_bits(most: int, white: int) -> None:
    assert white_of(most) == white


@pytest.mark.parametrize("top", [100, 255, 2000, 4095, 65535])
def test_pictures_of_more_than_8_bits_are_scaled_by_their_own_set(top: int, tmp_path: Path) -> None:
    dataset = load(folder(tmp_path, top))
    form, _ = suggest_format(dataset)
    white = white_of(top)
    assert form == InputFormat(height=20, width=24, channels=1, white=white)
    prepared = prepare(dataset, form, cache=tmp_path / "cache")
    row = list(prepared.dataset.names).index("a/3.png")
    expected = np.rint(deep(top, 3).astype(float) * 255 / white)
    assert np.array_equal(prepared.pixels[row, :, :, 0], expected)
    assert prepared.even == 0
    levels = deep(top, 3)
    for source in (tmp_path / "a" / "3.png", Image.fromarray(levels), levels, levels.astype(">u2")):
        assert np.array_equal(open_image(source, form)[:, :, 0], expected)
    if top > 255:  # smaller numbers of 32 bits are taken for 8-bit ones unless white says otherwise
        assert np.array_equal(open_image(levels.astype(np.int32), form)[:, :, 0], expected)
        assert np.array_equal(open_image(Image.fromarray(levels.astype(np.int32)), form)[:, :, 0], expected)
    found = inspect(dataset)
    said = f"images of more than 8 bits: {white:,} becomes white, as no larger number was seen"
    assert (said in found.notes) == (white not in (255, 65535))
    assert not found.warnings


@pytest.mark.parametrize("top", [300, 4095])
def test_tiffs_too(top: int, tmp_path: Path) -> None:
    dataset = load(folder(tmp_path, top, "tif"), tiff=True)
    assert suggest_format(dataset)[0].white == white_of(top)
    levels = deep(top)
    form = InputFormat(height=20, width=24, channels=1, white=white_of(top))
    expected = open_image(levels, form)
    big_endian = Image.frombytes("I;16B", (24, 20), levels.astype(">u2").tobytes())
    for image in (Image.fromarray(levels), big_endian, Image.fromarray(levels.astype(np.int32))):
        assert np.array_equal(open_image(encoded(image, "TIFF"), form, tiff=True), expected)
    floats = Image.fromarray((levels / top).astype(np.float32))
    shares = np.rint(levels.astype(np.float32) / top * 255)[:, :, None]
    assert np.array_equal(open_image(encoded(floats, "TIFF"), form, tiff=True), shares)


def test_numbers_above_white_are_said() -> None:
    decoded = decode_bytes(encoded(Image.fromarray(deep(4095))), InputFormat(height=9, width=9, channels=1, white=1023))
    assert decoded.note == "holds numbers above 1,023, which count as white"
    assert decoded.most == deep(4095).max()


def test_arrays_of_one_set_share_their_white() -> None:
    images = np.stack([deep(4095, row) for row in range(12)])
    images[3:6] //= 4  # dark ones
    dataset = from_arrays(images, [0, 1] * 6)
    assert "images: its values are taken as 0..4095 and become 0..255" in dataset.notes
    form, _ = suggest_format(dataset)
    assert form.white == 4095
    prepared = prepare(dataset, form)
    other = from_arrays(images[3:6].repeat(2, axis=0), [0, 1] * 3)  # alone they would be taken to end at 1,023
    assert suggest_format(other)[0].white == 1023
    assert np.array_equal(prepare(other, form).pixels[0], prepared.pixels[3])
    for row in range(12):
        assert np.array_equal(prepared.pixels[row], open_image(images[row], form))
        assert np.array_equal(prepared.pixels[row], dataset.images.decode(row, form))


@pytest.mark.parametrize(
    ("values", "white", "expected"),
    [
        (np.array([0.0, 0.5, 1.0]), None, [0, 128, 255]),
        (np.array([0.0, 1.0, 0.0]), 255, [0, 1, 0]),
        (np.array([0.0, 1.0, 0.0]), 1, [0, 255, 0]),
        (np.array([0.0, 0.25, 1.0]), 255, [0, 64, 255]),
        (np.array([-0.001, 0.5, 1.001]), 1, [0, 128, 255]),
        (np.array([0.0, 1.5, 254.6]), None, [0, 2, 255]),
        (np.array([0, 1, 255]), None, [0, 1, 255]),
        (np.array([0, 257, 65535]), None, [0, 1, 255]),
        (np.array([0, 257, 65535], np.uint16), 1, [0, 1, 255]),
        (np.array([0, 1, 100], np.uint16), None, [0, 0, 0]),
        (np.array([0, 1, 100]), 127, [0, 2, 201]),
        (np.array([False, True]), 4095, [0, 255]),
        (np.array([7, 9], np.uint8), 4095, [7, 9]),
    ],
)
def test_what_numbers_mean(values: np.ndarray, white: int | None, expected: list[int]) -> None:
    assert to_uint8(values, white).tolist() == expected


@pytest.mark.parametrize(
    "bad", [np.array([-1, 5]), np.array([0.0, 300.0]), np.array([0, 70_000]), np.array([-0.4, 0.9])]
)
def test_numbers_that_mean_no_brightness(bad: np.ndarray) -> None:
    with pytest.raises(DataError, match="expected uint8, bool, whole numbers") as caught:
        to_uint8(bad)
    assert caught.value.code == "bad-array"


def test_an_impossible_white() -> None:
    with pytest.raises(UsageError, match="must be 1 to 65,535; received 0") as caught:
        open_image(colourful(), InputFormat(height=9, width=9, channels=3, white=0))
    assert caught.value.code == "bad-white"


# --- even tones ---------------------------------------------------------------------------------------------------------


def test_images_of_one_even_tone() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (1, 40, 40, 3), dtype=np.uint8)
    flat = np.full((1, 40, 40, 3), (200, 30, 90), np.uint8)
    spot = np.zeros((1, 40, 40, 3), np.uint8)
    spot[0, 18:23, 18:23] = 255
    dark = (noise // 64).astype(np.uint8)
    assert even_toned(np.concatenate([noise, flat, spot, dark])).tolist() == [False, True, False, True]
    assert even_toned(np.zeros((0, 4, 4, 1), np.uint8)).tolist() == []


def black(count: int, of: int) -> Dataset:
    images = np.stack([colourful(20, 20, row) for row in range(of)])
    images[:count] //= 64
    return from_arrays(images, [0, 1] * (of // 2))


@pytest.mark.parametrize("count", [6, 7])
def test_most_images_of_one_tone_are_warned_of(count: int, tmp_path: Path) -> None:
    dataset = black(count, 12)
    said = "7 of 12 images are of one even tone, such as black: see that the numbers in the files fill their range"
    for form in (suggest_format(dataset)[0], InputFormat(height=16, width=16, channels=1)):
        prepared = prepare(dataset, form, cache=tmp_path)
        assert prepared.even == count
        assert (said in concerns(prepared)) == (count == 7)
    assert (said in inspect(dataset).warnings) == (count == 7)


def test_the_store_remembers_even_tones(tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    for kind in ("a", "b"):
        (tmp_path / "x" / kind).mkdir()
        for row in range(4):
            Image.new("RGB", (9, 9), (row, 0, 0)).save(tmp_path / "x" / kind / f"{row}.png")
    form = InputFormat(height=9, width=9, channels=3)
    dataset = load(tmp_path / "x")
    again: list[Any] = [prepare(dataset, form, cache=tmp_path / "cache").even for _ in range(2)]
    assert again == [8, 8]
