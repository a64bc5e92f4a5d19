"""Freed memory stays with a training and goes back to the system after it."""

import subprocess
import sys

import pytest

PROGRAM = """
import re, sys
import torch
from convoscope.training.core.malloc import freed_memory_kept

def held():
    with open("/proc/self/status", encoding="ascii") as file:
        return int(re.search(r"RssAnon:\\s+(\\d+)", file.read())[1]) / 1000

def use():
    torch.ones(50_000_000)
    return held()

before = held()
plain = use()
with freed_memory_kept():
    kept = use()
print(plain - before, kept - before, held() - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="about glibc")
def test_freed_memory_is_kept_and_given_back() -> None:
    result = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    plain, kept, after = map(float, result.stdout.split())
    assert plain < 50  # megabytes, of the 200 that were used for a moment
    assert kept > 150
    assert after < 50
