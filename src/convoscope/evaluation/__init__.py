"""Run + images -> scores, curves of invariance, a report, a comparison. See docs/testing.md."""

from .assessment import read_scores, test
from .comparison import Comparison, compare, write_comparison
from .measures import Scores
from .report import write_report

__all__ = [
    "Comparison",
    "Scores",
    "compare",
    "read_scores",
    "test",
    "write_comparison",
    "write_report",
]
