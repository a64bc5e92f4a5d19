"""A run without a training: a small network, some arrays and the settings that the evaluation room reads."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from convoscope.data import SPLITS, Dataset, InputFormat, Prepared, Task
from convoscope.training import EpochMetrics, Recipe, Run, Settings

Pixels = NDArray[np.uint8]
Answer = Callable[[Pixels], NDArray[Any]]


class Rows:
    """Images in memory, as a dataset's source of pixels."""

    def __init__(self, pixels: Pixels) -> None:
        self.pixels = pixels

    def __len__(self) -> int:
        return len(self.pixels)

    def select(self, rows: NDArray[np.int64]) -> Rows:
        return Rows(self.pixels[rows])


class StandInRun(Run):
    """A run whose scores `answer` gives from the pixels. It counts in `scored` how many images it was asked about."""

    def __init__(
        self,
        folder: Path,
        *,
        task: Task,
        classes: tuple[str, ...],
        pixels: Pixels,
        targets: NDArray[Any],
        splits: NDArray[np.int8],
        answer: Answer,
        **more: Any,
    ) -> None:
        self._given = {"task": task, "classes": classes, "pixels": pixels, "targets": targets, "splits": splits, "answer": answer, **more}  # fmt: skip
        _, height, width, channels = pixels.shape
        settings = Settings.model_construct(
            source=more.get("source", "somewhere/pictures"), layout="class-folders", added=(), task=task, classes=classes,
            model=more.get("model", "custom:Nothing"), outputs=len(classes), parameters=1234,
            input=InputFormat(height=height, width=width, channels=channels), mean=(0.5,) * channels, std=(0.25,) * channels,
            recipe=Recipe.read({"epochs": 2, "learning_rate": 0.002}), seed=0,
            engine={"device": "cpu", "precision": "float32", "reason": "float32 as asked for"},
            images={name: int((splits == k).sum()) for k, name in enumerate(SPLITS)}, notes=("a note",),
            versions={"convoscope": "0.1.0", "torch": "2"}, machine={"system": "Plan 9", "cores": "3"}, started="2026-01-02 03:04:05", relearned=None,
            temperature=more.get("temperature"),
        )  # fmt: skip
        super().__init__(folder, settings, more.get("history", []), folder / "best.safetensors")
        self.pixels, self.targets, self.splits = pixels, targets, splits
        self.names: Sequence[str] = more.get("names") or [f"{classes[0]}/{row}.png" for row in range(len(pixels))]
        self.answer = answer
        self.module: nn.Module = more.get("module") or nn.Identity()
        self.missing: Exception | None = more.get("missing")
        self.scored = 0

    @property
    def best_epoch(self) -> int:
        return int(self._given.get("best_epoch", 0))

    @property
    def seconds(self) -> float:
        return float(self._given.get("seconds", 12.3))

    def network(self) -> nn.Module:
        return self.module

    def dataset(self, moved_to: object = None) -> Dataset:
        return Dataset(
            source=self.settings.source, layout="class-folders", task=self.task, classes=self.classes, names=self.names,
            targets=self.targets, splits=self.splits, images=Rows(self.pixels),  # type: ignore[arg-type] # nothing is decoded
        )  # fmt: skip

    def prepared(self, moved_to: object = None) -> Prepared:
        if self.missing is not None:
            raise self.missing
        digests = [str(hash(image.tobytes())) for image in self.pixels]
        return Prepared(self.dataset(), self.pixels, digests, self.settings.input)

    def at_once(self) -> int:
        return 7

    def scores(self, pixels: Pixels) -> NDArray[np.float32]:
        self.scored += len(pixels)
        assert pixels.dtype == np.uint8
        return np.asarray(self.answer(pixels), dtype=np.float32)

    def scores_and_distances(
        self, pixels: Pixels, rows: NDArray[np.int64] | None = None
    ) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
        return self.scores(pixels if rows is None else pixels[rows]), None

    def changed(self, **values: Any) -> StandInRun:
        """The same run with other values."""
        return StandInRun(self.folder, **{**self._given, **values})


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

    def answer(batch: Pixels) -> NDArray[Any]:
        bright = np.median(batch.reshape(len(batch), -1), axis=1)
        guess = np.abs(bright[:, None] - levels).argmin(axis=1)
        guess = np.where((batch == 0).any(axis=(1, 2, 3)), (guess + 1) % count, guess)
        scores = np.full((len(batch), count), 0.1 / max(1, count - 1))
        scores[np.arange(len(batch)), guess] = 0.9
        return scores

    given = {"answer": answer, "history": history(4), "best_epoch": 3, **values}
    return StandInRun(
        folder, task="classification", classes=classes, pixels=pixels, targets=targets, splits=splits, **given
    )


def labels_run(folder: Path, **values: Any) -> StandInRun:
    """Three labels, read from three pixels; the third one's answer is never sure."""
    generator = np.random.default_rng(1)
    targets = generator.integers(0, 2, (40, 3)).astype(np.uint8)
    pixels = np.zeros((40, 8, 8, 1), np.uint8)
    pixels[:, 4, 2:5, 0] = targets * 200

    def answer(batch: Pixels) -> NDArray[Any]:
        scores = np.where(batch[:, 4, 2:5, 0] > 100, 0.9, 0.2)
        scores[:, 2] = 0.45
        return scores

    return StandInRun(
        folder, task="multi-label", classes=("=cmd", "b", "c"), pixels=pixels, targets=targets,
        splits=np.full(40, 2, np.int8), answer=answer, **values,
    )  # fmt: skip


def numbers_run(folder: Path, **values: Any) -> StandInRun:
    """Two numbers, the first read from the brightness, the second always answered with 0."""
    generator = np.random.default_rng(2)
    targets = generator.normal(0, 3, (50, 2)).astype(np.float32)
    pixels = np.clip(128 + targets[:, None, :1, None] * 10 + np.zeros((50, 6, 6, 1)), 0, 255).astype(np.uint8)

    def answer(batch: Pixels) -> NDArray[Any]:
        value = (batch[:, 3, 3, 0].astype(np.float32) - 128) / 10
        return np.stack([value, np.zeros_like(value)], 1)

    return StandInRun(
        folder, task="regression", classes=("x", "y"), pixels=pixels, targets=targets, splits=np.full(50, 2, np.int8),
        answer=answer, **values,
    )  # fmt: skip


def history(epochs: int) -> list[EpochMetrics]:
    """Curves that learn and then overfit a little."""
    return [
        EpochMetrics(
            epoch=epoch, train_loss=1 / epoch, train_accuracy=1 - 0.3 / epoch, val_loss=0.5 + 0.1 * abs(epoch - 2),
            val_accuracy=0.8, seconds=1.5, learning_rate=0.001, size=12,
        )
        for epoch in range(1, epochs + 1)
    ]  # fmt: skip
