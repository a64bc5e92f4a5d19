"""Models with a name. Each is a text that can be printed, changed and used in its place."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Preset:
    """A model's text with a name.

    Attributes:
        name: what `--model` takes.
        text: the model.
        about: one line.
        input: (height, width, channels) it was made for, or None where any size is as good.
    """

    name: str
    text: str
    about: str
    input: tuple[int, int, int] | None = None


_ALL = (
    Preset(
        "tiny",
        "conv(1, 3, padding=valid, bias=false) maxpool(2, stride=1) flatten dense",
        "19 numbers for 5x5 pixels and two classes: one filter, one pooling, two units",
        (5, 5, 1),
    ),
    Preset("mlp", "flatten dense(128) relu dense", "one hidden layer of 128 units, no convolution"),
    Preset(
        "mnist-mlp",
        "flatten dense(512) relu dropout(0.2) dense(512) relu dropout(0.2) dense",
        "two hidden layers of 512 units, no convolution",
        (28, 28, 1),
    ),
    Preset(
        "fashion-mlp",
        "flatten dense(128) relu dense",
        "one hidden layer of 128 units, no convolution",
        (28, 28, 1),
    ),
    Preset(
        "fashion",
        "conv(32) relu maxpool conv(64) relu maxpool flatten dense(128) relu dense",
        "two convolutions and one hidden layer",
        (28, 28, 1),
    ),
    Preset(
        "quickdraw",
        "conv(4) relu maxpool conv(8) relu maxpool flatten dense(16) relu dense(8) relu dense",
        "a small network for drawings: 4 and 8 filters",
        (28, 28, 1),
    ),
    Preset(
        "lenet",
        "conv(32, 5, bias=false) norm relu maxpool conv(64, 5, bias=false) norm relu maxpool flatten dropout(0.25) "
        "dense(128) relu dense",
        "LeNet-5 of 1998 with today's parts: relu, max pooling, batch normalisation",
        (28, 28, 1),
    ),
    Preset(
        "catsdogs",
        "conv(32, padding=valid) relu maxpool conv(64, padding=valid) relu maxpool conv(128, padding=valid) relu "
        "maxpool "
        "flatten dense(512) relu dense(1)",
        "three convolutions without padding and one score for two classes",
        (150, 150, 3),
    ),
    Preset(
        "small",
        "conv(24, stride=2, bias=false) norm relu conv(48, bias=false) norm relu maxpool conv(96, bias=false) norm "
        "relu "
        "maxpool conv(192, bias=false) norm relu maxpool residual(conv(192, bias=false) norm relu conv(192, "
        "bias=false) norm) "
        "relu globalavg dropout(0.2) dense",
        "the one to begin with for photographs: plain convolutions, then one residual block",
    ),
    Preset(
        "vgg-small",
        "conv(16, bias=false) norm relu maxpool conv(32, bias=false) norm relu maxpool conv(64, bias=false) norm relu "
        "maxpool conv(128, bias=false) norm relu conv(128, bias=false) norm relu globalavg dropout(0.2) dense",
        "plain convolutions with batch normalisation",
    ),
    Preset(
        "resnet-small",
        "conv(24, stride=2, bias=false) norm relu residual(conv(24, bias=false) norm relu conv(24, bias=false) norm) "
        "relu "
        "residual(conv(48, stride=2, bias=false) norm relu conv(48, bias=false) norm) relu "
        "residual(conv(96, stride=2, bias=false) norm relu conv(96, bias=false) norm) relu "
        "residual(conv(192, stride=2, bias=false) norm relu conv(192, bias=false) norm) relu "
        "globalavg dropout(0.2) dense",
        "four residual blocks, as in ResNet",
    ),
    Preset(
        "inception-small",
        "conv(32, bias=false) norm relu maxpool "
        "parallel(conv(16, 1, bias=false) norm relu | conv(16, 1, bias=false) norm relu conv(32, bias=false) norm relu "
        "| conv(8, 1, bias=false) norm relu conv(16, 5, bias=false) norm relu "
        "| maxpool(3, stride=1, padding=1) conv(16, 1, bias=false) norm relu) maxpool "
        "parallel(conv(32, 1, bias=false) norm relu | conv(32, 1, bias=false) norm relu conv(64, bias=false) norm relu "
        "| conv(16, 1, bias=false) norm relu conv(32, 5, bias=false) norm relu "
        "| maxpool(3, stride=1, padding=1) conv(32, 1, bias=false) norm relu) maxpool "
        "repeat(2, parallel(conv(64, 1, bias=false) norm relu | conv(64, 1, bias=false) norm relu conv(128, "
        "bias=false) norm relu "
        "| conv(16, 1, bias=false) norm relu conv(32, 5, bias=false) norm relu "
        "| maxpool(3, stride=1, padding=1) conv(32, 1, bias=false) norm relu)) "
        "globalavg dropout(0.2) dense",
        "four blocks with windows of several sizes side by side, as in GoogLeNet",
    ),
)

PRESETS: dict[str, Preset] = {preset.name: preset for preset in _ALL}
"""Name to preset, in the order of the handbook."""
