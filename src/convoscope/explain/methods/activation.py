"""What does a filter look for? The images of a set that excite it most, and an input grown to excite it.

Layers are named by their path in the module, as `get_submodule` takes it; a layer that runs several times counts by its
last run. Networks run in evaluation mode and are left as they were found, also after a failure.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...errors import UsageError, printable
from ..capture.forward import at_once, normalised, preserve_state, whole_number
from .tap import Images, Tap, batches, chosen_channels, maps_from

Box = tuple[int, int, int, int]
"""Pixels of an image: top, left, bottom, right; the first two are inside, the last two just outside."""

_BLUR_EVERY = 4


@dataclass(frozen=True, eq=False)
class Example:
    """One image that excites a channel.

    Attributes:
        image: its number in the set, from 0.
        value: the largest value of the channel's map.
        position: (y, x) of it in the map, the first where it comes several times; None where the layer gives vectors.
        box: the pixels that the unit there can see, cut off at the image's border.
        exact: whether the box is known; if not it is the whole image.
        patch: what is in the box, `(C, height, width)`, normalised.
    """

    image: int
    value: float
    position: tuple[int, int] | None
    box: Box
    exact: bool
    patch: Tensor


def top_activating_examples(
    model: nn.Module,
    images: Images,
    layer: str,
    channels: Sequence[int] | None = None,
    top: int = 9,
    batch_size: int | None = None,
) -> dict[int, tuple[Example, ...]]:
    """For each channel of a layer the images that excite it most, by the largest value of its map, the largest first.

    Zeiler and Fergus 2014, https://arxiv.org/abs/1311.2901. Each image comes at most once for a channel; of equal
    values the earlier image is first. The set is gone through once; at most `top` images for each channel are kept.

    The box is found by trial: NaN in a pixel reaches exactly the units that can see it, through any layers and weights
    however small. So it holds for any network, and is the whole image where one operation sees all of it
    (squeeze-and-excitation).

    Args:
        model: any module that takes `(N, C, H, W)`.
        images: the set; all of one size.
        layer: one that gives maps `(N, channels, h, w)` or vectors `(N, channels)`.
        channels: which; None: all.
        top: how many images for each, from 1.
        batch_size: images at once, from 1; None: 64, fewer where they would take much memory.

    Returns:
        Channel to its examples.

    Raises:
        UsageError: `layer-unknown`; `layer-map`: it gives something else, or does not run; `channel-range`,
            `option-value`; `image-shape`, `image-values`; `images-none`; `model-module`; `maps-not-finite`.
    """
    for name, value in (("top", top), ("batch_size", 1 if batch_size is None else batch_size)):
        whole_number(name, value, 1, 1_000_000, "option-value")
    with preserve_state(model), torch.no_grad():
        tap = Tap(model, layer)
        rows: dict[int, Tensor] = {}
        wanted: list[int] = []
        best = numbers = places = torch.zeros(0)
        across, count = 1, 0
        for batch in batches(model, images, batch_size):
            maps = maps_from(tap, batch.clone())
            if not count:
                wanted = chosen_channels(channels, maps.shape[1])
                across = maps.shape[3]
                best = torch.zeros(len(wanted), 0, dtype=maps.dtype, device=maps.device)
                numbers = places = torch.zeros(len(wanted), 0, dtype=torch.int64, device=maps.device)
            largest, where = maps[:, wanted].flatten(2).max(2)
            if not largest.isfinite().all():
                raise UsageError("layer", f"the maps of {printable(layer)} are not finite", code="maps-not-finite")
            number = torch.arange(count, count + len(batch), device=maps.device).expand(len(wanted), -1)
            # Stable, and what is kept comes first: of equal values the earlier image stays.
            best, order = torch.cat([best, largest.T], 1).sort(dim=1, descending=True, stable=True)
            best, order = best[:, :top], order[:, :top]
            numbers = torch.cat([numbers, number], 1).gather(1, order)
            places = torch.cat([places, where.T], 1).gather(1, order)
            kept = set(numbers.flatten().tolist())
            rows = {row: rows[row] if row in rows else batch[row - count].clone() for row in kept}
            count += len(batch)
        if not count:
            raise UsageError("images", "expected at least one image, got none", code="images-none")
        units = [
            (channel, *divmod(place, across))
            for channel, row in zip(wanted, places.tolist(), strict=True)
            for place in row
        ]
        boxes = _boxes(tap, next(iter(rows.values())), dict.fromkeys(units), batch_size)

        def example(channel: int, value: float, number: int, place: int) -> Example:
            y, x = divmod(place, across)
            box, exact = boxes[channel, y, x]
            patch = rows[number][:, box[0] : box[2], box[1] : box[3]].clone()
            return Example(number, value, None if tap.vectors else (y, x), box, exact, patch)

        return {
            channel: tuple(example(channel, *entry) for entry in zip(*lists, strict=True))
            for channel, *lists in zip(wanted, best.tolist(), numbers.tolist(), places.tolist(), strict=True)
        }


def _boxes(
    tap: Tap, image: Tensor, units: Iterable[tuple[int, int, int]], batch_size: int | None
) -> dict[tuple[int, int, int], tuple[Box, bool]]:
    """What each unit (channel, y, x) can see of the image `(C, H, W)`, and whether that is known.

    For each side the largest strip of the image from there whose pixels do not reach the unit, by bisection for all
    units at once.
    """
    units = list(units)
    _, height, width = image.shape
    channel, y, x = torch.tensor(units, device=image.device).T
    nth = torch.arange(len(units), device=image.device)
    together = batch_size or at_once(tap.model, image.shape, 64)

    def strip(side: int, depth: int) -> tuple[slice, ...]:
        return (
            (slice(None), slice(depth)),
            (slice(None), slice(None), slice(depth)),
            (slice(None), slice(height - depth, None)),
            (slice(None), slice(None), slice(width - depth, None)),
        )[side]

    def reached(side: int, depths: list[int]) -> Tensor:
        """Whether a unit sees the strip of that many rows or columns at a side, `(depths, units)`.

        The sides are top, left, bottom, right.
        """
        found = []
        for start in range(0, len(depths), together):
            part = depths[start : start + together]
            stained = image.repeat(len(part), 1, 1, 1)
            for picture, depth in zip(stained, part, strict=True):
                picture[strip(side, depth)] = math.nan
            found.append(maps_from(tap, stained)[:, channel, y, x].isnan())
        return torch.cat(found)

    whole: Box = (0, 0, height, width)
    depths: list[list[int]] = []
    try:
        # Fast convolutions (Winograd, in cuDNN and NNPACK) mix the pixels of a tile and would carry NaN too far; plain
        # ones do not.
        with torch.backends.cudnn.flags(enabled=False), torch.backends.nnpack.flags(enabled=False):
            known = reached(0, [height])[0].tolist()
            for side in range(4):
                low = torch.zeros_like(nth)
                high = torch.full_like(nth, width if side % 2 else height)
                while (still := high - low > 1).any():
                    middle = (low + high) // 2
                    tried, which = middle[still].unique(return_inverse=True)
                    seen = reached(side, tried.tolist())[which, nth[still]]
                    high[still] = torch.where(seen, middle[still], high[still])
                    low[still] = torch.where(seen, low[still], middle[still])
                depths.append(low.tolist())
    except UsageError:  # it does not run on NaN
        return dict.fromkeys(units, (whole, False))
    return {
        unit: ((top, left, height - bottom, width - right), True) if sure else (whole, False)
        for unit, top, left, bottom, right, sure in zip(units, *depths, known, strict=True)
    }


@dataclass(frozen=True, eq=False)
class Grown:
    """An input that was grown.

    Attributes:
        image: `(C, H, W)`, normalised.
        before, after: what was to be excited, at the noise and at the grown image.
    """

    image: Tensor
    before: float
    after: float


@dataclass(frozen=True, kw_only=True)
class Ascent:
    """How an input is grown; see `maximise_activation`.

    Attributes:
        rate: size of a step, in standard deviations of the training images.
        jitter: pixels; None: a thirty-second of the shorter side, at most 8.
        blur: standard deviation of the Gaussian in pixels; 0: none.
        decay: share of the image that is lost in a step (L2), 0..1.
        limit: largest value, in standard deviations of the training images; above 0.

    Raises:
        UsageError: `option-value`.
    """

    rate: float = 0.1
    jitter: int | None = None
    blur: float = 0.5
    decay: float = 0.01
    limit: float = 3.0

    def __post_init__(self) -> None:
        if self.jitter is not None:
            whole_number("jitter", self.jitter, 0, 65_535, "option-value")
        for name in ("rate", "blur", "decay", "limit"):
            value = getattr(self, name)
            if not (0 <= value < math.inf) or (name == "decay" and value > 1) or (name == "limit" and value == 0):
                least = {"limit": "a number above 0", "decay": "a number from 0 to 1"}.get(name, "0 or more")
                raise UsageError(name, f"expected {least}, got {value}", code="option-value")


def maximise_activation(
    model: nn.Module,
    layer: str,
    channel: int,
    shape: tuple[int, int, int],
    seed: int = 0,
    steps: int = 128,
    *,
    unit: tuple[int, int] | None = None,
    settings: Ascent | None = None,
) -> Grown:
    """An input grown by gradient ascent from noise, so that it excites the mean of a channel's map, or one unit of it.

    Erhan et al. 2009, "Visualizing higher-layer features of a deep network"; the regularisation after Mordvintsev et
    al. 2015 (jitter) and Yosinski et al. 2015, https://arxiv.org/abs/1506.06579 (blur, decay). One step: every fourth
    time the image is blurred; it is rolled by at most `jitter` pixels each way, and back after the gradient is taken;
    image = (1 - decay) image + rate * gradient / its root mean square; cut off at -limit and limit. A gradient of zero,
    as from a filter that is silent everywhere, moves nothing.

    The same seed gives the same image on the same machine. torch's own random state is not touched.

    Args:
        model: any module that takes `(N, C, H, W)`.
        layer: one that gives maps `(N, channels, h, w)` or vectors `(N, channels)`.
        channel: which.
        shape: (C, H, W) of the image.
        seed: of the noise and the jitter.
        steps: how many, from 0.
        unit: (y, x) in the map; None: the mean over the map. A single unit is grown without jitter, which would smear
            it.
        settings: of the ascent; None: those of `Ascent()`.

    Raises:
        UsageError: as `top_activating_examples`; `unit-range`, `no-gradient`, `steps-range`.
    """
    if len(shape) != 3:
        raise UsageError("shape", f"expected (C, H, W), got {shape}", code="image-shape")
    for side in shape:
        whole_number("shape", side, 1, 65_535, "image-shape")
    whole_number("steps", steps, 0, 1_000_000, "steps-range")
    how = settings or Ascent()
    with preserve_state(model):
        tap = Tap(model, layer)
        generator = torch.Generator().manual_seed(seed)
        image = normalised(model, torch.randn(1, *shape, generator=generator) * 0.1, "shape")
        reach = min(min(shape[1:]) // 32, 8) if how.jitter is None else how.jitter
        reach = 0 if unit is not None else reach
        with torch.no_grad():
            before = float(_excitement(tap, image.clone(), channel, unit))
        for step in range(steps):
            if how.blur and step % _BLUR_EVERY == 0:
                image = _blurred(image, how.blur)
            down, across = torch.randint(-reach, reach + 1, (2,), generator=generator).tolist()
            leaf = image.roll((down, across), (2, 3)).requires_grad_()
            value = _excitement(tap, leaf.clone(), channel, unit)
            gradient = torch.autograd.grad(value, leaf, allow_unused=True)[0] if value.requires_grad else None
            if gradient is None:
                raise UsageError("layer", f"no gradient comes back from {printable(layer)}", code="no-gradient")
            gradient = gradient.roll((-down, -across), (2, 3))
            size = gradient.square().mean().sqrt()
            moved = (1 - how.decay) * image + (how.rate * gradient / size if size > 0 else 0)
            image = moved.clamp(-how.limit, how.limit)
        with torch.no_grad():
            after = float(_excitement(tap, image.clone(), channel, unit))
        if not math.isfinite(after):
            raise UsageError("layer", f"the maps of {printable(layer)} are not finite", code="maps-not-finite")
        return Grown(image[0], before, after)


def _excitement(tap: Tap, image: Tensor, channel: int, unit: tuple[int, int] | None) -> Tensor:
    """What is to become large: the mean of a channel's map, or one unit of it."""
    maps = maps_from(tap, image)
    wanted = maps[0, chosen_channels([channel], maps.shape[1])[0]]
    if unit is None:
        return wanted.mean()
    y, x = unit
    if not (0 <= y < wanted.shape[0] and 0 <= x < wanted.shape[1]):
        raise UsageError(
            "unit",
            f"expected y below {wanted.shape[0]} and x below {wanted.shape[1]}, got {unit}",
            code="unit-range",
        )
    return wanted[y, x]


def _blurred(images: Tensor, deviation: float) -> Tensor:
    """By a Gaussian; the border's pixels are repeated outwards."""
    radius = math.ceil(3 * deviation)
    places = torch.arange(-radius, radius + 1, dtype=images.dtype, device=images.device)
    weights = torch.exp(-places.square() / (2 * deviation**2))
    weights = (weights / weights.sum()).expand(images.shape[1], 1, 1, -1)
    padded = F.pad(images, (radius,) * 4, mode="replicate")
    across = F.conv2d(padded, weights, groups=images.shape[1])
    return F.conv2d(across, weights.transpose(2, 3), groups=images.shape[1])
