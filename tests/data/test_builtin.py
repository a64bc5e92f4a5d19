"""The built-in images: what they are, that they are learnable by 19 numbers, and how drawings are normalised."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from PIL import Image, ImageDraw

from convoscope.data.builtin import BUILTIN, drawing_classes, load_builtin, nearest_first, normalise_drawing
from convoscope.data.dataset import Dataset, InputFormat
from convoscope.errors import ConvoscopeError, DataError, UsageError

TINY = ("lines", "shapes", "fruits")


def pixels_of(dataset: Dataset, side: int) -> np.ndarray:
    form = InputFormat(height=side, width=side, channels=1)
    outcomes = dataset.images.outcomes(range(len(dataset)), form)
    return np.stack([outcome.pixels for outcome in outcomes if outcome.pixels is not None])[..., 0]


@pytest.mark.parametrize("kind", TINY)
def test_tiny_images_differ_from_each_other_and_follow_the_seed(kind: str) -> None:
    dataset = load_builtin(f"builtin:{kind}", seed=3)
    images = pixels_of(dataset, 5)
    assert images.shape == (200, 5, 5)
    assert len({image.tobytes() for image in images}) == 200
    assert {part: sum(counts.values()) for part, counts in dataset.counts().items()} == {
        "train": 120,
        "validation": 40,
        "test": 40,
    }
    assert len(set(dataset.names)) == 200

    again, other = load_builtin(f"builtin:{kind}", seed=3), load_builtin(f"builtin:{kind}", seed=4)
    assert np.array_equal(pixels_of(again, 5), images)
    assert np.array_equal(again.splits, dataset.splits)
    assert not np.array_equal(pixels_of(other, 5), images)
    assert not np.array_equal(other.splits, dataset.splits)


def test_lines_run_as_their_class_says() -> None:
    dataset = load_builtin("builtin:lines", seed=0)
    for image, target in zip(pixels_of(dataset, 5) > 0, dataset.targets, strict=True):
        rows, columns = image.any(axis=1).sum(), image.any(axis=0).sum()
        expected = (1, image.sum()) if dataset.classes[target] == "horizontal" else (image.sum(), 1)
        assert (rows, columns) == expected


def test_an_apple_fills_a_window_of_3x3_and_a_banana_never_does() -> None:
    dataset = load_builtin("builtin:fruits", seed=0)
    ink = pixels_of(dataset, 5) > 0
    fullest = np.max([ink[:, y : y + 3, x : x + 3].sum(axis=(1, 2)) for y in range(3) for x in range(3)], axis=0)
    names = np.array(dataset.classes)[dataset.targets]
    assert fullest[names == "apple"].min() >= 8
    assert fullest[names == "banana"].max() <= 6


@pytest.mark.parametrize("kind", TINY)
def test_nineteen_numbers_learn_each_tiny_set_in_at_most_three_trainings(kind: str) -> None:
    import torch
    from torch import nn

    dataset = load_builtin(f"builtin:{kind}", seed=0)
    images = torch.tensor(pixels_of(dataset, 5)[:, None] / 255.0, dtype=torch.float32)
    labels = torch.tensor(dataset.targets)
    train, test = torch.tensor(dataset.indices("train")), torch.tensor(dataset.indices("test"))
    images = (images - images[train].mean()) / images[train].std()

    def learns(seed: int) -> bool:
        torch.manual_seed(seed)
        net = nn.Sequential(nn.Conv2d(1, 1, 3, bias=False), nn.MaxPool2d(2, 1), nn.Flatten(), nn.Linear(4, 2))
        assert sum(parameter.numel() for parameter in net.parameters()) == 19
        optimiser = torch.optim.Adam(net.parameters(), lr=0.05)
        for _ in range(250):
            optimiser.zero_grad()
            nn.functional.cross_entropy(net(images[train]), labels[train]).backward()
            optimiser.step()
        right = net(images).argmax(dim=1) == labels
        return bool(right[train].all()) and right[test].float().mean().item() >= 0.95

    assert any(learns(seed) for seed in range(3))


def test_twenty_classes_of_drawings() -> None:
    dataset = load_builtin("builtin:drawings", seed=1)
    assert len(dataset.classes) == 20 and {"apple", "banana", "street light"} <= set(dataset.classes)
    assert len(dataset) == 1600
    assert set(dataset.counts()["test"].values()) == {16}
    assert set(dataset.counts()["validation"].values()) == {8}
    images = pixels_of(dataset, 28)
    outside = images.copy()
    outside[:, 1:-1, 1:-1] = 0
    assert outside.max() == 0, "a margin of one pixel at least"
    longest = np.maximum((images > 0).any(axis=2).sum(axis=1), (images > 0).any(axis=1).sum(axis=1))
    assert 24 <= np.median(longest) <= 26
    assert images.max() == 255


def test_some_drawings_only_in_any_order_and_case() -> None:
    dataset = load_builtin("builtin:drawings/Banana, apple")
    assert dataset.classes == ("apple", "banana")
    assert len(dataset) == 160
    assert np.array_equal(np.bincount(dataset.targets), [80, 80])


def test_shares_can_be_chosen() -> None:
    counts = load_builtin("builtin:drawings/apple,banana", validation=0.0, test=0.5).counts()
    assert counts == {
        "train": {"apple": 40, "banana": 40},
        "validation": {"apple": 0, "banana": 0},
        "test": {"apple": 40, "banana": 40},
    }


@pytest.mark.parametrize(
    ("name", "kind", "code", "message", "hint"),
    [
        ("builtin:lins", UsageError, "unknown-builtin", "no such built-in set", "choose one of builtin:lines, "),
        ("builtin:lines/apple", UsageError, "unknown-builtin", "no such built-in set", "choose one of builtin:lines"),
        (
            "builtin:drawings/aple,cat",
            UsageError,
            "unknown-drawing",
            "'aple' is not among the built-in drawings",
            "choose from apple",
        ),
        (
            "builtin:drawings/cat",
            DataError,
            "one-class",
            "at least two classes; received 'cat' only",
            "builtin:drawings/cat,apple",
        ),
    ],
)
def test_a_wrong_name_is_answered_with_the_right_ones(
    name: str, kind: type[ConvoscopeError], code: str, message: str, hint: str
) -> None:
    with pytest.raises(kind) as caught:
        load_builtin(name)
    assert caught.value.code == code
    assert message in caught.value.reason
    assert hint in caught.value.hint


def test_nearest_names_come_first() -> None:
    assert nearest_first("drawins", BUILTIN)[0] == "drawings"
    assert nearest_first("zzz", ["b", "a"]) == ["b", "a"]


# --- normalise_drawing -------------------------------------------------------------------------------------------------


@given(arrays(np.uint8, array_shapes(min_dims=2, max_dims=2, max_side=70)))
def test_any_sheet_becomes_28x28(image: np.ndarray) -> None:
    drawing = normalise_drawing(image)
    assert drawing.shape == (28, 28) and drawing.dtype == np.uint8
    assert (drawing.max() > 0) == bool((image >= 48).any())


@given(st.integers(0, 40), st.integers(0, 40))
def test_where_on_the_sheet_it_was_drawn_does_not_matter(top: int, left: int) -> None:
    image = np.zeros((120, 120), np.uint8)
    drawn = Image.new("L", (60, 60))
    ImageDraw.Draw(drawn).ellipse((5, 10, 50, 40), outline=255, width=4)
    image[top : top + 60, left : left + 60] = np.asarray(drawn)
    assert np.array_equal(normalise_drawing(image), normalise_drawing(np.asarray(drawn)))


@pytest.mark.parametrize(("side", "width"), [(60, 3), (280, 6), (280, 14), (280, 28), (900, 3), (900, 60)])
def test_size_and_stroke_of_the_pad_hardly_matter(side: int, width: int) -> None:
    def ring(side: int, width: int) -> np.ndarray:
        # The middle of the stroke lies on the same ellipse, whatever its width.
        sheet = Image.new("L", (side, side))
        box = [side * 0.2, side * 0.3, side * 0.8, side * 0.7]
        ImageDraw.Draw(sheet).ellipse(
            [box[0] - width / 2, box[1] - width / 2, box[2] + width / 2, box[3] + width / 2], outline=255, width=width
        )
        return normalise_drawing(np.asarray(sheet)).astype(float)

    reference, drawing = ring(280, 10), ring(side, width)
    assert np.corrcoef(reference.ravel(), drawing.ravel())[0, 1] > 0.9
    assert drawing.sum() == pytest.approx(reference.sum(), rel=0.15)


def test_a_dot_is_a_dot() -> None:
    image = np.zeros((280, 280), np.uint8)
    image[100:108, 50:58] = 255
    assert normalise_drawing(image).max() > 0


def test_an_empty_sheet_stays_empty() -> None:
    assert not normalise_drawing(np.full((280, 280), 30, np.uint8)).any()


@pytest.mark.parametrize("image", [np.zeros((28, 28, 3), np.uint8), np.zeros((28, 28)), np.zeros((0, 5), np.uint8)])
def test_what_is_no_drawing_is_refused(image: np.ndarray) -> None:
    with pytest.raises(DataError, match=r"expected a uint8 array \(height, width\)") as caught:
        normalise_drawing(image)
    assert caught.value.code == "bad-drawing"


@pytest.mark.shared_data
@pytest.mark.parametrize("name", ["apple", "bicycle", "cat", "fish"])
def test_normalised_drawings_look_like_the_official_bitmaps_of_the_same_drawings(shared_data: Path, name: str) -> None:
    with np.load(shared_data / "quickdraw" / "quickdraw345.npz", allow_pickle=False) as content:
        raw = content["images"][content["labels"] == list(content["names"]).index(name)]
    official = (
        np.load(shared_data / "quickdraw_3000" / f"{name}.npy", allow_pickle=False)[:80]
        .reshape(-1, 28, 28)
        .astype(float)
    )
    ours = np.stack([normalise_drawing(image) for image in raw]).astype(float)
    assert ours.mean() == pytest.approx(official.mean(), rel=0.06), "the same amount of ink"
    error, untouched = np.sqrt(((ours - official) ** 2).mean()), np.sqrt(((raw - official) ** 2).mean())
    assert error < 40 and error < untouched / 2


def test_the_classes_are_sorted() -> None:
    assert list(drawing_classes()) == sorted(drawing_classes())
