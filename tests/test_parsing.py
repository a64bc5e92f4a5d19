"""JSON and TOML are read within bounds: of bytes, of values, of depth, and of time."""

import os
import time
from pathlib import Path

import pytest
from pydantic import BaseModel, ValidationError

from convoscope import parsing
from convoscope.parsing import DEEPEST, faults_of, parse_json, parse_toml, read_json, read_toml


def test_depth_is_exact_and_brackets_in_strings_do_not_count() -> None:
    assert parse_json(b"[" * DEEPEST + b"]" * DEEPEST)
    assert parse_json(b'{"a": ["' + b"[" * 1000 + b'\\"[{"]}')
    for content in (
        b"[" * (DEEPEST + 1) + b"]" * (DEEPEST + 1),
        b'{"a":' * 70 + b"1" + b"}" * 70,
        b"[" * 10**6,
        b"[{" * 10**5,
    ):
        with pytest.raises(ValueError, match="nested more than 64 levels deep"):
            parse_json(content)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"1" * 21, "21 digits"),
        (b"[NaN]", "NaN is not a number"),
        (b"\xff", "utf-8"),
        (b"", "Expecting value"),
        (b"[" + b"1," * 2_000_000 + b"1]", "more than 2,000,000 values"),
        (b"[}", "Expecting value"),
    ],
)
def test_what_is_no_such_json_is_told(content: bytes, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        parse_json(content)


def test_twins_are_refused_where_they_matter() -> None:
    assert parse_json(b'{"a": 1, "a": 2}') == {"a": 2}
    with pytest.raises(ValueError, match="occurs twice"):
        parse_json(b'{"a": 1, "a": 2}', twins=False)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"a." * 100_000 + b"a = 1", "more than 8 parts"),
        (b"[" + b" 'a' ." * 100_000 + b"a]", "more than 8 parts"),
        (b"a = " + b"[" * 10_000 + b"]" * 10_000, "nested more than"),
        (b"a = " + b"[" * 70 + b"]" * 70, "nested more than"),
        (b"a = 0x" + b"f" * 500_000, "more than 64 bits"),
        (b"a = " + b"9" * 5_000, "digits"),
        (b"\n" * 60_001, "more than 60,000 values and lines"),
        (b"a" * 1_000_001, "more than 1.0 MB"),
        (b"a = \xff", "utf-8"),
    ],
)
def test_what_is_no_such_toml_is_told_at_once(content: bytes, words: str) -> None:
    begin = time.process_time()
    with pytest.raises(ValueError, match=words):
        parse_toml(content)
    assert time.process_time() - begin < 10


def test_a_run_of_20_000_classes_can_be_read() -> None:
    names = [f"class name number {number}" for number in range(20_000)]
    content = "classes = [\n" + "".join(f'    "{name}",\n' for name in names) + "]\n[record.engine]\nthreads = 1\n"
    assert parse_toml(content.encode())["classes"] == names


def test_files_are_bounded_and_are_files(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(b" " * 101)
    with pytest.raises(ValueError, match="more than 100 B; no more is read"):
        read_json(path, most=100)
    os.mkfifo(tmp_path / "pipe")
    for reader in (read_json, read_toml):
        with pytest.raises(ValueError, match="not a file"):
            reader(tmp_path / "pipe")
        with pytest.raises(FileNotFoundError):
            reader(tmp_path / "none")
    path.write_text("a = 1\r\nb = 'ü'\n", encoding="utf-8-sig")
    assert read_toml(path) == {"a": 1, "b": "ü"}
    assert parsing.MOST_TOML_BYTES == 1_000_000  # as the handbook says


class Small(BaseModel):
    count: int
    names: list[str]


def test_faults_are_told_in_one_short_line() -> None:
    with pytest.raises(ValidationError) as caught:
        Small.model_validate({"count": "x" * 1000, "names": [1, 2, 3, "\x1b", [[["y" * 1000] * 1000] * 1000]]})
    told = faults_of(caught.value)
    assert told.startswith("count: should be a valid integer") and "and 2 more" in told
    assert told.isprintable() and len(told) < 500
