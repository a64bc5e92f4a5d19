"""Networks for the tests of this room: those of the product's promise, and small ones with every habit of real code."""

import functools

import torch
import torch.nn.functional as F
from torch import nn

from convoscope import models

SIZES = {"tiny": (5, 5, 1), "fashion": (28, 28, 1), "resnet-small": (32, 32, 3), "inception-small": (32, 32, 3)}
PROMISED = (
    "tiny",
    "fashion",
    "resnet-small",
    "inception-small",
    "torchvision:resnet18",
    "torchvision:googlenet",
    "timm:tf_efficientnet_lite0",
)


def randomise(norm: nn.Module) -> None:
    """Random statistics for a batch norm."""
    assert isinstance(norm, nn.BatchNorm2d) and norm.running_mean is not None and norm.running_var is not None
    norm.running_mean.normal_()
    norm.running_var.uniform_(0.5, 2)


def sequence(text: str, size: tuple[int, int, int], outputs: int) -> nn.Sequential:
    """A network of the grammar, whose layers can be taken one by one."""
    net = models.build(text, size, outputs)
    assert isinstance(net, nn.Sequential)
    return net


@functools.cache
def network(name: str) -> tuple[nn.Module, torch.Tensor]:
    """A network with random weights and batch-norm statistics, and one random image for it."""
    torch.manual_seed(0)
    height, width, channels = SIZES.get(name, (64, 64, 3))
    net = models.build(name, (height, width, channels), 2 if name == "tiny" else 10)
    for part in net.modules():
        if isinstance(part, nn.BatchNorm2d):
            randomise(part)
            nn.init.uniform_(part.weight, 0.5, 1.5)
            nn.init.normal_(part.bias)
    return net.eval(), torch.randn(1, channels, height, width)


class Habits(nn.Module):
    """Functional calls, in-place operations, a module used twice, an addition, a concatenation, a gate, a view."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(2, 4, 3, padding=1)
        self.again = nn.Conv2d(4, 4, 3, padding=1)
        self.relu = nn.ReLU(inplace=True)
        self.last = nn.Linear(8, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.relu(self.first(x))
        kept = x
        x = self.again(F.relu(self.again(x), inplace=True))
        x += kept
        x = torch.cat([x, kept * torch.sigmoid(x)], 1)
        scores: torch.Tensor = self.last(x.mean((2, 3)).view(len(x), -1))
        return scores


class Everything(nn.Module):
    """One operation of each kind that `why` opens, in parallel on the same maps; the scores are their means."""

    def __init__(self) -> None:
        super().__init__()
        self.parts = nn.ModuleDict({
            "stride": nn.Conv2d(4, 6, (3, 2), stride=(2, 1), padding=(1, 0), dilation=(1, 2), groups=2),
            "reflect": nn.Conv2d(4, 3, 3, padding=1, padding_mode="reflect"),
            "replicate": nn.Conv2d(4, 3, 5, padding=2, padding_mode="replicate", bias=False),
            "depthwise": nn.Conv2d(4, 8, 3, groups=4),
            "transposed": nn.ConvTranspose2d(4, 6, 3, stride=2, padding=1, output_padding=1, groups=2),
            "batchnorm": nn.BatchNorm2d(4),
            "plainnorm": nn.BatchNorm2d(4, affine=False, track_running_stats=False),
            "groupnorm": nn.GroupNorm(2, 4),
            "instancenorm": nn.InstanceNorm2d(4, affine=True),
            "layernorm": nn.LayerNorm([4, 9, 9]),
            "maxpool": nn.MaxPool2d(3, stride=2, padding=1, dilation=1, ceil_mode=True),
            "avgpool": nn.AvgPool2d(2, padding=1, ceil_mode=True),
            "avgpool_inside": nn.AvgPool2d(3, stride=2, padding=1, count_include_pad=False),
            "sumpool": nn.AvgPool2d(2, divisor_override=1),
            "adaptive": nn.AdaptiveAvgPool2d((4, 2)),
            "adaptive_max": nn.AdaptiveMaxPool2d(2),
            "leakyrelu": nn.LeakyReLU(0.1), "sigmoid": nn.Sigmoid(), "tanh": nn.Tanh(), "gelu": nn.GELU(), "silu": nn.SiLU(),
            "gelu_tanh": nn.GELU("tanh"), "relu6": nn.ReLU6(), "hardswish": nn.Hardswish(), "hardsigmoid": nn.Hardsigmoid(),
            "elu": nn.ELU(), "mish": nn.Mish(), "softplus": nn.Softplus(), "prelu": nn.PReLU(4), "dropout": nn.Dropout2d(0.5),
            "softmax": nn.Softmax(dim=1), "logsoftmax": nn.LogSoftmax(dim=1),
            "nearest": nn.Upsample(scale_factor=2), "bilinear": nn.Upsample(scale_factor=2, mode="bilinear"),
            "shuffle": nn.PixelShuffle(2), "zeropad": nn.ZeroPad2d((1, 0, 2, 1)), "flatten": nn.Flatten(),
            "attention": nn.MultiheadAttention(4, 2, batch_first=True),
        })  # fmt: skip

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        scores = []
        for name, part in self.parts.items():
            if name == "attention":
                tokens = x.flatten(2).transpose(1, 2)
                made, _ = part(tokens, tokens, tokens)
            else:
                made = part(x)
            scores.append(made.sum() / made.numel())
        scores.append((x / (1 + x * x)).amax())
        scores.append((x - 0.5).flip(3).roll(1, 2)[:, 1:3, ::2].abs().mean())
        return torch.stack(scores)[None]


@functools.cache
def everything() -> tuple[Everything, torch.Tensor]:
    torch.manual_seed(1)
    net = Everything().eval()
    randomise(net.parts["batchnorm"])
    return net, torch.randn(1, 4, 9, 9)
