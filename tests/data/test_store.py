"""The decoded store: made once, found again, safe to delete, safe with two processes, bounded; and the policy on bad images."""

import errno
import os
import shutil
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from convoscope.data import (
    InputFormat,
    Prepared,
    from_arrays,
    load,
    open_image,
    prepare,
    sources,
    suggest_format,
)
from convoscope.data import cache as cache_module
from convoscope.data.decode import read_picture
from convoscope.errors import DataError, MachineError, UsageError
from tests.support.pictures import class_folders, colourful, encoded, jpeg, settled

FORM = InputFormat(height=8, width=8, channels=3, resize="stretch")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cache"
    monkeypatch.setenv("CONVOSCOPE_CACHE", str(folder))
    return folder


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    return settled(class_folders(tmp_path / "pictures", {"cat": 30, "dog": 30}))


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the pictures that are opened."""
    opened: list[str] = []

    def counting(path: str) -> bytes:
        opened.append(str(path))
        return read_picture(path)

    monkeypatch.setattr(sources, "read_picture", counting)
    return opened


def same_as_one_by_one(prepared: Prepared, root: Path) -> bool:
    return all(
        np.array_equal(prepared.pixels[row], open_image(root / name, prepared.form))
        for row, name in enumerate(prepared.dataset.names)
    )


def test_images_are_decoded_once_and_found_again(pictures: Path, cache: Path, reads: list[str]) -> None:
    steps: list[tuple[int, int]] = []
    first = prepare(load(pictures), FORM, progress=lambda done, total: steps.append((done, total)))
    assert len(reads) == 60
    assert steps[0] == (0, 60)
    assert steps[-1] == (60, 60)
    assert first.pixels.shape == (60, 8, 8, 3)
    assert isinstance(first.pixels, np.memmap)
    assert not first.pixels.flags.writeable
    assert same_as_one_by_one(first, pictures)
    assert len(set(first.digests)) == 60
    again = prepare(load(pictures), FORM)
    assert len(reads) == 60
    assert np.array_equal(again.pixels, first.pixels)
    assert list(again.digests) == list(first.digests)
    assert first.digests[0] == first.dataset.images.digest(0)
    assert first.digests[-1] == first.dataset.images.digest(59)
    prepare(load(pictures), InputFormat(height=9, width=8, channels=1))
    assert len(reads) == 122  # 60, and two by digest()


def test_a_changed_picture_is_seen(pictures: Path, cache: Path) -> None:
    before = prepare(load(pictures), FORM)
    (pictures / "cat" / "0003.png").write_bytes(encoded(np.full((12, 12, 3), 9, np.uint8)))
    after = prepare(load(settled(pictures)), FORM)
    assert (after.pixels[3] == 9).all()
    assert [row for row in range(60) if before.digests[row] != after.digests[row]] == [3]
    assert not (before.pixels[3] == 9).all()


def test_the_same_pictures_elsewhere_share_the_store(pictures: Path, cache: Path, tmp_path: Path) -> None:
    prepare(load(pictures), FORM)
    shutil.copytree(pictures, tmp_path / "copy")
    prepare(load(tmp_path / "copy"), FORM)
    assert len(list((cache / "pixels").iterdir())) == 1


def test_the_store_may_be_deleted_at_any_time(pictures: Path, cache: Path) -> None:
    prepared = prepare(load(pictures), FORM)
    expected = np.array(prepared.pixels)
    shutil.rmtree(cache)
    assert np.array_equal(prepared.pixels, expected)
    assert np.array_equal(prepare(load(pictures), FORM).pixels, expected)
    shutil.rmtree(cache / "pixels")
    assert np.array_equal(prepare(load(pictures), FORM).pixels, expected)
    shutil.rmtree(cache / "rows")
    assert np.array_equal(prepare(load(pictures), FORM).pixels, expected)
    # Even while it is being made.
    shutil.rmtree(cache)
    prepared = prepare(
        load(pictures), FORM, progress=lambda done, _: shutil.rmtree(cache, ignore_errors=True) if done else None
    )
    assert np.array_equal(prepared.pixels, expected)


def test_a_damaged_store_is_made_anew(pictures: Path, cache: Path) -> None:
    expected = np.array(prepare(load(pictures), FORM).pixels)
    for kind, file in (("rows", "findings.npz"), ("pixels", "images")):
        path = next((cache / kind).iterdir()) / file
        for content in (b"", b"nonsense", path.read_bytes()[:-7]):
            path.write_bytes(content)
            with pytest.warns(UserWarning, match="what was kept there is damaged; it is made anew"):
                assert np.array_equal(prepare(load(pictures), FORM).pixels, expected)


def test_a_folder_for_the_store_can_be_given(pictures: Path, cache: Path, tmp_path: Path) -> None:
    prepare(load(pictures), FORM, cache=tmp_path / "other", workers=1)
    assert (tmp_path / "other" / "pixels").is_dir()
    assert not (cache / "pixels").exists()


def test_space_is_bounded_and_what_is_in_use_stays(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    labels = np.arange(40) % 2
    form = InputFormat(height=20, width=20, channels=1)
    size = 40 * 20 * 20

    def make(seed: int) -> Prepared:
        images = np.random.default_rng(seed).integers(0, 256, (40, 10, 10), dtype=np.uint8)
        return prepare(from_arrays(images, labels), form)

    def entries() -> int:
        return len([entry for entry in (cache / "pixels").iterdir() if not entry.name.endswith(".tmp")])

    monkeypatch.setenv("CONVOSCOPE_CACHE_GB", str(2.5 * size / 1e9))
    held = make(0)
    for seed in range(1, 6):
        make(seed)
        assert entries() <= 4  # the one that is held, the one that was just made, and two not in use
    key = held._lease.folder  # type: ignore[union-attr]
    assert key.exists()
    del held
    make(6), make(7)
    assert not key.exists()
    monkeypatch.setenv("CONVOSCOPE_CACHE_GB", "plenty")
    with pytest.raises(UsageError, match="expected a number of gigabytes; received 'plenty'") as caught:
        make(8)
    assert caught.value.code == "bad-setting"
    monkeypatch.delenv("CONVOSCOPE_CACHE_GB")
    assert 0 < cache_module.cache_limit(cache) <= 10_000_000_000


def test_a_large_entry_does_not_drive_the_small_ones_out(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In use it does not count; afterwards it is the one to go, though it is the newest."""
    labels, form = np.arange(40) % 2, InputFormat(height=20, width=20, channels=1)
    images = np.random.default_rng(0).integers(0, 256, (40, 10, 10), dtype=np.uint8)
    monkeypatch.setenv("CONVOSCOPE_CACHE_GB", str(0.5 * 40 * 20 * 20 / 1e9))
    with cache_module.building("features", "small", cache) as entry:
        (entry.folder / "vectors").write_bytes(bytes(1000))
    held = prepare(from_arrays(images, labels), form)
    large = held._lease.folder  # type: ignore[union-attr]
    cache_module.tidy(cache)
    assert large.exists() and (cache / "features" / "small").exists()
    del held
    cache_module.tidy(cache)
    assert not large.exists() and (cache / "features" / "small").exists()


def test_a_cache_folder_that_cannot_be_made(tmp_path: Path, pictures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("CONVOSCOPE_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(MachineError) as caught:
        prepare(load(pictures), FORM)
    assert caught.value.hint.startswith("set CONVOSCOPE_CACHE to a folder")


def test_a_full_disk_is_named_and_leaves_nothing(pictures: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("os.write", full)
        with pytest.raises(MachineError, match="the disk is full") as caught:
            prepare(load(pictures), FORM)
    assert caught.value.code == "disk-full"
    assert list((cache / "pixels").iterdir()) == []
    assert prepare(load(pictures), FORM).pixels.shape == (60, 8, 8, 3)


SCRIPT = """
    import sys
    from convoscope.data import InputFormat, load, prepare
    form = InputFormat(height=8, width=8, channels=3, resize="stretch")
    slow = lambda done, total: (print(done, flush=True), __import__("time").sleep(float(sys.argv[2])))
    prepared = prepare(load(sys.argv[1]), form, progress=slow)
    print("sum", int(prepared.pixels.astype(int).sum()), flush=True)
"""


def start(pictures: Path, seconds: float) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", textwrap.dedent(SCRIPT), str(pictures), str(seconds)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_two_processes_make_one_store(pictures: Path, cache: Path) -> None:
    both = [start(pictures, 0.2), start(pictures, 0.2)]
    answers = [process.communicate(timeout=60)[0].split() for process in both]
    assert answers[0][-1] == answers[1][-1]
    assert len(list((cache / "pixels").iterdir())) == 1
    # One of them waited and decoded nothing.
    assert sorted(answer[0] for answer in answers) == ["0", "sum"]


def test_what_a_killed_process_left_is_removed(pictures: Path, cache: Path) -> None:
    process = start(pictures, 5)
    assert process.stdout is not None
    process.stdout.readline()
    assert len(list((cache / "pixels").glob(".*.tmp"))) == 1
    cache_module.tidy(cache)
    assert len(list((cache / "pixels").glob(".*.tmp"))) == 1, "it is still being made"
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    assert prepare(load(pictures), FORM).pixels.shape == (60, 8, 8, 3)
    assert list((cache / "pixels").glob(".*.tmp")) == []


# --- arrays ------------------------------------------------------------------------------------------------------------


def test_an_array_of_the_right_size_is_used_in_place(tmp_path: Path, cache: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (50, 8, 8, 3), dtype=np.uint8)
    np.savez(tmp_path / "a.npz", images=images, labels=np.arange(50) % 2)
    prepared = prepare(load(settled(tmp_path / "a.npz")), FORM)
    assert np.array_equal(prepared.pixels, images)
    assert isinstance(prepared.pixels.base, np.memmap) or isinstance(prepared.pixels, np.memmap)
    assert not (cache / "pixels").exists()
    assert len(list((cache / "rows").iterdir())) == 1
    assert list(prepare(load(tmp_path / "a.npz"), FORM).digests) == list(prepared.digests)
    memory = prepare(from_arrays(images, np.arange(50) % 2), FORM)
    assert np.shares_memory(memory.pixels, images)
    assert list(memory.digests) == list(prepared.digests)


@pytest.mark.parametrize("kind", ["npz", "float", "planes", "subset"])
def test_arrays_that_must_be_converted(kind: str, tmp_path: Path, cache: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (50, 8, 8, 3), dtype=np.uint8)
    labels = np.arange(50) % 2
    rows = np.arange(50)
    if kind == "npz":
        np.savez_compressed(tmp_path / "a.npz", images=images, labels=labels)
        dataset = load(tmp_path / "a.npz")
    elif kind == "float":
        dataset = from_arrays(images / 255, labels)
    elif kind == "planes":
        dataset = from_arrays(images.transpose(0, 3, 1, 2), labels)
    else:
        rows = np.random.default_rng(1).permutation(50)[:31]
        dataset = from_arrays(images, labels).select(rows)
    prepared = prepare(dataset, FORM)
    assert np.array_equal(prepared.pixels, images[rows])
    small = prepare(dataset, InputFormat(height=4, width=4, channels=1))
    for row in (0, 30):
        assert np.array_equal(small.pixels[row], open_image(images[rows[row]], small.form))


def test_a_large_packed_array_is_unpacked_into_the_cache(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "MAX_IN_MEMORY", 100)
    images = np.random.default_rng(0).integers(0, 256, (50, 8, 8, 3), dtype=np.uint8)
    np.savez_compressed(tmp_path / "a.npz", images=images, labels=np.arange(50) % 2)
    assert np.array_equal(prepare(load(tmp_path / "a.npz"), FORM).pixels, images)
    assert len(list((cache / "unpacked").iterdir())) >= 1
    cut = (tmp_path / "a.npz").read_bytes()
    start = cut.index(b"images.npy") + 5000
    (tmp_path / "b.npz").write_bytes(cut[:start] + bytes(50) + cut[start + 50 :])
    with pytest.raises(DataError) as caught:
        prepare(load(tmp_path / "b.npz"), FORM)
    assert caught.value.code in ("array-damaged", "array-short")


def test_images_that_hold_nan_are_left_out(cache: Path) -> None:
    images = np.random.default_rng(0).random((60, 8, 8, 3)).astype(np.float32)
    images[7, 0, 0, 0] = np.nan
    prepared = prepare(from_arrays(images, np.arange(60) % 2), FORM)
    assert len(prepared.dataset) == 59
    assert [(bad.path, bad.reason) for bad in prepared.dataset.skipped] == [
        ("image/7", "holds NaN or values outside 0..1")
    ]


def test_no_images() -> None:
    with pytest.raises(DataError, match="holds no image") as caught:
        from_arrays(np.zeros((0, 4, 4), np.uint8), np.zeros(0, int))
    assert caught.value.code == "no-images"
    empty = from_arrays(np.zeros((4, 4, 4), np.uint8), [0, 1, 0, 1]).select(np.zeros(0, np.int64))
    with pytest.raises(DataError, match="holds no images"):
        prepare(empty, FORM)


# --- bad images --------------------------------------------------------------------------------------------------------


def spoil(root: Path, count: int, *, folder: str = "cat", content: bytes = b"broken") -> None:
    for row in range(count):
        (root / folder / f"{row:04d}.png").write_bytes(content)


def test_bad_images_are_left_out_listed_and_remembered(pictures: Path, cache: Path, reads: list[str]) -> None:
    spoil(pictures, 2, content=jpeg()[:300])
    (pictures / "dog" / "0005.png").write_bytes(encoded(colourful(), "WEBP"))
    settled(pictures)
    for _ in range(2):
        prepared = prepare(load(pictures), FORM)
        assert [bad.path for bad in prepared.dataset.skipped] == ["cat/0000.png", "cat/0001.png"]
        assert prepared.dataset.skipped[0].reason.startswith("the JPEG ends")
        assert len(prepared.dataset) == len(prepared.pixels) == len(prepared.digests) == 58
        assert "cat/0000.png" not in prepared.dataset.names
        assert same_as_one_by_one(prepared, pictures)
        notes = " | ".join(prepared.dataset.notes)
        assert "dog/0005.png: is a WEBP picture, not what its ending .png says" in notes
    assert len(reads) == 60
    with pytest.raises(DataError) as caught:
        prepare(load(pictures), FORM, strict=True)
    assert caught.value.code == "bad-images-strict"
    assert "2 of 60 images cannot be used: cat/0000.png: the JPEG ends" in caught.value.reason
    assert len(reads) == 60


@pytest.mark.parametrize(
    ("counts", "spoiled", "content", "words"),
    [
        ({"cat": 30, "dog": 30}, 7, b"%PDF-1.7", "7 of 60 images cannot be used, more than 10%"),
        ({"cat": 20, "dog": 100}, 6, b"broken", "6 of 20 images of class 'cat' cannot be used, more than 25%"),
        ({"cat": 2, "dog": 60}, 1, b"%PDF-1.7", "class 'cat' keeps 1 of 2 images, at least 2 are needed"),
    ],
)  # fmt: skip
def test_too_many_bad_images(
    tmp_path: Path, cache: Path, counts: dict[str, int], spoiled: int, content: bytes, words: str
) -> None:
    root = class_folders(tmp_path / "pictures", counts)
    spoil(root, spoiled, content=content)
    with pytest.raises(DataError) as caught:
        prepare(load(root), FORM)
    assert caught.value.code == "too-many-bad-images"
    assert words in caught.value.reason
    assert caught.value.reason.count("cat/00") == min(spoiled, 5)
    assert caught.value.reason.endswith("; ...") == (spoiled > 5)
    assert "nothing was changed" in caught.value.hint


def test_names_in_messages_about_bad_images_are_safe_to_print(tmp_path: Path, cache: Path) -> None:
    root = class_folders(tmp_path / "pictures", {"cat": 10, "dog": 10})
    for name in ("\x1b[31m.png", "new\nline.png", os.fsdecode(b"\xff.png")):
        (root / "cat" / name).write_bytes(b"broken")
    with pytest.raises(DataError) as caught:
        prepare(load(root), FORM)
    assert caught.value.reason.isprintable()
    assert "cat/\\x1b[31m.png: is no picture" in caught.value.reason
    (root / "cat" / "new\nline.png").write_bytes(encoded(colourful(), "WEBP"))
    for name in ("\x1b[31m.png", os.fsdecode(b"\xff.png")):
        (root / "cat" / name).write_bytes(encoded(colourful(), "GIF"))
    notes = prepare(load(root), FORM).dataset.notes
    assert "cat/new\\nline.png: is a WEBP picture, not what its ending .png says" in notes
    assert any(
        note.startswith("cat/\\x1b[31m.png: is a GIF picture") and "(and 1 more like it)" in note for note in notes
    )


def test_a_class_without_a_training_image_left(tmp_path: Path, cache: Path) -> None:
    class_folders(tmp_path / "train", {"cat": 2, "dog": 40})
    class_folders(tmp_path / "test", {"cat": 30, "dog": 40})
    for row in range(2):
        (tmp_path / "train" / "cat" / f"{row:04d}.png").write_bytes(b"%PDF-1.7")
    with pytest.raises(DataError, match="class 'cat' keeps no image for training") as caught:
        prepare(load(tmp_path), FORM)
    assert caught.value.code == "too-many-bad-images"


def test_thirty_bad_files_among_three_hundred_good_ones(tmp_path: Path, cache: Path) -> None:
    root = class_folders(tmp_path / "pictures", {"cat": 150, "dog": 150})
    good = jpeg()
    png = encoded(colourful())
    bad = {
        "empty.jpg": b"",
        "byte.jpg": b"\xff",
        "half.jpg": good[: len(good) // 2],
        "header.jpg": good[:100],
        "cut.png": png[: len(png) // 2],
        "sum.png": png[:60] + b"\0" + png[61:],
        "random.jpg": os.urandom(500).replace(b"\xff\xd8", b"xx"),
        **{f"page{k}.jpg": b"<!doctype html><p>not found" for k in range(5)},
        **{f"paper{k}.png": b"%PDF-1.4" for k in range(3)},
        **{f"photo{k}.jpg": b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" for k in range(4)},
        "drawing.svg": b"<svg/>",
        "layers.psd": b"8BPS\0\1",
        "old.tif": encoded(colourful(), "TIFF"),
    }
    for number, (name, content) in enumerate(bad.items()):
        (root / ("cat", "dog")[number % 2] / name).write_bytes(content)
    os.mkfifo(root / "cat" / "pipe.jpg")
    (root / "cat" / "folder.jpg").mkdir()
    for name, target in (
        ("out.jpg", "/etc/hostname"),
        ("gone.jpg", "gone"),
        ("loop.jpg", "loop.jpg"),
        ("zero.jpg", "/dev/zero"),
        ("up.jpg", ".."),
    ):
        (root / "dog" / name).symlink_to(target)
    before = {path: (path.lstat().st_size, path.lstat().st_mtime_ns) for path in root.rglob("*")}
    prepared = prepare(load(root), FORM)
    assert len(prepared.dataset) == 300
    assert len(prepared.dataset.skipped) == len(bad) + 7 == 29
    assert all(bad.reason for bad in prepared.dataset.skipped)
    assert {path: (path.lstat().st_size, path.lstat().st_mtime_ns) for path in root.rglob("*")} == before


def test_a_picture_gone_after_the_listing_is_named(pictures: Path, cache: Path) -> None:
    dataset = load(pictures)
    (pictures / "dog" / "0007.png").unlink()
    with pytest.raises(DataError, match=r"dog/0007\.png: is gone since the folder was listed") as caught:
        prepare(dataset, FORM)
    assert caught.value.code == "image-gone"


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOENT, errno.ESTALE, errno.ENOTCONN])
def test_a_share_that_vanishes_is_the_machines_fault(
    number: int, pictures: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def vanished(path: str) -> bytes:
        if "dog" in path:
            raise OSError(number, os.strerror(number))
        return read_picture(path)

    monkeypatch.setattr(sources, "read_picture", vanished)
    with pytest.raises(MachineError, match="it is the machine, not the pictures") as caught:
        prepare(load(pictures), FORM)
    assert caught.value.code == "pictures-unreachable"
    assert "20 pictures in a row" in caught.value.reason
    assert "dog/0019.png" in caught.value.reason


@pytest.mark.parametrize("leaves", ["nothing", "an empty folder"])
def test_a_share_of_few_pictures_that_vanishes_is_the_machines_fault_too(
    tmp_path: Path, cache: Path, leaves: str
) -> None:
    """Fewer than 20 pictures in a row: it is the source that tells. An unmounted disk leaves an empty folder."""
    source = class_folders(tmp_path / "share", {"cat": 4, "dog": 4})
    listed = load(source)
    source.rename(tmp_path / "away")
    if leaves == "an empty folder":
        source.mkdir()
    with pytest.raises(MachineError, match="the images are gone since they were listed, cat/") as caught:
        prepare(listed, FORM)
    assert (caught.value.code, caught.value.path) == ("pictures-unreachable", str(source))
    with pytest.raises(MachineError, match="none of the 8 images looked at can be read; the first: ") as caught:
        suggest_format(listed)
    assert caught.value.code == "pictures-unreachable"


def test_single_reading_errors_are_left_out_but_not_remembered(
    pictures: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def flaky(path: str) -> bytes:
        if path.endswith("cat/0004.png"):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return read_picture(path)

    with monkeypatch.context() as patch:
        patch.setattr(sources, "read_picture", flaky)
        prepared = prepare(load(pictures), FORM)
    assert [(bad.path, bad.reason) for bad in prepared.dataset.skipped] == [
        ("cat/0004.png", "the system says: Input/output error")
    ]
    assert len(prepare(load(pictures), FORM).dataset) == 60


def test_a_disk_with_too_little_room_is_told_before_anything_is_decoded(
    pictures: Path, cache: Path, reads: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset, form = load(pictures), InputFormat(height=100, width=100, channels=3, resize="fit")
    needed = len(dataset) * 100 * 100 * 3

    class Usage(NamedTuple):
        free: int
        total: int = 10**12

    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(needed - 1))
    with pytest.raises(MachineError) as caught:
        prepare(dataset, form)
    assert caught.value.code == "disk-full" and "CONVOSCOPE_CACHE" in caught.value.hint
    assert reads == [] and not any((cache / "pixels").iterdir())
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(needed))
    assert len(prepare(dataset, form).dataset) == len(dataset)


def test_an_interruption_leaves_nothing_half_made(pictures: Path, cache: Path) -> None:
    def stop(done: int, _: int) -> None:
        if done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare(load(pictures), FORM, progress=stop)
    assert list((cache / "pixels").iterdir()) == []


# --- at large ----------------------------------------------------------------------------------------------------------


def anonymous_megabytes() -> float:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon"):
            return int(line.split()[1]) / 1000
    pytest.skip("this system does not tell anonymous memory")


def test_a_large_array_costs_hardly_any_memory(tmp_path: Path, cache: Path) -> None:
    shape = (10_000, 64, 64, 3)
    images = np.lib.format.open_memmap(tmp_path / "images.npy", "w+", np.uint8, shape)
    images[:, 0, 0, 0] = np.arange(10_000) % 251
    images.flush()
    del images
    np.save(tmp_path / "labels.npy", np.arange(10_000) % 10)
    before = anonymous_megabytes()
    for form in (InputFormat(height=64, width=64, channels=3), InputFormat(height=32, width=32, channels=3)):
        prepared = prepare(load(tmp_path), form)
        assert prepared.pixels.shape == (10_000, form.height, form.width, 3)
        assert anonymous_megabytes() - before < 100
