"""Builds the studio's page into the package whenever convoscope is installed or packed: `npm ci` and `npm run build` in
web/.
"""

from __future__ import annotations

import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class PageHook(BuildHookInterface):
    """Of wheels and editable installs; the sdist holds the page's sources instead."""

    def dependencies(self) -> list[str]:
        """A Node of its own for this build, where the machine has none that suits."""
        tool = runpy.run_path(str(self._npm))
        return [] if tool["npm_on_path"]() else [tool["PACKAGE"]]

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Build the page. If that fails, so does the installation, with npm's last words."""
        done = subprocess.run(
            [sys.executable, str(self._npm), "run", "build"],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            check=False,
        )
        if done.returncode:
            last = "\n".join(done.stdout.splitlines()[-30:])
            self.app.abort(
                f"{last}\n\nerror: the studio's page could not be built: `npm ci` or `npm run build` failed in web/\n"
                "hint: npm needs its registry the first time; behind a proxy set one with: npm config set proxy URL; "
                "if web/node_modules comes from another machine, remove it"
            )

    @property
    def _npm(self) -> Path:
        return Path(self.root) / "tools" / "npm.py"
