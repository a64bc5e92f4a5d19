"""Images, kernels, convolutions and runs over HTTP, against the rooms that do the work."""

import base64
import itertools
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import anyio
import numpy as np
import pytest
from fastapi import Request
from fastapi.testclient import TestClient
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from convoscope import data
from convoscope.data import InputFormat
from convoscope.errors import UsageError
from convoscope.evaluation import test as test_run
from convoscope.explain import border_cells, convolve, filters, output_size_text, pool
from convoscope.models import KERNELS
from convoscope.studio.app import routes
from convoscope.studio.messages.common import Chain, Maps
from convoscope.studio.routes import runs as run_routes
from convoscope.studio.run_folders import FIGURES, WEIGHTS
from convoscope.studio.samples import SAMPLES, sample
from convoscope.studio.state import Studio
from convoscope.training import Run, train

EXAMPLES = Path(__file__).parents[3] / "web" / "src" / "pages" / "convolve" / "examples.json"


def client_for(runs: Path, role: str = "owner") -> TestClient:
    """The routes without the guard before them."""
    app = routes()
    app.state.studio = Studio(runs=runs, models=runs / "models")

    @app.middleware("http")
    async def let_in(request: Request, call_next: Any) -> Any:
        request.state.role = role
        return await call_next(request)

    return TestClient(app)


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


def numbers(pixels: dict[str, Any], dtype: str = "u1") -> np.ndarray:
    """The array in a `Pixels` or a `Maps`."""
    shape = pixels["height"], pixels["width"], pixels["channels"]
    return np.frombuffer(base64.b64decode(pixels["values"]), dtype).reshape(shape)


def posted(client: TestClient, image: np.ndarray, *steps: dict[str, Any]) -> dict[str, Any]:
    answer = client.post("/api/convolve", json={"image": Maps.of(image).model_dump(), "steps": steps})
    assert answer.status_code == 200, answer.text
    return answer.json()


# Tiny


@pytest.mark.parametrize("name", ["lines", "shapes", "fruits"])
def test_a_tiny_set_is_drawn_by_its_seed(client: TestClient, name: str) -> None:
    first, again, other = (client.get(f"/api/tiny/{name}?seed={seed}").json() for seed in (7, 7, 8))
    assert first == again != other
    dataset = data.load(f"builtin:{name}", seed=7)
    assert first["name"] == name and first["classes"] == list(dataset.classes)
    for part, each in (("train", 20), ("test", 10)):
        images = first[part]
        assert [image["label"] for image in images] == [0, 1] * each
        assert len({str(image["pixels"]) for image in images}) == 2 * each
        theirs = [
            (dataset.images.decode(int(row), InputFormat(height=5, width=5, channels=1)).ravel() / 255).tolist()
            for row in dataset.indices(part)
        ]
        assert all(image["pixels"] in theirs for image in images)
    assert not [image for image in first["train"] if image in first["test"]]


def test_a_tiny_set_that_is_none(client: TestClient) -> None:
    answer = client.get("/api/tiny/drawings")
    assert answer.status_code == 404 and answer.json()["hint"] == "choose one of lines, shapes, fruits"
    assert client.get("/api/tiny/lines?seed=-1").status_code == 422
    assert client.get(f"/api/tiny/lines?seed={2**53}").status_code == 422


# Samples and kernels


def test_the_samples(client: TestClient) -> None:
    listed = client.get("/api/samples").json()
    assert [entry["id"] for entry in listed] == list(SAMPLES)
    assert listed[0] == {"id": "photograph", "height": 600, "width": 512, "channels": 3}
    for entry in listed:
        whole = client.get(f"/api/samples/{entry['id']}?side=512").json()
        if max(entry["height"], entry["width"]) <= 512:
            assert whole["notes"] == []
            np.testing.assert_array_equal(numbers(whole), sample(entry["id"]))
        assert numbers(whole).min() < numbers(whole).max()


def test_a_photograph_is_scaled_down_and_never_up(client: TestClient) -> None:
    small = client.get("/api/samples/photograph").json()
    assert (small["height"], small["width"], small["channels"]) == (128, 109, 3)
    assert small["notes"] == ["scaled down from 512 x 600 to 109 x 128 pixels"]
    form = InputFormat(height=128, width=109, channels=3, resize="stretch")
    np.testing.assert_array_equal(numbers(small), data.open_image(sample("photograph"), form))
    assert client.get("/api/samples/numbers?side=512").json()["height"] == 6
    for side in (7, 513, "x"):
        assert client.get(f"/api/samples/photograph?side={side}").status_code == 422
    assert client.get("/api/samples/photo").json()["code"] == "unknown-sample"


def test_the_formulas() -> None:
    assert sample("ramp")[3, :, 0].tolist() == [17 * column for column in range(16)]
    assert sample("step")[5, :, 0].tolist() == [0] * 8 + [255] * 8
    board = sample("checkerboard")[:, :, 0]
    assert board[0, 0] == board[4, 4] == 0 and board[0, 4] == board[4, 0] == 255 and board.mean() == 127.5
    disc = sample("disc")[:, :, 0]
    assert (disc == disc.T).all() and (disc == disc[::-1]).all()
    assert (disc > 0).sum() == sum((y - 15.5) ** 2 + (x - 15.5) ** 2 <= 100 for y in range(32) for x in range(32))
    assert sample("numbers")[:3, :3, 0].tolist() == [[1, 0, 4], [8, 2, 5], [20, 13, 25]]


def test_the_kernels(client: TestClient) -> None:
    listed = client.get("/api/kernels").json()
    assert [kernel["name"] for kernel in listed] == list(KERNELS)
    for kernel in listed:
        np.testing.assert_array_equal(kernel["rows"], KERNELS[kernel["name"]].rows)


# The page's examples

examples = json.loads(EXAMPLES.read_text("utf-8"))


@pytest.mark.parametrize("example", examples, ids=[example["id"] for example in examples])
def test_an_example_of_the_page_can_be_done(client: TestClient, example: dict[str, Any]) -> None:
    assert set(example) == {"id", "sample", "steps", "cell"}
    pixels = client.get(f"/api/samples/{example['sample']}").json()
    steps = Chain.model_validate({"image": Maps.of(numbers(pixels)).model_dump(), "steps": example["steps"]}).steps
    assert [step.model_dump() for step in steps] == example["steps"]  # nothing is left to a default
    made = posted(client, numbers(pixels), *example["steps"])
    assert made["refusal"] is None and len(made["steps"]) == len(steps)
    cell = example["cell"]
    maps = numbers(made["steps"][cell["step"]]["maps"], "<f8")
    assert maps[cell["y"], cell["x"]].any()


def result_of(client: TestClient, name: str) -> np.ndarray:
    """What the last step of an example makes."""
    example = next(one for one in examples if one["id"] == name)
    image = numbers(client.get(f"/api/samples/{example['sample']}").json())
    return numbers(posted(client, image, *example["steps"])["steps"][-1]["maps"], "<f8")


def test_the_worked_examples_on_paper(client: TestClient) -> None:
    # The kernel 1 2 1, 2 1 2, 1 1 2 over 2 5 4, 13 25 15, 8 6 6; then with its first row and column outside the image.
    assert result_of(client, "worked-convolution")[1, 1, 0] == (2 + 10 + 4) + (26 + 25 + 30) + (8 + 6 + 12)
    assert result_of(client, "worked-border")[0, 0, 0] == (1 * 1 + 2 * 0) + (1 * 8 + 2 * 2)
    assert result_of(client, "worked-pooling")[:, :, 0].tolist() == [[25, 240], [255, 223]]
    # A standing line of 170, 255, 170, 200 in the fourth column: twice itself there, minus itself beside.
    assert result_of(client, "line-detector")[0, :, 0].tolist() == [0, 1250]


def test_the_named_kernels_in_the_examples_are_theirs() -> None:
    used = [np.array(step["kernel"]) for example in examples for step in example["steps"] if "kernel" in step]
    for name in ("sobel_x", "gaussian5", "outline", "laplacian"):
        assert any(kernel.shape == np.shape(KERNELS[name].rows) and (kernel == KERNELS[name].rows).all() for kernel in used)  # fmt: skip


def test_edges_have_negative_results(client: TestClient) -> None:
    edges = result_of(client, "edges")
    assert edges.min() < -100 and edges.max() > 100


# Convolution

finite = st.floats(-1e6, 1e6, allow_subnormal=False)


@given(st.data())
def test_a_convolution_equals_that_of_explain(client: TestClient, drawn: st.DataObject) -> None:
    shape = drawn.draw(st.tuples(st.integers(1, 9), st.integers(1, 9), st.integers(1, 3)))
    image = drawn.draw(arrays.arrays(np.float64, shape, elements=finite))
    size: tuple[int, ...] = drawn.draw(st.tuples(st.integers(1, 5), st.integers(1, 5)))
    if drawn.draw(st.booleans()):
        size = (*size, shape[2])
    kernel = drawn.draw(arrays.arrays(np.float64, size, elements=finite))
    border = drawn.draw(st.sampled_from(["none", "zeros", "reflect", "replicate"]))
    stride, dilation = drawn.draw(st.integers(1, 3)), drawn.draw(st.integers(1, 3))
    step = {"kind": "convolve", "kernel": kernel.tolist(), "border": border, "stride": stride, "dilation": dilation}
    made = posted(client, image, step)
    try:
        expected = convolve(image, kernel, border=border, stride=stride, dilation=dilation)
    except UsageError as error:
        assert made["steps"] == []
        assert made["refusal"] == {"code": error.code, "message": error.reason, "hint": error.hint}
        return
    result = numbers(made["steps"][0]["maps"], "<f8")
    np.testing.assert_array_equal(result, expected.reshape(result.shape))
    texts = [
        output_size_text(
            shape[axis], size[axis], stride, dilation, 0 if border == "none" else border_cells(size[axis], dilation)
        )
        for axis in (0, 1)
    ]
    assert made["steps"][0]["size_text"] == (texts if texts[0] != texts[1] else texts[:1])


@given(st.data())
def test_a_chain_is_one_step_after_the_other(client: TestClient, drawn: st.DataObject) -> None:
    shape = drawn.draw(st.tuples(st.integers(4, 9), st.integers(4, 9), st.integers(1, 3)))
    image = drawn.draw(arrays.arrays(np.float64, shape, elements=finite))
    kind = drawn.draw(st.sampled_from(["max", "mean", "sum"]))
    size, stride = drawn.draw(st.integers(1, 4)), drawn.draw(st.integers(1, 3))
    kernel = drawn.draw(arrays.arrays(np.float64, (2, 2), elements=finite))
    made = posted(
        client,
        image,
        {"kind": "convolve", "kernel": kernel.tolist(), "border": "zeros"},
        {"kind": "relu"},
        {"kind": "pool", "pool": kind, "size": size, "stride": stride},
        {"kind": "convolve", "kernel": kernel.tolist()},
    )
    first = convolve(image, kernel, border="zeros")
    second = np.maximum(first, 0)
    third = pool(second, kind, size, stride)
    expected = [first, second, third]
    if min(third.shape[:2]) >= 2:
        assert made["refusal"] is None
        expected.append(convolve(third, kernel))
    else:
        assert made["refusal"]["code"] == "kernel-too-large"
    assert len(made["steps"]) == len(expected)
    for step, one in zip(made["steps"], expected, strict=True):
        np.testing.assert_array_equal(numbers(step["maps"], "<f8"), one)
    assert made["steps"][1]["size_text"] == []
    texts = [output_size_text(side, size, stride) for side in shape[:2]]
    assert made["steps"][2]["size_text"] == list(dict.fromkeys(texts))


SQUARE = np.arange(16.0).reshape(4, 4)
SOBEL = {"kind": "convolve", "kernel": [[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]]}


@pytest.mark.parametrize(
    ("step", "code", "message"),
    [
        ({"kind": "convolve", "kernel": [[1] * 5] * 5}, "kernel-too-large", "a kernel of 5x5 does not fit into an image of 4x4"),
        ({**SOBEL, "dilation": 2}, "kernel-too-large", "a kernel of 3x3, spread over 5x5, does not fit into an image of 4x4"),
        ({"kind": "convolve", "kernel": [[1] * 9], "border": "reflect"}, "border-too-wide", "a reflected border of 4 needs a larger image than 4x4"),
        ({"kind": "convolve", "kernel": [[1] * 16]}, "kernel-over-limit", "expected a kernel of up to 15x15, got 1x16"),
        ({"kind": "convolve", "kernel": [[1]] * 16}, "kernel-over-limit", "expected a kernel of up to 15x15, got 16x1"),
        ({"kind": "convolve", "kernel": []}, "kernel-shape", "got (0,)"),
        ({"kind": "convolve", "kernel": [[]]}, "kernel-shape", "got (1, 0)"),
        ({"kind": "convolve", "kernel": [[1, 2], [3]]}, "kernel-numbers", "expected real numbers (h, w) or (h, w, C)"),
        ({"kind": "convolve", "kernel": [[[1, 2]]]}, "kernel-channels", "each channel of the image (1), got 2"),
        ({"kind": "pool", "size": 5}, "window-too-large", "a window of 5x5 does not fit into an image of 4x4"),
        ({"kind": "convolve", "kernel": [[1e308, 1e308]]}, "numbers-too-large", "larger than the largest number there is"),
    ],
)  # fmt: skip
def test_a_step_that_cannot_be_done_ends_the_chain(client: TestClient, step: Any, code: str, message: str) -> None:
    made = posted(client, SQUARE, {"kind": "convolve", "kernel": [[2]]}, step, SOBEL)
    assert len(made["steps"]) == 1 and numbers(made["steps"][0]["maps"], "<f8")[3, 3] == 30
    assert made["refusal"]["code"] == code and message in made["refusal"]["message"]


@pytest.mark.parametrize("step", [{"kind": "relu"}, SOBEL, {"kind": "pool"}])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_an_image_with_other_than_finite_numbers(client: TestClient, step: Any, value: float) -> None:
    image = SQUARE.copy()
    image[2, 1] = value
    made = posted(client, image, step)
    assert made["steps"] == [] and made["refusal"]["code"] == "image-numbers"
    assert "expected finite numbers" in made["refusal"]["message"]


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"values": "AAAA"}, "image-length"),
        ({"values": ""}, "image-length"),
        ({"values": "A"}, "image-encoding"),
        ({"values": "Ä" * 172}, "image-encoding"),
        ({"values": "AAAA\n" * 40}, "image-encoding"),
        ({"height": 0}, "image-size"),
        ({"height": -4, "width": -4}, "image-size"),
        ({"height": 513}, "image-size"),
        ({"width": 10**30}, "image-size"),
        ({"width": 10**4000}, "image-size"),
        ({"channels": 4}, "image-size"),
        ({"channels": 0}, "image-size"),
        ({"channels": 2}, "image-length"),
    ],
)
def test_an_image_that_is_none(client: TestClient, change: dict[str, Any], code: str) -> None:
    image = Maps.of(SQUARE).model_dump() | change
    answer = client.post("/api/convolve", json={"image": image, "steps": [SOBEL]})
    assert answer.status_code == 422 and answer.json()["code"] == code


@pytest.mark.parametrize(
    "steps",
    [
        [],
        [SOBEL] * 9,
        [{"kind": "turn"}],
        [{**SOBEL, "stride": 0}],
        [{**SOBEL, "dilation": 65}],
        [{**SOBEL, "border": "wrap"}],
        [{**SOBEL, "kernel": [["1e999"]]}],
        [{**SOBEL, "kernel": 3}],
        [{**SOBEL, "extra": 1}],
        [{"kind": "pool", "pool": "min"}],
        [{"kind": "pool", "size": 513}],
    ],
)
def test_steps_that_are_none(client: TestClient, steps: Any) -> None:
    answer = client.post("/api/convolve", json={"image": Maps.of(SQUARE).model_dump(), "steps": steps})
    assert answer.status_code == 422


def test_too_much_work_is_refused_at_once(client: TestClient) -> None:
    image = np.zeros((512, 512, 3))
    large = {"kind": "convolve", "kernel": np.ones((15, 15)).tolist(), "border": "zeros"}
    began = time.perf_counter()
    made = posted(client, image, {"kind": "pool", "size": 256, "stride": 1})
    assert time.perf_counter() - began < 1
    assert made["refusal"]["code"] == "too-much-work" and made["steps"] == []
    assert (
        f"{257 * 257 * 3 * 256 * 256 * 10:,} multiply-adds, at most 250,000,000 are done at once"
        in made["refusal"]["message"]
    )
    made = posted(client, image, large, large)
    assert len(made["steps"]) == 1 and made["refusal"]["code"] == "too-much-work"
    assert len(posted(client, np.zeros((512, 512)), large, large, large)["steps"]) == 3


# Runs


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


def copied(source: Path, target: Path) -> Path:
    shutil.copytree(source, target)
    return target


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
    client.app.state.studio.passed_over.warn = said.append  # type: ignore[attr-defined]
    told = client.get("/api/runs").json()
    assert [run["id"] for run in told["runs"]] == ["without best", "without last", "without previous"]
    assert told["unreadable"] == [
        "cut", "deep", "foreign", "gone", "no text \\udcff", "no toml", "not a number", "pipe", "scores", "scores of another kind",
    ]  # fmt: skip
    assert said[0].startswith("cut: passed over in the list of runs: its settings cannot be read: ")
    assert len(said) == 6 and said[-1] == "5 more folders were passed over in the list of runs"
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
    read_summary = run_routes.read_summary

    def surprising(folder: Path) -> Any:
        if folder.name == "surprise":
            raise ZeroDivisionError
        return read_summary(folder)

    monkeypatch.setattr(run_routes, "read_summary", surprising)
    told = client_for(tmp_path).get("/api/runs").json()
    assert [run["id"] for run in told["runs"]] == ["good"]
    assert len(told["unreadable"]) == 14
    monkeypatch.setattr(run_routes, "read_summary", read_summary)
    (tmp_path / "deep scores" / "test" / "scores.json").unlink()
    told = client_for(tmp_path).get("/api/runs").json()
    assert [run["id"] for run in told["runs"]] == ["deep scores", "good", "surprise"], "what is mended is back"


AS_SOMEBODY_ELSE = """
import json, os, sys
from pathlib import Path
from fastapi.testclient import TestClient
from convoscope.studio import guesses, startup_networks
from convoscope.studio.app import routes
from convoscope.studio.routes import draw
from convoscope.studio.state import Studio

startup_networks.READY_MADE = ()
guesses.Guesser.warm = lambda self, folders: None
draw._IDLE_LOOK_SECONDS = 0.05
if os.geteuid() == 0:  # root may read everything
    os.setegid(65534)
    os.seteuid(65534)
runs = Path(sys.argv[1])
app = routes()
app.state.studio = Studio(runs=runs, models=runs / "none")
said = []
app.state.studio.passed_over.warn = said.append

class Owner:
    def __init__(self, app):
        self.app = app

    async def __call__(self, scope, receive, send):
        if scope["type"] != "lifespan":
            scope.setdefault("state", {})["role"] = "owner"
        await self.app(scope, receive, send)

app.add_middleware(Owner)
with TestClient(app) as client, client.websocket_connect("/api/live") as live:
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
            for place in (runs, *runs.rglob("*")):
                os.chown(place, 65534, 65534)
        command = [sys.executable, "-c", AS_SOMEBODY_ELSE, str(runs)]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
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
    assert seen["said"][0] == "folder: passed over in the list of runs: the system says: Permission denied"


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


def test_200_runs_are_listed_quickly_and_without_torch(tmp_path: Path, studio: Path) -> None:
    for number in range(200):
        folder = tmp_path / f"run {number:03}"
        folder.mkdir()
        for file in ("run.toml", "metrics.csv", "best.safetensors"):
            os.link(studio / "fruit" / file, folder / file)
    script = f"""
import sys, time
from pathlib import Path
from types import SimpleNamespace
from convoscope.studio.routes.runs import runs
from convoscope.studio.state import Studio
studio = Studio(runs=Path({str(tmp_path)!r}), models=Path())
request = SimpleNamespace(state=SimpleNamespace(role="owner"), app=SimpleNamespace(state=SimpleNamespace(studio=studio)))
began = time.perf_counter()
assert len(runs(request).runs) == 200
first = time.perf_counter() - began
began = time.perf_counter()
runs(request)
print("torch" in sys.modules, first, time.perf_counter() - began)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    torch, first, again = done.stdout.split()
    assert torch == "False" and float(first) < 3 and float(again) < 0.5


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
    made = posted(client, image, {"kind": "convolve", "kernel": kernel.tolist(), "border": "zeros"})
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
    encodings = (
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
