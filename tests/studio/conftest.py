"""The studio's doors for all its tests."""

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
