"""Scores as bars."""

import numpy as np
import torch

from convoscope import explain as figures
from tests.support.figures import BLUE, RED, has, is_sheet


def test_scores(written: list[str]) -> None:
    sheet = figures.scores_bars(
        torch.tensor([[2.0, -1.0, 0.5]]), ["cat", "dog", "w" * 99], probabilities=[0.9, 0.0004, 0.0996]
    )
    assert is_sheet(sheet) and has(sheet, RED) and has(sheet, BLUE)
    assert {"cat", "dog", "2.000", "−1.000", "90.0 %", "0.04 %", "10.0 %"} <= set(written)
    written.clear()
    figures.scores_bars(np.arange(1000.0))
    assert "1,000 classes · the 20 highest shown" in written and "999" in written and "979" not in written
    written.clear()
    figures.scores_bars([-1.5], ["cat", "dog"])
    assert {"dog (below zero: cat)", "−1.500"} <= set(written)
