"""A trace is the network's own run, step by step, and leaves nothing behind."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, reject
from hypothesis import strategies as st
from torch import nn

from convoscope import models
from convoscope.errors import UsageError
from convoscope.explain import trace
from tests.support.networks import PROMISED, Everything, Habits, everything, network
from tests.support.texts import model_texts


def state_of(net: nn.Module, images: Sequence[torch.Tensor] = ()) -> tuple[object, ...]:
    """All that must stay as it was."""
    return (
        {name: value.clone() for name, value in net.state_dict().items()},
        {name: None if p.grad is None else p.grad.clone() for name, p in net.named_parameters()},
        [part.training for part in net.modules()],
        [len(part._forward_hooks) + len(part._forward_pre_hooks) + len(part._backward_hooks) for part in net.modules()],
        torch.get_rng_state(),
        [image.clone() for image in images],
    )


def same(one: Any, two: Any) -> bool:
    if isinstance(one, torch.Tensor):
        return torch.equal(one, two)
    if isinstance(one, dict):
        return one.keys() == two.keys() and all(same(one[key], two[key]) for key in one)
    if isinstance(one, (list, tuple)):
        return len(one) == len(two) and all(map(same, one, two))
    return bool(one == two)


@pytest.mark.parametrize("name", PROMISED)
def test_the_output_is_the_networks_own(name: str) -> None:
    net, image = network(name)
    with torch.no_grad():
        assert torch.equal(trace(net, image).output, net(image))


@pytest.mark.parametrize("name", ["tiny", "fashion", "lenet", "resnet-small", "inception-small", "vgg-small"])
def test_layers_have_the_names_of_the_models_table(name: str) -> None:
    net, image = network(name)
    rows = models.table(name, (*image.shape[2:], image.shape[1]), 2 if name == "tiny" else 10).layers
    found = trace(net, image)
    assert [step.name for step in found.steps[1:]] == [row.name for row in rows]
    assert [step.kind for step in found.steps[1:]] == [
        {"residual": "add", "parallel": "concat"}.get(row.kind, row.kind) for row in rows
    ]
    for step, row in zip(found.steps[1:], rows, strict=True):
        assert sorted(step.shape) == sorted(row.output)


def test_every_habit_of_real_code_is_followed() -> None:
    torch.manual_seed(0)
    found = trace(Habits(), torch.randn(2, 6, 6))
    assert found.names == (
        "image", "first", "relu", "again", "relu#2", "again#2", "add", "sigmoid", "multiply", "concat", "globalavg", "last",
    )  # fmt: skip
    assert found["again"].inputs == ("relu",)
    assert found["add"].inputs == ("again#2", "relu")
    assert found["multiply"].inputs == ("relu", "sigmoid")
    assert not found.notes
    # In-place operations leave the steps before them as they were.
    assert float(found["first"].output.min()) < 0
    assert torch.equal(found["relu"].output, found["first"].output.relu())
    assert not torch.equal(found["again#2"].output, found["add"].output)


def test_nothing_is_left_behind() -> None:
    for net, image in (everything(), network("torchvision:googlenet"), (Habits(), torch.randn(1, 2, 6, 6))):
        net.train()
        before = state_of(net, [image])
        trace(net, image)
        assert same(before, state_of(net, [image]))
        net.eval()


def test_nothing_is_left_behind_after_a_failure() -> None:
    class Breaks(Habits):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            super().forward(x)
            raise ValueError("the cable came out")

    net, image = Breaks().train(), torch.randn(2, 6, 6)
    before = state_of(net)
    with pytest.raises(UsageError, match="the cable came out") as caught:
        trace(net, image)
    assert caught.value.code == "model-module"
    assert same(before, state_of(net))


def test_a_wrong_size_is_an_error() -> None:
    net, _ = network("fashion")
    with pytest.raises(UsageError, match="it fails on an image of 20x20x1"):
        trace(net, torch.zeros(1, 20, 20))
    with pytest.raises(UsageError, match=r"expected one image \(C, H, W\)"):
        trace(net, torch.zeros(2, 1, 28, 28))


def test_a_decision_by_the_data_is_noted() -> None:
    class Decides(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.bright, self.dark = nn.Conv2d(1, 1, 1), nn.Conv2d(1, 1, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            maps: torch.Tensor = (self.bright if x.mean() > 0 else self.dark)(x)
            return maps.mean((2, 3))

    net = Decides()
    assert "bright" in trace(net, torch.ones(1, 3, 3)).names
    found = trace(net, -torch.ones(1, 3, 3))
    assert "dark" in found.names and "bright" not in found.names
    assert any("reads a number" in note for note in found.notes)


def test_a_detour_outside_torch_is_noted_and_its_ends_are_given() -> None:
    class Detour(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.from_numpy(np.sort(x.numpy(), axis=3))

    net = nn.Sequential(nn.Conv2d(1, 2, 3), Detour(), nn.Flatten(), nn.Linear(8, 2))
    found = trace(net, torch.randn(1, 4, 4))
    assert found["1"].inputs == ("0",)
    assert "outside torch" in found["1"].opaque
    assert any(note.startswith("1:") for note in found.notes)
    assert torch.equal(found["1"].output, found["0"].output.sort(3).values)
    why = found.why("1", 0, 0, 0)
    assert not why.opened and len(why) == 0 and why.sum == why.recorded
    assert found.why("3", 1).agrees


def test_memory_put_together_piece_by_piece_is_followed() -> None:
    class Pieces(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            out = torch.zeros(1, 2, *x.shape[2:])
            out[:, :1] = x
            out[:, 1:] = -x
            return out * 2

    found = trace(Pieces(), torch.randn(1, 3, 3))
    assert found.names == ("image", "neg", "assembled", "multiply") and not found.notes
    assert found["assembled"].inputs == ("image", "neg")
    assert torch.equal(found.output[:, 1], -2 * found["image"].output[:, 0])
    why = found.why("multiply", 1, 2, 2)
    assert why.agrees
    origin = why.open(0).terms[0].source
    assert origin is not None and (origin.layer, origin.index) == ("neg", (0, 2, 2))


def test_a_circular_border_is_put_together_piece_by_piece() -> None:
    net = nn.Conv2d(1, 2, 3, padding=1, padding_mode="circular")
    found = trace(net, torch.randn(1, 4, 4))
    assert not found.notes
    why = found.why("conv", 1, 0, 0)
    assert why.agrees
    # The corner beyond the border is the opposite corner of the image.
    corner = why.open(0).terms[0].source
    assert corner is not None and (corner.layer, corner.index) == ("image", (0, 3, 3))


def test_an_unknown_layer_lists_the_nearest() -> None:
    found = trace(*network("fashion"))
    with pytest.raises(UsageError, match="this network has no layer 'cnov1'") as caught:
        found.why("cnov1", 0, 0, 0)
    assert "conv1" in caught.value.hint
    assert caught.value.code == "layer-unknown"


@pytest.mark.parametrize("unit", [(32, 0, 0), (-1, 0, 0), (0, 28, 0), (0, 0), (), (0, 0, 0, 0)])
def test_an_unknown_unit_says_what_there_is(unit: Any) -> None:
    with pytest.raises(UsageError, match="conv1 needs channel, y, x, in 0 to 31, 0 to 27, 0 to 27") as caught:
        trace(*network("fashion")).why("conv1", *unit)
    assert caught.value.code == "unit-unknown"
    assert caught.value.hint == "its middle: conv1:16,14,14"


@given(model_texts(), st.integers(0, 10**6))
def test_any_model_of_the_grammar_is_followed(text: str, seed: int) -> None:
    torch.manual_seed(seed)
    try:
        net = models.build(text, (18, 16, 2), 3).eval()
    except UsageError:
        reject()
    image = torch.randn(1, 2, 18, 16)
    found = trace(net, image)
    with torch.no_grad():
        assert torch.equal(found.output, net(image))
    assert not found.notes
    for step in found.steps[1:]:
        why = found.why(step.name, *(n // 2 for n in step.shape))
        assert why.opened and why.agrees, (text, str(why))


def test_the_zoo_of_everything_is_followed() -> None:
    net, image = everything()
    assert isinstance(net, Everything)
    found = trace(net, image)
    assert not found.notes
    with torch.no_grad():
        assert torch.allclose(found.output, net(image), rtol=1e-5)
