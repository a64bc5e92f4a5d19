"""What the tests of drawings share: traces of small networks, and looks at a picture's pixels."""

import numpy as np
import torch
from PIL import Image
from torch import nn

from convoscope.explain import Trace, trace
from convoscope.training import Normalisation

RED, BLUE, WHITE = (0xC2, 0x2A, 0x35), (0x1F, 0x5F, 0xBF), (255, 255, 255)
random = np.random.default_rng(0)


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
