"""How estimated durations are said."""

from __future__ import annotations


def rough_duration(seconds: float) -> str:
    """A duration that is only known roughly: `a second`, `40 s`, `9 min`, `1 h 20 min`, `3 days`."""
    if seconds < 1.5:
        return "a second"
    if seconds < 9.5:
        return f"{round(seconds)} s"
    if seconds < 87.5:
        return f"{5 * round(seconds / 5)} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    if minutes < 10 * 60:
        minutes = 5 * round(minutes / 5)
        return f"{minutes // 60} h {minutes % 60} min" if minutes % 60 else f"{minutes // 60} h"
    hours = round(seconds / 3600)
    return f"{hours} h" if hours < 48 else f"{round(seconds / 86_400)} days"
