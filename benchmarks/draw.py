"""Milliseconds from a drawing sent to the studio to its guess and feature maps: idle, beside a training, and while a network is made.

    .venv/bin/python benchmarks/draw.py

A studio of its own is started in an empty folder, as a user starts it; drawings are sent over one HTTP connection, one after the
other, a tenth of a second apart, as strokes come. The training takes all threads and runs at the same priority as the studio.
"""

from __future__ import annotations

import http.client
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.parse
from pathlib import Path

import numpy as np

GUESSES = 200
SIDE = 256


class Studio:
    """A studio in its own process, and one connection to it."""

    def __init__(self, folder: Path) -> None:
        environment = os.environ | {"CONVOSCOPE_CACHE": str(folder / "cache")}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "convoscope", "studio", "--no-browser"],
            cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        assert self.process.stdout is not None
        while not (found := re.search(r"http://([\w.:]+)/\?token=(\S+)", self.process.stdout.readline())):
            if self.process.poll() is not None:
                raise SystemExit("the studio did not start: is its page built?")
        self._connection = http.client.HTTPConnection(found[1])
        self._headers = {"Origin": f"http://{found[1]}"}
        self._connection.request("GET", f"/?token={found[2]}")
        answer = self._connection.getresponse()
        answer.read()
        self._headers["Cookie"] = str(answer.getheader("Set-Cookie")).partition(";")[0]

    def ask(self, method: str, path: str, body: bytes | None = None) -> dict[str, object]:
        kind = {"Content-Type": "application/octet-stream"} if body else {}
        self._connection.request(method, path, body, self._headers | kind)
        answer = self._connection.getresponse()
        content: dict[str, object] = json.loads(answer.read())
        if answer.status != 200:
            raise SystemExit(f"{path}: {content}")
        return content

    def state(self, model: str) -> str:
        models = self.ask("GET", "/api/draw/models")["models"]
        assert isinstance(models, list)
        return next(str(one["state"]) for one in models if one["id"] == model)

    def wait_for(self, model: str, *states: str) -> None:
        while self.state(model) not in states:
            time.sleep(0.2)

    def measure(self, model: str, load: str, pads: list[bytes]) -> None:
        path = "/api/draw/guess?" + urllib.parse.urlencode({"model": model})
        times = []
        for number in range(GUESSES):
            begin = time.perf_counter()
            self.ask("POST", path, pads[number % len(pads)])
            times.append(1000 * (time.perf_counter() - begin))
            time.sleep(0.1)
        late = statistics.quantiles(times, n=20)[18]
        print(
            f"{load:28} {model:13} median {statistics.median(times):6.1f} ms   95th percentile {late:6.1f} ms",
            flush=True,
        )


def drawings() -> list[bytes]:
    """The built-in apples and bananas, enlarged to the pad's size."""
    from PIL import Image

    from convoscope import data

    dataset = data.load("builtin:drawings/apple,banana")
    form = data.InputFormat(height=28, width=28, channels=1)
    images = [dataset.images.decode(row, form)[..., 0] for row in range(0, len(dataset), 8)]
    return [Image.fromarray(image).resize((SIDE, SIDE), Image.Resampling.BICUBIC).tobytes() for image in images]


def training(folder: Path) -> subprocess.Popen[bytes]:
    """The tutorial's network on 20,000 images of noise, without end, with all threads."""
    random = np.random.default_rng(0)
    np.savez(
        folder / "noise.npz",
        images=random.integers(0, 256, (20_000, 28, 28), np.uint8),
        labels=np.arange(20_000) % 10,
    )
    process = subprocess.Popen(
        [
            sys.executable, "-m", "convoscope", "train", "noise.npz", "--model", "fashion", "--epochs", "1000", "--output", "noise-run",
            "--set", f"threads={os.cpu_count()}", "--set", "precision=bfloat16", "--set", "batch_size=128",
        ],
        cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    while not (folder / "noise-run" / "events.jsonl").exists():
        if process.poll() is not None:
            raise SystemExit("the training did not start")
        time.sleep(0.2)
    return process


def main() -> None:
    pads = drawings()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        studio = Studio(folder)
        trainer: subprocess.Popen[bytes] | None = None
        try:
            studio.wait_for("apple-banana", "ready")
            studio.wait_for("twenty", "making", "ready")
            studio.measure("apple-banana", "while `twenty` is made", pads)
            studio.wait_for("twenty", "ready")
            time.sleep(10)  # its report is still being written
            for model in ("apple-banana", "twenty"):
                studio.measure(model, "nothing else", pads)
            trainer = training(folder)
            for model in ("apple-banana", "twenty"):
                studio.measure(model, f"a training, {os.cpu_count()} threads", pads)
        finally:
            for process in (trainer, studio.process):
                if process is not None:
                    process.terminate()
                    process.wait()


if __name__ == "__main__":
    main()
