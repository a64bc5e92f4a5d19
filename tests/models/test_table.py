"""The table against the built network, against torch's own counter, and receptive fields against gradients."""

import json
import time

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from convoscope.errors import UsageError
from convoscope.models import PRESETS, ModelTable, Preset, build, table
from tests.support.texts import model_texts


def built(text: str, input: tuple[int, int, int], outputs: int) -> tuple[ModelTable, nn.Module]:
    try:
        return table(text, input, outputs), build(text, input, outputs).eval()
    except UsageError:
        assume(False)


def outputs_of(network: nn.Module, input: tuple[int, int, int]) -> dict[str, tuple[int, ...]]:
    """Module path to (H, W, C) or (n,), from hooks."""
    shapes: dict[str, tuple[int, ...]] = {}
    for name, module in network.named_modules():
        module.register_forward_hook(lambda _m, _i, out, name=name: shapes.__setitem__(name, tuple(out.shape[1:])))
    with torch.no_grad():
        network(torch.zeros(1, input[2], input[0], input[1]))
    return {name: (*shape[1:], shape[0]) for name, shape in shapes.items()}


@given(model_texts(), st.integers(12, 24), st.integers(12, 24), st.sampled_from([1, 2, 4]))
def test_shapes_parameters_and_work_equal_the_built_network(text: str, height: int, width: int, channels: int) -> None:
    input = (height, width, channels)
    made, network = built(text, input, 3)
    shapes = outputs_of(network, input)
    for row in made.layers:
        module = network.get_submodule(row.name)
        assert row.output == shapes[row.name]
        if row.kind not in ("residual", "parallel"):
            assert row.parameters == sum(parameter.numel() for parameter in module.parameters())
    assert made.parameters == made.trainable == sum(parameter.numel() for parameter in network.parameters())
    assert [row.name for row in made.layers] == [
        name for name in shapes if name and type(network.get_submodule(name)).__name__ not in ("Chain", "Network")
    ]
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        network(torch.zeros(1, channels, height, width))
    assert 2 * made.multiply_adds == counter.get_total_flops()


@given(model_texts(), st.integers(12, 24), st.integers(12, 24))
def test_the_measured_table_equals_the_planned_one(text: str, height: int, width: int) -> None:
    made, network = built(text, (height, width, 2), 3)
    assert table(network, (height, width, 2), 3).layers == made.layers


@pytest.mark.parametrize("preset", PRESETS.values(), ids=lambda preset: preset.name)
def test_measured_presets(preset: Preset) -> None:
    input, outputs = preset.input or (64, 64, 3), 2 if preset.name in ("tiny", "catsdogs") else 10
    made = table(preset.name, input, outputs)
    measured = table(build(preset.name, input, outputs), input, outputs)
    assert measured.layers == made.layers and measured.outputs == made.outputs
    assert (measured.parameters, measured.multiply_adds) == (made.parameters, made.multiply_adds)


@pytest.mark.parametrize(
    "text",
    [
        "conv(2) conv(2, 2, stride=2) avgpool(3x2, stride=2) conv(1, 3, dilation=2)",
        "conv(2, 4) sumpool(2) residual(conv(2) conv(2))",
        "conv(2, stride=2) residual(conv(3, stride=2)) conv(2, 1x3)",
        "conv(2) parallel(conv(2, 5) | conv(2, 3x1) | ) conv(1)",
        "residual(conv(2, 1) parallel(conv(1, 2) | conv(1, 5))) avgpool(2)",
        "kernel(blur) conv(2, 3, stride=2) kernel(1, 2, 3, 4, stride=1x2) parallel(kernel(gaussian5) | kernel(7))",
    ],
)
def test_receptive_fields_equal_the_reach_of_gradients(text: str) -> None:
    # On an image larger than the field, the pixels with a gradient are exactly those that a unit in the middle sees.
    side = 61
    network = nn.Sequential(*list(build(f"{text} flatten dense", (side, side, 1), 1).children())[:-2]).double()
    for parameter in network.parameters():
        nn.init.uniform_(parameter, 0.5, 1)
    row = table(f"{text} flatten dense", (side, side, 1), 1).layers[-3]
    image = torch.zeros(1, 1, side, side, dtype=torch.float64, requires_grad=True)
    maps = network(image)
    maps[0, :, maps.shape[2] // 2, maps.shape[3] // 2].sum().backward()
    assert image.grad is not None
    seen = image.grad[0, 0].nonzero()
    reach = tuple((seen.max(dim=0).values - seen.min(dim=0).values + 1).tolist())
    assert (row.receptive_field if isinstance(row.receptive_field, tuple) else (row.receptive_field,) * 2) == reach


def test_the_tiny_models_table() -> None:
    made = table("tiny", (5, 5, 1), 2)
    assert made.to_json() == {
        "model": PRESETS["tiny"].text,
        "input": [5, 5, 1],
        "outputs": 2,
        "parameters": 19,
        "trainable": 19,
        "multiply_adds": 89,
        "layers": [
            {"name": "conv1", "kind": "conv", "output": [3, 3, 1], "parameters": 9, "formula": "3x3x1x1", "multiply_adds": 81, "receptive_field": 3},
            {"name": "maxpool1", "kind": "maxpool", "output": [2, 2, 1], "parameters": 0, "formula": "", "multiply_adds": 0, "receptive_field": 4},
            {"name": "flatten", "kind": "flatten", "output": [4], "parameters": 0, "formula": "", "multiply_adds": 0, "receptive_field": 4},
            {"name": "dense1", "kind": "dense", "output": [2], "parameters": 10, "formula": "4x2 + 2", "multiply_adds": 8, "receptive_field": 5},
        ],
    }  # fmt: skip
    json.dumps(made.to_json())


def test_formulas_and_fields_of_vgg() -> None:
    # Simonyan and Zisserman 2015, configuration A to the second pooling, at 224 pixels.
    made = table("conv(64) relu maxpool conv(128) relu maxpool(2x3) norm flatten dense", (224, 224, 3), 1000)
    rows = {row.name: row for row in made.layers}
    assert rows["conv2"].formula == "3x3x64x128 + 128" and rows["conv2"].parameters == 73_856
    assert rows["conv2"].multiply_adds == 112 * 112 * 73_728
    assert rows["norm1"].formula == "128 + 128"
    assert rows["conv2"].receptive_field == 8 and rows["maxpool2"].receptive_field == (10, 12)
    assert rows["dense1"].formula == f"{56 * 37 * 128}x1000 + 1000"
    assert rows["dense1"].receptive_field == (10 + 55 * 4, 12 + 36 * 6)
    assert table("conv(8, 2, groups=2, bias=false) flatten dense", (6, 6, 4), 2).layers[1].formula == "2x2x2x8"


def test_rows_of_blocks_stand_in_order_of_execution() -> None:
    made = table("residual(conv(4, stride=2) norm) parallel(relu | conv(2)) globalavg dense", (8, 8, 3), 2)
    assert [row.name for row in made.layers] == [
        "residual1.body.conv1",
        "residual1.body.norm1",
        "residual1.shortcut.conv1",
        "residual1.shortcut.norm1",
        "residual1",
        "parallel1.branch1.relu1",
        "parallel1.branch2.conv1",
        "parallel1",
        "globalavg",
        "dense1",
    ]
    assert made.layers[7].output == (4, 4, 6) and made.layers[4].parameters == 0


def test_a_large_text_is_planned_quickly() -> None:
    started = time.perf_counter()
    made = table("repeat(1000, conv(8) norm relu) globalavg dense", (64, 64, 3), 10)
    assert len(made.layers) == 3002 and time.perf_counter() - started < 2


class Odd(nn.Module):
    """Parameters outside layers, a layer used twice, a frozen one, one never used, a matrix product of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 2, 3, padding=1)
        self.scale = nn.Parameter(torch.ones(2, 1, 1))
        self.unused = nn.Linear(3, 3)
        self.head = nn.Linear(2, 4)
        self.head.requires_grad_(False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.conv(torch.relu(self.conv(x))) * self.scale
        scores: torch.Tensor = self.head(x.mean((2, 3))) @ torch.ones(4, 4)
        return scores.softmax(1)


def test_any_module_is_measured_and_left_as_found() -> None:
    network = Odd()
    network.conv.eval()
    made = table(network, (5, 5, 2), 4)
    assert [(row.name, row.kind, row.parameters, row.receptive_field) for row in made.layers] == [
        ("conv", "conv", 38, 3),
        ("conv", "conv", 0, 5),
        ("head", "dense", 12, 9),
        ("Odd", "odd", 14, 9),
    ]
    assert made.layers[3].formula == "2x1x1 + 3x3 + 3" and made.layers[3].multiply_adds == 16
    assert made.parameters == sum(row.parameters for row in made.layers) == 64 and made.trainable == 52
    assert made.multiply_adds == 2 * 25 * 36 + 8 + 16
    assert network.training and not network.conv.training and network.head.training
    for part in network.modules():
        assert not part._forward_hooks and not part._forward_pre_hooks


def test_hooks_are_gone_after_a_failure() -> None:
    from convoscope.models.measure import measure

    network = nn.Sequential(nn.Flatten(), nn.Linear(3, 3))
    with pytest.raises(RuntimeError):
        measure(network, (4, 4, 1))
    assert network.training and not any(part._forward_hooks or part._forward_pre_hooks for part in network.modules())
