"""Augmented images as they are shown are those that the network was trained on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from convoscope.training import augmented_images, train
from convoscope.training.core.augment import augment
from convoscope.training.fit import loop


def test_they_are_what_the_training_made(pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[tuple[int, int], torch.Tensor] = {}

    def listening(pixels: torch.Tensor, images: Any, **more: Any) -> torch.Tensor:
        made = augment(pixels, images, **more)
        seen.update(((more["epoch"] + 1, int(row)), image) for row, image in zip(images, made, strict=True))
        return made

    monkeypatch.setattr(loop, "augment", listening)
    recipe: dict[str, Any] = {"epochs": 3, "rotate": 30.0, "shift": 0.1, "start_size": 0.67, "precision": "float32"}
    run = train(pictures, "conv(4) relu globalavg dense", output=tmp_path / "run", **recipe)
    prepared = run.prepared()
    rows = prepared.dataset.indices("train")[:5].astype(np.int64)
    for epoch in (1, 3):
        made = augmented_images(
            prepared.pixels[rows], rows, recipe=run.settings.recipe, seed=run.settings.seed, epoch=epoch
        )
        for image, row in zip(made, rows.tolist(), strict=True):
            wanted = seen[epoch, row].round().clamp(0, 255).byte().permute(1, 2, 0).numpy()
            np.testing.assert_array_equal(image, wanted)
