"""Convolution and pooling by hand, against SciPy, against plain loops, and against the layers of a model."""

import io
import itertools
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import pytest
import scipy.ndimage
import scipy.signal
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray
from PIL import Image
from timm.layers.std_conv import StdConv2d
from torch import nn

from convoscope.errors import UsageError
from convoscope.explain import border_cells, convolve, filters, output_size, output_size_text, pool
from convoscope.explain.methods.kernels import Border, PoolKind
from convoscope.models import KERNELS, build, kernel_text
from tests.support.networks import sequence

PAD_MODES: dict[Border, Literal["constant", "reflect", "edge"]] = {
    "zeros": "constant",
    "reflect": "reflect",
    "replicate": "edge",
}
BORDERS: list[Border] = ["none", *PAD_MODES]
borders = st.sampled_from(BORDERS)
sides = st.integers(1, 9)
Floats = NDArray[np.float64]
Pair = tuple[int, int]
pairs = st.tuples(st.integers(1, 3), st.integers(1, 3))


def whole_numbers(shape: tuple[int, ...]) -> st.SearchStrategy[Floats]:
    """Float64 arrays of whole numbers, on which sums are exact in every order."""
    return arrays.arrays(np.float64, shape, elements=st.integers(-99, 99).map(float))


def looped(image: Floats, kernel: Floats, border: Border, stride: Pair, dilation: Pair) -> Floats:
    """The definition, cell by cell, for `(H, W, C)` and `(h, w, C)`; each channel by itself."""
    if border != "none":
        cells = [
            ((k - 1) * d // 2, (k - 1) * d - (k - 1) * d // 2) for k, d in zip(kernel.shape, dilation, strict=False)
        ]
        image = np.pad(image, [*cells, (0, 0)], mode=PAD_MODES[border])
    height, width = (
        (n - (k - 1) * d - 1) // s + 1 for n, k, s, d in zip(image.shape, kernel.shape, stride, dilation, strict=False)
    )
    result = np.zeros((height, width, image.shape[2]))
    for y, x, row, column in itertools.product(*map(range, (height, width, *kernel.shape[:2]))):
        seen = image[y * stride[0] + row * dilation[0], x * stride[1] + column * dilation[1]]
        result[y, x] += seen * kernel[row, column]
    return result


def drawn_case(data: st.DataObject) -> tuple[Floats, Floats, Border, Pair, Pair]:
    """Image `(H, W, C)`, kernel `(h, w)`, border, stride and dilation that fit together."""
    shape, size = (data.draw(sides), data.draw(sides)), data.draw(st.tuples(st.integers(1, 5), st.integers(1, 5)))
    border, stride, dilation = data.draw(borders), data.draw(pairs), data.draw(pairs)
    reach = [(k - 1) * d for k, d in zip(size, dilation, strict=True)]
    assume(border != "none" or all(r < n for r, n in zip(reach, shape, strict=True)))
    assume(border != "reflect" or all((r + 1) // 2 < n for r, n in zip(reach, shape, strict=True)))
    image = data.draw(whole_numbers((*shape, data.draw(st.integers(1, 3)))))
    return image, data.draw(whole_numbers(size)), border, stride, dilation


@given(st.data())
def test_each_channel_by_itself_equals_a_plain_loop(data: st.DataObject) -> None:
    image, kernel, border, stride, dilation = drawn_case(data)
    made = convolve(image, kernel, border=border, stride=stride, dilation=dilation)
    np.testing.assert_array_equal(made, looped(image, kernel, border, stride, dilation))
    flat = convolve(image[:, :, 0], kernel, border=border, stride=stride, dilation=dilation)
    np.testing.assert_array_equal(flat, made[:, :, 0])


@given(st.data())
def test_a_full_filter_is_the_sum_over_the_channels(data: st.DataObject) -> None:
    image, kernel, border, stride, dilation = drawn_case(data)
    full = data.draw(whole_numbers((*kernel.shape, image.shape[2])))
    made = convolve(image, full, border=border, stride=stride, dilation=dilation)
    np.testing.assert_array_equal(made, looped(image, full, border, stride, dilation).sum(axis=2))


@given(st.data())
def test_it_equals_scipy(data: st.DataObject) -> None:
    image, kernel, border, _, dilation = drawn_case(data)
    reach = [(k - 1) * d + 1 for k, d in zip(kernel.shape, dilation, strict=True)]
    spread = np.zeros(reach)
    spread[:: dilation[0], :: dilation[1]] = kernel
    made = convolve(image[:, :, 0], kernel, border=border, dilation=dilation)
    if border == "none":
        np.testing.assert_array_equal(made, scipy.signal.correlate2d(image[:, :, 0], spread, "valid"))
        return
    # scipy's reflect repeats the edge pixel, its mirror does not; an even window's extra cell is at the top there.
    mode = {"zeros": "constant", "reflect": "mirror", "replicate": "nearest"}[border]
    origin = [-1 if cells % 2 == 0 else 0 for cells in reach]
    np.testing.assert_array_equal(made, scipy.ndimage.correlate(image[:, :, 0], spread, mode=mode, origin=origin))


@given(st.data())
def test_it_equals_the_convolution_of_a_model(data: st.DataObject) -> None:
    image, kernel, border, stride, dilation = drawn_case(data)
    filters_given = data.draw(whole_numbers((2, image.shape[2], *kernel.shape)))
    padding = "valid" if border == "none" else "same"
    text = (
        f"conv(2, {kernel.shape[0]}x{kernel.shape[1]}, stride={stride[0]}x{stride[1]}, padding={padding}, bias=false, "
        f"border={'zeros' if border == 'none' else border}, dilation={dilation[0]}x{dilation[1]}) flatten dense"
    )
    network = sequence(text, (image.shape[0], image.shape[1], image.shape[2]), 1)[:-2].double()
    with torch.no_grad():
        network.get_parameter("conv1.weight").copy_(torch.from_numpy(filters_given))
        made = network(torch.from_numpy(image).permute(2, 0, 1)[None])[0].numpy()
    for number, learned in enumerate(filters(network, "conv1")):
        by_hand = convolve(image, learned.transpose(1, 2, 0), border=border, stride=stride, dilation=dilation)
        np.testing.assert_array_equal(by_hand, made[number])


@pytest.mark.parametrize("border", BORDERS)
@pytest.mark.parametrize("name", KERNELS)
def test_a_named_kernel_is_the_layer_of_that_name(name: str, border: Border) -> None:
    padding, cells = ("valid", "zeros") if border == "none" else ("same", border)
    text = f"kernel({name}, padding={padding}, border={cells}, stride=2) flatten dense"
    network = sequence(text, (9, 8, 3), 1)[:-2]
    image = torch.randint(0, 256, (9, 8, 3)).float()
    made = network(image.permute(2, 0, 1)[None])[0].permute(1, 2, 0).numpy()
    np.testing.assert_allclose(convolve(image, name, border=border, stride=2), made, rtol=1e-5, atol=1e-4)


# Worked examples


def test_a_6x6_image_keeps_its_size_with_a_border_and_loses_two_cells_without() -> None:
    image = np.arange(36).reshape(6, 6)
    assert convolve(image, "sobel_x").shape == (4, 4)
    assert convolve(image, "sobel_x", border="zeros").shape == (6, 6)
    assert (convolve(image, "sobel_x") == 8).all() and (convolve(image, "sobel_y") == 48).all()
    assert output_size(6, 3, padding=1) == 6 and output_size(6, 3) == 4


def test_results_below_zero_are_kept() -> None:
    assert convolve([[3, 0], [0, 0]], [[-2]]).tolist() == [[-6, 0], [0, 0]]
    assert convolve([[9, 5, 1]] * 3, "sobel_x").tolist() == [[-32]]


def test_the_kernel_is_not_turned_around() -> None:
    image, kernel = np.eye(2), np.array([[1, 2], [3, 4]])
    assert convolve(image, kernel).tolist() == [[5]]
    turned = convolve([[0, 0, 0], [0, 1, 0], [0, 0, 0]], [[1, 2, 3], [4, 5, 6], [7, 8, 9]], border="zeros")
    assert turned.tolist() == [[9, 8, 7], [6, 5, 4], [3, 2, 1]]


def test_the_window_of_nine_pools_to_its_largest() -> None:
    window = [[1, 0, 4], [8, 2, 5], [20, 13, 25]]
    assert pool(window, "max", 3).tolist() == [[25]]
    assert pool(window, "sum", 3).tolist() == [[78]] and pool(window, "mean", 3).tolist() == [[78 / 9]]


def test_the_tiny_model_by_hand() -> None:
    image = np.arange(25).reshape(5, 5)
    maps = convolve(image, "laplacian")
    assert maps.shape == (3, 3) and pool(maps, "max", 2, stride=1).shape == (2, 2)


def test_zeros_around_the_image() -> None:
    assert convolve([[1]], np.ones((3, 3)), border="zeros").tolist() == [[1]]
    assert convolve([[1]], np.ones((3, 3)), border="replicate").tolist() == [[9]]
    assert convolve([[1, 2, 3]], np.ones((1, 3)), border="reflect").tolist() == [[5, 6, 7]]


# Pooling and sizes


@given(st.data())
def test_pooling_equals_a_plain_loop(data: st.DataObject) -> None:
    image = data.draw(whole_numbers((data.draw(sides), data.draw(sides), data.draw(st.integers(1, 2)))))
    size = (data.draw(st.integers(1, image.shape[0])), data.draw(st.integers(1, image.shape[1])))
    stride = data.draw(st.one_of(st.none(), pairs))
    step = stride or size
    kinds: dict[PoolKind, Callable[..., Any]] = {"max": np.max, "mean": np.mean, "sum": np.sum}
    kind = data.draw(st.sampled_from(list(kinds)))
    made = pool(image, kind, size, stride)
    rows, columns = (range(0, n - k + 1, s) for n, k, s in zip(image.shape, size, step, strict=False))
    expected = [[kinds[kind](image[y : y + size[0], x : x + size[1]], axis=(0, 1)) for x in columns] for y in rows]
    # The mean of whole numbers is one division; numpy's may be one rounding away.
    np.testing.assert_allclose(made, expected, rtol=1e-15)
    np.testing.assert_array_equal(pool(image[:, :, 0], kind, size, stride), made[:, :, 0])


@given(st.integers(1, 40), st.integers(1, 7), st.integers(1, 4), st.integers(1, 3), st.integers(0, 3))
def test_output_size_counts_the_places(size: int, kernel: int, stride: int, dilation: int, padding: int) -> None:
    reach = (kernel - 1) * dilation + 1
    places = len(range(0, size + 2 * padding - reach + 1, stride))
    if not places:
        with pytest.raises(UsageError, match="does not fit") as caught:
            output_size(size, kernel, stride, dilation, padding)
        assert caught.value.code == "kernel-too-large"
        return
    assert output_size(size, kernel, stride, dilation, padding) == places
    # The sentence is arithmetic that Python can do.
    sentence, result = output_size_text(size, kernel, stride, dilation, padding).rsplit(" = ", 1)
    assert int(result) == places == eval(sentence, {"floor": np.floor})
    before, after = border_cells(kernel, dilation)
    assert output_size(size, kernel, 1, dilation, (before, after)) == size and before <= after <= before + 1


def test_the_sentences() -> None:
    assert output_size_text(6, 3, padding=1) == "(6 - 3 + 2*1)/1 + 1 = 6"
    assert output_size_text(6, 3, 2) == "floor((6 - 3 + 2*0)/2) + 1 = 2"
    assert output_size_text(9, 3, dilation=2) == "(9 - ((3 - 1)*2 + 1) + 2*0)/1 + 1 = 5"
    assert output_size_text(6, 2, padding=border_cells(2)) == "(6 - 2 + 0 + 1)/1 + 1 = 6"


# Every kind of image


@pytest.mark.parametrize("dtype", ["?", "u1", "i1", "u2", "i4", "u4", "i8", "f2", "f4", "f8", ">f4"])
def test_every_real_dtype_gives_float64(dtype: Any) -> None:
    image = np.array([[0, 1, 1], [1, 0, 1], [1, 1, 0]]).astype(dtype)
    before = image.copy()
    made = convolve(image, [[1, -3], [2, 5]])
    assert made.dtype == np.float64 and made.tolist() == [[-1, 3], [8, -1]]
    assert pool(image, "sum", 3).dtype == np.float64
    assert (image == before).all()


def test_whole_numbers_are_exact() -> None:
    image = np.full((3, 3), 2**40 + 1, np.int64)
    assert convolve(image, np.ones((3, 3), np.int64)).item() == 9 * (2**40 + 1)


def test_tensors_are_taken_as_they_are() -> None:
    image = torch.arange(18.0).reshape(3, 3, 2)
    expected = convolve(image.numpy(), "blur")
    for same in (image, image.bfloat16(), image.to(torch.int16), image.requires_grad_()):
        np.testing.assert_array_equal(convolve(same, "blur"), expected)
    np.testing.assert_array_equal(convolve(image, torch.tensor(KERNELS["blur"].rows, dtype=torch.float64)), expected)
    assert image.grad is None


def test_a_kernel_of_the_table_is_taken() -> None:
    image = np.arange(9).reshape(3, 3)
    assert convolve(image, KERNELS["emboss"]) == convolve(image, "emboss")


@pytest.mark.parametrize(
    ("mode", "shape"),
    [("L", (4, 5)), ("1", (4, 5)), ("RGB", (4, 5, 3)), ("F", (4, 5)), ("I", (4, 5)), ("I;16", (4, 5)), ("LA", (4, 5))],
)
def test_pillow_images(mode: Any, shape: Any) -> None:
    pixels = np.random.default_rng(0).integers(0, 2, (4, 5), dtype=np.uint8) * 255
    picture = Image.fromarray(pixels).convert(mode) if mode != "I;16" else Image.fromarray(pixels.astype(np.uint16))
    made = convolve(picture, "identity", border="zeros")
    assert made.shape == shape
    np.testing.assert_array_equal(made if made.ndim == 2 else made[:, :, 1], pixels)


def test_pillow_images_are_turned_as_their_camera_says_and_palettes_become_colours() -> None:
    rng = np.random.default_rng(0)
    lying = Image.fromarray(rng.integers(0, 256, (4, 6, 3), dtype=np.uint8))
    exif = Image.Exif()
    exif[274] = 6
    file = io.BytesIO()
    lying.save(file, "PNG", exif=exif)
    turned = convolve(Image.open(file), "identity", border="zeros")
    np.testing.assert_array_equal(turned, np.rot90(np.asarray(lying), -1))
    flat = Image.fromarray(np.arange(6, dtype=np.uint8).reshape(2, 3))
    flat.putpalette([value for colour in range(6) for value in (40 * colour, 0, 255)])
    colours = convolve(flat.convert("P"), "identity", border="zeros")
    assert colours[1, 2].tolist() == [200, 0, 255]
    clear = Image.new("RGBA", (3, 3), (255, 0, 0, 0))
    assert convolve(clear, "identity").tolist() == [[[255, 255, 255]]]


# Filters of a network


def test_filters_of_a_network() -> None:
    network = build("conv(5, 2x3) relu residual(conv(5)) kernel(blur) conv(4, groups=1) flatten dense", (8, 8, 3), 2)
    made = filters(network, "conv1")
    assert made.shape == (5, 3, 2, 3) and made.dtype == np.float32
    np.testing.assert_array_equal(made, network.get_parameter("conv1.weight").detach().numpy())
    made[:] = 0  # a copy
    assert network.get_parameter("conv1.weight").abs().sum() > 0
    assert filters(network, "residual1.body.conv1").shape == (5, 5, 3, 3)
    assert filters(network, "kernel1").shape == (5, 1, 3, 3)
    assert filters(network.bfloat16(), "conv2").dtype == np.float32
    assert filters(torch.nn.Conv2d(3, 4, 1), "").shape == (4, 3, 1, 1)


def test_a_learned_filter_goes_into_a_model_as_text() -> None:
    torch.manual_seed(0)
    network = sequence("conv(3, 2x3, bias=false, border=replicate) flatten dense", (6, 7, 1), 2)
    kernel = filters(network, "conv1")[1, 0]
    again = sequence(f"{kernel_text(kernel)[:-1]}, border=replicate) flatten dense", (6, 7, 1), 2)
    image = torch.randn(1, 1, 6, 7)
    torch.testing.assert_close(again[:-2](image)[0, 0], network[:-2](image)[0, 1])
    assert np.array_equal(filters(again, "kernel1")[0, 0][:2], kernel) or np.array_equal(
        filters(again, "kernel1")[0, 0][1:], kernel
    )


@pytest.mark.parametrize(
    ("layer", "message", "hint", "code"),
    [
        ("cnv2", "this network has no layer 'cnv2'", "the nearest: conv2, conv1", "layer-unknown"),
        ("Residual1.conv1", "no layer 'Residual1.conv1'", "the nearest: residual1.body.conv1", "layer-unknown"),
        ("?", "no layer '?'", "convolutions: conv1, residual1.body.conv1, conv2", "layer-unknown"),
        ("relu1", "expected a 2-D convolution, but relu1 is a ReLU", "convolutions: conv1, ", "layer-without-filters"),
        ("", "but the network itself is a Network", "convolutions: conv1", "layer-without-filters"),
    ],
)
def test_a_layer_without_filters_is_refused(layer: str, message: str, hint: str, code: str) -> None:
    network = build("conv(2) relu residual(conv(2)) conv(3) flatten dense", (8, 8, 1), 2)
    with pytest.raises(UsageError) as caught:
        filters(network, layer)
    assert message in str(caught.value) and caught.value.hint.startswith(hint) and caught.value.code == code


def test_a_network_without_convolutions() -> None:
    with pytest.raises(UsageError, match="no layer 'conv1'") as caught:
        filters(build("flatten dense", (2, 2, 1), 2), "conv1")
    assert caught.value.hint == "this network has no convolution"
    with pytest.raises(UsageError, match="is a ConvTranspose2d"):
        filters(torch.nn.Sequential(torch.nn.ConvTranspose2d(3, 4, 2)), "0")


# What is refused

IMAGE = np.zeros((4, 5))
NAN = np.array([[0, np.nan], [0, 0]])


@pytest.mark.parametrize(
    ("arguments", "options", "message", "code"),
    [
        ((IMAGE, "sobelx"), {}, "kernel: expected identity or blur or gaussian", "kernel-unknown"),
        ((IMAGE, np.zeros((5, 5))), {}, "a kernel of 5x5 does not fit into an image of 4x5", "kernel-too-large"),
        ((IMAGE, "blur"), {"dilation": 2}, "3x3, dilated to 5x5, does not fit into an image of 4x5", "kernel-too-large"),
        ((IMAGE, np.zeros((3, 3, 3))), {}, "each channel of the image (1), got 3", "kernel-channels"),
        ((np.zeros((4, 4, 4)), np.zeros((3, 3, 3))), {}, "each channel of the image (4), got 3", "kernel-channels"),
        ((IMAGE, np.zeros(9)), {}, "kernel: expected shape (h, w) or (h, w, C), none of them 0, got (9,)", "kernel-shape"),
        ((IMAGE, np.zeros((0, 3))), {}, "got (0, 3)", "kernel-shape"),
        ((IMAGE, 3), {}, "got ()", "kernel-shape"),
        ((IMAGE, None), {}, "kernel: expected real numbers (h, w) or (h, w, C), got NoneType", "kernel-numbers"),
        ((IMAGE, [[1, 2], [3]]), {}, "got list", "kernel-numbers"),
        ((IMAGE, NAN), {}, "kernel: expected finite numbers, got nan at row 0, column 1", "kernel-numbers"),
        ((NAN, "blur"), {}, "image: expected finite numbers, got nan at row 0, column 1", "image-numbers"),
        ((IMAGE + np.inf, "blur"), {}, "got inf at row 0, column 0", "image-numbers"),
        ((np.full((2, 2, 2), np.nan), "blur"), {}, "got nan at row 0, column 0, channel 0", "image-numbers"),
        ((IMAGE + 1j, "blur"), {}, "got complex128 numbers", "image-numbers"),
        (("cat.jpg", "blur"), {}, "image: expected real numbers (H, W) or (H, W, C), got str", "image-numbers"),
        ((np.zeros((1, 3, 8, 8)), "blur"), {}, "got (1, 3, 8, 8)", "image-shape"),
        ((np.zeros((0, 8)), "blur"), {}, "got (0, 8)", "image-shape"),
        ((Image.new("L", (5000, 2)), "blur"), {}, "expected sides up to 4,096 pixels, got 2x5000", "image-shape"),
        ((IMAGE, "blur"), {"border": "zero"}, "border: expected none or zeros or reflect or replicate, got 'zero'", "border-unknown"),
        ((IMAGE, np.zeros((9, 1))), {"border": "reflect"}, "a reflected border of 4 needs a larger image than 4x5", "border-too-wide"),
        ((IMAGE, "blur"), {"stride": 0}, "stride: expected a whole number from 1, got 0", "bad-stride"),
        ((IMAGE, "blur"), {"stride": 1.5}, "stride: expected a whole number from 1, got 1.5", "bad-stride"),
        ((IMAGE, "blur"), {"stride": (1, 2, 3)}, "got (1, 2, 3)", "bad-stride"),
        ((IMAGE, "blur"), {"dilation": True}, "dilation: expected a whole number from 1, got True", "bad-dilation"),
    ],
)  # fmt: skip
def test_what_convolve_refuses(arguments: Any, options: dict[str, Any], message: str, code: str) -> None:
    with pytest.raises(UsageError) as caught:
        convolve(*arguments, **options)
    assert message in str(caught.value) and caught.value.code == code


@pytest.mark.parametrize(
    ("arguments", "message", "code"),
    [
        ((IMAGE, "maximum"), "pool: expected max or mean or sum, got 'maximum'", "pool-unknown"),
        ((IMAGE, "max", 5), "a window of 5x5 does not fit into an image of 4x5", "window-too-large"),
        ((IMAGE, "max", 0), "size: expected a whole number from 1, got 0", "bad-size"),
        ((IMAGE, "max", 2, -1), "stride: expected a whole number from 1, got -1", "bad-stride"),
        ((NAN, "max"), "expected finite numbers, got nan", "image-numbers"),
        ((np.zeros(4), "max"), "image: expected shape (H, W) or (H, W, C), none of them 0, got (4,)", "image-shape"),
    ],
)
def test_what_pool_refuses(arguments: Any, message: str, code: str) -> None:
    with pytest.raises(UsageError) as caught:
        pool(*arguments)
    assert message in str(caught.value) and caught.value.code == code


@pytest.mark.parametrize(
    ("arguments", "code"),
    [((0, 3), "bad-size"), ((6, 0), "bad-kernel"), ((6, 3, 0), "bad-stride"), ((6, 3, 1, 0), "bad-dilation"), ((6, 3, 1, 1, -1), "bad-padding")],
)  # fmt: skip
def test_what_output_size_refuses(arguments: Any, code: str) -> None:
    for function in (output_size, output_size_text):
        with pytest.raises(UsageError, match="expected a whole number from") as caught:
            function(*arguments)
        assert caught.value.code == code


def test_hints_name_the_nearest() -> None:
    with pytest.raises(UsageError) as caught:
        convolve(IMAGE, "sobelx")
    assert caught.value.hint == "the nearest: sobel_x, sobel_y"
    with pytest.raises(UsageError) as caught:
        convolve(torch.zeros(1, 3, 8, 8), "blur")
    assert "a torch image (C, H, W) needs .permute(1, 2, 0)" in caught.value.hint


@pytest.mark.parametrize("name", ["weight norm", "spectral norm", "spectral norm by a hook", "standardised"])
def test_filters_are_those_that_are_used_and_looking_changes_nothing(name: str) -> None:
    """Against the convolution's answers to single pixels."""
    torch.manual_seed(1)
    conv = nn.Conv2d(2, 3, 3, padding=1, bias=False)
    wrap: dict[str, Callable[[nn.Module], nn.Module]] = {
        "weight norm": nn.utils.parametrizations.weight_norm,
        "spectral norm": nn.utils.parametrizations.spectral_norm,
        "spectral norm by a hook": nn.utils.spectral_norm,
        "standardised": lambda _: StdConv2d(2, 3, 3, padding=1, bias=False),
    }
    network = nn.Sequential(wrap[name](conv))
    before = {key: value.clone() for key, value in network.state_dict().items()}
    found = filters(network, "0")
    assert network.training and all(torch.equal(before[key], value) for key, value in network.state_dict().items())
    for channel in range(2):
        pixel = torch.zeros(1, 2, 3, 3)
        pixel[0, channel, 1, 1] = 1
        with torch.no_grad():
            answer = network.eval()(pixel)[0].flip(1, 2)
        assert np.allclose(found[:, channel], answer.numpy(), atol=1e-6)
        network.train()
