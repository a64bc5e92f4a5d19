"""Networks of torchvision and timm: channels, outputs, sizes, tables, and their errors."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from convoscope.errors import UsageError
from convoscope.models import build, library_name, table


# Parameters for 3 channels and 1,000 classes, as https://pytorch.org/vision/stable/models.html and timm's results list them.
@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("torchvision:alexnet", 61_100_840),
        ("torchvision:vgg16", 138_357_544),
        ("torchvision:resnet18", 11_689_512),
        ("torchvision:resnet50", 25_557_032),
        ("torchvision:googlenet", 6_624_904),
        ("torchvision:mobilenet_v3_small", 2_542_856),
        ("torchvision:vit_b_32", 88_224_232),
        ("timm:resnet18", 11_689_512),
    ],
)
def test_tables_of_known_networks(name: str, parameters: int) -> None:
    made = table(name, (224, 224, 3), 1000)
    assert made.parameters == sum(row.parameters for row in made.layers) == parameters
    assert made.layers[-1].output == (1000,)


def test_the_receptive_field_of_resnet18_is_followed_through_its_additions() -> None:
    rows = {row.name: row for row in table("torchvision:resnet18", (224, 224, 3), 10).layers}
    # Araujo, Norris and Sim 2019, https://distill.pub/2019/computing-receptive-fields: 435 for resnet_v1_18.
    assert rows["layer4.1.conv2"].receptive_field == 435
    assert rows["fc"].receptive_field == 435 + 6 * 32


@pytest.mark.parametrize(
    ("name", "channels"),
    [
        ("torchvision:resnet18", 1),
        ("torchvision:googlenet", 4),
        ("torchvision:squeezenet1_1", 4),
        ("timm:resnet10t", 2),
    ],
)
def test_any_channels_and_outputs(name: str, channels: int) -> None:
    torch.manual_seed(0)
    network = build(name, (64, 96, channels), 7).eval()
    with torch.no_grad():
        scores = network(torch.randn(2, channels, 64, 96))
    assert scores.shape == (2, 7) and scores.isfinite().all()
    made = table(name, (64, 96, channels), 7)
    assert made.parameters == sum(parameter.numel() for parameter in network.parameters())
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        network(torch.zeros(1, channels, 64, 96))
    assert 2 * made.multiply_adds == counter.get_total_flops()


def test_the_seed_is_torchs() -> None:
    def first(seed: int) -> torch.Tensor:
        torch.manual_seed(seed)
        return next(build("torchvision:squeezenet1_1", (64, 64, 1), 2).parameters())

    assert torch.equal(first(1), first(1)) and not torch.equal(first(1), first(2))


@pytest.mark.parametrize(("name", "size"), [("timm:test_vit", 96), ("torchvision:vit_b_32", 64)])
def test_transformers_take_the_size_that_is_asked_for(name: str, size: int) -> None:
    assert table(name, (size, size, 1), 3).outputs == 3


@pytest.mark.parametrize(
    ("name", "message", "hint"),
    [
        (
            "torchvision:alexnet",
            "model torchvision:alexnet: it does not take images of 28x28: Given input size",
            "images of 63x63 work",
        ),
    ],
)
def test_images_too_small_for_the_depth(name: str, message: str, hint: str) -> None:
    for make in (build, table):
        with pytest.raises(UsageError) as caught:
            make(name, (28, 28, 1), 10)
        assert message in str(caught.value) and caught.value.hint == hint and caught.value.code == "model-size"


@pytest.mark.parametrize(
    ("name", "message", "hint"),
    [
        (
            "torchvision:resnet19",
            "torchvision has no classification network `resnet19`",
            "did you mean torchvision:resnet1",
        ),
        (
            "torchvision:fcn_resnet50",
            "torchvision has no classification network `fcn_resnet50`",
            "did you mean torchvision:",
        ),
        ("torchvision:", "torchvision has no classification network ``", "for instance torchvision:resnet18"),
        ("timm:hf-hub:someone/something", "timm has no classification network `hf-hub:someone/something`", "timm:"),
        ("timm:local-dir:/tmp", "timm has no classification network `local-dir:/tmp`", "timm:"),
        (
            "keras:resnet50",
            "expected torchvision:NAME or timm:NAME, got `keras:resnet50`",
            "the libraries are torchvision and timm",
        ),
    ],
)
def test_unknown_names(name: str, message: str, hint: str) -> None:
    with pytest.raises(UsageError) as caught:
        build(name, (64, 64, 3), 10)
    assert message in str(caught.value) and hint in caught.value.hint and caught.value.code == "model-unknown"


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
