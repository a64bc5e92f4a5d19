"""Why this number: the terms are the right ones, and their sum is the number."""

import contextlib
import copy
import io
import json
import math
import random
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from convoscope import models
from convoscope.errors import UsageError
from convoscope.explain import Step, Trace, trace
from convoscope.training import Normalisation
from tests.support.networks import PROMISED, Habits, everything, network

Floats = NDArray[np.float32]
Size = int | tuple[int, int]


def some_units(found: Trace, count: int, seed: int = 0) -> Iterator[tuple[Step, tuple[int, ...]]]:
    chance = random.Random(seed)
    for _ in range(count):
        step = chance.choice(found.steps[1:])
        yield step, tuple(chance.randrange(n) for n in step.shape)


@pytest.mark.parametrize("name", PROMISED)
def test_200_units_of_each_network_agree_within_rounding(name: str) -> None:
    found = trace(*network(name))
    for step, place in some_units(found, 200):
        why = found.why(step.name, *place)
        assert why.opened, why.words
        assert abs(why.difference) <= why.bound or why.sum == why.recorded, str(why)


def test_every_kind_of_operation_agrees_and_its_terms_are_where_they_say() -> None:
    found = trace(*everything())
    seen = set()
    for step in found.steps[1:]:
        for place in {
            tuple(0 for _ in step.shape),
            tuple(n - 1 for n in step.shape),
            tuple(n // 2 for n in step.shape),
        }:
            why = found.why(step.name, *place)
            assert why.opened, (step.name, why.words)
            assert why.agrees, str(why)
            seen.add(step.kind)
            for term in random.Random(0).sample(why.terms, min(5, len(why))):
                if term.source is not None:
                    assert found[term.source.layer].value(term.source.index) == term.input
                if term.weight_source is not None and "divisor" not in why.constants:
                    assert found[term.weight_source.layer].value(term.weight_source.index) == pytest.approx(term.weight)
    assert {
        "conv", "norm", "groupnorm", "layernorm", "maxpool", "avgpool", "sumpool", "leakyrelu", "sigmoid", "tanh", "gelu", "silu", "relu6",
        "dropout", "softmax", "pad", "flatten", "matmul", "dense", "stack", "multiply", "divide", "subtract", "add", "slice",
    } <= seen  # fmt: skip


def loop_convolution(image: Floats, layer: nn.Conv2d, place: tuple[int, ...]) -> tuple[float, int]:
    """One unit of a convolution, by plain loops."""
    filter_, y, x = place
    weight, bias = layer.weight.detach().numpy(), None if layer.bias is None else layer.bias.detach().numpy()
    stride, padding, dilation, groups = layer.stride, layer.padding, layer.dilation, layer.groups
    assert not isinstance(padding, str)
    total = 0.0 if bias is None else float(bias[filter_])
    terms = 0
    each = weight.shape[0] // groups
    for channel in range(weight.shape[1]):
        source = filter_ // each * weight.shape[1] + channel
        for ky in range(weight.shape[2]):
            for kx in range(weight.shape[3]):
                iy = y * stride[0] - padding[0] + ky * dilation[0]
                ix = x * stride[1] - padding[1] + kx * dilation[1]
                terms += 1
                if 0 <= iy < image.shape[1] and 0 <= ix < image.shape[2]:
                    total += float(image[source, iy, ix]) * float(weight[filter_, channel, ky, kx])
    return total, terms


@pytest.mark.parametrize(
    ("size", "stride", "padding", "dilation", "groups", "bias"),
    [(3, 1, 1, 1, 1, True), ((2, 3), (2, 1), (0, 2), (1, 2), 2, False), (5, 3, 2, 1, 4, True), (1, 1, 0, 1, 1, True)],
)
def test_a_convolution_is_its_loop(
    size: Size, stride: Size, padding: Size, dilation: Size, groups: int, bias: bool
) -> None:
    torch.manual_seed(0)
    layer = nn.Conv2d(4, 8, size, stride=stride, padding=padding, dilation=dilation, groups=groups, bias=bias)
    image = torch.randn(4, 9, 8)
    found = trace(nn.Sequential(layer), image)
    for step, place in some_units(found, 40):
        why = found.why(step.name, *place)
        wanted, terms = loop_convolution(image.numpy(), layer, place)
        assert why.sum == pytest.approx(wanted, rel=1e-12, abs=1e-14)
        assert len(why) == terms
        assert why.subtotals().sum() + (why.bias or 0) == pytest.approx(wanted, rel=1e-12, abs=1e-14)
        for term in why.terms:
            assert term.padding == (term.source is None)
            assert term.weight is not None and term.product == term.input * term.weight


def test_the_corner_of_a_padded_convolution_marks_five_cells() -> None:
    found = trace(*network("fashion"))
    why = found.why("conv1", 0, 0, 0)
    assert [term.padding for term in why.terms] == [True, True, True, True, False, False, True, False, False]
    value = why.to_json()
    assert value["terms"][0] == {"input": 0.0, "weight": why.terms[0].weight, "product": 0.0, "padding": True}
    assert value["terms"][4]["from"] == {"layer": "image", "channel": 0, "y": 0, "x": 0}


def test_the_json_has_what_scripts_count_on() -> None:
    found = trace(*network("fashion"))
    value = json.loads(json.dumps(found.why("conv2", 5, 3, 4).to_json(), allow_nan=False))
    assert {"layer", "kind", "unit", "terms", "bias", "sum", "recorded", "difference"} <= value.keys()
    assert value["layer"] == "conv2" and value["kind"] == "conv"
    assert value["unit"] == {"channel": 5, "y": 3, "x": 4}
    assert len(value["terms"]) == 9 * 32
    first = value["terms"][0]
    assert first["from"] == {"layer": "maxpool1", "channel": 0, "y": 2, "x": 3}
    assert first["product"] == first["input"] * first["weight"]
    total = math.fsum(term["product"] for term in value["terms"]) + value["bias"]
    assert total == pytest.approx(value["sum"], rel=1e-14)
    assert value["recorded"] - value["sum"] == value["difference"]
    assert json.loads(json.dumps(found.why("dense2", 3).to_json()))["unit"] == {"channel": 3, "y": 0, "x": 0}


def test_any_number_opens_down_to_the_pixels() -> None:
    net, _ = network("fashion")
    pixels = torch.randint(0, 256, (1, 1, 28, 28), generator=torch.Generator().manual_seed(0)).float()
    how = Normalisation(mean=(0.3,), std=(0.25,))
    found = trace(net, how(pixels), pixels=pixels, normalisation=how)
    why, seen = found.why("dense2", 4), []
    while len(why):
        seen.append(why.layer)
        assert why.agrees, str(why)
        flags = why.padding
        why = why.open(int(np.argmax(np.where(flags, -1, np.abs(why.products)))))
    assert seen == [
        "dense2",
        "relu3",
        "dense1",
        "flatten",
        "maxpool2",
        "relu2",
        "conv2",
        "maxpool1",
        "relu1",
        "conv1",
        "image",
    ]
    assert why.layer == "pixels" and why.recorded == float(pixels[(0, *why.unit.index)])


def test_what_cannot_be_opened_says_so() -> None:
    why = trace(*network("fashion")).why("conv1", 0, 0, 0)
    with pytest.raises(UsageError) as caught:
        why.open(0)
    assert caught.value.code == "term-closed"
    with pytest.raises(UsageError, match="terms 0 to 8; received 9") as caught:
        why.open(9)
    assert caught.value.code == "term-unknown"


def test_an_operation_outside_the_catalogue_is_run_as_a_whole() -> None:
    class Multiplies(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.cumprod(dim=3).flatten(1)

    why = trace(Multiplies(), torch.randn(1, 3, 3)).why("cumprod", 0, 1, 1)
    assert not why.opened and why.agrees and not len(why)
    assert "its arithmetic is not opened" in why.text()


@pytest.mark.parametrize("name", ["tiny", "fashion", "resnet-small", "everything", "habits"])
def test_the_snippet_prints_the_number(name: str) -> None:
    torch.manual_seed(0)
    special = {"everything": everything(), "habits": (Habits().eval(), torch.randn(1, 2, 6, 6))}
    found = trace(*(special.get(name) or network(name)))
    for step in found.steps[1:]:
        why = found.why(step.name, *(n // 3 for n in step.shape))
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(why.snippet(), {})
        assert float(printed.getvalue()) == pytest.approx(why.sum, rel=1e-12, abs=1e-14), why.snippet()


def test_the_worked_pooling() -> None:
    found = trace(nn.MaxPool2d(3), torch.tensor([1.0, 0, 4, 8, 2, 5, 20, 13, 25]).reshape(1, 3, 3))
    why = found.why("maxpool", 0, 0, 0)
    assert why.sum == why.recorded == 25
    assert [term.winner for term in why.terms] == [False] * 8 + [True]
    assert "[25]" in why.text()


def test_the_worked_sizes() -> None:
    small = trace(models.build("tiny", (5, 5, 1), 2), torch.randn(1, 5, 5))
    assert (small["conv1"].shape, small["maxpool1"].shape) == ((1, 3, 3), (1, 2, 2))
    for padding, shape in (("same", (1, 6, 6)), ("valid", (1, 4, 4))):
        net = models.build(f"conv(1, padding={padding}) flatten dense", (6, 6, 1), 2)
        assert trace(net, torch.randn(1, 6, 6))["conv1"].shape == shape


def test_texts_short_and_whole() -> None:
    found = trace(*network("fashion"))
    short, whole = found.why("conv2", 1, 4, 4).text(), found.why("conv2", 1, 4, 4).text(all=True)
    assert "convolution 3x3 over 32 channels, zeros beyond the border" in short
    assert "and 28 more channels of maxpool1" in short and "more channels" not in whole
    assert whole.count("subtotal") == 32
    assert max(map(len, short.splitlines())) <= 120
    for text in (short, whole):
        assert "recorded" in text and "difference" in text and "rounding in float32 allows" in text
    many = found.why("dense1", 5).text()
    assert "and 3,124 smaller terms" in many
    assert "·" in found.why("conv1", 0, 0, 0).text()
    assert "nothing is rounded here" in found.why("relu1", 0, 5, 5).text()


@pytest.mark.parametrize("name", ["fashion", "resnet-small", "torchvision:resnet18"])
def test_another_order_in_memory_changes_nothing(name: str) -> None:
    net, image = network(name)
    net = copy.deepcopy(net).to(memory_format=torch.channels_last)
    found = trace(net, image.repeat(1, 1, 1, 1).contiguous(memory_format=torch.channels_last))
    for step in found.steps[1:]:
        why = found.why(step.name, *(n // 2 for n in step.shape))
        assert why.opened and why.agrees, str(why)
        for term in why.terms[:3]:
            if term.source is not None:
                assert found[term.source.layer].value(term.source.index) == term.input
