"""Two processes that take turns: each works until it prints a JSON line, then waits for a line before it goes on."""

from __future__ import annotations

import json
import os
import subprocess
from typing import Any


class Worker:
    """A process that answers one JSON line for each `turn`."""

    def __init__(self, command: list[str], **environment: str) -> None:
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=os.environ | environment,
        )

    def turn(self) -> dict[str, Any] | None:
        """Let it work; None when it has ended."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write("go\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            return None
        for line in self._process.stdout:
            if line.startswith("{"):
                result: dict[str, Any] = json.loads(line)
                return result
        return None

    def stop(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait()


def answer(**values: Any) -> None:
    """In a worker: hand over a result and wait for the next turn."""
    print(json.dumps(values), flush=True)
    input()
