"""Images that come with the package: three sets of 5x5 pixels, drawn here, and 20 classes of real drawings.

The drawings are from Google's Quick, Draw! (builtin/NOTICE.md); `normalise_drawing` brings them, and whatever a drawing
pad gives, into one form. tools/make_drawings.py made the file.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from ..errors import DataError, UsageError
from ..suggestions import nearest_names
from .dataset import Dataset
from .sources import ArrayImages, Stack
from .split import check_seed, check_share, draw

BUILTIN = {
    "lines": "5x5 pixels, vertical and horizontal lines",
    "shapes": "5x5 pixels, squares and crosses",
    "fruits": "5x5 pixels, apples and bananas",
    "drawings": "28x28 pixels, real drawings of 20 things; builtin:drawings/apple,banana takes some of them",
}
"""The names after `builtin:`, each with one line of description."""

TINY_SIDE = 5
TINY_PER_CLASS = 100
_INK = np.array([170, 200, 230, 255], dtype=np.uint8)

DRAWING_SIDE = 28
_STROKES = 23.0  # longest side of the middle line of the strokes, in pixels of the 28
_OVERSAMPLING = 4
_PAPER = 48  # below this of 255 a pixel is paper
_STROKE_EDGE = 50  # where the enlarged stroke ends


def load_builtin(
    name: str, *, seed: int = 0, validation: float | None = None, test: float | None = None, fewest_classes: int = 2
) -> Dataset:
    """The built-in dataset `builtin:lines`, `builtin:shapes`, `builtin:fruits`, `builtin:drawings` or
    `builtin:drawings/A,B`.

    Images are grey, 0 for paper and 255 for full ink. `seed` draws the 5x5 images, and which images of each class are
    held out. `validation` and `test` are shares of each class, 0..1; None: a fifth for the test, and for validation a
    fifth of the 5x5 images or a tenth of the drawings.

    Raises:
        UsageError: no such set (`unknown-builtin`) or no such class of drawings (`unknown-drawing`).
        DataError: fewer than `fewest_classes` classes are asked for (`one-class`).
    """
    asked = name.removeprefix("builtin:").strip()
    kind, _, part = asked.partition("/")
    if kind not in BUILTIN or (part and kind != "drawings"):
        raise UsageError(
            name,
            "no such built-in set",
            hint="choose one of " + ", ".join(f"builtin:{known}" for known in nearest_first(kind, BUILTIN)),
            code="unknown-builtin",
        )
    seed = check_seed(seed)
    check_share("validation", validation)
    check_share("test", test)
    default_validation = 0.1 if kind == "drawings" else 0.2
    shares = _Shares(seed, default_validation if validation is None else validation, 0.2 if test is None else test)
    if kind == "drawings":
        return _drawings(name, [one.strip() for one in part.split(",") if one.strip()], shares, fewest_classes)
    return _tiny(name, kind, shares)


def nearest_first(asked: str, known: Sequence[str] | dict[str, str]) -> list[str]:
    """The known names, those most like `asked` in front, the others in their order."""
    near = nearest_names(asked, known, most=3, cutoff=0.5)
    return near + [one for one in known if one not in near]


@dataclass(frozen=True)
class _Shares:
    """Which share of each class is held out."""

    seed: int
    validation: float
    test: float

    def __str__(self) -> str:
        train = 1 - self.validation - self.test
        return (
            f"{train:.0%} training, {self.validation:.0%} validation, {self.test:.0%} test, drawn by seed {self.seed}"
        )


def _dataset(
    name: str, images: NDArray[np.uint8], labels: NDArray[np.int64], classes: Sequence[str], shares: _Shares, note: str
) -> Dataset:
    """Grey images `(N, H, W)`, every class divided by `shares`."""
    counted = [0] * len(classes)
    names = []
    for label in labels.tolist():
        names.append(f"{classes[label]}/{counted[label]}")
        counted[label] += 1
    return Dataset(
        source=name,
        layout="builtin",
        task="classification",
        classes=tuple(classes),
        names=names,
        targets=labels,
        splits=draw(names, labels, shares.seed, shares.validation, shares.test),
        images=ArrayImages([Stack(images, name, axes="NHW")]),
        notes=(note, f"each class: {shares}"),
        split_notes=(f"each class: {shares}",),
    )


# --- 5x5 pixels -------------------------------------------------------------------------------------------------------
# The patterns suit the model of 19 numbers: one 3x3 filter, largest response in each quarter, two sums. Lines keep to
# the middle rows and columns, where the filter sees both their sides; an apple fills a 3x3 window, a banana never does.

Mask = NDArray[np.bool_]

_SQUARES = ("### #.# ###", "#### #..# #..# ####")
_CROSSES = ("#.# .#. #.#", "#...# .#.#. ..#.. .#.#. #...#")
_APPLES = (
    "#.. ### ### ###",
    ".#. ### ### ###",
    "..# ### ### ###",
    "#.. .#. ### ### ###",
    "..# .#. ### ### ###",
    ".#.. .##. #### #### .##.",
    "..#. .##. #### #### .##.",
    "..#.. .###. ##### ##### .###.",
    "..#.. ##### ##### ##### .###.",
)
_BANANAS = (
    "#...# .###.",
    "#.... #...# .###.",
    ".# #. #. .#",
    "#... #... .#.. ..##",
    "#.. #.. .#. ..#",
    "#...# #...# .###.",
)


def _pattern(text: str) -> Mask:
    return np.array([[mark == "#" for mark in row] for row in text.split()])


def _places(pattern: Mask) -> list[Mask]:
    """The pattern at every place of the 5x5 where it fits."""
    height, width = pattern.shape
    return [
        np.pad(pattern, ((top, TINY_SIDE - height - top), (left, TINY_SIDE - width - left)))
        for top in range(TINY_SIDE - height + 1)
        for left in range(TINY_SIDE - width + 1)
    ]


def _turned(patterns: Sequence[Mask]) -> list[Mask]:
    """Each pattern in its eight positions (turned and mirrored), without repeats."""
    result: dict[tuple[tuple[int, ...], bytes], Mask] = {}
    for pattern in patterns:
        for quarter in range(4):
            for one in (np.rot90(pattern, quarter), np.rot90(pattern, quarter)[:, ::-1]):
                result[one.shape, one.tobytes()] = one
    return list(result.values())


def _line_masks() -> tuple[list[Mask], list[Mask]]:
    vertical = [
        mask for length in (3, 4, 5) for mask in _places(np.ones((length, 1), dtype=np.bool_)) if mask[:, 1:4].any()
    ]
    return vertical, [mask.T for mask in vertical]


def _shape_masks() -> tuple[list[Mask], list[Mask]]:
    squares, crosses = ([mask for text in texts for mask in _places(_pattern(text))] for texts in (_SQUARES, _CROSSES))
    return squares, crosses


def _fruit_masks() -> tuple[list[Mask], list[Mask]]:
    apples = [mask for text in _APPLES for mask in _places(_pattern(text))]
    bananas = [mask for pattern in _turned([_pattern(text) for text in _BANANAS]) for mask in _places(pattern)]
    return apples, bananas


_TINY: dict[str, tuple[tuple[str, str], Callable[[], tuple[list[Mask], list[Mask]]]]] = {
    "lines": (("horizontal", "vertical"), lambda: _line_masks()[::-1]),
    "shapes": (("cross", "square"), lambda: _shape_masks()[::-1]),
    "fruits": (("apple", "banana"), _fruit_masks),
}


def _tiny(name: str, kind: str, shares: _Shares) -> Dataset:
    classes, masks_of = _TINY[kind]
    random = np.random.default_rng(shares.seed)
    images = np.concatenate([_inked(masks, TINY_PER_CLASS, random) for masks in masks_of()])
    labels = np.repeat(np.arange(len(classes)), TINY_PER_CLASS)
    return _dataset(
        name, images, labels, classes, shares, f"{len(images)} images, drawn by seed {shares.seed}: {BUILTIN[kind]}"
    )


def _inked(masks: Sequence[Mask], count: int, random: np.random.Generator) -> NDArray[np.uint8]:
    """`count` different images: the masks in turn, shuffled, every pixel of the stroke with a strength of its own."""
    images: dict[bytes, NDArray[np.uint8]] = {}
    while len(images) < count:
        for chosen in random.permutation(len(masks)):
            image = np.where(masks[chosen], random.choice(_INK, (TINY_SIDE, TINY_SIDE)), np.uint8(0))
            images.setdefault(image.tobytes(), image)
    return np.stack(list(images.values())[:count])


# --- drawings ---------------------------------------------------------------------------------------------------------


@cache
def _drawing_file() -> tuple[NDArray[np.uint8], NDArray[np.uint8], tuple[str, ...]]:
    """Raw drawings `(N, 28, 28)`, labels `(N,)` and class names, sorted."""
    file = resources.files(__package__) / "builtin" / "drawings.npz"
    with file.open("rb") as opened, np.load(opened, allow_pickle=False) as content:
        return content["images"], content["labels"], tuple(str(name) for name in content["names"])


@cache
def _class_drawings(label: int) -> NDArray[np.uint8]:
    """All drawings of one class, normalised. Not to be written to."""
    images, labels, _ = _drawing_file()
    drawings = np.stack([normalise_drawing(image) for image in images[labels == label]])
    drawings.setflags(write=False)
    return drawings


def drawing_classes() -> tuple[str, ...]:
    """The classes of `builtin:drawings`, sorted."""
    return _drawing_file()[2]


def _drawings(name: str, asked: Sequence[str], shares: _Shares, fewest: int) -> Dataset:
    known = drawing_classes()
    for one in asked:
        if one.casefold() not in known:
            raise UsageError(
                name,
                f"{one!r} is not among the built-in drawings",
                hint="choose from " + ", ".join(nearest_first(one, known)),
                code="unknown-drawing",
            )
    wanted = {one.casefold() for one in asked}
    classes = [one for one in known if one in wanted] if wanted else list(known)
    if len(classes) < fewest:
        raise DataError(
            name,
            f"a classifier needs at least two classes; received {classes[0]!r} only",
            hint=f"for instance builtin:drawings/{classes[0]},{next(one for one in known if one != classes[0])}",
            code="one-class",
        )
    parts = [_class_drawings(known.index(one)) for one in classes]
    labels = np.repeat(np.arange(len(classes)), [len(part) for part in parts])
    things = f"{len(classes)} thing{'' if len(classes) == 1 else 's'}"
    note = f"{len(labels)} drawings of {things} from Google's Quick, Draw! (CC BY 4.0), brought to one size and stroke"
    return _dataset(name, np.concatenate(parts), labels, classes, shares, note)


def normalise_drawing(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A drawing as the built-in drawings are: strokes in the middle of 28x28 with a margin, of one width, antialiased.

    The box around the strokes is scaled, keeping its aspect, so that the middle line of the strokes is at most 23
    pixels long or wide; the strokes become about 2 pixels wide, whatever they were. With these figures the raw drawings
    come closest to the official 28x28 bitmaps of the same drawings.

    Args:
        image: uint8 `(H, W)` of any size, 0 for paper and 255 for ink; below 48 counts as paper.

    Returns:
        uint8 `(28, 28)`; all zero for an empty sheet.

    Raises:
        DataError: not a uint8 array `(H, W)` with at least one pixel (`bad-drawing`).
    """
    if image.ndim != 2 or image.dtype != np.uint8 or 0 in image.shape:
        raise DataError(
            "drawing",
            f"expected a uint8 array (height, width); received {image.dtype} {image.shape}",
            code="bad-drawing",
        )
    cropped = _cropped(image)
    if not cropped.size:
        return np.zeros((DRAWING_SIDE, DRAWING_SIDE), dtype=np.uint8)
    if max(cropped.shape) > DRAWING_SIDE:
        cropped = _cropped(_thin_lines(cropped))
    # Enlarge and cut at a low level: that widens the stroke and rounds it; then shrink with antialiasing.
    side = DRAWING_SIDE * _OVERSAMPLING
    scale = _STROKES * _OVERSAMPLING / max(max(cropped.shape) - 0.5, 1)
    # The faintest ink is lifted a little, so that a dot of it does not fall below the edge between two samples.
    padded = Image.fromarray(np.pad(np.where(cropped >= _PAPER, np.maximum(cropped, 64), cropped), 2))
    size = (max(1, round(padded.width * scale)), max(1, round(padded.height * scale)))
    large = padded.resize(size, Image.Resampling.BICUBIC).point(lambda level: 255 if level >= _STROKE_EDGE else 0)
    sheet = Image.new("L", (side, side))
    sheet.paste(large, ((side - size[0]) // 2, (side - size[1]) // 2))
    smooth = sheet.filter(ImageFilter.GaussianBlur(0.3 * _OVERSAMPLING))
    return np.asarray(smooth.resize((DRAWING_SIDE, DRAWING_SIDE), Image.Resampling.BOX))


def _cropped(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The box around everything that is not paper; empty if there is nothing."""
    ink = image >= _PAPER
    rows, columns = np.flatnonzero(ink.any(axis=1)), np.flatnonzero(ink.any(axis=0))
    if not len(rows):
        return image[:0, :0]
    return image[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def _thin_lines(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The middle lines of the strokes, about one pixel wide, on a sheet whose longer side is 28 pixels."""
    ink, side = image >= _PAPER, 3 * DRAWING_SIDE
    height, width = (max(1, round(length * side / max(ink.shape))) for length in ink.shape)
    if max(ink.shape) > side:
        # Ink anywhere in a cell makes the cell ink, so that no stroke is too thin for a large pad.
        for axis, cells in ((0, height), (1, width)):
            starts = np.arange(cells) * ink.shape[axis] // cells
            ink = np.logical_or.reduceat(ink, starts, axis=axis)
    else:
        ink = np.asarray(Image.fromarray(ink).resize((width, height), Image.Resampling.NEAREST))
    lines = _thinned(ink)
    drawn = Image.fromarray(np.pad(lines, 3).astype(np.uint8) * np.uint8(255)).filter(ImageFilter.MaxFilter(3))
    box = _cropped(np.asarray(drawn))
    scale = DRAWING_SIDE / max(box.shape)
    size = (max(1, round(box.shape[1] * scale)), max(1, round(box.shape[0] * scale)))
    return np.asarray(Image.fromarray(box).resize(size, Image.Resampling.BOX))


def _thinned(ink: Mask) -> Mask:
    """Peel strokes from both sides until lines of one pixel are left (Zhang and Suen 1984,
    doi.org/10.1145/357994.358023).
    """
    ink = np.pad(ink, 1)
    while True:
        before = ink
        for first in (True, False):
            above, below = np.roll(ink, 1, 0), np.roll(ink, -1, 0)
            ring = [above, np.roll(above, -1, 1), np.roll(ink, -1, 1), np.roll(below, -1, 1)]
            ring += [below, np.roll(below, 1, 1), np.roll(ink, 1, 1), np.roll(above, 1, 1)]
            north, east, south, west = ring[0], ring[2], ring[4], ring[6]
            neighbours = np.sum(ring, axis=0, dtype=np.uint8)
            rises = np.sum([~ring[k] & ring[(k + 1) % 8] for k in range(8)], axis=0, dtype=np.uint8)
            kept = (
                (north & east & south) | (east & south & west)
                if first
                else (north & east & west) | (north & south & west)
            )
            thinner = ink & ~((neighbours >= 2) & (neighbours <= 6) & (rises == 1) & ~kept)
            # The published rule lets a spot of 2x2 vanish; here what would leave nothing around it stays.
            around = thinner | np.roll(thinner, 1, 0) | np.roll(thinner, -1, 0)
            around = around | np.roll(around, 1, 1) | np.roll(around, -1, 1)
            ink = thinner | (ink & ~around)
        if np.array_equal(ink, before):
            return ink[1:-1, 1:-1]
