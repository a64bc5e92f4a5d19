"""The arithmetic of one number as a picture: every form of it, adding up as written."""

import pytest
import torch
from torch import nn

from convoscope import explain as figures
from convoscope.explain import trace
from convoscope.models import build
from tests.support.figures import is_sheet, net

CASES = [
    ("conv of pixels' own scale", (nn.Conv2d(1, 2, 3, padding=1),), "0", (1, 0, 0), "hatched: 5 beyond the border"),
    ("conv of many channels", (nn.Conv2d(1, 12, 1), nn.Conv2d(12, 2, 3)), "1", (1, 2, 2), "the other 7 channels together"),
    ("conv without bias", (nn.Conv2d(1, 2, 3, bias=False),), "0", (1, 0, 0), "products"),
    ("large kernel", (nn.Conv2d(1, 2, 9, padding=4),), "0", (1, 0, 0), "weights"),
    ("1x1 conv", (nn.Conv2d(1, 40, 1), nn.Conv2d(40, 1, 1)), "1", (0, 0, 0), "the other 25 terms together"),
    ("transposed conv", (nn.ConvTranspose2d(1, 2, 2, 2),), "0", (0, 1, 1), "came in"),
    ("max pool", (nn.MaxPool2d(3, 2, 1),), "0", (0, 0, 0), "framed: the largest"),
    ("mean pool", (nn.AvgPool2d(2),), "0", (0, 1, 1), "each ÷ 4"),
    ("global mean", (nn.AdaptiveAvgPool2d(1),), "0", (0, 0, 0), "each ÷ 36"),
    ("norm", (nn.BatchNorm2d(1),), "0", (0, 1, 1), "− mean 0"),
    ("relu", (nn.ReLU(),), "0", (0, 1, 1), "came in"),
    ("gelu", (nn.GELU(),), "0", (0, 1, 1), "came in"),
    ("leaky relu", (nn.LeakyReLU(0.1),), "0", (0, 1, 1), "came in"),
    ("dense", (nn.Flatten(), nn.Linear(36, 4)), "1", (2,), "the other 21 terms together"),
    ("few terms", (nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(4, 3)), "2", (2,), "that is 0[0, 1, 1]"),
    ("flatten", (nn.Flatten(),), "0", (7,), "image[0, 1, 1]"),
    ("softmax", (nn.Flatten(), nn.Softmax(1)), "1", (35,), "divided by the sum of them all"),
    ("log softmax", (nn.Flatten(), nn.LogSoftmax(1)), "1", (3,), "and the logarithm of that"),
    ("layer norm", (nn.LayerNorm([1, 6, 6]),), "0", (0, 1, 1), "+ shift 0"),
    ("up", (nn.Upsample(scale_factor=2, mode="bilinear"),), "0", (0, 3, 3), "weights"),
    ("normalise", (nn.ReLU(),), "image", (0, 1, 1), "÷ standard deviation 63.75"),
    ("the pixels", (nn.ReLU(),), "pixels", (0, 1, 1), "value"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("layers", "name", "index", "said"), [case[1:] for case in CASES], ids=[case[0] for case in CASES]
)
def test_why_figures(
    layers: tuple[nn.Module, ...], name: str, index: tuple[int, ...], said: str, written: list[str]
) -> None:
    found = net(*layers)
    why = found.why(name, *index)
    sheet = why.figure()
    assert is_sheet(sheet) and sheet.width < 2400 and sheet.height < 2000
    assert said in written
    assert any(text.startswith(name) for text in written)
    assert any(text.startswith("difference ") for text in written) or name == "pixels"
    assert "it does not agree" not in " ".join(written)


def test_every_step_of_a_network_has_its_figure() -> None:
    class Mixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.big = nn.Conv2d(3, 6, 4, 4), nn.Conv2d(6, 3, 3, padding=1, groups=3)
            self.query, self.norm = nn.Linear(6, 6), nn.LayerNorm(6)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            maps = self.conv(x)
            tokens = maps.flatten(2).transpose(1, 2)
            share = torch.softmax(self.query(self.norm(tokens)) @ tokens.transpose(1, 2) / 6**0.5, -1)
            back = (share @ tokens).transpose(1, 2).reshape(maps.shape)
            gate = torch.cat([back[:, :3], maps[:, 3:] * torch.sigmoid(maps[:, :3])], 1)
            larger: torch.Tensor = self.big(gate - 0.5 * maps)
            return larger.amax((2, 3)).cumsum(1)

    found = net(Mixed(), channels=3, side=16, pixels=False)
    for step in found.steps:
        assert is_sheet(found.why(step.name, *(n // 2 for n in step.shape)).figure())
        assert is_sheet(figures.map_sheet(step))


def test_a_sum_adds_up_as_written(written: list[str]) -> None:
    why = net(nn.Conv2d(1, 12, 1), nn.Conv2d(12, 2, 3)).why("1", 1, 2, 2)
    why.figure()
    bias = written.index("bias")
    numbers = [
        float(text.replace("−", "-")) for text in written if len(text.partition(".")[2]) >= 7 and " " not in text
    ]
    assert "sum" in written[bias:] and len(numbers) == 9  # five channels, the others, bias, sum, recorded
    assert sum(numbers[:7]) == pytest.approx(numbers[7], abs=1e-6)
    assert numbers[7] == pytest.approx(why.sum, rel=1e-5) and numbers[8] == pytest.approx(why.recorded, rel=1e-5)


def test_the_class_stands_in_the_title(written: list[str]) -> None:
    image = torch.randn(1, 1, 5, 5)
    found = trace(build("tiny", (5, 5, 1), 2), image, classes=["line", "ring"])
    found.why("dense1", 1).figure()
    assert written[0] == "dense1, unit 1 (ring)" or "dense1, unit 1 (ring)" in written
