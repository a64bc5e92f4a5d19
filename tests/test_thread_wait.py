"""That torch's threads spin briefly, whichever of torch and convoscope is imported first."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

import pytest

QUIET = {name: value for name, value in os.environ.items() if name not in {"GOMP_SPINCOUNT", "OMP_WAIT_POLICY"}}
FACTS = """
import json, os, sys
loaded = "torch" in sys.modules
names = [open(f"/proc/self/task/{task}/comm").read() for task in os.listdir("/proc/self/task")]
print(json.dumps([os.environ.get("GOMP_SPINCOUNT"), loaded, len(names)]))
"""


def facts(code: str, **environment: str) -> Any:
    """The spin count in a new process, whether torch is imported, and its number of threads."""
    child: Mapping[str, str] = QUIET | environment
    result = subprocess.run([sys.executable, "-c", code + FACTS], env=child, capture_output=True, text=True, check=True)
    return json.loads(result.stdout)


def test_before_torch_the_environment_says_it_and_nothing_else_is_imported() -> None:
    assert facts("import convoscope") == ["1000", False, 1]


@pytest.mark.parametrize("variable", [{"GOMP_SPINCOUNT": "7"}, {"OMP_WAIT_POLICY": "active"}], ids=str)
def test_what_the_user_set_stays(variable: dict[str, str]) -> None:
    count, _, threads = facts("import convoscope", **variable)
    assert (count, threads) == (variable.get("GOMP_SPINCOUNT"), 1)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="GNU's OpenMP")
def test_after_torch_there_are_more_threads_than_cores() -> None:
    cores = os.cpu_count() or 1
    use = "import os, torch\ntorch.set_num_threads(2 if os.cpu_count() < 8 else os.cpu_count())\n"
    work = "torch.zeros(1 << 17).add_(1)\n"  # which the main thread shares with its own team
    environment = {name: value for name, value in QUIET.items() if not name.endswith("_NUM_THREADS")}
    count, loaded, before = facts(use + work, **environment)
    assert (count, loaded) == (None, True)
    count, loaded, after = facts(use + "import convoscope\n" + work)
    assert (count, loaded) == (None, True)
    assert after > max(before, cores)
