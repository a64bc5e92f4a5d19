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
import os
import stat
import threading
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import PIL
from numpy.typing import NDArray
from PIL import Image, ImageFile, UnidentifiedImageError

from ..errors import DataError, UsageError, printable
from ..files import kind_of, size_text
from ..posix import open_file
from .dataset import InputFormat, Look
from .formats import (
    Picture,
    bad_image,
    check_file_size,
    check_size,
    early_png,
    max_pixels,
    parse_picture,
    sniff,
)
from .heif import CONTAINERS, open_container
from .levels import DEEP_WHITE, to_uint8
from .likeness import LOOK_FORM, thumbnail
from .orientation import valid_orientation
from .resize_rules import pass_size, placed, resized
from .turns import Abandoned, Turns
from .upright import STRIP_PIXELS, Upright, cleaned

DECODE_RULES: Final = f"rules 2, Pillow {PIL.__version__.partition('.')[0]}"
"""Part of the key of every decoded store: what decides which pixels the same bytes give. The number is raised with the
rules; a new generation of Pillow may bring other decoders.
"""

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

_ENDINGS_OF: Final = {
    "JPEG": (".jpg", ".jpeg", ".jfif", ".jpe"),
    "PNG": (".png",),
    "WEBP": (".webp",),
    "BMP": (".bmp",),
    "GIF": (".gif",),
    "TIFF": (".tif", ".tiff"),
    "AVIF": (".avif",),
    "HEIC": (".heic", ".heif", ".hif"),
}

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Decoded:
    """Pixels `(height, width, channels)`; if something was odd about the picture, a plain remark; of a picture of more
    than 8 bits its largest number, else 0; and what it looks like, if that was asked for.
    """

    pixels: Pixels
    note: str = ""
    most: int = 0
    look: Look | None = None


@dataclass(frozen=True)
class Header:
    """What a picture's first bytes say. `width` and `height` are as seen, after the EXIF orientation."""

    format: str
    width: int
    height: int
    grey: bool
    deep: bool = False
    """Whether its numbers have more than 8 bits, as far as they are kept: in grey."""


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
    if form.white is not None and not 1 <= form.white <= DEEP_WHITE:
        raise UsageError("white", f"must be 1 to {DEEP_WHITE:,}; received {form.white}", code="bad-white")


# --- reading ----------------------------------------------------------------------------------------------------------


def read_picture(path: str | os.PathLike[str]) -> bytes:
    """The bytes of an ordinary file. Pipes, sockets, devices and folders are never opened.

    Raises:
        DataError: it is no ordinary file, may not be read, or is larger than any picture (`MAX_FILE_BYTES`).
        OSError: the machine failed: the file is gone, the disk or the share does not answer.
    """
    try:
        _check_regular(path, os.stat(path))
        # Should a pipe have taken the file's place since, opening it does not hang.
        descriptor = open_file(path, os.O_RDONLY)
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


def read_header(data: bytes, *, path: str = "", tiff: bool = False) -> Header:
    """Format, size and whether the picture is stored in grey, from its bytes, without decoding.

    Raises:
        DataError: as `decode_bytes`, as far as the header shows.
    """
    picture = parse_picture(data, path, tiff)
    width, height = (picture.width, picture.height)
    if picture.orientation >= 5:
        width, height = height, width
    return Header(picture.format, width, height, picture.grey, picture.deep)


def decode_bytes(data: bytes, form: InputFormat, *, path: str = "", tiff: bool = False, look: bool = False) -> Decoded:
    """Decode a picture file's bytes by the rules of `open_image`. `path` only names the picture in messages; `look`:
    make its thumbnail, too.

    Raises:
        DataError: no picture (`image-foreign`), a damaged one (`image-broken`) or one beyond the limits
            (`image-over-limit`).
    """
    picture = parse_picture(data, path, tiff)
    try:
        with _quiet():
            image = _open(picture)
            check_size(*image.size, path)
            upright = Upright(
                image, form.channels, picture.orientation, path, inverted=picture.inverted_cmyk, white=form.white
            )
            with _DECODING.take(_needed(picture, upright, len(data), form)):
                note = _load(image, picture, path)
                pixels = _to_array(upright, form)
                seen = _look(upright) if look else None
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
        elif form.white is not None and upright.most > form.white:
            note = f"holds numbers above {form.white:,}, which count as white"
    return Decoded(pixels, note, upright.most, seen)


def _look(upright: Upright) -> Look:
    """What the picture looks like. Of a large one means of square blocks are enough, and much quicker."""
    image = upright.image
    block = min(image.size) // (2 * LOOK_FORM.height)
    if block > 1 and image.mode in ("L", "RGB") and "transparency" not in image.info:
        image = image.reduce(block)
    grey = Upright(image, 1, upright.orientation, upright.path, inverted=upright.inverted, white=upright.white)
    return Look(thumbnail(_to_array(grey, LOOK_FORM)), max(upright.size))


def _told(error: Exception) -> str:
    """What Pillow stumbled over, in words."""
    if isinstance(error, UnidentifiedImageError):  # its text names an object of ours
        return "has a damaged header"
    text = cleaned(error)
    if "truncated" in text.lower() or "not enough image data" in text:
        return "ends early"
    return f"cannot be decoded ({text})"


def _open(picture: Picture) -> Image.Image:
    """The picture with its pixels still packed."""
    if picture.format in CONTAINERS:
        return open_container(picture.data, picture.format)
    return Image.open(io.BytesIO(picture.data), formats=[picture.format])


_PIXEL_BYTES: Final = {"1": 1, "L": 1, "P": 1, "I;16": 2, "I;16L": 2, "I;16B": 2, "I;16N": 2}
"""Of Pillow's modes; the others take 4."""


def _needed(picture: Picture, upright: Upright, file_bytes: int, form: InputFormat) -> int:
    """About how much memory the picture takes, its file included.

    Raises:
        DataError: it is more than is allowed.
    """
    pixels = upright.image.width * upright.image.height
    box, target = placed(upright.size, form)
    between = pass_size((box[2] - box[0], box[3] - box[1]), target)
    needed = file_bytes + picture.extra_bytes + pixels * _PIXEL_BYTES.get(upright.image.mode, 4)
    if not upright.as_it_is or box != (0, 0, *upright.size):
        needed += 20 * min(pixels, STRIP_PIXELS)  # what a strip takes on its way
    needed += 4 * (between[0] * between[1] + 2 * target[0] * target[1])
    limit = MAX_DECODE_BYTES * max(1, max_pixels() // 50_000_000)
    if needed > limit:
        raise bad_image(
            upright.path,
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


def _to_array(upright: Upright, form: InputFormat) -> Pixels:
    if form.channels not in (1, 3):
        raise bad_image(upright.path, f"has 1 or 3 channels; {form.channels} were asked for", "channels-differ")
    if upright.image.mode in ("I", "F"):  # TIFF
        upright.image = Image.fromarray(_numbers(upright))
    pixels = resized(upright, form)
    if pixels.ndim == 2:
        pixels = pixels[:, :, None]
    return np.repeat(pixels, 3, axis=2) if pixels.shape[2] < form.channels else pixels


def _numbers(upright: Upright) -> Pixels:
    numbers = np.asarray(upright.image)
    if upright.image.mode == "I":
        upright.most = max(0, int(numbers.max()))
    try:
        return to_uint8(numbers, upright.white)
    except DataError as error:
        reason = error.reason.rpartition("; received ")[2]
        raise bad_image(
            upright.path, f"holds numbers that are no brightness ({reason})", "image-foreign", error.hint
        ) from None


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
            planes = [resized(Upright(Image.fromarray(pixels[:, :, c]), 1), form) for c in range(channels)]
            return np.stack(planes, axis=2)
    if form.channels not in (1, 3) or channels not in (1, 2, 3, 4):
        raise bad_image(
            path,
            f"has {channels} channels; {form.channels} were asked for",
            "channels-differ",
            "choose its own number of channels",
        )
    plane = np.ascontiguousarray(pixels[:, :, 0] if channels == 1 else pixels)
    return _to_array(Upright(Image.fromarray(plane), form.channels, path=path), form)


def open_image(source: Any, form: InputFormat, *, tiff: bool = False) -> Pixels:
    """One picture as the network gets it: uint8 `(form.height, form.width, form.channels)`.

    `source` is a file's path, a file's bytes, a Pillow image, or an array `(H, W)`, `(H, W, C)` or `(C, H, W)`, of
    NumPy or of any library whose arrays NumPy reads. All give the same pixels. Read are JPEG, PNG, WEBP, BMP, GIF and
    AVIF, HEIC where pillow-heif is installed, and TIFF where `tiff` is set. The rules, the same in training, testing
    and prediction (`docs/data.md` has those of resizing in full):

    - the EXIF orientation is applied, of a Pillow image too that still has it; of an animation the first frame counts;
      colour profiles are ignored
    - transparent parts become white; 16-bit grey is scaled to 8 (`form.white` becomes 255); CMYK becomes RGB, inverted
      as Adobe's marker says; one-bit and palette pictures become grey or RGB; colour becomes grey by ITU-R 601
      luminance
    - `fit` keeps the whole picture and fills the rest with the median colour of the picture's edge; `crop` fills the
      frame and cuts the rest off evenly; `stretch` changes the aspect. Every pixel is decoded; then one triangle
      filter, which is bilinear where the picture grows
    - arrays: uint8 0..255, bool, whole numbers 0..65,535, or floats 0..1 or 0..255, see `levels.to_uint8`. Channels
      come last where that axis is 1 to 4 long or as long as the form says, else first

    Raises:
        DataError: the picture cannot be used; the reason says why.
        MachineError: the file is not there or the machine cannot read it.
    """
    check_format(form)
    if isinstance(source, Image.Image):
        return _open_pillow(source, form, tiff)
    if isinstance(source, (bytes, bytearray, memoryview)):
        return decode_bytes(bytes(source), form, tiff=tiff).pixels
    if hasattr(source, "__array__"):
        return decode_array(to_uint8(_rows_columns_channels(np.asarray(source), form.channels), form.white), form)
    name = os.fspath(source)
    try:
        data = read_picture(name)
    except FileNotFoundError as error:
        raise DataError(name, "there is no such picture", code="image-missing") from error
    except OSError as error:
        from ..files import machine_error

        raise machine_error(name, error) from error
    return decode_bytes(data, form, path=name, tiff=tiff).pixels


def picture_size(source: Any) -> tuple[int, int] | None:
    """Height and width of a picture as `open_image` takes it, upright; None where only decoding would show it."""
    if isinstance(source, Image.Image):
        return source.height, source.width
    if hasattr(source, "__array__"):
        return (source.shape[0], source.shape[1]) if source.ndim >= 2 else None
    try:
        content = bytes(source) if isinstance(source, (bytes, bytearray, memoryview)) else read_picture(source)
        header = read_header(content)
    except (DataError, OSError):
        return None
    return header.height, header.width


def channels_first(shape: tuple[int, ...], channels: int) -> bool:
    """Whether of an image's three axes the first and not the last is that of channels: 1 to 4 long, or `channels`."""
    possible = {1, 2, 3, 4, channels}
    return shape[0] in possible and shape[2] not in possible


def _rows_columns_channels(array: NDArray[Any], channels: int) -> NDArray[Any]:
    if array.ndim == 2:
        array = array[:, :, None]
    if array.ndim != 3 or 0 in array.shape:
        raise DataError(
            "",
            "expected an array (height, width), (height, width, channels) or (channels, height, width); "
            f"received {array.shape}",
            code="bad-array",
        )
    return array.transpose(1, 2, 0) if channels_first(array.shape, channels) else array


def _open_pillow(image: Image.Image, form: InputFormat, tiff: bool) -> Pixels:
    # A picture that Pillow has not decoded yet goes the way of every file, which is the safer one.
    file = getattr(image, "fp", None)
    if file is not None and getattr(image, "_im", None) is None and image.tell() == 0:
        with contextlib.suppress(OSError, ValueError):
            file.seek(0)
            content = file.read()
            if sniff(content)[0] in _ENDINGS_OF:
                path = str(getattr(image, "filename", ""))
                return decode_bytes(content, form, path=path, tiff=tiff or image.format == "TIFF").pixels
    check_size(*image.size, "")
    orientation: Any = 1
    with contextlib.suppress(Exception), _quiet():
        image.load()  # after which Pillow has turned a TIFF
        orientation = image.getexif().get(274, 1)
    inverted = image.mode == "CMYK" and image.format == "JPEG" and "adobe" not in image.info
    turned = valid_orientation(orientation if isinstance(orientation, int) else 1)
    return _to_array(Upright(image, form.channels, turned, inverted=inverted, white=form.white), form)
