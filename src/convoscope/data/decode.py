"""From a picture's bytes to the network's uint8 array: the one decode function of training, testing, prediction and studio.

The format is told by the first bytes, never by the name. What Pillow gets to see is a picture of one of five formats whose
size is known to be sane and whose metadata (text, profiles, previews, further frames) has been cut away.
The rules of conversion stand in `open_image`.
"""

# Paths of pictures are plain strings here: a set may have a million of them.
# ruff: noqa: PTH116, PTH122

from __future__ import annotations

import contextlib
import errno
import io
import os
import stat
import threading
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops

from ..errors import DataError, UsageError, printable
from ..files import size_text
from .dataset import InputFormat
from .formats import MAX_FILE_BYTES, Picture, bad_image, check_size, parse_picture, valid_orientation

DECODE_VERSION: Final = 1
"""Part of the key of every decoded store; raised when the same bytes would give other pixels."""

MAX_INPUT_SIDE: Final = 4_096

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


# --- reading -----------------------------------------------------------------------------------------------------------

_KINDS: Final = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


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


def _check_regular(path: str | os.PathLike[str], status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        kind = next((name for test, name in _KINDS if test(status.st_mode)), "no ordinary file")
        raise bad_image(path, f"is {kind}, not a picture", "image-foreign")
    if status.st_size > MAX_FILE_BYTES:
        raise bad_image(
            path,
            f"is {size_text(status.st_size)} large; at most {size_text(MAX_FILE_BYTES)} are read",
            "image-over-limit",
        )


# --- pixels ------------------------------------------------------------------------------------------------------------

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
        DataError: as `decode_bytes`, as far as the header tells.
    """
    picture = parse_picture(data, path, tiff)
    width, height = (picture.width, picture.height)
    if picture.orientation >= 5:
        width, height = height, width
    return Header(picture.format, width, height, picture.grey)


def decode_bytes(data: bytes, form: InputFormat, *, path: str = "", tiff: bool = False) -> Decoded:
    """Decode a picture file's bytes by the rules of `open_image`. `path` only names the picture in messages.

    Raises:
        DataError: no picture (`image-foreign`), a damaged one (`image-broken`) or one beyond the limits (`image-over-limit`).
    """
    picture = parse_picture(data, path, tiff)
    image, note = _load(picture, form, path)
    if not note:
        ending = os.path.splitext(path)[1].lower()
        if ending and ending not in _ENDINGS_OF[picture.format]:
            note = f"is a {picture.format} picture, not what its ending {printable(ending)} says"
        elif picture.width == picture.height == 1:
            note = "has one pixel only"
    return Decoded(_to_array(image, form, (picture.width, picture.height), picture.orientation, path), note)


def _load(picture: Picture, form: InputFormat | None, path: str) -> tuple[Image.Image, str]:
    """The decoded Pillow image, not yet turned; for JPEGs at a fraction of its size where the target allows it."""
    try:
        with _quiet():
            if picture.ends_early:
                return _load_endless_jpeg(picture, path)
            image = _open(picture.format, picture.data)
            check_size(*image.size, path)
            if picture.format == "JPEG" and form is not None:
                size = (picture.width, picture.height)
                target = _scaled_size(size if picture.orientation < 5 else size[::-1], form)
                image.draft(None, target if picture.orientation < 5 else target[::-1])
            image.load()
            return (ImageChops.invert(image) if picture.inverted_cmyk and image.mode == "CMYK" else image), ""
    except DataError:
        raise
    except MemoryError:
        raise bad_image(
            path, f"{picture.width} x {picture.height} does not fit into memory", "image-over-limit"
        ) from None
    except Exception as error:  # Pillow raises whatever its parsers stumble over
        reason = (
            "ends early"
            if "truncated" in str(error)
            else f"cannot be decoded ({printable(error) or type(error).__name__})"
        )
        raise bad_image(path, f"the {picture.format} {reason}") from error


def _open(format_: str, data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data), formats=[format_])


def _load_endless_jpeg(picture: Picture, path: str) -> tuple[Image.Image, str]:
    """A JPEG without its end marker is whole if what follows its last byte makes no difference to any row."""
    plain = _open("JPEG", picture.data + b"\xff\xd9")
    other = _open("JPEG", picture.data + b"\x55" * 4096 + b"\xff\xd9")
    differs = np.any(np.asarray(plain) != np.asarray(other), axis=tuple(range(1, np.asarray(plain).ndim)))
    if differs.any():
        raise bad_image(path, f"the JPEG ends early ({int(np.argmax(differs))} of {picture.height} rows)")
    image = ImageChops.invert(plain) if picture.inverted_cmyk and plain.mode == "CMYK" else plain
    return image, "the JPEG has no end marker; all its rows are there"


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
        image = image.convert("RGBA")
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


def _to_array(
    image: Image.Image, form: InputFormat, stored_size: tuple[int, int], orientation: int, path: str
) -> Pixels:
    """Convert, turn upright, resize. `stored_size` is the size before any JPEG shortcut; it alone decides the geometry."""
    if form.channels not in (1, 3):
        raise bad_image(path, f"has 1 or 3 channels; {form.channels} were asked for", "channels-differ")
    try:
        image = _plain(image, form.channels, path)
    except DataError:
        raise
    except Exception as error:
        raise bad_image(path, f"cannot be converted ({printable(error)})") from error
    if orientation != 1:
        image = image.transpose(_TURN[orientation])
    size = stored_size if orientation < 5 else stored_size[::-1]
    pixels = _resize(image, form, size)
    if pixels.ndim == 2:
        pixels = pixels[:, :, None]
    return np.repeat(pixels, 3, axis=2) if pixels.shape[2] < form.channels else pixels


def _resize(image: Image.Image, form: InputFormat, size: tuple[int, int]) -> Pixels:
    """The image in the frame of `form`. Triangle filter with antialiasing, on a box-reduced image if it is far larger."""
    frame = (form.width, form.height)
    if image.size == frame:
        return np.asarray(image)
    scaled = _scaled_size(size, form)
    filter_ = Image.Resampling.BILINEAR
    if form.resize != "crop":
        image = image.resize(scaled, filter_, reducing_gap=2.0) if image.size != scaled else image
        pixels = np.asarray(image)
        return pixels if scaled == frame else _pad(pixels, form)
    # A box in the (possibly reduced) image, of the frame's aspect, in its middle.
    scale = max(form.width / image.width, form.height / image.height)
    wide, high = min(image.width, form.width / scale), min(image.height, form.height / scale)
    left, top = (image.width - wide) / 2, (image.height - high) / 2
    return np.asarray(image.resize(frame, filter_, box=(left, top, left + wide, top + high), reducing_gap=2.0))


def _pad(pixels: Pixels, form: InputFormat) -> Pixels:
    """The whole picture in the middle of the frame. The rest gets the median colour of the picture's outermost pixels."""
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
            planes = [_resize(Image.fromarray(pixels[:, :, c]), form, (width, height)) for c in range(channels)]
            return np.stack(planes, axis=2)
    if form.channels not in (1, 3) or channels not in (1, 2, 3, 4):
        raise bad_image(
            path,
            f"has {channels} channels; {form.channels} were asked for",
            "channels-differ",
            "choose its own number of channels",
        )
    plane = np.ascontiguousarray(pixels[:, :, 0] if channels == 1 else pixels)
    return _to_array(Image.fromarray(plane), form, (width, height), 1, path)


def open_image(
    source: str | os.PathLike[str] | bytes | NDArray[Any] | Image.Image, form: InputFormat, *, tiff: bool = False
) -> Pixels:
    """One picture as the network gets it: uint8 `(form.height, form.width, form.channels)`.

    `source` is a file's path, a file's bytes, an array `(H, W)` or `(H, W, C)`, or a Pillow image. Read are JPEG, PNG, WEBP,
    BMP and GIF, and TIFF where `tiff` is set. The rules, the same in training, testing and prediction:

    - the EXIF orientation is applied; of an animation the first frame counts; colour profiles are ignored
    - transparent parts stand on white; 16-bit grey is scaled to 8 (65,535 becomes 255); CMYK becomes RGB, inverted as
      Adobe's marker says; one-bit and palette pictures become grey or RGB; colour becomes grey by ITU-R 601 luminance
    - `fit` keeps the whole picture and fills the rest with the median colour of the picture's edge; `crop` fills the frame and
      cuts what stands out, evenly; `stretch` changes the aspect. Smaller means a triangle filter with antialiasing, larger
      means bilinear; JPEGs are first reduced by 2, 4 or 8 while they are decoded if the result stays large enough
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
    """Height and width of a picture as `open_image` takes it, upright; None where only decoding could tell."""
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
    return _to_array(image, form, image.size, orientation, "")
