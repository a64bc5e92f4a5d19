"""A network's parts: its head, its blocks, and pooling before relu."""

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from torch import nn

from convoscope.errors import UsageError
from convoscope.models import OnFeatures, blocks, build, pool_first, replace_part, sole_head
from convoscope.models.surgery import take_heads_off
from tests.support.texts import model_texts


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
    assert sole_head(network, (64, 64, 3)) == path
    assert network.training
    assert not any(part._forward_hooks for part in network.modules())
    images = torch.randn(2, 3, 64, 64)
    network.eval()
    with torch.no_grad():
        scores = network(images)
        head = network.get_submodule(path)
        replace_part(network, path, nn.Identity())
        torch.testing.assert_close(head(network(images)), scores, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("model", "side", "heads"),
    [
        ("torchvision:squeezenet1_1", 64, ("classifier.1",)),
        ("timm:deit_tiny_distilled_patch16_224", 32, ("head", "head_dist")),
    ],
)
def test_new_layers_behind_a_network_whose_scores_come_from_no_single_dense_layer(
    model: str, side: int, heads: tuple[str, ...]
) -> None:
    """They get what the network's own heads get, as hooks see it: of a map the mean, of two heads the mean of both."""
    torch.manual_seed(0)
    whole = build(model, (side, side, 3), 7).eval()
    assert sole_head(whole, (side, side, 3)) is None
    network = build(f"{model} dense", (side, side, 3), 5).eval()
    assert isinstance(network, OnFeatures) and network.own_heads == heads
    weights = {f"backbone.{name}": value for name, value in whole.state_dict().items()}
    kept = network.state_dict()
    network.load_state_dict(kept | {name: value for name, value in weights.items() if name in kept})
    lost = {name.removeprefix("backbone.").rpartition(".")[0] for name in weights if name not in kept}
    assert lost == set(heads)
    given: dict[str, torch.Tensor] = {}
    for path in heads:
        whole.get_submodule(path).register_forward_hook(
            lambda _, images, __, path=path: given.update({path: images[0].clone()})
        )
    images = torch.randn(2, 3, side, side)
    with torch.no_grad():
        whole(images)
        features = [value.mean((2, 3)) if value.ndim == 4 else value for value in given.values()]
        dense = network.get_submodule("head.dense1")
        wanted = dense(sum(features) / len(features))
        torch.testing.assert_close(network(images), wanted, rtol=1e-5, atol=1e-5)
    names = [name for block in blocks(network) for name in block]
    assert sorted(names) == sorted(name for name, _ in network.named_parameters())
    assert len(blocks(network)) > 4 and blocks(network)[-1] == ["head.dense1.weight", "head.dense1.bias"]


class Scored(nn.Module):
    """Scores from something that is not linear in its features."""

    def __init__(self) -> None:
        super().__init__()
        self.last = nn.Conv2d(3, 7, 3)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        scores: torch.Tensor = self.last(images).amax((2, 3))
        return scores


@pytest.mark.parametrize(
    ("heads", "reason"), [(["last"], "come from last, neither dense nor a convolution of 1x1"), ([], "it has none")]
)
def test_heads_that_cannot_be_taken_off_are_refused(heads: list[str], reason: str) -> None:
    with pytest.raises(UsageError, match=reason) as caught:
        take_heads_off(Scored(), heads, (8, 8, 3))
    assert caught.value.code == "backbone-without-head"


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


def grown(text: str, input: tuple[int, int, int], dtype: torch.dtype, seed: int = 0) -> list[list[torch.Tensor | None]]:
    """Scores, the image's gradient and all parameters' gradients, with and without `pool_first`."""
    results: list[list[torch.Tensor | None]] = []
    for on in (False, True):
        torch.manual_seed(seed)
        network = build(text, input, 3).to(dtype)
        pool_first(network, on)
        # Few levels, so that there are many ties and zeros.
        image = torch.randint(-2, 3, (4, input[2], input[0], input[1])).to(dtype).requires_grad_()
        scores = network(image)
        scores.float().square().sum().backward()
        results.append([scores, image.grad, *(parameter.grad for parameter in network.parameters())])
    return results


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    "text",
    [
        "relu maxpool flatten dense",
        "conv(4) relu maxpool conv(8) norm relu maxpool(3, stride=2, padding=1) flatten dense(8) relu dense",
        "residual(conv(4) relu maxpool(3, stride=1, padding=1)) parallel(conv(2) relu maxpool | conv(3) tanh maxpool) relu relu maxpool globalavg dense",
    ],
)
def test_pool_first_changes_neither_scores_nor_gradients(text: str, dtype: torch.dtype) -> None:
    for plain, swapped in zip(*grown(text, (12, 12, 2), dtype), strict=True):
        assert torch.equal(plain, swapped)


@given(model_texts(), st.integers(0, 100))
def test_pool_first_is_exact_for_any_text(text: str, seed: int) -> None:
    try:
        results = grown(text.replace("dropout(0.3)", "relu maxpool(2, stride=1)"), (14, 13, 1), torch.float32, seed)
    except (UsageError, ValueError):
        assume(False)
    for plain, swapped in zip(*results, strict=True):
        assert torch.equal(plain, swapped)


def test_pool_first_swaps_the_order_only_while_it_is_on() -> None:
    network = build(
        "conv(4) relu maxpool residual(conv(4) relu maxpool(3, stride=1, padding=1)) relu flatten dense", (8, 8, 1), 2
    )
    order: list[str] = []
    for name, module in network.named_modules():
        if not list(module.children()):
            module.register_forward_hook(lambda *_, name=name: order.append(name))
    image = torch.randn(1, 1, 8, 8)
    names, keys = [name for name, _ in network.named_modules()], list(network.state_dict())
    network(image)
    plain = order.copy()
    assert plain[:3] == ["conv1", "relu1", "maxpool1"]
    assert pool_first(network) == 2
    order.clear()
    network(image)
    assert order[:3] == ["conv1", "maxpool1", "relu1"]
    assert order[order.index("residual1.body.maxpool1") + 1] == "residual1.body.relu1"
    assert sorted(order) == sorted(plain)
    assert ([name for name, _ in network.named_modules()], list(network.state_dict())) == (names, keys)
    pool_first(network, False)
    order.clear()
    network(image)
    assert order == plain
    assert pool_first(nn.Sequential(nn.ReLU(), nn.MaxPool2d(2))) == 0
