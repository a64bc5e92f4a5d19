"""A run: one training of one model on one dataset by one recipe. A folder, read here and never written."""

from __future__ import annotations

import contextlib
import math
import os
import re
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    FailFast,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from ... import data
from ...data import TARGET_NOUNS, Dataset, InputFormat, Prepared, Skipped, Task
from ...errors import DataError, MachineError, ModelFileError, UsageError, printable, shell_word
from ...free_memory import free_memory, memory_for, out_of_memory
from ...parsing import faults_of, read_bytes, read_toml
from ..core.recipe import EngineSettings, Recipe
from ..core.reporter import COLUMNS, EpochMetrics, HistoryRow, best_epoch

if TYPE_CHECKING:
    from torch import Tensor, nn

    from ..models import Footprint
    from .engine import Engine
    from .ood import OodDetector


UNKNOWN = "unknown"
"""The label of an image that belongs to none of the classes."""
_MAX_METRICS_BYTES = 40_000_000
_CHECKPOINTS = ("best.safetensors", "last.safetensors", "previous.safetensors")


def _writable(text: str) -> str:
    """Text that can stand in a file's name and be written down; bytes of file names that are no text can."""
    if "\0" in text:
        raise ValueError("holds a zero byte")
    text.encode("utf-8", "surrogateescape")
    return text


Text = Annotated[str, AfterValidator(_writable)]
Texts = Annotated[tuple[Text, ...], FailFast()]
Numbers = Annotated[tuple[float, ...], FailFast()]
Count = Annotated[int, Field(ge=0, le=10**15)]


class Relearned(BaseModel):
    """What a run took over and how its head was made, see `relearn`.

    Attributes:
        backbone: as it was named: `imagenet`, `timm:NAME`, a run's folder, ...
        digest: a hash of the backbone as it was taken over, its text and every weight.
        head: `linear`, `mean` or `mlp`.
        layers: the paths of the head's dense layers in the network.
        views: how often each training image was looked at, the first time as it is.
        l2: the pull of the head's weights towards zero that served the validation images best; 0 where there is none.
        coverage: the share of known images that the threshold accepts.
        threshold: images farther than this from all training images are unknown; None: the run has no
            out-of-distribution detector.
        neighbours: the distance is that to the training image of this rank.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)

    backbone: Text
    digest: Text
    head: Text
    layers: tuple[Text, ...] = Field(min_length=1, max_length=10)
    augmented_views: int = Field(1, ge=1, le=1000)
    l2: float = Field(0.0, ge=0)
    coverage: float = Field(0.95, gt=0, le=1)
    threshold: float | None = Field(None, ge=-1, le=3)
    neighbours: int = Field(1, ge=1, le=1_000_000)


class Settings(BaseModel):
    """What a run was asked for and what was decided, resolved. Stands in every checkpoint, and in `run.toml` for
    people.

    Anybody can write and seal a checkpoint, so whatever is used later is bounded here.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)

    source: Text
    layout: Text
    added: Annotated[tuple[tuple[Text, Text], ...], FailFast()] = ()
    """Further sources whose images belong to the run, each with its layout."""
    task: Task
    classes: Texts = Field(min_length=1)
    model: Text
    outputs: int = Field(ge=1, le=1_000_000)
    parameters: Count
    input: InputFormat
    mean: Numbers
    std: Numbers
    target_mean: Numbers = ()
    target_std: Numbers = ()
    recipe: Recipe
    seed: int = Field(ge=0, lt=2**63)
    engine: dict[str, Any]
    images: dict[Text, Count] = Field(max_length=1000)
    notes: Texts = ()
    versions: dict[Text, Text] = Field(max_length=1000)
    started: Text
    relearned: Relearned | None = None

    @field_validator("input")
    @classmethod
    def _input_is_possible(cls, form: InputFormat) -> InputFormat:
        try:
            data.check_format(form)
        except UsageError as error:
            raise ValueError(error.reason) from None
        return form

    @field_validator("engine")
    @classmethod
    def _engine_is_possible(cls, engine: dict[str, Any]) -> dict[str, Any]:
        try:
            return EngineSettings.model_validate(engine).model_dump()
        except ValidationError as error:
            raise ValueError(faults_of(error)) from None

    @field_validator("std", "target_std")
    @classmethod
    def _spread_is_positive(cls, spread: tuple[float, ...]) -> tuple[float, ...]:
        if not all(value > 0 for value in spread):
            raise ValueError("a spread must be greater than 0")
        return spread

    @model_validator(mode="after")
    def _all_goes_together(self) -> Self:
        names, channels = len(self.classes), self.input.channels
        scale = names if self.task == "regression" else 0
        told = [
            ("one class or number has another's name", len(set(self.classes)) == names),
            (
                f"{self.outputs} outputs do not suit {names} {TARGET_NOUNS[self.task]}",
                self.outputs == names or (self.outputs, names, self.task) == (1, 2, "classification"),
            ),
            (
                f"expected a mean and a spread for each of {channels} channels",
                len(self.mean) == len(self.std) == channels,
            ),
            (
                f"expected a mean and a spread for each of {scale} numbers to predict",
                len(self.target_mean) == len(self.target_std) == scale,
            ),
            ("only a run of classes has a new head", self.relearned is None or self.task == "classification"),
            ("no such device", re.fullmatch(r"auto|cpu|cuda(:\d{1,3})?|mps", self.recipe.device) is not None),
        ]
        for fault, holds in told:
            if not holds:
                raise ValueError(fault)
        return self

    @property
    def sources(self) -> str:
        """All sources of the run's images, in words: `photos and zebras`."""
        return " and ".join([self.source, *(source for source, _ in self.added)])

    @property
    def in_memory(self) -> bool:
        """Whether some of its images were handed over in memory and cannot be read again."""
        return data.MEMORY in (self.layout, *(layout for _, layout in self.added))

    @property
    def solved(self) -> bool:
        """Whether `relearn` has made a head and nothing was trained in steps."""
        return self.relearned is not None and self.recipe.epochs == 1

    @property
    def backbone_learns(self) -> bool:
        """Whether, in a relearned run, the backbone learns too."""
        blocks = self.recipe.trained_blocks
        return self.relearned is not None and not self.solved and (not blocks or blocks > len(self.relearned.layers))


@dataclass(frozen=True)
class Prediction:
    """A network's answer to one image.

    Attributes:
        path: the image's path, or its position in the list if it was given as an array.
        label: the most likely class; for labels those of at least 0.5, joined by `;`; for numbers the numbers.
            `unknown` if the run has an out-of-distribution detector (it was relearned) and this image's distance is
            above the threshold.
        confidence: the label's probability; for labels the least sure decision's; for numbers and for `unknown` None.
        scores: class or number name to probability or number.
        distance: of a run that has an out-of-distribution detector: how far the image is from the training images,
            0..2, see `OodDetector`; else None.
    """

    path: str
    label: str
    confidence: float | None
    scores: dict[str, float]
    distance: float | None = None

    def to_json(self) -> dict[str, Any]:
        """As `predict --json` prints it. JSON knows no NaN: there it stands as None. Runs that has no
        out-of-distribution detector have no distance.
        """
        scores = {name: value if math.isfinite(value) else None for name, value in self.scores.items()}
        sure = self.confidence if self.confidence is not None and math.isfinite(self.confidence) else None
        content = {"path": self.path, "label": self.label, "confidence": sure, "scores": scores}
        return content if self.distance is None else content | {"distance": self.distance}


class Run:
    """A finished or unfinished training, opened from its folder.

    Attributes:
        folder: where it lies; for a single checkpoint file the folder it lies in.
        settings: what was asked and decided.
        history: the figures of each epoch that is done.
    """

    def __init__(self, folder: Path, settings: Settings, history: list[EpochMetrics], weights: Path) -> None:
        self.folder = folder
        self.settings = settings
        self.history = history
        self._weights = weights
        self._network: nn.Module | None = None
        self._footprint: Footprint | None = None
        self._custom: nn.Module | None = None
        self._prepared: Prepared | None = None
        self._ood_detector: OodDetector | None = None
        # Set by `relearn`: the features of all images of `prepared()`, so that a test need not run the network once
        # more.
        self._features: NDArray[np.float32] | None = None
        self._exact: NDArray[np.bool_] = np.zeros(0, bool)

    @classmethod
    def open(cls, path: str | os.PathLike[str], *, model: nn.Module | None = None) -> Run:
        """Open a run's folder, or one of its checkpoint files.

        Args:
            path: the folder, or a `.safetensors` file in it.
            model: the network to put the weights into, for runs of a module of your own.

        Raises:
            ModelFileError: nothing there can be read; damaged files are named.
        """
        from . import checkpoint

        place = Path(path)
        folder, candidates = place.parent, [place]
        if place.is_dir():
            # Stopped before the first epoch's end, a run has no best weights yet; its last ones can be looked at.
            folder, candidates = place, [place / name for name in _CHECKPOINTS if (place / name).exists()]
        if not candidates:
            hint = "give a folder that convoscope train has made"
            if (place / "run.toml").exists():
                hint = start_again(place)
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
        run._custom = model
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
    def seconds(self) -> float:
        """How long the training took, validation included."""
        return sum(row["seconds"] for row in self.history)

    def network(self) -> nn.Module:
        """The network with the best weights, on the processor, in eval mode. The same object each time."""
        if self._network is None:
            from . import checkpoint

            weights = self.weights()
            network = blank_network(self.settings, weights, self._weights, self._custom)
            checkpoint.load_weights(network, weights, self._weights)
            if not all(bool(value.isfinite().all()) for value in weights.values() if value.is_floating_point()):
                warnings.warn(
                    f"{printable(self._weights)}: some weights are not finite; its answers mean nothing", stacklevel=2
                )
            self._network = network.eval()
        return self._network

    def weights(self) -> dict[str, Tensor]:
        """The best weights and buffers, by name as in the network's `state_dict`."""
        from . import checkpoint

        tensors, _ = checkpoint.load(self._weights)
        return {name[6:]: value for name, value in tensors.items() if name.startswith("model.")}

    def scores(self, pixels: NDArray[np.uint8], *, batch_size: int = 256) -> NDArray[np.float32]:
        """The network's answers to images that are already in the run's input format.

        Args:
            pixels: uint8 `(N, H, W, C)`.
            batch_size: images at once at most; fewer where they would take much memory, see `at_once`.

        Returns:
            float32 `(N, K)`: probabilities of K classes (rows sum to 1), of K labels, or K numbers in their own unit.

        Raises:
            MachineError: not even one image fits into memory (`out-of-memory`).
        """
        return self._answer(pixels, None, batch_size, None)

    def at_once(self) -> int:
        """How many images the network answers at once: up to 256, fewer of large ones, so that the memory they take
        stays the same.

        That number rests on the network alone, so the same images get the same answers to the last digit; but where the
        machine has little memory left, they are fewer.
        """
        from ..models import BUDGET

        free = free_memory()
        return self._weighed().at_once(budget=BUDGET if free is None else min(BUDGET, free // 2))

    def _weighed(self) -> Footprint:
        if self._footprint is None:
            from ..models import footprint

            form = self.settings.input
            with self._memory_for(1, None):
                self._footprint = footprint(self.network(), (form.channels, form.height, form.width))
        return self._footprint

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
        trial tells.
        """
        from .. import models

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
        kept_from_before = self._features is not None and self._prepared is not None and pixels is self._prepared.pixels
        if kept_from_before and (self._exact if rows is None else self._exact[rows]).all():
            assert self._features is not None
            features = self._features if rows is None else self._features[rows]
            answers = self._answer_features(features)
        else:
            kept: list[NDArray[np.float32]] = []
            answers = self._answer(pixels, rows, None, kept if detector is not None else None)
            features = np.concatenate(kept) if kept else np.zeros((0, 1), np.float32)
        return answers, None if detector is None else detector.distances(features)

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
        """How the run tells images of none of its classes; None where it cannot. The same object each time."""
        if self._ood_detector is None and self.settings.relearned is not None:
            from . import checkpoint
            from .ood import OodDetector

            self._ood_detector = OodDetector.read(self.settings.relearned, checkpoint.load(self._weights)[0])
        return self._ood_detector

    def _answer(
        self,
        pixels: NDArray[np.uint8],
        rows: NDArray[np.int64] | None,
        batch_size: int | None,
        features: list[NDArray[np.float32]] | None,
    ) -> NDArray[np.float32]:
        """The network's answers to these rows, or all; what goes into the head is added to `features`."""
        import torch

        from .loop import Scaling

        objective = self.objective()
        scaling = Scaling(mean=self.settings.mean, std=self.settings.std)
        network = self.network()
        count = len(pixels if rows is None else rows)
        together = max(1, min(self.at_once() if count > 1 else 1, batch_size or count, count))
        needed = together * self._weighed().answering if count > 1 else None
        answers = []
        hook = None
        if features is not None:
            assert self.settings.relearned is not None
            head = network.get_submodule(self.settings.relearned.layers[0])
            hook = head.register_forward_pre_hook(lambda _, given: features.append(given[0].numpy().copy()))
        try:
            with self._memory_for(together, needed), torch.inference_mode():
                for begin in range(0, count, together):
                    here = slice(begin, begin + together)
                    images = torch.from_numpy(np.array(pixels[here if rows is None else rows[here]]))
                    images = scaling(images.permute(0, 3, 1, 2).float())
                    scores = network(images.contiguous(memory_format=torch.channels_last))
                    answers.append(objective.answers(scores).numpy())
        finally:
            if hook is not None:
                hook.remove()
        empty = np.zeros((0, len(self.classes)), np.float32)
        return np.concatenate(answers) if answers else empty

    def _answer_features(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """The head's answers to features."""
        import torch

        from .head import Head

        assert self.settings.relearned is not None
        scores = Head.read(self.settings.relearned.layers, self.weights()).scores(torch.from_numpy(features))
        answers: NDArray[np.float32] = self.objective().answers(scores).numpy()
        return answers

    def input_tensor(self, pixels: NDArray[np.uint8]) -> Tensor:
        """Images in the run's input format, uint8 `(N, H, W, C)`, as the network takes them: float32 `(N, C, H, W)`,
        normalised.
        """
        import torch

        from .loop import Scaling

        images = torch.from_numpy(np.array(pixels)).permute(0, 3, 1, 2).float()
        return Scaling(mean=self.settings.mean, std=self.settings.std)(images)

    def objective(self) -> Any:
        """The loss and the meaning of the scores, see `Objective`."""
        from .objective import Objective

        return Objective(
            task=self.task,
            outputs=self.settings.outputs,
            target_mean=self.settings.target_mean,
            target_std=self.settings.target_std,
        )

    def predict(
        self, images: Any, *, skipped: list[Skipped] | None = None, done: list[Prediction] | None = None
    ) -> list[Prediction]:
        """Answer images of any size and mode; they go through the same decoding and preprocessing as in training.

        Args:
            images: one image or a sequence of them: paths, encoded bytes, PIL images, or arrays `(H, W)` or `(H, W,
                C)`.
            skipped: a list that takes the images which cannot be read; without it the first one is an error.
            done: a list that takes the answers, and holds those given before an error.

        Raises:
            DataError: an image cannot be read.
            MachineError: the machine cannot read one; with `skipped`, 20 in a row; not even one image fits into memory
                (`out-of-memory`).
        """
        single = isinstance(images, (str, bytes, os.PathLike)) or not isinstance(images, Iterable)
        if isinstance(images, np.ndarray) and images.ndim in (2, 3):
            # A stack of grey images and one colour image have both three axes: the last axis tells.
            single = images.ndim == 2 or images.shape[2] in (1, 2, 3, 4)
        if not single and hasattr(images, "convert"):
            single = True
        items: Sequence[Any] = [images] if single else list(images)
        together = self.at_once() if len(items) > 1 else 1
        predictions: list[Prediction] = [] if done is None else done
        in_a_row = 0
        names: list[str] = []
        batch: list[NDArray[np.uint8]] = []

        def answer() -> None:
            if batch:
                scores, distances = self.scores_and_distances(np.stack(batch))
                far: Sequence[float | None] = [None] * len(names) if distances is None else distances.tolist()
                predictions.extend(map(self.prediction, names, scores, far))
            names.clear()
            batch.clear()

        for position, item in enumerate(items):
            name = os.fspath(item) if isinstance(item, (str, os.PathLike)) else str(position)
            try:
                batch.append(data.open_image(item, self.settings.input))
            except (DataError, MachineError) as error:
                if skipped is None:
                    raise
                skipped.append(Skipped(name, error.reason))
                in_a_row = in_a_row + 1 if isinstance(error, MachineError) or error.code == "image-missing" else 0
                if in_a_row == data.MACHINE_ERRORS_IN_A_ROW:
                    answer()
                    raise data.unreachable("", error) from error
                continue
            in_a_row = 0
            names.append(name)
            if len(batch) == together:
                answer()
        answer()
        return predictions

    def prediction(self, path: str, scores: NDArray[np.float32], distance: float | None = None) -> Prediction:
        """One row of `scores` in words; with its `distance` of `scores_and_distances` it may be unknown."""
        named = {name: float(score) for name, score in zip(self.classes, scores, strict=True)}
        if self.task == "regression":
            return Prediction(path, ", ".join(f"{name} {value:.4g}" for name, value in named.items()), None, named)
        if self.task == "multi-label":
            chosen = [name for name, value in named.items() if value >= 0.5]
            return Prediction(path, ";".join(chosen), min(max(value, 1 - value) for value in named.values()), named)
        detector = self.ood_detector() if distance is not None else None
        if detector is not None and distance is not None and distance > detector.threshold:
            return Prediction(path, UNKNOWN, None, named, distance)
        label = max(named, key=lambda name: named[name])
        return Prediction(path, label, named[label], named, distance)

    def dataset(self) -> Dataset:
        """The run's dataset with its own split, read back from `split.csv`.

        Raises:
            ModelFileError: the images have other classes by now.
        """
        return read_dataset(self.folder, self.settings)

    def prepared(self) -> Prepared:
        """The run's dataset, decoded in the run's input format. The same object each time."""
        if self._prepared is None:
            self._prepared = data.prepare(self.dataset(), self.settings.input)
        return self._prepared

    def __repr__(self) -> str:
        last = self.history[-1] if self.history else None
        figures = (
            f", {last['epoch']} epochs, validation accuracy {last['val_accuracy']:.4f}"
            if last and last["val_accuracy"]
            else ""
        )
        return f"<Run {printable(self.folder)}: {self.settings.model.split(':')[0][:40]!r}{figures}>"


def start_again(folder: Path) -> str:
    """How to make anew a run that ended before its first checkpoint, for a hint."""
    path = folder / "run.toml"
    try:
        asked = read_toml(path)
        backbone, added = asked["record"]["relearned"]["backbone"], asked["record"].get("added")
        source, option = (added[-1][0], " --add") if added else (asked["source"], "")
        return f"start it again: convoscope relearn {shell_word(backbone)} {shell_word(source)}{option}"
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return f"start it again: convoscope train --config {shell_word(path)}"


def read_settings(state: dict[str, Any], path: Path) -> Settings:
    """The settings in a checkpoint's state.

    Raises:
        ModelFileError: they are missing or impossible.
    """
    try:
        return Settings.model_validate(state.get("settings"))
    except ValidationError as error:
        raise _impossible(path, f"its settings cannot be read: {faults_of(error)}") from None


def _impossible(path: Path, reason: str) -> ModelFileError:
    return ModelFileError(path, reason, hint="train again, or restore it from a copy", code="settings-unreadable")


@contextlib.contextmanager
def settling(source: str) -> Iterator[None]:
    """Settings are made of a dataset here; what they cannot hold, such as a class whose name has a zero byte, is the
    data's fault.

    Raises:
        DataError: `run-impossible`.
    """
    try:
        yield
    except ValidationError as error:
        raise DataError(
            source,
            f"no run can be made of it: {faults_of(error)}",
            hint="rename what is named here",
            code="run-impossible",
        ) from None


def check_head(relearned: Relearned, tensors: Mapping[str, Tensor], path: Path) -> None:
    """Refuse a relearned run whose head, or the features by which it tells unknown images, are not what its settings
    say.

    Raises:
        ModelFileError: `settings-unreadable`.
    """
    from .ood import OodDetector

    width = None
    for layer in relearned.layers:
        weight, bias = (tensors.get(f"model.{layer}.{kind}") for kind in ("weight", "bias"))
        if weight is None or bias is None or weight.ndim != 2 or bias.shape != weight.shape[:1]:
            raise _impossible(
                path, f"it has no dense layer {printable(layer)[:80]!r}, which its settings call its head"
            )
        if width is not None and weight.shape[1] != width:
            raise _impossible(path, "the layers that its settings call its head do not follow each other")
        width = weight.shape[0]
    detector = OodDetector.read(relearned, tensors)
    if detector is not None:
        known, features = detector.features, int(tensors[f"model.{relearned.layers[0]}.weight"].shape[1])
        sound = known.is_floating_point() and known.ndim == 2 and known.shape[1] == features
        if not sound or detector.neighbours > len(known) or not bool(known.float().isfinite().all()):
            raise _impossible(path, "the features by which it tells unknown images do not suit its head")


def blank_network(
    settings: Settings, weights: Mapping[str, Tensor], path: Path, module: nn.Module | None = None
) -> nn.Module:
    """The run's network with random weights, once it is known that `weights` can be its own: nothing is allocated by
    hearsay.

    Args:
        weights: its weights and buffers.
        path: where they stand, for messages.
        module: the module of the user's own that the run trains, if it does.

    Raises:
        ModelFileError: the model cannot be built, is larger than its weights, or is a module that is not given.
    """
    from .. import models

    form = settings.input
    shape = (form.height, form.width, form.channels)
    if module is not None:
        return models.build(module, shape, len(settings.classes))
    if settings.model.startswith("custom:"):
        raise ModelFileError(
            path.parent,
            f"this run trained a module of your own ({printable(settings.model)[:200]})",
            hint="open it with Run.open(folder, model=your_module), go on with it with resume(folder, model=your_module)",
            code="run-needs-module",
        )
    try:
        wanted = models.count_parameters(settings.model, shape, len(settings.classes))
        held = sum(value.numel() for value in weights.values())
        if wanted > held:
            raise ModelFileError(
                path,
                f"its weights do not fit this model: it has {held:,} numbers, the model {wanted:,} parameters",
                hint="build the model whose text stands in the run's run.toml",
                code="weights-do-not-fit",
            )
        network = models.build(settings.model, shape, len(settings.classes))
    except UsageError as error:
        raise _impossible(path, f"its model cannot be built: {error}") from None
    if getattr(network, "outputs", settings.outputs) != settings.outputs:
        raise _impossible(path, f"its model has {network.outputs} outputs, its settings say {settings.outputs}")
    return network


def read_summary(folder: str | os.PathLike[str]) -> tuple[Settings, list[EpochMetrics]]:
    """A run's settings and history from `run.toml` and `metrics.csv` alone: quick, and without a look at its weights.

    Bytes of file names that are no text stand escaped in the settings; else they are those of `Run.open`.

    Raises:
        ModelFileError: the folder holds no checkpoint (`run-empty`), or its `run.toml` cannot be read
            (`settings-unreadable`).
    """
    place = Path(folder)
    if not any((place / name).is_file() for name in _CHECKPOINTS):
        raise ModelFileError(place, "no checkpoint in this folder", code="run-empty")
    path = place / "run.toml"
    try:
        values = read_toml(path)
        height, width = values.pop("size").split("x")
        form = {"height": height, "width": width, "channels": values.pop("channels"), "resize": values.pop("resize")}
        state = {"settings": {**values.pop("record"), **values, "input": form}}
    except KeyError as error:
        raise _impossible(path, f"its settings cannot be read: {printable(error)} is missing") from None
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise _impossible(path, f"its settings cannot be read: {printable(error)[:300]}") from None
    return read_settings(state, path), read_history(place / "metrics.csv")


def read_dataset(folder: Path, settings: Settings) -> Dataset:
    """A run's images as they are now, with the run's own split.

    Raises:
        ModelFileError: they have other classes than the run.
    """
    manifest = folder / "split.csv"
    try:
        dataset = data.load(settings.source, layout=settings.layout, manifest=None if settings.added else manifest)
        for source, layout in settings.added:
            dataset = data.joined(dataset, data.load(source, layout=layout, fewest_classes=1))
    except UsageError as error:
        raise _impossible(folder, f"its images cannot be read: {error}") from None
    if settings.added:
        dataset = data.with_manifest(dataset, manifest)
    if (dataset.task, dataset.classes) != (settings.task, settings.classes):
        now, then = (", ".join(map(printable, classes)) for classes in (dataset.classes, settings.classes))
        raise ModelFileError(
            folder,
            f"the images have other classes now: {now}; the run knows: {then}",
            hint="bring the images back as they were, or train a new run",
            code="classes-changed",
        )
    return dataset


def read_history(path: Path) -> list[EpochMetrics]:
    """The rows of a `metrics.csv`. A torn last line is left out; of a damaged file the rows before the damage are kept,
    with a warning.
    """
    try:
        text = read_bytes(path, _MAX_METRICS_BYTES).decode("utf-8", "replace")
    except FileNotFoundError:
        return []
    except ValueError as error:
        warnings.warn(f"{printable(path)}: cannot be read ({error}); no epochs are shown", stacklevel=2)
        return []
    lines = text.splitlines(keepends=True)
    if lines and not lines[-1].endswith("\n"):
        lines.pop()
    header, *table = [line.strip().split(",") for line in lines] or [[]]
    rows: list[EpochMetrics] = []
    for cells in table:
        try:
            rows.append(_history_row(dict(zip(header, cells, strict=False))))
        except ValueError:
            place = f"{printable(path)}, line {len(rows) + 2}"
            warnings.warn(f"{place}: cannot be read; epochs from there on are not shown", stacklevel=2)
            break
    return rows


def _history_row(cells: dict[str, str]) -> EpochMetrics:
    # There is no validation part where a figure of its is empty.
    told = {key: text for key, text in cells.items() if key in COLUMNS and not (key.startswith("val_") and not text)}
    return HistoryRow.model_validate(told).row()


def engine_of(settings: Settings) -> Engine:
    """The run's engine, from its settings."""
    from .engine import Engine

    return Engine.model_validate(settings.engine)
