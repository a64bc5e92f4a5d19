"""The features of images: what a backbone makes of them, computed once and cached."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ... import models
from ...data import DECODE_RULES, InputFormat, Prepared
from ...errors import MachineError, ModelFileError
from ...free_memory import memory_for, out_of_memory, ran_out
from ..core.augment import augment
from ..core.engine import has_bfloat16
from ..core.inference_network import InferenceNetwork
from ..core.normalisation import Normalisation
from ..core.recipe import Recipe
from ..runs.run import Run
from .backbone import Backbone, belongs, digest_of
from .feature_store import FeatureStore

Precision = Literal["float32", "bfloat16"]

_STORED = 64
"""Images whose features are put into the store together, where fewer go through the backbone at once."""
_PROBE = 8
"""Images on which bfloat16 is compared with float32."""
_LARGE = 96 * 96
"""Pixels of an image from which on bfloat16 is worth its rounding: backbones for smaller ones are quick anyway."""
_CLOSE = 0.995
"""The least cosine between an image's features in bfloat16 and in float32. With the ImageNet backbone it is 0.997 to
0.9999, 0.9993 in the mean; from a photograph of a cat or a dog to its nearest among 1,400 the distance 1 - cosine is
0.19 and more for 99 in 100. So rounding changes a fiftieth of what separates two images. Below this a backbone's
numbers do not suit bfloat16.
"""


@dataclass(frozen=True, kw_only=True)
class ComputeMode:
    """How features are computed.

    Attributes:
        precision: the arithmetic.
        reason: in words.
    """

    precision: Precision
    reason: str = field(default="", compare=False)


class Features:
    """Gives the features of images for one backbone: from the store, or computed and put there.

    What a head learns from may be quick; what is measured is exact. Training images go through the backbone in bfloat16
    where that is quick and agrees, validation and test images in float32, as a run's network answers later. Nothing is
    timed, so that the same images give the same features again.

    Attributes:
        backbone: the network.
        width: D, how many there are of an image.
        computed: how many different ones were computed by this object.
        found: how many others it was asked for that the store had.
    """

    def __init__(
        self, backbone: Backbone, *, device: str = "cpu", precision: Precision | Literal["auto"] = "auto"
    ) -> None:
        """Make ready; nothing is built yet.

        Args:
            backbone: the network.
            device: where to compute.
            precision: of the training images; `auto`: bfloat16 for large images on a machine that computes in it, else
                float32.
        """
        self.width = backbone.width
        self.backbone = backbone
        self._made: set[tuple[ComputeMode, bytes]] = set()
        self._found: set[tuple[ComputeMode, bytes]] = set()
        self._device = device
        self._precision = precision
        self._modes: dict[bool, ComputeMode] = {True: ComputeMode(precision="float32")}  # by `exact`
        self._networks: dict[ComputeMode, InferenceNetwork] = {}

    @property
    def computed(self) -> int:
        return len(self._made)

    @property
    def found(self) -> int:
        return len(self._found)

    @property
    def mode(self) -> ComputeMode:
        """How training images' features are computed, known once some were asked for."""
        return self._modes[False]

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
            prepared: images in the backbone's form.
            rows: which of them.
            exact: in float32.
            views: how a view differs from the image; None: the images as they are.
            view: the number of the view, from 1: it and the image's content decide the view.
            progress: hears how many of them are done.

        Raises:
            MachineError: the cache folder cannot be used, or its disk is full; an image does not fit into memory
                (`out-of-memory`).
            ModelFileError: the backbone's numbers are not finite (`backbone-not-finite`).
        """
        names = [_name(prepared.digests[int(row)], views, view) for row in rows]
        if exact not in self._modes:
            with memory_for(self._too_large):
                self._modes[exact] = self._choose(names, self._images(prepared, rows[:_PROBE], None, 0))
        mode = self._modes[exact]
        with FeatureStore.opened(self._key(mode), self.width) as store:
            missing = [
                position
                for name, position in dict(zip(names, range(len(names)), strict=True)).items()
                if name not in store
            ]
            done = len(names) - len(missing)
            if progress is not None:
                progress(done, len(names))
            stored = self._stored_at_once(mode) if missing else 1
            for begin in range(0, len(missing), stored):
                chosen = np.array(missing[begin : begin + stored])
                vectors = self._compute(self._images(prepared, rows[chosen], views, view), mode)
                made = [names[position] for position in chosen.tolist()]
                store.append(made, vectors)
                self._made |= {(mode, name) for name in made}
                done += len(chosen)
                if progress is not None:
                    progress(done, len(names))
            self._found |= {(mode, name) for name in names} - self._made
            return store.take(names)

    def _images(self, prepared: Prepared, rows: NDArray[np.int64], views: Recipe | None, view: int) -> Tensor:
        """A batch as the backbone takes it: float32 `(n, C, H, W)`, normalised."""
        pixels = torch.from_numpy(np.take(prepared.pixels, rows, axis=0))
        if views is None:
            images = pixels.permute(0, 3, 1, 2).float()
        else:
            numbers = np.array([int(prepared.digests[int(row)][:15], 16) for row in rows], np.int64)
            images = augment(pixels, numbers, seed=0, epoch=view, recipe=views)
        return self.backbone.normalisation(images)

    def _stored_at_once(self, mode: ComputeMode) -> int:
        with memory_for(self._too_large):
            together = self._network(mode).at_once()
        return together * max(1, _STORED // together)

    def _too_large(self, free: int | None) -> MachineError:
        height, width, _ = self.backbone.input
        known = next(iter(self._networks.values()), None)
        count = 1 if known is None else known.at_once()
        needed = None if known is None else count * known.footprint.answering
        hint = "close other programs, or choose a backbone for smaller images"
        return out_of_memory(f"a batch of {count} at {height}x{width}", needed, free, hint=hint)

    def _compute(self, images: Tensor, mode: ComputeMode) -> NDArray[np.float32]:
        with memory_for(self._too_large):
            vectors = self._vectors(images, mode)
        count = len(vectors)
        broken = count - int(np.isfinite(vectors).all(axis=1).sum())
        if broken:
            raise ModelFileError(
                self.backbone.name,
                f"the backbone gives numbers that are not finite for {broken} of {count} images",
                hint="its weights are damaged, or its training went astray",
                code="backbone-not-finite",
            )
        return vectors

    def _vectors(self, images: Tensor, mode: ComputeMode) -> NDArray[np.float32]:
        network = self._network(mode)
        together = network.at_once()
        parts = [network(images[begin : begin + together], together)[0] for begin in range(0, len(images), together)]
        vectors: NDArray[np.float32] = torch.cat(parts).numpy()
        return vectors

    def _network(self, mode: ComputeMode) -> InferenceNetwork:
        if mode not in self._networks:
            height, width, channels = self.backbone.input
            self._networks[mode] = InferenceNetwork(
                self.backbone.without_head(),
                (channels, height, width),
                self._device,
                precision=torch.bfloat16 if mode.precision == "bfloat16" else torch.float32,
            )
        return self._networks[mode]

    def _key(self, mode: ComputeMode) -> str:
        backbone = self.backbone
        return _key(backbone.digest, backbone.form, backbone.normalisation, mode.precision, self._device)

    def _choose(self, names: Sequence[bytes], images: Tensor) -> ComputeMode:
        """How training images go through the backbone. `images`: the first of them, `names`: of all."""
        plain, quick = ComputeMode(precision="float32", reason="features in float32"), ComputeMode(precision="bfloat16")
        wanted = self._precision == "bfloat16"
        height, width, _ = self.backbone.input
        if not wanted and not (self._precision == "auto" and has_bfloat16(self._device) and height * width >= _LARGE):
            return plain
        if FeatureStore.count(self._key(quick), names):
            return replace(quick, reason="features in bfloat16")  # compared when they were made
        try:
            vectors = self._vectors(images, quick)
        except (RuntimeError, NotImplementedError) as error:
            if ran_out(error):
                raise
            return replace(plain, reason="features in float32: the backbone has an operation that bfloat16 lacks")
        cosine = float(_cosines(vectors, self._vectors(images, plain)).min())
        compared = f"the least cosine between the two is {cosine:.5f}"
        if not cosine >= _CLOSE:  # also where it is not a number
            del self._networks[quick]
            return replace(plain, reason=f"features in float32, not bfloat16: {compared}")
        return replace(quick, reason=f"features in bfloat16 instead of float32: {compared}")


def recall_features(run: Run) -> None:
    """Give a run those features of its own images that its relearning has left in the cache, so that a test need not
    compute them again.

    Only of a run whose backbone was not trained further, and only where the digest of its weights is that of what the
    cached features were made with.
    """
    settings, relearned = run.settings, run.settings.relearned
    if relearned is None or not settings.solved:
        return
    run.network()  # refuses a checkpoint whose model and weights do not fit
    weights = run.weights()
    tensors = {name: value for name, value in weights.items() if not belongs(name, relearned.layers)}
    digest = digest_of(models.backbone_text(settings.model, head=len(relearned.layers)), tensors)
    if digest != relearned.digest:
        return
    key = _key(digest, settings.input, Normalisation(mean=settings.mean, std=settings.std), "float32", run.device)
    prepared = run.prepared()
    names = [_name(each, None, 0) for each in prepared.digests]
    if not FeatureStore.count(key, names):
        return
    width = int(weights[f"{relearned.layers[0]}.weight"].shape[1])
    features, known = np.zeros((len(names), width), np.float32), np.zeros(len(names), bool)
    with FeatureStore.opened(key, width) as store:
        known[:] = [name in store for name in names]
        features[known] = store.take([name for name in names if name in store])
    run.cache_features(prepared, features, exact=known)


def _key(digest: str, form: InputFormat, normalisation: Normalisation, precision: Precision, device: str) -> str:
    """The store's entry for a backbone with this digest."""
    prepared = f"{DECODE_RULES} {form} {normalisation}"
    content = f"features 3 {digest} {prepared} {precision} {torch.device(device).type} {torch.__version__}"
    return hashlib.sha256(content.encode()).hexdigest()


def _name(digest: str, views: Recipe | None, view: int) -> bytes:
    """16 bytes for an image or a view of it."""
    if views is None:
        return bytes.fromhex(digest)
    return hashlib.sha256(f"{digest} {view} {views.model_dump_json()}".encode()).digest()[:16]


def _cosines(one: NDArray[np.float32], two: NDArray[np.float32]) -> Tensor:
    return torch.nn.functional.cosine_similarity(torch.from_numpy(one), torch.from_numpy(two), dim=1)
