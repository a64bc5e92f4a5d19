"""Writing so that nothing is lost, on good disks and on bad ones; and one process at a time in a folder."""

import errno
import fcntl
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from convoscope.errors import InUseError, MachineError
from convoscope.files import (
    FolderLock,
    atomic_write,
    check_plain,
    clear_leftovers,
    json_bytes,
    keep_copy,
    lies_in,
    machine_error,
    make_own_folder,
    open_own,
    open_plain,
    write_bytes,
    write_json,
)
from tests.support.planted_files import CHANGED, FOLDERS, REPLACED, Plant, Victim, folder_link, hard_link, link


def failing(number: int) -> Callable[..., Any]:
    def fail(*_: Any, **__: Any) -> Any:
        raise OSError(number, os.strerror(number))

    return fail


def test_a_file_is_replaced_wholly_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    write_bytes(path, b"old")
    with pytest.raises(ZeroDivisionError), atomic_write(path) as file:
        file.write(b"half of the new")
        raise ZeroDivisionError
    assert path.read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.txt"]
    write_bytes(path, b"new")
    assert path.read_bytes() == b"new"


@pytest.mark.parametrize("call", ["fsync", "replace"])
@pytest.mark.parametrize(
    ("number", "code", "words"),
    [
        (errno.ENOSPC, "disk-full", "the disk is full (needs 5.0 MB, "),
        (errno.EDQUOT, "disk-full", "the disk is full (needs 5.0 MB, "),
        (errno.EACCES, "no-permission", "no permission: Permission denied"),
        (errno.EROFS, "no-permission", "no permission: Read-only file system"),
        (errno.EIO, "system-error", "the system says: Input/output error"),
    ],
)
def test_a_disk_that_refuses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, number: int, code: str, words: str
) -> None:
    path = tmp_path / "a.txt"
    write_bytes(path, b"old")
    with monkeypatch.context() as patch:
        patch.setattr(os, call, failing(number))
        with pytest.raises(MachineError) as caught:
            write_bytes(path, bytes(5_000_000))
    assert (caught.value.code, caught.value.path) == (code, str(path))
    assert caught.value.reason.startswith(words)
    assert path.read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.txt"]


def test_a_full_disk_that_cannot_be_asked_is_still_named() -> None:
    error = machine_error("/nowhere/at/all.txt", OSError(errno.ENOSPC, "No space left on device"))
    assert (error.code, error.reason) == ("disk-full", "the disk is full")


@pytest.mark.parametrize("number", [errno.EPERM, errno.ENOTSUP, errno.EMLINK])
def test_a_copy_is_kept_where_there_are_no_hard_links(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """USB sticks (exFAT) and some network shares know no hard links."""
    last, previous = tmp_path / "last", tmp_path / "previous"
    last.write_bytes(b"one")
    for _ in range(2):
        keep_copy(last, previous)
        assert previous.samefile(last)
        assert len(list(tmp_path.iterdir())) == 2
    write_bytes(last, b"two")
    assert previous.read_bytes() == b"one"
    monkeypatch.setattr(os, "link", failing(number))
    keep_copy(last, previous)
    assert previous.read_bytes() == b"two"
    assert not previous.samefile(last)
    monkeypatch.setattr(os, "link", failing(errno.EIO))
    with pytest.raises(MachineError):
        keep_copy(last, previous)
    assert {entry.name for entry in tmp_path.iterdir()} == {"last", "previous"}


def test_a_disk_that_cannot_sync_a_folder_is_good_enough(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sync = os.fsync

    def no_folders(descriptor: int) -> None:
        if Path(f"/proc/self/fd/{descriptor}").is_dir():
            failing(errno.EINVAL)()
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", no_folders)
    write_bytes(tmp_path / "a.txt", b"new")
    assert (tmp_path / "a.txt").read_bytes() == b"new"


def test_names_that_are_no_text_become_json_that_reads_back(tmp_path: Path) -> None:
    names = [os.fsdecode(b"\xff\xfe.png"), "a\nb\x1b", "日本"]
    write_json(tmp_path / "a.json", names)
    for content in (json_bytes(names), (tmp_path / "a.json").read_bytes()):
        assert json.loads(content.decode("utf-8")) == names
    with pytest.raises(ValueError, match="not JSON compliant"):
        json_bytes(float("nan"))


def test_what_lies_in_a_folder(tmp_path: Path) -> None:
    (tmp_path / "data" / "cat").mkdir(parents=True)
    (tmp_path / "link").symlink_to("data")
    data = tmp_path / "data"
    for inside in (data, data / "run", data / "cat" / ".." / "run", tmp_path / "link" / "run"):
        assert lies_in(inside, data)
        assert lies_in(inside, tmp_path / "link")
    for outside in (tmp_path / "run", data / ".." / "run", tmp_path / "data2"):
        assert not lies_in(outside, data)
    assert not lies_in(tmp_path / "run", tmp_path / "no folder")


def test_a_mapped_file_that_is_cut_ends_the_process_with_a_sentence(tmp_path: Path) -> None:
    program = f"""
import numpy as np
from convoscope.files import tell_lost_pages
tell_lost_pages()
path = {str(tmp_path / "images")!r}
open(path, "wb").write(bytes(1 << 20))
mapped = np.memmap(path, np.uint8, "r")
open(path, "wb").close()
np.take(mapped, np.arange(1000))
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 5
    assert ended.stderr.startswith("error: a file that is read from went away or was cut; what was saved stays\nhint: ")


# --- what somebody else has put there ----------------------------------------------------------------------------------


@pytest.fixture
def victim(tmp_path: Path) -> Victim:
    return Victim(tmp_path / "elsewhere")


@pytest.mark.parametrize("plant", REPLACED)
def test_only_a_plain_file_is_replaced(tmp_path: Path, victim: Victim, plant: Plant) -> None:
    place = tmp_path / "a.txt"
    plant(place, victim)
    before = place.lstat()
    with pytest.raises(MachineError) as caught:
        write_bytes(place, b"new")
    assert (caught.value.code, caught.value.path) == ("not-a-plain-file", str(place))
    assert caught.value.reason.endswith("; expected a plain file")
    assert caught.value.hint.endswith(f"ls -ld {place}")
    assert place.lstat() == before
    assert victim.untouched()
    assert {entry.name for entry in tmp_path.iterdir()} == {"a.txt", "elsewhere"}


def test_a_device_is_not_replaced() -> None:
    with pytest.raises(MachineError, match="/dev/full: is a device; expected a plain file"):
        check_plain("/dev/full")


@pytest.mark.parametrize("plant", [link, hard_link])
def test_a_temporary_file_is_always_a_new_one(tmp_path: Path, victim: Victim, plant: Plant) -> None:
    plant(tmp_path / f".a.txt.{os.getpid()}.tmp", victim)
    write_bytes(tmp_path / "a.txt", b"new")
    plant(tmp_path / ".b.txt.tmp", victim)
    keep_copy(tmp_path / "a.txt", tmp_path / "b.txt")
    assert (tmp_path / "b.txt").read_bytes() == b"new"
    assert victim.untouched()
    assert {entry.name for entry in tmp_path.iterdir()} == {"a.txt", "b.txt", "elsewhere"}


@pytest.mark.parametrize("plant", CHANGED)
def test_a_file_that_is_changed_in_place_is_a_folders_own(tmp_path: Path, victim: Victim, plant: Plant) -> None:
    plant(tmp_path / ".lock", victim)
    with pytest.raises(MachineError) as caught:
        FolderLock(tmp_path)
    assert caught.value.code == "not-a-plain-file"
    if plant is hard_link:
        lock = tmp_path / ".lock"
        assert caught.value.hint.endswith(f"cp {lock} {lock}.own && mv {lock}.own {lock}")
        subprocess.run(["sh", "-c", caught.value.hint.partition("with: ")[2]], check=True)
        FolderLock(tmp_path).release()
    assert victim.untouched()


def test_a_link_that_comes_between_the_look_and_the_opening_is_not_followed(
    tmp_path: Path, victim: Victim, monkeypatch: pytest.MonkeyPatch
) -> None:
    link(tmp_path / "a.txt", victim)
    monkeypatch.setattr("convoscope.files.check_plain", lambda *_, **__: None)
    with pytest.raises(OSError, match="symbolic links"), open(tmp_path / "a.txt", "ab", opener=open_own):
        pass
    hard_link(tmp_path / "b.txt", victim)
    with pytest.raises(MachineError), open(tmp_path / "b.txt", "ab", opener=open_own):
        pass
    assert victim.untouched()


@pytest.mark.parametrize("plant", FOLDERS)
def test_a_folder_within_a_run_is_no_link(tmp_path: Path, victim: Victim, plant: Plant) -> None:
    plant(tmp_path / "test", victim)
    with pytest.raises(MachineError, match="; expected a plain folder") as caught:
        make_own_folder(tmp_path / "test")
    assert caught.value.code == "not-a-plain-file"
    assert victim.untouched()


def test_reading_follows_a_link_and_does_not_wait_for_a_pipe(tmp_path: Path, victim: Victim) -> None:
    link(tmp_path / "a.txt", victim)
    with open(tmp_path / "a.txt", "rb", opener=open_plain) as file:
        assert file.read() == b"precious"
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(MachineError, match="is a named pipe; expected a plain file"):
        open(tmp_path / "pipe", "rb", opener=open_plain)  # noqa: SIM115


def test_removing_leftovers_follows_no_link(tmp_path: Path, victim: Victim) -> None:
    link(tmp_path / ".a.1.tmp", victim)
    folder_link(tmp_path / ".b.1.tmp", victim)
    clear_leftovers(tmp_path)
    assert {entry.name for entry in tmp_path.iterdir()} == {"elsewhere"}
    assert victim.untouched()


# --- one process at a time ---------------------------------------------------------------------------------------------


def test_a_lock_names_its_holder_and_is_freed(tmp_path: Path) -> None:
    with FolderLock(tmp_path):
        with pytest.raises(InUseError, match=f"in use by process {os.getpid()} since 20") as caught:
            FolderLock(tmp_path)
        assert caught.value.code == "folder-in-use"
    with FolderLock(tmp_path):
        assert (tmp_path / ".lock").read_text().count("process") == 1


def test_the_lock_of_a_killed_process_frees_itself(tmp_path: Path) -> None:
    program = f"""
import time
from pathlib import Path
from convoscope.files import FolderLock
lock = FolderLock(Path({str(tmp_path)!r}))
print("held", flush=True)
time.sleep(100)
"""
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    with pytest.raises(InUseError, match=f"in use by process {process.pid} since"):
        FolderLock(tmp_path)
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    FolderLock(tmp_path).release()


def test_a_lock_on_a_full_disk_is_an_error_of_the_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fcntl, "flock", failing(errno.ENOSPC))
    with pytest.raises(MachineError) as caught:
        FolderLock(tmp_path)
    assert (caught.value.code, caught.value.path) == ("disk-full", str(tmp_path / ".lock"))


def test_leftovers_of_killed_processes_are_removed(tmp_path: Path) -> None:
    for name in (".last.safetensors.123.tmp", ".previous.safetensors.tmp", "mine.tmp", ".lock", "last.safetensors"):
        (tmp_path / name).touch()
    clear_leftovers(tmp_path)
    assert {entry.name for entry in tmp_path.iterdir()} == {"mine.tmp", ".lock", "last.safetensors"}


@pytest.mark.parametrize("number", [32, 33, 1224])
def test_a_file_that_another_program_holds_is_named_so(number: int) -> None:
    error = PermissionError(errno.EACCES, "the process cannot access the file")
    error.winerror = number  # type: ignore[attr-defined]  # as on Windows
    found = machine_error("run/best.safetensors", error)
    assert (found.code, found.reason) == ("file-in-use", "another program has it open")
    assert "close it there" in found.hint
