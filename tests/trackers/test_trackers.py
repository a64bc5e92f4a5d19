"""Runs recorded with TensorBoard, MLflow and Weights & Biases, read back with what each of them has for it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from convoscope import trackers
from convoscope.errors import MachineError
from convoscope.trackers import tracker
from convoscope.training import Reporters, Run, relearn, train
from tests.support.runs import Listener


class Memory(trackers.Tracker):
    """Records in memory."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[dict[str, Any]] = []

    def begin(self, folder: Path, parameters: Mapping[str, str | int | float | bool]) -> None:
        self.records.append({"folder": folder, "parameters": dict(parameters), "figures": [], "states": []})

    def log(self, figures: Mapping[str, float], step: int) -> None:
        self.records[-1]["figures"].append((step, dict(figures)))

    def close(self, *, whole: bool) -> None:
        self.records[-1]["states"].append(whole)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return train("builtin:lines", "tiny", epochs=2, output=tmp_path_factory.mktemp("run") / "lines")


def test_a_training_is_recorded_as_it_goes(tmp_path: Path) -> None:
    memory = Memory()
    run = train("builtin:lines", "tiny", epochs=2, output=tmp_path / "run", reporter=Reporters(Listener(), [memory]))
    (record,) = memory.records
    assert [step for step, _ in record["figures"]] == [1, 2]
    for (_, figures), row in zip(record["figures"], run.history, strict=True):
        assert figures == {name: value for name, value in row.items() if name != "epoch"}
    assert record["parameters"]["learning_rate"] == run.settings.recipe.learning_rate
    assert (record["parameters"]["model"], record["parameters"]["images_train"]) == ("tiny", 120)
    assert record["states"] == [False, True]  # over, and then whole
    memory.tested(run.folder, "test", {"accuracy": 0.5})
    assert len(memory.records) == 1 and record["figures"][-1] == (run.best_epoch, {"test_accuracy": 0.5})


def test_a_run_that_is_there_already_is_recorded_from_its_folder(run: Run) -> None:
    memory = Memory()
    memory.finished(run.folder)
    memory.finished(run.folder)
    assert [step for step, _ in memory.records[0]["figures"]] == [1, 2] and len(memory.records) == 1


def test_relearned_and_repeated_runs(tmp_path: Path, run: Run) -> None:
    memory = Memory()
    first = relearn(run, "builtin:shapes", output=tmp_path / "a", reporter=memory)
    relearn(run, "builtin:shapes", output=tmp_path / "b", seed=1, reporter=memory)
    assert [record["folder"].name for record in memory.records] == ["a", "b"]
    assert memory.records[0]["figures"] == [
        (1, {name: value for name, value in first.history[0].items() if name != "epoch"})
    ]


def test_an_interrupted_training_is_recorded_as_such(tmp_path: Path) -> None:
    class Stop(Listener):
        def epoch(self, row: Any, best: bool) -> None:
            raise RuntimeError

    memory = Memory()
    with pytest.raises(RuntimeError):
        train("builtin:lines", "tiny", epochs=2, output=tmp_path / "run", reporter=Reporters(Stop(), [memory]))
    assert memory.records[0]["states"] == [False]


def test_a_library_that_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise ModuleNotFoundError(name)

    monkeypatch.setattr(tracker, "import_module", missing)
    for name, kind in trackers.TRACKERS.items():
        with pytest.raises(MachineError, match="is not installed") as caught:
            kind()
        assert (caught.value.code, caught.value.hint) == ("tracker-missing", f"pip install 'convoscope[{name}]'")


def test_tensorboard_gets_settings_images_and_graph(run: Run) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    board = trackers.TensorBoard()
    board.start(run.folder, 2)
    board.end()
    board.finished(run.folder)
    board.tested(run.folder, "test", {"accuracy": 0.75})
    found = EventAccumulator(str(run.folder / "tensorboard"), size_guidance={"images": 100}).Reload()
    tags = found.Tags()
    assert found.Scalars("test/accuracy")[0].value == 0.75
    assert len(tags["images"]) == 24 and all(tag.startswith("validation/") for tag in tags["images"])
    assert tags["graph"]
    content = found.summary_metadata["_hparams_/session_start_info"].plugin_data.content
    assert b"learning_rate" in content and b"batch_size" in content


@pytest.mark.filterwarnings("ignore")  # of libraries that others maintain
def test_mlflow_gets_settings_and_figures(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")  # a database takes many seconds to be made
    board = trackers.MLflow(tracking_uri=tmp_path.as_uri())
    board.finished(run.folder)
    board.tested(run.folder, "test", {"accuracy": 0.75})
    client = board._client
    (found,) = client.search_runs([client.get_experiment_by_name("convoscope").experiment_id])
    assert found.info.status == "FINISHED" and found.info.run_name == "lines"
    assert found.data.params["learning_rate"] == str(run.settings.recipe.learning_rate)
    assert found.data.metrics["test_accuracy"] == 0.75
    history = client.get_metric_history(found.info.run_id, "val_accuracy")
    assert [(entry.step, entry.value) for entry in history] == [
        (row["epoch"], row["val_accuracy"]) for row in run.history
    ]


@pytest.mark.filterwarnings("ignore")  # of libraries that others maintain
def test_wandb_gets_settings_and_figures_without_a_network(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    board = trackers.WandB()
    board.finished(run.folder)
    assert board._run.config["learning_rate"] == run.settings.recipe.learning_rate
    board.tested(run.folder, "test", {"accuracy": 0.75})
    (kept,) = (tmp_path / "wandb").glob("offline-run-*/*.wandb")
    assert b"test_accuracy" in kept.read_bytes() and b"val_accuracy" in kept.read_bytes()
    assert board._run is None
