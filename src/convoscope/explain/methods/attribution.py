"""Which part decides? Maps of what a network's answer to one image rests on, and the control that shows whether a map
means anything.

Every method runs the network in eval mode and leaves it as it was found, also when it fails: no hooks, the same modes,
gradients, buffers and state of chance. Images are float32 `(C, H, W)` or `(1, C, H, W)`, normalised as in training. The
target is a class; None is the most likely one. A network with one output for two classes has the score +output for
class 1 and -output for class 0. Gradients are taken of this raw score, not of the probability, which saturates.

The control is the same method on the same network with shuffled weights (Adebayo et al. 2018, "Sanity checks for
saliency maps", https://arxiv.org/abs/1810.03292): a map that stays the same shows edges of the image, not what the
network has learned.
"""

from __future__ import annotations

import copy
import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...errors import UsageError, printable
from ...free_memory import ran_out
from ...models import BUDGET, Scale
from ...suggestions import the_nearest
from ..capture.forward import find, first_line, hooked, one_image, probabilities, quiet, run, scores_of, whole_number

Answers = Callable[[Tensor], Tensor]
"""From raw scores `(N, outputs)` to what a person gets to see, `(N, K)`, such as `Objective.answers`."""
Size = int | tuple[int, int]
"""One number for height and width, or both."""
Rule = Literal["gausslegendre", "riemann_left", "riemann_middle", "riemann_right"]

LARGEST_FLIPPED = 28
_MOST_STEPS = 1_000
_NUMBERS_AT_ONCE = 2**22
_MOST_AT_ONCE = 256


@dataclass(frozen=True, eq=False, kw_only=True)
class Attribution:
    """What one method says about one image.

    Attributes:
        method: its name in `METHODS`.
        map: `(H, W)`, to be drawn; what its numbers are, each method says.
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


def grad_cam(model: nn.Module, image: Tensor, target: int | None = None, layer: str | None = None) -> Attribution:
    """relu(sum over channels k of a_k A_k), A the layer's maps, a_k the mean gradient of the score by the map A_k.

    Selvaraju et al. 2017, https://arxiv.org/abs/1610.02391. `raw` has one number for each cell of the maps; `map` is
    `raw` enlarged to the image by bilinear interpolation, corners not aligned, as captum's
    `LayerAttribution.interpolate` does it.

    Args:
        model: any module that takes `(N, C, H, W)` and gives raw scores.
        image: see above.
        target: see above.
        layer: the path of a module that gives maps `(1, channels, h, w)`; one that runs several times counts by its
            last run that gives such maps. None: the last module to finish that has weights in it and gives maps of more
            than one cell; of an `nn.Sequential` the modules in it count. Where an activation (a module without weights
            or parts that keeps the shape; no dropout, no identity) takes these very maps, its output is used, as in the
            paper. So it is the last block of a ResNet, and the activation after the last convolution of a plain
            network, before the pooling. Maps whose first two axes fit the image's proportions better than the last two
            keep their channels last and are passed over. Of a network that works on such maps or on tokens
            (transformers) this leaves only the first convolution: there, name a layer.

    Raises:
        UsageError: `image-shape`, `image-values`, `target-range`, `layer-unknown`; `layer-map`: the layer gives no such
            maps, or no layer does; `no-gradient`; `model-module`: the network fails on the image; `scores-not-finite`.
    """
    with quiet(model):
        picture = one_image(model, image)
        name = _chosen_layer(model, picture) if layer is None else layer
        part = find(model, name)
        kept: list[Tensor] = []
        given: list[tuple[int, ...] | str] = []

        def keep(_: nn.Module, __: object, output: Any) -> Tensor | None:
            given.append(tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__)
            if not _is_map(output):
                return None
            kept[:] = [output]
            copied: Tensor = output.clone()  # an in-place activation that follows must not change what is kept
            return copied

        with hooked([part], keep):
            scores = scores_of(model, picture.requires_grad_().clone())
        if not kept:
            raise UsageError(
                "layer",
                f"expected a layer with maps (1, channels, h, w) of more than one cell; {printable(name)!r} "
                + (f"gives {given[-1]}" if given else "does not run for this image"),
                code="layer-map",
                hint="leave the layer out, and one is chosen",
            )
        asked = _Asked.about(scores, target)
        maps, gradient = kept[0].detach(), _gradient(asked.score(scores), kept[0])
        raw = F.relu((gradient.mean((2, 3), keepdim=True) * maps).sum(1, keepdim=True))
        values = F.interpolate(raw, picture.shape[2:], mode="bilinear")[0]
        return asked.result("grad_cam", values[0], values, layer=name, raw=raw[0, 0])


def saliency(model: nn.Module, image: Tensor, target: int | None = None) -> Attribution:
    """|d score / d pixel|, for each channel in `values`; `map` is the largest over the channels.

    Simonyan et al. 2014, https://arxiv.org/abs/1312.6034.

    Raises:
        UsageError: as `grad_cam`, but for the layer.
    """
    with quiet(model):
        leaf = one_image(model, image).requires_grad_()
        scores = scores_of(model, leaf.clone())
        asked = _Asked.about(scores, target)
        values = _gradient(asked.score(scores), leaf)[0].abs()
        return asked.result("saliency", values.amax(0), values)


def integrated_gradients(
    model: nn.Module,
    image: Tensor,
    target: int | None = None,
    baseline: Tensor | float = 0.0,
    steps: int = 50,
    rule: Rule = "gausslegendre",
) -> Attribution:
    """(image - baseline) times the mean gradient of the score on the straight way from the baseline to the image.

    Sundararajan et al. 2017, https://arxiv.org/abs/1703.01365. All values together are the image's score minus the
    baseline's, but for the error of the numerical integral, which is reported in `completeness`. `map` is the sum over
    the channels, signed.

    Args:
        model, image, target: see above.
        baseline: normalised, a number or a tensor that broadcasts to `(C, H, W)`; 0 is the mean colour of the training
            images.
        steps: points of the integral, 1..1000.
        rule: as captum names them. Its `riemann_trapezoid` is left out: its weights sum to 1 - 1 / steps.

    Raises:
        UsageError: as `saliency`; `baseline-shape`, `steps-range`, `rule-unknown`.
    """
    with quiet(model):
        picture = one_image(model, image)
        start = _broadcast("baseline", baseline, picture)
        places, weights = _integral(steps, rule).to(picture.device)[:, :, None, None, None]
        with Scale(model.state_dict(keep_vars=True).values()) as scale:
            scores = scores_of(model, torch.cat([picture, start]))
        asked = _Asked.about(scores[:1], target)
        way, total = picture - start, torch.zeros_like(picture[0], dtype=torch.float64)
        for part in _parts(len(places), picture, scale.made // 2, 4):
            here = slice(part.start, part.stop)
            leaf = (start + places[here].to(picture.dtype) * way).requires_grad_()
            gradient = _gradient(asked.score(scores_of(model, leaf.clone())), leaf)
            total += (weights[here] * gradient).sum(0)
        exact = way[0] * total
        wanted = asked.score(scores).detach().double()
        missed = float(exact.sum() - (wanted[0] - wanted[1]))
        values = exact.to(picture.dtype)
        return asked.result("integrated_gradients", exact.sum(0).to(picture.dtype), values, completeness=missed)


def occlusion(
    model: nn.Module,
    image: Tensor,
    target: int | None = None,
    window: Size | None = None,
    stride: Size | None = None,
    fill: Tensor | float = 0.0,
    of: Literal["probability", "score"] = "probability",
    answers: Answers | None = None,
) -> Attribution:
    """A cover slides over the image: how much the target's probability falls while it hides a place. Negative where it
    rises.

    Zeiler and Fergus 2014, https://arxiv.org/abs/1311.2901. `raw` has the fall for each place of the cover; a pixel's
    number in `map` is the mean over the places that cover it. The last places stick out of the image where the strides
    do not fit, so that all is covered.

    Args:
        model, image, target: see above.
        window: height and width of the cover; None: a seventh of the shorter side.
        stride: steps of the cover, not larger than the window; None: half the window.
        fill: normalised colour of the cover, a number or a tensor that broadcasts to `(C, H, W)`; 0 is the training
            images' mean.
        of: what falls: the probability or the raw score.
        answers: from raw scores to probabilities; None: `probabilities`.

    Raises:
        UsageError: as `grad_cam`, but for layer and gradient; `window-size`, `fill-shape`, `option-value`.
    """
    with quiet(model), torch.no_grad():
        picture = one_image(model, image)
        if of not in ("probability", "score"):
            raise UsageError("of", f"expected probability or score, got {printable(of)!r}", code="option-value")
        height, width = picture.shape[2:]
        side = max(1, round(min(height, width) / 7))
        high, wide = _size("window", side if window is None else window, (height, width))
        down, right = _size(
            "stride", (max(1, high // 2), max(1, wide // 2)) if stride is None else stride, (high, wide)
        )
        colour = _broadcast("fill", fill, picture)
        with Scale(model.state_dict(keep_vars=True).values()) as scale:
            scores = scores_of(model, picture.clone())
        asked = _Asked.about(scores, target, answers)
        measure = asked.probability_of if of == "probability" else asked.score
        whole = measure(asked.scores)
        rows, columns = (math.ceil((n - w) / s) + 1 for n, w, s in ((height, high, down), (width, wide, right)))
        falls: list[Tensor] = []
        for part in _parts(rows * columns, picture, scale.most):
            covered = picture.repeat(len(part), 1, 1, 1)
            for image_, place in zip(covered, part, strict=True):
                hidden = _place(place, columns, down, right, high, wide)
                image_[:, *hidden] = colour[0][:, *hidden]
            falls.append(whole - measure(scores_of(model, covered)))
        raw = torch.cat(falls)
        total, count = torch.zeros(2, height, width, dtype=torch.float64, device=picture.device)
        for place, fall in enumerate(raw):
            hidden = _place(place, columns, down, right, high, wide)
            total[hidden] += fall
            count[hidden] += 1
        drawn = (total / count).to(picture.dtype)
        return asked.result("occlusion", drawn, drawn[None], raw=raw.reshape(rows, columns))


def pixel_flips(
    model: nn.Module, image: Tensor, target: int | None = None, answers: Answers | None = None
) -> Attribution:
    """Every pixel in turn becomes its opposite, all channels at once: how much the target's probability falls in `map`.

    The opposite of a value is the image's own largest + smallest value of that channel - the value: ink becomes paper
    and paper becomes ink. `answers` has the most likely class after each flip, `changes` says where it is another one.

    Args:
        model, target: see above.
        image: up to 28x28 pixels: it takes one run for each pixel.
        answers: from raw scores to probabilities; None: `probabilities`.

    Raises:
        UsageError: as `occlusion`, but for the cover; `image-shape`: too large.
    """
    with quiet(model), torch.no_grad():
        picture = one_image(model, image)
        height, width = picture.shape[2:]
        if max(height, width) > LARGEST_FLIPPED:
            raise UsageError(
                "image",
                f"expected at most {LARGEST_FLIPPED}x{LARGEST_FLIPPED} pixels to flip one by one, got {height}x{width}",
                code="image-shape",
                hint="use occlusion, or a smaller image",
            )
        with Scale(model.state_dict(keep_vars=True).values()) as scale:
            scores = scores_of(model, picture.clone())
        asked = _Asked.about(scores, target, answers)
        opposite = picture.amax((2, 3), keepdim=True) + picture.amin((2, 3), keepdim=True) - picture
        falls, after = [], []
        for part in _parts(height * width, picture, scale.most):
            flipped = picture.repeat(len(part), 1, 1, 1)
            for image_, pixel in zip(flipped, part, strict=True):
                y, x = divmod(pixel, width)
                image_[:, y, x] = opposite[0, :, y, x]
            seen = asked.seen(scores_of(model, flipped))
            falls.append(asked.probability - seen[:, asked.target])
            after.append(seen.argmax(1))
        drawn = torch.cat(falls).reshape(height, width).to(picture.dtype)
        return asked.result("pixel_flips", drawn, drawn[None], answers=torch.cat(after).reshape(height, width))


@dataclass(frozen=True)
class Method:
    """An entry of the catalogue: what computes it, and one line for people."""

    function: Callable[..., Attribution]
    line: str


METHODS = {
    "grad_cam": Method(grad_cam, "where the last maps of the network speak for the class; coarse, any size"),
    "saliency": Method(saliency, "the pixels to which the class's score is most sensitive"),
    "integrated_gradients": Method(
        integrated_gradients, "each pixel's share in the score, summed up on the way from grey"
    ),
    "occlusion": Method(occlusion, "a sliding cover: how much the class's probability falls while a place is hidden"),
    "pixel_flips": Method(pixel_flips, "every pixel turned to its opposite, one at a time; up to 28x28"),
}
"""The methods by name."""


def attribute(
    method: str,
    model: nn.Module,
    image: Tensor,
    target: int | None = None,
    *,
    control: bool | nn.Module = True,
    seed: int = 0,
    **options: Any,
) -> Attribution:
    """One method of `METHODS`, and beside it the control: the same target and layer, asked of `shuffled(model, seed)`.

    `similarity` near 1 says that the map does not depend on what the network has learned, and so explains nothing; near
    0 that it does. `control` is None where the scores of the shuffled network overflow.

    Args:
        method: its name.
        model, image, target: see above.
        control: False saves its time, which is the method's own once more; a module is used in place of the shuffled
            network, so that one made by `shuffled` serves many images.
        seed: of the shuffling.
        **options: the method's own.

    Raises:
        UsageError: `method-unknown`, `option-unknown`, `model-copy`; as the method.
    """
    if method not in METHODS:
        raise UsageError(
            "method",
            f"expected one of {', '.join(METHODS)}, got {printable(method)[:80]!r}",
            code="method-unknown",
            hint=the_nearest(method, METHODS),
        )
    function = METHODS[method].function
    known = [name for name in inspect.signature(function).parameters if name not in ("model", "image", "target")]
    for option in options:
        if option not in known:
            raise UsageError(
                option,
                f"no option of {method}" + (f"; it has {', '.join(known)}" if known else ", which has none"),
                code="option-unknown",
            )
    result = function(model, image, target, **options)
    if control is False:
        return result
    if result.layer:
        options["layer"] = result.layer
    try:
        twin = control if isinstance(control, nn.Module) else shuffled(model, seed)
        other = function(twin, image, result.target, **options)
    except UsageError as error:
        if error.code != "scores-not-finite":
            raise
        return result
    return replace(result, control=other, similarity=similarity(result.map, other.map))


def shuffled(model: nn.Module, seed: int = 0) -> nn.Module:
    """A deep copy in which the numbers of every parameter are shuffled, each tensor by itself.

    So each layer keeps its weights' distribution and loses what they mean. Buffers, such as the means and variances of
    a batch
    normalisation, stay: they describe data and were not learned by gradient. The copy has no gradients; modes and hooks
        are those
    of the original. Chance is a function of the seed; torch's own state is not touched.

    Raises:
        UsageError: `model-copy`: Python cannot copy this module.
    """
    try:
        with torch.inference_mode(False):  # what is copied inside it has no gradients ever after
            copied = copy.deepcopy(model)
    except Exception as error:
        if ran_out(error):
            raise
        raise UsageError(
            f"model {type(model).__name__}",
            f"it cannot be copied, which the control needs: {first_line(error)}",
            code="model-copy",
            hint="go without the control: control=False",
        ) from error
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in copied.parameters():
            order = torch.randperm(parameter.numel(), generator=generator).to(parameter.device)
            parameter.copy_(parameter.flatten()[order].view_as(parameter))
            parameter.grad = None
    return copied


def similarity(first: Tensor, second: Tensor) -> float:
    """Spearman's rank correlation of the absolute values of two maps of one shape, -1..1; equal values share their mean
    rank.

    NaN where one of the maps is everywhere the same, or not finite: it then has no order to compare.

    Raises:
        UsageError: `map-shape`: the shapes differ.
    """
    if first.shape != second.shape:
        raise UsageError(
            "maps", f"expected one shape, got {tuple(first.shape)} and {tuple(second.shape)}", code="map-shape"
        )
    if not (first.isfinite().all() and second.isfinite().all()):
        return math.nan
    a, b = (_ranks(map_.detach().abs().flatten()) for map_ in (first, second))
    a, b = a - a.mean(), b - b.mean()
    spread = float(a.square().sum() * b.square().sum())
    return float(a @ b) / math.sqrt(spread) if spread else math.nan


def _ranks(values: Tensor) -> Tensor:
    _, inverse, counts = torch.unique(values, return_inverse=True, return_counts=True)
    last = counts.cumsum(0).double()
    mean: Tensor = last - (counts.double() - 1) / 2
    return mean[inverse]


@dataclass(frozen=True, eq=False)
class _Asked:
    """One image's scores `(1, outputs)`, and the class that is asked about."""

    scores: Tensor
    target: int
    seen: Answers

    @classmethod
    def about(cls, scores: Tensor, target: int | None, answers: Answers | None = None) -> _Asked:
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


# --- what the other files of this room share ---


def _is_map(output: object) -> bool:
    return isinstance(output, Tensor) and output.ndim == 4 and len(output) == 1 and math.prod(output.shape[2:]) > 1


def _channels_last(maps: Tensor, picture: Tensor) -> bool:
    """Whether axes 1 and 2 fit the image's proportions better than axes 2 and 3."""
    wanted = math.log(picture.shape[2] / picture.shape[3])
    off = [abs(math.log(maps.shape[axis] / maps.shape[axis + 1]) - wanted) for axis in (1, 2)]
    return off[0] < off[1]


def _chosen_layer(model: nn.Module, picture: Tensor) -> str:
    """The path of the layer for `grad_cam`; its docstring has the rule."""
    paths = {part: path for path, part in model.named_modules() if path}
    chosen, made = "", None

    def leave(part: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        nonlocal chosen, made
        if not _is_map(output) or _channels_last(output, picture):
            return
        weighted = next(part.parameters(), None) is not None and not isinstance(part, nn.Sequential)
        bare = next(part.parameters(), None) is None and next(part.children(), None) is None
        bare = bare and not isinstance(part, nn.Identity | nn.modules.dropout._DropoutNd)
        follows = bare and made is not None and inputs and inputs[0] is made and output.shape == made.shape
        if weighted or follows:
            chosen, made = paths[part], output

    with hooked(paths, leave), torch.no_grad():
        run(model, picture.clone())
    if not chosen:
        raise UsageError(
            "layer",
            f"no layer with weights gives maps (1, channels, h, w) of more than one cell in {type(model).__name__}",
            code="layer-map",
            hint="name a layer that does, or use saliency",
        )
    return chosen


def _gradient(scores: Tensor, by: Tensor) -> Tensor:
    """The derivative of the sum of the scores."""
    gradient = torch.autograd.grad(scores.sum(), by, allow_unused=True)[0] if scores.requires_grad else None
    if gradient is None:
        raise UsageError(
            "model", "no gradient comes back from the score", code="no-gradient", hint="use occlusion, which needs none"
        )
    return gradient


def _integral(steps: int, rule: str) -> Tensor:
    """Places in 0..1 and their weights: float64 `(2, steps)`."""
    steps = whole_number("steps", steps, 1, _MOST_STEPS, "steps-range")
    if rule == "gausslegendre":
        places, weights = np.polynomial.legendre.leggauss(steps)
        return torch.from_numpy(np.stack([(1 + places) / 2, weights / 2]))
    offsets = {"riemann_left": 0.0, "riemann_middle": 0.5, "riemann_right": 1.0}
    if rule not in offsets:
        raise UsageError(
            "rule", f"expected one of {', '.join(get_args(Rule))}, got {printable(rule)[:80]!r}", code="rule-unknown"
        )
    count = torch.arange(steps, dtype=torch.float64)
    return torch.stack([(count + offsets[rule]) / steps, torch.full_like(count, 1 / steps)])


def _parts(count: int, picture: Tensor, image_bytes: int, weight: int = 1) -> list[range]:
    """`range(count)` in parts small enough for the memory.

    Args:
        image_bytes: what the network takes for one image.
        weight: how much more than a plain run each image needs besides.
    """
    most = min(_MOST_AT_ONCE, _NUMBERS_AT_ONCE // weight // picture.numel(), BUDGET // max(image_bytes, 1))
    together = max(1, most)
    return [range(count)[start : start + together] for start in range(0, count, together)]


def _place(place: int, columns: int, down: int, right: int, high: int, wide: int) -> tuple[slice, slice]:
    """The pixels under the cover in its place of this number, counted along the rows."""
    top, left = place // columns * down, place % columns * right
    return slice(top, top + high), slice(left, left + wide)


def _broadcast(name: str, value: Tensor | float, picture: Tensor) -> Tensor:
    """A number or a tensor as `(1, C, H, W)`."""
    given = torch.as_tensor(value).detach().to(picture.device, picture.dtype)
    try:
        spread = given.expand(picture.shape[1:]) if given.ndim < 4 else given.expand(picture.shape)
    except RuntimeError:
        raise UsageError(
            name,
            f"expected a number or shape {tuple(picture.shape[1:])}; received {tuple(given.shape)}",
            code=f"{name}-shape",
        ) from None
    if not spread.isfinite().all():
        raise UsageError(name, "expected finite numbers", code=f"{name}-shape")
    return spread.reshape(picture.shape).clone()


def _size(name: str, value: Size, largest: tuple[int, int]) -> tuple[int, int]:
    both = value if isinstance(value, tuple) else (value, value)
    if len(both) != 2 or not all(type(n) is int and 1 <= n <= most for n, most in zip(both, largest, strict=True)):
        raise UsageError(
            name,
            f"expected whole numbers from 1 to {largest[0]} (down) and {largest[1]} (across), got {value}",
            code="window-size",
        )
    return both
