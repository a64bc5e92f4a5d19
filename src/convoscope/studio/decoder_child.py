"""Decodes one uploaded image in a child process that can do and reach very little:
`python -m convoscope.studio.decoder_child`.

Standard input is a line with the side to scale down to, then the file. Standard output is a line of JSON: either
height, width, channels and notes, followed by the pixels, or an error's code, message and hint. Imports Pillow, NumPy
and one decode function, never torch.
"""

from __future__ import annotations

import contextlib
import json
import sys
from typing import Any, Final

from ..data.dataset import InputFormat
from ..data.decode import decode_bytes, read_header
from ..data.heif import container_of
from ..errors import DataError
from ..posix import limit_process

CPU_SECONDS: Final = 6
"""Three times the 2 seconds beyond which a picture is refused undecoded, and the start."""
MEMORY_BYTES: Final = 700_000_000
"""Of address space. The libraries take 0.12 GB; with the largest picture that is accepted it is 0.34 GB in all."""


def limit(*, threads: bool = False) -> None:
    """From now on no file can be written, no process started, and time and memory are limited.

    Args:
        threads: whether threads may be started, which the system counts as processes.
    """
    limit_process("cpu seconds", CPU_SECONDS)
    limit_process("file bytes", 0)
    limit_process("core bytes", 0)
    limit_process("open files", 64)
    if not threads:
        limit_process("processes", 0)
    with contextlib.suppress(OSError, ValueError):  # macOS does not know this one
        limit_process("memory bytes", MEMORY_BYTES)


def decode(content: bytes, side: int) -> tuple[dict[str, Any], bytes]:
    """The image with its longest side scaled down to `side`: the content of the first line, and the pixels.

    Raises:
        DataError: as for `data.open_image`.
    """
    header = read_header(content)
    scale = min(1.0, side / max(header.height, header.width))
    height, width = max(1, round(header.height * scale)), max(1, round(header.width * scale))
    form = InputFormat(height=height, width=width, channels=1 if header.grey else 3, resize="stretch")
    decoded = decode_bytes(content, form)
    notes = [f"scaled down from {header.width} x {header.height} to {width} x {height} pixels"] if scale < 1 else []
    notes += [decoded.note] if decoded.note else []
    line = {"height": height, "width": width, "channels": form.channels, "notes": notes}
    return line, decoded.pixels.tobytes()


def main() -> None:
    """Read, decode, answer."""
    limit(threads=True)
    side = sys.stdin.buffer.readline()
    if not side:
        return  # the studio has ended
    content = sys.stdin.buffer.read()
    if container_of(content[:4096]) != "HEIC":  # whose decoder starts threads
        limit()
    try:
        line, pixels = decode(content, int(side))
    except DataError as error:
        line, pixels = {"code": error.code, "message": error.reason, "hint": error.hint}, b""
    sys.stdout.buffer.write(json.dumps(line).encode() + b"\n" + pixels)


if __name__ == "__main__":
    main()
