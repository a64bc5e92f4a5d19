"""From a path to a dataset: every layout, what is said about it, and what is refused."""

import gzip
import os
import socket
import struct
import unicodedata
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from convoscope.data import LAYOUTS, TARGET_NOUNS, Dataset, InputFormat, Task, from_arrays, load, suggest_format
from convoscope.data.registry import layout_table, layouts
from convoscope.errors import ConvoscopeError, DataError, MachineError, UsageError
from tests.support.pictures import class_folders, encoded, jpeg


def parts(dataset: Dataset) -> list[int]:
    return [int(count) for count in np.bincount(dataset.splits, minlength=3)]


def refused(path: Path | str, code: str, **options: object) -> DataError:
    with pytest.raises(DataError) as caught:
        load(path, **options)  # type: ignore[arg-type]
    assert caught.value.code == code
    return caught.value


# --- class folders -----------------------------------------------------------------------------------------------------


def test_class_folders_with_names_of_every_script(tmp_path: Path) -> None:
    names = {
        "street light": 5,
        "リンゴ": 6,
        "яблоко": 4,
        "🍎": 3,
        "no": 3,
        "1e5": 3,
        "CON": 3,
        "<img onerror>": 3,
        "-x": 3,
    }
    dataset = load(class_folders(tmp_path, names))
    assert set(dataset.classes) == set(names)
    assert len(dataset) == sum(names.values())
    assert dataset.layout == "folders"
    for row in (0, 10, 20):
        assert dataset.names[row].split("/")[0] == dataset.classes[dataset.targets[row]]
    assert dataset.notes[0] == "layout guessed: one folder per class (--layout folders)"
    assert "split drawn with seed 0" in dataset.notes[1]
    assert dataset.task == "classification"


def test_classes_are_ordered_as_people_count(tmp_path: Path) -> None:
    assert load(class_folders(tmp_path, {"10": 2, "2": 2, "1": 2})).classes == ("1", "2", "10")


@pytest.mark.parametrize(
    ("folders", "expected", "sentence"),
    [
        (("train", "test"), [36, 4, 20], "held out for validation"),
        (("Training", "Validation"), [36, 4, 20], "the source's validation part is kept unseen and used as the test"),
        (("TRAIN", "valid", "Test"), [40, 20, 20], "training, validation and test parts as the source gives them"),
    ],
)
def test_split_folders(tmp_path: Path, folders: tuple[str, ...], expected: list[int], sentence: str) -> None:
    for folder in folders:
        count = 20 if folder.lower().startswith("train") else 10
        class_folders(tmp_path / folder, {"cat": count, "dog": count})
    dataset = load(tmp_path)
    assert parts(dataset) == expected
    assert any(sentence in note for note in dataset.notes)
    assert dataset.names[0].startswith(folders[0] + "/cat/")


def test_a_training_folder_alone_is_divided(tmp_path: Path) -> None:
    class_folders(tmp_path / "train", {"cat": 20, "dog": 20})
    assert parts(load(tmp_path)) == [32, 4, 4]


def test_the_real_sets(shared_data: Path) -> None:
    imagenette = load(shared_data / "imagenette224")
    assert parts(imagenette) == [1080, 120, 400]
    assert "English springer" in imagenette.classes
    cats = load(shared_data / "cats_dogs" / "train")
    assert (cats.layout, cats.classes, parts(cats)) == ("flat", ("cat", "dog"), [1120, 140, 140])
    fruit = load(shared_data / "fruit_outlines")
    assert parts(fruit) == [810, 90, 300]
    assert suggest_format(fruit)[0] == InputFormat(height=96, width=96, channels=1, resize="stretch")
    fashion = load(shared_data / "fashion-mnist")
    assert fashion.classes[9] == "Ankle boot"
    assert sum(parts(fashion)[:2]) == 60_000
    assert parts(fashion)[2] == 10_000
    assert 4_900 < parts(fashion)[1] <= 5_000
    assert suggest_format(fashion)[0] == InputFormat(height=28, width=28, channels=1)
    drawings = load(shared_data / "quickdraw" / "quickdraw345.npz")
    assert len(drawings.classes) == 345
    assert len(drawings) == 27_600
    assert load(shared_data / "quickdraw_3000").classes == ("apple", "bicycle", "cat", "fish")


def test_hidden_files_and_others_are_ignored_with_a_note(tmp_path: Path) -> None:
    class_folders(tmp_path, {"cat": 3, "dog": 3})
    (tmp_path / "__MACOSX").mkdir()
    for name in (".DS_Store", "cat/Thumbs.db", "cat/._0000.png", "dog/notes.txt", "readme.md", "loose.png"):
        (tmp_path / name).write_bytes(b"x")
    dataset = load(tmp_path)
    assert len(dataset) == 6
    notes = " | ".join(dataset.notes)
    assert "ignored: 4 hidden or system files" in notes
    assert "1 file named .txt (dog/notes.txt)" in notes
    assert "1 picture outside of every class folder (loose.png)" in notes
    assert dataset.skipped == ()


def test_links_and_strange_files_are_left_out_with_their_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "elsewhere.png").write_bytes(encoded(np.zeros((4, 4, 3), np.uint8)))
    root = class_folders(tmp_path / "data", {"cat": 3, "dog": 3})
    cat = root / "cat"
    (cat / "out.png").symlink_to(tmp_path / "elsewhere.png")
    (cat / "broken.png").symlink_to("nowhere.png")
    (cat / "loop.png").symlink_to("loop.png")
    (cat / "within.png").symlink_to("../dog/0000.png")
    (cat / "up").symlink_to("..")
    (cat / "folder.png").mkdir()
    (root / "bird").symlink_to(tmp_path)
    os.mkfifo(cat / "pipe.jpg")
    monkeypatch.chdir(cat)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("socket.jpg")
        dataset = load(root)
    assert {bad.path: bad.reason for bad in dataset.skipped} == {
        "cat/out.png": "is a link that leads out of the data folder",
        "cat/broken.png": "is a link that leads nowhere",
        "cat/loop.png": "is a link that leads to itself",
        "cat/up": "is a link to a folder",
        "cat/folder.png": "is a folder, not a picture",
        "cat/pipe.jpg": "is a named pipe, not a picture",
        "cat/socket.jpg": "is a socket, not a picture",
    }
    lost = "the class 'bird' is left out: bird is a link that leads out of the data folder"
    assert any(note.startswith(lost) for note in dataset.notes)
    assert "cat/within.png" in dataset.names
    assert len(dataset) == 7


def test_a_link_to_the_data_folder_itself_is_fine(tmp_path: Path) -> None:
    class_folders(tmp_path / "data", {"cat": 3, "dog": 3})
    (tmp_path / "link").symlink_to("data")
    assert len(load(tmp_path / "link")) == 6


def test_file_names_of_every_kind(tmp_path: Path) -> None:
    class_folders(tmp_path, {"cat": 3, "dog": 3})
    data = encoded(np.zeros((4, 4, 3), np.uint8))
    strange = [
        "with space.png",
        "🍌.png",
        "é.png",
        unicodedata.normalize("NFD", "é.png"),
        "new\nline.png",
        "\x1b[31m.png",
    ]
    strange += ["-rf.png", "x" * 251 + ".png", os.fsdecode(b"\xff\xfe.png"), "A.PNG"]
    for name in strange:
        (tmp_path / "cat" / name).write_bytes(data)
    dataset = load(tmp_path)
    assert {name.removeprefix("cat/") for name in dataset.names if name.startswith("cat")} >= set(strange)
    for row in range(len(dataset)):
        assert dataset.images.decode(row, InputFormat(height=4, width=4, channels=3)).shape == (4, 4, 3)


def test_a_read_only_folder(tmp_path: Path) -> None:
    root = class_folders(tmp_path, {"cat": 3, "dog": 3})
    before = sorted((str(path), path.stat().st_mtime_ns) for path in root.rglob("*"))
    for folder in (root / "cat", root / "dog", root):
        folder.chmod(0o555)
    assert len(load(root)) == 6
    assert sorted((str(path), path.stat().st_mtime_ns) for path in root.rglob("*")) == before
    for folder in (root, root / "cat", root / "dog"):
        folder.chmod(0o755)


def test_what_is_not_there(tmp_path: Path) -> None:
    error = refused(tmp_path / "nothing", "data-missing")
    assert error.reason == "there is no such file or folder"
    assert "builtin:shapes" in error.hint
    (tmp_path / "link").symlink_to("nowhere")
    assert refused(tmp_path / "link", "data-missing").reason == "is a link that leads nowhere"
    # As from a shell's empty variable; it does not mean this folder.
    assert str(refused("", "data-missing")) == "'': there is no such file or folder"


def test_wrong_folders_show_what_is_accepted(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(jpeg())
    empty = tmp_path / "empty"
    empty.mkdir()
    cases = [
        (tmp_path / "a.jpg", "not-a-folder", "is a file; expected"),
        (empty, "folder-empty", "the folder is empty; expected"),
        (tmp_path, "no-class-folders", "holds 1 pictures but no class folders"),
    ]
    for path, code, start in cases:
        error = refused(path, code)
        assert error.reason.startswith(start)
        if start:
            assert "    cat/  dog/\n" in error.reason
            assert "train/" in error.reason
    flat = tmp_path / "flat"
    flat.mkdir()
    for name in ("sunset.jpg", "beach.jpg", "notes.txt"):
        (flat / name).write_bytes(jpeg())
    error = refused(flat, "no-class-folders")
    assert error.reason.startswith("holds 2 pictures but no class folders (there are 1 file named .txt")
    assert ".jpeg .jpg" in error.reason


def test_a_folder_may_not_be_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(path: object) -> object:
        raise PermissionError(13, "Permission denied", path)

    with monkeypatch.context() as patch:
        patch.setattr(os, "scandir", denied)
        with pytest.raises(MachineError, match="no permission"):
            load(tmp_path)
    root = class_folders(tmp_path / "pictures", {"cat": 3, "dog": 3})
    listed = os.scandir
    monkeypatch.setattr(os, "scandir", lambda path: denied(path) if str(path).endswith("dog") else listed(path))
    with pytest.raises(MachineError) as caught:
        load(root)
    assert caught.value.path == str(root / "dog")


@pytest.mark.parametrize(
    ("make", "code", "words"),
    [
        (lambda p: class_folders(p, {"cat": 5}), "one-class", "has only one class (cat)"),
        (lambda p: (class_folders(p, {"cat": 5, "dog": 5}), (p / "ant").mkdir()), "class-empty", "class 'ant' holds no picture"),
        (lambda p: class_folders(p, {"cat": 5, "dog": 1}), "class-too-small", "class 'dog' has 1 image; at least 2 are needed"),
        (lambda p: class_folders(p / "cat", {"tom": 3, "tim": 3}) and class_folders(p, {"dog": 3}), "nested-folders", "is a folder within a class folder"),
        (lambda p: class_folders(p / "train" / "train", {"cat": 3, "dog": 3}), "nested-split", "train holds train again"),
        (lambda p: class_folders(p / "train", {"cat": 3, "dog": 3}) and class_folders(p / "val", {"cat": 3, "ant": 3}), "classes-differ", "train: cat, dog. validation: ant, cat"),
        (lambda p: class_folders(p, {"Cat": 3, "cat": 3}), "twin-classes", "the classes 'Cat' and 'cat' differ only in case"),
        (lambda p: class_folders(p, {"cat": 3, "cat ": 3}), "twin-classes", "'cat' and 'cat ' differ only in white space"),
        (lambda p: class_folders(p, {"cat": 3, "c\u200bat": 3}), "twin-classes", "'cat' and 'c\\u200bat' differ only in"),
        (lambda p: class_folders(p, {"big cat": 3, "big\u00a0 cat": 3}), "twin-classes", "'big cat' and 'big\\xa0 cat'"),
        (lambda p: class_folders(p / "train", {"é": 3, "b": 3}) and class_folders(p / "val", {unicodedata.normalize("NFD", "é"): 3, "b": 3}), "classes-differ", "train: b, '\\xe9'. validation: b, 'e\\u0301'"),
        (lambda p: class_folders(p, {"é": 3, unicodedata.normalize("NFD", "é"): 3}), "twin-classes", "'e\\u0301' and '\\xe9'"),
        (lambda p: class_folders(p / "val", {"a": 3, "b": 3}) and class_folders(p / "valid", {"a": 3, "b": 3}), "split-twice", "has val and valid"),
    ],
)  # fmt: skip
def test_folders_that_cannot_be_meant(tmp_path: Path, make: Callable[[Path], object], code: str, words: str) -> None:
    make(tmp_path)
    error = refused(tmp_path, code)
    assert words in error.reason
    assert error.hint


def test_one_level_too_high_names_the_folder(tmp_path: Path) -> None:
    class_folders(tmp_path / "download" / "photos", {"cat": 3, "dog": 3})
    assert "download/photos the folder you mean?" in refused(tmp_path / "download", "nested-folders").hint


def test_a_hundred_thousand_files_are_listed_in_seconds(tmp_path: Path) -> None:
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "0.png").touch()
        for number in range(1, 50_000):
            os.link(tmp_path / name / "0.png", tmp_path / name / f"{number}.png")
    process = psutil.Process()
    before, begin = process.memory_info().rss, process.cpu_times().user
    assert len(load(tmp_path)) == 100_000
    assert process.cpu_times().user - begin < 6  # a minute for a million
    assert process.memory_info().rss - before < 100_000_000


# --- flat names --------------------------------------------------------------------------------------------------------


def test_flat_names_of_every_kind(tmp_path: Path) -> None:
    names = [
        "cat.0.jpg",
        "cat.1.jpg",
        "cat_2.jpg",
        "cat-3.JPG",
        "cat (4).jpg",
        "dog.1.jpeg",
        "dog.2.jpg",
        "street light 7.png",
    ]
    names += ["street light 8.png", "pug12.jpg", "pug13.jpg"]
    for name in names:
        (tmp_path / name).write_bytes(jpeg())
    (tmp_path / "cover.jpg").write_bytes(jpeg())
    dataset = load(tmp_path)
    assert dataset.layout == "flat"
    assert dataset.classes == ("cat", "dog", "pug", "street light")
    found = dict(zip(dataset.names, (dataset.classes[k] for k in dataset.targets), strict=True))
    assert all(found[name].split()[0] == name[: len(found[name].split()[0])] for name in names)
    assert dataset.counts()["train"]["cat"] == 3
    assert [bad.path for bad in dataset.skipped] == ["cover.jpg"]
    assert "as cat.0.jpg has" in dataset.skipped[0].reason


# --- arrays ------------------------------------------------------------------------------------------------------------


def idx(values: np.ndarray) -> bytes:
    return struct.pack(">HBB", 0, 8, values.ndim) + struct.pack(f">{values.ndim}I", *values.shape) + values.tobytes()


def mnist_like(folder: Path, *, packed: bool, count: int = 40) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (count + 10, 6, 5), dtype=np.uint8)
    labels = np.arange(count + 10, dtype=np.uint8) % 4
    for part, rows in (("train", slice(0, count)), ("t10k", slice(count, None))):
        for what, values in (("images-idx3", images[rows]), ("labels-idx1", labels[rows])):
            data = idx(values)
            name = f"{part}-{what}-ubyte" + (".gz" if packed else "")
            (folder / name).write_bytes(gzip.compress(data) if packed else data)
    return images, labels


@pytest.mark.parametrize("packed", [True, False])
def test_idx(tmp_path: Path, packed: bool) -> None:
    images, labels = mnist_like(tmp_path, packed=packed)
    dataset = load(tmp_path)
    assert dataset.layout == "idx"
    assert dataset.classes == ("0", "1", "2", "3")
    assert parts(dataset) == [36, 4, 10]
    assert np.array_equal(dataset.targets, labels)
    assert dataset.names[0] == "train/0"
    assert dataset.names[-1] == "test/9"
    form, why = suggest_format(dataset)
    assert (form.height, form.width, form.channels) == (6, 5, 1)
    assert "own size" in why
    for row in (0, 17, 45):
        assert np.array_equal(dataset.images.decode(row, form)[:, :, 0], images[row])
    file = next(tmp_path.glob("train-images*"))
    assert len(load(file)) == 40


def idx_set(
    folder: Path, names: dict[str, int], labels: Callable[[np.ndarray], np.ndarray] = lambda rows: rows % 4
) -> None:
    """IDX files: for each name, with `images-idx3-ubyte` or `labels-idx1-ubyte` in place of `{}`, so many images."""
    folder.mkdir(exist_ok=True)
    for seed, (name, count) in enumerate(names.items()):
        images = np.random.default_rng(seed).integers(0, 256, (count, 6, 5), dtype=np.uint8)
        (folder / name.format("images-idx3-ubyte")).write_bytes(idx(images))
        (folder / name.format("labels-idx1-ubyte")).write_bytes(idx(labels(np.arange(count)).astype(np.uint8)))


@pytest.mark.parametrize(
    "names",
    [
        {"emnist-letters-train-{}": 40, "emnist-letters-test-{}": 10},
        {"emnist-digits-train-{}": 40, "emnist-digits-test-{}": 10},
        {"kmnist_training.{}": 40, "kmnist_t10k.{}": 10},
        {"latest-train-{}": 40, "latest-test10k-{}": 10},
    ],
)
def test_relatives_of_mnist_keep_their_test(tmp_path: Path, names: dict[str, int]) -> None:
    idx_set(tmp_path, names, lambda rows: 1 + rows % 3)
    dataset = load(tmp_path)
    assert (len(dataset), parts(dataset)[2]) == (50, 10)
    assert dataset.classes == ("1", "2", "3")  # labels may begin at 1, and only those that occur are classes
    assert len(set(dataset.names)) == 50
    assert [dataset.classes[target] for target in dataset.targets[:3]] == ["1", "2", "3"]
    assert dataset.names[dataset.indices("test")[0]] == "test/0"


def test_two_files_of_one_part_have_names_of_their_own(tmp_path: Path) -> None:
    idx_set(tmp_path, {"train-{}": 40, "t10k-{}": 10, "test-{}": 8})
    dataset = load(tmp_path)
    assert parts(dataset)[2] == 18
    assert len(set(dataset.names)) == 58
    assert {"train/0", "t10k/0", "test/0"} <= set(dataset.names)


def test_folders_that_are_named_like_idx_files_are_not_opened(tmp_path: Path) -> None:
    idx_set(tmp_path, {"train-{}": 40, "t10k-{}": 10})
    for what in ("images.idx3-ubyte", "labels.idx1-ubyte"):
        (tmp_path / f"train-{what}").mkdir()
        (tmp_path / f"train-{what}" / f"train-{what}").write_bytes(b"x")
    dataset = load(tmp_path)
    assert parts(dataset) == [36, 4, 10]
    assert "ignored: 2 folders named like IDX files" in dataset.notes


def test_idx_files_of_several_sets_are_a_question(tmp_path: Path) -> None:
    idx_set(tmp_path, {"emnist-digits-train-{}": 8, "emnist-letters-train-{}": 8})
    reason = refused(tmp_path, "several-sets").reason
    assert reason == "holds the IDX files of 2 sets (emnist-digits, emnist-letters); which of them is meant?"


def test_labels_of_qmnist_are_the_first_of_eight_numbers(tmp_path: Path) -> None:
    idx_set(tmp_path, {"qmnist-train-{}": 40})
    (tmp_path / "qmnist-train-labels-idx1-ubyte").unlink()
    rows = np.random.default_rng(0).integers(0, 99, (40, 8), dtype=np.int32)
    rows[:, 0] = np.arange(40) % 5 * 2
    header = struct.pack(">HBBII", 0, 12, 2, 40, 8)
    (tmp_path / "qmnist-train-labels-idx2-int.gz").write_bytes(gzip.compress(header + rows.astype(">i4").tobytes()))
    dataset = load(tmp_path)
    assert dataset.classes == ("0", "2", "4", "6", "8")
    assert dataset.targets.tolist() == (np.arange(40) % 5).tolist()


def test_a_few_classes_of_fashion_keep_their_names_for_a_run_that_knows_them(tmp_path: Path) -> None:
    idx_set(tmp_path / "fashion", {"t10k-{}": 10}, lambda rows: 7 + 2 * (rows % 2))
    dataset = load(tmp_path / "fashion", classes=("Ankle boot", "Sneaker"), validation=0.0, test=0.0)
    assert dataset.classes == ("Sneaker", "Ankle boot")


@pytest.mark.parametrize(
    ("damage", "code", "words"),
    [
        (lambda f: (f / "t10k-labels-idx1-ubyte.gz").unlink(), "idx-missing", "the labels file that belongs to t10k is missing"),
        (lambda f: (f / "t10k-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx(np.zeros(9, np.uint8)))), "lengths-differ", "10 images but 9 labels"),
        (lambda f: (f / "train-images-idx3-ubyte.gz").write_bytes(b"<html>"), "array-damaged", "is not an IDX file with 3 axes"),
        (lambda f: (f / "train-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx(np.zeros(40, np.uint8)))[:-12]), "array-damaged", "is damaged"),
        (lambda f: (f / "train-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx(np.zeros(40, np.uint8))[:-12])), "array-short", "ends early: its header says 40 values"),
        (lambda f: (f / "train-images-idx3-ubyte.gz").write_bytes(gzip.compress(struct.pack(">HBBIII", 0, 8, 3, 2**31, 28, 28))), "array-short", "2147483648 x 28 x 28"),
        (lambda f: (f / "train-images-idx3-ubyte.gz").write_bytes(gzip.compress(struct.pack(">HBBIII", 0, 8, 3, 2**31, 0, 0))), "array-damaged", "an impossible shape"),
        (lambda f: (f / "train-labels-idx1-ubyte.gz").write_bytes(gzip.compress(struct.pack(">HBBI", 0, 12, 1, 40) + b"\x7f" * 160)), "labels-range", "whole numbers from 0 to 99,999"),
    ],
)  # fmt: skip
def test_damaged_idx(tmp_path: Path, damage: Callable[[Path], object], code: str, words: str) -> None:
    mnist_like(tmp_path, packed=True)
    damage(tmp_path)
    assert words in str(refused(tmp_path, code))


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_npz(tmp_path: Path, save: Callable[..., None]) -> None:
    images = np.random.default_rng(0).integers(0, 256, (40, 8, 9, 3), dtype=np.uint8)
    labels = np.arange(40) % 2
    save(tmp_path / "a.npz", images=images, labels=labels, names=np.array(["red", "round"]), extra=np.zeros(3))
    dataset = load(tmp_path / "a.npz")
    assert (dataset.layout, dataset.classes, parts(dataset)) == ("arrays", ("red", "round"), [32, 4, 4])
    assert "ignored: the arrays extra" in dataset.notes
    form = InputFormat(height=8, width=9, channels=3)
    assert all(np.array_equal(dataset.images.decode(row, form), images[row]) for row in (0, 20, 39))
    # What is stored unpacked is used where it lies.
    assert (dataset.images.in_place(form) is not None) == (save is np.savez)
    save(tmp_path / "b.npz", x_train=images[:30], y_train=labels[:30], x_test=images[30:], y_test=labels[30:])
    dataset = load(tmp_path / "b.npz")
    assert parts(dataset) == [28, 2, 10]
    assert np.array_equal(dataset.images.decode(35, form), images[35])


def test_npy_files(tmp_path: Path) -> None:
    images = np.random.default_rng(0).random((20, 3, 6, 6)).astype(np.float32)
    np.save(tmp_path / "X.npy", images)
    np.save(tmp_path / "y.npy", np.array(["a", "b"] * 10))
    for source in (tmp_path, tmp_path / "X.npy"):
        dataset = load(source)
        assert dataset.classes == ("a", "b")
        notes = " | ".join(dataset.notes)
        assert "taken as 20 images of 6 x 6 x 3, channels come first" in notes
        assert "its values are taken as 0..1" in notes
        pixels = dataset.images.decode(3, InputFormat(height=6, width=6, channels=3))
        assert np.array_equal(pixels, np.rint(images[3].transpose(1, 2, 0) * 255))


def test_quickdraw_bitmaps(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    for name, shape in (("apple", (10, 784)), ("street light", (10, 1, 784)), ("cat", (10, 28, 28))):
        np.save(tmp_path / f"full_numpy_bitmap_{name}.npy", random.integers(0, 256, shape, dtype=np.uint8))
    dataset = load(tmp_path)
    assert (dataset.layout, dataset.classes) == ("quickdraw", ("apple", "cat", "street light"))
    assert dataset.names[0] == "apple/0"
    assert dataset.images.decode(25, InputFormat(height=28, width=28, channels=1)).shape == (28, 28, 1)


@pytest.mark.parametrize(
    ("arrays", "code", "words"),
    [
        ({"a": np.zeros((4, 4, 4)), "b": np.zeros(4)}, "arrays-missing", "found a, b"),
        ({"x": np.zeros((4, 4, 4), np.uint8), "y": np.zeros(5)}, "lengths-differ", "4 images but 5 labels"),
        ({"x": np.zeros((4, 7), np.uint8), "y": np.zeros(4)}, "array-shape", "received 4 x 7"),
        ({"x": np.zeros((4, 4, 4), np.uint8), "y": np.array([0, 1, 2, 3]), "names": np.array(["a", "b"])}, "labels-range", "label 3 has no name; there are 2 names"),
        ({"x": np.zeros((4, 4, 4), np.uint8), "y": np.array([0.5, np.nan, 1, 2])}, "labels-shape", "hold NaN"),
        ({"x": np.array([[[object()]]] * 4), "y": np.zeros(4)}, "array-objects", "can run code"),
        ({"x": np.zeros((4, 4, 4), np.complex64), "y": np.zeros(4)}, "array-type", "values of the type '<c8'"),
        ({"x": np.zeros((4, 4, 4), np.uint8), "y": np.arange(4).astype("M8[s]")}, "array-type", "expected whole numbers, floats, booleans or texts"),
        ({"x": np.zeros((4, 4, 4), np.uint8), "y": np.arange(4) % 2, "names": np.array(["a", "a"])}, "twin-classes", "have the same name, 'a'"),
        ({"x": np.zeros((4, 0, 4), np.uint8), "y": np.zeros(4)}, "array-damaged", "an impossible shape: 4 x 0 x 4"),
        ({"x_train": np.zeros((4, 4, 4), np.uint8), "y_train": np.zeros(4), "x_test": np.zeros((4, 4, 4), np.uint8), "y_test": np.zeros((4, 2))}, "labels-shape", "labels of different shapes"),
        ({"x": np.zeros((4, 4, 4), np.uint8), "y": np.zeros((4, 2, 2))}, "labels-shape", "expected labels as numbers or texts"),
    ],
)  # fmt: skip
def test_arrays_that_do_not_fit(tmp_path: Path, arrays: dict[str, Any], code: str, words: str) -> None:
    np.savez(tmp_path / "a.npz", **arrays)
    assert words in str(refused(tmp_path / "a.npz", code))


def test_damaged_array_files(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "a.npz", x=np.random.default_rng(0).random((40, 9, 9)), y=np.arange(40) % 2)
    whole = (tmp_path / "a.npz").read_bytes()
    random = np.random.default_rng(0)
    for _ in range(150):
        data = bytearray(whole)
        match random.integers(0, 3):
            case 0:
                data = data[: random.integers(0, len(data))]
            case 1:
                for _ in range(3):
                    data[random.integers(0, len(data))] ^= 1 << int(random.integers(0, 8))
            case _:
                data[-100 + random.integers(0, 90)] ^= 0xFF
        (tmp_path / "b.npz").write_bytes(data)
        try:
            dataset = load(tmp_path / "b.npz")
            dataset.images.decode(5, InputFormat(height=9, width=9, channels=1))
        except ConvoscopeError as error:
            assert error.reason
    (tmp_path / "c.npy").write_bytes(
        b"\x93NUMPY\x01\x00v\x00{'descr': '|u1', 'fortran_order': False, 'shape': (99999999999, 9, 9), }"
    )
    with pytest.raises(DataError):
        load(tmp_path / "c.npy")


def test_values_that_are_no_pixels(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=np.full((4, 4, 4), -3.0), y=np.array([0, 0, 1, 1]))
    with pytest.raises(DataError, match=r"expected pixels .* received float64 from -3 to -3") as caught:
        load(tmp_path / "a.npz")
    assert caught.value.code == "array-values"


@pytest.mark.parametrize(
    ("labels", "task", "classes", "targets"),
    [
        (np.array([3, 7, 3, 7]), "classification", ("3", "7"), [0, 1, 0, 1]),
        (np.array([[3], [7], [3], [7]]), "classification", ("3", "7"), [0, 1, 0, 1]),
        (np.array([True, False, True, False]), "classification", ("0", "1"), [1, 0, 1, 0]),
        (np.array([0.0, 1.0, 0.0, 1.0]), "classification", ("0", "1"), [0, 1, 0, 1]),
        (np.array([b"x", b"y", b"x", b"y"]), "classification", ("x", "y"), [0, 1, 0, 1]),
        (np.eye(2)[[1, 0, 1, 0]], "classification", ("0", "1"), [1, 0, 1, 0]),
        (np.array([[1, 1], [0, 1], [0, 0], [1, 0]]), "multi-label", ("0", "1"), [[1, 1], [0, 1], [0, 0], [1, 0]]),
        (np.array([0.5, 1.5, 2.5, 1.0]), "regression", ("value",), [[0.5], [1.5], [2.5], [1.0]]),
        (np.array([[0.5, 2], [1, 2], [3, 4], [1, 1]]), "regression", ("0", "1"), [[0.5, 2], [1, 2], [3, 4], [1, 1]]),
    ],
)
def test_what_labels_mean(labels: np.ndarray, task: Task, classes: tuple[str, ...], targets: list[object]) -> None:
    dataset = from_arrays(np.zeros((4, 5, 5), np.uint8), labels)
    assert (dataset.task, dataset.classes) == (task, classes)
    assert np.asarray(dataset.targets).tolist() == targets
    expected = {"classification": np.int64, "multi-label": np.uint8, "regression": np.float32}[task]
    assert dataset.targets.dtype == expected


# --- CSV ---------------------------------------------------------------------------------------------------------------


def table(folder: Path, text: str, count: int = 20) -> Path:
    (folder / "img").mkdir(exist_ok=True)
    for row in range(count):
        (folder / "img" / f"{row}.png").write_bytes(encoded(np.full((5, 5, 3), row, np.uint8)))
    path = folder / "labels.csv"
    path.write_text(text, encoding="utf-8")
    return path


def lines(header: str, cell: Callable[[int], str], count: int = 20) -> str:
    return header + "\n" + "".join(f"img/{row}.png,{cell(row)}\n" for row in range(count))


@pytest.mark.parametrize(
    ("header", "cell", "noun", "classes", "first", "words"),
    [
        ("path,label", lambda r: "ab"[r % 2], "classes", ("a", "b"), 0, "read as classes: each cell holds one name"),
        ("file,class", lambda r: str(r % 3), "classes", ("0", "1", "2"), 0, "whole numbers with only 3 different values"),
        ("path,label", lambda r: "../x" if r % 2 else "no", "classes", ("../x", "no"), 1, "each cell holds one name"),
        ("path,labels", lambda r: "red;round" if r % 2 else "red", "labels", ("red", "round"), [1, 0], "some cells hold several values"),
        ("path,labels", lambda r: "red" if r % 2 else "", "labels", ("red",), [0], "some cells are empty"),
        ("path,label", lambda r: str(r * 5), "numbers", ("label",), [0], "numbers with many values"),
        ("path,label", lambda r: f"{r / 7:.3f}", "numbers", ("label",), [0], "its cells are numbers with decimals"),
        ("path,label", lambda r: f"{r / 7:.3f};{-r}", "numbers", ("label 1", "label 2"), [0, 0], "same count of numbers"),
        ("path,x,y", lambda r: f"{3 * r},{-r}", "numbers", ("x", "y"), [0, 0], "the columns x, y are numbers to be predicted"),
    ],
)  # fmt: skip
def test_csv(
    tmp_path: Path,
    header: str,
    cell: Callable[[int], str],
    noun: str,
    classes: tuple[str, ...],
    first: object,
    words: str,
) -> None:
    path = table(tmp_path, lines(header, cell))
    for source in (path, tmp_path):
        dataset = load(source)
        assert (dataset.layout, dataset.classes) == ("csv", classes)
        assert TARGET_NOUNS[dataset.task] == noun
        assert dataset.targets[0].tolist() == first
        assert dataset.names[0] == "img/0.png"
        assert any(words in note for note in dataset.notes)
        assert dataset.images.decode(7, InputFormat(height=5, width=5, channels=1)).max() == 7


def test_csv_meaning_is_overruled(tmp_path: Path) -> None:
    path = table(tmp_path, lines("path,label", lambda r: str(r % 3)))
    numbers = load(path, layout="csv:numbers")
    assert numbers.task == "regression"
    assert numbers.targets.dtype == np.float32 and numbers.targets[2].tolist() == [2.0]
    assert load(path, layout="csv:labels").targets[1].tolist() == [0, 1, 0]
    assert load(path, layout="csv:classes").task == "classification"


def test_csv_with_a_split_quotes_tabs_and_a_mark_at_its_start(tmp_path: Path) -> None:
    rows = [f'"img/{r}.png";"a, ""b"""  ;{("train", "Val", "TEST")[r % 3]}' for r in range(20)]
    path = table(tmp_path, "\ufeffPath;Label;Split\r\n" + "\r\n".join(rows).replace('""  ;', '"";'))
    table(
        tmp_path,
        "\ufeffPath;Label;Split;unused\r\n"
        + "".join(f"img/{r}.png;{'ab'[r % 2]};{('train', 'Val', 'TEST')[r % 3]};-\r\n" for r in range(20)),
    )
    dataset = load(path)
    assert parts(dataset) == [7, 7, 6]
    assert dataset.classes == ("a", "b")
    assert "ignored: unused" in dataset.notes
    tabs = tmp_path / "t.tsv"
    tabs.write_text(
        "".join(f"{a}\t{b}\n" for a, b in [("path", "label"), *((f"img/{r}.png", "xy"[r % 2]) for r in range(20))])
    )
    assert load(tabs).classes == ("x", "y")


def test_csv_lines_that_name_no_picture(tmp_path: Path) -> None:
    text = lines("path,label", lambda r: "ab"[r % 2])
    outside = tmp_path / "outside.png"
    outside.write_bytes(jpeg())
    folder = tmp_path / "data"
    folder.mkdir()
    text += (
        f"../outside.png,a\n{outside},a\nimg/gone.png,b\nimg/0.png,a\n,a\nimg/link.png,a\n{folder}/img/../img/3.png,b\n"
    )
    path = table(folder, text)
    (folder / "img" / "link.png").symlink_to(outside)
    dataset = load(path)
    assert len(dataset) == 20
    assert [(bad.path, bad.reason) for bad in dataset.skipped] == [
        ("../outside.png", "is outside of the table's root folder (line 22)"),
        (str(outside), "is outside of the table's root folder (line 23)"),
        ("img/gone.png", "is not there (line 24)"),
        ("line 26", "is not a path"),
        ("img/link.png", "is a link that leads out of the data folder (line 27)"),
    ]


@pytest.mark.parametrize(
    ("text", "code", "words"),
    [
        ("", "no-images", "lists no image"),
        ("name,label\na,b\n", "csv-columns", "no column names pictures that are there; found name, label"),
        ("path,remark\nimg/1.png,hello\n", "csv-columns", "no column has classes, labels or numbers to predict; found path, remark"),
        ("path,label\n", "no-images", "lists no image"),
        ("path,label\nimg/1.png,a,b\n", "csv-line", "line 2 has 3 cells, the first line 2"),
        ('path,label\nimg/1.png,"a\n', "csv-line", "cannot be read"),
        ("path,label\nimg/1.png,a\nimg/2.png,\n", "csv-label", "1 of 2 rows cannot be used: line 3 has no label"),
        ("path,label,split\nimg/1.png,a,train\nimg/2.png,b,later\n", "csv-split", "expected train, val or test in the column split; received 'later'"),
        ("path,label\na.png,a\nb.png,b\nimg/1.png,b\n", "csv-paths", "2 of 3 rows name no picture that can be read: a.png is not there"),
        ("path,label\nimg/1.png,Cat\nimg/2.png,cat\n", "twin-classes", "differ only in case"),
    ],
)  # fmt: skip
def test_csv_that_cannot_be_read(tmp_path: Path, text: str, code: str, words: str) -> None:
    assert words in str(refused(table(tmp_path, text), code))
    if text.startswith("path,remark"):
        with pytest.raises(DataError, match="expected a number; received 'hello'") as caught:
            load(table(tmp_path, "path,label\nimg/1.png,hello\nimg/2.png,1\n"), layout="csv:numbers")
        assert caught.value.code in ("csv-number", "csv-columns")


# --- the way in --------------------------------------------------------------------------------------------------------


def test_a_layout_can_be_named_and_must_be_known(tmp_path: Path) -> None:
    root = class_folders(tmp_path, {"cat": 3, "dog": 3})
    dataset = load(root, layout="folders")
    assert not any("guessed" in note for note in dataset.notes)
    assert load(dataset) is dataset
    with pytest.raises(UsageError) as caught:
        load(root, layout="tree")
    assert caught.value.code == "unknown-layout"
    assert all(name in caught.value.reason for name in LAYOUTS)
    assert all(f"{one.name}: {one.about}" in caught.value.hint for one in layouts())
    for layout, code in (
        ("flat", "no-class-folders"),
        ("idx", "idx-missing"),
        ("arrays", "arrays-missing"),
        ("quickdraw", "arrays-missing"),
        ("csv", "csv-missing"),
    ):
        refused(root, code, layout=layout)
    refused(root / "cat" / "0000.png", "not-a-folder", layout="folders")


def test_names_and_the_handbooks_table_follow_from_the_readers() -> None:
    assert LAYOUTS[:2] == ("auto", "folders")
    assert {"idx", "flat", "arrays", "quickdraw", "csv", "csv:classes", "csv:labels", "csv:numbers"} < set(LAYOUTS)
    page = (Path(__file__).parents[2] / "docs" / "data.md").read_text("utf-8")
    assert layout_table() in page, "make it anew: python tools/make_layout_table.py"


def test_tiff_on_request(tmp_path: Path) -> None:
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        for row in range(3):
            (tmp_path / name / f"{row}.tif").write_bytes(encoded(np.zeros((4, 4, 3), np.uint8), "TIFF"))
    form = InputFormat(height=4, width=4, channels=3)
    with pytest.raises(DataError, match="TIFF picture, which is read only on request"):
        load(tmp_path).images.decode(0, form)
    assert load(tmp_path, tiff=True).images.decode(0, form).shape == (4, 4, 3)


# --- the suggested form ------------------------------------------------------------------------------------------------


def test_suggested_forms() -> None:
    def suggest(*shape: int, colour: bool = True) -> tuple[InputFormat, str]:
        pixels = np.random.default_rng(0).integers(0, 256, (4, *shape), dtype=np.uint8)
        if not colour:
            pixels[...] = pixels[..., :1]
        return suggest_format(from_arrays(pixels, [0, 1, 0, 1]))

    assert suggest(32, 32, 3)[0] == InputFormat(height=32, width=32, channels=3)
    assert suggest(32, 32, 3, colour=False)[0].channels == 1
    assert suggest(5, 5)[0] == InputFormat(height=5, width=5, channels=1)
    assert suggest(20, 20, 5)[0].channels == 5
    assert suggest(200, 200, 3)[0] == InputFormat(height=112, width=112, channels=3, resize="stretch")
    assert suggest(240, 320, 3)[0] == InputFormat(height=80, width=112, channels=3, resize="crop")
    assert "240x320" in suggest(240, 320, 3)[1]


def test_long_pictures_are_kept_whole(tmp_path: Path) -> None:
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        for row in range(4):
            (tmp_path / name / f"{row}.jpg").write_bytes(jpeg(80, 300 + row))
    form, why = suggest_format(load(tmp_path))
    assert form == InputFormat(height=80, width=80, channels=3, resize="fit")
    assert "many of them long" in why
    (tmp_path / "cat" / "0.jpg").write_bytes(b"broken")
    assert suggest_format(load(tmp_path), max_side=64)[0].height == 64
    for file in tmp_path.rglob("*.jpg"):
        file.write_bytes(b"broken")
    with pytest.raises(
        DataError, match=r"none of the 8 images looked at can be decoded; the first: cat/0\.jpg: is no picture"
    ):
        suggest_format(load(tmp_path))


def test_arrays_that_do_not_serve_may_hold_anything(tmp_path: Path) -> None:
    arrays: dict[str, Any] = {
        "x": np.zeros((20, 4, 4), np.uint8),
        "y": np.arange(20) % 2,
        "extra": np.zeros(3, np.complex64),
        "more": np.array([object()]),
    }
    np.savez(tmp_path / "a.npz", **arrays)
    assert "ignored: the arrays extra, more" in load(tmp_path / "a.npz").notes


@pytest.mark.parametrize(
    "shape", ["(1000000000000, 4, 4)", "(4294967296, 4294967296, 4294967296)", "(" * 5000 + ")" * 5000]
)
def test_no_memory_is_taken_for_images_that_an_array_only_claims(tmp_path: Path, shape: str) -> None:
    header = f"{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    for name in "ab":
        start = b"\x93NUMPY\2\0" + struct.pack("<I", len(header))
        (tmp_path / f"{name}.npy").write_bytes(start + header + bytes(1000))
    with pytest.raises(DataError) as caught:
        load(tmp_path, layout="quickdraw")
    assert caught.value.code in ("array-damaged", "array-short")


def test_packed_files_of_an_npz_are_not_taken_at_their_word(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "a.npz", x=np.zeros((20, 4, 4), np.uint8), y=np.arange(20) % 2)
    content = bytearray((tmp_path / "a.npz").read_bytes())
    struct.pack_into("<I", content, content.index(b"PK\1\2") + 24, 2**31)
    (tmp_path / "b.npz").write_bytes(content)
    assert "claims to be larger than it can be" in str(refused(tmp_path / "b.npz", "array-damaged"))
    with warnings.catch_warnings(), zipfile.ZipFile(tmp_path / "a.npz", "a") as archive:
        warnings.simplefilter("ignore")
        archive.writestr("x.npy", b"")
    assert "occurs twice" in str(refused(tmp_path / "a.npz", "array-damaged"))


# --- what is no file of the data ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("files", "strange"),
    [
        (("x.npy", "y.npy"), "x.npy"),
        (("arrays.npz",), "arrays.npz"),
        (("train-images-idx3-ubyte", "train-labels-idx1-ubyte"), "train-labels-idx1-ubyte"),
    ],
)
def test_arrays_and_tables_are_read_from_ordinary_files_inside_alone(
    tmp_path: Path, files: tuple[str, ...], strange: str
) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    for name in files:
        np.save(folder / "saved", np.arange(6) % 3)
        (folder / "saved.npy").rename(folder / name)
    (folder / strange).rename(tmp_path / "outside")
    (folder / strange).symlink_to(tmp_path / "outside")
    assert "leads out of the data folder" in refused(folder, "link-outside").reason
    (folder / strange).unlink()
    os.mkfifo(folder / strange)
    assert refused(folder, "not-ordinary").reason == "is a named pipe, not an ordinary file"


def test_a_table_that_is_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "table.csv")
    refused(tmp_path / "table.csv", "not-ordinary")


# --- for a run that knows its classes ----------------------------------------------------------------------------------


def test_for_a_run_that_knows_its_classes_any_of_them_will_do(tmp_path: Path) -> None:
    class_folders(tmp_path, {"square": 1})
    (tmp_path / "cross").mkdir()
    dataset = load(tmp_path, classes=("cross", "disc", "square"), validation=0.0, test=0.0)
    assert (dataset.classes, len(dataset)) == (("square",), 1)
    assert "class folders without a picture: cross" in dataset.notes
    refused(tmp_path, "class-empty")


def test_a_class_that_the_run_does_not_know_needs_two_images(tmp_path: Path) -> None:
    class_folders(tmp_path, {"square": 1, "star": 1})
    assert "class 'star' has 1 image" in refused(tmp_path, "class-too-small", classes=("cross", "square")).reason


def test_the_parts_may_have_different_classes_for_a_run_that_knows_them(tmp_path: Path) -> None:
    class_folders(tmp_path / "train", {"a": 2, "b": 2})
    class_folders(tmp_path / "test", {"b": 1})
    dataset = load(tmp_path, classes=("a", "b"), validation=0.0, test=0.0)
    assert dataset.counts()["test"] == {"a": 0, "b": 1}
    refused(tmp_path, "classes-differ")


def test_one_class_folder_or_one_picture_of_it_takes_the_folders_name(tmp_path: Path) -> None:
    class_folders(tmp_path, {"square": 3, "other": 2})
    known = ("cross", "square")
    whole = load(tmp_path / "square", classes=known, validation=0.0, test=0.0)
    assert (whole.classes, whole.targets.tolist()) == (("square",), [0, 0, 0])
    assert "all pictures are taken as 'square', their folder's name" in whole.notes
    one = load(tmp_path / "square" / "0001.png", classes=known, validation=0.0, test=0.0)
    assert (one.classes, one.names) == (("square",), ["0001.png"])
    assert one.images.digest(0) == whole.images.digest(1)
    refused(tmp_path / "other", "no-class-folders", classes=known)
    refused(tmp_path / "other" / "0001.png", "no-class-folders", classes=known)
    refused(tmp_path / "square", "no-class-folders")
    refused(tmp_path / "square" / "0001.png", "not-a-folder")


def test_a_class_that_is_lost_with_a_link_is_named(tmp_path: Path) -> None:
    class_folders(tmp_path / "elsewhere", {"dog": 3})
    root = class_folders(tmp_path / "data", {"cat": 3})
    (root / "dog").symlink_to(tmp_path / "elsewhere" / "dog")
    error = refused(root, "one-class")
    assert "has only one class (cat), since the class 'dog' is left out: dog is a link" in error.reason
    class_folders(root, {"ant": 3})
    dataset = load(root)
    assert any(note.startswith("the class 'dog' is left out") for note in dataset.notes)
    assert dataset.skipped == ()
