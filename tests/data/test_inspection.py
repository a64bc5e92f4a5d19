"""What `inspect` finds, against sets made to hold it; near duplicates against the plain comparison of all pairs."""

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageEnhance

from convoscope.data import InputFormat, concerns, load, prepare
from convoscope.data.dataset import Dataset, Skipped
from convoscope.data.inspection import inspect
from convoscope.data.likeness import NEAR_CORRELATION, close_groups
from convoscope.data.sources import ArrayImages, FileImages, Stack
from convoscope.errors import MachineError
from tests.support.pictures import class_folders, colourful, encoded


def of_files(root: Path, files: dict[str, tuple[int, int]], **more: Any) -> Dataset:
    """Files with their class and split."""
    return Dataset(
        **{
            "source": str(root),
            "layout": "folders",
            "task": "classification",
            "classes": ("cat", "dog"),
            "names": list(files),
            "targets": np.array([target for target, _ in files.values()], np.int64),
            "splits": np.array([split for _, split in files.values()], np.int8),
            "images": FileImages(root, list(files)),
            **more,
        }
    )


def of_array(pixels: np.ndarray, targets: np.ndarray | None = None, **more: Any) -> Dataset:
    count = len(pixels)
    return Dataset(
        **{
            "source": "an array",
            "layout": "npy",
            "task": "classification",
            "classes": ("a", "b"),
            "names": [f"image/{row}" for row in range(count)],
            "targets": np.arange(count, dtype=np.int64) % 2 if targets is None else targets,
            "splits": np.zeros(count, np.int8),
            "images": ArrayImages([Stack(pixels, "pixels", axes="NHWC")]),
            **more,
        }
    )


def scene(seed: int, size: tuple[int, int] = (120, 90)) -> Image.Image:
    """A smooth picture of its own for each seed."""
    rough = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return Image.fromarray(rough).resize(size, Image.Resampling.BICUBIC)


@pytest.fixture
def zoo(tmp_path: Path) -> Dataset:
    for number in range(6):
        scene(number).save(tmp_path / f"{number}.png")
    (tmp_path / "0 again.png").write_bytes((tmp_path / "0.png").read_bytes())
    (tmp_path / "1 elsewhere.png").write_bytes((tmp_path / "1.png").read_bytes())
    scene(2).resize((60, 45)).save(tmp_path / "2 small.jpg", quality=60)
    scene(9).convert("L").save(tmp_path / "grey.jpg")
    (tmp_path / "broken.png").write_bytes((tmp_path / "3.png").read_bytes()[:-400])
    (tmp_path / "page.jpg").write_text("<html>")
    files = {
        "0.png": (0, 0),
        "0 again.png": (1, 0),
        "1.png": (1, 0),
        "1 elsewhere.png": (1, 2),
        "2.png": (0, 0),
        "2 small.jpg": (0, 1),
        "3.png": (0, 0),
        "4.png": (1, 0),
        "5.png": (1, 0),
        "grey.jpg": (1, 1),
        "broken.png": (0, 0),
        "page.jpg": (0, 0),
    }
    return of_files(tmp_path, files, skipped=(Skipped("notes.txt", "is no picture"),), notes=("guessed: folders",))


def test_everything_that_is_wrong_with_a_folder_is_found(zoo: Dataset) -> None:
    before = {entry.name: entry.stat().st_mtime_ns for entry in Path(zoo.source).iterdir()}
    found = inspect(zoo)
    assert found.counts == {
        "train": {"cat": 3, "dog": 4},
        "validation": {"cat": 1, "dog": 1},
        "test": {"cat": 0, "dog": 1},
    }
    assert found.duplicates == (("0.png", "0 again.png"), ("1.png", "1 elsewhere.png"))
    assert found.conflicts == ({"cat": ("0.png",), "dog": ("0 again.png",)},)
    assert found.leaks == ({"train": ("1.png",), "test": ("1 elsewhere.png",)},)
    assert found.near_duplicates == (("2.png", "2 small.jpg"),)
    assert found.near_leaks == ({"train": ("2.png",), "validation": ("2 small.jpg",)},)
    assert [one.path for one in found.skipped] == ["notes.txt", "broken.png", "page.jpg"]
    assert "ends early" in found.skipped[1].reason and "HTML page" in found.skipped[2].reason
    assert found.modes == {"PNG, colour": 8, "JPEG, colour": 1, "JPEG, grey": 1}
    assert found.sizes == ((120, 90, 9), (60, 45, 1))
    text = " | ".join(found.warnings)
    assert "3 images cannot be used; the first: notes.txt: is no picture" in text
    assert "the same image is in more than one split (1 case): 1.png in train; 1 elsewhere.png in test" in text
    assert "nearly the same image is in more than one split (1 case)" in text
    assert "the same image has different labels (1 case): 0.png as cat; 0 again.png as dog" in text
    assert found.notes[0] == "guessed: folders"
    assert any(note.startswith("2 images repeat the content of another") for note in found.notes)
    assert before == {entry.name: entry.stat().st_mtime_ns for entry in Path(zoo.source).iterdir()}


def test_what_was_odd_about_accepted_pictures_is_said(tmp_path: Path) -> None:
    dataset = of_files(tmp_path, {"b.png": (1, 0), "c.jpg": (0, 0), "d.jpg": (1, 0)}, notes=("guessed: folders",))
    (tmp_path / "c.jpg").write_bytes(encoded(colourful(), "JPEG")[:-2])
    (tmp_path / "d.jpg").write_bytes(encoded(colourful(seed=1), "WEBP"))
    (tmp_path / "b.png").write_bytes(encoded(np.full((1, 1, 3), 9, np.uint8)))
    assert inspect(dataset).notes[:4] == (
        "guessed: folders",
        "b.png: has one pixel only",
        "c.jpg: the JPEG has no end marker; all its rows are there",
        "d.jpg: is a WEBP picture, not what its ending .jpg says",
    )


def test_what_training_should_know(tmp_path: Path) -> None:
    root = class_folders(tmp_path / "pictures", {"cat": 30, "dog": 30})
    (root / "dog" / "0003.png").write_bytes((root / "cat" / "0003.png").read_bytes())
    copies = ["cat/0004.png", *(f"cat/copy {number}.png" for number in range(9))]
    for name in copies[1:]:
        (root / name).write_bytes((root / "cat" / "0004.png").read_bytes())
    drawn = load(root)
    assert not any("split" in told for told in concerns(prepare(drawn, InputFormat(height=6, width=6, channels=3))))
    splits = np.array([2 if name.startswith("cat/copy") else 0 for name in drawn.names], np.int8)
    prepared = prepare(replace(drawn, draw=None, splits=splits), InputFormat(height=6, width=6, channels=3))
    leak, conflict = concerns(prepared)
    assert leak.startswith(
        "the same image is in more than one split (1 case): cat/0004.png in train; cat/copy 0.png in"
    )
    assert "9 images of validation or test are in training too: cat 9; the result will be too good. To leave" in leak
    assert leak.endswith(f"convoscope train {root} --dedupe")
    assert conflict == "the same image has different labels (1 case): cat/0003.png as cat; dog/0003.png as dog"
    uneven = prepare(of_array(np.zeros((203, 4, 4, 1), np.uint8), np.array([0] * 201 + [1] * 2)), prepared.form)
    assert concerns(uneven)[-1].startswith(
        "a has 100 times as many images as b (201 and 2): accuracy alone will say little"
    )
    assert concerns(prepare(load("builtin:shapes"), InputFormat(height=5, width=5, channels=1))) == []


def test_json_has_the_keys_that_scripts_count_on(zoo: Dataset) -> None:
    told: list[tuple[int, int]] = []
    report = json.loads(json.dumps(inspect(zoo, progress=lambda done, total: told.append((done, total))).to_json()))
    assert told[-1] == (12, 12)
    assert report["layout"] == "folders" and report["classes"] == ["cat", "dog"]
    assert report["counts"]["train"] == {"cat": 3, "dog": 4}
    assert report["skipped"][0] == {"path": "notes.txt", "reason": "is no picture"}
    assert report["duplicates"] == [["0.png", "0 again.png"], ["1.png", "1 elsewhere.png"]]
    assert report["leaks"] == [{"train": ["1.png"], "test": ["1 elsewhere.png"]}]
    assert report["conflicts"] == [{"cat": ["0.png"], "dog": ["0 again.png"]}]
    assert (
        report["sizes"]["min"] == [60, 45]
        and report["sizes"]["median"] == [120, 90]
        and report["sizes"]["max"] == [120, 90]
    )
    assert report["sizes"]["most_common"][0] == {"width": 120, "height": 90, "count": 9}
    assert {"near_duplicates", "near_leaks", "modes", "warnings", "notes", "source", "task", "numbers"} <= set(report)


def test_names_that_are_no_text_survive_json(tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9\n.png")
    scene(0).save(tmp_path / "x.png")
    (tmp_path / "x.png").rename(tmp_path / name)
    report = inspect(of_files(tmp_path, {name: (0, 0), "gone.png": (1, 0)})).to_json()
    json.dumps(report).encode()
    json.dumps(report, ensure_ascii=False).encode()
    assert report["skipped"][0]["path"] == "gone.png"


@pytest.mark.parametrize(
    "change",
    [
        lambda image: image.resize((300, 200)),
        lambda image: image.resize((48, 36)),
        lambda image: ImageEnhance.Brightness(image).enhance(0.8),
        lambda image: ImageEnhance.Contrast(image).enhance(0.7),
        lambda image: image.convert("L"),
    ],
)
def test_a_picture_that_was_changed_a_little_is_near(
    tmp_path: Path, change: Callable[[Image.Image], Image.Image]
) -> None:
    for number in range(8):
        scene(number).save(tmp_path / f"{number}.jpg", quality=92)
    change(scene(5)).save(tmp_path / "changed.jpg", quality=50)
    files = {f"{number}.jpg": (number % 2, 0) for number in range(8)} | {"changed.jpg": (1, 0)}
    assert inspect(of_files(tmp_path, files)).near_duplicates == (("5.jpg", "changed.jpg"),)


def test_plain_images_are_no_near_duplicates() -> None:
    pixels = np.repeat(np.arange(0, 240, 8, dtype=np.uint8), 28 * 28).reshape(-1, 28, 28, 1).copy()
    pixels[:, 3, 4] ^= 3
    found = inspect(of_array(pixels))
    assert found.near_duplicates == () and found.duplicates == ()
    assert "30 images of one even tone, not compared for near duplicates" in found.notes


def test_sizes_of_several_arrays() -> None:
    images = ArrayImages([Stack(np.zeros((3, 8, 6, 3), np.uint8), "a"), Stack(np.zeros((2, 5, 7), np.uint8), "b")])
    found = inspect(
        of_array(np.zeros((5, 1, 1, 1), np.uint8), images=images.select(np.array([4, 0, 1, 2]))).select(np.arange(4))
    )
    assert found.sizes == ((6, 8, 3), (7, 5, 1))
    assert found.modes == {"array, 3 channels": 3, "array, 1 channel": 1}


@pytest.mark.parametrize(("few", "warned", "noted"), [(1, 1, 0), (5, 0, 1), (40, 0, 0)])
def test_imbalance(few: int, warned: int, noted: int) -> None:
    random = np.random.default_rng(0)
    pixels = random.integers(0, 256, (150 + few, 6, 6, 1), dtype=np.uint8)
    found = inspect(of_array(pixels, np.array([0] * 150 + [1] * few)))
    times = [text for text in found.warnings if "times as many images as b" in text]
    assert (len(times), len([text for text in found.notes if "times as many" in text])) == (warned, noted)


def test_a_class_without_images_is_named() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (4, 6, 6, 1), dtype=np.uint8)
    assert inspect(of_array(pixels, np.zeros(4, np.int64))).warnings == ("b has no image that can be used",)


def test_several_labels_and_numbers() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (4, 6, 6, 1), dtype=np.uint8)
    pixels[3] = pixels[0]
    labels = inspect(of_array(pixels, np.array([[1, 0], [1, 1], [0, 0], [1, 1]], np.uint8), task="multi-label"))
    assert labels.counts["train"] == {"a": 3, "b": 2}
    assert labels.conflicts == ({"a": ("image/0",), "a;b": ("image/3",)},)
    assert "1 image without any label" in labels.notes

    numbers = inspect(of_array(pixels, np.array([[1, 7], [2, 7], [3, 7], [1.5, 7]], np.float32), task="regression"))
    assert numbers.counts["train"] == {"images": 4}
    assert numbers.numbers == {"a": (1.0, 1.875, 3.0), "b": (7.0, 7.0, 7.0)}
    assert numbers.conflicts == ({"1;7": ("image/0",), "1.5;7": ("image/3",)},)
    assert "b is 7 for every image: there is nothing to learn from it" in numbers.warnings


def test_a_failing_disk_is_not_blamed_on_the_pictures(tmp_path: Path) -> None:
    dataset = of_files(tmp_path, {f"{number}.png": (number % 2, 0) for number in range(30)})
    with pytest.raises(MachineError, match="20 pictures in a row cannot be read") as caught:
        inspect(dataset)
    assert caught.value.code == "pictures-unreachable"


def test_an_empty_dataset_is_inspected() -> None:
    found = inspect(of_array(np.zeros((0, 4, 4, 1), np.uint8)))
    assert found.sizes == () and found.to_json()["sizes"] == {}


# --- near duplicates ---------------------------------------------------------------------------------------------------


def all_pairs(thumbnails: np.ndarray, correlation: float) -> list[list[int]]:
    """The groups by comparing each with each."""
    agree = np.corrcoef(thumbnails.astype(float)) >= correlation
    left, groups = set(range(len(thumbnails))), []
    while left:
        group, open_ = set(), {min(left)}
        while open_:
            row = open_.pop()
            group.add(row)
            open_ |= set(np.flatnonzero(agree[row]).tolist()) - group
        left -= group
        groups.append(sorted(group))
    return [group for group in groups if len(group) > 1]


@given(st.integers(0, 10_000), st.sampled_from([0.9, 0.97, 0.99]), st.integers(2, 400), st.floats(1, 60))
def test_groups_are_those_of_comparing_each_with_each(seed: int, correlation: float, count: int, noise: float) -> None:
    random = np.random.default_rng(seed)
    origins = random.integers(0, 256, (max(1, count // 3), 256))
    rows = origins[random.integers(0, len(origins), count)] + random.normal(0, noise, (count, 256))
    thumbnails = np.clip(rows, 0, 255).astype(np.uint8)
    values = np.corrcoef(thumbnails.astype(float))
    if (np.abs(values - correlation) < 1e-5).any():
        return  # on the edge, where float32 decides
    assert [group.tolist() for group in close_groups(thumbnails, correlation)] == all_pairs(thumbnails, correlation)


def test_one_large_group_is_found_without_listing_its_pairs() -> None:
    random = np.random.default_rng(0)
    base = random.integers(20, 230, 256)
    thumbnails = np.clip(base + random.integers(-1, 2, (3000, 256)), 0, 255).astype(np.uint8)
    groups = close_groups(thumbnails, NEAR_CORRELATION)
    assert [len(group) for group in groups] == [3000]


@pytest.mark.shared_data
def test_photos_hold_one_near_duplicate_only(shared_data: Path) -> None:
    files = sorted(entry.name for entry in (shared_data / "cats_dogs" / "train").iterdir())
    found = inspect(
        of_files(shared_data / "cats_dogs" / "train", {name: (int(name.startswith("dog")), 0) for name in files})
    )
    assert found.near_duplicates == (("dog.180.jpg", "dog.74.jpg"),)
    assert found.counts["train"] == {"cat": 700, "dog": 700} and not found.skipped
