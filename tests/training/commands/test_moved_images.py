"""Images that lie elsewhere by now: a run finds them by their content."""

import csv
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from convoscope import data, evaluation
from convoscope.errors import DataError, ModelFileError, UsageError
from convoscope.training import Run, relearn, resume, train
from convoscope.training.runs.saved import find_again
from tests.support.pictures import class_folders
from tests.support.runs import Listener, fingerprint, taught

MODEL = "conv(4) norm relu globalavg dense"


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `photos` and a run of one epoch on them."""
    place = tmp_path_factory.mktemp("moving")
    class_folders(place / "photos", {"cat": 12, "dog": 12})
    train(place / "photos", MODEL, output=place / "run", epochs=1, batch_size=8, precision="float32", device="cpu")
    return place


@pytest.fixture
def moved(begun: Path, tmp_path: Path) -> Iterator[Path]:
    """A copy of the run's folder beside its pictures, which are under another name: `elsewhere`."""
    shutil.copytree(begun / "run", tmp_path / "run")
    shutil.copytree(begun / "photos", tmp_path / "elsewhere")
    gone = tmp_path / "gone"
    # The run says where its pictures were: there is nothing there any more.
    (begun / "photos").rename(gone)
    yield tmp_path
    gone.rename(begun / "photos")


def test_a_run_goes_on_where_its_images_are_now_and_remembers_the_place(moved: Path, begun: Path) -> None:
    with pytest.raises(DataError) as caught:
        resume(moved / "run", epochs=2)
    assert "--source NEW" in caught.value.hint
    listener = Listener()
    resume(moved / "run", epochs=2, source=moved / "elsewhere", reporter=listener)
    assert listener.heard("24 of 24 images found by their content")
    assert Run.open(moved / "run").settings.source == str(moved / "elsewhere")
    assert evaluation.test(Run.open(moved / "run"), invariance=False).images == 2
    # The same weights as without the move.
    shutil.copytree(begun / "run", moved / "there")
    shutil.copytree(moved / "elsewhere", begun / "photos")
    resume(moved / "there", epochs=2)
    shutil.rmtree(begun / "photos")
    assert fingerprint(moved / "there") == fingerprint(moved / "run")


def test_other_names_keep_parts_labels_and_order(moved: Path, begun: Path) -> None:
    rows = data.read_split(moved / "run" / "split.csv")
    for row in rows:  # in an order that is not the old one
        old = moved / "elsewhere" / row.path
        old.rename(old.with_name(f"{row.digest}.png"))
    shutil.copytree(moved / "run", moved / "tested")
    resume(moved / "run", epochs=2, source=moved / "elsewhere")
    written = data.read_split(moved / "run" / "split.csv")
    assert [(row.digest, row.split, row.label) for row in written] == [
        (row.digest, row.split, row.label) for row in rows
    ]
    assert all(row.path == f"{row.label}/{row.digest}.png" for row in written)
    opened = Run.open(moved / "run")
    assert opened.dataset().names == [row.path for row in written]  # in the order that was learned
    notes = evaluation.test(opened, invariance=False).notes
    assert notes == ("the calibration is left out: it takes 20 images, and there are 2",)
    shutil.copytree(begun / "run", moved / "there")
    (moved / "gone").rename(begun / "photos")
    resume(moved / "there", epochs=2)
    (begun / "photos").rename(moved / "gone")
    # The checkpoints name other images' files; the weights do not know.
    unmoved, here = Run.open(moved / "there").weights(), opened.weights()
    assert all(np.array_equal(unmoved[name].numpy(), here[name].numpy()) for name in unmoved)


def test_what_is_missing_is_named_and_stops_a_resumed_training(moved: Path) -> None:
    (moved / "elsewhere" / "cat" / "0003.png").unlink()
    found = find_again(moved / "run", Run.open(moved / "run").settings, moved / "elsewhere")
    assert found.told == "23 of 24 images found by their content; missing: cat/0003.png"
    with pytest.raises(ModelFileError, match="1 missing") as caught:
        resume(moved / "run", epochs=2, source=moved / "elsewhere")
    assert caught.value.code == "data-changed"
    resume(moved / "run", epochs=2, source=moved / "elsewhere", accept_data_change=True)


def test_a_test_finds_the_images_and_changes_nothing(moved: Path) -> None:
    flat = moved / "flat"
    flat.mkdir()
    for number, file in enumerate(sorted((moved / "elsewhere").rglob("*.png"))):
        file.rename(flat / f"IMG {number}.png")  # no class can be told from this
    before = (moved / "run" / "last.safetensors").read_bytes()
    scores = evaluation.test(Run.open(moved / "run"), moved_to=flat, invariance=False)
    assert scores.notes[0] == f"{flat}: 24 of 24 images found by their content"
    assert scores.images == 2
    assert (moved / "run" / "last.safetensors").read_bytes() == before
    listener = Listener()
    resume(moved / "run", epochs=2, source=flat, reporter=listener)
    assert listener.heard("is not recorded")


def test_images_that_are_not_there_and_places_that_cannot_be(moved: Path) -> None:
    run = Run.open(moved / "run")
    others = class_folders(moved / "others", {"cat": 2, "dog": 2}, side=9)
    for place, code in ((others, "moved-not-found"), (moved / "nowhere", "data-missing")):
        with pytest.raises(DataError) as caught:
            resume(moved / "run", source=place)
        assert caught.value.code == code
    with pytest.raises(UsageError) as wrong:
        evaluation.test(run, others, moved_to=moved / "elsewhere")
    assert wrong.value.code == "option-twice"
    with pytest.raises(UsageError) as wrong:
        relearn(moved / "run", others, source=moved / "elsewhere")
    assert wrong.value.code == "option-without-add"


def test_a_built_in_set_has_no_place(tmp_path: Path, backbone: Run) -> None:
    with pytest.raises(UsageError) as caught:
        backbone.dataset(class_folders(tmp_path, {"apple": 2, "banana": 2}))
    assert caught.value.code == "source-fixed"


def test_classes_are_added_to_a_run_whose_images_have_moved(moved: Path) -> None:
    made = taught(moved / "run", moved / "elsewhere", output=moved / "first", head="mean", feature_layer="relu1")
    (moved / "elsewhere").rename(moved / "again")
    new = class_folders(moved / "new", {"owl": 6}, side=9)
    listener = Listener()
    both = taught(
        made.folder, new, add=True, source=moved / "again", output=moved / "both", head="mean", reporter=listener
    )
    assert listener.heard("24 of 24 images found by their content")
    assert both.settings.source == str(moved / "again")
    opened = Run.open(both.folder)
    assert (opened.classes, len(opened.dataset())) == (("cat", "dog", "owl"), 30)
    again = class_folders(moved / "more", {"ape": 4}, side=10)
    (moved / "again").rename(moved / "third")  # the first images only; the owls stay
    third = taught(both.folder, again, add=True, source=moved / "third", output=moved / "last", head="mean")
    assert len(Run.open(third.folder).dataset()) == 34


def test_a_table_whose_pictures_have_moved(tmp_path: Path) -> None:
    pictures = class_folders(tmp_path / "old", {"a": 8, "b": 8})
    table = tmp_path / "old" / "list.csv"
    with table.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "label"])
        writer.writerows([path.relative_to(pictures).as_posix(), path.parent.name] for path in pictures.rglob("*.png"))
    train(table, MODEL, output=tmp_path / "run", epochs=1, batch_size=8, precision="float32")
    (tmp_path / "old").rename(tmp_path / "new")
    scores = evaluation.test(Run.open(tmp_path / "run"), moved_to=tmp_path / "new" / "list.csv", invariance=False)
    assert "16 of 16 images found by their content" in scores.notes[0]
    resume(tmp_path / "run", epochs=2, source=tmp_path / "new")
    assert len(Run.open(tmp_path / "run").dataset()) == 16


def test_arrays_that_have_moved(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (30, 8, 8), dtype=np.uint8), np.arange(30) % 3
    (tmp_path / "old").mkdir()
    np.savez(tmp_path / "old" / "set.npz", images=images, labels=labels)
    train(tmp_path / "old" / "set.npz", MODEL, output=tmp_path / "run", epochs=1, batch_size=8, precision="float32")
    (tmp_path / "old").rename(tmp_path / "new")
    resume(tmp_path / "run", epochs=2, source=tmp_path / "new" / "set.npz")
    assert Run.open(tmp_path / "run").settings.source == str(tmp_path / "new" / "set.npz")


def test_the_same_content_twice_is_told_apart_by_name(tmp_path: Path) -> None:
    pictures = class_folders(tmp_path / "old", {"a": 3, "b": 3})
    shutil.copy(pictures / "a" / "0000.png", pictures / "b" / "0009.png")
    prepared = data.prepare(data.load(pictures), data.InputFormat(height=8, width=8, channels=3))
    data.write_split(tmp_path / "split.csv", prepared)
    rows = data.read_split(tmp_path / "split.csv")
    pictures.rename(tmp_path / "new")
    found = data.find_moved(
        tmp_path / "new", rows, source=str(pictures), layout="folders", task="classification", classes=("a", "b")
    )
    assert found.names == tuple(row.path for row in rows)
    (tmp_path / "new" / "b" / "0009.png").unlink()  # one of the two is enough
    found = data.find_moved(
        tmp_path / "new", rows, source=str(pictures), layout="folders", task="classification", classes=("a", "b")
    )
    assert (found.missing, len(found.dataset), found.names) == ((), 7, None)
