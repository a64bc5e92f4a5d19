"""The split: who gets which image, writing it down, reading it back, and what has changed since."""

import csv
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from convoscope.data import Dataset, InputFormat, Prepared, changed, from_arrays, load, prepare, read_split, write_split
from convoscope.data.split import complete, draw, escape_cell, rank, unescape_cell
from convoscope.errors import DataError, UsageError
from tests.support.pictures import class_folders, encoded

FORM = InputFormat(height=6, width=6, channels=3)


def names_of(count: int) -> list[str]:
    return [f"image {row}.jpg" for row in range(count)]


@given(
    sizes=st.lists(st.integers(1, 40), min_size=1, max_size=5),
    seed=st.integers(0, 5),
    validation=st.sampled_from([0, 0.1, 0.3]),
    test=st.sampled_from([0, 0.1, 0.4]),
)
def test_every_class_is_in_every_part(sizes: list[int], seed: int, validation: float, test: float) -> None:
    strata = np.repeat(np.arange(len(sizes)), sizes)
    splits = draw(names_of(len(strata)), strata, seed, validation, test)
    for stratum, size in enumerate(sizes):
        train, held, unseen = np.bincount(splits[strata == stratum], minlength=3)
        assert train >= 1
        assert bool(held) == (validation > 0 and size >= 2)
        assert bool(unseen) == (test > 0 and size >= (3 if validation else 2))
        assert held <= max(1, size * validation)
        assert unseen <= max(1, size * test)


@given(seed=st.integers(0, 1000), count=st.integers(2, 60))
def test_the_split_depends_on_names_not_on_their_order(seed: int, count: int) -> None:
    names = names_of(count)
    strata = np.arange(count) % 3
    splits = draw(names, strata, seed, 0.2, 0.2)
    order = np.random.default_rng(seed).permutation(count)
    shuffled = draw([names[row] for row in order], strata[order], seed, 0.2, 0.2)
    assert np.array_equal(shuffled, splits[order])


def test_the_split_stays_the_same_for_ever() -> None:
    assert rank(0, "cat/1.jpg").hex() == "1f859e516043a6cc"
    splits = draw(names_of(20), np.zeros(20, np.int64), 7, 0.1, 0.2)
    assert splits.tolist() == [0, 0, 1, 0, 2, 0, 2, 2, 0, 0, 0, 0, 0, 2, 0, 1, 0, 0, 0, 0]
    assert not np.array_equal(draw(names_of(20), np.zeros(20, np.int64), 8, 0.1, 0.2), splits)


def test_large_sets_hold_out_no_more_than_needed() -> None:
    names = names_of(200_000)
    splits, notes, _ = complete(names, np.arange(200_000) % 10, None, seed=0, validation=None, test=None)
    assert np.bincount(splits).tolist() == [185_000, 5_000, 10_000]
    assert "185000 for training, 5000 for validation, 10000 for the test" in notes[0]


def test_shares_that_leave_nothing() -> None:
    for validation, test, words in (
        (1.0, None, "must be a share from 0 to below 1; received 1.0"),
        (None, -0.1, "received -0.1"),
        (None, float("nan"), "received nan"),
        (0.5, 0.5, "leave nothing for training: 0.5 + 0.5"),
    ):
        with pytest.raises(UsageError) as caught:
            from_arrays(np.zeros((4, 2, 2), np.uint8), [0, 1, 0, 1], validation=validation, test=test)
        assert caught.value.code == "bad-share"
        assert words in caught.value.reason


@pytest.mark.parametrize("seed", [-1, 2**63, 10**30])
def test_impossible_seeds(seed: int) -> None:
    calls: list[Callable[[], Dataset]] = [
        lambda: from_arrays(np.zeros((4, 2, 2), np.uint8), [0, 1, 0, 1], seed=seed),
        lambda: load("builtin:lines", seed=seed),
    ]
    for call in calls:
        with pytest.raises(UsageError, match=f"must be a whole number from 0 to .*; received {seed}") as caught:
            call()
        assert caught.value.code == "bad-seed"
    assert len(load("builtin:lines", seed=2**63 - 1)) == 200


def test_shares_of_the_user_are_kept(tmp_path: Path) -> None:
    root = class_folders(tmp_path, {"cat": 20, "dog": 20})
    count = np.bincount(load(root, validation=0.25, test=0.5).splits, minlength=3)
    assert count.tolist() == [10, 10, 20]
    assert np.bincount(load(root, validation=0, test=0).splits, minlength=3).tolist() == [40, 0, 0]


def test_labels_are_in_proportion_and_rare_ones_everywhere() -> None:
    labels = np.zeros((60, 2), np.uint8)
    labels[:, 0] = 1
    labels[:6, 1] = 1
    dataset = from_arrays(np.zeros((60, 4, 4), np.uint8), labels)
    assert all(by_class["1"] >= 1 for by_class in dataset.counts().values())


@given(text=st.text(max_size=20) | st.binary(max_size=12).map(lambda b: b.decode("utf-8", "surrogateescape")))
def test_cells_survive_and_are_harmless(text: str) -> None:
    cell = escape_cell(text)
    assert unescape_cell(cell) == text
    assert cell.isprintable()
    assert not cell.startswith(("=", "+", "-", "@"))
    cell.encode("utf-8")


def prepared_from(root: Path) -> Prepared:
    return prepare(load(root), FORM)


def hostile_folder(root: Path) -> Path:
    class_folders(root, {'=cmd|"x"': 4, "+1": 4, "a,b;c": 4}, side=6)
    for name in ("new\nline.png", "-rf.png", "\x1b[31m.png", "\udcff.png", 'quo"te.png'):
        (root / "+1" / name).write_bytes(encoded(np.full((6, 6, 3), len(name), np.uint8)))
    return root


def test_a_split_file_reads_back_exactly(tmp_path: Path) -> None:
    prepared = prepared_from(hostile_folder(tmp_path / "data"))
    write_split(tmp_path / "split.csv", prepared)
    rows = read_split(tmp_path / "split.csv")
    dataset = prepared.dataset
    assert [row.path for row in rows] == list(dataset.names)
    assert [row.label for row in rows] == [dataset.classes[k] for k in dataset.targets]
    assert [("train", "validation", "test").index(row.split) for row in rows] == dataset.splits.tolist()
    assert [row.digest for row in rows] == list(prepared.digests)
    with open(tmp_path / "split.csv", encoding="utf-8", newline="") as file:
        for cells in csv.reader(file):
            assert not any(cell.startswith(("=", "+", "-", "@")) or not cell.isprintable() for cell in cells)
    assert changed(prepared, tmp_path / "split.csv") == ([], [], [])


def test_the_split_is_read_back_whatever_the_seed(tmp_path: Path) -> None:
    root = class_folders(tmp_path / "data", {"cat": 20, "dog": 20})
    first = prepare(load(root, seed=1), FORM)
    write_split(tmp_path / "split.csv", first)
    again = load(root, seed=2, manifest=tmp_path / "split.csv")
    assert np.array_equal(again.splits, first.dataset.splits)
    assert not np.array_equal(load(root, seed=2).splits, first.dataset.splits)
    assert any("split read back from" in note for note in again.notes)


def test_new_missing_and_altered_images_are_found(tmp_path: Path) -> None:
    root = class_folders(tmp_path / "data", {"cat": 10, "dog": 10})
    write_split(tmp_path / "split.csv", prepared_from(root))
    (root / "cat" / "new.png").write_bytes(encoded(np.zeros((6, 6, 3), np.uint8)))
    (root / "cat" / "0001.png").unlink()
    (root / "dog" / "0002.png").write_bytes(encoded(np.ones((6, 6, 3), np.uint8)))
    dataset = load(root, manifest=tmp_path / "split.csv")
    assert any("1 images that it does not list" in note for note in dataset.notes)
    assert changed(prepare(dataset, FORM), tmp_path / "split.csv") == (
        ["cat/new.png"],
        ["cat/0001.png"],
        ["dog/0002.png"],
    )


def test_another_label_counts_as_altered(tmp_path: Path) -> None:
    numbers = from_arrays(np.zeros((6, 6, 6, 3), np.uint8), np.linspace(0, 1, 6))
    prepared = prepare(numbers, FORM)
    write_split(tmp_path / "split.csv", prepared)
    assert changed(prepared, tmp_path / "split.csv") == ([], [], [])
    other = replace(prepared, dataset=replace(numbers, targets=numbers.targets + np.float32(1e-6)))
    assert len(changed(other, read_split(tmp_path / "split.csv"))[2]) == 6


@pytest.mark.parametrize(
    ("text", "code", "words"),
    [
        (None, "split-missing", "there is no such split file"),
        ("", "split-damaged", "expected the columns path,label,split,digest"),
        ("path,label,split,digest\n", "split-damaged", "lists no image"),
        ("path,label,split,digest\na,b,train\n", "split-damaged", "line 2 cannot be read"),
        ("path,label,split,digest\na,b,train,c\na,b,later,c\n", "split-damaged", "line 3 cannot be read"),
        ("path,label,split,digest\na\\q,b,train,c\n", "split-damaged", "unknown escape"),
        ("path,label,split,digest\na\\xzz,b,train,c\n", "split-damaged", "line 2"),
        ('path,label,split,digest\n"a', "split-damaged", "line 2"),
    ],
)
def test_damaged_split_files(tmp_path: Path, text: str | None, code: str, words: str) -> None:
    path = tmp_path / "split.csv"
    if text is not None:
        path.write_text(text)
    with pytest.raises(DataError) as caught:
        read_split(path)
    assert caught.value.code == code
    assert words in str(caught.value)


def test_split_cut_at_any_place_is_read_or_refused(tmp_path: Path) -> None:
    prepared = prepared_from(class_folders(tmp_path / "data", {"cat": 3, "dog": 3}))
    path = tmp_path / "split.csv"
    write_split(path, prepared)
    whole = path.read_bytes()
    for length in range(0, len(whole), 7):
        path.write_bytes(whole[:length])
        try:
            assert len(read_split(path)) <= 6
        except DataError as error:
            assert error.code == "split-damaged"
