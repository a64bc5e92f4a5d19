"""The page Draw's routes, over HTTP and websocket: what a network says to a drawing is the network's own."""

import asyncio
import base64
import contextlib
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from fastapi.testclient import TestClient
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageDraw
from starlette.websockets import WebSocketDisconnect

from convoscope import data
from convoscope.data import pad_image
from convoscope.evaluation import test as test_run
from convoscope.studio import draw_state, startup_networks
from convoscope.studio.app import routes
from convoscope.studio.messages.draw import Guess, PadModels
from convoscope.studio.routes import draw
from convoscope.studio.startup_networks import ReadyMade
from convoscope.studio.state import Studio
from convoscope.training import Run, train
from tests.support.routes import routes_client
from tests.support.strokes import drawn, strokes
from tests.support.studios import until

BINARY = {"content-type": "application/octet-stream"}
FRUITS = "conv(4) relu maxpool conv(8, 5, bias=false) norm relu maxpool flatten dense(16) relu dense"
READY = ReadyMade(name="fruits", classes=("apple", "banana"), architecture=FRUITS, arguments=("no source",), epochs=2)
MISSING = ReadyMade(name="missing", classes=("a", "b"), architecture="tiny", arguments=("/no/such/folder",), epochs=1)


def client_for(root: Path, role: str = "owner", faults: list[Exception] | None = None) -> TestClient:
    return routes_client(Studio(runs=root / "runs", models=root / "models"), role, faults)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network that is ready, and runs of the user's: one on drawings, one on digits, two that cannot be drawn for."""
    root = tmp_path_factory.mktemp("draw")
    fruits = train("builtin:drawings/apple,banana", FRUITS, output=root / "models" / READY.folder, epochs=2)
    test_run(fruits, invariance=False)
    shutil.copytree(fruits.folder, root / "runs" / "fruits")
    digits = np.random.default_rng(0).integers(0, 256, (60, 28, 28), dtype=np.uint8)
    source = data.from_arrays(digits, np.arange(60) % 10, [str(digit) for digit in range(10)])
    train(
        source,
        "conv(2) relu residual(conv(3)) repeat(2, conv(2) relu) flatten dense",
        output=root / "runs" / "digits",
        epochs=1,
    )
    train("builtin:lines", "tiny", output=root / "runs" / "lines", epochs=1)
    train(
        source,
        torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(784, 10)),
        output=root / "runs" / "own",
        epochs=1,
    )
    (root / "runs" / "empty").mkdir()
    (root / "runs" / "a file").write_text("")
    return root


@pytest.fixture(autouse=True)
def recipes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(startup_networks, "READY_MADE", (READY,))


@pytest.fixture(scope="module")
def owner(finished: Path) -> Iterator[TestClient]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(startup_networks, "READY_MADE", (READY,))
        with client_for(finished) as client:
            yield client


@pytest.fixture
def studio(finished: Path, tmp_path: Path) -> Path:
    """A copy that a test may change."""
    return Path(shutil.copytree(finished, tmp_path / "studio"))


def apple() -> np.ndarray:
    sheet = Image.new("L", (256, 256))
    pen = ImageDraw.Draw(sheet)
    pen.ellipse((50, 60, 210, 220), outline=255, width=10)
    pen.line((130, 60, 150, 20), fill=255, width=10)
    return np.asarray(sheet)


def ask(client: TestClient, model: str, pad: np.ndarray) -> Guess:
    answer = client.post("/api/draw/guess", params={"model": model}, content=pad.tobytes(), headers=BINARY)
    assert answer.status_code == 200, answer.text
    return Guess.model_validate_json(answer.content)


def refused(answer: Any, status: int, code: str) -> str:
    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text
    message: str = answer.json()["message"]
    return message


def models_of(client: TestClient) -> PadModels:
    return PadModels.model_validate_json(client.get("/api/draw/models").content)


# --- which there are ---------------------------------------------------------------------------------------------------


def test_ready_made_networks_first_then_runs_that_can_be_drawn_for(owner: TestClient, finished: Path) -> None:
    found = models_of(owner).models
    assert [(model.id, model.title, model.ready_made) for model in found] == [
        ("fruits", "fruits", True), ("run:digits", "digits", False), ("run:fruits", "fruits", False)
    ]  # fmt: skip
    fruits = found[0]
    assert (fruits.state, fruits.epoch, fruits.epochs, fruits.classes) == ("ready", 2, 2, ["apple", "banana"])
    scores = json.loads((finished / "runs/fruits/test/scores.json").read_text())
    assert fruits.test_accuracy == found[2].test_accuracy == scores["accuracy"]
    assert found[1].test_accuracy is None


def test_students_see_and_use_what_comes_with_the_studio_only(finished: Path) -> None:
    with client_for(finished, "student") as student:
        assert [model.id for model in models_of(student).models] == ["fruits"]
        assert ask(student, "fruits", apple()).answers
        answer = student.post("/api/draw/guess?model=run:fruits", content=apple().tobytes(), headers=BINARY)
        refused(answer, 404, "no-such-model")
        for what in ("make", "stop"):
            refused(student.post(f"/api/draw/models/fruits/{what}"), 403, "owner-only")
        with student.websocket_connect("/api/live") as socket:
            assert [model["id"] for model in socket.receive_json()["models"]] == ["fruits"]


@pytest.mark.parametrize(
    "model", ["", "x", "run:", "run:empty", "run:lines", "run:own", "run:../models", "run:/etc", "run:fruits/", "digits", "run:run:fruits", "run:a file", "run:\x00"]
)  # fmt: skip
def test_what_is_not_in_the_list_is_not_there(owner: TestClient, model: str) -> None:
    answer = owner.post("/api/draw/guess", params={"model": model}, content=apple().tobytes(), headers=BINARY)
    refused(answer, 404, "no-such-model")


def test_links_that_lead_away_are_passed_over(studio: Path) -> None:
    (studio / "runs" / "away").symlink_to(studio / "models" / READY.folder)
    inside = studio / "runs" / "inside"
    shutil.copytree(studio / "runs" / "fruits", inside)
    (inside / "best.safetensors").unlink()
    (inside / "best.safetensors").symlink_to(studio / "models" / READY.folder / "best.safetensors")
    tested = studio / "runs" / "tested elsewhere"
    shutil.copytree(studio / "runs" / "fruits", tested)
    shutil.move(tested / "test", studio / "test of another")
    (tested / "test").symlink_to(studio / "test of another")
    with client_for(studio) as client:
        assert [model.id for model in models_of(client).models] == ["fruits", "run:digits", "run:fruits"]


def test_layers_as_they_are_written(owner: TestClient) -> None:
    detail = owner.get("/api/draw/models/fruits").json()
    assert [layer["text"] for layer in detail["layers"]] == [
        "conv(4)", "relu", "maxpool", "conv(8, 5, bias=false)", "norm", "relu", "maxpool", "flatten", "dense(16)", "relu", "dense"
    ]  # fmt: skip
    assert detail["layers"][3] == {
        "name": "conv2", "kind": "conv", "role": "convolution", "output": [14, 14, 8], "parameters": 800,
        "text": "conv(8, 5, bias=false)",
    }  # fmt: skip
    assert detail["parameters"] == sum(layer["parameters"] for layer in detail["layers"])
    # The residual's shortcut stands in the table, though nobody wrote it.
    nested = owner.get("/api/draw/models/run:digits").json()["layers"]
    assert all(layer["text"] == layer["kind"] for layer in nested)
    refused(owner.get("/api/draw/models/none"), 404, "no-such-model")


def test_layers_written_once_and_repeated() -> None:
    kinds = ["conv", "relu", "residual", "norm", "relu", "norm", "relu", "flatten", "dense"]
    text = "residual(conv(1, 5) relu) repeat(2, norm relu) flatten dense"
    assert draw._texts(text, kinds)[:4] == ["conv(1, 5)", "relu", "residual(conv(1, 5) relu)", "norm"]


# --- guesses -----------------------------------------------------------------------------------------------------------


def test_the_guess_is_the_networks_own(owner: TestClient, finished: Path) -> None:
    run = Run.open(finished / "models" / READY.folder)
    pad = apple()
    guess = ask(owner, "fruits", pad)
    image = pad_image(pad, "drawings")
    assert (guess.blank, guess.input.height, guess.input.width, guess.input.channels) == (False, 28, 28, 1)
    assert base64.b64decode(guess.input.values) == image.tobytes()

    expected = dict(zip(run.classes, run.scores(image[None, :, :, None])[0], strict=True))
    assert [answer.probability for answer in guess.answers] == sorted(expected.values(), reverse=True)
    assert {answer.name: answer.probability for answer in guess.answers} == pytest.approx(expected, abs=1e-6)
    assert guess.known is None

    seen = {}
    network = run.network()
    for name in ("relu1", "relu2"):
        network.get_submodule(name).register_forward_hook(lambda _, __, output, name=name: seen.update({name: output}))
    with torch.no_grad():
        network(run.input_tensor(image[None, :, :, None]))
    assert [(layer.layer, layer.maps.height, layer.maps.width, layer.maps.channels) for layer in guess.layers] == [
        ("conv1", 28, 28, 4), ("conv2", 14, 14, 8)
    ]  # fmt: skip
    for layer, after in zip(guess.layers, ("relu1", "relu2"), strict=True):
        maps = np.frombuffer(base64.b64decode(layer.maps.values), "<f8").reshape(
            layer.maps.height, layer.maps.width, -1
        )
        np.testing.assert_allclose(maps, seen[after][0].permute(1, 2, 0).numpy(), atol=1e-6)


@pytest.mark.parametrize(("distance", "known"), [(0.4, True), (0.6, False)])
def test_a_guess_says_whether_the_drawing_is_known(
    owner: TestClient, monkeypatch: pytest.MonkeyPatch, distance: float, known: bool
) -> None:
    scores = Run.scores
    monkeypatch.setattr(Run, "ood_detector", lambda self: SimpleNamespace(threshold=0.5))
    monkeypatch.setattr(
        Run, "scores_and_distances", lambda self, pixels: (scores(self, pixels), np.array([distance], np.float32))
    )
    guess = ask(owner, "fruits", apple())
    assert guess.known is known and len(guess.answers) == 2


def test_a_run_on_digits_receives_digits(owner: TestClient) -> None:
    guess = ask(owner, "run:digits", apple())
    assert base64.b64decode(guess.input.values) == pad_image(apple(), "digits").tobytes()
    assert len(guess.answers) == 10
    assert [layer.layer for layer in guess.layers][:1] == ["conv1"]


def test_an_empty_pad_is_no_drawing(owner: TestClient) -> None:
    guess = ask(owner, "fruits", np.full((256, 256), 20, np.uint8))
    assert guess.blank and not guess.answers and not guess.layers
    assert not any(base64.b64decode(guess.input.values))


@given(st.integers(0, 70_000).filter(lambda length: length != 65_536))
def test_only_a_whole_pad_is_a_drawing(length: int) -> None:
    app = routes()
    app.state.studio = Studio(runs=Path("none"), models=Path("none"))
    app.state.draw = None  # it is not asked
    answer = TestClient(app).post("/api/draw/guess?model=fruits", content=b"\xff" * length, headers=BINARY)
    assert refused(answer, 422, "drawing-size").endswith(f"received {length:,}")


def test_drawings_are_answered_one_after_the_other_and_none_is_mixed_up(owner: TestClient) -> None:
    prepared = Run.open(_folder(owner)).prepared()
    pads = [drawn(strokes(np.array(image[..., 0]))) for image in prepared.pixels[:12]]
    alone = [ask(owner, "fruits", pad) for pad in pads]

    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(8) as threads:
        together = list(threads.map(lambda pad: ask(owner, "fruits", pad), pads))
    assert together == alone


def _folder(client: TestClient) -> Path:
    app: Any = client.app
    folder: Path = app.state.draw.startup.drawables()[0].folder
    return folder


def test_a_run_that_is_deleted_meanwhile_is_gone(studio: Path) -> None:
    with client_for(studio) as client:
        ask(client, "run:fruits", apple())
        shutil.rmtree(studio / "runs" / "fruits")
        answer = client.post("/api/draw/guess?model=run:fruits", content=apple().tobytes(), headers=BINARY)
        refused(answer, 404, "no-such-model")
        assert "run:fruits" not in [model.id for model in models_of(client).models]


def test_a_run_that_is_trained_on_answers_with_its_new_weights(studio: Path) -> None:
    with client_for(studio) as client:
        before = ask(client, "run:fruits", apple())
        train("builtin:drawings/apple,banana", FRUITS, output=studio / "other", epochs=1, seed=5)
        shutil.copy(studio / "other" / "best.safetensors", studio / "new")
        (studio / "new").replace(studio / "runs" / "fruits" / "best.safetensors")
        after = ask(client, "run:fruits", apple())
    image = pad_image(apple(), "drawings")[None, :, :, None]
    best = float(Run.open(studio / "other").scores(image).max())
    assert after.answers[0].probability == pytest.approx(best, abs=1e-6)
    assert after.layers != before.layers


def test_a_damaged_run_is_refused_in_plain_words_without_a_path(studio: Path) -> None:
    for name in ("best", "last", "previous"):
        (studio / "runs" / "fruits" / f"{name}.safetensors").unlink(missing_ok=True)
    (studio / "runs" / "fruits" / "best.safetensors").write_bytes(b"no weights")
    with client_for(studio) as client:
        answer = client.post("/api/draw/guess?model=run:fruits", content=apple().tobytes(), headers=BINARY)
        message = refused(answer, 422, "checkpoint-damaged")
        assert str(studio) not in message
        assert ask(client, "fruits", apple()).answers


def test_a_run_that_turns_into_another_one_is_refused(studio: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with client_for(studio) as client:
        monkeypatch.setattr("convoscope.studio.guesses.form_of", lambda settings: None)
        answer = client.post("/api/draw/guess", params={"model": "run:fruits"}, content=bytes(65_536), headers=BINARY)
        refused(answer, 409, "model-not-for-drawings")


def test_a_run_whose_weights_are_broken_is_refused(studio: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with client_for(studio) as client:
        monkeypatch.setattr(Run, "network", broken_network(Run.network))
        answer = client.post(
            "/api/draw/guess", params={"model": "run:fruits"}, content=apple().tobytes(), headers=BINARY
        )
        refused(answer, 409, "scores-not-finite")


def broken_network(network: Callable[[Run], torch.nn.Module]) -> Callable[[Run], torch.nn.Module]:
    def broken(run: Run) -> torch.nn.Module:
        made = network(run)
        with torch.no_grad():
            list(made.parameters())[-1].fill_(torch.nan)
        return made

    return broken


def test_more_runs_than_are_kept_loaded(studio: Path) -> None:
    for number in range(6):
        shutil.copytree(studio / "runs" / "fruits", studio / "runs" / f"copy{number}")
    with client_for(studio) as client:
        first = ask(client, "fruits", apple())
        for number in (*range(6), 0):
            assert ask(client, f"run:copy{number}", apple()) == first


# --- making ------------------------------------------------------------------------------------------------------------


def test_a_network_that_is_not_made_yet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(startup_networks, "READY_MADE", (MISSING,))
    with client_for(tmp_path) as client:
        assert models_of(client).models[0].state in ("waiting", "making")
        answer = client.post("/api/draw/guess?model=missing", content=apple().tobytes(), headers=BINARY)
        refused(answer, 409, "model-not-ready")
        assert client.post("/api/draw/models/missing/stop").json()["models"][0]["state"] == "stopped"
        refused(client.post("/api/draw/models/missing/stop"), 409, "not-being-made")
        assert client.post("/api/draw/models/missing/make").json()["models"][0]["state"] in ("waiting", "making")
        assert client.post("/api/draw/models/missing/make").json()["models"][0]["state"] in ("waiting", "making")
        until(lambda: models_of(client).models[0].state == "failed", seconds=60)
        model = models_of(client).models[0]
        assert model.refusal is not None and "there is no such" in model.refusal.message
        refused(client.post("/api/draw/models/run:fruits/make"), 404, "no-such-model")


# --- live --------------------------------------------------------------------------------------------------------------


def test_live_tells_at_once_and_when_something_changes(studio: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(draw_state, "_IDLE_REFRESH_SECONDS", 0.05)
    with client_for(studio) as client, client.websocket_connect("/api/live") as socket:
        assert PadModels.model_validate_json(socket.receive_text()) == models_of(client)
        shutil.copytree(studio / "runs" / "fruits", studio / "new")
        (studio / "new").replace(studio / "runs" / "a new one")
        assert [model["id"] for model in socket.receive_json()["models"]] == [
            "fruits", "run:a new one", "run:digits", "run:fruits"
        ]  # fmt: skip
        shutil.rmtree(studio / "runs")
        told = socket.receive_json()
        while len(told["models"]) > 1:
            told = socket.receive_json()


def test_live_goes_on_when_a_folder_is_damaged_and_mended(studio: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(draw_state, "_IDLE_REFRESH_SECONDS", 0.05)
    scores = studio / "runs" / "fruits" / "test" / "scores.json"
    whole = scores.read_bytes()
    with client_for(studio) as client, client.websocket_connect("/api/live") as socket:
        assert len(socket.receive_json()["models"]) == 3
        for damage in (b"[" * 100_000, b"\xff", b'{"accuracy": 1e999}'):
            scores.write_bytes(damage)
            told = socket.receive_json()
            assert [model["id"] for model in told["models"]] == ["fruits", "run:digits"]
            assert told["unreadable"] == ["fruits"]
            assert models_of(client).model_dump(mode="json") == told
            scores.write_bytes(whole)
            told = socket.receive_json()
            assert (len(told["models"]), told["unreadable"]) == (3, [])


def test_live_goes_on_after_a_bug_of_ours(studio: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(draw_state, "_IDLE_REFRESH_SECONDS", 0.05)
    faults: list[Exception] = []
    looks, broken = 0, True
    read = draw_state.DrawState._read

    def failing(self: draw_state.DrawState) -> PadModels:
        nonlocal looks
        looks += 1
        if broken:
            raise ZeroDivisionError
        return read(self)

    with client_for(studio, faults=faults) as client, client.websocket_connect("/api/live") as socket:
        assert len(socket.receive_json()["models"]) == 3
        monkeypatch.setattr(draw_state.DrawState, "_read", failing)
        until(lambda: looks >= 3, seconds=20)
        with client.websocket_connect("/api/live") as late:
            assert len(late.receive_json()["models"]) == 3, "the last that was seen"
        broken = False
        shutil.rmtree(studio / "runs" / "digits")
        assert len(socket.receive_json()["models"]) == 2
    assert [type(fault) for fault in faults] == [ZeroDivisionError], "told once"


def test_a_damaged_result_of_a_ready_made_network_is_no_reason_not_to_start(studio: Path) -> None:
    (studio / "models" / READY.folder / "test" / "scores.json").write_text("[" * 100_000)
    with client_for(studio) as client:
        found = models_of(client).models
        assert [model.id for model in found] == ["fruits", "run:digits", "run:fruits"]
        assert found[0].state != "ready" and found[0].test_accuracy is None


@pytest.mark.parametrize(
    ("frames", "code"),
    [(["x" * 5000], 1009), (["ü" * 2500], 1009), ([b"x"], 1003), (["x"] * 120, 1008)],
)
def test_a_reader_that_talks_too_much_is_closed(owner: TestClient, frames: list[Any], code: int) -> None:
    with owner.websocket_connect("/api/live") as socket:
        socket.receive_json()
        for frame in frames:
            if isinstance(frame, bytes):
                socket.send_bytes(frame)
            else:
                socket.send_text(frame)
        with pytest.raises(WebSocketDisconnect) as closed:
            socket.receive_json()
        assert closed.value.code == code
    wait_for_listeners(owner, 0)


def test_a_few_words_are_passed_over(owner: TestClient) -> None:
    with owner.websocket_connect("/api/live") as socket:
        socket.receive_json()
        for _ in range(10):
            socket.send_text("hello")
        socket.send_bytes(b"and then something else")
        with pytest.raises(WebSocketDisconnect) as closed:
            socket.receive_json()
        assert closed.value.code == 1003, "not because of the words before"
    wait_for_listeners(owner, 0)


def test_at_most_so_many_listen_and_who_leaves_makes_room(owner: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    assert draw_state.LISTENERS == 64
    monkeypatch.setattr(draw_state, "LISTENERS", 3)
    with contextlib.ExitStack() as stack:
        for _ in range(3):
            stack.enter_context(owner.websocket_connect("/api/live")).receive_json()
        with owner.websocket_connect("/api/live") as fourth, pytest.raises(WebSocketDisconnect) as closed:
            fourth.receive_json()
        assert closed.value.code == 1013
    wait_for_listeners(owner, 0)
    with owner.websocket_connect("/api/live") as socket:
        socket.receive_json()


def wait_for_listeners(client: TestClient, count: int) -> None:
    """Wait until so many listen."""
    app: Any = client.app
    until(lambda: app.state.draw.listeners == count, seconds=20)


def test_a_slow_reader_gets_the_newest_state_only(studio: Path) -> None:
    async def read() -> list[int]:
        watched = draw_state.DrawState(Studio(runs=studio / "runs", models=studio / "models"))
        news = watched.news("owner")
        seen = [len(json.loads(await anext(news))["models"])]
        for number in range(20):
            shutil.copytree(studio / "runs" / "fruits", studio / "runs" / f"copy{number}")
            await watched._refresh()
        seen.append(len(json.loads(await anext(news))["models"]))
        more = asyncio.ensure_future(anext(news))
        for _ in range(10):
            await asyncio.sleep(0)
        assert not more.done()
        more.cancel()
        watched.guesser.close()
        return seen

    assert asyncio.run(read()) == [3, 23]
