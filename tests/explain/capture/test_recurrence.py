"""Recurrent layers, gate by gate, against loops in NumPy and against torch's own kernels."""

import itertools
import warnings
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_sequence

from convoscope.explain import Trace, backward, trace

Floats = NDArray[np.float64]


def sigmoid(x: Floats) -> Floats:
    return 1 / (1 + np.exp(-x))


def moment(kind: str, w: dict[str, Floats], x: Floats, h: Floats, c: Floats) -> tuple[Floats, Floats]:
    """One moment of one layer for one sequence, as torch's documentation writes it."""
    a, b = w["ih"] @ x + w["bih"], w["hh"] @ h + w["bhh"]
    if kind == "LSTM":
        i, f, g, o = (part for part in np.split(a + b, 4))
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        return w["hr"] @ (sigmoid(o) * np.tanh(c)) if "hr" in w else sigmoid(o) * np.tanh(c), c
    if kind == "GRU":
        (ra, za, na), (rb, zb, nb) = np.split(a, 3), np.split(b, 3)
        r, z = sigmoid(ra + rb), sigmoid(za + zb)
        return (1 - z) * np.tanh(na + r * nb) + z * h, c
    return (np.maximum(a + b, 0) if kind == "relu" else np.tanh(a + b)), c


def weights_of(layer: nn.Module, suffix: str) -> dict[str, Floats]:
    own = {name: value.detach().double().numpy() for name, value in layer.named_parameters()}
    found = {"ih": own[f"weight_ih{suffix}"], "hh": own[f"weight_hh{suffix}"]}
    zero = np.zeros(len(found["ih"]))
    found |= {"bih": own.get(f"bias_ih{suffix}", zero), "bhh": own.get(f"bias_hh{suffix}", zero)}
    return found | ({"hr": own[f"weight_hr{suffix}"]} if f"weight_hr{suffix}" in own else {})


def loop(kind: str, layer: Any, sequence: Floats) -> Floats:
    """The output `(T, directions x H)` of a whole layer for one sequence `(T, features)`."""
    for number in range(layer.num_layers):
        sides = []
        for direction in range(2 if layer.bidirectional else 1):
            w = weights_of(layer, f"_l{number}" + ("_reverse" if direction else ""))
            c = np.zeros(layer.hidden_size)
            h = np.zeros(w["hr"].shape[0] if "hr" in w else layer.hidden_size)
            states = []
            for x in sequence[::-1] if direction else sequence:
                h, c = moment(kind, w, x, h, c)
                states.append(h)
            sides.append(np.stack(states[::-1] if direction else states))
        sequence = np.concatenate(sides, 1)
    return sequence


class Reads(nn.Module):
    """Rows of an image, one after another, through a recurrent layer."""

    def __init__(self, layer: nn.Module, batch_first: bool) -> None:
        super().__init__()
        self.layer, self.batch_first = layer, batch_first

    def forward(self, x: Tensor) -> Tensor:
        rows = x[:, 0] if self.batch_first else x[:, 0].transpose(0, 1)
        output: Tensor = self.layer(rows)[0]
        return output if self.batch_first else output.transpose(0, 1)


CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "lstm": ("LSTM", {}),
    "lstm, two layers, both directions": ("LSTM", {"num_layers": 2, "bidirectional": True, "batch_first": True}),
    "lstm, projected": ("LSTM", {"proj_size": 2, "num_layers": 2, "bidirectional": True}),
    "lstm, no bias, projected": ("LSTM", {"proj_size": 1, "bias": False}),
    "gru, no bias": ("GRU", {"bias": False, "batch_first": True}),
    "gru, two layers, both directions": ("GRU", {"num_layers": 2, "bidirectional": True, "dropout": 0.5}),
    "rnn": ("RNN", {"batch_first": True, "bidirectional": True}),
    "rnn, relu": ("RNN", {"nonlinearity": "relu", "num_layers": 3, "dropout": 0.3}),
}


def every_number_agrees(found: Trace, module: str | None = None) -> None:
    for step in found.steps[1:]:
        if module is not None and step.module != module:
            continue
        for place in itertools.islice(np.ndindex(*step.shape), step.number % 4, None, 5):
            why = found.why(step.name, *place)
            assert why.opened and why.agrees, str(why)
            for term in why.terms:
                if term.source is not None:
                    assert found[term.source.layer].value(term.source.index) == term.input


@pytest.mark.parametrize(("name", "settings"), CASES.values(), ids=CASES)
def test_a_layer_is_its_loop_and_opens_gate_by_gate(name: str, settings: dict[str, Any]) -> None:
    torch.manual_seed(0)
    layer = getattr(nn, name)(4, 3, **settings)
    image = torch.randn(1, 4, 4)
    found = trace(Reads(layer, settings.get("batch_first", False)), image)
    wanted = loop(settings.get("nonlinearity", name), layer, image[0].double().numpy())
    assert found.output[0].numpy() == pytest.approx(wanted, rel=1e-5, abs=1e-6)
    every_number_agrees(found)
    assert not found.notes
    kinds = {"LSTM": {"inputgate", "forgetgate", "candidate", "outputgate", "cellstate"}, "RNN": set()}
    assert kinds.get(name, {"resetgate", "updategate", "candidate"}) | {"hiddenstate"} <= {
        step.kind for step in found.steps
    }


@pytest.mark.parametrize("name", ["LSTM", "GRU", "RNN"])
def test_a_cell_is_its_formula(name: str) -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cell = getattr(nn, f"{name}Cell")(4, 3)

        def forward(self, x: Tensor) -> Tensor:
            state = self.cell(x[:, 0, 0])
            again = self.cell(x[:, 0, 1], state)
            scores: Tensor = again[0] if name == "LSTM" else again
            return scores

    torch.manual_seed(0)
    net, image = Twice(), torch.randn(1, 2, 4)
    w, h, c = weights_of(net.cell, ""), np.zeros(3), np.zeros(3)
    for x in image[0].double().numpy():
        h, c = moment(name, w, x, h, c)
    found = trace(net, image)
    assert found.output[0].numpy() == pytest.approx(h, rel=1e-5, abs=1e-6)
    every_number_agrees(found)


def test_an_output_opens_into_its_gates_and_their_sums() -> None:
    torch.manual_seed(0)
    layer = nn.LSTM(4, 3, batch_first=True)
    image = torch.randn(1, 2, 4)
    found = trace(Reads(layer, True), image)
    w, (first, second) = weights_of(layer, "_l0"), image[0].double().numpy()
    h, _ = moment("LSTM", w, first, np.zeros(3), np.zeros(3))
    sums = w["ih"] @ second + w["bih"] + w["hh"] @ h + w["bhh"]
    state = found.why("layer.hiddenstate#2", 1)
    assert [str(term.source) for term in state.terms] == ["layer.outputgate#2[1]"]
    gate = state.open(0)
    assert gate.sum == pytest.approx(sigmoid(sums)[9 + 1], abs=1e-6)
    total = gate.open(0).open(0)
    assert total.layer == "layer.add#2" and total.sum == pytest.approx(sums[9 + 1], abs=1e-6)
    products = total.open(1)
    assert products.layer == "layer.dense#2" and len(products) == 3
    assert products.weights == pytest.approx(w["hh"][9 + 1], abs=1e-7)
    assert [str(term.source) for term in products.terms] == [f"layer.hiddenstate[{unit}]" for unit in range(3)]


def test_the_plain_formulas_give_what_torchs_kernels_give() -> None:
    torch.manual_seed(0)
    for name in ("LSTM", "GRU", "RNN"):
        layer = getattr(nn, name)(6, 5, num_layers=2, bidirectional=True, batch_first=True)
        net, image = nn.Sequential(Reads(layer, True)), torch.randn(1, 7, 6)
        with torch.no_grad():
            assert torch.allclose(trace(net, image).output, net(image[None]), rtol=1e-5, atol=1e-6)


def test_the_gradient_of_a_recurrent_weight_is_a_sum_over_every_moment() -> None:
    class Classifies(Reads):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x)[:, -1]

    torch.manual_seed(0)
    net, image = Classifies(nn.LSTM(4, 3, batch_first=True), True), torch.randn(1, 5, 4)
    found = backward(net, image, 1)
    for name, shape in (("weight_ih_l0", (7, 2)), ("weight_hh_l0", (2, 1)), ("bias_hh_l0", (5,))):
        why = found.why(f"layer.{name}", *shape)
        assert why.agrees and len(why) == 5, str(why)
        parameter = net.layer.get_parameter(name)
        values = []
        for step in (1e-3, -1e-3):
            with torch.no_grad():
                parameter[shape] += step
                values.append(float(nn.functional.cross_entropy(net.double()(image[None].double()), torch.tensor([1]))))
                parameter = net.float().layer.get_parameter(name)
                parameter[shape] -= step
        assert why.sum == pytest.approx((values[0] - values[1]) / 2e-3, rel=1e-3, abs=1e-6)


class Packs(nn.Module):
    def __init__(self, *lengths: int) -> None:
        super().__init__()
        self.layer, self.lengths = nn.GRU(4, 3), lengths

    def forward(self, x: Tensor) -> Tensor:
        packed: PackedSequence = self.layer(pack_sequence([x[0, 0, :length] for length in self.lengths]))[0]
        return packed.data[-1:]


def test_packed_sequences() -> None:
    torch.manual_seed(0)
    net, image = Packs(5), torch.randn(1, 5, 4)
    found = trace(net, image)
    assert found.output[0].numpy() == pytest.approx(loop("GRU", net.layer, image[0].double().numpy())[-1], abs=1e-6)
    every_number_agrees(found, "layer")
    assert "layer.resetgate#5" in found.names
    # Of different lengths they are torch's own: no gates have names, and no error comes from them.
    found = trace(Packs(5, 3), image)
    for step in found.steps[1:]:
        found.why(step.name, *(0 for _ in step.shape)).text()


def test_no_warning_comes_from_a_projected_layer() -> None:
    net = Reads(nn.LSTM(4, 3, proj_size=2), False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        trace(net, torch.randn(1, 5, 4))
