"""Checkpoints: one safetensors file each, with its state as JSON in the metadata and a SHA-256 over every byte.

Nothing here can run code: no pickle, ever. A file that is damaged, cut, foreign or hostile is refused, with a plain
reason, before anything of its claimed size is allocated.
Format: https://huggingface.co/docs/safetensors (8 bytes of header length, JSON header, raw tensors).
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import stat
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
from torch import Tensor, nn

from ...errors import ModelFileError, printable
from ...files import keep_copy, machine_error, open_at_once, size_text, sync_folder, write_bytes
from ...parsing import parse_json
from ...posix import replace_file

FORMAT = 2
"""Of what a checkpoint holds. Since 2 its settings have the names of the field, such as `backbone` and `coverage`."""
_ZEROS = b"0" * 64
_SEAL = b'"sha256":"'
_MAX_HEADER_BYTES = 40_000_000
_MAX_HEADER_VALUES = 2_000_000
"""100,000 epochs' figures fit; read in about a second."""
_BYTES_OF = {
    "F64": 8, "F32": 4, "F16": 2, "BF16": 2, "C64": 8, "BOOL": 1,
    "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U64": 8, "U32": 4, "U16": 2, "U8": 1,
    "F8_E4M3": 1, "F8_E4M3FNUZ": 1, "F8_E5M2": 1, "F8_E5M2FNUZ": 1,
}  # fmt: skip
"""The types of numbers that torch knows, by the format's names."""
_CODE_SUFFIXES = {".pt", ".pth", ".pkl", ".pickle", ".joblib", ".h5", ".hdf5", ".keras", ".ckpt", ".bin"}


def pack(tensors: dict[str, Tensor], state: dict[str, Any]) -> bytes:
    """A sealed checkpoint as bytes. `state` is anything JSON can hold; floats survive exactly."""
    metadata = {"convoscope": str(FORMAT), "state": json.dumps(state, ensure_ascii=True), "sha256": _ZEROS.decode()}
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    content = bytearray(safetensors.torch.save(plain, metadata))
    start = content.index(_SEAL + _ZEROS) + len(_SEAL)
    content[start : start + 64] = hashlib.sha256(content).hexdigest().encode()
    return bytes(content)


def save(path: Path, tensors: dict[str, Tensor], state: dict[str, Any]) -> None:
    """Write a sealed checkpoint atomically: `path` holds the old one or the new one, never a part.

    Raises:
        MachineError: the disk is full, or the folder may not be written to.
    """
    content = pack(tensors, state)
    write_bytes(path, content)


_PENDING = ".best.safetensors.pending"


def save_both(
    folder: Path, best: tuple[dict[str, Tensor], dict[str, Any]] | None, last: tuple[dict[str, Tensor], dict[str, Any]]
) -> None:
    """Write a run's checkpoints, each as its tensors and its state: the best weights, if there are new ones, and what
    to go on from.

    A kill in between costs nothing: from an earlier `last.safetensors` the same best weights are found again. If this
    is the first one, the best ones wait under another name until it is there: best weights without anything to go on
    from are a run that somebody has taken something from, and not one that was killed.

    Raises:
        MachineError: the disk is full, or the folder may not be written to.
    """
    first = not (folder / "last.safetensors").exists()
    if best is not None:
        save(folder / (_PENDING if first else "best.safetensors"), *best)
    keep_previous(folder)
    save(folder / "last.safetensors", *last)
    if first:
        finish_first(folder)


def finish_first(folder: Path) -> None:
    """Do what a killed process could not do any more after the first `last.safetensors` was there."""
    pending = folder / _PENDING
    if pending.exists() and (folder / "last.safetensors").exists():
        try:
            replace_file(pending, folder / "best.safetensors")
            sync_folder(folder)
        except OSError as error:
            raise machine_error(folder / "best.safetensors", error) from error


def load(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read a checkpoint back, its seal and format checked.

    Returns:
        The tensors by name, and the state.

    Raises:
        ModelFileError: the file is missing, damaged, not a checkpoint of convoscope's, or of another format.
    """
    content, metadata = _read(path)
    header_length = int.from_bytes(content[:8], "little")
    start = content.find(_SEAL, 8, 8 + header_length) + len(_SEAL)
    state = metadata.get("state")
    if start < len(_SEAL) or not isinstance(state, str):
        raise ModelFileError(
            path,
            "a safetensors file without convoscope's seal",
            hint="give a run's folder, or its best.safetensors",
            code="checkpoint-foreign",
        )
    claimed = content[start : start + 64]
    sealed = hashlib.sha256(content[:start])
    sealed.update(_ZEROS)
    sealed.update(memoryview(content)[start + 64 :])
    version = str(metadata.get("convoscope", "0"))
    if sealed.hexdigest().encode() != claimed:
        raise ModelFileError(
            path,
            "damaged (its checksum differs)",
            hint="restore it from a copy, or train again",
            code="checkpoint-damaged",
        )
    if version in map(str, range(FORMAT)):
        raise ModelFileError(
            path,
            f"made by an older convoscope (format {version}; this one reads format {FORMAT})",
            hint="train again with this version, or use the older one",
            code="checkpoint-older",
        )
    if version != str(FORMAT):
        raise ModelFileError(
            path,
            f"made by a newer convoscope (format {printable(version[:20])}; this one reads format {FORMAT})",
            hint="update convoscope: pip install --upgrade convoscope",
            code="checkpoint-newer",
        )
    try:
        # A loss that was not finite is NaN in the history.
        content_of_state = parse_json(state.encode(), values=_MAX_HEADER_VALUES, not_finite=True)
        if not isinstance(content_of_state, dict):
            raise ValueError("its state is not a table")
        return safetensors.torch.load(content), content_of_state
    except (safetensors.SafetensorError, ValueError) as error:
        raise _damaged(path, f"damaged ({printable(error)})") from None


def read_checked(path: Path) -> bytes:
    """The bytes of a safetensors file, after every check that needs no trust in it.

    Raises:
        ModelFileError: with the reason in plain words.
    """
    return _read(path)[0]


def _read(path: Path) -> tuple[bytes, dict[str, Any]]:
    """The bytes of a safetensors file that is whole by its header, and the header's metadata."""
    try:
        # The opened file is looked at, not its name: a training may put a new one in its place at any moment.
        with open(path, "rb", opener=open_at_once) as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise IsADirectoryError
            start = file.read(512)
            _refuse_foreign(path, start)
            length = int.from_bytes(start[:8], "little")
            if status.st_size < 8 or length > min(_MAX_HEADER_BYTES, status.st_size - 8) or start[8:9] != b"{":
                if start[8:9] != b"{":
                    reason, hint = "not a safetensors file", "give a run's folder, or its best.safetensors"
                else:
                    claim = f"it claims a header of {size_text(length)}, the file has {size_text(status.st_size)}"
                    reason, hint = f"cut short or damaged ({claim})", "restore it from a copy"
                raise ModelFileError(path, reason, hint=hint, code="checkpoint-damaged")
            header = start[8 : 8 + length] + file.read(max(0, length - len(start) + 8))
            metadata = _check_header(path, header, status.st_size - 8 - length)
            file.seek(0)
            return file.read(), metadata
    except FileNotFoundError:
        raise ModelFileError(
            path, "there is no such file or run", hint="list the runs with: ls runs", code="checkpoint-missing"
        ) from None
    except IsADirectoryError:
        raise ModelFileError(
            path, "not a file", hint="give a run's folder, or a .safetensors file", code="checkpoint-not-a-file"
        ) from None
    except OSError as error:
        raise machine_error(path, error) from error


def _refuse_foreign(path: Path, start: bytes) -> None:
    """Name what a file is when it is not a safetensors file."""
    lower = start.lstrip().lower()
    if not start:
        raise ModelFileError(path, "the file is empty", hint="restore it from a copy", code="checkpoint-empty")
    if start.startswith(b"version https://git-lfs"):
        raise ModelFileError(
            path,
            "a Git LFS pointer, not the file itself",
            hint="fetch it with: git lfs pull",
            code="checkpoint-lfs-pointer",
        )
    if lower.startswith((b"<!doctype", b"<html")):
        raise ModelFileError(
            path,
            "an HTML page (a failed download?), not a checkpoint",
            hint="download it again",
            code="checkpoint-html",
        )
    pickled = start[:4] == b"PK\x03\x04" or (start[:1] == b"\x80" and start[1:2] in b"\x02\x03\x04\x05")
    if pickled or path.suffix.lower() in _CODE_SUFFIXES:
        raise ModelFileError(
            path,
            "this kind of file can run code when it is read, so convoscope does not read it",
            hint="save the weights as safetensors where they were made",
            code="checkpoint-can-run-code",
        )


def _check_header(path: Path, header: bytes, data_bytes: int) -> dict[str, Any]:
    """Check that the tensors follow each other without gaps and that no name comes twice. Returns the metadata."""
    try:
        entries: dict[str, Any] = parse_json(header, values=_MAX_HEADER_VALUES, twins=False)
        metadata = entries.pop("__metadata__", {})
        if not isinstance(metadata, dict):
            raise ValueError("its metadata are not a table")
        position = 0
        for begin, end in sorted(_span(entry) for entry in entries.values()):
            if begin != position:
                raise ValueError("its tensors overlap or leave gaps")
            position = end
    except ValueError as error:
        raise _damaged(path, f"damaged header ({printable(error)})") from None
    if position != data_bytes:
        reason = f"its tensors need {size_text(position)}, the file holds {size_text(data_bytes)}"
        raise _damaged(path, f"cut short or damaged ({reason})")
    return metadata


def _damaged(path: Path, reason: str) -> ModelFileError:
    return ModelFileError(path, reason, hint="restore it from a copy, or train again", code="checkpoint-damaged")


def _span(entry: Any) -> tuple[int, int]:
    """A tensor's place, if its entry in the header is sound: its type is known, and its shape fills the place."""
    match entry:
        case {"dtype": str(dtype), "shape": [*shape], "data_offsets": [int(begin), int(end)], **more} if not more:
            sound = dtype in _BYTES_OF and len(shape) <= 64 and all(type(side) is int and side >= 0 for side in shape)
            # An empty tensor's other sides must be possible ones too.
            sound = sound and math.prod(max(side, 1) for side in shape) < 2**60
            if sound and math.prod(shape) * _BYTES_OF[dtype] == end - begin:
                return begin, end
    raise ValueError("a tensor's type, shape and place do not go together")


def keep_previous(folder: Path) -> None:
    """Before `last.safetensors` is replaced, keep it as `previous.safetensors`: the one to go on from if the disk ruins
    the last.
    """
    if (folder / "last.safetensors").exists():
        keep_copy(folder / "last.safetensors", folder / "previous.safetensors")


def newest_valid(folder: Path) -> tuple[dict[str, Tensor], dict[str, Any], list[ModelFileError]]:
    """The newest checkpoint of a run that is whole, and the errors of those passed over.

    Raises:
        ModelFileError: there is none; the last one's reason.
    """
    passed_over: list[ModelFileError] = []
    for name in ("last.safetensors", "previous.safetensors"):
        try:
            tensors, state = load(folder / name)
        except ModelFileError as error:
            passed_over.append(error)
        else:
            return tensors, state, passed_over
    raise passed_over[0]


def load_weights(network: nn.Module, tensors: dict[str, Tensor], path: Path) -> None:
    """Put weights into a network, every name, shape and dtype compared first.

    Raises:
        ModelFileError: they do not fit; the first five differences are listed (`weights-do-not-fit`).
    """
    wanted = network.state_dict()
    faults = [f"{name}: missing" for name in wanted if name not in tensors]
    faults += [f"{name}: not in the model" for name in tensors if name not in wanted]
    faults += [
        f"{name}: {list(tensors[name].shape)} {tensors[name].dtype}, the model has {list(value.shape)} {value.dtype}"
        for name, value in wanted.items()
        if name in tensors and (tensors[name].shape != value.shape or tensors[name].dtype != value.dtype)
    ]
    if faults:
        more = f" and {len(faults) - 5} more" if len(faults) > 5 else ""
        raise ModelFileError(
            path,
            "its weights do not fit this model: " + "; ".join(printable(fault) for fault in faults[:5]) + more,
            hint="build the model whose text is in the run's run.toml",
            code="weights-do-not-fit",
        )
    network.load_state_dict(tensors)
