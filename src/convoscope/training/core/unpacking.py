"""A process of its own that turns a .pth file into safetensors, bytes in, bytes out:
`python -m convoscope.training.core.unpacking`.

This is the one place where `torch.load` is used, weights-only, and only for files whose SHA-256 was compared with a
known one before (see `weights.py`). Even so, the process may do nothing but compute: it writes no file, and reaches no
network and no other program.
"""

from __future__ import annotations

import io
import json
import os
import sys
from typing import Any

from ...posix import limit_process

SECONDS = 300
_FORBIDDEN = (
    "socket.",
    "subprocess.",
    "os.",
    "shutil.",
    "ctypes.",
    "pty.",
    "webbrowser.",
    "urllib.",
    "ftplib.",
    "http.",
)


def _forbid(event: str, arguments: tuple[Any, ...]) -> None:
    """An audit hook (PEP 578): once it is set, nothing in this process can take it off."""
    flags = arguments[2] if event == "open" and len(arguments) > 2 else 0
    writes = isinstance(flags, int) and bool(flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))
    if writes or (event.startswith(_FORBIDDEN) and event not in ("os.listdir", "os.scandir")):
        raise PermissionError(f"{event} is not allowed here")


def main() -> int:
    """Read a state dict from standard input, write it to standard output. Returns the exit code; the reason goes to
    standard error.
    """
    content = sys.stdin.buffer.read()
    import safetensors.torch
    import torch

    limit_process("file bytes", 0)
    limit_process("cpu seconds", SECONDS)
    sys.addaudithook(_forbid)
    try:
        values = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
        if not isinstance(values, dict) or not all(isinstance(value, torch.Tensor) for value in values.values()):
            raise ValueError("it holds something other than tensors with names")
        tensors = {str(name): value.detach().clone().contiguous() for name, value in values.items()}
        # safetensors has an order of its own; the file's is kept beside it.
        packed = safetensors.torch.save(tensors, {"names": json.dumps(list(tensors))})
    except Exception as error:
        print(str(error).strip().split("\n")[0][:300], file=sys.stderr)  # noqa: T201 - its reader is `weights.py`
        return 1
    sys.stdout.buffer.write(packed)
    sys.stdout.buffer.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
