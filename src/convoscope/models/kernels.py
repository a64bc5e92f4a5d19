"""Kernels made by hand, by name, for `kernel(sobel_x)` in a model's text and `convolve(image, "sobel_x")`.

They are written as they are laid on the image, top row first. Like all kernels here they are multiplied cell by cell
and summed (cross-correlation), not flipped first.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Kernel:
    """A kernel with a name.

    Attributes:
        name: as it is written in a text.
        rows: its numbers, a square, top row first.
        about: one line.
    """

    name: str
    rows: tuple[tuple[float, ...], ...]
    about: str

    @property
    def values(self) -> tuple[float, ...]:
        """All numbers, row by row."""
        return tuple(float(value) for row in self.rows for value in row)


def _product(weights: tuple[float, ...]) -> tuple[tuple[float, ...], ...]:
    """Every weight times every other, divided so that the sum is 1."""
    total = sum(weights) ** 2
    return tuple(tuple(a * b / total for b in weights) for a in weights)


_ALL = (
    Kernel("identity", ((0, 0, 0), (0, 1, 0), (0, 0, 0)), "the image as it is"),
    Kernel("blur", _product((1, 1, 1)), "the mean of 3x3 pixels"),
    Kernel("gaussian", _product((1, 2, 1)), "a blur in which near pixels count more"),
    Kernel("gaussian5", _product((1, 4, 6, 4, 1)), "the same, stronger: 5x5 pixels"),
    Kernel("sharpen", ((0, -1, 0), (-1, 5, -1), (0, -1, 0)), "pushes each pixel away from its four neighbours"),
    Kernel(
        "sobel_x", ((-1, 0, 1), (-2, 0, 2), (-1, 0, 1)), "vertical edges: positive where it gets brighter to the right"
    ),
    Kernel(
        "sobel_y", ((-1, -2, -1), (0, 0, 0), (1, 2, 1)), "horizontal edges: positive where it gets brighter downwards"
    ),
    Kernel(
        "laplacian",
        ((0, 1, 0), (1, -4, 1), (0, 1, 0)),
        "the four neighbours minus four times the pixel: edges in every direction",
    ),
    Kernel("outline", ((-1, -1, -1), (-1, 8, -1), (-1, -1, -1)), "eight times the pixel minus its eight neighbours"),
    Kernel("emboss", ((-2, -1, 0), (-1, 1, 1), (0, 1, 2)), "a relief, lit from the upper left"),
)

KERNELS: dict[str, Kernel] = {kernel.name: kernel for kernel in _ALL}
"""Name to kernel, in the order of the handbook."""
