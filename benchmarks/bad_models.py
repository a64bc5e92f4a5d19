"""What spoils a classifier: wrong labels, a rare class, pictures from another camera. The figures of docs/bad-model.md.

    .venv/bin/python benchmarks/bad_models.py ../shared/data/cats_dogs/train [--seeds 3]

The folder has flat files, `cat.1.jpg`. Of each class 400 photographs are for training and validation (a fifth of them),
200 for the test; a seed draws which labels are wrong and which pictures are left. Everything is `relearn imagenet`.
"""

from __future__ import annotations

import argparse
import random
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from PIL import Image, ImageFilter

import convoscope

Sets = dict[str, list[Path]]
KEPT, TESTED = 400, 200
CAMERAS: dict[str, Callable[[Image.Image], Image.Image]] = {
    "as they are": lambda picture: picture,
    "a quarter of their brightness": lambda picture: picture.point(lambda value: int(value * 0.25)),
    "32x32 pixels": lambda picture: picture.resize((32, 32)),
    "blurred": lambda picture: picture.filter(ImageFilter.GaussianBlur(max(picture.size) / 60)),
}


def copied(folder: Path, files: Sets) -> Path:
    """The pictures in a folder for each class."""
    for label, paths in files.items():
        (folder / label).mkdir(parents=True)
        for number, path in enumerate(paths):
            shutil.copyfile(path, folder / label / f"{number:04}-{path.name}")
    return folder


def taken(folder: Path, files: Sets, camera: Callable[[Image.Image], Image.Image]) -> Path:
    """The same pictures by another camera."""
    for label, paths in files.items():
        (folder / label).mkdir(parents=True)
        for path in paths:
            with Image.open(path) as picture:
                camera(picture.convert("RGB")).save(folder / label / f"{path.stem}.png")
    return folder


def mislabelled(files: Sets, share: float, rng: random.Random) -> Sets:
    """The same pictures, with that share of each of two classes under the name of the other one."""
    (first, one), (second, other) = files.items()
    swapped = [set(rng.sample(paths, int(share * len(paths)))) for paths in (one, other)]
    return {
        first: [path for path in one if path not in swapped[0]] + sorted(swapped[1]),
        second: [path for path in other if path not in swapped[1]] + sorted(swapped[0]),
    }


def measure(name: str, made: Path, tests: dict[str, Path], place: Path, seed: int, **options: Any) -> None:
    run = convoscope.relearn(
        "imagenet", made, output=place, seed=seed, test=0.0, validation=0.2, reporter=None, **options
    )
    for camera, folder in tests.items():
        scores = convoscope.test(run, folder, invariance=False, reporter=None)
        recalls = ", ".join(f"{label} {values['recall']:.1%}" for label, values in scores.per_class.items())
        unknown = scores.unknown.not_known if scores.unknown is not None else 0
        print(
            f"{name}, seed {seed}, {camera}: {scores.accuracy:.1%} right ({recalls}), {unknown} not known", flush=True
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args()
    files: Sets = {}
    for path in sorted(arguments.images.iterdir()):
        files.setdefault(path.name.split(".")[0], []).append(path)
    rng = random.Random(7)
    for paths in files.values():
        rng.shuffle(paths)
    known = {label: paths[:KEPT] for label, paths in files.items()}
    rare = min(known)
    with tempfile.TemporaryDirectory() as temporary:
        place = Path(temporary)
        held = {label: paths[-TESTED:] for label, paths in files.items()}
        tests = {camera: taken(place / camera, held, change) for camera, change in CAMERAS.items()}
        plain = {"as they are": tests["as they are"]}
        for seed in range(arguments.seeds):
            for share in (0.0, 0.1, 0.3):
                made = copied(place / f"{share}-{seed}", mislabelled(known, share, random.Random(seed)))
                measure(f"{share:.0%} wrong", made, plain if share else tests, place / f"run-{share}-{seed}", seed)
            few = known | {rare: random.Random(seed).sample(known[rare], 20)}
            made = copied(place / f"few-{seed}", few)
            measure(f"20 of {rare}", made, plain, place / f"few-run-{seed}", seed)
            measure(f"20 of {rare}, balanced", made, plain, place / f"balanced-{seed}", seed, class_weights="balanced")


if __name__ == "__main__":
    main()
