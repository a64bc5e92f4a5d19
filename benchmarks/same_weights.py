"""The same command and seed, again and again: on a machine that does nothing else and beside busy programs, from an
empty cache at first; and killed early, then resumed. All must end at the same weights.

    .venv/bin/python benchmarks/same_weights.py [--runs 10] [--kills 0.0,0.5,2,3]

Two networks are trained: one for small images, which one thread computes fastest, and one for photographs. Half of the
runs are made beside one busy program for each core. A kill comes so many seconds after the run's folder is there. What
is compared is the SHA-256 of every tensor of best.safetensors and last.safetensors.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from busy import busy
from kills import fingerprint, start
from PIL import Image

from convoscope.training import read_summary

COMMANDS = {
    "small images": ("--model", "conv(8) relu maxpool conv(16) relu globalavg dense", "--size", "24", "--epochs", "3"),
    "photographs": ("--model", "small", "--size", "64", "--epochs", "1"),
}
MORE = ("--set", "batch_size=16", "--no-test")


def draw(folder: Path) -> None:
    """Two classes of 40 noisy pictures in colour."""
    rng = np.random.default_rng(0)
    for label, name in enumerate(("dark", "bright")):
        (folder / name).mkdir(parents=True)
        for number in range(40):
            pixels = rng.integers(0, 120, (80, 80, 3), dtype=np.uint8) + np.uint8(100 * label)
            Image.fromarray(pixels).save(folder / name / f"{number}.png")


def arithmetic(folder: Path) -> str:
    settings, _ = read_summary(folder)
    engine = settings.engine
    return f"{engine['precision']}, {engine['memory_format']}, {engine['threads']} threads"


def finished(arguments: tuple[str, ...], place: Path, cache: Path) -> str:
    """The hash of the weights, once this command has come to its end."""
    log = place.with_suffix(".log")
    if start(arguments, cache, log, threads="").wait():
        sys.exit(f"{' '.join(arguments)}:\n{log.read_text()}")
    return fingerprint(place)


def killed(arguments: tuple[str, ...], place: Path, cache: Path, seconds: float) -> str:
    """The hash of the weights of a run that is killed so long after its folder was made, and resumed."""
    process = start(arguments, cache, place.with_suffix(".log"), threads="")
    while not place.exists():
        time.sleep(0.001)
    time.sleep(seconds)
    process.send_signal(signal.SIGKILL)
    process.wait()
    if not (place / "run.toml").exists():  # nothing was written yet, and the message says so
        return finished(arguments, place, cache)
    return finished(("train", "--resume", str(place), "--no-test"), place, cache)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--kills", default="0,0.5,1,2,3", help="seconds after the run's folder is there")
    asked = parser.parse_args()
    other = 0
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        draw(place / "pictures")
        for name, options in COMMANDS.items():
            cache, hashes = place / f"cache {name}", []
            for number in range(asked.runs):
                run = place / f"{name} {number}"
                command = ("train", str(place / "pictures"), "--output", str(run), *options, *MORE)
                with busy((os.cpu_count() or 1) * (number % 2)):
                    hashes.append(finished(command, run, cache))
                print(
                    f"{name:13} run {number}, {'busy' if number % 2 else 'idle'}: {hashes[-1][:12]}  {arithmetic(run)}",
                    flush=True,
                )
            for seconds in map(float, asked.kills.split(",")):
                run = place / f"{name} killed {seconds}"
                command = ("train", str(place / "pictures"), "--output", str(run), *options, *MORE)
                hashes.append(killed(command, run, cache, seconds))
                print(f"{name:13} killed after {seconds:g} s: {hashes[-1][:12]}  {arithmetic(run)}", flush=True)
            other += len(set(hashes)) - 1
            print(f"{name}: {len(hashes)} runs, {len(set(hashes))} kinds of weights", flush=True)
    sys.exit(1 if other else 0)


if __name__ == "__main__":
    main()
