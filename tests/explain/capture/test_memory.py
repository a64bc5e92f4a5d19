"""Everything is recorded by value at the time it is used, whatever is written to its memory before or after."""

import copy
import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from convoscope.explain import Trace, trace


class Network(nn.Module):
    """A few layers, and a way of writing to memory that is named by its function."""

    def __init__(self, way: Callable[["Network", Tensor], Any]) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.point = nn.Conv2d(3, 4, 1)
        self.first, self.second = nn.Linear(4, 3), nn.Linear(4, 3)
        self.learned = nn.Parameter(torch.randn(1, 4, 5, 5))
        self.bias, self.matrix = nn.Parameter(torch.randn(3)), nn.Parameter(torch.randn(75, 3))
        self.state: Tensor
        self.register_buffer("state", torch.randn(1, 4, 5, 5))
        self.plain = torch.randn(1, 4, 5, 5)
        self.way = way

    def forward(self, x: Tensor) -> Tensor:
        made: Tensor = self.way(self, x)
        return made


def accumulated(net: Network, x: Tensor) -> Any:
    middle, out = net.conv(x).relu().mean((2, 3)), torch.zeros(1, 3)
    for head in (net.first, net.second):
        out += head(middle)
    return out


def cloned_parameter(net: Network, x: Tensor) -> Any:
    y = net.learned.clone()
    y += net.conv(x)
    return y * 2


def ones_minus(net: Network, x: Tensor) -> Any:
    y = torch.ones_like(x)
    y.sub_(x).mul_(3)
    return y


def bias_addmm(net: Network, x: Tensor) -> Any:
    out = net.bias.expand(1, 3).clone()
    return out.addmm_(x.flatten(1), net.matrix)


def constant_used_then_overwritten(net: Network, x: Tensor) -> Any:
    offset = torch.full((1, 3, 5, 5), 2.0)
    y = x * offset
    offset.fill_(7)
    return y + x * offset


def slices(net: Network, x: Tensor) -> Any:
    out = torch.empty_like(x)
    out[..., :-1] = x[..., 1:]
    out[..., -1:] = x[..., :1] + 1
    return out


def border_by_hand(net: Network, x: Tensor) -> Any:
    out = x.new_empty(1, 3, 7, 7)
    out[:, :, 1:-1, 1:-1] = x
    out[:, :, 0], out[:, :, -1] = out[:, :, -2], out[:, :, 1]
    out[..., 0], out[..., -1] = out[..., -2], out[..., 1]
    return net.conv(out)


def assigned_channels(net: Network, x: Tensor) -> Any:
    y = net.conv(x)
    y[:, 0] = 0
    y[:, 1] += 1
    y[:, 2] *= y[:, 3]
    z = y.clone()
    z.relu_()
    y *= z
    return y


def diagonal_view(net: Network, x: Tensor) -> Any:
    y = x * 1.5
    y.diagonal(dim1=2, dim2=3).add_(1.0)
    return y * 2


def chain_of_views(net: Network, x: Tensor) -> Any:
    y = net.conv(x)
    view = y.view(1, 2, 2, 25).transpose(1, 2)[:, 1].narrow(2, 3, 7)
    view.mul_(view.abs() + 1)
    y.view(-1)[::3].sigmoid_()
    return y + view.sum()


def written_twice(net: Network, x: Tensor) -> Any:
    out = torch.zeros(1, 4, 5, 5)
    out[:, :, :3] = net.conv(x)[:, :, :3]
    before = out * 1
    out[:, :, 2:] = net.point(x)[:, :, 2:]
    return before - out


def one_half_of_a_chunk(net: Network, x: Tensor) -> Any:
    first, second = net.conv(x).chunk(2, 1)
    second.relu_()
    return torch.cat([second, first], 1)


def branches_share_a_block_input(net: Network, x: Tensor) -> Any:
    y = net.point(x)
    return net.point(F.relu(y, inplace=True)[:, :3]) + y


def index_put(net: Network, x: Tensor) -> Any:
    out = torch.zeros(1, 4, 5, 5)
    out.index_put_((torch.tensor([0]), torch.tensor([1])), net.conv(x)[:, 0])
    out[0, [2, 3], 1, [0, 4]] = net.first(net.conv(x).mean((2, 3)))[0, :2]
    return out * 2


def masked(net: Network, x: Tensor) -> Any:
    y = net.conv(x)
    y.masked_fill_(net.plain < 0, 0.25)
    y[net.plain > 0.5] = 0.5
    return y


def scattered(net: Network, x: Tensor) -> Any:
    y = net.conv(x).flatten(1)
    out = torch.ones(1, 100)
    out.scatter_add_(1, torch.arange(100)[None].flip(1), y)
    out.index_add_(1, torch.tensor([0, 5]), y[:, :2])
    return out


def buffer_in_place(net: Network, x: Tensor) -> Any:
    net.state.mul_(0.9).add_(net.conv(x), alpha=0.1)
    return net.state - net.conv(x)


def attribute_in_place(net: Network, x: Tensor) -> Any:
    net.plain.mul_(0.9).add_(net.conv(x), alpha=0.1)
    return net.plain - net.conv(x)


def parameter_in_place(net: Network, x: Tensor) -> Any:
    with torch.no_grad():
        net.learned.clamp_(-0.5, 0.5)
        net.learned.add_(net.conv(x))
    return net.learned * 2


def hidden_alias(net: Network, x: Tensor) -> Any:
    y = net.conv(x)
    y.data.relu_()
    y.detach()[:, 0] += 1
    return y * 2


def shape_in_place(net: Network, x: Tensor) -> Any:
    y = net.conv(x)
    y.squeeze_().transpose_(0, 1).unsqueeze_(0)
    return y + 1


def out_argument(net: Network, x: Tensor) -> Any:
    out = torch.ones(1, 4, 5, 5)
    torch.add(net.conv(x), net.learned, out=out)
    torch.mul(out, 2, out=out)
    return out


def shifted_in_itself(net: Network, x: Tensor) -> Any:
    y = net.conv(x)
    y[..., 1:] -= y[..., :-1].clone()
    y[..., 0].add_(y[..., 1])
    return y


def values_by_copy(net: Network, x: Tensor) -> Any:
    out = torch.zeros(2, 4, 5, 5)
    out[1].copy_(net.conv(x)[0, 0])  # repeated over the channels
    out[0].copy_(net.conv(x)[0].double())
    return out.sum(0, keepdim=True)


WAYS = (
    accumulated, cloned_parameter, ones_minus, bias_addmm, constant_used_then_overwritten, slices, border_by_hand,
    assigned_channels, diagonal_view, chain_of_views, written_twice, one_half_of_a_chunk, branches_share_a_block_input,
    index_put, masked, scattered, buffer_in_place, attribute_in_place, parameter_in_place, hidden_alias, shape_in_place,
    out_argument,  shifted_in_itself, values_by_copy,
)  # fmt: skip


def every_number_opens(found: Trace) -> None:
    """Each recorded number is what its terms give, and each term's input is what its source shows."""
    for step in found.steps[1:]:
        assert not step.opaque, (step.name, step.opaque)
        for index in itertools.islice(np.ndindex(*step.shape), 0, None, 1 + step.output.numel() // 24):
            why = found.why(step.name, *index)
            assert why.agrees, (step.name, str(why))
            assert why.recorded == step.value(index)
            for term in why.terms:
                if term.source is not None:
                    assert term.input == found[term.source.layer].value(term.source.index), (step.name, str(why))


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_numbers_written_in_place_open(way: Callable[[Network, Tensor], Any]) -> None:
    torch.manual_seed(1)
    net, image = Network(way).eval(), torch.randn(1, 3, 5, 5)
    before = {name: value.clone() for name, value in (*net.state_dict().items(), ("plain", net.plain))}
    found = trace(net, image)
    # Nothing in the network has changed, also where its own run would change it.
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert torch.equal(net.plain, before["plain"])
    assert not found.notes
    with torch.no_grad():
        assert torch.equal(found.output, copy.deepcopy(net)(image.clone()))
    every_number_opens(found)


def test_a_sum_begins_with_what_was_there() -> None:
    torch.manual_seed(1)
    net, image = Network(accumulated).eval(), torch.randn(1, 3, 5, 5)
    found = trace(net, image)
    middle = found["globalavg"].output.double().numpy()[0]
    heads = [
        head.weight.detach().double().numpy() @ middle + head.bias.detach().double().numpy()
        for head in (net.first, net.second)
    ]
    first, second = found.why("add", 1), found.why("add#2", 1)
    assert first.sum == pytest.approx(heads[0][1], rel=1e-5) and first.bias == 0
    assert second.sum == pytest.approx(heads[0][1] + heads[1][1], rel=1e-5)


def test_slices_come_from_where_they_were_written() -> None:
    image = torch.arange(75.0).reshape(1, 3, 5, 5)
    found = trace(Network(slices), image)
    shown = found[found.names[-1]]
    wanted = np.zeros((3, 5, 5))
    for channel, y, x in np.ndindex(3, 5, 5):
        pixel = 25 * channel + 5 * y
        wanted[channel, y, x] = pixel + x + 1 if x < 4 else pixel + 1
    assert np.array_equal(shown.output[0].numpy(), wanted)
    assert [term.source.layer for x in (0, 4) for term in found.why(shown.name, 1, 2, x).terms if term.source] == [
        "slice", "add",
    ]  # fmt: skip


def test_memory_that_was_never_filled_is_in_no_step() -> None:
    found = trace(Network(slices), torch.randn(1, 3, 5, 5))
    assert not any("empty" in step.operation for step in found.steps)


def test_a_layer_that_fills_its_result_by_slices_shows_what_it_returned() -> None:
    net, image = nn.Sequential(nn.CircularPad2d(2), nn.Conv2d(3, 2, 3)), torch.randn(1, 3, 5, 5)
    returned: list[Tensor] = []
    handle = net[0].register_forward_hook(lambda *given: returned.append(given[2].clone()))
    net(image)
    handle.remove()
    found = trace(net, image)
    assert torch.equal(found["0"].output, returned[0])
    assert np.array_equal(found["0"].output[0].numpy(), np.pad(image[0].numpy(), ((0, 0), (2, 2), (2, 2)), mode="wrap"))
    every_number_opens(found)


@pytest.mark.parametrize("kind", [nn.RNN, nn.GRU])
def test_recurrent_layers_open(kind: type[nn.RNN] | type[nn.GRU]) -> None:
    class Recurrent(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer, self.last = kind(3, 4, batch_first=True), nn.Linear(4, 2)

        def forward(self, x: Tensor) -> Tensor:
            out, _ = self.layer(x.mean(2).transpose(1, 2))
            scores: Tensor = self.last(out[:, -1])
            return scores

    torch.manual_seed(2)
    net, image = Recurrent().eval(), torch.randn(1, 3, 4, 4)
    found = trace(net, image)
    assert not found.notes and torch.equal(found.output, net(image))
    every_number_opens(found)


def test_a_record_does_not_change_with_the_network() -> None:
    """What a user does with the network's own tensors afterwards reaches no step's output."""
    net, image = Network(buffer_in_place).eval(), torch.randn(1, 3, 5, 5)
    found = trace(net, image)
    shown = [step.output.clone() for step in found.steps]
    net.state.zero_()
    assert all(torch.equal(step.output, value) for step, value in zip(found.steps, shown, strict=True))


def test_only_what_is_overwritten_is_copied() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(inplace=True), nn.Conv2d(4, 4, 1), nn.ReLU(), nn.Flatten())
    found = trace(net, torch.randn(1, 3, 6, 6))
    assert isinstance(net[2], nn.Conv2d)
    weights = found["2"].arguments[1]
    assert weights.untyped_storage().data_ptr() == net[2].weight.untyped_storage().data_ptr()
    assert found["4"].output.untyped_storage().data_ptr() == found["3"].output.untyped_storage().data_ptr()
    assert found["0"].output.untyped_storage().data_ptr() != found["1"].output.untyped_storage().data_ptr()
