"""Images a second and peak memory of a run's answers: EfficientNet-Lite0 at 256x256, ResNet-18 at 224x224, `fashion`.

    .venv/bin/python benchmarks/inference.py
    .venv/bin/python benchmarks/inference.py --against OTHER_CHECKOUT/src --images 128

With `--against`, another version of convoscope answers the same images, in turns with this one, and the largest
difference of the scores is printed. The runs are of generated images: what is answered does not change the time.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

RUNS = {
    "efficientnet-lite0, 256x256x3": ("imagenet", (256, 256, 3), 1),
    "resnet18, 224x224x3": ("torchvision:resnet18", (224, 224, 3), 1),
    "fashion, 28x28x1": ("fashion", (28, 28, 1), 40),
}
"""Model, size, and how many times as many images are answered."""

CHILD = """
import resource, sys, time
import numpy as np
from convoscope.training import Run
pixels = np.load(sys.argv[2])
run = Run.open(sys.argv[1])
run.scores(pixels[:2])
begin, cpu = time.perf_counter(), time.process_time()
scores, _ = run.scores_and_distances(pixels)
taken, cpu = time.perf_counter() - begin, time.process_time() - cpu
np.save(sys.argv[3], scores)
print(len(pixels) / taken, len(pixels) / cpu, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6)
"""


def answered(run: Path, pixels: Path, scores: Path, source: str | None) -> list[float]:
    """Images a second by the clock and of processor time, and the peak in GB."""
    environment = os.environ | ({} if source is None else {"PYTHONPATH": source})
    command = [sys.executable, "-W", "ignore", "-c", CHILD, str(run), str(pixels), str(scores)]
    told = subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout
    return [float(word) for word in told.split()]


def made(model: str, shape: tuple[int, int, int], folder: Path) -> Path:
    """A run of that network."""
    from convoscope import data, training

    images = np.random.default_rng(0).integers(0, 256, (40, *shape), np.uint8)
    dataset = data.from_arrays(images, np.arange(40) % 2)
    if model == "imagenet":
        return training.relearn(model, dataset, output=folder).folder
    return training.train(
        dataset, model, size=shape[:2], channels=shape[2], resize="fit", output=folder, epochs=1, batch_size=8,
        precision="float32",
    ).folder  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--against")
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default="")
    arguments = parser.parse_args()
    versions = {"this": None} | ({"other": arguments.against} if arguments.against else {})
    with tempfile.TemporaryDirectory() as place:
        for name, (model, shape, times) in RUNS.items():
            if arguments.only not in name:
                continue
            folder = Path(place) / model.replace(":", "-")
            run = made(model, shape, folder)
            pixels = folder / "pixels.npy"
            count = arguments.images * times
            np.save(pixels, np.random.default_rng(1).integers(0, 256, (count, *shape), np.uint8))
            figures: dict[str, list[list[float]]] = {version: [] for version in versions}
            for _ in range(arguments.rounds):
                for version, source in versions.items():
                    figures[version].append(answered(run, pixels, folder / f"{version}.npy", source))
            for version, rounds in figures.items():
                clock, processor, peak = (sorted(column) for column in zip(*rounds, strict=True))
                print(
                    f"{name}, {version}: {statistics.median(clock):.0f} images/s ({clock[0]:.0f} to {clock[-1]:.0f}), "
                    f"{statistics.median(processor):.0f} a second of processor time, peak {peak[-1]:.2f} GB",
                    flush=True,
                )
            if len(versions) > 1:
                one, two = (np.load(folder / f"{version}.npy") for version in versions)
                print(f"{name}: the scores differ by {np.abs(one - two).max():.1e} at most")


if __name__ == "__main__":
    main()
