"""The images that excite a filter, against plain loops; receptive fields, against sets of rows; growing an input."""

import itertools
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import assume, given
from hypothesis import strategies as st
from torch import nn

from convoscope import models
from convoscope.errors import UsageError
from convoscope.explain.methods.activation import Ascent, Example, maximise_activation, top_activating_examples
from convoscope.explain.methods.embeddings import embeddings
from convoscope.models import Footprint, footprint
from tests.support.preserved import awkward, network, preserve_state


def pictures(count: int, channels: int = 1, side: int = 28, seed: int = 0) -> torch.Tensor:
    return torch.randn(count, channels, side, side, generator=torch.Generator().manual_seed(seed))


def shape_of(image: torch.Tensor) -> tuple[int, int, int]:
    channels, height, width = image.shape
    return channels, height, width


def place_of(example: Example) -> tuple[int, int]:
    assert example.position is not None
    return example.position


# --- the images that excite a channel ---


def test_the_most_exciting_images_by_plain_loops() -> None:
    model, _ = network("text")
    images = pictures(23)
    with torch.no_grad():
        maps = model.get_submodule("relu1")(model.get_submodule("conv1")(images))
    found = top_activating_examples(model, images, "relu1", channels=[5, 2], top=4, batch_size=6)
    assert list(found) == [5, 2]
    for channel, examples in found.items():
        order = sorted(range(23), key=lambda n: -maps[n, channel].max().item())
        assert [example.image for example in examples] == order[:4]
        for example in examples:
            y, x = place_of(example)
            largest = maps[example.image, channel].max()
            assert maps[example.image, channel, y, x] == largest
            assert example.value == pytest.approx(largest.item(), rel=1e-6)
            assert example.exact and example.box == (max(y - 1, 0), max(x - 1, 0), min(y + 2, 28), min(x + 2, 28))
            top, left, bottom, right = example.box
            assert torch.equal(example.patch, images[example.image, :, top:bottom, left:right])


def test_all_channels_and_no_more_images_than_there_are() -> None:
    model, _ = network("text")
    found = top_activating_examples(model, pictures(3), "conv2", top=9)
    assert list(found) == list(range(16))
    assert all(sorted(example.image for example in examples) == [0, 1, 2] for examples in found.values())


def test_any_form_of_the_images_gives_the_same(tmp_path: Path) -> None:
    model, _ = network("text")
    images = pictures(17)
    path = tmp_path / "images.npy"
    np.save(path, images.numpy())
    forms = {
        "array": images.numpy(),
        "memory-mapped": np.load(path, mmap_mode="r"),
        "list of batches": list(images.split(5)),
        "generator of arrays": (batch.numpy() for batch in images.split(7)),
        "float64": images.double().numpy(),
    }
    wanted = top_activating_examples(model, images, "conv2", [1, 3], top=5)
    for name, form in forms.items():
        for channel, examples in top_activating_examples(model, form, "conv2", [1, 3], top=5, batch_size=4).items():
            for a, b in zip(wanted[channel], examples, strict=True):
                assert (a.image, a.position, a.box, a.exact) == (b.image, b.position, b.box, b.exact), name
                assert a.value == pytest.approx(b.value, rel=1e-5) and torch.equal(a.patch, b.patch)


@pytest.mark.parametrize("batch_size", [1, 2, 7])
def test_of_equal_values_the_first_image_and_the_first_place_win(batch_size: int) -> None:
    model = nn.Sequential(nn.Conv2d(1, 1, 1, bias=False))
    nn.init.ones_(model.get_parameter("0.weight"))
    images = torch.zeros(5, 1, 4, 4)
    images[1:, 0, 1, 2] = images[1:, 0, 3, 0] = 2
    found = top_activating_examples(model, images, "0", top=3, batch_size=batch_size)[0]
    assert [(example.image, example.position) for example in found] == [(1, (1, 2)), (2, (1, 2)), (3, (1, 2))]


def test_of_many_equal_images_the_first_win() -> None:
    model = nn.Sequential(nn.Conv2d(1, 1, 1))
    found = top_activating_examples(model, torch.zeros(3000, 1, 1, 1), "0", top=4, batch_size=2500)[0]
    assert [example.image for example in found] == [0, 1, 2, 3]


def test_what_runs_in_place_changes_neither_images_nor_values() -> None:
    model = nn.Sequential(nn.ReLU(inplace=True), nn.Conv2d(1, 1, 3), nn.ReLU(inplace=True))
    nn.init.constant_(model.get_parameter("1.bias"), -100)
    images = pictures(2, side=5)
    for example in top_activating_examples(model, images, "1")[0]:
        top, left, bottom, right = example.box
        assert torch.equal(example.patch, images[example.image, :, top:bottom, left:right])
        assert example.value < -90
    assert maximise_activation(model, "1", 0, (1, 5, 5), steps=1).before < -90


def test_silent_filters_have_examples_too() -> None:
    model = nn.Sequential(nn.Conv2d(1, 1, 3), nn.ReLU())
    nn.init.constant_(model.get_parameter("0.bias"), -100)
    found = top_activating_examples(model, pictures(3, side=6), "1")[0]
    assert [(example.image, example.value, example.position) for example in found] == [(n, 0, (0, 0)) for n in range(3)]


def test_dense_units_look_at_the_whole_image() -> None:
    model, _ = network("text")
    images = pictures(6)
    with torch.no_grad():
        scores = model(images)
    found = top_activating_examples(model, images, "dense2", [4], top=2)[4]
    assert [example.image for example in found] == scores[:, 4].argsort(descending=True)[:2].tolist()
    for example in found:
        assert example.position is None and example.exact and example.box == (0, 0, 28, 28)
        assert torch.equal(example.patch, images[example.image])


def test_only_the_layers_before_are_run_after_the_first_batch() -> None:
    model, _ = network("text")
    runs = []
    for name in ("conv1", "dense2"):
        model.get_submodule(name).register_forward_hook(lambda *_, name=name: runs.append(name))
    top_activating_examples(model, pictures(12), "conv1", [0], top=1, batch_size=3)
    assert runs.count("dense2") == 1 and runs.count("conv1") > 4


def test_a_layer_that_runs_twice_counts_by_its_last_run() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(1, 1, 3, padding=1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            maps: torch.Tensor = self.conv(self.conv(x))
            return maps

    model, images = Twice(), pictures(4, side=9)
    with torch.no_grad():
        maps = model(images)
    for example in top_activating_examples(model, images, "conv", top=4, batch_size=2)[0]:
        y, x = place_of(example)
        assert example.value == pytest.approx(maps[example.image].max().item())
        assert example.box == (max(y - 2, 0), max(x - 2, 0), min(y + 3, 9), min(x + 3, 9))


# --- receptive fields ---


Window = tuple[int, int, int, int]
"""Kernel, stride, padding, dilation."""


def sizes_of(windows: Sequence[Window], size: int) -> list[int]:
    sizes = [size]
    for kernel, stride, padding, dilation in windows:
        sizes.append((sizes[-1] + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1)
    return sizes


def rows_seen(windows: Sequence[Window], size: int, unit: int) -> set[int]:
    """The rows of the image that one unit sees, as a set: back from the last window, padding left out at each."""
    sizes, seen = sizes_of(windows, size), {unit}
    for (kernel, stride, padding, dilation), before in zip(reversed(windows), reversed(sizes[:-1]), strict=True):
        reached = {row * stride - padding + k * dilation for row, k in itertools.product(seen, range(kernel))}
        seen = {row for row in reached if 0 <= row < before}
    return seen


# padding is less than the window, so that every unit sees some pixel.
window = st.tuples(st.integers(1, 3), st.integers(1, 2), st.integers(0, 1), st.integers(1, 2), st.booleans()).filter(
    lambda drawn: drawn[2] <= (drawn[0] - 1) // 2
)


@given(st.lists(window, min_size=1, max_size=4), st.integers(0, 1000))
def test_boxes_are_the_pixels_that_a_unit_sees(drawn: list[tuple[int, int, int, int, bool]], seed: int) -> None:
    """Convolutions, grouped too, and poolings in a row; relus between, which hide most units from a gradient."""
    height, width = 19, 22
    windows = [entry[:4] for entry in drawn]
    assume(min(sizes_of(windows, height)) >= 1)
    torch.manual_seed(seed)
    parts: list[nn.Module] = []
    for kernel, stride, padding, dilation, pooling in drawn:
        if pooling:
            parts.append(nn.MaxPool2d(kernel, stride, padding, dilation))
        else:
            parts += [nn.Conv2d(2, 2, kernel, stride, padding, dilation, groups=2), nn.ReLU(inplace=True)]
    model = nn.Sequential(*parts, nn.Identity())
    images = torch.randn(3, 2, height, width)
    for examples in top_activating_examples(model, images, str(len(parts)), top=3).values():
        for example in examples:
            y, x = place_of(example)
            rows, columns = rows_seen(windows, height, y), rows_seen(windows, width, x)
            assert example.exact
            assert example.box == (min(rows), min(columns), max(rows) + 1, max(columns) + 1)


def test_boxes_agree_with_the_models_table() -> None:
    """Away from the border a box is as large as the table's receptive field; `measure` follows the same layers by rules."""
    text = "conv(4, 5) relu maxpool conv(4) relu conv(4, stride=2) globalavg dense"
    torch.manual_seed(0)
    model = models.build(text, (96, 96, 1), 3)
    for row in models.table(text, (96, 96, 1), 3).layers[:6]:
        # A spot in the middle decides where the largest value is.
        images = torch.zeros(1, 1, 96, 96)
        images[..., 44:52, 44:52] = torch.randn(8, 8, generator=torch.Generator().manual_seed(1))
        for (example,) in top_activating_examples(model, images, row.name, top=1).values():
            top, left, bottom, right = example.box
            if top > 0 and left > 0 and bottom < 96 and right < 96:
                assert (bottom - top, right - left) == (row.receptive_field,) * 2


def test_each_branch_has_its_own_field() -> None:
    torch.manual_seed(0)
    model = models.build(
        "parallel(conv(1, 1) | conv(1, 5) | conv(1, 3) relu conv(1, 3)) globalavg dense", (24, 24, 1), 2
    )
    images = pictures(1, side=24)
    for channel, reach in enumerate((0, 2, 2)):
        (example,) = top_activating_examples(model, images, "parallel1", [channel])[channel]
        y, x = place_of(example)
        assert example.box == (max(y - reach, 0), max(x - reach, 0), min(y + reach + 1, 24), min(x + reach + 1, 24))


class Gated(nn.Module):
    """Squeeze and excitation: each unit is multiplied by a number made of the whole image."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.gate = nn.Conv2d(1, 2, 3, padding=1), nn.Conv2d(2, 2, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.conv(x)
        return x * torch.sigmoid(self.gate(x.mean((2, 3), keepdim=True)))


def test_a_gate_sees_the_whole_image() -> None:
    model = nn.Sequential(Gated())
    examples = top_activating_examples(model, pictures(2, side=12), "0", [0])[0]
    assert all(example.box == (0, 0, 12, 12) and example.exact for example in examples)
    inside = top_activating_examples(model, pictures(2, side=12), "0.conv", [0])[0]
    assert all(example.box[2] - example.box[0] <= 3 and example.exact for example in inside)


@pytest.mark.parametrize("refuses", [False, True])
def test_a_network_that_hides_nan_is_known_approximately(refuses: Any) -> None:
    class Hides(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            if refuses and x.isnan().any():
                raise ValueError("not a number")
            return x.nan_to_num()

    model = nn.Sequential(Hides(), nn.Conv2d(1, 1, 3))
    for example in top_activating_examples(model, pictures(2, side=8), "1")[0]:
        assert not example.exact and example.box == (0, 0, 8, 8)
        assert example.patch.shape == (1, 8, 8)


def test_a_network_of_a_library() -> None:
    model, _ = network("torchvision:resnet18")
    examples = top_activating_examples(model, pictures(4, 3, 64), "layer1.0.conv1", [7], top=2)[7]
    for example in examples:
        # 7x7 stride 2, 3x3 pooling stride 2, 3x3: 7 + 2 * 2 + 2 * 4 = 19 pixels, cell 0 at pixel 0 -3 -2 -4.
        y, x = (4 * place - 9 for place in place_of(example))
        assert example.box == (max(y, 0), max(x, 0), min(y + 19, 64), min(x + 19, 64))


# --- inputs that are grown ---


@pytest.mark.parametrize(
    ("name", "layer", "channel"),
    [("text", "conv1", 3), ("text", "relu2", 0), ("text", "dense2", 1), ("resnet-small", "residual2", 5)],
)
def test_a_grown_input_excites_more(name: str, layer: str, channel: int) -> None:
    model, image = network(name)
    found = maximise_activation(model, layer, channel, shape_of(image), seed=2)
    assert found.image.shape == image.shape and found.image.abs().max() <= 3
    kept: dict[str, torch.Tensor] = {}
    handle = model.get_submodule(layer).register_forward_hook(lambda _, __, output: kept.update(output=output))
    with torch.no_grad():
        model(found.image[None])
        handle.remove()
    assert found.after == pytest.approx(kept["output"][0, channel].mean().item(), rel=1e-4)
    assert found.after > found.before + 0.5


def test_it_beats_every_image_of_a_set() -> None:
    model, image = network("text")
    images = pictures(64)
    with torch.no_grad():
        means = model.get_submodule("conv1")(images)[:, 2].mean((1, 2))
    assert maximise_activation(model, "conv1", 2, shape_of(image)).after > means.max()


def test_without_steps_it_is_the_seeded_noise() -> None:
    model, image = network("text")
    found = maximise_activation(model, "conv1", 0, shape_of(image), seed=5, steps=0)
    noise = torch.randn(1, 28, 28, generator=torch.Generator().manual_seed(5)) * 0.1
    assert torch.equal(found.image, noise) and found.before == found.after


def test_one_step_by_hand() -> None:
    """Without blur and jitter: (1 - decay) noise + rate * gradient / its root mean square."""
    model = nn.Sequential(nn.Conv2d(2, 3, 3))
    found = maximise_activation(
        model, "0", 1, (2, 6, 5), steps=1, settings=Ascent(rate=0.3, blur=0, jitter=0, decay=0.25)
    )
    noise = (torch.randn(1, 2, 6, 5, generator=torch.Generator().manual_seed(0)) * 0.1).requires_grad_()
    gradient = torch.autograd.grad(model(noise)[0, 1].mean(), noise)[0]
    wanted = 0.75 * noise + 0.3 * gradient / gradient.square().mean().sqrt()
    assert torch.allclose(found.image, wanted[0], atol=1e-6)


def test_one_unit_grows_only_what_it_sees() -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 3))
    found = maximise_activation(
        model, "0", 1, (1, 9, 9), unit=(4, 2), steps=60, settings=Ascent(jitter=2, blur=0, decay=0.2)
    )
    outside = found.image[0].abs()
    outside[4:7, 2:5] = 0
    assert outside.max() < 1e-4 < found.image.abs().max()


def test_jitter_is_taken_back() -> None:
    """On a torus it makes no difference where the image is rolled to."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 1, 3, padding=1, padding_mode="circular"), nn.ReLU()).double()
    still, rolled = (
        maximise_activation(model, "1", 0, (1, 8, 8), steps=9, settings=Ascent(jitter=jitter, blur=0))
        for jitter in (0, 3)
    )
    torch.testing.assert_close(still.image, rolled.image)
    assert still.image.std() > 0.2


def test_blur_and_limit() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 1, 3))
    rough = maximise_activation(model, "0", 0, (1, 12, 12), steps=1, settings=Ascent(rate=0, blur=0, decay=0))
    smooth = maximise_activation(model, "0", 0, (1, 12, 12), steps=1, settings=Ascent(rate=0, blur=1.5, decay=0))
    assert smooth.image.std() < 0.4 * rough.image.std()
    # A Gaussian keeps the sum; the repeated border moves it a little.
    assert smooth.image.mean() == pytest.approx(rough.image.mean().item(), abs=0.02)
    assert maximise_activation(model, "0", 0, (1, 12, 12), settings=Ascent(limit=0.5)).image.abs().max() == 0.5


def test_the_same_seed_gives_the_same_image() -> None:
    model, image = network("resnet-small")
    shape = shape_of(image)
    first, again, other = (maximise_activation(model, "residual1", 3, shape, seed=seed, steps=6) for seed in (1, 1, 2))
    assert torch.equal(first.image, again.image) and first.after == again.after
    assert not torch.equal(first.image, other.image)


def test_a_silent_filter_moves_nothing() -> None:
    model = nn.Sequential(nn.Conv2d(1, 1, 3), nn.ReLU())
    nn.init.constant_(model.get_parameter("0.bias"), -100)
    found = maximise_activation(model, "1", 0, (1, 6, 6), steps=5)
    assert found.before == found.after == 0 and found.image.isfinite().all()


# --- manners ---


@pytest.mark.parametrize("layer", ["conv", "relu", "last"])
@pytest.mark.parametrize("fails_at", [0, 1, 3])
def test_everything_is_left_as_found(layer: str, fails_at: int) -> None:
    images, frozen = torch.randn(9, 2, 8, 8), np.random.default_rng(0).standard_normal((4, 2, 8, 8)).astype(np.float32)
    frozen.flags.writeable = False
    for look in (
        lambda model: top_activating_examples(model, images, layer, top=2, batch_size=4),
        lambda model: top_activating_examples(model, frozen, layer, top=2, batch_size=1),
        lambda model: maximise_activation(model, layer, 1, (2, 8, 8), steps=4),
    ):
        model = awkward(fails_at)
        with preserve_state(model, images):
            # A network that stops at conv has no chance to fail behind it.
            if fails_at == 1 or (fails_at and layer == "last"):
                with pytest.raises(UsageError, match="the fuse has blown"):
                    look(model)
            else:
                look(model)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_the_callers_gradient_mode_does_not_matter(mode: Any) -> None:
    model, image = network("text")
    wanted = maximise_activation(model, "conv2", 1, shape_of(image), steps=3)
    with mode(), preserve_state(model, image):
        found = maximise_activation(model, "conv2", 1, shape_of(image), steps=3)
        examples = top_activating_examples(model, image[None], "conv2", [1])[1]
    assert torch.equal(found.image, wanted.image) and not found.image.requires_grad
    assert not examples[0].patch.requires_grad


@pytest.mark.parametrize(
    ("layer", "channel", "code", "match"),
    [
        ("conv3", 0, "layer-unknown", "this network has no layer 'conv3'"),
        ("flatten", 784, "channel-range", "expected a whole number from 0 to 783, got 784"),
        ("conv1", 8, "channel-range", "expected a whole number from 0 to 7, got 8"),
        ("conv1", 1.5, "channel-range", "expected a whole number from 0 to 7, got 1.5"),
    ],
)
def test_layers_and_channels_that_do_not_fit(layer: str, channel: int, code: str, match: str) -> None:
    model, image = network("text")
    for look in (
        lambda: top_activating_examples(model, image[None], layer, [channel]),
        lambda: maximise_activation(model, layer, channel, shape_of(image)),
    ):
        with pytest.raises(UsageError, match=match) as caught, preserve_state(model, image):
            look()
        assert caught.value.code == code
    assert "conv1" in caught.value.hint or code != "layer-unknown"


@pytest.mark.parametrize(
    ("images", "code", "match"),
    [
        (
            torch.zeros(1, 28, 28),
            "image-shape",
            r"expected batches of images \(N, C, H, W\); received shape \(1, 28, 28\)",
        ),
        ([torch.zeros(1, 28, 28)], "image-shape", r"received shape \(1, 28, 28\)"),
        ([(torch.zeros(1, 1, 28, 28), 3)], "image-shape", "received tuple"),
        (
            [torch.zeros(1, 1, 28, 28), torch.zeros(1, 1, 14, 14)],
            "image-shape",
            r"expected one size, got \(1, 28, 28\)",
        ),
        (np.zeros((2, 1, 28, 28), np.uint8), "image-values", "expected normalised floats; received torch.uint8"),
        (torch.full((2, 1, 28, 28), math.nan), "image-values", "expected finite numbers; 1,568 are NaN or infinite"),
        (torch.zeros(0, 1, 28, 28), "images-none", "expected at least one image, got none"),
        ([], "images-none", "expected at least one image, got none"),
        (torch.zeros(2, 3, 28, 28), "model-module", "it fails on an image of 28x28x3"),
    ],
)
def test_images_that_do_not_fit(images: Any, code: str, match: str) -> None:
    model, _ = network("text")
    with pytest.raises(UsageError, match=match) as caught, preserve_state(model):
        top_activating_examples(model, images, "conv2")
    assert caught.value.code == code


class Layouts(nn.Module):
    """The same maps in every order."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, stride=2)
        self.last, self.tokens, self.sequence, self.windows = (nn.ReLU() for _ in range(4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        maps: torch.Tensor = self.conv(x)
        n, c, h, w = maps.shape
        own = maps.new_full((n, 1, c), 9.0)
        found = [
            self.last(maps.permute(0, 2, 3, 1)),
            self.tokens(torch.cat([own, maps.flatten(2).transpose(1, 2)], 1)),
            self.sequence(maps.flatten(2).permute(2, 0, 1)),
            self.windows(maps.reshape(n, c, h // 2, 2, w // 2, 2).permute(0, 2, 4, 3, 5, 1).reshape(-1, 4, c)),
        ]
        return torch.stack([each.mean() + maps.mean((1, 2, 3)) for each in found], 1)


@pytest.mark.parametrize("layer", ["last", "tokens", "sequence", "windows"])
def test_the_order_of_the_axes_changes_nothing(layer: str) -> None:
    """By a loop over the convolution's own maps."""
    torch.manual_seed(4)
    model, images = Layouts().eval(), torch.randn(5, 3, 9, 13)
    with torch.no_grad():
        maps = F.conv2d(images, model.conv.weight, model.conv.bias, stride=2).relu()
    found = top_activating_examples(model, images, layer, top=2)
    assert list(found) == [0, 1, 2, 3]
    for channel, examples in found.items():
        largest = maps[:, channel].flatten(1).max(1).values
        order = largest.argsort(descending=True)[:2].tolist()
        assert [each.image for each in examples] == order
        for each in examples:
            y, x = divmod(int(maps[each.image, channel].argmax()), 6)
            assert each.position == (y, x)
            assert each.box == (2 * y, 2 * x, 2 * y + 3, 2 * x + 3) and each.exact
    grown = maximise_activation(model, layer, 2, (3, 9, 13), steps=2)
    wanted = maximise_activation(nn.Sequential(model.conv, nn.ReLU()), "1", 2, (3, 9, 13), steps=2)
    assert torch.allclose(grown.image, wanted.image, atol=1e-6)
    assert grown.after == pytest.approx(wanted.after, rel=1e-5)


def test_layers_that_give_no_maps() -> None:
    pooled = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Unflatten(1, (1, 2)), nn.Flatten())
    with pytest.raises(UsageError, match=r"'1' gives \(1, 1, 2, 1, 1\), whose numbers do not belong to single places"):
        top_activating_examples(pooled, torch.zeros(1, 2, 8, 8), "1")
    idle = nn.ModuleDict({"used": nn.Conv2d(1, 2, 3), "idle": nn.Conv2d(1, 2, 3)})
    idle.forward = idle["used"].forward
    with pytest.raises(UsageError, match="'idle' does not run for these images"):
        top_activating_examples(idle, torch.zeros(1, 1, 8, 8), "idle")
    broken = nn.Sequential(nn.Conv2d(1, 2, 3))
    nn.init.constant_(broken.get_parameter("0.weight"), math.nan)
    for look in (
        lambda: top_activating_examples(broken, pictures(2, side=6), "0"),
        lambda: maximise_activation(broken, "0", 0, (1, 6, 6), steps=2),
    ):
        with pytest.raises(UsageError, match="the maps of 0 are not finite") as caught:
            look()
        assert caught.value.code == "maps-not-finite"


@pytest.mark.parametrize(
    ("options", "code", "match"),
    [
        ({"shape": (28, 28)}, "image-shape", r"shape: expected \(C, H, W\), got \(28, 28\)"),
        ({"shape": (1, 0, 28)}, "image-shape", "shape: expected a whole number from 1"),
        ({"steps": -1}, "steps-range", "steps: expected a whole number from 0"),
        ({"unit": (28, 0)}, "unit-range", r"unit: expected y below 28 and x below 28, got \(28, 0\)"),
    ],
)
def test_options_that_do_not_fit(options: dict[str, Any], code: str, match: str) -> None:
    model, _ = network("text")
    with pytest.raises(UsageError, match=match) as caught, preserve_state(model):
        maximise_activation(model, "conv1", 0, **{"shape": (1, 28, 28)} | options)
    assert caught.value.code == code


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"jitter": -1}, "jitter: expected a whole number from 0"),
        ({"decay": 1.5}, "decay: expected a number from 0 to 1, got 1.5"),
        ({"limit": 0}, "limit: expected a number above 0, got 0"),
        ({"rate": math.nan}, "rate: expected 0 or more, got nan"),
    ],
)
def test_settings_of_the_ascent_that_do_not_fit(settings: dict[str, Any], match: str) -> None:
    with pytest.raises(UsageError, match=match) as caught:
        Ascent(**settings)
    assert caught.value.code == "option-value"


def test_top_and_batch_size_are_numbers() -> None:
    model, image = network("text")
    wrong: list[dict[str, Any]] = [{"top": 0}, {"batch_size": 0}]
    for options in wrong:
        with pytest.raises(UsageError, match="expected a whole number from 1"):
            top_activating_examples(model, image[None], "conv1", **options)


def test_a_layer_without_gradient_cannot_be_grown() -> None:
    class Sign(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.detach().sign()

    with pytest.raises(UsageError, match="no gradient comes back from 0") as caught:
        maximise_activation(nn.Sequential(Sign()), "0", 0, (1, 4, 4))
    assert caught.value.code == "no-gradient"


def test_large_images_go_in_smaller_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """By default 64 at once, and of large images as many as suit the memory; the answers stay."""
    model = models.build("conv(4) relu conv(4) globalavg dense", (12, 12, 1), 2)
    seen: list[int] = []
    images = pictures(80, side=12)
    model.get_submodule("conv1").register_forward_pre_hook(lambda _, given: seen.append(len(given[0])))
    whole = top_activating_examples(model, images, "conv2", top=3)
    assert max(seen) == 64
    budget = 6 * footprint(model, (1, 12, 12)).answering
    monkeypatch.setattr(Footprint.at_once, "__kwdefaults__", {"most": 256, "budget": budget})
    seen.clear()
    found = top_activating_examples(model, images, "conv2", top=3)
    assert max(seen) == 6
    assert [[each.image for each in found[channel]] for channel in found] == [
        [each.image for each in whole[channel]] for channel in whole
    ]
    seen.clear()
    embeddings(model, images)
    assert max(seen) == 6
