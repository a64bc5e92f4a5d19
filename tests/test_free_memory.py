"""How much memory is left, and what is said where it does not suffice."""

import errno
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from convoscope.errors import DataError, MachineError
from convoscope.free_memory import free_memory, memory_for, out_of_memory, ran_out, refused

MEMINFO = "MemTotal:       8000000 kB\nMemFree:  1000 kB\nMemAvailable:    3000000 kB\nSwapFree:  2000000 kB\nHugePages_Total:       0\n"


def machine(root: Path, files: dict[str, str]) -> Path:
    for name, text in {"proc/meminfo": MEMINFO, **files}.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def group(folder: str, version: int, most: str, used: int, droppable: int) -> dict[str, str]:
    names = ("memory.max", "memory.current", "inactive_file")
    if version == 1:
        names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
    limit, current, key = names
    return {
        f"{folder}/{limit}": f"{most}\n",
        f"{folder}/{current}": f"{used}\n",
        f"{folder}/memory.stat": f"anon 5\n{key} {droppable}\n",
    }


def test_what_the_machine_has(tmp_path: Path) -> None:
    root = machine(tmp_path, {})
    assert free_memory(root=root) == 3_072_000_000
    assert free_memory(swap=True, root=root) == 5_120_000_000


def test_a_container_has_less(tmp_path: Path) -> None:
    files = {"proc/self/cgroup": "0::/app/job\n"} | group("sys/fs/cgroup/app", 2, "1000000000", 400_000_000, 50_000_000)
    files |= group("sys/fs/cgroup/app/job", 2, "max", 400_000_000, 50_000_000)
    root = machine(tmp_path, files)
    assert free_memory(root=root) == 650_000_000
    assert free_memory(swap=True, root=root) == 650_000_000


def test_a_container_that_sees_only_itself(tmp_path: Path) -> None:
    """Its own limit lies at the top, whatever its path is called outside."""
    files = {"proc/self/cgroup": "0::/../../elsewhere\n"} | group("sys/fs/cgroup", 2, "700000000", 900_000_000, 0)
    assert free_memory(root=machine(tmp_path, files)) == 0


def test_a_container_of_the_first_version(tmp_path: Path) -> None:
    files = {"proc/self/cgroup": "5:cpu,cpuacct:/x\n3:memory:/docker/abc\n"}
    files |= group("sys/fs/cgroup/memory", 1, "9223372036854771712", 1, 0)
    files |= group("sys/fs/cgroup/memory/docker/abc", 1, "500000000", 100_000_000, 1_000)
    assert free_memory(root=machine(tmp_path, files)) == 400_001_000


def test_a_system_that_does_not_say(tmp_path: Path) -> None:
    assert free_memory(root=tmp_path) is None
    assert free_memory(root=machine(tmp_path, {"proc/meminfo": "odd\n", "proc/self/cgroup": "0::/\n"})) is None


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="asks Linux")
def test_this_machine() -> None:
    free = free_memory()
    assert free is not None and 0 < free < 2**50


def failure_of_torch() -> Exception:
    try:
        torch.empty(2**60, dtype=torch.uint8)
    except RuntimeError as error:
        return error
    raise AssertionError


def failure_of_numpy() -> Exception:
    try:
        np.zeros(2**60, np.uint8)
    except MemoryError as error:
        return error
    raise AssertionError


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        failure_of_torch(),
        failure_of_numpy(),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
        RuntimeError("std::bad_alloc"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: not enough memory: you tried to allocate 8 bytes."),
        OSError(errno.ENOMEM, "Cannot allocate memory"),
        ImportError("libtorch_cpu.so: failed to map segment from shared object"),
    ],
)
def test_errors_of_memory(error: Exception) -> None:
    assert ran_out(error)


@pytest.mark.parametrize(
    "error", [RuntimeError("mat1 and mat2"), OSError(errno.ENOSPC, "full"), ImportError("no module"), ValueError()]
)
def test_other_errors(error: Exception) -> None:
    assert not ran_out(error)
    with pytest.raises(type(error)), memory_for(lambda free: out_of_memory("x", None, free)):
        raise error


def test_what_is_said() -> None:
    error = out_of_memory("a batch of 64 at 224x224", 3_100_000_000, 1_800_000_000, hint="try --set batch_size=16")
    assert str(error) == "memory: a batch of 64 at 224x224 needs about 3.1 GB, 1.8 GB are free"
    assert (error.code, error.exit_code, error.hint) == ("out-of-memory", 5, "try --set batch_size=16")
    told = [out_of_memory("x", *figures).reason for figures in ((None, None), (5, None), (None, 9), (5, 9))]
    assert told == [
        "x does not fit",
        "x needs about 5 B",
        "x does not fit; of 9 B that were free not enough could be had",
        "x needs about 5 B; of 9 B that were free not enough could be had",
    ]
    assert (
        refused(failure_of_torch(), 5_000).reason
        == "it ran out when 1152921.5 TB more were needed; 5.0 kB were free at the beginning"
    )
    assert refused(failure_of_numpy(), None).reason == "it ran out when 1152921.5 TB more were needed"
    assert refused(MemoryError(), None).reason == "it ran out"


def test_errors_with_a_name_pass_through() -> None:
    with pytest.raises(DataError), memory_for(lambda free: out_of_memory("x", None, free)):
        raise DataError("x", "not enough memory", code="odd")
    with (
        pytest.raises(MachineError, match="x needs about 7 B"),
        memory_for(lambda free: out_of_memory("x", 7, free), lambda: 3),
    ):
        raise MemoryError
