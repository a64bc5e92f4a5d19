"""Backbones and heads as texts: what comes before the head, and where a backbone may end."""

import pytest
import torch
from torch import nn

from convoscope.models import (
    backbone_text,
    build,
    feature_layers,
    replace_part,
    with_head,
)


@pytest.mark.parametrize(
    ("model", "head", "backbone"),
    [
        ("conv(8) relu flatten dense", 1, "conv(8) relu flatten"),
        ("conv(8) flatten dense(16) relu dense", 1, "conv(8) flatten dense(16) relu"),
        ("conv(8) flatten dense(16) relu dense", 2, "conv(8) flatten"),
        ("catsdogs", 1, "conv(32, padding=valid) relu maxpool conv(64, padding=valid) relu maxpool "
         "conv(128, padding=valid) relu maxpool flatten dense(512) relu"),
        ("conv(8) conv(3) globalavg", 1, "conv(8) conv(3) globalavg"),
        ("flatten repeat(2, dense(3))", 1, "flatten dense(3)"),
        ("timm:resnet18", 1, "timm:resnet18"),
        ("timm:resnet18 dense(64) relu dense", 2, "timm:resnet18"),
    ],
)  # fmt: skip
def test_a_model_without_its_head(model: str, head: int, backbone: str) -> None:
    assert backbone_text(model, head=head) == backbone


def test_a_new_head() -> None:
    assert with_head("conv(8) globalavg") == "conv(8) globalavg dense"
    assert with_head("conv(8) globalavg", [64]) == "conv(8) globalavg dense(64) relu dense"
    assert with_head("timm:resnet18") == "timm:resnet18"
    assert with_head("timm:resnet18", [64, 8]) == "timm:resnet18 dense(64) relu dense(8) relu dense"


@pytest.mark.parametrize(
    ("backbone", "places"),
    [
        ("conv(4) norm relu maxpool conv(8) relu flatten dropout dense(5) relu", [("maxpool1", 64), ("relu2", 128), ("relu3", 5)]),
        ("conv(4) conv(6) globalavg dropout", [("conv1", 256), ("conv2", 384), ("globalavg", 6)]),
        ("repeat(2, conv(4, 2, stride=2) relu) flatten", [("relu1", 64), ("relu2", 16)]),
        ("conv(4) relu residual(conv(8, stride=2) norm relu conv(8)) relu parallel(conv(2) relu | ) globalavg",
         [("relu1", 256), ("relu2", 128), ("parallel1", 160), ("globalavg", 10)]),
        ("flatten dense(3) relu", [("relu1", 3)]),
        ("timm:resnet18", []),
    ],
)  # fmt: skip
def test_where_a_backbone_may_end(backbone: str, places: list[tuple[str, int]]) -> None:
    assert [
        (feature_layer.layers[-1], feature_layer.width) for feature_layer in feature_layers(backbone, (8, 8, 1))
    ] == places


@pytest.mark.parametrize("backbone", ["vgg-small", "resnet-small", "inception-small", "lenet", "quickdraw"])
def test_a_shortened_backbone_gives_what_the_whole_one_has_there(backbone: str) -> None:
    torch.manual_seed(0)
    whole = build(backbone, (28, 28, 1), 3).eval()
    images = torch.randn(2, 1, 28, 28)
    for feature_layer in feature_layers(backbone_text(backbone), (28, 28, 1)):
        short = build(with_head(feature_layer.text), (28, 28, 1), 3).eval()
        weights = whole.state_dict()
        kept = {name for name in weights if name.startswith(tuple(f"{layer}." for layer in feature_layer.layers))}
        head = {name for name in short.state_dict() if name not in kept}
        assert len(head) == 2 and all("dense" in name for name in head)
        short.load_state_dict({name: weights[name] for name in kept}, strict=False)
        there: list[torch.Tensor] = []
        whole.get_submodule(feature_layer.layers[-1]).register_forward_hook(
            lambda _, __, out, there=there: there.append(out)
        )
        replace_part(short, next(iter(head)).rpartition(".")[0], nn.Identity())
        with torch.no_grad():
            whole(images)
            features = short(images)
        assert features.shape == (2, feature_layer.width)
        assert features.equal(there[0].flatten(1))
