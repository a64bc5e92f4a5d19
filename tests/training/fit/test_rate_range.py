"""The learning rate range test: its mathematics against SciPy, and a whole one on a small network."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from scipy.signal import savgol_filter

import convoscope
from convoscope.cli import app
from convoscope.errors import ConvoscopeError
from convoscope.training.fit.rate_range import smooth, steepest


def curve(steps: int = 101, noise: float = 0.05) -> list[float]:
    """A loss that falls fastest at step 55, is least near step 75 and then rises."""
    place = np.arange(steps)
    falls = 2 - 1.5 / (1 + np.exp(-(place - 55) / 5)) + np.where(place > 75, (place - 75) ** 2 / 40, 0)
    return list(map(float, falls + noise * np.random.default_rng(0).standard_normal(steps)))


def test_the_steepest_step_is_that_of_a_line_fitted_to_its_neighbours() -> None:
    losses = curve()
    slopes = savgol_filter(losses, 21, 1, deriv=1)
    end = int(np.argmin([np.mean(losses[max(0, k - 10) : k + 11]) for k in range(101)]))
    found = steepest(losses, 10)
    assert found == 10 + int(np.argmin(slopes[10 : end + 1]))
    assert found is not None and abs(found - 55) <= 4
    np.testing.assert_allclose(smooth(losses, 10)[10:-10], savgol_filter(losses, 21, 1)[10:-10], rtol=1e-9)


def test_a_loss_that_does_not_fall_has_no_steepest_step() -> None:
    assert steepest([2.0] * 50, 5) is None
    assert steepest(list(np.linspace(2, 5, 50)), 5) is None


def test_a_rate_is_found_and_its_network_learns_with_it(tmp_path: Path) -> None:
    model = "flatten dense(16) relu dense"
    fixed: dict[str, Any] = {"precision": "float32", "threads": 1, "optimizer": "adamw", "batch_size": 16}
    found = convoscope.find_learning_rate("builtin:lines", model, seed=1, **fixed)
    again = convoscope.find_learning_rate("builtin:lines", model, seed=1, **fixed)
    assert found == again
    assert found.rates[0] == pytest.approx(1e-6) and len(found.rates) == len(found.losses) == len(found.smoothed)
    ratios = np.diff(np.log(found.rates))
    np.testing.assert_allclose(ratios, ratios[0], rtol=1e-6)
    assert found.recipe == {"learning_rate": found.suggestion}
    best = found.rates[int(np.argmin(found.smoothed))]
    assert 1e-4 < found.suggestion <= best
    run = convoscope.train("builtin:lines", model, seed=1, epochs=10, output=tmp_path / "run", **fixed, **found.recipe)
    assert (run.history[-1]["val_accuracy"] or 0) >= 0.95


def test_the_command_prints_the_curve_and_the_next_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)

    def command(*more: str) -> str:
        words = ["train", "builtin:lines", "--model", "flatten norm dense(8) relu dense", "--find-learning-rate"]
        words += ["--set", "precision=float32", "--set", "optimizer=muon", *more]
        app(words, exit_on_error=False, print_error=False, result_action="return_value")
        return capsys.readouterr().out

    out = command()
    found = json.loads(command("--json"))
    settings = " ".join(f"--set {name}={value:g}" for name, value in found["recipe"].items())
    assert f"falls fastest at a learning rate of {found['suggestion']:g}" in out
    assert f"the same command with {settings} instead of --find-learning-rate" in " ".join(out.split())
    assert set(found["recipe"]) == {"learning_rate", "muon_learning_rate"}
    with Image.open(tmp_path / "learning-rate.png") as picture:
        assert picture.width > 400
    assert not (tmp_path / "runs").exists()
    with pytest.raises(ConvoscopeError) as caught:
        app(["train", "--resume", "runs/x", "--find-learning-rate"], exit_on_error=False, print_error=False)
    assert caught.value.code == "resume-with-settings"


def test_what_cannot_be_found() -> None:
    with pytest.raises(ConvoscopeError) as caught:
        convoscope.find_learning_rate("builtin:lines", "tiny", steps=5)
    assert caught.value.code == "steps-out-of-range"
    with pytest.raises(ConvoscopeError) as caught:
        # A loss that no weight can lower.
        convoscope.find_learning_rate("builtin:lines", "tiny", steps=20, loss=lambda scores, _: (scores * 0).sum() + 1)
    assert caught.value.code == "learning-rate-not-found"
