"""No command, and no process that one starts, takes code from the working folder, where it may lie beside pictures of a stranger."""

import json
import os
import re
import shutil
import signal
import site
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors
from PIL import Image

from convoscope import children
from convoscope.children import leave_working_folder, own_process

SOURCE = str(Path(children.__file__).parents[1])
NAMES = (
    "convoscope", "torch", "torchvision", "timm", "numpy", "PIL", "safetensors", "sitecustomize", "usercustomize", "matplotlib",
    "tensorboard", "rich", "cyclopts", "pydantic", "fastapi", "uvicorn", "lark", "ctypes", "pathlib", "extension",
)  # fmt: skip
LIBRARY, PACKAGES = str(Path(os.__file__).parent), site.getsitepackages()
# torch and pydantic import by themselves what any package on Python's path names so.
ENTRY_POINTS = "[torch.backends]\nextension = extension:load\n\n[pydantic]\nextension = extension:plugin\n"
# What the command's own script does; `-P`, as there too the path begins with another folder than this one.
COMMAND = [sys.executable, "-P", "-c", "import sys; from convoscope.launch import main; main()"]


@pytest.fixture
def planted(tmp_path: Path) -> Path:
    """A working folder full of modules that leave a mark in ../marks when they run."""
    folder, marks = tmp_path / "pictures", tmp_path / "marks"
    marks.mkdir()
    for name in NAMES:
        for file in (f"{name}/__init__.py", f"{name}/__main__.py", f"{name}.py", f"src/{name}.py"):
            path = folder / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"import os\nos.close(os.open('{marks}/{file.replace('/', '-')}', os.O_CREAT))\n")
    metadata = folder / "extension-1.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: extension\nVersion: 1\n")
    (metadata / "entry_points.txt").write_text(ENTRY_POINTS)
    Image.new("L", (5, 5), 200).save(folder / "picture.png")
    return folder


def marks(planted: Path) -> list[str]:
    return sorted(mark.name for mark in (planted.parent / "marks").iterdir())


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """A folder of the user's, for PYTHONPATH; it notes each of Python's processes, see `processes`."""
    folder = tmp_path / "own"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(
        "import json, os, sys\n"
        f"with open({str(tmp_path / 'processes')!r}, 'a') as file:\n"
        "    print(json.dumps([sys.orig_argv, os.environ.get('LD_PRELOAD')]), file=file)\n"
    )
    return folder


def processes(own: Path) -> list[Any]:
    """Command line and LD_PRELOAD of all processes so far that found the user's folder."""
    path = own.parent / "processes"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def environment(own: Path, **more: str) -> dict[str, str]:
    """Of a user with modules of her own, an empty cache and no tcmalloc."""
    plain = {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}
    cache = str(own.parent / "cache")
    return plain | {"PYTHONPATH": str(own), "CONVOSCOPE_CACHE": cache, "CONVOSCOPE_ALLOCATOR": "system"} | more


def test_no_command_takes_code_from_the_working_folder(planted: Path, own: Path) -> None:
    # As `python -c`, which puts the folder first. What is called convoscope is then Python's choice, before anything of ours runs.
    shutil.rmtree(planted / "convoscope")
    (planted / "convoscope.py").unlink()
    program = (
        "import os, sys\n"
        "os.environ['PYTHONPATH'] = ':src:' + os.environ['PYTHONPATH']\n"
        "from convoscope.children import leave_working_folder\n"
        "leave_working_folder()\n"
        "from convoscope.cli import run\n"
        "code = max(run(line.split()) for line in sys.argv[1:])\n"
        # What `relearn imagenet` does first; the rest of it takes half a minute.
        "from convoscope.training.core.weights import PACKAGED, packaged_weights\n"
        "from convoscope.studio.samples import _photograph\n"
        "assert len(packaged_weights(PACKAGED['imagenet'], print)) > 200 and _photograph(3).size and 'matplotlib' not in sys.modules\n"
        "sys.exit(code)\n"
    )
    commands = (
        "data builtin:lines", "model tiny", "train builtin:lines --model tiny --epochs 1 --no-test --output run",
        "train --resume run --epochs 2", "test run", "predict run picture.png", "look run picture.png", "compare run run",
        "relearn run classes --output relearned",
    )  # fmt: skip
    for number in range(8):
        path = planted / "classes" / "ab"[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (5, 5), 30 * number).save(path)
    # A library that torch looks for on Linux, and that machines without a graphics card do not have; any one does.
    any_library = next(Path(safetensors.__file__).parent.glob("*.so"))
    shutil.copy(any_library, planted / "libcuda.so.1")
    told = environment(own, LD_DEBUG="libs", LD_DEBUG_OUTPUT=str(own.parent / "loaded"))
    done = subprocess.run(
        [sys.executable, "-c", program, *commands], cwd=planted, env=told, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert marks(planted) == []
    assert ["convoscope.training.core.unpacking" in line for line, _ in processes(own)] == [False, True]
    # Nor was any library that lies there loaded.
    for report in own.parent.glob("loaded.*"):
        assert re.findall(r"calling init: [^/].*", report.read_text()) == []


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="trainings start anew on Linux alone")
@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["train", "builtin:lines", "--model", "tiny", "--epochs", "1", "--no-test", "--output", "run"], 0),
        (["relearn", "nowhere", "nowhere"], 2),
    ],
    ids=["train", "relearn"],
)
def test_a_training_that_starts_anew_takes_no_code_from_the_working_folder(
    planted: Path, own: Path, arguments: list[str], code: int
) -> None:
    # Any library that can be loaded beforehand does for tcmalloc.
    library = re.findall(r"\S+/libc\b\S*\.so\S*", Path("/proc/self/maps").read_text())[0]
    program = (
        "import os, pathlib, sys\n"
        "from convoscope import launch\n"
        f"launch._tcmalloc_libraries = lambda: iter([pathlib.Path({library!r})])\n"
        "os.environ['PYTHONPATH'] = ':src:' + os.environ['PYTHONPATH']\n"
        "launch.main()\n"
    )
    told = environment(own, CONVOSCOPE_ALLOCATOR="")
    done = subprocess.run(
        [sys.executable, "-P", "-c", program, *arguments], cwd=planted, env=told, stderr=subprocess.PIPE, text=True, check=False
    )  # fmt: skip
    assert done.returncode == code, done.stderr
    assert marks(planted) == []
    first, second = processes(own)
    assert first[1] is None
    assert second == [[sys.executable, "-P", "-m", "convoscope", *arguments], library]


def test_started_by_m_it_leaves_the_folder_before_it_imports_anything_else(planted: Path, own: Path) -> None:
    shutil.rmtree(planted / "convoscope")
    (planted / "convoscope.py").unlink()
    command = [sys.executable, "-m", "convoscope", "model", "tiny"]
    subprocess.run(command, cwd=planted, env=environment(own), check=True, stdout=subprocess.DEVNULL)
    assert marks(planted) == []


def until(reached: Callable[[], bool]) -> None:
    end = time.monotonic() + 120
    while not reached():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_the_studio_and_its_processes_take_no_code_from_the_working_folder(planted: Path, own: Path) -> None:
    command = [*COMMAND, "studio", "--no-browser"]
    with subprocess.Popen(command, cwd=planted, env=environment(own), stdout=subprocess.DEVNULL) as studio:
        try:
            # One of them decodes pictures, another makes a network.
            until(lambda: {line[3] for line, _ in processes(own)} > {"convoscope.studio.decoder_child", "convoscope"})
        finally:
            studio.send_signal(signal.SIGTERM)
    assert studio.returncode == 143
    assert {line[1] for line, _ in processes(own)} == {"-P"}
    assert marks(planted) == []


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (None, None), ("", ""), (":", ""), (".", ""), ("./", ""), ("src", ""), ("{here}", ""), (":/opt/x", "/opt/x"), ("/opt/x:", "/opt/x"),
        ("/opt/x::/opt/y", "/opt/x:/opt/y"), ("{here}/own", "{here}/own"), ("../own", "{above}/own"), ("../own/../pictures/src", ""),
    ],
)  # fmt: skip
def test_what_of_pythonpath_is_passed_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: str | None, after: str | None
) -> None:
    here = tmp_path / "pictures"
    here.mkdir()
    monkeypatch.chdir(here)
    monkeypatch.setattr(children, "_OWN", PACKAGES[0])
    monkeypatch.delenv("PYTHONPATH", raising=False)
    if before is not None:
        monkeypatch.setenv("PYTHONPATH", before.format(here=here))
    monkeypatch.setenv("PYTHONUSERBASE", "base")
    monkeypatch.setenv("PYTHONPYCACHEPREFIX", "/var/cache/python")
    command, variables = own_process("some.module", "--flag", OMP_NUM_THREADS="1")
    assert command == [sys.executable, "-P", "-m", "some.module", "--flag"]
    assert variables.get("PYTHONPATH") == (after and after.format(here=here, above=tmp_path))
    kept = {"PYTHONSAFEPATH": "1", "PYTHONUSERBASE": "", "PYTHONPYCACHEPREFIX": "/var/cache/python"}
    assert variables.items() >= (kept | {"OMP_NUM_THREADS": "1"}).items()


def here(monkeypatch: pytest.MonkeyPatch, folder: Path, python_path: str | None, *path: Path | str) -> None:
    """Stand in a folder, with this PYTHONPATH and this `sys.path`."""
    monkeypatch.chdir(folder)
    monkeypatch.setattr(os, "environ", {} if python_path is None else {"PYTHONPATH": python_path})
    monkeypatch.setattr(sys, "path", [str(entry) for entry in path])
    monkeypatch.setattr(children, "_load_away_from_here", lambda: None)


def test_where_convoscope_itself_lies_code_is_taken_from(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    # From a copy of the sources, by `cd src; python -m convoscope`, or `PYTHONPATH=src`.
    source = tmp_path / "src"
    source.mkdir()
    monkeypatch.setattr(children, "_OWN", str(source))
    for folder, python_path in ((source, None), (tmp_path, "src")):
        here(monkeypatch, folder, python_path, source, "")
        assert own_process("convoscope")[1]["PYTHONPATH"] == str(source)
        leave_working_folder()
        assert sys.path == [str(source)]


def test_only_what_leads_into_the_working_folder_is_taken_off_the_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, mine = tmp_path / "pictures", tmp_path / "pictures" / "mine"
    mine.mkdir(parents=True)
    here(monkeypatch, folder, f":src:/opt/x:{mine}", folder, folder / "src", "/opt/x", mine, "", LIBRARY, *PACKAGES)
    leave_working_folder()
    assert sys.path == ["/opt/x", str(mine), LIBRARY, *PACKAGES]
    assert os.environ == {"PYTHONPATH": f"/opt/x:{mine}:{SOURCE}", "PYTHONSAFEPATH": "1"}


def test_pythons_own_folders_stay_on_the_path_wherever_one_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    for folder in (LIBRARY, PACKAGES[0]):
        here(monkeypatch, Path(folder), ":", folder, "", LIBRARY, *PACKAGES)
        leave_working_folder()
        assert {*sys.path} == {LIBRARY, *PACKAGES}


def test_a_working_folder_that_was_removed(tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    command = ["sh", "-c", 'rmdir "$PWD"; exec "$@"', "sh", *COMMAND, "model", "tiny"]
    plain = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(command, cwd=gone, env=plain, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
