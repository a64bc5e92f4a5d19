"""Make web/src/pages/convolve/reference.json, for the tests of the page Convolve: chains with every number of theirs.

    python tools/make_convolve_reference.py

The numbers are made by `explain.convolve`, `explain.pool` and Pillow; which outputs a pixel feeds is found by changing
the pixel. The result is always the same, and `tests/studio/test_convolve_reference.py` makes it again.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from convoscope import explain
from convoscope.models import KERNELS

TARGET = Path(__file__).parents[1] / "web" / "src" / "pages" / "convolve" / "reference.json"

Step = dict[str, Any]


def convolve(kernel: str | NDArray[np.float64], border: str = "none", stride: int = 1, dilation: int = 1) -> Step:
    rows = [list(row) for row in KERNELS[kernel].rows] if isinstance(kernel, str) else kernel.tolist()
    return {"kind": "convolve", "kernel": rows, "border": border, "stride": stride, "dilation": dilation}


def pool(kind: str, size: int = 2, stride: int = 2) -> Step:
    return {"kind": "pool", "pool": kind, "size": size, "stride": stride}


RELU: Step = {"kind": "relu"}


def chains() -> list[tuple[str, tuple[int, int, int], int, list[Step]]]:
    """Name, size of the image, the number of white, steps."""
    chance = np.random.default_rng(0)
    return [
        ("plain", (6, 6, 1), 255, [convolve("sobel_x")]),
        ("zeros", (5, 7, 1), 255, [convolve("outline", "zeros")]),
        ("reflect", (6, 5, 1), 255, [convolve("gaussian5", "reflect")]),
        ("replicate", (7, 6, 1), 1, [convolve("emboss", "replicate", stride=2)]),
        ("even", (6, 6, 1), 255, [convolve(chance.normal(size=(2, 4)), "replicate")]),
        ("even_zeros", (7, 5, 1), 1, [convolve(chance.normal(size=(4, 2)), "zeros", dilation=2)]),
        ("dilated", (9, 8, 1), 255, [convolve("laplacian", "reflect", stride=3, dilation=2)]),
        ("wide", (5, 5, 1), 255, [convolve(chance.normal(size=(7, 7)), "reflect")]),
        ("each_channel", (6, 5, 3), 255, [convolve("sharpen", "zeros", stride=2)]),
        ("all_channels", (6, 6, 3), 1, [convolve(chance.normal(size=(3, 3, 3)), "zeros"), RELU]),
        ("max", (7, 6, 1), 255, [pool("max", 3, 2)]),
        ("mean", (6, 7, 3), 255, [pool("mean")]),
        ("sum", (6, 6, 1), 255, [pool("sum", 3, 1)]),
        (
            "chain",
            (14, 16, 3),
            255,
            [convolve("sobel_y", "zeros"), RELU, pool("max"), convolve("blur", "replicate"), pool("mean", 3, 1)],
        ),
    ]


def results(image: NDArray[np.float64], steps: list[Step]) -> list[NDArray[np.float64]]:
    """What each step makes, `(H, W, C)`."""
    made = []
    for step in steps:
        if step["kind"] == "convolve":
            options = {key: step[key] for key in ("border", "stride", "dilation")}
            image = explain.convolve(image, step["kernel"], **options)
        elif step["kind"] == "pool":
            image = explain.pool(image, step["pool"], step["size"], step["stride"])
        else:
            image = np.maximum(image, 0)
        image = image if image.ndim == 3 else image[:, :, None]
        made.append(image)
    return made


def fed(step: Step, size: tuple[int, ...], y: int, x: int) -> list[list[int]]:
    """The outputs of a step that change with the pixel (y, x)."""
    if step["kind"] == "convolve":
        summing = step | {"kernel": np.ones(np.shape(step["kernel"])[:2]).tolist()}
    else:
        summing = pool("sum", step["size"], step["stride"])
    still = np.zeros((size[0], size[1], 1))
    moved = still.copy()
    moved[y, x] = 1
    before, after = (results(image, [summing])[0] for image in (still, moved))
    return np.argwhere((before != after)[:, :, 0]).tolist()


def content() -> dict[str, Any]:
    chance = np.random.default_rng(1)
    cases = []
    for name, size, full, steps in chains():
        pixels = chance.integers(0, 256, size).astype(np.float64)
        made = results(pixels if full == 255 else pixels / 255, steps)
        last = made[-1]
        cell = [int(chance.integers(0, side)) for side in last.shape]
        within = [(int(chance.integers(size[0])), int(chance.integers(size[1]))) for _ in range(3)]
        places = [(0, 0), (size[0] - 1, size[1] - 1), *within]
        cases.append(
            {
                "name": name,
                "size": size,
                "full": full,
                "pixels": pixels.ravel().astype(int).tolist(),
                "steps": steps,
                "results": [{"size": image.shape, "values": image.ravel().tolist()} for image in made],
                "cell": {"y": cell[0], "x": cell[1], "channel": cell[2], "value": last[tuple(cell)].item()},
                "fed": [{"y": y, "x": x, "outputs": fed(steps[0], size, y, x)} for y, x in places],
            }
        )
    colours = chance.integers(0, 256, (8, 8, 3)).astype(np.uint8)
    grey = np.asarray(Image.fromarray(colours).convert("L"))
    return {"cases": cases, "grey": {"colours": colours.ravel().tolist(), "grey": grey.ravel().tolist()}}


def text() -> str:
    """The file: a line for each chain."""
    made = content()
    cases = ",\n".join(json.dumps(case) for case in made["cases"])
    return f'{{"cases": [\n{cases}\n],\n"grey": {json.dumps(made["grey"])}}}\n'


if __name__ == "__main__":
    TARGET.write_text(text(), encoding="utf-8")
