"""Classes and images added to a run."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from convoscope import data, evaluation
from convoscope.errors import (
    DataError,
    ModelFileError,
)
from convoscope.training import Run, resume
from tests.support.runs import OTHERS, Listener, taught, words_of


def test_a_class_is_added_and_old_features_stay(backbone: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONVOSCOPE_CACHE", str(tmp_path / "cache"))  # what other tests kept shall not be found
    listener = Listener()
    relearned = taught(backbone, OTHERS, output=tmp_path / "first")
    made = taught(relearned.folder, "builtin:drawings/snail", add=True, output=tmp_path / "run", reporter=listener)
    assert made.classes == ("house", "star", "umbrella", "snail")
    assert listener.heard("240 of 320 were cached")
    again = taught(made, "builtin:drawings/snowman", add=True, output=tmp_path / "more", reporter=listener)
    assert again.classes == ("house", "star", "umbrella", "snail", "snowman")
    assert listener.heard("320 of 400 were cached")
    opened = Run.open(again.folder)
    dataset = opened.prepared().dataset
    assert len(dataset) == 400
    # What is said of the split is true of this run, and all sources are named.
    assert not any("drawn" in note or note.startswith("each class: ") for note in opened.prepared().dataset.notes)
    assert [note for note in made.settings.notes if "each class: " in note] == [
        "each class: 70% training, 10% validation, 20% test, drawn by seed 0"
    ]
    assert "1 thing " in next(note for note in made.settings.notes if note.startswith("80 drawings"))
    everything = f"{OTHERS} and builtin:drawings/snail and builtin:drawings/snowman"
    assert opened.settings.sources == everything
    old = {
        name
        for name, split in zip(relearned.prepared().dataset.names, relearned.prepared().dataset.splits, strict=True)
        if split == 2
    }
    new = {name for name, split in zip(dataset.names, dataset.splits, strict=True) if split == 2}
    assert old < new  # the test part stays unseen
    scores = evaluation.test(opened, invariance=False)
    assert scores.images == 80 and scores.accuracy is not None and scores.accuracy > 0.6
    assert scores.source == everything
    told = words_of(evaluation.write_report(opened, inside=False))
    assert f"{OTHERS}, read as builtin, and builtin:drawings/snail, read as builtin" in told
    notes = evaluation.compare([opened]).notes
    assert any("its backbone was already trained, and taken over from" in note for note in notes)
    resume(again.folder)


def test_more_images_of_a_class_that_is_there(backbone: Run, pictures: Path, tmp_path: Path) -> None:
    made = taught(backbone, pictures, output=tmp_path / "run")
    more = tmp_path / "more" / "square"
    more.mkdir(parents=True)
    for number in range(10):
        Image.fromarray(np.full((12, 12), 20 * number, np.uint8)).save(more / f"{number}.png")
    added = taught(made.folder, tmp_path / "more", add=True, output=tmp_path / "added")
    assert added.classes == made.classes
    counts = [sum(added.prepared().dataset.counts()[split]["square"] for split in data.SPLITS) for _ in range(1)]
    assert counts == [50]
    assert any(name.startswith("more/") for name in added.prepared().dataset.names)


def test_an_image_that_is_there_already_keeps_its_part_and_counts_once(
    backbone: Run, pictures: Path, tmp_path: Path
) -> None:
    """With another seed the same images are split otherwise: what was for the test must not be learned from."""
    made = taught(backbone, pictures, output=tmp_path / "run")
    more = tmp_path / "more"
    shutil.copytree(pictures, more)
    for number in range(2):
        Image.fromarray(np.full((12, 12), 99 + number, np.uint8)).save(more / "square" / f"new-{number}.png")
    listener = Listener()
    added = taught(made, more, add=True, seed=3, output=tmp_path / "added", reporter=listener)
    assert listener.heard("120 of 122 added images are left out")
    assert not listener.heard("is in more than one split")
    before, after = made.prepared(), added.prepared()
    assert len(after.dataset) == len(before.dataset) + 2
    old = dict(zip(before.digests, before.dataset.splits.tolist(), strict=True))
    new = dict(zip(after.digests, after.dataset.splits.tolist(), strict=True))
    assert {digest: new[digest] for digest in old} == old
    # The same under another label is no copy: both stay, and it is said.
    other = tmp_path / "other" / "lying bar"
    other.mkdir(parents=True)
    for number in range(2):
        shutil.copy(more / "square" / f"new-{number}.png", other)
    again = taught(added, tmp_path / "other", add=True, output=tmp_path / "again", reporter=listener)
    assert len(again.prepared().dataset) == len(after.dataset) + 2
    assert listener.heard("the same image has different labels (2 cases)")
    with pytest.raises(DataError) as caught:
        taught(added, more, add=True, output=tmp_path / "nothing")
    assert caught.value.code == "relearn-nothing-new"
    assert not (tmp_path / "nothing").exists()


def test_what_lies_here_is_added_under_its_folders_name(
    backbone: Run, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`--add .`: read again from elsewhere, the names must be the same."""
    made = taught(backbone, OTHERS, output=tmp_path / "run")
    more = tmp_path / "more"
    shutil.copytree(pictures, more)
    monkeypatch.chdir(more)
    added = taught(made, ".", add=True, output=tmp_path / "added")
    before = (added.prepared().dataset.names, added.prepared().dataset.splits.tolist())
    monkeypatch.chdir(tmp_path)
    again = Run.open(tmp_path / "added").prepared().dataset
    assert (again.names, again.splits.tolist()) == before
    assert any(name.startswith("more/") for name in again.names)


def test_images_that_changed_since_are_reported_when_others_are_added(
    backbone: Run, pictures: Path, tmp_path: Path
) -> None:
    mine = tmp_path / "mine"
    shutil.copytree(pictures, mine)
    made = taught(backbone, mine, output=tmp_path / "run")
    first, second = sorted((mine / "lying bar").iterdir())[:2]
    first.unlink()
    shutil.copy(next((mine / "square").iterdir()), second)
    listener = Listener()
    taught(made, "builtin:drawings/snail", add=True, output=tmp_path / "added", reporter=listener)
    assert listener.heard(f"1 missing, 1 altered (such as lying bar/{second.name})")
    # New ones in the old folder may be added by its own name.
    third = mine / "square" / "another.png"
    Image.fromarray(np.arange(144, dtype=np.uint8).reshape(12, 12)).save(third)
    more = taught(made, mine, add=True, output=tmp_path / "more")
    assert "square/another.png" in more.prepared().dataset.names
    # A new class in it changes what the old run's classes are.
    shutil.copytree(mine / "square", mine / "tile")
    with pytest.raises(ModelFileError) as caught:
        taught(made, mine, add=True, output=tmp_path / "class")
    assert caught.value.code == "classes-changed" and "a folder of its own" in caught.value.hint


def test_joined_images_are_those_of_both(pictures: Path) -> None:
    one, two = data.load(pictures), data.load("builtin:drawings/star,house")
    both = data.joined(one, two)
    form = data.InputFormat(height=12, width=12, channels=1, resize="stretch")
    whole = data.prepare(both, form)
    first, second = data.prepare(one, form), data.prepare(two, form)
    np.testing.assert_array_equal(whole.pixels, np.concatenate([first.pixels, second.pixels]))
    assert list(whole.digests) == [*first.digests, *second.digests]
    rows = np.array([200, 3, 119, 120])
    chosen = both.select(rows)
    assert [chosen.images.digest(k) for k in range(4)] == [whole.digests[int(row)] for row in rows]
    np.testing.assert_array_equal(chosen.images.decode(0, form), whole.pixels[200])
    assert both.images.in_place(form) is None
    added = data.load("builtin:drawings/star,house,snail")
    twice = data.joined(both, added)
    assert len(set(twice.names)) == len(twice.names)
    assert len(twice) == len(both) + 80  # the stars and houses are there already
    assert twice.splits[: len(both)].tolist() == both.splits.tolist()
    assert twice.notes[-1] == "160 of 240 added images are left out, as they are there already"
    numbers = data.from_arrays(np.zeros((4, 5, 5), np.uint8), np.array([0.5, 1.5, 2.5, 3.5]))
    with pytest.raises(DataError) as caught:
        data.joined(one, numbers)
    assert caught.value.code == "join-task"
