"""What images take in a network: against sums made by hand and by hooks, and without a trace left."""

import math

import pytest
import torch
from torch import Tensor, nn

from convoscope import models
from convoscope.models import BUDGET, Footprint, footprint
from convoscope.models import memory as room

CHAIN = "conv(4) norm relu conv(8) relu flatten dense"


def bytes_of(*shape: int) -> int:
    return 4 * math.prod(shape)


def prepared(image: tuple[int, int, int]) -> int:
    """What the image as floats takes thrice."""
    return 3 * bytes_of(*image)


@pytest.mark.parametrize(
    ("text", "size"), [(CHAIN, 12), ("flatten dense(5) relu dense", 9), ("conv(3, 5) flatten dense", 8)]
)
def test_a_chain_takes_the_image_and_two_neighbouring_results(text: str, size: int) -> None:
    """The image stays with whoever gave it; of the layers' results the last one and the one that is being made are there."""
    image = (2, size, size)
    network = models.build(text, (size, size, 2), 3)
    results: list[int] = []

    def weigh(_: nn.Module, given: tuple[Tensor], output: Tensor) -> None:
        if output.data_ptr() != given[0].data_ptr():  # no flatten, and nothing that works in place
            results.append(output.nbytes)

    for part in network:  # type: ignore[attr-defined]
        part.register_forward_hook(weigh)
    network(torch.zeros(1, *image))
    found = footprint(models.build(text, (size, size, 2), 3), image)
    most = max(map(sum, zip([0, *results], results, strict=False)))
    # A norm gives its statistics too, some bytes for each channel.
    assert found.answering == pytest.approx(bytes_of(*image) + most + prepared(image), abs=200)
    assert found.training == pytest.approx(bytes_of(*image) + sum(results) + prepared(image), abs=200)


def test_what_a_shortcut_carries_counts() -> None:
    image = (4, 16, 16)
    plain = footprint(models.build("conv(4) conv(4) conv(4) globalavg dense", (16, 16, 4), 2), image)
    around = footprint(models.build("conv(4) residual(conv(4) conv(4)) globalavg dense", (16, 16, 4), 2), image)
    assert around.answering == plain.answering + bytes_of(*image)


def test_weights_do_not_count() -> None:
    few = footprint(models.build("flatten dense(4) dense", (8, 8, 1), 2), (1, 8, 8))
    assert few.answering < 64 * 4 * 5 + 64

    class Turned(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(1000, 64))

        def forward(self, images: Tensor) -> Tensor:
            return images.flatten(1) @ self.weight.T[:, :3]  # a view of the weights is made on the way

    assert footprint(Turned(), (1, 8, 8)).answering < 2000


@pytest.mark.parametrize(
    "text", [CHAIN, "residual(conv(4) norm relu conv(4)) parallel(conv(2) | maxpool(3, 1, 1)) globalavg dense"]
)
def test_large_images_are_weighed_without_computing(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    network = models.build(text, (12, 12, 2), 3)
    computed = footprint(network, (2, 12, 12))
    monkeypatch.setattr(room, "_LARGE", 0)
    weighed = footprint(network, (2, 12, 12))
    assert weighed.answering == pytest.approx(computed.answering, abs=200)
    assert weighed.training == pytest.approx(computed.training, abs=200)
    # 64 MB for each image, of which nothing is taken.
    assert footprint(models.build("conv(64) globalavg dense", (512, 512, 1), 2), (1, 512, 512)).answering > 64 * 2**20


def test_a_module_that_looks_at_numbers_is_weighed_by_computing(monkeypatch: pytest.MonkeyPatch) -> None:
    class Curious(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return images.flatten(1)[:, : 2 + int(images.sum().item())]

    monkeypatch.setattr(room, "_LARGE", 0)
    assert footprint(Curious(), (1, 4, 4)).answering == pytest.approx(64 + prepared((1, 4, 4)), abs=20)


def test_the_network_is_left_as_it_was() -> None:
    network = models.build("conv(4) norm relu dropout(0.5) globalavg dense", (8, 8, 1), 2).train()
    network[1].eval()  # type: ignore[index]
    before = {name: value.clone() for name, value in network.state_dict().items()}
    modes = [part.training for part in network.modules()]
    chance = torch.get_rng_state()
    footprint(network, (1, 8, 8))
    assert [part.training for part in network.modules()] == modes
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert torch.equal(torch.get_rng_state(), chance)
    assert all(not part._forward_hooks and not part._forward_pre_hooks for part in network.modules())


def test_a_module_that_fails_is_left_as_it_was() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(5, 2)).train()
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        footprint(network, (1, 4, 4))
    assert network.training


def test_how_many_go_at_once() -> None:
    assert Footprint(answering=1000, training=1).at_once() == 256
    assert Footprint(answering=BUDGET // 256, training=1).at_once() == 256
    assert Footprint(answering=BUDGET // 256 + 1, training=1).at_once() == 255
    assert Footprint(answering=BUDGET // 3, training=1).at_once() == 3
    assert Footprint(answering=10 * BUDGET, training=1).at_once() == 1
    assert Footprint(answering=1000, training=1).at_once(most=32, budget=5000) == 5
