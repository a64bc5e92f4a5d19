"""Methods that follow the gradient of the score: Grad-CAM, saliency, integrated gradients."""

from __future__ import annotations

import math
from typing import Any, Literal, get_args

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ....errors import UsageError, printable
from ....models import Scale
from ...capture.forward import find, hooked, one_image, preserve_state, run, scores_of, whole_number
from .question import Asked, Attribution, broadcast, gradient_of, parts

Rule = Literal["gausslegendre", "riemann_left", "riemann_middle", "riemann_right"]

_MOST_STEPS = 1_000


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
    with preserve_state(model):
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
        asked = Asked.about(scores, target)
        maps, gradient = kept[0].detach(), gradient_of(asked.score(scores), kept[0])
        raw = F.relu((gradient.mean((2, 3), keepdim=True) * maps).sum(1, keepdim=True))
        values = F.interpolate(raw, picture.shape[2:], mode="bilinear")[0]
        return asked.result("grad_cam", values[0], values, layer=name, raw=raw[0, 0])


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
