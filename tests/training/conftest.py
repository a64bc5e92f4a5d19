"""A small set of images that a small network learns in a second."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from convoscope.training import Run, train
from tests.support.runs import BACKBONE, OTHERS, taught


def draw(label: int, number: int) -> Image.Image:
    """A noisy 12x12 picture: a bar that lies, stands, or a square in the middle."""
    rng = np.random.default_rng(1000 * label + number)
    picture = rng.integers(0, 60, (12, 12), dtype=np.uint8)
    place = int(rng.integers(2, 9))
    if label == 0:
        picture[place : place + 2] = 220
    elif label == 1:
        picture[:, place : place + 2] = 220
    else:
        picture[4:8, 4:8] = 220
    return Image.fromarray(picture)


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Class folders with 3 classes of 40 pictures."""
    root = tmp_path_factory.mktemp("pictures")
    for label, name in enumerate(("lying bar", "standing bar", "square")):
        (root / name).mkdir()
        for number in range(40):
            draw(label, number).save(root / name / f"{number}.png")
    return root


@pytest.fixture(scope="session")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("backbone") / "run"
    return train(
        "builtin:drawings/apple,banana,cat,fish,tree",
        BACKBONE,
        output=folder,
        epochs=6,
        precision="float32",
        flip=False,
    )


@pytest.fixture(scope="session")
def relearned(backbone: Run, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return taught(backbone, OTHERS, output=tmp_path_factory.mktemp("relearned") / "run")
