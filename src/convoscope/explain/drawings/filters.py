"""The filters of a convolution, kernel by kernel."""

from __future__ import annotations

from typing import TYPE_CHECKING

from numpy.typing import ArrayLike
from PIL import Image

from ...errors import UsageError
from .blocks import GROUND, SMALL, column, columns_for, flow, row, table, title_line, words
from .cells import NUMBERED, reach_of, scale_bar, tile
from .maps import numbered_maps
from .numerals import Floats, times
from .sheets import MOST_NUMBERS, PAGE, numbers_of, on_sheet

if TYPE_CHECKING:
    from torch import Tensor


def filter_sheet(
    weights: Tensor | ArrayLike, title: str = "", *, limit: int = 64, channels: int = 16, first: int = 0
) -> Image.Image:
    """The filters of a convolution: for each its kernels side by side, one for every input channel.

    Args:
        weights: `(F, C, kh, kw)`.
        title: the heading.
        limit: how many filters are shown at most.
        channels: how many kernels of each are shown at most.
        first: the number of the first filter given.

    Raises:
        UsageError: another number of axes, or no numbers (`figure-values`).
    """
    values = numbers_of(weights, "weights")
    if values.ndim != 4:
        raise UsageError(
            "weights",
            f"expected filters (filters, channels, height, width); received shape {values.shape}",
            code="figure-values",
        )
    count, depth, height, width = values.shape
    shown, kernels = min(count, max(1, limit)), min(depth, max(1, channels))
    reach = reach_of(values)
    about = [
        f"{count:,} filter{'s' if count > 1 else ''} of {depth:,} kernel{'s' if depth > 1 else ''} "
        f"of {times((height, width))}"
    ]
    if shown < count:
        about.append(f"the first {shown} of {count:,} filters shown")
    if kernels < depth:
        about.append(f"of each the first {kernels} of {depth:,} kernels")
    numbered = max(height, width) <= NUMBERED and shown * kernels * height * width <= MOST_NUMBERS
    pictures = _kernels(values[:shown, :kernels].reshape(-1, height, width), reach, numbered)
    names = [words(f"filter {first + at}", size=SMALL, colour="muted") for at in range(shown)]
    rows = [pictures[at * kernels : (at + 1) * kernels] for at in range(shown)]
    wide = kernels * (pictures[0].width + 6) + 28
    columns = columns_for(shown, wide, PAGE + 28)
    if depth > 1:
        about.append("columns are input channels")
    head = [words(str(channel), size=SMALL, colour="muted") for channel in range(kernels)]
    if columns > 1:
        top = [row([_centred(block, pictures[0].width) for block in head], gap=6)] if depth > 1 else []
        blocks = [
            column([name, *(top if at < columns else []), row(kernel_row, gap=6)], gap=3)
            for at, (name, kernel_row) in enumerate(zip(names, rows, strict=True))
        ]
        body = flow(blocks, columns, gap=(28, 14))
    else:
        corner = words(" ", size=SMALL)
        lines = [[corner, *head], *([name, *kernel_row] for name, kernel_row in zip(names, rows, strict=True))]
        body = table(lines if depth > 1 else lines[1:], gap=(6, 8), align=("start", "middle"))
    heading = [title_line(title or "filters"), words(" · ".join(about), colour="muted")]
    return on_sheet([*heading, scale_bar(values, reach), body])


def _kernels(values: Floats, reach: float, numbered: bool) -> list[Image.Image]:
    if numbered:
        return numbered_maps(values, reach, False)
    return [tile(kernel, reach, max(36, 10 * max(kernel.shape))) for kernel in values]


def _centred(block: Image.Image, width: int) -> Image.Image:
    return column([block, Image.new("RGB", (width, 1), GROUND)], gap=0, align="middle")
