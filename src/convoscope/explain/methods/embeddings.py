"""What goes into the last layer for each image, and a plane to show it in: principal components, UMAP."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ...errors import UsageError
from ..capture.forward import hooked, preserve_state, run, whole_number
from .tap import Images, batches


@dataclass(frozen=True, eq=False)
class Features:
    """The inputs of the last layer.

    Attributes:
        vectors: float32 `(N, D)`, on the processor.
        layer: that layer's path; empty where it is the network itself.
    """

    vectors: Tensor
    layer: str


@dataclass(frozen=True, eq=False)
class Projection:
    """Vectors on a few axes.

    Attributes:
        coordinates: float32 `(N, dimensions)`.
        shares: float64 `(dimensions,)`: how much of the vectors' variance each axis explains, 0..1.
    """

    coordinates: Tensor
    shares: Tensor


def embeddings(model: nn.Module, images: Images, batch_size: int | None = None) -> Features:
    """What goes into the last layer with weights: the last `nn.Linear` or `nn.Conv2d` that runs, whatever its name.

    Maps that go into a convolution, and tokens, are flattened. A layer that runs several times counts by its last run.
    The network runs in eval mode and is left as it was found.

    Args:
        model: any module that takes `(N, C, H, W)`.
        images: normalised, `(N, C, H, W)` or batches of that form, see `top_activating_examples`.
        batch_size: images at once, from 1; None: 64, fewer where they would take much memory.

    Raises:
        UsageError: `features-none`: no such layer runs, or its input has not one row for each image; `images-none`;
            `image-shape`, `image-values`, `model-module`.
    """
    whole_number("batch_size", 1 if batch_size is None else batch_size, 1, 1_000_000, "option-value")
    paths: dict[nn.Module, str] = {
        part: path for path, part in model.named_modules() if isinstance(part, nn.Linear | nn.Conv2d)
    }
    last: list[tuple[str, Tensor]] = []

    def enter(part: nn.Module, inputs: tuple[Any, ...]) -> None:
        # A copy: what runs later may change it in place.
        last[:] = [(paths[part], inputs[0].clone())] if inputs and isinstance(inputs[0], Tensor) else []

    parts: list[Tensor] = []
    layer = ""
    with preserve_state(model), torch.no_grad():
        for batch in batches(model, images, batch_size):
            last.clear()
            with hooked(paths, enter, before=True):
                run(model, batch.clone())
            if not last or len(last[0][1]) != len(batch):
                raise UsageError(
                    f"model {type(model).__name__}",
                    "no dense layer or convolution with one input for each image runs in it",
                    code="features-none",
                )
            layer, entering = last[0]
            parts.append(entering.flatten(1).float().cpu())
    if not parts:
        raise UsageError("images", "expected at least one image, got none", code="images-none")
    return Features(torch.cat(parts), layer)


def pca(vectors: Tensor, dimensions: int = 2) -> Projection:
    """Principal components: the axes of largest variance, by the singular value decomposition of the centred vectors,
    in float64.

    Each axis points so that its number of largest size is positive (the first of equals). Where there are fewer
    axes than asked for, the rest of coordinates and shares is 0.

    Args:
        vectors: `(N, D)`.
        dimensions: from 1.

    Raises:
        UsageError: `vectors-shape`, `vectors-values`: not finite.
    """
    dimensions = whole_number("dimensions", dimensions, 1, 1_000_000, "option-value")
    vectors = _checked(vectors)
    centred = vectors.double() - vectors.double().mean(0)
    left, sizes, axes = torch.linalg.svd(centred, full_matrices=False)
    largest = axes.abs().argmax(1, keepdim=True)
    signs = torch.where(axes.gather(1, largest)[:, 0] < 0, -1.0, 1.0)
    coordinates = torch.zeros(len(vectors), dimensions)
    shares = torch.zeros(dimensions, dtype=torch.float64)
    count = min(dimensions, len(sizes))
    coordinates[:, :count] = (left * sizes * signs)[:, :count].float()
    total = sizes.square().sum()
    if total > 0:
        shares[:count] = (sizes.square() / total)[:count]
    return Projection(coordinates, shares)


def umap(vectors: Tensor, dimensions: int = 2, seed: int = 0, neighbours: int = 15) -> Tensor:
    """Coordinates float32 `(N, dimensions)` in which neighbours stay neighbours; distances between groups mean little.

    McInnes et al. 2018, https://arxiv.org/abs/1802.03426. Needs the library umap-learn, which is not installed
    with convoscope.

    Args:
        vectors: `(N, D)`.
        dimensions: from 1.
        seed: the same one gives the same picture.
        neighbours: how many of each vector's neighbours count, from 2; fewer where there are fewer vectors.

    Raises:
        UsageError: `umap-missing`; `vectors-shape`, `vectors-values`.
    """
    vectors = _checked(vectors)
    whole_number("dimensions", dimensions, 1, 1_000_000, "option-value")
    whole_number("neighbours", neighbours, 2, 1_000_000, "option-value")
    reducer = _reducer()(
        n_components=dimensions, n_neighbors=max(2, min(neighbours, len(vectors) - 1)), random_state=seed, n_jobs=1
    )
    return torch.from_numpy(reducer.fit_transform(vectors.float().numpy())).float()


def _reducer() -> Any:
    try:
        return importlib.import_module("umap").UMAP
    except ImportError:
        raise UsageError(
            "umap",
            "this needs the library umap-learn, which is not installed",
            code="umap-missing",
            hint="pip install umap-learn, or use pca",
        ) from None


def _checked(vectors: Tensor) -> Tensor:
    if vectors.ndim != 2 or not vectors.numel():
        raise UsageError("vectors", f"expected shape (N, D), got {tuple(vectors.shape)}", code="vectors-shape")
    if not vectors.isfinite().all():
        raise UsageError("vectors", "expected finite numbers", code="vectors-values")
    return vectors.detach().cpu()
