"""Convolution and pooling by hand: any image, any kernel, and every number that comes out, in float64.

These are the plain sums, apart from any network: no bias, no activation, nothing cut off below zero. The named kernels
are in `models/kernels.py`, where a model's text finds them too.
"""

from __future__ import annotations

import contextlib
import operator
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image

from ...data import InputFormat, open_image
from ...errors import UsageError, printable
from ...models import KERNELS, Kernel
from ...suggestions import the_nearest

if TYPE_CHECKING:
    from torch import Tensor, nn

    Picture = ArrayLike | Tensor | Image.Image

Border = Literal["none", "zeros", "reflect", "replicate"]
PoolKind = Literal["max", "mean", "sum"]
Size = int | tuple[int, int]
"""One number for height and width, or both."""
Numbers = NDArray[np.float64]

_PAD_MODES: dict[str, Any] = {"zeros": "constant", "reflect": "reflect", "replicate": "edge"}
_LARGEST_PICTURE = 4_096


def convolve(
    image: Picture,
    kernel: str | Kernel | ArrayLike | Tensor,
    *,
    border: Border = "none",
    stride: Size = 1,
    dilation: Size = 1,
) -> Numbers:
    """Slide `kernel` over `image`.

    `out[y, x] = sum over r, c of kernel[r, c] * image[y * stride + r * dilation, x * stride + c * dilation]`

    This is cross-correlation, which deep learning calls convolution: the kernel is laid on the image as it is written,
    and is not flipped first. Negative results stay negative. Arithmetic is float64: exact for whole numbers while the
    sums stay below 2**53.

    Args:
        image: `(H, W)` or `(H, W, C)` of finite real numbers of any range, as an array or a tensor (a torch image `(C,
            H, W)` needs `.permute(1, 2, 0)`); or a Pillow image: grey ones become `(H, W)`, others RGB `(H, W, 3)`,
            0..255, by the rules of `data.open_image`; 16-bit, 32-bit and float grey keep their numbers.
        kernel: a name of `models.KERNELS`; `(h, w)`, which goes over each channel by itself; or `(h, w, C)`, which sums
            over all channels, as a learned filter does: `filters(network, "conv1")[5].transpose(1, 2, 0)`.
        border: what surrounds the image. `none`: nothing, the kernel stays inside and the result is smaller; else the
            result is as large as the image (with stride s: size / s, rounded up). `zeros`; `reflect`: the image
            mirrored at its edge pixel, `c b [a b c`; `replicate`: the edge pixel again, `a a [a b c`. A kernel of an
            even side gets its extra cell at the bottom and at the right, as in a model.
        stride: step of the kernel, from 1.
        dilation: distance of the kernel's cells, from 1.

    Returns:
        `(H', W')`, or `(H', W', C)` for a 2-D kernel on an image with channels.

    Raises:
        UsageError: `kernel-unknown` (the nearest names are listed), `kernel-shape`, `kernel-numbers`,
            `kernel-channels`, `kernel-too-large`, `image-shape`, `image-numbers`, `border-unknown`, `border-too-wide`,
            `bad-stride`, `bad-dilation`.
        DataError: a Pillow image that cannot be decoded.

    Source: Dumoulin and Visin 2016, https://arxiv.org/abs/1603.07285

    Examples:
        >>> convolve([[1, 2, 3], [4, 5, 6], [7, 8, 9]], "sobel_x")
        array([[8.]])
    """
    maps, weights = _image(image), _kernel(kernel)
    (down, across), (lower, further) = _pair("stride", stride), _pair("dilation", dilation)
    if border not in get_args(Border):
        raise _unknown("border", border, get_args(Border))
    flat = maps.ndim == 2
    if flat:
        maps = maps[:, :, None]
    if weights.ndim == 3 and weights.shape[2] != maps.shape[2]:
        raise UsageError(
            "kernel",
            f"expected one kernel for each channel of the image ({maps.shape[2]}), got {weights.shape[2]}",
            code="kernel-channels",
            hint="a kernel (h, w) goes over each channel by itself, (h, w, C) sums over all C",
        )
    (rows, columns), size = weights.shape[:2], maps.shape[:2]
    if border != "none":
        cells = border_cells(rows, lower), border_cells(columns, further)
        if border == "reflect" and (max(cells[0]) >= size[0] or max(cells[1]) >= size[1]):
            raise UsageError(
                "border",
                f"a reflected border of {max(*cells[0], *cells[1])} needs a larger image than {_by(size)}",
                code="border-too-wide",
                hint="use border='replicate' or border='zeros'",
            )
        maps = np.pad(maps, (*cells, (0, 0)), mode=_PAD_MODES[border])
    height = _places(maps.shape[0], rows, down, lower)
    width = _places(maps.shape[1], columns, across, further)
    if height < 1 or width < 1:
        reach = ((rows - 1) * lower + 1, (columns - 1) * further + 1)
        dilated = f", dilated to {_by(reach)}," if reach != (rows, columns) else ""
        raise UsageError(
            "kernel",
            f"a kernel of {_by((rows, columns))}{dilated} does not fit into an image of {_by(size)}",
            code="kernel-too-large",
            hint="use a border, for instance border='zeros', or a larger image",
        )
    result: Numbers = np.zeros((height, width) if weights.ndim == 3 else (height, width, maps.shape[2]))
    for row in range(rows):
        for column in range(columns):
            top, left = row * lower, column * further
            seen = maps[top : top + (height - 1) * down + 1 : down, left : left + (width - 1) * across + 1 : across]
            result += seen @ weights[row, column] if weights.ndim == 3 else seen * weights[row, column]
    return result[:, :, 0] if flat and weights.ndim == 2 else result


def pool(image: Picture, kind: PoolKind = "max", size: Size = 2, stride: Size | None = None) -> Numbers:
    """The largest number, the mean or the sum of each window, in each channel by itself. Windows stay inside the image.

    Args:
        image: as in `convolve`.
        kind: `max`, `mean` or `sum`.
        size: of the window, from 1.
        stride: step of the window, from 1; None: its size.

    Returns:
        `(H', W')` or `(H', W', C)`, as the image. What no whole window covers at the bottom and at the right is left
        out.

    Raises:
        UsageError: `image-shape`, `image-numbers`, `pool-unknown`, `window-too-large`, `bad-size`, `bad-stride`.
        DataError: a Pillow image that cannot be decoded.

    Examples:
        >>> pool([[1, 0, 4], [8, 2, 5], [20, 13, 25]], "max", 3)
        array([[25.]])
    """
    maps = _image(image)
    if kind not in get_args(PoolKind):
        raise _unknown("pool", kind, get_args(PoolKind))
    window = _pair("size", size)
    step = window if stride is None else _pair("stride", stride)
    if window[0] > maps.shape[0] or window[1] > maps.shape[1]:
        raise UsageError(
            "size",
            f"a window of {_by(window)} does not fit into an image of {_by(maps.shape[:2])}",
            code="window-too-large",
            hint="use a smaller window or a larger image",
        )
    windows = np.lib.stride_tricks.sliding_window_view(maps, window, axis=(0, 1))[:: step[0], :: step[1]]
    if kind == "max":
        largest: Numbers = windows.max(axis=(-2, -1))
        return largest
    total: Numbers = windows.sum(axis=(-2, -1))
    return total if kind == "sum" else total / (window[0] * window[1])


def filters(network: nn.Module, layer: str) -> NDArray[np.float32]:
    """The filters of a convolution, as a copy.

    Args:
        network: any module, such as `Run.network()`.
        layer: the convolution's path in it: `conv1`, `residual1.body.conv2`, `layer1.0.conv1`.

    Returns:
        `(filters, channels, height, width)`, as they are used where they are computed from others (weight norm);
        channels are those of one group. One filter as `convolve` takes it:
        `filters(network, layer)[n].transpose(1, 2, 0)`.

    Raises:
        UsageError: `layer-unknown`: there is no such layer; the nearest names are listed; `layer-without-filters`: it
            is not a 2-D convolution.
    """
    from .used_weights import used_weight

    known = [name for name, part in network.named_modules() if used_weight(part) is not None]
    part = dict(network.named_modules()).get(layer)
    if part is None:
        raise UsageError(
            "layer",
            f"this network has no layer {printable(layer[:200])!r}",
            code="layer-unknown",
            hint=the_nearest(layer, known) or _some(known),
        )
    weight = used_weight(part)
    if weight is None:
        raise UsageError(
            "layer",
            f"expected a 2-D convolution, but {printable(layer) or 'the network itself'} is a {type(part).__name__}",
            code="layer-without-filters",
            hint=_some(known),
        )
    return weight.detach().cpu().float().numpy().copy()


def _some(names: Iterable[str]) -> str:
    found = list(names)
    more = f" and {len(found) - 10} more" if len(found) > 10 else ""
    return f"convolutions: {', '.join(found[:10])}{more}" if found else "this network has no convolution"


def border_cells(kernel: int, dilation: int = 1) -> tuple[int, int]:
    """Cells added before and after by which the result becomes as large as the image, for a kernel of this side.

    An odd number has its extra cell after.
    """
    cells = (kernel - 1) * dilation
    return cells // 2, cells - cells // 2


def output_size(size: int, kernel: int, stride: int = 1, dilation: int = 1, padding: int | tuple[int, int] = 0) -> int:
    """How many places a window has: `floor((size - reach + 2 padding) / stride) + 1` with reach = (kernel - 1) dilation
    + 1.

    Args:
        size: cells of the image's side, from 1.
        kernel: cells of the window's side, from 1.
        stride, dilation: from 1.
        padding: cells added at each side, from 0; or before and after, as `border_cells` gives them.

    Raises:
        UsageError: `kernel-too-large`: there is no place; `bad-size`, `bad-kernel`, `bad-stride`, `bad-dilation`,
            `bad-padding`.
    """
    for name, value in (("size", size), ("kernel", kernel), ("stride", stride), ("dilation", dilation)):
        _whole(name, value)
    before, after = (_whole("padding", cells, least=0) for cells in _both(padding))
    places = _places(size + before + after, kernel, stride, dilation)
    if places < 1:
        padded = f" with {before} + {after} cells added" if before or after else ""
        raise UsageError(
            "kernel",
            f"a window that spans {(kernel - 1) * dilation + 1} cells does not fit into {size}{padded}",
            code="kernel-too-large",
            hint="use a border or a larger image",
        )
    return places


def output_size_text(
    size: int, kernel: int, stride: int = 1, dilation: int = 1, padding: int | tuple[int, int] = 0
) -> str:
    """The sum of `output_size` with the numbers filled in.

    Raises:
        UsageError: as `output_size`.

    Examples:
        >>> output_size_text(6, 3, padding=1)
        '(6 - 3 + 2*1)/1 + 1 = 6'
        >>> output_size_text(6, 3, stride=2)
        'floor((6 - 3 + 2*0)/2) + 1 = 2'
    """
    places = output_size(size, kernel, stride, dilation, padding)
    before, after = _both(padding)
    reach = f"{kernel}" if dilation == 1 else f"(({kernel} - 1)*{dilation} + 1)"
    around = f"2*{before}" if before == after else f"{before} + {after}"
    steps = f"({size} - {reach} + {around})/{stride}"
    free = size - ((kernel - 1) * dilation + 1) + before + after
    return f"{steps} + 1 = {places}" if free % stride == 0 else f"floor({steps}) + 1 = {places}"


def _places(size: int, kernel: int, stride: int, dilation: int) -> int:
    return (size - (kernel - 1) * dilation - 1) // stride + 1


def _both(padding: int | tuple[int, int]) -> tuple[int, int]:
    return padding if isinstance(padding, tuple) else (padding, padding)


def _whole(name: str, value: object, *, least: int = 1) -> int:
    try:
        number = least - 1 if isinstance(value, bool) else operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        number = least - 1
    if number < least:
        raise UsageError(
            name, f"expected a whole number from {least}, got {printable(repr(value)[:60])}", code=f"bad-{name}"
        )
    return number


def _pair(name: str, value: Size) -> tuple[int, int]:
    """A size as (height, width)."""
    if isinstance(value, tuple | list) and len(value) == 2:
        return _whole(name, value[0]), _whole(name, value[1])
    number = _whole(name, value)
    return number, number


def _by(size: Iterable[int]) -> str:
    return "x".join(map(str, size))


def _unknown(name: str, got: object, known: Iterable[str]) -> UsageError:
    """A word that is none of `known`; names what it may have meant."""
    names = list(known)
    return UsageError(
        name,
        f"expected {' or '.join(names)}, got {printable(repr(got)[:60])}",
        code=f"{name}-unknown",
        hint=the_nearest(got, names, most=3, cutoff=0.5),
    )


def _kernel(kernel: str | Kernel | ArrayLike | Tensor) -> Numbers:
    """A kernel's numbers, `(h, w)` or `(h, w, C)`."""
    if isinstance(kernel, str):
        if kernel not in KERNELS:
            raise _unknown("kernel", kernel, KERNELS)
        kernel = KERNELS[kernel]
    if isinstance(kernel, Kernel):
        kernel = kernel.rows
    return _numbers("kernel", kernel)


def _image(image: Picture) -> Numbers:
    """An image's numbers, `(H, W)` or `(H, W, C)`."""
    return _numbers("image", _pixels(image) if isinstance(image, Image.Image) else image)


def _pixels(image: Image.Image) -> NDArray[Any]:
    """A Pillow image as an array, `(H, W)` or `(H, W, 3)`."""
    if image.mode == "F" or image.mode.startswith("I"):
        return np.asarray(image)
    if max(image.size) > _LARGEST_PICTURE:
        raise UsageError(
            "image",
            f"expected sides up to {_LARGEST_PICTURE:,} pixels, got {_by(reversed(image.size))}",
            code="image-shape",
            hint="make it smaller first: image.thumbnail((1024, 1024))",
        )
    width, height = image.size
    with contextlib.suppress(Exception):  # damaged EXIF counts as none, as in `open_image`
        if image.getexif().get(274) in (5, 6, 7, 8):  # orientation: the picture is turned by 90 degrees
            width, height = height, width
    grey = image.mode in ("1", "L", "LA", "La")
    pixels = open_image(image, InputFormat(height=height, width=width, channels=1 if grey else 3), tiff=True)
    return pixels[:, :, 0] if grey else pixels


def _numbers(name: str, values: ArrayLike | Tensor) -> Numbers:
    """Finite float64 of two or three axes, from an array, a tensor or lists."""
    if not isinstance(values, np.ndarray) and hasattr(values, "detach"):
        tensor: Tensor = values.detach().cpu()
        values = (tensor.double() if tensor.is_floating_point() else tensor).numpy()
    try:
        array = np.asarray(values)
    except ValueError:  # lists of different lengths
        array = np.asarray(None)
    letters = ("h", "w") if name == "kernel" else ("H", "W")
    if array.dtype.kind not in "biuf":
        raise UsageError(
            name,
            f"expected real numbers ({', '.join(letters)}) or ({', '.join(letters)}, C), got {_got(values, array)}",
            code=f"{name}-numbers",
        )
    if array.ndim not in (2, 3) or 0 in array.shape:
        raise UsageError(
            name,
            f"expected shape ({', '.join(letters)}) or ({', '.join(letters)}, C), none of them 0, got {array.shape}",
            code=f"{name}-shape",
            hint="one image at a time; a torch image (C, H, W) needs .permute(1, 2, 0)" if name == "image" else "",
        )
    numbers = array.astype(np.float64)
    if not np.isfinite(numbers).all():
        place = np.argwhere(~np.isfinite(numbers))[0]
        where = ", ".join(f"{axis} {index}" for axis, index in zip(("row", "column", "channel"), place, strict=False))
        raise UsageError(
            name, f"expected finite numbers, got {numbers[tuple(place)]} at {where}", code=f"{name}-numbers"
        )
    return numbers


def _got(values: object, array: NDArray[Any]) -> str:
    return f"{array.dtype} numbers" if array.dtype.kind == "c" else type(values).__name__
