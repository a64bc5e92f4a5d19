"""Numbers as pixels: sizes, channels and signs."""

import numpy as np
import pytest
from PIL import Image

from convoscope.render import enlarge, signed_image, to_image


@pytest.mark.parametrize(("channels", "mode"), [(1, "L"), (2, "L"), (3, "RGB"), (5, "RGB")])
def test_the_first_channels_are_shown(channels: int, mode: str) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (4, 6, channels), np.uint8)
    image = to_image(pixels)
    assert image.mode == mode and image.size == (6, 4)
    assert np.array_equal(np.asarray(image).reshape(4, 6, -1), pixels[:, :, : len(mode)])


@pytest.mark.parametrize(
    ("size", "side", "wanted"), [((4, 3), 10, (8, 6)), ((20, 10), 10, (10, 5)), ((10, 1), 10, (10, 1)), ((300, 1), 10, (10, 1))]
)  # fmt: skip
def test_small_images_grow_by_whole_steps_and_large_ones_shrink(
    size: tuple[int, int], side: int, wanted: tuple[int, int]
) -> None:
    assert enlarge(Image.new("L", size), side).size == wanted


def test_signs_are_colours_and_sizes_are_opacity() -> None:
    pixels = np.asarray(signed_image(np.array([[-1.0, 0.0, 0.5]]), 1.0)).astype(int)
    assert pixels[0, :, 3].tolist() == [255, 0, 128]
    assert pixels[0, 0, 2] > pixels[0, 0, 0] and pixels[0, 2, 0] > pixels[0, 2, 2]
    assert not np.asarray(signed_image(np.array([[1.0]]), 0.0))[..., 3].any()
