"""Many images for one network, one after the other, while threads decode those that come next."""

# Paths of pictures are plain strings here: there may be a million of them.

from __future__ import annotations

import itertools
import os
from collections import deque
from collections.abc import Generator, Sequence
from concurrent.futures import Future
from typing import Any

import numpy as np
from PIL import Image

from ..errors import DataError, MachineError
from ..posix import usable_cores
from .dataset import InputFormat
from .decode import Pixels, channels_first, open_image, turn_to_read
from .turns import decoding_threads

_AHEAD = 4
"""Images that are decoded or waiting for each thread."""


def images_in(given: Any, form: InputFormat) -> list[Any]:
    """What was given as one image or several, as a list of images.

    An array of two axes is one image, one of four is several. One of three is a colour image if its last axis is 1 to 4
    long, or, for a network on colour, its first is; else it is a stack of grey images.
    """
    if isinstance(given, (str, bytes, bytearray, memoryview, os.PathLike, Image.Image)):
        return [given]
    if hasattr(given, "__array__"):
        array = np.asarray(given)
        first = form.channels > 1 and channels_first(array.shape, form.channels) if array.ndim == 3 else False
        if array.ndim == 2 or (array.ndim == 3 and (first or array.shape[2] in (1, 2, 3, 4, form.channels))):
            return [array]
        return list(array) if array.ndim > 2 else [array]
    try:
        return list(given)
    except TypeError:
        return [given]


def opened(items: Sequence[Any], form: InputFormat) -> Generator[Pixels | DataError | MachineError, None, None]:
    """Each image as `open_image` gives it, or why it cannot be used, in order."""
    if len(items) == 1:
        yield _opened(items[0], form)
        return
    threads = usable_cores()
    with decoding_threads(threads) as pool:

        def begun(item: Any) -> Future[Pixels | DataError | MachineError] | Any:
            # An array takes no time, and of a Pillow image two threads must not read at once.
            return pool.submit(_opened, item, form) if isinstance(item, (str, bytes, os.PathLike)) else item

        rest = iter(items)
        waiting = deque(begun(item) for item in itertools.islice(rest, _AHEAD * threads))
        while waiting:
            first = waiting.popleft()
            waiting += (begun(item) for item in itertools.islice(rest, 1))
            yield first.result() if isinstance(first, Future) else _opened(first, form)


def _opened(item: Any, form: InputFormat) -> Pixels | DataError | MachineError:
    try:
        if isinstance(item, (str, os.PathLike)):
            with turn_to_read(item):
                return open_image(item, form)
        return open_image(item, form)
    except (DataError, MachineError) as error:
        return error
