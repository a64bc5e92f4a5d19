"""The search: chosen by validation alone, resumable, honest about its test."""

import os
import signal
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import convoscope.search as searching
from convoscope import cli
from convoscope.config import read_config
from convoscope.errors import ConvoscopeError, Interrupted
from convoscope.search import SPACE, Search, search
from convoscope.training import Recipe, Reporter

MODEL = "conv(2) relu flatten dense"


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Search:
    folder = tmp_path_factory.mktemp("search") / "a"
    options: dict[str, Any] = {"epochs": 2, "precision": "float32"}
    return search("builtin:lines", MODEL, minutes=0.05, keys=["learning_rate", "batch_size"], output=folder, **options)


def test_validation_chooses(found: Search) -> None:
    complete = [trial for trial in found.trials if trial.state == "complete"]
    assert len(found.trials) >= 2 and found.trials[0].settings == {}
    assert found.best.value == max(trial.value or 0 for trial in complete)
    for trial in found.trials[1:]:
        assert trial.settings.keys() == {"learning_rate", "batch_size"}
        low, high = SPACE["learning_rate"].low, SPACE["learning_rate"].high
        assert low * 0.99 <= trial.settings["learning_rate"] <= high * 1.01
    recipe = found.run.settings.recipe
    assert all(getattr(recipe, name) == value for name, value in found.best.settings.items())
    assert found.run.history[found.run.best_epoch - 1]["val_accuracy"] == found.best.value
    assert found.tests == 1 and found.scores is not None
    tested = [trial.run.name for trial in found.trials if (trial.run / "test").exists()]
    assert tested == [found.best.run.name]


def test_only_the_best_keeps_its_weights(found: Search) -> None:
    assert [path.name for path in sorted(found.folder.glob("trial-*")) if list(path.glob("*.safetensors"))] == [
        found.best.run.name
    ]
    assert all((trial.run / "metrics.csv").is_file() for trial in found.trials)


def test_the_best_recipe_can_be_trained(found: Search) -> None:
    options, recipe = read_config(found.folder / "best.toml")
    assert options["source"] == "builtin:lines" and options["model"] == MODEL
    assert recipe == {"epochs": 2, "precision": "float32", **found.best.settings}


def test_it_is_shown_small(found: Search) -> None:
    header, rows = found.rows()
    assert header[:5] == ("trial", "validation", "loss", "epochs", "state") and rows[0][0] == found.best.run.name
    assert len(repr(found)) < 1000 and "<table>" in found._repr_html_()


def test_it_goes_on_with_what_it_has(found: Search) -> None:
    more = search(found.folder, minutes=0.02)
    assert more.trials[: len(found.trials)] == found.trials and len(more.trials) > len(found.trials)
    assert (more.tests == 1) == (more.best == found.best) and (len(more.notes) == 2) == (more.tests > 1)
    with pytest.raises(ConvoscopeError, match="received keys") as caught:
        search(found.folder, minutes=0.02, keys=["rotate"])
    assert caught.value.code == "search-with-settings"


def test_an_interrupted_search_keeps_its_trials(tmp_path: Path) -> None:
    class Stop(Reporter):
        trainings = 0

        def start(self, folder: Path, epochs: int) -> None:
            self.trainings += 1
            if self.trainings == 2:
                os.kill(os.getpid(), signal.SIGINT)

    place = tmp_path / "a"
    options: dict[str, Any] = {"epochs": 1, "precision": "float32"}
    with pytest.raises(Interrupted, match="the trials that are done are kept") as caught:
        search("builtin:lines", MODEL, minutes=0.3, keys=["learning_rate"], output=place, reporter=Stop(), **options)
    assert caught.value.code == "interrupted-search" and str(place) in caught.value.hint
    again = search(place, minutes=0.0001)
    assert again.trials[0].state == "complete"
    assert "trial-001" not in [trial.run.name for trial in again.trials]  # it was ended before it had an epoch


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({"keys": ["lerning_rate"]}, "search-key"),
        ({"keys": ["rotate"], "rotate": 3.0}, "search-key"),
        ({"minutes": 0}, "search-minutes"),
        ({"validation": 0.0, "epochs": 1, "precision": "float32"}, "search-validation"),
    ],
)
def test_what_cannot_be_searched(tmp_path: Path, options: dict[str, object], code: str) -> None:
    with pytest.raises(ConvoscopeError) as caught:
        search("builtin:lines", MODEL, output=tmp_path / "a", **{"minutes": 1, **options})  # type: ignore[arg-type]
    assert caught.value.code == code


def test_a_folder_that_is_taken(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("x")
    with pytest.raises(ConvoscopeError) as caught:
        search("builtin:lines", MODEL, output=tmp_path, minutes=1)
    assert caught.value.code == "search-exists"


def test_without_optuna(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise ModuleNotFoundError(name)

    monkeypatch.setattr(searching, "import_module", missing)
    with pytest.raises(ConvoscopeError) as caught:
        search("builtin:lines", MODEL, output=tmp_path / "a", minutes=1)
    assert caught.value.code == "search-missing"


def test_every_range_is_one_of_the_recipe() -> None:
    for name, space in SPACE.items():
        for value in space.values or (space.low, space.high):
            Recipe.read({name: value})


def test_the_command_takes_the_groups_of_its_images(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for label, tone in (("dark", 30), ("bright", 220)):
        (tmp_path / "pictures" / label).mkdir(parents=True)
        for number in range(4):
            Image.new("L", (5, 5), tone + number).save(tmp_path / "pictures" / label / f"{number}.png")
    arguments = ["search", str(tmp_path / "pictures"), "--output", str(tmp_path / "out"), "--group-pattern", "(a"]
    assert cli.run(arguments) == 2
    assert capfd.readouterr().err.startswith("error: --group-pattern")
