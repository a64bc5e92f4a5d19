"""Methods that follow the gradient of the score: Grad-CAM, saliency, integrated gradients."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ....errors import UsageError, printable
from ....models import Grid, Scale
from ...capture.forward import find, hooked, one_image, preserve_state, scores_of, whole_number
from ...capture.layer_axes import LayerRuns, follow_layers, no_maps
from .question import Asked, Attribution, broadcast, gradient_of, no_gradient, parts

Rule = Literal["gausslegendre", "riemann_left", "riemann_middle", "riemann_right"]

_MOST_STEPS = 1_000
_LAYERS_AT_ONCE = 8


def grad_cam(model: nn.Module, image: Tensor, target: int | None = None, layer: str | None = None) -> Attribution:
    """relu(sum over channels k of a_k A_k), A the layer's maps, a_k the mean gradient of the score by the map A_k.

    Selvaraju et al. 2017, https://arxiv.org/abs/1610.02391. `raw` has one number for each cell of the maps; `map` is
    `raw` enlarged to the image by bilinear interpolation, corners not aligned, as captum's
    `LayerAttribution.interpolate` does it.

    Args:
        model: any module that takes `(N, C, H, W)` and gives raw scores.
        image: see above.
        target: see above.
        layer: the path of a module that gives maps, in any order of the axes, or tokens of which each belongs to one
            place of the image; a class token beside them is left out. One that runs several times counts by its last
            run that gives such maps. None: the last module to finish that has weights in it, gives maps of more than
            one cell, and whose cells get a gradient; of an `nn.Sequential` the modules in it count, and what is inside
            a module that computes attention (its queries, keys and values) does not. Where an activation (a module
            without weights or parts that keeps the shape; no dropout, no identity) takes these very maps, its output is
            used, as in the paper. So it is the last block of a ResNet or a Swin transformer, the activation after the
            last convolution of a plain network, before the pooling, and what enters the last attention of a vision
            transformer that answers by its class token.

    Raises:
        UsageError: `image-shape`, `image-values`, `target-range`, `layer-unknown`; `layer-map`: the layer gives no such
            maps, or no layer does; `no-gradient`, also where only a class token of the layer reaches the score;
            `model-module`: the network fails on the image; `scores-not-finite`.
    """
    with preserve_state(model):
        picture = one_image(model, image)
        if layer is not None:
            find(model, layer)
        runs = follow_layers(model, picture.clone())
        names = _layers_of_choice(runs) if layer is None else [_checked_layer(runs, layer)]
        if not names:
            raise _no_layer(model, runs)
        found: _Maps | None = None
        for first in range(0, len(names), _LAYERS_AT_ONCE):
            passed = _Pass.through(model, picture, target, runs, names[first : first + _LAYERS_AT_ONCE])
            found = found or passed.maps[0]
            reached = next((maps for maps in passed.maps if maps.reached), None)
            if reached is not None:
                found = reached
                break
        assert found is not None
        if found.gradient is None:
            raise no_gradient()
        if layer is not None and found.beside_only:
            raise UsageError(
                "layer",
                f"of {printable(layer)!r} only numbers beside the maps, such as a class token, reach the score: "
                f"its {found.grid.height}x{found.grid.width} cells get no gradient",
                code="no-gradient",
                hint="leave the layer out, and one is chosen",
            )
        maps, gradient = found.grid.maps(found.output), found.grid.maps(found.gradient)
        raw = F.relu((gradient.mean((2, 3), keepdim=True) * maps).sum(1, keepdim=True))
        values = F.interpolate(raw, picture.shape[2:], mode="bilinear")[0]
        return passed.asked.result("grad_cam", values[0], values, layer=found.layer, raw=raw[0, 0])


def saliency(model: nn.Module, image: Tensor, target: int | None = None) -> Attribution:
    """|d score / d pixel|, for each channel in `values`; `map` is the largest over the channels.

    Simonyan et al. 2014, https://arxiv.org/abs/1312.6034.

    Raises:
        UsageError: as `grad_cam`, but for the layer.
    """
    with preserve_state(model):
        leaf = one_image(model, image).requires_grad_()
        scores = scores_of(model, leaf.clone())
        asked = Asked.about(scores, target)
        values = gradient_of(asked.score(scores), leaf)[0].abs()
        return asked.result("saliency", values.amax(0), values)


def integrated_gradients(
    model: nn.Module,
    image: Tensor,
    target: int | None = None,
    baseline: Tensor | float = 0.0,
    steps: int = 50,
    rule: Rule = "gausslegendre",
) -> Attribution:
    """(image - baseline) times the mean gradient of the score on the straight line from the baseline to the image.

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
    with preserve_state(model):
        picture = one_image(model, image)
        start = broadcast("baseline", baseline, picture)
        places, weights = _integral(steps, rule).to(picture.device)[:, :, None, None, None]
        with Scale(model.state_dict(keep_vars=True).values()) as scale:
            scores = scores_of(model, torch.cat([picture, start]))
        asked = Asked.about(scores[:1], target)
        way, total = picture - start, torch.zeros_like(picture[0], dtype=torch.float64)
        for part in parts(len(places), picture, scale.made // 2, 4):
            here = slice(part.start, part.stop)
            leaf = (start + places[here].to(picture.dtype) * way).requires_grad_()
            gradient = gradient_of(asked.score(scores_of(model, leaf.clone())), leaf)
            total += (weights[here] * gradient).sum(0)
        exact = way[0] * total
        wanted = asked.score(scores).detach().double()
        missed = float(exact.sum() - (wanted[0] - wanted[1]))
        values = exact.to(picture.dtype)
        return asked.result("integrated_gradients", exact.sum(0).to(picture.dtype), values, completeness=missed)


@dataclass(frozen=True, eq=False)
class _Maps:
    """What a layer gives, and the gradient of the score by it."""

    layer: str
    grid: Grid
    output: Tensor
    gradient: Tensor | None

    @property
    def reached(self) -> bool:
        """Whether the score depends on any of its cells."""
        return self.gradient is not None and bool(self.grid.maps(self.gradient).count_nonzero())

    @property
    def beside_only(self) -> bool:
        """Whether the score depends on its class token alone."""
        return not self.reached and self.gradient is not None and bool(self.gradient.count_nonzero())


@dataclass(frozen=True, eq=False)
class _Pass:
    """One run of the network and one backwards, with what some of its layers give."""

    asked: Asked
    maps: list[_Maps]

    @classmethod
    def through(
        cls, model: nn.Module, picture: Tensor, target: int | None, runs: LayerRuns, layers: Sequence[str]
    ) -> _Pass:
        paths = {find(model, layer): layer for layer in layers}
        grids = {layer: [each.grid for each in runs.of(layer)] for layer in layers}
        kept: dict[str, tuple[Grid, Tensor]] = {}

        def keep(part: nn.Module, _: object, output: Any) -> Tensor | None:
            layer = paths[part]
            grid = grids[layer].pop(0) if grids[layer] else None
            if grid is None:
                return None
            kept[layer] = (grid, output)
            copied: Tensor = output.clone()  # an in-place activation that follows must not change what is kept
            return copied

        with hooked(paths, keep):
            scores = scores_of(model, picture.clone().requires_grad_().clone())
        asked = Asked.about(scores, target)
        if not scores.requires_grad:
            raise no_gradient()
        outputs = [kept[layer][1] for layer in layers]
        wanted = [output for output in outputs if output.requires_grad]
        gradients = iter(torch.autograd.grad(asked.score(scores).sum(), wanted, allow_unused=True))
        maps = [
            _Maps(layer, kept[layer][0], output.detach(), next(gradients) if output.requires_grad else None)
            for layer, output in zip(layers, outputs, strict=True)
        ]
        return cls(asked, maps)


def _checked_layer(runs: LayerRuns, layer: str) -> str:
    """The layer, if it gives maps."""
    own = runs.of(layer)
    if not any(each.grid for each in own):
        raise UsageError(
            "layer",
            f"expected a layer with maps of more than one cell; {printable(layer)!r} "
            + (f"gives {own[-1].gives}{no_maps(own[-1].axes)}" if own else "does not run for this image"),
            code="layer-map",
            hint="leave the layer out, and one is chosen",
        )
    return layer


def gives_maps(model: nn.Module, image: Tensor) -> bool:
    """Whether there is a layer that `grad_cam` may choose."""
    with preserve_state(model):
        return bool(_layers_of_choice(follow_layers(model, one_image(model, image))))


def _layers_of_choice(runs: LayerRuns) -> list[str]:
    """The paths of the layers that `grad_cam` may choose, the best first; its docstring has the rule."""
    chosen: list[int] = []
    for number, each in enumerate(runs.runs):
        if not each.path or each.grid is None or _within(each.path, runs.attending):
            continue
        part = each.part
        has_weights = next(part.parameters(), None) is not None
        bare = not has_weights and next(part.children(), None) is None
        bare = bare and not isinstance(part, nn.Identity | nn.modules.dropout._DropoutNd)
        follows = bare and chosen and chosen[-1] in each.takes and each.gives == runs.runs[chosen[-1]].gives
        if (has_weights and not isinstance(part, nn.Sequential)) or follows:
            chosen.append(number)
    return list(dict.fromkeys(runs.runs[number].path for number in reversed(chosen)))


def _no_layer(model: nn.Module, runs: LayerRuns) -> UsageError:
    unknown = next((each.axes.unknown for each in runs.runs if each.axes is not None and each.axes.unknown), "")
    return UsageError(
        "layer",
        f"no layer with weights gives maps of more than one cell in {type(model).__name__}"
        + (f"; the axes of some are not known: {unknown}" if unknown else ""),
        code="layer-map",
        hint="use saliency, which needs none",
    )


def _within(path: str, outer: Collection[str]) -> bool:
    """Whether a module is inside one of these; what the network does itself does not count."""
    return any(each and path.startswith(f"{each}.") for each in outer)


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
