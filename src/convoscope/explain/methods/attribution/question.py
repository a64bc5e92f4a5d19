"""What is asked of a network about one image, and the answer; what the methods share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ....errors import UsageError
from ....models import BUDGET
from ...capture.forward import probabilities, whole_number

Answers = Callable[[Tensor], Tensor]
"""From raw scores `(N, outputs)` to what a person gets to see, `(N, K)`, such as `Objective.answers`."""

_NUMBERS_AT_ONCE = 2**22
_MOST_AT_ONCE = 256


@dataclass(frozen=True, eq=False, kw_only=True)
class Attribution:
    """What one method says about one image.

    Attributes:
        method: its name in `METHODS`.
        map: `(H, W)`, to be drawn; see each method for what its numbers are.
        values: the same before the channels were put together, `(C, H, W)`; `(1, H, W)` where a method takes all
            channels at once.
        target: the class that was asked about.
        score: its raw score.
        probability: what `probabilities`, or the given `answers`, makes of it.
        answer: the most likely class.
        layer: the layer whose maps were used (`grad_cam`), else empty.
        raw: `grad_cam`: `(h, w)`, one number for each cell of the layer's maps; `occlusion`: one for each place of the
            cover.
        completeness: `integrated_gradients`: the sum of all values - (score of the image - score of the baseline); 0 is
            perfect.
        answers: `pixel_flips`: int64 `(H, W)`, the most likely class once this pixel is flipped.
        control: the same for the network with shuffled weights, see `attribute`; None where its scores overflow.
        similarity: of the two maps, see `similarity`.
    """

    method: str
    map: Tensor
    values: Tensor
    target: int
    score: float
    probability: float
    answer: int
    layer: str = ""
    raw: Tensor | None = None
    completeness: float | None = None
    answers: Tensor | None = None
    control: Attribution | None = None
    similarity: float | None = None

    @property
    def changes(self) -> Tensor | None:
        """Which flips change the answer: bool `(H, W)`; None but for `pixel_flips`."""
        return None if self.answers is None else self.answers != self.answer


@dataclass(frozen=True, eq=False)
class Asked:
    """One image's scores `(1, outputs)`, and the class that is asked about."""

    scores: Tensor
    target: int
    seen: Answers

    @classmethod
    def about(cls, scores: Tensor, target: int | None, answers: Answers | None = None) -> Asked:
        scores = scores.detach()
        seen = probabilities if answers is None else answers
        shown = seen(scores)
        classes = max(scores.shape[1], 2)
        if target is None:
            return cls(scores, int(shown.argmax(1)), seen)
        return cls(scores, whole_number("target", target, 0, classes - 1, "target-range"), seen)

    @property
    def probability(self) -> float:
        return float(self.probability_of(self.scores))

    def probability_of(self, scores: Tensor) -> Tensor:
        """`(N,)`."""
        return self.seen(scores)[:, self.target]

    def score(self, scores: Tensor) -> Tensor:
        """`(N,)`: the target's raw score."""
        if scores.shape[1] == 1:
            return scores[:, 0] if self.target == 1 else -scores[:, 0]
        return scores[:, self.target]

    def result(self, method: str, map: Tensor, values: Tensor, **more: Any) -> Attribution:
        return Attribution(
            method=method,
            map=map,
            values=values,
            target=self.target,
            score=float(self.score(self.scores)),
            probability=self.probability,
            answer=int(self.seen(self.scores).argmax(1)),
            **more,
        )


def gradient_of(scores: Tensor, by: Tensor) -> Tensor:
    """The derivative of the sum of the scores."""
    gradient = torch.autograd.grad(scores.sum(), by, allow_unused=True)[0] if scores.requires_grad else None
    if gradient is None:
        raise no_gradient()
    return gradient


def no_gradient() -> UsageError:
    """The score does not depend on what was asked about in a way that torch can follow back."""
    return UsageError(
        "model", "no gradient comes back from the score", code="no-gradient", hint="use occlusion, which needs none"
    )


def parts(count: int, picture: Tensor, image_bytes: int, weight: int = 1) -> list[range]:
    """`range(count)` in parts small enough for the memory.

    Args:
        image_bytes: what the network takes for one image.
        weight: how much more than a plain run each image needs besides.
    """
    most = min(_MOST_AT_ONCE, _NUMBERS_AT_ONCE // weight // picture.numel(), BUDGET // max(image_bytes, 1))
    together = max(1, most)
    return [range(count)[start : start + together] for start in range(0, count, together)]


def broadcast(name: str, value: Tensor | float, picture: Tensor) -> Tensor:
    """A number or a tensor as `(1, C, H, W)`."""
    given = torch.as_tensor(value).detach().to(picture.device, picture.dtype)
    try:
        expanded = given.expand(picture.shape[1:]) if given.ndim < 4 else given.expand(picture.shape)
    except RuntimeError:
        raise UsageError(
            name,
            f"expected a number or shape {tuple(picture.shape[1:])}; received {tuple(given.shape)}",
            code=f"{name}-shape",
        ) from None
    if not expanded.isfinite().all():
        raise UsageError(name, "expected finite numbers", code=f"{name}-shape")
    return expanded.reshape(picture.shape).clone()
