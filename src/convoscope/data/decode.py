"""From a picture's bytes to the network's uint8 array: the one decode function of training, testing, prediction and
studio.

The first bytes decide the format, never the name. What Pillow gets to see is a picture of one of five formats
whose size is known to be sane and whose metadata (text, profiles, previews, further frames) has been cut away. The
rules of conversion are in `open_image`.
"""

# Paths of pictures are plain strings here: a set may have a million of them.
# ruff: noqa: PTH116, PTH122

from __future__ import annotations

import contextlib
import errno
import io
import math
import os
import re
import stat
import threading
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops, ImageFile, UnidentifiedImageError

from ..errors import DataError, UsageError, printable
from ..files import kind_of, size_text
from .dataset import InputFormat
from .formats import (
    Picture,
    bad_image,
    check_file_size,
    check_size,
    early_png,
    max_pixels,
    parse_picture,
    valid_orientation,
)
from .turns import Abandoned, Turns

DECODE_VERSION: Final = 1
"""Part of the key of every decoded store; raised when the same bytes would give other pixels."""

MAX_INPUT_SIDE: Final = 4_096

MAX_DECODE_BYTES: Final = 300_000_000
"""Memory for one picture, its file included. JPEGs of 50 million pixels fit, as their pixels take 200 MB if none are
left out; what takes more beside the pixels (a WEBP's canvases, a large file) is read up to fewer pixels. Grows with
CONVOSCOPE_MAX_MEGAPIXELS.
"""

_DECODING: Final = Turns(2 * MAX_DECODE_BYTES)
"""However many threads decode, only two of the largest pictures are in memory at once, and many small ones."""

_LARGE_FILE: Final = 32_000_000
_READING: Final = Turns(_LARGE_FILE)
"""Files larger than that are read one at a time."""

_STRIP_PIXELS: Final = 1_000_000
"""Larger pictures are converted and turned in strips of about this many pixels, because the result is smaller than any
step on the way.
"""

_REDUCING_GAP: Final = 2.0

_ENDINGS_OF: Final = {
    "JPEG": (".jpg", ".jpeg", ".jfif", ".jpe"),
    "PNG": (".png",),
    "WEBP": (".webp",),
    "BMP": (".bmp",),
    "GIF": (".gif",),
    "TIFF": (".tif", ".tiff"),
}

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Decoded:
    """Pixels `(height, width, channels)` and, if something was odd about the picture, a plain remark."""

    pixels: Pixels
    note: str = ""


@dataclass(frozen=True)
class Header:
    """What a picture's first bytes say. `width` and `height` are as seen, after the EXIF orientation."""

    format: str
    width: int
    height: int
    grey: bool


def check_format(form: InputFormat) -> None:
    """Refuse an input size that no picture can be decoded to.

    Raises:
        UsageError: a side outside 1..4096, fewer than one channel, or an unknown way to resize.
    """
    if not (1 <= form.height <= MAX_INPUT_SIDE and 1 <= form.width <= MAX_INPUT_SIDE):
        raise UsageError(
            "size",
            f"each side must be 1 to {MAX_INPUT_SIDE} pixels; received {form.height}x{form.width}",
            hint="24 to 224 suit most sets",
            code="bad-input-size",
        )
    if form.channels < 1:
        raise UsageError("channels", f"must be at least 1; received {form.channels}", code="bad-input-size")
    if form.resize not in ("fit", "crop", "stretch"):
        raise UsageError("resize", f"must be fit, crop or stretch; received {form.resize!r}", code="bad-resize")


# --- reading ----------------------------------------------------------------------------------------------------------


def read_picture(path: str | os.PathLike[str]) -> bytes:
    """The bytes of an ordinary file. Pipes, sockets, devices and folders are never opened.

    Raises:
        DataError: it is no ordinary file, may not be read, or is larger than any picture (`MAX_FILE_BYTES`).
        OSError: the machine failed: the file is gone, the disk or the share does not answer.
    """
    try:
        _check_regular(path, os.stat(path))
        # O_NONBLOCK: should a pipe have taken the file's place since, opening it does not hang.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EPERM):
            raise bad_image(path, "no permission to read it", "image-unreadable") from error
        if error.errno == errno.ELOOP:
            raise bad_image(path, "is a link that leads to itself", "image-foreign") from error
        raise
    with open(descriptor, "rb", buffering=0) as file:
        status = os.fstat(descriptor)
        _check_regular(path, status)
        return file.readall() or b""


@contextlib.contextmanager
def turn_to_read(path: str | os.PathLike[str]) -> Iterator[None]:
    """For threads: what is read and decoded within is the only large file in memory, or a small one."""
    size = 0
    with contextlib.suppress(OSError):
        size = os.stat(path).st_size
    with _READING.take(size) if size > _LARGE_FILE else contextlib.nullcontext():
        yield


def _check_regular(path: str | os.PathLike[str], status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise bad_image(path, f"is {kind_of(status)}, not a picture", "image-foreign")
    check_file_size(status.st_size, path)


# --- pixels -----------------------------------------------------------------------------------------------------------

_TURN: Final = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def read_header(data: bytes, *, path: str = "", tiff: bool = False) -> Header:
    """Format, size and whether the picture is stored in grey, from its bytes, without decoding.

    Raises:
        DataError: as `decode_bytes`, as far as the header shows.
    """
    picture = parse_picture(data, path, tiff)
    width, height = (picture.width, picture.height)
    if picture.orientation >= 5:
        width, height = height, width
    return Header(picture.format, width, height, picture.grey)


def decode_bytes(data: bytes, form: InputFormat, *, path: str = "", tiff: bool = False) -> Decoded:
    """Decode a picture file's bytes by the rules of `open_image`. `path` only names the picture in messages.

    Raises:
        DataError: no picture (`image-foreign`), a damaged one (`image-broken`) or one beyond the limits
            (`image-over-limit`).
    """
    picture = parse_picture(data, path, tiff)
    try:
        with _quiet():
            image = _open(picture, form)
            check_size(*image.size, path)
            shown = _Shown(image, form.channels, picture.orientation, path, picture.inverted_cmyk)
            with _DECODING.take(_needed(picture, shown, len(data), form)):
                note = _load(image, picture, path)
                pixels = _to_array(shown, form, (picture.width, picture.height))
    except (DataError, Abandoned):
        raise
    except MemoryError:
        raise bad_image(
            path, f"{picture.width} x {picture.height} does not fit into memory", "image-over-limit"
        ) from None
    except Exception as error:  # Pillow raises whatever its parsers stumble over
        raise bad_image(path, f"the {picture.format} {_told(error)}") from error
    if not note:
        ending = os.path.splitext(path)[1].lower()
        if ending and ending not in _ENDINGS_OF[picture.format]:
            note = f"is a {picture.format} picture, not what its ending {printable(ending)} says"
        elif picture.width == picture.height == 1:
            note = "has one pixel only"
    return Decoded(pixels, note)


def _told(error: Exception) -> str:
    """What Pillow stumbled over, in words."""
    if isinstance(error, UnidentifiedImageError):  # its text names an object of ours
        return "has a damaged header"
    text = _cleaned(error)
    if "truncated" in text.lower() or "not enough image data" in text:
        return "ends early"
    return f"cannot be decoded ({text})"


def _cleaned(error: Exception) -> str:
    """A library's text without the names that Python gives to objects."""
    return printable(re.sub(r"\s*<[^<>]* at 0x[0-9a-f]+>", "", str(error))) or type(error).__name__


def _open(picture: Picture, form: InputFormat) -> Image.Image:
    """The picture with its pixels still packed; a JPEG at a fraction of its size where the target allows it."""
    image = Image.open(io.BytesIO(picture.data), formats=[picture.format])
    # One without an end marker always was decoded in full, and its pixels are to stay what they were.
    if picture.format == "JPEG" and not picture.endless:
        size = (picture.width, picture.height)
        target = _scaled_size(size if picture.orientation < 5 else size[::-1], form)
        image.draft(None, target if picture.orientation < 5 else target[::-1])
    return image


_PIXEL_BYTES: Final = {"1": 1, "L": 1, "P": 1, "I;16": 2, "I;16L": 2, "I;16B": 2, "I;16N": 2}
"""Of Pillow's modes; the others take 4."""


def _needed(picture: Picture, shown: _Shown, file_bytes: int, form: InputFormat) -> int:
    """About how much memory the picture takes, its file included.

    Raises:
        DataError: it is more than is allowed.
    """
    pixels = shown.image.width * shown.image.height
    size = (picture.width, picture.height)
    target, box = _placed(shown.size, form, size if picture.orientation < 5 else size[::-1])
    across, down = _reductions(target, box)
    needed = file_bytes + picture.extra_bytes + pixels * _PIXEL_BYTES.get(shown.image.mode, 4)
    grey = form.channels == 1 or shown.image.mode in ("1", "L", "LA", "La") or shown.image.mode.startswith("I")
    if across * down > 1 or not shown.as_it_is:
        needed += pixels // (across * down) * (1 if grey else 4)
    # Pillow resizes the rows first, then the columns. A strip on its way takes some 20 bytes a pixel.
    needed += 4 * target[0] * (shown.size[1] // down + 2 * target[1]) + (20 * _STRIP_PIXELS if shown.large else 0)
    limit = MAX_DECODE_BYTES * max(1, max_pixels() // 50_000_000)
    if needed > limit:
        raise bad_image(
            shown.path,
            f"{picture.width} x {picture.height} as {picture.format} take {size_text(needed)} of memory; "
            f"the limit is {size_text(limit)} (CONVOSCOPE_MAX_MEGAPIXELS)",
            "image-over-limit",
            "make the picture smaller, or save it as an ordinary JPEG",
        )
    return needed


def _load(image: Image.Image, picture: Picture, path: str) -> str:
    """Unpack the pixels. Returns a remark if something was odd."""
    if picture.format not in ("JPEG", "PNG"):
        image.load()
        return ""
    assert isinstance(image, ImageFile.ImageFile)
    codec, extents, _, arguments = image.tile[0]
    image.load_prepare()
    image.tile = []
    # As in `ImageFile.load`. By our own hand because it is silent about what is missing: libjpeg makes up the rest of a
    # scan when it meets a marker, and zlib's end counts as the picture's.
    decoder = Image._getdecoder(image.mode, codec, arguments, image.decoderconfig)
    try:
        decoder.setimage(image.im, extents)
        if picture.format == "PNG":
            _unpack_png(decoder, image, picture, path)
            return ""
        _unpack_jpeg(decoder, image, picture, path)
    finally:
        decoder.cleanup()
    if picture.lacks:
        raise bad_image(path, picture.lacks)
    return "the JPEG has no end marker; all its rows are there" if picture.endless else ""


def _unpack_png(decoder: Any, image: Image.Image, picture: Picture, path: str) -> None:
    for piece in picture.packed:
        count, fault = decoder.decode(piece)
        if fault < 0:
            raise bad_image(path, "the PNG cannot be decoded (its pixels are damaged)")
        if count < 0:
            break
    # Rows are unpacked in order into an image of zeros: if the last one holds something, all are there. Else they are
    # counted.
    width, height = image.size
    if picture.interlaced or image.crop((0, height - 1, width, height)).getbbox() is None:
        early = early_png(picture.packed, picture.row_bytes, picture.interlaced)
        if early:
            raise bad_image(path, early)


_PADDING: Final = b"\xff\0" * 8
"""libjpeg looks up to 8 bytes ahead before it gives out a scan's last block. These hold no valid code of any table, so
that hardly more than a block can be made of them.
"""


def _unpack_jpeg(decoder: Any, image: Image.Image, picture: Picture, path: str) -> None:
    """Give libjpeg one scan after the other, without the marker behind it: what is missing is then asked for, not made
    up.
    """
    rest = b""

    def feed(piece: bytes | memoryview) -> bool:
        """Whether the picture is done."""
        nonlocal rest
        given = rest + piece if rest else piece
        count, fault = decoder.decode(given)
        if fault < 0:
            raise bad_image(path, "the JPEG cannot be decoded (its data is damaged)")
        rest = bytes(given[count:]) if count >= 0 else b""
        return bool(count < 0)

    for number, (tables, pixels) in enumerate(picture.scans, 1):
        if feed(tables):
            return
        # A whole scan is followed by the search for the next marker, which takes any byte; within one a byte is too
        # little to go on.
        if rest:
            raise bad_image(path, "the JPEG cannot be decoded (its tables are damaged)")
        if feed(pixels) or feed(_PADDING):
            return
        if feed(b"\0"):
            return
        if picture.several and not rest:
            continue
        if picture.several:
            raise bad_image(path, f"the JPEG ends early (within scan {number} of {len(picture.scans)})")
        box = image.getbbox()
        rows = (box[3] if box else 0) * picture.height // image.height
        raise bad_image(path, f"the JPEG ends early ({rows} of {picture.height} rows)")
    if not feed(b"\xff\xd9"):
        raise bad_image(path, "the JPEG ends early")


class _Quiet:
    """Python's warning filters belong to the whole process; this silences Pillow while any thread is decoding."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._users = 0
        self._saved: Any = None

    def __enter__(self) -> None:
        with self._lock:
            if self._users == 0:
                self._saved = warnings.catch_warnings()
                self._saved.__enter__()
                warnings.simplefilter("ignore")
            self._users += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._users -= 1
            if self._users == 0:
                self._saved.__exit__(None, None, None)


_QUIET: Final = _Quiet()


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    with _QUIET:
        yield


def _scaled_size(size: tuple[int, int], form: InputFormat) -> tuple[int, int]:
    """Width and height that a whole picture of `size` gets before it is padded (`fit`) or cut (`crop`)."""
    width, height = size
    if form.resize == "stretch":
        return form.width, form.height
    choose = max if form.resize == "crop" else min
    scale = choose(form.width / width, form.height / height)
    return max(1, round(width * scale)), max(1, round(height * scale))


def _plain(image: Image.Image, channels: int, path: str) -> Image.Image:
    """The image in mode L or RGB, transparent parts on white."""
    mode = image.mode
    if mode in ("I;16", "I;16L", "I;16B", "I;16N"):
        levels = np.asarray(image).astype(np.uint16)
        grey = ((levels.astype(np.uint32) + 128) // 257).astype(np.uint8)
        see_through = image.info.get("transparency")
        if isinstance(see_through, int):
            grey[levels == see_through] = 255
        return Image.fromarray(grey)
    if mode in ("I", "F"):
        raise bad_image(
            path, "holds 32-bit numbers instead of pixels", "image-foreign", "give such data as an array (.npy)"
        )
    if mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info:
        grey_source = mode in ("L", "LA", "La", "1")
        image = image if image.mode == "RGBA" and "transparency" not in image.info else image.convert("RGBA")
        ground = Image.new("RGBA", image.size, (255, 255, 255, 255))
        ground.alpha_composite(image)
        return ground.convert("L" if channels == 1 or grey_source else "RGB")
    if mode == "L" or (mode == "RGB" and channels == 3):
        return image
    if mode == "1":
        return image.convert("L")
    if mode == "CMYK":
        image = image.convert("RGB")
    return image.convert("L" if channels == 1 else "RGB")


class _Shown:
    """A picture as it is seen, upright and in mode L or RGB, made of the decoded one whole or, where that is large, in
    strips.
    """

    def __init__(self, image: Image.Image, channels: int, orientation: int, path: str, inverted: bool = False) -> None:
        self.image = image
        self.channels = channels
        self.orientation = orientation
        self.path = path
        self.inverted = inverted

    @property
    def size(self) -> tuple[int, int]:
        """Width and height."""
        return self.image.size if self.orientation < 5 else self.image.size[::-1]

    @property
    def as_it_is(self) -> bool:
        """Whether there is nothing to do."""
        plain = self.image.mode == "L" or (self.image.mode == "RGB" and self.channels == 3)
        return plain and self.orientation == 1 and "transparency" not in self.image.info

    @property
    def large(self) -> bool:
        """Whether it is made in strips."""
        return self.image.width * self.image.height > _STRIP_PIXELS and not self.as_it_is

    def strips(self, top: int, bottom: int, multiple: int = 1) -> Iterator[tuple[int, Image.Image]]:
        """The rows from `top` to `bottom` in strips, each with its first row. Heights are multiples of `multiple`."""
        step = max(1, _STRIP_PIXELS // (self.size[0] * multiple)) * multiple
        for begin in range(top, bottom, step):
            yield begin, self.rows(begin, min(begin + step, bottom))

    def rows(self, top: int, bottom: int) -> Image.Image:
        """The rows from `top` to `bottom`."""
        part = self.image
        width, height = part.size
        if bottom - top < self.size[1]:
            whole = self.size[1]
            first, last = (top, bottom) if self.orientation in (1, 2, 5, 6) else (whole - bottom, whole - top)
            part = part.crop((0, first, width, last) if self.orientation < 5 else (first, 0, last, height))
        try:
            if self.inverted and part.mode == "CMYK":
                part = ImageChops.invert(part)
            part = _plain(part, self.channels, self.path)
        except (DataError, MemoryError):
            raise
        except Exception as error:
            raise bad_image(self.path, f"cannot be converted ({_cleaned(error)})") from error
        return part if self.orientation == 1 else part.transpose(_TURN[self.orientation])

    def whole(self) -> Image.Image:
        """All of it."""
        width, height = self.size
        if not self.large:
            return self.rows(0, height)
        result: Image.Image | None = None
        for top, strip in self.strips(0, height):
            result = result or Image.new(strip.mode, (width, height))
            result.paste(strip, (0, top))
        assert result is not None
        return result


def _to_array(shown: _Shown, form: InputFormat, stored_size: tuple[int, int]) -> Pixels:
    """Convert, turn upright, resize. `stored_size`, before any JPEG shortcut, alone decides the geometry."""
    if form.channels not in (1, 3):
        raise bad_image(shown.path, f"has 1 or 3 channels; {form.channels} were asked for", "channels-differ")
    pixels = _resize(shown, form, stored_size if shown.orientation < 5 else stored_size[::-1])
    if pixels.ndim == 2:
        pixels = pixels[:, :, None]
    return np.repeat(pixels, 3, axis=2) if pixels.shape[2] < form.channels else pixels


def _placed(
    image_size: tuple[int, int], form: InputFormat, size: tuple[int, int]
) -> tuple[tuple[int, int], tuple[float, float, float, float]]:
    """The size to scale to, and which part of the (possibly reduced) image is scaled."""
    if form.resize != "crop":
        return _scaled_size(size, form), (0, 0, *image_size)
    # Of the frame's aspect, in the image's middle.
    width, height = image_size
    scale = max(form.width / width, form.height / height)
    wide, high = min(width, form.width / scale), min(height, form.height / scale)
    left, top = (width - wide) / 2, (height - high) / 2
    return (form.width, form.height), (left, top, left + wide, top + high)


def _resize(shown: _Shown, form: InputFormat, size: tuple[int, int]) -> Pixels:
    """The image in the frame of `form`. Antialiased triangle filter, on a box-reduced image if it is far larger."""
    frame = (form.width, form.height)
    if shown.size == frame:
        return np.asarray(shown.whole())
    target, box = _placed(shown.size, form, size)
    if form.resize != "crop" and shown.size == target:
        return _framed(np.asarray(shown.whole()), form)
    return _framed(np.asarray(_shrunk(shown, target, box)), form)


def _reductions(target: tuple[int, int], box: tuple[float, float, float, float]) -> tuple[int, int]:
    """By what whole numbers Pillow reduces a picture before it resizes it, across and down."""
    across = int((box[2] - box[0]) / target[0] / _REDUCING_GAP) or 1
    return across, int((box[3] - box[1]) / target[1] / _REDUCING_GAP) or 1


def _shrunk(shown: _Shown, target: tuple[int, int], box: tuple[float, float, float, float]) -> Image.Image:
    filter_ = Image.Resampling.BILINEAR
    across, down = _reductions(target, box)
    if not shown.large or across * down == 1:
        return shown.whole().resize(target, filter_, box=box, reducing_gap=_REDUCING_GAP)
    # The same as Pillow does with `reducing_gap`, to the last bit, strip by strip.
    width, height = shown.size
    wide, high = (box[2] - box[0]) / target[0] / 2, (box[3] - box[1]) / target[1] / 2
    left, right = max(0, int(box[0] - wide)), min(width, math.ceil(box[2] + wide))
    top, bottom = max(0, int(box[1] - high)), min(height, math.ceil(box[3] + high))
    reduced: Image.Image | None = None
    for begin, strip in shown.strips(top, bottom, down):
        part = strip.reduce((across, down), box=(left, 0, right, strip.height))
        reduced = reduced or Image.new(part.mode, (part.width, -(-(bottom - top) // down)))
        reduced.paste(part, (0, (begin - top) // down))
    assert reduced is not None
    within = (
        (box[0] - left) / across,
        (box[1] - top) / down,
        (box[2] - left) / across,
        (box[3] - top) / down,
    )
    return reduced.resize(target, filter_, box=within)


def _framed(pixels: Pixels, form: InputFormat) -> Pixels:
    return pixels if pixels.shape[:2] == (form.height, form.width) else _pad(pixels, form)


def _pad(pixels: Pixels, form: InputFormat) -> Pixels:
    """The whole picture in the middle of the frame. The rest gets the median colour of its outermost pixels."""
    height, width = pixels.shape[:2]
    edge = np.concatenate((pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]))
    ground = np.median(edge, axis=0).astype(np.uint8)
    framed = np.empty((form.height, form.width, *pixels.shape[2:]), np.uint8)
    framed[...] = ground
    top, left = (form.height - height) // 2, (form.width - width) // 2
    framed[top : top + height, left : left + width] = pixels
    return framed


def decode_array(pixels: Pixels, form: InputFormat, *, path: str = "") -> Pixels:
    """Bring a uint8 array `(height, width, channels)` into the form, by the same rules as a picture file.

    Channels: equal numbers stay; 1 becomes 3 by repetition; 3 becomes 1 by luminance; 2 and 4 become 1 or 3 on white
    (the last channel being opacity).

    Raises:
        DataError: no rule leads from the array's channels to the form's.
    """
    height, width, channels = pixels.shape
    if channels == form.channels:
        if (height, width) == (form.height, form.width):
            return pixels
        if channels not in (1, 3):
            planes = [
                _resize(_Shown(Image.fromarray(pixels[:, :, c]), 1, 1, path), form, (width, height))
                for c in range(channels)
            ]
            return np.stack(planes, axis=2)
    if form.channels not in (1, 3) or channels not in (1, 2, 3, 4):
        raise bad_image(
            path,
            f"has {channels} channels; {form.channels} were asked for",
            "channels-differ",
            "choose its own number of channels",
        )
    plane = np.ascontiguousarray(pixels[:, :, 0] if channels == 1 else pixels)
    return _to_array(_Shown(Image.fromarray(plane), form.channels, 1, path), form, (width, height))


def open_image(
    source: str | os.PathLike[str] | bytes | NDArray[Any] | Image.Image, form: InputFormat, *, tiff: bool = False
) -> Pixels:
    """One picture as the network gets it: uint8 `(form.height, form.width, form.channels)`.

    `source` is a file's path, a file's bytes, an array `(H, W)` or `(H, W, C)`, or a Pillow image. Read are JPEG, PNG,
    WEBP, BMP and GIF, and TIFF where `tiff` is set. The rules, the same in training, testing and prediction:

    - the EXIF orientation is applied; of an animation the first frame counts; colour profiles are ignored
    - transparent parts become white; 16-bit grey is scaled to 8 (65,535 becomes 255); CMYK becomes RGB, inverted as
      Adobe's marker says; one-bit and palette pictures become grey or RGB; colour becomes grey by ITU-R 601 luminance
    - `fit` keeps the whole picture and fills the rest with the median colour of the picture's edge; `crop` fills the
      frame and cuts the rest off evenly; `stretch` changes the aspect. Smaller means a triangle filter with
      antialiasing, larger means bilinear; JPEGs are first reduced by 2, 4 or 8 while they are decoded if the result
      stays large enough
    - arrays: uint8 0..255, bool, uint16 0..65,535, or float 0..1

    Raises:
        DataError: the picture cannot be used; the reason says why.
        MachineError: the file is not there or the machine cannot read it.
    """
    check_format(form)
    if isinstance(source, np.ndarray):
        return decode_array(_array_to_uint8(source), form)
    if isinstance(source, Image.Image):
        return _open_pillow(source, form, tiff)
    if isinstance(source, (bytes, bytearray, memoryview)):
        return decode_bytes(bytes(source), form, tiff=tiff).pixels
    name = os.fspath(source)
    try:
        data = read_picture(name)
    except FileNotFoundError as error:
        raise DataError(name, "there is no such picture", code="image-missing") from error
    except OSError as error:
        from ..files import machine_error

        raise machine_error(name, error) from error
    return decode_bytes(data, form, path=name, tiff=tiff).pixels


def picture_size(source: str | os.PathLike[str] | bytes | NDArray[Any] | Image.Image) -> tuple[int, int] | None:
    """Height and width of a picture as `open_image` takes it, upright; None where only decoding would show it."""
    if isinstance(source, np.ndarray):
        return (source.shape[0], source.shape[1]) if source.ndim >= 2 else None
    if isinstance(source, Image.Image):
        return source.height, source.width
    try:
        content = bytes(source) if isinstance(source, (bytes, bytearray, memoryview)) else read_picture(source)
        header = read_header(content)
    except (DataError, OSError):
        return None
    return header.height, header.width


def _array_to_uint8(array: NDArray[Any]) -> Pixels:
    if array.ndim == 2:
        array = array[:, :, None]
    if array.ndim != 3 or 0 in array.shape:
        raise DataError(
            "",
            f"expected an array (height, width) or (height, width, channels); received {array.shape}",
            code="bad-array",
        )
    if array.dtype == np.uint8:
        return array
    if array.dtype == np.bool_:
        return array.astype(np.uint8) * np.uint8(255)
    if array.dtype == np.uint16:
        return ((array.astype(np.uint32) + 128) // 257).astype(np.uint8)
    if array.dtype.kind == "f" and np.isfinite(array).all() and array.min() >= 0 and array.max() <= 1:
        scaled: Pixels = np.rint(array * 255).astype(np.uint8)
        return scaled
    if array.dtype.kind in "iu" and array.min() >= 0 and array.max() <= 255:
        return array.astype(np.uint8)
    received = str(array.dtype)
    if array.dtype.kind in "iuf":
        received += f" from {array.min()} to {array.max()}"
    raise DataError(
        "",
        f"expected uint8, bool, uint16, whole numbers 0..255 or floats 0..1; received {received}",
        code="bad-array",
    )


def _open_pillow(image: Image.Image, form: InputFormat, tiff: bool) -> Pixels:
    # A picture that Pillow has not decoded yet goes the way of every file, so that the pixels are the same.
    file = getattr(image, "fp", None)
    if file is not None and getattr(image, "_im", None) is None:
        with contextlib.suppress(OSError, ValueError):
            file.seek(0)
            return decode_bytes(file.read(), form, path=str(getattr(image, "filename", "")), tiff=tiff).pixels
    orientation = 1
    with contextlib.suppress(Exception), _quiet():
        orientation = valid_orientation(int(image.getexif().get(274, 1)))
    check_size(*image.size, "")
    return _to_array(_Shown(image, form.channels, orientation, ""), form, image.size)
