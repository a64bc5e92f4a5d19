"""Texts become networks: names, shapes, numbers against plain loops, and errors that name the layer."""

import copy
import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import nn

from convoscope import models
from convoscope.errors import UsageError
from convoscope.models import (
    KERNELS,
    PRESETS,
    Preset,
    build,
    kernel_text,
    model_text,
    parse,
    read_size,
    table,
    to_text,
)
from tests.support.texts import model_texts, sides

Input = tuple[int, int, int]
Sides = tuple[int, int]
Floats = NDArray[np.float64]


def preset_case(preset: Preset) -> tuple[Input, int]:
    return preset.input or (32, 32, 3), 2 if preset.name in ("tiny", "catsdogs") else 10


def layer_of(text: str, input: Input, outputs: int = 1) -> nn.Sequential:
    """The layers of `text` without the flatten and dense that end it."""
    network = build(f"{text} flatten dense", input, outputs)
    assert isinstance(network, nn.Sequential)
    return network[:-2].eval()


# Presets


@pytest.mark.parametrize(
    ("name", "input", "outputs", "parameters"),
    [
        ("tiny", (5, 5, 1), 2, 19),
        ("mnist-mlp", (28, 28, 1), 10, 669_706),
        ("fashion-mlp", (28, 28, 1), 10, 101_770),
        ("fashion", (28, 28, 1), 10, 421_642),
    ],
)
def test_parameters_of_the_known_presets(name: str, input: Input, outputs: int, parameters: int) -> None:
    assert sum(parameter.numel() for parameter in build(name, input, outputs).parameters()) == parameters
    assert table(name, input, outputs).parameters == parameters


def test_sizes_of_catsdogs() -> None:
    rows = table("catsdogs", (150, 150, 3), 2).layers
    assert [row.output[0] for row in rows if row.kind in ("conv", "maxpool")] == [148, 74, 72, 36, 34, 17]
    assert rows[-1].output == (1,)


@pytest.mark.parametrize("preset", PRESETS.values(), ids=lambda preset: preset.name)
def test_presets_give_scores_and_gradients(preset: Preset) -> None:
    input, outputs = preset_case(preset)
    torch.manual_seed(0)
    network = build(preset.name, input, outputs)
    scores = network(torch.randn(2, input[2], input[0], input[1]))
    assert scores.shape == (2, network.outputs) and scores.dtype == torch.float32
    assert network.text == preset.text and network.input == input
    scores.square().sum().backward()
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in network.parameters())


@pytest.mark.parametrize("name", ["small", "vgg-small", "resnet-small", "inception-small"])
def test_modern_presets_take_every_size_and_stay_small(name: str) -> None:
    for side in (16, 28, 96, 160):
        shape = table(name, (side, side, 3), 10)
        assert 0.1e6 < shape.parameters < 1e6
    assert table(name, (96, 96, 3), 10).multiply_adds < 100e6
    network = build(name, (28, 28, 3), 10).eval()
    assert network(torch.zeros(1, 3, 41, 37)).shape == (1, 10)


def test_two_classes_may_share_one_score() -> None:
    assert build("flatten dense(1)", (5, 5, 1), 2).outputs == 1
    assert build("flatten dense", (5, 5, 1), 2).outputs == 2
    assert build("flatten dense(2)", (5, 5, 1), 2).outputs == 2
    assert build("conv(2, 1) globalavg", (5, 5, 1), 2)(torch.zeros(3, 1, 5, 5)).shape == (3, 2)


def test_the_front_door() -> None:
    # In one place on purpose: what is added here becomes a promise.
    assert " ".join(models.__all__) == (
        "BUDGET KERNELS LAYERS OPERATIONS PRESETS Argument Axes AxisFollower FeatureLayer Footprint Grid Item Kernel "
        "LayerRow ModelTable ModuleMaker OnFeatures OperationMode Parallel Preset Pretrained Residual Role Scale Value axes_after "
        "backbone_text blocks build check "
        "count_parameters eval_mode feature_layers footprint from_json kernel_text kinds_of "
        "library_name model_text parse pool_first pretrained read_size replace_part role_of sole_head table to_json to_text "
        "with_head with_own_head"
    )
    assert all(hasattr(models, name) for name in models.__all__)


# Names and seeds


def test_children_are_named_by_kind_and_count() -> None:
    text = (
        "conv(8) norm relu maxpool residual(conv(8, 2) relu) residual(conv(16, stride=2) norm) "
        "parallel(conv(4, 1) | ) repeat(2, conv(8) relu) flatten dense(5) relu dense"
    )
    network = build(text, (16, 16, 3), 4)
    assert " ".join(name for name, _ in network.named_children()) == (
        "conv1 norm1 relu1 maxpool1 residual1 residual2 parallel1 conv2 relu2 conv3 relu3 flatten dense1 relu4 dense2"
    )
    assert [name for name, _ in network.get_submodule("residual1").named_modules() if name] == [
        "body",
        "body.pad1",
        "body.conv1",
        "body.relu1",
        "shortcut",
    ]
    assert [name for name, _ in network.get_submodule("residual2.shortcut").named_children()] == ["conv1", "norm1"]
    projection = network.get_submodule("residual2.shortcut.conv1")
    assert isinstance(projection, nn.Conv2d) and projection.stride == (2, 2) and projection.bias is None
    assert [name for name, _ in network.get_submodule("parallel1").named_children()] == ["branch1", "branch2"]
    assert isinstance(network, nn.Sequential)


def test_the_seed_is_torchs() -> None:
    def weights(seed: int) -> torch.Tensor:
        torch.manual_seed(seed)
        return torch.cat([parameter.flatten() for parameter in build("fashion", (28, 28, 1), 10).parameters()])

    assert torch.equal(weights(3), weights(3)) and not torch.equal(weights(3), weights(4))


def test_weights_start_as_the_docstring_says() -> None:
    torch.manual_seed(0)
    network = build("conv(64, 5) relu conv(256) relu flatten dense(300) dense", (9, 9, 16), 100)
    for name, gain in (("conv1", 2), ("conv2", 2), ("dense1", 2), ("dense2", 1)):
        weight = network.get_parameter(f"{name}.weight")
        assert weight.std().item() == pytest.approx((gain / weight[0].numel()) ** 0.5, rel=0.03)
        assert not network.get_parameter(f"{name}.bias").any()
    plain = build("flatten dense(300) dense", (9, 9, 16), 100)  # torch's own, where nothing rectifies
    assert plain.get_parameter("dense1.weight").std().item() == pytest.approx((3 * 1296) ** -0.5, rel=0.03)


def test_a_residual_with_an_empty_shortcut_starts_by_passing_on() -> None:
    network = build("residual(conv(3) norm relu conv(3) norm) residual(conv(4) norm) flatten dense", (6, 6, 3), 2)
    image = torch.randn(2, 3, 6, 6)
    assert torch.equal(network.get_submodule("residual1")(image), image)
    for block in ("residual1", "residual2"):
        assert network.get_parameter(f"{block}.body.norm1.weight").eq(1).all()


# Numbers against plain loops


def padded(image: Floats, top: int, bottom: int, left: int, right: int, border: str) -> Floats:
    modes: dict[str, Literal["constant", "reflect", "edge"]] = {
        "zeros": "constant", "reflect": "reflect", "replicate": "edge"
    }  # fmt: skip
    return np.pad(image, ((0, 0), (top, bottom), (left, right)), mode=modes[border])


def places(image: Floats, size: Sides, stride: Sides, dilation: Sides = (1, 1)) -> Iterator[tuple[int, int, Floats]]:
    """Each place of the window: (row, column) of the output and the cells it sees, (C, kh, kw)."""
    reach = [(k - 1) * d + 1 for k, d in zip(size, dilation, strict=True)]
    rows = range(0, image.shape[1] - reach[0] + 1, stride[0])
    columns = range(0, image.shape[2] - reach[1] + 1, stride[1])
    for (i, top), (j, left) in itertools.product(enumerate(rows), enumerate(columns)):
        yield i, j, image[:, top : top + reach[0] : dilation[0], left : left + reach[1] : dilation[1]]


@given(
    st.tuples(sides, sides),
    st.tuples(st.integers(1, 5), st.integers(1, 5)),
    st.tuples(st.integers(1, 3), st.integers(1, 3)),
    st.integers(1, 2),
    st.sampled_from(["zeros", "reflect", "replicate"]),
    st.sampled_from([1, 2]),
)
def test_same_padding_is_ceil_and_equals_a_plain_loop(
    shape: Sides, size: Sides, stride: Sides, dilation: int, border: str, groups: int
) -> None:
    totals = [(k - 1) * dilation for k in size]
    assume(border != "reflect" or all((t + 1) // 2 < n for t, n in zip(totals, shape, strict=True)))
    text = f"conv(4, {size[0]}x{size[1]}, stride={stride[0]}x{stride[1]}, border={border}, dilation={dilation}, groups={groups})"
    torch.manual_seed(0)
    network = layer_of(text, (*shape, 2)).double()
    nn.init.normal_(network.get_parameter("conv1.bias"))
    image = torch.randn(2, *shape, dtype=torch.float64)
    made = network(image[None])[0].detach().numpy()

    cells = padded(
        image.numpy(), totals[0] // 2, totals[0] - totals[0] // 2, totals[1] // 2, totals[1] - totals[1] // 2, border
    )
    weight, bias = (network.get_parameter(f"conv1.{name}").detach().numpy() for name in ("weight", "bias"))
    expected = np.zeros((4, -(-shape[0] // stride[0]), -(-shape[1] // stride[1])))
    for i, j, window in places(cells, size, stride, (dilation, dilation)):
        for k in range(4):
            part = window if groups == 1 else window[k // 2 : k // 2 + 1]
            expected[k, i, j] = (part * weight[k]).sum() + bias[k]
    np.testing.assert_allclose(made, expected, rtol=1e-12, atol=1e-12)


@given(
    st.tuples(sides, sides),
    st.integers(1, 5),
    st.tuples(st.integers(1, 3), st.integers(1, 3)),
    st.sampled_from(["same", "valid", "2"]),
    st.sampled_from(["zeros", "reflect", "replicate"]),
    st.data(),
)
def test_a_kernel_equals_a_plain_loop(
    shape: Sides, side: int, stride: Sides, padding: str, border: str, data: st.DataObject
) -> None:
    before, after = {"same": ((side - 1) // 2, side // 2), "valid": (0, 0), "2": (2, 2)}[padding]
    assume(all(n + before + after >= side for n in shape) and (border != "reflect" or after < min(shape)))
    values = data.draw(st.lists(st.integers(-4, 4), min_size=side**2, max_size=side**2))
    numbers = ", ".join(map(str, values))
    text = f"kernel({numbers}, stride={stride[0]}x{stride[1]}, padding={padding}, border={border})"
    network = layer_of(text, (*shape, 3)).double()
    image = torch.randint(-9, 10, (3, *shape)).double()
    made = network(image[None])[0].numpy()
    expected = np.full_like(made, np.nan)
    cells = padded(image.numpy(), before, after, before, after, border)
    for i, j, window in places(cells, (side, side), stride):
        expected[:, i, j] = (window * np.reshape(values, (side, side))).sum(axis=(1, 2))
    np.testing.assert_array_equal(made, expected)


@pytest.mark.parametrize("name", KERNELS)
def test_a_named_kernel_is_its_numbers(name: str) -> None:
    numbers = np.array(KERNELS[name].rows)
    weight = build(f"kernel({name}) globalavg", (7, 7, 3), 3).get_buffer("kernel1.weight")
    assert weight.dtype == torch.float32 and (weight.numpy() == numbers.astype(np.float32)).all()
    named, plain = (layer_of(text, (7, 7, 1)) for text in (f"kernel({name})", kernel_text(numbers)))
    image = torch.randn(1, 1, 7, 7)
    assert torch.equal(named(image), plain(image))


def test_named_kernels_do_what_they_say() -> None:
    rising = torch.arange(5.0).expand(1, 1, 5, 5)  # brighter to the right

    def middle(name: str, image: torch.Tensor) -> float:
        return float(layer_of(f"kernel({name})", (5, 5, 1))(image)[0, 0, 2, 2])

    assert middle("sobel_x", rising) == 8 and middle("sobel_y", rising) == 0
    assert middle("sobel_y", rising.mT) == 8 and middle("sobel_x", rising.mT) == 0
    for name in ("identity", "blur", "gaussian", "gaussian5", "sharpen"):
        assert sum(KERNELS[name].values) == pytest.approx(1) and middle(name, rising) == pytest.approx(2)
    for name in ("laplacian", "outline"):
        assert sum(KERNELS[name].values) == 0 and middle(name, rising) == 0
    assert KERNELS["gaussian"].rows[0] == (1 / 16, 2 / 16, 1 / 16) and KERNELS["gaussian5"].rows[2][2] == 36 / 256


def test_a_kernel_has_a_buffer_and_no_parameters() -> None:
    network = build("kernel(sobel_x) flatten dense", (6, 6, 3), 2)
    assert [name for name, _ in network.named_parameters()] == ["dense1.weight", "dense1.bias"]
    assert [(name, value.shape) for name, value in network.named_buffers()] == [("kernel1.weight", (3, 1, 3, 3))]
    assert "kernel1.weight" in network.state_dict()
    row = table("kernel(sobel_x, padding=valid) flatten dense", (6, 7, 3), 2).layers[0]
    assert (row.kind, row.output, row.parameters, row.formula, row.multiply_adds, row.receptive_field) == (
        "kernel", (4, 5, 3), 0, "", 4 * 5 * 3 * 9, 3,
    )  # fmt: skip
    copies = copy.deepcopy(network)
    assert torch.equal(copies.get_buffer("kernel1.weight"), network.get_buffer("kernel1.weight"))
    assert "FixedKernel(3, kernel_size=(3, 3), stride=(1, 1), padding=(1, 1), border=zeros)" in repr(network)


def test_a_kernel_runs_as_one_ordinary_convolution() -> None:
    calls: list[tuple[str, Sequence[Any]]] = []

    class Watcher(models.OperationMode):
        def operation(self, func: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
            calls.append((func._overloadpacket.__name__, args))
            return func(*args, **kwargs)

    network, image = layer_of("kernel(sobel_x)", (6, 6, 4)), torch.zeros(1, 4, 6, 6)
    with Watcher():
        network(image)
    ((name, arguments),) = calls
    assert name == "convolution" and arguments[1].shape == (4, 1, 3, 3) and arguments[8] == 4


@given(
    st.sampled_from(["maxpool", "avgpool", "sumpool"]),
    st.tuples(sides, sides),
    st.tuples(st.integers(1, 4), st.integers(1, 4)),
    st.tuples(st.integers(1, 3), st.integers(1, 3)),
    st.integers(0, 2),
)
def test_pooling_equals_a_plain_loop(kind: str, shape: Sides, size: Sides, stride: Sides, padding: int) -> None:
    assume(2 * padding <= min(size) and all(n + 2 * padding >= k for n, k in zip(shape, size, strict=True)))
    network = layer_of(f"{kind}({size[0]}x{size[1]}, stride={stride[0]}x{stride[1]}, padding={padding})", (*shape, 2))
    image = torch.randn(2, *shape, dtype=torch.float64)
    made = network(image[None])[0].numpy()
    fill = -np.inf if kind == "maxpool" else 0
    cells = np.pad(image.numpy(), ((0, 0), (padding, padding), (padding, padding)), constant_values=fill)
    reduce: dict[str, Callable[..., Floats]] = {"maxpool": np.max, "avgpool": np.mean, "sumpool": np.sum}
    expected = np.zeros_like(made)
    for i, j, window in places(cells, size, stride):
        expected[:, i, j] = reduce[kind](window, axis=(1, 2))
    np.testing.assert_allclose(made, expected, rtol=1e-12, atol=1e-12)


def test_pooling_steps_by_its_size_unless_told() -> None:
    assert layer_of("maxpool(3)", (9, 9, 1))(torch.zeros(1, 1, 9, 9)).shape[2:] == (3, 3)
    assert layer_of("avgpool(2x3)", (9, 9, 1))(torch.zeros(1, 1, 9, 9)).shape[2:] == (4, 3)
    assert layer_of("maxpool", (9, 9, 1))(torch.zeros(1, 1, 9, 9)).shape[2:] == (4, 4)


@pytest.mark.parametrize(
    ("text", "function"),
    [
        ("relu", lambda x: np.maximum(x, 0)),
        ("leakyrelu(0.2)", lambda x: np.where(x > 0, x, 0.2 * x)),
        ("leakyrelu", lambda x: np.where(x > 0, x, 0.01 * x)),
        ("tanh", np.tanh),
        ("sigmoid", lambda x: 1 / (1 + np.exp(-x))),
        ("silu", lambda x: x / (1 + np.exp(-x))),
        ("gelu", lambda x: x * 0.5 * (1 + np.vectorize(__import__("math").erf)(x / 2**0.5))),
        ("dropout(0.3)", lambda x: x),
        ("norm", lambda x: x / np.sqrt(1 + 1e-5)),
        ("residual(tanh)", lambda x: x + np.tanh(x)),
        ("parallel(tanh | | relu)", lambda x: np.concatenate([np.tanh(x), x, np.maximum(x, 0)], axis=1)),
        ("repeat(3, tanh)", lambda x: np.tanh(np.tanh(np.tanh(x)))),
        ("globalavg", lambda x: x.mean(axis=(2, 3))),
        ("flatten", lambda x: x.reshape(2, -1)),
    ],
)
def test_layers_without_weights_equal_numpy(text: str, function: Callable[[Floats], Floats]) -> None:
    image = torch.randn(2, 3, 4, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    made = layer_of(text, (4, 5, 3)).double()(image).detach().numpy()
    np.testing.assert_allclose(made.reshape(2, -1), function(image.numpy()).reshape(2, -1), rtol=1e-12, atol=1e-12)


def test_residual_with_another_shape_adds_a_projection() -> None:
    torch.manual_seed(0)
    network = layer_of("residual(conv(5, stride=2x3) tanh)", (7, 8, 3))
    image = torch.randn(2, 3, 7, 8)
    projection, inside = (network.get_submodule(f"residual1.{name}.conv1") for name in ("shortcut", "body"))
    assert isinstance(projection, nn.Conv2d) and projection.bias is not None and projection.kernel_size == (1, 1)
    expected = torch.tanh(inside(image)) + projection(image)
    assert torch.equal(network(image), expected) and expected.shape == (2, 5, 4, 3)


def test_residual_on_vectors() -> None:
    network = build("flatten residual(dense(6) relu) residual(dense(6)) residual(norm dense(4)) dense", (2, 3, 1), 2)
    assert [name for name, _ in network.get_submodule("residual1").named_modules() if "shortcut" in name] == [
        "shortcut"
    ]
    dense, norm = (network.get_submodule(f"residual3.shortcut.{name}") for name in ("dense1", "norm1"))
    assert dense.bias is None and isinstance(norm, nn.BatchNorm1d)
    assert network(torch.zeros(3, 1, 2, 3)).shape == (3, 2)


@given(model_texts(), st.integers(12, 24), st.integers(12, 24), st.sampled_from([1, 2]))
def test_in_eval_a_batch_equals_its_images_one_by_one(text: str, height: int, width: int, channels: int) -> None:
    try:
        network = build(text, (height, width, channels), 3).eval().double()
    except UsageError:
        assume(False)
    images = torch.randn(3, channels, height, width, dtype=torch.float64)
    together = network(images)
    for image, scores in zip(images, together, strict=True):
        torch.testing.assert_close(network(image[None])[0], scores, rtol=1e-9, atol=1e-9)


# Errors


@pytest.mark.parametrize(
    ("text", "message", "hint", "code"),
    [
        (
            "conv(3) maxpool maxpool\nmaxpool flatten dense",
            "maxpool3 (item 4, line 2 column 1): a 2x2 window does not fit into 1x1",
            "make the image at least 8x8, or drop a pooling layer or make the window smaller",
            "model-size",
        ),
        (
            "conv(3, 7x3, padding=valid) flatten dense",
            "conv1 (item 1, line 1 column 1): a 7x3 window does not fit into 6x6",
            "make the image at least 7x6, or drop a pooling layer or make the window smaller",
            "model-size",
        ),
        (
            "conv(3, 3, padding=valid, dilation=4) flatten dense",
            "conv1 (item 1, line 1 column 1): a 3x3 window spread over 9x9 does not fit into 6x6",
            "make the image at least 9x9",
            "model-size",
        ),
        (
            "residual(conv(3) repeat(2, maxpool(3))) flatten dense",
            "residual1.body.maxpool2 (item 4, line 1 column 28): a 3x3 window does not fit into 2x2",
            "make the image at least 9x9",
            "model-size",
        ),
        (
            "kernel(gaussian5) maxpool kernel(gaussian5, padding=valid) flatten dense",
            "kernel2 (item 3, line 1 column 27): a 5x5 window does not fit into 3x3",
            "make the image at least 10x10",
            "model-size",
        ),
        (
            "maxpool(3) kernel(gaussian5, border=reflect) flatten dense",
            "kernel1 (item 2, line 1 column 12): a reflected border of 2 needs a larger map than 2x2",
            "make the image at least 9x9, or use border=replicate",
            "model-size",
        ),
        (
            "flatten kernel(blur)",
            "kernel1 (item 2, line 1 column 9): needs feature maps, but a vector of 36 numbers",
            "put it before",
            "model-shape",
        ),
        (
            "conv(3, 15, border=reflect) flatten dense",
            "conv1 (item 1, line 1 column 1): a reflected border of 7 needs a larger map than 6x6",
            "make the image at least 8x8, or use border=replicate",
            "model-size",
        ),
        (
            "repeat(30, conv(1, 1000, padding=valid)) flatten dense",
            "conv1 (item 2, line 1 column 12): a 1000x1000 window does not fit into 6x6",
            "drop a pooling layer",
            "model-size",
        ),
        (
            "conv(8) dense",
            "dense1 (item 2, line 1 column 9): needs a vector, but maps of 6x6x8 come in",
            "put flatten or",
            "model-shape",
        ),
        (
            "flatten conv(8)",
            "conv1 (item 2, line 1 column 9): needs feature maps, but a vector of 36 numbers",
            "put it before",
            "model-shape",
        ),
        (
            "globalavg maxpool dense",
            "maxpool1 (item 2, line 1 column 11): needs feature maps, but a vector of 1",
            "put it",
            "model-shape",
        ),
        (
            "flatten dense dense",
            "dense1 (item 2, line 1 column 9): dense without a number has one unit for each output",
            "write how",
            "model-shape",
        ),
        (
            "flatten repeat(2, dense)",
            "dense1 (item 3, line 1 column 19): dense without a number",
            "for instance dense(128)",
            "model-shape",
        ),
        ("conv(9, groups=2) flatten dense", "received groups=2, 1 channels, 9 filters", "", "model-shape"),
        (
            "maxpool(3, padding=2) flatten dense",
            "padding may be at most half the size; received size 3x3, padding 2x2",
            "",
            "model-shape",
        ),
        (
            "parallel(maxpool | ) flatten dense",
            "parallel1 (item 1, line 1 column 1): branch 1 gives 3x3x1, branch 2 gives 6x6x1; all must agree in height and width",
            "use the same strides",
            "model-shape",
        ),
        (
            "parallel(globalavg | relu) dense",
            "branch 1 gives 1, branch 2 gives 6x6x1",
            "use the same strides",
            "model-shape",
        ),
        (
            "residual(conv(8, padding=valid)) flatten dense",
            "residual1 (item 1, line 1 column 1): the layers inside turn 6x6 into 4x4, but the shortcut with stride 1 gives 6x6",
            "inside residual, use convolutions with padding=same",
            "model-shape",
        ),
        (
            "residual(flatten) dense",
            "the layers inside turn maps into a vector",
            "put flatten or globalavg after it",
            "model-shape",
        ),
        (
            "flatten dense(7)",
            "dense1 (item 2, line 1 column 9): gives 7, but 3 scores are needed",
            "end with a bare `dense`",
            "model-end",
        ),
        (
            "conv(8)",
            "conv1 (item 1, line 1 column 1): gives 6x6x8, but 3 scores are needed",
            "end with a bare `dense`",
            "model-end",
        ),
        (
            "flatten dense sigmoid",
            "sigmoid (item 3, line 1 column 15): a model ends with raw scores",
            "drop the last sigmoid",
            "model-end",
        ),
        ("", "model: expected at least one layer, got none", "write for instance: flatten dense", "model-end"),
        (
            "globalavg dense(1000000) dense(1000000) dense",
            "dense2 (item 3, line 1 column 26): brings the model to more than 2,000,000,000 parameters",
            "use fewer filters or units",
            "model-too-big",
        ),
        (
            "conv(60000, 1) sumpool(1) repeat(9, parallel(|)) flatten dense",
            "numbers for one image",
            "use smaller images",
            "model-too-big",
        ),
    ],
)
def test_what_does_not_fit_is_an_error_that_names_the_layer(text: str, message: str, hint: str, code: str) -> None:
    for make in (build, table):
        with pytest.raises(UsageError) as caught:
            make(text, (6, 6, 1) if code != "model-too-big" else (200, 200, 1), 3)
        assert message in str(caught.value) and hint in caught.value.hint and caught.value.code == code


@pytest.mark.parametrize(
    "text",
    ["conv(3, 4, padding=valid) maxpool(3) maxpool flatten dense", "maxpool(5, stride=3) maxpool(3x2) flatten dense"],
)
def test_the_size_in_the_hint_is_the_least_that_works(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        table(text, (2, 3, 1), 2)
    size = caught.value.hint.split("at least ")[1].split(",")[0]
    height, width, _ = read_size(size)
    table(text, (height, width, 1), 2)
    for smaller in ((height - 1, width, 1), (height, width - 1, 1)):
        with pytest.raises(UsageError, match="does not fit"):
            table(text, smaller, 2)


@pytest.mark.parametrize("name", ["fashon", "mnist_mlp", "resnet18", "3"])
def test_unknown_models_list_the_known_ones(name: str) -> None:
    with pytest.raises(UsageError, match=f"expected a preset .*fashion.*torchvision:NAME.*got `{name}`") as caught:
        build(name, (28, 28, 1), 10)
    assert caught.value.code == "model-unknown"
    if name == "fashon":
        assert caught.value.hint == "did you mean fashion?"


def test_model_text() -> None:
    assert model_text(" tiny ") == PRESETS["tiny"].text
    assert model_text("flatten dense") == "flatten dense" and model_text("flatten") == "flatten"
    assert model_text("timm:resnet18") == "timm:resnet18"
    assert to_text(parse(model_text("fashion-mlp"))) == "flatten dense(128) relu dense"


@pytest.mark.parametrize("input", [(0, 5, 1), (5, 5), (20_001, 5, 1), (5.0, 5, 1), (20_000, 20_000, 20)])
def test_impossible_inputs(input: Input) -> None:
    with pytest.raises(UsageError, match="expected height x width x channels, each from 1 to 20,000, got") as caught:
        build("tiny", input, 2)
    assert caught.value.code == "model-input"


@pytest.mark.parametrize("outputs", [0, -1, 2_000_000, 2.0])
def test_impossible_outputs(outputs: int) -> None:
    with pytest.raises(UsageError, match=r"outputs: expected a whole number from 1 to 1,000,000, got") as caught:
        table("tiny", (5, 5, 1), outputs)
    assert caught.value.code == "model-outputs"


def test_read_size() -> None:
    assert read_size("28x32x1") == (28, 32, 1) and read_size("96X96") == (96, 96, 3)
    for text in ("28", "28x28x1x1", "0x5x1", "axb", "-1x5x1", "", "5x5x" + "9" * 5000, "²x2"):
        with pytest.raises(UsageError, match="expected height x width x channels") as caught:
            read_size(text)
        assert caught.value.code == "model-input"
