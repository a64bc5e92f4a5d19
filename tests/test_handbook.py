"""The handbook as a site, as `make docs` builds it: no warning, each page in the navigation, nothing fetched from elsewhere."""

from __future__ import annotations

import importlib
import inspect
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SETTINGS = tomllib.loads((ROOT / "zensical.toml").read_text("utf-8"))["project"]
ZENSICAL = shutil.which("zensical", path=str(Path(sys.executable).parent))

# What a browser fetches by itself, unlike a link that somebody follows.
FETCHED = re.compile(
    r"""<(?:script|img|iframe|source|video|audio|embed)\b[^>]*\s(?:src|srcset)=["']?([^"'\s>]+)"""
    r"""|<link\b(?![^>]*rel=["']?(?:canonical|prev|next|alternate))[^>]*\shref=["']?([^"'\s>]+)"""
    r"""|url\(["']?([^"')]+)|@import\s+["']([^"']+)"""
)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built in a copy, since the builder writes beside its sources."""
    if ZENSICAL is None:
        if os.environ.get("CI") == "true":
            pytest.fail("CI needs the packages of the extra `docs`")
        pytest.skip("needs the packages of the extra `docs`: pip install --editable '.[dev,docs]'")
    folder = tmp_path_factory.mktemp("handbook")
    shutil.copy(ROOT / "zensical.toml", folder)
    shutil.copytree(ROOT / "docs", folder / "docs")
    (folder / "src").symlink_to(ROOT / "src")
    done = subprocess.run(
        [ZENSICAL, "build", "--strict", "--clean"], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / str(SETTINGS["site_dir"])


def test_each_page_is_in_the_navigation() -> None:
    listed = [page for entry in SETTINGS["nav"] for page in entry.values()]
    assert sorted(listed) == sorted(path.name for path in (ROOT / "docs").glob("*.md"))


def test_nothing_is_fetched_from_elsewhere(site: Path) -> None:
    assets = {".html", ".css"}
    found = {
        address
        for path in site.rglob("*")
        if path.suffix in assets
        for match in FETCHED.finditer(path.read_text("utf-8"))
        for address in match.groups()
        if address
    }
    assert len(found) > 10
    assert [each for each in found if each.startswith(("http:", "https:", "//"))] == []
    # These two make the site's script load another from elsewhere.
    assert "offline" not in SETTINGS["plugins"]
    assert not any('class="mermaid"' in path.read_text("utf-8") for path in site.rglob("*.html"))


@pytest.mark.parametrize("room", ["", "data", "models", "training", "evaluation", "explain"])
def test_the_reference_has_each_function_and_class(site: Path, room: str) -> None:
    door = importlib.import_module(".".join(filter(None, ["convoscope", room])))
    page = (site / "reference.html").read_text("utf-8")
    missing = []
    for name in door.__all__:
        found = inspect.unwrap(getattr(door, name)) if callable(getattr(door, name)) else None
        if inspect.isfunction(found) or inspect.isclass(found):
            # Where a file of the room has the function's name, docs/reference.md must name the function by its full path.
            own = {f"{door.__name__}.{name}", f"{found.__module__}.{found.__qualname__}"}
            rooms = {f"convoscope.{found.__module__.split('.')[1]}.{name}"}
            if not any(f'id="{each}"' in page for each in own | rooms):
                missing.append(name)
    assert missing == []
