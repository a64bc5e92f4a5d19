"""The features of images: what a front makes of them, computed once and kept.

The store is an entry of the cache folder for each front, preparation of images and arithmetic. Two files grow side by side: `vectors`,
float32 `(n, D)`, and `names`, for each vector 16 bytes that name the image (and the view of it) and 4 that check the vector. A batch's
vectors are on the disk before its names are, so a kill costs one batch at most; what is torn is cut off by the next start.
"""

from __future__ import annotations

import contextlib
import copy
import hashlib
import math
import os
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from .. import data, models
from ..data import Prepared
from ..errors import ModelFileError
from ..files import machine_error
from .augment import augment
from .front import Front
from .recipe import Recipe

Precision = Literal["float32", "bfloat16"]

_PRECISIONS: tuple[Precision, ...] = ("float32", "bfloat16")
_RECORD = np.dtype([("name", "V16"), ("check", "<u4")])
_BATCH = 32
_PROBE = 8
"""Images on which the ways of computing are compared and timed."""
_SMALL = 0.02
"""Seconds in which these go through a front so small that nothing needs to be tried."""
_WORTH = 1.15
"""How much faster an arithmetic must be before it is preferred to plain float32."""
_SAME = 0.99999
"""The least cosine of an image's features where only the order of operations changes."""
_CLOSE = 0.995
"""The least cosine between an image's features in bfloat16 and in float32. With the ImageNet front it is 0.997 to 0.9999, 0.9993 in the mean;
from a photograph of a cat or a dog to its nearest among 1,400 the distance 1 - cosine is 0.19 and more for 99 in 100. So what rounding
moves is a fiftieth of what tells two images apart. Below it a front's numbers do not suit bfloat16."""


@dataclass(frozen=True, kw_only=True)
class Way:
    """How features are computed.

    Attributes:
        precision: the arithmetic.
        folded: whether the norms are multiplied into the convolutions before them.
        reason: in words, with the figures of the probe.
    """

    precision: Precision
    folded: bool
    reason: str = field(default="", compare=False)

    @property
    def words(self) -> str:
        """For people: `bfloat16, norms folded`."""
        return self.precision + (", norms folded" if self.folded else "")


class Features:
    """Gives the features of images for one front: from the store, or computed and put there.

    What a head learns from may be quick, what is measured is exact: training images go through the front in the quickest arithmetic that
    agrees, validation and test images in float32, as a run's network answers later.

    Attributes:
        front: the network.
        width: D, how many there are of an image.
        computed: how many different ones were computed by this object.
        found: how many others it was asked for, which the store had.
    """

    def __init__(self, front: Front, *, device: str = "cpu", precision: Precision | Literal["auto"] = "auto") -> None:
        """Make ready; nothing is built yet.

        Args:
            front: the network.
            device: where to compute.
            precision: of the training images; `auto`: the one in which most are known already, else what a probe finds.
        """
        self.width = front.width
        self.front = front
        self._made: set[tuple[Way, bytes]] = set()
        self._found: set[tuple[Way, bytes]] = set()
        self._device = device
        self._precision = precision
        self._ways: dict[bool, Way] = {}  # by `exact`
        self._networks: dict[Way, nn.Module] = {}

    @property
    def computed(self) -> int:
        return len(self._made)

    @property
    def found(self) -> int:
        return len(self._found)

    @property
    def way(self) -> Way:
        """How training images' features are computed, known once some were asked for."""
        return self._ways[False]

    def of(
        self,
        prepared: Prepared,
        rows: NDArray[np.int64],
        *,
        exact: bool = False,
        views: Recipe | None = None,
        view: int = 0,
        progress: Callable[[int, int], None] | None = None,
    ) -> NDArray[np.float32]:
        """The features of these rows of prepared images: float32 `(len(rows), D)`.

        Args:
            prepared: images in the front's form.
            rows: which of them.
            exact: in float32.
            views: how a view differs from the image; None: the images as they are.
            view: the number of the view, from 1: it and the image's content decide the view.
            progress: told how many of them are done.

        Raises:
            MachineError: the cache folder cannot be used, or its disk is full.
            ModelFileError: the front's numbers are not finite (`front-not-finite`).
        """
        names = [_name(prepared.digests[int(row)], views, view) for row in rows]
        if exact not in self._ways:
            known = self._known(names, exact)
            if known is not None:
                self._ways[exact] = known
            else:
                quick, precise = self._probe(self._images(prepared, rows[:_PROBE], None, 0))
                self._ways = {False: quick, True: precise} | self._ways
        way = self._ways[exact]
        with _Store.opened(self._key(way), self.width) as store:
            missing = [
                position
                for name, position in dict(zip(names, range(len(names)), strict=True)).items()
                if name not in store
            ]
            done = len(names) - len(missing)
            if progress is not None:
                progress(done, len(names))
            for begin in range(0, len(missing), _BATCH):
                chosen = np.array(missing[begin : begin + _BATCH])
                vectors = self._compute(self._images(prepared, rows[chosen], views, view), way)
                made = [names[position] for position in chosen.tolist()]
                store.append(made, vectors)
                self._made |= {(way, name) for name in made}
                done += len(chosen)
                if progress is not None:
                    progress(done, len(names))
            self._found |= {(way, name) for name in names} - self._made
            return store.take(names)

    def _images(self, prepared: Prepared, rows: NDArray[np.int64], views: Recipe | None, view: int) -> Tensor:
        """A batch as the front takes it: float32 `(n, C, H, W)`, normalised."""
        pixels = torch.from_numpy(np.take(prepared.pixels, rows, axis=0))
        if views is None:
            images = pixels.permute(0, 3, 1, 2).float()
        else:
            numbers = np.array([int(prepared.digests[int(row)][:15], 16) for row in rows], np.int64)
            images = augment(pixels, numbers, seed=0, epoch=view, recipe=views)
        return self.front.scaling(images)

    def _compute(self, images: Tensor, way: Way) -> NDArray[np.float32]:
        network = self._network(way, images[:1])
        # Always a whole batch: another number of images may be computed in another order, and an image's features shall be its own.
        count = len(images)
        whole = images if count == _BATCH else images[torch.arange(_BATCH) % count]
        vectors = _run(network, whole.to(self._device), way.precision)[:count]
        broken = count - int(np.isfinite(vectors).all(axis=1).sum())
        if broken:
            raise ModelFileError(
                self.front.name,
                f"the front gives numbers that are not finite for {broken} of {count} images",
                hint="its weights are damaged, or its training went astray",
                code="front-not-finite",
            )
        return vectors

    def _network(self, way: Way, image: Tensor) -> nn.Module:
        if way not in self._networks:
            self._networks[way] = _made(self.front, way, image, self._device)
        return self._networks[way]

    def _key(self, way: Way) -> str:
        front, kind = self.front, torch.device(self._device).type
        content = f"features 1 {front.digest} {front.form} {front.scaling} {way.precision} {way.folded} {kind} {torch.__version__}"
        return hashlib.sha256(content.encode()).hexdigest()

    def _known(self, names: Sequence[bytes], exact: bool) -> Way | None:
        """The way in which most of these were computed before."""
        best: tuple[int, Way] | None = None
        for precision in ("float32",) if exact else _PRECISIONS if self._precision == "auto" else (self._precision,):
            for folded in (True, False):
                way = Way(
                    precision=precision, folded=folded, reason=f"features in {precision}, as those that were kept"
                )
                found = _Store.count(self._key(way), names)
                if found and (best is None or found > best[0]):
                    best = found, way
        return best[1] if best else None

    def _probe(self, images: Tensor) -> tuple[Way, Way]:
        """The quickest way that agrees and the quickest in float32, tried on real images."""
        plain = Way(precision="float32", folded=False)
        reference, seconds = _tried(self._network(plain, images[:1]), images, "float32", self._device)
        told = [f"{plain.words} {len(images) / seconds:,.0f}"]
        quickest = {"float32": (seconds, plain)}
        for precision in _PRECISIONS if seconds >= _SMALL else ():
            for folded in (True, False):
                way = Way(precision=precision, folded=folded)
                if way == plain:
                    continue
                try:
                    vectors, taken = _tried(self._network(way, images[:1]), images, precision, self._device)
                except (RuntimeError, NotImplementedError):
                    continue  # an operation that this arithmetic does not have
                cosine = float(_cosines(vectors, reference).min())
                told.append(f"{way.words} {len(images) / taken:,.0f} (least cosine {cosine:.5f})")
                if not cosine >= (_SAME if precision == "float32" else _CLOSE):  # also where it is not a number
                    continue  # folding rests on the order of execution, seen once; without it then
                if precision not in quickest or taken < quickest[precision][0]:
                    quickest[precision] = taken, way
                break
        (seconds, exact), (taken, other) = quickest["float32"], quickest.get("bfloat16", (math.inf, plain))
        wanted = self._precision == "bfloat16" and "bfloat16" in quickest
        quick = other if wanted or (self._precision == "auto" and taken * _WORTH < seconds) else exact
        self._networks = {way: network for way, network in self._networks.items() if way in (quick, exact)}
        reason = f"features in {quick.words}; images a second: {'; '.join(told)}"
        return replace(quick, reason=reason), exact


def _name(digest: str, views: Recipe | None, view: int) -> bytes:
    """16 bytes for an image or a view of it."""
    if views is None:
        return bytes.fromhex(digest)
    return hashlib.sha256(f"{digest} {view} {views.model_dump_json()}".encode()).digest()[:16]


def _cosines(one: NDArray[np.float32], two: NDArray[np.float32]) -> Tensor:
    return torch.nn.functional.cosine_similarity(torch.from_numpy(one), torch.from_numpy(two), dim=1)


def _made(front: Front, way: Way, image: Tensor, device: str) -> nn.Module:
    network = front.without_head()
    models.pool_first(network)
    if way.folded:
        network = fold_norms(network, image)
    network = network.to(device).to(memory_format=torch.channels_last)
    return network.bfloat16() if way.precision == "bfloat16" else network


def _run(network: nn.Module, images: Tensor, precision: Precision) -> NDArray[np.float32]:
    batch = images.contiguous(memory_format=torch.channels_last)
    with torch.inference_mode():
        vectors: NDArray[np.float32] = (
            network(batch.bfloat16() if precision == "bfloat16" else batch).float().cpu().numpy()
        )
    return vectors


def _tried(network: nn.Module, images: Tensor, precision: Precision, device: str) -> tuple[NDArray[np.float32], float]:
    """The features, and the least seconds of two rounds; the first, which prepares kernels, does not count."""
    placed = images.to(device)
    vectors = _run(network, placed, precision)
    taken = []
    for _ in range(2):
        begin = time.perf_counter()
        _run(network, placed, precision)
        taken.append(time.perf_counter() - begin)
    return vectors, min(taken)


def fold_norms(network: nn.Module, image: Tensor) -> nn.Module:
    """A copy in which each batch norm that directly follows a convolution is multiplied into it: the same numbers but for rounding.

    Args:
        network: in eval mode.
        image: one image, to see which norm follows which convolution.
    """
    network = copy.deepcopy(network)
    made: dict[int, nn.Conv2d] = {}
    kept: list[Tensor] = []  # so that no identity is used twice
    pairs: list[tuple[nn.Conv2d, nn.BatchNorm2d]] = []

    def after(convolution: nn.Module, _: object, result: Tensor) -> None:
        assert isinstance(convolution, nn.Conv2d)
        made[id(result)] = convolution
        kept.append(result)

    def before(norm: nn.Module, given: tuple[Tensor, ...]) -> None:
        assert isinstance(norm, nn.BatchNorm2d)
        if id(given[0]) in made:
            pairs.append((made[id(given[0])], norm))

    hooks = []
    for part in network.modules():
        if isinstance(part, nn.Conv2d):
            hooks.append(part.register_forward_hook(after))
        elif isinstance(part, nn.BatchNorm2d) and part.running_var is not None:
            hooks.append(part.register_forward_pre_hook(before))
    with torch.inference_mode():
        network(image)
    for hook in hooks:
        hook.remove()
    names = {part: name for name, part in network.named_modules()}
    once = {part: sum(part in pair for pair in pairs) for pair in pairs for part in pair}
    for convolution, norm in pairs:
        if once[convolution] > 1 or once[norm] > 1:
            continue  # one convolution before two norms, or used twice
        _fold(convolution, norm)
        # timm's norms carry their activation inside.
        inside = [part for part in norm.children() if not isinstance(part, nn.Identity)]
        models.replace_part(network, names[norm], nn.Sequential(*inside))
    return network


def _fold(convolution: nn.Conv2d, norm: nn.BatchNorm2d) -> None:
    assert norm.running_mean is not None
    assert norm.running_var is not None
    factor = (norm.running_var.double() + norm.eps).rsqrt()
    if norm.weight is not None:
        factor = factor * norm.weight.double()
    offset = -norm.running_mean.double() * factor
    if norm.bias is not None:
        offset = offset + norm.bias.double()
    if convolution.bias is not None:
        offset = offset + convolution.bias.double() * factor
    weight = convolution.weight.double() * factor[:, None, None, None]
    convolution.weight = nn.Parameter(weight.float(), requires_grad=False)
    convolution.bias = nn.Parameter(offset.float(), requires_grad=False)


class _Store:
    """One entry of the cache folder, opened by one process at a time."""

    def __init__(self, folder: Path, width: int) -> None:
        self._folder = folder
        self._width = width
        self._check()
        self._places = {name: row for row, name in enumerate(_names(folder / "names"))}

    @classmethod
    @contextlib.contextmanager
    def opened(cls, key: str, width: int) -> Iterator[_Store]:
        """The entry, made if it is not there yet; other processes wait."""
        with data.cache.alone(key):
            lease = data.cache.find("features", key)
            if lease is None:
                data.cache.tidy()  # before: afterwards, while nobody uses it, it might be the one that goes
                with data.cache.building("features", key) as entry:
                    for name in ("names", "vectors"):
                        (entry.folder / name).touch()
                lease = data.cache.find("features", key)
            if lease is None:
                raise machine_error(
                    data.cache.cache_folder(), FileNotFoundError(2, "the cache folder is being deleted")
                )
            try:
                yield cls(lease.folder, width)
            except OSError as error:
                raise machine_error(lease.folder, error) from error
            finally:
                lease.release()

    @classmethod
    def count(cls, key: str, names: Sequence[bytes]) -> int:
        """How many of these the entry holds, without waiting for anybody."""
        lease = data.cache.find("features", key)
        if lease is None:
            return 0
        try:
            known = set(_names(lease.folder / "names"))
        except OSError:
            return 0
        finally:
            lease.release()
        return sum(name in known for name in names)

    def __contains__(self, name: bytes) -> bool:
        return name in self._places

    def append(self, names: Sequence[bytes], vectors: NDArray[np.float32]) -> None:
        """Add a batch `(n, D)`: its vectors are on the disk before its names are."""
        records = np.zeros(len(names), _RECORD)
        records["name"] = np.frombuffer(b"".join(names), "V16")
        records["check"] = [zlib.crc32(vector.tobytes()) for vector in vectors]
        for name, content in (("vectors", vectors.tobytes()), ("names", records.tobytes())):
            with open(self._folder / name, "ab") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        begin = len(self._places)
        self._places |= {name: begin + number for number, name in enumerate(names)}

    def take(self, names: Sequence[bytes]) -> NDArray[np.float32]:
        """The vectors of these, float32 `(len(names), D)`."""
        vectors = np.memmap(self._folder / "vectors", np.float32, "r").reshape(-1, self._width)
        return np.array(vectors[[self._places[name] for name in names]])

    def _check(self) -> None:
        """Cut off what a killed process left torn, and all from the first vector on that is not what it was."""
        sizes = [(self._folder / name).stat().st_size for name in ("names", "vectors")]
        whole = min(sizes[0] // _RECORD.itemsize, sizes[1] // (4 * self._width))
        if whole:
            checks = np.fromfile(self._folder / "names", _RECORD, whole)["check"].tolist()
            vectors = np.memmap(self._folder / "vectors", np.float32, "r", shape=(whole, self._width))
            good = [zlib.crc32(vectors[row].tobytes()) == check for row, check in enumerate(checks)]
            whole = good.index(False) if False in good else whole
            del vectors
        for name, size, each in zip(("names", "vectors"), sizes, (_RECORD.itemsize, 4 * self._width), strict=True):
            if size != whole * each:
                os.truncate(self._folder / name, whole * each)


def _names(path: Path) -> list[bytes]:
    """The names in the file, each 16 bytes; a torn last record is left out."""
    content = path.read_bytes()
    each = _RECORD.itemsize
    return [content[begin : begin + 16] for begin in range(0, len(content) - each + 1, each)]
