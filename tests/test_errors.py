"""Errors: what they say, and that each cause has a test."""

import pickle
import re
from pathlib import Path

import pytest

from convoscope import errors
from convoscope.errors import ConvoscopeError, Interrupted, printable, shell_word

ROOT = Path(__file__).parents[1]


def test_every_code_is_named_in_a_test() -> None:
    """A code without a test that expects it may have a message nobody has ever read."""
    source = "\n".join(path.read_text("utf-8") for path in (ROOT / "src").rglob("*.py"))
    tests = "\n".join(path.read_text("utf-8") for path in (ROOT / "tests").rglob("*.py") if path != Path(__file__))
    codes = set(re.findall(r'code\s*=\s*"([a-z0-9-]+)"', source)) | set(re.findall(r'"(image-[a-z-]+)"', source))
    assert len(codes) > 50
    assert {code for code in codes if f'"{code}"' not in tests} == set()


@pytest.mark.parametrize(
    ("kind", "exit_code"),
    [
        ("UsageError", 2),
        ("DataError", 3),
        ("ModelFileError", 4),
        ("MachineError", 5),
        ("InUseError", 6),
        ("Interrupted", 130),
    ],
)
def test_exit_codes(kind: str, exit_code: int) -> None:
    error: ConvoscopeError = getattr(errors, kind)("photos/1.jpg", "the JPEG ends early", hint="skip it", code="x")
    assert error.exit_code == exit_code
    assert str(error) == "photos/1.jpg: the JPEG ends early"


def test_signals_give_their_own_exit_code() -> None:
    assert Interrupted("", "stopped", code="x", signal=15).exit_code == 143


def test_errors_cross_process_borders() -> None:
    error = errors.DataError("a\nb.jpg", "is no picture", hint="look", code="image-foreign")
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), again.path, again.reason, again.hint, again.code) == (
        errors.DataError, "a\\nb.jpg", "is no picture", "look", "image-foreign",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("Käse 日本.jpg", "Käse 日本.jpg"),
        ("a\x1b[31m.jpg", "a\\x1b[31m.jpg"),
        ("a\nb", "a\\nb"),
        ("\udcff.jpg", "\\udcff.jpg"),
    ],
)
def test_names_are_safe_to_print(name: str, shown: str) -> None:
    assert printable(name) == shown


@pytest.mark.parametrize(
    ("path", "typed"),
    [("runs/a-1", "runs/a-1"), ("my runs/a", "'my runs/a'"), ("a\x1b", "'a\\x1b'"), ("$(x)", "'$(x)'")],
)
def test_paths_in_commands_can_be_copied(path: str, typed: str) -> None:
    assert shell_word(path) == typed
