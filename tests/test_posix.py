"""What operating systems do differently: locks, limits, and what holds where there is neither."""

import os
import select
import signal
import socket
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from convoscope import posix
from convoscope.posix import (
    apart_and_patient,
    ask_to_end,
    end_at_once,
    has_reader,
    is_only_ours,
    is_root,
    limit_process,
    lock_file,
    memory_limit,
    open_file,
    page_bytes,
    portable_stem,
    read_at,
    replace_file,
    take_port_alone,
    usable_cores,
)


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


def test_without_fcntl_filelock_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "lock"
    path.touch()
    with open(path) as native:
        lock_file(native)
        monkeypatch.setattr(posix, "_fcntl", None)
        with open(path) as one, pytest.raises(BlockingIOError):
            lock_file(one)
    with open(path, "r+b") as one, open(path) as two:
        lock_file(two, shared=True)  # does nothing: the open file is the mark
        lock_file(one, wait=True)
        with pytest.raises(BlockingIOError):
            lock_file(two)


def test_without_limits_nothing_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(posix, "_resource", None)
    limit_process("file bytes", 0)
    assert memory_limit() is None
    monkeypatch.delattr(select, "poll")
    assert has_reader(1)
    monkeypatch.delattr(os, "geteuid")
    assert not is_root()
    assert is_only_ours(Path("/").stat())


def test_a_part_of_a_file_is_read_with_and_without_pread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_bytes(bytes(range(100)))
    descriptor = open_file(tmp_path / "file", os.O_RDONLY)
    try:
        for _ in range(2):
            assert [read_at(descriptor, 3, at) for at in (0, 97, 98, 100, 5)] == [
                b"\0\1\2", b"abc", b"bc", b"", b"\5\6\7",
            ]  # fmt: skip
            monkeypatch.delattr(os, "pread", raising=False)
    finally:
        os.close(descriptor)


def test_a_file_that_is_held_for_a_moment_is_replaced_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries = 0

    def replace(source: Path, target: Path) -> None:
        nonlocal tries
        tries += 1
        if tries < 3:
            raise PermissionError("a virus scanner has it open")
        source.rename(target)

    monkeypatch.setattr(os, "replace", replace)
    (tmp_path / "new").write_text("new")
    with pytest.raises(PermissionError):
        replace_file(tmp_path / "new", tmp_path / "old")
    assert tries == 1, "where open files move, there is nothing to wait for"
    monkeypatch.setattr(posix, "OPEN_FILES_MOVE", False)
    replace_file(tmp_path / "new", tmp_path / "old")
    assert (tries, (tmp_path / "old").read_text()) == (3, "new")


@pytest.mark.parametrize(
    ("stem", "name"),
    [("aux", "aux-"), ("CON", "CON-"), ("nul.1", "nul.1-"), ("com7", "com7-"), ("aux1", "aux1"), ("conv1", "conv1"), ("console", "console")],
)  # fmt: skip
def test_no_file_is_named_like_a_device_of_windows(stem: str, name: str) -> None:
    assert portable_stem(stem) == name


def test_processes_of_windows_are_started_and_ended_in_its_own_way(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[tuple[int, int]] = []
    monkeypatch.setattr(os, "kill", lambda process, number: sent.append((process, number)))
    ask_to_end(1)
    end_at_once(2)
    assert apart_and_patient(10) == {"process_group": 0}
    monkeypatch.setattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0x200, raising=False)
    monkeypatch.setattr(subprocess, "BELOW_NORMAL_PRIORITY_CLASS", 0x4000, raising=False)
    monkeypatch.setattr(signal, "CTRL_BREAK_EVENT", 1, raising=False)
    monkeypatch.delattr(signal, "SIGKILL")
    ask_to_end(3)
    end_at_once(4)
    assert sent == [(1, 15), (2, 9), (3, 1), (4, 15)]
    assert (apart_and_patient(0), apart_and_patient(10)) == ({"creationflags": 0x200}, {"creationflags": 0x4200})


def test_on_windows_a_port_is_taken_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[tuple[int, int, int]] = []
    listener: Any = SimpleNamespace(setsockopt=lambda *option: taken.append(option))
    take_port_alone(listener)
    monkeypatch.setattr(socket, "SO_EXCLUSIVEADDRUSE", -5, raising=False)
    take_port_alone(listener)
    assert taken == [(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1), (socket.SOL_SOCKET, -5, 1)]
