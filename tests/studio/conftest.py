"""What several tests of the studio start from."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.studios import Door, Served, make_door, serving


@pytest.fixture
def door(tmp_path: Path) -> Door:
    return make_door(tmp_path)


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """One server for all tests that leave it as it is. Nothing in it may fail in any of them."""
    with serving(tmp_path_factory.mktemp("studio")) as one:
        yield one
    assert one.faults == []


@pytest.fixture
def runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's runtime folder in this test."""
    folder = tmp_path / "runtime"
    folder.mkdir(mode=0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(folder))
    return folder
