"""4,000 files with impossible content through every reader: a typed error or a sensible value, never a crash, and nothing allocated by hearsay."""

import csv
import gzip
import io
import json
import math
import os
import random
import resource
import shutil
import struct
import time
import tomllib
import warnings
import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from convoscope import cli, data, evaluation, explain
from convoscope.config import read_config
from convoscope.errors import ConvoscopeError
from convoscope.training import Reporter, Run, best_epoch, read_summary, relearn, resume, train
from convoscope.training.backbone.sources import open_backbone
from convoscope.training.core import checkpoint
from convoscope.training.core.weights import read_foreign
from convoscope.training.runs.folder import go_on_hint
from tests.support import impossible

FACTOR = 10 if os.environ.get("HYPOTHESIS_PROFILE") == "long" else 1
MOST_SECONDS = 8
"""Processor time of one case; a hang is a fault too. Most take milliseconds."""
MOST_MEMORY = 1_500_000_000
"""What a case may ask for beyond what is there."""


class Enough(Exception):
    """A training has begun to learn; more is not wanted."""


class Brief(Reporter):
    def step(self, epoch: int, step: int, steps: int, loss: float) -> None:
        if step >= 2:
            raise Enough

    def epoch(self, row: Any, best: bool) -> None:
        raise Enough


class Ruins:
    """Goes through cases and keeps what went wrong."""

    def __init__(self, seed: str) -> None:
        self.seed, self.faults, self.count = seed, [], 0  # type: ignore[var-annotated]

    def cases(self, count: int) -> Iterator[random.Random]:
        for number in range(round(count * FACTOR)):
            self.number = number
            yield random.Random(f"{self.seed} {number}")

    def attempt(self, reader: Callable[[], Any]) -> None:
        """Run a reader on a ruined file."""
        self.count += 1
        begin = time.process_time()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                reader()
        except ConvoscopeError as error:
            if len(str(error)) + len(error.hint) > 5_000:
                self.faults.append(
                    f"{self.seed} {self.number}: a message of {len(str(error)) + len(error.hint):,} characters"
                )
        except Enough:
            pass
        except Exception as error:
            import traceback

            frames = traceback.extract_tb(error.__traceback__)
            place = next((frame for frame in reversed(frames) if "/convoscope/" in frame.filename), frames[-1])
            where = f"{Path(place.filename).name}:{place.lineno}"
            self.faults.append(f"{self.seed} {self.number}: {type(error).__name__} at {where}: {str(error)[:200]!r}")
        if (seconds := time.process_time() - begin) > MOST_SECONDS:
            self.faults.append(f"{self.seed} {self.number}: took {seconds:.1f} s")

    def end(self) -> None:
        """Tell the faults."""
        assert not self.faults, f"{len(self.faults)} of {self.count}:\n" + "\n".join(self.faults[:40])


@pytest.fixture(scope="module")
def bounded_memory() -> Iterator[None]:
    """Memory that is asked for by a claimed size is refused, and seen as a crash."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    pages = int(Path("/proc/self/statm").read_text().split()[0]) if Path("/proc/self/statm").exists() else 0
    if pages:
        resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + MOST_MEMORY, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, before)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`a`: trained; `b`: relearned from it, with an out-of-distribution detector. Both are tested."""
    root = tmp_path_factory.mktemp("runs")
    plain: dict[str, Any] = {"threads": 1, "precision": "float32", "memory_format": "contiguous"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        train("builtin:lines", "tiny", output=root / "a", epochs=2, ema=0.3, **plain)
        relearn(root / "a", "builtin:lines", output=root / "b", threads=1, precision="float32")
        for name in "ab":
            evaluation.test(Run.open(root / name))
    return root


@pytest.fixture(autouse=True)
def limits(runs: Path, bounded_memory: None) -> None:
    """Everything is made before memory is bounded."""


def copied(runs: Path, name: str, place: Path) -> Path:
    folder = place / name
    shutil.copytree(runs / name, folder)
    for checkpoint_name in ("last.safetensors", "previous.safetensors"):
        (folder / checkpoint_name).unlink(missing_ok=True)
    return folder


def use(path: Path) -> None:
    """What every command does with a run first."""
    run = Run.open(path)
    repr(run)
    run.network()
    run.ood_detector()
    run.predict([np.zeros((5, 5), np.uint8)])


def look(path: Path) -> None:
    seen = explain.look(Run.open(path), np.zeros((5, 5), np.uint8))
    seen.to_json()


def whole_test(path: Path) -> None:
    run = Run.open(path)
    evaluation.test(run, invariance=False)
    evaluation.compare([run])
    evaluation.write_report(run)


def ruined_checkpoint(path: Path, rng: random.Random) -> bytes:
    tensors, state = checkpoint.load(path)
    if rng.random() < 0.15:
        return impossible.seal(impossible.other_tensors(tensors, rng), json.dumps(state))
    return impossible.seal(tensors, impossible.json_text(impossible.mutated(state, rng)))


def attempt_ruined(title: str, runs: Path, place: Path, name: str, count: int, *uses: Callable[[Path], None]) -> None:
    """Use a run whose best checkpoint is ruined in many ways."""
    ruins = Ruins(f"{title} {name}")
    folder = copied(runs, name, place)
    for rng in ruins.cases(count):
        impossible.write(folder / "best.safetensors", ruined_checkpoint(runs / name / "best.safetensors", rng))
        for attempted in uses:
            ruins.attempt(partial(attempted, folder))
    ruins.end()


@pytest.mark.parametrize(("name", "count"), [("a", 400), ("b", 400)])
def test_checkpoints_that_are_predicted_with(runs: Path, tmp_path: Path, name: str, count: int) -> None:
    attempt_ruined("predict", runs, tmp_path, name, count, use)


@pytest.mark.parametrize(("name", "count"), [("a", 60), ("b", 60)])
def test_checkpoints_that_are_tested_and_looked_into(runs: Path, tmp_path: Path, name: str, count: int) -> None:
    attempt_ruined("look", runs, tmp_path, name, count, look, whole_test)


@pytest.mark.parametrize(("name", "count"), [("a", 200), ("b", 150)])
def test_checkpoints_that_are_gone_on_with(runs: Path, tmp_path: Path, name: str, count: int) -> None:
    ruins = Ruins(f"resume {name}")
    folder = copied(runs, name, tmp_path)
    tensors, state = checkpoint.load(runs / name / "last.safetensors")
    for rng in ruins.cases(count):
        if rng.random() < 0.3:
            content = impossible.seal(impossible.other_tensors(tensors, rng), json.dumps(state))
        elif rng.random() < 0.5:
            content = impossible.seal(
                tensors, impossible.json_text(state | {"progress": impossible.mutated(state["progress"], rng)})
            )
        else:
            content = impossible.seal(tensors, impossible.json_text(impossible.mutated(state, rng)))
        impossible.write(folder / "last.safetensors", content)
        more = rng.choice((None, 3))
        ruins.attempt(lambda more=more: resume(folder, epochs=more, reporter=Brief()))  # type: ignore[misc]
    ruins.end()


def test_checkpoints_that_a_new_head_is_put_on(runs: Path, tmp_path: Path) -> None:
    ruins = Ruins("relearn")
    folder = copied(runs, "b", tmp_path)
    for rng in ruins.cases(225):
        impossible.write(folder / "best.safetensors", ruined_checkpoint(runs / "b" / "best.safetensors", rng))
        ruins.attempt(lambda: open_backbone(folder, say=print).network((), 2))
    for rng in ruins.cases(25):
        impossible.write(folder / "best.safetensors", ruined_checkpoint(runs / "b" / "best.safetensors", rng))
        ruins.attempt(
            lambda: relearn(folder, "builtin:lines", output=tmp_path / "new", add=True, threads=1, precision="float32")
        )
    ruins.end()


def test_headers_of_checkpoints(runs: Path, tmp_path: Path) -> None:
    ruins = Ruins("header")
    content = (runs / "a" / "best.safetensors").read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    path = tmp_path / "x.safetensors"
    for rng in ruins.cases(300):
        if rng.random() < 0.6:
            text = impossible.json_text(impossible.mutated(header, rng)).encode("utf-8", "surrogatepass")
        else:
            text = impossible.damaged(content[8 : 8 + length], rng)
        impossible.write(path, struct.pack("<Q", len(text)) + text + content[8 + length :])
        ruins.attempt(lambda: checkpoint.load(path))
        ruins.attempt(lambda: read_foreign(path))
    for version in ("²", "", "-1", "1e3", "9" * 5000, "٣"):
        impossible.write(path, impossible.seal({}, "{}", convoscope=version))
        ruins.attempt(lambda: checkpoint.load(path))
    ruins.end()


def test_run_toml(runs: Path, tmp_path: Path) -> None:
    ruins = Ruins("run.toml")
    for rng in ruins.cases(350):
        name = rng.choice("ab")
        content = (runs / name / "run.toml").read_bytes()
        folder = tmp_path / "run"
        if not folder.exists():
            shutil.copytree(runs / name, folder)
        text = (
            impossible.toml_text(impossible.mutated(tomllib.loads(content.decode()), rng, top=False))
            if rng.random() < 0.7
            else None
        )
        impossible.write(folder / "run.toml", text if text is not None else impossible.damaged(content, rng))
        for reader in (read_summary, go_on_hint, lambda place: read_config(place / "run.toml")):
            ruins.attempt(lambda reader=reader, folder=folder: reader(folder))  # type: ignore[misc]
    ruins.end()


def test_scores(runs: Path, tmp_path: Path) -> None:
    ruins = Ruins("scores.json")
    folders = {name: copied(runs, name, tmp_path) for name in "ab"}
    opened = {name: Run.open(folder) for name, folder in folders.items()}
    for run in opened.values():
        run.prepared()

    def show(run: Run) -> None:
        comparison = evaluation.compare([run])
        comparison.rows()
        evaluation.write_comparison(comparison, tmp_path / "compared.html")
        evaluation.write_report(run, inside=False)

    for rng in ruins.cases(450):
        name = rng.choice("abb")
        content = (runs / name / "test" / "scores.json").read_bytes()
        ruined = impossible.damaged(content, rng)
        if rng.random() < 0.85:
            ruined = impossible.json_text(impossible.mutated(json.loads(content), rng)).encode("utf-8", "surrogatepass")
        impossible.write(folders[name] / "test" / "scores.json", ruined)
        ruins.attempt(lambda name=name: show(opened[name]))  # type: ignore[misc]
    ruins.end()


def test_split_csv(runs: Path, tmp_path: Path) -> None:
    ruins = Ruins("split.csv")
    folder = copied(runs, "a", tmp_path)
    content = (runs / "a" / "split.csv").read_bytes()
    run = Run.open(folder)
    prepared = run.prepared()
    cells = (
        "",
        "²",
        "'",
        "\\",
        "\\x",
        "\\x-1",
        "\\uffff",
        "\\U00110000",
        "\\Uffffffff",
        "\\ud800",
        "a" * 200_000,
        "train",
        "test",
        "\0",
        '"',
        "\n",
        "a,b",
    )
    for rng in ruins.cases(150):
        ruined = impossible.damaged(content, rng)
        if rng.random() < 0.6:
            rows = list(csv.reader(io.StringIO(content.decode())))
            row = rng.choice(rows)
            row[rng.randrange(4)] = rng.choice(cells)
            if rng.random() < 0.2:
                row.append("more")
            text = io.StringIO()
            csv.writer(text, lineterminator="\n").writerows(rows)
            ruined = text.getvalue().encode()
        path = impossible.write(folder / "split.csv", ruined)
        ruins.attempt(lambda path=path: data.changed(prepared, path))  # type: ignore[misc]
        ruins.attempt(lambda: Run.open(folder).dataset())
        if ruins.number % 10 == 0:
            ruins.attempt(lambda: evaluation.test(run, "builtin:lines", invariance=False))
    ruins.end()


def test_metrics_csv(runs: Path, tmp_path: Path) -> None:
    ruins = Ruins("metrics.csv")
    folder = copied(runs, "a", tmp_path)
    content = (runs / "a" / "metrics.csv").read_bytes()
    cells = (
        b"",
        "²".encode(),
        b"-1",
        b"0",
        b"nan",
        b"inf",
        b"1e999",
        b"9" * 30,
        b"9" * 4000,
        b"9" * 9000,
        b"1_0",
        b"True",
        b"[",
        b" 3 ",
        b"\0",
        b"-inf",
        b"1e300",
        b"5e-324",
    )

    def show() -> None:
        run = Run.open(folder)
        repr(run)
        best_epoch(run.history)
        comparison = evaluation.compare([run])
        comparison.rows()
        evaluation.write_comparison(comparison, tmp_path / "compared.html")
        if ruins.number % 4 == 0:
            evaluation.write_report(run, inside=False)

    for rng in ruins.cases(250):
        ruined = impossible.damaged(content, rng)
        if rng.random() < 0.7:
            lines = [line.split(b",") for line in content.split(b"\n")]
            row = rng.choice(lines[:-1])
            row[rng.randrange(len(row))] = rng.choice(cells)
            ruined = b"\n".join(b",".join(row) for row in lines)
        impossible.write(folder / "metrics.csv", ruined)
        ruins.attempt(show)
    ruins.end()


def read(source: Path, layout: str) -> None:
    dataset = data.load(source, layout=layout)
    form, _ = data.suggest_format(dataset)
    data.prepare(dataset, form)


def test_npy(tmp_path: Path) -> None:
    ruins = Ruins("npy")
    values = bytes(range(128))
    good = io.BytesIO()
    np.save(good, np.frombuffer(values, np.uint8).reshape(8, 4, 4))
    labels = io.BytesIO()
    np.save(labels, np.arange(8) % 2)
    for rng in ruins.cases(600):
        folder = tmp_path / f"{ruins.number}"
        ruined = impossible.npy(rng, values) if rng.random() < 0.8 else impossible.damaged(good.getvalue(), rng)
        layout = rng.choice(("arrays", "arrays", "quickdraw"))
        if layout == "arrays":
            impossible.write(folder / "x.npy", ruined if rng.random() < 0.6 else good.getvalue())
            impossible.write(
                folder / "y.npy", labels.getvalue() if (folder / "x.npy").read_bytes() != good.getvalue() else ruined
            )
        else:
            impossible.write(folder / "a.npy", good.getvalue())
            impossible.write(folder / "b.npy", ruined)
        ruins.attempt(lambda: read(folder, layout))  # noqa: B023
        shutil.rmtree(folder)
    ruins.end()


def test_npz(tmp_path: Path) -> None:
    ruins = Ruins("npz")
    values = bytes(range(128))
    labels = io.BytesIO()
    np.save(labels, np.arange(8) % 2)
    path = tmp_path / "x.npz"
    for rng in ruins.cases(200):
        packed = io.BytesIO()
        kind = rng.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA))
        with warnings.catch_warnings(), zipfile.ZipFile(packed, "w", kind) as archive:
            warnings.simplefilter("ignore")
            archive.writestr("images.npy", impossible.npy(rng, values))
            archive.writestr("labels.npy", labels.getvalue())
            if rng.random() < 0.2:
                archive.writestr(
                    rng.choice(("labels.npy", "names.npy", "../x.npy", "a.txt", "more.npy")),
                    impossible.npy(rng, values),
                )
        content = bytearray(packed.getvalue())
        if rng.random() < 0.4:  # the sizes that the archive itself claims
            entry = content.index(b"PK\1\2")
            struct.pack_into(
                "<I", content, entry + rng.choice((8, 20, 24, 42)), rng.choice((0, 1, 2**31, 2**32 - 1, 2**32 - 2))
            )
        elif rng.random() < 0.3:
            content = bytearray(impossible.damaged(bytes(content), rng))
        impossible.write(path, bytes(content))
        ruins.attempt(lambda: read(path, "arrays"))
    ruins.end()


def test_idx(tmp_path: Path) -> None:
    ruins = Ruins("idx")
    sides = (0, 1, 4, 8, 2**31, 2**32 - 1)
    for rng in ruins.cases(200):
        images = struct.pack(
            ">HBBIII", 0, rng.choice((8, 8, 9, 11, 12, 13, 14, 0)), 3, *(rng.choice((8, 4, *sides)) for _ in range(3))
        )
        number = rng.choice((8, 8, 9, 11, 12, 13, 14))
        labels = struct.pack(">HBBI", 0, number, 1, rng.choice((8, 8, 8, *sides)))
        files = {"images-idx3-ubyte": images + bytes(range(128)), "labels-idx1-ubyte": labels + bytes((0, 1)) * 32}
        if rng.random() < 0.5:
            files = {
                "images-idx3-ubyte": struct.pack(">HBBIII", 0, 8, 3, 8, 4, 4) + bytes(range(128)),
                "labels-idx1-ubyte": files["labels-idx1-ubyte"],
            }
        folder = tmp_path / f"{ruins.number}"
        for name, content in files.items():
            if rng.random() < 0.3:
                name, content = f"{name}.gz", impossible.damaged(gzip.compress(content), rng)
            impossible.write(folder / name, content)
        ruins.attempt(lambda: read(folder, "idx"))  # noqa: B023
        shutil.rmtree(folder)
    ruins.end()


# --- through the command -------------------------------------------------------------------------------------------------


def _with_setting(key: str, value: Any, state: dict[str, Any]) -> dict[str, Any]:
    return state | {"settings": state["settings"] | {key: value}}


def _with_relearned(key: str, value: Any, state: dict[str, Any]) -> dict[str, Any]:
    return _with_setting("relearned", state["settings"]["relearned"] | {key: value}, state)


WRONG: dict[str, Callable[[dict[str, Any]], Any]] = {
    "no state": lambda state: None,
    "a deep state": lambda state: impossible.DEEP,
    "no settings": lambda state: {},
    "settings that are a list": lambda state: state | {"settings": [1]},
    **{
        f"{key} {number}": partial(_with_setting, key, value)
        for number, (key, value) in enumerate(
            [
                ("mean", [0.1] * 7), ("std", [0]), ("std", [math.nan]), ("std", [-1.0]), ("target_mean", [0.5]), ("outputs", 3), ("outputs", 1),
                ("classes", ["a", "a"]), ("classes", [1, 2]), ("classes", []), ("classes", [f"class {number}" for number in range(100_000)]),
                ("classes", ["a", "\ud800"]), ("input", {"height": 0, "width": 5, "channels": 1}), ("input", {"height": 10**9, "width": 5, "channels": 1}),
                ("input", {"height": 5, "width": 5, "channels": 3}), ("model", "flatten dense(1e12) dense"), ("model", "flatten dense(1000000) dense"),
                ("model", "x" * 5_000_000),  ("engine", {"threads": 0}), ("engine", {"threads": 1_000_000}),
                ("engine", {"device": "tpu"}), ("engine", {"precision": "float8"}), ("source", "a\0b"), ("added", [["a"]]), ("added", "builtin:lines"),
                ("seed", -1), ("seed", 10**30), ("task", "words"), ("recipe", {"epochs": 0}), ("recipe", {"device": "tpu"}), ("recipe", {"more": 1}),
            ]
        )
    },
    **{
        f"relearned {key} {number}": partial(_with_relearned, key, value)
        for number, (key, value) in enumerate(
            [("layers", []), ("layers", ["dense9"]), ("layers", ["conv1"]), ("layers", ["dense1"] * 2), ("threshold", math.nan), ("threshold", "far"),
             ("neighbours", 0), ("neighbours", 10**6), ("coverage", 2), ("augmented_views", 10**9)]
        )
    },
}  # fmt: skip
COMMANDS = (["predict", "RUN", "IMAGE"], ["test", "RUN"], ["look", "RUN", "IMAGE"], ["predict", "RUN", "IMAGE", "--json"], ["compare", "RUN"], ["relearn", "RUN", "builtin:lines", "--add"])  # fmt: skip


@pytest.mark.parametrize("wrong", WRONG)
def test_the_command_refuses_wrong_checkpoints_plainly(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], wrong: str
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = copied(runs, "b", tmp_path)
    Image.new("L", (5, 5)).save("image.png")
    tensors, state = checkpoint.load(runs / "b" / "best.safetensors")
    impossible.write(folder / "best.safetensors", impossible.seal(tensors, impossible.json_text(WRONG[wrong](state))))
    number = list(WRONG).index(wrong)
    for command in (COMMANDS[number % len(COMMANDS)], COMMANDS[0]):
        if command[0] == "compare" and wrong.startswith(("model", "outputs", "input 14")):
            continue  # it does not build the network
        arguments = [{"RUN": str(folder), "IMAGE": "image.png"}.get(word, word) for word in command]
        assert cli.run(arguments) == 4, capfd.readouterr()
        told = capfd.readouterr().err
        assert told.startswith("error: ") and "\nhint: " in told
        assert len(told) < 5_000 and "Traceback" not in told


PROGRESS: tuple[dict[str, Any], ...] = (
    {"epoch": "3"}, {"epoch": 10**6}, {"step": -1}, {"step": None}, {"history": [{"epoch": 1}]}, {"history": "a"}, {"history": []},
    {"best_value": [[1]]}, {"best_value": 3}, {"events_bytes": -1}, {"events_bytes": 10**18}, {"seconds": "long"}, {"seconds": math.inf},
    {"stale": True}, {"images": 1.5}, {"loss_sum": math.nan},
)  # fmt: skip


@pytest.mark.parametrize("change", PROGRESS, ids=str)
def test_the_command_refuses_wrong_progress_plainly(
    runs: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], change: dict[str, Any]
) -> None:
    folder = copied(runs, "a", tmp_path)
    tensors, state = checkpoint.load(runs / "a" / "last.safetensors")
    before = (folder / "events.jsonl").read_bytes()
    content = state | {"progress": state["progress"] | change}
    impossible.write(folder / "last.safetensors", impossible.seal(tensors, json.dumps(content)))
    assert cli.run(["train", "--resume", str(folder), "--epochs", "3"]) == 4
    assert "its progress cannot be read" in capfd.readouterr().err
    assert (folder / "events.jsonl").read_bytes() == before


@pytest.mark.parametrize(
    ("name", "content", "command", "code", "words"),
    [
        ("test/scores.json", "[" * 100_000, "compare", 3, "nested more than 64 levels deep"),
        ("test/scores.json", "null", "compare", 3, "should be a valid dictionary"),
        ("test/scores.json", "{}", "compare", 3, "field required"),
        ("test/scores.json", " " * 32_000_001, "compare", 3, "more than 32 MB"),
        ("split.csv", "path,label,split,digest\na\\Uffffffff,b,train,c\n", "test", 3, "line 2 cannot be read"),
    ],
)
def test_the_command_refuses_wrong_small_files_plainly(
    runs: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], name: str, content: str, command: str, code: int, words: str
) -> None:  # fmt: skip
    folder = copied(runs, "a", tmp_path)
    impossible.write(folder / name, content)
    assert cli.run([command, str(folder)]) == code
    assert words in capfd.readouterr().err.lower().replace("32 mb", "32 MB")
