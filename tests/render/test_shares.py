"""Shares in words: exact where they say all or nothing, near everywhere else."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from convoscope.render import percent


@pytest.mark.parametrize(
    ("share", "digits", "words"),
    [
        (None, 1, "–"),
        (0.9312, 1, "93.1 %"),
        (1.0, 1, "100.0 %"),
        (1.0, 0, "100 %"),
        (0.0, 1, "0.0 %"),
        (2234 / 2235, 1, "99.96 %"),
        (0.999, 0, "99.9 %"),
        (0.997, 0, "99.7 %"),
        (0.99999, 0, "> 99.9 %"),
        (0.99999, 1, "> 99.99 %"),
        (0.0004, 1, "0.04 %"),
        (0.00001, 1, "< 0.01 %"),
        (1e-300, 0, "< 0.1 %"),
        (1 - 1e-15, 1, "100.0 %"),  # 1, but for the last digits of its arithmetic
        (1 + 1e-10, 1, "100.0 %"),
        (-0.05, 1, "−5.0 %"),
        (-2.5, 0, "−250 %"),
        (math.nan, 1, "nan"),
    ],
)
def test_shares_in_words(share: float | None, digits: int, words: str) -> None:
    assert percent(share, digits) == words


def _number(words: str) -> float:
    return float(words.removesuffix(" %").lstrip("<> "))


@given(total=st.integers(1, 10**9), missing=st.integers(0, 10**9), digits=st.integers(0, 2))
def test_only_all_is_all_and_only_none_is_none(total: int, missing: int, digits: int) -> None:
    right = total - min(missing, total)
    words = percent(right / total, digits)
    assert (_number(words) == 100) == (right == total)
    assert (_number(words) == 0) == (right == 0)
    exact, said = 100 * right / total, _number(words)
    if words.startswith(">"):
        assert said < exact < 100
    elif words.startswith("<"):
        assert 0 < exact < said
    else:
        assert abs(said - exact) <= 0.5 * 10**-digits + 1e-9


@given(st.floats(0, 1), st.floats(0, 1))
def test_more_is_never_said_to_be_less(one: float, other: float) -> None:
    low, high = sorted((one, other))
    assert _number(percent(low)) <= _number(percent(high))
