"""Anonymous memory (RssAnon) while training on 200,000 generated images of 64x64x3, beyond what the imports take.

.venv/bin/python benchmarks/memory.py FOLDER_FOR_2.5_GB
"""

import argparse
import threading
import time
from pathlib import Path

import numpy as np

IMAGES = 200_000


def anonymous_megabytes() -> float:
    with open("/proc/self/status", encoding="ascii") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("RssAnon")) / 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--steps", type=int, default=400)
    folder = parser.parse_args().folder
    steps = parser.parse_args().steps
    source = folder / "source"
    source.mkdir(parents=True, exist_ok=True)
    if not (source / "images.npy").exists():
        images = np.lib.format.open_memmap(source / "images.npy", "w+", np.uint8, (IMAGES, 64, 64, 3))
        generator = np.random.default_rng(0)
        for begin in range(0, IMAGES, 5000):
            images[begin : begin + 5000] = generator.integers(0, 256, (5000, 64, 64, 3), dtype=np.uint8)
        np.save(source / "labels.npy", np.arange(IMAGES) % 10)
        del images
    from convoscope import training
    from convoscope.training.commands import train  # noqa: F401 - what training imports

    base = anonymous_megabytes()
    peak = base

    def watch() -> None:
        nonlocal peak
        while True:
            peak = max(peak, anonymous_megabytes())
            time.sleep(0.05)

    threading.Thread(target=watch, daemon=True).start()

    class Enough(training.Reporter):
        left = steps

        def step(self, epoch: int, step: int, total: int, loss: float) -> None:
            self.left -= 1
            if not self.left:
                raise KeyboardInterrupt

    try:
        training.train(source, "small", output=folder / f"run-{time.time_ns()}", epochs=1, reporter=Enough())
    except KeyboardInterrupt:
        print(f"imports {base:.0f} MB, peak {peak:.0f} MB: {peak - base:.0f} MB beyond the imports")


if __name__ == "__main__":
    main()
