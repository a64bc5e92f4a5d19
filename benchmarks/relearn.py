"""Transfer learning compared with training from scratch: the tables of docs/relearn.md.

    python benchmarks/relearn.py few PHOTOS          # cats and dogs: 10, 20, 50 and 100 images of each class
    python benchmarks/relearn.py drawings            # a backbone of 10 kinds of drawings, 20 drawings of 5 others
    python benchmarks/relearn.py unfreeze IMAGES     # the frozen backbone, then fine-tuned
    python benchmarks/relearn.py ood PHOTOS OTHERS   # how many of OTHERS are not known to a run on PHOTOS

Every number is the accuracy on images that were used neither for training nor for validation.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from convoscope import Run, data, relearn, train
from convoscope.data import Dataset
from convoscope.training.backbone.sources import open_backbone
from convoscope.training.heads.ood import fit_ood_detector

DRAWINGS = [
    "apple",
    "banana",
    "bicycle",
    "butterfly",
    "cactus",
    "cat",
    "envelope",
    "eyeglasses",
    "fish",
    "flower",
    "house",
    "sailboat",
    "snail",
    "star",
    "umbrella",
]


ENGINE = {"precision": "float32", "threads": 1}
"""One arithmetic for all drawings, so that their figures repeat; else a timed probe chooses it."""


def right(run: Run) -> float:
    """The share of the test part that the run has right."""
    prepared = run.prepared()
    rows = prepared.dataset.indices("test")
    answers, _ = run.scores_and_distances(prepared.pixels, rows)
    return float((answers.argmax(1) == prepared.dataset.targets[rows]).mean())


def few(source: str, folder: Path, seeds: int) -> None:
    """So many images a class, a fifth of them to choose by; tested on 600 others."""
    dataset = data.load(source)
    for count in (10, 20, 50, 100):
        results: dict[str, list[float]] = {"relearned": [], "from scratch": []}
        for seed in range(seeds):
            rng = np.random.default_rng(seed)
            splits = np.full(len(dataset), -1, np.int8)
            for label in range(len(dataset.classes)):
                rows = rng.permutation(np.flatnonzero(dataset.targets == label))
                splits[rows[:300]] = 2
                splits[rows[300 : 300 + count]] = 0
                splits[rows[300 : 300 + count // 5]] = 1
            chosen = np.flatnonzero(splits >= 0)
            part = replace(dataset.select(chosen), splits=splits[chosen], source=f"{count} images a class")
            begin = time.perf_counter()
            made = relearn("imagenet", part, output=folder / f"few-{count}-{seed}-backbone")
            seconds = time.perf_counter() - begin
            own = train(part, output=folder / f"few-{count}-{seed}-scratch", seed=seed)
            own._prepared = data.prepare(part, own.settings.input)
            results["relearned"].append(right(made))
            results["from scratch"].append(right(own))
            print(
                f"{count} seed {seed}: {results['relearned'][-1]:.4f} in {seconds:.0f} s, "
                f"{results['from scratch'][-1]:.4f} in {own.seconds:.0f} s",
                flush=True,
            )
        print(
            count,
            {
                name: f"{np.mean(values):.4f} ({min(values):.4f} to {max(values):.4f})"
                for name, values in results.items()
            },
            flush=True,
        )


def with_turns(dataset: Dataset) -> Dataset:
    """Each class rotated by one, two and three quarter turns, as further classes. Test images stay upright."""
    form, _ = data.suggest_format(dataset)
    prepared = data.prepare(dataset, form)
    pixels, targets, splits, classes = prepared.pixels, dataset.targets, dataset.splits, dataset.classes
    learned = splits < 2
    return data.from_arrays(
        np.concatenate([pixels, *(np.rot90(pixels[learned], turns, axes=(1, 2)) for turns in (1, 2, 3))]),
        np.concatenate([targets, *(targets[learned] + turns * len(classes) for turns in (1, 2, 3))]),
        [f"{name}, {90 * turns} degrees" for turns in range(4) for name in classes],
        splits=np.concatenate([splits, *(splits[learned],) * 3]),
        source=f"{dataset.source} and turned",
    )


def drawings(folder: Path, seeds: int, model: str, kinds: int) -> None:
    """The same model, once on a frozen backbone of ten kinds of drawings and once from scratch, on 20 drawings of each
    of five others.

    A fifth of the 20 is for validation, the other 60 for the test. `kinds` draws the ten: 0 takes the first ones in
    alphabetical order.
    """
    names = list(DRAWINGS)
    if kinds:
        names = np.random.default_rng(kinds).permutation(names).tolist()
    first, others = (f"builtin:drawings/{','.join(sorted(part))}" for part in (names[:10], names[10:]))
    backbone = train(first, model, output=folder / "backbone", test=0.0, **ENGINE)
    turned = train(with_turns(data.load(first, test=0.0)), model, output=folder / "turned", **ENGINE)
    results: dict[str, list[float]] = {
        name: [] for name in ("backbone with turns", "backbone", "backbone at its end", "imagenet", "from scratch")
    }
    end = open_backbone(backbone, say=print).feature_layers()[-1].layers[-1]
    for seed in range(seeds):
        parts = {"seed": seed, "validation": 0.05, "test": 0.75}
        for name, taken, feature_layer in (
            ("backbone with turns", turned, None),
            ("backbone", backbone, None),
            ("backbone at its end", backbone, end),
            ("imagenet", None, None),
        ):
            made = relearn(
                taken or "imagenet",
                others,
                output=folder / f"{name} {seed}",
                feature_layer=feature_layer,
                **parts,
                **ENGINE,
            )
            if taken is not None:
                learned = taken.weights()
                kept = {key: value for key, value in made.weights().items() if not key.startswith("dense")}
                assert kept
                assert all(value.equal(learned[key]) for key, value in kept.items())
            results[name].append(right(made))
        own = train(others, model, output=folder / f"scratch {seed}", **parts, **ENGINE)
        results["from scratch"].append(right(own))
        print(seed, {name: f"{values[-1]:.4f}" for name, values in results.items()}, flush=True)
    print(model, kinds, {name: f"{np.mean(values):.4f}" for name, values in results.items()}, flush=True)


def unfreeze(source: str, folder: Path, seeds: int, epochs: int) -> None:
    """The head alone, and then the whole backbone too."""
    for seed in range(seeds):
        frozen = relearn("imagenet", source, output=folder / f"frozen-{seed}", seed=seed)
        print(f"seed {seed}: frozen {right(frozen):.4f}", flush=True)
        begin = time.perf_counter()
        free = relearn("imagenet", source, output=folder / f"free-{seed}", seed=seed, unfreeze="all", epochs=epochs)
        rows = [f"{row['val_accuracy']:.4f}" for row in free.history]
        print(
            f"seed {seed}: unfrozen {right(free):.4f} in {time.perf_counter() - begin:.0f} s; validation {rows}",
            flush=True,
        )


def ood(source: str, others: str, folder: Path, seeds: int) -> None:
    """What is marked as not known at two coverages: of 301 photographs of each class kept aside, and of others.

    70 photographs of each class set the threshold. Nothing is chosen by those kept aside.
    """
    dataset, foreign = data.load(source), data.load(others)
    foreign = foreign.select(np.flatnonzero(foreign.splits > 0))
    for seed in range(seeds):
        rng = np.random.default_rng(seed)
        splits = np.zeros(len(dataset), np.int8)
        for label in range(len(dataset.classes)):
            rows = rng.permutation(np.flatnonzero(dataset.targets == label))
            splits[rows[:301]], splits[rows[301:371]] = 2, 1
        made = relearn(
            "imagenet", replace(dataset, splits=splits, source=f"draw {seed}"), output=folder / f"{seed}", seed=seed
        )
        prepared = made.prepared()
        rows = {name: prepared.dataset.indices(name) for name in ("train", "validation", "test")}
        scores, far = made.scores_and_distances(prepared.pixels, rows["test"])
        right = scores.argmax(1) == prepared.dataset.targets[rows["test"]]
        pixels = data.prepare(foreign, made.settings.input).pixels
        _, near = made.scores_and_distances(pixels, np.arange(len(pixels)))
        features, targets = made._features, prepared.dataset.targets.astype(np.int64)
        for coverage in (0.95, 0.99):
            limit = fit_ood_detector(features, targets, rows["train"], rows["validation"], coverage).threshold
            beyond = far > limit
            print(
                f"seed {seed}, coverage {coverage}: {right.sum()} of {len(right)} labels right; "
                f"{beyond.sum()} not known, {right[beyond].sum()} of them right; "
                f"{(near > limit).mean():.3f} of {len(near)} others found",
                flush=True,
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("few", "drawings", "unfreeze", "ood"))
    parser.add_argument("source", nargs="*")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--model", default="resnet-small")
    parser.add_argument("--kinds", type=int, default=0)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if asked.what == "few":
            few(asked.source[0], folder, asked.seeds)
        elif asked.what == "drawings":
            drawings(folder, asked.seeds, asked.model, asked.kinds)
        elif asked.what == "unfreeze":
            unfreeze(asked.source[0], folder, asked.seeds, asked.epochs)
        else:
            ood(*asked.source, folder, asked.seeds)


if __name__ == "__main__":
    main()
