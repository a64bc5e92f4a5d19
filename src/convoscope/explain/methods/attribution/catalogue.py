"""The methods by name: the one place to register a new one."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor, nn

from ....errors import UsageError, printable
from ....suggestions import the_nearest
from .by_gradient import grad_cam, integrated_gradients, saliency
from .by_occlusion import LARGEST_FLIPPED, occlusion, pixel_flips
from .control import shuffled, similarity
from .question import Attribution


@dataclass(frozen=True)
class Method:
    """An entry of the catalogue.

    Attributes:
        function: what computes it.
        about: one line for people.
        largest_side: of an image in pixels, where it would take too long for larger ones.
        needs_maps: whether a layer of the network must give maps of more than one cell.
        in_report: whether the report shows it.
    """

    function: Callable[..., Attribution]
    about: str
    largest_side: int | None = None
    needs_maps: bool = False
    in_report: bool = False

    def suits(self, side: int, *, maps: bool) -> bool:
        """Whether it can be used for an image with this longer side; `maps`: whether the network has any."""
        return (self.largest_side is None or side <= self.largest_side) and (maps or not self.needs_maps)


METHODS = {
    "grad_cam": Method(
        grad_cam,
        "where the last maps of the network support the class; coarse, any size",
        needs_maps=True,
        in_report=True,
    ),
    "saliency": Method(saliency, "the pixels to which the class's score is most sensitive", in_report=True),
    "integrated_gradients": Method(
        integrated_gradients, "each pixel's share in the score, summed on the way from grey"
    ),
    "occlusion": Method(
        occlusion,
        "a sliding cover: how much the class's probability falls while a place is hidden",
        in_report=True,
    ),
    "pixel_flips": Method(
        pixel_flips,
        f"every pixel turned to its opposite, one at a time; up to {LARGEST_FLIPPED}x{LARGEST_FLIPPED}",
        largest_side=LARGEST_FLIPPED,
    ),
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
