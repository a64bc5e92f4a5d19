"""Pictures for the tests: good ones of known pixels, and makers of broken and hostile ones."""

import io
import struct
import time
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from convoscope.data.store import STILL_NS

Pixels = NDArray[np.uint8]


def colourful(height: int = 48, width: int = 64, seed: int = 0) -> Pixels:
    """A smooth picture that looks different from every side, so that a turn or a flip shows."""
    y, x = np.mgrid[0:height, 0:width] / max(height, width)
    phase = np.random.default_rng(seed).uniform(0, 6, 3)
    waves = [np.sin(7 * x * (c + 1) + 3 * y + phase[c]) + x - y for c in range(3)]
    pixels: NDArray[np.float64] = np.stack(waves, axis=2)
    pixels = (pixels - pixels.min()) / (pixels.max() - pixels.min())
    return np.asarray(np.rint(pixels * 255), np.uint8)


def settled(path: Path) -> Path:
    """The file or folder, once its files' times are old enough for the store to go by them."""
    files = [file for file in path.rglob("*") if file.is_file()] if path.is_dir() else [path]
    newest = max(max(file.stat().st_mtime_ns, file.stat().st_ctime_ns) for file in files)
    while time.time_ns() - newest <= STILL_NS:
        time.sleep(0.005)
    return path


def encoded(pixels: Pixels | Image.Image, format_: str = "PNG", **options: object) -> bytes:
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    buffer = io.BytesIO()
    image.save(buffer, format_, **options)
    return buffer.getvalue()


def jpeg(height: int = 48, width: int = 64, seed: int = 0, **options: object) -> bytes:
    return encoded(colourful(height, width, seed), "JPEG", **{"quality": 90, **options})


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png_header(width: int, height: int, depth: int = 8, colour: int = 2) -> bytes:
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))


def exif(orientation: int) -> bytes:
    """An EXIF block with nothing but the orientation."""
    return b"Exif\0\0" + b"II*\0" + struct.pack("<IHHHIHHI", 8, 1, 274, 3, 1, orientation, 0, 0)


def with_segment(data: bytes, marker: int, body: bytes) -> bytes:
    """A JPEG with one more segment behind its first bytes."""
    return data[:2] + struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body + data[2:]


def class_folders(root: Path, counts: dict[str, int], side: int = 12, ending: str = ".png") -> Path:
    """Class folders with small noisy pictures, each different."""
    number = 0
    for name, count in counts.items():
        folder = root / name
        folder.mkdir(parents=True)
        for row in range(count):
            pixels = np.random.default_rng(number).integers(0, 256, (side, side, 3), dtype=np.uint8)
            format_ = "JPEG" if ending == ".jpg" else "PNG"
            (folder / f"{row:04d}{ending}").write_bytes(encoded(pixels, format_))
            number += 1
    return root
