"""Run + images -> scores, curves of invariance, a report, a comparison. See docs/testing.md."""

from .comparison import Comparison, compare, write_comparison
from .report import write_report
from .scores import Scores
from .testing import read_scores, test

__all__ = [
    "Comparison",
    "Scores",
    "compare",
    "read_scores",
    "test",
    "write_comparison",
    "write_report",
]
