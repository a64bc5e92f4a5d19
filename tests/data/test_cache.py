"""The cache folder: whatever has happened to what lies there, it is noticed, removed and made anew, and what it is for goes on."""

import contextlib
import errno
import os
import shutil
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from convoscope.data import InputFormat, cache, load, prepare, sources, store
from convoscope.data.cache import cache_folder
from tests.support.pictures import class_folders, settled

FORM = InputFormat(height=8, width=8, channels=3, resize="stretch")
_WORDS = "what was kept there is damaged; it is made anew"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CONVOSCOPE_CACHE", str(tmp_path / "cache"))
    return cache_folder()


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    return settled(class_folders(tmp_path / "pictures", {"cat": 3, "dog": 3}))


@pytest.fixture
def packed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Arrays that are unpacked into the cache."""
    monkeypatch.setattr(sources, "MAX_IN_MEMORY", 100)
    images = np.random.default_rng(0).integers(0, 256, (6, 8, 8, 3), np.uint8)
    np.savez_compressed(tmp_path / "packed.npz", images=images, labels=np.arange(6) % 2)
    return tmp_path / "packed.npz"


def opened(packed: Path) -> bytes:
    return sources.ArrayFile(packed, "images.npy", (6, 8, 8, 3), np.dtype(np.uint8), 128, True).open().tobytes()


@contextlib.contextmanager
def heard() -> Iterator[list[str]]:
    said: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield said
    said += [str(warning.message) for warning in caught]


def flipped(file: Path) -> None:
    """One bit in the middle; times and size as before."""
    status, content = file.stat(), bytearray(file.read_bytes())
    content[len(content) // 2] ^= 4
    file.write_bytes(content)
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))


def emptied(file: Path) -> None:
    """Zeros, as after a power cut."""
    size = file.stat().st_size
    os.truncate(file, 0)
    os.truncate(file, size)


def with_folder(file: Path) -> None:
    file.unlink()
    file.mkdir()
    (file / "something").touch()


def lengthened(file: Path) -> None:
    file.write_bytes(file.read_bytes() + b"\0")


def with_pipe(file: Path) -> None:
    file.unlink()
    os.mkfifo(file)


DAMAGES: list[Callable[[Path], None]] = [
    flipped,
    emptied,
    lambda file: os.truncate(file, 0),
    lambda file: os.truncate(file, file.stat().st_size - 1),
    lengthened,
    Path.unlink,
    with_folder,
    with_pipe,
]


@pytest.mark.parametrize("damage", DAMAGES, ids=["flipped", "zeros", "empty", "cut", "longer", "gone", "a folder", "a pipe"])  # fmt: skip
@pytest.mark.parametrize(("kind", "name"), [("pixels", "images"), ("pixels", "lock"), ("rows", "findings.npz"), ("rows", "lock"), ("unpacked", "values"), ("unpacked", "lock")])  # fmt: skip
def test_a_damaged_file_is_noticed_and_made_anew(
    folder: Path, pictures: Path, packed: Path, kind: str, name: str, damage: Callable[[Path], None]
) -> None:
    def read() -> bytes:
        return opened(packed) if kind == "unpacked" else prepare(load(pictures), FORM).pixels.tobytes()

    expected = read()
    (entry,) = (folder / kind).iterdir()
    damage(entry / name)
    with heard() as said:
        assert read() == expected
    assert said == [f"{entry}: {_WORDS}"]
    assert not list((folder / kind).glob(".*"))
    with heard() as said:
        assert read() == expected
    assert said == []


@pytest.mark.parametrize("kind", ["pixels", "rows"])
@pytest.mark.parametrize("what", ["a file", "an empty folder", "a link to nothing"])
def test_what_lies_in_the_place_of_an_entry_goes(folder: Path, pictures: Path, kind: str, what: str) -> None:
    expected = prepare(load(pictures), FORM).pixels.tobytes()
    (entry,) = (folder / kind).iterdir()
    shutil.rmtree(entry)
    if what == "a file":
        entry.write_text("something")
    elif what == "an empty folder":
        entry.mkdir()
    else:
        entry.symlink_to("nowhere")
    with heard():
        assert prepare(load(pictures), FORM).pixels.tobytes() == expected
    assert (entry / "lock").is_file()


@pytest.mark.parametrize("name", ["pixels", "rows", "locks"])
def test_a_file_in_the_place_of_a_folder_of_entries_goes(folder: Path, pictures: Path, name: str) -> None:
    expected = prepare(load(pictures), FORM).pixels.tobytes()
    shutil.rmtree(folder / name)
    (folder / name).write_text("something")
    shutil.rmtree(folder / "rows", ignore_errors=True)  # else nothing is built
    assert prepare(load(pictures), FORM).pixels.tobytes() == expected
    assert (folder / name).is_dir()


def test_a_folder_in_the_place_of_a_lock_goes(folder: Path, pictures: Path) -> None:
    for number in range(256):
        (folder / "locks" / f"{number:02x}" / "something").mkdir(parents=True)
    assert len(prepare(load(pictures), FORM).pixels) == 6


@pytest.mark.parametrize("kind", ["pixels", "rows", "unpacked"])
def test_what_cannot_be_removed_is_done_without(
    folder: Path, pictures: Path, packed: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read() -> bytes:
        return opened(packed) if kind == "unpacked" else prepare(load(pictures), FORM).pixels.tobytes()

    expected = read()
    for entry in (folder / kind).iterdir():
        for file in entry.iterdir():
            if file.name != "lock":
                flipped(file)

    def refuse(path: Path) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM), str(path))

    monkeypatch.setattr(cache, "_take_away", refuse)
    with heard() as said:
        assert read() == expected
    assert said[0].endswith("damaged, and cannot be removed (Operation not permitted); going on without it")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
@pytest.mark.parametrize("name", ["", "images", "lock"])
def test_what_may_not_be_read_is_made_anew(folder: Path, pictures: Path, name: str) -> None:
    expected = prepare(load(pictures), FORM).pixels.tobytes()
    (entry,) = (folder / "pixels").iterdir()
    (entry / name).chmod(0)
    with heard() as said:
        assert prepare(load(pictures), FORM).pixels.tobytes() == expected
    assert said == [f"{entry}: {_WORDS}"]


def test_entries_without_a_lock_file_are_tidied_away_in_time(folder: Path, pictures: Path) -> None:
    prepare(load(pictures), FORM)
    old, new = folder / "rows" / "old", folder / "rows" / "new"
    for place in (old, new):
        place.mkdir()
    os.utime(old, (0, 0))
    cache.tidy()
    assert not old.exists() and new.exists()  # the new one may be in the making


def test_findings_that_do_not_fit_are_not_used(folder: Path, pictures: Path) -> None:
    """Whole by their checksums, but of another number of images."""
    expected = prepare(load(pictures), FORM).pixels.tobytes()
    (entry,) = (folder / "rows").iterdir()
    shutil.rmtree(entry)
    store._remember(entry.name, store._Findings(np.zeros((5, 16), np.uint8), pixels_key="ab"), folder)
    with heard() as said:
        assert prepare(load(pictures), FORM).pixels.tobytes() == expected
    assert said == [f"{entry}: {_WORDS}"]


KILLED = """
import os, signal, sys
from pathlib import Path
from convoscope.data import InputFormat, load, prepare

form, source, folder = InputFormat(height=8, width=8, channels=3, resize="stretch"), sys.argv[1], Path(sys.argv[2])
expected = prepare(load(source), form, cache=folder / "whole").pixels.tobytes()


def dying(original, left):
    def call(*arguments, **options):
        left[0] -= 1
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return original(*arguments, **options)

    return call


for number in range(1, 100):
    cache = folder / str(number)
    child = os.fork()
    if child == 0:
        left = [number]
        for name in ("write", "fsync", "rename", "mkdir", "pread"):
            setattr(os, name, dying(getattr(os, name), left))
        prepare(load(source), form, cache=cache)
        os._exit(0)
    if os.waitpid(child, 0)[1] == 0:
        break
    entries = [path for kind in ("pixels", "rows") for path in (cache / kind).glob("[!.]*")]
    assert prepare(load(source), form, cache=cache).pixels.tobytes() == expected, number
    assert all(path.exists() for path in entries), number  # what had its name was whole
    assert not list((cache / "pixels").glob(".*")), number
print(number - 1)
"""


def test_killed_at_any_moment_of_writing_it_leaves_nothing_that_is_believed(folder: Path, pictures: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", KILLED, str(pictures), str(folder)], capture_output=True, text=True, check=False
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) >= 15
