"""Writing files so that nothing is lost: temporary file beside the target, sync, rename, sync the folder.

A reader sees the old file or the new one, never a part. An interrupted write leaves the old file and at most
one `.name.PID.tmp`, which `clear_leftovers` removes.

A run's folder may come from somebody else. Whatever is written takes the place of a plain file or of nothing: links
lead out of the folder, and pipes and devices are not ours, so they are refused and left as they are.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import signal
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from .errors import ConvoscopeError, InUseError, MachineError, printable, shell_word
from .posix import lock_file, open_file, replace_file, sync_entries

_NOT_OFFERED = frozenset({errno.EPERM, errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK})
"""How file systems (exFAT, network shares) say that they have no such thing as a hard link or the sync of a folder."""


_IN_USE = (32, 33, 1224)
"""How Windows says so: sharing violation, lock violation, a file mapped into memory. Python makes EACCES of them."""


def machine_error(path: str | os.PathLike[str], error: OSError, *, needed_bytes: int = 0) -> MachineError:
    """The operating system's refusal in plain words: which disk is full, which right is missing."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        folder = Path(path) if Path(path).is_dir() else Path(path).parent
        with contextlib.suppress(OSError):
            free = shutil.disk_usage(folder).free
            need = f"needs {size_text(needed_bytes)}, " if needed_bytes else ""
            return MachineError(
                path,
                f"the disk is full ({need}{size_text(free)} free)",
                hint="make room on that disk, then try again; a run goes on with --resume",
                code="disk-full",
            )
        return MachineError(path, "the disk is full", hint="make room on that disk", code="disk-full")
    if getattr(error, "winerror", None) in _IN_USE:
        return MachineError(
            path,
            "another program has it open",
            hint="close it there, then try again; a run goes on with --resume",
            code="file-in-use",
        )
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return MachineError(
            path,
            f"no permission: {error.strerror}",
            hint="see whose it is, or choose another place",
            code="no-permission",
        )
    code = "out-of-memory" if error.errno == errno.ENOMEM else "system-error"
    return MachineError(path, f"the system says: {error.strerror or error}", code=code)


def size_text(count: int) -> str:
    """A number of bytes for people: `48 MB`."""
    value = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if unit == "B" or value >= 10 else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} TB"


def check_room(place: Path, needed: int, what: str, hint: str, *, named: Path | None = None) -> None:
    """Refuse to begin what does not fit on the disk.

    Args:
        place: a folder on that disk.
        needed: bytes.
        what: takes them, such as `the decoded images`.
        hint: what to do.
        named: the folder that the message names, if it is another.

    Raises:
        MachineError: `disk-full`.
    """
    free = shutil.disk_usage(place).free
    if free < needed:
        reason = f"needs {size_text(needed)} for {what}, {size_text(free)} are free on that disk"
        raise MachineError(named or place, reason, hint=hint, code="disk-full")


@contextlib.contextmanager
def atomic_write(path: str | os.PathLike[str], *, needed_bytes: int = 0) -> Iterator[BinaryIO]:
    """Open a temporary file beside `path`; on a clean exit it replaces `path`, on an error it is removed.

    Args:
        needed_bytes: how much will be written, for the message if the disk is full.

    Raises:
        MachineError: the disk is full, the folder may not be written to, the system fails in another way, or what
            is at `path` is not a plain file (`not-a-plain-file`).
    """
    target = Path(path)
    check_plain(target)
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        temporary.unlink(missing_ok=True)  # a killed process of the same number left it
        with open(temporary, "xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        replace_file(temporary, target)
        sync_folder(target.parent)
    except BaseException as error:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        if isinstance(error, OSError) and not isinstance(error, ConvoscopeError):
            raise machine_error(target, error, needed_bytes=needed_bytes) from error
        raise


def write_bytes(path: str | os.PathLike[str], content: bytes) -> None:
    """Replace the file at `path` by `content`, atomically."""
    with atomic_write(path, needed_bytes=len(content)) as file:
        file.write(content)


def write_text(path: str | os.PathLike[str], content: str) -> None:
    """Replace the file at `path` by `content` in UTF-8, atomically. Undecodable file names survive the trip."""
    write_bytes(path, content.encode("utf-8", "surrogateescape"))


def write_json(path: str | os.PathLike[str], content: Any) -> None:
    """Replace the file at `path` by `content` as JSON, atomically. NaN and infinity are refused."""
    write_bytes(path, json_bytes(content))


def json_bytes(content: Any) -> bytes:
    r"""JSON as UTF-8, for people and programs. Bytes of file names that are not text become `\udcff`, which JSON reads
    back exactly.
    """
    text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    return text.encode("utf-8", "backslashreplace")


_KINDS = (
    (stat.S_ISLNK, "a symbolic link"),
    (stat.S_ISREG, "a file"),
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


_LOOK = "ls -ld" if os.sep == "/" else "dir"


def kind_of(status: os.stat_result) -> str:
    """What `stat` found, in words: `a file`, `a named pipe`, ..."""
    return next((name for test, name in _KINDS if test(status.st_mode)), "something else")


def check_plain(path: str | os.PathLike[str], *, folder: bool = False, in_place: bool = False) -> None:
    """Refuse to write where there is something other than a plain file. Nothing there is fine.

    Args:
        folder: a plain folder is expected instead.
        in_place: the file itself will be changed, not replaced: then it must have no other name either.

    Raises:
        MachineError: `not-a-plain-file`, or the system fails.
    """
    try:
        status = os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        raise machine_error(path, error) from error
    _refuse_foreign(path, status, folder=folder, in_place=in_place)


def make_own_folder(path: Path) -> None:
    """Make a folder within a run's, or take the one that is there unless it is a link.

    Raises:
        MachineError: `not-a-plain-file`, or the system fails.
    """
    try:
        path.mkdir()
    except FileExistsError:
        check_plain(path, folder=True)
    except OSError as error:
        raise machine_error(path, error) from error


def open_own(path: str | os.PathLike[str], flags: int) -> int:
    """An opener for `open`: a file of a run's that is changed in place. No link is followed, no pipe or device opened.

    Raises:
        MachineError: `not-a-plain-file`.
    """
    check_plain(
        path, in_place=True
    )  # before, as opening a device may do something already; and once more what was opened
    return _opened(path, flags, in_place=True)


def open_at_once(path: str, flags: int) -> int:
    """An opener for `open`: a named pipe does not hang. Whoever uses it looks at what was opened."""
    return open_file(path, flags)


def open_plain(path: str | os.PathLike[str], flags: int) -> int:
    """An opener for `open`: a file to read. Links are followed, as weights may be on another disk; a pipe does not
    hang.

    Raises:
        MachineError: `not-a-plain-file`.
    """
    return _opened(path, flags, in_place=False)


def _opened(path: str | os.PathLike[str], flags: int, *, in_place: bool) -> int:
    descriptor = open_file(path, flags, follow=not in_place)
    try:
        _refuse_foreign(path, os.fstat(descriptor), folder=False, in_place=in_place)
    except MachineError:
        os.close(descriptor)
        raise
    return descriptor


def _refuse_foreign(path: str | os.PathLike[str], status: os.stat_result, *, folder: bool, in_place: bool) -> None:
    kind = kind_of(status)
    wanted, word = "folder" if folder else "file", shell_word(path)
    hint = f"it is left as it is; see what it is with: {_LOOK} {word}"
    if kind == "a file" and in_place and status.st_nlink > 1:
        kind = "a hard link, the same file has another name elsewhere"
        own = shell_word(f"{os.fspath(path)}.own")
        hint = f"if both are yours, part them with: cp {word} {own} && mv {own} {word}"
    if kind != f"a {wanted}":
        raise MachineError(path, f"is {kind}; expected a plain {wanted}", hint=hint, code="not-a-plain-file")


def lies_in(path: str | os.PathLike[str], folder: str | os.PathLike[str]) -> bool:
    """Whether `path` is or would be the folder or something in it, links followed."""
    return Path(folder).is_dir() and Path(path).resolve().is_relative_to(Path(folder).resolve())


def sync_folder(folder: Path) -> None:
    """Make a rename in `folder` last through a power cut."""
    try:
        sync_entries(folder)
    except OSError as error:
        if error.errno not in _NOT_OFFERED:  # some network disks cannot sync a folder
            raise


def keep_copy(path: Path, copy: Path) -> None:
    """Make `copy` the file that `path` is now, atomically: a hard link, or a copy where the file system knows no links.

    Raises:
        MachineError: the disk is full, or the system fails in another way.
    """
    link = copy.with_name(f".{copy.name}.tmp")
    try:
        link.unlink(missing_ok=True)
        try:
            os.link(path, link)
        except OSError as error:
            if error.errno not in _NOT_OFFERED:
                raise
            write_bytes(link, path.read_bytes())
        replace_file(link, copy)
        link.unlink(missing_ok=True)  # where both were the same file already, replacing does nothing
    except OSError as error:
        with contextlib.suppress(OSError):
            link.unlink(missing_ok=True)
        raise machine_error(copy, error) from error


def clear_leftovers(folder: Path) -> None:
    """Remove the temporary files that a killed process left in `folder`. Call it only with the folder's lock held."""
    for leftover in folder.glob(".*.tmp"):
        with contextlib.suppress(OSError):
            leftover.unlink()


_kept: list[object] = []


def tell_lost_pages() -> None:
    """Let this process end with a plain sentence and exit code 5 where a file that is mapped into memory is cut or its
    disk goes away.

    The system then sends SIGBUS, and nothing can be saved any more: what was saved stays. For Python's own handlers,
    which run later, the same reading would only fail once more, for ever; so this one is the system's. Does nothing
    where it cannot be set.
    """
    if not hasattr(signal, "SIGBUS"):  # Windows ends such a process without a word
        return
    import ctypes

    def tell(_: int) -> None:
        reason = "a file that is read from went away or was cut; what was saved stays"
        hint = (
            "see whether the disks or shares of the images and of the cache are there; a training goes on with --resume"
        )
        os.write(2, f"error: {reason}\nhint: {hint}\n".encode())
        os._exit(MachineError.exit_code)

    with contextlib.suppress(OSError, AttributeError):
        handler = ctypes.CFUNCTYPE(None, ctypes.c_int)(tell)
        set_handler = ctypes.CDLL(None).signal
        set_handler.argtypes, set_handler.restype = [ctypes.c_int, ctypes.c_void_p], ctypes.c_void_p
        set_handler(signal.SIGBUS, ctypes.cast(handler, ctypes.c_void_p))
        _kept.append(handler)  # it has to live as long as the process


class FolderLock:
    """One process at a time in a folder. The system frees the lock when its owner dies, however it dies.

    Raises:
        InUseError: another process holds it; the message names its pid and since when.
        MachineError: the lock is not a plain file (`not-a-plain-file`), or the system fails.
    """

    def __init__(self, folder: Path) -> None:
        path = folder / ".lock"
        with contextlib.ExitStack() as undo:
            try:
                self._file = undo.enter_context(open(path, "a+b", buffering=0, opener=open_own))
                lock_file(self._file)
                self._file.truncate(0)
                # The lock may keep others from reading the first byte.
                self._file.write(f" process {os.getpid()} since {time.strftime('%Y-%m-%d %H:%M:%S')}".encode())
            except BlockingIOError:
                self._file.seek(1)
                owner = printable(self._file.read(200).decode("utf-8", "replace").strip()) or "another process"
                hint = "wait until it ends, or choose another folder"
                raise InUseError(folder, f"in use by {owner}", hint=hint, code="folder-in-use") from None
            except OSError as error:
                raise machine_error(path, error) from error
            undo.pop_all()

    def release(self) -> None:
        """Let the next process in."""
        self._file.close()

    def __enter__(self) -> FolderLock:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()
