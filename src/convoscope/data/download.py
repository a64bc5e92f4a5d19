"""Named sets from the internet: `mnist`, `fashion-mnist`, `quickdraw:NAME,NAME`, each file checked before it is used.

Files are in the cache folder under `datasets/NAME/`. Whoever has no network puts them there by hand; the error says
which and where. What counts is a file's unpacked content, so a copy that was packed again is as good as the original.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import math
import os
import shutil
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from urllib.parse import quote, urlsplit

import numpy as np

from ..errors import DataError, MachineError, UsageError, printable
from ..files import machine_error, size_text, write_json
from ..parsing import read_json
from .array_headers import read_npy_header
from .builtin import nearest_first
from .cache import alone, cache_folder

TIMEOUT_SECONDS = 30


@dataclass(frozen=True)
class RemoteFile:
    """A gzip file. `size` and `sha256` are of the file as it is offered, `raw_size` and `raw_sha256` of what is packed
    in it.
    """

    name: str
    size: int
    sha256: str
    raw_size: int
    raw_sha256: str


@dataclass(frozen=True)
class RemoteSet:
    """A set of files: where they are offered (tried in this order) and the page that describes them."""

    page: str
    addresses: tuple[str, ...]
    files: tuple[RemoteFile, ...]


# SHA-256 of the unpacked files: computed from copies of the files; of the packed ones: those that the projects offer
# (their published MD5 sums agree).
SETS = {
    "mnist": RemoteSet(
        page="https://yann.lecun.com/exdb/mnist/",
        addresses=(
            "https://ossci-datasets.s3.amazonaws.com/mnist/",
            "https://storage.googleapis.com/cvdf-datasets/mnist/",
        ),
        files=(
            RemoteFile(
                "train-images-idx3-ubyte.gz",
                9_912_422,
                "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
                47_040_016,
                "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
            ),
            RemoteFile(
                "train-labels-idx1-ubyte.gz",
                28_881,
                "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
                60_008,
                "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
            ),
            RemoteFile(
                "t10k-images-idx3-ubyte.gz",
                1_648_877,
                "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
                7_840_016,
                "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
            ),
            RemoteFile(
                "t10k-labels-idx1-ubyte.gz",
                4_542,
                "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
                10_008,
                "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
            ),
        ),
    ),
    "fashion-mnist": RemoteSet(
        page="https://github.com/zalandoresearch/fashion-mnist",
        addresses=(
            "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
            "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
        ),
        files=(
            RemoteFile(
                "train-images-idx3-ubyte.gz",
                26_421_880,
                "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
                47_040_016,
                "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
            ),
            RemoteFile(
                "train-labels-idx1-ubyte.gz",
                29_515,
                "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
                60_008,
                "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
            ),
            RemoteFile(
                "t10k-images-idx3-ubyte.gz",
                4_422_102,
                "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
                7_840_016,
                "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
            ),
            RemoteFile(
                "t10k-labels-idx1-ubyte.gz",
                5_148,
                "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
                10_008,
                "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
            ),
        ),
    ),
}

SYSTEM_FOLDERS = {"fashion-mnist": Path("/usr/share/datasets/fashion-mnist")}
"""Where a Linux distribution's package puts the files (Debian: dataset-fashion-mnist)."""

QUICKDRAW_PAGE = "https://github.com/googlecreativelab/quickdraw-dataset"
QUICKDRAW_ADDRESS = "https://storage.googleapis.com/quickdraw_dataset/full/numpy_bitmap/"
_CHECKED = "checked.json"

Say = Callable[[str], None]
"""Takes one plain sentence for whoever watches: what is fetched, what could not be checked."""


def is_download(source: str) -> bool:
    """Whether `locate` knows this name."""
    return source in SETS or source.startswith("quickdraw:")


def locate(source: str, *, folder: Path | None = None, say: Say | None = None) -> Path:
    """The folder with the files of `mnist`, `fashion-mnist` or `quickdraw:NAME,NAME`; fetched if they are not there
    yet.

    MNIST and Fashion-MNIST must agree with known SHA-256 sums. Google publishes no sums for the Quick, Draw! bitmaps:
    the first file that arrives whole is trusted, its sum is written down, and `say` gets a sentence about it; from then
    on it must not change. A sum is computed again only when the file's size or time has changed. The folder of a
    `quickdraw:` name holds the classes asked for and nothing else.

    `folder` is the cache folder, None for the usual one; `say` gets a sentence about what is being done.

    Raises:
        UsageError: no such set (`unknown-download`) or no such class of drawings (`unknown-drawing`).
        DataError: a file is there but is not what it should be (`download-differs`); fewer than two classes
            (`one-class`).
        MachineError: a file is not there and cannot be fetched (`download-failed`); the hint says what to put where.
    """
    say = say or (lambda sentence: None)
    root = (folder or cache_folder()) / "datasets"
    if source.startswith("quickdraw:"):
        return _locate_quickdraw(source, root, say)
    if source not in SETS:
        known = nearest_first(source, [*SETS, "quickdraw:NAME,NAME"])
        raise UsageError(source, "no such named set", hint="choose one of " + ", ".join(known), code="unknown-download")
    wanted = SETS[source]
    place = root / source
    checked = _Checked(place)
    system = SYSTEM_FOLDERS.get(source)
    if system and all((system / file.name).is_file() for file in wanted.files):
        for file in wanted.files:
            _check(system / file.name, file, checked)
        return system
    missing = [file for file in wanted.files if not _present(place, file, checked)]
    if not missing:
        return place
    with alone(hashlib.sha256(source.encode()).hexdigest(), folder):
        for file in missing:
            if not _present(place, file, checked):  # another process may have been first
                say(f"fetching {file.name} ({size_text(file.size)}) of {source}")
                fetch(
                    [address + file.name for address in wanted.addresses],
                    place / file.name,
                    file.sha256,
                    lambda: _by_hand(place, wanted),
                )
                _check(place / file.name, file, checked)
    return place


def _by_hand(folder: Path, wanted: RemoteSet) -> str:
    files = ", ".join(f"{file.name} ({file.size:,} bytes)" for file in wanted.files)
    return f"without a network: take {files} from {wanted.page} and put them into {printable(folder)}"


class _Checked:
    """Which files have been checked, by path: their size, time of change and SHA-256. Lost notes only cost time."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / _CHECKED
        self._notes: dict[str, dict[str, object]] = {}
        with contextlib.suppress(OSError, ValueError):
            notes = read_json(self._path)
            if isinstance(notes, dict):
                self._notes = {key: note for key, note in notes.items() if isinstance(note, dict)}

    def sum_of(self, path: Path) -> str | None:
        """The sum once computed, whether or not the file has changed since."""
        value = self._notes.get(str(path), {}).get("sha256")
        return value if isinstance(value, str) else None

    def unchanged(self, path: Path) -> bool:
        """Whether the file is, by size and time, the one that was checked."""
        note, status = self._notes.get(str(path)), path.stat()
        return note is not None and note.get("size") == status.st_size and note.get("time_ns") == status.st_mtime_ns

    def note(self, path: Path, sha256: str) -> None:
        status = path.stat()
        self._notes[str(path)] = {"size": status.st_size, "time_ns": status.st_mtime_ns, "sha256": sha256}
        with contextlib.suppress(MachineError, OSError):  # a cache that cannot be written to: check again next time
            self._path.parent.mkdir(parents=True, exist_ok=True)
            write_json(self._path, self._notes)


def _present(folder: Path, file: RemoteFile, checked: _Checked) -> bool:
    """Whether the file is there, packed or not, and is right.

    Raises:
        DataError: it is there and is not right.
    """
    for path in (folder / file.name, folder / file.name.removesuffix(".gz")):
        if path.is_file():
            _check(path, file, checked)
            return True
    return False


def _check(path: Path, file: RemoteFile, checked: _Checked) -> None:
    if checked.unchanged(path) and checked.sum_of(path) == file.raw_sha256:
        return
    size, found = _unpacked_sum(path, file.raw_size)
    if found != file.raw_sha256:
        unpacked = "unpacked " if path.suffix == ".gz" else ""
        amount = f"{size:,}" if size <= file.raw_size else f"more than {file.raw_size:,}"
        raise DataError(
            path,
            f"is not the file it should be: expected {unpacked}{file.raw_size:,} bytes "
            f"with SHA-256 {file.raw_sha256[:12]}..., found {amount} bytes with {found[:12]}...",
            hint="remove the file, and it is fetched again",
            code="download-differs",
        )
    checked.note(path, found)


def _unpacked_sum(path: Path, expected_size: int) -> tuple[int, str]:
    """Size and SHA-256 of the (unpacked) content; reading stops soon after `expected_size`."""
    hasher, size = hashlib.sha256(), 0
    try:
        with gzip.open(path, "rb") if path.suffix == ".gz" else open(path, "rb") as content:
            while size <= expected_size and (block := content.read(1 << 20)):
                hasher.update(block)
                size += len(block)
    except (EOFError, zlib.error, gzip.BadGzipFile):
        return size, "a damaged gzip file"
    except OSError as error:
        raise machine_error(path, error) from error
    return size, hasher.hexdigest()


def fetch(addresses: Sequence[str], target: Path, sha256: str | None, by_hand: Callable[[], str]) -> None:
    """Fetch one file from the first address that gives it. It appears under its name only when whole.

    Args:
        addresses: where it is offered.
        target: what it becomes.
        sha256: of the file, or None where nobody says.
        by_hand: gives the hint that says what to put where without a network.

    Raises:
        MachineError: no address gives it (`download-failed`), or the disk refuses it.
    """
    import pooch
    import requests

    pooch.get_logger().setLevel("ERROR")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise machine_error(target.parent, error) from error
    reasons = []
    for address in addresses:
        host = urlsplit(address).hostname
        try:
            pooch.retrieve(
                quote(address, safe=":/%"),
                known_hash=f"sha256:{sha256}" if sha256 else None,
                fname=target.name,
                path=target.parent,
                downloader=pooch.HTTPDownloader(timeout=TIMEOUT_SECONDS),
            )
            return
        except requests.exceptions.HTTPError as error:
            reasons.append(
                f"{host} answers {error.response.status_code if error.response is not None else 'with an error'}"
            )
        except requests.exceptions.RequestException:
            reasons.append(f"{host} cannot be reached")
        except ValueError:  # pooch: the sum differs
            reasons.append(f"{host} sent something else (a network's login page?)")
        except OSError as error:
            raise machine_error(target, error) from error
    raise MachineError(target.name, "cannot be fetched: " + "; ".join(reasons), hint=by_hand(), code="download-failed")


# --- Quick, Draw! -----------------------------------------------------------------------------------------------------


@cache
def quickdraw_classes() -> tuple[str, ...]:
    """The 345 class names of Quick, Draw!."""
    return tuple((resources.files(__package__) / "builtin" / "quickdraw-classes.txt").read_text("utf-8").splitlines())


def _locate_quickdraw(source: str, root: Path, say: Say) -> Path:
    by_fold = {name.casefold(): name for name in quickdraw_classes()}
    names = set()
    for asked in source.removeprefix("quickdraw:").split(","):
        name = by_fold.get(asked.strip().casefold())
        if name is None:
            near = ", ".join(nearest_first(asked.strip(), quickdraw_classes())[:5])
            raise UsageError(
                source,
                f"{asked.strip()!r} is not a class of Quick, Draw!",
                hint=f"for instance {near}",
                code="unknown-drawing",
            )
        names.add(name)
    if len(names) < 2:
        raise DataError(
            source,
            "a classifier needs at least two classes; received one",
            hint="quickdraw:apple,banana",
            code="one-class",
        )
    folder = root / "quickdraw"
    checked = _Checked(folder)
    files = [folder / f"{name}.npy" for name in sorted(names)]
    for file in files:
        if not file.is_file():
            say(f"fetching {file.name} (about 100 MB) from Google's Quick, Draw! bitmaps")
            fetch([QUICKDRAW_ADDRESS + file.name], file, None, lambda: _quickdraw_by_hand(folder, files))
            if fault := _bitmap_fault(file):
                file.unlink()
                raise MachineError(
                    file.name,
                    f"what was fetched {fault}",
                    hint=_quickdraw_by_hand(folder, files),
                    code="download-failed",
                )
        _check_bitmaps(file, checked, say)
    return _gathered(files, root / "quickdraw-choices")


def _quickdraw_by_hand(folder: Path, files: Sequence[Path]) -> str:
    wanted = ", ".join(file.name for file in files)
    return (
        f"without a network: take {wanted} (the numpy bitmaps, 28x28, about 100 MB each) from {QUICKDRAW_PAGE} "
        f"and put them into {printable(folder)}"
    )


def _check_bitmaps(path: Path, checked: _Checked, say: Say) -> None:
    """The file must be whole by its own header, and the same as when it was first used."""
    if checked.unchanged(path):
        return
    reason = _bitmap_fault(path)
    if reason:
        raise DataError(path, reason, hint="remove the file, and it is fetched again", code="download-differs")
    with open(path, "rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    before = checked.sum_of(path)
    if before is None:
        say(f"{path.name}: Google publishes no checksum; trusted at first use, SHA-256 {found[:12]}... is written down")
    elif before != found:
        raise DataError(
            path,
            f"has changed since its first use: SHA-256 was {before[:12]}..., is {found[:12]}...",
            hint=f"if that was you, remove {printable(path.parent / _CHECKED)}",
            code="download-differs",
        )
    checked.note(path, found)


def _bitmap_fault(path: Path) -> str:
    """Why this is not an array of 28x28 drawings, or nothing."""
    try:
        header = read_npy_header(path)
        size = path.stat().st_size
    except DataError as error:
        if error.code == "array-short":
            return error.reason
        return "is not a NumPy file of numbers (a network's login page?)"
    except OSError as error:
        raise machine_error(path, error) from error
    shape, dtype, expected = header.shape, header.dtype, header.offset + header.size
    if dtype != np.uint8 or not shape or shape[0] < 1 or math.prod(shape[1:]) != 28 * 28:
        return f"does not hold drawings of 28x28 pixels: {dtype} {shape}"
    return "" if size == expected else f"is not whole: {expected:,} bytes were expected, {size:,} are there"


def _gathered(files: Sequence[Path], place: Path) -> Path:
    """A folder with these files and no others: hard links, or copies where the file system knows no links."""
    folder = place / hashlib.sha256("\0".join(file.name for file in files).encode()).hexdigest()[:16]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for file in files:
            link = folder / file.name
            if link.exists() and link.samefile(file):
                continue
            temporary = folder / f".{file.name}.{os.getpid()}.tmp"
            try:
                temporary.hardlink_to(file)
            except OSError:
                shutil.copy2(file, temporary)
            temporary.replace(link)
    except OSError as error:
        raise machine_error(folder, error) from error
    return folder
