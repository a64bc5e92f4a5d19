"""The statistics of maps against plain NumPy."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from convoscope.errors import UsageError
from convoscope.explain import map_statistics


@given(
    arrays(
        np.float64, st.tuples(st.integers(1, 4), st.integers(1, 5), st.integers(1, 5)), elements=st.floats(-1e6, 1e6)
    ),
    st.integers(1, 40),
)
def test_each_map_against_numpy(maps: Any, bins: int) -> None:
    found = map_statistics(maps, bins=bins)
    assert len(found) == len(maps)
    for one, values in zip(found, maps, strict=True):
        assert one.mean == pytest.approx(values.mean(), rel=1e-12, abs=1e-9)
        assert one.std == pytest.approx(values.std(), rel=1e-9, abs=1e-9)
        assert (one.minimum, one.maximum) == (values.min(), values.max())
        assert one.zero_share == np.count_nonzero(values <= 0) / values.size
        assert one.silent == (values.max() <= 0)
        assert one.not_finite == 0
        assert one.histogram.sum() == values.size and len(one.histogram) == bins
        assert len(one.edges) == bins + 1 and one.edges[0] <= maps.min() and one.edges[-1] >= maps.max()
        assert np.array_equal(one.edges, found[0].edges)


def test_known_numbers() -> None:
    one, two = map_statistics(np.array([[[0.0, 2.0], [0.0, 2.0]], [[-1.0, -1.0], [0.0, 0.0]]]), bins=3)
    assert (one.mean, one.std, one.minimum, one.maximum, one.zero_share, one.silent) == (1, 1, 0, 2, 0.5, False)
    assert (two.mean, two.std, two.zero_share, two.silent) == (-0.5, 0.5, 1, True)
    assert one.edges.tolist() == [-1, 0, 1, 2]
    assert one.histogram.tolist() == [0, 2, 2] and two.histogram.tolist() == [2, 2, 0]


def test_what_is_not_finite_is_counted_and_left_out() -> None:
    one, two = map_statistics(np.array([[[1.0, np.nan, 3.0]], [[np.inf, np.nan, -np.inf]]]))
    assert (one.mean, one.not_finite, one.histogram.sum()) == (2, 1, 2)
    assert np.isnan(two.mean) and two.not_finite == 3 and two.histogram.sum() == 0 and not two.silent


def test_a_constant_and_a_vector() -> None:
    (one,) = map_statistics(np.zeros(5))
    assert (one.mean, one.std, one.zero_share, one.histogram.sum()) == (0, 0, 1, 5)
    (one,) = map_statistics(np.full((1, 2, 2), 1e20))
    assert one.histogram.sum() == 4 and one.edges[0] < 1e20 < one.edges[-1]


@pytest.mark.parametrize("shape", [(0, 2, 2), (2, 2), (1, 2, 2, 2)])
def test_other_shapes(shape: Any) -> None:
    with pytest.raises(UsageError, match=r"expected numbers \(channels, height, width\)") as caught:
        map_statistics(np.zeros(shape))
    assert caught.value.code == "map-shape"
