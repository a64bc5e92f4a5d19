"""A run's temperature: fitted to its validation images, kept beside its best weights, used in its answers."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from convoscope.training import Run, read_summary, train
from convoscope.training.core import checkpoint
from convoscope.training.core.temperature import FEWEST, best_temperature
from tests.support.runs import taught


def raw_scores(run: Run) -> tuple[torch.Tensor, torch.Tensor]:
    """The validation images' raw scores and classes."""
    prepared = run.prepared()
    rows = prepared.dataset.indices("validation")
    with torch.inference_mode():
        scores = run.network()(run.input_tensor(prepared.pixels[rows]))
    return scores, torch.from_numpy(prepared.dataset.targets[rows])


@pytest.mark.parametrize("name", ["backbone", "relearned"])
def test_it_is_fitted_stored_and_used(name: str, request: pytest.FixtureRequest) -> None:
    run: Run = request.getfixturevalue(name)
    run = Run.open(run.folder)
    scores, targets = raw_scores(run)
    temperature = run.settings.temperature or 1.0
    if len(targets) < FEWEST:
        assert run.settings.temperature is None
    else:
        assert temperature == pytest.approx(best_temperature("classification", scores, targets), rel=1e-3)
    prepared = run.prepared()
    answers = run.scores(prepared.pixels[prepared.dataset.indices("validation")])
    torch.testing.assert_close(torch.from_numpy(answers), torch.softmax(scores / temperature, 1), atol=1e-5, rtol=1e-4)


def test_it_belongs_to_the_best_weights_only(backbone: Run) -> None:
    _, best = checkpoint.load(backbone.folder / "best.safetensors")
    _, last = checkpoint.load(backbone.folder / "last.safetensors")
    assert best["settings"]["temperature"] == backbone.settings.temperature
    assert "temperature" not in last["settings"]


def test_an_older_run_has_none(backbone: Run, tmp_path: Path) -> None:
    tensors, state = checkpoint.load(backbone.folder / "best.safetensors")
    settings = {key: value for key, value in state["settings"].items() if key != "temperature"}
    checkpoint.save(tmp_path / "best.safetensors", tensors, {**state, "settings": settings})
    old = Run.open(tmp_path)
    assert old.settings.temperature is None
    scores, _ = raw_scores(backbone)
    prepared = backbone.prepared()
    answers = old.scores(prepared.pixels[prepared.dataset.indices("validation")])
    torch.testing.assert_close(torch.from_numpy(answers), torch.softmax(scores, 1), atol=1e-5, rtol=1e-4)


def test_too_few_validation_images(pictures: Path, tmp_path: Path) -> None:
    run = train(pictures, "flatten dense", output=tmp_path / "run", epochs=1, validation=0.1)
    assert 0 < run.settings.images["validation"] < 30
    assert run.settings.temperature is None


def test_the_temperature_of_a_new_head(pictures: Path, backbone: Run, tmp_path: Path) -> None:
    run = taught(backbone, pictures, output=tmp_path / "run", validation=0.3)
    scores, targets = raw_scores(run)
    assert len(targets) >= FEWEST
    wanted = best_temperature("classification", scores, targets)
    assert run.settings.temperature == pytest.approx(wanted, rel=1e-3)
    assert Run.open(run.folder).settings.temperature == read_summary(run.folder)[0].temperature
