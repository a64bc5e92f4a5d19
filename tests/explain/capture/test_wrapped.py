"""Networks that are no plain modules any more, and numbers that are no plain floats: a plain answer each."""

import contextlib
import json
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from convoscope import explain, models
from convoscope.errors import UsageError
from convoscope.explain import Trace, backward, trace
from tests.explain.capture.test_memory import every_number_opens
from tests.explain.capture.test_recorder import same, state_of


def plain() -> nn.Sequential:
    torch.manual_seed(1)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2), nn.Dropout(),
        nn.AdaptiveAvgPool2d(3), nn.Flatten(), nn.Linear(36, 3),
    ).eval()  # fmt: skip


IMAGE = torch.randn(1, 3, 12, 12, generator=torch.Generator().manual_seed(0))


def equal(one: Trace, two: Trace) -> bool:
    return [step.kind for step in one.steps] == [step.kind for step in two.steps] and all(
        torch.equal(first.output, second.output) for first, second in zip(one.steps, two.steps, strict=True)
    )


class Inside(nn.Module):
    """Switches torch's mode itself."""

    def __init__(self, mode: Callable[[], AbstractContextManager[None]]) -> None:
        super().__init__()
        self.net, self.mode = plain(), mode

    def forward(self, x: Tensor) -> Tensor:
        with self.mode():
            made: Tensor = self.net(x)
            return made


@pytest.mark.parametrize("mode", [torch.inference_mode, torch.no_grad, torch.enable_grad])
def test_every_mode_of_torch_gives_the_same_trace(mode: Callable[[], AbstractContextManager[None]]) -> None:
    wanted = trace(plain(), IMAGE)
    with mode():
        outside = trace(plain(), IMAGE)
        made = plain()
        image = IMAGE.clone()
    for found in (outside, trace(made, image), trace(Inside(mode), IMAGE)):
        assert equal(found, wanted)
        every_number_opens(found)


def test_gradients_of_a_network_made_in_inference_mode() -> None:
    with torch.inference_mode():
        net, image = plain(), IMAGE.clone()
    before = state_of(net)
    found, wanted = backward(net, image, 1), backward(plain(), IMAGE, 1)
    assert found.loss == wanted.loss
    assert all(torch.equal(found.gradients[name], wanted.gradients[name]) for name in wanted.gradients)
    assert torch.equal(
        explain.attribute("saliency", net, image, 1).map, explain.attribute("saliency", plain(), IMAGE, 1).map
    )
    assert same(before, state_of(net)) and all(parameter.is_inference() for parameter in net.parameters())


@contextlib.contextmanager
def unwarned() -> Iterator[None]:
    """torch.jit and quantisation warn that they are old."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def test_a_compiled_network_opens_as_it_was_written() -> None:
    compiled: Any = torch.compile(plain(), backend="eager")
    for found in (trace(compiled, IMAGE), trace(nn.Sequential(compiled), IMAGE)):
        assert equal(found, trace(plain(), IMAGE))
    assert trace(compiled, IMAGE).names == trace(plain(), IMAGE).names
    with torch.no_grad():
        compiled(IMAGE)  # now its compiled form is used, which tells hooks nothing
    cam = explain.attribute("grad_cam", compiled, IMAGE, 1, control=False)
    assert torch.equal(cam.map, explain.attribute("grad_cam", plain(), IMAGE, 1, control=False).map)
    assert backward(compiled, IMAGE, 1).gradients.keys() == backward(plain(), IMAGE, 1).gradients.keys()


@pytest.mark.parametrize("how", ["script", "frozen"])
def test_a_scripted_network_opens_and_says_what_it_cannot(how: str) -> None:
    with unwarned():
        net: Any = torch.jit.script(plain())
        net = torch.jit.freeze(net) if how == "frozen" else net
        found = trace(net, IMAGE)
        assert torch.allclose(found.output, trace(plain(), IMAGE).output, atol=1e-6)
        every_number_opens(found)
        with pytest.raises(UsageError, match=r"compiled by torch\.jit") as caught:
            models.table(net, (12, 12, 3), 3)
        assert caught.value.code == "model-scripted"
        with pytest.raises(UsageError):
            explain.attribute("grad_cam", net, IMAGE, 1)


def test_an_exported_network_opens() -> None:
    net = torch.export.export(plain(), (IMAGE,)).module()
    found = trace(net, IMAGE)
    assert torch.equal(found.output, trace(plain(), IMAGE).output)
    every_number_opens(found)


def test_weights_that_do_not_exist_yet_are_named() -> None:
    lazy = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.LazyLinear(2))
    for ask in (lambda: trace(lazy, IMAGE), lambda: backward(lazy, IMAGE, 0)):
        with pytest.raises(UsageError, match=r"its 2\.weight has no numbers yet: a lazy layer makes them") as caught:
            ask()
        assert caught.value.code == "weights-missing"
    with torch.no_grad():
        lazy(IMAGE)
    assert trace(lazy, IMAGE).why("2", 1).agrees
    with pytest.raises(UsageError, match=r"its 0\.weight is on torch's device meta"):
        trace(plain().to("meta"), IMAGE)


def quantised() -> nn.Module:
    import torch.ao.quantization as quantization

    class Whole(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.into, self.net, self.out = quantization.QuantStub(), plain(), quantization.DeQuantStub()

        def forward(self, x: Tensor) -> Tensor:
            made: Tensor = self.out(self.net(self.into(x)))
            return made

    net: nn.Module = Whole().eval()
    net.qconfig = quantization.get_default_qconfig("x86")
    net = quantization.prepare(net)
    net(IMAGE)
    made: nn.Module = quantization.convert(net)
    return made


@pytest.mark.parametrize("how", ["dynamic", "static"])
def test_quantised_arithmetic_gives_its_values(how: str) -> None:
    with unwarned():
        if how == "static":
            net = quantised()
        else:
            net = torch.ao.quantization.quantize_dynamic(plain(), {nn.Linear}, torch.qint8)
        found = trace(net, IMAGE)
        with torch.no_grad():
            assert torch.equal(found.output, net(IMAGE))
        assert any("quantised" in note for note in found.notes)
        for step in found.steps[1:]:
            why = found.why(step.name, *(n // 2 for n in step.shape))
            assert why.agrees and why.recorded == step.value(tuple(n // 2 for n in step.shape))
            assert step.output.dtype == torch.float32
        explain.overview(found)


def test_complex_numbers_are_said() -> None:
    class Spectrum(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            made: Tensor = torch.fft.fft2(x).abs().mean((2, 3))
            return made

    found = trace(Spectrum(), IMAGE)
    name = next(step.name for step in found.steps if step.output.is_complex())
    with pytest.raises(UsageError, match="its numbers are complex and are not opened; this one is ") as caught:
        found.why(name, 0, 1, 1)
    assert caught.value.code == "number-complex"
    assert any("complex" in note for note in found.notes)
    size = found.why("abs", 0, 2, 1)
    assert not size.opened
    assert size.recorded == pytest.approx(abs(np.fft.fft2(IMAGE[0, 0].double().numpy())[2, 1]), rel=1e-5)
    assert found.why(found.names[-1], 0).agrees
    explain.overview(found)


def test_truth_values_and_whole_numbers_open() -> None:
    class Thresholds(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            dark = x < 0
            whole = (x * 10).round().to(torch.int64)
            return torch.where(~dark, whole // 2, whole.abs()).to(x.dtype).flatten(1)

    found = trace(Thresholds(), IMAGE)
    assert {torch.bool, torch.int64} <= {step.output.dtype for step in found.steps}
    for step in found.steps[1:]:
        why = found.why(step.name, *(n // 2 for n in step.shape))
        assert why.agrees, str(why)
        json.dumps(why.to_json(), allow_nan=False)


def test_infinities_are_texts_in_json() -> None:
    class Masked(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            mask = torch.zeros(12, 12).fill_diagonal_(float("-inf"))
            return ((x[:, 0] + mask).softmax(-1) + 1).flatten(1)

    found = trace(Masked(), IMAGE)
    value = found.why("add", 3, 3).to_json()
    assert value["recorded"] == "-inf" and value["sum"] == "-inf" and value["difference"] == "nan"
    for step in found.steps:
        text = json.dumps(found.why(step.name, *(0 for _ in step.shape)).to_json(), allow_nan=False)
        assert json.loads(text)["layer"] == step.name


def test_a_layer_without_the_image_is_a_step() -> None:
    class Placed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.place = nn.Conv2d(3, 2, 3), nn.Linear(1, 10)

        def forward(self, x: Tensor) -> Tensor:
            made: Tensor = self.conv(x) + self.place(torch.arange(10.0)[:, None])
            return made

    net = Placed().eval()
    found = trace(net, IMAGE)
    assert torch.equal(found["place"].output, net.place(torch.arange(10.0)[:, None]))
    assert found["add"].inputs == ("conv", "place") and not found.notes
    assert "nothing computes it" in found.why("place", 3, 4).words


def test_a_trace_knows_when_the_weights_have_changed() -> None:
    net = plain()
    found = trace(net, IMAGE)
    found.why("0", 1, 2, 3)
    with torch.no_grad():
        next(net.parameters()).add_(1)
    with pytest.raises(UsageError, match="the network's numbers have changed since this trace was made") as caught:
        found.why("0", 1, 2, 3)
    assert caught.value.code == "trace-outdated"
    assert found.why("2", 1, 2, 3).agrees  # it has none of its own
    assert trace(net, IMAGE).why("0", 1, 2, 3).agrees


@pytest.mark.parametrize("kind", ["spectral", "weight", "orthogonal", "parallel", "fx", "channels-last", "hooked"])
def test_wrappers_open(kind: str) -> None:
    net: Any = plain()
    if kind == "parallel":
        net = nn.DataParallel(net)
    elif kind == "fx":
        net = torch.fx.symbolic_trace(net)
    elif kind == "channels-last":
        net = net.to(memory_format=torch.channels_last)
    elif kind == "hooked":
        net[0].register_forward_hook(lambda *given: given[2] * 2)
        net[2].register_forward_pre_hook(lambda *given: (given[1][0] + 1,))
    else:
        norms: Any = nn.utils.parametrizations
        named = {"spectral": norms.spectral_norm, "weight": norms.weight_norm, "orthogonal": norms.orthogonal}
        named[kind](net[7])
    before = state_of(net)
    found = trace(net, IMAGE)
    with torch.no_grad():
        assert torch.equal(found.output, net(IMAGE))
    every_number_opens(found)
    assert same(before, state_of(net))
