"""Numbers as people read them, on the terminal, on pages and in figures."""

from __future__ import annotations

import math

from ..render import percent

__all__ = ["area_text", "counted", "finite", "number_text", "part_name", "percent", "seconds_text"]


def finite(value: float | None) -> float | None:
    """The value, or None where it is not finite, as in a training that diverged: charts and JSON cannot show it."""
    return value if value is not None and math.isfinite(value) else None


def area_text(area: float | None) -> str:
    """The area under a curve, 0..1: three digits, four where three would make it 1; a dash for none."""
    if area is None:
        return "–"
    text = f"{area:.3f}"
    return text if text != "1.000" or area > 1 - 1e-12 else f"{min(area, 0.9999):.4f}"


def number_text(value: float | None) -> str:
    """A number with four meaningful digits; a dash for none."""
    if value is None:
        return "–"
    value = value + 0.0  # no negative zero
    text = f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
    return text.replace("-", "−", 1) if text.startswith("-") else text


def seconds_text(seconds: float) -> str:
    """A duration: `48 s`, `3 min 12 s`, `2 h 5 min`."""
    if seconds < 1:
        return f"{seconds:.2f} s"
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def counted(count: int, one: str, many: str = "") -> str:
    """`1 image`, `1,204 images`."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def part_name(split: str) -> str:
    """A part of a dataset in words."""
    return "all images" if split == "all" else f"the {split} part"
