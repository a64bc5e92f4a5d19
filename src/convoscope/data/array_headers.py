"""Images in arrays: IDX files as of MNIST, `.npy` and `.npz`, QuickDraw bitmaps. Headers are read here, values when
needed.
"""

from __future__ import annotations

import errno
import gzip
import math
import re
import struct
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import IO, Any, Final

import numpy as np
from numpy.typing import NDArray

from ..errors import ConvoscopeError, DataError, printable
from .dataset import SPLITS, Task
from .listing import SPLIT_NAMES, Listing, check_ordinary, check_twins, is_clutter, natural
from .sources import ArrayFile, ArrayImages, Stack
from .split import TEST, TRAIN, VALIDATION

IDX_NAME: Final = re.compile(r"(?P<part>.*?)[-_.]?(?P<what>images|labels)[-.]idx[13][-.]ubyte(?:\.gz)?$", re.IGNORECASE)
_ROLES: Final = {
    **dict.fromkeys(("images", "image", "x", "data", "pixels"), "images"),
    **dict.fromkeys(("labels", "label", "y", "targets", "target", "classes"), "labels"),
    **dict.fromkeys(("names", "class_names", "label_names", "categories"), "names"),
}


_FASHION: Final = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)


def read_idx(path: Path) -> Listing:
    """IDX files: `train-images-idx3-ubyte` with `train-labels-idx1-ubyte`, `t10k-...` being the test; `.gz` too.

    Raises:
        DataError: a file is missing, damaged or of another size than its partner.
    """
    folder = path if path.is_dir() else path.parent
    files: dict[tuple[str, str], Path] = {}
    only = IDX_NAME.match(path.name) if not path.is_dir() else None
    for file in sorted(folder.iterdir(), reverse=True):  # an unpacked file comes after its .gz and is preferred
        match = IDX_NAME.match(file.name)
        if match and (only is None or match["part"].lower() == only["part"].lower()):
            check_ordinary(file, folder)
            files[match["part"].lower(), match["what"].lower()] = file
    parts = sorted({part for part, _ in files}, key=lambda part: (part != "train", part))
    if not parts:
        raise DataError(path, "holds no IDX files such as train-images-idx3-ubyte.gz", code="idx-missing")
    stacks, labels, given, names = [], [], [], []
    for part in parts:
        for what in ("images", "labels"):
            if (part, what) not in files:
                raise DataError(
                    folder, f"the {what} file that belongs to {part or 'the other'} is missing", code="idx-missing"
                )
        stack = Stack(read_idx_header(files[part, "images"], 3), files[part, "images"].name, axes="NHW")
        values = read_idx_header(files[part, "labels"], 1).open()
        check_lengths(files[part, "labels"], stack.count, len(values))
        stacks.append(stack)
        labels.append(_idx_labels(files[part, "labels"], values))
        number = TEST if part.startswith(("t10k", "test")) else VALIDATION if part.startswith("val") else TRAIN
        given.append(np.full(stack.count, number, np.int8))
        names += [f"{SPLITS[number]}/{row}" for row in range(stack.count)]
    targets = np.concatenate(labels)
    notes = []
    count = int(targets.max(initial=0)) + 1
    if "fashion" in str(path.resolve()).lower() and count == len(_FASHION):
        classes: tuple[str, ...] = _FASHION
        notes.append("the folder's name says Fashion-MNIST, so the classes have its names")
    else:
        classes = tuple(str(number) for number in range(count))
    return Listing(
        "idx",
        classes,
        names,
        targets,
        ArrayImages(stacks),
        given=np.concatenate(given) if len(parts) > 1 else None,
        notes=notes,
    )


_MOST_IDX_CLASSES: Final = 100_000


def _idx_labels(path: Path, values: NDArray[Any]) -> NDArray[np.int64]:
    """Labels that can be the classes' numbers: every class up to the largest gets a name.

    Raises:
        DataError: they are not whole, negative, or too large.
    """
    sound = np.isfinite(values).all() and bool(((values >= 0) & (values < _MOST_IDX_CLASSES)).all())
    if not sound or bool((values != np.rint(values)).any()):
        raise DataError(
            path, f"expected labels as whole numbers from 0 to {_MOST_IDX_CLASSES - 1:,}", code="labels-range"
        )
    return values.astype(np.int64)


_IDX_TYPES: Final = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}


def read_idx_header(path: Path, axes: int) -> ArrayFile:
    """What an IDX file's first bytes say: `00 00 type axes`, then the length of each axis.

    Raises:
        DataError: no IDX file, or one of another number of axes.
    """
    check_ordinary(path)
    try:
        with path.open("rb") as file:
            packed = file.read(2) == b"\x1f\x8b"
        with gzip.open(path, "rb") if packed else path.open("rb") as file:
            head = file.read(4 + 4 * axes)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise DataError(path, f"is damaged ({error})", code="array-damaged") from error
    kind = _IDX_TYPES.get(head[2]) if len(head) == 4 + 4 * axes and head[:2] == b"\0\0" and head[3] == axes else None
    if kind is None:
        raise DataError(
            path,
            f"is no IDX file with {axes} axes (it begins with {head[:4].hex(' ') or 'nothing'})",
            code="array-damaged",
        )
    shape = struct.unpack(f">{axes}I", head[4:])
    array = ArrayFile(path, "", tuple(shape), np.dtype(kind), len(head), packed)
    # Deflate packs at most 1,032 to 1: a header that claims more than the file can hold is refused before any memory is
    # asked for.
    if array.size > path.stat().st_size * (1032 if packed else 1):
        raise DataError(path, f"ends early: its header says {' x '.join(map(str, shape))} values", code="array-short")
    return _bounded(array)


def read_npy_header(path: Path) -> ArrayFile:
    """What a `.npy` file's header says.

    Raises:
        DataError: no such file, one that is shorter than it says, or one that holds other values than numbers and
            texts.
    """
    check_ordinary(path)
    with path.open("rb") as file:
        return _npy_header(file, path, "", 0, False)


_MAX_NPY_HEADER: Final = 10_000
"""As NumPy itself has it."""
_KEYS: Final = {
    "descr": re.compile(r"""(['"])descr\1\s*:\s*(['"])(?P<value>[^'"]{1,20})\2"""),
    "fortran_order": re.compile(r"""(['"])fortran_order\1\s*:\s*(?P<value>True|False)"""),
    "shape": re.compile(r"""(['"])shape\1\s*:\s*\((?P<value>[\d\sL,]*)\)"""),
}
_NUMBERS: Final = re.compile(r"[<>|=]?(b1|\?|[iu][1248]|f[248]|[SU][1-9]\d{0,4})")
_MOST_VALUES: Final = 2**48


def _npy_header(file: IO[bytes], path: Path, member: str, start: int, packed: bool) -> ArrayFile:
    where = f"{path}:{member}" if member else str(path)
    try:
        shape, fortran, descr = _read_header(file)
    except (ValueError, EOFError) as error:
        raise DataError(where, f"is no NumPy array file ({printable(error)})", code="array-damaged") from error
    if descr.lstrip("<>|=").startswith("O"):
        raise DataError(
            where,
            "holds Python objects, which can run code when they are opened",
            hint="save it as plain numbers",
            code="array-objects",
        )
    if not _NUMBERS.fullmatch(descr):
        raise DataError(
            where,
            f"holds values of the type {printable(descr)!r}; expected whole numbers, floats, booleans or texts",
            hint="save it as one of these",
            code="array-type",
        )
    return _bounded(ArrayFile(path, member, shape, np.dtype(descr), start + file.tell(), packed, fortran))


def _read_header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, str]:
    """Shape, order and type of a `.npy` file, found by their names: its header is written in Python, which is not run
    here, nor parsed.

    Format: https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html

    Raises:
        ValueError, EOFError: it is not so.
    """
    start = file.read(8)
    if start[:6] != b"\x93NUMPY":
        raise ValueError("it does not begin as one")
    if start[6:] not in (b"\1\0", b"\2\0", b"\3\0"):
        raise ValueError("its version is not known")
    length = int.from_bytes(file.read(2 if start[6] == 1 else 4), "little")
    if length > _MAX_NPY_HEADER:
        raise ValueError(f"it claims a header of {length:,} bytes, more than {_MAX_NPY_HEADER:,}")
    content = file.read(length)
    if len(content) < length:
        raise EOFError("it ends within its header")
    text = content.decode("utf-8" if start[6] == 3 else "latin-1")
    values = []
    for name, pattern in _KEYS.items():
        found = pattern.search(text)
        if found is None:
            raise ValueError(f"its header has no {name} of plain values")
        values.append(found["value"])
        text = text[: found.start()] + text[found.end() :]
    if not re.fullmatch(r"\s*\{[,\s]*\}\s*", text):
        raise ValueError("its header is not one of just these")
    descr, fortran, sides = values
    shape = tuple(int(side) for side in sides.replace("L", "").split(",") if side.strip())
    return shape, fortran == "True", descr


def _bounded(array: ArrayFile) -> ArrayFile:
    """The array, unless its header claims what no file holds; names are made for as many images as it says.

    Raises:
        DataError: it does.
    """
    # With an empty axis there are no values, and any number of images.
    impossible = len(array.shape) > 32 or 0 in array.shape[1:] or math.prod(array.shape) > _MOST_VALUES
    if impossible:
        shape = " x ".join(map(str, array.shape[:8]))
        raise DataError(array.where, f"has an impossible shape: {shape[:80]}", code="array-damaged")
    if not array.packed and array.offset + array.size > array.path.stat().st_size:
        raise array.short()
    return array


_MOST_MEMBERS: Final = 1000


def read_npz_headers(path: Path) -> dict[str, ArrayFile | None]:
    """The arrays of an `.npz` file by name; those whose names say nothing are not looked at. Those stored unpacked can
    be mapped right where they lie.

    Raises:
        DataError: it is damaged, encrypted, or holds something else than arrays.
    """
    check_ordinary(path)
    arrays: dict[str, ArrayFile | None] = {}
    try:
        size = path.stat().st_size
        with zipfile.ZipFile(path) as archive, path.open("rb") as raw:
            members = archive.infolist()
            if len(members) > _MOST_MEMBERS:
                raise DataError(
                    path, f"holds {len(members):,} files, more than {_MOST_MEMBERS:,}", code="array-damaged"
                )
            for info in members:
                name = info.filename.removesuffix(".npy")
                where = f"{path}:{info.filename}"
                plain = info.compress_type in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
                if not info.filename.endswith(".npy") or info.flag_bits & 1 or not plain:
                    raise DataError(where, "is no readable array of this .npz file", code="array-damaged")
                if name in arrays:
                    raise DataError(where, "stands twice in this .npz file", code="array-damaged")
                packed = info.compress_type == zipfile.ZIP_DEFLATED
                # Its sizes are claims too. Deflate packs at most 1,032 to 1.
                most = info.compress_size * 1032 if packed else info.compress_size
                if info.compress_size > size or info.file_size > most:
                    raise DataError(where, "claims to be larger than it can be", code="array-damaged")
                if role_of(name) is None:
                    arrays[name] = None
                    continue
                start = 0
                if not packed:
                    raw.seek(info.header_offset)
                    local = raw.read(30)
                    start = info.header_offset + 30 + sum(struct.unpack_from("<HH", local, 26))
                with archive.open(info) as file:
                    array = _npy_header(file, path, info.filename, start, packed)
                if array.size > info.file_size:
                    raise DataError(
                        array.where, "ends early: its header says more values than there are", code="array-short"
                    )
                arrays[name] = array if packed else replace(array, member="")
    except ConvoscopeError:
        raise
    except Exception as error:  # zipfile and zlib raise whatever a damaged archive leads them to
        if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):
            raise
        raise DataError(path, f"is damaged ({printable(error)[:200]})", code="array-damaged") from error
    return arrays


def check_lengths(where: object, images: int, labels: int) -> None:
    if images != labels:
        raise DataError(str(where), f"there are {images} images but {labels} labels", code="lengths-differ")


def role_of(name: str) -> tuple[str, int | None] | None:
    """What an array's name says: `x_train` -> ("images", TRAIN), `labels` -> ("labels", None)."""
    words = [word for word in re.split(r"[\s._-]+", name.removesuffix(".npy").lower()) if word]
    parts = [SPLIT_NAMES[word] for word in words if word in SPLIT_NAMES]
    rest = "_".join(word for word in words if word not in SPLIT_NAMES)
    role = _ROLES.get(rest)
    return (role, parts[0] if parts else None) if role and len(parts) <= 1 else None


def read_arrays(path: Path) -> Listing:
    """An `.npz` with images and labels (also `x_train`, `y_train`, `x_test`, `y_test`; `names` for the classes), or
    such `.npy` files.

    Raises:
        DataError: no images or labels among the names, lengths that differ, or arrays of the wrong shape or type.
    """
    arrays: dict[str, ArrayFile | None] = {}
    ignored: list[str] = []
    if path.is_dir() or path.suffix.lower() == ".npy":
        folder = path if path.is_dir() else path.parent
        files = sorted(folder.glob("*.npy"))
        for file in files if path.is_dir() else ():
            if role_of(file.stem):
                check_ordinary(file, folder)
        if not files:
            packs = sorted(folder.glob("*.npz"))
            if len(packs) != 1:
                raise DataError(
                    path, f"expected one .npz file or .npy files; found {len(packs)} .npz files", code="arrays-missing"
                )
            check_ordinary(packs[0], folder)
            arrays = read_npz_headers(packs[0])
        else:
            arrays = {file.stem: read_npy_header(file) if role_of(file.stem) else None for file in files}
    else:
        arrays = read_npz_headers(path)
    found: dict[tuple[str, int | None], ArrayFile] = {}
    for name, array in arrays.items():
        role = role_of(name)
        if role is None or array is None or role in found:
            ignored.append(name)
        else:
            found[role] = array
    parts = [part for part in (TRAIN, VALIDATION, TEST, None) if ("images", part) in found]
    if not parts or any(("labels", part) not in found for part in parts):
        raise DataError(
            path,
            f"expected arrays named images and labels, x and y, or x_train, y_train, x_test, y_test; found {', '.join(map(printable, arrays)) or 'none'}",
            hint="rename the arrays, or the .npy files",
            code="arrays-missing",
        )
    if None in parts and len(parts) > 1:
        ignored.append("images")
        parts.remove(None)
    stacks, labels, given, names = [], [], [], []
    for part in parts:
        stack = Stack(found["images", part], found["images", part].where)
        values = found["labels", part].open()
        check_lengths(path, stack.count, len(values) if values.ndim else 0)
        stacks.append(stack)
        labels.append(np.asarray(values))
        given.append(np.full(stack.count, part or 0, np.int8))
        prefix = f"{SPLITS[part]}/" if part is not None else "image/"
        names += [f"{prefix}{row}" for row in range(stack.count)]
    class_names = next((found["names", part].open() for part in (None, TRAIN) if ("names", part) in found), None)
    joined = _join_labels(path, labels)
    task, classes, targets, notes = read_targets(
        path, joined, None if class_names is None else [str(name) for name in class_names.ravel()]
    )
    if ignored:
        notes.append(f"ignored: the arrays {', '.join(map(printable, ignored))}")
    notes += _stack_notes(stacks)
    return Listing(
        "arrays",
        classes,
        names,
        targets,
        ArrayImages(stacks),
        task,
        given=np.concatenate(given) if parts != [None] else None,
        notes=notes,
    )


def _join_labels(path: object, labels: Sequence[NDArray[Any]]) -> NDArray[Any]:
    shapes = {array.shape[1:] for array in labels}
    if len(shapes) > 1:
        raise DataError(str(path), "the parts have labels of different shapes", code="labels-shape")
    return np.concatenate(labels)


def _stack_notes(stacks: Sequence[Stack]) -> list[str]:
    notes = []
    for stack in stacks:
        shape = f"{stack.count} images of {stack.height} x {stack.width} x {stack.channels}"
        if stack.axes in ("NCHW", "NF"):
            order = "channels come first" if stack.axes == "NCHW" else "each row is one square grey image"
            notes.append(f"{stack.name}: taken as {shape}, {order}")
        if stack.file is None or stack.file.dtype != np.uint8:
            notes.append(f"{stack.name}: its values are taken as {stack.values} and become 0..255")
    return notes


def read_targets(
    source: object, labels: NDArray[Any], class_names: Sequence[str] | None
) -> tuple[Task, tuple[str, ...], NDArray[Any], list[str]]:
    """What an array of labels means.

    - one axis of whole numbers or texts: classes
    - `(N, 1)` of those: the same
    - `(N, K)` of 0 and 1 with one 1 in each row: classes, one-hot; with any number of 1s: labels
    - floats, one axis or `(N, K)`: numbers to predict, unless they are whole numbers 0..K-1 of one axis

    Raises:
        DataError: none of these, or more classes than names.
    """
    notes: list[str] = []
    if labels.dtype.hasobject or labels.dtype.kind not in "biufSU" or labels.ndim not in (1, 2):
        raise DataError(
            str(source),
            f"expected labels as numbers or texts; received {labels.dtype} {labels.shape}",
            code="labels-shape",
        )
    if labels.dtype.kind == "f" and not np.isfinite(labels).all():
        raise DataError(str(source), "the labels hold NaN or infinity", code="labels-shape")
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim == 2:
        binary = labels.dtype.kind in "biuf" and bool(np.isin(labels, (0, 1)).all())
        width = labels.shape[1]
        columns = (
            tuple(class_names)
            if class_names is not None and len(class_names) == width
            else tuple(map(str, range(width)))
        )
        if binary and bool((labels.sum(axis=1) == 1).all()):
            notes.append("the labels are one-hot rows: one class for each image")
            return "classification", columns, labels.argmax(axis=1).astype(np.int64), notes
        if binary:
            notes.append("the labels are rows of 0 and 1: any number of labels for each image")
            return "multi-label", columns, labels.astype(np.uint8), notes
        if labels.dtype.kind in "SU":
            raise DataError(
                str(source), f"expected one label for each image; received {labels.shape}", code="labels-shape"
            )
        notes.append(f"the labels are {width} numbers for each image, to be predicted as numbers")
        return "regression", columns, labels.astype(np.float32), notes
    if labels.dtype.kind == "f":
        whole = (
            bool((labels == np.rint(labels)).all())
            and labels.min(initial=0) >= 0
            and len(np.unique(labels)) <= max(2, len(labels) // 10)
        )
        if not whole:
            notes.append("the labels are one number for each image, to be predicted as a number")
            name = class_names[0] if class_names is not None and len(class_names) == 1 else "value"
            return "regression", (name,), labels.astype(np.float32)[:, None], notes
        labels = labels.astype(np.int64)
    if labels.dtype.kind in "SU":
        texts = [value.decode("utf-8", "replace") if isinstance(value, bytes) else value for value in labels.tolist()]
        classes = tuple(sorted(set(texts), key=natural))
        position = {name: number for number, name in enumerate(classes)}
        return "classification", classes, np.array([position[text] for text in texts], np.int64), notes
    numbers = labels.astype(np.int64)
    present = np.unique(numbers)
    if class_names is not None:
        if len(present) and (present[0] < 0 or present[-1] >= len(class_names)):
            raise DataError(
                str(source),
                f"label {present[-1] if present[0] >= 0 else present[0]} has no name; there are {len(class_names)} names",
                code="labels-range",
            )
        classes, used = tuple(class_names), set(present.tolist())
        if len(used) == len(classes):
            return "classification", classes, numbers, notes
        notes.append(f"{len(classes) - len(used)} of {len(classes)} class names have no image and are left out")
        return (
            "classification",
            tuple(classes[k] for k in present),
            np.searchsorted(present, numbers).astype(np.int64),
            notes,
        )
    return (
        "classification",
        tuple(map(str, present.tolist())),
        np.searchsorted(present, numbers).astype(np.int64),
        notes,
    )


def read_quickdraw(path: Path) -> Listing:
    """QuickDraw bitmaps: one `.npy` a class, `(N, 784)`, `(N, 1, 784)`, `(N, 28, 28)` or colour images; the class is
    the file's name.

    Raises:
        DataError: fewer than two such files, or arrays of another shape.
    """
    files = sorted(
        (file for file in path.glob("*.npy") if not is_clutter(file.name)), key=lambda file: natural(file.stem)
    )
    if not files:
        raise DataError(path, "holds no .npy files, one for each class", code="arrays-missing")
    stacks, names, targets = [], [], []
    classes = tuple(file.stem.removeprefix("full_numpy_bitmap_") for file in files)
    check_twins(path, classes)
    for number, (name, file) in enumerate(zip(classes, files, strict=True)):
        check_ordinary(file, path)
        header = read_npy_header(file)
        if len(header.shape) == 3 and header.shape[1] == 1:
            header = replace(header, shape=(header.shape[0], header.shape[2]))
        stack = Stack(header, file.name)
        stacks.append(stack)
        names += [f"{name}/{row}" for row in range(stack.count)]
        targets.append(np.full(stack.count, number, np.int64))
    ignored = sum(1 for file in path.iterdir() if file not in set(files) and not is_clutter(file.name))
    notes = [f"ignored: {ignored} other files"] if ignored else []
    return Listing("quickdraw", classes, names, np.concatenate(targets), ArrayImages(stacks), notes=notes)
