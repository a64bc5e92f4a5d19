"""Shares and probabilities as people read them, the same everywhere: never all or nothing where that is not so."""

from __future__ import annotations

import math

_WHOLE = 1 - 1e-12
"""A share that ought to be 1 may come out of its arithmetic a hair less."""


def percent(share: float | None, digits: int = 1) -> str:
    """A share 0..1 in words: `93.1 %`; a dash for none.

    Only exactly all is 100 % and only exactly nothing is 0 %. What would be rounded to one of them gets one more digit
    (`99.96 %`, `0.04 %`), and past that `> 99.99 %` or `< 0.01 %`.
    """
    if share is None:
        return "–"
    if not math.isfinite(share):
        return str(share)
    sign, size = "−" if share < 0 else "", abs(share)
    if size >= _WHOLE or size == 0:
        return f"{sign}{100 * (1.0 if _WHOLE <= size < 1 else size):.{digits}f} %"
    for places in (digits, digits + 1):
        text = f"{100 * size:.{places}f}"
        if 0 < float(text) < 100:
            return f"{sign}{text} %"
    least = 10.0 ** -(digits + 1)
    return f"> {sign}{100 - least:.{digits + 1}f} %" if size > 0.5 else f"< {sign}{least:.{digits + 1}f} %"
