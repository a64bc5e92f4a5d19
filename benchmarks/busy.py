"""Seconds of an epoch while other programs are busy: by the command, in Python with convoscope or torch imported first,
and in a plain loop in torch.

    .venv/bin/python benchmarks/busy.py builtin:drawings PHOTOS [--epochs 2] [--rounds 3] [--loads 0,1,2]

All ways alternate, each in a process of its own. The arithmetic is chosen by a first training that is not counted, and
remembered in a cache folder of its own. A ratio is an epoch's time to that of the same way alone.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

WAYS = {
    "command": None,
    "convoscope first": "import sys, convoscope\n",
    "torch first": "import sys, torch, convoscope\n",
    "plain torch": None,
}
TRAIN = "convoscope.train(sys.argv[1], output=sys.argv[2], epochs=int(sys.argv[3]), size=int(sys.argv[4]) or None)"


@contextlib.contextmanager
def busy(programs: int) -> Iterator[None]:
    """While this is open, so many other programs want the processor."""
    others = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(programs)]
    try:
        yield
    finally:
        for other in others:
            other.kill()
            other.wait()


def plain(source: str, epochs: int, size: int, seconds: Path) -> None:
    """The same images and network in a loop as anybody would write it, in torch's own arithmetic."""
    import time

    import torch

    from convoscope import data, models
    from convoscope.training.fit.defaults import choose_model

    dataset = data.load(source)
    form, _ = data.suggest_format(dataset)
    if size:
        form = form.model_copy(update={"height": size, "width": size})
    prepared = data.prepare(dataset, form)
    rows = dataset.indices("train")
    images = torch.from_numpy(prepared.pixels[rows].copy()).permute(0, 3, 1, 2)
    targets = torch.from_numpy(dataset.targets[rows].astype("int64"))
    model = choose_model(dataset, form)
    network = models.build(model, (form.height, form.width, form.channels), len(dataset.classes))
    optimizer = torch.optim.AdamW(network.parameters())
    took = []
    for _ in range(epochs):
        begin = time.perf_counter()
        for batch in torch.randperm(len(rows)).split(64):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(network(images[batch] / 255), targets[batch]).backward()
            optimizer.step()
        took.append(time.perf_counter() - begin)
    seconds.write_text("seconds\n" + "\n".join(map(str, took)))


def epoch_seconds(way: str, source: str, size: int, epochs: int, place: Path) -> float:
    """The mean of the epochs' seconds, each way in a new process."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("GOMP_", "OMP_"))}
    environment["CONVOSCOPE_CACHE"] = str(place.parent / "cache")
    table = place / "metrics.csv"
    if way == "command":
        command = ["-m", "convoscope", "train", source, "--output", str(place), "--epochs", str(epochs), "--no-test"]
        command += ["--size", str(size)] if size else []
    elif way == "plain torch":
        place.mkdir()
        command = [__file__, "--plain", source, str(epochs), str(size), str(table)]
    else:
        command = ["-c", str(WAYS[way]) + TRAIN, source, str(place), str(epochs), str(size)]
    result = subprocess.run([sys.executable, *command], check=False, env=environment, capture_output=True, text=True)
    if result.returncode:
        sys.exit(result.stderr)
    return statistics.mean(float(row["seconds"]) for row in csv.DictReader(table.open()))


def main() -> None:
    if sys.argv[1:2] == ["--plain"]:
        source, epochs, size, seconds = sys.argv[2:]
        plain(source, int(epochs), int(size), Path(seconds))
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sources", nargs="+")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--size", type=int, default=0, help="of the images; 0: as chosen")
    parser.add_argument("--loads", default="0,1,2", help="how many other programs are busy")
    asked = parser.parse_args()
    loads = [int(load) for load in asked.loads.split(",")]
    for source in asked.sources:
        found: dict[tuple[str, int], list[float]] = {}
        with tempfile.TemporaryDirectory() as folder:
            epoch_seconds("command", source, asked.size, 1, Path(folder) / "first")
            for number in range(asked.rounds):
                for load in loads:
                    with busy(load):
                        for way in WAYS:
                            place = Path(folder) / f"{way} {load} {number}"
                            seconds = epoch_seconds(way, source, asked.size, asked.epochs, place)
                            found.setdefault((way, load), []).append(seconds)
        print(f"{source}; load average {os.getloadavg()[1]:.1f}")
        for (way, load), seconds in sorted(found.items()):
            alone = statistics.median(found[way, loads[0]])
            middle = statistics.median(seconds)
            spread = f"{min(seconds):.1f} to {max(seconds):.1f}"
            print(f"{way:17} {load} busy  {middle:7.1f} s an epoch ({spread})  {middle / alone:5.2f}", flush=True)


if __name__ == "__main__":
    main()
