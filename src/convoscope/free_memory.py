"""How much memory may still be had, and the error where it does not suffice. Needs no torch."""

from __future__ import annotations

import contextlib
import errno
import re
from collections.abc import Callable, Iterator
from pathlib import Path

from .errors import ConvoscopeError, MachineError
from .files import size_text
from .posix import memory_limit, page_bytes

_TEXTS = (
    "can't allocate memory",
    "can't start new thread",
    "not enough memory",
    "out of memory",
    "bad_alloc",
    "bad allocation",
)
"""How torch and the libraries below it say so in a RuntimeError."""
_UNITS = ("bytes", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB")
_HINT = "close other programs, or use smaller images or a smaller model"


def free_memory(*, swap: bool = False, root: Path = Path("/")) -> int | None:
    """Bytes that this process may still take: what the machine has available, or less where a limit or a container says
    so.

    Args:
        swap: count what the machine can move to its disk, too.
        root: where `proc` and `sys` are.

    Returns:
        None where the system does not say (other than Linux).
    """
    return min((*_machine(root, swap), *_limit(root), *_containers(root)), default=None)


def _machine(root: Path, swap: bool) -> Iterator[int]:
    with contextlib.suppress(OSError, KeyError, ValueError):
        lines = (line.split(":") for line in (root / "proc/meminfo").read_text().splitlines())
        values = {name: 1024 * int(value.split()[0]) for name, value in lines}
        yield values["MemAvailable"] + (values.get("SwapFree", 0) if swap else 0)


def _limit(root: Path) -> Iterator[int]:
    """What is left of the process's own limit (`ulimit -v`)."""
    with contextlib.suppress(OSError, ValueError):
        most = memory_limit()
        if most is not None:
            pages = int((root / "proc/self/statm").read_text().split()[0])
            yield max(0, most - pages * page_bytes())


def _containers(root: Path) -> Iterator[int]:
    """What is left in each control group above this process; files' pages there that can be dropped count as free."""
    lines: list[str] = []
    with contextlib.suppress(OSError):
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    for line in lines:
        _, kinds, path = line.split(":", 2)
        if kinds == "":
            top, most, used, droppable = root / "sys/fs/cgroup", "memory.max", "memory.current", "inactive_file"
        elif "memory" in kinds.split(","):
            top, most, used = root / "sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes"
            droppable = "total_inactive_file"
        else:
            continue
        place = top / path.lstrip("/")
        for folder in (place, *place.parents):
            if not folder.is_relative_to(top):
                break
            with contextlib.suppress(OSError, ValueError):  # `max`: no limit
                left = int((folder / most).read_text()) - int((folder / used).read_text())
                counts = dict(row.split() for row in (folder / "memory.stat").read_text().splitlines())
                yield max(0, left + int(counts.get(droppable, 0)))


def ran_out(error: BaseException) -> bool:
    """Whether an error of Python, NumPy, torch or the system says that memory could not be had."""
    if isinstance(error, ConvoscopeError):
        return False
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    if isinstance(error, ImportError):
        return "failed to map" in str(error) or "cannot allocate memory" in str(error).lower()
    return isinstance(error, RuntimeError) and any(text in str(error).lower() for text in _TEXTS)


def asked_for(error: BaseException) -> int | None:
    """How many bytes could not be had, as far as such an error says."""
    found = re.search(r"allocate (\d+(?:\.\d+)?) ?(bytes|[KMGTPE]iB)", str(error))
    return int(float(found[1]) * 1024 ** _UNITS.index(found[2])) if found else None


def out_of_memory(
    what: str, needed: int | None, free: int | None, *, hint: str = "", saved: bool = False
) -> MachineError:
    """The error of something that does not fit.

    Args:
        what: such as `a batch of 64 at 224x224`.
        needed, free: bytes, as far as they are known.
        hint: what to do.
        saved: whether it was a training that has a checkpoint.
    """
    reason = f"{what} needs about {size_text(needed)}" if needed else f"{what} does not fit"
    if free is not None:
        short = needed is not None and needed > free
        reason += (
            f", {size_text(free)} are free"
            if short
            else f"; of {size_text(free)} that were free not enough could be had"
        )
    if saved:
        reason += "; the last checkpoint is kept"
    return MachineError("memory", reason, hint=hint or _HINT, code="out-of-memory")


def refused(error: BaseException, free: int | None) -> MachineError:
    """The same of an error that was caught, for which `ran_out` holds: as much as it says. `free`: at the beginning."""
    asked, reason = asked_for(error), "it ran out"
    if asked is not None:
        reason += f" when {size_text(asked)} more were needed"
    if free is not None:
        reason += f"; {size_text(free)} were free at the beginning"
    return MachineError("memory", reason, hint=_HINT, code="out-of-memory")


@contextlib.contextmanager
def memory_for(
    error: Callable[[int | None], MachineError], free: Callable[[], int | None] = free_memory
) -> Iterator[None]:
    """Where memory runs out inside, `error` says what did not fit; it gets what was `free` at the beginning.

    Raises:
        MachineError: as `error` makes it.
    """
    before = free()
    try:
        yield
    except Exception as fault:
        if not ran_out(fault):
            raise
        raise error(before) from fault
