"""What every test shares: a quick Hypothesis profile, a cache of its own, and the real pictures beside the project."""

import os
from pathlib import Path

# The tests' networks are so small that a second thread only waits for the first; it must be said before torch is imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
from hypothesis import HealthCheck, settings

SHARED_DATA = Path(os.environ.get("CONVOSCOPE_SHARED_DATA", Path(__file__).parents[2] / "shared" / "data"))

settings.register_profile("quick", deadline=None, max_examples=25, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("long", deadline=None, max_examples=1000, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "quick"))


@pytest.fixture(autouse=True, scope="session")
def cache_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The decoded store of the tests, apart from the user's own."""
    folder = tmp_path_factory.mktemp("cache")
    os.environ["CONVOSCOPE_CACHE"] = str(folder)
    return folder


@pytest.fixture
def shared_data() -> Path:
    """The folder of real pictures. It must be there where CI=true."""
    if not SHARED_DATA.is_dir():
        if os.environ.get("CI") == "true":
            pytest.fail(f"CI needs the real pictures in {SHARED_DATA}")
        pytest.skip(f"the real pictures are not in {SHARED_DATA}")
    return SHARED_DATA
