"""How long ten kinds of training are said to take, before they begin and after a tenth, divided by what they take.

    .venv/bin/python benchmarks/estimates.py [PHOTOS]

PHOTOS: a folder of photographs for two more kinds.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from convoscope.training import Reporter, train

DRAWINGS = "builtin:drawings/apple,banana,cat,fish,tree"
KINDS: list[tuple[str, str, str, dict[str, Any]]] = [
    ("drawings", DRAWINGS, "auto", {"epochs": 6}),
    ("drawings, text", DRAWINGS, "conv(8) relu maxpool conv(16) relu globalavg dense", {"epochs": 12}),
    ("drawings, no convolution", DRAWINGS, "flatten dense(128) relu dense", {"epochs": 20}),
    ("drawings, batches of 16", DRAWINGS, "auto", {"epochs": 2, "batch_size": 16}),
    ("drawings, small images first", DRAWINGS, "auto", {"epochs": 6, "start_size": 0.6}),
    ("drawings, no average", DRAWINGS, "auto", {"epochs": 4, "ema": 0.0}),
    ("drawings, 56 pixels", DRAWINGS, "auto", {"epochs": 2, "size": 56}),
    ("lines", "builtin:lines", "tiny", {"epochs": 150}),
]
PHOTOGRAPHS: list[tuple[str, dict[str, Any]]] = [
    ("photographs, small images first", {"epochs": 4, "size": 64}),
    ("photographs, whole", {"epochs": 2, "size": 48, "start_size": 1.0, "end_size": 1.0}),
]


class Estimates(Reporter):
    """Keeps what was said, and when."""

    def __init__(self) -> None:
        self.said: list[tuple[float, float]] = []

    def time_left(self, seconds: float) -> None:
        self.said.append((time.perf_counter(), seconds))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photographs", nargs="?")
    asked = parser.parse_args()
    kinds = KINDS + [(name, asked.photographs, "small", more) for name, more in PHOTOGRAPHS if asked.photographs]
    within = 0
    print(f"{'kind':32} seconds  before  at a tenth", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        for number, (name, source, model, more) in enumerate(kinds):
            heard = Estimates()
            train(source, model, output=Path(folder) / str(number), reporter=heard, **more)
            begin, first = heard.said[0]
            end = time.perf_counter()
            moment, left = next(one for one in heard.said if one[0] >= begin + 0.1 * (end - begin))
            before, tenth = first / (end - begin), left / (end - moment)
            within += all(1 / 1.3 <= ratio <= 1.3 for ratio in (before, tenth))
            print(f"{name:32} {end - begin:7.1f}  {before:6.2f}  {tenth:10.2f}", flush=True)
    print(f"{within} of {len(kinds)} within a factor of 1.3; load average {os.getloadavg()[0]:.1f}", file=sys.stdout)


if __name__ == "__main__":
    main()
