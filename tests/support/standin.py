"""A run without a training: a small network, some arrays and the settings that the evaluation room reads."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from convoscope.data.dataset import SPLITS, Dataset, InputFormat, Task


@dataclass
class Rows:
    """Images in memory, as a dataset's source of pixels."""

    pixels: np.ndarray

    def __len__(self) -> int:
        return len(self.pixels)

    def select(self, rows):
        return Rows(self.pixels[rows])

    def digest(self, row: int) -> str:
        return str(hash(self.pixels[row].tobytes()))

    def decode(self, row: int, form: InputFormat):
        return self.pixels[row]


@dataclass
class StandInRun:
    """What the evaluation room asks of a run. `answer` maps pixels to scores."""

    folder: Path
    task: Task
    classes: tuple[str, ...]
    pixels: np.ndarray
    targets: np.ndarray
    splits: np.ndarray
    answer: Any
    model: str = "custom:Nothing"
    history: list[dict[str, Any]] = field(default_factory=list)
    best_epoch: int = 0
    parameters: int = 1234
    seconds: float = 12.3
    source: str = "somewhere/pictures"
    names: list[str] | None = None
    module: Any = None
    missing: Exception | None = None
    scored: int = 0

    def __post_init__(self) -> None:
        _, height, width, channels = self.pixels.shape
        self.settings = SimpleNamespace(
            source=self.source, sources=self.source, added=(), solved=False, backbone_learns=False, in_memory=False, layout="class-folders", task=self.task, classes=self.classes, model=self.model,
            outputs=len(self.classes), parameters=self.parameters,
            input=InputFormat(height=height, width=width, channels=channels), mean=(0.5,) * channels, std=(0.25,) * channels,
            recipe=SimpleNamespace(model_dump=lambda: {"epochs": 2, "learning_rate": 0.002, "flip": False}), seed=0, engine={"device": "cpu", "precision": "float32", "reason": "float32 as asked for"},
            images={name: int((self.splits == k).sum()) for k, name in enumerate(SPLITS)}, notes=("a note",),
            versions={"convoscope": "0.1.0", "torch": "2"}, started="2026-01-02 03:04:05", relearned=None,
        )  # fmt: skip

    def dataset(self) -> Dataset:
        names = self.names or [f"{self.classes[0]}/{row}.png" for row in range(len(self.pixels))]
        return Dataset(
            source=self.source, layout="class-folders", task=self.task, classes=self.classes, names=names, targets=self.targets,
            splits=self.splits, images=Rows(self.pixels), notes=(),
        )  # fmt: skip

    def prepared(self):
        if self.missing is not None:
            raise self.missing
        digests = [str(hash(image.tobytes())) for image in self.pixels]
        return SimpleNamespace(dataset=self.dataset(), pixels=self.pixels, digests=digests)

    def scores(self, pixels):
        self.scored += len(pixels)
        assert pixels.dtype == np.uint8
        return np.asarray(self.answer(pixels), dtype=np.float32)

    def scores_and_distances(self, pixels, rows=None):
        return self.scores(pixels if rows is None else pixels[rows]), None

    def network(self):
        import torch

        return self.module if self.module is not None else torch.nn.Identity()

    def changed(self, **values: Any) -> StandInRun:
        return replace(self, **values)


def pictures_run(
    folder: Path, *, classes: tuple[str, ...] = ("dark", "light"), images: int = 60, **values: Any
) -> StandInRun:
    """A run of K classes told apart by brightness, on 12 x 12 x 3 images; two of three images are in the test part.

    The answer is right except for every seventh image, which carries a mark in its corner.
    """
    count = len(classes)
    generator = np.random.default_rng(7)
    targets = np.arange(images) % count
    levels = np.linspace(20, 230, count)
    noise = generator.integers(-8 // count - 1, 8 // count + 2, (images, 12, 12, 3))
    pixels = np.clip(levels[targets][:, None, None, None] + noise, 1, 255).astype(np.uint8)
    pixels[::7, 5, 5] = 0
    splits = np.array([0, 2, 2], np.int8)[np.arange(images) % 3]

    def answer(batch: np.ndarray) -> np.ndarray:
        bright = np.median(batch.reshape(len(batch), -1), axis=1)
        guess = np.abs(bright[:, None] - levels).argmin(axis=1)
        guess = np.where((batch == 0).any(axis=(1, 2, 3)), (guess + 1) % count, guess)
        scores = np.full((len(batch), count), 0.1 / max(1, count - 1))
        scores[np.arange(len(batch)), guess] = 0.9
        return scores

    given = {"answer": answer, "history": history(4), "best_epoch": 3, **values}
    return StandInRun(
        folder=folder, task="classification", classes=classes, pixels=pixels, targets=targets, splits=splits, **given
    )


def history(epochs: int) -> list[dict[str, Any]]:
    """Curves that learn and then overfit a little."""
    return [
        {
            "epoch": epoch, "train_loss": 1 / epoch, "train_accuracy": 1 - 0.3 / epoch, "val_loss": 0.5 + 0.1 * abs(epoch - 2),
            "val_accuracy": 0.8, "seconds": 1.5, "learning_rate": 0.001,
        }
        for epoch in range(1, epochs + 1)
    ]  # fmt: skip
