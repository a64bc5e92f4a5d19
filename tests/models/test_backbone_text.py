"""Backbones and heads: where a network's head is, what stands before it, and what the libraries say of their weights."""

import pytest
import torch
from torch import nn

from convoscope.errors import UsageError
from convoscope.models import (
    backbone_text,
    blocks,
    build,
    feature_layers,
    head_path,
    library_name,
    pretrained,
    replace_part,
    table,
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


@pytest.mark.parametrize(
    ("model", "path"),
    [
        ("conv(4) relu flatten dense(5) relu dense", "dense2"),
        ("torchvision:mobilenet_v3_small", "classifier.3"),
        ("timm:resnet10t", "fc"),
    ],
)
def test_the_head_is_the_dense_layer_that_gives_the_scores(model: str, path: str) -> None:
    torch.manual_seed(0)
    network = build(model, (64, 64, 3), 7).train()
    assert head_path(network, (64, 64, 3)) == path
    assert network.training
    assert not any(part._forward_hooks for part in network.modules())
    images = torch.randn(2, 3, 64, 64)
    network.eval()
    with torch.no_grad():
        scores = network(images)
        head = network.get_submodule(path)
        replace_part(network, path, nn.Identity())
        torch.testing.assert_close(head(network(images)), scores, rtol=0, atol=0)


def test_a_network_without_a_dense_head_is_refused() -> None:
    network = build("torchvision:squeezenet1_1", (64, 64, 3), 7)
    with pytest.raises(UsageError, match="do not come from a dense layer") as caught:
        head_path(network, (64, 64, 3))
    assert caught.value.code == "backbone-without-head"
    with pytest.raises(UsageError) as caught:
        build("torchvision:squeezenet1_1 dense(8) relu dense", (64, 64, 3), 7)
    assert caught.value.code == "backbone-without-head"


def test_layers_behind_a_librarys_name_take_the_place_of_its_head() -> None:
    torch.manual_seed(0)
    text = "timm:resnet10t dense(16) relu dense"
    assert library_name(text) == ("timm", "resnet10t", "dense(16) relu dense")
    network = build(text, (64, 64, 3), 5).eval()
    assert [name for name, _ in network.get_submodule("fc").named_children()] == ["dense1", "relu1", "dense2"]
    with torch.no_grad():
        assert network(torch.zeros(2, 3, 64, 64)).shape == (2, 5)
    made = table(text, (64, 64, 3), 5)
    assert made.model == text
    assert made.layers[-1].name == "fc.dense2"
    assert made.parameters == sum(parameter.numel() for parameter in network.parameters())


def test_layers_behind_a_name_must_fit_a_vector() -> None:
    with pytest.raises(UsageError) as caught:
        build("timm:resnet10t conv(8) globalavg", (64, 64, 3), 5)
    assert caught.value.code == "model-shape"


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ("conv(4) norm relu residual(conv(4) norm relu conv(4) norm) relu globalavg dense(8) relu dense", [3, 1]),
        ("parallel(conv(4) | conv(4)) globalavg dense", [2, 1]),
    ],
)
def test_blocks_of_a_text(model: str, expected: list[int]) -> None:
    network = build(model, (16, 16, 1), 3)
    found = blocks(network)
    names = [name for block in found for name in block]
    assert names == [name for name, _ in network.named_parameters()]
    kinds = [{name.split(".")[0].rstrip("0123456789") for name in block} for block in found]
    if expected == [3, 1]:
        assert kinds == [{"conv", "norm"}, {"residual"}, {"dense"}, {"dense"}]
    else:
        assert kinds == [{"parallel"}, {"dense"}]


@pytest.mark.parametrize(("model", "count"), [("torchvision:resnet18", 10), ("timm:tf_efficientnet_lite0", 19)])
def test_blocks_of_libraries_networks(model: str, count: int) -> None:
    """ResNet-18: the first convolution, eight residuals, the dense layer. EfficientNet-Lite0: 16 blocks between a first and a last convolution."""
    network = build(model, (64, 64, 3), 3)
    found = blocks(network)
    assert len(found) == count
    assert [name for block in found for name in block] == [name for name, _ in network.named_parameters()]


def test_what_the_libraries_say_of_their_weights() -> None:
    offer = pretrained("torchvision:resnet18")
    assert offer.address.startswith("https://") and offer.address.endswith(".pth")
    assert offer.sha256 in offer.address and len(offer.sha256) == 8
    assert (offer.input, offer.outputs) == ((224, 224, 3), 1000)
    offer = pretrained("timm:resnet18")
    assert offer.address.endswith(".safetensors") and offer.sha256 == ""
    assert len(offer.mean) == len(offer.std) == 3


def test_a_network_without_weights_is_refused() -> None:
    with pytest.raises(UsageError) as caught:
        pretrained("timm:efficientnet_b8")
    assert caught.value.code == "backbone-without-weights"
    with pytest.raises(UsageError) as caught:
        pretrained("timm:resnet18x")
    assert caught.value.code == "model-unknown"
