"""Ask pip-audit which installed packages have known vulnerabilities. Run by .ci/run, with the Python to be checked.

    .venv/bin/python tools/audit.py

A vulnerability that is fixed in a newer release of a package in pyproject.toml is a failure: raise the bound there. One
in a package that only others need, or without a fixed release, is printed: no change of ours waits for somebody else's
release. If pip-audit cannot be installed, or gives no answer about any package, one line says so.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
import tomllib
import venv
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
SECONDS = 300


def main() -> int:
    """Audit, print what was found; 1 if something has to be done."""
    answer = report()
    if isinstance(answer, str):
        print(f"audit: skipped, {answer}")
        return 0
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    to_do, told = verdict(answer, project["dependencies"])
    if not told:
        print("audit: skipped, no answer about any package")
        return 0
    for line in (*to_do, *told):
        print(f"audit: {line}")
    return 1 if to_do else 0


def report() -> dict[str, Any] | str:
    """What pip-audit found out about the packages of this Python, or why it did not."""
    with tempfile.TemporaryDirectory() as folder:
        python = str(Path(folder) / "bin" / "python")
        try:
            venv.create(folder, with_pip=True)  # its own, so that what it needs is not audited with the rest
            install = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "pip-audit"]
            if subprocess.run(install, stderr=subprocess.DEVNULL, timeout=SECONDS, check=False).returncode:
                return "pip-audit cannot be installed from here"
            options = ["--format", "json", "--desc", "off", "--progress-spinner", "off", "--timeout", "10"]
            audit = [python, "-m", "pip_audit", *options]
            done = subprocess.run(
                audit, env={**os.environ, "PIPAPI_PYTHON_LOCATION": sys.executable},
                capture_output=True, text=True, timeout=SECONDS, check=False,
            )  # fmt: skip
            found = json.loads(done.stdout)
        except subprocess.TimeoutExpired:
            return "no answer in time"
        except (OSError, ValueError, subprocess.CalledProcessError):
            return "pip-audit gives no answer here"
    return found if isinstance(found, dict) else "pip-audit gives no answer here"


def verdict(answer: dict[str, Any], declared: list[str]) -> tuple[list[str], list[str]]:
    """Lines about what has to be done, and lines about the rest; none at all where no package could be looked up."""
    own = {_plain(re.split(r"[^\w.-]", line)[0]) for line in declared}
    to_do, told = [], []
    packages = [entry for entry in answer["dependencies"] if "vulns" in entry]
    for entry in packages:
        for found in entry["vulns"]:
            fixed = found["fix_versions"]
            line = f"{entry['name']} {entry['version']} has a known vulnerability, {found['id']}"
            line += f", fixed in {', '.join(fixed)}" if fixed else ", not fixed so far"
            (to_do if fixed and _plain(entry["name"]) in own else told).append(line)
    if packages:
        told.append(f"{len(packages)} of {len(answer['dependencies'])} installed packages were looked up")
    return to_do, told


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


if __name__ == "__main__":
    sys.exit(main())
