"""How estimated durations are said."""

import pytest

from convoscope.duration import rough_duration


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "a second"), (1.4, "a second"), (1.6, "2 s"), (9.4, "9 s"), (9.6, "10 s"), (42, "40 s"), (87, "85 s"),
        (88, "1 min"), (91, "2 min"), (530, "9 min"), (3569, "59 min"), (3600, "1 h"), (4800, "1 h 20 min"),
        (7190, "2 h"), (36_000, "10 h"), (100_000, "28 h"), (250_000, "3 days"),
    ],
)  # fmt: skip
def test_a_rough_duration(seconds: float, words: str) -> None:
    assert rough_duration(seconds) == words
