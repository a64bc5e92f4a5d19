"""Linux, macOS and Windows: main paths where everything that only POSIX has is missing.

No test runs on macOS or Windows themselves; `tests/support/plain_system` says what the stand-in for Windows does. That
nothing is used unguarded that these systems lack is searched by `tools/systems.py`, in `make check`.
"""

import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

SUPPORT = Path(__file__).parent / "support" / "plain_system"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with 24 pictures of two classes."""
    place = tmp_path_factory.mktemp("plain")
    rng = np.random.default_rng(0)
    for number in range(24):
        path = place / "pictures" / "ab"[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(100 * (number % 2), 100 + 100 * (number % 2), (8, 8), np.uint8)).save(path)
    return place


@pytest.fixture(scope="module")
def environment(place: Path) -> dict[str, str]:
    runtime = place / "runtime"
    runtime.mkdir()
    return os.environ | {
        "PYTHONPATH": str(SUPPORT), "CONVOSCOPE_CACHE": str(place / "cache"), "OMP_NUM_THREADS": "1",
        "CONVOSCOPE_ALLOCATOR": "system", "XDG_RUNTIME_DIR": str(runtime),
    }  # fmt: skip


@pytest.fixture(scope="module")
def python(place: Path, environment: dict[str, str]) -> Callable[[str], subprocess.CompletedProcess[str]]:
    def run(code: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-P", "-c", code], cwd=place, env=environment, capture_output=True, text=True, check=False
        )

    return run


def test_the_stand_in_lacks_what_windows_lacks(python: Callable[[str], subprocess.CompletedProcess[str]]) -> None:
    done = python(
        "import os, signal\n"
        "for name in ('fcntl', 'resource', 'pwd'):\n"
        "    try: __import__(name)\n"
        "    except ImportError: print('no', name)\n"
        "print(hasattr(os, 'geteuid'), hasattr(os, 'O_NONBLOCK'), hasattr(signal, 'SIGKILL'))\n"
        "os.mkdir('held'); file = open('held/file', 'w')\n"
        "for deed in (lambda: os.rename('held', 'moved'), lambda: os.unlink('held/file')):\n"
        "    try: deed()\n"
        "    except PermissionError: print('held')\n"
        "file.close(); os.rename('held', 'moved')\n"
    )
    assert (done.stdout.split("\n"), done.stderr) == (
        ["no fcntl", "no resource", "no pwd", "False False False", "held", "held", ""], "",
    )  # fmt: skip


def test_data_train_resume_test_predict_and_relearn_without_posix(
    place: Path, python: Callable[[str], subprocess.CompletedProcess[str]]
) -> None:
    """As the command line runs them, one after the other in one process: so what an earlier one left open is in the way."""
    lines = (
        "data pictures", "train pictures --model tiny --epochs 2 --no-test --output run", "train --resume run --epochs 3",
        "train pictures --model tiny --epochs 1 --no-test --output other", "test run", "predict run pictures/a/0.png --json",
        "relearn run pictures --no-test --output relearned",
    )  # fmt: skip
    done = python(
        f"from convoscope.cli import run\nfor line in {lines}:\n    print('code', run(line.split()), line, flush=True)\n"
    )
    codes = [line for line in done.stdout.splitlines() if line.startswith("code ")]
    assert codes == [f"code 0 {line}" for line in lines], done.stdout + done.stderr
    assert "internal error" not in done.stderr and "Permission" not in done.stderr
    assert (place / "relearned" / "best.safetensors").is_file() and (place / "run" / "test" / "scores.json").is_file()
    assert list((place / "cache").rglob("*.tmp")) == []
    assert any((place / "cache" / "pixels").iterdir())


def test_one_process_at_a_time_without_posix(
    place: Path, python: Callable[[str], subprocess.CompletedProcess[str]]
) -> None:
    code = (
        "from pathlib import Path\n"
        "from convoscope.files import FolderLock\n"
        "from convoscope.errors import InUseError\n"
        "try:\n    FolderLock(Path('locked')); print('free')\n"
        "except InUseError as error: print(error.reason)\n"
    )
    (place / "locked").mkdir()
    from convoscope.files import FolderLock

    with FolderLock(place / "locked"):
        assert python(code).stdout.startswith(f"in use by process {os.getpid()} since ")
    assert python(code).stdout == "free\n"


@pytest.fixture
def studio(place: Path, environment: dict[str, str]) -> Iterator[tuple[subprocess.Popen[str], str]]:
    # Without the networks that it trains at its start.
    code = (
        "from convoscope.studio import startup_networks\n"
        "startup_networks.StartupNetworks.start = lambda self: None\n"
        "import sys; from convoscope.cli import run; sys.exit(run(['studio']))\n"
    )
    with subprocess.Popen(
        [sys.executable, "-P", "-u", "-c", code], cwd=place, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:  # fmt: skip
        assert process.stdout is not None
        yield process, process.stdout.readline().removeprefix("studio: ").strip()
        process.kill()


def test_the_studio_starts_decodes_and_stops_without_posix(
    place: Path, studio: tuple[subprocess.Popen[str], str]
) -> None:
    process, address = studio
    browser = urllib.request.build_opener(urllib.request.HTTPCookieProcessor())
    with browser.open(address) as answer:
        assert answer.status == 200
    base = address.partition("/?")[0]
    picture = (place / "pictures" / "a" / "0.png").read_bytes()
    request = urllib.request.Request(
        f"{base}/api/images", picture, {"content-type": "application/octet-stream", "origin": base}
    )
    with browser.open(request) as answer:
        assert b'"height":8,"width":8' in answer.read()
    process.send_signal(signal.SIGINT)
    assert process.wait(20) == 130


@pytest.mark.parametrize("encoding", ["cp1252", "ascii"])
def test_letters_that_a_code_page_lacks_are_written_as_escapes(encoding: str) -> None:
    code = (
        "from convoscope.launch import open_streams; open_streams(); print('кот – cat'); import sys; sys.stdout.flush()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | {"PYTHONIOENCODING": encoding}, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(rb"\u043a\u043e\u0442 ") and done.stdout.rstrip().endswith(b" cat")
