"""The classifier's inputs against a hook of the test's own, principal components against scikit-learn."""

import sys
import types
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.decomposition import PCA
from torch import nn

from convoscope import models
from convoscope.errors import UsageError
from convoscope.explain.methods.embeddings import embeddings, pca, umap
from tests.support.preserved import NETWORKS, awkward, network, preserve_state

LAST = {"text": "dense2", "resnet-small": "dense1", "torchvision:resnet18": "fc"}


@pytest.mark.parametrize("name", NETWORKS)
def test_the_vectors_are_what_the_last_layer_takes(name: str) -> None:
    model, image = network(name)
    images = torch.randn(7, *image.shape)
    found = embeddings(model, images, batch_size=3)
    assert found.layer == LAST[name] and found.vectors.dtype == torch.float32
    last = model.get_submodule(found.layer)
    with torch.no_grad():
        # Batches of another size may round otherwise.
        torch.testing.assert_close(last(found.vectors), model(images), rtol=1e-4, atol=1e-5)


def test_any_form_of_the_images_gives_the_same() -> None:
    model, _ = network("text")
    images = torch.randn(9, 1, 28, 28)
    wanted = embeddings(model, images, batch_size=9).vectors
    for form in (images.numpy(), iter(images.split(4)), [batch.numpy() for batch in images.split(2)]):
        torch.testing.assert_close(embeddings(model, form).vectors, wanted, rtol=1e-5, atol=1e-5)


class Backwards(nn.Module):
    """The classifier is made first and named like nothing; a head that is not used is made last."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(6, 3), nn.Conv2d(1, 6, 3)
        self.classifier = nn.Linear(6, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        features = self.b(x).mean((2, 3))
        scores: torch.Tensor = self.a(features)
        features.zero_()  # what runs later must not change what was found
        return scores


def test_the_last_layer_is_the_one_that_runs_last() -> None:
    model, images = Backwards(), torch.randn(4, 1, 6, 6)
    found = embeddings(model, images)
    assert found.layer == "a"
    with torch.no_grad():
        torch.testing.assert_close(found.vectors, model.b(images).mean((2, 3)))


@pytest.mark.parametrize(
    ("model", "size", "layer", "length"),
    [
        ("conv(4) relu conv(3, 1) globalavg", (8, 8, 1), None, 0),
        ("torchvision:squeezenet1_1", (64, 64, 3), "classifier.1", 512 * 3 * 3),
        ("torchvision:mobilenet_v3_small", (64, 64, 3), "classifier.3", 1024),
        (nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 2, 6), nn.Flatten()), (8, 8, 1), "2", 4 * 36),
        (nn.Sequential(nn.Flatten(), nn.Linear(64, 2)), (8, 8, 1), "1", 64),
    ],
)
def test_classifiers_of_all_kinds(model: nn.Module, size: Any, layer: str, length: int) -> None:
    """A convolution as the classifier: its maps, flattened."""
    torch.manual_seed(0)
    if layer is None:
        layer, length = "conv2", 4 * 64
    built = models.build(model, size, 3 if isinstance(model, str) else 2)
    found = embeddings(built, torch.randn(2, size[2], *size[:2]))
    assert (found.layer, found.vectors.shape) == (layer, (2, length))


@pytest.mark.parametrize("fails_at", [0, 1, 2])
def test_everything_is_left_as_found(fails_at: int) -> None:
    model, images = awkward(fails_at), torch.randn(5, 2, 8, 8)
    with preserve_state(model, images):
        if fails_at:
            with pytest.raises(UsageError, match="the fuse has blown"):
                embeddings(model, images, batch_size=2)
        else:
            assert embeddings(model, images, batch_size=2).layer == "last"


@pytest.mark.parametrize(
    ("model", "images", "code", "match"),
    [
        (nn.Flatten(), torch.zeros(2, 1, 4, 4), "features-none", "no dense layer or convolution"),
        (nn.Sequential(nn.Flatten(0), nn.Linear(32, 2)), torch.zeros(2, 1, 4, 4), "features-none", "no dense layer"),
        (nn.Flatten(), [], "images-none", "expected at least one image, got none"),
        (nn.Flatten(), torch.zeros(4, 4), "image-shape", r"received shape \(4, 4\)"),
        (nn.Flatten(), torch.full((1, 1, 2, 2), torch.nan), "image-values", "4 are NaN or infinite"),
        (nn.Linear(3, 2), torch.zeros(2, 1, 4, 4), "model-module", "it fails on an image of 4x4x1"),
    ],
)
def test_what_does_not_fit(model: nn.Module, images: Any, code: str, match: str) -> None:
    with pytest.raises(UsageError, match=match) as caught, preserve_state(model):
        embeddings(model, images)
    assert caught.value.code == code


@given(st.integers(0, 1000), st.integers(3, 20), st.integers(2, 12), st.integers(1, 2))
def test_pca_is_scikit_learns(seed: int, rows: int, columns: int, dimensions: int) -> None:
    """Including the signs: both let the largest number of an axis be positive."""
    vectors = np.random.default_rng(seed).standard_normal((rows, columns)).astype(np.float32)
    vectors *= np.arange(1, columns + 1, dtype=np.float32)  # axes of unequal variance, so that their order is sure
    witness = PCA(dimensions, svd_solver="full")
    wanted = witness.fit_transform(vectors.astype(np.float64))
    found = pca(torch.from_numpy(vectors), dimensions)
    assert found.coordinates.dtype == torch.float32
    assert np.abs(found.coordinates.numpy() - wanted).max() <= 1e-5 * np.abs(wanted).max()
    assert found.shares.numpy() == pytest.approx(witness.explained_variance_ratio_, abs=1e-10)


def test_pca_on_paper() -> None:
    """Points on a line through (1, 2), not centred: one axis explains all."""
    found = pca(torch.tensor([[5.0, 6.0], [6.0, 8.0], [7.0, 10.0]]))
    assert torch.allclose(found.coordinates, torch.tensor([[-1.0, 0], [0, 0], [1, 0]]) * 5**0.5, atol=1e-6)
    assert found.shares.tolist() == pytest.approx([1, 0])


def test_pca_with_too_little_to_go_by() -> None:
    single = pca(torch.ones(1, 4))
    assert torch.equal(single.coordinates, torch.zeros(1, 2)) and single.shares.tolist() == [0, 0]
    narrow = pca(torch.tensor([[1.0], [3.0]]), 3)
    assert narrow.coordinates.tolist() == [[-1, 0, 0], [1, 0, 0]] and narrow.shares.tolist() == [1, 0, 0]


@pytest.mark.parametrize("project", [pca, umap])
def test_vectors_that_do_not_fit(project: Callable[..., object]) -> None:
    for vectors, match, code in (
        (torch.zeros(3), r"expected shape \(N, D\), got \(3,\)", "vectors-shape"),
        (torch.zeros(0, 3), r"got \(0, 3\)", "vectors-shape"),
        (torch.tensor([[1.0, torch.inf]]), "expected finite numbers", "vectors-values"),
    ):
        with pytest.raises(UsageError, match=match) as caught:
            project(vectors)
        assert caught.value.code == code
    with pytest.raises(UsageError, match="dimensions: expected a whole number from 1"):
        project(torch.zeros(3, 2), 0)


def test_umap_is_asked_for_where_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "umap", None)
    with pytest.raises(UsageError, match="needs the library umap-learn, which is not installed") as caught:
        umap(torch.zeros(5, 3))
    assert (caught.value.code, caught.value.hint) == ("umap-missing", "pip install umap-learn, or use pca")


def test_umap_gets_the_seed_and_no_more_neighbours_than_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    class Stand:
        def __init__(self, **options: int) -> None:
            self.options = options

        def fit_transform(self, vectors: Any) -> Any:
            assert self.options == {"n_components": 3, "n_neighbors": 4, "random_state": 6, "n_jobs": 1}
            return vectors[:, :3] * 2

    monkeypatch.setitem(sys.modules, "umap", types.SimpleNamespace(UMAP=Stand))
    vectors = torch.randn(5, 8)
    assert torch.equal(umap(vectors, 3, seed=6), vectors[:, :3] * 2)
