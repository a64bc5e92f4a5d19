"""Make web/src/pages/tiny/reference.json and sets.json, for the tests of the page Tiny: passes and training steps with
every number, and the three sets of images as the studio gives them for seed 0.

    python tools/make_tiny_reference.py

The networks are built by `models.build` and opened by `explain.trace` and `explain.training_step`, in float64. The
result is always the same, and `tests/studio/test_tiny_reference.py` makes it again.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from convoscope import data, explain, models
from convoscope.studio.routes.tiny import TinyImage, tiny

PAGE = Path(__file__).parents[1] / "web" / "src" / "pages" / "tiny"
RATE = 0.05

Shape = dict[str, Any]
SHAPES: list[tuple[Shape, str]] = [
    *(
        (
            {"filters": filters, "inARow": False},
            f"conv({filters}, 3, padding=valid, bias=false) maxpool(2, stride=1) flatten dense",
        )
        for filters in (1, 2, 3, 4)
    ),
    (
        {"filters": 1, "inARow": True},
        "conv(1, 3, padding=valid, bias=false) relu conv(1, 3, bias=false) maxpool(2, stride=1) flatten dense",
    ),
]


def images() -> dict[str, NDArray[np.float64]]:
    """An image of each set, one of chance, and one of nothing, where all windows of the pooling are ties."""
    form = data.InputFormat(height=5, width=5, channels=1)
    drawn = {
        name: data.load(f"builtin:{name}", seed=0).images.decode(0, form)[:, :, 0] / 255.0
        for name in ("lines", "shapes", "fruits")
    }
    return drawn | {"noise": np.random.default_rng(2).random((5, 5)), "blank": np.zeros((5, 5))}


def flat(tensor: Tensor) -> list[float]:
    return tensor.detach().flatten().tolist()


def case(shape: Shape, text: str, name: str, image: NDArray[np.float64], label: int, seed: int) -> dict[str, Any]:
    network = models.build(text, (5, 5, 1), 2).double()
    size = parameters_to_vector(network.parameters()).numel()
    drawn = torch.from_numpy(np.random.default_rng(seed).normal(size=size))
    vector_to_parameters(drawn, network.parameters())
    pixels = torch.from_numpy(image)[None]
    steps = {step.name: step.output for step in explain.trace(network, pixels).steps}
    moved = explain.training_step(network, pixels, label, learning_rate=RATE)
    first = {"map": flat(steps["conv1"]), "relu": flat(steps["relu1"])} if shape["inARow"] else None
    return {
        "name": f"{name}, {shape['filters']} filters" + (" in a row" if shape["inARow"] else ""),
        "shape": shape,
        "text": text,
        "pixels": image.ravel().tolist(),
        "label": label,
        "rate": RATE,
        "parameters": drawn.tolist(),
        "first": first,
        "maps": flat(steps["conv2" if shape["inARow"] else "conv1"]),
        "pooled": flat(steps["maxpool1"]),
        "scores": flat(steps["dense1"]),
        "probabilities": flat(moved.probabilities),
        "loss": moved.backward.loss,
        "gradients": [value for gradient in moved.backward.gradients.values() for value in flat(gradient)],
        "after": [value for parameter in moved.after.values() for value in flat(parameter)],
        "lossAfter": moved.loss_after,
    }


def content() -> list[dict[str, Any]]:
    pictures = images()
    return [
        case(shape, text, name, image, (number + at) % 2, seed=10 * number + at)
        for number, (shape, text) in enumerate(SHAPES)
        for at, (name, image) in enumerate(pictures.items())
    ]


def sets() -> list[dict[str, Any]]:
    """The pixels as bytes, 0 to 255."""

    def part(images: list[TinyImage]) -> list[dict[str, Any]]:
        return [{"label": image.label, "pixels": [round(255 * value) for value in image.pixels]} for image in images]

    made = [tiny(name, seed=0) for name in ("lines", "shapes", "fruits")]
    return [{"name": drawn.name, "train": part(drawn.train), "test": part(drawn.test)} for drawn in made]


def text(rows: list[dict[str, Any]]) -> str:
    """A list as a file, a line for each entry."""
    return "[\n" + ",\n".join(json.dumps(row) for row in rows) + "\n]\n"


if __name__ == "__main__":
    (PAGE / "reference.json").write_text(text(content()), encoding="utf-8")
    (PAGE / "sets.json").write_text(text(sets()), encoding="utf-8")
