"""Runs and their filters over HTTP: what is listed, what is left out, and what a name can reach."""

import itertools
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import anyio
import numpy as np
import pytest
from fastapi.testclient import TestClient

from convoscope.evaluation import test as test_run
from convoscope.explain import convolve, filters
from convoscope.studio.run_folders import FIGURES, WEIGHTS
from convoscope.studio.samples import sample
from convoscope.studio.state import Studio
from convoscope.training import Run, read_summary, train
from tests.support.routes import chain_result, copied, numbers, routes_client

ROOT = Path(__file__).parents[3]


def client_for(runs: Path, role: str = "owner") -> TestClient:
    return routes_client(Studio(runs=runs, models=runs / "models"), role)


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two runs."""
    root = tmp_path_factory.mktemp("studio") / "runs"
    train("builtin:lines", "tiny", output=root / "first try", epochs=3)
    train("builtin:drawings/apple,banana", "conv(4) relu maxpool conv(6, 5) relu flatten dense", output=root / "fruit", epochs=1)  # fmt: skip
    return root


@pytest.fixture(scope="module")
def client(studio: Path) -> TestClient:
    return client_for(studio)


def test_the_runs(client: TestClient, studio: Path) -> None:
    first, fruit = client.get("/api/runs").json()["runs"]
    run = Run.open(studio / "first try")
    assert first == {
        "id": "first try", "classes": ["horizontal", "vertical"], "height": 5, "width": 5, "channels": 1, "model": "tiny",
        "parameters": 19, "epochs": 3, "validation_accuracy": run.history[run.best_epoch - 1]["val_accuracy"],
        "test_accuracy": None, "pad": None,
    }  # fmt: skip
    assert (fruit["id"], fruit["pad"], fruit["epochs"], fruit["classes"]) == (
        "fruit",
        "drawings",
        1,
        ["apple", "banana"],
    )


def test_the_accuracy_of_a_test_is_shown(tmp_path: Path, studio: Path) -> None:
    copied(studio / "fruit", tmp_path / "fruit")
    client = client_for(tmp_path)
    assert client.get("/api/runs").json()["runs"][0]["test_accuracy"] is None
    scores = test_run(Run.open(tmp_path / "fruit"), invariance=False)
    assert client.get("/api/runs").json()["runs"][0]["test_accuracy"] == scores.accuracy


def test_a_broken_run_does_not_hide_the_others(tmp_path: Path, studio: Path) -> None:
    def broken(name: str, file: str, content: bytes) -> None:
        place = copied(studio / "fruit", tmp_path / name) / file
        place.parent.mkdir(exist_ok=True)
        place.write_bytes(content)

    broken("cut", "run.toml", (studio / "fruit" / "run.toml").read_bytes()[:400])
    broken("no toml", "run.toml", b"\xff\x00")
    broken("deep", "run.toml", b"a = " + b"[" * 100_000)
    broken("foreign", "run.toml", b'size = 3\nchannels = "x"')
    broken("scores", "test/scores.json", b"[1]")
    broken("scores of another kind", "test/scores.json", b"{}")
    broken("not a number", "test/scores.json", json.dumps({"task": "classification", "source": "", "split": "test", "images": 1, "classes": [], "accuracy": float("nan"), "loss": 1, "chance": 0, "per_class": {}}).encode())  # fmt: skip
    (copied(studio / "fruit", tmp_path / "gone") / "run.toml").unlink()
    os.mkfifo(copied(tmp_path / "gone", tmp_path / "pipe") / "run.toml")
    (tmp_path / "empty").mkdir()
    (tmp_path / "a file").write_text("no run")
    for name in ("best", "last", "previous"):
        (copied(studio / "fruit", tmp_path / f"without {name}") / f"{name}.safetensors").unlink(missing_ok=True)
    bare = copied(studio / "fruit", tmp_path / "bare")
    for file in bare.glob("*.safetensors"):
        file.unlink()
    copied(studio / "fruit", tmp_path / os.fsdecode(b"no text \xff"))
    client = client_for(tmp_path)
    said: list[str] = []
    client.app.state.studio.skipped.warn = said.append  # type: ignore[attr-defined]
    told = client.get("/api/runs").json()
    assert [run["id"] for run in told["runs"]] == ["without best", "without last", "without previous"]
    assert told["unreadable"] == [
        "cut", "deep", "foreign", "gone", "no text \\udcff", "no toml", "not a number", "pipe", "scores", "scores of another kind",
    ]  # fmt: skip
    assert said[0].startswith("cut: left out of the list of runs: its settings cannot be read: ")
    assert len(said) == 6 and said[-1] == "5 more folders were left out of the list of runs"
    client.get("/api/runs")
    assert len(said) == 6, "said once"


def test_what_is_no_file_and_what_fails_in_any_way_is_passed_over(
    tmp_path: Path, studio: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for part in (*WEIGHTS, *FIGURES):
        place = copied(studio / "fruit", tmp_path / f"folder as {part.replace('/', ' ')}") / part
        place.unlink(missing_ok=True)
        place.mkdir(parents=True)
        place = copied(studio / "fruit", tmp_path / f"pipe as {part.replace('/', ' ')}") / part
        place.parent.mkdir(exist_ok=True)
        place.unlink(missing_ok=True)
        os.mkfifo(place)
    (copied(studio / "fruit", tmp_path / "deep scores") / "test").mkdir()
    (tmp_path / "deep scores" / "test" / "scores.json").write_text("[" * 100_000)
    copied(studio / "fruit", tmp_path / "good")
    copied(studio / "fruit", tmp_path / "surprise")

    def surprising(folder: Path) -> Any:
        if folder.name == "surprise":
            raise ZeroDivisionError
        return read_summary(folder)

    monkeypatch.setattr("convoscope.studio.routes.runs.read_summary", surprising)
    told = client_for(tmp_path).get("/api/runs").json()
    assert [run["id"] for run in told["runs"]] == ["good"]
    assert len(told["unreadable"]) == 14
    monkeypatch.setattr("convoscope.studio.routes.runs.read_summary", read_summary)
    (tmp_path / "deep scores" / "test" / "scores.json").unlink()
    told = client_for(tmp_path).get("/api/runs").json()
    assert [run["id"] for run in told["runs"]] == ["deep scores", "good", "surprise"], "what is mended is back"


AS_SOMEBODY_ELSE = """
import json, os, sys
from pathlib import Path
from convoscope.studio import draw_state, guesses, startup_networks
from convoscope.studio.state import Studio
from tests.support.routes import routes_client

startup_networks.READY_MADE = ()
guesses.Guesser.warm_up = lambda self, folders: None
draw_state._IDLE_REFRESH_SECONDS = 0.05
if os.geteuid() == 0:  # root may read everything
    os.setegid(65534)
    os.seteuid(65534)
runs = Path(sys.argv[1])
studio = Studio(runs=runs, models=runs / "none")
said = []
studio.skipped.warn = said.append
with routes_client(studio) as client, client.websocket_connect("/api/live") as live:
    told = [client.get("/api/runs").json(), client.get("/api/draw/models").json(), live.receive_json()]
    for place in ("folder", "test/test", "settings/run.toml", "scores/test/scores.json"):
        (runs / place).chmod(0o700)
        told.append(live.receive_json())
    told.append(client.get("/api/runs").json())
    runs.chmod(0)
    told.append(client.get("/api/runs").json())
    runs.chmod(0o700)
print(json.dumps({"told": told, "said": said}))
"""


def test_folders_without_rights_hide_no_other_and_come_back_with_them(studio: Path) -> None:
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        runs = root / "runs"
        for copy in ("folder", "good", "scores", "settings", "test"):
            (copied(studio / "fruit", runs / copy) / "test").mkdir()
        good = copied(studio / "fruit", root / "tested")
        test_run(Run.open(good), invariance=False)
        for copy in ("scores", "test"):
            shutil.copy(good / "test" / "scores.json", runs / copy / "test")
        for place in ("folder", "test/test", "settings/run.toml", "scores/test/scores.json"):
            (runs / place).chmod(0)
        if os.geteuid() == 0:
            root.chmod(0o755)
            for path in (runs, *runs.rglob("*")):
                os.chown(path, 65534, 65534)
        command = [sys.executable, "-c", AS_SOMEBODY_ELSE, str(runs)]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, cwd=ROOT)
    assert ended.returncode == 0, ended.stderr
    seen = json.loads(ended.stdout)
    listed, drawable, first, *news, last, closed = seen["told"]
    assert [run["id"] for run in listed["runs"]] == ["good"]
    assert [model["id"] for model in drawable["models"]] == ["run:good"]
    bad = ["folder", "scores", "settings", "test"]
    assert listed["unreadable"] == drawable["unreadable"] == first["unreadable"] == bad
    assert [one["unreadable"] for one in news] == [
        ["scores", "settings", "test"], ["scores", "settings"], ["scores"], []
    ]  # fmt: skip
    assert [run["id"] for run in last["runs"]] == ["folder", "good", "scores", "settings", "test"]
    assert closed == {"runs": [], "unreadable": ["runs"]}
    assert len(seen["said"]) == 5, seen["said"]
    assert seen["said"][0] == "folder: left out of the list of runs: the system says: Permission denied"


def test_a_folder_that_is_not_there_has_no_runs(tmp_path: Path) -> None:
    assert client_for(tmp_path / "nowhere").get("/api/runs").json() == {"runs": [], "unreadable": []}


def test_links_that_lead_out_are_not_followed(tmp_path: Path, studio: Path) -> None:
    runs = tmp_path / "runs"
    inner = copied(studio / "fruit", runs / "inner")
    (runs / "link within").symlink_to(inner)
    (runs / "link out").symlink_to(studio / "fruit")
    (runs / "circle").symlink_to("circle")
    for file in ("best.safetensors", "metrics.csv", "run.toml"):
        place = copied(studio / "fruit", runs / f"linked {file}") / file
        place.unlink()
        place.symlink_to(studio / "fruit" / file)
    (copied(studio / "fruit", runs / "linked test") / "test").symlink_to(tmp_path)
    (tmp_path / "scores.json").write_text("{}")
    client = client_for(runs)
    assert [run["id"] for run in client.get("/api/runs").json()["runs"]] == ["inner", "link within"]
    assert client.get("/api/runs/link%20within/filters").status_code == 200
    assert client.get("/api/runs/link%20out/filters").status_code == 404
    assert client.get("/api/runs/linked%20best.safetensors/filters").status_code == 404


def test_a_run_that_goes_on_is_read_again(tmp_path: Path, studio: Path) -> None:
    folder = copied(studio / "fruit", tmp_path / "fruit")
    client = client_for(tmp_path)
    assert client.get("/api/runs").json()["runs"][0]["epochs"] == 1
    table = (folder / "metrics.csv").read_text()
    (folder / "metrics.csv").write_text(table + table.splitlines()[1].replace("1,", "2,", 1) + "\n")
    assert client.get("/api/runs").json()["runs"][0]["epochs"] == 2


def test_200_runs_are_listed_without_torch_and_each_is_read_once(tmp_path: Path, studio: Path) -> None:
    for number in range(200):
        folder = tmp_path / f"run {number:03}"
        folder.mkdir()
        for file in ("run.toml", "metrics.csv", "best.safetensors"):
            os.link(studio / "fruit" / file, folder / file)
    script = f"""
import sys
from pathlib import Path
from convoscope.studio.routes import runs as room
from convoscope.studio.state import Studio
from tests.support.routes import routes_client
studio = Studio(runs=Path({str(tmp_path)!r}), models=Path())
read, summaries = room.read_summary, []
def counted(folder):
    summaries.append(folder)
    return read(folder)
room.read_summary = counted
client = routes_client(studio)
counts = []
for _ in range(2):
    assert len(client.get("/api/runs").json()["runs"]) == 200
    counts.append(len(summaries))
print("torch" in sys.modules, *counts)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.split() == ["False", "200", "200"], "the second time nothing has changed"


def test_students_see_no_runs(studio: Path) -> None:
    client = client_for(studio, role="student")
    assert client.get("/api/runs").json() == {"runs": [], "unreadable": []}
    assert client.get("/api/runs/fruit/filters").status_code == 404
    assert client.get("/api/runs/fruit/filters/conv1/0").status_code == 404


def test_the_filters_of_a_run(client: TestClient, studio: Path) -> None:
    assert client.get("/api/runs/fruit/filters").json()["layers"] == [
        {"name": "conv1", "filters": 4, "channels": 1, "height": 3, "width": 3},
        {"name": "conv2", "filters": 6, "channels": 4, "height": 5, "width": 5},
    ]
    network = Run.open(studio / "fruit").network()
    for layer, index in itertools.product(("conv1", "conv2"), (0, 3)):
        maps = client.get(f"/api/runs/fruit/filters/{layer}/{index}").json()["maps"]
        np.testing.assert_array_equal(numbers(maps, "<f8"), filters(network, layer)[index].transpose(1, 2, 0))


def test_a_filter_of_a_run_goes_into_a_convolution(client: TestClient) -> None:
    kernel = numbers(client.get("/api/runs/fruit/filters/conv1/2").json()["maps"], "<f8")
    image = sample("apple")
    made = chain_result(client, image, {"kind": "convolve", "kernel": kernel.tolist(), "border": "zeros"})
    expected = convolve(image, kernel, border="zeros")
    np.testing.assert_array_equal(numbers(made["steps"][0]["maps"], "<f8")[:, :, 0], expected)


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("nothing/filters", 404, "run-unknown"),
        ("fruit/filters/conv3/0", 404, "layer-unknown"),
        ("fruit/filters/relu1/0", 404, "layer-unknown"),
        ("fruit/filters/conv1/4", 404, "filter-unknown"),
        ("fruit/filters/conv1/-1", 404, "filter-unknown"),
    ],
)
def test_filters_that_are_not_there(client: TestClient, path: str, status: int, code: str) -> None:
    answer = client.get(f"/api/runs/{path}")
    assert (answer.status_code, answer.json()["code"]) == (status, code)


def test_a_run_that_cannot_be_opened(tmp_path: Path, studio: Path) -> None:
    folder = copied(studio / "fruit", tmp_path / "fruit")
    client = client_for(tmp_path)
    for file in folder.glob("*.safetensors"):
        file.write_bytes(b"\0" * 100)
    answer = client.get("/api/runs/fruit/filters")
    assert (answer.status_code, answer.json()["code"]) == (422, "checkpoint-damaged")
    assert str(tmp_path) not in answer.text
    for file in folder.glob("*.safetensors"):
        file.unlink()
    answer = client.get("/api/runs/fruit/filters")
    assert (answer.status_code, answer.json()["code"]) == (404, "run-empty")


def hostile_names(studio: Path) -> list[str]:
    """Paths under POSIX and Windows rules, as they are and encoded once, twice, and wrongly."""
    target = studio.parent / "secret"
    plain = [
        "..", ".", "../secret", "../../etc/passwd", "..\\secret", "..\\..\\windows\\win.ini", "C:\\secret", "C:secret", "c:/secret",
        "\\\\host\\share", "//host/share", "\\\\?\\C:\\secret", "\\\\.\\NUL", "NUL", "CON", "aux.txt", "fruit/..", "fruit/../../secret",
        "fruit/.", "./fruit", "fruit/", "/fruit", "fruit\\", "fruit.", "fruit ", " fruit", "FRUIT", "fruit\0", "fruit\0.txt", "\0",
        "fruit::$DATA", "fruit:stream", "~", "~root", "$HOME", "%HOME%", "file:///etc/passwd", "http://127.0.0.1/", str(target),
        str(studio / "fruit"), f"/proc/self/cwd/{target}", "....//secret", "..;/secret", "..\u2215secret", "\uff0e\uff0e/secret",
        "fruit\n", "fruit\r\n", "fru\u0131t", "x" * 300, "../" * 50 + "secret",
    ]  # fmt: skip
    encodings: tuple[Callable[[str], str], ...] = (
        lambda name: quote(name, safe=""),
        lambda name: quote(quote(name, safe=""), safe=""),
        lambda name: quote(name, safe="/\\:"),
        lambda name: quote(name, safe="").replace("%2F", "%c0%af").replace(".", "%2e"),
    )
    return list(dict.fromkeys(encode(name) for name in plain for encode in encodings))


def test_a_run_is_looked_up_and_its_name_never_made_into_a_path(client: TestClient, studio: Path) -> None:
    copied(studio / "fruit", studio.parent / "secret")
    paths = hostile_names(studio)
    assert len(paths) >= 100  # times two routes
    assert raw_status(client, "/api/runs/fruit/filters") == 200
    for path in paths:
        for route in (f"/api/runs/{path}/filters", f"/api/runs/{path}/filters/conv1/0"):
            assert raw_status(client, route) == 404, route


def raw_status(client: TestClient, path: str) -> int:
    """The answer's status to a path as it stands on the wire: HTTP clients take `..` and `.` out of it before they ask."""
    started: list[int] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        if message["type"] == "http.response.start":
            started.append(message["status"])

    raw = path.encode()
    scope = {
        "type": "http", "http_version": "1.1", "method": "GET", "scheme": "http", "path": unquote(path), "raw_path": raw,
        "query_string": b"", "headers": [], "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 80),
    }  # fmt: skip
    anyio.run(client.app, scope, receive, send)
    return started[0]
