"""Training leaves a hand-made kernel alone, bit for bit, and the run resumes and predicts."""

from pathlib import Path
from typing import Any

import pytest
import torch

from convoscope.training import Run, resume, train
from convoscope.training.core import checkpoint

MODEL = (
    "parallel(kernel(sobel_x) | kernel(sobel_y) | ) conv(8) norm relu maxpool kernel(blur) conv(8) relu globalavg dense"
)
QUICK: dict[str, Any] = {"epochs": 2, "batch_size": 16, "learning_rate": 0.02, "precision": "float32"}
KERNELS = {
    "parallel1.branch1.kernel1.weight": torch.tensor([[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]]).expand(1, 1, 3, 3),
    "parallel1.branch2.kernel1.weight": torch.tensor([[-1, -2, -1], [0, 0, 0], [1, 2, 1]]).expand(1, 1, 3, 3),
    "kernel1.weight": torch.full((8, 1, 3, 3), 1 / 9),
}


def check(tensors: dict[str, torch.Tensor], prefix: str = "") -> None:
    for name, values in KERNELS.items():
        assert tensors[prefix + name].dtype == torch.float32
        assert torch.equal(tensors[prefix + name], values.float()), name


@pytest.mark.parametrize(
    "recipe",
    [
        {"optimizer": "adamw", "weight_decay": 0.5},
        {"optimizer": "muon", "weight_decay": 0.5},
        {"optimizer": "sgd", "weight_decay": 0.5},
        {"optimizer": "adamw", "weight_decay": 0.5, "ema": 0.5},
        {"optimizer": "adamw", "precision": "bfloat16", "memory_format": "channels_last"},
    ],
    ids=lambda recipe: " ".join(map(str, recipe.values())),
)
def test_training_leaves_a_kernel_alone(recipe: dict[str, Any], pictures: Path, tmp_path: Path) -> None:
    run = train(pictures, MODEL, output=tmp_path / "run", **(QUICK | recipe))
    tensors, _ = checkpoint.load(run.folder / "last.safetensors")
    check(tensors, "model.")
    if recipe.get("ema"):
        check(tensors, "average.")
    check(run.network().state_dict())
    # The layers around it have learned.
    first = train(pictures, MODEL, output=tmp_path / "first", **(QUICK | recipe | {"epochs": 1}))
    weights = (each.network().state_dict()["conv2.weight"] for each in (run, first))
    assert not torch.equal(*weights)
    assert run.settings.parameters == sum(value.numel() for value in run.network().parameters())


def test_a_run_with_kernels_resumes_and_predicts(pictures: Path, tmp_path: Path) -> None:
    recipe = QUICK | {"schedule": "constant", "warmup": 0, "ema": 0.5}
    whole = train(pictures, MODEL, output=tmp_path / "whole", **(recipe | {"epochs": 3}))
    begun = train(pictures, MODEL, output=tmp_path / "begun", **recipe)
    resumed = resume(begun.folder, epochs=3)
    one, two = (checkpoint.load(run.folder / "last.safetensors")[0] for run in (whole, resumed))
    assert all(torch.equal(one[name], two[name]) for name in one)
    check(two, "model.")
    answers = Run.open(resumed.folder).predict(sorted((pictures / "square").glob("*.png"))[:3])
    assert [sum(answer.scores.values()) for answer in answers] == pytest.approx([1, 1, 1])
