"""Which input size and how many channels suit a dataset, from a look at some of its images."""

from __future__ import annotations

import contextlib
import statistics
from collections.abc import Iterator
from dataclasses import replace
from typing import Final

import numpy as np

from ..errors import ConvoscopeError, DataError, MachineError
from .dataset import Dataset, InputFormat, Resize
from .decode import decode_bytes, read_header
from .levels import DEEP_WHITE, white_of
from .sources import ArrayImages, FileImages

MAX_NATIVE_SIDE: Final = 64
"""Images of one size up to this are taken as they are."""

_SAMPLE: Final = 96
_LOOK: Final = 48
_UNEVEN: Final = 1.9

_Seen = tuple[int, int, int]  # height, width, channels


def suggest_format(dataset: Dataset, *, max_side: int = 112) -> tuple[InputFormat, str]:
    """Size, channels and way of resizing, and the reason in one plain sentence.

    Up to 96 images, evenly spaced, are opened. One channel if all of them are grey. Their own size if it is one and
    the same and at most 64 pixels; else a square as large as the shorter sides allow, a multiple of 16, at most
    `max_side`; or, where all have one size that is no square, that shape. `stretch` if most images are near to the
    frame's shape (nothing is lost, and networks trained from scratch did best with it), `fit` if many are far longer
    than wide or the other way round.

    `white` is that of `white_in`.

    Raises:
        DataError: none of the images looked at can be decoded.
        MachineError: none of them can be read at all (`pictures-unreachable`).
    """
    rows = _sample(dataset)
    faults: list[ConvoscopeError] = []
    seen = list(_look(dataset, rows, faults))
    if not seen:
        first = f"; the first: {faults[0]}" if faults else ""
        if faults and all(isinstance(fault, MachineError) for fault in faults):
            raise MachineError(
                dataset.source,
                f"none of the {len(rows)} images looked at can be read{first}",
                hint="see whether the disk or the network share is still there, then start again",
                code="pictures-unreachable",
            )
        raise DataError(
            dataset.source, f"none of the {len(rows)} images looked at can be decoded{first}", code="no-images"
        )
    form, why = _chosen_form(seen, max_side)
    return replace(form, white=white_in(dataset)), why


def white_in(dataset: Dataset) -> int | None:
    """Which number stands for white in images whose numbers are not those of 8 bits: of arrays as their notes say, of
    picture files the largest number of as many bits as those of up to 96 of them need. None: there are none such.
    """
    images = dataset.images
    if isinstance(images, ArrayImages):
        return max((stack.white or 0 for stack in images.stacks), default=0) or None
    most = 0
    if isinstance(images, FileImages):
        small = InputFormat(height=_LOOK, width=_LOOK, channels=1)
        for row in _sample(dataset):
            with contextlib.suppress(ConvoscopeError):
                data, file = images.read(row), images.files[row]
                if read_header(data, path=file, tiff=images.tiff).deep:
                    most = max(most, decode_bytes(data, small, path=file, tiff=images.tiff).most)
    return white_of(most) if most else None


def white_note(form: InputFormat) -> str:
    """What is said of a form whose images of more than 8 bits do not fill 16 bits; else nothing."""
    if form.white in (None, 1, 255, DEEP_WHITE):
        return ""
    return f"images of more than 8 bits: {form.white:,} becomes white, as no larger number was seen"


def _sample(dataset: Dataset) -> list[int]:
    rows = np.linspace(0, max(len(dataset) - 1, 0), min(_SAMPLE, len(dataset)))
    chosen: list[int] = np.unique(rows.astype(np.int64)).tolist()
    return chosen


def _chosen_form(seen: list[_Seen], max_side: int) -> tuple[InputFormat, str]:
    channels = max(count for *_, count in seen)
    kind = {1: "grey", 3: "colour"}.get(channels, f"{channels} channels")
    sizes = {(height, width) for height, width, _ in seen}
    shape = next(iter(sizes))
    if len(sizes) == 1 and max(shape) <= MAX_NATIVE_SIDE:
        form = InputFormat(height=shape[0], width=shape[1], channels=channels, resize="fit")
        return form, f"{kind} at {shape[0]}x{shape[1]}, the images' own size"
    shorter = statistics.median(min(height, width) for height, width, _ in seen)
    if len(sizes) == 1 and max(shape) > 1.15 * min(shape):
        scale = min(1.0, max_side / max(shape))
        height, width = (max(8, round(side * scale / 8) * 8) for side in shape)
        form = InputFormat(height=height, width=width, channels=channels, resize="crop")
        return form, f"{kind} at {height}x{width}: the images are all {shape[0]}x{shape[1]}"
    side = min(max_side, max(16, int(shorter) // 16 * 16))
    uneven = sum(max(height, width) > _UNEVEN * min(height, width) for height, width, _ in seen)
    resize: Resize = "fit" if uneven > len(seen) / 4 else "stretch"
    smallest, largest = min(sizes), max(sizes)
    why = f"{kind} at {side}x{side}: "
    if len(sizes) == 1:
        why += f"the images are all {shape[0]}x{shape[1]}"
    else:
        why += f"the images are from {smallest[0]}x{smallest[1]} to {largest[0]}x{largest[1]}"
    why += ", many of them long; the whole image is kept" if resize == "fit" else "; stretched to the square"
    return InputFormat(height=side, width=side, channels=channels, resize=resize), why


def _look(dataset: Dataset, rows: list[int], faults: list[ConvoscopeError]) -> Iterator[_Seen]:
    """Height, width and channels of some images; those that cannot be decoded are added to `faults`."""
    images = dataset.images
    if isinstance(images, FileImages):
        small = InputFormat(height=_LOOK, width=_LOOK, channels=3)
        for row in rows:
            try:
                data = images.read(row)
                header = read_header(data, path=images.files[row], tiff=images.tiff)
                grey = header.grey or _is_grey(
                    decode_bytes(data, small, path=images.files[row], tiff=images.tiff).pixels
                )
            except ConvoscopeError as error:
                faults.append(error)
                continue
            yield header.height, header.width, 1 if grey else 3
    elif isinstance(images, ArrayImages):
        for row in rows:
            stack = images.stack_of(row)
            channels = stack.channels
            if channels == 3:  # else the header is enough, and a packed file stays packed
                with contextlib.suppress(DataError):
                    channels = 1 if _is_grey(images.read(row)) else 3
            yield stack.height, stack.width, channels


def _is_grey(pixels: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> bool:
    return bool((pixels == pixels[:, :, :1]).all())
