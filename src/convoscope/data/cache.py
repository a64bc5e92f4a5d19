"""The cache folder: files that can be made again, so it may be deleted at any time, even while a program uses it.

An entry is a folder, built under a temporary name and renamed when complete, so that it is there wholly or not at all.
A shared lock marks an entry in use; the space of entries not in use is bounded, the longest unused going first. What a
killed process left unfinished is removed by the next one.

Disks lose what was written to them. So an entry's lock file holds checksums of its other files, and whoever finds the
entry reads it through first: at about 2 GB/s per core, which takes less time than reading from the disk, and what was
read is then in memory. An entry that is not as it was is removed with a warning, and made again.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import stat
import time
import uuid
import warnings
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, Final

from ..errors import MachineError, UsageError
from ..files import machine_error
from ..posix import OPEN_FILES_MOVE, lock_file, open_file, read_at, rename

LOCK: Final = "lock"
_BLOCK: Final = 1 << 20
"""Bytes under one checksum."""


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


def find(kind: str, key: str, folder: Path | None = None, *, grows: bool = False) -> Lease | None:
    """The entry, marked in use, or None if it is not there. One whose files are not as they were is removed, with a
    warning.

    Args:
        kind, key: its name.
        folder: the cache folder.
        grows: as for `building`; such an entry's files are not looked at.
    """
    entry = (folder or cache_folder()) / kind / key
    try:
        lock = open_file(entry / LOCK, os.O_RDONLY)
    except OSError:
        return None
    try:
        lock_file(lock, shared=True)
        # Between the opening and the lock the entry may have been removed, perhaps made anew.
        status = os.fstat(lock)
        if status.st_ino != (entry / LOCK).stat().st_ino or not stat.S_ISREG(status.st_mode):
            raise FileNotFoundError
        with contextlib.suppress(OSError):
            os.utime(entry / LOCK)
    except OSError:
        os.close(lock)
        return None
    lease = Lease(entry, lock)
    if grows or _is_whole(entry, lock):
        return lease
    lease.release()
    discard(kind, key, folder)
    return None


def _is_whole(entry: Path, lock: int) -> bool:
    """Whether the files are those that the entry was made with."""
    try:
        noted = json.loads(read_at(lock, os.fstat(lock).st_size, 0))
        return bool(noted) and all(_checksums(entry / name) == sums for name, sums in noted.items())
    except Exception:  # whatever is wrong with a file of the cache: it is made again
        return False


def _checksums(path: Path) -> list[int]:
    """The file's size, and a checksum of each of its blocks. Read, not mapped: a disk's error is then an exception and
    not the end.

    Raises:
        OSError: it is no regular file, or cannot be read.
    """
    descriptor = open_file(path, os.O_RDONLY)
    pool = ThreadPoolExecutor(min(4, os.cpu_count() or 1))  # zlib lets go of Python's lock
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "no regular file", str(path))
        begins = range(0, status.st_size, _BLOCK)
        return [status.st_size, *pool.map(lambda begin: zlib.crc32(read_at(descriptor, _BLOCK, begin)), begins)]
    finally:
        pool.shutdown(cancel_futures=True)
        os.close(descriptor)


@contextlib.contextmanager
def alone(key: str, folder: Path | None = None) -> Iterator[None]:
    """Let one process at a time build what `key` names; the others wait and will find it built."""
    place = (folder or cache_folder()) / "locks" / key[:2]
    try:
        _make_folder(place.parent)
        try:
            lock = open_file(place, os.O_RDWR | os.O_CREAT)
        except (IsADirectoryError, PermissionError):
            _take_away(place)
            lock = open_file(place, os.O_RDWR | os.O_CREAT)
    except OSError as error:
        raise _refused(place.parent, error) from error
    try:
        lock_file(lock, wait=True)
        yield
    finally:
        os.close(lock)


def _make_folder(folder: Path) -> None:
    """A folder of the cache, also where a file is in its place."""
    if folder.is_file() and not folder.is_symlink():
        _take_away(folder)
    folder.mkdir(parents=True, exist_ok=True)


class Building:
    """An entry in the making. `key` may be set until the block ends."""

    def __init__(self, folder: Path, key: str) -> None:
        self.folder = folder
        self.key = key


@contextlib.contextmanager
def building(kind: str, key: str = "", folder: Path | None = None, *, grows: bool = False) -> Iterator[Building]:
    """A new folder to build an entry in. On a clean exit it becomes the entry, unless another process was first.

    Args:
        kind, key: the entry's name.
        folder: the cache folder.
        grows: whether its files are written to later, and checked by whoever does that.

    Raises:
        MachineError: the disk is full, or the system fails in another way.
    """
    place = (folder or cache_folder()) / kind
    entry = Building(place / f".{os.getpid()}-{uuid.uuid4().hex[:8]}.tmp", key)
    try:
        _make_folder(place)
        entry.folder.mkdir(parents=True)
        with open(entry.folder / LOCK, "wb") as lock:
            lock_file(lock, wait=True)
            yield entry
            with contextlib.suppress(FileNotFoundError):  # somebody empties the cache folder
                if not grows:
                    files = [file for file in entry.folder.iterdir() if file.name != LOCK]
                    lock.write(json.dumps({file.name: _checksums(file) for file in files}).encode())
                    lock.flush()
                    os.fsync(lock.fileno())
                # Still locked, where that is possible, so that no other process takes the folder for a dead one's.
                if not OPEN_FILES_MOVE:
                    lock.close()
                _rename_new(entry.folder, place / entry.key)
    except OSError as error:
        raise _refused(place, error) from error
    finally:
        _remove(entry.folder)


def _rename_new(source: Path, target: Path) -> None:
    """Rename; another process's entry stays, what is not an entry goes. Where that fails the new one is not kept."""
    for _ in range(2):
        try:
            rename(source, target)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
                raise
            if os.access(target / LOCK, os.R_OK) and (target / LOCK).is_file():
                return
            discard(target.parent.name, target.name, target.parent.parent)
        else:
            return


def tidy(folder: Path | None = None) -> None:
    """Remove what killed processes left, then entries not in use until the others of these fit into `cache_limit`:
    first those that never will, then the longest unused.
    """
    folder = folder or cache_folder()
    limit = cache_limit(folder)
    unused: list[tuple[bool, float, int, Path]] = []
    for kind in ("pixels", "rows", "unpacked", "features", "backbones"):
        with contextlib.suppress(OSError):
            for entry in (folder / kind).iterdir():
                if entry.name.endswith(".tmp"):
                    _remove_unused(entry)
                    continue
                try:
                    size = sum(file.stat().st_size for file in entry.iterdir())
                    with _locked(entry):
                        unused.append((size <= limit, (entry / LOCK).stat().st_mtime, size, entry))
                except BlockingIOError:
                    pass  # in use
                except OSError:
                    _remove_unused(entry)
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
    if not OPEN_FILES_MOVE:  # then the renaming finds out, and here only whether it is an entry
        (entry / LOCK).stat()
        yield
        return
    lock = open_file(entry / LOCK, os.O_RDONLY)
    try:
        lock_file(lock)
        yield
    finally:
        os.close(lock)


def _remove_unused(entry: Path) -> bool:
    try:
        with _locked(entry):
            _take_away(entry)
            return True
    except BlockingIOError:
        return False
    except OSError:
        # A folder without its lock file: killed in the instant between the two, or half removed.
        with contextlib.suppress(OSError):
            if time.time() - entry.stat().st_mtime > 60:
                _take_away(entry)
        return False


def _take_away(path: Path) -> None:
    """Remove an entry, or what is in its place. Renamed first: nobody finds half of it, even if this is
    killed.

    Raises:
        OSError: it cannot be renamed.
    """
    away = path.with_name(f".{os.getpid()}-{uuid.uuid4().hex[:8]}.tmp")
    path.rename(away)
    _remove(away)


def _remove(path: Path) -> None:
    with contextlib.suppress(OSError):
        if path.is_dir() and not path.is_symlink():
            path.chmod(0o700)
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink()


def discard(kind: str, key: str, folder: Path | None = None) -> bool:
    """Remove an entry that is damaged, and say so. Whoever has it open may go on: the system keeps the files for them.

    Returns:
        Whether it is gone.
    """
    entry = (folder or cache_folder()) / kind / key
    try:
        _take_away(entry)
    except FileNotFoundError:
        return True  # another process was first
    except OSError as error:
        warnings.warn(f"{entry}: damaged, and cannot be removed ({error.strerror}); going on without it", stacklevel=2)
        return False
    warnings.warn(f"{entry}: what was kept there is damaged; it is made anew", stacklevel=2)
    return True


@contextlib.contextmanager
def unpacked_file(key: str, unpack: Callable[[IO[bytes]], None]) -> Iterator[IO[bytes]]:
    """A file of the cache, open for reading. It is written by `unpack` if it is not there yet."""
    with alone(key):
        lease = find("unpacked", key)
        if lease is not None:
            with open(lease.folder / "values", "rb") as file:
                yield file
            return
        with contextlib.ExitStack() as opened:
            if not OPEN_FILES_MOVE:
                yield opened.enter_context(_newly_unpacked(key, unpack))
                return
            with building("unpacked", key) as entry:
                # Opened once, so that it is there even if the entry cannot be kept.
                new = opened.enter_context(open(entry.folder / "values", "w+b"))
                unpack(new)
                new.flush()
                os.fsync(new.fileno())
            yield new


@contextlib.contextmanager
def _newly_unpacked(key: str, unpack: Callable[[IO[bytes]], None]) -> Iterator[IO[bytes]]:
    """The same where it can be opened only once it is an entry."""
    with building("unpacked", key) as entry, open(entry.folder / "values", "wb") as new:
        unpack(new)
        new.flush()
        os.fsync(new.fileno())
    lease = find("unpacked", key)
    if lease is None:
        place = cache_folder()
        raise _refused(place, FileNotFoundError(errno.ENOENT, "what was just kept there is gone", str(place)))
    with open(lease.folder / "values", "rb") as file:
        yield file
