"""The estimator, as scikit-learn itself checks it, and in its searches and pipelines."""

import ast
import inspect
import pickle
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler
from sklearn.utils import estimator_checks

import convoscope.sklearn as sklearn_room
from convoscope.sklearn import ImageClassifier
from convoscope.training import Run

MODEL = "flatten dense(8) relu dense"


def quick(epochs: int = 6, **changed: Any) -> ImageClassifier:
    recipe = {"precision": "float32", "threads": 1, "optimizer": "adam"}
    given: dict[str, Any] = {
        "epochs": epochs,
        "batch_size": 8,
        "learning_rate": 0.03,
        "recipe": recipe,
        "random_state": 0,
    }
    return ImageClassifier(MODEL, **given | changed)


@pytest.fixture(scope="module")
def lines() -> tuple[NDArray[np.uint8], NDArray[np.str_]]:
    """Sixty images of lying and standing lines, 5 by 5."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 60, (60, 5, 5), np.uint8)
    names = np.where(np.arange(60) % 2, "standing", "lying")
    for image, name in zip(images, names, strict=True):
        place = rng.integers(0, 5)
        image[(slice(None), place) if name == "standing" else place] = 220
    return images, names


@pytest.fixture(scope="module")
def fitted(lines: tuple[NDArray[np.uint8], NDArray[np.str_]]) -> ImageClassifier:
    return quick(20).fit(*lines)


def test_it_learns(fitted: ImageClassifier, lines: tuple[NDArray[np.uint8], NDArray[np.str_]]) -> None:
    images, names = lines
    assert fitted.score(images, names) >= 0.95
    assert list(fitted.classes_) == ["lying", "standing"]
    probabilities = fitted.predict_proba(images)
    np.testing.assert_allclose(probabilities.sum(1), 1, rtol=1e-6)
    np.testing.assert_array_equal(fitted.classes_[probabilities.argmax(1)], fitted.predict(images))
    assert fitted.n_iter_ == len(fitted.history_) == 20


def test_what_it_keeps_opens_as_a_run(
    fitted: ImageClassifier, lines: tuple[NDArray[np.uint8], NDArray[np.str_]], tmp_path: Path
) -> None:
    path = tmp_path / "best.safetensors"
    path.write_bytes(fitted.checkpoint_)
    run = Run.open(path)
    np.testing.assert_allclose(run.scores(lines[0][..., None]), fitted.predict_proba(lines[0]), rtol=1e-6)
    again = pickle.loads(pickle.dumps(fitted))
    np.testing.assert_array_equal(again.predict_proba(lines[0]), fitted.predict_proba(lines[0]))


def test_the_same_images_and_seed_give_the_same_network(
    lines: tuple[NDArray[np.uint8], NDArray[np.str_]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images, names = lines
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    first = quick(3).fit(images, names).predict_proba(images)
    np.testing.assert_array_equal(first, clone(quick(3)).fit(images, names).predict_proba(images))
    other = quick(3, random_state=np.random.RandomState(5)).fit(images, names).predict_proba(images)
    assert np.abs(first - other).max() > 1e-3
    flat = quick(3, image_shape=(5, 5)).fit(images.reshape(60, 25), names)
    np.testing.assert_array_equal(first, flat.predict_proba(images.reshape(60, 25)))
    assert not list(tmp_path.iterdir())


def test_paths_are_images_too(lines: tuple[NDArray[np.uint8], NDArray[np.str_]], tmp_path: Path) -> None:
    images, names = lines
    paths = [tmp_path / f"{place}.png" for place in range(20)]
    for path, image in zip(paths, images, strict=False):
        Image.fromarray(image).save(path)
    model = quick(12).fit(paths, names[:20])
    assert model.score(paths, names[:20]) >= 0.9
    assert model.predict_proba([str(path) for path in paths[:3]]).shape == (3, 2)


def test_a_grid_search_over_a_pipeline(lines: tuple[NDArray[np.uint8], NDArray[np.str_]]) -> None:
    images, names = lines
    pipeline = make_pipeline(MinMaxScaler(), quick(12))
    grid = {"imageclassifier__learning_rate": [1e-6, 0.03]}
    search = GridSearchCV(pipeline, grid, cv=2, error_score="raise").fit(images.reshape(60, 25), names)
    assert search.best_params_ == {"imageclassifier__learning_rate": 0.03}
    assert search.best_score_ > 0.8


@pytest.mark.parametrize(
    ("images", "labels", "words"),
    [
        (np.zeros((4, 5, 5), np.uint8), ["a"] * 4, "only one class"),
        (np.zeros((4, 1, 5, 5, 1), np.uint8), ["a", "b"] * 2, "2 or 3 axes"),
        (np.zeros((4, 25), np.uint8), ["a", "b"] * 2, "does not have the 25 numbers"),
        (["a.png", "b.png"], ["a"], "2 images, y 1 classes"),
    ],
)
def test_what_cannot_be_learned_from(images: Any, labels: list[str], words: str) -> None:
    shape = (4, 4) if np.ndim(images) == 2 else None
    with pytest.raises(ValueError, match=words):
        quick(image_shape=shape).fit(images, labels)


# All pass but check_methods_subset_invariance, which asks for more digits than float32 has; these say most for their time.
CHECKS = (
    "check_no_attributes_set_in_init",
    "check_do_not_raise_errors_in_init_or_set_params",
    "check_estimators_unfitted",
    "check_dont_overwrite_parameters",
    "check_n_features_in",
    "check_estimators_nan_inf",
    "check_estimators_empty_data_messages",
    "check_classifiers_one_label",
    "check_complex_data",
    "check_parameters_default_constructible",
    "check_dict_unchanged",
)


@pytest.mark.parametrize("name", CHECKS)
def test_scikit_learns_own_checks(name: str) -> None:
    check = getattr(estimator_checks, name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        check("ImageClassifier", quick(2))


def test_without_scikit_learn_its_extra_is_named() -> None:
    code = "import sys; sys.modules['sklearn'] = None\nimport convoscope.sklearn"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "pip install 'convoscope[sklearn]'" in done.stderr
    module = ast.parse(Path(inspect.getfile(sklearn_room)).read_text("utf-8"))
    assert "sklearn-missing" in [node.value for node in ast.walk(module) if isinstance(node, ast.Constant)]
