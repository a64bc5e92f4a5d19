import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from convoscope.training.core.rng import balanced_order, image_order, step_seed, uniforms

seeds = st.integers(0, 2**63 - 1)


@given(seeds, st.integers(0, 10_000), st.lists(st.integers(0, 10**6), min_size=1, max_size=20, unique=True))
def test_an_images_draws_do_not_depend_on_its_batch(seed: int, epoch: int, images: list[int]) -> None:
    rows = np.array(images)
    together = uniforms(seed, epoch, rows, 5)
    alone = np.concatenate([uniforms(seed, epoch, rows[i : i + 1], 5) for i in range(len(rows))])
    np.testing.assert_array_equal(together, alone)
    assert together.min() >= 0
    assert together.max() < 1


def test_draws_differ_between_images_epochs_seeds_and_are_uniform() -> None:
    rows = np.arange(20_000)
    base = uniforms(0, 0, rows, 3)
    for other in (uniforms(0, 1, rows, 3), uniforms(1, 0, rows, 3), uniforms(0, 0, rows + 20_000, 3)):
        assert abs(np.corrcoef(base[:, 0], other[:, 0])[0, 1]) < 0.03
        assert not (base == other).all(1).any()
    assert abs(np.corrcoef(base[:, 0], base[:, 1])[0, 1]) < 0.03
    counts, _ = np.histogram(base, bins=20, range=(0, 1))
    expected = base.size / 20
    assert ((counts - expected) ** 2 / expected).sum() < 45.3  # chi-squared, 19 degrees of freedom, p = 0.0006


@given(seeds, st.integers(0, 1000), st.integers(1, 200))
def test_an_epoch_shows_every_image_once(seed: int, epoch: int, count: int) -> None:
    order = image_order(seed, epoch, count)
    np.testing.assert_array_equal(np.sort(order), np.arange(count))
    np.testing.assert_array_equal(order, image_order(seed, epoch, count))


def test_orders_differ_between_epochs() -> None:
    assert (image_order(0, 0, 100) != image_order(0, 1, 100)).any()
    assert (image_order(0, 0, 100) != image_order(1, 0, 100)).any()


@given(seeds, st.lists(st.integers(0, 4), min_size=5, max_size=80))
def test_balanced_order_shows_each_class_equally_often(seed: int, labels: list[int]) -> None:
    targets = np.array(labels)
    order = balanced_order(seed, 3, targets)
    assert len(order) == len(targets)
    counts = np.bincount(targets[order], minlength=5)[np.unique(targets)]
    assert counts.max() - counts.min() <= 1
    for label in np.unique(targets):  # within a class no image is repeated before all had their turn
        shown = np.bincount(order[targets[order] == label], minlength=len(targets))[targets == label]
        assert shown.max() - shown.min() <= 1


def test_step_seeds_are_distinct_and_fit_torch() -> None:
    values = {step_seed(seed, step) for seed in range(5) for step in range(1000)}
    assert len(values) == 5000
    assert all(0 <= value < 2**63 for value in values)
