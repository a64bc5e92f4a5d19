"""Evaluation mode for a while."""

import pytest
from torch import nn

from convoscope.models import eval_mode


def test_every_part_gets_its_own_mode_back_also_after_an_error() -> None:
    inner = nn.Sequential(nn.BatchNorm2d(2), nn.ReLU())
    module = nn.Sequential(nn.Dropout(), inner).train()
    inner.eval()
    inner[1].train()
    modes = [part.training for part in module.modules()]
    with eval_mode(module):
        assert not any(part.training for part in module.modules())
    assert [part.training for part in module.modules()] == modes
    with pytest.raises(RuntimeError), eval_mode(module):
        raise RuntimeError
    assert [part.training for part in module.modules()] == modes
