"""Named downloads, against a server on this machine: nothing here reaches the internet."""

import dataclasses
import gzip
import hashlib
import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from convoscope.data import download
from convoscope.data.download import RemoteFile, RemoteSet, is_download, locate, quickdraw_classes
from convoscope.errors import DataError, MachineError, UsageError
from tests.support.server import Server, serving


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as offered:
        yield offered


RAW = b"\0\0\x08\x01" + bytes(range(200))
PACKED = gzip.compress(RAW, mtime=0)


@pytest.fixture
def small(server: Server, monkeypatch: pytest.MonkeyPatch) -> Server:
    """A set `small` of one file on the server."""
    file = RemoteFile(
        "x.gz", len(PACKED), hashlib.sha256(PACKED).hexdigest(), len(RAW), hashlib.sha256(RAW).hexdigest()
    )
    monkeypatch.setitem(download.SETS, "small", RemoteSet("https://example.org/small", (server.address,), (file,)))
    server.files["x.gz"] = PACKED
    return server


def left_over(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.rglob("*") if file.is_file() and file.parent.name != "locks")


def test_a_set_is_fetched_once(small: Server, tmp_path: Path) -> None:
    said: list[str] = []
    folder = locate("small", folder=tmp_path, say=said.append)
    assert folder == tmp_path / "datasets" / "small"
    assert (folder / "x.gz").read_bytes() == PACKED
    assert said == [f"fetching x.gz ({len(PACKED)} B) of small"]
    assert locate("small", folder=tmp_path, say=said.append) == folder
    assert small.asked == ["GET /x.gz"] and len(said) == 1
    assert left_over(tmp_path) == ["checked.json", "x.gz"]


def test_an_answer_that_differs_is_thrown_away(small: Server, tmp_path: Path) -> None:
    small.files["x.gz"] = b"<html>Please log in</html>"
    with pytest.raises(MachineError) as caught:
        locate("small", folder=tmp_path)
    assert caught.value.code == "download-failed"
    assert "127.0.0.1 sent something else (a network's login page?)" in caught.value.reason
    assert left_over(tmp_path) == []


def test_half_a_download_leaves_nothing(small: Server, tmp_path: Path) -> None:
    small.cut_at = 20
    with pytest.raises(MachineError) as caught:
        locate("small", folder=tmp_path)
    assert caught.value.code == "download-failed"
    assert left_over(tmp_path) == []
    small.cut_at = None
    locate("small", folder=tmp_path)


def test_the_second_address_is_tried(small: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = download.SETS["small"]
    monkeypatch.setitem(
        download.SETS, "small", dataclasses.replace(wanted, addresses=(small.address + "gone/", small.address))
    )
    locate("small", folder=tmp_path)
    assert small.asked == ["GET /gone/x.gz", "GET /x.gz"]


def test_without_a_network_the_message_says_what_to_put_where(
    small: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = download.SETS["small"]
    monkeypatch.setitem(download.SETS, "small", dataclasses.replace(wanted, addresses=("http://127.0.0.1:9/",)))
    with pytest.raises(MachineError) as caught:
        locate("small", folder=tmp_path)
    assert caught.value.code == "download-failed"
    assert caught.value.reason == "cannot be fetched: 127.0.0.1 cannot be reached"
    place = tmp_path / "datasets" / "small"
    assert (
        caught.value.hint
        == f"without a network: take x.gz ({len(PACKED)} bytes) from https://example.org/small and put them into {place}"
    )
    for name, content in (("x.gz", gzip.compress(RAW, 1)), ("x", RAW)):
        (place / name).write_bytes(content)
        assert locate("small", folder=tmp_path) == place
        (place / name).unlink()


@pytest.mark.parametrize(
    "content",
    [PACKED[:30], b"nothing packed", gzip.compress(RAW + b"!", mtime=0), gzip.compress(b"\0" * len(RAW), mtime=0)],
)
def test_a_wrong_file_put_there_by_hand_is_named_and_kept(small: Server, tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "datasets" / "small" / "x.gz"
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    with pytest.raises(DataError, match="is not the file it should be: expected unpacked 204 bytes") as caught:
        locate("small", folder=tmp_path)
    assert caught.value.code == "download-differs"
    assert path.read_bytes() == content and small.asked == []


def test_a_file_is_checked_again_when_it_has_changed(small: Server, tmp_path: Path) -> None:
    folder = locate("small", folder=tmp_path)
    (folder / "x.gz").write_bytes(gzip.compress(RAW[::-1]))
    with pytest.raises(DataError, match="is not the file it should be"):
        locate("small", folder=tmp_path)


def test_a_damaged_record_of_checks_only_costs_time(small: Server, tmp_path: Path) -> None:
    folder = locate("small", folder=tmp_path)
    for content in ("", "[1]", '{"a": 3}', "\x00"):
        (folder / "checked.json").write_text(content)
        assert locate("small", folder=tmp_path) == folder


def test_the_systems_own_folder_is_used(small: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    system = tmp_path / "system"
    system.mkdir()
    (system / "x.gz").write_bytes(gzip.compress(RAW, 9))
    monkeypatch.setitem(download.SYSTEM_FOLDERS, "small", system)
    assert locate("small", folder=tmp_path) == system
    assert small.asked == []


def test_an_unknown_set_is_answered_with_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such named set") as caught:
        locate("fashion-minst", folder=tmp_path)
    assert caught.value.code == "unknown-download"
    assert caught.value.hint == "choose one of fashion-mnist, mnist, quickdraw:NAME,NAME"
    assert is_download("mnist") and is_download("quickdraw:apple") and not is_download("photos")


@pytest.mark.shared_data
@pytest.mark.parametrize("name", ["mnist", "fashion-mnist"])
def test_the_sums_are_those_of_the_real_files(
    shared_data: Path, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "SYSTEM_FOLDERS", {})
    place = tmp_path / "datasets" / name
    place.mkdir(parents=True)
    for file in download.SETS[name].files:
        (place / file.name).symlink_to(shared_data / name / file.name)
    assert locate(name, folder=tmp_path) == place


# --- Quick, Draw! ------------------------------------------------------------------------------------------------------


def bitmaps(count: int, fill: int = 7) -> bytes:
    content = io.BytesIO()
    np.save(content, np.full((count, 784), fill, np.uint8))
    return content.getvalue()


@pytest.fixture
def drawings(server: Server, monkeypatch: pytest.MonkeyPatch) -> Server:
    monkeypatch.setattr(download, "QUICKDRAW_ADDRESS", server.address)
    server.files |= {"apple.npy": bitmaps(3), "banana.npy": bitmaps(4), "ice%20cream.npy": bitmaps(5)}
    return server


def test_classes_of_drawings_are_fetched_and_trusted_at_first_use(drawings: Server, tmp_path: Path) -> None:
    said: list[str] = []
    folder = locate("quickdraw:Ice Cream, apple", folder=tmp_path, say=said.append)
    assert sorted(file.name for file in folder.iterdir()) == ["apple.npy", "ice cream.npy"]
    assert np.load(folder / "ice cream.npy", allow_pickle=False).shape == (5, 784)
    digest = hashlib.sha256(bitmaps(3)).hexdigest()[:12]
    assert f"apple.npy: Google publishes no checksum; trusted at first use, SHA-256 {digest}... is written down" in said
    other = locate("quickdraw:apple,banana", folder=tmp_path)
    assert sorted(file.name for file in other.iterdir()) == ["apple.npy", "banana.npy"]
    assert sorted(drawings.asked) == ["GET /apple.npy", "GET /banana.npy", "GET /ice%20cream.npy"]
    assert locate("quickdraw:apple,ice cream", folder=tmp_path) == folder


def test_drawings_that_change_after_their_first_use_are_refused(drawings: Server, tmp_path: Path) -> None:
    locate("quickdraw:apple,banana", folder=tmp_path)
    (tmp_path / "datasets" / "quickdraw" / "apple.npy").write_bytes(bitmaps(3, fill=8))
    with pytest.raises(DataError, match="has changed since its first use: SHA-256 was") as caught:
        locate("quickdraw:apple,banana", folder=tmp_path)
    assert caught.value.code == "download-differs"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (bitmaps(3)[:-1], "ends early: its header says 3 x 784 values of uint8"),
        (b"<html>", "is not a NumPy file"),
        (bitmaps(3).replace(b"|u1", b"|i1"), "does not hold drawings of 28x28 pixels: int8 (3, 784)"),
    ],
)
def test_what_is_no_file_of_drawings_is_named(drawings: Server, tmp_path: Path, content: bytes, reason: str) -> None:
    place = tmp_path / "datasets" / "quickdraw"
    place.mkdir(parents=True)
    (place / "apple.npy").write_bytes(content)
    with pytest.raises(DataError) as caught:
        locate("quickdraw:apple,banana", folder=tmp_path)
    assert caught.value.code == "download-differs" and reason in caught.value.reason


def test_drawings_without_a_network(drawings: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "QUICKDRAW_ADDRESS", "http://127.0.0.1:9/")
    with pytest.raises(MachineError, match="cannot be fetched") as caught:
        locate("quickdraw:apple,banana", folder=tmp_path)
    place = tmp_path / "datasets" / "quickdraw"
    assert caught.value.code == "download-failed"
    assert "take apple.npy, banana.npy (the numpy bitmaps" in caught.value.hint and str(place) in caught.value.hint
    for name in ("apple", "banana"):
        (place / f"{name}.npy").write_bytes(bitmaps(2))
    assert len(list(locate("quickdraw:apple,banana", folder=tmp_path).iterdir())) == 2


def test_fetched_drawings_that_are_none_are_thrown_away(drawings: Server, tmp_path: Path) -> None:
    drawings.files["apple.npy"] = b"<html>Please log in</html>"
    with pytest.raises(MachineError, match="what was fetched is not a NumPy file") as caught:
        locate("quickdraw:apple,banana", folder=tmp_path)
    assert caught.value.code == "download-failed"
    assert left_over(tmp_path) == []


def test_wrong_names_of_drawings(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"'aple' is not a class of Quick, Draw!") as caught:
        locate("quickdraw:banana,aple", folder=tmp_path)
    assert caught.value.code == "unknown-drawing" and caught.value.hint.startswith("for instance apple, ")
    with pytest.raises(UsageError, match="is not a class"):
        locate("quickdraw:../../etc/passwd,apple", folder=tmp_path)
    with pytest.raises(DataError, match="at least two classes") as one:
        locate("quickdraw:apple,Apple", folder=tmp_path)
    assert one.value.code == "one-class"
    assert len(quickdraw_classes()) == 345
