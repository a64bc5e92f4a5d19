"""From items to a model's text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..errors import UsageError
from .arguments import LARGEST_KERNEL, Value
from .items import Item
from .layers import LAYERS

if TYPE_CHECKING:
    from numpy.typing import ArrayLike
    from torch import Tensor


def to_text(items: Sequence[Item]) -> str:
    """The text of a tree, in its shortest form on one line. `parse` gives the same items back."""
    return " ".join(_item_text(item) for item in items)


def _item_text(item: Item) -> str:
    layer, given = LAYERS[item.kind], dict(item.given)
    parts, unnamed = [], layer.unnamed
    for position, argument in enumerate(layer.arguments):
        if argument.name not in given:
            unnamed = min(unnamed, position)
        else:
            name = "" if position < unnamed else f"{argument.name}="
            parts.append(name + value_text(given[argument.name]))
    if item.branches:
        parts.append(" | ".join(to_text(branch) for branch in item.branches))
    return f"{item.kind}({', '.join(parts)})" if parts else item.kind


def value_text(value: Value | None) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, tuple):
        return (", " if isinstance(value[0], float) else "x").join(map(value_text, value))
    if isinstance(value, float):
        return repr(value).removesuffix(".0")
    return str(value)


def kernel_text(values: ArrayLike | Tensor) -> str:
    """The item that slides `values` over every map: the kernel of a learned filter, say, as a part of a text.

    The numbers are written in as few digits as give the same float32 or float64 back. A kernel that is not square gets
    rows or columns of zeros, at the side where `padding=same` leaves its results as they are.

    Args:
        values: `(height, width)`, sides from 1 to 31, each number from -1,000,000 to 1,000,000. Of a learned filter one
            channel: `filters(network, "conv1")[5, 0]`.

    Raises:
        UsageError: `kernel-shape`, `kernel-numbers`.

    Examples:
        >>> kernel_text([[1, -1], [0.5, 0]])
        'kernel(1, -1, 0.5, 0)'
    """
    import numpy as np

    if not isinstance(values, np.ndarray) and hasattr(values, "detach"):
        tensor: Tensor = values.detach().cpu()
        values = (tensor.float() if tensor.element_size() < 8 else tensor).numpy()
    array = np.asarray(values)
    if array.ndim != 2 or not 1 <= min(array.shape) <= max(array.shape) <= LARGEST_KERNEL:
        raise UsageError(
            "kernel",
            f"expected rows and columns, from 1 to {LARGEST_KERNEL} of each, got shape {array.shape}",
            code="kernel-shape",
            hint="of a filter give one channel, for instance filters(network, 'conv1')[0, 0]",
        )
    if array.dtype.kind not in "iuf":
        raise UsageError("kernel", f"expected real numbers, got {array.dtype}", code="kernel-numbers")
    if array.dtype == np.float16:
        array = array.astype(np.float32)
    largest = max(array.shape)
    before = [(largest - 1) // 2 - (side - 1) // 2 for side in array.shape]
    square = np.pad(array, [(b, largest - side - b) for b, side in zip(before, array.shape, strict=True)])
    # Through text: the shortest digits of a float32 are not those of the float64 that is equal to it.
    numbers = [float(str(value)) for value in square.flat]
    argument = LAYERS["kernel"].arguments[0]
    bad = [number for number in numbers if argument.accept(number) is None]
    if bad:
        low, high = argument.minimum, argument.maximum
        raise UsageError(
            "kernel", f"expected numbers from {low:,.0f} to {high:,.0f}, got {bad[0]:g}", code="kernel-numbers"
        )
    accepted = argument.accept(numbers)
    assert accepted is not None
    return to_text([Item("kernel", (("values", accepted),))])
