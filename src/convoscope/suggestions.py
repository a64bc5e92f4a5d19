"""What a misspelt name is likely to mean: the one place for "did you mean" and "the nearest"."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

_LONGEST = 200
"""Characters of a word that are compared; the time grows with their square."""


def nearest_names(word: object, known: Iterable[str], *, most: int = 1, cutoff: float = 0.6) -> list[str]:
    """The known names that are most like `word`, the most similar first. Upper and lower case count as the same.

    Args:
        most: how many names at most.
        cutoff: how similar they must be, from 0 (anything) to 1 (equal).
    """
    folded = {name.casefold(): name for name in known}
    found = difflib.get_close_matches(str(word)[:_LONGEST].casefold(), folded, most, cutoff)
    return [folded[name] for name in found]


def did_you_mean(word: object, known: Iterable[str], *, prefix: str = "") -> str:
    """`did you mean relu?`, with `prefix` before the name; empty where no known name is similar."""
    near = nearest_names(word, known)
    return f"did you mean {prefix}{near[0]}?" if near else ""


def the_nearest(word: object, known: Iterable[str], *, most: int = 5, cutoff: float = 0.4) -> str:
    """`the nearest: conv1, conv2`; empty where no known name is similar."""
    near = nearest_names(word, known, most=most, cutoff=cutoff)
    return f"the nearest: {', '.join(near)}" if near else ""
