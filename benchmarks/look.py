"""Seconds that `convoscope look` takes beyond its imports, and milliseconds of one `why`: a 28x28 network and a
ResNet-18 at 224x224.

    .venv/bin/python benchmarks/look.py

Both runs are trained for one epoch on a few generated images: what is looked at does not change the time.
"""

from __future__ import annotations

import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

ROUNDS = 3
RUNS = {"fashion, 28x28x1": ("fashion", (28, 28, 1)), "resnet18, 224x224x3": ("torchvision:resnet18", (224, 224, 3))}


def seconds(*command: str) -> float:
    begin = time.perf_counter()
    subprocess.run([sys.executable, *command], check=True, capture_output=True)
    return time.perf_counter() - begin


def main() -> None:
    from PIL import Image

    from convoscope import data, explain, training

    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        for name, (model, shape) in RUNS.items():
            images = np.random.default_rng(0).integers(0, 256, (20, *shape), np.uint8)
            run = training.train(
                data.from_arrays(images, np.arange(20) % 2), model, size=shape[:2], channels=shape[2], resize="fit",
                output=folder / model.replace(":", "-"), epochs=1, batch_size=8, precision="float32",
            )  # fmt: skip
            Image.fromarray(images[0].squeeze()).save(folder / "image.png")
            command = [
                "-m",
                "convoscope",
                "look",
                str(run.folder),
                str(folder / "image.png"),
                "--out",
                str(folder / "out"),
            ]
            imports = [
                "-c",
                "import convoscope.explain, convoscope.cli, convoscope.cli.sheets, convoscope.cli.tables, torchvision",
            ]
            imports[1] = imports[1] if "resnet" in model else imports[1].replace(", torchvision", "")
            beyond = [seconds(*command) - seconds(*imports) for _ in range(ROUNDS)]
            found = explain.look(run, images[0]).trace
            chance, times = random.Random(0), []
            for _ in range(300):
                step = chance.choice(found.steps[2:])
                unit = [chance.randrange(n) for n in step.shape]
                begin = time.perf_counter()
                found.why(step.name, *unit)
                times.append(1000 * (time.perf_counter() - begin))
            print(
                f"{name}: look {statistics.median(beyond):.2f} s beyond the imports "
                f"({min(beyond):.2f} to {max(beyond):.2f}), "
                f"why {statistics.median(times):.2f} ms, the slowest of 300 {max(times):.1f} ms"
            )


if __name__ == "__main__":
    main()
