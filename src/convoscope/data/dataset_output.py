"""A dataset in a notebook: its parts and classes, and some of its images."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from ..errors import ConvoscopeError
from ..render import Pixels, grid, heading, notebook, shorten, thumbnail

_MOST_ROWS = 20


def dataset_html(
    source: str,
    remarks: Sequence[str],
    kind: str,
    counts: Mapping[str, Mapping[str, int]],
    pictures: Sequence[tuple[str, Callable[[], Pixels]]],
) -> str:
    """Where it comes from, how many images each class has in each part, and a few of them.

    Args:
        source: where it comes from.
        remarks: plain sentences.
        kind: what the rows are: class, label.
        counts: part, then class, to number of images.
        pictures: names and ways to decode them.
    """
    parts = [part for part, numbers in counts.items() if sum(numbers.values())]
    names = list(next(iter(counts.values()), {}))
    rows = []
    for name in names[:_MOST_ROWS]:
        numbers = [counts[part][name] for part in parts]
        rows.append([shorten(name, 60), *(f"{number:,}" for number in numbers), f"{sum(numbers):,}"])
    return notebook(
        heading(f"Dataset {shorten(source, 120)}", *remarks),
        _row(pictures),
        grid([kind, *parts, "all"], rows, more=len(names) - len(rows)),
    )


def _row(pictures: Sequence[tuple[str, Callable[[], Pixels]]]) -> str:
    """The images that can be read. Whatever is wrong with the others is said by what works on them."""
    shown = []
    for name, decode in pictures:
        try:
            shown.append(thumbnail(decode(), name))
        except (ConvoscopeError, OSError):
            continue
    return f"<p>{''.join(shown)}</p>" if shown else ""
