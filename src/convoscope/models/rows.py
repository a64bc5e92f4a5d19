"""One row of a model's table, whether it was planned from a text or measured on a module."""

from __future__ import annotations

from dataclasses import dataclass

from .arguments import size_text


@dataclass(frozen=True)
class LayerRow:
    """One layer.

    Attributes:
        name: its path in the module, as `get_submodule` takes it.
        kind: `conv`, `dense`, ...; the class name in small letters where the catalogue has no such layer.
        output: `(height, width, channels)` of maps, `(n,)` of a vector.
        parameters: learned numbers of this layer, not of those inside it.
        formula: the same as products: `3x3x32x64 + 64` is height x width x channels in x filters, and the biases.
        multiply_adds: products of a weight and an input that are added up, for one image. Convolutions and dense layers
            count, and matrix products in general; biases, norms, activations and pooling do not.
        receptive_field: the side in pixels of the square that one unit can see, borders included; (height, width) where
            they differ; None where it cannot be followed.
    """

    name: str
    kind: str
    output: tuple[int, ...]
    parameters: int
    formula: str
    multiply_adds: int
    receptive_field: int | tuple[int, int] | None


def formula(products: tuple[tuple[int, ...], ...]) -> str:
    """`((3, 3, 32, 64), (64,))` as `3x3x32x64 + 64`."""
    return " + ".join(size_text(product) for product in products)


def side(size: tuple[int, int]) -> int | tuple[int, int]:
    """One number for a square."""
    return size[0] if size[0] == size[1] else size
