"""Listening to a training, and comparing what two trainings left behind."""

import hashlib
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn.functional import cross_entropy

from convoscope.training import EpochMetrics, Reporter, Run, relearn
from convoscope.training.core import checkpoint

BACKBONE = "conv(12) norm relu maxpool conv(24) norm relu maxpool flatten dense(32) relu dense"
OTHERS = "builtin:drawings/star,house,umbrella"
"""Drawings that the backbone of the fixture `backbone` was not trained on."""


class Listener(Reporter):
    """Keeps what is reported."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.warned: list[str] = []
        self.rows: list[EpochMetrics] = []

    def say(self, text: str) -> None:
        self.said.append(text)

    def warn(self, text: str) -> None:
        self.warned.append(text)

    def epoch(self, row: EpochMetrics, best: bool) -> None:
        self.rows.append(row)

    def heard(self, words: str) -> bool:
        """Whether these words were said, or warned with."""
        return any(words in line for line in self.said + self.warned)


class At(Reporter):
    """Does something at the n-th step of this process."""

    def __init__(self, number: int, action: Callable[[], object]) -> None:
        self.left = number
        self.action = action
        self.seen: list[tuple[int, int]] = []

    def step(self, epoch: int, step: int, steps: int, loss: float) -> None:
        self.seen.append((epoch, step))
        self.left -= 1
        if self.left == 0:
            self.action()


def fingerprint(folder: Path) -> dict[str, str]:
    """A hash of every tensor in both checkpoints, and of the figures of every epoch but their times."""
    prints = {}
    for name in ("best", "last"):
        tensors, state = checkpoint.load(folder / f"{name}.safetensors")
        for key, value in tensors.items():
            prints[f"{name} {key}"] = hashlib.sha256(value.contiguous().numpy().tobytes()).hexdigest()
        progress = state.get("progress", {})
        for row in progress.get("history", []):
            prints[f"epoch {row['epoch']}"] = repr({k: v for k, v in row.items() if k != "seconds"})
        prints[f"{name} counters"] = repr([progress.get(k) for k in ("epoch", "step", "best_value", "stale")])
    return prints


def events(folder: Path) -> list[dict[str, Any]]:
    """The events of a run, in order."""
    lines = (folder / "events.jsonl").read_bytes().splitlines(keepends=True)
    return [json.loads(line) for line in lines if line.endswith(b"\n")]


def check_validation_figures(run: Run, row: EpochMetrics) -> None:
    """The run's network gives the validation figures of this row."""
    prepared = run.prepared()
    rows = prepared.dataset.indices("validation")
    targets = prepared.dataset.targets[rows]
    assert (run.scores(prepared.pixels[rows]).argmax(1) == targets).mean() == pytest.approx(row["val_accuracy"])
    with torch.inference_mode():  # the loss is that of raw scores, before the temperature
        raw = run.network()(run.input_tensor(prepared.pixels[rows]))
    assert float(cross_entropy(raw, torch.from_numpy(targets))) == pytest.approx(row["val_loss"], rel=1e-3)


def taught(backbone: Run | Path, images: Any, **options: Any) -> Run:
    """Relearned on `BACKBONE` up to its third relu, without further views: most tests are not about choosing these."""
    usual = {"augmented_views": 1} if options.get("add") else {"feature_layer": "relu3", "augmented_views": 1}
    return relearn(backbone, images, **usual | options)


def words_of(page: Path) -> str:
    """A report's text without its drawings' tags."""
    return re.sub(
        r"\s+", " ", re.sub(r"<[^>]*>", " ", re.sub(r"<style.*?</style>", "", page.read_text("utf-8"), flags=re.S))
    )
