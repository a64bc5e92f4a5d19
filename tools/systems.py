"""Searches the source for what Windows or macOS lack: `python tools/systems.py`, part of `make check`.

mypy knows of each name in the standard library which systems have it, and understands `hasattr`. Only the standard
library is read, and only names that are missing are told: everything else is the business of mypy's ordinary run.
"""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).parents[1]
SYSTEMS = ("win32", "darwin")


def missing(source: Path, system: str) -> list[str]:
    """The lines in which something is used unguarded that this system lacks."""
    done = subprocess.run(
        [
            *(sys.executable, "-m", "mypy", "--config-file=", "--no-site-packages", "--ignore-missing-imports"),
            *(
                "--platform",
                system,
                "--cache-dir",
                str(ROOT / ".mypy_cache" / system),
                "--no-error-summary",
                str(source),
            ),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode > 1 or done.stderr:
        return [f"{system}: mypy failed: {done.stderr.strip() or done.stdout.strip()}"]
    return [f"{system}: {line}" for line in done.stdout.splitlines() if ": error: Module has no attribute" in line]


def main() -> int:
    """Print the findings; 1 if there are any."""
    with ThreadPoolExecutor() as pool:
        found = [line for lines in pool.map(lambda system: missing(ROOT / "src", system), SYSTEMS) for line in lines]
    for line in found:
        print(line)
    return bool(found)


if __name__ == "__main__":
    sys.exit(main())
