"""Get a browser for the tests of the studio's page, where the machine has none. Run by `make test`.

    .venv/bin/python tools/browser.py

On Debian and its kin, as root, chromium is installed with apt. Elsewhere Playwright downloads its own build into the
user's cache. If neither works, one sentence says so, and the tests that need a browser are skipped; with CI=true they
fail.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

NAMES = ("chromium", "chromium-browser", "google-chrome")
PACKAGES = ("chromium", "fonts-dejavu-core")
MISSING = "no chromium was found, so the tests of the studio's page cannot run"
HINT = "install chromium, or run `.venv/bin/python -m playwright install --with-deps chromium`, then `make test` again"


def main() -> int:
    """Find a browser or get one. The exit code is always 0: pytest decides whether tests may be skipped."""
    if find() is None:
        get()
    if find() is None:
        print(f"{MISSING}; {HINT}", file=sys.stderr)
    return 0


def find() -> str | None:
    """The path of a chromium that starts: the system's, else the one that Playwright downloaded."""
    for name in NAMES:
        if (path := shutil.which(name)) is not None:
            return path
    own = _of_playwright()
    # It may lack libraries of the system's, which its version needs no less than its pages.
    if own is not None and subprocess.run([own, "--version"], capture_output=True, check=False).returncode == 0:
        return own
    return None


def get() -> None:
    """Install a browser; what the installers say is shown."""
    if shutil.which("apt-get") and os.geteuid() == 0:
        environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
        for arguments in (["update"], ["install", "--yes", "--no-install-recommends", *PACKAGES]):
            subprocess.run(["apt-get", "--quiet", *arguments], env=environment, check=False)
        if find() is not None:
            return
    subprocess.run([sys.executable, "-m", "playwright", "install", "chromium"], check=False)


def _of_playwright() -> str | None:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        path = playwright.chromium.executable_path
    return path if Path(path).exists() else None


if __name__ == "__main__":
    sys.exit(main())
