"""A client for tests that need no runs."""

from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from convoscope.studio.state import Studio
from tests.support.routes import routes_client


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> TestClient:
    folder: Path = tmp_path_factory.mktemp("studio")
    return routes_client(Studio(runs=folder / "runs", models=folder / "models"))
