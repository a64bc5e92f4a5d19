"""The rules of resizing, against the same rules in plain NumPy; and one picture by every way of handing it over."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageOps

from convoscope.data import InputFormat, Resize, open_image
from tests.support.pictures import colourful, encoded, exif, jpeg

RESIZES: list[Resize] = ["fit", "crop", "stretch"]


# --- the rules, as docs/data.md has them --------------------------------------------------------------------------------


def weights(before: int, after: int) -> np.ndarray:
    """(after, before): the triangle filter, in whole multiples of 2^-22."""
    scale = before / after
    centres = (np.arange(after) + 0.5) * scale
    reach = max(1.0, scale)
    share = np.maximum(0.0, 1 - np.abs(np.arange(before)[None] + 0.5 - centres[:, None]) / reach)
    share /= share.sum(axis=1, keepdims=True)
    return np.asarray(np.floor(share * 2**22 + 0.5), np.int64)


def along(pixels: np.ndarray, axis: int, after: int) -> np.ndarray:
    if pixels.shape[axis] == after:
        return pixels
    sums = np.tensordot(weights(pixels.shape[axis], after), pixels.astype(np.int64), (1, axis))
    rounded: np.ndarray = np.clip((sums + 2**21) >> 22, 0, 255).astype(np.uint8)
    return np.moveaxis(rounded, 0, axis)


def half_up(numerator: int, denominator: int) -> int:
    return int(np.floor(numerator / denominator + 0.5))


def by_the_rules(pixels: np.ndarray, form: InputFormat) -> np.ndarray:
    height, width = pixels.shape[:2]
    high, wide = form.height, form.width
    if form.resize == "crop":
        if width / height > wide / high:
            cut = max(1, half_up(height * wide, high))
            pixels = pixels[:, (width - cut) // 2 :][:, :cut]
        else:
            cut = max(1, half_up(width * high, wide))
            pixels = pixels[(height - cut) // 2 :][:cut]
        height, width = pixels.shape[:2]
    elif form.resize == "fit":
        if width / height > wide / high:
            high = max(1, half_up(height * wide, width))
        else:
            wide = max(1, half_up(width * high, height))
    columns_first = high < height and height - high > 2 * (width - wide)
    for axis in (0, 1) if columns_first else (1, 0):
        pixels = along(pixels, axis, (high, wide)[axis])
    border = np.concatenate((pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]))
    framed = np.empty((form.height, form.width, pixels.shape[2]), np.uint8)
    framed[...] = np.floor(np.median(border, axis=0))
    top, left = (form.height - high) // 2, (form.width - wide) // 2
    framed[top : top + high, left : left + wide] = pixels
    return framed


@given(
    size=st.tuples(st.integers(1, 90), st.integers(1, 90)),
    out=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    channels=st.sampled_from([1, 3]),
    resize=st.sampled_from(RESIZES),
    seed=st.integers(0, 99),
)
def test_resizing_follows_its_rules_bit_for_bit(
    size: tuple[int, int], out: tuple[int, int], channels: int, resize: Resize, seed: int
) -> None:
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, channels), dtype=np.uint8)
    form = InputFormat(height=out[0], width=out[1], channels=channels, resize=resize)
    assert np.array_equal(open_image(pixels, form), by_the_rules(pixels, form))


@pytest.mark.parametrize("size", [(480, 640), (700, 90), (90, 700)])
def test_pictures_far_larger_than_the_frame(size: tuple[int, int]) -> None:
    pixels = colourful(*size)
    for resize in RESIZES:
        form = InputFormat(height=24, width=31, channels=3, resize=resize)
        assert np.array_equal(open_image(pixels, form), by_the_rules(pixels, form))


# --- one picture, every way -----------------------------------------------------------------------------------------------


def noisy(height: int = 180, width: int = 140) -> Image.Image:
    noise = np.random.default_rng(0).normal(0, 30, (height, width, 3))
    return Image.fromarray(np.clip(colourful(height, width) + noise, 0, 255).astype(np.uint8))


def cmyk_without_marker() -> bytes:
    data = encoded(noisy().convert("CMYK"), "JPEG", quality=90)
    start = data.index(b"\xff\xee")
    return data[:start] + data[start + 16 :]


def sampled(kind: str) -> Callable[[], bytes]:
    return lambda: encoded(noisy(), "JPEG", quality=88, subsampling=kind)


PICTURES: dict[str, Callable[[], bytes]] = {
    **{f"JPEG {kind}": sampled(kind) for kind in ("4:4:4", "4:2:2", "4:2:0", "4:1:1")},
    "progressive JPEG": lambda: encoded(noisy(), "JPEG", quality=80, progressive=True),
    "JPEG of odd sides": lambda: encoded(noisy(173, 131), "JPEG", quality=90),
    "tall JPEG": lambda: jpeg(700, 60),
    "JPEG on its side": lambda: encoded(noisy(), "JPEG", quality=90, exif=exif(6)),
    "grey JPEG": lambda: encoded(noisy().convert("L"), "JPEG", quality=90),
    "CMYK JPEG": lambda: encoded(noisy().convert("CMYK"), "JPEG", quality=90),
    "CMYK JPEG without Adobe's marker": cmyk_without_marker,
    "PNG": lambda: encoded(noisy()),
    "PNG with opacity": lambda: encoded(Image.merge("RGBA", (*noisy().split(), noisy().getchannel(0)))),
    "grey PNG with opacity": lambda: encoded(Image.merge("LA", noisy().split()[:2])),
    "palette": lambda: encoded(noisy().quantize(40)),
    "palette with transparency": lambda: encoded(noisy().quantize(40), transparency=3),
    "one-bit PNG": lambda: encoded(noisy().convert("1")),
    "16-bit PNG": lambda: encoded(Image.fromarray(np.asarray(noisy().convert("L")).astype(np.uint16) * 251)),
    "GIF": lambda: encoded(noisy().quantize(64), "GIF"),
    "WEBP": lambda: encoded(noisy(), "WEBP", quality=80),
    "BMP": lambda: encoded(noisy(), "BMP"),
    "16-bit TIFF": lambda: encoded(Image.fromarray(np.asarray(noisy().convert("L")).astype(np.uint16) * 251), "TIFF"),
    "TIFF on its side": lambda: encoded(noisy(), "TIFF", tiffinfo={274: 8}),
}


def every_way(data: bytes, path: Path) -> dict[str, Any]:
    """The picture as it can be handed over, the arrays upright and with all that the file says."""
    path.write_bytes(data)
    loaded = Image.open(io.BytesIO(data))
    loaded.load()
    upright = ImageOps.exif_transpose(loaded)
    ways = {
        "path": str(path),
        "pathlib": path,
        "bytes": data,
        "Pillow, not loaded": Image.open(io.BytesIO(data)),
        "Pillow, loaded": loaded,
    }
    inverted = loaded.mode == "CMYK" and "adobe" not in loaded.info
    if not inverted:  # a copy does not know any more that it was a JPEG
        ways["Pillow, upright"] = upright
    if loaded.mode in ("L", "RGB", "1", "I;16", "RGBA", "LA", "CMYK") and not inverted:
        array = np.asarray(upright.convert("RGB") if loaded.mode == "CMYK" else upright)
        ways |= {"array": array, "another order in memory": np.asfortranarray(array)}
        if array.ndim == 3:
            ways["channels first"] = array.transpose(2, 0, 1)
        if array.dtype == np.uint8:
            ways |= {"float 0..1": array / 255, "float32 0..1": (array / 255).astype(np.float32)}
            ways |= {"float 0..255": array.astype(np.float32), "int64": array.astype(np.int64)}
    return ways


@pytest.mark.parametrize("name", PICTURES)
def test_every_way_of_handing_over_gives_the_same_pixels(name: str, tmp_path: Path) -> None:
    data = PICTURES[name]()
    for resize in RESIZES:
        for channels in (1, 3):
            form = InputFormat(height=33, width=40, channels=channels, resize=resize)
            expected = open_image(data, form, tiff=True)
            for way, source in every_way(data, tmp_path / "picture").items():
                assert np.array_equal(open_image(source, form, tiff=True), expected), (way, resize, channels)
                assert np.array_equal(open_image(source, form, tiff=True), expected), f"{way}, once more"


class Held:
    """An array of another library, which NumPy can read."""

    def __init__(self, values: np.ndarray) -> None:
        self.values = values

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        return self.values


def test_what_another_library_holds_is_an_array() -> None:
    pixels = colourful(30, 44)
    form = InputFormat(height=20, width=20, channels=3)
    expected = open_image(pixels, form)
    assert np.array_equal(open_image(Held(pixels), form), expected)
    assert np.array_equal(open_image(Held(pixels.transpose(2, 0, 1) / np.float32(255)), form), expected)


def test_channels_come_first_only_where_they_cannot_come_last() -> None:
    form = InputFormat(height=4, width=5, channels=3, resize="stretch")
    ambiguous = np.random.default_rng(0).integers(0, 256, (3, 4, 3), dtype=np.uint8)
    assert np.array_equal(open_image(ambiguous, form), by_the_rules(ambiguous, form))
    five = np.random.default_rng(0).integers(0, 256, (8, 9, 5), dtype=np.uint8)
    wanted = InputFormat(height=4, width=5, channels=5)
    assert np.array_equal(open_image(five.transpose(2, 0, 1), wanted), open_image(five, wanted))
