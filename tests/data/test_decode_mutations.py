"""Damaged and hostile pictures by the thousand, decoded in child processes under limits: pixels or a typed reason, never a death."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from convoscope.data.decode import decode_bytes
from convoscope.errors import DataError
from tests.support import mutations
from tests.support.mutations import PICTURES, decode, mutated

FORMATS = ("jpeg", "png", "gif", "webp", "bmp", "tiff")
EACH = 10_000 if os.environ.get("HYPOTHESIS_PROFILE") == "long" else 500

KEPT: tuple[tuple[str, int], ...] = ()
"""Damages that once went wrong: they are looked at in every run, for ever."""


def faults_of(program: str) -> list[str]:
    """What a child process found wrong with its pictures, and if it died, with which one and how."""
    result = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
        env=os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
        timeout=600,
        check=False,
    )
    lines = result.stdout.splitlines()
    faults = [line.removeprefix("fault ") for line in lines if line.startswith("fault ")]
    if result.returncode != 0:
        last = next((line.removeprefix("next ") for line in reversed(lines) if line.startswith("next ")), "none")
        faults.append(f"{last}: the child ended with {result.returncode}; {result.stderr[-500:]}")
    return faults


def told(faults: list[str]) -> str:
    """The faults and how to see them again."""
    return "\n".join(["see one again: python -m tests.support.mutations NAME NUMBER", *faults[:10]])


@pytest.mark.parametrize("name", PICTURES)
def test_each_picture_is_good_before_it_is_damaged(name: str) -> None:
    for form in mutations.FORMS:
        assert decode_bytes(PICTURES[name], form, tiff=True).pixels.shape == (form.height, form.width, form.channels)


@pytest.mark.parametrize("format_", FORMATS)
def test_damaged_pictures_give_pixels_or_a_reason(format_: str) -> None:
    names = [name for name in PICTURES if name.startswith(format_)]
    faults = faults_of(f"from tests.support import mutations; mutations.child({names}, range({EACH}))")
    assert not faults, told(faults)


def test_damages_that_once_went_wrong() -> None:
    for name, number in KEPT:
        assert decode(mutated(name, number), number) == "", f"{name} {number}"


def test_a_damage_can_be_seen_again() -> None:
    assert mutated("png", 7) == mutated("png", 7) != mutated("png", 8)
    # Not all damages end at the first check: some pictures must still decode, and PNGs get past their checksums.
    for name in ("jpeg", "png", "gif", "webp", "bmp"):
        good = sum(mutated(name, number) != PICTURES[name] and not _reason(name, number) for number in range(200))
        assert good >= 3, name
    assert any("cannot be decoded" in _reason("png", number) for number in range(200))


def _reason(name: str, number: int) -> str:
    try:
        decode_bytes(mutated(name, number), mutations.FORMS[0])
    except DataError as error:
        return error.reason
    return ""


@pytest.mark.parametrize(
    ("look", "words"),
    [
        ("os.kill(os.getpid(), signal.SIGSEGV)", "the child ended with -11"),
        ("os._exit(3)", "the child ended with 3"),
        ("decode(5, 0)", "AttributeError"),
        ("np.ones(400_000_000, np.uint8)", "MemoryError"),
        ("[sum(range(1000)) for _ in iter(lambda: time.process_time() < begin + 0.4, False)]", "seconds of the processor"),
        ("[sum(range(1000)) for _ in iter(int, 1)]", "the child ended with -27"),
    ],
    ids=["dies", "leaves", "untyped", "memory", "slow", "hangs"],
)  # fmt: skip
def test_the_child_sees_what_goes_wrong(look: str, words: str) -> None:
    program = f"""
import os, signal, time, traceback
import numpy as np
from tests.support import mutations
from tests.support.mutations import decode
mutations.CPU_SECONDS, mutations.HANGS_AFTER = 0.2, 1.0
def look(data, number):
    if number != 3:
        return ""
    begin = time.process_time()
    try:
        answer = {look}
        return answer if isinstance(answer, str) else ""
    except BaseException:
        return traceback.format_exc()
mutations.child(["png"], range(5), look)
"""
    faults = faults_of(program)
    assert len(faults) == 1
    assert faults[0].startswith("png 3:")
    assert words in faults[0]
