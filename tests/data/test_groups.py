"""What belongs together stays in one part: copies, pictures that look alike, and groups by a column or the names."""

import io
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from convoscope.data import (
    Dataset,
    InputFormat,
    from_arrays,
    inspect,
    joined,
    load,
    prepare,
    with_manifest,
    write_split,
)
from convoscope.data.split import draw
from convoscope.errors import DataError, UsageError
from convoscope.patterns import groups_by_name
from tests.support.pictures import class_folders

FORM = InputFormat(height=8, width=8, channels=3)


def saved(image: Image.Image, quality: int = 95) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def scene(seed: int) -> Image.Image:
    rough = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return Image.fromarray(rough).resize((192, 144), Image.Resampling.BICUBIC)


def copies(seed: int) -> list[bytes]:
    """One scene as a file, the file again, saved again, half as large, brighter by 2, and cropped by a pixel."""
    image = scene(seed)
    brighter = np.clip(np.asarray(image).astype(int) + 2, 0, 255).astype(np.uint8)
    return [
        saved(image), saved(image), saved(image, 60), saved(image.resize((96, 72))),
        saved(Image.fromarray(brighter)), saved(image.crop((1, 1, 192, 144))),
    ]  # fmt: skip


def copied(root: Path, groups: int) -> dict[str, int]:
    """Class folders in which each scene has six pictures whose names say nothing; name to scene."""
    group_of = {}
    for group in range(groups):
        for number, content in enumerate(copies(group)):
            name = f"{('cat', 'dog')[group % 2]}/{(group * 6 + number) * 7919 % 1009:04d}.jpg"
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_bytes(content)
            group_of[name] = group
    return group_of


def torn(dataset: Dataset, groups: Sequence[object]) -> int:
    """How many groups are in two parts."""
    parts: dict[object, set[int]] = {}
    for group, part in zip(groups, dataset.splits.tolist(), strict=True):
        parts.setdefault(group, set()).add(part)
    return sum(len(each) > 1 for each in parts.values())


def test_no_copy_is_in_two_parts(tmp_path: Path) -> None:
    group_of = copied(tmp_path / "data", 30)
    listed = load(tmp_path / "data")
    prepared = prepare(listed, FORM, cache=tmp_path / "cache").dataset
    assert torn(listed, [group_of[name] for name in listed.names]) > 10
    assert torn(prepared, [group_of[name] for name in prepared.names]) == 0
    assert [sum(by_class.values()) for by_class in prepared.counts().values()] == [156, 12, 12]
    assert any("180 images in 30 groups that are the same or look alike; now 156 for" in one for one in prepared.notes)
    again = prepare(load(tmp_path / "data"), FORM, cache=tmp_path / "cache").dataset
    smaller = prepare(load(tmp_path / "data"), replace(FORM, height=5), cache=tmp_path / "cache").dataset
    assert np.array_equal(again.splits, prepared.splits) and np.array_equal(smaller.splits, prepared.splits)
    found = inspect(listed)
    assert found.counts == prepared.counts() and found.leaks == () and found.near_leaks == ()


@given(
    sizes=st.lists(st.lists(st.integers(1, 6), min_size=3, max_size=12), min_size=1, max_size=4),
    seed=st.integers(0, 3),
    validation=st.sampled_from([0.0, 0.1, 0.3]),
    test=st.sampled_from([0.1, 0.4]),
)
def test_groups_stay_whole_and_every_class_is_everywhere(
    sizes: list[list[int]], seed: int, validation: float, test: float
) -> None:
    units = np.repeat(np.arange(sum(map(len, sizes))), [size for one in sizes for size in one])
    strata = np.repeat(np.arange(len(sizes)), [sum(one) for one in sizes])
    names = [f"image {row}" for row in range(len(units))]
    splits = draw(names, strata, seed, validation, test, units)
    assert all(len(set(splits[units == unit].tolist())) == 1 for unit in set(units.tolist()))
    for stratum, one in enumerate(sizes):
        train, held, unseen = np.bincount(splits[strata == stratum], minlength=3)
        assert train and unseen and bool(held) == bool(validation)
        # A part is at most as far above its share as the smallest group that could not be avoided.
        assert unseen <= max(2 * max(1, sum(one) * test), min(one))
    order = np.random.default_rng(seed).permutation(len(units))
    shuffled = draw([names[row] for row in order], strata[order], seed, validation, test, units[order])
    assert np.array_equal(shuffled, splits[order])


@given(st.integers(0, 100), st.integers(2, 60))
def test_images_that_are_alone_are_drawn_as_ever(seed: int, count: int) -> None:
    names, strata = [f"{row}.jpg" for row in range(count)], np.arange(count) % 3
    units = np.arange(count)
    plain = draw(names, strata, seed, 0.2, 0.2)
    with_copy = draw([*names, f"{names[0]} copy"], np.append(strata, 0), seed, 0.2, 0.2, np.append(units, 0))
    assert np.array_equal(draw(names, strata, seed, 0.2, 0.2, units), plain)
    # A copy goes where its original is drawn, and moves at most what a new image moves: the last of a part.
    assert with_copy[-1] == with_copy[0]
    assert (with_copy[:-1] != plain).sum() <= 4


def test_one_camera_is_no_copy() -> None:
    random = np.random.default_rng(0)
    base = random.integers(20, 230, (16, 16))
    images = np.clip(base + random.integers(-2, 3, (60, 16, 16)), 0, 255).astype(np.uint8)
    prepared = prepare(from_arrays(images, [0, 1] * 30), InputFormat(height=16, width=16, channels=1)).dataset
    assert np.bincount(prepared.splits).tolist() == [48, 6, 6]
    assert "60 images look so much alike that this says nothing of copies" in prepared.notes[-1]


def test_groups_by_a_column(tmp_path: Path) -> None:
    root = class_folders(tmp_path, {"cat": 30, "dog": 30})
    rows = [f"{label}/{row:04d}.png,{label},P{row // 3}" for label in ("cat", "dog") for row in range(30)]
    (root / "all.csv").write_text("\n".join(["path,label,patient", *rows]) + "\n")
    dataset = load(root / "all.csv", group="patient")
    assert dataset.groups is not None and dataset.classes == ("cat", "dog")
    assert torn(dataset, dataset.groups) == 0 and np.bincount(dataset.splits).tolist() == [48, 6, 6]
    assert torn(load(root / "all.csv"), dataset.groups) > 0
    assert dataset.table is not None and load(root / "all.csv", like=dataset.table).groups == dataset.groups
    rows.append("cat/0000.png,cat,P7")
    (root / "all.csv").write_text("\n".join(["path,label,patient", *rows]) + "\n")
    with pytest.raises(DataError, match="in the group 'P0' in line 2 and in the group 'P7' in line 62") as caught:
        load(root / "all.csv", group="patient")
    assert caught.value.code == "table-contradiction"
    with pytest.raises(UsageError, match="has no column 'patients'") as missing:
        load(root / "all.csv", group="patients")
    assert missing.value.code == "table-column-missing"


def test_groups_by_names(tmp_path: Path) -> None:
    root = class_folders(tmp_path, {"cat": 30, "dog": 30})
    dataset = load(root, group_pattern=r"/00(\d)")
    assert dataset.groups is not None and set(dataset.groups) == {"0", "1", "2"}
    assert torn(dataset, dataset.groups) == 0 and (np.bincount(dataset.splits) == 20).all()
    with pytest.raises(DataError, match=r"its images are of 1 group \(00\); 3 parts need 3") as caught:
        load(root, group_pattern=r"/(00)")
    assert caught.value.code == "groups-too-few"
    with pytest.raises(UsageError) as elsewhere:
        load("builtin:shapes", group_pattern=r"(\d)")
    assert elsewhere.value.code == "grouping-elsewhere"


@pytest.mark.parametrize(
    ("pattern", "code", "words"),
    [
        ("a(", "group-pattern-invalid", "is no regular expression"),
        ("abc", "group-pattern-invalid", "has 0 groups in parentheses; expected one"),
        ("(a)(b)", "group-pattern-invalid", "has 2 groups in parentheses; expected one"),
        ("(x)", "group-pattern-unmatched", "finds a group in none of the names, such as cat/"),
        ("(a+)+$", "group-pattern-slow", "takes too long"),
    ],
)
def test_patterns_that_cannot_be_used(pattern: str, code: str, words: str) -> None:
    begin = time.monotonic()
    with pytest.raises(UsageError, match=words.replace("(", r"\(")) as caught:
        groups_by_name(pattern, ["cat/" + "a" * 60 + "b.jpg"], seconds=1.5)
    assert caught.value.code == code and caught.value.hint
    assert time.monotonic() - begin < 20


def test_each_picture_once(tmp_path: Path) -> None:
    group_of = copied(tmp_path / "data", 12)
    twin = next(name for name, group in group_of.items() if group == 0)
    (tmp_path / "data" / "dog" / "twin.jpg").write_bytes((tmp_path / "data" / twin).read_bytes())
    every = prepare(load(tmp_path / "data"), FORM, cache=tmp_path / "cache")
    once = prepare(load(tmp_path / "data", dedupe=True), FORM, cache=tmp_path / "cache")
    # Of 12 pairs of files one of each is left out; the one that a dog's folder has, too, counts once for each class.
    assert len(once.dataset) == len(every.dataset) - 12 and len(set(once.digests)) == len(once.dataset) - 1
    assert len(once.dataset.skipped) == 12 and once.dataset.skipped[0].reason.startswith("is the same picture as cat/")
    rows = [every.dataset.names.index(name) for name in once.dataset.names]
    assert isinstance(once.pixels, np.memmap) and np.array_equal(once.pixels, every.pixels[rows])
    assert inspect(load(tmp_path / "data", dedupe=True)).counts == once.dataset.counts()


def test_what_is_given_to_test_on_stays(tmp_path: Path) -> None:
    root = class_folders(tmp_path / "train", {"cat": 10, "dog": 10}).parent
    class_folders(root / "test", {"cat": 0, "dog": 0})
    for label in ("cat", "dog"):
        for row in range(4):
            (root / "test" / label / f"{row}.png").write_bytes((root / "train" / label / f"000{row}.png").read_bytes())
    once = prepare(load(root, dedupe=True), FORM, cache=tmp_path / "cache").dataset
    assert once.counts()["test"] == {"cat": 4, "dog": 4}
    assert sum(once.counts()["train"].values()) + sum(once.counts()["validation"].values()) == 12
    assert all(bad.path.startswith("train/") for bad in once.skipped)


def test_new_images_join_their_group(tmp_path: Path) -> None:
    group_of = copied(tmp_path / "data", 20)
    first = prepare(load(tmp_path / "data"), FORM, cache=tmp_path / "cache")
    write_split(tmp_path / "split.csv", first)
    part_of = {group_of[name]: part for name, part in zip(first.dataset.names, first.dataset.splits, strict=True)}
    for group in range(20):
        content = saved(scene(group).resize((120, 90)), 88)
        for place in ("data", "more"):
            folder = tmp_path / place / ("cat", "dog")[group % 2]
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"new {group}.jpg").write_bytes(content)
    grown = prepare(load(tmp_path / "data", manifest=tmp_path / "split.csv"), FORM, cache=tmp_path / "cache").dataset
    alone = load(tmp_path / "more", classes=("cat", "dog"))
    added = joined(with_manifest(first.dataset, tmp_path / "split.csv"), alone)
    for dataset in (grown, prepare(added, FORM, cache=tmp_path / "cache").dataset):
        before = dict(zip(first.dataset.names, first.dataset.splits.tolist(), strict=True))
        for name, part in zip(dataset.names, dataset.splits.tolist(), strict=True):
            number = name.rpartition("new ")[2].removesuffix(".jpg")
            assert part == (before[name] if name in before else part_of[int(number)])


def test_parts_that_share_pictures_are_told(tmp_path: Path) -> None:
    root = class_folders(tmp_path / "train", {"cat": 10, "dog": 10}).parent
    class_folders(root / "test", {"cat": 0, "dog": 0})
    for row in range(3):
        (root / "test" / "cat" / f"{row}.png").write_bytes((root / "train" / "cat" / f"000{row}.png").read_bytes())
    scene(0).save(root / "train" / "dog" / "0000.png")
    (root / "test" / "dog" / "0.jpg").write_bytes(saved(scene(0).resize((96, 72))))
    (root / "test" / "dog" / "1.png").write_bytes((root / "train" / "dog" / "0001.png").read_bytes())
    equal, near = (text for text in inspect(load(root, validation=0.0)).warnings if "more than one split" in text)
    assert "4 images of validation or test are in training too: cat 3, dog 1; the result will be too good" in equal
    assert equal.endswith(f"convoscope train {root} --dedupe")
    assert near.startswith("nearly the same image is in more than one split (1 case)") and "near_leaks" in near
