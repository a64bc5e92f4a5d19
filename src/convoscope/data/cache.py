"""The cache folder: files that can be made again, so it may be deleted at any time, even while a program uses it.

An entry is a folder, built under a temporary name and renamed when complete, so that it is there wholly or not at all. A shared
lock marks an entry in use; the space of entries not in use is bounded, the longest unused going first. What a killed process
left unfinished is removed by the next one.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import shutil
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Final

from ..errors import MachineError, UsageError
from ..files import machine_error

LOCK: Final = "lock"


def cache_folder() -> Path:
    """The folder: CONVOSCOPE_CACHE, or the user's cache folder of this system. It is made if need be.

    Raises:
        MachineError: it cannot be made.
    """
    chosen = os.environ.get("CONVOSCOPE_CACHE")
    if chosen:
        folder = Path(chosen)
    else:
        import platformdirs

        folder = Path(platformdirs.user_cache_dir("convoscope", appauthor=False))
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _refused(folder, error) from error
    return folder


def _refused(folder: Path, error: OSError) -> MachineError:
    """The cache folder cannot be used: what the system says, and where else it may be."""
    plain = machine_error(folder, error)
    hint = "set CONVOSCOPE_CACHE to a folder on a disk with room that you may write to"
    return MachineError(plain.path, plain.reason, hint=hint, code=plain.code)


def cache_limit(folder: Path) -> int:
    """Bytes that entries not in use may take: CONVOSCOPE_CACHE_GB, or 10 GB, but at most half of the disk."""
    text = os.environ.get("CONVOSCOPE_CACHE_GB", "")
    if text:
        try:
            value = float(text)
        except ValueError:
            value = -1.0
        if not 0 <= value < 1e9:
            raise UsageError(
                "CONVOSCOPE_CACHE_GB", f"expected a number of gigabytes; received {text!r}", code="bad-setting"
            )
        return int(value * 1e9)
    with contextlib.suppress(OSError):
        return min(10_000_000_000, shutil.disk_usage(folder).total // 2)
    return 10_000_000_000


class Lease:
    """An entry in use. It is given back when this object goes, or with the process."""

    def __init__(self, folder: Path, lock: int) -> None:
        self.folder = folder
        # A bare descriptor, not a file object: it lives as long as the pixels do and nobody closes it by hand.
        self._lock = lock

    def release(self) -> None:
        """Allow the entry to be removed."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def __del__(self) -> None:
        self.release()


def find(kind: str, key: str, folder: Path | None = None) -> Lease | None:
    """The entry, marked in use, or None if it is not there."""
    entry = (folder or cache_folder()) / kind / key
    try:
        lock = os.open(entry / LOCK, os.O_RDONLY)
    except OSError:
        return None
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        # Between the opening and the lock the entry may have been removed, perhaps made anew.
        if os.fstat(lock).st_ino != (entry / LOCK).stat().st_ino:
            raise FileNotFoundError
        with contextlib.suppress(OSError):
            os.utime(entry / LOCK)
    except OSError:
        os.close(lock)
        return None
    return Lease(entry, lock)


@contextlib.contextmanager
def alone(key: str, folder: Path | None = None) -> Iterator[None]:
    """Let one process at a time build what `key` names; the others wait and will find it built."""
    locks = (folder or cache_folder()) / "locks"
    try:
        locks.mkdir(parents=True, exist_ok=True)
        lock = open(locks / key[:2], "ab")  # noqa: SIM115
    except OSError as error:
        raise _refused(locks, error) from error
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


class Building:
    """An entry in the making. `key` may be set until the block ends."""

    def __init__(self, folder: Path, key: str) -> None:
        self.folder = folder
        self.key = key


@contextlib.contextmanager
def building(kind: str, key: str = "", folder: Path | None = None) -> Iterator[Building]:
    """A new folder to build an entry in. On a clean exit it becomes the entry, unless another process was first.

    Raises:
        MachineError: the disk is full, or the system fails in another way.
    """
    place = (folder or cache_folder()) / kind
    entry = Building(place / f".{os.getpid()}-{uuid.uuid4().hex[:8]}.tmp", key)
    try:
        entry.folder.mkdir(parents=True)
        with open(entry.folder / LOCK, "wb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield entry
            # Still locked, so that no other process takes the folder for a dead one's.
            with contextlib.suppress(FileExistsError, FileNotFoundError):
                _rename_new(entry.folder, place / entry.key)
    except OSError as error:
        raise _refused(place, error) from error
    finally:
        shutil.rmtree(entry.folder, ignore_errors=True)


def _rename_new(source: Path, target: Path) -> None:
    try:
        source.rename(target)
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
            raise FileExistsError from error
        raise


def tidy(folder: Path | None = None) -> None:
    """Remove what killed processes left, then entries not in use until the others of these fit into `cache_limit`: first those that
    never will, then the longest unused.
    """
    folder = folder or cache_folder()
    limit = cache_limit(folder)
    unused: list[tuple[bool, float, int, Path]] = []
    for kind in ("pixels", "rows", "unpacked", "features", "fronts"):
        with contextlib.suppress(OSError):
            for entry in (folder / kind).iterdir():
                if entry.name.endswith(".tmp"):
                    _remove_unused(entry)
                    continue
                with contextlib.suppress(OSError):
                    size = sum(file.stat().st_size for file in entry.iterdir())
                    with _locked(entry):
                        unused.append((size <= limit, (entry / LOCK).stat().st_mtime, size, entry))
    total = sum(size for *_, size, _ in unused)
    for *_, size, entry in sorted(unused):
        if total <= limit:
            break
        if _remove_unused(entry):
            total -= size


@contextlib.contextmanager
def _locked(entry: Path) -> Iterator[None]:
    """While this is open nobody uses the entry.

    Raises:
        BlockingIOError: somebody does.
    """
    with open(entry / LOCK, "rb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield


def _remove_unused(entry: Path) -> bool:
    try:
        with _locked(entry):
            shutil.rmtree(entry, ignore_errors=True)
            return True
    except BlockingIOError:
        return False
    except OSError:
        # A folder without its lock file: killed in the instant between the two, or half removed.
        with contextlib.suppress(OSError):
            if time.time() - entry.stat().st_mtime > 60:
                shutil.rmtree(entry, ignore_errors=True)
        return False


def discard(kind: str, key: str, folder: Path | None = None) -> None:
    """Remove an entry that is damaged, unless another process uses it."""
    _remove_unused((folder or cache_folder()) / kind / key)


def unpacked_file(key: str, unpack: Callable[[IO[bytes]], None]) -> Path:
    """A file of the cache, written by `unpack` if it is not there yet."""
    with alone(key):
        lease = find("unpacked", key)
        if lease is None:
            with building("unpacked", key) as entry, open(entry.folder / "values", "wb") as file:
                unpack(file)
                file.flush()
                os.fsync(file.fileno())
            lease = find("unpacked", key)
        if lease is None:
            raise machine_error(cache_folder(), FileNotFoundError(2, "the cache folder is being deleted"))
        return lease.folder / "values"
