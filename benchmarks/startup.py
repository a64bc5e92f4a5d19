"""Seconds until `convoscope --help` has answered, as a whole process; with Python's own start beside it.

.venv/bin/python benchmarks/startup.py
"""

import statistics
import subprocess
import sys
import time


def seconds(command: list[str]) -> float:
    begin = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - begin


def main() -> None:
    commands = {
        "python -c pass": [sys.executable, "-c", "pass"],
        "convoscope --help": [sys.executable, "-m", "convoscope", "--help"],
    }
    taken: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(11):
        for name, command in commands.items():
            taken[name].append(seconds(command))
    for name, values in taken.items():
        values = sorted(values[1:])
        print(f"{name:20} median {statistics.median(values):.3f} s, {values[0]:.3f} to {values[-1]:.3f}")


if __name__ == "__main__":
    main()
