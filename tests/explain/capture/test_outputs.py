"""Which of a network's results are its scores; never another step's numbers."""

import collections
import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from convoscope.errors import UsageError
from convoscope.explain import attribute, backward, trace

IMAGE = torch.randn(1, 3, 6, 6, generator=torch.Generator().manual_seed(0))
Named = collections.namedtuple("Named", "logits aux")


@dataclasses.dataclass
class Result:
    aux: Any
    logits: Any


class Ordered(collections.OrderedDict[str, Any]):
    """As the results of transformers are."""


class Heads(nn.Module):
    def __init__(self, give: Callable[[Tensor, Tensor, Tensor], Any]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.score, self.aux = nn.Conv2d(3, 4, 3, padding=1), nn.Linear(4, 5), nn.Linear(4, 7)
        self.give = give

    def parts(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        middle = F.relu(self.conv(x)).mean((2, 3))
        return middle, self.score(middle), self.aux(middle)

    def forward(self, x: Tensor) -> Any:
        return self.give(*self.parts(x))


@pytest.mark.parametrize(
    ("give", "taken"),
    [
        (lambda middle, scores, aux: (scores, aux), "[0]"),
        (lambda middle, scores, aux: (middle, scores), "[1]"),
        (lambda middle, scores, aux: {"aux": aux, "logits": scores}, "logits"),
        (lambda middle, scores, aux: Named(scores, aux), "logits"),
        (lambda middle, scores, aux: Result(aux, scores), "logits"),
        (lambda middle, scores, aux: Ordered(aux=aux, logits=scores), "logits"),
        (lambda middle, scores, aux: {"loss": scores.sum(), "scores": scores}, "scores"),
        (lambda middle, scores, aux: {"maps": [(scores, None), {"aux": aux}]}, "maps[0][0]"),
        (lambda middle, scores, aux: [None, scores], ""),
    ],
)
def test_the_scores_are_found(give: Callable[[Tensor, Tensor, Tensor], Any], taken: str) -> None:
    net = Heads(give).eval()
    found = trace(net, IMAGE)
    assert torch.equal(found.output, net.parts(IMAGE)[1])
    if taken:
        (note,) = found.notes
        assert note.startswith("the network gives 2 results, ") and note.endswith(f": {taken} is taken for its scores")
        assert "(1, 5)" in note
    else:
        assert not found.notes
    assert found.why(found.names[-1], 2).agrees


def test_names_of_classes_tell_two_heads_apart() -> None:
    net = Heads(lambda middle, scores, aux: (scores, aux)).eval()
    assert torch.equal(trace(net, IMAGE, classes=list("abcdefg")).output, net.parts(IMAGE)[2])


@pytest.mark.parametrize("nothing", [None, {}, "text", {"loss": None}])
def test_no_tensor_is_an_error(nothing: Any) -> None:
    with pytest.raises(UsageError, match="it gives no tensor, but ") as caught:
        trace(Heads(lambda *_: nothing), IMAGE)
    assert caught.value.code == "model-module" and caught.value.hint == "return its scores"


def test_a_method_that_needs_one_score_takes_the_only_candidate_or_asks() -> None:
    named = Heads(lambda middle, scores, aux: {"aux": aux, "logits": scores}).eval()
    alone = Heads(lambda middle, scores, aux: scores).eval()
    assert torch.equal(attribute("saliency", named, IMAGE, 1).map, attribute("saliency", alone, IMAGE, 1).map)
    assert backward(named, IMAGE, 1).loss == backward(alone, IMAGE, 1).loss
    two = Heads(lambda middle, scores, aux: (scores, aux)).eval()
    for ask in (lambda: attribute("saliency", two, IMAGE, 1), lambda: backward(two, IMAGE, 1)):
        with pytest.raises(
            UsageError, match=r"expected raw scores \(1, K\), got tuple of \[0\] \(1, 5\), \[1\] \(1, 7\)"
        ):
            ask()


def test_a_result_is_what_it_was_when_it_was_returned() -> None:
    class Kept(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.kept = nn.Conv2d(3, 2, 3), torch.zeros(1, 2, 4, 4)

        def forward(self, x: Tensor) -> Tensor:
            self.kept.copy_(self.conv(x))
            return self.kept

    net = Kept().eval()
    found = trace(net, IMAGE)
    shown = found.output.clone()
    assert torch.equal(shown, net.conv(IMAGE))
    net(IMAGE + 1)
    assert torch.equal(found.output, shown)
