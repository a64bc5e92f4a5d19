"""Order and randomness as functions, not states.

The order of the images in an epoch is f(seed, epoch); what happens to an image is f(seed, epoch, image). Nothing has to
be saved to go on exactly, and nothing depends on batches, workers or threads.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray

_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)
_STEP = np.uint64(0x9E3779B97F4A7C15)


def _mixed(value: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The output function of SplitMix64 (Steele, Lea, Flood 2014, https://doi.org/10.1145/2660193.2660195)."""
    value = (value ^ (value >> np.uint64(30))) * _MIX_1
    value = (value ^ (value >> np.uint64(27))) * _MIX_2
    return value ^ (value >> np.uint64(31))


def uniforms(seed: int, epoch: int, images: NDArray[np.int64], count: int) -> NDArray[np.float32]:
    """`count` numbers in [0, 1) for each image: float32 `(len(images), count)`, a function of (seed, epoch, image)."""
    with np.errstate(over="ignore"):
        each = _image_keys(seed, epoch, images)
        draws = _mixed(each[:, None] + (np.arange(count, dtype=np.uint64) + np.uint64(1)) * _STEP)
    return (draws >> np.uint64(40)).astype(np.float32) / np.float32(2**24)


def image_seeds(seed: int, epoch: int, images: NDArray[np.int64]) -> NDArray[np.int64]:
    """A seed for each image, 0 <= seed < 2**63, a function of (seed, epoch, image)."""
    with np.errstate(over="ignore"):
        return (_mixed(_image_keys(seed, epoch, images) + _MIX_1) >> np.uint64(1)).astype(np.int64)


def _image_keys(seed: int, epoch: int, images: NDArray[np.int64]) -> NDArray[np.uint64]:
    key = _mixed(np.array([seed % 2**64], np.uint64) * _STEP + np.uint64(epoch + 1))
    return _mixed(key + (images.astype(np.uint64) + np.uint64(1)) * _STEP)


def image_order(seed: int, epoch: int, count: int) -> NDArray[np.int64]:
    """A permutation of `count` images, a function of (seed, epoch)."""
    return _generator(seed, epoch).permutation(count)


def balanced_order(seed: int, epoch: int, targets: NDArray[np.int64]) -> NDArray[np.int64]:
    """As many images as there are, each class equally often. Rare classes are repeated,
    each time in another order.
    """
    count = len(targets)
    classes = np.unique(targets)
    generator = _generator(seed, epoch)
    quota = np.full(len(classes), count // len(classes))
    quota[generator.permutation(len(classes))[: count % len(classes)]] += 1
    chosen = []
    for label, number in zip(classes, quota, strict=True):
        rows = np.flatnonzero(targets == label)
        rounds = [generator.permutation(rows) for _ in range(-(-int(number) // len(rows)))]
        chosen.append(np.concatenate(rounds)[:number])
    return generator.permutation(np.concatenate(chosen))


def step_seed(seed: int, step: int) -> int:
    """The seed of torch's generator for one training step, which draws dropout: a function of (seed, step)."""
    return int(_mixed(np.array([(seed * 1_000_003 + step) % 2**64], np.uint64))[0] >> np.uint64(1))


def reseed(seed: int, device: str) -> None:
    """Seed the generator that dropout draws from. `torch.manual_seed` does the same for all devices, in half a
    millisecond.
    """
    torch.default_generator.manual_seed(seed)
    if device.startswith("cuda"):
        torch.cuda.manual_seed(seed)


@contextlib.contextmanager
def generators_kept() -> Iterator[None]:
    """Torch's own generators are afterwards as they were before, whatever is seeded and drawn while this is open."""
    before = torch.get_rng_state()
    on_cards = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []
    try:
        yield
    finally:
        torch.set_rng_state(before)
        if on_cards:
            torch.cuda.set_rng_state_all(on_cards)


def _generator(seed: int, epoch: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(key=[seed % 2**64, epoch]))
