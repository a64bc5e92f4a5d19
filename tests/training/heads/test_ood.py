"""The out-of-distribution detector: distances and the threshold, in numbers."""

from decimal import ROUND_CEILING, Decimal

import numpy as np
import pytest
import torch

from convoscope.training.heads.ood import FEWEST, distances, enough_for, fit_ood_detector, rank


def test_distances_are_those_to_the_k_th_neighbour() -> None:
    rng = np.random.default_rng(0)
    known, asked = rng.normal(size=(40, 6)).astype(np.float32), rng.normal(size=(2000, 6)).astype(np.float32)
    unit = known / np.linalg.norm(known, axis=1, keepdims=True)
    cosine = (asked / np.linalg.norm(asked, axis=1, keepdims=True)) @ unit.T
    wanted = 1 - np.sort(cosine, axis=1)[:, -3]
    np.testing.assert_allclose(distances(torch.from_numpy(unit), asked, 3), wanted, atol=1e-6)


@pytest.mark.parametrize("coverage", [1e-12, 0.5, 0.9, 0.95, 1.0])
def test_the_threshold_accepts_the_share_asked_for_of_new_images(coverage: float) -> None:
    """In the mean over many draws, with as few as 20 validation images: of 21 images each is the farthest with the same chance."""
    rng = np.random.default_rng(0)
    targets = np.arange(80) % 3
    shares = []
    for _ in range(300):
        features = rng.normal(size=(280, 8)).astype(np.float32)
        detector = fit_ood_detector(features[:80], targets, np.arange(60), np.arange(60, 80), coverage)
        assert detector is not None
        shares.append((detector.distances(features[80:]) <= detector.threshold).mean())
    wanted = min(20, np.ceil(coverage * 21)) / 21
    assert np.mean(shares) == pytest.approx(wanted, abs=4 * np.std(shares) / 300**0.5)


@pytest.mark.parametrize("coverage", ["0.5", "0.9", "0.95", "0.96", "0.98", "0.99", "0.999", "1"])
def test_the_rank_is_exact(coverage: str) -> None:
    """ceil((n + 1) coverage), at most n, in decimal arithmetic: 0.95 of 20 is the 19th, though not in binary."""
    for images in range(FEWEST, 2200):
        exact = int((Decimal(coverage) * (images + 1)).to_integral_value(ROUND_CEILING))
        assert rank(images, float(coverage)) == min(images, exact), images
    enough = enough_for(float(coverage))
    possible = [images for images in range(1, 2200) if Decimal(coverage) * (images + 1) <= images]
    assert enough == (possible[0] if possible else None)


def test_of_many_training_images_some_of_each_class_are_kept() -> None:
    rng = np.random.default_rng(0)
    features = rng.normal(size=(5000, 4)).astype(np.float32)
    targets = np.where(np.arange(5000) < 4000, 0, 1)
    detector = fit_ood_detector(features, targets, np.arange(4900), np.arange(4900, 5000), 0.95)
    assert detector is not None
    assert detector.features.shape == (2000, 4) and detector.features.dtype == torch.float16
