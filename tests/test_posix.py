"""What only POSIX systems offer: locks, limits, and the sentence where there is neither."""

import subprocess
import sys
from pathlib import Path

import pytest

from convoscope.posix import lock_file, memory_limit, page_bytes, usable_cores


def python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


def test_a_lock_is_alone_or_shared(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    path.touch()
    with open(path) as one, open(path) as two:
        lock_file(one, shared=True)
        lock_file(two, shared=True)
        with pytest.raises(BlockingIOError):
            lock_file(one)
    with open(path) as one, open(path) as two:
        lock_file(one, wait=True)
        with pytest.raises(BlockingIOError):
            lock_file(two, shared=True)


def test_a_limit_holds_and_cannot_be_raised_again() -> None:
    code = """
from convoscope.posix import limit_process, memory_limit
assert memory_limit() is None or memory_limit() > 10**9
limit_process("memory bytes", 10**9)
limit_process("memory bytes", 10**10)
assert memory_limit() == 10**9
bytearray(2 * 10**9)
"""
    ended = python(code)
    assert ended.returncode == 1 and ended.stderr.rstrip().endswith("MemoryError")


def test_what_the_system_has() -> None:
    assert usable_cores() >= 1
    assert page_bytes() >= 4096
    assert memory_limit() is None or memory_limit() > 0  # type: ignore[operator]


def test_another_system_is_refused_in_one_sentence() -> None:
    ended = python("import os; os.name = 'nt'; import convoscope.posix")
    assert ended.returncode == 1
    assert ended.stderr.rstrip().endswith(
        "convoscope runs on Linux and macOS; on Windows, use it inside WSL (aka.ms/wsl)"
    )
