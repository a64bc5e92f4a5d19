"""A run that is killed before its first checkpoint begins anew, by what its folder says, and ends at the same weights.

What a kill leaves behind is a copy of the run's folder, taken while the training goes on undisturbed.
"""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from convoscope import data
from convoscope.config import read_config
from convoscope.errors import DataError, ModelFileError, UsageError
from convoscope.files import FolderLock
from convoscope.training import Reporter, Run, relearn, resume, train
from convoscope.training.commands import train as command
from convoscope.training.commands import transfer, transfer_run
from convoscope.training.core import checkpoint
from convoscope.training.fit import job
from tests.support.runs import OTHERS, At, Listener, fingerprint

ASKED: dict[str, Any] = {
    "model": "conv(4) norm relu maxpool globalavg dropout(0.2) dense",
    "seed": 3,
    "size": (10, 12),
    "channels": 1,
    "resize": "crop",
    "validation": 0.25,
    "test": 0.2,
    "layout": "folders",
    "epochs": 2,
    "batch_size": 16,
    "rotate": 10.0,
}
BEFORE = {
    "the decoding": (command, "prepare_images"),
    "the split is written": (command, "write_images"),
    "the job is made": (command, "_new_job"),
    "the arithmetic is chosen": (job, "choose_engine"),
    "everything is written down": (command, "write_toml"),
    "the first step": (command, "fit"),
}
"""Moments of a training, by what is called next."""


class Copies:
    """Copies of a run's folder, each as a kill at that moment leaves it."""

    def __init__(self, folder: Path, place: Path) -> None:
        self.folder, self.place = folder, place

    def take(self, moment: str) -> None:
        if not (self.place / moment).exists():
            shutil.copytree(self.folder, self.place / moment)

    def before(self, patch: pytest.MonkeyPatch, module: Any, name: str, moment: str) -> None:
        """Take one whenever this is called for the first time."""
        original = getattr(module, name)

        def copied(*arguments: Any, **options: Any) -> Any:
            self.take(moment)
            return original(*arguments, **options)

        patch.setattr(module, name, copied)

    def between_checkpoints(self, patch: pytest.MonkeyPatch) -> None:
        """Take one when the best weights are written, and those to go on from are not."""
        original = checkpoint.save

        def copied(path: Path, *arguments: Any) -> None:
            if path.name == "last.safetensors":
                self.take("its checkpoint is whole")
            original(path, *arguments)

        patch.setattr(checkpoint, "save", copied)

    def one(self, moment: str, place: Path) -> Path:
        return Path(shutil.copytree(self.place / moment, place / "run"))


@pytest.fixture(scope="module")
def killed(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Copies:
    place = tmp_path_factory.mktemp("killed")
    copies = Copies(place / "whole", place)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(pictures.parent)
        for moment, (module, name) in BEFORE.items():
            copies.before(patch, module, name, moment)
        copies.between_checkpoints(patch)
        train(pictures.name, output=copies.folder, reporter=At(3, lambda: copies.take("its fourth step")), **ASKED)
    return copies


@pytest.mark.parametrize("moment", [*BEFORE, "its fourth step", "its checkpoint is whole"])
def test_killed_at_any_moment_before_its_first_checkpoint_a_run_begins_anew(
    killed: Copies, tmp_path: Path, moment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder, listener = killed.one(moment, tmp_path), Listener()
    assert not (folder / "last.safetensors").exists()
    run = resume(folder, reporter=listener)
    assert listener.heard("it begins anew")
    assert fingerprint(folder) == fingerprint(killed.folder)
    assert (folder / "split.csv").read_bytes() == (killed.folder / "split.csv").read_bytes()
    for name in ("events.jsonl", "metrics.csv"):
        lines, whole = ((place / name).read_text("utf-8").count("\n") for place in (folder, killed.folder))
        assert lines == whole
    assert run.settings.recipe == Run.open(killed.folder).settings.recipe


def test_it_says_how_to_go_on(killed: Copies, tmp_path: Path) -> None:
    for moment in ("the decoding", "the first step"):
        place = tmp_path / moment
        place.mkdir()
        folder = killed.one(moment, place)
        with pytest.raises(ModelFileError) as caught:
            Run.open(folder)
        assert caught.value.code == "run-empty"
        hint = f"begin it anew, to the same weights: convoscope train --resume '{folder}'"
        assert caught.value.hint == hint


def test_with_other_epochs(killed: Copies, tmp_path: Path) -> None:
    assert len(resume(killed.one("the decoding", tmp_path), epochs=1).history) == 1


def test_what_was_asked_for_can_be_used_for_another_run(killed: Copies, tmp_path: Path) -> None:
    options, recipe = read_config(killed.one("the decoding", tmp_path) / "run.toml")
    assert recipe == {"epochs": 2, "batch_size": 16, "rotate": 10.0}
    wanted = {name: value for name, value in ASKED.items() if name not in recipe} | {"size": "10x12"}
    assert options == wanted | {"source": options["source"]}
    assert Path(options["source"]).is_absolute()


def test_images_that_changed_since_they_were_decoded_are_refused(pictures: Path, tmp_path: Path) -> None:
    source = Path(shutil.copytree(pictures, tmp_path / "source"))
    copies = Copies(tmp_path / "whole", tmp_path)
    with pytest.MonkeyPatch.context() as patch:
        copies.before(patch, command, "_new_job", "split")
        copies.before(patch, command, "fit", "described")
        train(source, output=copies.folder, **ASKED | {"epochs": 1})
    (source / "square" / "7.png").unlink()
    for moment in ("split", "described"):
        with pytest.raises(ModelFileError) as caught:
            resume(tmp_path / moment)
        assert (caught.value.code, caught.value.exit_code) == ("data-changed", 4)
        assert "0 new, 1 missing, 0 altered" in caught.value.reason
        assert len(resume(tmp_path / moment, accept_data_change=True).history) == 1


def test_an_error_leaves_a_run_that_begins_anew_as_it_is(killed: Copies, tmp_path: Path) -> None:
    folder = killed.one("the decoding", tmp_path)
    text = (folder / "run.toml").read_text("utf-8")
    (folder / "run.toml").write_text(text.replace("/pictures", "/elsewhere"), "utf-8")
    with pytest.raises(DataError, match="elsewhere"):
        resume(folder)

    class Early(Reporter):
        def say(self, text: str) -> None:
            if "recipe" in text:
                raise KeyboardInterrupt

    (folder / "run.toml").write_text(text, "utf-8")
    with pytest.raises(KeyboardInterrupt):
        resume(folder, reporter=Early())
    assert (folder / "run.toml").read_text("utf-8") == text
    resume(folder)
    assert fingerprint(folder) == fingerprint(killed.folder)


class Own(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(5)
        self.layer = nn.Linear(144, 3)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        scores: torch.Tensor = self.layer(images.flatten(1))
        return scores


@pytest.mark.parametrize("moment", ["prepare_images", "fit"])
def test_a_module_of_the_users_own_has_to_be_given_again(pictures: Path, tmp_path: Path, moment: str) -> None:
    copies = Copies(tmp_path / "whole", tmp_path)
    with pytest.MonkeyPatch.context() as patch:
        copies.before(patch, command, moment, "early")
        train(pictures, Own(), output=copies.folder, epochs=1)
    with pytest.raises(ModelFileError) as caught:
        resume(tmp_path / "early")
    assert (caught.value.code, "Own" in caught.value.reason) == ("run-needs-module", True)
    resume(tmp_path / "early", model=Own())
    assert fingerprint(tmp_path / "early") == fingerprint(copies.folder)


def test_images_in_memory_cannot_be_read_again(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 255, (40, 8, 8), dtype=np.uint8)
    copies = Copies(tmp_path / "whole", tmp_path)
    with pytest.MonkeyPatch.context() as patch:
        copies.before(patch, command, "fit", "early")
        train(data.from_arrays(images, np.arange(40) % 2), "flatten dense", output=copies.folder, epochs=1)
    with pytest.raises(DataError) as caught:
        resume(tmp_path / "early")
    assert caught.value.code == "data-in-memory"


def test_a_folder_in_which_nothing_was_begun_can_be_used_for_a_start(pictures: Path, tmp_path: Path) -> None:
    """As a kill leaves it between the folder and its first file."""
    folder = tmp_path / "run"
    folder.mkdir()
    FolderLock(folder).release()
    (folder / ".run.toml.4711.tmp").write_text("so")
    with pytest.raises(ModelFileError) as caught:
        resume(folder)
    assert (caught.value.code, caught.value.reason) == ("run-empty", "no training was begun in it")
    assert caught.value.hint == f"start it again: convoscope train SOURCE --output {folder}"
    train(pictures, output=folder, **ASKED | {"epochs": 1})
    assert not list(folder.glob(".*.tmp"))


def test_weights_of_a_run_that_came_to_its_end_are_not_trained_over(killed: Copies, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(killed.folder, tmp_path / "run"))
    (folder / "last.safetensors").unlink()
    (folder / "previous.safetensors").unlink(missing_ok=True)
    before = (folder / "best.safetensors").read_bytes()
    with pytest.raises(ModelFileError) as caught:
        resume(folder)
    assert caught.value.code == "checkpoint-without-progress"
    assert (folder / "best.safetensors").read_bytes() == before


@pytest.mark.parametrize(
    "content",
    ["", "seed = 1", "source = 3", "source = 'x'\nsize = 'big'", "source = 'x'\nrelearn = 1", "record = 3", "["],
)
def test_a_description_that_says_nothing_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "run.toml").write_text(content, "utf-8")
    with pytest.raises(ModelFileError) as caught:
        resume(tmp_path)
    assert caught.value.code == "settings-unreadable"


@pytest.mark.parametrize(
    "content",
    [
        "layout = 'spiral'", "layout = 3", "validation = 'some'", "validation = 7.0", "seed = 5\nchannels = 9",
        "model = 'convolution(3)'", "recipe = {epochs = 0}", "recipe = {speed = 3}", "unknown = 1\nmodel = 'nothing'",
        "relearn = {}", "relearn = {backbone = 3}", "relearn = {backbone = '', unfreeze = 'some'}", "label_column = [1]", "root = 7",
    ],
)  # fmt: skip
def test_a_description_from_somebody_else_is_refused_in_plain_words(
    pictures: Path, tmp_path: Path, content: str
) -> None:
    (tmp_path / "run.toml").write_text(f"source = '{pictures}'\n{content}\n", "utf-8")
    with pytest.raises((UsageError, DataError, ModelFileError)):
        resume(tmp_path)


@pytest.mark.parametrize("add", [False, True])
def test_a_relearning_begins_anew(backbone: Run, relearned: Run, tmp_path: Path, add: bool) -> None:
    copies = Copies(tmp_path / "whole", tmp_path)
    options: dict[str, Any] = {
        "feature_layer": "relu3", "augmented_views": 1, "coverage": 0.9, "head": "mean", "seed": 4, "validation": 0.2
    }  # fmt: skip
    source = OTHERS
    if add:
        options, source = {"add": True}, "builtin:drawings/snail"
    with pytest.MonkeyPatch.context() as patch:
        copies.before(patch, transfer, "plan_images", "asked")
        copies.before(patch, transfer, "fit_head", "decoded")
        copies.before(patch, transfer_run, "write_images", "made")
        copies.between_checkpoints(patch)
        relearn(relearned if add else backbone, source, output=copies.folder, **options)
    for moment in ("asked", "decoded", "made", "its checkpoint is whole"):
        run = resume(tmp_path / moment)
        assert fingerprint(run.folder) == fingerprint(copies.folder)
        assert run.settings.relearned == Run.open(copies.folder).settings.relearned
    with pytest.raises(UsageError) as caught:
        read_config(shutil.copytree(copies.place / "asked", tmp_path / "again") / "run.toml")
    assert caught.value.code == "config-relearned"


def test_best_weights_that_waited_for_the_first_checkpoint_come_to_their_place(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed between the checkpoint and their renaming."""
    copies = Copies(tmp_path / "whole", tmp_path)
    copies.before(monkeypatch, checkpoint, "finish_first", "killed")
    train(pictures, output=copies.folder, **ASKED | {"epochs": 1})
    assert not (tmp_path / "killed" / "best.safetensors").exists()
    resume(tmp_path / "killed")
    assert fingerprint(tmp_path / "killed") == fingerprint(copies.folder)
    names = [{path.name for path in folder.iterdir()} for folder in (tmp_path / "killed", copies.folder)]
    assert names[0] - {"previous.safetensors"} == names[1]


def test_a_start_that_fails_or_is_stopped_leaves_no_folder(pictures: Path, tmp_path: Path) -> None:
    def stop(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    for name in ("prepare_images", "_new_job", "write_toml"):
        with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(command, name, stop)
            train(pictures, output=tmp_path / "run", **ASKED)
        assert not (tmp_path / "run").exists()
