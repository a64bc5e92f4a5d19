"""The whole network on one sheet, and what it leaves out."""

from typing import Any

import pytest
import torch
from torch import nn

from convoscope import explain as figures
from convoscope.explain import trace
from convoscope.explain.drawings import numerals
from convoscope.models import build
from tests.support.figures import is_sheet, net


@pytest.mark.parametrize(
    ("model", "size", "outputs"),
    [("tiny", (5, 5, 1), 2), ("fashion", (28, 28, 1), 10), ("resnet-small", (64, 64, 3), 3)],
)
def test_overview(model: str, size: Any, outputs: int, written: list[str]) -> None:
    torch.manual_seed(0)
    found = trace(
        build(model, size, outputs), torch.randn(1, size[2], size[0], size[1]), classes=["a", "b", "c"][:outputs]
    )
    sheet = figures.overview(found, title=model)
    assert is_sheet(sheet)
    shown = [step for step in found.steps if step.kind not in ("flatten", "reshape", "dropout")]
    assert all(step.name in written for step in shown)
    assert any(text.startswith("Not shown: ") and "flatten" in text for text in written) or model == "resnet-small"
    values = shown[1].output.numpy()
    assert f"min {numerals.number(values.min())}, max {numerals.number(values.max())}" in written


def test_overview_of_a_deep_network(written: list[str]) -> None:
    layers = [part for _ in range(60) for part in (nn.Conv2d(2, 2, 3, padding=1), nn.BatchNorm2d(2), nn.ReLU())]
    found = net(*layers, channels=2)
    assert len(found.steps) == 182
    sheet = figures.overview(found, limit=150)
    assert is_sheet(sheet) and sheet.height < 20_000
    assert "Not shown: 60 × norm." in written
    written.clear()
    figures.overview(found, limit=20)
    said = " ".join(written)
    assert "60 × relu" in said and "The first 19 of the other 62 steps are shown, and the last." in said


def test_overview_says_what_could_not_be_followed(written: list[str]) -> None:
    class Foreign(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.from_numpy(x.numpy() * 2)

    figures.overview(net(Foreign(), nn.Conv2d(1, 1, 3)))
    assert any("outside torch's operations" in text for text in written)
