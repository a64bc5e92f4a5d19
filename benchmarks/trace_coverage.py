"""Whether convoscope's table, trace and arithmetic are right for every classification network of torchvision and every
architecture of timm, with random weights on a small image.

    .venv/bin/python -m benchmarks.trace_coverage rows.jsonl [--only PART_OF_A_NAME] [--again]

One JSON row for each architecture, as of `tests.support.library_checks.Coverage`, is added to the file; those that are
there already are left out, with `--again` only those that were right. A process that dies or takes too long costs only
its own row. Takes hours on two cores.
"""

from __future__ import annotations

import argparse
import json
import os
import queue
import resource
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

SECONDS = 600
MOST_PARAMETERS = 1.2e9
MEMORY = 8 * 1024**3


def work() -> None:
    """The child: a name a line on standard input, a row a line on standard output."""
    import torch

    from tests.support.library_checks import compare

    torch.set_num_threads(1)
    for line in sys.stdin:
        name = line.strip()
        begin = time.perf_counter()
        try:
            found = compare(name, most_parameters=MOST_PARAMETERS)
            row = found.to_json() if found else {"name": name, "right": None, "faults": ["too large for 8 GB"]}
        except MemoryError:
            row = {"name": name, "right": None, "faults": ["too large for 8 GB"]}
        except Exception as error:
            row = {"name": name, "right": False, "faults": [f"{type(error).__name__}: {str(error)[:300]}"]}
        row["seconds"] = round(time.perf_counter() - begin, 1)
        print(json.dumps(row), flush=True)


class Child:
    """A process that compares one architecture after the other."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-m", "benchmarks.trace_coverage", "--child"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )
        self._lines: queue.Queue[str] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.put(line)
        self._lines.put("")

    def ask(self, name: str) -> dict[str, Any] | None:
        """The row; None when the process died or took too long, and is gone."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(name + "\n")
            self._process.stdin.flush()
            line = self._lines.get(timeout=SECONDS)
        except (queue.Empty, OSError):
            line = ""
        if not line:
            self._process.kill()
            self._process.wait()
            return None
        row: dict[str, Any] = json.loads(line)
        return row


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("rows", type=Path, nargs="?")
    parser.add_argument("--only", default="")
    parser.add_argument("--again", action="store_true")
    parser.add_argument("--child", action="store_true")
    arguments = parser.parse_args()
    if arguments.child:
        resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
        work()
        return
    from tests.support.library_checks import architectures

    rows: dict[str, dict[str, Any]] = {}
    if arguments.rows.exists():
        rows = {row["name"]: row for row in map(json.loads, arguments.rows.read_text().splitlines())}
    wanted = [name for name in architectures() if arguments.only in name]
    wanted = [name for name in wanted if name not in rows or (arguments.again and rows[name]["right"] is False)]
    child: Child | None = None
    with arguments.rows.open("a") as file:
        for name in wanted:
            child = child or Child()
            row = child.ask(name)
            if row is None:
                child, row = None, {"name": name, "right": False, "faults": ["the process died or took too long"]}
            rows[name] = row
            file.write(json.dumps(row) + "\n")
            file.flush()
            print(
                {True: "right", None: "large"}.get(row["right"], "WRONG"),
                name,
                row.get("seconds", ""),
                *row["faults"][:3],
                sep="  ",
                flush=True,
            )
    fit = [row for row in rows.values() if row["right"] is not None]
    right = [row for row in fit if row["right"]]
    units, agree = (sum(row.get(key, 0) for row in fit) for key in ("units", "units_agree"))
    print(f"{len(right)} of {len(fit)} architectures right, {len(rows) - len(fit)} too large")
    print(f"{agree:,} of {units:,} random units opened and right")


if __name__ == "__main__":
    main()
