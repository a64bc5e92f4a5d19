"""Methods that change the image and compare the answers: occlusion, pixel flips."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn

from ....errors import UsageError, printable
from ....models import Scale
from ...capture.forward import one_image, preserve_state, scores_of
from .question import Answers, Asked, Attribution, broadcast, parts

Size = int | tuple[int, int]
"""One number for height and width, or both."""

LARGEST_FLIPPED = 28


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
    with preserve_state(model), torch.no_grad():
        picture = one_image(model, image)
        if of not in ("probability", "score"):
            raise UsageError("of", f"expected probability or score, got {printable(of)!r}", code="option-value")
        height, width = picture.shape[2:]
        side = max(1, round(min(height, width) / 7))
        high, wide = _size("window", side if window is None else window, (height, width))
        down, right = _size(
            "stride", (max(1, high // 2), max(1, wide // 2)) if stride is None else stride, (high, wide)
        )
        colour = broadcast("fill", fill, picture)
        with Scale(model.state_dict(keep_vars=True).values()) as scale:
            scores = scores_of(model, picture.clone())
        asked = Asked.about(scores, target, answers)
        measure = asked.probability_of if of == "probability" else asked.score
        whole = measure(asked.scores)
        rows, columns = (math.ceil((n - w) / s) + 1 for n, w, s in ((height, high, down), (width, wide, right)))
        falls: list[Tensor] = []
        for part in parts(rows * columns, picture, scale.most):
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
    and paper becomes ink. `answers` has the most likely class after each flip, `changes` marks where it differs.

    Args:
        model, target: see above.
        image: up to 28x28 pixels: it takes one run for each pixel.
        answers: from raw scores to probabilities; None: `probabilities`.

    Raises:
        UsageError: as `occlusion`, but for the cover; `image-shape`: too large.
    """
    with preserve_state(model), torch.no_grad():
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
        asked = Asked.about(scores, target, answers)
        opposite = picture.amax((2, 3), keepdim=True) + picture.amin((2, 3), keepdim=True) - picture
        falls, after = [], []
        for part in parts(height * width, picture, scale.most):
            flipped = picture.repeat(len(part), 1, 1, 1)
            for image_, pixel in zip(flipped, part, strict=True):
                y, x = divmod(pixel, width)
                image_[:, y, x] = opposite[0, :, y, x]
            seen = asked.seen(scores_of(model, flipped))
            falls.append(asked.probability - seen[:, asked.target])
            after.append(seen.argmax(1))
        drawn = torch.cat(falls).reshape(height, width).to(picture.dtype)
        return asked.result("pixel_flips", drawn, drawn[None], answers=torch.cat(after).reshape(height, width))


def _place(place: int, columns: int, down: int, right: int, high: int, wide: int) -> tuple[slice, slice]:
    """The pixels under the cover in its place of this number, counted along the rows."""
    top, left = place // columns * down, place % columns * right
    return slice(top, top + high), slice(left, left + wide)


def _size(name: str, value: Size, largest: tuple[int, int]) -> tuple[int, int]:
    both = value if isinstance(value, tuple) else (value, value)
    if len(both) != 2 or not all(type(n) is int and 1 <= n <= most for n, most in zip(both, largest, strict=True)):
        raise UsageError(
            name,
            f"expected whole numbers from 1 to {largest[0]} (down) and {largest[1]} (across), got {value}",
            code="window-size",
        )
    return both
