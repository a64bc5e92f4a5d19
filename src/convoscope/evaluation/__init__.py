"""Run + images -> scores, curves of invariance, a report, a comparison. See docs/testing.md."""

from .assessment import test
from .charts import rates_chart
from .comparison import ComparedRun, Comparison, compare
from .comparison_page import write_comparison
from .report import write_report
from .result_files import read_scores
from .results import Calibration, Gap, Invariance, Mistake, Scores, Unknown
from .spread import Spread
from .text import percent

__all__ = [
    "Calibration",
    "ComparedRun",
    "Comparison",
    "Gap",
    "Invariance",
    "Mistake",
    "Scores",
    "Spread",
    "Unknown",
    "compare",
    "percent",
    "rates_chart",
    "read_scores",
    "test",
    "write_comparison",
    "write_report",
]
