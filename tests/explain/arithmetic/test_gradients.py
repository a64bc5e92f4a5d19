"""Why, backwards: each gradient is the sum over the places where its weight was used."""

import random
from copy import deepcopy
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from convoscope import models
from convoscope.errors import UsageError
from convoscope.explain import backward, training_step
from tests.explain.capture.test_recorder import same, state_of
from tests.support.networks import PROMISED, Habits, network


@pytest.mark.parametrize("name", PROMISED)
def test_50_gradients_of_each_network_agree_with_autograd(name: str) -> None:
    net, image = network(name)
    found = backward(net, image, 1)
    scores = net(image)
    wanted = torch.autograd.grad(F.cross_entropy(scores, torch.tensor([1])), list(net.parameters()))
    by_name = dict(zip(dict(net.named_parameters()), wanted, strict=True))
    chance = random.Random(0)
    for _ in range(50):
        parameter = chance.choice(list(by_name))
        place = tuple(chance.randrange(n) for n in by_name[parameter].shape)
        why = found.why(parameter, *place)
        assert why.agrees, str(why)
        # The same sum as torch's, also where its run is another one.
        assert float(by_name[parameter][place]) == pytest.approx(why.sum, rel=1e-3, abs=1e-6)


def test_gradients_are_finite_differences() -> None:
    torch.manual_seed(0)
    net = models.build("conv(3) norm relu maxpool conv(4, stride=2) tanh flatten dense(5) sigmoid dense", (8, 8, 2), 3)
    net = net.double().eval()
    image = torch.randn(2, 2, 8, 8, dtype=torch.float64)
    found = backward(net, image, torch.tensor([2, 0]))
    step = 1e-6
    for parameter, values in net.named_parameters():
        place = tuple(n // 2 for n in values.shape)
        losses = []
        for change in (step, -step):
            with torch.no_grad():
                values[place] += change
                losses.append(float(F.cross_entropy(net(image), torch.tensor([2, 0]))))
                values[place] -= change
        why = found.why(parameter, *place)
        assert why.sum == pytest.approx((losses[0] - losses[1]) / (2 * step), rel=1e-5, abs=1e-9)
        assert why.agrees


def test_a_weight_used_twice_sums_over_both_uses() -> None:
    torch.manual_seed(0)
    net, image = Habits(), torch.randn(1, 2, 6, 6)
    why = backward(net, image, 2).why("again.weight", 1, 2, 0, 1)
    assert len(why) == 2 * 36
    assert why.agrees


def test_terms_say_where_they_are() -> None:
    net, image = network("fashion")
    why = backward(net, image, 3).why("conv1.weight", 2, 0, 0, 1)
    assert len(why) == 28 * 28
    corner = why.term(0)
    assert corner.padding and corner.input == 0 and corner.cell == (0, 0)
    inner = why.term(28 * 5 + 7)
    assert inner.source is not None and (inner.source.layer, inner.source.index) == ("image", (0, 4, 7))
    assert inner.input == float(image[0, 0, 4, 7])
    assert {"parameter", "index", "terms", "sum", "recorded", "difference"} <= why.to_json().keys()
    assert "784 in all" in why.text()
    bias = backward(net, image, 3).why("dense2.bias", 3)
    assert len(bias) == 1 and bias.sum == pytest.approx(
        float(torch.softmax(net(image), 1)[0, 3].detach()) - 1, rel=1e-5
    )


@pytest.mark.parametrize("training", [False, True])
def test_batch_norm_in_both_modes(training: bool) -> None:
    torch.manual_seed(0)
    net = models.build("conv(4) norm relu globalavg dense", (7, 7, 1), 3)
    images, targets = torch.randn(5, 1, 7, 7), torch.tensor([0, 1, 2, 0, 1])
    found = backward(net, images, targets, training=training)
    for parameter, values in found.gradients.items():
        for place in (tuple(0 for _ in values.shape), tuple(n - 1 for n in values.shape)):
            why = found.why(parameter, *place)
            assert why.agrees, str(why)


def test_one_score_for_two_classes() -> None:
    net = models.build("flatten dense(1)", (3, 3, 1), 2)
    image = torch.randn(1, 3, 3)
    found = backward(net, image, 1)
    wanted = F.binary_cross_entropy_with_logits(net(image[None])[:, 0], torch.ones(1))
    assert found.loss == pytest.approx(float(wanted.detach()), rel=1e-6)
    assert found.why("dense1.weight", 0, 4).agrees


@pytest.mark.parametrize("training", [False, True])
def test_nothing_is_left_behind(training: bool) -> None:
    net, image = Habits().train(), torch.randn(1, 2, 6, 6)
    F.cross_entropy(net(image), torch.tensor([0])).backward()
    before = state_of(net, [image])
    backward(net, image, 1, training=training).why("first.weight", 0, 0, 0, 0)
    training_step(net, image, 1)
    assert same(before, state_of(net, [image]))
    norms = models.build("conv(4) norm relu globalavg dense", (7, 7, 1), 3).train()
    images = torch.randn(2, 1, 7, 7)
    before = state_of(norms)
    backward(norms, images, torch.tensor([0, 1]), training=training)
    assert same(before, state_of(norms))


@pytest.mark.parametrize(
    ("parameter", "place", "message", "code"),
    [
        ("conv1.wieght", (0, 0, 0, 0), "this network has no learned weight 'conv1.wieght'", "parameter-unknown"),
        ("conv1.weight", (0, 0), "conv1.weight needs a place in 0 to 0, 0 to 0, 0 to 2, 0 to 2", "unit-unknown"),
        ("dense1.bias", (2,), "dense1.bias needs a place in 0 to 1; received 2", "unit-unknown"),
    ],
)
def test_bad_places(parameter: str, place: Any, message: str, code: str) -> None:
    net, image = network("tiny")
    with pytest.raises(UsageError, match=message) as caught:
        backward(net, image, 0).why(parameter, *place)
    assert caught.value.code == code


def test_bad_targets_and_images() -> None:
    net, image = network("tiny")
    with pytest.raises(UsageError, match="expected a class from 0 to 1 for each of 1 images; received") as caught:
        backward(net, image, 2)
    assert caught.value.code == "target-unknown"
    with pytest.raises(UsageError, match="it fails on these images"):
        backward(net, torch.zeros(1, 1, 9, 9), 0)


def test_weights_outside_the_catalogue_say_so() -> None:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.ones(3))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.mean((2, 3)) * self.scale

    found = backward(Scaled(), torch.randn(3, 4, 4), 1)
    with pytest.raises(UsageError, match="whose gradient is not opened") as caught:
        found.why("scale", 1)
    assert caught.value.code == "parameter-closed"


def test_a_training_step_is_sgds() -> None:
    net, _ = network("tiny")
    images, targets = torch.rand(4, 1, 5, 5), torch.tensor([0, 1, 1, 0])
    step = training_step(net, images, targets, learning_rate=0.3)
    copy = models.build("tiny", (5, 5, 1), 2)
    copy.load_state_dict(net.state_dict())
    optimizer = torch.optim.SGD(copy.parameters(), lr=0.3)
    loss = F.cross_entropy(copy(images), targets)
    loss.backward()
    optimizer.step()
    assert step.backward.loss == pytest.approx(float(loss.detach()), rel=1e-6)
    for name, value in copy.named_parameters():
        assert torch.allclose(step.after[name], value, rtol=1e-6, atol=1e-8)
    assert step.loss_after < step.backward.loss
    text = step.text()
    assert text.count("\n") > 19 and "loss afterwards" in text
    assert len(step.to_json()["gradients"]["dense1.weight"]) == 2
    with pytest.raises(UsageError, match="expected a number above 0") as caught:
        training_step(net, images, targets, learning_rate=float("nan"))
    assert caught.value.code == "rate-out-of-range"


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_images_take_the_type_of_the_weights(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    net = models.build("conv(4) norm relu globalavg dense", (7, 7, 1), 3).to(dtype).eval()
    images, targets = torch.randn(2, 1, 7, 7), torch.tensor([0, 2])
    found = backward(net, images, targets)
    wanted = torch.autograd.grad(F.cross_entropy(net(images.to(dtype)), targets), list(net.parameters()))
    for (parameter, values), own in zip(net.named_parameters(), wanted, strict=True):
        assert torch.equal(found.gradients[parameter], own)
        why = found.why(parameter, *(n // 2 for n in values.shape))
        assert why.agrees, str(why)
    assert training_step(net, images, targets).loss_after < found.loss


def test_frozen_and_unused_weights_say_so() -> None:
    class Spare(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.last, self.spare = nn.Conv2d(1, 2, 3), nn.Linear(2, 3), nn.Linear(2, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            scores: torch.Tensor = self.last(self.first(x).mean((2, 3)))
            return scores

    net, image = Spare(), torch.randn(1, 5, 5)
    net.first.weight.requires_grad_(False)
    found = backward(net, image, 1)
    for parameter, place, message, code in (
        ("first.weight", (0, 0, 0, 0), "first.weight is frozen: no gradient is computed for it", "parameter-frozen"),
        ("spare.weight", (0, 1), "does not enter the loss of these images: its gradient is 0", "parameter-unused"),
    ):
        with pytest.raises(UsageError, match=message) as caught:
            found.why(parameter, *place)
        assert caught.value.code == code
    assert found.why("first.bias", 1).agrees
    net.requires_grad_(False)
    with pytest.raises(UsageError, match="no gradient comes back from it: every weight is frozen") as caught:
        backward(net, image, 1)
    assert caught.value.code == "no-gradient"


@pytest.mark.parametrize("loss", [lambda scores: scores, lambda scores: 1.5])
def test_a_loss_is_one_number(loss: Any) -> None:
    net, image = network("tiny")
    with pytest.raises(UsageError, match="expected a tensor with one number, got ") as caught:
        backward(net, image, loss)
    assert caught.value.code == "loss-not-a-number"


def test_any_loss_of_the_scores_opens() -> None:
    net, image = network("tiny")
    found = backward(net, image, lambda scores: F.mse_loss(scores, torch.ones_like(scores)).reshape(1))
    wanted = torch.autograd.grad(((net(image) - 1) ** 2).mean(), list(net.parameters()))
    for (parameter, values), own in zip(net.named_parameters(), wanted, strict=True):
        why = found.why(parameter, *(0 for _ in values.shape))
        assert why.agrees and why.sum == pytest.approx(float(own[tuple(0 for _ in own.shape)]), rel=1e-4, abs=1e-7)


@pytest.mark.parametrize("training", [False, True])
def test_channels_last_dropout_and_an_input_changed_in_place(training: bool) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.ReLU(inplace=True), nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(inplace=True), nn.Dropout(0.5),
        nn.Flatten(), nn.Linear(64, 3),
    ).to(memory_format=torch.channels_last)  # fmt: skip
    images = torch.randn(4, 3, 6, 6).contiguous(memory_format=torch.channels_last)
    before, targets = images.clone(), torch.tensor([0, 1, 2, 0])
    torch.manual_seed(3)
    found = backward(net, images, targets, training=training)
    assert torch.equal(images, before)
    copy = deepcopy(net).train(training)
    torch.manual_seed(3)
    wanted = torch.autograd.grad(F.cross_entropy(copy(images.clone()), targets), list(copy.parameters()))
    for (parameter, values), own in zip(net.named_parameters(), wanted, strict=True):
        assert torch.allclose(found.gradients[parameter], own, rtol=1e-5, atol=1e-7)
        assert found.why(parameter, *(n // 2 for n in values.shape)).agrees
