"""Losses, metrics, augmentations and heads of the user's own: what they do, what is refused, what a run says of them."""

import csv
import functools
import os
import signal
import tomllib
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from convoscope.config import read_config
from convoscope.errors import ConvoscopeError, Interrupted
from convoscope.evaluation import read_scores, test, write_report
from convoscope.training import Reporter, Run, resume, train
from convoscope.training.core.augment import augment
from convoscope.training.core.hooks import Hooks, OwnCode
from convoscope.training.core.objective import Objective
from convoscope.training.core.recipe import Recipe
from convoscope.training.core.rng import image_seeds
from tests.support.runs import At, fingerprint, words_of

QUICK: dict[str, Any] = {"epochs": 2, "precision": "float32", "threads": 1}


def focal(scores: Tensor, targets: Tensor) -> Tensor:
    """Lin et al. 2017, with gamma 2."""
    logs = torch.log_softmax(scores, 1).gather(1, targets[:, None])[:, 0]
    return (-((1 - logs.exp()) ** 2) * logs).mean()


def right(answers: NDArray[np.float32], targets: NDArray[Any]) -> float:
    return float((answers.argmax(1) == targets).mean())


def undefined(answers: NDArray[np.float32], targets: NDArray[Any]) -> float:
    return float("nan")


def noisy(images: Tensor, seeds: Tensor) -> Tensor:
    drawn = [torch.randn(images.shape[1:], generator=torch.Generator().manual_seed(int(seed))) for seed in seeds]
    return (images + 20 * torch.stack(drawn)).clamp(0, 255)


def head(features: int, classes: int) -> nn.Module:
    return nn.Sequential(nn.Linear(features, 6), nn.Tanh(), nn.Linear(6, classes))


OWN: dict[str, Any] = {"loss": focal, "metrics": {"right": right, "odd": undefined}, "augment": noisy, "head": head}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return train("builtin:lines", "tiny", output=tmp_path_factory.mktemp("own") / "run", **QUICK, **OWN)


def test_a_run_names_code_and_does_not_hold_it(run: Run) -> None:
    record = tomllib.loads((run.folder / "run.toml").read_text("utf-8"))["record"]["own"]
    here = __name__
    assert [(own["kind"], own["name"], own["label"]) for own in record] == [
        ("head", f"{here}:head", "tiny"),
        ("loss", f"{here}:focal", ""),
        ("augment", f"{here}:noisy", ""),
        ("metric", f"{here}:right", "right"),
        ("metric", f"{here}:undefined", "odd"),
    ]
    assert all(len(own["digest"]) == 64 for own in record)


def test_metrics_are_measured_in_each_epoch_and_in_the_test(run: Run) -> None:
    with (run.folder / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["val_right"] for row in rows] == [row["val_accuracy"] for row in rows]
    assert [row["val_odd"] for row in rows] == ["", ""]
    again = Run.open(run.folder, head=head)
    assert [row["metrics"]["right"] for row in again.history] == [row["val_accuracy"] for row in again.history]
    scores = test(run, invariance=False)
    assert scores.metrics == {"right": scores.accuracy, "odd": None}
    kept = read_scores(run.folder)
    assert kept is not None and kept.metrics == scores.metrics
    page = write_report(run)
    assert f"Metrics of your own: right {scores.accuracy:.4g}, odd –." in words_of(page)
    unmeasured = test(again, invariance=False)
    assert not unmeasured.metrics
    assert any("Run.open(folder, metrics=" in note for note in unmeasured.notes)


def test_the_loss_is_what_is_minimised_and_validated(run: Run) -> None:
    prepared = run.prepared()
    rows = prepared.dataset.indices("validation")
    targets = prepared.dataset.targets[rows]
    with torch.inference_mode():  # raw scores: the run's own answers have a temperature
        raw = run.network()(run.input_tensor(prepared.pixels[rows]))
    given = raw.double().softmax(1).numpy()[np.arange(len(rows)), targets]
    row = run.history[run.best_epoch - 1]
    assert row["val_loss"] == pytest.approx(float((-((1 - given) ** 2) * np.log(given)).mean()), rel=1e-4)
    assert run.settings.recipe.label_smoothing == 0


def test_predicting_needs_the_head_and_nothing_else(run: Run) -> None:
    with pytest.raises(ConvoscopeError, match="a head of your own") as caught:
        Run.open(run.folder).network()
    assert caught.value.code == "run-needs-module"
    opened = Run.open(run.folder, head=head)
    pixels = run.prepared().pixels[:8]
    np.testing.assert_array_equal(opened.scores(pixels), run.scores(pixels))
    kinds = [type(part) for part in opened.network().modules()]
    assert nn.Tanh in kinds


def test_a_resumed_run_is_given_its_code_again_and_ends_at_the_same_weights(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "stopped"
    with pytest.raises(Interrupted):
        train(
            "builtin:lines",
            "tiny",
            output=folder,
            reporter=At(9, lambda: os.kill(os.getpid(), signal.SIGINT)),
            **QUICK,
            **OWN,
        )
    with pytest.raises(ConvoscopeError) as caught:
        resume(folder)
    assert caught.value.code == "run-needs-own-code"
    assert f"from {__name__} import focal; " in caught.value.hint
    assert 'augment=noisy, metrics={"right": right, "odd": undefined})' in caught.value.hint
    resume(folder, **OWN)
    assert fingerprint(folder) == fingerprint(run.folder)


def test_changed_code_is_warned_of(run: Run, tmp_path: Path) -> None:
    own = next(own for own in run.settings.own if own.kind == "loss")
    assert not own.changed(OwnCode.of("loss", focal))
    assert "its source has changed" in own.changed(OwnCode.of("loss", right))
    assert not own.changed(OwnCode.of("loss", len))  # Python knows no source of it


def test_code_that_decides_weights_cannot_come_later(tmp_path: Path) -> None:
    train("builtin:lines", "tiny", output=tmp_path / "run", epochs=1, precision="float32")
    with pytest.raises(ConvoscopeError) as caught:
        resume(tmp_path / "run", epochs=2, loss=focal)
    assert caught.value.code == "own-code-unexpected"
    again = resume(tmp_path / "run", epochs=2, metrics={"right": right})
    assert again.history[0]["metrics"] == {"right": None}
    assert again.history[1]["metrics"] == {"right": again.history[1]["val_accuracy"]}


@pytest.mark.parametrize(
    ("own", "code", "words"),
    [
        ({"loss": lambda scores, targets: scores}, "loss-invalid", "expected one number for the batch"),
        ({"loss": lambda scores, targets: 0.5}, "loss-invalid", "it gives float"),
        ({"loss": lambda scores, targets: scores.detach().mean()}, "loss-not-differentiable", "does not depend on the"),
        ({"loss": lambda scores, targets: 1 / 0}, "hook-failed", "ZeroDivisionError: division by zero (test_own_code"),
        ({"augment": lambda images, seeds: images[:, :, 1:]}, "augment-invalid", "it gives shape"),
        ({"augment": lambda images, seeds: images.double()}, "augment-invalid", "it gives torch.float64"),
        ({"augment": lambda images, seeds: images / 0}, "augment-invalid", "not finite"),
        ({"augment": lambda images, seeds: None}, "augment-invalid", "it gives a NoneType"),
        ({"metrics": {"m": lambda answers, targets: "x"}}, "metric-invalid", "expected a number"),
        ({"metrics": {"accuracy": right}}, "hook-invalid", "expected a name such as f1"),
        ({"metrics": [right]}, "hook-invalid", "expected a dictionary"),
        ({"loss": 3}, "hook-invalid", "expected a function"),
        ({"head": lambda features, classes: 4}, "model-module", "got int"),
        ({"head": lambda features, classes: nn.Linear(features + 1, classes)}, "model-module", "but it fails on one"),
        ({"loss": focal, "label_smoothing": 0.1}, "hook-without-effect", "no effect on a loss of your own"),
        ({"head": head, "model": nn.Sequential(nn.Flatten(), nn.Linear(25, 2))}, "hook-without-effect", "its own head"),
    ],
)
def test_mistakes_are_found_before_anything_is_trained(own: Any, code: str, words: str, tmp_path: Path) -> None:
    class Silent(Reporter):
        def step(self, epoch: int, step: int, steps: int, loss: float) -> None:
            pytest.fail("a step was made")

    with warnings.catch_warnings(), pytest.raises(ConvoscopeError) as caught:
        warnings.simplefilter("ignore", RuntimeWarning)
        train("builtin:lines", output=tmp_path / "run", reporter=Silent(), **{"model": "tiny", **QUICK, **own})
    assert caught.value.code == code
    assert words in str(caught.value) and caught.value.hint
    assert not (tmp_path / "run").exists()


def test_a_configuration_cannot_stand_for_code(run: Run) -> None:
    with pytest.raises(ConvoscopeError) as caught:
        read_config(run.folder / "run.toml")
    assert caught.value.code == "config-own-code"


def test_an_augmentation_is_a_function_of_seed_epoch_and_image() -> None:
    pixels = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (6, 5, 5, 1), np.uint8))
    numbers = np.array([7, 1, 3, 8, 0, 2])

    def made(chosen: list[int], seed: int = 0, epoch: int = 0) -> Tensor:
        return augment(pixels[chosen], numbers[chosen], seed=seed, epoch=epoch, recipe=Recipe(), own=noisy)

    whole = made([0, 1, 2, 3, 4, 5])
    assert torch.equal(whole[[4, 2]], made([4, 2]))  # whatever else is in the batch
    assert not torch.equal(whole, made([0, 1, 2, 3, 4, 5], epoch=1))
    assert not torch.equal(whole, made([0, 1, 2, 3, 4, 5], seed=1))
    seeds = image_seeds(0, 0, np.arange(100_000))
    assert len(set(seeds.tolist())) == len(seeds) and seeds.min() >= 0


def test_numbers_keep_their_r2_with_another_loss() -> None:
    values = torch.randn(50, 2, generator=torch.Generator().manual_seed(0))
    scores = values + 0.3
    plain = Objective(task="regression", outputs=2, target_mean=(0.0, 0.0), target_std=(1.0, 1.0))
    own = Objective(
        task="regression",
        outputs=2,
        target_mean=(0.0, 0.0),
        target_std=(1.0, 1.0),
        own_loss=lambda s, t: (s - t).abs().mean(),
    )
    for objective in (plain, own):
        assert objective.accuracy(objective.right(scores, values), 50) == pytest.approx(1 - 0.09, rel=1e-5)
    assert float(own.loss(scores, values)) == pytest.approx(0.3, rel=1e-5)


def test_names_of_objects_and_parts_of_functions() -> None:
    assert OwnCode.of("loss", nn.CrossEntropyLoss()).name == "torch.nn.modules.loss:CrossEntropyLoss"
    assert OwnCode.of("loss", functools.partial(focal)).name == f"{__name__}:focal"
    assert Hooks.of({"loss": nn.CrossEntropyLoss()}).described()[0].kind == "loss"
