"""An estimator for scikit-learn (`convoscope[sklearn]`): grid searches, pipelines and cross-validation of a network."""

# ruff: noqa: N803, N806 -- scikit-learn calls the images X

from __future__ import annotations

import copy
import csv
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import data, training
from .errors import UsageError

try:
    from sklearn.base import BaseEstimator, ClassifierMixin
    from sklearn.utils import check_random_state
    from sklearn.utils.multiclass import check_classification_targets, unique_labels
    from sklearn.utils.validation import check_is_fitted, validate_data
except ModuleNotFoundError as error:
    raise UsageError(
        "convoscope.sklearn",
        f"needs scikit-learn, and there is no {error.name}",
        hint="pip install 'convoscope[sklearn]'",
        code="sklearn-missing",
    ) from None

__all__ = ["ImageClassifier"]


class ImageClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """A classifier of images as scikit-learn knows them.

    X is an array of images `(n, height, width)` or `(n, height, width, channels)`, a flat one `(n, height * width *
    channels)`, or a list of paths. Numbers are 0..255 if they are whole ones of one byte, and else 0..1; of others the
    range of the training images becomes 0..255. All of X is learned from; what is to be kept apart scikit-learn keeps
    apart. The same X in the same order, y and `random_state` give the same network.

    Args:
        model: as for `train`.
        epochs, batch_size, learning_rate: fields of the recipe; None: as suits the images.
        recipe: further ones by name.
        image_shape: (height, width) or (height, width, channels) of flat images; None: a square if their length is one,
            and else one row.
        random_state: a seed, a `RandomState`, or None for another network each time.
        verbose: whether progress is shown.

    Attributes:
        classes_: the classes, sorted.
        n_features_in_: numbers of an image.
        n_iter_: epochs that were trained.
        history_: the figures of each epoch.
        checkpoint_: the trained run as the bytes of a safetensors file, for `Run.open`.
    """

    def __init__(
        self,
        model: Any = "auto",
        *,
        epochs: int | None = None,
        batch_size: int | None = None,
        learning_rate: float | None = None,
        recipe: Mapping[str, Any] | None = None,
        image_shape: tuple[int, ...] | None = None,
        random_state: Any = None,
        verbose: bool = False,
    ) -> None:
        self.model = model
        self.epochs = epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.recipe = recipe
        self.image_shape = image_shape
        self.random_state = random_state
        self.verbose = verbose

    def fit(self, X: Any, y: ArrayLike) -> Self:
        """Train a network on images and their classes.

        Raises:
            ValueError: shapes or values that no images have, or one class only.
            ConvoscopeError: see `train`.
        """
        if _are_paths(X):
            labels = np.asarray(y)
            if len(labels) != len(X):
                raise ValueError(f"X has {len(X)} images, y {len(labels)} classes")
        else:
            X, labels = validate_data(self, X, y, allow_nd=True, dtype="numeric")
        check_classification_targets(labels)
        self.classes_ = unique_labels(labels)
        if len(self.classes_) < 2:
            raise ValueError("a classifier can't learn when there is only one class in y")
        seed = check_random_state(self.random_state).randint(2**31 - 1)
        with tempfile.TemporaryDirectory(prefix="convoscope-") as folder:
            run = self._train(Path(folder), X, np.searchsorted(self.classes_, labels), int(seed))
            self.checkpoint_ = (run.folder / "best.safetensors").read_bytes()
        self.history_ = run.history
        self.n_iter_ = len(run.history)
        self._opened: training.Run | None = None
        self._run()
        return self

    def _train(self, folder: Path, X: Any, targets: NDArray[np.int64], seed: int) -> training.Run:
        names = [f"{place}: {name}" for place, name in enumerate(self.classes_)]
        kept: dict[str, Any] = {"validation": 0.0, "test": 0.0, "seed": seed}
        source: data.Dataset
        if _are_paths(X):
            self._range = None
            table = folder / "images.csv"
            with table.open("w", encoding="utf-8", newline="") as file:
                writer = csv.writer(file)
                writer.writerow(["path", "label"])
                writer.writerows([str(Path(path).absolute()), names[k]] for path, k in zip(X, targets, strict=True))
            read: dict[str, Any] = {
                "path_column": "path",
                "label_column": "label",
                "task": "classification",
                "root": table.anchor,
            }
            source = data.load(table, **read, **kept)
        else:
            self._range = _range_of(X)
            source = data.from_arrays(self._pixels(X), targets, names, **kept)
        given = {"epochs": self.epochs, "batch_size": self.batch_size, "learning_rate": self.learning_rate}
        options = {name: value for name, value in given.items() if value is not None} | dict(self.recipe or {})
        reporter = None
        if self.verbose:
            from .terminal import default_reporter

            reporter = default_reporter()
        return training.train(
            source,
            copy.deepcopy(self.model),
            output=folder / "run",
            seed=seed,
            reporter=reporter,
            **options,
        )

    def _pixels(self, X: NDArray[Any]) -> NDArray[np.uint8]:
        """Images as uint8 `(n, height, width, channels)`."""
        values = X.reshape(len(X), *self._shape(X.shape[1:]))
        if self._range is not None:
            low, high = self._range
            values = np.clip((values.astype(np.float64) - low) * (255 / (high - low)), 0, 255).round()
        return values.astype(np.uint8)

    def _shape(self, given: tuple[int, ...]) -> tuple[int, ...]:
        if len(given) == 3:
            return given
        if len(given) == 2:
            return (*given, 1)
        if len(given) != 1:
            raise ValueError(f"expected images of 2 or 3 axes, or flat ones; received {len(given)}")
        shape = self.image_shape
        if shape is None:
            side = round(given[0] ** 0.5)
            shape = (side, side) if side * side == given[0] else (1, given[0])
        if len(shape) not in (2, 3) or np.prod(shape) != given[0]:
            raise ValueError(f"image_shape {tuple(shape)} does not have the {given[0]} numbers of an image")
        return (*shape, 1) if len(shape) == 2 else tuple(shape)

    def predict_proba(self, X: Any) -> NDArray[np.float64]:
        """The probability of each class, `(n, K)`, in the order of `classes_`."""
        check_is_fitted(self)
        run = self._run()
        order = np.argsort([int(name.partition(":")[0]) for name in run.classes])
        if _are_paths(X):
            scores = np.array([list(answer.scores.values()) for answer in run.predict(list(X))], np.float64)
        else:
            X = validate_data(self, X, allow_nd=True, dtype="numeric", reset=False)
            pixels = self._pixels(X)
            form = run.settings.input
            if pixels.shape[1:] != (form.height, form.width, form.channels):
                pixels = np.stack([data.open_image(image, form) for image in pixels])
            scores = run.scores(pixels).astype(np.float64)
        scores = scores.reshape(-1, len(order))[:, order]
        shares: NDArray[np.float64] = scores / scores.sum(1, keepdims=True)
        return shares

    def predict(self, X: Any) -> NDArray[Any]:
        """The most probable class of each image, `(n,)`."""
        best = self.predict_proba(X).argmax(1)
        answers: NDArray[Any] = self.classes_[best]
        return answers

    def _run(self) -> training.Run:
        """The trained run, its weights read once."""
        if self._opened is None:
            with tempfile.TemporaryDirectory(prefix="convoscope-") as folder:
                path = Path(folder) / "best.safetensors"
                path.write_bytes(self.checkpoint_)
                own = None if isinstance(self.model, str) else copy.deepcopy(self.model)
                self._opened = training.Run.open(path, model=own)
                self._opened.network()
        return self._opened

    def __getstate__(self) -> dict[str, Any]:
        state: dict[str, Any] = super().__getstate__()
        return state | ({"_opened": None} if "_opened" in state else {})

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        tags.non_deterministic = False
        return tags


def _are_paths(X: Any) -> bool:
    """Whether X is a list of paths and not an array of numbers."""
    if isinstance(X, np.ndarray) and X.dtype.kind in "US":
        return True
    if isinstance(X, np.ndarray) and X.dtype.kind != "O":
        return False
    try:
        return len(X) > 0 and all(isinstance(each, str | Path) for each in X)
    except TypeError:
        return False


def _range_of(X: NDArray[Any]) -> tuple[float, float] | None:
    """Which numbers become 0 and 255; None: they are pixels already."""
    if X.dtype == np.uint8:
        return None
    low, high = float(X.min()), float(X.max())
    if X.dtype.kind in "iu" and low >= 0 and high <= 255:
        return 0.0, 255.0
    if low >= 0 and high <= 1:
        return 0.0, 1.0
    return (low, high) if high > low else (low, low + 1)
