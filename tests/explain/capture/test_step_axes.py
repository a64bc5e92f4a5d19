"""The meaning of axes against images whose every pixel says where it is."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from convoscope.explain import trace
from convoscope.models import AxisFollower, OperationMode

HEIGHT, WIDTH = 6, 4


class Turned(nn.Module):
    """A network that only moves numbers, as it is given."""

    def __init__(self, move: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.move = move

    def forward(self, x: Tensor) -> Tensor:
        return self.move(x) * 1.0


def places(height: int = HEIGHT, width: int = WIDTH, channels: int = 3) -> Tensor:
    """Channel c has 100 c + 10 row + column in each pixel."""
    channel, row, column = torch.meshgrid(*map(torch.arange, (channels, height, width)), indexing="ij")
    return (100 * channel + 10 * row + column).float()


def windows(x: Tensor) -> Tensor:
    """Windows of 2 x 2, counted as images, with tokens inside."""
    n, c, h, w = x.shape
    return x.reshape(n, c, h // 2, 2, w // 2, 2).permute(0, 2, 4, 3, 5, 1).reshape(-1, 4, c)


def with_tokens(x: Tensor) -> Tensor:
    """Two tokens of the network's own before those of the image, and one behind."""
    tokens = x.flatten(2).transpose(1, 2)
    own = torch.full((1, 1, 3), -7.0)
    return torch.cat([own, own, tokens, own], 1)


def written(x: Tensor) -> Tensor:
    """Put together by slices."""
    whole = x.new_empty(1, WIDTH, HEIGHT, 3)
    for column in range(WIDTH):
        whole[:, column] = x[:, :, :, column].transpose(1, 2)
    return whole


MOVES: dict[str, tuple[Callable[[Tensor], Tensor], tuple[str, ...]]] = {
    "channels first": (lambda x: x + 0, ("batch", "channel", "height", "width")),
    "channels last": (lambda x: x.permute(0, 2, 3, 1), ("batch", "height", "width", "channel")),
    "width first": (lambda x: x.permute(0, 3, 1, 2), ("batch", "width", "channel", "height")),
    "memory in another order": (
        lambda x: x.contiguous(memory_format=torch.channels_last) * 1,
        ("batch", "channel", "height", "width"),
    ),
    "tokens": (lambda x: x.flatten(2).transpose(1, 2), ("batch", "token", "channel")),
    "tokens by columns": (lambda x: x.transpose(2, 3).flatten(2), ("batch", "channel", "token")),
    "tokens before the batch": (lambda x: x.flatten(2).permute(2, 0, 1), ("token", "channel", "channel")),
    "tokens of the network's own": (with_tokens, ("batch", "token", "channel")),
    "heads": (lambda x: x.reshape(1, 3, 1, -1).transpose(1, 3), ("batch", "token", "channel", "channel")),
    "windows": (windows, ("token", "token", "channel")),
    "shifted windows": (lambda x: windows(x.roll((-1, -1), (2, 3))), ("token", "token", "channel")),
    "upside down": (lambda x: x.flip(2), ("batch", "channel", "height", "width")),
    "stacked": (lambda x: torch.stack(x.unbind(1), -1), ("batch", "height", "width", "channel")),
    "by an index": (lambda x: x[:, :, torch.tensor([5, 0, 1, 3, 2, 4])], ("batch", "channel", "height", "width")),
}


@pytest.mark.parametrize("name", MOVES)
def test_maps_lie_as_the_image_does(name: str) -> None:
    move, names = MOVES[name]
    image = places()
    step = trace(Turned(move), image)["multiply"]
    assert step.maps is not None and torch.equal(step.maps, image)
    assert step.axes is not None and step.axes.names == names


def test_a_unit_is_found_in_its_map() -> None:
    step = trace(Turned(with_tokens), places())["multiply"]
    assert step.axes is not None and step.axes.grid is not None and step.axes.grid.beside == 3
    grid = step.axes.grid
    assert grid.unit((0, 0, 1)) is None and grid.unit((0, 26, 1)) is None
    for token, channel in ((2, 0), (9, 2), (25, 1)):
        y, x = divmod(token - 2, WIDTH)
        assert grid.unit((0, token, channel)) == (channel, y, x)
        assert step.output[0, token, channel] == 100 * channel + 10 * y + x


def test_what_is_put_together_by_slices_of_a_constant_is_followed_while_it_runs() -> None:
    class Following(OperationMode):
        def operation(self, func: Any, args: Any, kwargs: Any) -> Any:
            result = func(*args, **kwargs)
            follower.ran(func, args, kwargs, result)
            return result

    image = places()[None]
    follower = AxisFollower()
    follower.begin(image)
    with torch.no_grad(), Following():
        made = written(image)
    axes = follower.of(made)
    assert axes is not None and axes.grid is not None
    assert axes.names == ("batch", "width", "height", "channel")
    assert torch.equal(axes.grid.maps(made), image)


class Mixed(nn.Module):
    def __init__(self, mix: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.mix = mix

    def forward(self, x: Tensor) -> Tensor:
        return self.mix(x) * 1.0


torch.manual_seed(0)
_MATRIX, _KERNEL = torch.rand(5, 3), torch.rand(5, 3, 2, 2)
_ALL, _TOKENS = torch.rand(8, HEIGHT * WIDTH), torch.rand(HEIGHT * WIDTH, HEIGHT * WIDTH)


def attention(x: Tensor) -> Tensor:
    tokens = x.flatten(2).transpose(1, 2)
    return (tokens @ tokens.transpose(1, 2)).softmax(-1)


# Beside each what it gives as maps, by loops or by the same operation on maps; None where there are none.
MIXES: dict[str, tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor] | None]] = {
    "dense over channels last": (
        lambda x: F.linear(x.permute(0, 2, 3, 1), _MATRIX),
        lambda x: torch.einsum("oc,nchw->nohw", _MATRIX, x),
    ),
    "dense over tokens": (
        lambda x: F.linear(x.flatten(2).transpose(1, 2), _MATRIX),
        lambda x: torch.einsum("oc,nchw->nohw", _MATRIX, x),
    ),
    "norm over channels last": (
        lambda x: F.layer_norm(x.permute(0, 2, 3, 1), (3,)),
        lambda x: F.layer_norm(x.permute(0, 2, 3, 1), (3,)).permute(0, 3, 1, 2),
    ),
    "convolution with a stride": (
        lambda x: F.conv2d(x, _KERNEL, stride=2).permute(0, 2, 3, 1),
        lambda x: F.conv2d(x, _KERNEL, stride=2),
    ),
    "convolution of the image upside down": (
        lambda x: F.conv2d(x.flip(2), _KERNEL, stride=2),
        lambda x: F.conv2d(x.flip(2), _KERNEL, stride=2).flip(2),
    ),
    "convolution of the image on its side": (
        lambda x: F.max_pool2d(x.transpose(2, 3), (1, 2)),
        lambda x: F.max_pool2d(x, (2, 1)),
    ),
    "patches put together": (
        lambda x: torch.cat([x[:, :, 0::2, 0::2], x[:, :, 1::2, 1::2]], 1).permute(0, 2, 3, 1) @ torch.eye(6),
        lambda x: torch.cat([x[:, :, 0::2, 0::2], x[:, :, 1::2, 1::2]], 1),
    ),
    "patches by unfold": (
        lambda x: F.unfold(x, 2, stride=2).transpose(1, 2) @ torch.eye(12),
        lambda x: F.unfold(x, 2, stride=2).reshape(1, 12, HEIGHT // 2, WIDTH // 2),
    ),
    "overlapping patches": (
        lambda x: F.unfold(x, 3, padding=1).transpose(1, 2) @ torch.eye(27),
        lambda x: F.unfold(x, 3, padding=1).reshape(1, 27, HEIGHT, WIDTH),
    ),
    "cells added at the border": (lambda x: F.pad(x, (1, 0, 2, 1)), lambda x: F.pad(x, (1, 0, 2, 1))),
    "cells added at the border, turned": (
        lambda x: F.pad(x.flip(2).permute(0, 3, 2, 1), (0, 0, 2, 1)),
        lambda x: F.pad(x, (0, 0, 1, 2)),
    ),
    "a convolution with cells added": (
        lambda x: F.conv2d(F.pad(x, (1, 2, 1, 1)), _KERNEL, stride=2).permute(0, 2, 3, 1),
        lambda x: F.conv2d(F.pad(x, (1, 2, 1, 1)), _KERNEL, stride=2),
    ),
    "enlarged": (lambda x: F.interpolate(x, scale_factor=2), lambda x: F.interpolate(x, scale_factor=2)),
    "cells repeated": (
        lambda x: x.repeat_interleave(2, 2).permute(0, 2, 3, 1),
        lambda x: x.repeat_interleave(2, 2),
    ),
    "a gate": (
        lambda x: x * x.mean((2, 3), keepdim=True).sigmoid(),
        lambda x: x * x.mean((2, 3), keepdim=True).sigmoid(),
    ),
    "attention and its values": (
        lambda x: attention(x) @ x.flatten(2).transpose(1, 2),
        lambda x: (attention(x) @ x.flatten(2).transpose(1, 2)).transpose(1, 2).reshape(x.shape),
    ),
    "tokens mixed, then added": (
        lambda x: x.flatten(2) + F.linear(x.flatten(2), _TOKENS),
        lambda x: (x.flatten(2) + F.linear(x.flatten(2), _TOKENS)).reshape(x.shape),
    ),
    "weights of attention": (attention, None),
    "tokens mixed": (lambda x: F.linear(x.flatten(2), _ALL), None),
    "all pooled": (lambda x: x.mean((2, 3), keepdim=True), None),
    "a class token alone": (lambda x: with_tokens(x)[:, :2], None),
    "rows summed": (lambda x: torch.fft.fft(x, dim=2).real, None),
    "two orders added": (lambda x: x[:, :, :4] + x[:, :, :4].transpose(2, 3), None),
    "some tokens only": (lambda x: x.flatten(2)[:, :, [0, 1, 2, 5, 9]], None),
}


@pytest.mark.parametrize("name", MIXES)
def test_places_are_followed_through_operations_that_compute(name: str) -> None:
    mix, wanted = MIXES[name]
    image = torch.rand(3, HEIGHT, WIDTH)
    step = trace(Mixed(mix), image)["multiply"]
    if wanted is None:
        assert step.maps is None
    else:
        assert step.maps is not None
        assert torch.equal(step.maps, wanted(image[None])[0])


def test_why_there_are_no_maps_is_told_apart() -> None:
    image = torch.rand(3, HEIGHT, WIDTH)

    def axes(name: str) -> tuple[bool, bool, str]:
        found = trace(Mixed(MIXES[name][0]), image)["multiply"].axes
        assert found is not None
        return found.placed, found.paired, found.unknown

    assert axes("weights of attention") == (True, True, "")
    assert axes("tokens mixed") == (False, False, "")
    assert axes("two orders added")[2] == "add joins maps whose axes differ"
    assert axes("rows summed")[2] != ""


@pytest.mark.parametrize(("height", "width"), [(60, 1), (1, 60)])
def test_maps_of_one_row_or_column(height: int, width: int) -> None:
    network = nn.Sequential(nn.Conv2d(3, 60, (min(3, height), min(3, width)), padding="same"), nn.ReLU())
    step = trace(network, torch.rand(3, height, width))["1"]
    assert step.maps is not None and step.maps.shape == (60, height, width)
