"""A run: one training of one model on one dataset by one recipe. A folder, read here and never written."""

from __future__ import annotations

import contextlib
import math
import os
import warnings
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ... import data
from ...data import Dataset, Prepared, Skipped, Task
from ...errors import DataError, MachineError, ModelFileError, printable
from ...free_memory import memory_for, out_of_memory
from ..core.hooks import Hooks, Metric, OwnCode
from ..core.reporter import EpochMetrics, best_epoch
from .folder import go_on_hint
from .prediction import Prediction, Predictions
from .saved import CHECKPOINTS, blank_network, check_head, find_again, read_dataset, read_history
from .settings import Settings, read_settings

if TYPE_CHECKING:
    from torch import Tensor, nn

    from ...models import ModuleMaker
    from ..core.inference_network import InferenceNetwork
    from ..core.objective import Objective
    from ..heads.head import Head
    from ..heads.ood import OodDetector


def _last_height(settings: Settings) -> int:
    """The height of the training images in the last epochs."""
    height, share = settings.input.height, settings.recipe.end_size
    return height if share == 1 else max(8, round(height * share / 8) * 8)


class Run:
    """A finished or unfinished training, opened from its folder.

    Attributes:
        folder: where it is; for a single checkpoint file the folder that it is in.
        settings: what was asked and decided.
        history: the figures of each epoch that is done.
        metrics: functions of the user's own, which a test computes as well; see `core/hooks.py`.
    """

    def __init__(self, folder: Path, settings: Settings, history: list[EpochMetrics], weights: Path) -> None:
        self.folder = folder
        self.settings = settings
        self.history = history
        self._weights = weights
        self._network: nn.Module | None = None
        self._inference_network: InferenceNetwork | None = None
        self._wanted_device = "auto"
        self._custom: nn.Module | ModuleMaker | None = None
        self._custom_head: ModuleMaker | None = None
        self.metrics: dict[str, Metric] = {}
        self._prepared: Prepared | None = None
        self._ood_detector: OodDetector | None = None
        self._head: Head | None = None
        # Set by `relearn`: the features of all images of `prepared()`, so that a test need not run the network once
        # more.
        self._features: NDArray[np.float32] | None = None
        self._exact: NDArray[np.bool_] = np.zeros(0, bool)

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str],
        *,
        model: nn.Module | ModuleMaker | None = None,
        head: ModuleMaker | None = None,
        metrics: Mapping[str, Metric] | None = None,
        device: str = "auto",
    ) -> Run:
        """Open a run's folder, or one of its checkpoint files.

        Args:
            path: the folder, or a `.safetensors` file in it.
            model: the network to put the weights into, or what makes it, for runs of a module of your own.
            head: what makes the head, for runs with a head of your own.
            metrics: functions of your own by name, which a test shall compute as well.
            device: where it answers: `auto` (a graphics card if there is one), `cpu`, `cuda`, `cuda:N` or `mps`.

        Raises:
            ModelFileError: nothing there can be read; damaged files are named.
            UsageError, MachineError: there is no such device (`device-unknown`, `device-absent`).
        """
        from ..core import checkpoint

        place = Path(path)
        folder, candidates = place.parent, [place]
        if place.is_dir():
            # Stopped before the first epoch's end, a run has no best weights yet; its last ones can be looked at.
            folder, candidates = place, [place / name for name in CHECKPOINTS if (place / name).exists()]
        if not candidates:
            hint = "give a folder that convoscope train has made"
            if (place / "run.toml").exists():
                hint = go_on_hint(place)
            raise ModelFileError(place, "no checkpoint in this folder", hint=hint, code="run-empty")
        faults: list[ModelFileError] = []
        for weights in candidates:
            try:
                tensors, state = checkpoint.load(weights)
                break
            except ModelFileError as error:
                faults.append(error)
        else:
            raise faults[0]
        for fault in faults:
            warnings.warn(f"{fault}; its place is taken by {weights.name}", stacklevel=2)
        settings = read_settings(state, weights)
        if settings.relearned is not None:
            check_head(settings.relearned, tensors, weights)
        run = cls(folder, settings, read_history(folder / "metrics.csv"), weights)
        run._custom, run._custom_head, run._wanted_device = model, head, device
        run.metrics = dict(Hooks.of({"metrics": metrics}).metrics)
        for kind, code in (("model", model), ("head", head)):
            for then in (own for own in settings.own if own.kind == kind and code is not None):
                if changed := then.changed(OwnCode.of(then.kind, code)):
                    warnings.warn(changed, stacklevel=2)
        if device not in ("auto", "cpu"):  # these need no look at the machine, which takes torch
            run._wanted_device = run.device
        return run

    @property
    def task(self) -> Task:
        """What is predicted."""
        return self.settings.task

    @property
    def classes(self) -> tuple[str, ...]:
        """K class, label or number names."""
        return self.settings.classes

    @property
    def parameters(self) -> int:
        """How many numbers the network has learned."""
        return self.settings.parameters

    @property
    def best_epoch(self) -> int:
        """The epoch, from 1, whose weights are kept as the best; 0 if no epoch is done."""
        return best_epoch(self.history)

    @property
    def stopped_early(self) -> str:
        """Where a training stands that was stopped before its end: `stopped at epoch 14 of 44, while still on small
        images`; empty where it is done, ended by its patience included.
        """
        done, recipe = len(self.history), self.settings.recipe
        if not done or done >= recipe.epochs:
            return ""
        best = best_epoch(self.history)
        if recipe.patience and done - best >= recipe.patience:
            return ""
        small = self.history[-1]["size"] < _last_height(self.settings)
        return f"stopped at epoch {done} of {recipe.epochs}" + (", while still on small images" if small else "")

    @property
    def remarks(self) -> tuple[str, ...]:
        """What whoever reads a result should know of the training, in sentences."""
        stopped = f"the training was {self.stopped_early}" if self.stopped_early else ""
        return tuple(text for text in (stopped, self.fewer_threads) if text)

    @property
    def fewer_threads(self) -> str:
        """Which epochs were computed on fewer threads than the others, in a sentence; empty: none."""
        threads = int(self.settings.engine.get("threads", 0))
        few = [row["epoch"] for row in self.history if (row.get("threads") or threads) < threads]
        if not few:
            return ""
        which = f"epoch {few[0]}" if len(few) == 1 else f"{len(few)} epochs, the first being {few[0]},"
        were = "was" if len(few) == 1 else "were"
        return (
            f"{which} {were} computed on fewer than {threads} threads, as another program kept the processor busy: the "
            "same command may give weights that differ in the last digits"
        )

    @property
    def seconds(self) -> float:
        """How long the training took, validation included."""
        return sum(row["seconds"] for row in self.history)

    def network(self) -> nn.Module:
        """The network with the best weights, on the processor, in eval mode. The same object each time."""
        if self._network is None:
            from ..core import checkpoint

            weights = self.weights()
            network = blank_network(self.settings, weights, self._weights, self._custom, self._custom_head)
            checkpoint.load_weights(network, weights, self._weights)
            if not all(bool(value.isfinite().all()) for value in weights.values() if value.is_floating_point()):
                warnings.warn(
                    f"{printable(self._weights)}: some weights are not finite; its answers mean nothing", stacklevel=2
                )
            self._network = network.eval()
        return self._network

    def weights(self) -> dict[str, Tensor]:
        """The best weights and buffers, by name as in the network's `state_dict`."""
        from ..core import checkpoint

        tensors, _ = checkpoint.load(self._weights)
        return {name[6:]: value for name, value in tensors.items() if name.startswith("model.")}

    @property
    def device(self) -> str:
        """Where the run answers: `cpu`, `cuda`, ..."""
        from ..core.engine import pick_device

        return pick_device(self._wanted_device)

    def scores(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """The network's answers to images that are already in the run's input format.

        An image's answer does not depend on the others, to the last digit.

        Args:
            pixels: uint8 `(N, H, W, C)`.

        Returns:
            float32 `(N, K)`: probabilities of K classes (rows sum to 1), of K labels, or K numbers in their own unit.

        Raises:
            MachineError: not even one image fits into memory (`out-of-memory`).
        """
        return self._answer(pixels, None)[0]

    def at_once(self) -> int:
        """How many images the network answers at once, see `InferenceNetwork.at_once`."""
        return self._inference().at_once()

    def _inference(self) -> InferenceNetwork:
        if self._inference_network is None:
            from ...models import footprint
            from ..core.inference_network import InferenceNetwork

            form = self.settings.input
            image = (form.channels, form.height, form.width)
            with self._memory_for(1, None):
                one = footprint(self.network(), image)
            with self._memory_for(1, one.answering):
                self._inference_network = InferenceNetwork(self.network(), image, self.device, one=one)
        return self._inference_network

    def _memory_for(self, images: int, needed: int | None) -> contextlib.AbstractContextManager[None]:
        """Says what did not fit where memory runs out inside."""
        form = self.settings.input
        what = "one image" if images == 1 else f"a batch of {images}"
        less = f"{max(form.height // 2, 1)}x{max(form.width // 2, 1)}"
        hint = f"close other programs, or train a network for smaller images: convoscope train ... --size {less}"
        what += f" at {form.height}x{form.width}"
        return memory_for(lambda free: out_of_memory(what, needed or self._least_bytes(), free, hint=hint))

    def _least_bytes(self) -> int | None:
        """What one image takes at least, by the shapes alone: for when there is no memory left to try it. None: only a
        trial shows it.
        """
        from ... import models

        settings = self.settings
        if settings.model.startswith("custom:") or models.library_name(settings.model) is not None:
            return None
        shape = (settings.input.height, settings.input.width, settings.input.channels)
        rows = models.table(settings.model, shape, len(settings.classes)).layers
        sizes = [math.prod(shape), *(math.prod(row.output) for row in rows)]
        return 4 * max(map(sum, pairwise(sizes)))

    def scores_and_distances(
        self, pixels: NDArray[np.uint8], rows: NDArray[np.int64] | None = None
    ) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
        """The answers as in `scores`, and of a run that has an out-of-distribution detector each image's distance from
        the training images.

        Args:
            pixels: uint8 `(N, H, W, C)`.
            rows: which of them; None: all.

        Returns:
            The answers `(n, K)`, and the distances `(n,)`, or None where the run has no out-of-distribution detector.
        """
        detector = self.ood_detector()
        answers, features = self._answer(pixels, rows)
        return answers, None if detector is None or features is None else detector.distances(features)

    def unanswered(self, pixels: NDArray[np.uint8], rows: NDArray[np.int64]) -> int:
        """How many of these images would have to go through the network; of the others the features are known."""
        return int((~self._exact[rows]).sum()) if self._has_features_of(pixels) else len(rows)

    def has_features(self) -> bool:
        """Whether features of the run's own images are known, see `cache_features`."""
        return self._features is not None

    def _has_features_of(self, pixels: NDArray[np.uint8]) -> bool:
        return self._features is not None and self._prepared is not None and pixels is self._prepared.pixels

    def cache_features(
        self,
        prepared: Prepared,
        features: NDArray[np.float32] | None = None,
        *,
        exact: NDArray[np.bool_] | None = None,
    ) -> None:
        """Keep the prepared images, so that a test of this very object need not read them again, and their features
        `(N, D)`.

        `exact`: which of the features, `(N,)`, are as the network gives them; None: all.
        """
        self._prepared, self._features = prepared, features
        self._exact = np.ones(len(prepared.dataset), bool) if exact is None else exact

    def ood_detector(self) -> OodDetector | None:
        """Finds images of none of the run's classes; None where the run has no detector. The same object each time."""
        if self._ood_detector is None and self.settings.relearned is not None:
            from ..core import checkpoint
            from ..heads.ood import OodDetector

            relearned = self.settings.relearned
            tensors, _ = checkpoint.load(self._weights)
            self._ood_detector = OodDetector.read(tensors, relearned.threshold, relearned.neighbours)
        return self._ood_detector

    def _answer(
        self, pixels: NDArray[np.uint8], rows: NDArray[np.int64] | None
    ) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
        """The answers to these rows, or all; and in a relearned run the features that its head makes them of."""
        import torch

        chosen = np.arange(len(pixels)) if rows is None else rows
        if not len(chosen):
            return np.zeros((0, len(self.classes)), np.float32), None
        if self.settings.relearned is None:
            scores, features = self._through_network(pixels, chosen), None
        else:
            features = self._features_of(pixels, chosen)
            scores = self._own_head().scores_of(torch.from_numpy(features))
        answers: NDArray[np.float32] = self.objective().answers(scores).numpy()
        return answers, features

    def _features_of(self, pixels: NDArray[np.uint8], rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """What goes into a relearned run's head: computed, but for what is known, and then kept if it is of the run's
        own images.
        """
        assert self.settings.relearned is not None
        first = self.settings.relearned.layers[0]
        if not self._has_features_of(pixels):
            return self._through_network(pixels, rows, before=first).numpy()
        assert self._features is not None
        missing = rows[~self._exact[rows]]
        if len(missing):
            self._features[missing] = self._through_network(pixels, missing, before=first).numpy()
            self._exact[missing] = True
        return self._features[rows]

    def _through_network(self, pixels: NDArray[np.uint8], rows: NDArray[np.int64], before: str | None = None) -> Tensor:
        """The raw scores of these rows, or what goes into the layer named `before`."""
        import torch

        from ..core.malloc import freed_memory_kept

        inference = self._inference()
        together, found = inference.at_once(), []
        with self._memory_for(together, together * inference.footprint.answering), freed_memory_kept():
            for begin in range(0, len(rows), together):
                images = self.input_tensor(pixels[rows[begin : begin + together]])
                scores, inside = inference(images, together, before=before)
                found.append(scores if inside is None else inside)
            return torch.cat(found)

    def _own_head(self) -> Head:
        """A relearned run's head."""
        if self._head is None:
            from ..heads.head import Head

            assert self.settings.relearned is not None
            self._head = Head.read(self.settings.relearned.layers, self.weights())
        return self._head

    def input_tensor(self, pixels: NDArray[np.uint8]) -> Tensor:
        """Images in the run's input format, uint8 `(N, H, W, C)`, as the network takes them: float32 `(N, C, H, W)`,
        normalised.
        """
        import torch

        from ..core.normalisation import Normalisation

        images = torch.from_numpy(np.array(pixels)).permute(0, 3, 1, 2).float()
        return Normalisation(mean=self.settings.mean, std=self.settings.std)(images)

    def objective(self) -> Objective:
        """The loss and the meaning of the scores, see `Objective`."""
        from ..core.objective import Objective

        return Objective(
            task=self.task,
            outputs=self.settings.outputs,
            target_mean=self.settings.target_mean,
            target_std=self.settings.target_std,
            temperature=self.settings.temperature or 1.0,
        )

    def predict(
        self, images: Any, *, skipped: list[Skipped] | None = None, done: list[Prediction] | None = None
    ) -> list[Prediction]:
        """Answer images of any size and mode; they go through the same decoding and preprocessing as in training. A
        warning if most of them are of one even tone.

        Args:
            images: one image or a sequence of them: paths, encoded bytes, PIL images, or arrays `(H, W)`, `(H, W, C)`
                or `(C, H, W)`; or an array of several. See `data.images_in` and `data.open_image`.
            skipped: a list that takes the images which cannot be read; without it the first one is an error.
            done: a list that takes the answers, and holds those given before an error.

        Raises:
            DataError: an image cannot be read.
            MachineError: the machine cannot read one; with `skipped`, 20 in a row; not even one image fits into memory
                (`out-of-memory`).
        """
        items = data.images_in(images, self.settings.input)
        together = self.at_once() if len(items) > 1 else 1
        predictions: list[Prediction] = Predictions() if done is None else done
        in_a_row = even = 0
        names: list[str] = []
        batch: list[NDArray[np.uint8]] = []

        def answer() -> None:
            nonlocal even
            if batch:
                even += int(data.even_toned(np.stack(batch)).sum())
                scores, distances = self.scores_and_distances(np.stack(batch))
                far: Sequence[float | None] = [None] * len(names) if distances is None else distances.tolist()
                predictions.extend(map(self.prediction, names, scores, far))
                if isinstance(predictions, Predictions):
                    predictions.keep_pictures(batch)
            names.clear()
            batch.clear()

        with contextlib.closing(data.opened(items, self.settings.input)) as pixels:
            for position, (item, image) in enumerate(zip(items, pixels, strict=True)):
                name = os.fspath(item) if isinstance(item, (str, os.PathLike)) else str(position)
                if isinstance(image, (DataError, MachineError)):
                    error = image
                    if skipped is None:
                        raise error
                    skipped.append(Skipped(name, error.reason))
                    in_a_row = in_a_row + 1 if isinstance(error, MachineError) or error.code == "image-missing" else 0
                    if in_a_row == data.MACHINE_ERRORS_IN_A_ROW:
                        answer()
                        raise data.unreachable("", error) from error
                    continue
                in_a_row = 0
                batch.append(image)
                names.append(name)
                if len(batch) == together:
                    answer()
        answer()
        if told := data.told_even(even, len(predictions)):
            warnings.warn(told, stacklevel=2)
        return predictions

    def prediction(self, path: str, scores: NDArray[np.float32], distance: float | None = None) -> Prediction:
        """One row of `scores` in words; its `distance` of `scores_and_distances` says whether it is known."""
        named = {name: float(score) for name, score in zip(self.classes, scores, strict=True)}
        if self.task == "regression":
            return Prediction(path, ", ".join(f"{name} {value:.4g}" for name, value in named.items()), None, named)
        if self.task == "multi-label":
            chosen = [name for name, value in named.items() if value >= 0.5]
            return Prediction(path, ";".join(chosen), min(max(value, 1 - value) for value in named.values()), named)
        label = max(named, key=lambda name: named[name])
        detector = self.ood_detector() if distance is not None else None
        known = None if detector is None or distance is None else distance <= detector.threshold
        return Prediction(path, label, named[label], named, distance, known)

    def dataset(self, moved_to: str | os.PathLike[str] | None = None) -> Dataset:
        """The run's dataset with its own split, read back from `split.csv`.

        Args:
            moved_to: where the images are now, if they were moved; they are found by their content.

        Raises:
            ModelFileError: the images have other classes by now.
            DataError: none of them is in the new place (`moved-not-found`).
        """
        if moved_to is not None:
            return find_again(self.folder, self.settings, moved_to).dataset
        return read_dataset(self.folder, self.settings)

    def prepared(self, moved_to: str | os.PathLike[str] | None = None) -> Prepared:
        """The run's dataset, decoded in the run's input format. The same object each time.

        Args:
            moved_to: as of `dataset`; it holds for what is asked of this object later as well.
        """
        if self._prepared is None or moved_to is not None:
            self._prepared = data.prepare(self.dataset(moved_to), self.settings.input)
        return self._prepared

    def __repr__(self) -> str:
        from .run_output import run_text

        return run_text(self.folder, self.settings, self.history)

    def _repr_html_(self) -> str:
        from .run_output import run_html

        return run_html(self.folder, self.settings, self.history)
