"""How the command line starts and ends: where code comes from, the standard streams, the allocator.

`convoscope` and `python -m convoscope` begin here. What a command does is not decided here, but in `cli`.
"""

from __future__ import annotations

import errno
import gc
import io
import os
import stat
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn, TextIO

from .children import leave_working_folder, own_process
from .cli import complain, run, unwritable, warn
from .errors import MachineError
from .files import tell_lost_pages

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer


def main() -> NoReturn:
    """Run one command and leave with its exit code: 0 done, 2 usage, 3 data, 4 model file, 5 machine, 6 in use,
    130/143 interrupted with the state saved, 1 internal error.
    """
    leave_working_folder()
    open_streams()
    warnings.showwarning = warn
    arguments = sys.argv[1:]
    if arguments[:1] in (["train"], ["relearn"]):
        _use_tcmalloc()
    tell_lost_pages()
    code = run(arguments)
    try:
        sys.stdout.flush()
    except OSError as error:
        complain(unwritable(error))
        # Python would flush once more on its way out, and fail once more.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = code or MachineError.exit_code
    # The system takes all memory back at once; looking through every object first, as Python does, takes half a second
    # after torch.
    gc.freeze()
    sys.exit(code)


class _Stream(io.FileIO):
    """Standard output or standard error. When its reader goes away (`| head`), the rest of the output is dropped.

    A standard output that cannot be written to for another reason, such as a full disk, is an error; a standard error
    never is.
    """

    def write(self, content: ReadableBuffer, /) -> int:
        try:
            return super().write(content)
        except OSError as error:
            # EIO: a terminal that was closed.
            gone = isinstance(error, ConnectionError) or (error.errno == errno.EIO and not self._is_file())
            if not gone and self.fileno() == 1:
                raise
            return memoryview(content).nbytes

    def _is_file(self) -> bool:
        return stat.S_ISREG(os.fstat(self.fileno()).st_mode)


def open_streams() -> None:
    """Replace the standard streams by ones that outlive their readers."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            # Whoever closed a stream (`2>&-`) does not want to read it. Left closed, the next file would get its
            # number, and the messages.
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
    sys.stdin = sys.stdin or open(0, closefd=False)  # noqa: SIM115
    sys.stdout, sys.stderr = _stream(1, sys.stdout), _stream(2, sys.stderr)


def _stream(descriptor: int, before: TextIO | None) -> io.TextIOWrapper:
    """With the encoding that Python found for it."""
    buffer = io.BufferedWriter(_Stream(descriptor, "w", closefd=False))
    if not isinstance(before, io.TextIOWrapper):
        return io.TextIOWrapper(buffer, "utf-8", "backslashreplace", line_buffering=True)
    if not isinstance(getattr(before.buffer, "raw", before.buffer), io.FileIO):
        return before  # a terminal of Windows takes text and no bytes
    by_line = before.line_buffering or before.write_through
    # Windows encodes files and pipes in a code page that lacks most letters and signs.
    errors = before.errors if before.encoding.lower().startswith("utf") else "backslashreplace"
    return io.TextIOWrapper(buffer, before.encoding, errors, line_buffering=by_line)


def _use_tcmalloc() -> None:
    """Start again with tcmalloc where the system has it: training is 1.2 to 1.7 times as fast. An allocator has to be
    there from the start.
    """
    if not sys.platform.startswith("linux") or "LD_PRELOAD" in os.environ or os.environ.get("CONVOSCOPE_ALLOCATOR"):
        return
    for library in _tcmalloc_libraries():
        command, environment = own_process(
            "convoscope", *sys.argv[1:], LD_PRELOAD=str(library), CONVOSCOPE_ALLOCATOR="tcmalloc"
        )
        os.execve(command[0], command, environment)


def _tcmalloc_libraries() -> Iterator[Path]:
    for pattern in (
        "lib/*-linux-gnu/libtcmalloc_minimal.so.4",
        "lib64/libtcmalloc_minimal.so.4",
        "lib/*-linux-gnu/libtcmalloc.so.4",
    ):
        yield from Path("/usr").glob(pattern)
